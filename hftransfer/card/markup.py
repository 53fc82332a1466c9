"""Markdown that nobody can break out of: names as code spans, sentences escaped, tables, figures."""

from __future__ import annotations

import json
import math
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

LONGEST = 80  # characters of a name that are shown
LONGEST_SENTENCE = 600
MOST_NAMED = 20  # names in one sentence


def figure(value: float | None) -> str:
    """Return a score with three decimals, a large or tiny one with as much as says something."""
    if value is None or not math.isfinite(value):
        return "undefined"
    if abs(value) >= 1000:
        return f"{value:,.1f}"
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Return seconds, and hours or minutes beside them when they are many."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return (
        f"{seconds:,.0f} s ({seconds / 60:.1f} min)"
        if seconds < 7200
        else f"{seconds:,.0f} s ({seconds / 3600:.1f} h)"
    )


def some(names: Sequence[str]) -> str:
    """Return names in a row, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are escaped already, but for the bars that would divide them."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def cell(text: str) -> str:
    """Escape bars; a backslash before one is set apart, because renderers differ on two backslashes and a bar."""
    return re.sub(r"(?<=\\)(?=\|)", JOINER, text).replace("|", r"\|")


def bullets(lines: Iterable[str]) -> str:
    """Return a list."""
    return "\n".join(f"- {line}" for line in lines)


def fenced(text: str, language: str) -> str:
    """Return a code block that no run of backticks in it can end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


JOINER = "\N{WORD JOINER}"  # invisible and without width: what it parts is no longer a link or a formula
# the Hub renders $$...$$ and \\(...\\) before it reads the Markdown, so that no code span keeps them from it
MATH = r"(?<=\$)(?=\$)|(?<=\\)(?=\\[(\[])"


def hidden(char: str) -> bool:
    """Tell whether a character is none to see: controls, marks that reorder text, lone surrogates, unassigned ones."""
    return unicodedata.category(char)[0] == "C" and char not in "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"


def visible(text: str, longest: int = LONGEST) -> str:
    """Return text on one line, of the longest length at most, with a mark in place of every hidden character."""
    line = " ".join(str(text)[: 20 * longest].split())
    shown = "".join("\N{REPLACEMENT CHARACTER}" if hidden(char) else char for char in line)
    return shown if len(shown) <= longest else f"{shown[: longest - 1].rstrip()}…"


def code(text: str) -> str:
    """Return a name as a code span, in which nothing is a link, HTML or Markdown.

    Its marks are the shortest run of backticks that the name does not hold (CommonMark 6.1).
    """
    shown = re.sub(MATH, JOINER, visible(text)) or "(empty)"
    runs = {len(run) for run in re.findall(r"`+", shown)}
    mark = "`" * next(length for length in range(1, len(shown) + 2) if length not in runs)
    blank = " " if shown[0] == "`" or shown[-1] == "`" else ""
    return f"{mark}{blank}{shown}{blank}{mark}"


def prose(text: str) -> str:
    """Return a sentence with names in it as plain text.

    Backslashes do not keep every renderer from making a link of an address: it is parted instead.
    """
    shown = visible(text, LONGEST_SENTENCE)
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\\", "&#92;")):
        shown = shown.replace(char, entity)
    shown = re.sub(r"(?<=/)(?=/)|(?<=@)|(?i:(?<=www)(?=\.)|(?<=mailto:))", JOINER, shown)
    shown = re.sub(r"([`*_\[\]|$~])", r"\\\1", shown)
    shown = re.sub(r"(?<=[^\W\d])\.(?=\w)|(?<=\w)\.(?=[^\W\d])", r"\.", shown)  # some link a bare evil.com as well
    return re.sub(r"^(\d*)([-+=#.)])", r"\1\\\2", shown)  # what opens a list, a heading or a rule


def quoted(value: Any, indent: int | None = None) -> str:
    r"""Return JSON that Python and YAML read alike, with hidden characters and the marks of formulas as \u escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    text = text.replace("$$", "$\\u0024").replace("\\\\(", "\\u005c(").replace("\\\\[", "\\u005c[")
    escape: Callable[[str], str] = lambda char: f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"  # noqa: E731
    return "".join(escape(char) if hidden(char) and char != "\n" else char for char in text)


def shell(text: str) -> str:
    """Return one word of a command line."""
    return re.sub(MATH, "''", shlex.quote(visible(text, 2 * LONGEST)))
