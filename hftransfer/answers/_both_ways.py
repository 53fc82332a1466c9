"""Ranks both ways: of texts for a picture, and of pictures for a text; what equals a right one is right."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hftransfer.weighting import Sample, Witnesses, wilson

BLOCK = 1024  # pictures, or texts, that are compared with all others at once
PLACES = (1, 5, 10)


def print_of(content: bytes) -> int:
    """Return a number (63 bits) that equal contents share."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") >> 1


def ranked(
    seen: np.ndarray, prints: Sequence[int], said: Sequence[np.ndarray], numbers: Sequence[Sequence[int]]
) -> tuple[list[int], list[list[int]], list[tuple[int, int]], list[int], tuple[int, int]]:
    """Return the rank of each row's best text and of each of its captions' picture, and what they are ranks among.

    `seen` (n, d) are vectors of pictures, `prints` (n,) tell equal ones; `said` are (k, d) vectors of each row's
    captions, `numbers` tell equal ones. Both catalogues hold what is equal once. Of wrong ones with the same score
    half come before: a model to which all is the same finds nothing. Returns too (right texts, right pictures of the
    first caption) of each row, the number of the text that comes first, and the sizes (pictures, texts). Exact.
    """
    places = [number for row in numbers for number in row]
    told, first = np.unique(np.asarray(places, np.int64), return_index=True)
    texts = np.concatenate([np.asarray(part, np.float32) for part in said])[first]
    shown, where, picture = np.unique(np.asarray(prints, np.int64), return_index=True, return_inverse=True)
    pictures = np.asarray(seen, np.float32)[where]
    of_picture: list[set[int]] = [set() for _ in shown]
    of_text: list[set[int]] = [set() for _ in told]
    for row, own in enumerate(numbers):
        for text in np.searchsorted(told, np.asarray(own, np.int64)).tolist():
            of_picture[picture[row]].add(text)
            of_text[text].add(int(picture[row]))
    text_ranks, best = _ranks(pictures, texts, of_picture)
    picture_ranks, _ = _ranks(texts, pictures, of_text)
    found = [np.searchsorted(told, np.asarray(own, np.int64)).tolist() for own in numbers]
    return (
        [text_ranks[place] for place in picture],
        [[picture_ranks[text] for text in own] for own in found],
        [(len(of_picture[place]), len(of_text[own[0]])) for place, own in zip(picture, found, strict=True)],
        [int(told[best[place]]) for place in picture],
        (len(shown), len(told)),
    )


def _ranks(asked: np.ndarray, catalogue: np.ndarray, right: Sequence[set[int]]) -> tuple[list[int], list[int]]:
    """Return the rank of the best right one of each that is asked, and which comes first."""
    ranks, best = [], []
    for start in range(0, len(asked), BLOCK):
        near = asked[start : start + BLOCK] @ catalogue.T
        for row, line in enumerate(near, start):
            own = list(right[row])
            most = line[own].max()
            best.append(int(line.argmax()))
            line[own] = -np.inf
            ranks.append(1 + int((line > most).sum()) + int((line == most).sum()) // 2)
    return ranks, best


def at_random(rights: Sequence[int], size: int) -> list[int]:
    """Return the ranks that a random order gives, spread evenly over the rows: of `rights` right ones among `size`."""
    spread = (np.random.default_rng(0).permutation(len(rights)) + 0.5) / max(len(rights), 1)
    found = []
    for right, share in zip(rights, spread.tolist(), strict=True):
        rank, missed = 1, 1.0
        while rank <= size - right:
            missed *= (size - right - rank + 1) / (size - rank + 1)  # none of the first `rank` is right
            if 1.0 - missed >= share:
                break
            rank += 1
        found.append(rank)
    return found


class Ranks:
    """What each row contributes, (n,): shares of its captions that are found, and how many it has."""

    def __init__(self, text_ranks: Sequence[int], picture_ranks: Sequence[Sequence[int]]) -> None:
        self.n = len(text_ranks)
        self.text = np.asarray(text_ranks, np.int64).reshape(-1)
        self.captions = np.array([len(row) for row in picture_ranks], np.float64)
        self.found = {
            k: np.array([sum(rank <= k for rank in row) for row in picture_ranks], np.float64) for k in PLACES
        }
        self.owner = np.repeat(np.arange(self.n), self.captions.astype(int))
        self.picture = np.array([rank for row in picture_ranks for rank in row], np.int64)


def text_recall(k: int) -> Any:
    """Return the share of pictures one of whose captions is among the first k texts."""
    return lambda sample: sample.mean((sample.outcomes.text <= k).astype(np.float64))


def picture_recall(k: int) -> Any:
    """Return the share of captions whose picture is among the first k."""
    return lambda sample: sample.total(sample.outcomes.found[k]) / sample.total(sample.outcomes.captions)


def share_of_captions(k: int) -> Any:
    """Return the interval of `picture_recall`: Wilson's, with a witness a picture, however many captions it has."""
    value = picture_recall(k)

    def closed(whole: Sample, confidence: float, witnesses: Witnesses) -> tuple[float, float]:
        return wilson(float(value(whole)[0]), witnesses(value, float(whole.rows[0])), confidence)

    return closed


def recall(k: int) -> Any:
    """Return the mean of both."""
    one, other = text_recall(k), picture_recall(k)
    return lambda sample: (one(sample) + other(sample)) / 2


def text_median(sample: Any) -> np.ndarray:
    """Return the median rank of the best text."""
    return median(sample.outcomes.text, sample.weights)


def picture_median(sample: Any) -> np.ndarray:
    """Return the median rank of the picture, over captions."""
    return median(sample.outcomes.picture, sample.weights[sample.outcomes.owner])


def median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted medians (b,) of values (n,), of two in the middle the lower, under weights (n, b)."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order], axis=0, dtype=np.float64)
    return values[order][(below < below[-1] / 2 - 1e-9).sum(axis=0).clip(max=len(values) - 1)].astype(np.float64)
