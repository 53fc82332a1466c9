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
LONGEST = 5000  # letters of a sentence from below; what is longer holds somebody's data
MARK = re.compile("\ue000(\\d+)\ue001")
FORM = re.compile(r"\{(\w+)[^}]*\}")
QUOTED = re.compile(r"`\{(\w+)\}`")
NAMES = frozenset({"names", "file", "column"})  # what a value is called in a form that is somebody's and stays

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


def begun(words: str) -> str:
    """Return a line from below as it stands by itself, in the language of who looks: English begins with a capital."""
    told = retold(words)
    return told if told != words else retold(words[:1].upper() + words[1:])


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
def _forms(language: str) -> list[tuple[list[str], str, frozenset[str]]]:
    """Return the sentences from below that take values: words and names in turn, what they become, which stay.

    A value between backticks is a name of somebody's data, a label or a column, and stays whatever it says, and so
    does one that a form calls by NAMES. Those with the most words of their own come first: they say the most.
    """
    found = []
    for words, told in below_of(language).items():
        if FORM.search(words):
            found.append((re.split(r"\{(\w+)\}", words), told, NAMES | {*QUOTED.findall(words)}))
    return sorted(found, key=lambda one: -sum(map(len, one[0][::2])))


def _values(form: list[str], words: str) -> dict[str, str] | None:
    """Return what stands in a sentence for each name of a form, as little as can be; None where it is another one.

    In one pass: a pattern would try every way to share out what somebody wrote among the names.
    """
    first, last = form[0], form[-1]
    end = len(words) - len(last)
    if not words.startswith(first) or not words.endswith(last):
        return None
    found, at = {}, len(first)
    for name, behind in zip(form[1::2], [*form[2:-1:2], None], strict=True):
        stop = end if behind is None else words.find(behind, at, end)
        if stop < at:
            return None
        found[name], at = words[at:stop], stop + len(behind or "")
    return found


@lru_cache(4096)
def _retold_form(language: str, words: str) -> str | None:
    for form, told, kept in _forms(language):
        if (values := _values(form, words)) is not None:
            return told.format(**{n: v if n in kept else _retold(language, v) for n, v in values.items()})
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
