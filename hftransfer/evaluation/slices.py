"""Scores for each value of a column: where a model is worse than on the whole, and where nobody can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure_only

MOST = 20  # values of a column that are told apart, the most frequent first
FEW = 30  # rows, or groups of them, below which a slice's own score says little
OTHERS = "(other values)"


def report(
    test: Predictions, columns: Mapping[str, Sequence[str]], settings: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return {metrics, columns, sentences} of the test rows by the values of columns (a list a column); None without.

    A column has a row a value: name, n, groups where rows have some, small, and `metrics` with the main one and, where
    thresholds are chosen, sensitivity and specificity, each with its interval; undefined ones are left out.
    """
    if not columns:
        return None
    answer = test.answer
    more = [name for name in ("sensitivity", "specificity") if name in answer.default_metrics]
    metrics = [answer.main_metric, *more]
    found = {column: _by_value(test, np.asarray(values), metrics, settings) for column, values in columns.items()}
    return {"metrics": metrics, "columns": found, "sentences": sentences(found, metrics[0], settings["confidence"])}


def _by_value(
    test: Predictions, values: np.ndarray, metrics: Sequence[str], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    names, counts = np.unique(values, return_counts=True)
    often = names[np.argsort(-counts, kind="stable")]
    kept = often if len(often) <= MOST else often[: MOST - 1]
    masks = {str(name): values == name for name in kept}
    if len(kept) < len(often):
        masks[OTHERS] = ~np.isin(values, kept)
    rows = []
    for name, mask in masks.items():
        part = test.select(mask)
        rows.append(
            {
                "name": name,
                "n": len(part),
                **({} if part.codes is None else {"groups": part.units}),
                "small": part.units < FEW,
                "metrics": measure_only(part, metrics, **settings),
            }
        )
    return rows


def sentences(found: Mapping[str, Sequence[Mapping[str, Any]]], metric: str, confidence: float) -> list[str]:
    """Return what has to be known to read the table."""
    said = []
    small = [
        f"`{column}` {row['name']} ({row['n']})" for column, rows in found.items() for row in rows if row["small"]
    ]
    if small:
        named = ", ".join(small[:MOST]) + (f" and {len(small) - MOST} more" if len(small) > MOST else "")
        said.append(f"Slices with fewer than {FEW} rows or groups, whose own scores say little: {named}.")
    many = [f"`{column}`" for column, rows in found.items() if any(row["name"] == OTHERS for row in rows)]
    if many:
        said.append(f"Of {', '.join(many)} the {MOST - 1} most frequent values stand alone.")
    count = sum(len(rows) for rows in found.values())
    if count > 2:
        missed = (1 - confidence) * count
        said.append(
            f"Of {count} intervals of {metric} at {confidence:.0%}, about {missed:.1f} miss by chance: a slice that "
            "stands out is a question, not yet an answer."
        )
    return said
