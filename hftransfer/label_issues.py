"""Rows of train whose label is likely wrong, by confident learning on what a probe says without having seen them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hftransfer import features, fitting, objectives, out_of_fold
from hftransfer.errors import UserError
from hftransfer.fitting import Setup
from hftransfer.modeling import Loaded

FILE = "label_issues.csv"
MOST_ROWS = 10_000  # of train that are looked at
FEWEST = 5  # rows that each class needs: one a fold
CERTAIN = 0.9  # is enough where the rows of a class are all but certain: the mean alone would hide errors there
NAMED = 3  # rows that the warning names


@dataclass(frozen=True)
class LabelIssues:
    """What was found: how many rows were looked at, and the likely errors, the likeliest first."""

    looked: int
    rows: tuple[Issue, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what result.json holds."""
        return {"looked": self.looked, "found": len(self.rows), "file": FILE}

    def warnings(self) -> list[str]:
        """Return one sentence, or none."""
        if not self.rows:
            return []
        named = ", ".join(f"{row.row_id} ({row.given}, rather {row.suggested})" for row in self.rows[:NAMED])
        more = ", ..." if len(self.rows) > NAMED else ""
        return [
            f"labels: {len(self.rows)} of {self.looked} train rows ({len(self.rows) / self.looked:.1%}) may be "
            f"labelled wrongly: {named}{more}; {FILE} lists them to look through"
        ]


@dataclass(frozen=True)
class Issue:
    """One row that may be labelled wrongly."""

    row_id: str
    shown: str  # the text, or the picture's file
    given: str
    suggested: str
    probability: float  # of the suggestion
    probability_given: float


def possible(setup: Setup, loaded: Loaded) -> bool:
    """Tell whether label errors can be looked for: one label a row, rows on disk, FEWEST rows a class, a head."""
    labels, config = setup.labels, setup.config.data
    if not config.label_issues or labels.kind != "single_label" or config.streaming or min(labels.counts) < FEWEST:
        return False
    try:
        features.output_layer(loaded.model, labels)
    except UserError:  # a model of another kind, which a method asks in its own way
        return False
    return True


def look(setup: Setup, loaded: Loaded) -> LabelIssues:
    """Find likely label errors in train, or in MOST_ROWS rows of it drawn with the seed; write the run's file.

    Every process must call; the main one writes.
    """
    labels = setup.labels
    some = out_of_fold.with_some_rows(setup, MOST_ROWS)
    given = np.asarray(some.rows["train"]["label"])
    found = features.extract(some, loaded, "train")
    logits, _ = out_of_fold.probe(found, labels, out_of_fold.assign(found, labels, setup.config.seed))
    probabilities = objectives.probabilities("single_label", logits)
    places, suggested = confident(given, probabilities)
    rows = some.rows["train"].select_columns(["row_id", *_inputs(setup)])
    issues = LabelIssues(
        len(given),
        tuple(
            Issue(
                str(row["row_id"]),
                _shown(row, _inputs(setup)),
                labels.names[given[place]],
                labels.names[other],
                round(float(probabilities[place, other]), 4),
                round(float(probabilities[place, given[place]]), 4),
            )
            for place, other, row in zip(
                places, suggested, rows.select(places).with_format("arrow")[:].to_pylist(), strict=True
            )
        ),
    )
    if fitting.is_main_process():
        write(setup.run.folder / FILE, issues.rows)
    return issues


def confident(given: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of likely label errors, the likeliest first, and what each is rather.

    Confident learning (Northcutt, Jiang and Chuang 2021): a row counts as class j when its probability of j reaches
    the mean that rows labelled j have, or CERTAIN; where it reaches several, the highest. Rows that count as another
    class than their own make the off-diagonal of the confident joint, which is scaled to estimate how many errors of
    each kind (given i, truly j) there are; so many are taken, with the largest margin of j over i. `probabilities`
    (n, k) must be of rows that the classifier did not see.
    """
    count = probabilities.shape[1]
    classes = np.arange(count)
    sizes = np.bincount(given, minlength=count)
    own = probabilities[np.arange(len(given)), given]
    thresholds = np.minimum(np.bincount(given, weights=own, minlength=count) / np.maximum(sizes, 1), CERTAIN)
    reached = np.where(probabilities >= np.where(sizes > 0, thresholds, np.inf), probabilities, -1.0)
    truly, counted = reached.argmax(axis=1), reached.max(axis=1) >= 0
    joint = np.zeros((count, count))
    np.add.at(joint, (given[counted], truly[counted]), 1)
    joint *= (sizes / np.maximum(joint.sum(axis=1), 1))[:, None]  # each class has as many rows as are labelled so
    margins = probabilities - own[:, None]
    taken: dict[int, tuple[float, int]] = {}
    for i in classes:
        members = np.flatnonzero(given == i)
        for j in classes[classes != i]:
            best = members[np.argsort(-margins[members, j], kind="stable")][: round(joint[i, j])]
            for place in best[probabilities[best].argmax(axis=1) == j]:
                taken[int(place)] = float(margins[place, j]), int(j)
    order = sorted(taken, key=lambda place: (-taken[place][0], place))
    return np.array(order, np.int64), np.array([taken[place][1] for place in order], np.int64)


def write(path: Path, issues: Sequence[Issue]) -> None:
    """Write the file: row_id, text or file, given, suggested, probability, probability_given."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row_id", "text_or_file", "given", "suggested", "probability", "probability_given"])
        for row in issues:
            writer.writerow([row.row_id, row.shown, row.given, row.suggested, row.probability, row.probability_given])


def _inputs(setup: Setup) -> list[str]:
    there = setup.rows["train"].column_names
    return [role.name for role in setup.task.roles if role.kind not in ("label", "tags") and role.name in there]


def _shown(row: Mapping[str, Any], roles: Sequence[str]) -> str:
    """Return what a person knows the row by: its texts, or the names of its pictures' files."""
    parts = []
    for role in roles:
        value = row[role]
        if isinstance(value, dict):  # a picture, not decoded
            value = Path(value["path"] or "").name
        parts.append(" ".join(value) if isinstance(value, list) else str(value))
    return " | ".join(part for part in parts if part)
