"""Samples that are fetched from where they are published, in a process of its own, and what is said meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from hftransfer import samples
from hftransfer.errors import UserError
from hftransfer.ui import visitors
from hftransfer.ui.line import LINE
from hftransfer.ui.saying import say
from hftransfer.ui.visitors import Visitor

FETCH_SECONDS = 900.0
_FETCHING = threading.BoundedSemaphore(2)  # each is a package manager at work


def fetching(name: str) -> str:
    """Return what is said while a sample is fetched."""
    one = samples.SAMPLES[name]
    size = f"{one.size / 1e6:.0f} MB"
    return say("Fetching {name}, {size}, from {registry}; once …", name=name, size=size, registry=one.registry)


def fetch(name: str, visitor: Visitor) -> None:
    """Fetch a sample in a process of its own; UserError with its words when that fails."""
    with LINE.turn(visitor), _FETCHING:
        _fetch(name)


def _fetch(name: str) -> None:
    command = [sys.executable, "-m", "hftransfer.cli", "samples", name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=FETCH_SECONDS,
            env=registry_environment(), stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise UserError(f"the sample {name} is needed", "fetching it took too long", "Try again later.") from error
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["no reason was given"]
        raise UserError(f"the sample {name} is needed", words[-1].removeprefix("hftransfer: "), "")


# what the registries' clients need beside what every child gets: their settings, mirrors and caches
REGISTRY = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HFTRANSFER_CACHE", "HFTRANSFER_DEBIAN_MIRROR",
            "APT_CONFIG", "NODE_EXTRA_CA_CERTS",
            # without these, Windows finds neither a user's files nor its own programs, and opens no connection
            "SYSTEMROOT", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "PATHEXT", "COMSPEC")  # fmt: skip
REGISTRY_PREFIXES = ("PIP_", "npm_config_", "NPM_CONFIG_")


def registry_environment() -> dict[str, str]:
    """Return the environment of a process that fetches a sample: no token, and no secret of whatever name."""
    found = {
        name: value for name, value in os.environ.items()
        if name in (*visitors.KEPT, *REGISTRY) or name.startswith(REGISTRY_PREFIXES)
    }  # fmt: skip
    source = str(Path(samples.__file__).parents[2])
    return found | {"PYTHONPATH": os.pathsep.join(p for p in (source, found.get("PYTHONPATH")) if p)}


def presence(here: bool) -> tuple[str, Any]:
    """Return the mark of a sample: whether it is on this machine."""
    return (say("here"), "good") if here else (say("fetched when picked"), "")
