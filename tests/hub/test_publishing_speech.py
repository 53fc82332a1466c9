"""Models that hear, proven from outside: transformers' pipeline gets samples, and answers as the trained model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hftransfer import catalog
from hftransfer.fitting.interruption import Interruption
from hftransfer.runs import Run
from tests import tiny_heard
from tests.engine.conftest import QUICK
from tests.hub.conftest import python
from tests.hub.finished import call
from tests.hub.test_publishing import publish
from tests.hub_server import HubServer

ASKING = """
import soundfile
from transformers import pipeline

samples, rate = soundfile.read({path!r}, dtype="float32")
print(pipeline({task!r}, {repo!r})({{"raw": samples, "sampling_rate": rate}})["text"])
"""


def finished(folder: Path, tree: dict[str, Any]) -> Run:
    """Return a run that has ended, as its process leaves it."""
    from hftransfer import training

    built = catalog.build_config({**QUICK, **tree})
    run = Run.create(built, folder / "runs" / "heard")
    with Interruption() as interruption:
        result = training.run(built, run, interruption)
    run.event("result", metrics=result["test"]["metrics"], n=result["test"]["n"])
    run.event("done", seconds=1.0)
    return run


def test_a_recogniser_is_proven_and_asked_by_strangers(tmp_path: Path, hub: HubServer) -> None:
    rows = tiny_heard.spoken_folder(tmp_path / "rows", 48)
    run = finished(tmp_path, {
        "task": "automatic-speech-recognition", "model": str(tiny_heard.whisper(tmp_path / "whisper", True)),
        "data": {"source": str(rows), "source_language": "fr"},
        "train": {**QUICK["train"], "learning_rate": 5e-3, "num_train_epochs": 8},
    })  # fmt: skip
    assert publish(hub, run, "alice/recogniser", verify=True)["verified"]
    files = hub.files("alice/recogniser")
    assert {"model.safetensors", "generation_config.json", "tokenizer.json", "hftransfer.json"} <= set(files)
    assert json.loads(files["generation_config.json"])["language"] == "fr"
    card = files["README.md"].decode()
    assert "pipeline_tag: automatic-speech-recognition" in card and "TextNormalizer" in card
    assert re.search(r'pipeline\("automatic-speech-recognition", model="alice/recogniser"', card)
    path = str(rows / "000.flac")
    lines = ASKING.format(path=path, task="automatic-speech-recognition", repo="alice/recogniser")
    told = python(lines, hub, "bob", tmp_path / "stranger", HF_HUB_DISABLE_TELEMETRY="1").stdout.strip()
    ours = call(hub, "bob", tmp_path / "home", "predict", "alice/recogniser", path, "--json")
    assert ours.returncode == 0, ours.stderr
    assert json.loads(ours.stdout)["text"] == told


@pytest.mark.parametrize("architecture", ["wav2vec2-group"])
def test_a_classifier_is_proven(architecture: str, tmp_path: Path, hub: HubServer) -> None:
    rows = tiny_heard.class_folder(tmp_path / "rows", 36)
    model = tiny_heard.heard_model(tmp_path / "model", architecture)
    run = finished(tmp_path, {"task": "audio-classification", "model": str(model), "data": {"source": str(rows)}})
    assert publish(hub, run, "alice/classifier", verify=True)["verified"]
    card = hub.files("alice/classifier")["README.md"].decode()
    assert "pipeline_tag: audio-classification" in card and "scipy.signal.resample_poly()" in card
