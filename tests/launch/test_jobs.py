"""A model trained here, in a job of the stand-in, and here again: the weights of a run that was never moved."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants
from safetensors.numpy import load_file

from hftransfer import catalog, train
from hftransfer.launchers import jobs, launcher
from hftransfer.launchers.base import Launcher
from hftransfer.launchers.jobs import JobsLauncher
from hftransfer.runs import Run
from tests.jobs_server import TOKEN, FolderBucket, JobsServer

pytestmark = pytest.mark.slow


def stopped_behind(place: Launcher, run: Run, step: int, stop: Callable[[], object]) -> None:
    """Follow a run to its end, and stop it once it has made a step."""
    stopper = None
    for event in place.follow(run, run.events()[1]):
        if event["type"] == "step" and event["step"] >= step and stopper is None:
            stopper = threading.Thread(target=stop)
            stopper.start()


@pytest.mark.long
def test_a_run_moves_to_a_job_and_back(
    configuration: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun and stopped here, gone on with and stopped in a job, and finished here from what the job left."""
    folder = tmp_path / "bucket"
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(jobs, "MOUNT", str(folder))
    monkeypatch.setattr(JobsLauncher, "_bucket", lambda self, name, token: FolderBucket(folder, name, token))
    path = configuration({"max_steps": 1500})
    run = Run.create(catalog.read_config(path))
    here = launcher("local")
    here.start(run)
    stopped_behind(here, run, 10, lambda: here.stop(run))
    begun = run.status().step
    assert run.status().state == "stopped" and 10 <= begun < 1500
    place = launcher("jobs", {"minutes": 10, "setup": "export HF_HUB_OFFLINE=1"})
    with JobsServer() as server:
        monkeypatch.setattr(JobsLauncher, "_api", lambda self, _=None: HfApi(endpoint=server.endpoint, token=TOKEN))
        place.start(run, resume=True)
        (job,) = server.jobs.values()
        stopped_behind(place, run, begun + 10, job.cancel)
    status = run.status()
    assert status.state == "stopped" and begun + 10 <= status.step < 1500, (status, place.log_tail(run))
    assert run.checkpoint() is not None and str(folder) not in run.config_path.read_text()

    began = time.time()
    assert train.main(["--config", str(run.config_path), "--resume"]) == 0
    assert train.main(["--config", str(path), f"output={tmp_path / 'whole'}"]) == 0
    assert run.status().state == "done" and [e for e in run.events()[0] if e["time"] > began]
    left, right = (load_file(one / "artifact" / "model.safetensors") for one in (run.folder, tmp_path / "whole"))
    assert left.keys() == right.keys() and all((left[name] == right[name]).all() for name in left)
