"""Pieces of pages as HTML: every text that comes from data, files or the Hub is escaped here and nowhere else."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

Tone = Literal["", "good", "warn", "bad"]
WIDE = 32  # characters of a cell from which its column is given room
LONG = 13  # characters from which a figure is set smaller
LONGEST = 400  # characters of one text that are shown


def text(value: Any, longest: int = LONGEST) -> str:
    """Return any value as text that can stand in HTML, cut when it is long."""
    words = "" if value is None else str(value)
    # Gradio fills templates of its own over what it is given: braces and dollars of the data are data
    safe = escape(words if len(words) <= longest else words[: longest - 1] + "…")
    return safe.replace("{", "&#123;").replace("}", "&#125;").replace("$", "&#36;").replace("`", "&#96;")


def lead(title: str, words: str) -> str:
    """Return the heading of a step with one sentence."""
    return f'<div class="lead"><h2>{text(title)}</h2><p>{text(words)}</p></div>'


def title(words: str, aside: str = "") -> str:
    """Return a heading inside a step."""
    return f'<h3 class="title">{text(words)}{f"<small>{text(aside)}</small>" if aside else ""}</h3>'


def note(words: str | Sequence[str], tone: Tone = "") -> str:
    """Return a sentence, or several as a list, in a quiet box; nothing for no words."""
    found = [words] if isinstance(words, str) else list(words)
    found = [one for one in found if one]
    if not found:
        return ""
    role = ' role="alert"' if tone == "bad" else ""
    inside = (
        f"<p>{_lines(found[0])}</p>"
        if len(found) == 1
        else f"<ul>{''.join(f'<li>{_lines(one)}</li>' for one in found)}</ul>"
    )
    return f'<div class="note {tone}"{role}>{inside}</div>'


def warnings(words: Sequence[str]) -> str:
    """Return warnings in a box, and below it in another what is told but not wrong: how splits were cut."""
    told = [one for one in words if one.startswith(("no test split", "no validation split"))]
    return note([one for one in words if one not in told], "warn") + note(told)


def _lines(words: str) -> str:
    return "<br>".join(text(line, 2000) for line in words.splitlines())


def empty(what: str, do: str, step: str = "", link: str = "") -> str:
    """Return what stands where nothing is yet: what is missing, and what to do."""
    action = f' <a href="#{step}">{text(link)}</a>' if step else ""
    return f'<div class="empty"><strong>{text(what)}</strong>{text(do)}{action}</div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names with their values; a value may hold a small unit behind a `|`."""
    cells = []
    for name, value in pairs:
        if value:
            main, _, unit = value.partition("|")
            small = f" <small>{text(unit)}</small>" if unit else ""
            css = ' class="long"' if len(main) > LONG else ""
            cells.append(f"<div><dt>{text(name)}</dt><dd{css}>{text(main)}{small}</dd></div>")
    return f'<dl class="facts">{"".join(cells)}</dl>' if cells else ""


def bars(counts: Sequence[tuple[str, float]], shown: int = 12, unit: str = "") -> str:
    """Return horizontal bars with their counts; what is beyond `shown` is summed up in a last one."""
    rest = counts[shown:]
    rows = [*counts[:shown], *([(f"{len(rest)} more", sum(n for _, n in rest))] if rest else [])]
    largest = max((n for _, n in rows), default=0) or 1
    whole = sum(n for _, n in rows) or 1
    cells = "".join(
        f'<span title="{text(name)}">{text(name, 60)}</span>'
        f'<i class="{"faint" if rest and i == len(rows) - 1 else ""}"'
        f' style="width:{100 * n / largest:.1f}%"></i><span>{n:,.0f}{text(unit)} · {n / whole:.0%}</span>'
        for i, (name, n) in enumerate(rows)
    )
    return f'<div class="bars">{cells}</div>'


def shares(scores: Sequence[tuple[str, float]]) -> str:
    """Return probabilities as bars of one scale, 0 to 1."""
    cells = "".join(
        f'<span title="{text(name)}">{text(name, 60)}</span><i style="width:{100 * min(max(p, 0), 1):.1f}%"></i>'
        f"<span>{p:.3f}</span>"
        for name, p in scores
    )
    return f'<div class="bars">{cells}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table of cells that are HTML already; `numbers` names the columns set to the right."""
    body = [list(row) for row in rows]
    css = ["num" if place in numbers else "" for place in range(len(header))]
    for place in range(len(header)):
        if any(len(re.sub(r"<[^>]*>", "", row[place])) > WIDE for row in body):
            css[place] = "wide"
    head = "".join(f'<th class="{c}" scope="col">{text(name)}</th>' for name, c in zip(header, css, strict=True))
    lines = "".join(
        "<tr>" + "".join(f'<td class="{c}">{cell}</td>' for cell, c in zip(row, css, strict=True)) + "</tr>"
        for row in body
    )
    return (
        f'<div class="scroll"><table class="plain"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
    )


@dataclass(frozen=True)
class Card:
    """One thing to choose: what is handed back when it is picked, its name, a sentence, and small marks."""

    value: str
    name: str
    about: str = ""
    marks: tuple[tuple[str, Tone], ...] = ()


def cards(found: Sequence[Card], chosen: str | None = None, label: str = "Choices", wide: bool = False) -> str:
    """Return cards as buttons; CARDS tells Gradio which one was picked."""
    inside = "".join(
        f'<button type="button" data-pick="{text(card.value, 2000)}" aria-pressed="{_truth(card.value == chosen)}">'
        f"<strong>{text(card.name)}</strong>"
        + (f"<p>{text(card.about)}</p>" if card.about else "")
        + f'<span class="marks">{"".join(mark(words, tone) for words, tone in card.marks)}</span></button>'
        for card in found
    )
    return f'<div class="cards{" wide" if wide else ""}" role="group" aria-label="{text(label)}">{inside}</div>'


CARDS = """
let held = null;
element.addEventListener('focusin', (event) => { held = event.target.closest('[data-pick]')?.dataset.pick ?? null; });
watch('value', () => {
  if (held === null || document.activeElement !== document.body) return;
  element.querySelector(`[data-pick="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
});
element.addEventListener('click', (event) => {
  const card = event.target.closest('[data-pick]');
  if (!card || !element.contains(card)) return;
  element.querySelectorAll('[data-pick]').forEach((one) => one.setAttribute('aria-pressed', String(one === card)));
  trigger('click', { pick: card.dataset.pick });
});
"""


def mark(words: str, tone: Tone = "") -> str:
    """Return a small mark."""
    return f'<span class="mark {tone}">{text(words)}</span>'


def _truth(value: bool) -> str:
    return "true" if value else "false"


def picture(data: bytes | str, about: str, kind: str = "png", tiny: bool = False) -> str:
    """Return a picture that stands in the page itself; `data` are bytes or base64."""
    encoded = data if isinstance(data, str) else base64.b64encode(data).decode()
    if not encoded.startswith("data:image/"):
        encoded = f"data:image/{kind};base64,{encoded}"
    css = ' class="tiny"' if tiny else ""
    return f'<img{css} alt="{text(about, 120)}" src="{escape(encoded)}">'


# --- numbers as people read them ---


def roughly(seconds: float) -> str:
    """Return a time that nobody knows exactly: 21 s, 3 min, 1 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def count(value: float | None) -> str:
    """Return a count with its thousands set apart: 4,200."""
    return "" if value is None else f"{value:,.0f}"


def short_count(value: float | None) -> str:
    """Return a count in a few characters: 950, 22.7 M, 1.3 B."""
    if value is None:
        return ""
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


def size(megabytes: float | None) -> str:
    """Return megabytes as 90 MB or 1.9 GB."""
    if megabytes is None:
        return ""
    return f"{megabytes:,.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def significant(value: float | None, digits: int = 4) -> str:
    """Return a number in few digits: 0.0312, 1.2e-05."""
    if value is None or not math.isfinite(value):
        return "" if value is None else str(value)
    return f"{value:.{digits}g}"


def score(value: Mapping[str, Any] | None) -> str:
    """Return a score with its interval, as HTML."""
    if not value or value.get("value") is None:
        return ""
    low, high = value.get("low"), value.get("high")
    ends = "" if low is None or high is None else f' <span class="quiet ends">{low:.3f} to {high:.3f}</span>'
    return f"<b>{value['value']:.3f}</b>{ends}"
