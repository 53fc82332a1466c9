"""Metrics of the Hub, by name, as `evaluate` loads them: their code runs in this process."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import evaluate

from hftransfer.answers.base import Answer
from hftransfer.errors import UserError, nearest
from hftransfer.evaluation.predictions import Predictions


def load_from_hub(name: str, answer: Answer[Any]) -> evaluate.EvaluationModule:
    """Load a metric of the Hub by name; UserError when it is not there, cannot be reached, or lacks a package."""
    try:
        return evaluate.load(name, keep_in_memory=True)
    except OSError as error:  # evaluate says "doesn't exist" of a Hub that it cannot reach, too
        match = nearest(name.rpartition("/")[2], list(answer.metrics))
        ours = f"take {match!r}, which needs no network" if match else "take one of ours"
        raise UserError(
            f"the metric {name!r} must load from the Hub",
            "there is none of that name, or no network",
            f"Check the name and the network, or {ours}.",
        ) from error
    except ImportError as error:
        raise UserError(
            f"the metric {name!r} needs another package", " ".join(str(error).split()).rstrip("."), "Install it."
        ) from error


class HubMetric:
    """A metric of the Hub, on stored answers: as names or texts where it takes strings, else as numbers."""

    def __init__(self, name: str, predictions: Predictions) -> None:
        self.name, self.answer = name, predictions.answer
        self.module = load_from_hub(name, self.answer)
        features = self.module.features
        as_text = "string" in str(features[0] if isinstance(features, list) else features)
        self.truth, self.answers = self.answer.plain(predictions.truth, predictions.outputs, as_text)

    def compute(self, rows: Sequence[int]) -> dict[str, float]:
        """Return its scores on these rows, named as the metric, or `metric.score` where it gives several."""
        try:
            result = self.module.compute(
                predictions=[self.answers[row] for row in rows], references=[self.truth[row] for row in rows]
            )
        except (ValueError, TypeError) as error:
            raise UserError(
                f"the metric {self.name!r} must fit {self.answer.called} answers",
                f"it says: {' '.join(str(error).split())}".rstrip("."),
                "Remove it from evaluation.metrics.",
            ) from error
        scores = {key: float(value) for key, value in result.items() if isinstance(value, Real)}
        return {self.name if len(scores) == 1 else f"{self.name}.{key}": value for key, value in scores.items()}
