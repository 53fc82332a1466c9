"""What ranks a catalogue without any model of ours: words in common, popularity, what the same people had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hftransfer.answers._catalogue import Catalogue
from hftransfer.answers._histories import Scores, parts
from hftransfer.answers._learner import Trivial
from hftransfer.answers._lists import Listed, first, listed

READ = 20  # items of a history, the newest, whose words are compared


def simplest(catalogue: Catalogue, asked: Sequence[Any], itself: Sequence[Sequence[int]] = ()) -> Trivial:
    """Return what is popular, where it is known what people had, or what words in common find."""
    if catalogue.histories is not None:
        scores, about = catalogue.histories.popular
        return Trivial("popularity", f"recommends what was had most {about}", by_histories(catalogue, scores, asked))
    about = "ranks by words in common, weighted by how rare they are"
    return Trivial("BM25", about, by_words(catalogue, lambda some: catalogue.words.scores(some), asked, itself))


def others(catalogue: Catalogue, asked: Sequence[Any], itself: Sequence[Sequence[int]] = ()) -> list[Trivial]:
    """Return item-kNN, EASE and what pieces of words in common find, which alone knows new items; or the last alone.

    `itself` are the places of entries that are the questions themselves (a list a row, or none): no answer to them.
    """
    if catalogue.histories is None:
        about = "ranks by pieces of words in common, 2 to 4 characters"
        found = by_words(catalogue, lambda some: catalogue.pieces.scores(some), asked, itself)
        return [Trivial("TF-IDF", about, found)]
    named = [("item-kNN", catalogue.histories.knn), ("EASE", catalogue.histories.linear)]
    return [
        *(
            Trivial(name, f"ranks by {found[1]}", by_histories(catalogue, found[0], asked))
            for name, found in named
            if found is not None
        ),
        *by_texts(catalogue, asked),
    ]


def by_texts(catalogue: Catalogue, asked: Sequence[Sequence[str]]) -> list[Trivial]:
    """Return what pieces of words in common with the last items of histories find; nothing of items without texts."""
    if not any(text and text.strip() for text in catalogue.table["text"].to_pylist()):
        return []
    had = [[catalogue.places[name] for name in row if name in catalogue.places] for row in asked]
    read = [" ".join(text or "" for text in catalogue.texts(row[-READ:])) for row in had]
    found = by_words(catalogue, lambda some: catalogue.pieces.scores(some), read, had)
    about = "ranks by pieces of words in common with what somebody had last, 2 to 4 characters"
    return [Trivial("TF-IDF", about, found)]


def by_words(
    catalogue: Catalogue,
    scores: Callable[[Sequence[str]], np.ndarray | None],
    asked: Sequence[str],
    itself: Sequence[Sequence[int]] = (),
) -> list[Listed]:
    """Return lists by scores of texts; an entry without anything in common is no answer, nor is one of `itself`."""
    found: list[Listed] = []
    for some in parts(len(asked), len(catalogue)):
        near = scores(list(asked[some]))
        gone = [list(row) for row in itself[some]] or [[] for _ in asked[some]]
        if near is None:
            found += [Listed(b"", among=len(catalogue)) for _ in gone]
            continue
        near[near <= 0] = -np.inf
        for line, own in zip(near, gone, strict=True):
            line[own] = -np.inf
        found += listed(catalogue, *first(near), [b""] * len(gone), gone)
    return found


def by_histories(catalogue: Catalogue, scores: Scores, asked: Sequence[Sequence[str]]) -> list[Listed]:
    """Return lists by scores of histories, without what they hold and what nobody had: of that nothing is known."""
    assert catalogue.histories is not None
    cold = np.flatnonzero(catalogue.histories.counts == 0)
    had = [[catalogue.places[name] for name in row if name in catalogue.places] for row in asked]
    found: list[Listed] = []
    for part in parts(len(had), len(catalogue)):
        some = had[part]
        near = np.array(scores(some), np.float64)
        for row, gone in enumerate(some):
            near[row, gone] = -np.inf
        near[:, cold] = -np.inf
        found += listed(catalogue, *first(near), [b""] * len(some), some)
    return found
