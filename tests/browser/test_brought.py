"""Data as people have it: a folder, several files at once, a table that was copied; and the page at every width."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.browser.conftest import App, Window, shot
from tests.browser.test_the_way import fits

pytestmark = pytest.mark.slow
DROP = """([names, texts]) => {
  const bag = new DataTransfer();
  names.forEach((name, place) => bag.items.add(new File([texts[place]], name)));
  const at = document.querySelector("#upload button, #upload input");
  at.dispatchEvent(new DragEvent("drop", {dataTransfer: bag, bubbles: true, cancelable: true}));
}"""
PASTE = """text => {
  const bag = new DataTransfer();
  bag.setData("text/plain", text);
  document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: bag, bubbles: true}));
}"""


def arrives(page: Any, app: App, name: str, rows: str) -> None:
    """Wait until a file lies among the uploads and its rows are shown."""
    page.wait_for_selector(f"#data-summary:has-text('{name}')")
    page.wait_for_selector("#data-rows table")
    assert (app.folder / "uploads" / name).is_file()
    assert rows in page.locator("#data-summary dl").inner_text()
    assert not page.locator("#panel-data .note.bad").count()


def test_a_folder_several_files_and_a_pasted_table(app: App, tmp_path: Path, window: Callable[..., Window]) -> None:
    page = window(app.url).page()
    photos = tiny.image_folder(tmp_path / "photos", 24)
    with page.expect_file_chooser() as chooser:
        page.locator("#choose-folder").click()
    chooser.value.set_files(photos)
    arrives(page, app, "photos.zip", "24")
    assert page.locator("#data-rows .as-gallery img").count() >= 8
    shot(page, "folder")
    page.wait_for_selector("#epochs [title='train.num_train_epochs']", state="attached")

    tables = [tiny.text_csv(tmp_path / f"{n}.csv", 60, seed=n).read_text() for n in (1, 2)]
    page.evaluate(DROP, [["one.csv", "two.csv"], tables])
    page.wait_for_function("() => document.querySelector('#data-summary')?.textContent.includes('files.zip')")
    assert (app.folder / "uploads" / "files.zip").is_file()

    page.evaluate(PASTE, tables[0])
    arrives(page, app, "pasted.csv", "60")
    fits(page)
