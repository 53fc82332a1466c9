"""probe: a linear head on frozen features, solved to convergence; no weight of the backbone changes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from hftransfer.config import MethodConfig, Section
from hftransfer.errors import UserError, unknown
from hftransfer.methods.base import Method

if TYPE_CHECKING:
    from hftransfer.fitting.base import Fitted, Setup
    from hftransfer.frozen.dense_head import Dense
    from hftransfer.frozen.features import Features
    from hftransfer.frozen.pooling_heads import Family, Form
    from hftransfer.frozen.probing import Head
    from hftransfer.modeling.loading import Loaded

CHECKED_ROWS = 16
AGREE = 1e-4  # between the probabilities of the probe and of the checkpoint made of it


class Options(Section):
    """The options of `probe`."""

    name: str = "probe"
    poolings: tuple[str, ...] = ()  # those to choose among; none: all that the architecture can be given
    strengths: tuple[Annotated[float, Field(gt=0)], ...] = ()  # of the penalty; none: 1e-5 to 3, twice a decade


class Probe(Method):
    """Features computed once, a head for each pooling and strength, the best on validation, as a plain checkpoint."""

    about = "train a linear head on frozen features, in seconds"
    OPTIONS = Options
    learning_rate = 1e-3  # of the one step that `check` takes
    needs = "linear"
    projects = True
    takes_unlabelled = True

    def apply(self, loaded: Loaded, config: MethodConfig) -> Any:
        """Freeze all but the head."""
        from hftransfer.modeling.parts import head_modules

        heads = head_modules(loaded.model)
        for name, parameter in loaded.model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in heads)
        return loaded.model

    def fit(self, setup: Setup, loaded: Loaded) -> Fitted:
        """Compute features, choose and solve the head, and build the checkpoint that answers as it does."""
        from hftransfer.frozen import projections, self_training

        if setup.answer.projects:
            return projections.fit(setup, loaded)
        options = Options.model_validate(setup.config.method.model_dump())
        unlabelled = self_training.read(setup)
        train, validation = features_of(setup, loaded)
        return conclude(setup, loaded, train, validation, options.poolings, options.strengths, unlabelled, both=True)


def conclude(
    setup: Setup,
    loaded: Loaded,
    train: Features,
    validation: Features,
    poolings: tuple[str, ...],
    strengths: tuple[float, ...],
    unlabelled: Setup | None,
    both: bool = False,
) -> Fitted:
    """Choose and solve the head on features, with unlabelled rows if they help, and build the plain checkpoint.

    `both`: on train and validation together, chosen by folds of them, where nothing else has looked at either.
    """
    from hftransfer.fitting.base import Fitted, phase
    from hftransfer.frozen import cross_validation, dense_head, pooling_heads, probing, self_training
    from hftransfer.modeling.parts import count_parameters

    began = time.perf_counter()
    phase(setup, "training")
    offered = pooling_heads.forms(loaded.model, setup.answer, train.pooled, loaded.fresh)
    family = pooling_heads.trainable(loaded.model, setup.answer, train.pooled)
    known = [*(form.name for form in offered), *([dense_head.NAME] if family is not None else [])]
    names = chosen_names(known, poolings)
    chosen = [form for form in offered if form.name in names]
    strengths = strengths or probing.STRENGTHS
    trained: dict[str, Head] = {}
    if family is not None and dense_head.NAME in names:
        dense = train_dense(setup, loaded, family, train, validation)
        chosen.append(pooling_heads.with_dense(loaded.model, family, dense))
        trained = {dense_head.NAME: dense.head}
    model = outcome = held_out = None
    both = both and unlabelled is None and not trained and cross_validation.fits(setup, train, validation)
    while model is None:
        if both:
            head, held_out = solve_on_both(setup, loaded, chosen, train, validation, strengths)
        else:
            head = best_head(setup, loaded, chosen, trained, train, validation, strengths)
        form = next(form for form in chosen if form.name == head.pooling)
        if unlabelled is not None:
            head, outcome = self_training.improve(unlabelled, loaded, form, head, train, validation, strengths)
        model = built(setup, form, head)
        difference = disagreement(setup, loaded, model, form, head)
        if difference > AGREE and form.name != pooling_heads.HEAD:  # it computes otherwise than its family, or rounds
            say(setup, f"{form.name}: the checkpoint would differ from the probe by {difference:.1g}; left out")
            chosen = [other for other in chosen if other is not form] or [pooling_heads.own_form(loaded.model)]
            model = None
    tell(setup, len(train) + (len(validation) if both else 0), head)
    seconds = train.seconds + validation.seconds + time.perf_counter() - began
    return Fitted(
        model=model,
        train_seconds=seconds,
        examples_per_second=len(train) / seconds,
        trainable_parameters=head.weight.size + head.bias.size,
        total_parameters=count_parameters(model)[1],
        steps=0,
        self_training=None if outcome is None else outcome.to_dict(),
        held_out=held_out,
    )


def start_head(setup: Setup, loaded: Loaded) -> None:
    """Put a probe's head into a model that is going to be tuned (LP-FT: Kumar et al. 2022).

    The probe sees what the model's own output layer is shown: no other weight and no setting changes.
    """
    from hftransfer.frozen import pooling_heads

    if setup.checkpoint is not None:
        return  # the weights come from there
    built(setup, pooling_heads.own_form(loaded.model), own_head(setup, loaded)[0])


def own_head(setup: Setup, loaded: Loaded) -> tuple[Head, Any]:
    """Return a head for what the model's own output layer is shown, and what it is shown of the validation rows."""
    from hftransfer.frozen import pooling_heads, probing

    train, validation = features_of(setup, loaded)
    own = pooling_heads.own_form(loaded.model)
    head = solve(setup, loaded, [own], train, validation, probing.STRENGTHS)
    tell(setup, len(train), head)
    return head, own.shown(validation.pooled)


def features_of(setup: Setup, loaded: Loaded) -> tuple[Features, Features]:
    """Return the features of train and validation."""
    from hftransfer.fitting.base import phase
    from hftransfer.frozen import features

    phase(setup, "features")
    train, validation = (features.extract(setup, loaded, split) for split in ("train", "validation"))
    features.tell(setup, (train, validation))
    return train, validation


def chosen_names(known: list[str], names: tuple[str, ...]) -> list[str]:
    """Return the poolings that the options name, or all; UserError for one that this architecture cannot be given."""
    for name in names:
        if name not in known:
            raise unknown("pooling in method.poolings for this model", name, known)
    return [name for name in known if name in names or not names]


def best_head(
    setup: Setup,
    loaded: Loaded,
    chosen: list[Form],
    trained: Mapping[str, Head],
    train: Features,
    validation: Features,
    strengths: Any,
) -> Head:
    """Return the best head on validation of those that were trained with their form and those solved on one."""
    heads = [trained[form.name] for form in chosen if form.name in trained]
    linear = [form for form in chosen if form.name not in trained]
    if linear:
        heads.insert(0, solve(setup, loaded, linear, train, validation, strengths))
    best = min(heads, key=lambda head: head.loss)
    return dataclasses.replace(best, tried={key: loss for head in heads for key, loss in head.tried.items()})


def train_dense(setup: Setup, loaded: Loaded, family: Family, train: Features, validation: Features) -> Dense:
    """Train the dense layer of a model together with its head, and return the same on every process."""
    from accelerate.utils import broadcast_object_list

    from hftransfer.fitting.arguments import class_weights
    from hftransfer.fitting.processes import is_main_process
    from hftransfer.frozen import dense_head

    require_rows(train, validation)
    found: list[Dense | None] = [None]
    if is_main_process():
        found[0] = dense_head.fit(
            train.pooled[family.takes],
            train.targets,
            setup.answer,
            family.activation,
            validation=(validation.pooled[family.takes], validation.targets),
            class_weights=class_weights(setup),
            intercept=has_intercept(setup, loaded),
        )
    dense: Dense = broadcast_object_list(found)[0]
    return dense


def require_rows(train: Features, validation: Features) -> None:
    """Raise UserError where there is nothing to fit or to choose by."""
    if not len(train) or not len(validation):
        raise UserError("rows to fit and to choose by are needed", "a split is empty", "Set data.validation_size.")


def has_intercept(setup: Setup, loaded: Loaded) -> bool:
    """Tell whether the output layer of a model has a bias."""
    from hftransfer.frozen import features

    return loaded.model.get_submodule(features.output_layer(loaded.model, setup.answer)).bias is not None


def solve(
    setup: Setup, loaded: Loaded, chosen: list[Form], train: Features, validation: Features, strengths: Any
) -> Head:
    """Fit a head for each form and return the best, the same on every process."""
    from accelerate.utils import broadcast_object_list

    from hftransfer.fitting.arguments import class_weights
    from hftransfer.frozen import out_of_fold, probing

    require_rows(train, validation)
    head = probing.fit(
        {form.name: form.shown(train.pooled) for form in chosen},
        train.targets,
        out_of_fold.linear_of(setup.answer),
        setup.answer.outputs,
        validation=({form.name: form.shown(validation.pooled) for form in chosen}, validation.targets),
        strengths=strengths,
        class_weights=class_weights(setup),
        intercept=has_intercept(setup, loaded),
    )
    found: Head = broadcast_object_list([head])[0]
    return found


def solve_on_both(
    setup: Setup, loaded: Loaded, chosen: list[Form], train: Features, validation: Features, strengths: Any
) -> tuple[Head, Any]:
    """Return the best head by folds, fitted on train and validation, and its answers to validation rows out of fold.

    They are the same on every process.
    """
    from accelerate.utils import broadcast_object_list

    from hftransfer.fitting.arguments import class_weights
    from hftransfer.fitting.processes import is_main_process
    from hftransfer.frozen import cross_validation

    found: list[Any] = [None]
    if is_main_process():
        found[0] = cross_validation.choose(
            setup, {form.name: (form.shown(train.pooled), form.shown(validation.pooled)) for form in chosen},
            train, validation, strengths, class_weights(setup), has_intercept(setup, loaded),
        )  # fmt: skip
    chosen_one: tuple[Head, Any] = broadcast_object_list(found)[0]
    return chosen_one


def built(setup: Setup, form: Form, head: Head) -> Any:
    """Return the model in a form with the head in it."""
    from hftransfer.frozen import pooling_heads

    model = form.build()
    pooling_heads.set_output(model, setup.answer, head.weight, head.bias)
    return model


def disagreement(setup: Setup, loaded: Loaded, model: Any, form: Form, head: Head) -> float:
    """Return the largest difference between the probabilities of the probe and of the checkpoint on some rows."""
    import numpy as np
    import torch

    from hftransfer.answers._head import logits_of
    from hftransfer.frozen import features, out_of_fold
    from hftransfer.modeling.batches import moved

    target = out_of_fold.linear_of(setup.answer)
    if target.by_part:
        return 0.0  # what the output layer is shown was read off it
    pooled = features.of_first_rows(setup, loaded, "validation", CHECKED_ROWS)
    prepared = setup.prepared["validation"]
    batch = setup.asking(prepared.items(range(min(CHECKED_ROWS, len(prepared)))))
    with torch.inference_mode():
        shown = logits_of(model.eval(), moved(batch, next(model.parameters()).device))
    differences = target.probabilities(shown) - target.probabilities(head.logits(form.shown(pooled)))
    return float(np.abs(differences).max())


def tell(setup: Setup, rows: int, head: Head) -> None:
    """Write what was chosen, with the best loss of each pooling on rows that were held out."""
    from hftransfer.fitting.processes import is_main_process

    if is_main_process():
        losses = {
            pooling: round(min(loss for (name, _), loss in head.tried.items() if name == pooling), 6)
            for pooling in dict.fromkeys(name for name, _ in head.tried)
        }
        setup.run.event("probe", pooling=head.pooling, strength=head.strength, losses=losses, rows=rows)


def say(setup: Setup, message: str) -> None:
    """Write a notice from the main process."""
    from hftransfer.fitting.processes import is_main_process

    if is_main_process():
        setup.run.event("notice", message=message)


METHOD = Probe()
