"""Average precision of boxes: equal to pycocotools', with ties and crowds, and so are resamples of pictures."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from hftransfer.answers._average_precision import Pictures, PictureSample, best_threshold, mean

SIZES = {"all": 0, "small": 1, "medium": 2, "large": 3}
Rows = list[np.ndarray]


def drawn(seed: int, pictures: int = 25, most: int = 12, tied: bool = True) -> tuple[Rows, Rows, int]:
    """Return truth and outputs of pictures: shifted and stray boxes, crowds, few distinct scores where `tied`."""
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(1, 5))
    truth, outputs = [], []
    for _ in range(pictures):
        count = int(rng.integers(0, most))
        boxes = np.c_[rng.uniform(0, 300, (count, 2)), rng.uniform(5, 150, (count, 2))]
        kinds, crowd = rng.integers(0, classes, count), rng.random(count) < 0.1
        truth.append(np.c_[boxes, kinds, crowd, np.full((count, 2), 500)])
        strays = np.c_[rng.uniform(0, 300, (most, 2)), rng.uniform(5, 150, (most, 2))]
        found = np.concatenate([boxes + rng.normal(0, 6, boxes.shape), strays])
        found[:, 2:] = np.maximum(found[:, 2:], 1)
        scores = rng.random(len(found))
        scores = np.round(scores, 2) if tied else scores
        made = np.c_[found, scores, np.r_[kinds, rng.integers(0, classes, most)]]
        outputs.append(made[np.argsort(-made[:, 4], kind="stable")])
    return truth, outputs, classes


def by_pycocotools(truth: Rows, outputs: Rows, classes: int) -> Any:
    from pycocotools import coco
    from pycocotools import cocoeval as evaluation

    annotations: list[dict[str, Any]] = []
    results = []
    for place, (actual, found) in enumerate(zip(truth, outputs, strict=True)):
        for x, y, width, height, kind, crowd, *_ in actual.tolist():
            annotations.append({
                "id": len(annotations) + 1, "image_id": place, "category_id": int(kind), "iscrowd": int(crowd),
                "bbox": [x, y, width, height], "area": width * height,
            })  # fmt: skip
        for *box, score, kind in found.tolist():
            results.append({"image_id": place, "category_id": int(kind), "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        known = coco.COCO()
        known.dataset = {
            "images": [{"id": place} for place in range(len(truth))], "annotations": annotations, "info": {},
            "categories": [{"id": kind} for kind in range(classes)],
        }  # fmt: skip
        known.createIndex()
        found = evaluation.COCOeval(known, known.loadRes(results), "bbox")
        found.evaluate()
        found.accumulate()
    return found


def test_it_is_that_of_pycocotools() -> None:
    worst = 0.0
    for seed in range(30):
        truth, outputs, classes = drawn(seed)
        theirs = by_pycocotools(truth, outputs, classes)
        precision, recall = theirs.eval["precision"], theirs.eval["recall"]
        sample = PictureSample(Pictures(truth, outputs, classes, 0.5), np.ones((len(truth), 1)))
        for size, at in SIZES.items():
            expected = np.where(precision[:, :, :, at, 2] < 0, np.nan, precision[:, :, :, at, 2]).mean(1).T
            ours = sample.precisions(size)[..., 0]
            assert np.array_equal(np.isnan(ours), np.isnan(expected))
            worst = max(worst, float(np.nanmax(np.abs(ours - expected), initial=0)))
            for most, place in ((1, 0), (10, 1), (100, 2)):
                known = np.where(recall[:, :, at, place] < 0, np.nan, recall[:, :, at, place]).mean(0)
                worst = max(worst, float(np.nanmax(np.abs(sample.recalls(most, size)[:, 0] - known), initial=0)))
    assert worst < 1e-12


def test_a_resample_is_that_of_the_pictures_drawn() -> None:
    truth, outputs, classes = drawn(5, tied=False)
    rows = np.random.default_rng(1).integers(0, len(truth), (6, len(truth)))
    weights = np.stack([np.bincount(one, minlength=len(truth)) for one in rows], axis=1)
    ours = mean(mean(PictureSample(Pictures(truth, outputs, classes, 0.5), weights).precisions()))
    for one, value in zip(rows, ours, strict=True):
        theirs = by_pycocotools([truth[at] for at in one], [outputs[at] for at in one], classes)
        precision = theirs.eval["precision"][:, :, :, 0, 2]
        assert value == pytest.approx(precision[precision > -1].mean(), abs=1e-12)


def test_the_curve_has_the_average_precision_as_its_mean() -> None:
    truth, outputs, classes = drawn(3)
    pictures = Pictures(truth, outputs, classes, 0.5)
    values = PictureSample(pictures, np.ones((len(truth), 1))).precisions()[..., 0]
    for one, expected in zip(pictures.by_class(), values, strict=True):
        for at in (0, 5):
            curve = one.curve(at)
            assert curve is not None and curve.mean() == pytest.approx(expected[at], abs=1e-12)


def test_the_threshold_gives_the_best_f1() -> None:
    truth, outputs, classes = drawn(4)
    best = best_threshold(Pictures(truth, outputs, classes, 0.0).by_class())
    assert best is not None

    def f1(threshold: float) -> float:
        right, given, there = (v.sum() for v in Pictures(truth, outputs, classes, threshold).decisions)
        return 2 * right / (given + there)

    tried = np.unique(np.concatenate([one[:, 4] for one in outputs]))
    assert f1(best) == max(map(f1, tried))
    assert best_threshold(Pictures([np.zeros((0, 8))], [np.zeros((0, 6))], 1, 0.0).by_class()) is None


def test_what_is_difficult_is_passed_over() -> None:
    """As Pascal VOC scores: not to be found, and whoever finds it, once or twice, is not wrong."""
    box, hard = [10.0, 10, 20, 20], [100.0, 100, 30, 30]
    truth = [np.array([[*box, 0, 0, 500, 500], [*hard, 0, 2, 500, 500]])]

    def scores(found: Rows, actual: Rows = truth) -> tuple[float, ...]:
        pictures = Pictures(actual, found, 1, 0.5)
        sample = PictureSample(pictures, np.ones((len(actual), 1)))
        return (*(float(part[0]) for part in sample.decided()), float(mean(sample.precisions().mean(1))[0]))

    right = [*box, 0.6, 0]
    assert scores([np.array([right])]) == pytest.approx((1, 1, 1, 1))
    assert scores([np.array([[*hard, 0.9, 0], [*hard, 0.8, 0], right])]) == pytest.approx((1, 1, 1, 1))
    assert scores([np.array([[300, 300, 30, 30, 0.9, 0], right])]) == pytest.approx((1, 2, 1, 0.5))
    # a box inside of it is no part of a crowd: it overlaps too little
    assert scores([np.array([[105, 105, 5, 5, 0.9, 0], right])]) == pytest.approx((1, 2, 1, 0.5))
    plain = [np.where(np.arange(8) == 5, 0, truth[0])]
    assert scores([np.array([right])], plain)[:3] == (1, 1, 2)
