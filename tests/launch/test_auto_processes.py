"""auto with two processes: they plan alike, try the same rates, stop together, and go on to the same end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from hftransfer.runs import Run
from tests import tiny
from tests.launch.conftest import SECONDS, call, of, start, wait_for

pytestmark = pytest.mark.slow


def test_two_processes_choose_alike_and_go_on_after_a_stop(materials: Path, tmp_path: Path) -> None:
    source = tiny.text_csv(tmp_path / "rows.csv", 240)
    looks = {"label_issues": False, "likely_copies": False}
    tree = {
        "task": "text-classification", "model": str(materials / "model"),
        "data": {"source": str(source), "validation_size": 0.5, "test_size": 30, **looks},
        "train": {"max_steps": 60, "per_device_train_batch_size": 8, "use_cpu": True, "bf16": False},
        "evaluation": {"resamples": 100}, "speed": {"tune": False, "threads": 1},
    }  # fmt: skip
    path = tmp_path / "wanted.yaml"
    path.write_text(yaml.safe_dump(tree))
    done = call("train", path, f"output={tmp_path / 'whole'}", "--processes", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    whole, cut = Run(tmp_path / "whole"), Run(tmp_path / "cut")
    found = whole.result()["auto"]
    assert of(whole, "process")[0]["world_size"] == 2
    assert len(found["trials"]) in (4, 5) and found["plan"]["settings"][2]["value"] == 16, "8 rows in each process"
    assert found["final"]["other"] >= found["final"]["loss"]
    child = start("train", path, f"output={tmp_path / 'cut'}", "--processes", "2", cwd=tmp_path)
    wait_for(child, cut, lambda event: event["type"] == "tried")
    assert call("stop", cut.folder).returncode == 0
    child.communicate(timeout=SECONDS)
    again = call("resume", cut.folder, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    names = [[one["loss"] for one in run.result()["auto"]["trials"]] for run in (whole, cut)]
    assert names[0] == pytest.approx(names[1], abs=1e-6)
    ours, theirs = (load_file(run.artifact / "model.safetensors") for run in (whole, cut))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)
