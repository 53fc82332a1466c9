"""A model that writes, trained by two processes: the loss of one with twice the rows, and every row answered once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import tiny_written
from tests.chaos.zygote import Zygote
from tests.launch.conftest import answered, two_and_one, write

pytestmark = pytest.mark.slow


def test_two_processes_compute_what_one_does(materials: Path, tmp_path: Path, zygote: Zygote) -> None:
    model = tiny_written.written_model(tmp_path / "bart", "bart")
    settings = json.loads((model / "config.json").read_text()) | {"dropout": 0.0}
    (model / "config.json").write_text(json.dumps(settings))
    rows = tiny_written.pairs_jsonl(tmp_path / "pairs.jsonl", 103)
    path = write(
        materials, tmp_path, {"max_steps": 12, "logging_steps": 1}, task="translation", model=str(model),
        data={"source": str(rows), "likely_copies": False},
        evaluation={"resamples": 100, "max_new_tokens": 8},
    )  # fmt: skip
    two, one = two_and_one(zygote, path, tmp_path)
    left, right = answered(two), answered(one)
    assert [*left["label"]] == [*right["label"]]
    # the same tokens of each target were counted; weights of both differ by rounding alone
    assert [*left["tokens"]] == [*right["tokens"]]
    assert left["nll"].to_numpy() == pytest.approx(right["nll"].to_numpy(), rel=1e-2)
