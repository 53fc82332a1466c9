"""Entities in tag sequences, as conlleval and seqeval's default mode read them: IOB1, IOB2, IOBES and BILOU."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_PREFIXED = re.compile(r"([BIESLUM])-(.+)")
_AS_IOBES = str.maketrans("LUM", "ESI")  # BILOU's last and unit, BMES's middle


@dataclass(frozen=True)
class Entities:
    """Spans of one split: sentence, first and last word (counted through all sentences) and type of each."""

    sentence: np.ndarray
    first: np.ndarray
    last: np.ndarray
    type: np.ndarray


def has_entities(names: Sequence[str]) -> bool:
    """Tell whether tag names mark entities: every one is O or carries a prefix such as B- or I-."""
    return any(name != "O" for name in names) and all(name == "O" or _PREFIXED.fullmatch(name) for name in names)


def marking(names: Sequence[str]) -> list[str]:
    """Return the tag names that carry a prefix such as B- or I-."""
    return [name for name in names if _PREFIXED.fullmatch(name)]


def entity_types(names: Sequence[str]) -> list[str]:
    """Return the entity types behind the prefixes, in the order of their first tag."""
    return list(dict.fromkeys(match[2] for match in map(_PREFIXED.fullmatch, names) if match))


def find_entities(sentences: Sequence[np.ndarray], names: Sequence[str]) -> Entities:
    """Return the entities of sentences of tag indices.

    A change of type ends one entity and begins the next, and I- without B- begins one, as in conlleval
    (Tjong Kim Sang and Buchholz 2000) and in `seqeval.metrics.sequence_labeling.get_entities`.
    """
    types = entity_types(names)
    matches = [_PREFIXED.fullmatch(name) for name in names]
    prefix_of = np.array([match[1].translate(_AS_IOBES) if match else "O" for match in matches] + ["O"])
    type_of = np.array([types.index(match[2]) if match else -1 for match in matches] + [-1])

    lengths = np.array([len(sentence) for sentence in sentences])
    outside = np.array([len(names)])  # a tag of no entity behind every sentence, so that none runs into the next
    tags = np.concatenate([part for sentence in sentences for part in (np.asarray(sentence, np.int64), outside)])
    sentence_of = np.repeat(np.arange(len(sentences)), lengths + 1)

    prefix, kind = prefix_of[tags], type_of[tags]
    before, kind_before = np.append("O", prefix[:-1]), np.append(-1, kind[:-1])
    changed = kind != kind_before
    begins = (prefix != "O") & (
        np.isin(prefix, ["B", "S"]) | (np.isin(before, ["E", "S", "O"]) & np.isin(prefix, ["E", "I"])) | changed
    )
    ends = (before != "O") & (np.isin(before, ["E", "S"]) | np.isin(prefix, ["B", "S", "O"]) | changed)
    first, last = np.flatnonzero(begins), np.flatnonzero(ends) - 1
    return Entities(sentence_of[first], first, last, kind[first])
