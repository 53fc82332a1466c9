"""Scores of masks for many weightings of the pictures at once, from what each picture adds to pooled counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from hftransfer.answers import _mask_files as files
from hftransfer.weighting import Metric, Sample, ratio

TOLERANCE = 0.0075  # of the diagonal, within which boundaries meet (Csurka et al. 2013; Martin et al. 2004)


class Counted:
    """What one picture adds: counts (k, k) of true and given classes; and by class, of the boundaries, (k,) each.

    `drawn` are boundary pixels of the truth, `met` those of them near the answer's; `given` and `right` the other way.
    """

    def __init__(self, truth: bytes, answer: bytes, classes: int) -> None:
        real, found = files.of_png(truth), files.of_png(answer)
        self.counts = confusion(real, found, classes)
        self.drawn, self.met, self.given, self.right = (np.zeros(classes, np.int64) for _ in range(4))
        _boundaries(real, np.where(real == files.NOTHING, files.NOTHING, found), self)


def confusion(real: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """Return how many pixels of each true class (rows) are given each class (columns), of those that count."""
    known = real != files.NOTHING
    pairs = real[known].astype(np.int64) * classes + found[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def _boundaries(real: np.ndarray, found: np.ndarray, counted: Counted) -> None:
    from scipy.ndimage import distance_transform_edt

    if (real == found).all():
        for place, count in _edges(real):
            size = int(count.sum())
            counted.drawn[place] = counted.met[place] = counted.given[place] = counted.right[place] = size
        return
    near = max(TOLERANCE * float(np.hypot(*real.shape)), 1.0)
    drawn, given = dict(_edges(real)), dict(_edges(found))
    for place in {*drawn, *given}:
        one, other = drawn.get(place), given.get(place)
        if one is not None:
            counted.drawn[place] = one.sum()
        if other is not None:
            counted.given[place] = other.sum()
        if one is not None and other is not None:
            counted.met[place] = (distance_transform_edt(~other)[one] <= near).sum()
            counted.right[place] = (distance_transform_edt(~one)[other] <= near).sum()


def _edges(classes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each class that meets another with its boundary pixels (h, w); the picture's own edge is none."""
    moved = np.zeros(classes.shape, bool)
    across = (classes[1:] != classes[:-1]) & (classes[1:] != files.NOTHING) & (classes[:-1] != files.NOTHING)
    along = (
        (classes[:, 1:] != classes[:, :-1]) & (classes[:, 1:] != files.NOTHING) & (classes[:, :-1] != files.NOTHING)
    )
    moved[1:] |= across
    moved[:-1] |= across
    moved[:, 1:] |= along
    moved[:, :-1] |= along
    for place in np.unique(classes[moved]):
        yield int(place), moved & (classes == place)


class OfMasks:
    """What each picture contributes, (n, k) each: pixels that are right, given a class, and of it; boundaries."""

    def __init__(self, truth: Sequence[bytes], outputs: Sequence[bytes], classes: int, background: int | None) -> None:
        self.n, self.classes, self.background = len(truth), classes, background
        self.pooled = np.zeros((classes, classes), np.int64)
        self.right, self.given, self.actual = (np.zeros((self.n, classes), np.int64) for _ in range(3))
        self.edges = {name: np.zeros((self.n, classes), np.int64) for name in ("drawn", "met", "given", "right")}
        pairs = zip(truth, outputs, strict=True)
        for row, one in enumerate(files.each(pairs, lambda pair: Counted(pair[0], pair[1], classes))):
            self.pooled += one.counts
            self.right[row], self.given[row] = np.diag(one.counts), one.counts.sum(0)
            self.actual[row] = one.counts.sum(1)
            for name, values in self.edges.items():
                values[row] = getattr(one, name)


class MaskSample(Sample):
    """The same under weights: totals (k, b) of each class, in float64, because pixels are many."""

    def pooled(self, values: np.ndarray) -> np.ndarray:
        """Return weighted sums (k, b) of (n, k)."""
        return np.einsum("ik,ij->kj", values.astype(np.float64), self.weights.astype(np.float64))

    @cached_property
    def right(self) -> np.ndarray:
        """Pixels that are given the class that they have."""
        return self.pooled(self.outcomes.right)

    @cached_property
    def given(self) -> np.ndarray:
        """Pixels that are given each class."""
        return self.pooled(self.outcomes.given)

    @cached_property
    def actual(self) -> np.ndarray:
        """Pixels of each class."""
        return self.pooled(self.outcomes.actual)

    @cached_property
    def pictures(self) -> np.ndarray:
        """Pictures that have each class."""
        return self.pooled(self.outcomes.actual > 0)

    @cached_property
    def edges(self) -> dict[str, np.ndarray]:
        """Boundary pixels of each class."""
        return {name: self.pooled(values) for name, values in self.outcomes.edges.items()}


def iou(sample: MaskSample) -> np.ndarray:
    """Return intersection over union of each class (k, b); NaN of one that is neither there nor given."""
    return ratio(sample.right, sample.given + sample.actual - sample.right, np.nan)


def dice(sample: MaskSample) -> np.ndarray:
    """Return 2 |A and B| / (|A| + |B|) of each class."""
    return ratio(2 * sample.right, sample.given + sample.actual, np.nan)


def recall(sample: MaskSample) -> np.ndarray:
    """Return the share of each class's pixels that are given it."""
    return ratio(sample.right, sample.actual, np.nan)


def precision(sample: MaskSample) -> np.ndarray:
    """Return the share of the pixels given a class that have it."""
    return ratio(sample.right, sample.given, np.nan)


def boundary(sample: MaskSample) -> np.ndarray:
    """Return the F measure of each class's boundaries."""
    edges = sample.edges
    exact, whole = ratio(edges["right"], edges["given"]), ratio(edges["met"], edges["drawn"])
    there = edges["given"] + edges["drawn"] > 0
    return np.where(there, ratio(2 * exact * whole, exact + whole), np.nan)


def mean(values: np.ndarray) -> np.ndarray:
    """Return the mean (b,) over the classes (k, b) that have a value."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(axis=0), known.sum(axis=0).astype(np.float64), np.nan)


def _of_objects(values: np.ndarray, sample: MaskSample) -> np.ndarray:
    place = sample.outcomes.background
    return values if place is None else np.delete(values, place, axis=0)


def _accuracy(sample: MaskSample) -> np.ndarray:
    return ratio(sample.right.sum(axis=0), sample.actual.sum(axis=0), np.nan)


METRICS = {
    "mean_iou": Metric(
        "intersection over union of each class, over the pixels of all pictures; the mean over the classes",
        lambda sample: mean(iou(sample)), perfect=1.0, hub="mean_iou", hub_type="mean_iou",
    ),
    "mean_dice": Metric(
        "Dice coefficient of each class but the background, over the pixels of all pictures; the mean over classes",
        lambda sample: mean(_of_objects(dice(sample), sample)), perfect=1.0,
    ),
    "boundary_f1": Metric(
        "F measure of boundary pixels that meet within 0.75 % of the diagonal (Csurka et al. 2013), over all "
        "pictures; the mean over the classes but the background",
        lambda sample: mean(_of_objects(boundary(sample), sample)), perfect=1.0,
    ),
    "pixel_accuracy": Metric("share of pixels that are given their class", _accuracy, perfect=1.0),
}  # fmt: skip


def measured(pooled: np.ndarray, background: int | None) -> dict[str, float]:
    """Return the scores that pooled counts (k, k) alone give."""
    right, given, actual = np.diag(pooled), pooled.sum(0), pooled.sum(1)
    union, both = ratio(right, given + actual - right, np.nan), ratio(2 * right, given + actual, np.nan)
    objects = both if background is None else np.delete(both, background)
    found = {
        "mean_iou": _nanmean(union), "mean_dice": _nanmean(objects),
        "pixel_accuracy": float(ratio(right.sum(), actual.sum(), np.nan)),
    }  # fmt: skip
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _nanmean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
