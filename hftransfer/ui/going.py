"""How a run goes, in a sentence, and how long it may still take, from the first second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from hftransfer import answers
from hftransfer.ui import markup, monitor
from hftransfer.ui.monitor import View

FLAT = 4  # evaluations without a better one behind which a curve is called flat
LEAST = 0.002  # of a share: what is gained beyond it counts
Event = Mapping[str, Any]


def said(view: View) -> str:
    """Return how a run goes by its validation scores; empty while there is nothing to say."""
    curves = monitor.curves(view)
    name = monitor.main_curve(curves)
    if name is None:
        probe = _of_probe(view)
        return f"The probe, a first simple model, is ready: {probe}. Fine-tuning may do better." if probe else ""
    points = curves[name]
    metric = answers.metrics().get(name)
    sign = 1.0 if metric is None or metric.greater_is_better else -1.0
    words = [_against(points, sign, view.trivial.get("metrics", {}).get(name), "the baseline")]
    if (probe := view.probed.get("metrics", {}).get(name)) is not None:
        words.append(_against(points, sign, probe, "the probe"))
    words.append(_flat(points, sign))
    called = name.replace("_", " ")
    now = f"{called[:1].upper()}{called[1:]} on validation rows is {points[-1][1]:.3f}"
    return f"{now}: {', '.join(word for word in words if word)}." if any(words) else f"{now}."


def _against(points: Sequence[tuple[float, float]], sign: float, level: Any, called: str) -> str:
    """Return since when a curve is above a level, or that it is not."""
    if not isinstance(level, int | float):
        return ""
    passed = None
    for at, value in reversed(points):
        if sign * (value - level) <= 0:
            break
        passed = at
    side = "above" if sign > 0 else "below"  # of an error, the better side
    if passed is None:
        return f"not yet {side} {called} ({level:.3f})"
    return f"{side} {called} ({level:.3f}) since step {passed:.0f}"


def _flat(points: Sequence[tuple[float, float]], sign: float) -> str:
    """Return whether a curve still gains."""
    if len(points) <= FLAT:
        return ""
    values = [sign * value for _, value in points]
    best = max(range(len(values)), key=values.__getitem__)
    if len(values) - 1 - best >= FLAT:
        return f"flat: nothing better since step {points[best][0]:.0f}, whose model is kept"
    before = max(values[:-FLAT])
    return "still gaining" if max(values[-FLAT:]) - before > LEAST else "flat"


def _of_probe(view: View) -> str:
    found = next(iter(view.probed.get("metrics", {}).items()), None)
    if found is None:
        return ""
    name, value = found
    level = view.trivial.get("metrics", {}).get(name)
    against = f", the baseline {level:.3f}" if isinstance(level, int | float) else ""
    return f"{name.replace('_', ' ')} {value:.3f}{against}"


# --- how long ---


def left(view: View, estimate: Mapping[str, Any], earlier: Iterable[float], now: float) -> str:
    """Return what is left of a running run, in words, and what that is known from; never nothing.

    `earlier` are the seconds of finished runs of the same task and model.
    """
    status, log = view.status(), view.log
    if status.phase == "training" and log.get("eta_seconds") is not None:
        rest = max(log["eta_seconds"] - (now - float(log.get("time", now))), 0)
        return f"about {markup.roughly(rest)} of training"
    if status.phase in ("evaluation", "saving"):
        return "under a minute or two: training is over"
    if view.trial and (rest := _of_trials(view)) is not None:
        return f"about {markup.roughly(rest)}: {_trials_told(view)}"
    gone = max(now - view.began, 0.0) if view.began else 0.0
    if estimate.get("seconds"):
        return f"about {markup.roughly(max(estimate['seconds'] - gone, 1))}, as it was measured before"
    if known := [*earlier]:
        rest = median(known) - gone
        took = f"earlier runs of this task and model took about {markup.roughly(median(known))}"
        return f"about {markup.roughly(rest)}: {took}" if rest > 0 else f"longer than usual: {took}"
    return "minutes, as a rule: it is known better once a few steps were timed"


def _trials_told(view: View) -> str:
    return f"learning rates are tried, {len(view.trials)} so far"


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
