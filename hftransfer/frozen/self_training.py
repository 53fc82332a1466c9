"""One round of self-training: unlabelled rows that a head is sure of teach it again, if validation rows gain by it."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from hftransfer.data.inputs import read_inputs
from hftransfer.data.tree import sort_out, walk
from hftransfer.data.unanswerable import Unanswerable
from hftransfer.errors import UserError
from hftransfer.evaluation.differences import pairwise
from hftransfer.evaluation.predictions import Predictions
from hftransfer.fitting.arguments import class_weights
from hftransfer.fitting.base import Setup
from hftransfer.fitting.processes import is_main_process
from hftransfer.frozen import features, out_of_fold, probing
from hftransfer.frozen.features import Features
from hftransfer.frozen.pooling_heads import Form
from hftransfer.frozen.probing import Head
from hftransfer.modeling.loading import Loaded
from hftransfer.modeling.prepared import prepare

SURE = 0.9  # the probability from which an answer is taken for a label
SPLIT = "unlabelled"


@dataclass(frozen=True)
class Outcome:
    """What a round of self-training came to: `change` of `metric` on the validation rows with its paired interval.

    `sure` of `rows` unlabelled rows were answered with at least `threshold`; with none, nothing was taught and nothing
    changed: `change` is None. `kept` tells whether the head is the one that they taught.
    """

    rows: int
    sure: int
    threshold: float
    metric: str
    confidence: float
    change: dict[str, float] | None
    kept: bool

    def to_dict(self) -> dict[str, Any]:
        """Return what `result.json` holds."""
        return dataclasses.asdict(self)

    def sentence(self) -> str:
        """Return the outcome in words."""
        if self.change is None:
            return f"no answer to {self.rows} unlabelled rows is sure ({self.threshold:.0%}): left as it was"
        found = self.change
        return (
            f"{self.sure} of {self.rows} unlabelled rows were answered with at least {self.threshold:.0%} and taught "
            f"again; {self.metric} on validation changes by {found['value']:+.3f} ({found['low']:+.3f} to "
            f"{found['high']:+.3f}): {'kept' if self.kept else 'that it helps is not shown, left as it was'}"
        )


def read(setup: Setup) -> Setup | None:
    """Return a setup with the rows of `data.unlabelled` as a split of its own; None where none are named."""
    config = setup.config.data
    if config.unlabelled is None:
        return None
    if setup.answer.linear is None or not setup.answer.linear.stratified:
        raise UserError(
            "data.unlabelled needs a task with one label a row", f"these are {setup.answer.called}", "Leave it out."
        )
    path = Path(config.unlabelled).expanduser()
    if not path.exists():
        raise UserError(
            "data.unlabelled names a table file, or a folder of pictures or recordings",
            f"there is no {path}",
            "Check the path.",
        )
    inputs = {role.name for role in setup.task.shown}
    known = {role: column for role, column in config.column_names.items() if role in inputs}
    if path.is_dir():
        tree = walk(path)
        files = sort_out(tree, setup.task.shown[0].takes.suffixes if setup.task.shown[0].takes else ())[0]
        found = [setup.task.row(str(tree.path(parts))) for parts in files]
    else:
        found = [row for row in read_inputs(path, setup.task, known) if not isinstance(row, Unanswerable)]
    if not found:
        raise UserError("data.unlabelled needs rows", f"{path} holds none", "Check the path.")
    columns = setup.rows["train"].features
    answer = setup.task.truth.name
    values: dict[str, list[Any]] = {name: [row.get(name) for row in found] for name in columns}
    values |= {"row_id": [f"{path.name}:{i}" for i in range(len(found))], answer: [0] * len(found)}  # nobody reads it
    rows = datasets.Dataset.from_dict(values, features=columns)
    prepared = prepare(setup.task, rows, setup.processor, setup.preparation, training=False)
    if prepared.on_epoch is not None:
        prepared = dataclasses.replace(prepared, on_epoch=None)
    return dataclasses.replace(
        setup,
        rows={**setup.rows, SPLIT: rows},
        prepared={**setup.prepared, SPLIT: prepared},
        fingerprints={**setup.fingerprints, SPLIT: _hash(path)},
    )


def improve(
    setup: Setup, loaded: Loaded, form: Form, head: Head, train: Features, validation: Features, strengths: Any
) -> tuple[Head, Outcome]:
    """Return a head that was also fitted to unlabelled rows, or the given one where validation does not gain, and why.

    `setup` is what `read` returned. A gain counts when the paired interval of the main metric's difference lies above
    zero.
    """
    answer, target = setup.answer, out_of_fold.linear_of(setup.answer)
    found = features.extract(setup, loaded, SPLIT, exact=True)
    shown, aside = form.shown(found.pooled), form.shown(validation.pooled)
    probabilities = target.probabilities(head.logits(shown))
    sure = probabilities.max(axis=1) >= SURE
    metric, confidence = answer.main_metric, setup.config.evaluation.confidence
    count = int(sure.sum())
    if not count:
        return head, _told(setup, Outcome(len(found), 0, SURE, metric, confidence, None, kept=False))
    taught = probing.fit(
        {form.name: np.concatenate([form.shown(train.pooled), shown[sure]])},
        np.concatenate([train.targets, probabilities.argmax(axis=1)[sure]]),
        target,
        answer.outputs,
        validation=({form.name: aside}, validation.targets),
        strengths=strengths,
        class_weights=class_weights(setup),
    )
    ids = [str(i) for i in range(len(validation))]
    answers = [
        Predictions(answer, ids, validation.targets, answer.of_logits(one.logits(aside))) for one in (taught, head)
    ]
    gain = pairwise(answers, metric, confidence, seed=setup.config.seed)[0, 1]
    change = {"value": gain.value, "low": gain.low, "high": gain.high}
    outcome = _told(setup, Outcome(len(found), count, SURE, metric, confidence, change, kept=gain.low > 0))
    return taught if outcome.kept else head, outcome


def _hash(path: Path) -> str:
    """Return a hash over the content of a file, or of the files in a folder."""
    found = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()


def _told(setup: Setup, outcome: Outcome) -> Outcome:
    if is_main_process():
        setup.run.event("notice", message=f"self-training: {outcome.sentence()}")
    return outcome
