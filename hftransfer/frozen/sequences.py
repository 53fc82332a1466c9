"""Histories of a catalogue's entries as sequences of a frozen model's vectors, for what learns to go on from them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from datasets import Dataset

from hftransfer.errors import UserError
from hftransfer.fitting.answering import inputs_of
from hftransfer.fitting.base import Setup, phase
from hftransfer.modeling import inference
from hftransfer.modeling.prepared import Prepared


def staged(setup: Setup, model: Any, width: int, layers: int, heads: int, dropout: float) -> tuple[Setup, Any]:
    """Return a setup of sequences, and the transformer that is trained on them; every process must call."""
    entries = setup.prepared["test"].entries
    assert entries is not None
    phase(setup, "features")
    with inference.answering(model):
        vectors = inference.known_of(setup.answer, model, entries, setup.asking)
    answer = setup.answer.of_sequences(vectors)
    train = _prepared(answer.sequences())
    shown = inputs_of(setup, "validation") or {}
    validation = setup.prepared["validation"]
    assert validation.truth is not None
    asked = _prepared(answer.asked_last(next(iter(shown.values())), validation.truth))
    if not len(train) or not len(asked):
        raise UserError(
            "people who had two entries or more are needed in train, and some in validation", "there are none",
            "Give more rows.",
        )  # fmt: skip
    preparation = dataclasses.replace(setup.preparation, answer=answer)
    inner = dataclasses.replace(setup, preparation=preparation, prepared={"train": train, "validation": asked})
    return inner, answer.reader_made(width, layers, heads, dropout, setup.config.seed)


def _prepared(pairs: Any) -> Prepared:
    """Return sequences of places with what comes next at each."""
    found = list(pairs)
    places, labels = [one for one, _ in found], [other for _, other in found]
    items = Dataset.from_dict({"places": places, "labels": labels})
    lengths = np.array([len(one) for one in places], np.int64)
    return Prepared(items, np.arange(len(found)), lengths=lengths, count=len(found))
