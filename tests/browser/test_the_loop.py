"""The loop: trained, labels mended by a key each, a row added, saved as a revision, trained again, compared."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hftransfer.runs import Run
from hftransfer.ui import adding, mending
from tests import tiny
from tests.browser.conftest import App, shot
from tests.browser.test_the_way import QUICK, fill_from_text, go, start, wait_for
from tests.hub_server import HubServer

pytestmark = [pytest.mark.slow, pytest.mark.long]
WRONG = 9  # rows whose label is the other one
OTHER = {"positive": "negative", "negative": "positive"}


def rows_with_wrong_labels(path: Path, count: int = 240) -> Path:
    """Write sentences of which a few are labelled as they are not."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["text", "label"])
        for number, (text, label) in enumerate(tiny.sentences(count)):
            out.writerow([text, OTHER[label] if number % (count // WRONG) == 5 else label])
    return path


def rows_of_test(run: Run) -> list[tuple[str, str]]:
    """Return the test rows of a run: what each is known by, and its label."""
    table = pq.read_table(run.folder / "predictions" / "test.parquet").to_pylist()
    return sorted((str(row["row_id"]), str(row["label"])) for row in table)


def newest_done(page: Any, app: App, before: Run) -> Run:
    """Wait until another run than that one is in view and done."""
    page.wait_for_function("name => !location.search.includes(name)", arg=before.name)
    run = app.run()
    page.wait_for_selector(f"#run-head h3[title='{run.name}']")
    page.wait_for_selector("#run-head .state.done")
    return run


def press(page: Any, app: App, run: Run, key: str) -> tuple[str, str]:
    """Press one key for the row that is asked about; return the row and what it is now."""
    before = {*mending.decided(app.folder / "uploads" / f"corrections-{run.name}.csv")}
    page.keyboard.press(key)
    made = wait_for(
        lambda: {
            row: label
            for row, (_, label) in mending.decided(app.folder / "uploads" / f"corrections-{run.name}.csv").items()
            if row not in before
        },
        "the decision",
    )
    page.wait_for_function(
        "n => document.querySelector('#mend-row')?.textContent.includes(`${n + 1} of`)", arg=len(before) + 1
    )
    ((row, label),) = made.items()
    return row, label


def test_the_loop_is_closed(
    app: App, hub: HubServer, materials: Path, tmp_path: Path, window: Callable[..., Any]
) -> None:
    page = window(app.url).page()
    source = rows_with_wrong_labels(tmp_path / "rows.csv")
    quick = QUICK.format(model=materials / "model", source=source, steps=120, every=60)
    fill_from_text(page, quick.replace("learning_rate: 1e-3", "learning_rate: 3e-3"))
    first = start(page, app)
    page.wait_for_selector("#run-head .state.done")
    page.locator("#onward").click()

    # doubtful labels: a key each, and nothing else is touched
    page.wait_for_selector("#mend-row .words")
    shot(page, "loop-1-mend")
    kept, changed, dropped = (press(page, app, first, key) for key in "123")
    assert "1 kept, 1 changed, 1 left out" in page.locator("#mend-tally").inner_text()
    issues = {one.row_id: one for one in mending.issues_of(first.folder)}
    assert kept[1] == issues[kept[0]].given and changed[1] == issues[changed[0]].suggested and dropped[1] == ""

    # a row of one's own, from Try; one that it is tested on is refused
    go(page, "try")
    page.get_by_text("Examples of the test rows").click()
    page.locator("#examples [data-pick]").first.click()
    page.wait_for_selector("#answer .bars")
    page.locator("#should-be input").fill("positive")
    page.keyboard.press("Enter")
    page.locator("#add-row").click()
    page.wait_for_selector(".toast-body:has-text('this is a test row')")
    own = "a very odd film and the food was of the cast"
    page.locator("#try-text textarea").fill(own)
    page.locator("#ask").click()
    page.wait_for_selector("#answer .bars")
    page.locator("#should-be input").fill("positive")
    page.keyboard.press("Enter")
    page.locator("#add-row").click()
    page.wait_for_selector("#added-tally:has-text('Rows you added so far: 1.')")
    shot(page, "loop-2-added")
    added = app.folder / "uploads" / f"added-{first.name}" / adding.FILE
    assert adding.rows_of(added) == [{"label": "positive", "text": own}]

    # a revision of the data: a file, and a data set of the Hub
    with page.expect_download() as download:
        page.locator("#revision").click()
    written = list(csv.DictReader(download.value.path().read_text(encoding="utf-8").splitlines()))
    assert {"text": own, "label": "positive", "split": "train"} in written
    assert len(written) == 240 + 1 - 1  # one is added, one left out
    found = {row["text"]: row["label"] for row in written}
    assert found[issues[changed[0]].shown] == issues[changed[0]].suggested
    assert issues[dropped[0]].shown not in found
    page.locator("#revision-repo input, #revision-repo textarea").fill("alice/rows")
    page.locator("#revision-push").click()
    page.wait_for_selector("#revision-sent .note.good, #revision-sent .note.bad")
    assert "240 rows are at" in page.locator("#revision-sent").inner_text()

    # trained again, on the same test rows, and compared with the first
    page.locator("#train-added").click()
    second = newest_done(page, app, first)
    assert second.config().data.added == str(added)
    assert second.config().data.corrections == str(app.folder / "uploads" / f"corrections-{first.name}.csv")
    assert rows_of_test(second) == rows_of_test(first)
    prints = [run.result()["data"]["split_fingerprints"] for run in (first, second)]
    assert prints[0]["test"] == prints[1]["test"] and prints[0]["train"] != prints[1]["train"]
    page.locator("#onward").click()
    page.wait_for_selector("#verdict table, #verdict .note.warn")
    assert page.locator("#verdict table").count(), page.locator("#verdict").inner_text()
    shot(page, "loop-3-compared")
    side = page.locator("#side").inner_text()
    assert "different test rows" not in side and "rows added: 1" in side
    told = page.locator("#verdict").inner_text()
    assert "rows added: 1" in told and first.name not in told and second.name not in told
    assert "data.corrections" in side and "data.added" in side
