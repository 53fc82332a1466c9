"""The page's words in the language of who looks: English stands in the code, other languages are files of words/."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

ENGLISH = "en"
PLACE = Path(__file__).parent / "words"
TAGS = {ENGLISH: "en", "zh": "zh-CN"}  # as HTML and browsers name a language; one that is not here names itself
PROPERTIES = ("label", "info", "placeholder")  # of a widget, all of them words of ours
LONGEST = 500  # letters of a sentence from below; what is longer holds somebody's data, and matching it takes long
MARK = re.compile("\ue000(\\d+)\ue001")
FORM = re.compile(r"\{(\w+)[^}]*\}")

_chosen: ContextVar[str] = ContextVar("chosen", default=ENGLISH)
_laid_out: ContextVar[bool] = ContextVar("laid_out", default=False)
_marked: dict[tuple[str, str], int] = {}
_said: list[tuple[str, dict[str, Any]]] = []


@cache
def languages() -> dict[str, str]:
    """Return what every language calls itself, English first."""
    return {ENGLISH: "English", **{path.stem: str(_file(path.stem)["name"]) for path in sorted(PLACE.glob("*.json"))}}


@cache
def _file(language: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PLACE / f"{language}.json").read_text(encoding="utf-8"))
    return found


def page_of(language: str) -> Mapping[str, str]:
    """Return the words of this package by their English."""
    return {} if language == ENGLISH else dict(_file(language)["page"])


def below_of(language: str) -> Mapping[str, str]:
    """Return sentences that come from below the app by their English."""
    return {} if language == ENGLISH else dict(_file(language)["below"])


def say(words: str, /, **values: Any) -> str:
    """Return words of this package in the language of who looks; `{name}` and `{name:,}` in them take the values.

    While the page is laid out nobody looks yet: a mark stands in for the words until the page is sent.
    """
    if _laid_out.get():
        return _mark(words, values)
    return _in(_chosen.get(), words, values)


def retold(words: str) -> str:
    """Return a sentence from below the app, whole, in the language of who looks; one that is not known stays."""
    if not words or _laid_out.get():
        return _mark(words, {}) if words and words in _known() else words
    language = _chosen.get()
    return words if language == ENGLISH else _retold(language, words)


def _in(language: str, words: str, values: Mapping[str, Any]) -> str:
    found = words if language == ENGLISH else _words(language).get(words, words)
    return found.format(**values) if values else found


@cache
def _words(language: str) -> dict[str, str]:
    return {**below_of(language), **page_of(language)}


@cache
def _known() -> frozenset[str]:
    return frozenset(words for language in languages() for words in _words(language))


def _mark(words: str, values: dict[str, Any]) -> str:
    key = (words, repr(sorted(values.items())))
    if key not in _marked:
        _marked[key] = len(_said)
        _said.append((words, values))
    return f"\ue000{_marked[key]}\ue001"


@cache
def _forms(language: str) -> list[tuple[re.Pattern[str], str]]:
    """Return the sentences from below that take values, as what matches them and what they become."""
    found = []
    for words, told in below_of(language).items():
        if FORM.search(words):
            parts = re.split(r"\{(\w+)\}", words)
            at = [re.escape(part) if place % 2 == 0 else f"(?P<{part}>.+?)" for place, part in enumerate(parts)]
            found.append((re.compile("".join(at), re.DOTALL), told))
    return found


@lru_cache(4096)
def _retold_form(language: str, words: str) -> str | None:
    for form, told in _forms(language):
        if (match := form.fullmatch(words)) is not None:
            return told.format(**{name: _retold(language, value) for name, value in match.groupdict().items()})
    return None


def _retold(language: str, words: str) -> str:
    found = _words(language).get(words)
    if found is not None:
        return found
    return (_retold_form(language, words) if len(words) < LONGEST else None) or words


# --- who looks ---


def of_request(request: Any) -> str:
    """Return the language that a request asks for: `lang` in the page's address, else the browser's own."""
    if request is None:
        return ENGLISH
    return chosen(str(request.query_params.get("lang", "")), str(request.headers.get("accept-language", "")))


def chosen(asked: str, accepted: str) -> str:
    """Return the language that an address asks for, else the first of those that a browser takes; else English."""
    if asked in languages():
        return asked
    ranked = []
    for place, one in enumerate(accepted.split(",")[:20]):
        name, _, weight = "".join(one.split()).partition(";q=")
        with contextlib.suppress(ValueError):
            if float(weight or 1) > 0:  # 0: not acceptable (RFC 9110, 12.4.2)
                ranked.append((-float(weight or 1), place, name.split("-")[0].lower()))
    return next((name for _, _, name in sorted(ranked) if name in languages()), ENGLISH)


@contextlib.contextmanager
def spoken(language: str) -> Iterator[None]:
    """Let all that is said inside be in this language."""
    before = _chosen.set(language)
    try:
        yield
    finally:
        _chosen.reset(before)


def throughout(language: str, answers: Iterator[Any]) -> Iterator[Any]:
    """Yield what a handler yields, each part made in this language, in whatever thread it is asked for."""
    while True:
        with spoken(language):
            try:
                answer = next(answers)
            except StopIteration:
                return
        yield answer


def tag() -> str:
    """Return the language that is spoken now, as HTML names it."""
    return TAGS.get(_chosen.get(), _chosen.get())


# --- the page, which is laid out once ---


@contextlib.contextmanager
def laid_out() -> Iterator[None]:
    """Let marks stand in for words while a page is laid out that many will see."""
    before = _laid_out.set(True)
    try:
        yield
    finally:
        _laid_out.reset(before)


def mark_widgets(blocks: Any) -> None:
    """Put marks in place of the words of every widget of a page (gr.Blocks).

    Parameters of endpoints are for programs. Gradio's sign-in button sends and compares its own words by itself.
    """
    for block in blocks.blocks.values():
        if block.get_block_name() == "api" or hasattr(block, "logout_value"):
            continue
        for name in PROPERTIES:
            words = getattr(block, name, None)
            if isinstance(words, str) and words and not MARK.search(words):
                setattr(block, name, _mark(words, {}))
        if block.get_block_name() == "button" and not MARK.search(block.value):
            block.value = _mark(block.value, {})
        if block.get_block_name() == "radio":  # drop-downs hold names: of methods, options, licences
            block.choices = [(_mark(n, {}) if n in _known() else n, value) for n, value in block.choices]


def unmarked(text: str, language: str, escaped: bool = True) -> str:
    """Return text with words in place of its marks; `escaped` as they stand within a JSON string."""

    def words(found: re.Match[str]) -> str:
        told = unmarked(_in(language, *_said[int(found[1])]), language, escaped=False)
        return json.dumps(told, ensure_ascii=False)[1:-1].replace("<", "\\u003c") if escaped else told

    return MARK.sub(words, text)
