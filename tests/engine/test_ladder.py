"""The ladder: one run a method, what cannot be is skipped with its reason, and a stop costs what was not done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hftransfer import catalog, cli, follow
from hftransfer.card import report
from hftransfer.comparison import ladder, writing
from hftransfer.errors import ConfigError, UserError
from hftransfer.fitting.interruption import Interruption
from hftransfer.launchers.base import Outcome
from hftransfer.launchers.local import LocalLauncher
from hftransfer.runs import Run
from tests.engine.trained import tree


def here(run: Run, resume: bool = False) -> Outcome:
    """Work on a run in this process, as a trainer's process would."""
    from hftransfer import training

    run.event("process", pid=0)
    try:
        with Interruption() as interruption:
            training.run(run.config(), run, interruption)
    except UserError as error:
        run.event("failed", message=str(error), user_error=True)
        return Outcome("failed", str(error), True, ())
    run.event("done", seconds=1.0)
    return Outcome("done", "", False, ())


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Write the configuration of a tiny classifier; return its path."""
    made = tree(tmp_path, freeze=["*.embeddings*"])
    made["method"]["layer_decay"] = 0.9
    made["train"]["num_train_epochs"] = 1
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(made))
    return str(tmp_path / "c.yaml")


def climb(words: list[str], methods: list[str], work: Callable[[Run, bool], Outcome] = here) -> Any:
    """Climb a ladder; return it, what it told, and which runs were worked on."""
    told: list[tuple[str, str]] = []
    worked: list[tuple[str, bool]] = []

    def counted(run: Run, resume: bool) -> Outcome:
        worked.append((run.name, resume))
        return work(run, resume)

    planned = ladder.prepare(ladder.read_words(words), methods)
    ladder.climb(planned, counted, lambda name, reason: told.append((name, reason)))
    return planned, told, worked


def test_from_the_frozen_model_to_the_fused(config: str) -> None:
    words = [config, "lora:train.learning_rate=2e-2", "seed=5", "output=runs/mine"]
    planned, told, worked = climb(words, ["lora", "ia3", "full", "fused"])
    assert not told and [name for name, _ in worked] == ["lora", "ia3", "full", "fused"]
    configs = {name: planned.run(name).config() for name in planned.methods}
    assert {found.seed for found in configs.values()} == {5}
    assert configs["lora"].train.options["learning_rate"] == 2e-2
    assert "learning_rate" not in configs["ia3"].train.options  # its own default suits it, that of `full` would not
    assert configs["full"].train.options["learning_rate"] == 5e-3
    assert configs["full"].method.options == {"freeze": ["*.embeddings*"], "layer_decay": 0.9}
    tuned = {
        name: planned.run(name).result()["validation"]["metrics"]["accuracy"]["value"] for name in ("lora", "full")
    }
    assert Path(configs["fused"].method.options["runs"][0]).name == max(tuned, key=lambda name: tuned[name])

    found = ladder.compare(planned)
    assert [one["name"] for one in found["models"]] != [] and len(found["pairs"]) == 6
    assert json.loads((planned.folder / writing.FILE).read_text())["verdict"] == found["verdict"]
    for name in planned.methods:
        run = planned.run(name)
        assert run.result()["comparison"]["name"] == name
        phases = {event["name"] for event in run.events()[0] if event["type"] == "phase"}
        assert phases <= set(follow.PHASES), "each is said in words"
        text = (run.artifact / "README.md").read_text()
        assert "### Beside others on the same test rows" in text and f"`{name}` (this model)" in text
        assert "](plots/comparison.png)" in text and (run.artifact / "plots/comparison.png").is_file()
        assert text == report.render(run.result(), run.config())  # as it is published

    again, _, worked = climb(
        words, ["lora", "ia3", "full", "fused"]
    )  # a finished folder that is named is not repeated
    assert again.folder == planned.folder and worked == []


def test_what_cannot_be_is_skipped_with_its_reason(config: str) -> None:
    planned, told, _ = climb([config, "output=runs/mine", "lora:method.r=999"], ["lora", "full", "ia3"])
    assert [name for name, _ in told] == ["lora"] and "method.r must be at most" in told[0][1]
    found = ladder.compare(planned)
    assert [one["name"] for one in found["skipped"]] == ["lora"] and planned.failed() == []
    assert writing.left_out(found)[0].startswith("lora is not among them: method.r must be at most")
    text = (planned.run("full").artifact / "README.md").read_text()
    assert "Not possible: `lora`." in text


def test_a_stop_costs_what_was_not_done(config: str) -> None:
    def stopped(run: Run, resume: bool) -> Outcome:
        if run.name == "full":
            run.event("stopped", message="asked to", step=0)
            return Outcome("stopped", "asked to", False, ())
        return here(run)

    with pytest.raises(KeyboardInterrupt):
        climb([config, "seed=7"], ["lora", "full", "ia3"], stopped)
    (folder,) = Path("runs").glob("*-ladder-text-classification-base")
    planned, _, worked = climb([config, "seed=7"], ["lora", "full", "ia3"])
    assert planned.folder == folder.absolute()
    assert worked == [("full", True), ("ia3", False)]
    ladder.compare(planned)
    other = ladder.prepare(ladder.read_words([config, "seed=8"]), ["full"])
    assert other.folder != planned.folder  # another configuration is another ladder
    ended = ladder.prepare(ladder.read_words([config, "seed=7", "output=runs/new"]), ["full"])
    assert ended.missing() == ["full"]


def test_nothing_to_fuse(config: str) -> None:
    def broken(run: Run, resume: bool) -> Outcome:
        run.event("failed", message="boom", user_error=False)
        return Outcome("failed", "boom", False, ())

    planned, told, _ = climb([config, "output=runs/x"], ["full", "fused"], broken)
    assert told == [("full", "boom"), ("fused", "no tuned model before it has a result")]
    assert planned.failed() == ["full"]
    with pytest.raises(UserError, match="two models are needed"):
        ladder.compare(planned)


def test_what_broke_is_tried_again(config: str) -> None:
    def broken(run: Run, resume: bool) -> Outcome:
        run.event("failed", message="boom", user_error=False)
        return Outcome("failed", "boom", False, ())

    climb([config, "output=runs/x"], ["full"], broken)
    planned, told, worked = climb([config, "output=runs/x"], ["full"])
    assert worked == [("full", True)] and not told and planned.done() == ["full"]


def test_a_configuration_may_leave_training_to_auto(tmp_path: Path) -> None:
    rows = {**tree(tmp_path), "train": "auto"}
    assert len(ladder.plan(rows, {}, ["zero_shot", "probe"]).methods) == 2


def test_the_seconds_of_a_resumed_run_are_those_of_all_its_processes() -> None:
    from hftransfer.accounts import seconds_before

    events: list[dict[str, Any]] = [
        {"type": "created", "time": 0}, {"type": "launched", "time": 1}, {"type": "process", "time": 2},
        {"type": "phase", "name": "imports", "time": 2}, {"type": "phase", "name": "data", "time": 10},
        {"type": "step", "time": 17}, {"type": "stopped", "time": 18},
        {"type": "launched", "time": 1000}, {"type": "process", "time": 1001},
        {"type": "phase", "name": "data", "time": 1010}, {"type": "step", "time": 1012},
    ]  # fmt: skip
    assert seconds_before(events[:7]) == 0 and seconds_before(events) == 8
    assert seconds_before([*events, {"type": "process", "time": 2000}]) == 10


def test_looking_at_rows_is_not_a_methods_cost_and_features_found_on_disk_are() -> None:
    from hftransfer.accounts import alone

    events: list[dict[str, Any]] = [
        {"type": "process"}, {"type": "phase", "name": "copies"}, {"type": "looked", "seconds": 3.0},
        {"type": "features", "spared": 2.5}, {"type": "process"}, {"type": "looked", "seconds": 4.0},
    ]  # fmt: skip
    assert alone(events) == 2.5 - 7
    assert alone(events[:2]) == 0


@pytest.mark.parametrize(
    ("words", "methods", "said"),
    [
        (["CONFIG"], ["prob"], "a known method is needed; found 'prob'"),
        (["CONFIG"], ["fused"], "a method to fuse with the base"),
        (["CONFIG", "lora:seed=3"], ["full"], "Add lora to --methods"),
        (["CONFIG", "lora:method.rr=3"], ["full", "lora"], "method.rr: peft's lora has no such option"),
        (["CONFIG", "runs/a"], ["full"], "a configuration, or finished runs and models"),
        (["CONFIG", "b.yaml"], ["full"], "one configuration is needed"),
        (["CONFIG", "output=DIR"], ["full"], "an empty or new folder is needed"),
    ],
)
def test_wrong_words(config: str, tmp_path: Path, words: list[str], methods: list[str], said: str) -> None:
    places = {"CONFIG": config, "output=DIR": f"output={tmp_path}"}
    with pytest.raises((UserError, ConfigError), match=said):
        ladder.prepare(ladder.read_words([places.get(word, word) for word in words]), methods)
    assert not Path("runs").exists()


def test_a_folder_of_another_configuration_is_refused(config: str) -> None:
    ladder.prepare(ladder.read_words([config, "output=runs/a"]), ["full"])
    assert ladder.prepare(ladder.read_words([config, "output=runs/a"]), ["full", "lora"]).methods == ("full", "lora")
    with pytest.raises(UserError, match="the configuration that the ladder began with"):
        ladder.prepare(ladder.read_words([config, "output=runs/a", "seed=9"]), ["full"])


def test_a_run_that_is_there_is_taken_when_it_is_the_same(config: str) -> None:
    here(Run.create(catalog.read_config(config, ["seed=3", "output=runs/a/full"])))
    planned, _, worked = climb([config, "seed=3", "output=runs/a"], ["full", "lora"])
    assert worked == [("lora", False)] and planned.missing() == []
    here(Run.create(catalog.read_config(config, ["seed=3", "output=runs/b/full"])))
    with pytest.raises(UserError, match=r"run of full in .* must be of this configuration; seed differ"):
        ladder.prepare(ladder.read_words([config, "seed=4", "output=runs/b"]), ["full", "lora"])


def test_words() -> None:
    found = ladder.read_words(["c.yaml", "data.source=a.csv", "lora:method.r=4", "lora:seed=1", "full:seed=2"])
    assert (found.config, found.overrides) == ("c.yaml", ("data.source=a.csv",))
    assert found.own == {"lora": ("method.r=4", "seed=1"), "full": ("seed=2",)}
    assert ladder.read_words(["runs/a", "user/model"]).names == ("runs/a", "user/model")


def test_remarks_on_the_data_are_made_once() -> None:
    events: list[dict[str, Any]] = [
        {"type": "warning", "time": 1, "message": "a"},
        {"type": "phase", "time": 1, "name": "data"},
        {"type": "warning", "time": 2, "message": "b"},
    ]
    seen: set[str] = set()
    assert [*ladder.unseen(events, seen)] == events
    later = [{**event, "time": 9} for event in events] + [{"type": "warning", "time": 9, "message": "c"}]
    assert [event.get("message", "-") for event in ladder.unseen(later, seen)] == ["-", "c"]


class InProcess(LocalLauncher):
    """Train in this process."""

    def start(self, run: Run, resume: bool = False, processes: int = 1) -> None:
        here(run, resume)

    def is_alive(self, run: Run) -> bool:
        return False


def test_the_command(config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("hftransfer.launchers.local.LAUNCHER", InProcess())
    monkeypatch.setattr("signal.signal", lambda *_: None)
    words = [config, "--methods", "lora,ia3,full", "ia3:method.target_modules=[nothing]", "output=runs/x"]
    assert cli.main(["compare", *words]) == 0
    out = capsys.readouterr().out
    assert "ladder: runs/x: lora, ia3, full" in out and "ia3: skipped: method.name=ia3 needs modules" in out
    assert out.count("warning: no test split: ") == 1
    assert "\nlora: accuracy " in out and "recommended" in out and "folder: runs/x (comparison.md" in out
    assert cli.main(["compare", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["skipped"][0]["name"] == "ia3"
