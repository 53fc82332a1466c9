"""The app in a process of its own, and headless Chromium before it; one browser for all tests, a context for each."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from hftransfer.runs import MARK, Run
from tests import tiny
from tests.hub_server import HubServer

CHROMIUM = "/usr/bin/chromium"
ROOT = Path(__file__).parents[2]
HEARS = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")  # a microphone that beeps
SECONDS = 180.0  # nothing here takes half of it, also where other work shares the cores
HOSTILE = "<img src=x onerror=window.hacked=1>"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a browser only where Debian's Chromium is missing."""
    if not Path(CHROMIUM).exists():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=f"{CHROMIUM} is missing: apt-get install chromium"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Start the browser once a file: while it is there its event loop runs, and no other can be started."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *HEARS])
        yield browser
        browser.close()


@dataclass
class Window:
    """One browser with its own storage, and everything that it asked for or complained about."""

    context: Any
    url: str
    hosts: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def page(self, step: str = "data", **query: str) -> Any:
        """Open the page at a step."""
        page = self.context.new_page()
        page.set_default_timeout(SECONDS * 1000)
        page.on("request", lambda request: self._note(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        page.goto(f"{self.url}/{f'?{asked}' if asked else ''}#{step}")
        page.wait_for_selector(".steps a")
        page.wait_for_selector("#nav-texts", state="attached")  # the first look at the runs is there
        return page

    def _note(self, url: str) -> None:
        if url.startswith(("http:", "https:", "ws:", "wss:")):
            self.hosts.add(url.split("/")[2])


@pytest.fixture
def window(chromium: Any) -> Iterator[Callable[..., Window]]:
    """Return `open_window(url)`; what any page did wrong fails the test."""
    opened: list[Window] = []

    def open_window(url: str, width: int = 1280, **options: Any) -> Window:
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        opened.append(Window(context, url))
        return opened[-1]

    yield open_window
    for one in opened:
        one.context.close()
    assert not [error for one in opened for error in one.errors]
    assert {host for one in opened for host in one.hosts} <= {one.url.split("/")[2] for one in opened}


@dataclass
class App:
    """`hftransfer app` in a folder of its own."""

    folder: Path
    environment: dict[str, str]
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "hftransfer.cli", "app", "--port", str(self.port), "--root", str(self.folder)]
        with open(self.folder / "app.log", "ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url, timeout=2):
                return
            assert self.process.poll() is None, self.log()
            time.sleep(0.1)
        raise AssertionError(self.log())

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(SECONDS)

    def log(self) -> str:
        return (self.folder / "app.log").read_text()[-4000:]

    def run(self) -> Run:
        """Return the newest run."""
        return Run(max((self.folder / "runs").iterdir(), key=lambda folder: folder.stat().st_ctime))


@pytest.fixture(scope="session")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a model, and a table with a label that wants to be HTML."""
    folder = tmp_path_factory.mktemp("materials")
    tiny.text_model(folder / "model")
    path = tiny.text_csv(folder / "rows.csv", 200)
    path.write_text(path.read_text().replace(",positive", f",{HOSTILE}"))
    return folder


@pytest.fixture
def hub(tmp_path: Path, materials: Path) -> Iterator[HubServer]:
    """A Hub that holds the model."""
    with HubServer(tmp_path / "hub") as server:
        files = {path.name: path.read_bytes() for path in (materials / "model").iterdir()}
        files["README.md"] = b"---\nlicense: apache-2.0\npipeline_tag: text-classification\n---\n"
        server.create_repo("acme/tiny-bert", files=files)
        yield server


@pytest.fixture
def app(tmp_path: Path, hub: HubServer) -> Iterator[App]:
    """Serve the app as alice; whatever it started has ended with the test."""
    folder = tmp_path / "app"
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {
        **kept, **hub.env("alice"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "hf"),
        "GRADIO_TEMP_DIR": str(tmp_path / "gradio"), "GRADIO_ANALYTICS_ENABLED": "False",
    }  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = App(folder, environment, port)
    served.start()
    yield served
    served.stop()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if str(tmp_path) in process.environ().get(MARK, ""):
                process.kill()


SHOTS = os.environ.get("HFTRANSFER_SHOTS")  # a folder for pictures of each step, to be looked at


def shot(page: Any, name: str) -> None:
    """Keep a picture of a page at both widths, where somebody asks for them."""
    if SHOTS:
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(400)
            page.screenshot(path=f"{SHOTS}/{name}-{width}.png", full_page=True)
        page.set_viewport_size({"width": 1280, "height": 900})
