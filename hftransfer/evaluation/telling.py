"""What a result says beside its scores, as sentences and tables that the terminal, the card and the page each draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MOST = 50  # rows of a table


class Table(NamedTuple):
    """A title, the names of the columns, and rows of cells, all text."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def sentences(result: Mapping[str, Any]) -> list[str]:
    """Return what there is to say of the positive class, the threshold, folds and slices; nothing of older results."""
    answer, operating = result.get("answer") or {}, result.get("operating") or {}
    said = []
    if answer.get("positive") is not None and not operating:
        said.append(
            f"The positive class is `{answer['positive']}` ({answer['why_positive']}): average_precision is of it."
        )
    parts = (result.get(part) or {} for part in ("beside", "operating", "folds", "slices"))
    more = (name for part in parts for name in part.get("sentences", ()))
    return [*said, *more]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return a table for the labels that have a threshold each, and one for each column that the test is sliced by."""
    found: list[Table] = []
    rows: list[tuple[str, ...]]
    others = result.get("beside")
    if others:
        measured = list(others["models"][0]["metrics"])
        ahead = f"{others['metric']} of this model, more by"
        rows = [
            (
                one["name"], *_scores(one["metrics"], measured),
                f"{one['ahead']['value']:+.3f} ({one['ahead']['low']:+.3f} to {one['ahead']['high']:+.3f})",
            )
            for one in others["models"]
        ]  # fmt: skip
        found.append(Table("Others on the same test rows", ("", *measured, ahead), rows))
    points = (result.get("operating") or {}).get("points", ())
    if len(points) > 1:
        names = ("sensitivity", "specificity", "ppv", "npv")
        rows = [
            (
                one["label"],
                f"{one['shown_threshold']:.3f}",
                f"{one['test']['positives']:,}",
                *_scores(one["test"], names),
            )
            for one in points[:MOST]
        ]
        found.append(Table("Labels, each from its threshold", ("label", "threshold", "rows", *names), rows))
    crossed = result.get("folds")
    if crossed:
        rows = [(name, *_scores({name: one}, [name])) for name, one in crossed["metrics"].items()]
        title = f"Over {crossed['folds']} folds of all {crossed['n']:,} rows"
        found.append(Table(title, ("score", f"mean and {crossed['confidence']:.0%} interval"), rows))
    sliced = result.get("slices") or {"metrics": (), "columns": {}}
    for column, values in sliced["columns"].items():
        grouped = ("groups",) if any("groups" in row for row in values) else ()
        rows = [
            (
                row["name"],
                f"{row['n']:,}{' (few)' if row['small'] else ''}",
                *(f"{row[name]:,}" for name in grouped),
                *_scores(row["metrics"], sliced["metrics"]),
            )
            for row in values
        ]
        found.append(Table(f"By {column}", (column, "rows", *grouped, *sliced["metrics"]), rows))
    return found


def _scores(metrics: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [
        f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})" if (one := metrics.get(name)) else "undefined"
        for name in names
    ]
