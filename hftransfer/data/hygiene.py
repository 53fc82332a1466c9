"""Rows that are nearly the same, within a split and across splits: texts by their words, pictures by small copies."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hftransfer.data.cleaning import THUMB
from hftransfer.data.leakage import MEANING, NEAR, NEAR_OR_TURNED, report, shown
from hftransfer.tasks.base import Role

ALIKE = 0.7  # of the words and word pairs of two texts together, the share that both have (Jaccard)
PERMUTATIONS, BANDS = 64, 16  # texts that share 0.7 meet in a band with a probability of 0.99, those at 0.3 in 1 of 8
COMPARED = 8  # rows of a band's bucket that each of its rows is compared with: boilerplate fills buckets
APART = 6.0  # root mean squared difference of two small copies, of 255: a JPEG's loss is 1 to 5
TURNED = 4.0  # the same for turned and mirrored ones
CLEAR = 6.0  # times as much as copies differ others, and a picture within itself
SAMPLED = 256  # pictures that tell how much those of the data differ
BLOCK = 1024
FLAT = 2.0  # a picture that varies less has nothing to tell it by
MOST_TEXTS = 500_000  # rows of all splits above which nobody looks
MOST_PAIRS = 3_000_000_000  # of pictures
# scripts without blanks between words: each character counts as one
DENSE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
WORD = re.compile(rf"[{DENSE}]|[^\W{DENSE}]+")


@dataclass(frozen=True)
class Hygiene:
    """What is known about copies among the rows, by split."""

    repeated: dict[str, int] = field(default_factory=dict)  # rows whose input stands once more in their own split
    # rows that have a near copy in another split or their own: {"test": {"train": 3}}; None: not looked for
    near: dict[str, dict[str, int]] | None = None
    contradicting: int = 0  # rows of train with the same input as another that is labelled otherwise
    # (rows,) whether a row of a split (first) has a copy in another or in itself (second), exactly or nearly
    copied: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def leaked(self, use: str) -> np.ndarray | None:
        """Return which rows (rows,) of a split stand in train too, exactly or nearly; None: not looked for."""
        return self.copied.get((use, "train"))

    def to_dict(self) -> dict[str, Any]:
        """Return what result.json holds."""
        return {"repeated": self.repeated, "near": self.near, "contradicting": self.contradicting}


def inspect(
    sketched: Mapping[str, Any],
    prints: Mapping[str, np.ndarray],
    exact: Mapping[tuple[str, str], np.ndarray],
    answers: Mapping[str, pa.Array],
    row_ids: Mapping[str, Sequence[str]],
    roles: Sequence[Role],
) -> tuple[Hygiene, list[str]]:
    """Find copies within splits and near ones anywhere, and return warnings for those across splits."""
    again = {use: twins(values) for use, values in prints.items()}
    found = near(sketched, answers)
    repeated = {use: int(mask.sum()) for use, mask in again.items() if mask.any()}
    known = {**exact, **{(use, use): mask for use, mask in again.items()}}
    if found is None:
        return Hygiene(repeated, None, copied=known), ["near copies of rows were not looked for: there are too many"]
    alike = NEAR_OR_TURNED if any(role.kind == "image" for role in roles) else NEAR
    counts, warnings = report({key: mask & ~known[key] for key, mask in found.items()}, row_ids, roles, alike)
    return Hygiene(repeated, counts, copied={key: mask | found[key] for key, mask in known.items()}), warnings


def sketches(table: pa.Table, roles: Sequence[Role], thumbs: Mapping[str, np.ndarray]) -> Any:
    """Return what near copies are found by: a list of texts, or an array (rows, pixels) of small pictures."""
    seen = shown(roles)
    if any(role.kind == "image" for role in seen):
        return np.concatenate([thumbs[role.name] for role in seen if role.kind == "image"], axis=1)
    columns = [
        (pc.binary_join(table[role.name], " ") if role.kind == "words" else table[role.name]).to_pylist()
        for role in seen
    ]
    return [" \x1f ".join(text or "" for text in row) for row in zip(*columns, strict=True)]


def near(found: Mapping[str, Any], answers: Mapping[str, pa.Array]) -> dict[tuple[str, str], np.ndarray] | None:
    """Return which rows of a split (first) have a near copy in another or in itself (second), from their sketches.

    A row is no copy of itself. Turned and mirrored pictures count where they have the same answer: a 6 is no turned 9,
    and where the way up is what the labels tell, nothing is a turned copy. None where there are too many rows to look.
    """
    splits = list(found)
    sizes = [len(found[split]) for split in splits]
    owner = np.repeat(np.arange(len(splits)), sizes)
    if all(isinstance(rows, list) for rows in found.values()):
        if len(owner) > MOST_TEXTS:
            return None
        pairs = near_texts([text for split in splits for text in found[split]], owner)
    else:
        if len(owner) ** 2 > MOST_PAIRS:
            return None
        pictures = np.concatenate([found[split] for split in splits])
        turned = _answered_alike(turned_pictures(pictures), pa.chunked_array([answers[split] for split in splits]))
        pairs = np.concatenate([near_pictures(pictures), turned])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    both = np.concatenate([pairs, pairs[:, ::-1]])
    masks = {}
    for use, other in [*MEANING, *((split, split) for split in splits)]:
        first, second = splits.index(use), splits.index(other)
        hit = both[(owner[both[:, 0]] == first) & (owner[both[:, 1]] == second), 0]
        masks[use, other] = np.isin(np.arange(sizes[first]), hit - starts[first])
    return masks


def _answered_alike(pairs: np.ndarray, answers: pa.ChunkedArray) -> np.ndarray:
    first, second = (answers.take(pa.array(side)).to_pylist() for side in pairs.T)
    return pairs[np.array([one == other for one, other in zip(first, second, strict=True)], bool)]


def twins(prints: np.ndarray) -> np.ndarray:
    """Return which rows (rows,) have the print of another."""
    _, group, counts = np.unique(prints, return_inverse=True, return_counts=True)
    return np.asarray(counts[group] > 1)


# --- texts ---


def near_texts(texts: Sequence[str], owner: np.ndarray) -> np.ndarray:
    """Return pairs (m, 2) of texts that share ALIKE of their words and word pairs (MinHash: Broder 1997).

    Candidates share a band of their signatures (locality sensitive hashing: Indyk and Motwani 1998), and are then
    compared in full. In a crowded bucket each row meets COMPARED rows of each owner, so that a row which has a copy
    in another split is found, though not every pair is.
    """
    shingles, starts = _shingles(texts)
    full = np.flatnonzero(np.diff(starts))  # texts without a word are no copy of anything
    if len(full) < 2:
        return np.empty((0, 2), np.int64)
    signatures = _signatures(shingles, starts, full)
    pairs = _candidates(signatures, owner[full])
    likely = np.mean(signatures[pairs[:, 0]] == signatures[pairs[:, 1]], axis=1) > ALIKE - 0.25  # 4 standard errors
    pairs = full[pairs[likely]]
    return pairs[[_jaccard(shingles, starts, first, second) >= ALIKE for first, second in pairs]].reshape(-1, 2)


def _shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return each text's words and pairs of neighbouring words as numbers, each once, and where a text starts."""
    vocabulary: dict[str, int] = {}
    rows: list[np.ndarray] = []
    for text in texts:
        words = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
        ids = np.array([vocabulary.setdefault(word, len(vocabulary) + 1) for word in words], np.uint64)
        rows.append(np.unique(np.concatenate([ids, (ids[:-1] << np.uint64(32)) + ids[1:]])))
    return np.concatenate(rows), np.concatenate([[0], np.cumsum([len(row) for row in rows])])


def _signatures(shingles: np.ndarray, starts: np.ndarray, full: np.ndarray) -> np.ndarray:
    """Return the smallest of each text's shingles (rows, PERMUTATIONS) under each of as many hashes."""
    rng = np.random.default_rng(0)
    factors = rng.integers(1, 2**63, PERMUTATIONS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    scrambled = shingles * np.uint64(0x9E3779B97F4A7C15)
    scrambled ^= scrambled >> np.uint64(29)
    found = np.empty((len(full), PERMUTATIONS), np.uint64)
    for number, factor in enumerate(factors):
        hashed = scrambled * factor
        hashed ^= hashed >> np.uint64(32)
        found[:, number] = np.minimum.reduceat(hashed * factor, starts[full])
    return found


def _candidates(signatures: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return pairs (m, 2), smaller place first, of rows that share a band."""
    width = PERMUTATIONS // BANDS
    found = []
    for band in range(BANDS):
        part = np.ascontiguousarray(signatures[:, band * width : (band + 1) * width])
        _, bucket = np.unique(part.view(f"V{8 * width}").ravel(), return_inverse=True)
        order = np.lexsort((owner, bucket))
        # each row meets the rows behind it, and the first of each owner in its bucket
        for step in range(1, COMPARED + 1):
            same = bucket[order[step:]] == bucket[order[:-step]]
            found.append(np.stack([order[:-step][same], order[step:][same]], axis=1))
        for split in np.unique(owner):
            members = order[owner[order] == split]
            where = np.searchsorted(bucket[members], bucket[order])
            there = (where < len(members)) & (bucket[members[np.minimum(where, len(members) - 1)]] == bucket[order])
            found.append(np.stack([members[where[there]], order[there]], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)


def _jaccard(shingles: np.ndarray, starts: np.ndarray, first: int, second: int) -> float:
    one, other = (shingles[starts[row] : starts[row + 1]] for row in (first, second))
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


# --- pictures ---


def near_pictures(thumbs: np.ndarray) -> np.ndarray:
    """Return pairs (m, 2) of pictures whose small copies are nearly the same, from uint8 (rows, pixels).

    They may differ by APART at most, and by one CLEAR-th of what a picture of this data differs from its nearest.
    """
    values = thumbs.astype(np.float32)
    telling = np.flatnonzero(values.std(axis=1) > FLAT)
    return telling[_pairs_within(values[telling], _limit(values, APART) ** 2 * values.shape[1])]


def turned_pictures(thumbs: np.ndarray) -> np.ndarray:
    """Return pairs (m, 2) of pictures one of which, turned by right angles or mirrored, is the other.

    They may differ by TURNED at most, and by one CLEAR-th both of what a picture of this data differs from its nearest
    and of their own contrast: a grey blur that is turned is like any other grey blur.
    """
    values = thumbs.astype(np.float32)
    limit = _limit(values, TURNED)
    telling = np.flatnonzero(values.std(axis=1) > max(FLAT, CLEAR * limit))
    values, squared = values[telling], limit**2 * values.shape[1]
    # of two pictures the means over the orientations are no further apart than the pictures in any: few pairs remain
    pairs = _pairs_within(_means(values), squared)
    found = [pairs[:0]]
    for start in range(0, len(pairs), BLOCK):
        some = pairs[start : start + BLOCK]
        turned, other = _turned(values[some[:, 0]])[1:], values[some[:, 1]]
        found.append(some[(np.sum((turned - other) ** 2, axis=2) <= squared).any(axis=0)])
    return telling[np.concatenate(found)]


def _turned(values: np.ndarray) -> np.ndarray:
    """Return small copies (rows, pixels) in the eight orientations (8, rows, pixels), as they are first."""
    grid = values.reshape(len(values), -1, THUMB, THUMB, 3)
    turned = [np.rot90(one, turns, (2, 3)) for one in (grid, grid[:, :, :, ::-1]) for turns in range(4)]
    return np.stack([one.reshape(values.shape) for one in turned])


def _means(values: np.ndarray) -> np.ndarray:
    """Return the mean (rows, fewer pixels) of the eight orientations, each value once, by how often it stands."""
    numbers = np.arange(values.shape[1], dtype=np.int64)
    _, first, count = np.unique(_turned(numbers[None])[:, 0].min(axis=0), return_index=True, return_counts=True)
    grid = values.reshape(len(values), -1, THUMB, THUMB, 3)
    grid = grid + grid[:, :, ::-1]
    grid = grid + grid[:, :, :, ::-1]
    mean = (grid + grid.swapaxes(2, 3)) / 8
    return np.asarray(mean.reshape(values.shape)[:, first] * np.sqrt(count), np.float32)


def _limit(values: np.ndarray, most: float) -> float:
    """Return how much copies may differ: the nearest that is none differs CLEAR times as much (median)."""
    some = values[np.linspace(0, len(values) - 1, min(len(values), SAMPLED)).astype(np.int64)]
    distances = np.sqrt(np.maximum(_squared(some, values), 0) / values.shape[1])
    nearest = np.min(distances, axis=1, where=distances > APART, initial=np.inf)
    return min(most, float(np.median(nearest)) / CLEAR) if len(values) else most


def _pairs_within(values: np.ndarray, squared: float) -> np.ndarray:
    """Return pairs (m, 2), smaller place first, of rows whose squared distance is at most that."""
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(values), BLOCK):
        first, second = np.nonzero(_squared(values[start : start + BLOCK], values[start:]) <= squared)
        found.append(np.stack([first, second], axis=1)[first < second] + start)
    return np.concatenate(found)


def _squared(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    lengths = [np.sum(values**2, axis=1) for values in (some, others)]
    return np.asarray(lengths[0][:, None] + lengths[1][None] - 2 * some @ others.T)
