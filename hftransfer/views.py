"""How an answer is shown, whatever surface shows it: six forms that the command line, CSV, page and card each draw."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

MOST = 300  # characters of a prose in a line
NO_TEXT = "no text"  # in place of one that a model left empty


@dataclass(frozen=True)
class Ranked:
    """Names with their scores, most likely first; the first `given` of them are the answer."""

    scores: tuple[tuple[str, float], ...]
    given: tuple[str, ...]
    several: bool = False  # whether any number of names may be given, none too


@dataclass(frozen=True)
class Number:
    """A number."""

    value: float


@dataclass(frozen=True)
class Marked:
    """Parts of a text in a row, some with a mark: a word and its tag, an answer in its context.

    `said` is the answer alone, where a line has no room for the text around it; empty for none.
    """

    parts: tuple[tuple[str, str | None, float | None], ...]  # text, mark, how sure
    outside: str = "O"  # the mark that says nothing
    said: str | None = None


@dataclass(frozen=True)
class Prose:
    """A text."""

    text: str


@dataclass(frozen=True)
class Regions:
    """Parts of a picture: name, how sure, and (left, top, width, height) in pixels.

    `measure` is what the number is where it is not how sure; `drawn` the picture with them in it, a PNG as base64.
    """

    found: tuple[tuple[str, float, tuple[float, float, float, float]], ...]
    measure: str = "sure"
    drawn: str | None = None


@dataclass(frozen=True)
class Items:
    """Things in an order, best first: name, score, and a sentence on each."""

    found: tuple[tuple[str, float, str], ...]


@dataclass(frozen=True)
class Plot:
    """One plot: the name of its file, its title, the chart that draws it, its data, and arrays too long for a file."""

    name: str
    title: str
    chart: str  # matrix | bars | reliability | scatter | histogram
    data: dict[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


View: TypeAlias = Ranked | Number | Marked | Prose | Regions | Items
FORMS: dict[str, type[Any]] = {form.__name__.lower(): form for form in (Ranked, Number, Marked, Prose, Regions, Items)}


def line(view: View, top_k: int = 1) -> str:
    """Return a view in one line of text."""
    match view:
        case Ranked():
            known = dict(view.scores)
            names = view.given if view.several else [name for name, _ in view.scores][:top_k]
            return ", ".join(f"{name} {known[name]:.3f}" for name in names if name in known) or "no label"
        case Number():
            return f"{view.value:.4g}"
        case Marked() if view.said is not None:
            return line(Prose(view.said or "no answer"))
        case Marked():
            marked = (f"{part}/{mark}" if mark is not None else part for part, mark, _ in view.parts)
            return " ".join(marked)
        case Prose():
            text = " ".join(view.text.split()) or NO_TEXT
            return text if len(text) <= MOST else text[: MOST - 1] + "…"
        case Regions():
            places = (
                f"{name} {sure:.3f} at {', '.join(f'{edge:.0f}' for edge in box)}" for name, sure, box in view.found
            )
            return "; ".join(places) or "nothing"
        case Items():
            return "; ".join(f"{name} {score:.3f}" for name, score, _ in view.found[: max(top_k, 1)]) or "nothing"


def listing(found: Sequence[View]) -> list[tuple[str, str, str]]:
    """Return the things that one question was answered with, a row each; nothing for others, and for several."""
    if len(found) != 1 or not isinstance(found[0], Items):
        return []
    return [(name, f"{score:.3f}", about) for name, score, about in found[0].found]


def cell(view: View) -> str:
    """Return the answer alone, as a cell of a table that a program reads: a name, names, a number or a text."""
    match view:
        case Ranked():
            return ", ".join(view.given)
        case Number():
            return repr(view.value)
        case Prose():
            return view.text
        case Marked() if view.said is not None:
            return view.said
        case _:
            return line(view)


def to_dict(view: View) -> dict[str, Any]:
    """Return a view as JSON can hold it."""
    return {"form": type(view).__name__.lower(), **dataclasses.asdict(view)}


def from_dict(found: Mapping[str, Any]) -> View:
    """Return the view that `to_dict` gave."""
    fields = {name: _tuples(value) for name, value in found.items() if name != "form"}
    view: View = FORMS[str(found["form"])](**fields)
    return view


def _tuples(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_tuples(part) for part in value)
    return value
