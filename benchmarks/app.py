"""What the app costs: to open, to start, to look at ten long runs, with twenty visitors: python -m benchmarks.app

Needs `hftransfer samples text`, and Debian's chromium for the two figures that a browser gives. Prints Markdown.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from hftransfer.runs import Run
from hftransfer.ui import train_step, train_view, visitors
from hftransfer.ui.monitor import Monitor
from hftransfer.ui.page import Page
from hftransfer.ui.settings import Settings

ROOT = Path(__file__).parents[1]
CHROMIUM = "/usr/bin/chromium"
VISITORS, ROUNDS = 20, 2
EVENTS, RUNS = 10_000, 10
CONFIG = {
    "task": "text-classification",
    "model": "sample:all-minilm-l6-v2",
    "data": {"source": "sample:vader-tweets", "max_rows": 1200},
    "train": {
        "num_train_epochs": 1,
        "learning_rate": 1e-4,
        "bf16": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_steps": 2,
    },
    "speed": {"tune": False, "attention": "eager"},
}


def main() -> int:
    """Measure everything once and print it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        print("| what | measured |\n| --- | --- |")
        cold, warm = looks(place / "looks")
        tell(f"one look at {RUNS} runs of {EVENTS:,} events each, first", f"{cold * 1000:.0f} ms")
        tell("the same, every further one (1 new event a run)", f"{warm * 1000:.1f} ms")
        began = time.perf_counter()
        with served(place / "app") as (process, url):
            tell("`hftransfer app` to an answer over HTTP", f"{time.perf_counter() - began:.1f} s")
            tell("opening the page in Chromium, until it can be used", f"{opening(url):.1f} s")
            before = memory(process)
            rates: dict[int, list[float]] = {0: [], VISITORS: []}
            polls, failed, cpu, during = 0, 0, [], []
            for number in range(ROUNDS):
                for count in (0, VISITORS) if number % 2 == 0 else (VISITORS, 0):
                    found = asyncio.run(trained(url, place / "app", process, count))
                    rates[count].append(found["rate"])
                    during.append(found["memory"])
                    if count:
                        polls, failed = polls + found["polls"], failed + found["failed"]
                        cpu.append(found["cpu"])
                    if number == 0 and not count:
                        tell("Start to an answer", f"{found['answer']:.2f} s")
                        tell("Start to the trainer's first event", f"{found['first_event']:.1f} s")
                        tell("Start to the first point of the curve", f"{found['first_point']:.1f} s")
            tell("the app's memory, before", f"{before:.0f} MB")
            tell("the app's memory, most while a run trains and 20 look", f"{max(during):.0f} MB")
        alone, beside = statistics.median(rates[0]), statistics.median(rates[VISITORS])
        tell(f"{VISITORS} visitors with the page open: looks, of which failed", f"{polls:,}, {failed}")
        tell("processor time of the app meanwhile", f"{statistics.median(cpu):.1%} of one core")
        tell("examples/s of training, alone", ", ".join(f"{rate:.1f}" for rate in rates[0]))
        tell("examples/s of training, with them", ", ".join(f"{rate:.1f}" for rate in rates[VISITORS]))
        tell("training slowed by (medians)", f"{1 - beside / alone:.1%}")
    return 0


def tell(name: str, value: str) -> None:
    """Print one row."""
    print(f"| {name} | {value} |", flush=True)


# --- a look ---


def looks(folder: Path, count: int = RUNS, length: int = EVENTS) -> tuple[float, float]:
    """Return the seconds of the first look at long runs, and of a later one: listing, states, words and curves."""
    runs = folder / "runs"
    for number in range(count):
        run = Run(runs / f"run-{number}")
        run.folder.mkdir(parents=True)
        (run.folder / "config.yaml").write_text("task: text-classification\nmodel: m\ndata: {source: x}\n")
        lines: list[dict[str, Any]] = [{"type": "launched", "command": []}, {"type": "phase", "name": "training"}]
        lines += [
            {"type": "log", "step": k, "max_steps": length, "loss": 1 / (k + 1), "learning_rate": 1e-4, "epoch": 1.0}
            for k in range(length)
        ]
        run.events_path.write_text("".join(json.dumps({"time": 1.0 + k, **e}) + "\n" for k, e in enumerate(lines)))
    settings = Settings.read({"HFTRANSFER_ROOT": str(folder)})
    visitor = visitors.Visitor("local", folder, None, local=True)

    class NoQueue:
        def runs(self, visitor: Any) -> list[Run]:
            return visitors.runs(visitor)

        def place(self, run: Run) -> None:
            return None

    page = Page(settings, NoQueue(), None, Monitor())  # type: ignore[arg-type]
    took = []
    for _ in range(11):
        began = time.perf_counter()
        entries = train_step.entries_of(page, visitor)
        view = page.monitor.view(entries[0][0].folder)
        for draw in (train_view.curves_of, train_view.timeline, train_view.log_of):
            draw(view)
        train_view.head_of(page, view, "running")
        took.append(time.perf_counter() - began)
        for run, _, _ in entries:
            run.event("log", step=length, max_steps=length, loss=0.1, learning_rate=0.0, epoch=1.0)
    return took[0], statistics.median(took[1:])


# --- the app ---


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    """Serve the app in a folder of its own."""
    folder.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part)
    command = [sys.executable, "-m", "hftransfer.cli", "app", "--port", str(port), "--root", str(folder)]
    with open(folder / "app.log", "wb") as log:
        app = subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": paths}, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/config", timeout=2).status_code == 200:
                    break
            time.sleep(0.05)
        yield psutil.Process(app.pid), url
    finally:
        app.terminate()
        app.wait()


def opening(url: str) -> float:
    """Return the seconds until the page can be used in a fresh browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        began = time.perf_counter()
        page.goto(url)
        page.wait_for_selector("#upload input[type=file]", state="attached")
        page.wait_for_selector("#nav-texts", state="attached")
        took = time.perf_counter() - began
        browser.close()
    return took


def memory(process: psutil.Process) -> float:
    """Return the app's own memory in MB."""
    return float(process.memory_info().rss / 1e6)


async def trained(url: str, folder: Path, process: psutil.Process, count: int) -> dict[str, Any]:
    """Train once through the app's API while `count` visitors look at the run once a second."""
    from gradio_client import Client

    client = await asyncio.to_thread(Client, url, verbose=False)
    began = time.time()
    await asyncio.to_thread(client.predict, json.dumps(CONFIG), api_name="/start")
    answer = time.time() - began
    run = Run(max((folder / "runs").iterdir(), key=lambda one: one.stat().st_ctime))
    config = (await asyncio.to_thread(httpx.get, f"{url}/config")).json()
    tick = next(d for d in config["dependencies"] if any(target[1] == "tick" for target in d["targets"]))
    used, looked, highest = process.cpu_times(), [0, 0], 0.0
    async with httpx.AsyncClient(timeout=30) as web:
        people = [asyncio.create_task(look(web, url, tick, run.name, looked)) for _ in range(count)]
        while not (status := await asyncio.to_thread(run.status)).finished:
            highest = max(highest, memory(process))
            await asyncio.sleep(0.5)
        for one in people:
            one.cancel()
        await asyncio.gather(*people, return_exceptions=True)
    took = time.time() - began
    assert status.state == "done", status
    spent = process.cpu_times()
    events = run.events()[0]
    first = next(e["time"] for e in events if e["type"] == "process")
    point = next(e["time"] for e in events if e["type"] == "log")
    return {
        "rate": run.result()["cost"]["examples_per_second"],
        "answer": answer,
        "first_event": first - began,
        "first_point": point - began,
        "polls": looked[0],
        "failed": looked[1],
        "cpu": (spent.user + spent.system - used.user - used.system) / took,
        "memory": highest,
    }


async def look(web: httpx.AsyncClient, url: str, tick: dict[str, Any], run: str, looked: list[int]) -> None:
    """Look at the run as the page does, as often as its timer says, and count looks and failures."""
    session = f"visitor-{id(asyncio.current_task())}"
    data = [run, "sample:vader-tweets", "sample:all-minilm-l6-v2", "full", None, None]
    place, pause = tick["outputs"].index(tick["targets"][0][0]), 1.0
    while True:
        looked[0] += 1
        try:
            body = {"data": data, "fn_index": tick["id"], "session_hash": session}
            (await web.post(f"{url}/gradio_api/queue/join", json=body)).raise_for_status()
            async with web.stream("GET", f"{url}/gradio_api/queue/data?session_hash={session}") as lines:
                async for line in lines.aiter_lines():
                    if "process_completed" in line:
                        answer = json.loads(line.removeprefix("data:"))
                        looked[1] += not answer["success"]
                        pause = float((answer["output"]["data"][place] or {}).get("value", pause))
                        break
        except (httpx.HTTPError, KeyError):
            looked[1] += 1
        await asyncio.sleep(pause)


if __name__ == "__main__":
    sys.exit(main())
