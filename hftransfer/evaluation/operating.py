"""What a chosen threshold comes to on test rows, beside what the weights answer without it, in figures and words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hftransfer.answers import _operating
from hftransfer.answers._operating import Point, Yes
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import Score, measure_outcomes
from hftransfer.weighting import Sample

MOST = 12  # labels that a sentence names


def report(test: Predictions, validation: Predictions, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return {points, prevalence, sentences} of answers with thresholds; None of others.

    A point has label, rule, threshold (of what the weights say) and shown_threshold (of what the Predictor shows),
    `validation` and `test` with their positives, negatives, sensitivity, specificity, ppv and npv, those of test with
    an interval, and `without`: what the weights answer on test without the threshold.
    """
    answer = test.answer
    if not answer.points:
        return None
    on_test = list(answer.decisions_of(test.truth, test.outputs))
    on_validation = list(answer.decisions_of(validation.truth, validation.outputs))
    plain = answer.decisions_of(test.truth, test.outputs, plain=True)
    points = []
    for (point, found), (_, chosen), (_, without) in zip(on_test, on_validation, plain, strict=True):
        points.append(
            {
                **point.to_dict(),
                "shown_threshold": answer.shown_threshold(point),
                "validation": counted(chosen) | values(chosen),
                "test": counted(found) | measured(test, found, settings),
                "without": values(without),
            }
        )
    return {"points": points, "sentences": sentences(points, answer.points, answer.why_positive)}


def counted(found: Yes) -> dict[str, int]:
    """Return how many rows have the label, and how many do not."""
    tp, fn, fp, tn = found.parts.sum(axis=0).astype(int)
    return {"positives": int(tp + fn), "negatives": int(fp + tn)}


def values(found: Yes) -> dict[str, float | None]:
    """Return the four shares; None where there is nothing to divide by."""
    whole = Sample(found, np.ones((found.n, 1)))
    known = {name: float(metric.value(whole)[0]) for name, metric in _operating.METRICS.items()}
    return {name: value if np.isfinite(value) else None for name, value in known.items()}


def measured(rows: Predictions, found: Yes, settings: Mapping[str, Any]) -> dict[str, Score]:
    """Return the four shares with their intervals."""
    return measure_outcomes(rows, _operating.METRICS, found, **settings)


def sentences(points: list[dict[str, Any]], made: tuple[Point, ...], why: str = "") -> list[str]:
    """Return where a yes begins and why, and what a stranger's argmax does instead; `why` that label is looked for."""
    said = _of_several(points, made) if len(points) > 1 else []
    for one, point in zip(points, made, strict=True) if len(points) == 1 else ():
        looked = one["validation"]
        rows = (
            f"{looked['positives'] + looked['negatives']:,} validation rows ({looked['positives']:,} `{point.label}`)"
        )
        known = f"`{point.label}`{f' ({why})' if why else ''}"
        reached = " and ".join(f"{name} {looked[name]:.3f}" for name in ("sensitivity", "specificity"))
        where = "never" if one["shown_threshold"] > 1 else f"from a probability of {one['shown_threshold']:.3f} on"
        said.append(f"{known} is answered {where}, chosen on {rows} for {point.aim}: there {reached}.")
        there, without = one["test"], one["without"]
        if "sensitivity" in there and "specificity" in there:
            said.append(
                f"On test that is sensitivity {_of(there['sensitivity'])}, specificity {_of(there['specificity'])}; "
                f"pipeline() answers by one half: sensitivity {without['sensitivity']:.3f}, "
                f"specificity {without['specificity']:.3f}."
            )
    prevalence = made[0].prevalence
    if prevalence is not None:
        said.append(f"PPV and NPV are at the stated prevalence of {prevalence:g}, not that of the test rows.")
    elif len(points) == 1 and points[0]["test"]["positives"]:
        both = points[0]["test"]["positives"] + points[0]["test"]["negatives"]
        share = points[0]["test"]["positives"] / both
        said.append(
            f"PPV and NPV are at the prevalence of the test rows, {share:.3g}; evaluation.prevalence states another."
        )
    return said


def _of_several(points: list[dict[str, Any]], made: tuple[Point, ...]) -> list[str]:
    """Return the same of several labels, whose figures stand in a table."""
    looked = points[0]["validation"]
    said = [
        f"Each of {len(points)} labels is given from a threshold of its own, chosen on "
        f"{looked['positives'] + looked['negatives']:,} validation rows for {made[0].aim}; pipeline() gives each from "
        "one half on."
    ]
    blind = [f"`{point.label}`" for point in made if point.threshold is None]
    if blind:
        more = f" and {len(blind) - MOST} more" if len(blind) > MOST else ""
        said.append(
            f"From one half on too, for want of validation rows to choose by: {', '.join(blind[:MOST])}{more}."
        )
    return said


def _of(score: Mapping[str, float]) -> str:
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"
