"""A model that goes on from texts, trained by two processes: the update of one, padded and packed, every row once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny_causal
from tests.chaos.zygote import Zygote
from tests.launch.conftest import answered, two_and_one, write

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("packing", [pytest.param(False, marks=pytest.mark.long), True], ids=["padded", "packed"])
def test_two_processes_compute_what_one_does(packing: bool, materials: Path, tmp_path: Path, zygote: Zygote) -> None:
    model = tiny_causal.causal_model(tmp_path / "llama")
    rows = tiny_causal.written(tmp_path / "rows.jsonl", tiny_causal.rows("messages", 103))
    size = 2 if packing else 8
    path = write(
        materials, tmp_path, {"max_steps": 6, "logging_steps": 1, "per_device_train_batch_size": size},
        task="text-generation", model=str(model),
        data={"source": str(rows), "likely_copies": False, "packing": packing},
        evaluation={"resamples": 100, "max_new_tokens": 4},
    )  # fmt: skip
    two, one = two_and_one(zygote, path, tmp_path, size=2 * size)
    left, right = answered(two), answered(one)
    assert [*left["tokens"]] == [*right["tokens"]]
    assert left["nll"].to_numpy() == pytest.approx(right["nll"].to_numpy(), rel=1e-2)
    assert two.result()["forgotten"]["before"] == pytest.approx(one.result()["forgotten"]["before"], rel=1e-4)
