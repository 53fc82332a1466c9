"""Average precision of objects as COCO measures it, by weights: what matches in a picture is found once.

Equal to pycocotools where no two scores of a class are equal across pictures, whose order that leaves open; within a
picture ties are broken as there. A resample is a weight a picture: nothing is matched again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hftransfer.weighting import Sample, ratio

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # overlap (intersection over union) from which a box is found
RECALLS = np.linspace(0, 1, 101)
EDGES = np.append(RECALLS, [np.inf, np.inf])
SIZES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # area
MOST = 100  # objects of a class that count in a picture, from the most certain down
BLOCK = 4_000_000  # numbers of a table that is held at once
CROWDED, DIFFICULT = 1, 2  # in the column CROWD: what scores pass over; 0 for what is to be found
# columns of a picture's true boxes (n, 8), and of those found in it (n, 6), best first; x is left, y is top
X, Y, WIDTH, HEIGHT, CLASS, CROWD, PICTURE_WIDTH, PICTURE_HEIGHT = range(8)
SCORE, FOUND_CLASS = 4, 5


def overlaps(found: np.ndarray, actual: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return the overlap (d, g) of boxes (d, 4) with boxes (g, 4); with a crowd, the share that lies in it."""
    ends, others = found[:, :2] + found[:, 2:4], actual[:, :2] + actual[:, 2:4]
    sides = np.minimum(ends[:, None], others) - np.maximum(found[:, None, :2], actual[:, :2])
    both = np.where((sides > 0).all(-1), sides[..., 0] * sides[..., 1], 0.0)
    area, other = found[:, 2] * found[:, 3], actual[:, 2] * actual[:, 3]
    return np.asarray(ratio(both, np.where(crowd, area[:, None], area[:, None] + other - both)))


def matched(
    near: np.ndarray, own: np.ndarray, area: np.ndarray, marks_of: np.ndarray, size: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return which objects hit one (T, d), which do not count (T, d), and how many there were to hit.

    `near` (d, g) is how far those found, in falling order of their scores, overlap with those that are there; `own`
    (d,) and `area` (g,) are the areas of both. What is CROWDED or DIFFICULT (`marks_of`, as Pascal VOC scores it), or
    of another size, is neither to be hit nor counted against who hits it.
    """
    crowd = marks_of > 0
    aside = crowd | (area < size[0]) | (area > size[1])
    limits = np.minimum(THRESHOLDS, 1 - 1e-10)
    hit, left = np.zeros((2, len(limits), len(own)), bool)
    free, places = np.ones((len(limits), len(area)), bool), np.arange(len(limits))
    for one in np.flatnonzero((near >= limits[0]).any(1)) if len(area) else ():
        taken = np.zeros(len(limits), bool)
        for offered, marks in ((free & ~aside, hit), ((free | crowd) & aside, left)):
            row = np.where(offered, near[one], -1.0)
            best = len(area) - 1 - row[:, ::-1].argmax(1)  # of equal ones the last
            good = (row[places, best] >= limits) & ~taken
            marks[good, one] = True
            free[places[good], best[good]] = False
            taken |= good
    left |= ~hit & ((own < size[0]) | (own > size[1]))
    return hit, left, int((~aside).sum())


@dataclass(frozen=True)
class OfClass:
    """The objects found of one class, in falling order of their scores, and what there is to find.

    `picture`, `rank` (n,): where one was found, and as which of its class there; `hit`, `left` (T, n): see
    `matched`; `positives` (pictures,).
    """

    picture: np.ndarray
    rank: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    left: np.ndarray
    positives: np.ndarray

    def precision(self, weights: np.ndarray) -> np.ndarray:
        """Return the mean precision at 101 recalls (T, b) under weights (pictures, b); NaN: nothing is to find."""
        total = self.positives @ weights
        out = np.zeros((len(self.hit), weights.shape[1]))
        width = max(1, BLOCK // max(len(self.picture), 1))
        for start in range(0, weights.shape[1], width):
            part = slice(start, start + width)
            out[:, part] = self._precision(weights[:, part], total[part])
        return np.where(total > 0, out, np.nan)

    def _precision(self, weights: np.ndarray, total: np.ndarray) -> np.ndarray:
        given = weights[self.picture]
        counted = given.cumsum(0)
        out = np.zeros((len(self.hit), weights.shape[1]))
        for at, (hit, left) in enumerate(zip(self.hit, self.left, strict=True)):
            places = np.flatnonzero(hit)  # between hits the precision only falls
            if not len(places):
                continue
            so_far, aside = counted[places], np.flatnonzero(left)
            if len(aside):
                before = np.append(np.zeros_like(given[:1]), given[aside].cumsum(0), axis=0)
                so_far = so_far - before[np.searchsorted(aside, places)]
            hits = given[places].cumsum(0)
            envelope = hits / (so_far + np.spacing(1))
            envelope = np.maximum.accumulate(envelope[::-1])[::-1]
            recall = np.divide(hits, total, out=np.zeros_like(hits), where=total > 0)
            steps = _reached(recall)
            steps[1:] -= steps[:-1].copy()
            out[at] = np.einsum("ib,ib->b", envelope, steps) / len(RECALLS)
        return out

    def curve(self, at: int) -> np.ndarray | None:
        """Return the precision at each of the 101 recalls, at one threshold of overlap; None: nothing is to find."""
        total = float(self.positives.sum())
        if not total:
            return None
        hits = np.cumsum(self.hit[at])
        so_far = np.cumsum(~self.left[at])
        envelope = np.maximum.accumulate((hits / np.maximum(so_far, 1))[::-1])[::-1]
        places = np.searchsorted(hits / total, RECALLS, "left")
        return np.where(places < len(hits), np.append(envelope, 0.0)[np.minimum(places, len(hits))], 0.0)

    def recalled(self, most: int) -> np.ndarray:
        """Return how often boxes of each picture (pictures,) were hit by the first `most` there, over all overlaps."""
        first = self.hit & (self.rank < most)
        return np.bincount(self.picture, first.sum(0), minlength=len(self.positives))


def _reached(recall: np.ndarray) -> np.ndarray:
    """Return how many of RECALLS each recall has reached, as `searchsorted` with "right" has it, in less time."""
    near = (recall * (len(RECALLS) - 1)).astype(np.int64)  # one off at most, by rounding
    return near + (EDGES[near] <= recall) + (EDGES[near + 1] <= recall)


class Pictures:
    """What is true of pictures and what was found in them: lists of (n, 8) and (n, 6), with `classes` of them."""

    def __init__(self, truth: Sequence[Any], outputs: Sequence[Any], classes: int, threshold: float) -> None:
        self.truth = [np.asarray(row, np.float64).reshape(-1, 8) for row in truth]
        self.outputs = [np.asarray(row, np.float64).reshape(-1, 6) for row in outputs]
        self.n, self.classes, self.threshold = len(self.truth), classes, threshold
        self.known: dict[str, tuple[OfClass, ...]] = {}

    def by_class(self, size: str = "all") -> tuple[OfClass, ...]:
        """Return what was found of each class, among objects of a size."""
        if size not in self.known:
            self.known[size] = tuple(self._of_class(number, size) for number in range(self.classes))
        return self.known[size]

    def overlapping(
        self, place: int, own: np.ndarray, actual: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the overlap (d, g) of some objects found in a picture with some that are there, and both's areas.

        `own` (d,) and `actual` (g,) are their rows.
        """
        found, there = self.outputs[place][own], self.truth[place][actual]
        near = overlaps(found[:, :4], there[:, :4], there[:, CROWD] == CROWDED)
        return near, found[:, 2] * found[:, 3], there[:, 2] * there[:, 3]

    def _of_class(self, number: int, size: str) -> OfClass:
        pictures, ranks, scores, hits, lefts = [], [], [], [], []
        positives = np.zeros(self.n)
        for place, (truth, found) in enumerate(zip(self.truth, self.outputs, strict=True)):
            own, actual = (np.flatnonzero(one) for one in (found[:, FOUND_CLASS] == number, truth[:, CLASS] == number))
            own = own[np.argsort(-found[own, SCORE], kind="stable")[:MOST]]
            near, area, others = self.overlapping(place, own, actual)
            hit, left, positives[place] = matched(near, area, others, truth[actual, CROWD], SIZES[size])
            pictures.append(np.full(len(own), place))
            ranks.append(np.arange(len(own)))
            scores.append(found[own, SCORE])
            hits.append(hit)
            lefts.append(left)
        score = np.concatenate(scores)
        order = np.argsort(-score, kind="stable")
        return OfClass(
            np.concatenate(pictures)[order], np.concatenate(ranks)[order], score[order],
            np.concatenate(hits, 1)[:, order], np.concatenate(lefts, 1)[:, order], positives,
        )  # fmt: skip

    @cached_property
    def decisions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The objects of each picture that are given and right, that are given, and that are there, (pictures,)."""
        right, given, there = np.zeros((3, self.n))
        for found in self.by_class():
            over = (found.score >= self.threshold) & ~found.left[0]
            right += np.bincount(found.picture, over & found.hit[0], minlength=self.n)
            given += np.bincount(found.picture, over, minlength=self.n)
            there += found.positives
        return right, given, there


class PictureSample(Sample):
    """Pictures under weights: precisions are worked out once for all the scores that are made of them."""

    outcomes: Pictures

    def __init__(self, outcomes: Pictures, weights: np.ndarray) -> None:
        super().__init__(outcomes, np.asarray(weights, np.float64))
        self.known: dict[str, np.ndarray] = {}

    def precisions(self, size: str = "all") -> np.ndarray:
        """Return the average precision of each class at each overlap, (classes, T, b)."""
        if size not in self.known:
            found = [one.precision(self.weights) for one in self.outcomes.by_class(size)]
            self.known[size] = np.stack(found)
        return self.known[size]

    def recalls(self, most: int, size: str = "all") -> np.ndarray:
        """Return the recall of each class by its first objects in each picture, mean over overlaps, (classes, b)."""
        found = self.outcomes.by_class(size)
        hits = np.stack([self.total(one.recalled(most)) for one in found])
        return ratio(hits, len(THRESHOLDS) * self.support(size), np.nan)

    def support(self, size: str = "all") -> np.ndarray:
        """Return how many objects of each class there are, (classes, b)."""
        return np.stack([self.total(one.positives) for one in self.outcomes.by_class(size)])

    def decided(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the totals (b,) of objects given and right, given, and there."""
        right, given, there = (self.total(values) for values in self.outcomes.decisions)
        return right, given, there


def mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis of what is defined, NaN where nothing is."""
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0.0).sum(0), known.sum(0).astype(np.float64), np.nan)


def best_threshold(found: Sequence[OfClass]) -> float | None:
    """Return the score from which boxes are given so that most are right and most are found; None: there are none.

    That is the highest F1 at an overlap of 0.5, all classes together.
    """
    score = np.concatenate([one.score for one in found])
    counts = np.concatenate([~one.left[0] for one in found])
    hit = np.concatenate([one.hit[0] for one in found])
    total = sum(float(one.positives.sum()) for one in found)
    order = np.argsort(-score, kind="stable")
    hits, given = np.cumsum(hit[order]), np.cumsum(counts[order])
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))  # behind the last of equal scores
    if not len(last) or not hits[-1]:
        return None
    return float(score[order][last[np.argmax(2 * hits[last] / (given[last] + total))]])
