"""An option of the user's never fails because of a default of ours: what follows is set to match, and said."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from hftransfer.fitting.matching import matched

USUAL = {"metric_for_best_model": "f1_macro", "num_train_epochs": 3}


@pytest.mark.parametrize(
    ("options", "follows", "words"),
    [
        ({}, ("epoch", "epoch", True), None),
        ({"save_strategy": "steps"}, ("steps", "steps", True), "validation and checkpoints every 20 steps"),
        ({"eval_strategy": "steps"}, ("steps", "steps", True), "validation and checkpoints every 20 steps"),
        ({"save_steps": 7}, ("steps", "steps", True), "train.save_steps=7: validation and checkpoints every 7 steps"),
        ({"eval_steps": 1}, ("steps", "steps", True), "validation and checkpoints every step"),
        ({"eval_steps": 0.25}, ("steps", "steps", True), "every 25% of the steps"),
        ({"eval_strategy": "no"}, ("no", "epoch", False), None),
        ({"save_strategy": "no"}, ("epoch", "no", False), "there are no checkpoints, so the last model is kept"),
        ({"save_strategy": "best"}, ("epoch", "best", True), None),
        ({"save_strategy": "epoch", "eval_strategy": "steps"}, ("steps", "epoch", False), "not written where"),
        ({"eval_steps": 10, "save_steps": 25}, ("steps", "steps", False), "the last model is kept"),
        ({"eval_steps": 10, "save_steps": 30}, ("steps", "steps", True), "every 10 steps, checkpoints every 30"),
        ({"eval_steps": 0.1, "save_steps": 20}, ("steps", "steps", False), "the last model is kept"),
        ({"save_strategy": "steps", "save_steps": 5, "eval_strategy": "steps", "eval_steps": 5},
         ("steps", "steps", True), None),
    ],
)  # fmt: skip
def test_strategies(options: dict[str, Any], follows: tuple[str, str, bool], words: str | None) -> None:
    found, said = matched(options, USUAL, total=200, validated=True)
    assert (found["eval_strategy"], found["save_strategy"], found["load_best_model_at_end"]) == follows
    assert all(found[name] == value for name, value in options.items())
    assert len(said) == (words is not None) and (words is None or words in said[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_steps": 5, "num_train_epochs": 1}, "train.num_train_epochs is not used"),
        ({"prediction_loss_only": True}, "chosen by it"),
        ({"dataloader_prefetch_factor": 2}, "train.dataloader_prefetch_factor=2: this is about processes"),
        ({"save_only_model": True}, "a resume begins with the weights alone"),
    ],
)
def test_said(options: dict[str, Any], words: str) -> None:
    assert [words in sentence for sentence in matched(options, USUAL, 200, True)[1]] == [True]


def test_nothing_is_said_twice_or_for_nothing() -> None:
    for options in ({"max_steps": 5}, {"dataloader_prefetch_factor": 2, "dataloader_num_workers": 1}):
        assert matched(options, USUAL, 200, True)[1] == []
    assert matched({"prediction_loss_only": True}, USUAL, 200, True)[0]["metric_for_best_model"] == "loss"


def test_without_validation_rows_nothing_is_chosen() -> None:
    found, _ = matched({}, {**USUAL, "metric_for_best_model": None}, 200, validated=False)
    assert (found["eval_strategy"], found["save_strategy"], found["load_best_model_at_end"]) == ("no", "epoch", False)


def test_trainings_own_rules_hold_for_every_mixture() -> None:
    """The real class has nothing to say against what was set to match."""
    from transformers import TrainingArguments

    strategies = (None, "no", "steps", "epoch")
    for evaluate, save, often, seldom in itertools.product(
        strategies, (*strategies, "best"), (None, 4), (None, 6, 0.5)
    ):
        options = {"eval_strategy": evaluate, "save_strategy": save, "eval_steps": often, "save_steps": seldom}
        given = {name: value for name, value in options.items() if value is not None}
        TrainingArguments("out", use_cpu=True, **{**matched(given, USUAL, 200, True)[0], **given})
