"""The command line: what it prints, its exit codes, and that a followed run's end is its own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hftransfer import answers, cli, follow, views
from hftransfer.config import build
from hftransfer.events import PREFIX, Event
from hftransfer.launchers.base import Ending, Launcher
from hftransfer.launchers.local import LocalLauncher
from hftransfer.runs import Run, seal
from hftransfer.safety.identity import note_process

RESULT: dict[str, Any] = {
    "schema": 1,
    "task": "text-classification",
    "model": "m",
    "method": "lora",
    "seed": 42,
    "test": {
        "n": 2000,
        "confidence": 0.95,
        "metrics": {
            "accuracy": {"value": 0.863, "low": 0.848, "high": 0.878},
            "f1_macro": {"value": 0.8, "low": 0.7, "high": 0.9},
        },
        "notes": [],
    },
    "baseline": {"name": "majority class", "metrics": {"accuracy": {"value": 0.56, "low": 0.5, "high": 0.6}}},
    "cost": {
        "train_seconds": 42.0,
        "total_seconds": 200.0,
        "examples_per_second": 95.6,
        "peak_memory_mb": 812,
        "trainable_parameters": 300,
        "total_parameters": 30000,
    },
    "data": {"warnings": ["2 rows were empty"]},
}
TRAINED: list[dict[str, Any]] = [
    {"type": "phase", "name": "data"},
    {"type": "columns", "choices": [{"role": "label", "column": "mood", "reason": "3 distinct strings"}]},
    {"type": "step", "step": 1, "max_steps": 2, "epoch": 0.5, "seconds": 1.0},
    {"type": "log", "step": 1, "max_steps": 2, "loss": 0.7, "examples_per_second": 9.5, "eta_seconds": 200.0},
    {"type": "log", "step": 2, "max_steps": 2, "loss": 0.5, "examples_per_second": 9.5, "eta_seconds": 0.0},
    {"type": "evaluation", "step": 2, "metrics": {"accuracy": 0.9}},
]


class Scripted(Launcher):
    """Write the given events at start and end at once."""

    name, about = "local", "a script"

    def __init__(self, *events: dict[str, Any], log: str = "") -> None:
        self.script, self.log, self.stops = events, log, 0
        self.started: dict[str, Any] = {}

    def check(self, run: Run, processes: int = 1) -> None: ...

    def start(self, run: Run, resume: bool = False, processes: int = 1) -> None:
        self.started = {"resume": resume, "processes": processes}
        command = LocalLauncher().command(run, processes, resume)
        run.launch_path.write_text(json.dumps({"launcher": "local", "command": command}))
        run.event("launched", command=command, processes=processes)
        run.log_path.write_text(self.log)
        for event in self.script:
            run.event(**event)
            if event["type"] == "done":
                run.result_path.write_text(json.dumps(RESULT))

    def stop(self, run: Run, grace: float = 60) -> Ending:
        self.stops += 1
        return "stopped"

    def is_alive(self, run: Run) -> bool:
        return False

    def events(self, run: Run, cursor: int = 0) -> tuple[list[Event], int]:
        return run.events(cursor)

    def log_tail(self, run: Run, lines: int = 20) -> list[str]:
        return self.log.splitlines()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / "c.yaml").write_text("task: text-classification\nmodel: m\ndata: {source: x.csv}\noutput: runs/one\n")
    yield tmp_path


def _use(monkeypatch: pytest.MonkeyPatch, *events: dict[str, Any], log: str = "") -> Scripted:
    scripted = Scripted(*events, log=log)
    monkeypatch.setattr("hftransfer.launchers.local.LAUNCHER", scripted)
    return scripted


def _existing(name: str = "one", *events: dict[str, Any]) -> Run:
    config = build({"task": "text-classification", "model": "m", "data": {"source": "x"}})
    run = Run.create(config, Path("runs") / name)
    for event in events:
        run.event(**event)
    return run


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.split("commands:")[1].splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("    ") and not line.startswith("     ")]
    assert listed == [
        "train",
        "check",
        "rank",
        "curve",
        "predict",
        "publish",
        "export",
        "reproduce",
        "compare",
        "fuse",
        "runs",
        "resume",
        "stop",
        "where",
        "app",
        "tasks",
        "samples",
    ]


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("train", ["CONFIG", "a.b=c", "--on", "--processes", "--follow", "--no-follow", "--json"]),
        ("check", ["CONFIG", "a.b=c", "--json"]),
        ("predict", ["WHERE", "INPUT", "--top-k", "--json"]),
        ("resume", ["RUN", "--processes", "--no-follow"]),
        ("stop", ["RUN"]),
        ("samples", ["NAME"]),
    ],
)
def test_help_names_every_option(command: str, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    assert not [option for option in options if option not in text]


@pytest.mark.parametrize(
    "arguments", [[], ["tune"], ["train"], ["train", "c.yaml", "--lr=1"], ["runs", "extra"], ["predict", "x"]]
)
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: hftransfer" in capsys.readouterr().err


def test_a_done_run_shows_lines_and_its_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted = _use(monkeypatch, *TRAINED, {"type": "done", "seconds": 200.0})
    assert cli.main(["train", "c.yaml", "train.learning_rate=1e-3", "--processes", "2", "seed=7"]) == 0
    assert scripted.started == {"resume": False, "processes": 2}
    assert (Run(Path("runs/one").absolute()).config().seed, Run(Path("runs/one")).config().train.options) == (
        7,
        {"learning_rate": 0.001},
    )
    out = capsys.readouterr().out
    for words in (
        "$ accelerate launch --multi_gpu --num_processes 2 ",
        "--config runs/one/config.yaml",
        "reading data",
        "label <- `mood`: 3 distinct strings",
        "step 1/2 (50%)  loss 0.7000, 9.5 examples/s, 3 min 20 s left",
        "step 2, validation: accuracy 0.9000",
        "done in 3 min 20 s",
        "test, n = 2000  score  95% interval    majority class",
        "accuracy        0.863  0.848 to 0.878  0.560",
        "f1_macro        0.800  0.700 to 0.900\n",
        "trained 300 of 30,000 parameters (1.00%)",
        "warning: 2 rows were empty",
        "predict: hftransfer predict runs/one 'a sentence'",
    ):
        assert words in out
    assert "\r" not in out


def test_json_is_the_events_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _use(monkeypatch, *TRAINED, {"type": "done", "seconds": 1.0})
    assert cli.main(["train", "c.yaml", "--json"]) == 0
    written = Path("runs/one/events.jsonl").read_text()
    assert capsys.readouterr().out == written


def test_no_follow_returns_with_the_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _use(monkeypatch)
    assert cli.main(["train", "c.yaml", "--no-follow"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "run: one"
    assert cli.main(["train", "c.yaml", "output=runs/two", "--no-follow", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "two"


@pytest.mark.parametrize(
    ("events", "log", "code", "said", "unsaid"),
    [
        ([{"type": "failed", "message": "boom", "user_error": False}], "Trace\nxyz", 1, "  xyz\nhftransfer: boom", ""),
        ([{"type": "failed", "message": "a; b. c", "user_error": True}], "Trace", 2, "hftransfer: a; b. c", "Trace"),
        ([{"type": "stopped", "message": "asked to", "step": 1}], "", 130, "hftransfer resume one", ""),
        ([{"type": "phase", "name": "model"}], "<Signals.SIGKILL: 9>", 1, "memory ran out. Try a smaller", ""),
        ([], "SyntaxError", 1, "SyntaxError", ""),
    ],
)  # fmt: skip
def test_the_exit_code_is_the_runs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    events: list[dict[str, Any]],
    log: str,
    code: int,
    said: str,
    unsaid: str,
) -> None:
    _use(monkeypatch, *events, log=log)
    assert cli.main(["train", "c.yaml"]) == code
    err = capsys.readouterr().err
    assert said in err
    assert not unsaid or unsaid not in err


def test_ctrl_c_stops_the_run_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted = _use(monkeypatch, {"type": "phase", "name": "data"})

    def interrupt(*_: Any, **options: Any) -> None:
        checkpoint = Path("runs/one/checkpoints/checkpoint-7")
        checkpoint.mkdir()
        (checkpoint / "weights").write_text("w")
        seal(checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(follow, "show", interrupt)
    assert cli.main(["train", "c.yaml"]) == 130
    assert scripted.stops == 1
    err = capsys.readouterr().err
    assert "saving a checkpoint" in err and "go on from checkpoint-7 with: hftransfer resume one" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere.yaml"], "is not a file"),
        (["train", "c.yaml", "train.lerning_rate=1", "task=x"], "2 problems in the configuration:\n"),
        (["train", "c.yaml", "--on", "moon"], "a known launcher is needed"),
        (["train", "c.yaml", "--processes", "0"], "at least one process"),
        (["check", "c.yaml", "seed=-1"], "seed: wanted"),
        (["resume", "nothing"], "Start one with: hftransfer train"),
        (["stop", "nothing"], "the name or folder of a run is needed"),
        (["samples", "vader-tweats"], "Did you mean 'vader-tweets'"),
    ],
)
def test_what_the_user_can_mend_is_one_message_and_exit_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("hftransfer: ") and words in err and "Traceback" not in err


def test_a_wrong_config_makes_no_folder() -> None:
    assert cli.main(["train", "c.yaml", "task=x"]) == 2
    assert not Path("runs").exists()


def test_a_finished_folder_is_not_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    _existing("one", {"type": "done", "seconds": 1})
    assert cli.main(["train", "c.yaml"]) == 2
    assert "holds a run (done)" in capsys.readouterr().err


def test_resume_goes_on_and_shows_only_what_is_new(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted = _use(monkeypatch, {"type": "notice", "message": "said now"}, {"type": "done", "seconds": 1})
    _existing("one", {"type": "notice", "message": "said before"}, {"type": "stopped", "message": "x", "step": 1})
    assert cli.main(["resume", "one"]) == 0
    assert scripted.started["resume"]
    out = capsys.readouterr().out
    assert "said now" in out and "said before" not in out


def test_resume_refuses_done_and_running(capsys: pytest.CaptureFixture[str]) -> None:
    _existing("one", {"type": "done", "seconds": 1})
    _existing("two", {"type": "process", **note_process(), "world_size": 1})
    assert cli.main(["resume", "one"]) == 2
    assert "one is done" in capsys.readouterr().err
    assert cli.main(["resume", "two"]) == 2
    assert "two is running" in capsys.readouterr().err


def test_stop_of_what_does_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    _existing("one", {"type": "done", "seconds": 1})
    assert cli.main(["stop", "one"]) == 0
    assert capsys.readouterr().out == "one: nothing to stop (done)\n"


def test_runs_are_listed_newest_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs"]) == 0
    assert "no runs" in capsys.readouterr().out
    old = _existing("old", {"type": "done", "seconds": 1})
    old.result_path.write_text(json.dumps(RESULT))
    _existing("new", {"type": "phase", "name": "training"}, {"type": "step", "step": 3, "max_steps": 9})
    assert cli.main(["runs"]) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["RUN", "new", "old"]
    assert "training 3/9" in lines[1] and "accuracy 0.863 (0.848 to 0.878)" in lines[2]
    assert cli.main(["runs", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["run"], row["state"]) for row in rows] == [("new", "killed"), ("old", "done")]
    assert rows[1]["test"]["accuracy"]["value"] == 0.863


def test_tasks_tell_roles_and_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tasks"]) == 0
    out = capsys.readouterr().out
    assert "text_pair (optional): " in out and "methods: auto, few_shot, full, fuse, probe, zero_shot, " in out
    assert cli.main(["tasks", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"lora", "full"} <= set(rows[0]["methods"])
    assert {"name", "takes", "required"} == set(rows[0]["roles"][0])


def test_samples_are_listed_with_their_licences(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["samples"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("vader-tweets ")]
    assert "MIT" in line


def test_predict_of_a_run_without_an_artifact(capsys: pytest.CaptureFixture[str]) -> None:
    _existing("one", {"type": "stopped", "message": "x", "step": 1})
    assert cli.main(["predict", "one", "a sentence"]) == 2
    assert "one is stopped and has none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "answer", "top_k", "text"),
    [
        ("single_label", {"label": "good", "scores": {"good": 0.75, "bad": 0.25}}, 1, "good 0.750"),
        ("single_label", {"label": "good", "scores": {"good": 0.75, "bad": 0.25}}, 2, "good 0.750, bad 0.250"),
        ("multi_label", {"labels": ["a", "b"], "scores": {"b": 0.9, "a": 0.6, "c": 0.1}}, 1, "a 0.600, b 0.900"),
        ("multi_label", {"labels": [], "scores": {"a": 0.1}}, 1, "no label"),
        ("regression", {"score": 1.23456}, 1, "1.235"),
        ("tags", {"words": ["I", "see"], "tags": ["PRON", "VERB"], "scores": [1, 1]}, 1, "I/PRON see/VERB"),
    ],
)
def test_every_kind_of_answer_is_a_line(kind: str, answer: dict[str, Any], top_k: int, text: str) -> None:
    assert views.line(answers.of(kind).view(answer), top_k) == text


def test_items_are_a_line_each_where_one_question_is_asked() -> None:
    item = {"id": "7", "title": "Heat (1995)", "score": 0.5, "near": "Ronin (1998)"}
    found = answers.of("ranked_items").view(
        {"vector": [1.0], "items": [item, {**item, "title": "Ran", "near": "Ikiru"}]}
    )
    assert views.listing([found]) == [("Heat (1995)", "0.500", "near Ronin (1998)"), ("Ran", "0.500", "near Ikiru")]
    assert views.listing([found, found]) == [] == views.listing([views.Number(1.0)])


def test_predict_asks_the_runs_artifact(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = _existing("one", {"type": "done", "seconds": 1})
    run.artifact.mkdir()
    asked: list[Any] = []

    class Predictor:
        def __init__(self, where: str, revision: str | None, bf16: bool) -> None:
            asked.append((where, revision, bf16))

        def answers(self, inputs: list[str], top_k: int | None = None) -> Iterator[list[dict[str, Any]]]:
            asked.append(top_k)
            for one in inputs:
                yield [{"input": one, "label": "good", "score": 0.9, "scores": {"good": 0.9}}]

        def views(self, found: list[dict[str, Any]]) -> list[views.View]:
            return [answers.of("single_label").view(answer) for answer in found]

    module = type(sys)("hftransfer.predictor")
    module.Predictor = Predictor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hftransfer.predictor", module)
    assert cli.main(["predict", "one", "first", "--top-k", "3", "second"]) == 0
    assert asked == [(str(run.artifact), None, False), 3]
    assert capsys.readouterr().out == "first  good 0.900\nsecond  good 0.900\n"
    assert cli.main(["predict", "one", "first", "--json", "--bf16"]) == 0 and asked[2] == (
        str(run.artifact),
        None,
        True,
    )
    assert json.loads(capsys.readouterr().out)["scores"] == {"good": 0.9}


def test_check_passes_events_and_exit_code_through(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    event = {
        "type": "checked", "time": 1.0, "parameters": {"trainable": 10, "total": 1000}, "updates": 1200,
        "columns": TRAINED[1]["choices"], "first_step_seconds": 0.5, "peak_memory_mb": 900,
        "labels": {"kind": "single_label", "names": ["a", "b"], "counts": [3, 4]},
        "data": {"splits": {"train": 7, "test": 2}, "warnings": ["few rows"]},
    }  # fmt: skip
    script = here / "train.py"
    script.write_text(
        "import json, sys\nassert (sys.argv[1], *sys.argv[3:]) == ('--config', '--check')\n"
        f"assert json.load(open(sys.argv[2]))['seed'] == 3\n"
        f"print('noise')\nprint({PREFIX + json.dumps(event)!r})\nsys.exit(2)\n"
    )
    monkeypatch.setattr("hftransfer.launchers.local.SCRIPT", script)
    before = sorted(here.iterdir())
    assert cli.main(["check", "c.yaml", "seed=3"]) == 2
    out = capsys.readouterr().out
    assert "noise" not in out
    for words in ("label <- `mood`", "single_label (a 3, b 4)", "train 7, test 2", "1,200 updates", "few rows"):
        assert words in out
    assert sorted(here.iterdir()) == before


def test_a_bar_moves_on_a_terminal() -> None:
    events = [{"time": float(i), **event} for i, event in enumerate(TRAINED)]
    screen = io.StringIO()
    follow.show(events, "bar", screen)
    text = screen.getvalue()
    assert "\r" in text and "100%" in text and "loss 0.5000" in text and "validation: accuracy 0.9000" in text


def test_progress_lines_in_a_pipe_are_few() -> None:
    log = {"type": "log", "max_steps": 1000, "loss": 0.5, "examples_per_second": 1.0, "eta_seconds": 1.0}
    events = [{**log, "step": step, "time": step * 0.1} for step in range(1, 1001)]
    out = io.StringIO()
    follow.show(events, "plain", out)
    lines = out.getvalue().splitlines()
    assert 15 < len(lines) < 30
    assert "step 1/1000" in lines[0] and "step 1000/1000 (100%)" in lines[-1]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (200, "3 min 20 s"), (3600, "1 h 00 min")]
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert follow.duration(seconds) == text


def test_a_reader_that_leaves_gets_no_traceback(here: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "hftransfer.cli", "samples"], stdout=closed, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == ""
