"""What a run will take, measured by a check in a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from hftransfer.errors import UserError
from hftransfer.events import PREFIX
from hftransfer.launchers._estimate import seconds_of
from hftransfer.launchers.local import SCRIPT
from hftransfer.safety import machine
from hftransfer.ui import visitors
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from hftransfer.ui.worker_process import TICK

ESTIMATE_PATIENCE = 60.0  # seconds that an estimate waits for another one


def estimate(visitor: Visitor, settings: Settings, tree: Mapping[str, Any], limit: float | None) -> dict[str, Any]:
    """Run `train.py --check` on a configuration and work out what the run takes; UserError when it cannot run."""
    environment = visitors.environment(visitor, settings)
    visitor.temporary.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=visitor.temporary, prefix="estimate-") as place:
        path = Path(place) / "config.yaml"
        path.write_text(json.dumps({**tree, "output": str(Path(place) / "run")}), encoding="utf-8")
        began = time.monotonic()
        lines = _checked(path, environment, settings, limit)
        seconds = time.monotonic() - began
    found = [json.loads(line.removeprefix(PREFIX)) for line in lines if line.startswith(PREFIX)]
    checked = [event for event in found if event["type"] == "checked"]
    if not checked:
        said = [line for line in lines if line.startswith("hftransfer: ")]
        words = said[-1].removeprefix("hftransfer: ") if said else "it ended without a word; memory may have run out"
        raise UserError("a configuration that can run is needed", visitors.redacted(words, visitor), "")
    return _estimate(checked[-1], tree, seconds)


def _checked(path: Path, environment: Mapping[str, str], settings: Settings, limit: float | None) -> list[str]:
    lines: list[str] = []
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "--config", str(path), "--check"], env=dict(environment), cwd=path.parent,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
        errors="replace", **machine.own_session(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        reader = threading.Thread(target=lambda pipe: lines.extend(pipe), args=(process.stdout,), daemon=True)
        reader.start()
        end = float("inf") if limit is None else time.monotonic() + limit
        try:
            while process.poll() is None:
                with contextlib.suppress(psutil.Error):
                    used = psutil.Process(process.pid).memory_info().rss / 2**20
                    if settings.run_memory_mb and used > settings.run_memory_mb:
                        raise UserError(
                            f"a run may use {settings.run_memory_mb:,} MB of memory here",
                            f"one batch took {used:,.0f}",
                            "Set train.per_device_train_batch_size lower, or choose a smaller model.",
                        )  # fmt: skip
                if time.monotonic() > end:
                    raise UserError("an estimate in time is needed", f"it took more than {limit:,.0f} s", "Try less.")
                time.sleep(TICK / 2)
        finally:
            machine.end_session(process.pid)
        reader.join(timeout=5)
    return [line.rstrip("\n") for line in lines]


def _estimate(checked: Mapping[str, Any], tree: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    parameters = checked["parameters"]
    step = float(checked.get("step_seconds") or checked["first_step_seconds"])
    total = seconds_of(checked, tree, seconds)
    adam = 8 * parameters["trainable"] / 2**20  # two float32 a weight, made at the first update
    return {
        "seconds": round(total, 1),
        "memory_mb": round(checked["peak_memory_mb"] + adam),
        "step_seconds": round(step, 4),
        "steps": checked["updates"],
        "parameters": parameters,
        "resolution": (checked.get("resolution") or {}).get("sentences", []),
        "warnings": checked["data"]["warnings"],
    }
