"""What a Space holds while a run trains: pages that look, people who upload and people who ask.

python -m tests.chaos.load [--lookers N] [--uploaders N] [--askers N] [--rounds N] [--write docs/reliability.md]

Needs `hftransfer samples text`. Each person has an account and a token of their own, on a stand-in of the Hub.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import hashlib
import json
import os
import random
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.app import CONFIG
from hftransfer.runs import Run
from hftransfer.safety import machine
from hftransfer.ui import monitor, visitors
from hftransfer.ui.settings import Settings
from tests.chaos import report
from tests.chaos.spent import Spent
from tests.hub_server import HubServer

ROOT = Path(__file__).parents[2]
MODEL = "acme/asked"  # that people ask
EVENTS = 2_000  # of the finished run that each page looks at
BY_SESSION = Path("/proc/sys/kernel/sched_autogroup_enabled")  # not of what runs in a container: a Space does
FILE = 2**20  # bytes of an uploaded table
PAUSE = 10.0  # seconds in which somebody looks at what came back, before the next file or question
PATIENCE = 300.0  # seconds for one answer
SPACE = {
    "SPACE_ID": "owner/space", "SYSTEM": "spaces", "OAUTH_CLIENT_ID": "client", "OAUTH_CLIENT_SECRET": "secret",
    "OAUTH_SCOPES": "openid profile", "OPENID_PROVIDER_URL": "http://127.0.0.1:1",
}  # fmt: skip


@dataclass
class Person:
    """Somebody with a token, at an address of their own."""

    number: int
    name: str
    token: str
    folder: Path
    page: str = field(default_factory=lambda: secrets.token_hex(8))  # that they have open

    @property
    def headers(self) -> dict[str, str]:
        return {
            "authorization": f"Bearer {self.token}",
            "x-forwarded-for": f"8.8.{self.number // 250}.{self.number % 250}",
        }


@dataclass
class Seen:
    """What was answered, told to wait, or dropped, by who asked, and the most memory that was taken."""

    counts: Counter[str] = field(default_factory=Counter)
    dropped: list[str] = field(default_factory=list)
    waited: dict[str, list[float]] = field(default_factory=lambda: {"look": [], "upload": [], "question": []})
    app: float = 0.0
    others: float = 0.0  # the app and all it started but the trainer
    spent: Counter[str] = field(default_factory=Counter)  # seconds of the processors by what took them
    whole: float = 0.0  # of all there are
    over: asyncio.Event = field(default_factory=asyncio.Event)  # whoever is there leaves after what is under way

    async def wait(self, seconds: float) -> None:
        """Wait, but not longer than this goes on."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)

    def drop(self, who: str, words: object) -> None:
        self.counts[f"{who} dropped"] += 1
        self.dropped.append(f"{who}: {str(words)[:300]}")


def main() -> int:
    """Measure and print; return 0 when nothing was dropped."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.load", description=__doc__)
    for name, usual in (("lookers", 100), ("uploaders", 20), ("askers", 5), ("rounds", 2), ("rows", 1200)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the figures into the page of all tries")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="load-", ignore_cleanup_errors=True) as place:
        rows, dropped = asyncio.run(measured(Path(place), options))
    words = [f"--{n} {getattr(options, n)}" for n in ("lookers", "uploaders", "askers", "rounds", "rows")]
    command = f"python -m tests.chaos.load {' '.join(words)} --write docs/reliability.md"
    found = {
        "command": command, "date": str(datetime.date.today()), "machine": report.machine(),
        "code": report.commit(), "rows": rows,
    }  # fmt: skip
    if options.write:
        report.keep({"load": found}, options.write)
    print("\n".join([*(f"| {what} | {value} |" for what, value in rows), *dropped[:20]]))
    return 1 if dropped else 0


async def measured(place: Path, options: argparse.Namespace) -> tuple[list[tuple[str, str]], list[str]]:
    """Train alone and among people, in turns; return the figures, and what was dropped."""
    seen, alone, among = Seen(), list[float](), list[float]()
    with HubServer(place / "hub") as hub, served(place, hub) as (app, url):
        people = [person(hub, place / "root", n) for n in range(1 + max(options.lookers, options.uploaders))]
        owner, *others = people
        for one in others[: options.lookers]:
            finished(one.folder / "runs" / "looked-at")
        before = memory(app)
        async with httpx.AsyncClient(timeout=PATIENCE, limits=httpx.Limits(max_connections=None)) as web:
            pages = (await web.get(f"{url}/config")).json()["dependencies"]
            first = await trained(web, url, owner, app, options.rows, [], Seen())  # its model is what people ask
            files = {p.name: p.read_bytes() for p in first.artifact.iterdir() if p.is_file()}
            hub.create_repo(MODEL, files=files)
            for one in others[: options.lookers]:  # pages are open before anybody trains
                await handled(web, url, tick_of(pages)["id"], LOOK, one, one.page)
            machine.let_first(())  # those who ask are elsewhere, and take nothing of this machine
            for number in range(options.rounds):
                for crowd in (False, True) if number % 2 == 0 else (True, False):
                    seen.over.clear()
                    tasks = crowd_of(web, url, pages, others, options, seen) if crowd else []
                    run = await trained(web, url, owner, app, options.rows, tasks, seen if crowd else Seen())
                    (among if crowd else alone).append(run.result()["cost"]["examples_per_second"])
        kept = uploaded(others, seen)
    counts, slowed = seen.counts, 1 - statistics.median(among) / statistics.median(alone)
    rows = [
        (f"{options.lookers} open pages: looks answered, dropped", told(counts, "look")),
        (f"{options.uploaders} who upload {FILE >> 20} MB, then look at it for {PAUSE:g} s: files taken, dropped",
         told(counts, "upload")),
        ("of these files, whole and with their owner alone", f"{kept:,}"),
        (f"{options.askers} who ask, then read for {PAUSE:g} s: answered, dropped", told(counts, "question")),
        ("of these, told to try again in a moment first", f"{counts['question waited'] + counts['upload waited']:,}"),
        *((f"seconds until a {what} was answered: half of them, the longest",
           f"{statistics.median(times):.1f}, {max(times):.1f}") for what, times in seen.waited.items() if times),
        ("the app's memory, before and at most", f"{before:.0f} MB, {seen.app:.0f} MB"),
        ("the app's and of all its processes but the trainer's, at most", f"{seen.others:,.0f} MB"),
        ("examples/s of training, alone", ", ".join(f"{rate:.1f}" for rate in alone)),
        ("examples/s of training, among them", ", ".join(f"{rate:.1f}" for rate in among)),
        ("training slowed by (medians)", f"{slowed:.1%}"),
        *((f"of all processor time while they were there: {who}", f"{seconds / seen.whole:.1%}")
          for who, seconds in seen.spent.most_common()),
    ]  # fmt: skip
    return [
        *rows,
        ("priorities of the app and of trainers, which have sessions of their own, are", compared()),
    ], seen.dropped


def compared() -> str:
    """Tell whether the kernel compares priorities of sessions, as it does in every container."""
    by_session = BY_SESSION.exists() and BY_SESSION.read_text().strip() == "1"
    return "not compared (sysctl kernel.sched_autogroup_enabled=0)" if by_session else "compared, as in a container"


def told(counts: Counter[str], who: str) -> str:
    return f"{counts[f'{who} answered']:,}, {counts[f'{who} dropped']}"


# --- a Space, and people ---


@contextlib.contextmanager
def served(place: Path, hub: HubServer) -> Iterator[tuple[psutil.Process, str]]:
    """Serve the app as a Space with its own defaults."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_HUB_OFFLINE")},
        **hub.env(), **SPACE, "PYTHONPATH": path, "HFTRANSFER_ROOT": str(place / "root"),
        "GRADIO_TEMP_DIR": str(place / "received"), "GRADIO_ANALYTICS_ENABLED": "False",
    }  # fmt: skip
    with open(place / "app.log", "wb") as log:
        app = subprocess.Popen(
            [sys.executable, "-m", "hftransfer.cli", "app", "--port", str(port)], cwd=place, env=environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            assert app.poll() is None, (place / "app.log").read_text()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/config", timeout=2).status_code == 200:
                    break
            time.sleep(0.1)
        yield psutil.Process(app.pid), url
    finally:
        for child in psutil.Process(app.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        app.kill()
        app.wait()


def person(hub: HubServer, root: Path, number: int) -> Person:
    """Return somebody with an account."""
    name = f"person{number}"
    user = hub.add_user(name)
    token = hub.token(name)
    settings = Settings.read({"SPACE_ID": "owner/space", "HFTRANSFER_ROOT": str(root)})
    return Person(number, name, token, visitors.user(settings, name, token, user.id).folder)


def finished(folder: Path) -> None:
    """Make a run that is done, for a page to look at."""
    run = Run(folder)
    folder.mkdir(parents=True)
    run.config_path.write_text("task: text-classification\nmodel: m\ndata: {source: x}\n")
    lines: list[dict[str, Any]] = [{"type": "launched", "command": []}, {"type": "phase", "name": "training"}]
    lines += [{"type": "log", "step": k, "max_steps": EVENTS, "loss": 1 / (k + 1)} for k in range(EVENTS)]
    lines += [{"type": "failed", "message": "as it was to", "user_error": True}]
    run.events_path.write_text("".join(json.dumps({"time": 1.0 + k, **e}) + "\n" for k, e in enumerate(lines)))


def uploaded(people: list[Person], seen: Seen) -> int:
    """Return how many of the files that were taken are there, whole and once; what is not is dropped."""
    found = 0
    for one in people:
        for path in (one.folder / "uploads").glob("*.csv"):
            whole = hashlib.sha256(path.read_bytes()).hexdigest() == path.stem.partition("-")[2]
            found += whole and path.stem.startswith(f"{one.name}-")
    if found != seen.counts["upload answered"]:
        seen.drop("upload", f"{seen.counts['upload answered']} were taken, and {found} are there, whole")
    return found


def memory(process: psutil.Process) -> float:
    """Return a process's own memory in MB."""
    with contextlib.suppress(psutil.Error):
        return float(process.memory_info().rss / 1e6)
    return 0.0


def is_trainer(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        words = " ".join(process.cmdline())
        return "_alone" in words or "train.py" in words or "accelerate" in words
    return True


# --- what they do ---


LOOK = ["looked-at", "sample:vader-tweets", "sample:all-minilm-l6-v2", "full", None, None]  # what a page sends with it


def tick_of(pages: list[Any]) -> dict[str, Any]:
    """Return the handler that looks at a run."""
    return next(d for d in pages if any(target[1] == "tick" for target in d["targets"]))


def crowd_of(
    web: httpx.AsyncClient, url: str, pages: list[Any], people: list[Person], options: argparse.Namespace, seen: Seen
) -> list[asyncio.Task[None]]:
    """Let everybody begin."""
    tick = tick_of(pages)
    taken = next(
        d for d in pages if [t[1] for t in d["targets"]] == ["upload"] and d["inputs"] == [d["targets"][0][0]]
    )
    todo = [
        *(look(web, url, tick, one, seen) for one in people[: options.lookers]),
        *(upload(web, url, taken["id"], one, seen) for one in people[: options.uploaders]),
        *(ask(web, url, one, seen) for one in people[: options.askers]),
    ]
    return [asyncio.create_task(one) for one in todo]


async def trained(
    web: httpx.AsyncClient, url: str, owner: Person, app: psutil.Process, rows: int, crowd: list[asyncio.Task[None]],
    seen: Seen,
) -> Run:  # fmt: skip
    """Train once, and let the crowd go when the run has ended."""
    config = {**CONFIG, "data": {**CONFIG["data"], "max_rows": rows}}  # type: ignore[dict-item]
    begun = await called(web, url, "start", [json.dumps(config), 1, "local", None], owner)
    assert "run" in begun, begun
    run, spent = Run(owner.folder / "runs" / begun["run"]), Spent(app)
    while not (status := await asyncio.to_thread(run.status)).finished:
        seen.app = max(seen.app, memory(app))
        held = [memory(one) for one in spent.look() if not is_trainer(one)]
        seen.others = max(seen.others, memory(app) + sum(held))
        await asyncio.sleep(0.5)
    seconds, whole = spent.shares(machine.cores())
    seen.spent.update(seconds)
    seen.whole += whole
    seen.over.set()
    await asyncio.gather(*crowd)
    assert status.state == "done", (status, run.log_path.read_text()[-2000:])
    return run


async def handled(
    web: httpx.AsyncClient, url: str, number: int, data: list[Any], who: Person, session: str = ""
) -> dict[str, Any]:  # fmt: skip
    """Call a handler of the page, an open one's of that session, and return what its stream says at the end."""
    session = session or secrets.token_hex(8)
    body = {"data": data, "fn_index": number, "session_hash": session}
    (await web.post(f"{url}/gradio_api/queue/join", json=body, headers=who.headers)).raise_for_status()
    stream = f"{url}/gradio_api/queue/data?session_hash={session}"
    async with web.stream("GET", stream, headers=who.headers) as lines:
        async for line in lines.aiter_lines():
            if "process_completed" in line:
                answer: dict[str, Any] = json.loads(line.removeprefix("data:"))
                return answer
    raise ConnectionError("the stream ended without an answer")


async def called(web: httpx.AsyncClient, url: str, name: str, data: list[Any], who: Person) -> Any:
    """Call an endpoint for programs; {"refused": words} where it refuses."""
    asked = await web.post(f"{url}/gradio_api/call/{name}", json={"data": data}, headers=who.headers)
    asked.raise_for_status()
    number = asked.json()["event_id"]
    kind = ""
    async with web.stream("GET", f"{url}/gradio_api/call/{name}/{number}", headers=who.headers) as lines:
        async for line in lines.aiter_lines():
            if line.startswith("event:"):
                kind = line.removeprefix("event:").strip()
            elif line.startswith("data:") and kind in ("complete", "error"):
                found = json.loads(line.removeprefix("data:"))
                return found[0] if kind == "complete" else {"refused": found}
    raise ConnectionError("the stream ended without an answer")


async def look(web: httpx.AsyncClient, url: str, tick: dict[str, Any], who: Person, seen: Seen) -> None:
    """Look at one's run as an open page does, as often as its timer says."""
    place, pause = tick["outputs"].index(tick["targets"][0][0]), 1.0
    await seen.wait(random.uniform(0, monitor.LONGEST))  # pages were opened one after the other
    while not seen.over.is_set():
        try:
            began = time.monotonic()
            answer = await handled(web, url, tick["id"], LOOK, who, who.page)
            if answer["success"]:
                seen.counts["look answered"] += 1
                seen.waited["look"].append(time.monotonic() - began)
                pause = float((answer["output"]["data"][place] or {}).get("value", pause))
            else:
                seen.drop("look", answer)
        except (httpx.HTTPError, ConnectionError) as error:
            seen.drop("look", repr(error))
        await seen.wait(pause)


async def upload(web: httpx.AsyncClient, url: str, number: int, who: Person, seen: Seen) -> None:
    """Bring one file after the other, each named by its content."""
    while not seen.over.is_set():
        began = time.monotonic()
        row = f"a film of {secrets.token_hex(16)},good\n".encode()
        content = b"text,label\n" + row * (FILE // len(row))
        name = f"{who.name}-{hashlib.sha256(content).hexdigest()}.csv"
        try:
            sent = await web.post(f"{url}/gradio_api/upload", files={"files": (name, content)}, headers=who.headers)
            sent.raise_for_status()
            file = {"path": sent.json()[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}
            answer = await handled(web, url, number, [file], who, f"{who.page}-data")
            if answer["success"]:
                seen.counts["upload answered"] += 1
                seen.waited["upload"].append(time.monotonic() - began)
            else:
                seen.drop("upload", answer["output"])
        except (httpx.HTTPError, ConnectionError) as error:
            seen.drop("upload", repr(error))
        await seen.wait(PAUSE)


async def ask(web: httpx.AsyncClient, url: str, who: Person, seen: Seen) -> None:
    """Ask one question after the other; who is told to try again in a moment does."""
    while not seen.over.is_set():
        began, end = time.monotonic(), time.monotonic() + PATIENCE
        try:
            while True:
                answer = await called(web, url, "predict", [MODEL, ["what a good film"], 2], who)
                if isinstance(answer, list):
                    seen.counts["question answered"] += 1
                    seen.waited["question"].append(time.monotonic() - began)
                    break
                if "again" not in str(answer) or time.monotonic() > end:
                    seen.drop("question", answer)
                    break
                seen.counts["question waited"] += 1
                await asyncio.sleep(2.0)
        except (httpx.HTTPError, ConnectionError) as error:
            seen.drop("question", repr(error))
        await seen.wait(PAUSE)


if __name__ == "__main__":
    sys.exit(main())
