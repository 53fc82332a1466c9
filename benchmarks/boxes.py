"""Average precision with its resamples: seconds to match boxes once, and to weigh them a thousand times."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.measuring import Sizes
from benchmarks.page import Table, table
from hftransfer.answers._average_precision import Pictures, PictureSample, mean

PICTURES, RESAMPLES, CLASSES, TIMES = 200, 1000, 5, 5


def drawn(pictures: int, classes: int, most: int = 12, seed: int = 1) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return true boxes of pictures, and found ones: shifted, and as many strays."""
    rng = np.random.default_rng(seed)
    truth, outputs = [], []
    for _ in range(pictures):
        count = int(rng.integers(0, most))
        boxes = np.c_[rng.uniform(0, 300, (count, 2)), rng.uniform(5, 150, (count, 2))]
        kinds = rng.integers(0, classes, count)
        truth.append(np.c_[boxes, kinds, np.zeros(count), np.full((count, 2), 500)])
        strays = np.c_[rng.uniform(0, 300, (most, 2)), rng.uniform(5, 150, (most, 2))]
        found = np.concatenate([boxes + rng.normal(0, 6, boxes.shape), strays])
        found[:, 2:] = np.maximum(found[:, 2:], 1)
        made = np.c_[found, rng.random(len(found)), np.r_[kinds, rng.integers(0, classes, most)]]
        outputs.append(made[np.argsort(-made[:, 4])])
    return truth, outputs


def measure(folder: Path, sizes: Sizes) -> str:
    """Match once, weigh many times, and tell the seconds of each: the median of a few times, and the least."""
    count, resamples = (PICTURES, RESAMPLES) if sizes.rows is None else (sizes.rows, 20)
    truth, outputs = drawn(count, CLASSES)
    found = np.array([timed(truth, outputs, resamples) for _ in range(TIMES)])
    rows: Table = [("pictures", "boxes given", "resamples", "matching, s", "resamples, s", "both, s", "both, least s")]
    middle, both = np.median(found, axis=0), found.sum(axis=1)
    given = sum(map(len, outputs))
    rows.append((
        f"{count:,}", f"{given:,}", f"{resamples:,}", f"{middle[0]:.2f}", f"{middle[1]:.2f}", f"{np.median(both):.2f}",
        f"{both.min():.2f}",
    ))  # fmt: skip
    return "\n\n".join(
        [
            f"Boxes of {CLASSES} classes, drawn at random; shifted ones and strays are given. Matched once at "
            "COCO's ten overlaps; each resample of the pictures is a weighting of what was matched, and gives the "
            f"mean average precision over classes and overlaps anew. Medians of {TIMES} times.",
            table(rows),
        ]
    )


def timed(truth: list[np.ndarray], outputs: list[np.ndarray], resamples: int) -> tuple[float, float]:
    """Return the seconds of matching, and those of the resamples."""
    began = time.perf_counter()
    pictures = Pictures(truth, outputs, CLASSES, 0.5)
    pictures.by_class()
    matched = time.perf_counter()
    shares = np.full(len(truth), 1 / len(truth))
    weights = np.random.default_rng(0).multinomial(len(truth), shares, resamples).T.astype(np.float32)
    mean(mean(PictureSample(pictures, weights).precisions()))
    return matched - began, time.perf_counter() - matched
