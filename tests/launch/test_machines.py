"""Two machines that are two addresses of the loopback: a rendezvous, one of them killed, and going on after."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hftransfer import catalog
from hftransfer.launchers.local import NEUTRAL, PROCESSES, SCRIPT, launch_flags, neutral
from hftransfer.runs import MARK, Run, write_text
from tests.launch.conftest import environment, of

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2")]
MACHINES = ("127.0.0.1", "127.0.0.2")
SECONDS = 240.0


def machines(run: Run, resume: bool = False) -> list[subprocess.Popen[bytes]]:
    """Start `accelerate launch` once for each machine, as somebody at each of them does."""
    with socket.socket() as one:
        one.bind((MACHINES[0], 0))
        port = str(one.getsockname()[1])
    write_text(neutral(run), NEUTRAL)
    children = []
    for rank, address in enumerate(MACHINES):
        words = [*launch_flags(2, 2, neutral(run)), "--machine_rank", str(rank)]
        words += ["--main_process_ip", MACHINES[0], "--main_process_port", port]
        script = [str(SCRIPT), "--config", str(run.config_path), *(["--resume"] if resume else [])]
        own = {MARK: str(run.folder), PROCESSES: "2", "TORCHELASTIC_LOCAL_ADDR": address}
        with open(run.folder / f"machine-{rank}.log", "ab") as log:
            command = [sys.executable, "-m", "accelerate.commands.launch", *words, *script]
            children.append(
                subprocess.Popen(
                    command, env={**environment(), **own}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )
            )
    return children


def wait_for(run: Run, what: Callable[[], bool], children: list[subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + SECONDS
    while not what() and time.monotonic() < end and any(child.poll() is None for child in children):
        time.sleep(0.05)
    assert what(), "\n".join(path.read_text()[-2000:] for path in sorted(run.folder.glob("machine-*.log")))


def test_a_machine_that_dies_is_said_within_a_minute_and_the_run_goes_on(
    configuration: Callable[..., Path],
) -> None:
    path = configuration({"max_steps": 4000, "save_strategy": "steps", "save_steps": 5})
    run = Run.create(catalog.read_config(path))
    first, second = children = machines(run)
    wait_for(run, lambda: bool(of(run, "checkpoint")), children)
    assert [event["world_size"] for event in of(run, "process")] == [2]
    for process in (*psutil.Process(second.pid).children(recursive=True), psutil.Process(second.pid)):
        process.kill()
    killed = time.monotonic()
    wait_for(run, lambda: bool(of(run, "failed")), children)
    assert time.monotonic() - killed < 60
    assert "another process of the run ended" in of(run, "failed")[-1]["message"]
    assert (first.wait(60), second.wait(10)) != (0, 0)
    reached = run.checkpoint()
    assert reached is not None

    step = int(reached.name.rpartition("-")[2])
    text = run.config_path.read_text()
    run.config_path.write_text(text.replace("max_steps: 4000", f"max_steps: {step + 5}"))
    again = machines(run, resume=True)
    assert [child.wait(SECONDS) for child in again] == [0, 0], (run.folder / "machine-0.log").read_text()[-2000:]
    assert of(run, "process")[-1]["world_size"] == 2 and run.status().state == "done"
    assert min(event["step"] for event in of(run, "step")[-2:]) >= step and os.path.exists(run.result_path)
