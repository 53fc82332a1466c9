"""What boxes and masks of objects are scored by: COCO's average precisions, those given for use, and counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from hftransfer.answers._average_precision import RECALLS, Pictures, PictureSample, mean
from hftransfer.views import Plot
from hftransfer.weighting import Metric, Statistic, ratio

GRID = np.linspace(0.02, 0.98, 49)  # scores at which the plot of thresholds has points


def _precision(size: str = "all", at: int | None = None) -> Statistic:
    """Return the mean over classes of the average precision, of all overlaps or of one."""

    def value(sample: PictureSample) -> np.ndarray:
        found = sample.precisions(size)
        return mean(found.mean(1) if at is None else found[:, at])

    return value


def _recall(most: int) -> Statistic:
    return lambda sample: mean(sample.recalls(most))


def _of_decisions(quality: str) -> Statistic:
    def value(sample: PictureSample) -> np.ndarray:
        right, given, there = sample.decided()
        part, whole = {"precision": (right, given), "recall": (right, there), "f1": (2 * right, given + there)}[
            quality
        ]
        return ratio(part, whole, np.nan)

    return value


def _count(of: Callable[[np.ndarray], np.ndarray]) -> Statistic:
    """Return a mean over pictures of how many objects too many are given."""

    def value(sample: PictureSample) -> np.ndarray:
        _, given, there = sample.outcomes.decisions
        return sample.mean(of(given - there))

    return value


METRICS: Mapping[str, Metric] = {
    "map": Metric("average precision of boxes, mean over classes and over overlaps of .50 to .95 (COCO's)",
                  _precision(), perfect=1.0),
    "map_50": Metric("the same at an overlap of .50", _precision(at=0), perfect=1.0),
    "map_75": Metric("the same at an overlap of .75", _precision(at=5), perfect=1.0),
    "map_small": Metric("average precision of boxes of less than 32 x 32 pixels", _precision("small"), perfect=1.0),
    "map_medium": Metric("of boxes of 32 x 32 to 96 x 96 pixels", _precision("medium"), perfect=1.0),
    "map_large": Metric("of boxes of more than 96 x 96 pixels", _precision("large"), perfect=1.0),
    "ar_1": Metric("share of boxes found by the surest one of each class in a picture, mean over classes and overlaps",
                   _recall(1), perfect=None),
    "ar_10": Metric("the same by the ten surest ones", _recall(10), perfect=None),
    "ar_100": Metric("the same by the hundred surest ones", _recall(100), perfect=1.0),
    "f1_boxes": Metric("harmonic mean of the two below", _of_decisions("f1"), perfect=1.0),
    "precision_boxes": Metric("share of the boxes given, from the threshold on, that are right at an overlap of .50",
                              _of_decisions("precision"), perfect=1.0),
    "recall_boxes": Metric("share of the boxes there that are given", _of_decisions("recall"), perfect=1.0),
    "count_error": Metric("objects given more or less than there are, mean over pictures", _count(np.abs),
                          greater_is_better=False),
    "count_bias": Metric("objects given more than there are, mean over pictures: negative where too few are given",
                         _count(lambda apart: apart), greater_is_better=False, signed=True),
}  # fmt: skip
COUNTS = ("count_error", "count_bias")


def _of_masks(name: str) -> str:
    """Return what a metric of boxes is called where masks overlap; one of counts is the same."""
    return name if name in COUNTS else name.replace("boxes", "masks") if "boxes" in name else f"mask_{name}"


MASKS: Mapping[str, Metric] = {
    _of_masks(name): dataclasses.replace(metric, about=metric.about.replace("boxes", "masks"))
    for name, metric in METRICS.items()
}
OF_CLASSES: dict[str, Statistic] = {
    "ap": lambda sample: sample.precisions().mean(1),
    "ap_50": lambda sample: sample.precisions()[:, 0],
    "ar_100": lambda sample: sample.recalls(100),
}


def plots(pictures: Pictures) -> Iterator[Plot]:
    """Yield precision by recall, what each threshold would give, and how many objects were given too many."""
    found = pictures.by_class()
    lines = []
    for name, at in (("overlap of .50", 0), ("of .75", 5), ("of .90", 8)):
        curves = [curve for one in found if (curve := one.curve(at)) is not None]
        if curves:
            points = np.column_stack([RECALLS, np.mean(curves, axis=0)])
            lines.append({"name": name, "points": points.round(4).tolist()})
    if lines:
        yield Plot(
            "precision_recall", "Precision by recall on the test rows, mean over classes", "lines",
            {"headline": f"{pictures.n:,} pictures, {_there(pictures):,} objects", "x": "recall", "y": "precision",
             "lines": lines, "marks": []},
        )  # fmt: skip
    yield Plot(
        "thresholds", "What each threshold would give, at an overlap of .50", "lines",
        {"headline": "all classes together", "x": "score from which objects are given", "y": "share",
         "lines": _by_threshold(pictures), "marks": [{"name": "in use", "x": pictures.threshold}]},
    )  # fmt: skip
    _, given, there = pictures.decisions
    apart = given - there
    edges = np.arange(apart.min() - 0.5, apart.max() + 1.0, max(1.0, np.ceil(np.ptp(apart) / 40)))
    counts, edges = np.histogram(apart, bins=edges if len(edges) > 1 else 1)
    yield Plot(
        "counts", "Objects given more than there are", "histogram",
        {"headline": f"off by {np.abs(apart).mean():.2f} in a picture", "axis": "given - there",
         "edges": edges.tolist(), "counts": counts.tolist()},
    )  # fmt: skip


def _there(pictures: Pictures) -> int:
    return int(sum(one.positives.sum() for one in pictures.by_class()))


def _by_threshold(pictures: Pictures) -> list[dict[str, Any]]:
    found = pictures.by_class()
    score, counts, hit = (
        np.concatenate([part(one) for one in found])
        for part in (lambda one: one.score, lambda one: ~one.left[0], lambda one: one.hit[0])
    )
    there = max(_there(pictures), 1)
    lines: dict[str, list[list[float]]] = {"F1": [], "precision": [], "recall": []}
    for at in GRID:
        right, given = float((hit & (score >= at)).sum()), float((counts & (score >= at)).sum())
        values = (2 * right / (given + there), right / given if given else np.nan, right / there)
        for points, value in zip(lines.values(), values, strict=True):
            if np.isfinite(value):
                points.append([round(float(at), 4), round(value, 4)])
    return [{"name": name, "points": points} for name, points in lines.items() if points]
