"""A Hub of the test's own, and unpatched clients in processes of their own that talk to it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from hftransfer.runs import Run
from tests.hub_server import HubServer

ROOT = Path(__file__).parents[2]
SECONDS = 300.0  # a client that waits for longer than this hangs


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """A Hub that takes uploads through plain LFS."""
    with HubServer(tmp_path / "hub-server") as server:
        yield server


@pytest.fixture
def xet_hub(tmp_path: Path) -> Iterator[HubServer]:
    """A Hub that takes uploads through Xet, as the real one does."""
    with HubServer(tmp_path / "hub-server", xet=True) as server:
        yield server


def environment(hub: HubServer, user: str | None, home: Path, **env: str) -> dict[str, str]:
    """The environment of a client that acts as `user` (or with that token, or as nobody), its caches in `home`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    caller = hub.env(token=user) if user is not None and user.startswith("hf_") else hub.env(user)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": path}
    return {**clean, **caller, "HF_HOME": str(home), **quiet, **env}


def python(
    code: str, hub: HubServer, user: str | None, home: Path, check: bool = True, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run code with unpatched clients in a fresh process, in `home`; a failure shows what it printed."""
    home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment(hub, user, home, **env),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    if check:
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that is done, with an adapter: full fits publish less."""
    from tests.hub import finished as making

    return making.train(tmp_path_factory.mktemp("finished"), "method.name=lora")


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Run:
    """The finished run, to do with as a test likes."""
    from tests.hub import finished as making

    return making.copy(finished, tmp_path)
