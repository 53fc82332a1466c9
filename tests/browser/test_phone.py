"""The whole way on a phone, by taps: from a file to an answer, and what is tapped is large enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.browser.big_buttons import well_known
from tests.browser.conftest import App, Window
from tests.hub_server import HubServer

pytestmark = [pytest.mark.slow, pytest.mark.long]
WIDE, HIGH, FINGER = 390, 844, 24  # pixels; a target of fewer is missed (WCAG 2.2, 2.5.8)
TARGETS = """() => [...document.querySelectorAll("a[href], button, input, textarea, select, summary")]
  .filter((one) => one.checkVisibility() && !one.closest("p, li .quiet, footer"))
  .map((one) => [one, (one.closest("label") || one).getBoundingClientRect()])
  .filter(([one, box]) => box.width && box.height && (box.width < FINGER || box.height < FINGER))
  .map(([one, box]) => [one.outerHTML.slice(0, 120), box.width, box.height])"""


def fits(page: Any, where: str) -> None:
    """Check that nothing hangs over at the side, and that a finger meets what it is meant to."""
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDE, where
    small = page.evaluate(TARGETS.replace("FINGER", str(FINGER)))
    assert not small, (where, small)


def test_from_a_file_to_an_answer_by_taps(
    app: App, hub: HubServer, tmp_path: Path, window: Callable[..., Window]
) -> None:
    well_known("text-classification", hub, tmp_path)
    opened = window(app.url, width=WIDE, has_touch=True, is_mobile=True)
    page = opened.page()
    page.set_viewport_size({"width": WIDE, "height": HIGH})
    fits(page, "empty")
    with page.expect_file_chooser() as chooser:
        page.locator("#upload button").first.tap()
    chooser.value.set_files(tiny.text_csv(tmp_path / "rows.csv", 160))
    page.wait_for_selector("#data-rows table")
    fits(page, "data")
    page.locator(".steps a[href='#model']").tap()
    page.wait_for_selector("#panel-model", state="visible")
    page.locator("#panel-model [data-pick=probe]").tap()
    page.wait_for_function("() => document.querySelector('#method input').value === 'probe'")
    fits(page, "model")
    page.get_by_role("button", name="Next: train").tap()
    page.locator("#start").tap()
    page.wait_for_selector("#run-head .state.running, #run-head .state.done")
    fits(page, "train")
    page.wait_for_selector("#run-head .state.done")
    page.locator("#onward").tap()
    page.wait_for_selector("#scores .answer")
    page.locator("#scores summary").first.tap()
    page.wait_for_selector("#scores table", state="visible")
    fits(page, "result")
    page.get_by_role("button", name="Try it", exact=True).tap()
    page.locator("#try-text textarea").fill("the film was great")
    page.locator("#ask").tap()
    page.wait_for_selector("#answer .bars")
    fits(page, "try")
    page.locator(".steps a[href='#publish']").tap()
    page.wait_for_selector("#card h3")
    fits(page, "publish")
