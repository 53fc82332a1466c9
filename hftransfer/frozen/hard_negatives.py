"""Hard negatives: entries that the untuned model takes for right and that are not, to be told apart in training."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetInfo
from datasets.fingerprint import generate_random_fingerprint

from hftransfer.answers import _nearest
from hftransfer.answers._lists import ITSELF
from hftransfer.config import RunConfig
from hftransfer.data import Data
from hftransfer.errors import UserError
from hftransfer.modeling import inference
from hftransfer.modeling.batches import collator
from hftransfer.modeling.prepared import Entries, prepare
from hftransfer.tasks.base import Preparation, Task

OPTION = "negatives"  # of methods that train by gradient descent
DEPTH = 100  # entries that are looked at for each row
MARGIN = 0.95  # what comes nearer to a question than this share of its right entry may be right and not known to be


def mined(
    config: RunConfig, task: Task, found: Data, model: Any, processor: Any, preparation: Preparation
) -> tuple[Data, list[str]]:
    """Return the data with `method.negatives` wrong entries for each row of train, and what is to be said.

    They are those nearest to the row by the untuned model, but for its right ones and for those that come nearer than
    95 % of the score of a right one, which often are right as well (de Souza P. Moreira et al. 2024). Every process
    must call. UserError where answers are not chosen from a catalogue.
    """
    wanted = int(config.method.options.get(OPTION) or 0)
    if not wanted:
        return found, []
    answer = found.answer
    if answer.catalogue is None:
        raise UserError(
            f"method.{OPTION} needs a catalogue to look for wrong entries in", f"{task.name} has none", "Drop it."
        )
    catalogue, rows = answer.catalogue, found.splits["train"]
    truth = rows.with_format("arrow")[:][task.truth.name].to_pylist()
    collate = collator(task, processor, preparation, training=False)
    vectors = inference_of(task, answer, model, processor, preparation, collate)
    shown = rows.select_columns([role.name for role in task.shown if role.name in rows.column_names])
    asked = prepare(task, shown, processor, preparation, training=False)
    given = inference.ask(answer.knowing(vectors), model, asked, collate, processor)
    queries = np.stack([np.frombuffer(one.vector, np.float32) for one in given])
    right = [[catalogue.places[one["id"]] for one in row if one["grade"] > 0] for row in truth]
    # what somebody had and the question itself are no answers either: they would be the nearest of all
    itself = [[catalogue.places[one["id"]] for one in row if one["grade"] == ITSELF] for row in truth]
    had = asked.dataset["_hidden"]
    hidden = [[*own, *gone, *same] for own, gone, same in zip(right, had, itself, strict=True)]
    depth = max(DEPTH, 5 * wanted)
    places, scores = _nearest.nearest(queries, vectors, depth, hidden)
    made, short = [], 0
    for row, at, near, query, own in zip(truth, places, scores, queries, right, strict=True):
        best = float((vectors[own] @ query).max())
        limit = best - (1 - MARGIN) * abs(best)
        texts = set(catalogue.texts(own))
        candidates = [int(place) for place, score in zip(at, near, strict=True) if -np.inf < score <= limit]
        judged = {one["id"] for one in row if one["grade"] > ITSELF}  # what the data say to be wrong comes first
        texts_of = zip(candidates, catalogue.texts(candidates), strict=True)
        kept = [place for place, text in texts_of if text not in texts and catalogue.ids[place] not in judged]
        kept = kept[: max(wanted - (len(judged) - len(own)), 0)]
        short += len(judged) - len(own) + len(kept) < wanted
        made.append([*row, *({"id": catalogue.ids[place], "grade": -1.0, "cold": False} for place in kept)])
    table = rows.with_format("arrow")[:]
    column = table.column_names.index(task.truth.name)
    table = table.set_column(column, task.truth.name, pa.array(made, table[task.truth.name].type))
    train = Dataset(
        table.cast(rows.features.arrow_schema), DatasetInfo(features=rows.features),
        fingerprint=generate_random_fingerprint(),
    )  # fmt: skip
    said = [f"{wanted} wrong entries for each row of train are those that the untuned model puts first"]
    if short:
        said.append(f"{short:,} of {len(made):,} rows have fewer: what is nearer than their right entry is left out")
    whole = dataclasses.replace(found, splits={**found.splits, "train": train}, answer=answer.with_negatives(wanted))
    return whole, said


def inference_of(
    task: Task, answer: Any, model: Any, processor: Any, preparation: Preparation, collate: Any
) -> np.ndarray:
    """Return a model's vectors of the whole catalogue."""
    with inference.answering(model):
        return inference.known_of(answer, model, Entries(task, processor, preparation), collate)
