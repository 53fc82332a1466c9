"""Trackers for real: what they were told of a run; one that fails, and one that is not there."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from hftransfer.errors import UserError
from tests.engine.trained import trained, tree

QUICK = {"max_steps": 4, "logging_steps": 1}


def test_tensorboard_is_told_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    run = trained(tmp_path, "run", tree(tmp_path), **QUICK, report_to="tensorboard")
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/loss")] == [1, 2, 3, 4]
    assert run.result()["test"]["n"]


def test_trackio_is_told_of_a_run_and_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trackio = pytest.importorskip("trackio")
    from trackio import sqlite_storage, utils

    for module in (utils, sqlite_storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "tracked", raising=False)
    frozen: list[Any] = []
    monkeypatch.setattr(trackio, "freeze", lambda *a, **k: frozen.append(a))
    run = trained(tmp_path, "run", tree(tmp_path), **QUICK, report_to=["trackio"], project="mine")
    assert run.result()["test"]["n"] and not frozen
    assert not [e for e in run.events()[0] if e["type"] == "warning" and "trackio" in e["message"]]
    (database,) = (tmp_path / "tracked").rglob("mine*.db")
    with sqlite3.connect(database) as connection:
        found = connection.execute("select run_name, count(*) from metrics group by run_name").fetchall()
    assert [name for name, _ in found] == ["run"] and found[0][1] >= 4


class Failing(TrainerCallback):
    def on_log(self, *args: Any, **kwargs: Any) -> None:
        raise ConnectionError("the tracker's server is away")


def test_a_tracker_that_fails_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "wandb", Failing)
    run = trained(tmp_path, "run", tree(tmp_path), **QUICK, report_to="wandb")
    said = [event["message"] for event in run.events()[0] if event["type"] == "warning"]
    assert said.count("wandb failed, and is told nothing any more: the tracker's server is away") == 1
    assert run.result()["test"]["n"]


def test_one_that_is_not_there_is_said_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mlfow is not supported"):
        trained(tmp_path, "one", tree(tmp_path), **QUICK, report_to="mlfow")
