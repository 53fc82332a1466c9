"""A probe fitted on train and validation together: chosen by folds, with what it answers to validation rows unseen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hftransfer.answers.base import Rows
from hftransfer.fitting.base import Setup
from hftransfer.frozen import out_of_fold, probing
from hftransfer.frozen.features import Features
from hftransfer.frozen.out_of_fold import FOLDS
from hftransfer.frozen.probing import Head

MOST = 20_000  # entries; beyond, validation rows alone tell enough, and a tenth more rows to learn from is little
LEAST = 4 * FOLDS  # entries; of fewer, folds lack classes


def fits(setup: Setup, train: Features, validation: Features) -> bool:
    """Tell whether folds may choose: entries are rows, and neither too many nor too few."""
    target = setup.answer.linear
    if target is None or target.by_part or not len(validation):
        return False
    return LEAST <= len(train) + len(validation) <= MOST


def choose(
    setup: Setup,
    shown: Mapping[str, tuple[np.ndarray, np.ndarray]],
    train: Features,
    validation: Features,
    strengths: Sequence[float],
    class_weights: Sequence[float] | None,
    intercept: bool,
) -> tuple[Head, Rows]:
    """Return the head of the pooling and penalty with the lowest loss over folds, fitted on all rows, and its answers.

    `shown` holds (train, validation) features (n, d) by pooling. The answers are to the validation rows, in order, by
    heads that were fitted without their fold; `head.loss` is the mean over all folds. Rows of one group share a fold.
    """
    answer, target = setup.answer, out_of_fold.linear_of(setup.answer)
    joined = dataclasses.replace(
        train,
        pooled={name: np.concatenate(both) for name, both in shown.items()},
        targets=np.concatenate([train.targets, validation.targets]),
        rows=np.arange(len(train) + len(validation)),
    )
    groups = [*setup.groups.get("train", ()), *setup.groups.get("validation", ())]
    folds = out_of_fold.assign(joined, answer, setup.config.seed, groups or None)
    options: dict[str, Any] = {"class_weights": class_weights, "intercept": intercept}
    sums: dict[tuple[str, float], list[float]] = {}
    for fold in range(FOLDS):
        inside = folds == fold
        head = probing.fit(
            {name: values[~inside] for name, values in joined.pooled.items()}, joined.targets[~inside], target,
            answer.outputs, strengths=strengths, **options,
            validation=({name: v[inside] for name, v in joined.pooled.items()}, joined.targets[inside]),
        )  # fmt: skip
        for key, loss in head.tried.items():
            sums.setdefault(key, []).append(loss * int(inside.sum()))
    tried = {key: sum(found) / len(joined) for key, found in sums.items() if len(found) == FOLDS}
    pooling, strength = min(tried, key=lambda key: (tried[key], -key[1]))
    values = joined.pooled[pooling]
    logits = np.empty((len(joined), answer.outputs))
    for fold in range(FOLDS):
        inside = folds == fold
        head = probing.fit(
            values[~inside], joined.targets[~inside], target, answer.outputs, strengths=[strength], **options
        )
        logits[inside] = head.logits(values[inside])
    whole = probing.fit(values, joined.targets, target, answer.outputs, strengths=[strength], **options)
    _, outputs = answer.of_entries(validation.targets, logits[len(train) :], validation.rows)
    return dataclasses.replace(whole, pooling=pooling, loss=tried[pooling, strength], tried=tried), outputs
