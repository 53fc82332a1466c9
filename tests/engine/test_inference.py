"""Batches hold what a model takes and what is for the answer, padded as the tokenizer pads; memory halves them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from hftransfer import catalog
from hftransfer.answers._head import IGNORED
from hftransfer.config import DataConfig
from hftransfer.modeling import inference
from hftransfer.modeling.batches import collator
from hftransfer.tasks.base import Preparation
from tests import tiny


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()]
)
def test_a_batch_that_memory_cannot_hold_is_halved_and_stays_in_order(error: Exception) -> None:
    asked: list[int] = []

    def take(batch: dict[str, Any]) -> list[int]:
        asked.append(len(batch["numbers"]))
        if len(batch["numbers"]) > 3:
            raise error
        assert len(batch["_names"]) == len(batch["numbers"])
        return [int(number) for number in batch["numbers"]]

    batch = {"numbers": torch.arange(11), "_names": list("abcdefghijk")}
    assert inference.halving(take, batch, 11) == list(range(11))
    assert asked[:2] == [11, 5] and max(asked[2:]) <= 6
    with pytest.raises(type(error)):
        inference.halving(lambda one: take({**one, "numbers": torch.arange(9)}), batch, 1)


def test_rows_are_prepared_in_float32_whatever_the_model_computes_in() -> None:
    """Whisper's features are a product of matrices, made as its rows are read: in bfloat16 they end the run."""

    class Heard(Dataset[Any]):
        def __getitems__(self, places: list[int]) -> list[Any]:
            return [torch.ones(2, 2) @ torch.ones(2, 2) * place for place in places]

    def take(batch: dict[str, Any]) -> list[torch.Tensor]:
        assert (model.weight @ batch["x"]).dtype == torch.bfloat16
        return [*batch["x"]]

    model = torch.nn.Linear(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = inference.over(model, Heard(), lambda items: {"x": torch.stack(items)}, take, [np.arange(3)])
    assert {value.dtype for value in found.values()} == {torch.float32} and len(found) == 3


class Numbers(Dataset[Any]):
    """Rows of eight numbers each."""

    def __getitems__(self, places: list[int]) -> list[Any]:
        return [torch.full((8,), float(place)) for place in places]


@pytest.mark.parametrize("outer", [True, False])
def test_what_autocast_casts_of_the_weights_is_kept_from_batch_to_batch(outer: bool) -> None:
    """In inference mode autocast keeps none of it: a probe's pass cast every weight again for each batch."""
    model = torch.nn.Linear(8, 8)

    def take(batch: dict[str, Any]) -> list[torch.Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):  # as `in_bf16` has it; within another where there is one
            made = model(batch["x"])
        assert made.dtype == torch.bfloat16 and not made.requires_grad
        return [*made]

    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen,
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=outer),
    ):
        parts = [np.arange(4), np.arange(4, 8), np.arange(8, 12)]
        inference.over(model, Numbers(), lambda items: {"x": torch.stack(items)}, take, parts)
    casts = {event.key: event.count for event in seen.key_averages()}["aten::_to_copy"]
    assert casts == 3 + 2  # each batch's rows; weight and bias once


def test_every_way_into_a_model_computes_in_bfloat16() -> None:
    """What has two towers is asked by the names of their features, an encoder by `generate` itself."""

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = SimpleNamespace(model_type="two", is_encoder_decoder=True)
            self.inner, self.device = torch.nn.Linear(2, 2), torch.device("cpu")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

        def get_text_features(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

        def get_encoder(self) -> torch.nn.Module:
            return self.inner

    model, rows = Two(), torch.ones(3, 2)
    inference.in_bf16(model)
    given = [model(rows), model.get_text_features(rows), model.get_encoder()(rows)]
    assert {one.dtype for one in given} == {torch.float32}
    assert all((one != torch.nn.functional.linear(rows, model.inner.weight, model.inner.bias)).any() for one in given)


@pytest.mark.parametrize("side", ["right", "left"])
def test_tags_lie_along_the_tokens_on_the_side_that_the_tokenizer_pads(side: str) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.padding_side = side
    preparation = Preparation(DataConfig(source="-"), tiny.answer("tags", ("O", "X")), 0)
    items = [
        {"input_ids": [2, 5, 3], "attention_mask": [1, 1, 1], "labels": [IGNORED, 1, IGNORED], "_words": [-1, 0, -1]},
        {"input_ids": [2, 3], "attention_mask": [1, 1], "labels": [IGNORED, IGNORED], "_words": [-1, -1]},
    ]
    task = catalog.task("token-classification")
    batch = collator(task, tokenizer, preparation)(items)
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert batch["input_ids"][1].tolist() == ([2, 3, 0] if side == "right" else [0, 2, 3])
    assert batch["labels"].tolist() == [[IGNORED, 1, IGNORED], [IGNORED] * 3]
    asking = collator(task, tokenizer, preparation, training=False)(items)
    assert asking["_words"] == [[-1, 0, -1], [-1, -1]]  # lists are for the answer, and no model is given them
