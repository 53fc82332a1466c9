"""Which pretrained model to start from, by its frozen features: nearest neighbours, a cross-validated probe, LogME."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hftransfer.answers.base import Answer
from hftransfer.evaluation.scoring import measure_point, replicates
from hftransfer.events import RANKED_BY
from hftransfer.fitting.base import Setup
from hftransfer.frozen import features, out_of_fold
from hftransfer.modeling.loading import Loaded
from hftransfer.modeling.parts import count_parameters

MOST_ROWS = 3000  # of train, drawn with the seed: they tell scores apart that differ by 2 points
MOST_SENTENCES = 500  # of tags: each has many words
RESAMPLES = 1000
MEANS = {"knn": "by its nearest neighbours", "probe": "frozen, under a probe,"}  # what it is to lead by a figure


@dataclass(frozen=True)
class Scored:
    """One model's figures; `draws` (RESAMPLES,) are those of RANKED_BY on resamples of rows that all models share."""

    model: str
    parameters: int
    rows: int
    pooling: str
    scores: Mapping[str, float]
    draws: Mapping[str, np.ndarray]
    logme: float
    seconds: float


def score(setup: Setup, loaded: Loaded) -> Scored:
    """Score a pretrained model on the training rows of `setup`; validation and test rows are not looked at."""
    answer, seed = setup.answer, setup.config.seed
    target = out_of_fold.linear_of(answer)
    began = time.perf_counter()
    some, _ = out_of_fold.with_some_rows(setup, MOST_SENTENCES if target.by_part else MOST_ROWS)
    found = features.extract(some, loaded, "train")
    waited = time.perf_counter() - began
    began = time.perf_counter()
    groups = some.groups.get("train")
    folds = out_of_fold.assign(found, answer, seed, groups)
    logits, head = out_of_fold.probe(found, answer, folds)
    values = found.pooled[head.pooling].astype(np.float64)
    near = out_of_fold.neighbours(values, found.targets, answer, folds)
    metric = answer.main_metric
    answers = {
        "knn": out_of_fold.predictions(found, answer, target.as_logits(near), groups),
        "probe": out_of_fold.predictions(found, answer, logits, groups),
    }
    return Scored(
        model=setup.config.model,
        parameters=count_parameters(loaded.model)[1],
        rows=int(found.rows.max()) + 1,
        pooling=head.pooling,
        scores={by: measure_point(one, [metric])[metric] for by, one in answers.items()},
        draws={by: replicates(one, [metric], RESAMPLES, seed)[metric] for by, one in answers.items()},
        logme=logme(values, target.aims(found.targets, answer.outputs)),
        seconds=(found.seconds if found.cached else waited) + time.perf_counter() - began,
    )


def order(
    scored: Sequence[Scored], answer: Answer[Any], by: str = RANKED_BY[0], confidence: float = 0.95
) -> list[dict[str, Any]]:
    """Return the models' figures, best first by `by`, one of RANKED_BY.

    Each of RANKED_BY is {value, low, high, behind: {value, low, high}, told_apart}: `behind` is the distance to the
    best model by that figure on the same rows, with its interval; `told_apart` says whether that leaves zero out.
    """
    metric = answer.main_metric
    sign = 1 if answer.metrics[metric].greater_is_better else -1
    ranked = sorted(scored, key=lambda one: -sign * one.scores[by])
    first = {name: max(ranked, key=lambda one: sign * one.scores[name], default=None) for name in RANKED_BY}
    rows = []
    for one in ranked:
        figures = {name: _figure(one, best, name, sign, confidence) for name, best in first.items() if best}
        rows.append(
            {
                "model": one.model,
                "metric": metric,
                "rows": one.rows,
                **figures,
                "logme": one.logme,
                "pooling": one.pooling,
                "parameters": one.parameters,
                "seconds": round(one.seconds, 2),
            }
        )
    return rows


def _figure(one: Scored, best: Scored, name: str, sign: int, confidence: float) -> dict[str, Any]:
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    value, draws = one.scores[name], one.draws[name]
    low, high = (float(end) for end in np.nanquantile(draws, tails))
    near, far = (float(end) for end in np.nanquantile(sign * (best.draws[name] - draws), tails))
    return {
        "value": value,
        "low": min(low, value),
        "high": max(high, value),
        "behind": {"value": sign * (best.scores[name] - value), "low": near, "high": far},
        "told_apart": one is not best and near > 0,
    }


def verdict(ranked: Sequence[dict[str, Any]], by: str = RANKED_BY[0]) -> str:
    """Return in words which model to start from."""
    if not ranked:
        return "none of the models could be scored"
    best, *others = ranked
    close = [row for row in others if not row[by]["told_apart"]]
    said = f"start from {best['model']}"
    if close:
        told = "is" if len(close) == 1 else "are"
        names = ", ".join(row["model"] for row in close)
        said += f"; {names} {told} not distinguishable from it on {best['rows']:,} rows"
        smallest = min([best, *close], key=lambda row: row["parameters"])
        if smallest is not best:
            said += f", and {smallest['model']} is the smallest of them"
    for other in RANKED_BY:
        if best[other]["told_apart"]:
            leader = min(ranked, key=lambda row: row[other]["behind"]["value"])
            said += f"; {MEANS[other]} {leader['model']} is ahead of it"
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
