"""A model that answers from a text, trained by two processes: the loss of one with twice the rows, each row once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import tiny_spans
from tests.chaos.zygote import Zygote
from tests.launch.conftest import answered, two_and_one, write

pytestmark = pytest.mark.slow


def test_two_processes_compute_what_one_does(materials: Path, tmp_path: Path, zygote: Zygote) -> None:
    model = tiny_spans.model(tmp_path / "bert")
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (model / "config.json").write_text(json.dumps(json.loads((model / "config.json").read_text()) | quiet))
    data = {"source": str(tiny_spans.jsonl(tmp_path / "rows.jsonl", 103)), "max_length": 18, "stride": 4}
    path = write(
        materials, tmp_path, {"max_steps": 12, "logging_steps": 1}, task="question-answering", model=str(model),
        data=data,
    )  # fmt: skip
    two, one = two_and_one(zygote, path, tmp_path)
    left, right = answered(two), answered(one)
    assert [list(row) for row in left["label"]] == [list(row) for row in right["label"]]
    assert left["none"].to_numpy() == pytest.approx(right["none"].to_numpy(), abs=1e-2)
    assert two.result()["answer"]["unanswerable"] == one.result()["answer"]["unanswerable"]
