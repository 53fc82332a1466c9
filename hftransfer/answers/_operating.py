"""Where a yes begins: the probability from which a label is given, chosen on validation rows, and what comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.errors import UserError, unknown
from hftransfer.views import Plot
from hftransfer.weighting import Metric, Sample, Statistic, Witnesses, ratio, wilson

if TYPE_CHECKING:
    from hftransfer.config import EvaluationConfig

POSITIVE = ("positive", "pos", "yes", "true", "1", "y")  # what the class that is looked for is often called
FEW = 20  # validation rows of a class below which a threshold that rests on them is called rough
CURVE = np.linspace(0.01, 0.99, 99)  # thresholds of a decision curve
DEEPEST = 0.25  # how far below zero a decision curve is drawn, as a share of its height


@dataclass(frozen=True)
class Point:
    """The operating point of one label: what it is to reach or to cost, and the probability that was found for it.

    `threshold` is one of the probabilities that the weights give, before any temperature; None: not chosen yet. Above
    1 the label is never given.
    """

    label: str
    rule: tuple[tuple[str, float], ...]  # specificity, or sensitivity, or false_positive and false_negative
    prevalence: float | None = None
    threshold: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**dataclasses.asdict(self), "rule": dict(self.rule)}

    @classmethod
    def of_dict(cls, noted: Mapping[str, Any]) -> Point:
        """Return what `to_dict` gave."""
        return cls(**{**noted, "rule": tuple((name, float(value)) for name, value in noted["rule"].items())})

    def chosen(self, truth: np.ndarray, scores: np.ndarray) -> Point:
        """Return the point with the best threshold on rows: truth (n,) of booleans, scores (n,) of the label.

        For a specificity the one with the most sensitivity among those that have it, and the other way round; for a
        cost the one that costs least at the prevalence, stated or that of the rows. Thresholds lie half way between
        two scores, so that no rounding moves a row. Unchanged where the rows lack a class.
        """
        truth, scores = np.asarray(truth, bool), np.asarray(scores, np.float32).astype(np.float64)
        if truth.all() or not truth.any():
            return self
        levels = np.unique(scores)
        above = (levels[-1] + 1) / 2 if levels[-1] < 1 else 1 + 1e-6
        cuts = np.concatenate([[0.0], (levels[:-1] + levels[1:]) / 2, [above]])
        order = np.sort(scores[truth]), np.sort(scores[~truth])
        found, spared = (np.searchsorted(part, cuts, "left") / len(part) for part in order)
        sensitivity, specificity = 1 - found, spared
        rule = dict(self.rule)
        if "specificity" in rule:
            able = specificity >= rule["specificity"] - 1e-9
            best = np.lexsort((specificity, sensitivity, able))[-1]
        elif "sensitivity" in rule:
            able = sensitivity >= rule["sensitivity"] - 1e-9
            best = np.lexsort((sensitivity, specificity, able))[-1]
        else:
            share = truth.mean() if self.prevalence is None else self.prevalence
            cost = rule["false_negative"] * share * found + rule["false_positive"] * (1 - share) * (1 - spared)
            cheapest = np.flatnonzero(cost <= cost.min() + 1e-12)
            best = cheapest[len(cheapest) // 2]
        return dataclasses.replace(self, threshold=float(cuts[best]))

    @property
    def aim(self) -> str:
        """What the threshold is chosen for, in words."""
        rule = dict(self.rule)
        if "false_positive" in rule:
            return (
                f"the least cost where a false positive costs {rule['false_positive']:g} and a false negative "
                f"{rule['false_negative']:g}"
            )
        ((name, value),) = rule.items()
        return f"a {name} of {value:g} or more"


def from_threshold(threshold: float, temperature: float) -> float:
    """Return a threshold of probabilities among those whose log odds are divided by a temperature."""
    if not 0 < threshold < 1:
        return threshold
    return float(1 / (1 + ((1 - threshold) / threshold) ** (1 / temperature)))


def asked_of(evaluation: EvaluationConfig, labels: Sequence[str]) -> tuple[Point, ...]:
    """Return an unchosen point for each label, as `evaluation.at` says; none where it says nothing."""
    if evaluation.at is None:
        return ()
    told = evaluation.at.model_dump(exclude_none=True)
    rule = tuple(told.get("cost", told).items())
    return tuple(Point(label, rule, evaluation.prevalence) for label in labels)


def refuse(evaluation: EvaluationConfig, found: str, several: bool = False) -> None:
    """Raise UserError where something is asked that needs two classes; `several` labels may have a threshold each."""
    for name in ("positive", "prevalence") if several else ("at", "positive", "prevalence"):
        if vars(evaluation)[name] is not None:
            more = "" if several or name != "at" else ", or labels that a row has or not"
            raise UserError(f"evaluation.{name} needs two classes{more}", found, f"Drop evaluation.{name}.")


def positive_of(names: Sequence[str], counts: Sequence[int], asked: str | None) -> tuple[str, str]:
    """Return the class of two that is looked for, and why: as asked, by its name, else the rarer one of train."""
    if asked is not None:
        if asked not in names:
            raise unknown("class in evaluation.positive", asked, names)
        return asked, "evaluation.positive"
    called = [name for name in names if name.strip().casefold() in POSITIVE]
    if len(called) == 1:
        return called[0], "by its name"
    if len(counts) == len(names) and counts[0] != counts[1]:
        return names[int(np.argmin(counts))], "the rarer class of train"
    return names[-1], "the last of two that are equally frequent"


def doubts(point: Point, truth: np.ndarray) -> list[str]:
    """Return what is to be said of the validation rows that a threshold is going to be chosen on.

    UserError where they lack a class: no threshold can be chosen on them.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        lacking = f"none of {len(truth):,} has {'it' if not positives else 'another label'}"
        raise UserError(
            f"validation rows with `{point.label}` and without are needed to choose a threshold", lacking,
            "Give more validation rows (data.validation_size), or drop evaluation.at.",
        )  # fmt: skip
    rule = dict(point.rule)
    resting = {"specificity": (negatives, "without"), "sensitivity": (positives, "with")}
    n, how = resting.get(next(iter(rule)), min((positives, "with"), (negatives, "without")))
    if n >= FEW:
        return []
    return [f"the threshold of `{point.label}` will rest on {n:,} validation rows {how} it: it is rough"]


# --- what comes of it ---


class Yes:
    """Rows that have a label or not, and whether it was given to them; `prevalence` where another is stated."""

    def __init__(self, truth: np.ndarray, given: np.ndarray, prevalence: float | None = None) -> None:
        truth, given = np.asarray(truth, bool), np.asarray(given, bool)
        self.n, self.prevalence = len(truth), prevalence
        self.parts = np.stack([truth & given, truth & ~given, ~truth & given, ~truth & ~given], axis=1).astype(float)

    @property
    def yes(self) -> Yes:
        """Itself: what statistics look for in any outcomes."""
        return self


def _table(sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return true positives, false negatives, false positives and true negatives, (b,) each."""
    found = sample.total(sample.outcomes.yes.parts)
    return found[0], found[1], found[2], found[3]


def _sensitivity(sample: Sample) -> np.ndarray:
    tp, fn, _, _ = _table(sample)
    return ratio(tp, tp + fn, np.nan)


def _specificity(sample: Sample) -> np.ndarray:
    _, _, fp, tn = _table(sample)
    return ratio(tn, tn + fp, np.nan)


def _ppv(sample: Sample) -> np.ndarray:
    tp, _, fp, _ = _table(sample)
    share = sample.outcomes.yes.prevalence
    if share is None:
        return ratio(tp, tp + fp, np.nan)
    right, wrong = _sensitivity(sample) * share, (1 - _specificity(sample)) * (1 - share)
    return ratio(right, right + wrong, np.nan)


def _npv(sample: Sample) -> np.ndarray:
    _, fn, _, tn = _table(sample)
    share = sample.outcomes.yes.prevalence
    if share is None:
        return ratio(tn, tn + fn, np.nan)
    right, wrong = _specificity(sample) * (1 - share), (1 - _sensitivity(sample)) * share
    return ratio(right, right + wrong, np.nan)


def _share_of(name: str) -> Any:
    """Return the closed interval of one of the four: Wilson's, of the rows that it is a share of."""

    def share(shown: str, whole: Sample, confidence: float, witnesses: Witnesses) -> tuple[float, float, float]:
        tp, fn, fp, tn = (float(part[0]) for part in _table(whole))
        part, rest = {"sensitivity": (tp, fn), "specificity": (tn, fp), "ppv": (tp, fp), "npv": (tn, fn)}[shown]
        value = part / (part + rest)
        return value, *wilson(value, witnesses(STATISTICS[shown], part + rest), confidence)

    def closed(whole: Sample, confidence: float, witnesses: Witnesses) -> tuple[float, float]:
        prevalence = whole.outcomes.yes.prevalence
        if prevalence is None or name in ("sensitivity", "specificity"):
            return share(name, whole, confidence, witnesses)[1:]
        # a yes is wrong at (1 - specificity) / sensitivity, a no at (1 - sensitivity) / specificity
        pair, odds = ("specificity", "sensitivity"), (1 - prevalence) / prevalence
        if name == "npv":
            pair, odds = ("sensitivity", "specificity"), 1 / odds
        missed, right = (share(one, whole, confidence, witnesses) for one in pair)
        low, high = quotient((1 - missed[0], 1 - missed[2], 1 - missed[1]), right)
        return 1 / (1 + high * odds), 1 / (1 + low * odds)

    return closed


def quotient(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float]:
    """Return the interval of one share by another from (value, low, high) of each (MOVER-R: Donner and Zou 2012)."""
    (p, p_low, p_high), (q, q_low, q_high) = one, other
    below = max((p * q) ** 2 - p_low * q_high * (2 * p - p_low) * (2 * q - q_high), 0) ** 0.5
    above = max((p * q) ** 2 - p_high * q_low * (2 * p - p_high) * (2 * q - q_low), 0) ** 0.5
    low = p_low * (2 * p - p_low) / (p * q + below) if p_low > 0 else 0.0  # the paper's, times the conjugate
    high = (p * q + above) / (q_low * (2 * q - q_low)) if q_low > 0 else float("inf")
    return low, high


STATISTICS: dict[str, Statistic] = {
    "sensitivity": _sensitivity, "specificity": _specificity, "ppv": _ppv, "npv": _npv,
}  # fmt: skip
ABOUT = {
    "sensitivity": "share of the rows of the positive class that are found",
    "specificity": "share of the other rows that are left alone",
    "ppv": "positive predictive value: share of the rows answered as positive that are, at `evaluation.prevalence`",
    "npv": "negative predictive value: share of the rows answered as not positive that are not, at "
    "`evaluation.prevalence`",
}
METRICS = {
    name: Metric(ABOUT[name], statistic, perfect=1.0, closed=_share_of(name)) for name, statistic in STATISTICS.items()
}


def decision_curve(point: Point, truth: np.ndarray, probabilities: np.ndarray, threshold: float) -> Plot:
    """Return the net benefit of acting on the answers, on all rows and on none (Vickers and Elkin 2006).

    `threshold` is the probability, as these are, from which the label is given.
    """
    truth, probabilities = np.asarray(truth, bool), np.asarray(probabilities, np.float64)
    share = float(truth.mean()) if point.prevalence is None else point.prevalence
    odds = CURVE / (1 - CURVE)
    given = probabilities[None] >= CURVE[:, None]
    found = ratio((given & truth).sum(axis=1), np.full(len(CURVE), truth.sum()))
    wrong = ratio((given & ~truth).sum(axis=1), np.full(len(CURVE), (~truth).sum()))
    lines = {
        "the model": share * found - (1 - share) * wrong * odds,
        "all": share - (1 - share) * odds,
        "none": np.zeros(len(CURVE)),
    }
    least = -DEEPEST * share
    drawn = [
        {"name": name, "points": [[float(x), float(y)] for x, y in zip(CURVE, values, strict=True) if y >= least]}
        for name, values in lines.items()
    ]
    about = "of the test rows" if point.prevalence is None else f"at a prevalence of {share:g}"
    return Plot(
        "decision_curve", "Net benefit of acting on the answers, by threshold", "lines",
        {"headline": f"net benefit for {point.label}, {about}", "x": "probability from which one acts",
         "y": "net benefit", "lines": drawn, "marks": [{"name": "the threshold", "x": min(threshold, 1.0)}]},
    )  # fmt: skip
