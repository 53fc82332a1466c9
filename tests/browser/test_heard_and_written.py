"""Try as people use it who speak, chat or ask about a text: a microphone, a file, words that grow, a span marked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests import tiny_causal, tiny_heard, tiny_spans
from tests.browser.conftest import App, Window

SHOTS = os.environ.get("HFTRANSFER_SHOTS")  # a folder for pictures of each step, to be looked at

pytestmark = pytest.mark.slow


def shot(page: Any, name: str) -> None:
    if SHOTS:
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(400)
            page.screenshot(path=f"{SHOTS}/{name}-{width}.png", full_page=True)
        page.set_viewport_size({"width": 1280, "height": 900})


def named(page: Any, model: Path) -> None:
    """Name a model to ask, and wait until its widgets are there."""
    page.get_by_label("A model by its name").check()
    page.locator("#try-model textarea, #try-model input").fill(str(model))
    page.keyboard.press("Enter")
    page.wait_for_selector("#try-about .note")
    page.wait_for_selector("#ask", state="visible")


def test_speech_chat_and_questions(app: App, tmp_path: Path, window: Callable[..., Window]) -> None:
    page = window(app.url, permissions=["microphone"]).page("try")

    # a recogniser: the microphone, then a file
    named(page, tiny_heard.whisper(tmp_path / "whisper"))
    shot(page, "speech-1-empty")
    page.locator("#try-recording .record-button").click()
    page.wait_for_timeout(1500)
    shot(page, "speech-2-recording")
    page.locator("#try-recording .stop-button:visible").first.click()
    page.wait_for_selector("#try-recording [data-testid='waveform-Recording'], #try-recording .waveform-container")
    page.locator("#ask").click()
    page.wait_for_selector("#answer .card-block")
    shot(page, "speech-3-heard")
    print(page.locator("#answer").inner_text())
    path = tmp_path / "clip.wav"
    soundfile.write(path, tiny_heard.speech(["low", "high"]), tiny_heard.RATE)
    page.locator("#try-recording button[aria-label='Clear'], #try-recording [title='Clear']").first.click()
    page.locator(
        "#try-recording button[aria-label='Upload file'], #try-recording .source-selection button"
    ).first.click()
    page.locator("#try-recording input[type=file]").set_input_files(path)
    page.wait_for_selector("#try-recording .waveform-container")
    page.locator("#ask").click()
    page.wait_for_timeout(1000)
    page.wait_for_selector("#answer .card-block")
    shot(page, "speech-4-file")

    # a model that writes: a conversation, whose words come one after the other
    named(page, tiny_causal.causal_model(tmp_path / "chat"))
    shot(page, "chat-1-empty")
    page.locator("#try-text textarea").fill("hello")
    page.locator("#ask").click()
    page.wait_for_selector("#talk .assistant")
    page.wait_for_timeout(3000)
    shot(page, "chat-2-answered")
    print(page.locator("#talk").inner_text())
