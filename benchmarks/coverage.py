"""How often intervals hold the truth where rows come in groups: over groups, as they are made, and over rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.stats

from benchmarks.measuring import Sizes
from benchmarks.page import Table, table
from hftransfer import answers
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure_only

TRIES = 1000
RESAMPLES = 1000
DESIGNS = (  # groups, rows of each, intra-class correlation, share of right answers
    (40, 10, 0.17, 0.8), (20, 10, 0.17, 0.8), (100, 5, 0.17, 0.9), (40, 10, 0.0, 0.8),
)  # fmt: skip


def measure(folder: Path, sizes: Sizes) -> str:
    """Return the share of simulated test splits whose interval holds the truth, by design; `folder` stays empty."""
    rows: Table = [("groups", "rows of each", "correlation", "right", "over groups", "over rows")]
    for number, (groups, size, correlation, share) in enumerate(DESIGNS):
        held = np.zeros(2, int)
        tries = sizes.rows or TRIES
        for seed, pair in enumerate(drawn(number, tries, groups, size, correlation, share)):
            held += [covers(found, share, seed) for found in pair]
        rows.append((groups, size, f"{correlation:g}", f"{share:g}", *(told(int(count), tries) for count in held)))
    return (
        f"{sizes.rows or TRIES} simulated test splits a line: the share of nominal 95 % intervals of accuracy that "
        f"hold the truth, with its own 95 % interval (Wilson). {RESAMPLES} resamples; aimed at: 93 to 97 % over "
        "groups.\n\n" + table(rows)
    )


def drawn(
    seed: int, tries: int, groups: int, size: int, correlation: float, share: float
) -> Iterator[tuple[Predictions, Predictions]]:
    """Yield answers right as often as `share`, alike within a group (a beta-binomial), with groups and without."""
    rng = np.random.default_rng(seed)
    answer = answers.restore({"kind": "single_label", "names": ["no", "yes"], "counts": [1, 1], "rows": 2})
    ids = [str(number) for number in range(groups * size)]
    names = [f"g{group}" for group in range(groups) for _ in range(size)]
    spread = 1 / correlation - 1 if correlation else 0.0
    for _ in range(tries):
        rates = rng.beta(share * spread, (1 - share) * spread, groups) if correlation else np.full(groups, share)
        right = rng.random(groups * size) < np.repeat(rates, size)
        scores, truth = np.stack([~right, right], axis=1).astype(float), np.ones(groups * size, np.int64)
        yield Predictions(answer, ids, truth, scores, names), Predictions(answer, ids, truth, scores)


def covers(found: Predictions, share: float, seed: int) -> bool:
    """Tell whether the interval of accuracy holds `share`."""
    score = measure_only(found, ["accuracy"], resamples=RESAMPLES, seed=seed)["accuracy"]
    return bool(score["low"] <= share <= score["high"])


def told(count: int, tries: int) -> str:
    """Return a share of tries in percent, with Wilson's interval."""
    ends = scipy.stats.binomtest(count, tries).proportion_ci(method="wilson")
    return f"{100 * count / tries:.1f} % ({100 * ends.low:.1f} to {100 * ends.high:.1f})"
