"""What result.json says of the scores: test and validation with intervals, and the trivial answer they must beat."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hftransfer.answers.base import Trivial
from hftransfer.config import EvaluationConfig
from hftransfer.evaluation import operating, usefulness
from hftransfer.evaluation.names import metric_names
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import Score, measure, per_class


def report(
    predictions: Predictions,
    validation_predictions: Predictions | None,
    config: EvaluationConfig,
    seed: int,
    rows: Any = None,
) -> dict[str, Any]:
    """Return the blocks `test`, `validation` (None without one), `baseline`, `verdict` and `operating` of result.json.

    A block has n, groups (where whole groups are resampled), confidence, metrics, classes (of kinds that have some)
    and notes on what was left out; the baseline has name, about and metrics, and `verdict` says whether the model is
    of use (see `usefulness`). `rows` are the test rows' inputs, where a trivial answer is made of them.
    """
    settings = settings_of(config, seed)

    def block(split: Predictions) -> dict[str, Any]:
        metrics = measure(split, config.metrics, **settings)
        return {
            "n": len(split),
            **({} if split.codes is None else {"groups": split.units}),
            "confidence": config.confidence,
            "metrics": metrics,
            "classes": per_class(split, **settings),
            "notes": undefined(split, config.metrics, metrics),
        }

    test = block(predictions)
    answered = trivial_answers(predictions, rows)
    trivial = baseline(answered, config.metrics, **settings)
    return {
        "test": test,
        "validation": block(validation_predictions) if validation_predictions else None,
        "baseline": trivial,
        "verdict": usefulness.judged(predictions, answered[1], trivial, **settings),
        "operating": operating.report(predictions, validation_predictions, settings)
        if validation_predictions
        else None,
    }


def settings_of(config: EvaluationConfig, seed: int) -> dict[str, Any]:
    """Return how sure scores are to be, as every measurement takes it."""
    return {"confidence": config.confidence, "resamples": config.resamples, "seed": seed}


def without_copies(
    test: Predictions, copied: Mapping[tuple[str, str], np.ndarray], likely: Any, learnt: Sequence[str],
    config: EvaluationConfig, seed: int,
) -> dict[str, Any] | None:  # fmt: skip
    """Return the scores without the test rows that have a copy among those of the splits which were learned from.

    A copy is the same or a near one (`copied`: masks by split and the other one), or a `likely` one, where these were
    looked for. `learnt` stands in what is returned. None: not looked for, or there is none.
    """
    pairs = [("test", split) for split in learnt]
    known = [copied[pair] for pair in pairs if pair in copied]
    if known and likely is not None:
        known += [likely.masks[pair] for pair in pairs]
    found = without_rows(test, np.logical_or.reduce(known) if known else None, config, seed)
    return found and {**found, "learnt": list(learnt)}


def without_rows(
    predictions: Predictions, left_out: np.ndarray | None, config: EvaluationConfig, seed: int
) -> dict[str, Any] | None:
    """Return {n, left_out, metrics} of the rows that `left_out` (rows,) leaves; None if it marks none, or all."""
    if left_out is None or not left_out.any() or left_out.all():
        return None
    kept = predictions.select(~left_out)
    metrics = measure(kept, config.metrics, config.confidence, config.resamples, seed)
    return {"n": len(kept), "left_out": int(left_out.sum()), "confidence": config.confidence, "metrics": metrics}


def trivial_answers(predictions: Predictions, rows: Any = None) -> tuple[Trivial, Predictions]:
    """Return the best trivial answer, and what it gives on the same rows."""
    trivial = predictions.answer.baseline(predictions.truth, rows)
    unplaced = predictions.answer.unplaced  # a constant probability has no threshold of its own
    return trivial, dataclasses.replace(predictions, answer=unplaced, outputs=trivial.outputs)


def baseline(
    answered: tuple[Trivial, Predictions],
    metrics: Sequence[str] = (),
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure what `trivial_answers` gives: {name, about, metrics}."""
    trivial, found = answered
    return {
        "name": trivial.name, "about": trivial.about,
        "metrics": measure(found, metrics, confidence, resamples, seed),
    }  # fmt: skip


def undefined(predictions: Predictions, metrics: Sequence[str], measured: Mapping[str, Score]) -> list[str]:
    """Return a sentence for every metric of ours that could not be computed on these rows."""
    names = metric_names(predictions.answer, metrics)
    missing = [name for name in names if name in predictions.answer.METRICS and name not in measured]
    return [f"{name} is undefined on these rows and left out." for name in missing]
