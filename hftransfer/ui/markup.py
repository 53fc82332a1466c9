"""Pieces of pages as HTML: every text that comes from data, files or the Hub is escaped here and nowhere else."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from hftransfer import views
from hftransfer.errors import brief, rows_in
from hftransfer.ui.saying import retold, say

Tone = Literal["", "good", "warn", "bad"]
WIDE = 32  # characters of a cell from which its column is given room
LONG = 13  # characters from which a figure is set smaller
LONGEST = 400  # characters of one text that are shown
NAMED = 160  # characters of a value that a sentence names: two of them and its own words stay within LONGEST


# what turns the order of what follows around: a name would read as another, and so would the page behind it
TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def text(value: Any, longest: int = LONGEST) -> str:
    """Return any value as text that can stand in HTML, cut when it is long."""
    words = "" if value is None else TURNS.sub("", str(value))
    # Gradio fills templates of its own over what it is given: braces and dollars of the data are data
    safe = escape(cut(words, longest))
    return safe.replace("{", "&#123;").replace("}", "&#125;").replace("$", "&#36;").replace("`", "&#96;")


def cut(value: Any, longest: int = NAMED) -> str:
    """Return a value as it stands in a sentence: one that is long leaves room for what the sentence says beside it."""
    words = str(value)
    return words if len(words) <= longest else words[: longest - 1] + "…"


def lead(title: str, words: str) -> str:
    """Return the heading of a step with one sentence."""
    return f'<div class="lead"><h2>{text(retold(title))}</h2><p>{text(retold(words))}</p></div>'


def title(words: str, aside: str = "") -> str:
    """Return a heading inside a step."""
    small = f"<small>{text(retold(aside))}</small>" if aside else ""
    return f'<h3 class="title">{text(retold(words))}{small}</h3>'


def small(words: str) -> str:
    """Return a sentence in small quiet letters."""
    return f'<p class="quiet small">{text(retold(words), 1000)}</p>'


def note(words: str | Sequence[str], tone: Tone = "") -> str:
    """Return a sentence, or several as a list, in a quiet box; nothing for no words."""
    found = [words] if isinstance(words, str) else list(words)
    found = [one for one in found if one]
    if not found:
        return ""
    role = ' role="alert"' if tone == "bad" else ""
    inside = (
        f"<p>{_told(found[0])}</p>"
        if len(found) == 1
        else f"<ul>{''.join(f'<li>{_told(one)}</li>' for one in found)}</ul>"
    )
    return f'<div class="note {tone}"{role}>{inside}</div>'


def looking(words: str = "Reading the first rows …") -> str:
    """Return what stands where an answer will."""
    told = text(retold(words))
    return f'<div class="note" role="status">{told}<div class="progress waiting"><i></i></div></div>'


FEW = 2  # warnings that stand open: more of them would hide the page behind them
SUBJECTS = {  # of warnings that begin with a word for what they are about, as a page sums them up
    "leakage": "rows that stand in more than one split", "labels": "labels that may be wrong",
}  # fmt: skip


def warnings(words: Sequence[str]) -> str:
    """Return warnings in a box, and below it in another what is told but not wrong: how splits were cut.

    Where there are many, what they are about stands open and they themselves behind a fold.
    """
    told = [one for one in words if one.startswith(("no test split", "no validation split"))]
    warned = [one for one in words if one not in told]
    shown = note(warned, "warn")
    if len(warned) > FEW:
        subjects = [one.partition(":")[0] for one in warned]
        about = dict.fromkeys(retold(SUBJECTS[one]) for one in subjects if one in SUBJECTS)
        others = sum(one not in SUBJECTS for one in subjects)
        rest = say("{n} more", n=others) if about else say("{n} things", n=others)
        listed = say(", ").join([*about, *([rest] if others else [])])
        shown = fold(say("{n} warnings: {listed}", n=len(warned), listed=listed), shown, "warn")
    return shown + note(told)


def fold(head: str, inside: str, tone: Tone = "") -> str:
    """Return HTML behind a line that opens it."""
    return f'<details class="more {tone}"><summary>{text(retold(head))}</summary>{inside}</details>'


SETTING = re.compile(" ?[(\uff08]((?:data|train|evaluation|method)\\.[^()\uff08\uff09]*)[)\uff09]")


def _told(words: str) -> str:
    """Return a sentence; the rows that a warning names stand behind a fold, a setting it names where one rests."""
    rows, told = rows_in(words), retold(brief(words))
    shown = f" <details><summary>{say('show')}</summary>{text(rows, 2000)}</details>" if rows else ""
    named, told = "; ".join(SETTING.findall(told)), SETTING.sub("", told)
    lines = _lines(told)
    return (f'<span title="{text(named)}">{lines}</span>' if named else lines) + shown


def _lines(words: str) -> str:
    lines = "<br>".join(text(line, 2000) for line in words.splitlines())
    return re.sub("&#96;(.+?)&#96;", r"<q>\1</q>", lines)  # names stand as in Markdown, which is the card's


def empty(what: str, do: str, step: str = "", link: str = "") -> str:
    """Return what stands where nothing is yet: what is missing, and what to do."""
    action = f' <a href="#{step}">{text(retold(link))}</a>' if step else ""
    return f'<div class="empty"><strong>{text(retold(what))}</strong>{text(retold(do))}{action}</div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names with their values; a value may hold a small unit behind a `|`."""
    cells = []
    for name, value in pairs:
        if value:
            main, _, unit = value.partition("|")
            small = f" <small>{text(unit)}</small>" if unit else ""
            css = ' class="long"' if len(main) > LONG else ""
            cells.append(f"<div><dt>{text(retold(name))}</dt><dd{css}>{text(main)}{small}</dd></div>")
    return f'<dl class="facts">{"".join(cells)}</dl>' if cells else ""


def bars(counts: Sequence[tuple[str, float]], shown: int = 12, unit: str = "") -> str:
    """Return horizontal bars with their counts; what is beyond `shown` is summed up in a last one."""
    rest = counts[shown:]
    rows = [*counts[:shown], *([(say("{n} more", n=len(rest)), sum(n for _, n in rest))] if rest else [])]
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
    head = "".join(
        f'<th class="{c}" scope="col">{text(name)}</th>' if name else "<td></td>"  # no heading without words
        for name, c in zip(header, css, strict=True)
    )
    lines = "".join(
        "<tr>" + "".join(f'<td class="{c}">{cell}</td>' for cell, c in zip(row, css, strict=True)) + "</tr>"
        for row in body
    )
    return (
        f'<div class="scroll"><table class="plain"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
    )


NOTHING_WRITTEN = "It wrote nothing."
TOP = 5  # probabilities that are shown
PAGE = 50_000  # characters of a text whose parts are marked


def view(found: views.View) -> str:
    """Return an answer as its form is drawn."""
    match found:
        case views.Ranked():
            if found.several:
                names = ", ".join(found.given) or say("none of them")
                return f'<p class="answer">{text(names)}</p>{shares(found.scores[:TOP])}'
            sure = dict(found.scores).get(found.given[0])
            small = "" if sure is None else f"<small>{say('{share:.1%} sure', share=sure)}</small>"
            return f'<p class="answer">{text(found.given[0])}{small}</p>{shares(found.scores[:TOP])}'
        case views.Number():
            return f'<p class="answer">{significant(found.value, 5)}</p>'
        case views.Marked():
            return marked(found)
        case views.Prose():
            return f'<p class="answer prose">{_lines(found.text)}</p>' if found.text.strip() else note(NOTHING_WRITTEN)
        case views.Regions():
            rows = [
                [text(name), f"{sure:.3f}", text(", ".join(f"{edge:.0f}" for edge in box))]
                for name, sure, box in found.found
            ]
            drawn = (
                ""
                if found.drawn is None
                else picture(found.drawn, say("the picture with what was found drawn in it"), large=True)
            )
            head = [say("what"), retold(found.measure), say("left, top, width, height")]
            return drawn + (table(head, rows, [1]) if rows else note("Nothing found."))
        case views.Items():
            rows = [[text(name), f"{score:.3f}", text(about)] for name, score, about in found.found]
            return table([say("item"), say("score"), say("about it")], rows, [1]) if rows else note("Nothing found.")


def marked(found: views.Marked) -> str:
    """Return a text whose parts have their marks below; an answer in its text is said, and lit up where it stands."""
    if found.said is not None:
        sure = next((sure for _, mark, sure in found.parts if mark is not None), None)
        small = "" if sure is None else f"<small>{say('{share:.1%} sure', share=sure)}</small>"
        inside = [(text(part, PAGE).replace("\n", "<br>"), mark) for part, mark, _ in found.parts]
        parts = "".join(part if mark is None else f"<mark>{part}</mark>" for part, mark in inside)
        return f'<p class="answer">{text(found.said) or say("no answer")}{small}</p><p class="words">{parts}</p>'
    cells = "".join(
        f'<ruby class="{"out" if mark in (None, found.outside) else "tag"}">{text(part)}'
        f"<rt>{text(mark or '')}{'' if sure is None else f' {sure:.2f}'}</rt></ruby> "
        for part, mark, sure in found.parts
    )
    return f'<p class="words tagged">{cells}</p>'


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
    return (
        f'<div class="cards{" wide" if wide else ""}" role="group" aria-label="{text(retold(label))}">{inside}</div>'
    )


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


def picture(data: bytes | str, about: str, kind: str = "png", tiny: bool = False, large: bool = False) -> str:
    """Return a picture that stands in the page itself; `data` are bytes or base64."""
    encoded = data if isinstance(data, str) else base64.b64encode(data).decode()
    if not encoded.startswith("data:image/"):
        encoded = f"data:image/{kind};base64,{encoded}"
    css = ' class="tiny"' if tiny else ' class="large"' if large else ""
    return f'<img{css} alt="{text(about, 120)}" src="{escape(encoded)}">'


# --- numbers as people read them ---


def roughly(seconds: float) -> str:
    """Return a time that nobody knows exactly: 21 s, 3 min, 1 h 05 min."""
    if seconds < 90:
        return say("{n:.0f} s", n=seconds)
    minutes = round(seconds / 60)
    if minutes < 60:
        return say("{n} min", n=minutes)
    return say("{hours} h {minutes:02} min", hours=minutes // 60, minutes=minutes % 60)


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
    """Return megabytes as 12 kB, 0.4 MB, 90 MB or 1.9 GB."""
    if megabytes is None:
        return ""
    if megabytes < 1:
        return f"{math.ceil(megabytes * 1000)} kB" if megabytes < 0.1 else f"{megabytes:.1f} MB"
    return f"{megabytes:,.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def significant(value: float | None, digits: int = 4) -> str:
    """Return a number in few digits: 0.0312, 1.2e-05."""
    if value is None or not math.isfinite(value):
        return "" if value is None else str(value)
    return f"{value:.{digits}g}"


def ends_of(low: float, high: float) -> str:
    """Return the ends of an interval."""
    return say("{low:.3f} to {high:.3f}", low=low, high=high)


def score(value: Mapping[str, Any] | None) -> str:
    """Return a score with its interval, as HTML."""
    if not value or value.get("value") is None:
        return ""
    low, high = value.get("low"), value.get("high")
    ends = "" if low is None or high is None else f' <span class="quiet ends">{ends_of(low, high)}</span>'
    return f"<b>{value['value']:.3f}</b>{ends}"
