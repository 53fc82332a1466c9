"""Try as people use it who speak, chat or ask about a text: a microphone, a file, words that grow, a span marked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import transformers

from tests import tiny_causal, tiny_heard, tiny_spans
from tests.browser.conftest import App, Window, shot

pytestmark = pytest.mark.slow


def named(page: Any, model: Path, task: str) -> None:
    """Name a model to ask, and wait until its widgets are there."""
    page.get_by_label("A model by its name").check()
    page.locator("#try-model textarea, #try-model input").fill(str(model))
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#try-about .note:has-text('{task}')")
    page.wait_for_selector("#ask", state="visible")


def writing(model: Path, letters: str, **more: int) -> Path:
    """Let a model of random weights write these letters alone, as many as it may: it would end at once otherwise."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    kept = {tokenizer(letter, add_special_tokens=False)["input_ids"][-1] for letter in letters}
    path = model / "generation_config.json"
    settings = json.loads(path.read_text()) if path.is_file() else {}
    left = [number for number in range(len(tokenizer)) if number not in kept]
    path.write_text(json.dumps({**settings, "suppress_tokens": left, **more}))
    return model


def finding(folder: Path) -> Path:
    """Save a model that finds some part of a text."""
    tiny_spans.model(folder)
    transformers.AutoModelForQuestionAnswering.from_pretrained(folder).save_pretrained(folder)
    return folder


def test_speech_chat_and_questions(app: App, tmp_path: Path, window: Callable[..., Window]) -> None:
    page = window(app.url, permissions=["microphone"]).page("try")

    # a recogniser: the microphone, then a file
    named(page, writing(tiny_heard.whisper(tmp_path / "whisper"), "abc"), "Automatic speech recognition")
    assert "Record a sound or drop a file." in page.locator("#answer").inner_text()
    shot(page, "speech-1-empty")
    page.locator("#try-recording .record-button").click()
    page.wait_for_timeout(1200)  # of sound
    shot(page, "speech-2-recording")
    page.locator("#try-recording .stop-button:visible").first.click()
    page.wait_for_selector("#try-recording .waveform-container")
    assert not page.locator("#try-recording [aria-label='Share']").count(), "a recording would go to the Hub"
    page.locator("#ask").click()
    page.wait_for_selector("#answer .answer.prose")
    assert set(page.locator("#answer .answer").inner_text()) <= {*"abc "}
    shot(page, "speech-3-heard")
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, tiny_heard.speech(["low", "high"]), tiny_heard.RATE)
    page.locator("#try-recording button[aria-label='Clear'], #try-recording [title='Clear']").first.click()
    page.locator("#try-recording .source-selection button").first.click()
    page.locator("#try-recording input[type=file]").set_input_files(clip)
    page.wait_for_selector("#try-recording .waveform-container")
    page.evaluate("document.querySelector('#answer .answer').dataset.before = 'yes'")
    page.locator("#ask").click()
    page.wait_for_selector("#answer .answer.prose:not([data-before])")
    shot(page, "speech-4-file")

    # a model that writes: a conversation, whose words come one after the other
    chat = tiny_causal.causal_model(tmp_path / "chat", num_hidden_layers=24)
    named(page, writing(chat, "abcdefgh ", no_repeat_ngram_size=2), "Text generation")  # words, which are shown whole
    page.wait_for_selector("#against", state="hidden")  # nothing answers beside it
    shot(page, "chat-1-empty")
    page.evaluate("""() => {
        window.grown = new Set();
        new MutationObserver(() => {
            const found = document.querySelector("#talk .assistant .prose");
            if (found) window.grown.add(found.textContent.length);
        }).observe(document.querySelector("#talk"), {childList: true, subtree: true, characterData: true});
    }""")
    page.locator("#try-text textarea").fill("hello")
    page.locator("#ask").click()
    page.wait_for_function("document.querySelector('#try-text textarea').value === ''")  # it has answered
    assert len(page.evaluate("[...window.grown]")) > 2, "it stood there at once"
    assert set(page.locator("#talk .assistant .prose").inner_text()) <= {*"abcdefgh "}
    page.locator("#try-text textarea").fill("and now?")
    page.locator("#ask").click()
    page.wait_for_function("document.querySelectorAll('#talk .assistant').length === 2")
    page.wait_for_function("document.querySelector('#try-text textarea').value === ''")
    shot(page, "chat-2-answered")

    # a question about a text: where the answer stands
    named(page, finding(tmp_path / "questions"), "Question answering")
    shot(page, "span-1-empty")
    page.wait_for_selector("#try-second textarea")
    page.locator("#try-text textarea").fill("what colour is it ?")
    page.locator("#try-second textarea").fill("the big house is red and old .")
    page.locator("#ask").click()
    page.wait_for_selector("#answer mark")
    shot(page, "span-2-answered")
    found = page.locator("#answer mark").inner_text()
    assert found in "the big house is red and old ." and found in page.locator("#answer .answer").inner_text()
