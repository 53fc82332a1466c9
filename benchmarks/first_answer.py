"""From a file to a first useful answer by the big buttons: python -m benchmarks.first_answer [TASK ...]

Clicks and seconds for each task with tiny models and rows (what app and engine take beside the model), the weight of
the page, a look at fifty runs, and the app's memory. Needs Debian's chromium. Prints Markdown.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks import app as app_costs
from hftransfer import catalog
from tests.browser.big_buttons import brought, serving, well_known

RUNS = 50
MINUTES = 20


def main() -> int:
    """Measure and print a table of tasks, and one of what the page weighs."""
    from playwright.sync_api import sync_playwright

    tasks = sys.argv[1:] or list(catalog.tasks())
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as (app, hub), sync_playwright() as play:
        browser = play.chromium.launch(executable_path=app_costs.CHROMIUM, args=["--no-sandbox"])
        print("| task | clicks | seconds | first answer |\n| --- | --- | --- | --- |")
        for task in tasks:
            place = Path(folder) / task
            place.mkdir()
            well_known(task, hub, place)
            file = brought(task, place)
            page = browser.new_page()
            clicks, seconds, said = way(page, app.url, file)
            page.close()
            print(f"| {task} | {clicks} | {seconds:.0f} | {said} |", flush=True)
        assert app.process is not None
        used = app_costs.memory(psutil.Process(app.process.pid))
        print("\n| what | measured |\n| --- | --- |")
        body = httpx.get(app.url).content
        app_costs.tell("the page", f"{len(body) / 1e3:.0f} kB, {len(gzip.compress(body)) / 1e3:.0f} kB compressed")
        app_costs.tell("all that a browser fetches to show it", f"{fetched(browser, app.url) / 1e6:.1f} MB")
        cold, warm = app_costs.looks(Path(folder) / "looks", RUNS, 200)
        app_costs.tell(f"a look at one of {RUNS} runs, first", f"{cold * 1000:.0f} ms")
        app_costs.tell("the same, every further one", f"{warm * 1000:.1f} ms")
        app_costs.tell(f"the app's memory after {len(tasks)} runs", f"{used:.0f} MB")
        browser.close()
    return 0


def way(page: Any, url: str, file: Path) -> tuple[int, float, str]:
    """Go from opening the page to a score by big buttons; return clicks, seconds and what stands there.

    The first model, a probe, is taken where one is offered.
    """
    page.set_default_timeout(MINUTES * 60_000)
    began = time.monotonic()
    page.goto(url)
    page.wait_for_selector("#nav-texts", state="attached")
    page.locator("#upload input[type=file]").set_input_files(file)
    page.wait_for_selector("#data-rows table")
    page.locator("#train-now").click()
    clicks = 2
    page.wait_for_selector("#run-head .state")
    took_first = False
    while page.locator("#run-head .state.done").count() == 0:
        offered = page.locator("#take-probe")
        if not took_first and offered.is_visible():
            offered.click()
            clicks, took_first = clicks + 1, True
            page.wait_for_selector("#run-head .state:not(.done)")
        page.wait_for_timeout(200)
        assert not page.locator("#run-head .state.failed, #run-head .state.killed").count(), "the run failed"
        assert time.monotonic() - began < 60 * MINUTES
    page.locator("#onward").click()
    page.wait_for_selector("#scores .answer")
    said = page.locator("#scores .answer").inner_text().replace("\n", " ")
    return clicks + 1, time.monotonic() - began, said


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
