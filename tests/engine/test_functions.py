"""compare, rank, fuse and curve from Python: the same outcome as the commands, and errors as exceptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import hftransfer
from hftransfer import api, catalog
from hftransfer.comparison import writing
from hftransfer.errors import ConfigError, UserError
from hftransfer.launchers.base import Launcher
from hftransfer.launchers.local import LocalLauncher
from hftransfer.runs import Run
from tests import tiny
from tests.engine.test_ladder import here
from tests.engine.trained import trained, tree


class Here(LocalLauncher):
    """Train in this process."""

    def start(self, run: Run, resume: bool = False, processes: int = 1, environment: Any = None) -> None:
        here(run, resume)

    def is_alive(self, run: Run) -> bool:
        return False


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Launcher:
    monkeypatch.setattr("hftransfer.launchers.local.LAUNCHER", Here())
    return Here()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("functions")
    quick = {"num_train_epochs": 3}
    return {
        "one": trained(folder, "one", tree(folder), **quick),
        "two": trained(folder, "two", tree(folder), learning_rate=4e-3, **quick),
    }


def test_a_configuration_as_a_tree_is_a_ladder(tmp_path: Path, launcher: Launcher) -> None:
    made = tree(tmp_path)
    made["train"]["num_train_epochs"] = 1
    seen: list[str] = []
    found = hftransfer.compare(
        made, "seed=5", "lora:train.learning_rate=2e-2", methods=["probe", "lora"], output="out",
        follow=lambda event: seen.append(event["type"]),
    )  # fmt: skip
    assert found["folder"] == str(Path("out").absolute()) and {one["name"] for one in found["models"]} == {
        "probe",
        "lora",
    }
    assert Run(Path("out/lora").absolute()).config().train.options["learning_rate"] == 2e-2
    assert Run(Path("out/probe").absolute()).config().seed == 5
    assert (
        seen.count("done") == 2 and json.loads(Path("out/comparison.json").read_text())["verdict"] == found["verdict"]
    )
    with pytest.raises(UserError, match="one configuration is needed"):
        hftransfer.compare(made, made)
    with pytest.raises(ConfigError, match="modl"):
        hftransfer.compare({**made, "modl": "x"})


def test_finished_runs_and_their_cards(runs: dict[str, Run]) -> None:
    folders = [runs[name].folder for name in ("one", "two")]
    before = (folders[0] / "artifact" / "README.md").read_text()
    found = hftransfer.compare(*folders, metric="f1_macro")
    folder = Path(found["folder"])
    assert folder.parent == Path("runs").absolute() and folder.name.endswith("-comparison")
    again = Path(hftransfer.compare(*folders)["folder"])
    assert again != folder and (again / writing.FILE).is_file()
    assert (folders[0] / "artifact" / "README.md").read_text() == before
    hftransfer.compare(*folders, output="out", card=True)
    for run in (runs["one"], runs["two"]):
        assert f"`{run.name}` (this model)" in (run.artifact / "README.md").read_text()
        assert (run.artifact / "plots" / "comparison.png").is_file() and run.result()["comparison"]["name"] == run.name
    for options in ({"methods": ["full"]}, {"processes": 2}):
        with pytest.raises(UserError, match="a configuration is needed for"):
            hftransfer.compare(*folders, **options)


def test_a_fused_run_is_an_ordinary_one(runs: dict[str, Run], launcher: Launcher) -> None:
    folders = [runs[name].folder for name in ("one", "two")]
    result = hftransfer.fuse(*folders, how="uniform", assignments=["output=mixed"])
    assert result["method"] == "fuse" and result["artifact"] == "artifact" and result["folder"].endswith("/mixed")
    found = hftransfer.compare(folders[0], result["folder"], result["folder"] + "/artifact")
    values = {one["name"]: one["value"] for one in found["models"]}
    assert values["fuse"] == values[result["folder"] + "/artifact"]
    mixed = hftransfer.fuse(*folders, how="ensemble", assignments=["output=answers"])
    assert mixed["artifact"] is None and Path(mixed["folder"], "README.md").is_file()
    assert (
        hftransfer.fuse(result["folder"], base=True, assignments=["output=again", "method.steps=1"])["method"]
        == "fuse"
    )
    with pytest.raises(UserError, match="Add --with base"):
        hftransfer.fuse(folders[0])


@pytest.mark.slow
def test_questions_to_the_engine(tmp_path: Path) -> None:
    made = tree(tmp_path)
    config = catalog.build_config(made)
    other = tiny.text_model(tmp_path / "distilbert", "distilbert")
    seen: list[str] = []
    found = hftransfer.rank(
        config, [made["model"], str(other), "./none"], follow=lambda event: seen.append(event["type"])
    )
    assert len(found["models"]) == 2 and list(found["failed"]) == ["./none"] and seen[-1] == "ranked"
    with pytest.raises(UserError, match=r"\./none: model=\./none must be a folder"):
        hftransfer.rank(config, ["./none"])
    with pytest.raises(UserError, match="by must be one of knn, probe; it is 'size'"):
        hftransfer.rank(config, [made["model"]], by="size")
    with pytest.raises(UserError, match=r"^data\.source must name a file.*Check the path\.$"):
        hftransfer.curve(made, "data.source=nowhere.csv")
    curve = hftransfer.curve(made, "data.test_size=0.2", "output=out")
    assert curve["rows"] == 144 and curve["folder"] == str(Path("out").absolute()) and Path("out/curve.png").is_file()


def test_an_error_in_follow_ends_the_engine(tmp_path: Path) -> None:
    def broken(event: Any) -> None:
        raise RuntimeError("enough")

    children: list[Any] = []
    asked = api.subprocess.Popen

    class Noted(asked):  # type: ignore[misc, valid-type]
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            children.append(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="enough"):
        patch.setattr(api.subprocess, "Popen", Noted)
        hftransfer.curve(tree(tmp_path), follow=broken)
    assert [child.returncode is not None for child in children] == [True]
