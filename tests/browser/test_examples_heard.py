"""Examples that are recorded or uploaded one by one: two classes, asked meanwhile; what is said, as rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_heard
from tests.browser.big_buttons import serving, well_known
from tests.browser.conftest import App, Window, shot
from tests.hub_server import HubServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, HubServer]]:
    with serving(tmp_path_factory.mktemp("heard")) as found:
        yield found


def upload(page: Any, widget: str, clip: Path) -> None:
    """Bring a file instead of recording it."""
    if not page.locator(f"{widget} input[type=file]").count():
        page.locator(f"{widget} .source-selection button").first.click()
    page.locator(f"{widget} input[type=file]").set_input_files(clip)
    page.wait_for_selector(f"{widget} .waveform-container")


def record(page: Any, widget: str) -> None:
    page.locator(f"{widget} .record-button").click()
    page.wait_for_timeout(1200)  # of sound
    page.locator(f"{widget} .stop-button:visible").first.click()
    page.wait_for_selector(f"{widget} .waveform-container")


def told(page: Any, words: str) -> None:
    """Add what was given, and wait until it is said."""
    page.locator("#teach-add").click()
    page.wait_for_selector(f"#teach-said p:has-text('{words}')")


def test_recordings_are_examples(
    served: tuple[App, HubServer], tmp_path: Path, window: Callable[..., Window]
) -> None:  # fmt: skip
    app, hub = served
    well_known("audio-classification", hub, tmp_path)
    clips = tiny_heard.class_folder(tmp_path / "clips", 12)
    page = window(app.url, permissions=["microphone"]).page()
    page.set_default_timeout(240_000)  # a model is loaded on the way
    page.get_by_label("Examples you give", exact=True).check()
    page.get_by_label("Recordings", exact=True).check()
    page.wait_for_selector("#teach-recording", state="visible")
    shot(page, "examples-1-empty")

    # two classes: one recorded, one of files; a class stays for the next example of it
    page.locator("#teach-class input").fill("beep")
    page.keyboard.press("Enter")
    record(page, "#teach-recording")
    shot(page, "examples-2-recorded")
    told(page, "1 of beep")
    page.wait_for_selector("#teach-recording .record-button")  # ready for the next one
    record(page, "#teach-recording")
    told(page, "2 of beep")
    page.locator("#teach-class input").fill("low")
    page.keyboard.press("Enter")
    low = sorted((clips / "low").iterdir())
    for number, clip in enumerate(low[:2], 1):
        upload(page, "#teach-recording", clip)
        told(page, f"{number} of low")
    page.wait_for_selector("#teach-said p:has-text('of examples it had not seen')")
    upload(page, "#teach-try-recording", low[2])
    page.wait_for_selector("#teach-answer .bars")
    assert page.locator("#teach-answer .bars span").first.inner_text() == "low"
    shot(page, "examples-3-answered")

    # and they are the rows of the form
    page.locator("#teach-use").click()
    page.wait_for_selector("#data-rows audio")
    assert page.locator("#task input:checked").get_attribute("value") == "audio-classification"
    assert page.locator("#data-summary dt:has-text('Rows') + dd").inner_text() == "4"
    shot(page, "examples-4-rows")

    # another page finds them again, goes on with them, and deletes them
    page.reload()
    page.wait_for_selector("#nav-texts", state="attached")
    page.get_by_label("Examples you give", exact=True).check()
    page.locator("#teach-before [data-pick]").first.click()
    page.wait_for_selector("#teach-said p:has-text('2 of beep, 2 of low')")
    assert page.locator("#teach-kind input:checked").get_attribute("value") == "recording"
    shot(page, "examples-7-again")
    page.locator("#teach-class input").fill("low")
    page.keyboard.press("Enter")
    upload(page, "#teach-recording", low[3])
    told(page, "3 of low")
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    page.locator("#teach-delete").click()
    page.wait_for_selector("#teach-before [data-pick]", state="detached")
    assert asked == ["Delete 2 of beep, 3 of low?"] and not [*(app.folder / "uploads").glob("taught-audio-*")]


@pytest.mark.long
def test_a_recording_and_its_words_are_examples(
    served: tuple[App, HubServer], tmp_path: Path, window: Callable[..., Window]
) -> None:  # fmt: skip
    app, _ = served
    spoken = tiny_heard.spoken_folder(tmp_path / "spoken", 3)
    rows = [json.loads(line) for line in (spoken / "metadata.jsonl").read_text().splitlines()]
    page = window(app.url).page()
    page.set_default_timeout(240_000)  # a model is loaded on the way
    page.get_by_label("Examples you give", exact=True).check()
    page.get_by_label("Recordings", exact=True).check()
    page.locator("#teach-task").get_by_label("Automatic speech recognition").check()
    page.wait_for_selector("#teach-truth textarea")
    page.wait_for_selector("#teach-class", state="hidden")
    for number, row in enumerate(rows, 1):
        upload(page, "#teach-recording", spoken / row["file_name"])
        page.locator("#teach-truth textarea").fill(row["text"])
        told(page, f"{number} examples.")
        assert row["text"] in page.locator("#teach-said table").inner_text()
    shot(page, "examples-5-words")
    page.locator("#teach-use").click()
    page.wait_for_selector("#data-rows audio")
    assert page.locator("#task input:checked").get_attribute("value") == "automatic-speech-recognition"
    shot(page, "examples-6-words-rows")


@pytest.mark.long
def test_a_microphone_is_heard_all_the_time(
    served: tuple[App, HubServer], tmp_path: Path, window: Callable[..., Window]
) -> None:  # fmt: skip
    app, hub = served
    well_known("audio-classification", hub, tmp_path)
    page = window(app.url, permissions=["microphone"]).page()
    page.set_default_timeout(240_000)  # a model is loaded on the way
    page.get_by_label("Examples you give", exact=True).check()
    page.get_by_label("Microphone, live", exact=True).check()
    page.wait_for_selector("#teach-microphone", state="visible")
    shot(page, "microphone-1-empty")
    page.locator("#teach-microphone .record-button").click()
    page.wait_for_selector("#teach-said .note:has-text('Name a class')")
    for label in ("this", "that"):
        page.locator("#teach-class input").fill(label)
        page.keyboard.press("Enter")
        page.locator("#teach-hold input").check()
        page.wait_for_selector(f"#teach-said p:has-text('2 of {label}')")
        page.locator("#teach-hold input").uncheck()
    page.wait_for_selector("#teach-answer .bars")
    shot(page, "microphone-2-answered")
