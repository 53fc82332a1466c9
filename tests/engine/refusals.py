"""What the script of a run says of a configuration that it refuses, and with which code it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hftransfer import train, yaml_core


def said(tree: dict[str, Any], folder: Path, capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the last words of `--check`, which must end with code 2."""
    path = folder / "refused.yaml"
    path.write_text(yaml_core.dump_yaml(tree), encoding="utf-8")
    capfd.readouterr()
    assert train.main(["--config", str(path), "--check", *words]) == 2
    found = capfd.readouterr().err
    assert "Traceback" not in found
    return found
