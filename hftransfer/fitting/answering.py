"""What a fitted model answers to validation and test rows, by an answer that the validation rows settled."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from hftransfer.answers.base import Trivial
from hftransfer.evaluation.predictions import Predictions
from hftransfer.fitting import trainer
from hftransfer.fitting.base import Fitted, Setup
from hftransfer.fitting.processes import agreed, is_main_process
from hftransfer.modeling import inference

if TYPE_CHECKING:
    from hftransfer.methods.base import Method


def answers_of(setup: Setup, method: Method, fitted: Fitted) -> tuple[Predictions, Predictions]:
    """Return the outputs on validation and test, not calibrated, beside the truth.

    Their answer has what validation rows say of it: a temperature and thresholds, where these are asked for.
    """
    outputs = {split: method.predict(setup, fitted, split) for split in ("validation", "test")}
    answer, truth = setup.answer, setup.prepared["validation"].truth
    if setup.config.evaluation.calibrate:
        answer = answer.calibrated(truth, outputs["validation"])
    answer = answer.placed(truth, outputs["validation"])
    validation, test = (
        Predictions(
            answer, list(setup.rows[split]["row_id"]), setup.prepared[split].truth, given, setup.groups.get(split)
        )
        for split, given in outputs.items()
    )
    return validation, test


def inputs_of(setup: Setup, split: str) -> dict[str, list[Any]] | None:
    """Return the texts that a model is shown, a list a role, for trivial answers that are made of them."""
    if setup.task.lazy:
        return None
    rows = setup.rows[split]
    return {role.name: list(rows[role.name]) for role in setup.task.shown if role.name in rows.column_names}


def as_it_came(setup: Setup, method: Method, model: Any) -> list[Trivial]:
    """Return what the model answers to the test rows before it is trained, where that is measured beside it."""
    if not (setup.answer.measures_untuned and method.trains):
        return []
    about = "is the pretrained model before any training"
    return [Trivial("the model as it came", about, trainer.predict(setup, model, setup.prepared["test"]))]


def taught(setup: Setup, fitted: Fitted) -> Setup:
    """Return the setup whose answer has what training taught it beside the model's weights."""
    if fitted.answer is None:
        return setup
    return dataclasses.replace(setup, preparation=dataclasses.replace(setup.preparation, answer=fitted.answer))


def weighed(setup: Setup, method: Method, fitted: Fitted) -> Setup:
    """Return the setup whose answer weighs, as validation rows say, what counts beside a model; of others as it is.

    Every process must call. A model that nothing was trained of answers as it came.
    """
    if not (setup.answer.weighs and setup.config.data.crowd and method.trains):
        return setup
    outputs = method.predict(setup, fitted, "validation")
    vectors = knowing(setup, fitted.model).answer.known
    rows, truth = inputs_of(setup, "validation"), setup.prepared["validation"].truth
    found = agreed(lambda: setup.answer.weights(truth, outputs, rows, vectors))
    if is_main_process():
        setup.run.event("notice", message=found["shares"].told())
    before: Any = setup.answer
    answer = dataclasses.replace(before, **found)
    return dataclasses.replace(setup, preparation=dataclasses.replace(setup.preparation, answer=answer))


def others(setup: Setup, fitted: Fitted, test: Predictions, untuned: list[Trivial]) -> list[Trivial]:
    """Return other answers to the test rows: the model's alone where more than it counts, `untuned`, and rivals'."""
    rows, alone = inputs_of(setup, "test"), []
    if test.answer.crowd is not None:
        alone = knowing(setup, fitted.model).answer.unweighed(test.outputs, rows)
    return [*alone, *untuned, *test.answer.rivals(test.truth, rows)]


def knowing(setup: Setup, model: Any) -> Setup:
    """Return the setup whose answer knows what a model makes of its catalogue; of others as it is."""
    entries = setup.prepared["test"].entries
    if entries is None:
        return setup
    with inference.answering(model, alone=True):
        vectors = inference.known_of(setup.answer, model, entries, setup.asking, alone=True)
    answer = setup.answer.knowing(vectors)
    return dataclasses.replace(setup, preparation=dataclasses.replace(setup.preparation, answer=answer))
