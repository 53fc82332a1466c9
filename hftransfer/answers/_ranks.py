"""Scores of ranked lists: what stands among the first ten of the whole catalogue, and of whom lists speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hftransfer.views import Plot
from hftransfer.weighting import Metric, ratio

DEPTH = 10  # places that count as found


def by_rank(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """Return each row's value of each metric (n,), where one entry is right (Jarvelin and Kekalainen 2002)."""
    known = np.maximum(ranks, 1)
    near = known <= DEPTH
    return {
        "ndcg_10": near / np.log2(known + 1), "recall_10": near.astype(np.float64),
        "recall_1": (known == 1).astype(np.float64), "mrr_10": near / known,
    }  # fmt: skip


class Lists:
    """What each row contributes, where any number of entries are right, each with a grade.

    nDCG takes a grade as the gain, as trec_eval does, and divides by what the best list of ten would have. `truth` has
    (id, grade, cold) by row, `outputs` have `ids` and `popularity`; `size` is the catalogue's.
    """

    def __init__(self, truth: Sequence[Any], outputs: Sequence[Any], size: int) -> None:
        import scipy.sparse

        self.n, self.size = len(truth), size
        self.gains = {name: np.zeros(self.n) for name in ("ndcg_10", "recall_10", "mrr_10", "ndcg_10_cold")}
        self.cold, self.popular = np.zeros(self.n), np.zeros(self.n)
        codes: dict[str, int] = {}
        owners, named = [], []
        for row, (wanted, found) in enumerate(zip(truth, outputs, strict=True)):
            grades = {one.id: one.grade for one in wanted if one.grade > 0}
            cold = {one.id: one.grade for one in wanted if one.grade > 0 and one.cold}
            first = found.ids[:DEPTH]
            ranks = [place for place, name in enumerate(first, 1) if name in grades]
            self.gains["ndcg_10"][row] = _discounted(first, grades)
            self.gains["recall_10"][row] = len(ranks) / max(len(grades), 1)
            self.gains["mrr_10"][row] = 1 / ranks[0] if ranks else 0.0
            self.gains["ndcg_10_cold"][row], self.cold[row] = _discounted(first, cold), bool(cold)
            self.popular[row] = float(np.mean(found.popularity)) if len(found.popularity) else 0.0
            for name in first:
                owners.append(row)
                named.append(codes.setdefault(name, len(codes)))
        ones = np.ones(len(owners))
        self.shown = scipy.sparse.csr_array((ones, (named, owners)), shape=(len(codes), self.n))


def drawn(ranks: Sequence[int], title: str, headline: str) -> Plot:
    """Return the histogram of ranks from 1 on."""
    counts, edges = np.histogram(np.log10(np.asarray(ranks, np.float64)), bins=20)
    shown = {"headline": headline, "axis": "rank (log10)", "edges": edges.tolist(), "counts": counts.tolist()}
    return Plot("ranks", title, "histogram", shown)


def _discounted(found: Sequence[str], grades: Mapping[str, float]) -> float:
    best = sorted(grades.values(), reverse=True)[:DEPTH]
    most = sum(grade / np.log2(place + 1) for place, grade in enumerate(best, 1))
    return (
        float(sum(grades.get(name, 0.0) / np.log2(at + 1) for at, name in enumerate(found, 1)) / most) if most else 0
    )


def _mean(name: str) -> Any:
    return lambda sample: sample.mean(sample.outcomes.gains[name])


def _cold(sample: Any) -> np.ndarray:
    rows = sample.outcomes
    return ratio(sample.total(rows.gains["ndcg_10_cold"] * rows.cold), sample.total(rows.cold), np.nan)


def _covered(sample: Any) -> np.ndarray:
    return np.asarray((sample.sums(sample.outcomes.shown) > 0).sum(axis=0) / max(sample.outcomes.size, 1))


NDCG = Metric(
    "discounted gain of what is right among the first ten of the whole catalogue, as a share of the best list's",
    _mean("ndcg_10"), perfect=1.0,
)  # fmt: skip
RECALL = "share of what is right that is among the first ten of the whole catalogue"
MRR = Metric("mean of 1 / rank of the first that is right, 0 beyond ten", _mean("mrr_10"), perfect=1.0)
METRICS: dict[str, Metric] = {
    "ndcg_10": NDCG,
    "recall_10": Metric(RECALL, _mean("recall_10"), perfect=1.0),
    "mrr_10": MRR,
    "ndcg_10_cold": Metric(
        "the same discounted gain of the right entries that nobody had in the training rows, over the rows with some",
        _cold, perfect=1.0, counted=lambda rows: rows.cold > 0,
    ),
    # of a resample, in which rows stand twice, fewer entries are covered: the spread counts, not the place
    "coverage_10": Metric(
        "share of the catalogue that stands among the first ten of some row", _covered, recentred=True
    ),
    "popularity_10": Metric(
        "how popular the first ten are: the mean share of the catalogue that is less so; 0.5 is no bias",
        lambda sample: sample.mean(sample.outcomes.popular), greater_is_better=False,
    ),
}  # fmt: skip
