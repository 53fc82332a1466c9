"""What training made a model forget: the perplexity of text that has nothing to do with the data, before and after."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import datasets
import numpy as np

from hftransfer.evaluation.differences import pairwise
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure_only
from hftransfer.fitting import trainer
from hftransfer.fitting.base import Setup
from hftransfer.modeling.prepared import Prepared
from hftransfer.processors import require_tokenizer
from hftransfer.samples import general

TOKENS = 128  # of a passage


def why_not(setup: Setup) -> str | None:
    """Return why it is not measured; None where it is."""
    if not (setup.answer.generates and setup.answer.aligned):
        return "the model does not go on from texts"
    if not setup.config.evaluation.forgetting:
        return "evaluation.forgetting is false"
    return None if general.passages() else "Python came without the text that is read"


def measured(setup: Setup, model: Any) -> Predictions:
    """Return what a model makes of the text's tokens; every process must call."""
    texts = general.passages()
    tokenizer = require_tokenizer(setup.processor)
    limit = min(TOKENS, setup.preparation.max_length or TOKENS)
    ids = [tokenizer(text, truncation=True, max_length=limit)["input_ids"] for text in texts]
    rows = datasets.Dataset.from_dict({
        "input_ids": ids,
        "attention_mask": [[1] * len(row) for row in ids],
        "labels": [[-100, *row[1:]] for row in ids],
    })  # fmt: skip
    prepared = Prepared(
        rows, np.arange(len(ids)), texts, np.array([len(row) for row in ids], np.int64), count=len(ids)
    )
    outputs = trainer.predict(setup, model, prepared, judging=True)
    return Predictions(setup.answer, [str(number) for number in range(len(texts))], texts, outputs)


def report(before: Predictions, after: Predictions, confidence: float, resamples: int, seed: int) -> dict[str, Any]:
    """Return {text, sha256, n, tokens, confidence, before, after, difference} of the same passages by two models.

    Scores are {value, low, high} of perplexity; the difference is after minus before, by resampled passages.
    """
    name = before.answer.judged_by
    scores = [measure_only(found, [name], confidence, resamples, seed).get(name) for found in (before, after)]
    apart = pairwise([after, before], name, confidence, resamples, seed)[0, 1]
    return {
        "text": general.NAME,
        "sha256": hashlib.sha256(json.dumps(list(before.truth)).encode()).hexdigest(),
        "n": len(before),
        "tokens": int(sum(output.tokens for output in before.outputs)),
        "confidence": confidence,
        "metric": name,
        "before": scores[0],
        "after": scores[1],
        "difference": {"value": apart.value, "low": apart.low, "high": apart.high},
    }
