"""Make docs/screenshots/*.png: every step of the app over real sample data, in a real browser. Run: make screenshots

Needs Debian's chromium (apt-get install chromium) and the samples of `hftransfer samples text`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHOTS = ROOT / "docs" / "screenshots"
CHROMIUM = "/usr/bin/chromium"
MOST = 200_000  # bytes of one picture
STEPS = ("data", "model", "train", "result", "try", "publish")
WAIT = 900_000  # milliseconds: a run on two busy cores takes minutes


def main() -> int:
    """Go the whole way once and take a picture of every step, wide and narrow, light and dark."""
    from playwright.sync_api import sync_playwright

    SHOTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as url, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = opened(browser, url, 1280, "light")
        choose_data(page)
        choose_model(page)
        train(page)
        look(page)
        address = page.url.partition("#")[0]
        state = page.context.storage_state()
        for name, width, scheme in (("phone", 390, "light"), ("dark", 1280, "dark")):
            other = opened(browser, address, width, scheme, state)
            for step in ("train", "result") if name == "dark" else ("data", "result", "try"):
                go(other, step)
                other.wait_for_timeout(6000 if step == "data" else 1500)
                shot(other, f"{step}-{name}")
        browser.close()
    return 0


def choose_data(page: Any) -> None:
    """Step 1."""
    page.get_by_label("A sample", exact=True).check()
    page.get_by_role("button", name="vader-tweets").click()
    page.wait_for_selector("#data-rows table")
    page.get_by_text("Rows and splits").click()
    page.wait_for_timeout(800)
    page.locator("#max-rows textarea, #max-rows input").fill("1200")
    page.get_by_text("Rows and splits").click()
    shot(page, "data")


def choose_model(page: Any) -> None:
    """Step 2, with a measured estimate."""
    go(page, "model")
    page.get_by_role("button", name="all-minilm-l6-v2").click()
    page.wait_for_selector("#model-about dl")
    page.locator("#epochs textarea, #epochs input").fill("2")
    page.get_by_role("button", name="Measure what it will cost").click()
    page.wait_for_selector("#estimate dl")
    shot(page, "model")


def train(page: Any) -> None:
    """Step 3, taken while it goes on."""
    go(page, "train")
    page.locator("#start").click()
    page.wait_for_selector("#curves .chart:nth-child(2) svg")
    page.wait_for_function("document.querySelectorAll('#curves .chart').length >= 3")
    page.wait_for_timeout(2500)
    shot(page, "train", 1150)  # without the rows of strangers, which are no fit for a page of documents
    page.wait_for_selector("#run-head .state.done")


def look(page: Any) -> None:
    """Steps 4 to 6."""
    go(page, "result")
    page.wait_for_selector("#scores .answer")
    page.locator("#show-errors").click()
    page.wait_for_selector("#errors .error")
    shot(page, "result")
    go(page, "try")
    page.locator("#try-text textarea").fill("The new update is gorgeous, only the battery is a little sad.")
    page.locator("#ask").click()
    page.wait_for_selector("#answer .bars")
    page.locator("#why").click()
    page.wait_for_selector("#mattered .words")
    shot(page, "try")
    go(page, "publish")
    page.wait_for_selector("#card h3")
    shot(page, "publish")


def go(page: Any, step: str) -> None:
    """Open a step."""
    page.locator(f".steps a[href='#{step}']").click()
    page.wait_for_timeout(500)


def opened(browser: Any, url: str, width: int, scheme: str, state: Any = None) -> Any:
    """Open the page in a window of its own."""
    context = browser.new_context(viewport={"width": width, "height": 860}, color_scheme=scheme, storage_state=state)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.goto(url)
    page.wait_for_selector("#nav-texts", state="attached")
    return page


def shot(page: Any, name: str, most: int = 1900) -> None:
    """Write a picture of the page from its top, in few colours: they are quiet pages, and it makes small files."""
    import io

    from PIL import Image

    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.wait_for_timeout(400)
    tall = min(page.evaluate("document.documentElement.scrollHeight"), most)
    taken = page.screenshot(
        full_page=True, clip={"x": 0, "y": 0, "width": page.viewport_size["width"], "height": tall}
    )
    path = SHOTS / f"{name}.png"
    Image.open(io.BytesIO(taken)).convert("RGB").quantize(128).save(path, optimize=True)
    assert path.stat().st_size < MOST, path
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the app in a folder of its own."""
    if not shutil.which("chromium"):
        raise SystemExit("chromium is needed: apt-get install chromium")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part)
    command = [sys.executable, "-m", "hftransfer.cli", "app", "--port", str(port), "--root", str(folder)]
    app = subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": paths})
    url = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(1500):  # a busy machine takes a minute or two to start it
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
                break
            time.sleep(0.2)
        yield url
    finally:
        app.terminate()
        app.wait()


if __name__ == "__main__":
    sys.exit(main())
