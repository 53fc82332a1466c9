"""A stand-in for Hugging Face Jobs: the interface that the pinned client speaks, each job a process of this machine.

Faults: a job may be kept in the queue, its log stream cut after some lines, and its time be over early.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# what stands for `python -m accelerate.commands.launch ... train.py --config PATH [--resume]` in a job
TRAINER = """#!{python}
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from hftransfer.runs import Run, seal
from dataclasses import replace
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
words = sys.argv
if "--machine_rank" in words:
    print("started with", *words[1:], flush=True)
rank = words[words.index("--machine_rank") + 1] if "--machine_rank" in words else "0"
run = replace(Run(Path(words[words.index("--config") + 1]).parent), mirror=sys.stdout)
config = run.config()
assert Path(config.data.source).read_text() == "text,label\\n"
print("a line of the log", flush=True)
run.event("process", world_size=1, token=os.environ.get("HF_TOKEN", "")[:3])
if rank != "0":
    print('"step"', flush=True)
    time.sleep(60)
for step in range(1, 4 if "--resume" in words else int(os.environ.get("STEPS", "2000"))):
    run.event("step", step=step, max_steps=2000)
    time.sleep(0.02)
    if asked:
        folder = run.checkpoints / f"checkpoint-{{step}}"
        folder.mkdir(parents=True)
        (folder / "weights").write_text("w")
        seal(folder)
        run.event("stopped", message="asked to", step=step)
        sys.exit(143)
run.result_path.write_text("{{}}")
run.event("done", seconds=1.0)
"""


def stub(folder: Path) -> Path:
    """Put a `python` that stands for the trainer of a job, and a `getent` for its network, into a folder."""
    folder.mkdir()
    root = Path(__file__).parents[1]
    words = {
        "python": TRAINER.format(python=sys.executable, root=str(root)),
        "getent": "#!/bin/sh\necho 127.0.0.1 x\n",
    }
    for name, text in words.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


ENDED = ("COMPLETED", "CANCELED", "ERROR")
TOKEN = "hf_" + "j" * 34


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Job:
    """One job: its specification, its process and the lines of its log."""

    def __init__(self, number: int, spec: dict[str, Any], server: JobsServer) -> None:
        self.id, self.spec, self.server = f"{number:024x}", spec, server
        self.stage, self.message = "SCHEDULING", None
        self.lines: list[str] = []
        self.began = self.ended = 0.0
        self.process: subprocess.Popen[str] | None = None
        self.beginning, self.canceled = threading.Lock(), False
        threading.Thread(target=self._work, daemon=True).start()

    def info(self) -> dict[str, Any]:
        """Return what the client makes a JobInfo of."""
        seconds = (self.ended or time.time()) - self.began if self.began else None
        return {
            "id": self.id, "createdAt": _now(), "dockerImage": self.spec["dockerImage"],
            "command": self.spec["command"], "environment": self.spec["environment"], "flavor": self.spec["flavor"],
            "labels": self.spec.get("labels"), "owner": {"id": "1", "name": "me", "type": "user"},
            "status": {"stage": self.stage, "message": self.message},
            "durations": {"schedulingSecs": 1, "runningSecs": seconds, "totalSecs": seconds},
        }  # fmt: skip

    def cancel(self) -> None:
        """End the job: its process is told to, and killed after a while."""
        self.canceled = True
        with self.beginning:
            if self.process is None:
                self.stage = "CANCELED"
            else:
                self.process.send_signal(signal.SIGTERM)
                late = threading.Timer(self.server.patience, self.kill)
                late.daemon = True
                late.start()

    def kill(self) -> None:
        """End the job without a word to anyone."""
        assert self.process is not None
        for child in children(self.process.pid):
            os.kill(child, signal.SIGKILL)

    def _work(self) -> None:
        while self.server.full.is_set():
            time.sleep(0.02)
        with self.beginning:
            if self.stage == "CANCELED":
                return
            environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **self.spec["environment"]}
            limit = self.server.limit or self.spec["timeoutSeconds"]
            self.stage, self.began = "RUNNING", time.time()
            self.process = subprocess.Popen(
                self.spec["command"], env={**environment, **self.spec.get("secrets", {}), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
        clock = threading.Timer(limit, self._late)
        clock.start()
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
        code = self.process.wait()
        clock.cancel()
        if self.server.watched:  # a job that is over in a moment is not always looked at
            self.server.measured.wait(30)
        self.ended = time.time()
        asked = code in (143, -signal.SIGTERM) or self.canceled
        self.stage = "COMPLETED" if code == 0 else "CANCELED" if asked else "ERROR"

    def _late(self) -> None:
        self.message = "Job timeout"
        self.kill()


def children(pid: int) -> list[int]:
    """Return a process and all below it."""
    import psutil

    try:
        process = psutil.Process(pid)
        return [one.pid for one in (*process.children(recursive=True), process)]
    except psutil.Error:
        return []


class JobsServer:
    """The server; `full` keeps jobs in the queue, `cut` ends log streams after so many lines.

    `watched`: no job ends before it was measured once.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.full, self.cut, self.limit, self.most = threading.Event(), 0, 0.0, 0
        self.token, self.patience = TOKEN, 20.0  # seconds that a canceled job gets
        self.watched, self.measured = False, threading.Event()  # whether a job waits to be looked at; whether one was
        self.calls: list[str] = []
        handler = type("Handler", (_Handler,), {"jobs": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self) -> JobsServer:
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.full.clear()
        self.http.shutdown()
        self.http.server_close()
        for job in self.jobs.values():
            if job.process is not None and job.process.poll() is None:
                for child in children(job.process.pid):
                    os.kill(child, signal.SIGKILL)


class _Handler(BaseHTTPRequestHandler):
    jobs: JobsServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        server, (path, _, query) = self.jobs, self.path.partition("?")
        server.calls.append(path)
        if self.headers.get("Authorization") != f"Bearer {server.token}":
            self._answer({"error": "Invalid credentials"}, 401)
        elif path == "/api/whoami-v2":
            self._answer({"name": "me", "type": "user", "auth": {"accessToken": {"role": "write"}}})
        elif path == "/api/jobs/hardware":
            machine = {"cpu": "2 vCPU", "ram": "16 GB", "unitLabel": "minute"}
            prices = {"cpu-basic": 0.000167, "t4-small": 0.01}
            self._answer([
                {**machine, "name": name, "prettyName": name, "unitCostUSD": usd, "unitCostMicroUSD": int(usd * 1e6)}
                for name, usd in prices.items()
            ])  # fmt: skip
        elif path == "/api/jobs/me":
            labels = dict(re.findall(r"label=(\w+)%3D([\w.-]+)", query))
            self._answer([j.info() for j in server.jobs.values() if labels.items() <= j.spec["labels"].items()])
        elif (found := re.fullmatch(r"/api/jobs/me/(\w+)(/logs|/metrics)?", path)) and found[1] in server.jobs:
            job = server.jobs[found[1]]
            {"/logs": self._logs, "/metrics": self._metrics}.get(found[2], lambda job: self._answer(job.info()))(job)
        else:
            self._answer({"error": "not found"}, 404)

    def do_POST(self) -> None:
        server = self.jobs
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = re.fullmatch(r"/api/jobs/me/(\w+)/cancel", self.path)
        if found:
            server.jobs[found[1]].cancel()
            self._answer({})
        elif server.most and len(server.jobs) >= server.most:
            self._answer({"error": "no machine left"}, 402)
        else:
            job = Job(len(server.jobs) + 1, json.loads(body), server)
            server.jobs[job.id] = job
            self._answer(job.info())

    def _metrics(self, job: Job) -> None:
        if job.stage != "RUNNING":
            self._answer({"error": "not running"}, 406)
            return
        gpu = {"utilization": 87, "memory_used_bytes": 2 * 10**9, "memory_total_bytes": 22 * 10**9}
        event = {"cpu_usage_pct": 12, "memory_used_bytes": 10**9, "gpus": {"a": gpu}, "replica": "r"}
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        while job.stage not in ENDED:
            self.wfile.write(f"event: metric\ndata: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()
            self.jobs.measured.set()
            time.sleep(0.1)
        self.close_connection = True

    def _logs(self, job: Job) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        sent = 0
        while True:
            over = job.stage in ENDED
            for line in job.lines[sent:]:
                event = {"data": line, "timestamp": _now()}
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                sent += 1
                if self.jobs.cut and sent >= self.jobs.cut:
                    self.jobs.cut = 0
                    self.wfile.flush()
                    self.close_connection = True
                    return
            self.wfile.flush()
            if over:
                self.close_connection = True
                return
            time.sleep(0.02)

    def _answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class FolderBucket:
    """A bucket that is a folder of this machine; the client's own transfers are not in it."""

    def __init__(self, folder: Path, name: str, token: str) -> None:
        self.folder, self.name, self.token = folder, name, token

    def make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def send(self, source: Path, prefix: str, without: Any = ()) -> None:
        _copy(source, self.folder / prefix, without)

    def send_files(self, files: Any) -> None:
        for source, place in files:
            _copy(source, (self.folder / place).parent, ())

    def size(self, prefix: str, without: Any = ()) -> int:
        return sum(path.stat().st_size for path in (self.folder / prefix).rglob("*") if path.is_file())

    def bring(self, prefix: str, target: Path, without: Any = ()) -> None:
        _copy(self.folder / prefix, target, without)


def _copy(source: Path, target: Path, without: Any) -> None:
    import shutil
    from fnmatch import fnmatch

    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    for path in files:
        name = path.name if source.is_file() else path.relative_to(source).as_posix()
        if not any(fnmatch(name, pattern) for pattern in without):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target / name)
