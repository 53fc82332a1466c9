"""A Space in a folder: its settings, two signed-in visitors and a guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from hftransfer.ui import visitors
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor

ALICE_TOKEN = "hf_" + "AliceSecretTokenOfTests" * 2
BOB_TOKEN = "hf_" + "BobSecretTokenOfTests" * 2
OWNER_TOKEN = "hf_" + "OwnerSecretTokenOfTests" * 2


@pytest.fixture
def received(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that gradio would put uploaded files into."""
    folder = tmp_path / "received"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
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
