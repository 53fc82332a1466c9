"""The whole way with the keyboard alone: from opening the page to an answer of a model that was trained on the way."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from tests import tiny
from tests.browser.big_buttons import well_known
from tests.browser.conftest import App, Window, shot
from tests.hub_server import HubServer

pytestmark = [pytest.mark.slow, pytest.mark.long]
FAR = 120  # stops of one way: more of them, and nobody gets there
# where the focus is: what it is called, whether it does anything, whether it can be seen
FOCUSED = """() => {
  const at = document.activeElement, shown = at.matches("input[type=radio], input[type=checkbox], input[type=file]")
    ? at.closest("label") || at.parentElement : at;
  const box = shown.getBoundingClientRect();
  const top = document.elementFromPoint(box.x + box.width / 2, Math.min(box.y + box.height / 2, innerHeight - 1));
  return {
    tag: at.tagName, id: at.closest("[id]")?.id || "", words: (at.ariaLabel || shown.innerText || "").trim(),
    does: at.matches("a[href], button:not([disabled]), input:not([disabled]), textarea, select, summary, [tabindex]"),
    there: shown.checkVisibility({opacityProperty: false}) && box.width > 1 && box.height > 1,
    within: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
    free: !top || shown.contains(top) || top.contains(shown) || !top.closest(".steps"),
    box: [box.x, box.y, box.width, box.height],
  };
}"""

CHOSEN = "task => document.querySelector('#task input:checked')?.value === task"


class Keyboard:
    """Somebody without a mouse: goes on by Tab until something is reached, and sees where they are all the time."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.seen: dict[tuple[str, str, str], bool] = {}  # stops, and whether their focus showed

    def to(self, wanted: str, back: bool = False) -> dict[str, Any]:
        """Press Tab until what a selector names has the focus."""
        for _ in range(FAR):
            self.page.keyboard.press("Shift+Tab" if back else "Tab")
            if self.page.evaluate("document.activeElement === document.body"):
                continue  # between the end of the page and its beginning
            at = self.stop()
            if self.page.evaluate("wanted => document.activeElement.matches(wanted)", wanted):
                return at
        raise AssertionError(f"{FAR} stops, and none of them is {wanted}: {[*self.seen]}")

    def stop(self) -> dict[str, Any]:
        """Look at where the focus is: on something that does something, on the screen, and to be told apart."""
        at: dict[str, Any] = self.page.evaluate(FOCUSED)
        assert at["does"] and at["there"] and at["within"] and at["free"], at
        key = (at["tag"], at["id"], at["words"][:60])
        if key not in self.seen:
            self.seen[key] = self._shows(at["box"])
        return at

    def _shows(self, box: list[float]) -> bool:
        """Tell whether the screen there is another one without the focus."""
        x, y, width, height = box
        size = self.page.viewport_size
        left, top = max(x - 6, 0), max(y - 6, 0)
        clip = {"x": left, "y": top, "width": min(width + 12, size["width"] - left),
                "height": min(height + 12, size["height"] - top)}  # fmt: skip
        with_focus = self._picture(clip)
        self.page.evaluate("() => { window.had = document.activeElement; window.had.blur(); }")
        without = self._picture(clip)
        self.page.evaluate("() => window.had.focus({preventScroll: true})")
        return ImageChops.difference(with_focus, without).getbbox() is not None

    def _picture(self, clip: dict[str, float]) -> Image.Image:
        self.page.wait_for_timeout(200)  # a border that changes takes its time
        taken = self.page.screenshot(clip=clip, animations="disabled")
        return Image.open(io.BytesIO(taken)).convert("RGB")


def test_from_a_file_to_an_answer_without_a_mouse(
    app: App, hub: HubServer, tmp_path: Path, window: Callable[..., Window]
) -> None:
    well_known("text-classification", hub, tmp_path)
    page = window(app.url).page()
    keys = Keyboard(page)
    rows = tiny.text_csv(tmp_path / "rows.csv", 160)

    # Data: the box for files opens by Enter; another task and back by arrows; Train
    chosen: list[Any] = []
    page.on("filechooser", lambda chooser: chosen.append(chooser))
    for _ in range(3):  # what is still being laid out may take the focus along with what had it
        keys.to("#upload button")
        page.keyboard.press("Enter")
        for _ in range(20):
            page.wait_for_timeout(100 if chosen else 500)
        if chosen:
            break
    chosen[0].set_files(rows)
    page.wait_for_selector("#data-rows table, #panel-data .note.bad")
    assert not page.locator("#panel-data .note.bad").count(), page.locator("#panel-data").inner_text()
    keys.to("#task input:checked")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(CHOSEN, arg="text-generation")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(CHOSEN, arg="text-classification")
    page.wait_for_selector("#data-said .progress.waiting", state="detached")
    page.wait_for_selector("#data-rows table")
    shot(page, "keyboard-1-data")

    # Model: a method among cards by arrows, and Space takes it
    keys.to("[data-pick], .steps a[href='#model']", back=True)
    while page.evaluate("document.activeElement.getAttribute('href')") != "#model":
        keys.to(".steps a, [data-pick]", back=True)
    page.keyboard.press("Enter")
    page.wait_for_selector("#panel-model", state="visible")
    keys.to("#panel-model [data-pick=auto]")
    for _ in range(12):
        if page.evaluate("document.activeElement.dataset.pick") == "probe":
            break
        page.keyboard.press("ArrowRight")
        keys.stop()
    page.keyboard.press("Space")
    page.wait_for_selector("#panel-model [data-pick=probe][aria-pressed=true]")
    page.wait_for_function("() => document.querySelector('#method input').value === 'probe'")
    keys.to("#panel-model button.primary")
    page.keyboard.press("Enter")

    # Train
    page.wait_for_selector("#panel-train", state="visible")
    keys.to("#start")
    page.keyboard.press("Enter")
    page.wait_for_selector("#run-head .state.running, #run-head .state.done")
    page.wait_for_selector("#run-head .state.done")
    assert app.run().config().method.name == "probe"
    shot(page, "keyboard-2-done")
    keys.to("#onward")
    page.keyboard.press("Enter")

    # Result: all scores open by Enter
    page.wait_for_selector("#scores .answer")
    keys.to("#scores summary")
    page.keyboard.press("Enter")
    page.wait_for_selector("#scores table", state="visible")
    keys.to("#panel-result .foot button.primary")
    page.keyboard.press("Enter")

    # Try
    page.wait_for_selector("#panel-try", state="visible")
    keys.to("#try-text textarea")
    page.keyboard.type("the film was great")
    keys.to("#ask")
    page.keyboard.press("Space")
    page.wait_for_selector("#answer .bars")
    assert page.locator("#answer .answer").inner_text().startswith(("positive", "negative"))
    shot(page, "keyboard-3-answer")
    unseen = [stop for stop, shows in keys.seen.items() if not shows]
    assert not unseen, f"nothing showed where the focus was: {unseen}"
    assert len(keys.seen) > 40
