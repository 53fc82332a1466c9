"""Scores of short answers against several references, as SQuAD's own scripts compare them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from hftransfer.answers import _written
from hftransfer.weighting import Metric, Sample, ratio

# of scripts without blanks between words each character counts as one
DENSE = re.compile(f"([{''.join(f'{low}-{high}' for low, high in _written.DENSE)}])")
ARTICLES = re.compile(r"\b(a|an|the)\b")


@cache
def _marks() -> dict[int, None]:
    return dict.fromkeys(map(ord, string.punctuation))


def plain(text: str) -> str:
    """Return a text as SQuAD compares them: small letters, no marks, no English articles, single blanks."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(_marks())).split())


def compared(text: str, references: Sequence[str]) -> tuple[float, float]:
    """Return (exact match, F1 of words) of an answer and the nearest of several references (Rajpurkar et al. 2016).

    No reference means that the right answer is none, which is empty (Rajpurkar et al. 2018).
    """
    said = plain(text)
    pairs = [(float(said == plain(one)), _f1(said, plain(one))) for one in references or ("",)]
    return max(exact for exact, _ in pairs), max(f1 for _, f1 in pairs)


def _f1(one: str, other: str) -> float:
    if not one or not other:
        return float(one == other)
    said, wanted = (DENSE.sub(r" \1 ", text).split() for text in (one, other))
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted))


class References:
    """What each row contributes: whether it is right, the F1 of its words, and whether it has an answer, (n,) each."""

    def __init__(self, texts: Sequence[str], truth: Sequence[Sequence[str]]) -> None:
        self.n = len(texts)
        found = [compared(*pair) for pair in zip(texts, truth, strict=True)]
        self.exact, self.f1 = np.array(found, np.float64).reshape(-1, 2).T
        self.answerable = np.array([bool(references) for references in truth], np.float64)


def _answerable(sample: Sample) -> np.ndarray:
    found = sample.outcomes
    return ratio(sample.total(found.f1 * found.answerable), sample.total(found.answerable), np.nan)


def _unanswerable(sample: Sample) -> np.ndarray:
    found = sample.outcomes
    return ratio(sample.total(found.exact * (1 - found.answerable)), sample.total(1 - found.answerable), np.nan)


METRICS: Mapping[str, Metric] = {
    "f1_words": Metric(
        "F1 of the words shared with the nearest reference, mean over rows (SQuAD's)",
        lambda sample: sample.mean(sample.outcomes.f1), perfect=1.0, hub="squad_v2", hub_type="f1",
    ),
    "exact": Metric(
        "share of rows whose answer is a reference but for case, marks and English articles (SQuAD's)",
        lambda sample: sample.mean(sample.outcomes.exact), perfect=1.0, is_share=True, hub="squad_v2",
        hub_type="exact",
    ),
    "f1_answerable": Metric(
        "f1_words of the rows that have an answer", _answerable, perfect=1.0,
        counted=lambda found: found.answerable > 0,
    ),
    "exact_unanswerable": Metric(
        "share of rows without an answer that are given none", _unanswerable, perfect=1.0,
        counted=lambda found: found.answerable == 0,
    ),
}  # fmt: skip
