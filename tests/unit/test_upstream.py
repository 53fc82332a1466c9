"""Option names read from the neighbours' source are those of the real classes."""

from __future__ import annotations

import dataclasses

import pytest

from hftransfer import upstream


def test_training_options_are_the_fields_of_the_real_class() -> None:
    from transformers import TrainingArguments

    assert set(upstream.training_options()) == {field.name for field in dataclasses.fields(TrainingArguments)}
    assert upstream.training_options()["learning_rate"].default == "5e-05"


def test_peft_methods_are_those_of_the_real_table() -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    assert set(upstream.peft_methods()) == {kind.value.lower() for kind in PEFT_TYPE_TO_CONFIG_MAPPING}


@pytest.mark.parametrize("method", sorted(upstream.peft_methods()))
def test_peft_options_are_the_fields_of_the_real_class(method: str) -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    real = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(method.upper())]
    assert set(upstream.peft_options(method)) == {field.name for field in dataclasses.fields(real)}
