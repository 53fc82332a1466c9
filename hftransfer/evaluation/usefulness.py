"""Whether a model is of use: better than the trivial answer, not blind to its input, with every class in reach."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hftransfer.answers.base import Answer
from hftransfer.evaluation.differences import between, differing, point
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import replicates

NEVER = 10  # classes that a sentence names


def judged(
    test: Predictions, trivial: Predictions, baseline: Mapping[str, Any], confidence: float, resamples: int, seed: int
) -> dict[str, Any]:
    """Return {advantage, useless, sentences}: the paired difference to the trivial answer, and what must be said.

    `useless`: the main metric is not above that of the trivial answer by the interval of their difference on the same
    rows (metrics that less is better of: below). A score equal to the trivial one is called so: a model that collapsed
    to one class has it exactly.
    """
    answer, metric = test.answer, test.answer.main_metric
    sign = 1.0 if answer.metrics[metric].greater_is_better else -1.0
    ours, theirs = point(test, metric), point(trivial, metric)
    drawn = [replicates(one, [metric], resamples, seed)[metric] for one in (test, trivial)]
    apart = differing(test, trivial, metric)
    by_factor = answer.metrics[metric].by_factor
    found = between((ours, theirs), (drawn[0], drawn[1]), test.units, confidence, min(apart, test.units), by_factor)
    if sign < 0:
        found = dataclasses.replace(found, value=-found.value, low=-found.high, high=-found.low)
    sentences: list[str] = []
    known = ours == ours and theirs == theirs  # not NaN
    useless = known and not found.low > 0
    name = f"the {baseline['name']} ({metric} {theirs:.3f})"
    if known and apart == 0:
        sentences.append(f"It answers every test row as {name}, which {baseline['about']}: it is of no use as it is.")
    elif known and found.value < 0:
        said = f"Its {metric} of {ours:.3f} is worse than {name}, which {baseline['about']}"
        sentences.append(f"{said}: it is of no use as it is.")
    elif useless:
        more = f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
        sentences.append(
            f"That its {metric} of {ours:.3f} is better than {name} is not shown: the difference is {more} on "
            f"{len(test):,} rows. Nobody should rely on it."
        )
    sentences += flaws(test)
    advantage = {"value": found.value, "low": found.low, "high": found.high, "confidence": confidence}
    return {"advantage": advantage if known else None, "useless": useless, "sentences": sentences}


def flaws(found: Predictions) -> list[str]:
    """Return what is wrong with answers whatever they score: one for every row, classes that are never answered."""
    answer = found.answer
    if len(found) > 1 and answer.is_constant(found.outputs):
        return ["Its answer is the same for every row: it does not look at the input."]
    never = answer.never(found.truth, found.outputs)
    if not never:
        return []
    named = ", ".join(f"`{name}` ({count:,} in the test rows)" for name, count in never[:NEVER])
    more = f" and {len(never) - NEVER} more" if len(never) > NEVER else ""
    return [f"It never answers {named}{more}."]


def never_above(events: Sequence[Mapping[str, Any]], trivial: Mapping[str, float], answer: Answer[Any]) -> list[str]:
    """Return a sentence where no evaluation on validation rows was above the trivial answer (`trivial`, by metric)."""
    name = answer.selects_by
    values = [one["metrics"][name] for one in events if one["type"] == "evaluation" and name in one.get("metrics", {})]
    if len(values) < 2 or name not in trivial:
        return []
    higher = answer.metrics[name].greater_is_better
    if any(value > trivial[name] if higher else value < trivial[name] for value in values):
        return []
    said = f"At none of {len(values)} evaluations was its validation {name} better than the trivial answer's"
    return [f"{said} {trivial[name]:.3f}."]


def advice(verdict: Mapping[str, Any], method: str, fits: Sequence[str], n: int, crossed: bool = False) -> list[str]:
    """Return what to try next, best first; nothing for a model that is of use and without a flaw.

    `method` is how it was adapted, `fits` the methods that give answers of the task, `n` the number of test rows,
    `crossed` whether all rows were tested in folds.
    """
    if not verdict["sentences"]:
        return []
    found = []
    if method == "zero_shot":
        found.append("It was not trained: method.name=auto trains it.")
    elif method == "auto" and "probe" in fits:
        found.append("Another pretrained model may know more of this: see hftransfer rank.")
    elif "probe" in fits and method not in ("probe", "auto"):
        found.append("See what a probe gives, in seconds: method.name=probe.")
    if method not in ("zero_shot", "probe", "fuse", "auto"):
        found.append("Train it longer or at another rate: train.num_train_epochs and train.learning_rate.")
    found.append("Run several ways beside one another: hftransfer compare CONFIG.")
    if verdict["useless"] and n < 300:
        found.append(f"{n:,} test rows tell little: more labelled rows would show smaller differences.")
        if not crossed and method != "fuse":
            found.append("Test every row by a model that has not seen it: evaluation.folds=5 evaluation.repeats=5.")
    return found
