"""`hf finetune`: our command line as an extension of the client, in the folder and form in which it installs one."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hftransfer import cli

ROOT = Path(__file__).parents[2]
HF = [sys.executable, "-m", "huggingface_hub.cli.hf"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home where the client has installed the extension: environment, console script and manifest."""
    from huggingface_hub.cli import extensions
    from pip._vendor.distlib.scripts import ScriptMaker

    home = tmp_path_factory.mktemp("home")
    before = os.environ["HOME"]
    os.environ["HOME"] = str(home)
    try:
        folder = extensions._get_extension_dir("finetune")
        venv.EnvBuilder(symlinks=True).create(str(folder / "venv"))
        python = extensions._get_venv_python(folder)
        # in place of a download: the packages of this environment, and this checkout
        (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
        (site / "here.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
        scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
        name = extensions._get_executable_name("finetune")
        maker = ScriptMaker(None, str(python.parent))
        maker.executable, maker.variants, maker.set_mode = str(python), {""}, True  # as pip writes console scripts
        maker.make(f"{name} = {scripts[name]}")
        extensions.ExtensionManifest(
            owner="someone", repo="hf-finetune", repo_id="someone/hf-finetune", short_name="finetune",
            executable_path=str(extensions._get_venv_bin_path(folder / "venv", name)), type="python",
            installed_at=datetime.now(UTC), description="fine-tune", commit_sha=None,
        ).save(folder)  # fmt: skip
    finally:
        os.environ["HOME"] = before
    return home


def hf(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the client's command line, unpatched."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**clean, "HOME": str(home), "HF_HUB_DISABLE_UPDATE_CHECK": "1", "NO_COLOR": "1"}
    return subprocess.run([*HF, *words], env=environment, cwd=home, capture_output=True, text=True, timeout=60)


def test_the_client_hands_its_command_over(home: Path) -> None:
    listed = hf(home, "extensions", "list")
    assert listed.returncode == 0 and "finetune" in listed.stdout
    done = hf(home, "finetune", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: hf finetune [-h]"), done.stderr
    assert "hftransfer" not in done.stdout.replace("hftransfer 0", "")


def test_hints_and_exit_codes_are_those_of_the_extension(home: Path) -> None:
    done = hf(home, "finetune", "resume", "nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("hf finetune: the name or folder of a run is needed")
    assert "Start one with: hf finetune train CONFIG" in done.stderr
    assert hf(home, "finetune", "runs").stdout == "no runs here; start one: hf finetune train CONFIG\n"


def test_only_our_own_commands_are_renamed(capsys: pytest.CaptureFixture[str]) -> None:
    said = cli._renaming(cli.make_parser(), "hf finetune")
    assert said("Run: hftransfer stop x; a model that hftransfer made") == (
        "Run: hf finetune stop x; a model that hftransfer made"
    )
    assert said("see /home/me/hftransfer runs") == "see /home/me/hftransfer runs"
    assert cli.main(["where", "--json"], name="hf finetune") == 0
    assert "hf finetune" not in capsys.readouterr().out  # what programs read stays as it is


@pytest.mark.parametrize(("form", "words"), [("sky", "workdir: ."), ("dstack", "type: task")])
def test_files_for_other_tools_are_printed(
    form: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hftransfer.yaml_core import read_yaml

    Path("c.yaml").write_text("task: text-classification\nmodel: m\ndata: {source: x.csv}\n")
    assert cli.main(["train", "c.yaml", "seed=3", "--print", form, "--processes", "2"]) == 0
    text = capsys.readouterr().out
    tree = read_yaml(text)
    commands = [tree["run"]] if form == "sky" else tree["commands"]
    assert words in text and commands[-1] == "hftransfer train c.yaml seed=3 --processes 2"
    assert not (tmp_path / "runs").exists()
    assert cli.main(["train", str(tmp_path / "c.yaml"), "--print", form]) == 2
    assert "below the working folder" in capsys.readouterr().err
