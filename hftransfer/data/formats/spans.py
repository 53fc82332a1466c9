"""Spans by character, as doccano, Label Studio and Prodigy export them, as a tag for each word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from hftransfer.errors import UserError
from hftransfer.inputs.words import WORD

TEXTS = ("text", "content", "sentence", "document")
HOLDERS = ("label", "labels", "entities", "spans", "annotations", "ents")
STARTS, ENDS = ("start", "start_offset", "begin"), ("end", "end_offset", "stop")
NAMES = ("label", "labels", "type", "tag", "entity", "entity_group", "class")


class Span(NamedTuple):
    """Characters of a text, from `start` up to `end`, and what they are; `text` where the export repeats it."""

    start: int
    end: int
    name: str
    text: str | None


@dataclass(frozen=True)
class Reading:
    """How the rows of an export become rows of words and tags."""

    said: tuple[str, ...]
    text: str
    spans: str | None = None  # the column of spans; None: Label Studio's own tree
    tokens: bool = False  # whether the export has split its texts into words
    asked: tuple[str, ...] = ()  # what Label Studio calls its questions, where several are answered by a choice

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row with `tokens` and `ner_tags`, or with the label that was chosen for it."""
        if self.spans is None:
            return self._of_label_studio(row)
        kept = {name: value for name, value in row.items() if name not in (self.spans, "tokens", *_NOISE)}
        found = [_span_of(value, row[self.text]) for value in row.get(self.spans) or ()]
        given = [(one["start"], one["end"]) for one in row["tokens"]] if self.tokens else None
        return {**kept, **_tagged(row[self.text], found, given)}

    def _of_label_studio(self, row: Mapping[str, Any]) -> dict[str, Any]:
        data = row["data"]
        kept = {name: value for name, value in data.items() if not isinstance(value, dict | list)}
        results = _results(row)
        if results is None:
            return kept  # nobody did it: that is no text without a span
        found: list[Span] = []
        chosen: dict[str, list[str]] = {}
        for one in results:
            value = one.get("value", {})
            if "choices" in value:
                chosen.setdefault(_asked(one) if self.asked else "label", []).extend(value["choices"])
            span = _span(value)
            if span is not None:
                found.append(span)
        if chosen and not found:
            return {**kept, **{name: of[0] if len(of) == 1 else of for name, of in chosen.items()}}
        return {**kept, **_tagged(data[self.text], found, None)}


_NOISE = ("_input_hash", "_task_hash", "_is_binary", "_view_id", "_annotator_id", "_session_id", "meta", "relations",
          "Comments")  # fmt: skip


def detect(rows: Sequence[Mapping[str, Any]]) -> Reading | None:
    """Return how an export is read, by its first rows; None where they hold no spans."""
    if not rows:
        return None
    if all(isinstance(row.get("data"), dict) and ("annotations" in row or "completions" in row) for row in rows):
        text = _text_of([row["data"] for row in rows])
        choices = (one for row in rows for one in _results(row) or () if "choices" in one.get("value", {}))
        asked = tuple(dict.fromkeys(map(_asked, choices)))
        several = asked if len(asked) > 1 else ()
        said = "an export of Label Studio: what was annotated stands in columns"
        said += f", a column for each of its questions: {', '.join(several)}" if several else ""
        return Reading((said,), text, asked=several) if text else None
    text = _text_of(rows)
    if text is None:
        return None
    for name in HOLDERS:
        values = [value for row in rows if (value := row.get(name))]
        if values and all(isinstance(value, list) and all(map(_span, value)) for value in values):
            split = all(_are_tokens(row.get("tokens")) for row in rows)
            by = "split as they are in the file" if split else "split at blanks and punctuation"
            said = f"`{name}` holds spans by character, read as a tag (`ner_tags`) for each word (`tokens`), {by}"
            return Reading((said,), text, name, split)
    return None


def are_answered(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether rows are Prodigy's, each with a person's answer."""
    return bool(rows) and all(
        "_input_hash" in row and row.get("answer") in ("accept", "reject", "ignore") for row in rows
    )


def accepted(rows: Iterable[dict[str, Any]], answered: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows that were accepted; all where nobody was asked."""
    return (row for row in rows if not answered or row.get("answer") == "accept")


def _text_of(rows: Sequence[Mapping[str, Any]]) -> str | None:
    names = [name for name, value in rows[0].items() if isinstance(value, str)]
    fitting = [name for name in names if all(isinstance(row.get(name), str) for row in rows)]
    return next((name for name in TEXTS if name in fitting), fitting[0] if len(fitting) == 1 else None)


def _are_tokens(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and {"start", "end"} <= set(one) for one in value)


def _results(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
    """Return what the first annotator found who did not skip the task; None where nobody did it."""
    done = [one for one in row.get("annotations") or row.get("completions") or [] if not one.get("was_cancelled")]
    return (done[0].get("result") or ()) if done else None


def _asked(result: Mapping[str, Any]) -> str:
    return str(result.get("from_name", "label"))


def _span_of(value: Any, text: str) -> Span:
    found = _span(value)
    if found is None:
        raise _wrong(f"{str(value)[:60]} is no start, end and name", text)
    return found


def _span(value: Any) -> Span | None:
    if isinstance(value, list | tuple) and len(value) == 3:
        start, end, name = value
        text = None
    elif isinstance(value, dict):
        start, end, name = (next((value[key] for key in keys if key in value), None) for keys in (STARTS, ENDS, NAMES))
        text = value.get("text")
    else:
        return None
    if isinstance(name, list) and name:
        name = name[0]
    whole = all(isinstance(one, int | float) and not isinstance(one, bool) and one % 1 == 0 for one in (start, end))
    return Span(int(start), int(end), name, text) if whole and isinstance(name, str) else None


def _tagged(text: str, spans: Sequence[Span], tokens: Sequence[tuple[int, int]] | None) -> dict[str, Any]:
    """Return the words of a text and their tags in BIO; UserError where spans overlap or lie outside."""
    if any(span.text is not None and text[span.start : span.end] != span.text for span in spans):
        spans = [_of_utf16(text, span) for span in spans]  # JavaScript counts so
    spans = sorted(spans)
    for span in spans:
        if not 0 <= span.start < span.end <= len(text) or span.text not in (None, text[span.start : span.end]):
            raise _wrong(f"`{span.name}` from {span.start} to {span.end} is not in it", text)
    for one, other in pairwise(spans):
        if other.start < one.end:
            raise _wrong(f"`{one.name}` and `{other.name}` share characters", text)
    if tokens is None:
        borders = sorted({0, len(text), *(place for span in spans for place in span[:2])})
        tokens = [found.span() for low, high in pairwise(borders) for found in WORD.finditer(text, low, high)]
    tags = []
    for start, end in tokens:
        held = next((span for span in spans if span.start < end and start < span.end), None)
        first = held is not None and not any(held.start <= s < start for s, _ in tokens)
        tags.append("O" if held is None else f"{'B' if first else 'I'}-{held.name}")
    return {"tokens": [text[start:end] for start, end in tokens], "ner_tags": tags}


def _of_utf16(text: str, span: Span) -> Span:
    coded = text.encode("utf-16-le")
    start, end = (len(coded[: 2 * place].decode("utf-16-le", errors="ignore")) for place in span[:2])
    return span._replace(start=start, end=end)


def _wrong(found: str, text: str) -> UserError:
    return UserError(
        "spans must mark parts of their text that do not overlap", f"in {text[:60]!r} {found}",
        "Mend them, or export them again.",
    )  # fmt: skip
