"""The folder of a Space: complete, installable by its pins, and serving a guest and a signed-in user."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_a_space_installs_every_dependency_at_its_tested_version() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.match(r"[\w.-]+", line).group().lower().replace("_", "-") for line in wanted}  # type: ignore[union-attr]
    found = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "space" / "requirements.txt").read_text(), re.MULTILINE))

    assert {name.lower().replace("_", "-"): version for name, version in found.items()} == {n: pins[n] for n in names}


def test_the_front_matter_is_what_the_hub_takes() -> None:
    text = (ROOT / "space" / "README.md").read_text()
    matter = yaml.safe_load(text.split("---")[1])

    assert (matter["sdk"], matter["app_file"], matter["hf_oauth"]) == ("gradio", "spaces_app.py", True)
    assert f"gradio=={matter['sdk_version']}\n" in (ROOT / "constraints.txt").read_text()
    assert len(matter["short_description"]) <= 60
    assert matter["hf_oauth_scopes"] == ["contribute-repos", "gated-repos"], "no scope that writes to other repos"
    assert (ROOT / matter["app_file"]).is_file()
