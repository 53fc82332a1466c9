"""Files with which other tools run a configuration on machines that they rent: SkyPilot and dstack."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hftransfer.errors import UserError

FORMS = ("sky", "dstack")
COPIED = "# the working folder is copied, with what the configuration names in it; set the machine under `resources`"


def text(form: str, config: str, overrides: Sequence[str], processes: int | None) -> str:
    """Return the file of a tool, in YAML, for a configuration below the working folder; UserError for another one."""
    from hftransfer import catalog
    from hftransfer.yaml_core import dump_yaml

    catalog.read_config(config, overrides)  # what is wrong in it is said here, not on a rented machine
    path = Path(config)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            "a configuration below the working folder is needed: that folder is what is copied", f"found {config}",
            "Change into the folder that holds it.",
        )  # fmt: skip
    words = ["hftransfer", "train", path.as_posix(), *overrides]
    command = shlex.join(words) + ("" if processes is None else f" --processes {processes}")
    name = "hftransfer-" + (re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "run")
    install = "pip install hftransfer-learning"
    if form == "sky":
        head = f"# sky launch -c {name} {name}.yaml\n{COPIED}"
        tree: dict[str, object] = {
            "name": name, "workdir": ".", "resources": {"accelerators": "L4:1"}, "setup": install, "run": command,
        }  # fmt: skip
    else:
        head = f"# dstack apply -f {name}.dstack.yml\n{COPIED}"
        tree = {
            "type": "task", "name": name, "python": "3.12", "files": [".:work"], "working_dir": "work",
            "env": ["HF_TOKEN"], "commands": [install, command], "resources": {"gpu": "24GB"},
        }  # fmt: skip
    return f"{head}\n{dump_yaml(tree)}".rstrip("\n")
