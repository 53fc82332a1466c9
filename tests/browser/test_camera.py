"""Two classes from a camera: what it sees is kept while that is wanted, and answered all the time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.big_buttons import well_known
from tests.browser.conftest import App, Window, shot
from tests.hub_server import HubServer

pytestmark = pytest.mark.slow


def keep(page: Any, label: str, least: int) -> None:
    """Name a class, and keep what the camera sees until so many pictures of it are there."""
    box = page.locator("#teach-class input")
    box.fill(label)
    page.keyboard.press("Enter")
    page.locator("#teach-hold input").check()
    page.wait_for_function(
        """([label, least]) => {
            const found = document.querySelector("#teach-said")?.textContent.match(new RegExp("([0-9]+) of " + label));
            return found && Number(found[1]) >= least;
        }""",
        arg=[label, least],
    )
    page.locator("#teach-hold input").uncheck()


def test_two_classes_from_a_camera(app: App, hub: HubServer, tmp_path: Path, window: Callable[..., Window]) -> None:
    well_known("image-classification", hub, tmp_path)
    page = window(app.url, permissions=["camera"]).page()
    page.get_by_label("Examples you give", exact=True).check()
    page.get_by_label("Camera, live", exact=True).check()
    page.wait_for_selector("#teach-camera", state="visible")
    shot(page, "camera-1-empty")
    page.locator("#teach-camera button:visible").first.click()  # allows it
    page.wait_for_selector("#teach-camera video")
    page.locator("#teach-camera button:visible").first.click()  # begins to look
    page.wait_for_selector("#teach-said .note:has-text('Name a class')")
    keep(page, "this", 2)
    keep(page, "that", 2)
    page.wait_for_selector("#teach-answer .bars, #teach-answer dl, #teach-answer :text('that')")
    shot(page, "camera-2-answered")
    folders = sorted(path.name for path in (app.folder / "uploads").glob("taught-*/*") if path.is_dir())
    assert folders == ["that", "this"]
