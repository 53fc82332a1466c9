"""What a probe and nearest neighbours answer to rows that they were not fitted on: for rank, and for label issues."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hftransfer.answers._linear import LinearTarget
from hftransfer.answers.base import Answer
from hftransfer.evaluation.predictions import Predictions
from hftransfer.fitting.base import Setup
from hftransfer.frozen import probing
from hftransfer.frozen.features import Features
from hftransfer.frozen.probing import Head
from hftransfer.modeling.prepared import prepare

FOLDS = 5
NEIGHBOURS = 10


FEWEST_ROWS = 200  # that are looked at however long they are
MOST_TOKENS = 500_000  # of the texts of one split that a look at rows reads


def affordable(setup: Setup, most: int, split: str = "train") -> int:
    """Return how many rows of a split a look may read: `most`, and of long texts so many as have MOST_TOKENS.

    Then ten thousand tweets and a thousand e-mails take a model as long.
    """
    lengths = setup.prepared[split].lengths
    if lengths is None or not len(lengths):
        return most
    return min(most, max(FEWEST_ROWS, int(MOST_TOKENS / max(1.0, float(lengths.mean())))))


def with_some_rows(setup: Setup, most: int, split: str = "train") -> tuple[Setup, np.ndarray]:
    """Return a setup whose split has no more than `most` rows, drawn with the seed, and their places in it."""
    rows = setup.rows[split]
    if len(rows) <= most:
        return setup, np.arange(len(rows))
    chosen = np.sort(np.random.default_rng(setup.config.seed).permutation(len(rows))[:most])
    some = rows.select(chosen)
    prepared = prepare(setup.task, some, setup.processor, setup.preparation, training=split == "train")
    changed = dataclasses.replace(
        setup,
        rows={**setup.rows, split: some},
        prepared={**setup.prepared, split: prepared},
        fingerprints={**setup.fingerprints, split: f"{setup.fingerprints[split]}:{most}:{setup.config.seed}"},
        groups={use: [names[i] for i in chosen] if use == split else names for use, names in setup.groups.items()},
    )
    return changed, chosen


def assign(features: Features, answer: Answer[Any], seed: int, groups: Sequence[str] | None = None) -> np.ndarray:
    """Return a fold (n,) for each entry: stratified by label where a row has one, whole rows where it has several.

    Whole groups of rows where there are enough: a patient of whom a probe has seen a picture is no new one.
    """
    rng = np.random.default_rng(seed)
    rows = int(features.rows.max()) + 1
    if groups is not None and len(set(groups)) >= FOLDS:
        return _whole_groups(features, answer, seed, np.unique(np.asarray(groups), return_inverse=True)[1])
    if not linear_of(answer).stratified:
        return np.asarray((rng.permutation(rows) % FOLDS)[features.rows])
    order = np.lexsort((rng.random(len(features)), features.targets))
    found = np.empty(len(features), np.int64)
    found[order] = np.arange(len(features)) % FOLDS
    return found


def _whole_groups(features: Features, answer: Answer[Any], seed: int, codes: np.ndarray) -> np.ndarray:
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    of = codes[features.rows]
    stratified = linear_of(answer).stratified
    folds = (StratifiedGroupKFold if stratified else GroupKFold)(FOLDS, shuffle=True, random_state=seed)
    found = np.empty(len(features), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer rows than folds
        for fold, (_, inside) in enumerate(folds.split(of, features.targets if stratified else None, of)):
            found[inside] = fold
    return found


def probe(features: Features, answer: Answer[Any], folds: np.ndarray) -> tuple[np.ndarray, Head]:
    """Return the logits (n, k) of every entry by a probe that was fitted without its fold, and the first fold's probe.

    Pooling and strength are chosen on the first fold, and kept for the others.
    """
    outputs, target = answer.outputs, linear_of(answer)
    logits = np.empty((len(features), outputs))
    first, rest = folds == 0, folds != 0
    chosen = probing.fit(
        _of(features.pooled, rest), features.targets[rest], target, outputs,
        validation=(_of(features.pooled, first), features.targets[first]),
    )  # fmt: skip
    values = features.pooled[chosen.pooling]
    logits[first] = chosen.logits(values[first])
    for fold in range(1, FOLDS):
        inside, outside = folds == fold, folds != fold
        head = probing.fit(values[outside], features.targets[outside], target, outputs, strengths=[chosen.strength])
        logits[inside] = head.logits(values[inside])
    return logits, chosen


def neighbours(values: np.ndarray, targets: np.ndarray, answer: Answer[Any], folds: np.ndarray) -> np.ndarray:
    """Return scores (n, k), or values (n, 1) of a regression: the mean over the nearest entries of the other folds.

    Near is a high cosine of the centred features.
    """
    centred = values - values.mean(axis=0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    aims = linear_of(answer).aims(targets, answer.outputs)
    found = np.empty_like(aims)
    for fold in range(FOLDS):
        others = np.flatnonzero(folds != fold)
        for part in np.array_split(np.flatnonzero(folds == fold), 1 + len(values) // 5000):
            near = np.argpartition(-(centred[part] @ centred[others].T), NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
            found[part] = aims[others[near]].mean(axis=1)
    return found


def predictions(
    features: Features, answer: Answer[Any], logits: np.ndarray, groups: Sequence[str] | None = None
) -> Predictions:
    """Return answers as evaluation takes them, by row."""
    truth, outputs = answer.of_entries(features.targets, logits, features.rows)
    return Predictions(answer, [str(i) for i in range(len(truth))], truth, outputs, groups)


def linear_of(answer: Answer[Any]) -> LinearTarget:
    """Return what a linear head is fitted to; who asks has made sure that there is something."""
    if answer.linear is None:
        raise ValueError(f"no linear head gives answers of {answer.called}")
    return answer.linear


def _of(pooled: Mapping[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[mask] for name, values in pooled.items()}
