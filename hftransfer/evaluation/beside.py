"""Other answers to the test rows, measured and paired with the model's: simpler ways, and the model as it came."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from hftransfer.answers.base import Trivial
from hftransfer.evaluation.differences import between, differing, point
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure, replicates


def report(
    test: Predictions, others: Sequence[Trivial], metrics: Sequence[str], confidence: float, resamples: int, seed: int
) -> dict[str, Any] | None:
    """Return {metric, models, sentences}; None where there are no others.

    Of each: name, about, metrics with intervals, and by how much the model is ahead of it on the same rows.
    """
    if not others:
        return None
    metric = test.answer.main_metric
    ours, drawn = point(test, metric), replicates(test, [metric], resamples, seed)[metric]
    models, sentences = [], []
    for other in others:
        found = dataclasses.replace(test, answer=test.answer.unplaced, outputs=other.outputs)
        theirs = replicates(found, [metric], resamples, seed)[metric]
        apart = min(differing(test, found, metric), test.units)
        ahead = between((ours, point(found, metric)), (drawn, theirs), test.units, confidence, apart)
        models.append(
            {
                "name": other.name, "about": other.about,
                "metrics": measure(found, metrics, confidence, resamples, seed),
                "ahead": {"value": ahead.value, "low": ahead.low, "high": ahead.high, "p_value": ahead.p_value},
            }
        )  # fmt: skip
        if not ahead.low > 0:
            told = f"{ahead.value:+.3f} ({ahead.low:+.3f} to {ahead.high:+.3f})"
            shown = "is worse than" if ahead.high < 0 else "is not shown to be better than"
            sentences.append(f"It {shown} {other.name}, which {other.about}: the difference in {metric} is {told}.")
    return {"metric": metric, "confidence": confidence, "models": models, "sentences": sentences}
