"""What ranks a catalogue without any model of ours: words in common, popularity, what the same people had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hftransfer.answers import _nearest
from hftransfer.answers._catalogue import Catalogue
from hftransfer.answers._histories import Scores
from hftransfer.answers._learner import Trivial
from hftransfer.answers._lists import Listed, first, listed


def simplest(catalogue: Catalogue, asked: Sequence[Any]) -> Trivial:
    """Return what is popular, where it is known what people had, or what words in common find."""
    if catalogue.histories is not None:
        scores, about = catalogue.histories.popular
        return Trivial("popularity", f"recommends what was had most {about}", by_histories(catalogue, scores, asked))
    about = "ranks by words in common, weighted by how rare they are"
    return Trivial("BM25", about, by_words(catalogue, lambda some: catalogue.words.scores(some), asked))


def others(catalogue: Catalogue, asked: Sequence[Any]) -> list[Trivial]:
    """Return item-kNN and EASE, or what pieces of words in common find."""
    if catalogue.histories is None:
        about = "ranks by pieces of words in common, 2 to 4 characters"
        return [Trivial("TF-IDF", about, by_words(catalogue, lambda some: catalogue.pieces.scores(some), asked))]
    named = [("item-kNN", catalogue.histories.knn), ("EASE", catalogue.histories.linear)]
    return [
        Trivial(name, f"ranks by {found[1]}", by_histories(catalogue, found[0], asked))
        for name, found in named
        if found is not None
    ]


def by_words(
    catalogue: Catalogue, scores: Callable[[Sequence[str]], np.ndarray | None], asked: Sequence[str]
) -> list[Listed]:
    """Return lists by scores of texts; an entry without anything in common is no answer."""
    found: list[Listed] = []
    for start in range(0, len(asked), _nearest.QUERIES):
        some = list(asked[start : start + _nearest.QUERIES])
        near = scores(some)
        if near is None:
            found += [Listed(b"", among=len(catalogue)) for _ in some]
        else:
            known = first(np.where(near > 0, near, -np.inf))
            found += listed(catalogue, *known, [b""] * len(some), [()] * len(some))
    return found


def by_histories(catalogue: Catalogue, scores: Scores, asked: Sequence[Sequence[str]]) -> list[Listed]:
    """Return lists by scores of histories, without what they hold and what nobody had: of that nothing is known."""
    assert catalogue.histories is not None
    cold = np.flatnonzero(catalogue.histories.counts == 0)
    had = [[catalogue.places[name] for name in row if name in catalogue.places] for row in asked]
    found: list[Listed] = []
    for start in range(0, len(had), _nearest.QUERIES):
        some = had[start : start + _nearest.QUERIES]
        near = np.array(scores(some), np.float64)
        for row, gone in enumerate(some):
            near[row, gone] = -np.inf
        near[:, cold] = -np.inf
        found += listed(catalogue, *first(near), [b""] * len(some), some)
    return found
