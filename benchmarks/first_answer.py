"""From a file to a first useful answer by the big buttons: python -m benchmarks.first_answer [TASK ...]

Clicks and seconds for each task with tiny models and rows (what app and engine take beside the model), the weight of
the page, a look at fifty runs, and the app's memory. Needs Debian's chromium. Prints Markdown;
`python -m benchmarks.run clicks --write` puts it into docs/benchmarks.md.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks import app as app_costs
from benchmarks.page import table
from hftransfer import catalog
from tests.browser.big_buttons import brought, serving, well_known

RUNS = 50
MINUTES = 4  # that a task may take; the goal is one


@dataclass(frozen=True)
class Way:
    """What it took from opening the page to a first answer."""

    clicks: int
    rows_seconds: float
    seconds: float
    said: str

    def cells(self) -> list[str]:
        """Return it as cells of a table."""
        return [str(self.clicks), f"{self.rows_seconds:.0f}", f"{self.seconds:.0f}", self.said]


def main() -> int:
    """Measure the tasks named, or all, and print Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        told, failed = measured(Path(folder), sys.argv[1:] or list(catalog.tasks()))
    print(told)
    return 1 if failed else 0


def measure(folder: Path, sizes: Any) -> str:
    """Return the section of docs/benchmarks.md."""
    return measured(folder, list(catalog.tasks()))[0]


def measured(folder: Path, tasks: Sequence[str]) -> tuple[str, list[str]]:
    """Return a table of tasks and one of what the page weighs, and the tasks that came to no answer."""
    from playwright.sync_api import TimeoutError as Late
    from playwright.sync_api import sync_playwright

    failed: list[str] = []
    rows = [["task", "clicks", "rows seen, s", "first answer, s", "what it says"]]
    with serving(folder) as (app, hub), sync_playwright() as play:
        browser = play.chromium.launch(executable_path=app_costs.CHROMIUM, args=["--no-sandbox"])
        for task in tasks:
            place = folder / task
            place.mkdir()
            well_known(task, hub, place)
            file = brought(task, place)
            page = browser.new_page(reduced_motion="reduce")
            try:
                rows.append([task, *way(page, app.url, file).cells()])
            except (RuntimeError, Late) as error:  # the others are measured all the same
                failed.append(task)
                page.evaluate("document.getElementById('stop')?.click()")  # it would take the next one's time
                page.wait_for_timeout(3000)
                rows.append([task, "-", "-", "-", " ".join(str(error).split())[:200]])
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
            page.close()
        assert app.process is not None
        used = app_costs.memory(psutil.Process(app.process.pid))
        body = httpx.get(app.url).content
        cold, warm = app_costs.looks(folder / "looks", RUNS, 200)
        weights = [
            ["what", "measured"],
            ["the page", f"{len(body) / 1e3:.0f} kB, {len(gzip.compress(body)) / 1e3:.0f} kB compressed"],
            ["all that a browser fetches to show it", f"{fetched(browser, app.url) / 1e6:.1f} MB"],
            [f"a look at one of {RUNS} runs, first", f"{cold * 1000:.0f} ms"],
            ["the same, every further one", f"{warm * 1000:.1f} ms"],
            [f"the app's memory after {len(tasks)} runs", f"{used:.0f} MB"],
        ]
        browser.close()
    about = (
        "A click each for the file, *Train* and, where one is offered, *Take the first model now*. Models and "
        "rows are tiny: this is what app and engine take beside the model."
    )
    return f"{about}\n\n{table(rows)}\n\n{table(weights)}", failed


def way(page: Any, url: str, file: Path) -> Way:
    """Go from opening the page to a score beside its baseline by big buttons; the first model is taken where one is.

    RuntimeError where the run fails or takes longer than MINUTES.
    """
    page.set_default_timeout(MINUTES * 60_000)
    began = time.monotonic()
    page.goto(url)
    page.wait_for_selector("#nav-texts", state="attached")
    page.locator("#upload input[type=file]").set_input_files(file)
    page.wait_for_selector("#data-rows table, #data-said .note.bad")
    seen = time.monotonic() - began
    page.locator("#train-now").click()
    page.wait_for_selector("#run-head .state")
    clicks, took_first = 2, False
    while page.locator("#run-head .state.done").count() == 0:
        offered = page.locator("#take-probe")
        if not took_first and offered.is_visible():
            offered.click()
            clicks, took_first = clicks + 1, True
            page.wait_for_selector("#run-head .state:not(.done)")
        if page.locator("#run-head .state.failed, #run-head .state.killed").count():
            raise RuntimeError(page.locator("#run-head").inner_text())
        if time.monotonic() - began > 60 * MINUTES:
            raise RuntimeError(f"no answer in {MINUTES} minutes: {page.locator('#run-part').inner_text()}")
        page.wait_for_timeout(200)
    page.wait_for_selector("#run-head .answer")
    said = page.locator("#run-head .answer").inner_text().replace("\n", " ")
    return Way(clicks, seen, time.monotonic() - began, said)


def fetched(browser: Any, url: str) -> int:
    """Return the bytes that a fresh browser fetches until the page can be used."""
    page, total = browser.new_page(), [0]
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: total.append(int(event["encodedDataLength"])))
    page.goto(url)
    page.wait_for_selector("#nav-texts", state="attached")
    page.wait_for_timeout(1000)
    page.close()
    return sum(total)


if __name__ == "__main__":
    sys.exit(main())
