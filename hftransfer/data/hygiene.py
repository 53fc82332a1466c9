"""Rows that are nearly the same, within a split and across splits, as each kind of input tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from hftransfer.data.leakage import MEANING, NEAR, NEAR_OR_TURNED, Leak, report
from hftransfer.inputs.base import Input
from hftransfer.tasks.base import Role


@dataclass(frozen=True)
class Hygiene:
    """What is known about copies among the rows, by split."""

    repeated: dict[str, int] = field(default_factory=dict)  # rows whose input stands once more in their own split
    # rows that have a near copy in another split or their own: {"test": {"train": 3}}; None: not looked for
    near: dict[str, dict[str, int]] | None = None
    contradicting: int = 0  # rows of train with the same input as another that is labelled otherwise
    # (rows,) whether a row of a split (first) has a copy in another or in itself (second), exactly or nearly
    copied: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether any row has a copy, exactly or nearly, anywhere."""
        return any(bool(found.any()) for found in self.copied.values())

    def to_dict(self) -> dict[str, Any]:
        """Return what result.json holds."""
        return {"repeated": self.repeated, "near": self.near, "contradicting": self.contradicting}


def inspect(
    sketched: Mapping[str, Any],
    prints: Mapping[str, np.ndarray],
    exact: Mapping[tuple[str, str], np.ndarray],
    truth: Mapping[str, pa.Array],
    row_ids: Mapping[str, Sequence[str]],
    roles: Sequence[Role],
) -> tuple[Hygiene, list[Leak], list[str]]:
    """Find copies within splits and near ones anywhere; return near ones across splits too, and warnings."""
    again = {use: twins(values) for use, values in prints.items()}
    kind = sketching(roles)
    found = near(sketched, truth, kind)
    repeated = {use: int(mask.sum()) for use, mask in again.items() if mask.any()}
    known = {**exact, **{(use, use): mask for use, mask in again.items()}}
    if found is None:
        many = "near copies of rows were not looked for: there are too many"
        return Hygiene(repeated, None, copied=known), [], [many]
    alike = NEAR_OR_TURNED if kind.turns else NEAR
    counts, leaks = report({key: mask & ~known[key] for key, mask in found.items()}, row_ids, roles, alike)
    return Hygiene(repeated, counts, copied={key: mask | found[key] for key, mask in known.items()}), leaks, []


def sketching(roles: Sequence[Role]) -> Input:
    """Return the kind of input that near copies are found by: a picture's before a text's beside it."""
    shown = [role.takes for role in roles if role.takes is not None]
    return next((kind for kind in shown if kind.lazy), shown[0])


def sketches(found: Mapping[str, Any], roles: Sequence[Role]) -> Any:
    """Return what near copies are found by, a row each, from what each role found."""
    kind = sketching(roles)
    parts = [found[role.name] for role in roles if role.takes is kind]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts, axis=1)
    return [" \x1f ".join(row) for row in zip(*parts, strict=True)]


def near(
    found: Mapping[str, Any], truth: Mapping[str, pa.Array], kind: Input
) -> dict[tuple[str, str], np.ndarray] | None:
    """Return which rows of a split (first) have a near copy in another or in itself (second), from their sketches.

    A row is no copy of itself. None where there are too many rows to look.
    """
    splits = list(found)
    sizes = [len(found[split]) for split in splits]
    owner = np.repeat(np.arange(len(splits)), sizes)
    whole = pa.chunked_array([truth[split] for split in splits])

    def alike(pairs: np.ndarray) -> np.ndarray:
        first, second = (whole.take(pa.array(side)).to_pylist() for side in pairs.T)
        return np.array([one == other for one, other in zip(first, second, strict=True)], bool)

    pairs = kind.near(joined([found[split] for split in splits]), owner, alike)
    if pairs is None:
        return None
    starts = np.concatenate([[0], np.cumsum(sizes)])
    both = np.concatenate([pairs, pairs[:, ::-1]])
    masks = {}
    for use, other in [*MEANING, *((split, split) for split in splits)]:
        first, second = splits.index(use), splits.index(other)
        hit = both[(owner[both[:, 0]] == first) & (owner[both[:, 1]] == second), 0]
        masks[use, other] = np.isin(np.arange(sizes[first]), hit - starts[first])
    return masks


def joined(parts: Sequence[Any]) -> Any:
    """Return sketches of several tables as one."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [sketch for part in parts for sketch in part]


def twins(prints: np.ndarray) -> np.ndarray:
    """Return which rows (rows,) have the print of another."""
    _, group, counts = np.unique(prints, return_inverse=True, return_counts=True)
    return np.asarray(counts[group] > 1)
