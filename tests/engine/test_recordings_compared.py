"""Models that hear: which to start from, two of them on the same rows, and one made of two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hftransfer import catalog, questions
from hftransfer.comparison import fusion, judging
from hftransfer.errors import UserError
from hftransfer.fitting.interruption import Interruption
from hftransfer.methods import fuse
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from tests import tiny_heard
from tests.engine.conftest import QUICK
from tests.engine.trained import trained


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("heard")
    tiny_heard.class_folder(found / "sounds", 48)
    tiny_heard.spoken_folder(found / "spoken", 40)
    tiny_heard.spoken_folder(found / "others", 24, seed=7)
    for name in ("wav2vec2", "ast"):
        tiny_heard.heard_model(found / name, name)
    tiny_heard.whisper(found / "whisper")
    return found


def tree(folder: Path, task: str, model: str) -> dict[str, Any]:
    rows = "sounds" if task == "audio-classification" else "spoken"
    section = {"source": str(folder / rows), "label_issues": False, "likely_copies": False, "test_size": 12}
    return {
        **QUICK, "task": task, "model": str(folder / model), "data": section,
        "train": {**QUICK["train"], "num_train_epochs": 1, "learning_rate": 3e-3},
        "evaluation": {"resamples": 100} | ({"max_new_tokens": 4} if model == "whisper" else {}),
    }  # fmt: skip


def two(folder: Path, place: Path, task: str, model: str) -> list[Run]:
    made = tree(folder, task, model)
    return [trained(place, name, made, learning_rate=rate) for name, rate in (("one", 3e-3), ("two", 1e-3))]


@pytest.mark.parametrize("task, model", [
    ("audio-classification", "wav2vec2"), ("automatic-speech-recognition", "wav2vec2"),
    pytest.param("automatic-speech-recognition", "whisper", marks=pytest.mark.long),
])  # fmt: skip
def test_two_runs_are_compared_and_become_one(task, model, folder, tmp_path):
    runs = two(folder, tmp_path, task, model)
    names = [str(run.folder) for run in runs]
    found = judging.of_finished(names, None, tmp_path / "compared", False)
    assert found["n"] == 12 and len(found["models"]) == 2 and found["pairs"]

    speech = task != "audio-classification"
    words = [f"method.second={folder / 'others'}"] if speech else []
    config = fusion.configure(names, None, None, words)
    run = trained(tmp_path, "fused", config.to_dict() | {"output": None})
    note = json.loads((run.folder / fuse.FILE).read_text())
    assert note["how"] == "greedy" and {"one", "two"} >= set(note["chosen"]["runs"])
    assert not speech or all(one["second"] > 0 for one in note["tried"])
    stored = pd.read_parquet(run.predictions / "test.parquet")
    paths = [str(folder / ("spoken" if speech else "sounds") / "000.flac")] if speech else [
        str(folder / "sounds" / "low" / "000.wav")]  # fmt: skip
    (answer,) = Predictor(run.artifact)(paths)
    assert len(stored) == 12 and ("text" if speech else "label") in answer

    if speech:
        with pytest.raises(UserError, match="that can be averaged are needed for an ensemble"):
            fusion.ensemble(fusion.configure(names, "ensemble", None))
    else:
        between = fusion.configure(names[:1], None, "base", ["method.steps=2"])
        assert trained(tmp_path, "between", between.to_dict() | {"output": None}).result()["test"]["n"] == 12


def test_models_are_ranked_for_classes_and_not_for_transcripts(folder):
    models = [str(folder / "ast"), str(folder / "wav2vec2"), str(folder / "whisper")]
    with Interruption() as interruption:
        config = catalog.build_config(tree(folder, "audio-classification", "ast"))
        found = questions.rank(config, models, "probe", interruption)
        assert {one["model"] for one in found["models"]} == {*models} and not found["failed"]
        assert all(0 <= one["probe"]["value"] <= 1 and one["rows"] > 20 for one in found["models"])
        config = catalog.build_config(tree(folder, "automatic-speech-recognition", "whisper"))
        with pytest.raises(UserError, match="linear head"):
            questions.rank(config, models[2:], "knn", interruption)
