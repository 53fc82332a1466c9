"""The values of the neighbours' options are judged before anything is loaded, as the real classes would."""

from __future__ import annotations

import dataclasses
import importlib
from enum import Enum
from typing import Any

import pytest

from hftransfer import catalog
from hftransfer.errors import ConfigError
from hftransfer.upstream import values
from hftransfer.upstream.options import Option, peft_methods, peft_options, training_options
from tests.options_alone import free, sensible

MINIMAL = {"task": "text-classification", "model": "m", "data": {"source": "rows.csv"}}
METHODS = ("lora", "adalora", "ia3", "vera", "oft", "loha", "fourierft", "ln_tuning", "randlora", "miss")
WRONG = ([[1]], {"a": [1]}, "no such word", True, -7.5, float("nan"))  # of every type that YAML has


def problems(**sections: Any) -> dict[str, str]:
    try:
        catalog.build_config({**MINIMAL, **sections})
    except ConfigError as error:
        return {problem.path: problem.message for problem in error.problems}
    return {}


def told(message: str) -> bool:
    return (
        message.startswith(("wanted ", "set by hftransfer; ")) and message.endswith((".", "?")) and "found" in message
    )


@pytest.mark.parametrize("option", [o for o in training_options().values() if free(o)], ids=lambda o: o.name)
def test_sensible_values_are_taken(option: Option) -> None:
    for value in sensible(option):
        assert problems(train={option.name: value}) == {}, value


@pytest.mark.parametrize("option", [o for o in training_options().values() if free(o)], ids=lambda o: o.name)
def test_each_training_option_refuses_values_of_another_type(option: Option) -> None:
    refused = [value for value in WRONG if problems(train={option.name: value})]
    assert len(refused) >= 3, f"{option.name} takes {[v for v in WRONG if v not in refused]}"
    for value in refused:
        found = problems(train={option.name: value})[f"train.{option.name}"]
        assert told(found), found


@pytest.mark.parametrize("method", METHODS)
def test_each_peft_option_refuses_values_of_another_type(method: str) -> None:
    for option in peft_options(method).values():
        if option.name in ("peft_type", "auto_mapping"):
            continue
        refused = [value for value in WRONG if problems(method={"name": method, option.name: value})]
        assert len(refused) >= 2, option
        for value in refused:
            found = problems(method={"name": method, option.name: value})[f"method.{option.name}"]
            assert told(found), found


@pytest.mark.parametrize("method", sorted(peft_methods()))
def test_the_neighbours_own_defaults_are_taken(method: str) -> None:
    """A type or a range that refuses what the class itself begins with would be ours alone."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    real = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(method.upper())]
    for field in dataclasses.fields(real):
        if isinstance(field.default, bool | int | float | str | list | dict | None):
            default = field.default.value if isinstance(field.default, Enum) else field.default
            values.read(peft_options(method)[field.name], default)


def test_the_defaults_of_training_arguments_are_taken() -> None:
    from transformers import TrainingArguments

    for field in dataclasses.fields(TrainingArguments):
        if isinstance(field.default, bool | int | float | str | None):
            values.read(training_options()[field.name], field.default)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("learning_rate", "fast", "wanted a number of 0 or more; found 'fast'."),
        ("num_train_epochs", -3, "wanted a number above 0; found -3."),
        ("per_device_train_batch_size", 2.5, "wanted a whole number of 1 or more; found 2.5."),
        ("max_steps", 0, "wanted a whole number of 1 or more, or -1 for all epochs; found 0."),
        ("eval_strategy", "epochs", "wanted no, steps or epoch; found 'epochs'. Did you mean 'epoch'?"),
        ("bf16", "yes", "wanted true or false; found 'yes'."),
        ("bf16", 2, "wanted true or false; found 2."),
        ("save_steps", 2.5, "above 0: a number of steps, or below 1 a share of them; found 2.5."),
        ("weight_decay", float("inf"), "that is finite; found inf."),
        ("learning_rate", None, "wanted a number of 0 or more; found nothing."),
        ("lr_scheduler_kwargs", "min_lr", "wanted a mapping, or the path of a JSON file that holds one"),
        ("parallelism_config", {"tp_size": 2}, "which only Python code can make"),
        ("include_for_metrics", "inputs", "Write [inputs]."),
        ("optim", "adamw_tork", "wanted one of 41 words; found 'adamw_tork'. Did you mean 'adamw_torch'?"),
        ("log_level", "loud", "wanted debug, info, warning, error, critical or passive; found 'loud'."),
    ],
)
def test_words(name: str, value: Any, words: str) -> None:
    found = problems(train={name: value})[f"train.{name}"]
    if name == "optim":  # the number of optimizers is transformers' own
        words = words.replace("41", str(len(training_options()["optim"].takes.choices)))
    assert words in found


def test_all_at_once_and_with_the_methods() -> None:
    found = problems(
        train={"learning_rate": "fast", "num_train_epochs": 0},
        method={"name": "lora", "r": 0, "lora_dropout": 1, "bias": "al", "init_lora_weights": "pissa_niter_x"},
    )
    assert set(found) == {
        "train.learning_rate", "train.num_train_epochs", "method.r", "method.lora_dropout", "method.bias",
        "method.init_lora_weights",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("learning_rate", "1e-4", 1e-4), ("max_steps", 1e3, 1000), ("max_steps", "20", 20), ("bf16", "False", False),
        ("bf16", 1, True),
        ("run_name", 2026, "2026"), ("learning_rate", 1, 1), ("report_to", ["none"], ["none"]),
        ("gradient_checkpointing_kwargs", '{"use_reentrant": false}', '{"use_reentrant": false}'),
    ],
)  # fmt: skip
def test_numbers_that_came_as_text_are_read(name: str, given: Any, read: Any) -> None:
    found = catalog.build_config({**MINIMAL, "train": {name: given}}).train.options[name]
    assert found == read and type(found) is type(read)


@pytest.mark.parametrize("value", ["gaussian", "pissa_niter_16", True])
def test_words_with_a_number_in_them(value: Any) -> None:
    built = catalog.build_config({**MINIMAL, "method": {"name": "lora", "init_lora_weights": value}})
    assert built.method.options == {"init_lora_weights": value}


def test_ranges_are_of_options_that_exist() -> None:
    known = {*training_options(), *(name for method in peft_methods() for name in peft_options(method))}
    assert {*values.RANGES, *values.WORDS} <= known
    log_levels = importlib.import_module("transformers.training_args").trainer_log_levels
    assert set(values.WORDS["log_level"]) == set(values.WORDS["log_level_replica"])
    assert set(values.WORDS["log_level"]) <= set(log_levels)
