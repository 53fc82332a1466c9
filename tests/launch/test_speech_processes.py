"""Models that hear, trained by two processes: the loss of one with twice the rows, and every row answered once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_heard
from tests.chaos.zygote import Zygote
from tests.launch.conftest import answered, two_and_one, write

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("architecture", ["whisper", pytest.param("wav2vec2", marks=pytest.mark.long)])
def test_two_processes_compute_what_one_does(
    architecture: str, materials: Path, tmp_path: Path, zygote: Zygote
) -> None:
    if architecture == "whisper":
        model = tiny_heard.whisper(tmp_path / "model")
    else:
        model = tiny_heard.heard_model(tmp_path / "model", architecture)
        settings = json.loads((model / "config.json").read_text())
        still = {name: 0.0 for name in settings if name.endswith("dropout")}  # masks differ between processes
        (model / "config.json").write_text(json.dumps(settings | still))
    rows = tiny_heard.spoken_folder(tmp_path / "rows", 51)
    path = write(
        materials, tmp_path, {"max_steps": 4, "logging_steps": 1}, task="automatic-speech-recognition",
        model=str(model), data={"source": str(rows)}, evaluation={"resamples": 100, "max_new_tokens": 8},
    )  # fmt: skip
    two, one = two_and_one(zygote, path, tmp_path, near=2e-3)
    left, right = answered(two), answered(one)
    assert [*left["label"]] == [*right["label"]]
    assert [*left["tokens"]] == [*right["tokens"]]
    assert left["nll"].to_numpy() == pytest.approx(right["nll"].to_numpy(), rel=5e-2)


@pytest.mark.parametrize("streaming", [False, pytest.param(True, marks=pytest.mark.long)])
def test_two_processes_classify_as_one_does(streaming: bool, materials: Path, tmp_path: Path, zygote: Zygote) -> None:
    rows = tiny_heard.class_folder(tmp_path / "rows", 51)
    data = {"source": str(rows), "streaming": streaming, "label_issues": False, "likely_copies": False}
    path = write(
        materials, tmp_path, {"max_steps": 4, "logging_steps": 1}, task="audio-classification",
        model=str(tiny_heard.heard_model(tmp_path / "model", "whisper")), data=data,
    )  # fmt: skip
    two, one = two_and_one(zygote, path, tmp_path, near=2e-3)
    left, right = answered(two), answered(one)
    assert [*left["label"]] == [*right["label"]] and len(left) > 8
    scores = [np.stack(one["scores"]) for one in (left, right)]
    assert np.abs(scores[0] - scores[1]).max() < 5e-3
