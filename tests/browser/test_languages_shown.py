"""The page in Chinese: on the whole way no sentence of ours is English, and the address keeps the language."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import App
from tests.browser.test_the_way import QUICK, STEPS, fill_from_text, fits, go, start, usable_by_all

pytestmark = [pytest.mark.slow, pytest.mark.long]  # the whole way, as test_the_way goes it in English
# texts that people read, and those that a screen reader says; rows of data, code and gradio's own words left out
TEXTS = """() => {
  const found = [];
  const walk = document.createTreeWalker(document.querySelector('gradio-app') || document.body, NodeFilter.SHOW_TEXT);
  const kept = 'script, style, pre, code, #card, .cm-editor, table.plain tbody, [data-pick] strong, #told, ' +
    '#mattered, #errors, #mend-row, #upload';
  while (walk.nextNode()) {
    const node = walk.currentNode, at = node.parentElement;
    if (!at || at.closest(kept) || !at.checkVisibility?.()) continue;
    found.push(node.textContent);
  }
  for (const one of document.querySelectorAll('[aria-label], [placeholder], [title]'))
    if (one.checkVisibility?.() && !one.closest(kept))
      found.push(one.ariaLabel || '', one.placeholder || '', one.getAttribute('title') || '');
  return found;
}"""
ENGLISH = re.compile(r"\b[A-Za-z]+,? [a-z]+,? [a-z]+")
HAN = re.compile("[\u4e00-\u9fff]")


def english(page: Any) -> set[str]:
    """Return what stands on a page in English sentences, but for what the docs name."""
    found = (words.strip() for words in page.evaluate(TEXTS))
    return {
        words for words in found
        if ENGLISH.search(words) and not HAN.search(words) and not words.startswith("The positive class is")
    }  # fmt: skip


def test_the_whole_way_in_chinese(app: App, materials: Path, window: Callable[..., Any]) -> None:
    page = window(app.url, locale="zh-CN").page()
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    told: dict[str, set[str]] = {}

    def look(where: str) -> None:
        told[where] = english(page)

    for step in STEPS:  # with nothing there yet
        go(page, step)
        look(f"{step}, empty")
    go(page, "data")
    page.locator("#upload input[type=file]").set_input_files(materials / "rows.csv")
    page.wait_for_selector("#data-rows table")
    look("data")
    go(page, "model")
    fill_from_text(page, QUICK.format(model=materials / "model", source=materials / "rows.csv", steps=40, every=20),
                   "等同的代码", "用此文本填写表单")  # fmt: skip
    look("model")
    run = start(page, app)
    page.wait_for_selector("#run-head .state.done")
    look("train")
    go(page, "result")
    page.wait_for_selector("#scores .answer")
    page.locator("#show-errors").click()
    page.wait_for_selector("#errors .error, #errors .note")
    for fold in page.locator("#panel-result details > summary").all():
        fold.click()
    look("result")
    go(page, "try")
    page.locator("#try-text textarea").fill("the film was great")
    page.locator("#ask").click()
    page.wait_for_selector("#answer .bars")
    look("try")
    go(page, "publish")
    page.wait_for_selector("#card h3")
    look("publish")
    assert not {where: words for where, words in told.items() if words}

    fits(page)
    go(page, "model")
    page.get_by_text("等同的代码").click()  # an editor keeps the colours of the scheme that it was opened in
    usable_by_all(page)
    page.locator(".languages [data-language=en]").click()  # the other language, and the same run
    page.wait_for_selector("#start:has-text('Start training')", state="attached")
    page.wait_for_selector("#scores .answer", state="attached")
    assert "lang=en" in page.url and run.name in page.url
    assert page.evaluate("document.documentElement.lang") == "en"
    page.reload()
    page.wait_for_selector("#start:has-text('Start training')", state="attached")
