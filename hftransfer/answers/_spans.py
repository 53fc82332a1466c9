"""Parts of a text: how their columns are read, which tokens they are, and the best ones of two rows of scores."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hftransfer.column_types import STRINGS, element, is_list, is_value

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

KEPT = 5  # spans that are kept of a window, and of a row
IGNORED = -100  # no token: a row whose answer no window holds whole teaches nothing
ARRAY = re.compile(r"\barray\((\[.*?\])(?:,\s*dtype=[\w']+)?\)", re.DOTALL)  # as numpy writes them
SOMEWHERE = -1  # the place of a text that nobody gave one
NOWHERE = -2  # of one whose row has more or fewer places than texts: which is whose is not known
STARTS = ("answer_start", "start", "answer_starts", "starts")


class Place(NamedTuple):
    """A part of a text: what it says, where it begins and ends (characters), and its score (the sum of two logits)."""

    text: str
    start: int
    end: int
    score: float


# --- columns ---


def holds_spans(feature: Any) -> bool:
    """Tell whether a column holds texts with their places: a dict of lists, a list of dicts; or texts alone."""
    inner = element(feature)
    if isinstance(inner, dict):
        return "text" in inner and is_value(element(inner["text"]), *STRINGS, "null")
    return is_value(inner, *STRINGS)


def starts_of(feature: Any) -> str | None:
    """Return the name of the field that says where a text begins; None where nothing does."""
    inner = element(feature)
    return next((name for name in STARTS if isinstance(inner, dict) and name in inner), None)


def references(raw: pa.Array, feature: Any) -> pa.Array:
    """Return a column of any of the forms as lists of (text, start), without blanks around a text; nulls are kept.

    An empty list, and an empty text, say that there is no answer.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from hftransfer.answers import _truth

    missing = raw.is_null()
    written = _unwritten(raw) if is_value(feature, *STRINGS) else None
    starts: Any
    if written is not None:
        lengths, texts, starts = written
    elif is_list(feature):
        raw = _truth.plain_lists(raw)
        lengths, flat = pc.fill_null(pc.list_value_length(raw), 0), raw.flatten()
        texts, starts = (flat, None) if not pa.types.is_struct(flat.type) else _fields(flat, feature)
    elif pa.types.is_struct(raw.type):
        fields, starts = _fields(raw, feature)
        missing = pc.or_(missing, fields.is_null())
        lists = _truth.plain_lists(fields)
        lengths, texts = pc.fill_null(pc.list_value_length(lists), 0), lists.flatten()
        starts = (
            None if starts is None else _aligned(_truth.plain_lists(starts), lengths.to_numpy(zero_copy_only=False))
        )
    else:
        lengths, texts, starts = pa.array(np.ones(len(raw), np.int64)), pc.fill_null(raw, ""), None
    texts = pc.fill_null(texts.cast(pa.string()), "")
    whole = pc.utf8_trim_whitespace(texts)
    if starts is None or len(starts) != len(texts):
        starts = pa.array(np.full(len(texts), SOMEWHERE))
    else:
        skipped = pc.subtract(pc.utf8_length(texts), pc.utf8_length(pc.utf8_ltrim_whitespace(texts)))
        starts = pc.add(pc.fill_null(starts.cast(pa.int64()), SOMEWHERE), skipped.cast(pa.int64()))
    said = pc.not_equal(whole, "").to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(raw)), lengths.to_numpy(zero_copy_only=False))
    left = np.bincount(owner[said], minlength=len(raw))
    flat = pa.StructArray.from_arrays([whole.filter(said), starts.filter(said)], names=["text", "start"])
    return _truth.lists(pa.array(left), flat, missing)


def _aligned(starts: pa.ListArray, lengths: np.ndarray) -> pa.Array:
    """Return the starts of rows of so many texts; NOWHERE in rows that have another number of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    own = pc.fill_null(pc.list_value_length(starts), 0).to_numpy(zero_copy_only=False)
    if np.array_equal(own, lengths):
        return starts.flatten()
    rows = zip(starts.to_pylist(), own.tolist(), lengths.tolist(), strict=True)
    return pa.array(
        [one for row, has, wants in rows for one in (row if has == wants else [NOWHERE] * wants) or ()], pa.int64()
    )


def _unwritten(raw: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array] | None:
    """Return how many texts each row has, the texts and their starts, of structures that a table holds as texts.

    They are written in JSON or as Python does, with arrays of numpy. None where any value is something else.
    """
    import pyarrow as pa

    rows = []
    for value in raw.to_pylist():
        found = [] if value is None else _structure(value)
        if found is None:
            return None
        rows.append(found)
    if not any(rows):
        return None
    flat = [pair for row in rows for pair in row]
    return (
        pa.array([len(row) for row in rows], pa.int64()), pa.array([text for text, _ in flat], pa.string()),
        pa.array([start for _, start in flat], pa.int64()),
    )  # fmt: skip


def _structure(value: str) -> list[tuple[str, int]] | None:
    plain = ARRAY.sub(r"\1", value.strip())
    if not plain.startswith(("{", "[{")):
        return None
    try:
        found = json.loads(plain)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(plain)
        except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    pairs = []
    for one in found if isinstance(found, list) else [found]:
        if not isinstance(one, dict) or "text" not in one:
            return None
        places = next((one[name] for name in STARTS if name in one), None)
        texts = one["text"] if isinstance(one["text"], list) else [one["text"]]
        starts = places if isinstance(places, list) else [SOMEWHERE if places is None else places] * len(texts)
        if len(starts) != len(texts) or not all(isinstance(start, int) for start in starts):
            return None
        pairs += [(str(text), start) for text, start in zip(texts, starts, strict=True) if text is not None]
    return pairs


def _fields(values: pa.StructArray, feature: Any) -> tuple[pa.Array, pa.Array | None]:
    """Return the texts and the starts among the fields."""
    import pyarrow.compute as pc

    name = starts_of(feature)
    return pc.struct_field(values, "text"), None if name is None else pc.struct_field(values, name)


def faults(truth: Sequence[Any], texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows (rows,) name a text that is nowhere in theirs, and which one that stands elsewhere."""
    absent, elsewhere = np.zeros(len(truth), bool), np.zeros(len(truth), bool)
    for row, (found, text) in enumerate(zip(truth, texts, strict=True)):
        for one in found or ():
            start, said = one["start"], one["text"]
            if start != SOMEWHERE and start >= 0 and (text or "")[start : start + len(said)] == said:
                continue
            absent[row] |= said not in (text or "")
            elsewhere[row] |= start != SOMEWHERE
    return absent, elsewhere & ~absent


# --- tokens ---


def at_first(found: Sequence[Any] | None, text: str, at: int, known: dict[str, int]) -> list[dict[str, Any]]:
    """Return a row's answers with the place of those that nobody gave one: the first in the row, of those in windows.

    `text` is what a window shows, from character `at` on; `known` holds what the row's windows before it told.
    """
    placed = []
    for one in found or ():
        if one["start"] == SOMEWHERE and one["text"] not in known and (place := text.find(one["text"])) >= 0:
            known[one["text"]] = at + place
        start = known.get(one["text"], -1) if one["start"] == SOMEWHERE else one["start"]
        placed += [{**one, "start": start}] if start >= 0 else []
    return placed


def within_window(
    found: Sequence[Any] | None, text: str, at: int, places: np.ndarray, first: int
) -> tuple[int, int] | None:
    """Return the first and last token of the first answer that lies whole in a window; None where none does.

    `text` is what the window shows, from character `at` on; `places` (tokens, 2) are the tokens' characters in it, and
    `first` is the number of the first of them.
    """
    for one in found or ():
        start = one["start"] - at
        end = start + len(one["text"])
        if start < 0 or end > len(text):
            continue
        inside = np.flatnonzero((places[:, 1] > start) & (places[:, 0] < end))
        if len(inside) and places[inside[0], 0] <= start and places[inside[-1], 1] >= end:
            return first + int(inside[0]), first + int(inside[-1])
    return None


def without_padding(module: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Give tokens that are padding the least logit, in a hook of the model."""
    import torch

    shown = kwargs.get("attention_mask")
    if shown is not None:
        for name in ("start_logits", "end_logits"):
            outputs[name] = outputs[name].masked_fill(shown == 0, torch.finfo(outputs[name].dtype).min)
    return outputs


def missed(logits: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return the summed cross entropy of one end (windows, tokens), smoothed over the tokens that are no padding."""
    import torch
    from torch.nn import functional

    total = functional.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORED)
    if not smoothing:
        return total
    known = (logits > torch.finfo(torch.bfloat16).min / 2) & (targets != IGNORED)[:, None]
    spread = -(logits.log_softmax(dim=-1).masked_fill(~known, 0.0).sum(dim=-1) / known.sum(dim=-1).clamp(min=1)).sum()
    return (1 - smoothing) * total + smoothing * spread


def best(starts: torch.Tensor, ends: torch.Tensor, longest: int) -> list[tuple[int, int, float]]:
    """Return the KEPT best (first, last, score) of two rows of logits (tokens,), of at most `longest` tokens each."""
    import torch

    tokens, width = len(starts), min(longest, len(starts))
    if not tokens:
        return []
    beyond = torch.full((width - 1,), -torch.inf, dtype=ends.dtype, device=ends.device)
    scores = starts[:, None] + torch.cat([ends, beyond]).unfold(0, width, 1)  # of the span that is so much longer
    found, at = scores.flatten().topk(min(KEPT, scores.numel()))
    pairs = zip(at.tolist(), found.tolist(), strict=True)
    return [(n // width, n // width + n % width, score) for n, score in pairs if score > -torch.inf]


def joined(parts: Sequence[Sequence[Place]]) -> tuple[Place, ...]:
    """Return the KEPT best of several windows' places, each once, with its highest score."""
    known: dict[tuple[int, int], Place] = {}
    for place in (place for part in parts for place in part):
        if place[1:3] not in known or known[place[1:3]].score < place.score:
            known[place[1:3]] = place
    return tuple(sorted(known.values(), key=lambda place: (-place.score, place.start, place.end))[:KEPT])
