"""A stand-in for Hugging Face Jobs: the interface that the pinned client speaks, each job a process of this machine.

Faults: a job may be kept in the queue, its log stream cut after some lines, and its time be over early.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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
        if self.process is None:
            self.stage = "CANCELED"
        else:
            self.process.send_signal(signal.SIGTERM)

    def _work(self) -> None:
        while self.server.full.is_set():
            time.sleep(0.02)
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
        self.ended = time.time()
        self.stage = "COMPLETED" if code == 0 else "CANCELED" if code in (143, -signal.SIGTERM) else "ERROR"

    def _late(self) -> None:
        self.message = "Job timeout"
        assert self.process is not None
        for child in children(self.process.pid):
            os.kill(child, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Return a process and all below it."""
    import psutil

    try:
        process = psutil.Process(pid)
        return [one.pid for one in (*process.children(recursive=True), process)]
    except psutil.Error:
        return []


class JobsServer:
    """The server; `full` keeps jobs in the queue, `cut` ends log streams after so many lines."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.full, self.cut, self.limit = threading.Event(), 0, 0.0
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
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
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
        elif (found := re.fullmatch(r"/api/jobs/me/(\w+)(/logs)?", path)) and found[1] in server.jobs:
            job = server.jobs[found[1]]
            self._logs(job) if found[2] else self._answer(job.info())
        else:
            self._answer({"error": "not found"}, 404)

    def do_POST(self) -> None:
        server = self.jobs
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = re.fullmatch(r"/api/jobs/me/(\w+)/cancel", self.path)
        if found:
            server.jobs[found[1]].cancel()
            self._answer({})
        else:
            job = Job(len(server.jobs) + 1, json.loads(body), server)
            server.jobs[job.id] = job
            self._answer(job.info())

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
