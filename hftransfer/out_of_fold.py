"""What a probe and nearest neighbours answer to rows that they were not fitted on: for rank, and for label issues."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from hftransfer import evaluation, fitting, probing
from hftransfer.features import Features
from hftransfer.fitting import Setup
from hftransfer.probing import Head
from hftransfer.tasks.base import Labels

FOLDS = 5
NEIGHBOURS = 10


def with_some_rows(setup: Setup, most: int, split: str = "train") -> tuple[Setup, np.ndarray]:
    """Return a setup whose split has no more than `most` rows, drawn with the seed, and their places in it."""
    rows = setup.rows[split]
    if len(rows) <= most:
        return setup, np.arange(len(rows))
    chosen = np.sort(np.random.default_rng(setup.config.seed).permutation(len(rows))[:most])
    some = rows.select(chosen)
    prepared = setup.task.prepare(some, setup.processor, setup.preparation, training=split == "train")
    changed = dataclasses.replace(
        setup,
        rows={**setup.rows, split: some},
        prepared={**setup.prepared, split: prepared},
        fingerprints={**setup.fingerprints, split: f"{setup.fingerprints[split]}:{most}:{setup.config.seed}"},
    )
    return changed, chosen


def assign(features: Features, labels: Labels, seed: int) -> np.ndarray:
    """Return a fold (n,) for each entry: stratified by label where a row has one, whole rows where it has several."""
    rng = np.random.default_rng(seed)
    rows = int(features.rows.max()) + 1
    if labels.kind != "single_label":
        return np.asarray((rng.permutation(rows) % FOLDS)[features.rows])
    order = np.lexsort((rng.random(len(features)), features.targets))
    found = np.empty(len(features), np.int64)
    found[order] = np.arange(len(features)) % FOLDS
    return found


def probe(features: Features, labels: Labels, folds: np.ndarray) -> tuple[np.ndarray, Head]:
    """Return the logits (n, k) of every entry by a probe that was fitted without its fold, and the first fold's probe.

    Pooling and strength are chosen on the first fold, and kept for the others.
    """
    outputs, kind = labels.outputs, labels.kind
    logits = np.empty((len(features), outputs))
    first, rest = folds == 0, folds != 0
    chosen = probing.fit(
        _of(features.pooled, rest), features.targets[rest], kind, outputs,
        validation=(_of(features.pooled, first), features.targets[first]),
    )  # fmt: skip
    values = features.pooled[chosen.pooling]
    logits[first] = chosen.logits(values[first])
    for fold in range(1, FOLDS):
        inside, outside = folds == fold, folds != fold
        head = probing.fit(values[outside], features.targets[outside], kind, outputs, strengths=[chosen.strength])
        logits[inside] = head.logits(values[inside])
    return logits, chosen


def neighbours(values: np.ndarray, targets: np.ndarray, labels: Labels, folds: np.ndarray) -> np.ndarray:
    """Return scores (n, k), or values (n, 1) of a regression: the mean over the nearest entries of the other folds.

    Near is a high cosine of the centred features.
    """
    centred = values - values.mean(axis=0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    aims = np.eye(labels.outputs)[targets] if labels.kind in ("single_label", "tags") else targets
    aims = np.asarray(aims, np.float64).reshape(len(targets), -1)
    found = np.empty_like(aims)
    for fold in range(FOLDS):
        others = np.flatnonzero(folds != fold)
        for part in np.array_split(np.flatnonzero(folds == fold), 1 + len(values) // 5000):
            near = np.argpartition(-(centred[part] @ centred[others].T), NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
            found[part] = aims[others[near]].mean(axis=1)
    return found


def predictions(features: Features, labels: Labels, logits: np.ndarray) -> evaluation.Predictions:
    """Return answers as evaluation takes them: of tags, those of a sentence together."""
    targets: Any = features.targets
    if labels.kind == "tags":
        starts = np.flatnonzero(np.diff(features.rows)) + 1
        return fitting.predictions(labels, np.split(targets, starts), np.split(logits, starts))
    return fitting.predictions(labels, targets, logits)


def _of(pooled: Mapping[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[mask] for name, values in pooled.items()}
