"""`publish --demo` on the tests' Hub: a static Space beside a public model; the page itself is in tests/browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from hftransfer.runs import Run
from tests.hub.finished import call
from tests.hub_server import HubServer

pytestmark = pytest.mark.slow


def exported(run: Run) -> None:
    """Let a run look as if it was exported: what is in its files is not looked at here."""
    folder = run.artifact / "onnx"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"\0onnx")
    report = {"rows": 1, "largest_difference": 1e-7, "quantized": None, "transformers_js": True}
    (folder / "report.json").write_text(json.dumps(report))


def test_a_public_model_gets_a_space(hub: HubServer, run: Run, tmp_path: Path) -> None:
    words = ["publish", run.folder, "alice/tuned", "--demo", "--no-verify"]
    refused = call(hub, "alice", tmp_path / "home", *words)
    assert (
        refused.returncode == 2 and "hftransfer export" in refused.stderr and not hub.repos
    )  # before anything is sent
    exported(run)
    done = call(hub, "alice", tmp_path / "home", *words)
    assert done.returncode == 0, done.stderr
    assert f"demo: {hub.endpoint}/spaces/alice/tuned-demo" in done.stdout
    files = hub.files("alice/tuned-demo", kind="space")
    front = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert front["sdk"] == "static" and front["models"] == ["alice/tuned"]
    page = files["index.html"].decode()
    assert '"model": "alice/tuned"' in page and hub.token("alice") not in page
    assert "onnx/model.onnx" in hub.files("alice/tuned")
    assert "@huggingface/transformers" in hub.files("alice/tuned")["README.md"].decode()


def test_a_private_model_gets_none(hub: HubServer, run: Run, tmp_path: Path) -> None:
    exported(run)
    words = ["publish", run.folder, "alice/tuned", "--private", "--demo", "--no-verify"]
    done = call(hub, "alice", tmp_path / "home", *words)
    assert done.returncode == 2 and "a public model is needed for a demo" in done.stderr
    assert hub.repo("alice/tuned") is not None and hub.repo("alice/tuned-demo", "space") is None
