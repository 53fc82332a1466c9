"""How many processes a launcher was asked for, read from its command line."""

from __future__ import annotations

import json
import os

import pytest

from hftransfer import catalog, train
from hftransfer.runs import Run


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--num_processes", "2"], 2),
        (["--num-processes=3"], 3),
        (["--config_file", "FILE"], 8),
        (["--config_file", "FILE", "--num_processes", "2"], 2),  # the flag overrules the file, wherever it stands
        (["--num_processes", "2", "--config_file", "FILE"], 2),
        ([], None),
    ],
)
def test_processes_asked_of_accelerate(monkeypatch, tmp_path, flags, expected):
    file = tmp_path / "accelerate.yaml"
    file.write_text("num_machines: 2\nnum_processes: 8\n")
    words = [
        "python",
        "-m",
        "accelerate.commands.launch",
        *(str(file) if w == "FILE" else w for w in flags),
        "train.py",
    ]

    class Parent:
        def __init__(self, pid: int) -> None: ...

        def cmdline(self) -> list[str]:
            return words

    monkeypatch.delenv("HFTRANSFER_PROCESSES", raising=False)
    monkeypatch.setattr(train.psutil, "Process", Parent)
    assert train.asked_processes() == expected


@pytest.mark.parametrize(
    ("shown", "processes", "left"),
    [(None, "1", "0"), ("2,3", "1", "2"), ("", "1", ""), (None, "2", None), ("2,3", "2", "2,3")],
)
def test_a_process_that_is_alone_sees_one_gpu(monkeypatch, shown, processes, left):
    environment = {"WORLD_SIZE": processes} | ({} if shown is None else {"CUDA_VISIBLE_DEVICES": shown})
    monkeypatch.setattr(os, "environ", environment)
    train.keep_to_one_gpu()
    assert environment.get("CUDA_VISIBLE_DEVICES") == left


def test_a_push_of_a_model_of_no_use_is_warned_of_first(monkeypatch, tmp_path):
    config = catalog.build_config({
        "task": "text-classification", "model": str(tmp_path), "data": {"source": str(tmp_path)},
        "hub": {"push": True, "repo": "alice/tuned"},
    })  # fmt: skip
    run = Run.create(config, tmp_path / "run")
    sentences = ["It is not better than the trivial answer.", "There are few rows."]
    run.result_path.write_text(json.dumps({"verdict": {"useless": True, "sentences": sentences}}))
    monkeypatch.setattr(train.publishing, "publish", lambda run, repo: run.event("publishing", repo=repo, stage="x"))
    assert train.publish(run, config) == 0
    events = [event for event in run.events()[0] if event["type"] in ("warning", "publishing")]
    assert [event.get("message") for event in events] == [*sentences, None]
