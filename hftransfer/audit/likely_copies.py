"""Rows that are likely copies by their features: reworded texts, changed pictures, within and across splits.

How near is near is read off the data. Where a row's neighbours lie evenly around it, the distance to the nearest one
over that to the k-th has a known law, with the data's intrinsic dimension as its one parameter (Facco et al. 2017). A
row is a likely copy where that ratio is so small that chance would hardly give one such among all rows. The ratio (as
Lowe 2004 asks of points in pictures) adapts to how crowded a place is: everybody says "thank you", and no such row is
the copy of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hftransfer.audit import near_rows, review
from hftransfer.data import leakage
from hftransfer.errors import UserError, brief
from hftransfer.fitting.base import Setup
from hftransfer.fitting.processes import is_main_process
from hftransfer.frozen import features, out_of_fold
from hftransfer.frozen.features import HEAD
from hftransfer.modeling.loading import Loaded

FILE = "likely_copies.csv"
HEADER = ("row_id", "split", "text_or_file", "copy_id", "copy_split", "copy_text_or_file", "cosine", "ratio")
MOST_ROWS = 10_000  # of each split that are looked at
FEWEST = 100  # rows in all, to know the law by
NEIGHBOURS = 10  # the last one tells how crowded the place is: a row with so many copies is not found
CHANCE = 0.01  # that data without copies has one
TAIL = (0.5, 0.05)  # quantiles of the ratio that the dimension is read off; the smaller dimension is careful
SAME = 1e-3  # a distance below which float32 tells nothing apart
BLOCK = 1024


@dataclass(frozen=True)
class LikelyCopies:
    """What was found, beyond exact and near copies."""

    looked: dict[str, int]  # rows of each split
    found: dict[str, dict[str, int]]  # rows that have a likely copy: {"test": {"train": 3}}
    limit: float  # of the ratio
    masks: Mapping[tuple[str, str], np.ndarray]  # (rows,) of a split (first): whether the second holds a copy
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what result.json holds."""
        return {"looked": self.looked, "found": self.found, "limit": round(self.limit, 4), "file": FILE}


def why_not(setup: Setup, loaded: Loaded) -> str | None:
    """Return why likely copies cannot be looked for, in words, or None."""
    config = setup.config.data
    if not config.likely_copies:
        return "data.likely_copies is false"
    if config.streaming:
        return "rows that are streamed are read once, and features need rows on disk"
    if setup.answer.linear is None:
        return f"a model that answers with {setup.answer.called} has no linear head whose input could be taken"
    if setup.answer.linear.by_part:
        return "a model for words has no one vector for a sentence"
    if sum(len(setup.prepared[split].rows) for split in setup.prepared) < FEWEST:
        return f"there are fewer than {FEWEST} rows"
    return without_features(setup, loaded)


def without_features(setup: Setup, loaded: Loaded) -> str | None:
    """Return why this model gives no features, in words, or None."""
    try:
        features.output_layer(loaded.model, setup.answer)
    except UserError:  # a model of another kind, which a method asks in its own way
        return f"{type(loaded.model).__name__} has no linear output layer whose input could be taken"
    return None


def look(
    setup: Setup, loaded: Loaded, copied: Mapping[tuple[str, str], np.ndarray], bounded: bool = True
) -> LikelyCopies:
    """Find likely copies among the rows of all splits, MOST_ROWS of each; write the run's file.

    `bounded`: no more rows than a look can afford, where nobody needs the features of all.

    `copied` tells which rows of a split (first) are known to have a copy in another or itself (second): they are not
    told again. Every process must call; the main one writes.
    """
    splits = list(setup.prepared)
    places, values = {}, {}
    for split in splits:
        rows = out_of_fold.affordable(setup, MOST_ROWS, split) if bounded else MOST_ROWS
        some, places[split] = out_of_fold.with_some_rows(setup, rows, split)
        pooled = features.extract(some, loaded, split).pooled
        values[split] = pooled.get("mean", pooled[HEAD])
    if is_main_process():
        near_rows.write(setup, places, values)
    owner = np.repeat(np.arange(len(splits)), [len(places[split]) for split in splits])
    place = np.concatenate([places[split] for split in splits])
    pairs, figures, most = pairs_of(np.concatenate([values[split] for split in splits]))
    masks: dict[tuple[str, str], np.ndarray] = {}
    kept: dict[frozenset[int], int] = {}  # a pair of one split stands here both ways round
    for use, other in [*leakage.MEANING, *((split, split) for split in splits)]:
        known = copied.get((use, other), np.zeros(len(setup.rows[use]), bool))
        ours = (owner[pairs] == [splits.index(use), splits.index(other)]).all(axis=1)
        ours &= ~known[np.where(ours, place[pairs[:, 0]], 0)]
        masks[use, other] = np.isin(np.arange(len(known)), place[pairs[ours, 0]])
        kept |= {frozenset(pairs[n].tolist()): int(n) for n in np.flatnonzero(ours)}
    row_ids = {split: setup.rows[split]["row_id"] for split in splits}
    counts, leaks = leakage.report(masks, row_ids, setup.task.shown, leakage.LIKELY)
    if is_main_process():
        order = sorted(kept.values(), key=lambda n: (figures[n, 1], *pairs[n]))
        ends = [_known_by(setup, splits, owner[pairs[order, side]], place[pairs[order, side]]) for side in (0, 1)]
        found = [(*one, *other, *figures[n].round(4)) for n, one, other in zip(order, *ends, strict=True)]
        review.write(setup.run.folder / FILE, HEADER, found)
    looked = {split: len(places[split]) for split in splits}
    said = f"; {FILE} lists them to look through{_part(looked, setup)}"
    told = tuple(f"{brief(warning)}{said}" for warning in leakage.sentences(leaks))
    return LikelyCopies(looked, counts, most, masks, told)


def _known_by(setup: Setup, splits: Sequence[str], owner: np.ndarray, place: np.ndarray) -> list[tuple[str, str, str]]:
    """Return (row id, split, text or file) of each row."""
    found: dict[int, tuple[str, str, str]] = {}
    for number, split in enumerate(splits):
        where = np.flatnonzero(owner == number)
        rows = review.known_by(setup, split, place[where])
        found |= {int(at): (row_id, split, shown) for at, (row_id, shown) in zip(where, rows, strict=True)}
    return [found[at] for at in range(len(owner))]


def _part(looked: Mapping[str, int], setup: Setup) -> str:
    short = [f"{n:,} of {len(setup.rows[use]):,} {use} rows" for use, n in looked.items() if n < len(setup.rows[use])]
    return f" (looked at {' and '.join(short)})" if short else ""


# --- among vectors ---


def pairs_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return pairs (m, 2) of likely copies among (n, d) features, both ways round, their figures, and the limit.

    The figures (m, 2) are the cosine of the centred features, and the ratio of their distance to that of the k-th
    neighbour, of whichever of the two is further from its others.
    """
    places, distances = nearest(values)
    # of rows with k copies nothing is told: all of it is zero
    scale = np.where(distances[:, -1:] > SAME, distances[:, -1:], np.inf)
    ratios = np.where(np.isfinite(scale), distances / scale, 1.0)
    most = limit(ratios[:, 0])
    rows, columns = np.nonzero(ratios <= most)
    found: dict[tuple[int, int], tuple[float, float]] = {}
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        ratio, cosine = float(ratios[row, column]), 1 - float(distances[row, column]) ** 2 / 2
        one, other = row, int(places[row, column])
        for pair in ((one, other), (other, one)):
            found[pair] = cosine, min(ratio, found.get(pair, (0, ratio))[1])
    ordered = sorted(found)
    return (
        np.array(ordered, np.int64).reshape(-1, 2),
        np.array([found[pair] for pair in ordered]).reshape(-1, 2),
        most,
    )


def nearest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the NEIGHBOURS nearest others (n, k) of each row of (n, d), the nearest first, and their distances.

    Distances are those of the centred features at length 1, in float32, BLOCK rows at a time.
    """
    centred = np.asarray(values, np.float32) - values.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    places = np.empty((len(centred), NEIGHBOURS), np.int64)
    cosines = np.empty((len(centred), NEIGHBOURS), np.float32)
    for start in range(0, len(centred), BLOCK):
        found = centred[start : start + BLOCK] @ centred.T
        rows = np.arange(len(found))
        found[rows, start + rows] = -np.inf
        near = np.argpartition(found, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
        close = np.take_along_axis(found, near, axis=1)
        order = np.argsort(-close, axis=1, kind="stable")
        places[start : start + BLOCK] = np.take_along_axis(near, order, axis=1)
        cosines[start : start + BLOCK] = np.take_along_axis(close, order, axis=1)
    return places, np.sqrt(np.maximum(2 - 2 * cosines, 0))


def limit(ratios: np.ndarray) -> float:
    """Return the ratio below which one of these n rows falls by chance with a probability of CHANCE; 0: nothing known.

    With neighbours evenly around a row in m dimensions, ratio ** m is the smallest of k - 1 uniform numbers. m is read
    off the median first; the rows below the limit that it gives are left out, and m is read off what remains, where
    the tail has a say too: many copies would otherwise pass for a data set of few dimensions.
    """
    few = _smallest(CHANCE / len(ratios))
    rest = ratios[ratios > few ** (1 / _dimension(ratios, TAIL[0]))]
    if not len(rest):
        return 0.0
    dimension = min(_dimension(rest, quantile) for quantile in TAIL)
    return float(few ** (1 / dimension)) if np.isfinite(dimension) else 0.0


def _dimension(ratios: np.ndarray, quantile: float) -> float:
    at = float(np.clip(np.quantile(ratios, quantile), 1e-6, 1))
    return float(np.log(_smallest(quantile)) / np.log(at)) if at < 1 else np.inf


def _smallest(probability: float) -> float:
    """Return the value below which the smallest of NEIGHBOURS - 1 uniform numbers falls with a probability."""
    return float(-np.expm1(np.log1p(-probability) / (NEIGHBOURS - 1)))
