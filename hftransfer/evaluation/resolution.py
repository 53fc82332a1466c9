"""What a test split can resolve, before anything is trained: how wide an interval will be, which differences show."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import stdtrit

from hftransfer.config import EvaluationConfig
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.reporting import trivial_answers
from hftransfer.evaluation.scoring import measure_point
from hftransfer.weighting import NORMAL, wilson

USUAL = 0.8  # a share that is foreseen, where the trivial answer is not that good already
POOR = 0.05  # half an interval of a share above which folds are proposed
FOLDS, REPEATS = 5, 5  # that are proposed


def report(test: Predictions, config: EvaluationConfig, every: int, crosses: bool, rows: Any = None) -> dict[str, Any]:
    """Return {n, groups, shares, sentences} of test rows, `test` holding whatever outputs.

    `shares` has, for each share of rows that matters, what it is of (`of`, in `units` rows or groups), the value it is
    foreseen `near`, half its interval (`half`; of groups, if their rows are all alike; `alone` if they are not), and
    the `difference` that two models must have whose mistakes are unrelated. Of other scores a number of standard
    deviations alone is foreseen.
    `every` counts the rows of all splits; `crosses`: folds can be proposed. `rows`: inputs, for trivial answers.
    """
    answer, found = test.answer, {}
    counts = shares_of(test)
    if counts:
        main = answer.main_metric
        trivial = measure_point(trivial_answers(test, rows)[1], [main]).get(main, 0.0)
        for name, held in counts.items():
            near = max(USUAL, (1 + trivial) / 2) if name == main else USUAL
            of = int(held.sum())
            # a group without a row of the share is no witness
            units = of if test.codes is None else len(np.unique(test.codes[held]))
            worst = half(near, units, config.confidence, test.codes is not None)
            found[name] = {
                "of": of, "units": units, "near": near, "half": worst, "alone": half(near, of, config.confidence),
                "difference": worst * math.sqrt(2),
            }  # fmt: skip
    told = {
        "n": len(test), "groups": None if test.codes is None else test.units,
        "apart": math.floor(-math.log2(1 - config.confidence)) + 1,
        "shares": found,
    }  # fmt: skip
    said = sentences(told, answer.unit, config.confidence)
    return {**told, "sentences": [*said, *proposal(told, config, every if crosses else 0)]}


def shares_of(test: Predictions) -> dict[str, np.ndarray]:
    """Return which rows (n,) each share is of that a model of these answers is judged by; nothing for other scores."""
    answer = test.answer
    if answer.metrics[answer.main_metric].is_share:
        return {answer.main_metric: np.ones(len(test), bool)}
    placed = list(answer.decisions_of(test.truth, test.outputs))
    if len(placed) != 1:
        return {}
    tp, fn, fp, tn = placed[0][1].parts.T > 0
    return {name: held for name, held in (("sensitivity", tp | fn), ("specificity", fp | tn)) if held.any()}


def half(near: float, n: float, confidence: float, groups: bool = False) -> float:
    """Return half the width of the interval of a share near some value, from n rows or groups whose rows are alike."""
    if groups:
        tail = (1 + confidence) / 2
        n = n * (NORMAL.inv_cdf(tail) / float(stdtrit(max(n - 1, 1), tail))) ** 2
    low, high = wilson(near, n, confidence)
    return (high - low) / 2


def half_over_folds(near: float, every: int, folds: int, repeats: int, confidence: float) -> float:
    """Return the same of the mean over folds of so many rows (see `intervals.corrected`)."""
    count = folds * repeats
    spread = math.sqrt(near * (1 - near) * folds / every)
    error = math.sqrt(1 / count + 1 / (folds - 1)) * spread
    return float(stdtrit(count - 1, (1 + confidence) / 2)) * error


def sentences(found: dict[str, Any], unit: str, confidence: float) -> list[str]:
    """Return what the rows can tell, in words."""
    n, groups = found["n"], found["groups"]
    rows = f"With {n:,} test {unit}" + (f" in {groups:,} groups" if groups else "")
    if not found["shares"]:
        size = NORMAL.inv_cdf((1 + confidence) / 2) / math.sqrt(groups or n)
        alike = ", if those of a group are alike" if groups else ""
        return [
            f"{rows} a mean over {unit} has an interval of about ±{size:.2f} standard deviations of what single "
            f"{unit} have{alike}; two models whose mistakes are unrelated must differ by {size * 2**0.5:.2f} of them."
        ]
    said = []
    for name, one in found["shares"].items():
        among = f" in {one['units']:,}" if groups else ""
        of = "" if one["of"] == n else f" ({one['of']:,} of them{among})"
        width = f"±{one['half']:.2f}"
        if groups:
            width = f"±{one['alone']:.2f} to ±{one['half']:.2f} (as the rows of a group are alike)"
        said.append(
            f"{rows}{of} a value of {name} near {one['near']:.2f} has an interval of about {width}; two models whose "
            f"mistakes are unrelated must differ by about {one['difference']:.2f} to be told apart."
        )
    few = found["apart"]
    if groups:
        last = f"Two models that answer {unit} of fewer than {few} groups differently cannot be told apart at all."
    else:
        last = f"Two models that answer fewer than {few} {unit} differently cannot be told apart at all."
    return [*said, last]


def proposal(found: dict[str, Any], config: EvaluationConfig, every: int) -> list[str]:
    """Return that folds would tell more, where the test is poor and they would; `every` is 0 where they cannot be."""
    poor = [one for one in found["shares"].values() if one["half"] > POOR]
    if not poor or not every or config.folds is not None:
        return []
    worst = max(poor, key=lambda one: one["half"])
    units = every * worst["units"] / found["n"]
    wide = half_over_folds(worst["near"], max(int(units), 1), FOLDS, REPEATS, config.confidence)
    if wide > 0.8 * worst["half"]:
        return []
    return [
        f"Folds over all {every:,} rows would make that about ±{wide:.2f}, of this way of training, for "
        f"{FOLDS * REPEATS} more trainings: evaluation.folds={FOLDS} evaluation.repeats={REPEATS}."
    ]
