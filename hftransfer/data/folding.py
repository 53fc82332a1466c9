"""Folds: every row is in one of them, with whole groups and the shares of the classes, and what a run on one sees."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import datasets
import numpy as np
import pyarrow as pa

from hftransfer.data.result import Data
from hftransfer.data.sources import SPLITS
from hftransfer.data.splits import cut
from hftransfer.errors import UserError


@dataclass(frozen=True)
class Fold:
    """The rows of one fold as test, the others as train and validation; `places` are theirs among all rows."""

    repeat: int  # from 1
    number: int  # from 1
    data: Data
    places: Mapping[str, np.ndarray]  # by split, in the order train, validation, test of the whole

    @property
    def name(self) -> str:
        """What its folder and file are called."""
        return f"{self.repeat}-{self.number}"


def assign(
    rows: int, count: int, seed: int, strata: np.ndarray | None = None, groups: np.ndarray | None = None
) -> np.ndarray:
    """Return the fold (rows,), from 0, of each row: stratified by `strata` (rows,), whole `groups` (rows,).

    UserError where there are fewer rows, or groups, than folds.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    units = rows if groups is None else len(np.unique(groups))
    if units < count:
        what = "rows" if groups is None else "groups of data.group"
        raise UserError(f"{count} folds need {count} {what}", f"there are {units}", "Set evaluation.folds lower.")
    if groups is None:
        kind = KFold if strata is None else StratifiedKFold
    else:
        kind = GroupKFold if strata is None else StratifiedGroupKFold
    folds = kind(count, shuffle=True, random_state=seed)
    found = np.empty(rows, np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer rows than folds
        for fold, (_, inside) in enumerate(folds.split(np.zeros(rows), strata, groups)):
            found[inside] = fold
    return found


def each(data: Data, truth: str, count: int, repeats: int, seed: int) -> Iterator[Fold]:
    """Yield every fold of every repeat over the rows of all splits; `truth` is the column of the truth.

    The validation rows of a fold are cut from the other folds: the share that they have of train and validation in
    `data`, stratified and by whole groups too. Rows that people added are no sample of what the source is one of: each
    fold learns from them, and none is tested or validated on them.
    """
    whole = datasets.concatenate_datasets([data.splits[use] for use in SPLITS])
    known = whole.with_format("arrow")[:][truth].combine_chunks()
    groups = None
    if data.groups:
        names = [name for use in SPLITS for name in data.groups.get(use, _alone(data, use))]
        groups = np.unique(np.asarray(names), return_inverse=True)[1]
    strata = data.answer.strata(known)
    last = data.sizes["train"]
    added = np.arange(last - data.added, last)
    own = np.delete(np.arange(len(whole)), added)
    usual = None if strata is None else usable(strata[own], count)
    strata = None if usual is None else strata
    share = data.sizes["validation"] / (last - data.added + data.sizes["validation"])
    for repeat in range(repeats):
        folds = np.full(len(whole), -1)
        folds[own] = assign(len(own), count, seed + repeat, usual, None if groups is None else groups[own])
        for number in range(count):
            inside = np.flatnonzero(folds == number)
            rest = np.flatnonzero((folds != number) & (folds >= 0))
            cuts = cut(
                len(rest), {"validation": share}, seed + repeat, None if strata is None else strata[rest],
                None if groups is None else groups[rest],
            )  # fmt: skip
            train = np.concatenate([rest[cuts["train"]], added])
            places = {"train": train, "validation": rest[cuts["validation"]], "test": inside}
            yield Fold(repeat + 1, number + 1, _taken(data, whole, known, places, f"{repeat}-{number}"), places)


def usable(strata: np.ndarray | None, count: int) -> np.ndarray | None:
    """Return strata of which some have a row for each fold; None where none does, as of targets that never repeat."""
    if strata is None or np.bincount(np.unique(strata, return_inverse=True)[1]).max() < count:
        return None
    return strata


def _alone(data: Data, use: str) -> list[str]:
    return list(data.splits[use]["row_id"])


def _digest(places: np.ndarray) -> str:
    """Return which rows a fold has, hashed: what is kept of it on disk must be no other's of the same name."""
    return hashlib.blake2b(np.asarray(places, np.int64).tobytes(), digest_size=10).hexdigest()


def _taken(data: Data, whole: datasets.Dataset, known: pa.Array, places: Mapping[str, np.ndarray], name: str) -> Data:
    groups = {}
    if data.groups:
        names = [group for use in SPLITS for group in data.groups.get(use, _alone(data, use))]
        groups = {use: [names[place] for place in found] for use, found in places.items()}
    return dataclasses.replace(
        data,
        splits={use: whole.select(found) for use, found in places.items()},
        answer=data.answer.counted(known.take(pa.array(places["train"]))),
        fingerprints={use: f"{data.fingerprint}:{name}:{use}:{_digest(found)}" for use, found in places.items()},
        sizes={use: len(found) for use, found in places.items()},
        groups=groups,
        slices={},
    )
