"""What the page reads of a run: each byte once, the same from anywhere, and cheap."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from hftransfer.runs import Run
from hftransfer.safety.identity import note_process
from hftransfer.ui import charts, monitor
from hftransfer.ui.monitor import Monitor


def made(folder: Path, events: list[dict[str, Any]]) -> Run:
    """Return a run whose events are these."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("task: text-classification\nmodel: m\ndata: {source: x}\n")
    (folder / "events.jsonl").write_text("".join(json.dumps({"time": 1.0, **event}) + "\n" for event in events))
    return Run(folder)


def logs(first: int, last: int, total: int = 1000) -> list[dict[str, Any]]:
    return [
        {"type": "log", "step": k, "max_steps": total, "loss": 1 / (1 + k), "learning_rate": 1e-3}
        for k in range(first, last)
    ]


STARTED = [
    {"type": "created", "task": "t"},
    {"type": "launched", "command": []},
    {"type": "phase", "name": "training"},
]


def test_reading_on_gives_what_reading_anew_gives(tmp_path: Path) -> None:
    run = made(tmp_path / "one", [*STARTED, *logs(0, 10)])
    reader = Monitor()
    before = reader.view(run.folder)
    run.event("evaluation", step=9, max_steps=1000, metrics={"loss": 0.5, "accuracy": 0.8})
    run.event("log", step=10, max_steps=1000, loss=0.05, learning_rate=1e-4)
    after, anew = reader.view(run.folder), Monitor().view(run.folder)
    assert after == anew and after.offset == os.path.getsize(run.events_path)
    assert len(before.losses) == 10 and len(after.losses) == 11  # what was handed out does not change
    assert monitor.curves(after) == {"loss": [(9, 0.5)], "accuracy": [(9, 0.8)]}
    assert monitor.main_curve(monitor.curves(after)) == "accuracy"


def test_a_resume_goes_on_from_its_checkpoint_in_one_curve(tmp_path: Path) -> None:
    run = made(tmp_path / "one", [*STARTED, *logs(0, 30), *STARTED[1:], *logs(20, 25)])
    view = Monitor().view(run.folder)
    assert [step for step, _ in view.losses] == list(range(25))


def test_half_a_line_waits_and_a_folder_made_anew_is_read_anew(tmp_path: Path) -> None:
    run = made(tmp_path / "one", [*STARTED, *logs(0, 50)])
    reader = Monitor()
    with run.events_path.open("a") as file:
        file.write('{"type": "log", "step": 50, ')
    assert len(reader.view(run.folder).losses) == 50
    with run.events_path.open("a") as file:
        file.write('"loss": 0.1, "max_steps": 60}\n')
    assert reader.view(run.folder).losses[-1] == (50, 0.1)
    run.events_path.write_text(json.dumps({"type": "created", "time": 2.0}) + "\n")
    assert reader.view(run.folder).losses == []


@pytest.mark.parametrize(
    ("last", "state"),
    [
        ({"type": "done", "seconds": 1}, "done"), ({"type": "failed", "message": "no"}, "failed"),
        ({"type": "stopped", "message": "asked", "step": 1}, "stopped"), ({"type": "phase", "name": "data"}, "killed"),
    ],
)  # fmt: skip
def test_the_state_is_the_runs_own(tmp_path: Path, last: dict[str, Any], state: str) -> None:
    run = made(tmp_path / "one", [*STARTED, *logs(0, 3), last])
    view = Monitor().view(run.folder)
    assert view.status() == run.status() and view.status().state == state
    assert Monitor().outcome(view).state == state


def test_a_living_process_means_running(tmp_path: Path) -> None:
    run = made(tmp_path / "one", [*STARTED, {"type": "process", **note_process()}])
    view = Monitor().view(run.folder)
    assert view.status().state == "running"
    run.launch_path.write_text(json.dumps(note_process()))
    assert (Monitor().memory_mb(view) or 0) > 10


def test_a_look_at_ten_runs_of_ten_thousand_events_takes_under_50_ms(tmp_path: Path) -> None:
    runs = [made(tmp_path / f"run-{k}", [*STARTED, *logs(0, 10_000, 10_000)]) for k in range(10)]
    reader = Monitor()
    for run in runs:
        reader.view(run.folder)
    took = []
    for _ in range(5):
        for run in runs:
            run.event("log", step=10_001, max_steps=10_001, loss=0.1, learning_rate=0.0)
        began = time.perf_counter()
        views = [reader.view(run.folder) for run in runs]
        states = [view.status().state for view in views]
        took.append(time.perf_counter() - began)
        assert set(states) == {"killed"} and all(view.losses[-1][0] == 10_001 for view in views)
    assert min(took) < 0.05


def test_pages_look_less_often_the_more_are_open() -> None:
    reader = Monitor()
    assert reader.pause("alice", 1.0, now=0.0) == 1.0
    assert [reader.pause(f"visitor-{k}", 1.0, now=1.0) for k in range(20)][-1] == 5.0
    assert max(reader.pause(f"visitor-{k}", 1.0, now=2.0) for k in range(500)) == monitor.LONGEST
    assert reader.pause("bob", 5.0, now=3.0) == monitor.PATIENT * monitor.LONGEST < monitor.PRESENT
    assert reader.pause("alice", 1.0, now=200.0) == 1.0  # the others have left
    assert [reader.pause(f"visitor-{k}", 5.0, now=201.0) for k in range(7)][-1] == 10.0


def test_a_long_line_is_drawn_with_few_points_and_keeps_its_ends_and_peaks() -> None:
    points = [(float(k), 0.0) for k in range(10_000)]
    points[4321] = (4321.0, 9.0)
    few = charts.thinned(points)
    assert len(few) <= charts.MOST + 2 and few[0] == points[0] and few[-1] == points[-1]
    assert points[4321] in few and [x for x, _ in few] == sorted({x for x, _ in few})


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [1e-9, 1e-8], [-3.0, 1e6], [float("nan"), 1.0], [0.0, 0.0]])
def test_any_values_can_be_drawn(values: list[float]) -> None:
    drawn = charts.chart([charts.Line("loss", list(enumerate(values)))], "Loss")
    assert 'role="img"' in drawn and "nan" not in drawn.partition("<svg")[2].partition("</svg>")[0]


def test_nothing_is_drawn_of_nothing() -> None:
    assert charts.chart([charts.Line("loss", [])], "Loss") == ""
    assert charts.chart([charts.Line("loss", [(1, float("nan"))])], "Loss") == ""
    assert charts.confusion({}) == charts.reliability({}) == charts.residuals({}) == ""


@pytest.mark.parametrize(
    "break_it",
    [
        lambda run: run.launch_path.write_text(""),
        lambda run: (run.events_path.unlink(), run.events_path.mkdir()),
        lambda run: run.events_path.write_text("[" * 100_000 + '\n{"type": "log", "step": 1}\n{"type": "log"}\n'),
        lambda run: run.result_path.mkdir(),
    ],
    ids=["an empty note", "a folder for the events", "deep and odd events", "a folder for the result"],
)
def test_a_broken_run_is_shown_and_costs_no_other(tmp_path: Path, break_it: Any) -> None:
    run, whole = made(tmp_path / "one", STARTED), made(tmp_path / "two", [*STARTED, {"type": "done"}])
    break_it(run)
    reader = Monitor()
    assert reader.view(run.folder).status().state in ("damaged", "created", "killed")
    assert reader.result(run.folder) == {} and reader.memory_mb(reader.view(run.folder)) is None
    assert reader.view(whole.folder).status().state == "done"
