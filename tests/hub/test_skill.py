"""What is written for assistants: each command of skills/hftransfer/SKILL.md is run in order and does what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import tiny
from tests.engine.conftest import QUICK
from tests.hub.conftest import environment
from tests.hub_server import HubServer

pytestmark = pytest.mark.slow
SKILL = Path(__file__).parents[2] / "skills" / "hftransfer" / "SKILL.md"
# in one process, which imports the libraries once; each command as `main` gets it
RUN_ALL = """
import contextlib, io, json, sys
from hftransfer import cli
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(words)
    print("@@" + json.dumps({"words": words, "code": code, "out": out.getvalue(), "err": err.getvalue()}))
"""


def commands() -> list[list[str]]:
    """Return the words of every command that is shown."""
    blocks = re.findall(r"```bash\n(.*?)```", SKILL.read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_the_skill_has_what_clients_read() -> None:
    _, head, body = SKILL.read_text(encoding="utf-8").split("---\n", 2)
    about = yaml.safe_load(head)
    assert about["name"] == SKILL.parent.name and 100 < len(about["description"]) < 1024
    named = set(re.findall(r"`hftransfer (\w+)", body))
    assert named <= {words[1] for words in commands()}


def test_every_command_of_the_skill_runs(hub: HubServer, tmp_path: Path) -> None:
    hub.add_user("user")
    tiny.text_model(tmp_path / "model")
    tiny.text_csv(tmp_path / "rows.csv", 60)
    tree = {**QUICK, "task": "text-classification", "model": "model", "data": {"source": "rows.csv"}}
    tree["train"] = {**QUICK["train"], "max_steps": 4}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    shown = commands()
    assert {words[0] for words in shown} == {"hftransfer"} and len(shown) >= 12
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL], input=json.dumps([words[1:] for words in shown]), cwd=tmp_path, text=True,
        capture_output=True, timeout=300, env={**environment(hub, "user", tmp_path / "home"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [json.loads(line[2:]) for line in done.stdout.splitlines() if line.startswith("@@")]
    for one in found:
        assert one["code"] == 0, one
        if "--json" in one["words"]:
            lines = [json.loads(line) for line in one["out"].splitlines()]
            assert lines, one
    checked = next(one for one in found if one["words"][0] == "check")
    assert json.loads(checked["out"].splitlines()[-1])["type"] == "checked"
    result = json.loads((tmp_path / "runs" / "first" / "result.json").read_text())
    for names in re.findall(r"`((?:test|baseline|verdict|data|cost)(?:\.\w+)?)`", SKILL.read_text(encoding="utf-8")):
        value = result
        for name in names.split("."):
            value = value[name]
    assert os.listdir(tmp_path / "runs") and hub.repo("user/first-model") is not None
