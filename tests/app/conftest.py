"""A Space in a folder: its settings, two signed-in visitors and a guest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hftransfer.launchers import launcher
from hftransfer.runs import Run
from hftransfer.ui import received as files_on_their_way
from hftransfer.ui import visitors
from hftransfer.ui.queueing import Queue
from hftransfer.ui.settings import Settings
from hftransfer.ui.shares import Shares
from hftransfer.ui.visitors import Visitor
from tests import tiny

ALICE_TOKEN = "hf_" + "AliceSecretTokenOfTests" * 2
BOB_TOKEN = "hf_" + "BobSecretTokenOfTests" * 2
OWNER_TOKEN = "hf_" + "OwnerSecretTokenOfTests" * 2


@pytest.fixture
def received(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that gradio would put uploaded files into."""
    folder = tmp_path / "received"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    monkeypatch.setattr(files_on_their_way, "SHARES", Shares(files_on_their_way.STALE))
    return folder


@pytest.fixture
def space(tmp_path: Path, received: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of a Space whose owner left secrets in its environment."""
    for name, value in {"HF_TOKEN": OWNER_TOKEN, "OAUTH_CLIENT_SECRET": "oauth-secret", "WANDB_API_KEY": "w"}.items():
        monkeypatch.setenv(name, value)
    return Settings.read({"SPACE_ID": "owner/space", "HFTRANSFER_ROOT": str(tmp_path / "root")})


@pytest.fixture
def alice(space: Settings) -> Visitor:
    return visitors.user(space, "alice", ALICE_TOKEN, "64a1")


@pytest.fixture
def bob(space: Settings) -> Visitor:
    return visitors.user(space, "bob", BOB_TOKEN, "64b2")


@pytest.fixture
def guest(space: Settings) -> Visitor:
    return visitors.guest(space)


@dataclass(frozen=True)
class Finished:
    """A run that alice trained on a Space, in a real process inside its fence."""

    settings: Settings
    visitor: Visitor
    run: Run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """Train alice's model once for all tests, through the queue."""
    folder = tmp_path_factory.mktemp("space")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", OWNER_TOKEN)
        patch.setenv("WANDB_API_KEY", "w")
        patch.chdir(folder)
        settings = Settings.read({"SPACE_ID": "owner/space", "HFTRANSFER_ROOT": str(folder / "root")})
        visitor = visitors.user(settings, "alice", ALICE_TOKEN, "64a1")
        queue = Queue(settings, launcher("local"))
        queue.start()
        run = queue.submit(visitor, tree_of(materials(visitor)))
        end = time.monotonic() + 120
        while not run.status().finished and time.monotonic() < end:
            time.sleep(0.1)
        queue.close()
        assert run.status().state == "done", run.log_path.read_text()[-3000:]
        yield Finished(settings, visitor, run)


def materials(visitor: Visitor) -> Visitor:
    """Give a visitor a tiny model and a table, as if uploaded."""
    visitor.uploads.mkdir(parents=True, exist_ok=True)
    tiny.text_model(visitor.uploads / "model")
    tiny.text_csv(visitor.uploads / "rows.csv", 103)
    return visitor


def tree_of(visitor: Visitor, **train: Any) -> dict[str, Any]:
    """Return a configuration over those, of a second of training."""
    return {
        "task": "text-classification",
        "model": str(visitor.uploads / "model"),
        "data": {"source": "rows.csv"},
        "method": {"name": "full"},
        "train": {
            "auto": False, "learning_rate": 1e-3, "max_steps": 20, "per_device_train_batch_size": 8, "use_cpu": True,
            "bf16": False, "eval_strategy": "no", "save_strategy": "no", **train,
        },
        "evaluation": {"resamples": 100},
        "speed": {"tune": False, "threads": 1},
    }  # fmt: skip
