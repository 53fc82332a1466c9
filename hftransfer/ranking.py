"""Which pretrained model to start from, by its frozen features: LogME, nearest neighbours, a cross-validated probe."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hftransfer import evaluation, features, modeling, out_of_fold
from hftransfer.fitting import Setup
from hftransfer.modeling import Loaded
from hftransfer.tasks.base import Labels

MOST_ROWS = 3000  # of train, drawn with the seed: they tell scores apart that differ by 2 points
MOST_SENTENCES = 500  # of tags: each has many words
RESAMPLES = 1000
TINY = 1e-4  # a share of neighbours of 0 or 1 as a probability


@dataclass(frozen=True)
class Scored:
    """One model's figures; `draws` (RESAMPLES,) are its probe's score on resamples that all models share."""

    model: str
    parameters: int
    rows: int
    pooling: str
    probe: float
    knn: float
    logme: float
    seconds: float
    draws: np.ndarray


def score(setup: Setup, loaded: Loaded) -> Scored:
    """Score a pretrained model on the training rows of `setup`; validation and test rows are not looked at."""
    labels, seed = setup.labels, setup.config.seed
    began = time.perf_counter()
    some, _ = out_of_fold.with_some_rows(setup, MOST_SENTENCES if labels.kind == "tags" else MOST_ROWS)
    found = features.extract(some, loaded, "train")
    waited = time.perf_counter() - began
    began = time.perf_counter()
    folds = out_of_fold.assign(found, labels, seed)
    logits, head = out_of_fold.probe(found, labels, folds)
    values = found.pooled[head.pooling].astype(np.float64)
    near = out_of_fold.neighbours(values, found.targets, labels, folds)
    metric = evaluation.main_metric(labels)
    answers = out_of_fold.predictions(found, labels, logits)
    neighbours = out_of_fold.predictions(found, labels, _as_logits(near, labels))
    return Scored(
        model=setup.config.model,
        parameters=modeling.count_parameters(loaded.model)[1],
        rows=int(found.rows.max()) + 1,
        pooling=head.pooling,
        probe=evaluation.measure_point(answers, [metric])[metric],
        knn=evaluation.measure_point(neighbours, [metric])[metric],
        logme=logme(values, _aims(found.targets, labels)),
        seconds=(found.seconds if found.cached else waited) + time.perf_counter() - began,
        draws=evaluation.replicates(answers, [metric], RESAMPLES, seed)[metric],
    )


def order(scored: Sequence[Scored], labels: Labels, confidence: float = 0.95) -> list[dict[str, Any]]:
    """Return the models from the best probe down: figures, the interval of the probe's score and of what it lacks.

    `behind` is the distance to the best model's score on the same rows, with its interval; `told_apart` says whether
    that interval leaves zero out.
    """
    metric = evaluation.main_metric(labels)
    sign = 1 if evaluation.greater_is_better(metric) else -1
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    ranked = sorted(scored, key=lambda one: -sign * one.probe)
    rows = []
    for place, one in enumerate(ranked):
        low, high = (float(end) for end in np.nanquantile(one.draws, tails))
        behind, far = (float(end) for end in np.nanquantile(sign * (ranked[0].draws - one.draws), tails))
        rows.append(
            {
                "model": one.model,
                "metric": metric,
                "rows": one.rows,
                "probe": {"value": one.probe, "low": min(low, one.probe), "high": max(high, one.probe)},
                "behind": {"value": sign * (ranked[0].probe - one.probe), "low": behind, "high": far},
                "told_apart": place > 0 and behind > 0,
                "knn": one.knn,
                "logme": one.logme,
                "pooling": one.pooling,
                "parameters": one.parameters,
                "seconds": round(one.seconds, 2),
            }
        )
    return rows


def verdict(ranked: Sequence[dict[str, Any]]) -> str:
    """Return in words which model to start from."""
    if not ranked:
        return "none of the models could be scored"
    best, *others = ranked
    close = [row["model"] for row in others if not row["told_apart"]]
    said = f"start from {best['model']}"
    if close:
        told = "is" if len(close) == 1 else "are"
        said += f"; {', '.join(close)} {told} not distinguishable from it on {best['rows']:,} rows"
        smallest = min([best, *(row for row in others if not row["told_apart"])], key=lambda row: row["parameters"])
        if smallest is not best:
            said += f", and {smallest['model']} is the smallest of them"
    return said


def logme(values: np.ndarray, aims: np.ndarray) -> float:
    """Return the mean log evidence a row of linear models from features (n, d) to each column of `aims` (n, k).

    Weights have a normal prior and answers normal noise; both precisions are set to what makes the evidence largest
    (You, Liu, Wang and Long 2021, by the fixed point of their section 4 on the singular values). Higher is better.
    """
    n, width = values.shape
    left, singular, _ = np.linalg.svd(values, full_matrices=False)
    power = singular**2
    power[power < 1e-12 * power.max()] = 0
    turned = (left.T @ aims) ** 2
    outside = np.maximum((aims**2).sum(axis=0) - turned.sum(axis=0), 0)
    return float(np.mean([_evidence(power, turned[:, j], outside[j], n, width) for j in range(aims.shape[1])]))


def _evidence(power: np.ndarray, turned: np.ndarray, outside: float, n: int, width: int) -> float:
    prior = noise = 1.0
    for _ in range(100):
        ratio = prior / noise
        used = float((power / (power + ratio)).sum())
        size = float((power * turned / (power + ratio) ** 2).sum())
        error = float((turned * (ratio / (power + ratio)) ** 2).sum()) + outside
        before, prior, noise = ratio, used / max(size, 1e-12), (n - used) / max(error, 1e-12)
        if abs(prior / noise - before) <= 1e-4 * before:
            break
    ratio = prior / noise
    size = float((power * turned / (power + ratio) ** 2).sum())
    error = float((turned * (ratio / (power + ratio)) ** 2).sum()) + outside
    determinant = float(np.log(prior + noise * power).sum()) + (width - len(power)) * np.log(prior)
    total = width * np.log(prior) + n * np.log(noise) - determinant - noise * error - prior * size
    return float((total - n * np.log(2 * np.pi)) / (2 * n))


def _aims(targets: np.ndarray, labels: Labels) -> np.ndarray:
    if labels.kind in ("single_label", "tags"):
        return np.eye(labels.outputs)[targets]
    return np.asarray(targets, np.float64).reshape(len(targets), -1)


def _as_logits(shares: np.ndarray, labels: Labels) -> np.ndarray:
    """Return what the kind of label turns into these shares of neighbours again."""
    if labels.kind == "regression":
        return shares
    shares = np.clip(shares, TINY, 1 - TINY)
    return np.log(shares) - np.log1p(-shares) if labels.kind == "multi_label" else np.log(shares)
