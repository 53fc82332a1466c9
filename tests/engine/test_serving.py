"""A run's model behind `transformers serve`: it answers a conversation as our Predictor does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.import_utils import is_serve_available

from hftransfer.predictor import Predictor
from tests import tiny_causal
from tests.engine.conftest import QUICK
from tests.engine.trained import trained

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not is_serve_available(), reason="pip install 'transformers[serving]'"),
]
SECONDS = 240.0


@contextmanager
def served(model: Path) -> Iterator[str]:
    """Serve a folder with transformers' own command; yield its address."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    words = ["serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    program = "from transformers.cli.transformers import main; main()"
    child = subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield until_there(f"http://127.0.0.1:{port}", child)
    finally:
        child.terminate()
        child.communicate(timeout=30)


def until_there(url: str, child: subprocess.Popen[str]) -> str:
    """Wait for a server."""
    end = time.monotonic() + SECONDS
    while child.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).read()
        except OSError:
            time.sleep(0.3)
        else:
            return url
    raise AssertionError(f"no server: {child.communicate()[0] if child.poll() is not None else 'not in time'}")


def test_transformers_serve_answers_as_the_predictor(tmp_path: Path) -> None:
    rows = tiny_causal.written(tmp_path / "rows.jsonl", tiny_causal.rows("messages"))
    tree: dict[str, Any] = {
        **QUICK, "task": "text-generation", "model": str(tiny_causal.causal_model(tmp_path / "base", "llama")),
        "data": {"source": str(rows or tmp_path / "rows.jsonl"), "likely_copies": False},
        "evaluation": {"resamples": 100, "forgetting": False},
    }  # fmt: skip
    run = trained(tmp_path, "run", tree, max_steps=3)
    talk = [{"role": "user", "content": "good film"}]
    predictor = Predictor(run.artifact)
    wanted = predictor.answer([talk])[0]
    with served(run.artifact) as url:
        body = {"model": str(run.artifact), "messages": talk, "temperature": 0, "max_tokens": 24, "stream": False}
        asked = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        answer = json.load(urllib.request.urlopen(asked, timeout=SECONDS))
    said = answer["choices"][0]["message"]["content"]
    assert said and wanted["text"].startswith(said.strip())
