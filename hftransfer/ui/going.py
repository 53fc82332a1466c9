"""How a run goes, in a sentence, and how long it may still take, from the first second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from hftransfer import answers
from hftransfer.ui import markup, monitor
from hftransfer.ui.monitor import View
from hftransfer.ui.saying import say

FLAT = 4  # evaluations without a better one behind which a curve is called flat
LEAST = 0.002  # of a share: what is gained beyond it counts
AFTER = ("evaluation", "intervals", "saving")  # phases that come when training is over
LOOKS = ("labels", "copies")  # phases that may come when training is over
Event = Mapping[str, Any]


def said(view: View) -> str:
    """Return how a run goes by its validation scores; empty while there is nothing to say."""
    curves = monitor.curves(view)
    name = monitor.main_curve(curves)
    if name is None:
        probe = _of_probe(view)
        if not probe:
            return ""
        return say("The probe, a first simple model, is ready: {score}. Fine-tuning may do better.", score=probe)
    points, sign = curves[name], _sign(name)
    words = [_against(points, sign, view.trivial.get("metrics", {}).get(name), say("the baseline"))]
    if (probe := view.probed.get("metrics", {}).get(name)) is not None:
        words.append(_against(points, sign, probe, say("the probe")))
    words.append(_flat(points, sign))
    called = name.replace("_", " ")
    score = {"metric": f"{called[:1].upper()}{called[1:]}", "value": points[-1][1]}
    if not any(words):
        return say("{metric} on validation rows is {value:.3f}.", **score)
    told = say(", ").join(word for word in words if word)
    return say("{metric} on validation rows is {value:.3f}: {told}.", **score, told=told)


def gaining(view: View) -> bool | None:
    """Return whether validation scores still get better at the end; None while there are too few to tell."""
    curves = monitor.curves(view)
    name = monitor.main_curve(curves)
    return None if name is None else _gains(curves[name], _sign(name))


def _sign(name: str) -> float:
    """Return 1 for a metric of which more is better, else -1."""
    metric = answers.metrics().get(name)
    return 1.0 if metric is None or metric.greater_is_better else -1.0


def _against(points: Sequence[tuple[float, float]], sign: float, level: Any, called: str) -> str:
    """Return since when a curve is above a level, or that it is not."""
    if not isinstance(level, int | float):
        return ""
    passed = None
    for at, value in reversed(points):
        if sign * (value - level) <= 0:
            break
        passed = at
    if passed is None and points[-1][1] == level:
        return say("level with {what} ({level:.3f})", what=called, level=level)
    if sign > 0:
        if passed is None:
            return say("not yet above {what} ({level:.3f})", what=called, level=level)
        return say("above {what} ({level:.3f}) since step {step:.0f}", what=called, level=level, step=passed)
    if passed is None:  # of an error, the better side is below
        return say("not yet below {what} ({level:.3f})", what=called, level=level)
    return say("below {what} ({level:.3f}) since step {step:.0f}", what=called, level=level, step=passed)


def _flat(points: Sequence[tuple[float, float]], sign: float) -> str:
    """Return whether a curve still gains."""
    gains = _gains(points, sign)
    if gains is None:
        return ""
    values = [sign * value for _, value in points]
    best = max(range(len(values)), key=values.__getitem__)
    if len(values) - 1 - best >= FLAT:
        return say("flat: nothing better since step {step:.0f}, whose model is kept", step=points[best][0])
    return say("still gaining") if gains else say("flat")


def _gains(points: Sequence[tuple[float, float]], sign: float) -> bool | None:
    """Return whether the last evaluations are better than all before them; None of too few."""
    if len(points) <= FLAT:
        return None
    values = [sign * value for _, value in points]
    return max(values[-FLAT:]) - max(values[:-FLAT]) > LEAST


def _of_probe(view: View) -> str:
    found = next(iter(view.probed.get("metrics", {}).items()), None)
    if found is None:
        return ""
    name, value = found
    level = view.trivial.get("metrics", {}).get(name)
    against = say(", the baseline {level:.3f}", level=level) if isinstance(level, int | float) else ""
    return f"{name.replace('_', ' ')} {value:.3f}{against}"


# --- how long ---


def left(view: View, estimate: Mapping[str, Any], earlier: Iterable[float], now: float) -> str:
    """Return what is left of a running run, in words, and what that is known from; never nothing.

    `earlier` are the seconds of finished runs of the same task and model.
    """
    status, log = view.status(), view.log
    if status.phase == "training" and log.get("eta_seconds") is not None:
        rest = max(log["eta_seconds"] - (now - float(log.get("time", now))), 0)
        return say("about {time} of training", time=markup.roughly(rest))
    if status.phase in AFTER or (status.phase in LOOKS and status.step):
        return _after(str(status.phase))
    if view.trial and (rest := _of_trials(view)) is not None:
        return _reasoned(rest, say("learning rates are tried, {n} so far", n=len(view.trials)))
    gone = max(now - view.began, 0.0) if view.began else 0.0
    if estimate.get("seconds"):
        rest = max(estimate["seconds"] - gone, 1)
        return say("about {time}, as it was measured before", time=markup.roughly(rest))
    if known := [*earlier]:
        rest = median(known) - gone
        took = say("earlier runs of this task and model took about {time}", time=markup.roughly(median(known)))
        return _reasoned(rest, took) if rest > 0 else say("longer than usual: {why}", why=took)
    return say("minutes, as a rule: it is known better once a few steps were timed")


def _after(phase: str) -> str:
    """Return what is done when training is over: how long that takes depends on rows and answers, and nobody knows."""
    if phase == "evaluation":  # a catalogue is encoded, texts are written
        return say("training is over: validation and test rows are being answered")
    if phase == "intervals":
        return say("training is over: scores and their intervals are being computed")
    if phase == "saving":
        return say("training is over: the model and its card are being written")
    return say("training is over: rows are looked through for wrong labels and copies")


def _reasoned(rest: float, why: str) -> str:
    return say("about {time}: {why}", time=markup.roughly(rest), why=why)


def _of_trials(view: View) -> float | None:
    """Return the seconds that trials and the fit behind them take, from the speed of the trials' steps so far."""
    updates, count = view.updates, 4
    done = sum(step for step, _ in view.trials.values())
    began = view.trial_began
    spent = float(view.trial.get("time", 0)) - began
    if not updates or done < 2 or spent <= 0:
        return None
    each = max((most for _, most in view.trials.values()), default=0)
    rest = max(count * each - done, 0) + updates - each
    return spent / done * max(rest, 0)
