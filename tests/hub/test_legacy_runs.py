"""A run that the code of before finished is published, proven, asked and reproduced as any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from hftransfer.runs import Run
from tests import legacy
from tests.hub.finished import call, events
from tests.hub_server import HubServer


def test_an_old_run_is_published_and_reproduced(hub: HubServer, tmp_path: Path) -> None:
    here = legacy.copy(tmp_path)
    run = Run(here / "runs/single")
    done = call(hub, "alice", here / "home", "publish", "single", "alice/old", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    said = events(done.stdout)[-1]
    assert said["type"] == "published" and said["verified"]
    files = hub.files("alice/old")
    assert files["model.safetensors"] == (run.artifact / "model.safetensors").read_bytes()
    notes = json.loads(files["hftransfer.json"])
    assert notes["schema"] == 2 and notes["labels"]["names"] == ["negative", "positive"]
    card = files["README.md"].decode()
    assert yaml.safe_load(card.split("---")[1])["model-index"][0]["name"] == "alice/old"
    assert "The baseline (majority class) answers the same whatever the input." in card
    assert str(tmp_path) not in "".join(content.decode(errors="replace") for content in files.values())

    asked = call(hub, None, tmp_path / "other" / "home", "predict", "alice/old", "the film was good", "--json")
    assert asked.returncode == 0, asked.stderr
    assert set(json.loads(asked.stdout)["scores"]) == {"negative", "positive"}

    words = [f"model={here / 'base'}", f"data.source={here / 'rows.csv'}", "--json"]
    again = call(hub, "alice", tmp_path / "elsewhere" / "home", "reproduce", "alice/old", *words)
    assert again.returncode == 0, again.stdout[-2000:] + again.stderr
    compared = events(again.stdout)[-1]
    assert compared["type"] == "compared" and compared["same_data"] and compared["agrees"]
    told = run.result()["test"]["metrics"]
    assert {line["name"]: line["here"] for line in compared["lines"]} == pytest.approx(
        {name: score["value"] for name, score in told.items()}, abs=1e-4
    )
