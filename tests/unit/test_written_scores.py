"""Scores of written texts are those of sacrebleu and rouge_score, on whole sets of rows and on resampled ones."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF

from hftransfer.answers import _written
from hftransfer.weighting import Sample

WORDS = ["the", "a", "cat", "dog", "ran,", "fast.", "été", "3.5", "house's", "über", "non-stop", "(yes)", "!"]
PLAIN = ["the", "a", "cat", "dog", "ran", "fast", "house", "sees", "one", "two"]


def drawn(words: list[str], seed: int) -> tuple[list[str], list[str]]:
    """Return truths and texts that share about half of their words; some texts are cut short or empty."""
    random_ = random.Random(seed)
    count = random_.randint(1, 12)
    truth = [" ".join(random_.choice(words) for _ in range(random_.randint(1, 12))) for _ in range(count)]
    texts = [
        " ".join(word if random_.random() < 0.6 else random_.choice(words) for word in one.split())[
            : random_.choice([999, 999, 5, 0])
        ]
        for one in truth
    ]
    return truth, texts


def scored(name: str, truth: list[str], texts: list[str], weights: np.ndarray, tokenize: str = "13a") -> np.ndarray:
    found = _written.Written(truth, texts, np.zeros((len(truth), 2)), tokenize)
    return _written.METRICS[name].value(Sample(found, weights))


@pytest.mark.parametrize(("name", "reference"), [("bleu", BLEU()), ("chrf", CHRF())])
def test_bleu_and_chrf_are_sacrebleus_of_every_resample(name: str, reference: BLEU | CHRF) -> None:
    for seed in range(60):
        truth, texts = drawn(WORDS, seed)
        places = np.random.default_rng(seed).integers(0, len(truth), (4, len(truth)))
        weights = np.stack([np.bincount(row, minlength=len(truth)) for row in places], axis=1).astype(float)
        ours = scored(name, truth, texts, weights)
        for row, value in zip(places, ours, strict=True):
            expected = reference.corpus_score([texts[i] for i in row], [[truth[i] for i in row]]).score
            assert value == pytest.approx(expected, abs=1e-8)


def test_bleu_of_dense_scripts_counts_characters() -> None:
    truth, texts = (
        ["\u4f60\u597d\u4e16\u754c", "\u6211\u559c\u6b22\u732b"],
        ["\u4f60\u597d\u4e16\u754c", "\u6211\u559c\u6b22\u72d7"],
    )
    expected = BLEU(tokenize="char").corpus_score(texts, [truth]).score
    assert scored("bleu", truth, texts, np.ones((2, 1)), "char")[0] == pytest.approx(expected)


@pytest.mark.parametrize(("name", "theirs"), [("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")])
def test_rouge_is_rouge_scores_on_plain_english(name: str, theirs: str) -> None:
    scorer = rouge_scorer.RougeScorer([theirs])
    for seed in range(60):
        truth, texts = drawn(PLAIN, seed)
        expected = np.mean([scorer.score(a, b)[theirs].fmeasure for a, b in zip(truth, texts, strict=True)])
        assert scored(name, truth, texts, np.ones((len(truth), 1)))[0] == pytest.approx(expected)


def test_rouge_keeps_accents_and_every_script() -> None:
    """The usual package finds nothing to count in these, and calls different words the same."""
    assert _written.words("L'\u00e9t\u00e9, \u4f60\u597d \u05e9\u05dc\u05d5\u05dd 3.5") == [
        "l", "\u00e9t\u00e9", "\u4f60", "\u597d", "\u05e9\u05dc\u05d5\u05dd", "3", "5"
    ]  # fmt: skip
    assert _written.words("\u0939\u093f\u0928\u094d\u0926\u0940") == [
        "\u0939\u093f\u0928\u094d\u0926\u0940"
    ]  # marks stay
    assert scored("rouge_1", ["\u4f60\u597d"], ["\u4f60\u597d"], np.ones((1, 1)))[0] == 1


@pytest.mark.parametrize(
    ("name", "truth", "text", "expected"),
    [
        ("wer", "a b c d", "a x c", 2 / 4),
        ("wer", "a", "a b c", 2.0),  # more errors than words
        ("cer", "abcd", "abxd", 1 / 4),
        ("exact_match", "a b", " a b ", 1.0),
        ("exact_match", "a b", "A b", 0.0),
    ],
)
def test_errors(name: str, truth: str, text: str, expected: float) -> None:
    assert scored(name, [truth], [text], np.ones((1, 1)))[0] == pytest.approx(expected)


def test_perplexity_is_of_tokens_and_not_of_rows() -> None:
    found = _written.Written(["a", "b"], ["", ""], np.array([[2.0, 1], [3.0, 9]]), "13a")
    value: Callable[[Sample], np.ndarray] = _written.METRICS["perplexity"].value
    assert value(Sample(found, np.ones((2, 1))))[0] == pytest.approx(np.exp(5 / 10))
    nothing = _written.Written(["a"], ["a"], np.array([[np.nan, 0]]), "13a")
    assert np.isnan(value(Sample(nothing, np.ones((1, 1))))[0])


def test_signatures_are_sacrebleus() -> None:
    found = _written.signatures("13a")
    assert "tok:13a" in found["bleu"] and "nc:6" in found["chrf"] and "version:" in found["chrf"]
