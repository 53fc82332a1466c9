"""Time of average precision with its resamples: python -m benchmarks.boxes [--pictures 200] [--resamples 1000]."""

from __future__ import annotations

import argparse
import time

import numpy as np

from hftransfer.answers._average_precision import Pictures, PictureSample, mean


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


def main() -> None:
    """Match once, weigh many times, and print the seconds of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=5)
    options = parser.parse_args()
    truth, outputs = drawn(options.pictures, options.classes)
    began = time.perf_counter()
    pictures = Pictures(truth, outputs, options.classes, 0.5)
    pictures.by_class()
    matched = time.perf_counter()
    rng = np.random.default_rng(0)
    shares = np.full(options.pictures, 1 / options.pictures)
    weights = rng.multinomial(options.pictures, shares, options.resamples).T.astype(np.float32)
    values = mean(mean(PictureSample(pictures, weights).precisions()))
    done = time.perf_counter()
    low, high = np.quantile(values, [0.025, 0.975])
    print(
        f"{options.pictures} pictures, {sum(map(len, outputs)):,} boxes, {options.classes} classes: matched in "
        f"{matched - began:.2f} s, {options.resamples} resamples in {done - matched:.2f} s "
        f"(mAP {low:.3f} to {high:.3f})"
    )


if __name__ == "__main__":
    main()
