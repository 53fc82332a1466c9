"""A published model that answers in a visitor's browser: what is loaded, and how long the first answer takes."""

from __future__ import annotations

import contextlib
import mimetypes
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.measuring import ROOT, Sizes, here
from benchmarks.page import Table, table
from hftransfer import samples
from hftransfer.export import onnx
from hftransfer.hub import demo
from hftransfer.runs import Run

CHROMIUM = "/usr/bin/chromium"
NODE = ROOT / "tests" / "node"
REPO = "me/mine"
HOSTS = ("https://cdn.jsdelivr.net/", "https://huggingface.co/")
PATIENCE = 300_000  # ms
ROUNDS = 3  # visits of each kind, at least


@dataclass
class Served:
    """What a local server sent: bytes by kind, since they were last taken."""

    address: str = ""
    sent: dict[str, int] = field(default_factory=dict)

    def taken(self) -> dict[str, int]:
        """Return the bytes by kind, and count anew."""
        found, self.sent = self.sent, {}
        return found


@dataclass(frozen=True)
class Visit:
    """One visit of the page: seconds until it can be asked and until its first answer, and bytes by kind."""

    ready: float
    answer: float
    sent: dict[str, int]


def measure(folder: Path, sizes: Sizes) -> str:
    """Train on some tweets, export, and visit the page of the demo: in a fresh browser, and again."""
    run = here(folder / "run", "method.name=full", "train.num_train_epochs=1", "data.max_rows=1200", *sizes.cap)
    onnx.export(run)
    found = visits(run, packages(), max(2 if sizes.rows else ROUNDS, sizes.rounds))
    kinds = ("page and libraries", "model")
    rows: Table = [("visit", *(f"MB of {kind}" for kind in kinds), "s until ready", "s until the first answer")]
    for called, seen in found.items():
        megabytes = [max(one.sent.get(kind, 0) for one in seen) / 1e6 for kind in kinds]
        times = [spread([one.ready for one in seen]), spread([one.answer for one in seen])]
        rows.append((called, *(f"{size:.1f}" for size in megabytes), *times))
    said = (
        "A text classifier of `all-minilm-l6-v2`, 8 bits, in headless Chromium on this machine's processors: the page "
        f"of `hftransfer publish --demo` with transformers.js {demo.VERSION}, from a server on this machine, so that "
        "no network is in the seconds; at 50 Mbit/s each MB adds 0.16 s. Bytes as the files are, which a CDN sends "
        f"compressed. The first visit in a fresh profile, the second in the same one; median (least, most) of "
        f"{len(next(iter(found.values())))}."
    )
    return "\n\n".join([said, table(rows)])


def spread(seconds: list[float]) -> str:
    """Return a median with the least and the most."""
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f}, {max(seconds):.1f})"


def packages() -> Path:
    """Return the folder of transformers.js and onnxruntime-web, installed once by npm, without their scripts."""
    for place in (NODE, samples.cache_folder() / "benchmarks" / f"transformers.js-{demo.VERSION}"):
        if (place / "node_modules" / "@huggingface" / "transformers").is_dir():
            return place / "node_modules"
    place.mkdir(parents=True, exist_ok=True)
    (place / "package.json").write_text((NODE / "package.json").read_text(encoding="utf-8"), encoding="utf-8")
    words = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--prefix", str(place)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return place / "node_modules"


def visits(run: Run, packages: Path, rounds: int) -> dict[str, list[Visit]]:
    """Visit the page of a run's demo twice in each of `rounds` fresh browsers."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[Visit]] = {"first": [], "again": []}
    with serving(run, packages) as served, sync_playwright() as play:
        for _ in range(rounds):
            browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            with contextlib.closing(browser.new_context()) as context:
                context.set_default_timeout(PATIENCE)
                for seen in found.values():
                    seen.append(visit(context, served))
            browser.close()
    return found


def visit(context: Any, served: Served) -> Visit:
    """Open the page, ask what stands there as soon as it can be asked, and wait for the answer."""
    served.taken()
    began = time.perf_counter()
    with contextlib.closing(context.new_page()) as window:
        window.goto(served.address)
        status = window.get_by_role("status")
        status.filter(has_text="Ready.").or_(status.filter(has_text="could not")).wait_for()
        ready = time.perf_counter() - began
        if "could not" not in status.inner_text():
            window.get_by_role("button", name="Ask").click()
            status.filter(has_text="Answered in").or_(status.filter(has_text="could not")).wait_for()
        if "could not" in (said := status.inner_text()):
            raise RuntimeError(said)
        return Visit(ready, time.perf_counter() - began, served.taken())


@contextlib.contextmanager
def serving(run: Run, packages: Path) -> Iterator[Served]:
    """Serve the page, the libraries and the model, as the CDN and the Hub do, at one address of this machine."""
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            kind, name, body = content(self.path.partition("?")[0], run, packages, served.address)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", content_type(name))
            self.send_header("Content-Length", str(len(body or b"")))
            if kind != "model":
                self.send_header("Cache-Control", "public, max-age=31536000, immutable")
            self.end_headers()
            self.wfile.write(body or b"")
            served.sent[kind] = served.sent.get(kind, 0) + len(body or b"")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.address = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


def content(path: str, run: Run, packages: Path, address: str) -> tuple[str, str, bytes | None]:
    """Return the kind, the name and the bytes behind a path, addresses replaced; None where there is nothing."""
    if path == "/":
        return "page and libraries", "index.html", here_alone(demo.page(run, REPO).encode(), address)
    if path.startswith(f"/{REPO}/resolve/main/"):
        file = run.artifact / path.partition("/resolve/main/")[2]
        return "model", file.name, file.read_bytes() if file.is_file() else None
    folders: dict[str, Callable[[str], Path]] = {
        "/npm/@huggingface/transformers@": lambda name: (
            packages / "@huggingface/transformers/dist/transformers.min.js"
        ),
        "/npm/onnxruntime-web@": lambda name: packages / "onnxruntime-web" / "dist" / name,
    }
    for begins, place in folders.items():
        file = place(path.rpartition("/")[2])
        if path.startswith(begins) and file.is_file():
            body = file.read_bytes()
            return "page and libraries", file.name, here_alone(body, address) if ".wasm" not in file.name else body
    return "page and libraries", path, None


def here_alone(body: bytes, address: str) -> bytes:
    """Return a page or a script that asks this server for what it would ask the CDN and the Hub for."""
    for host in HOSTS:
        body = body.replace(host.encode(), address.encode())
    return body


def content_type(name: str) -> str:
    """Return the type by a file's name; modules of JavaScript are scripts too."""
    if name.endswith((".js", ".mjs")):
        return "text/javascript"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
