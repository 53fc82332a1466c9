"""Option names read from the neighbours' source are those of the real classes."""

from __future__ import annotations

import dataclasses

import pytest

from hftransfer.upstream.options import peft_methods, peft_options, training_options


def test_training_options_are_the_fields_of_the_real_class() -> None:
    from transformers import TrainingArguments

    assert set(training_options()) == {field.name for field in dataclasses.fields(TrainingArguments)}
    assert training_options()["learning_rate"].default == "5e-05"


def test_peft_methods_are_those_of_the_real_table() -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    assert set(peft_methods()) == {kind.value.lower() for kind in PEFT_TYPE_TO_CONFIG_MAPPING}


@pytest.mark.parametrize("method", sorted(peft_methods()))
def test_peft_options_are_the_fields_of_the_real_class(method: str) -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    real = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(method.upper())]
    assert set(peft_options(method)) == {field.name for field in dataclasses.fields(real)}
