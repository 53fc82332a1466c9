"""Scores of written texts: each row gives counts, and a score is a function of their weighted sums."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from hftransfer.weighting import Metric, Sample, Statistic, ratio

CHARACTERS, WORDS = 6, 4  # orders of chrF (Popovic 2015) and of BLEU (Papineni et al. 2002)
BETA = 2.0  # recall counts so many times as much in chrF
NEVER = 1e-16  # what stands for a share of nothing, as in sacrebleu
# scripts without blanks between words: Thai, Lao, Myanmar, Khmer, Japanese, Chinese
UNBROKEN = (
    ("\u0e00", "\u0eff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"), ("\u3040", "\u30ff"), ("\u3400", "\u4dbf"),
    ("\u4e00", "\u9fff"), ("\uf900", "\ufaff"),
)  # fmt: skip
DENSE = (*UNBROKEN, ("\uac00", "\ud7af"))  # and Hangul, whose words are long: each character counts as one


class Written:
    """What each row contributes: texts against truth, and the tokens' likelihood; worked out when it is asked for."""

    def __init__(self, truth: Sequence[str], texts: Sequence[str], likelihood: np.ndarray, tokenize: str) -> None:
        self.truth, self.texts, self.likelihood, self.n = truth, texts, likelihood, len(truth)
        self.tokenize = tokenize  # sacrebleu's name of the way in which BLEU cuts words

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each row's text and truth."""
        return list(zip(self.texts, self.truth, strict=True))

    @cached_property
    def bleu(self) -> np.ndarray:
        """Words of text and truth, then matches and n-grams of each order: (n, 2 + 2 x WORDS), by sacrebleu."""
        metric = bleu_metric(self.tokenize)
        rows = []
        for text, truth in self.pairs:
            found: Any = metric.sentence_score(text, [truth])
            rows.append([found.sys_len, found.ref_len, *found.counts, *found.totals])
        return np.array(rows, np.float64)

    @cached_property
    def chrf(self) -> np.ndarray:
        """N-grams of text, of truth, and in both, of each order of characters: (n, 3 x CHARACTERS)."""
        return np.array([character_counts(text, truth) for text, truth in self.pairs], np.float64)

    @cached_property
    def tokens(self) -> list[tuple[list[str], list[str]]]:
        """Each row's words as ROUGE cuts them."""
        return [(words(text), words(truth)) for text, truth in self.pairs]

    @cached_property
    def overlaps_1(self) -> np.ndarray:
        """The F1 of words of each row, (n,) (Lin 2004)."""
        return np.array([_f1_of_counts(_grams(text, 1), _grams(truth, 1)) for text, truth in self.tokens])

    @cached_property
    def overlaps_2(self) -> np.ndarray:
        """The F1 of pairs of words of each row, (n,)."""
        return np.array([_f1_of_counts(_grams(text, 2), _grams(truth, 2)) for text, truth in self.tokens])

    @cached_property
    def longest(self) -> np.ndarray:
        """The F1 of the longest common subsequence of words of each row, (n,)."""
        from rapidfuzz.distance import LCSseq

        found = [(LCSseq.similarity(text, truth), len(text), len(truth)) for text, truth in self.tokens]
        return np.array([2 * common / (a + b) if common else 0.0 for common, a, b in found])

    @cached_property
    def word_errors(self) -> np.ndarray:
        """Edits of words and words of the truth, (n, 2)."""
        return edits([(text.split(), truth.split()) for text, truth in self.pairs])

    @cached_property
    def character_errors(self) -> np.ndarray:
        """Edits of characters and characters of the truth, (n, 2)."""
        return edits(self.pairs)

    @cached_property
    def exact(self) -> np.ndarray:
        """Whether the text is the truth, (n,)."""
        return np.array([text.strip() == truth.strip() for text, truth in self.pairs], np.float64)


def bleu_metric(tokenize: str) -> Any:
    """Return sacrebleu's BLEU; a text is cut into words as `tokenize` names."""
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=tokenize, effective_order=True)  # the order counts for the score of one sentence alone


def signatures(tokenize: str) -> dict[str, str]:
    """Return what the scores are, as sacrebleu writes it down."""
    from sacrebleu.metrics import BLEU, CHRF

    one = ["reference"]  # a signature names how many references there were
    found = {}
    for name, metric in (("bleu", BLEU(tokenize=tokenize)), ("chrf", CHRF())):
        metric.corpus_score(one, [one])
        found[name] = str(metric.get_signature())
    return found


def character_counts(text: str, truth: str) -> list[int]:
    """Return n-grams of text, of truth, and in both, order by order; blanks do not count (as sacrebleu)."""
    one, other = ("".join(part.split()) for part in (text, truth))
    counts: list[int] = []
    for order in range(1, CHARACTERS + 1):
        mine, theirs = _grams(one, order), _grams(other, order)
        # of an order that the truth is too short for nothing counts, as in sacrebleu
        counts += [sum(mine.values()) if theirs else 0, sum(theirs.values()), sum((mine & theirs).values())]
    return counts


def words(text: str) -> list[str]:
    """Return a text's words in lower case: letters, digits and marks of any script, each character of dense ones."""
    found: list[str] = []
    inside = False
    for char in unicodedata.normalize("NFC", text).lower():
        if is_dense(char):
            found.append(char)
            inside = False
        elif char.isalnum() or unicodedata.category(char)[0] == "M":
            found = [*found[:-1], found[-1] + char] if inside else [*found, char]
            inside = True
        else:
            inside = False
    return found


def is_dense(char: str) -> bool:
    """Tell whether a character counts as a word."""
    return any(low <= char <= high for low, high in DENSE)


def joined(texts: Sequence[str]) -> str:
    """Return texts one behind the other, with a blank where the script has blanks between words."""
    found = ""
    for text in filter(None, texts):
        unbroken = found and all(any(low <= char <= high for low, high in UNBROKEN) for char in (found[-1], text[0]))
        found += text if not found or unbroken else f" {text}"
    return found


def _grams(units: Sequence[Any], order: int) -> Counter[Any]:
    if isinstance(units, str):
        return Counter(units[i : i + order] for i in range(len(units) - order + 1))
    return Counter(tuple(units[i : i + order]) for i in range(len(units) - order + 1))


def _f1_of_counts(mine: Counter[Any], theirs: Counter[Any]) -> float:
    common, total = sum((mine & theirs).values()), sum(mine.values()) + sum(theirs.values())
    return 2 * common / total if common else 0.0


def edits(pairs: Sequence[tuple[Sequence[Any], Sequence[Any]]]) -> np.ndarray:
    """Return the edits from each text to its truth and the length of the truth, (n, 2)."""
    from rapidfuzz.distance import Levenshtein

    return np.array([(Levenshtein.distance(text, truth), len(truth)) for text, truth in pairs], np.float64).reshape(
        -1, 2
    )


# --- the statistics ---


def bleu(sample: Sample) -> np.ndarray:
    """Return BLEU, 0 to 100, smoothed for orders without a match as sacrebleu does by default (exp)."""
    sums = sample.total(sample.outcomes.bleu)
    text, truth, right, total = sums[0], sums[1], sums[2 : 2 + WORDS], sums[2 + WORDS :]
    smoothed = np.cumsum((right == 0) & (total > 0), axis=0)
    shares = np.where(right > 0, ratio(100 * right, total), ratio(np.full_like(right, 100.0), total * 2.0**smoothed))
    known = np.cumprod(total > 0, axis=0).astype(bool)  # sacrebleu stops at the first order of which there is nothing
    logs = np.where(known, np.log(np.maximum(shares, 1e-300)), -9999999999.0)
    brevity = np.where(text < truth, np.exp(np.minimum(1 - ratio(truth, text, 1e9), 0)), 1.0)
    return np.asarray(np.where(right.sum(axis=0) > 0, brevity * np.exp(logs.mean(axis=0)), 0.0))


def chrf(sample: Sample) -> np.ndarray:
    """Return chrF, 0 to 100: the F-score of n-grams of characters, with BETA."""
    sums = sample.total(sample.outcomes.chrf).reshape(CHARACTERS, 3, -1)
    mine, theirs, both = sums[:, 0], sums[:, 1], sums[:, 2]
    known = (mine > 0) & (theirs > 0)
    orders = known.sum(axis=0)
    precision, recall = (
        ratio(np.where(known, ratio(both, part, NEVER), 0).sum(axis=0), orders) for part in (mine, theirs)
    )
    return 100 * ratio((1 + BETA**2) * precision * recall, BETA**2 * precision + recall)


def _mean_of(value: Callable[[Written], np.ndarray]) -> Statistic:
    return lambda sample: sample.mean(value(sample.outcomes))


def errors_of(value: Callable[[Any], np.ndarray]) -> Statistic:
    """Return the metric of edits and lengths, (n, 2): their sums' ratio."""

    def compute(sample: Sample) -> np.ndarray:
        wrong, whole = sample.total(value(sample.outcomes))
        return ratio(wrong, whole, np.nan)

    return compute


def perplexity(sample: Sample) -> np.ndarray:
    """Return exp of the mean negative log likelihood of the truth's tokens; NaN where nobody measured any."""
    found = sample.outcomes.likelihood
    nll, tokens = sample.total(np.where(found[:, 1:] > 0, found, 0.0))
    return np.exp(ratio(nll, tokens, np.nan))


METRICS = {
    "chrf": Metric(
        "F-score of n-grams of characters, 0 to 100 (chrF2, as sacrebleu computes it)",
        chrf,
        perfect=100.0,
        scale=100.0,
        hub="chrf",
    ),
    "bleu": Metric(
        "precision of n-grams of words with a brevity penalty, 0 to 100 (as sacrebleu computes it)",
        bleu,
        perfect=100.0,
        scale=100.0,
        hub="sacrebleu",
    ),
    "rouge_1": Metric(
        "F1 of words (ROUGE-1 without stemming; accents and every script are kept)",
        _mean_of(lambda found: found.overlaps_1),
        perfect=1.0,
    ),
    "rouge_2": Metric("F1 of pairs of words (ROUGE-2)", _mean_of(lambda found: found.overlaps_2), perfect=1.0),
    "rouge_l": Metric(
        "F1 of the longest common subsequence of words (ROUGE-L)", _mean_of(lambda found: found.longest), perfect=1.0
    ),
    "exact_match": Metric(
        "share of texts that are the truth to the letter",
        _mean_of(lambda found: found.exact),
        perfect=1.0,
        is_share=True,
        hub="exact_match",
    ),
    "perplexity": Metric(
        "exp of the mean negative log likelihood of the truth's tokens", perplexity, False, by_factor=True
    ),
    "wer": Metric(
        "word errors by words of the truth",
        errors_of(lambda found: found.word_errors),
        False,
        perfect=0.0,
        bounded=False,
        hub="wer",
    ),
    "cer": Metric(
        "character errors by characters of the truth",
        errors_of(lambda found: found.character_errors),
        False,
        perfect=0.0,
        bounded=False,
        hub="cer",
    ),
}
