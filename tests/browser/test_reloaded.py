"""The page loaded anew at every moment of the way: what was there is there again, and nothing is started twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hftransfer.runs import Run
from hftransfer.ui import mending
from tests.browser.conftest import App, Window
from tests.browser.test_the_loop import rows_with_wrong_labels
from tests.browser.test_the_way import QUICK, comes_to_rest, fill_from_text, go, wait_for
from tests.hub_server import HubServer

pytestmark = [pytest.mark.slow, pytest.mark.long]


def anew(page: Any, step: str, form: bool = False) -> None:
    """Load the page anew: it opens at the same step. With `form`, once what was changed in the form is kept."""
    if form:
        comes_to_rest(page)
    page.reload()
    page.wait_for_selector("#nav-texts", state="attached")
    page.wait_for_selector(f"#panel-{step}", state="visible")
    assert page.url.endswith(f"#{step}")


def made(app: App) -> list[str]:
    return sorted(path.name for path in (app.folder / "runs").glob("[0-9]*"))


def updates_of(run: Run) -> int:
    return max((event["step"] for event in run.events()[0] if event["type"] == "log"), default=0)


def test_at_every_moment_the_page_is_there_again(
    app: App, hub: HubServer, materials: Path, tmp_path: Path, window: Callable[..., Window]
) -> None:
    page = window(app.url).page()
    source = rows_with_wrong_labels(tmp_path / "rows.csv")

    # before anything, and while a file is on its way: it is there, or may be brought again
    anew(page, "data")
    page.wait_for_selector("#data-said .empty")
    page.locator("#upload input[type=file]").set_input_files(source)
    page.reload()
    page.wait_for_selector("#nav-texts", state="attached")
    page.wait_for_timeout(1500)
    if not page.locator("#data-summary:has-text('rows.csv')").count():
        page.locator("#upload input[type=file]").set_input_files(source)

    # with rows, and with a model, a way, a number and an option
    page.wait_for_selector("#data-rows table")
    anew(page, "data", form=True)
    page.wait_for_selector("#data-summary:has-text('rows')")
    page.wait_for_selector("#data-rows table")
    assert "240" in page.locator("#data-summary").inner_text()
    quick = QUICK.format(model=materials / "model", source=source, steps=2_000, every=1_000)
    fill_from_text(page, quick.replace("learning_rate: 1e-3", "learning_rate: 5e-3") + "seed: 7\n")
    anew(page, "model", form=True)
    page.wait_for_function("() => document.querySelector('#method input').value === 'full'")
    assert page.get_by_label("Seed").input_value() == "7"
    assert made(app) == []

    # Start, and the page is gone before anything was answered
    go(page, "train")
    page.wait_for_selector("#train-summary dl:has-text('model')")
    page.locator("#start").click()
    page.reload()
    page.wait_for_selector("#nav-texts", state="attached")
    page.wait_for_timeout(3000)
    assert len(made(app)) <= 1, "nothing is started twice"
    if not made(app):  # it left before its click arrived: what can be done is said
        page.wait_for_selector("#train-summary dl:has-text('model')")
        page.locator("#start").click()
    page.wait_for_selector("#run-head .state.running")
    run = app.run()
    assert run.config().seed == 7 and not run.config().speed.tune and run.config().method.name == "full"

    # before its first step, and in the middle
    if not updates_of(run):
        anew(page, "train")
        page.wait_for_selector(f"#run-head h3[title='{run.name}']")
        page.wait_for_selector("#run-head .state.running")
        assert run.name in page.url
    wait_for(lambda: updates_of(run) > 20, "some updates")
    anew(page, "train")
    page.wait_for_selector("#run-head .state.running")
    page.wait_for_selector("#curves svg")
    was = updates_of(run)
    wait_for(lambda: updates_of(run) > was, "it to go on")
    assert made(app) == [run.name] and page.locator("#stop").is_visible()
    page.wait_for_selector("#run-head .state.done")

    # Result: scores, what was decided, and what is asked next
    go(page, "result")
    page.wait_for_selector("#mend-row .words")
    page.keyboard.press("2")
    page.wait_for_selector("#mend-row:has-text('2 of')")
    anew(page, "result")
    page.wait_for_selector("#scores .answer")
    page.wait_for_selector("#mend-row:has-text('2 of')")
    assert "1 changed" in page.locator("#mend-tally").inner_text()
    assert len(mending.decided(app.folder / "uploads" / f"corrections-{run.name}.csv")) == 1
    assert page.locator("#mend-again").is_visible()

    # Try: whom it asks, what it is asked with, and the row that was added
    go(page, "try")
    page.locator("#try-text textarea").fill("a very odd film of the cast")
    page.locator("#ask").click()
    page.wait_for_selector("#answer .bars")
    page.locator("#should-be input").fill("positive")
    page.keyboard.press("Enter")
    page.locator("#add-row").click()
    page.wait_for_selector("#added-tally:has-text('so far: 1.')")
    anew(page, "try")
    page.wait_for_selector("#ask", state="visible")
    page.wait_for_selector("#answer:has-text('Nothing asked yet')")
    page.wait_for_selector("#added-tally:has-text('so far: 1.')")
    page.locator("#try-text textarea").fill("the film was great")
    page.locator("#ask").click()
    page.wait_for_selector("#answer .bars")

    # Publish: a name, the card with one's own words, and a push that goes on
    go(page, "publish")
    page.wait_for_selector("#card h3")
    page.get_by_text("Edit its text").click()
    box = page.locator("#card-text textarea")
    box.fill(f"# Of films\n\nWords of my own.\n\n{box.input_value()}")
    page.locator("#repo input, #repo textarea").click()
    page.wait_for_selector("#card-said:has-text('your own text')")
    anew(page, "publish")
    page.wait_for_selector("#card:has-text('Words of my own.')")
    assert page.locator("#repo input, #repo textarea").input_value()
    page.locator("#repo input, #repo textarea").fill("alice/films")
    if page.locator("#publish-sure").is_visible():
        page.locator("#publish-sure input").check()
    page.locator("#publish").click()
    page.wait_for_selector("#publishing .progress, #publishing .note.good")
    anew(page, "publish")
    page.wait_for_selector("#publishing .note.good, #publishing .note.bad")
    assert "gives the same answers" in page.locator("#publishing").inner_text()
    assert made(app) == [run.name]
    anew(page, "publish")
    page.wait_for_selector("#publishing .note.good")
