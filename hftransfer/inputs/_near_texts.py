"""Texts that are nearly the same: those that share most of their words and word pairs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

ALIKE = 0.7  # of the words and word pairs of two texts together, the share that both have (Jaccard)
PERMUTATIONS, BANDS = 64, 16  # texts that share 0.7 meet in a band with a probability of 0.99, those at 0.3 in 1 of 8
COMPARED = 8  # rows of a band's bucket that each of its rows is compared with: boilerplate fills buckets
MOST = 500_000  # rows of all splits above which nobody looks
# scripts without blanks between words: each character counts as one
DENSE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
WORD = re.compile(rf"[{DENSE}]|[^\W{DENSE}]+")


def pairs(texts: Sequence[str], owner: np.ndarray) -> np.ndarray | None:
    """Return pairs (m, 2) of near copies; None where there are too many texts to look."""
    return None if len(texts) > MOST else near_texts(texts, owner)


def near_texts(texts: Sequence[str], owner: np.ndarray) -> np.ndarray:
    """Return pairs (m, 2) of texts that share ALIKE of their words and word pairs (MinHash: Broder 1997).

    Candidates share a band of their signatures (locality sensitive hashing: Indyk and Motwani 1998), and are then
    compared in full. In a crowded bucket each row meets COMPARED rows of each owner, so that a row which has a copy
    in another split is found, though not every pair is.
    """
    shingles, starts = _shingles(texts)
    full = np.flatnonzero(np.diff(starts))  # texts without a word are no copy of anything
    if len(full) < 2:
        return np.empty((0, 2), np.int64)
    signatures = _signatures(shingles, starts, full)
    pairs = _candidates(signatures, owner[full])
    likely = np.mean(signatures[pairs[:, 0]] == signatures[pairs[:, 1]], axis=1) > ALIKE - 0.25  # 4 standard errors
    pairs = full[pairs[likely]]
    return pairs[[_jaccard(shingles, starts, first, second) >= ALIKE for first, second in pairs]].reshape(-1, 2)


def _shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return each text's words and pairs of neighbouring words as numbers, each once, and where a text starts."""
    vocabulary: dict[str, int] = {}
    rows: list[np.ndarray] = []
    for text in texts:
        words = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
        ids = np.array([vocabulary.setdefault(word, len(vocabulary) + 1) for word in words], np.uint64)
        rows.append(np.unique(np.concatenate([ids, (ids[:-1] << np.uint64(32)) + ids[1:]])))
    return np.concatenate(rows), np.concatenate([[0], np.cumsum([len(row) for row in rows])])


def _signatures(shingles: np.ndarray, starts: np.ndarray, full: np.ndarray) -> np.ndarray:
    """Return the smallest of each text's shingles (rows, PERMUTATIONS) under each of as many hashes."""
    rng = np.random.default_rng(0)
    factors = rng.integers(1, 2**63, PERMUTATIONS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    scrambled = shingles * np.uint64(0x9E3779B97F4A7C15)
    scrambled ^= scrambled >> np.uint64(29)
    found = np.empty((len(full), PERMUTATIONS), np.uint64)
    for number, factor in enumerate(factors):
        hashed = scrambled * factor
        hashed ^= hashed >> np.uint64(32)
        found[:, number] = np.minimum.reduceat(hashed * factor, starts[full])
    return found


def _candidates(signatures: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return pairs (m, 2), smaller place first, of rows that share a band."""
    width = PERMUTATIONS // BANDS
    found = []
    for band in range(BANDS):
        part = np.ascontiguousarray(signatures[:, band * width : (band + 1) * width])
        _, bucket = np.unique(part.view(f"V{8 * width}").ravel(), return_inverse=True)
        order = np.lexsort((owner, bucket))
        # each row meets the rows behind it, and the first of each owner in its bucket
        for step in range(1, COMPARED + 1):
            same = bucket[order[step:]] == bucket[order[:-step]]
            found.append(np.stack([order[:-step][same], order[step:][same]], axis=1))
        for split in np.unique(owner):
            members = order[owner[order] == split]
            where = np.searchsorted(bucket[members], bucket[order])
            there = (where < len(members)) & (bucket[members[np.minimum(where, len(members) - 1)]] == bucket[order])
            found.append(np.stack([members[where[there]], order[there]], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)


def _jaccard(shingles: np.ndarray, starts: np.ndarray, first: int, second: int) -> float:
    one, other = (shingles[starts[row] : starts[row + 1]] for row in (first, second))
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)
