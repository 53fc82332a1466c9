"""A few validation rows that are asked again at each evaluation, so that whoever looks sees a model learn."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hftransfer.data.streaming import to_keep
from hftransfer.fitting.base import Setup
from hftransfer.modeling import inference
from hftransfer.modeling.prepared import Prepared

ROWS = 6
SHARE = 0.05  # of the time since training began, at most, that goes into these looks
CHARACTERS = 300  # of an answer that is told
FILE = "watched.parquet"  # the rows, below `predictions` of the run's folder


class Watch(TrainerCallback):
    """Tell what the model answers to the same rows at every evaluation; no weight depends on it."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.places = chosen(setup.prepared["validation"].truth, setup.config.seed)
        self.part = _part(setup.prepared["validation"], self.places)
        self.ids = setup.rows["validation"].select(self.places)["row_id"]
        self._began, self._spent = time.perf_counter(), 0.0
        kept = setup.rows["validation"].select(self.places).remove_columns(setup.task.truth.name)
        table = to_keep(kept.with_format("arrow")[:], setup.task.shown, setup.config.data)
        setup.run.predictions.mkdir(exist_ok=True)
        pyarrow.parquet.write_table(table, setup.run.predictions / FILE)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        began = time.perf_counter()
        if self._spent > SHARE * (began - self._began) and state.global_step < state.max_steps:
            return
        random = torch.get_rng_state()
        try:
            self.setup.run.event("watched", step=state.global_step, answers=self._answers(model))
        finally:
            torch.set_rng_state(random)
            self._spent += time.perf_counter() - began

    def _answers(self, model: Any) -> list[dict[str, Any]]:
        setup, truth = self.setup, self.setup.prepared["validation"].truth
        answer = setup.answer
        outputs = inference.ask(answer, model, self.part, setup.asking, setup.processor, len(self.places), alone=True)
        known: Any = [truth[place] for place in self.places]  # type: ignore[index]
        columns = answer.columns(known, outputs)
        return [
            {
                "row_id": row_id,
                "is": _short(answer.in_words(columns["label"][at].as_py())),
                "said": _short(answer.in_words(columns["prediction"][at].as_py())),
                "wrong": bool(answer.badness(known[at], outputs[at]) > 0),
                "sure": None if (sure := answer.sureness(outputs[at])) is None else round(float(sure), 4),
            }
            for at, row_id in enumerate(self.ids)
        ]


def watching(setup: Setup) -> list[TrainerCallback]:
    """Return what watches a fit; nothing for trials and folds, several processes, and answers out of a catalogue."""
    alone = PartialState().num_processes == 1 and setup.trial is None and setup.whole is None
    prepared = setup.prepared.get("validation")
    if not alone or prepared is None or prepared.entries is not None or not setup.rows or prepared.truth is None:
        return []
    return [Watch(setup)] if len(prepared.truth) else []


def chosen(truth: Any, seed: int) -> list[int]:
    """Return places of rows to watch, drawn with the seed: those of a truth that is not there yet come first."""
    order = np.random.default_rng(seed).permutation(len(truth)).tolist()
    seen: dict[str, int] = {}
    ranks = []
    for place in order[:2000]:
        key = str(truth[place])
        seen[key] = seen.get(key, 0) + 1
        ranks.append((seen[key], place))
    first = sorted(ranks, key=lambda pair: pair[0])[:ROWS]
    return sorted(place for _, place in first)


def _part(prepared: Prepared, places: Sequence[int]) -> Prepared:
    """Return some rows of a split, in order."""
    at = {place: number for number, place in enumerate(places)}
    items = [item for item, row in enumerate(prepared.rows) if int(row) in at]
    return dataclasses.replace(
        prepared,
        dataset=torch.utils.data.Subset(prepared.dataset, items),
        rows=np.array([at[int(prepared.rows[item])] for item in items], np.int64),
        truth=None,
        lengths=None if prepared.lengths is None else prepared.lengths[items],
        count=len(places),
    )


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 1]}…"
