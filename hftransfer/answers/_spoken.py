"""Scores of transcripts: Written, and the same errors after transformers' own normalisation of spoken texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from hftransfer.answers import _written
from hftransfer.answers._written import Written, edits, errors_of
from hftransfer.weighting import Metric

Normalizer = Literal["basic", "english", "marks"]
SQUARE, ROUND = re.compile(r"[<\[][^>\]]*[>\]]"), re.compile(r"\(([^)]+?)\)")
MARKS = 0.01  # of a text's letters, from which on marks are a part of its script
CALLED = {
    "basic": "transformers' BasicTextNormalizer: lower case, no punctuation, no marks that stand alone",
    "english": "transformers' EnglishTextNormalizer without its list of spellings: as Basic, and numbers as digits, "
    "contractions and titles spelled out, fillers left out",
    "marks": "hftransfer's own normalisation, as transformers' BasicTextNormalizer cuts words at the marks of this "
    "script: as Basic, and marks stay",
}


class Spoken(Written):
    """What each row contributes, also of normalised texts."""

    def __init__(
        self, truth: Sequence[str], texts: Sequence[str], likelihood: np.ndarray, tokenize: str, normalizer: Normalizer
    ) -> None:
        super().__init__(truth, texts, likelihood, tokenize)
        self.normalizer: Normalizer = normalizer

    @cached_property
    def normalized(self) -> list[tuple[str, str]]:
        """Each row's text and truth, normalised."""
        normal = normalizer(self.normalizer)
        return [(normal(text), normal(truth)) for text, truth in self.pairs]

    @cached_property
    def normalized_word_errors(self) -> np.ndarray:
        """Edits of words and words of the truth, (n, 2)."""
        return edits([(text.split(), truth.split()) for text, truth in self.normalized])

    @cached_property
    def normalized_character_errors(self) -> np.ndarray:
        """Edits of characters and characters of the truth, (n, 2)."""
        return edits(self.normalized)


def normalizer(name: Normalizer) -> Callable[[str], str]:
    """Return a function that normalises a text (Radford et al. 2022, appendix C)."""
    from transformers.models.whisper import english_normalizer

    if name == "marks":
        return _with_marks
    made: Any = english_normalizer.BasicTextNormalizer()
    if name == "english":
        made = english_normalizer.EnglishTextNormalizer({})
    return lambda text: str(made(text)).strip()  # it leaves blanks at the ends


def _with_marks(text: str) -> str:
    bare = ROUND.sub("", SQUARE.sub("", text.lower()))
    kept = (" " if unicodedata.category(char)[0] in "SP" else char for char in unicodedata.normalize("NFKC", bare))
    return " ".join("".join(kept).lower().split())


def marked(text: str) -> tuple[int, int]:
    """Return how many letters a text has, and how many marks that stand by themselves however it is composed.

    Vowel signs of Hindi and Thai do: where each becomes a blank, as in `basic`, no word of them is left.
    """
    kinds = [unicodedata.category(char)[0] for char in unicodedata.normalize("NFKC", text)]
    return kinds.count("L"), kinds.count("M")


METRICS = {
    **_written.METRICS,
    "wer_normalized": Metric(
        "word errors by words of the truth, both normalised (`signatures` names how)",
        errors_of(lambda found: found.normalized_word_errors),
        False,
        perfect=0.0,
        bounded=False,
    ),
    "cer_normalized": Metric(
        "character errors by characters of the truth, both normalised",
        errors_of(lambda found: found.normalized_character_errors),
        False,
        perfect=0.0,
        bounded=False,
    ),
}
