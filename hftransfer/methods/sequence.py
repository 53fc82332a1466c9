"""sequence: a small causal transformer over the frozen model's vectors of what somebody had, for long histories."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from hftransfer.config import MethodConfig, RunConfig, Section
from hftransfer.errors import UserError
from hftransfer.methods.base import Method

if TYPE_CHECKING:
    from hftransfer.fitting.base import Fitted, Setup
    from hftransfer.modeling.loading import Loaded
    from hftransfer.tasks.base import Task


class Options(Section):
    """The options of `sequence`."""

    name: str = "sequence"
    layers: Annotated[int, Field(ge=1, le=12)] = 2
    heads: Annotated[int, Field(ge=1, le=16)] = 2
    width: Annotated[int, Field(ge=8, le=1024)] = 128  # numbers of a place inside, a multiple of the heads
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2


class Sequence(Method):
    """The model makes a vector of each entry once; a transformer of its own reads histories of them."""

    about = "train a small causal transformer over the frozen model's vectors of what somebody had, for long histories"
    OPTIONS = Options
    learning_rate = 1e-3
    needs = "histories"

    def try_options(self, config: RunConfig, task: Task, threads: int) -> None:
        """Ask TrainingArguments and Trainer."""
        from hftransfer.fitting import arguments

        options = Options.model_validate(config.method.model_dump())
        if options.width % options.heads:
            raise UserError(
                "a multiple of method.heads is needed as method.width",
                f"{options.width} is none of {options.heads}", "Set both.",
            )  # fmt: skip
        arguments.rehearse(config, task, self.learning_rate, threads)

    def gave_way(self, setup: Setup) -> list[str]:
        """Return what of Trainer's options was set to match the user's."""
        from hftransfer.fitting import arguments

        return arguments.gave_way(setup, self.learning_rate)

    def apply(self, loaded: Loaded, config: MethodConfig) -> Any:
        """Freeze every weight: what trains stands beside the model."""
        return loaded.model.requires_grad_(False)

    def staged(self, setup: Setup, loaded: Loaded) -> tuple[Setup, Any]:
        """Return sequences of the catalogue's entries, and the transformer that learns what comes next of them."""
        from hftransfer.frozen import sequences

        self.apply(loaded, setup.config.method)
        options = Options.model_validate(setup.config.method.model_dump())
        return sequences.staged(setup, loaded.model, options.width, options.layers, options.heads, options.dropout)

    def rehearsed(self, setup: Setup, loaded: Loaded, model: Any) -> Any | None:
        """Return the frozen model, which answers as it came before there is anything beside it."""
        return loaded.model

    def fit(self, setup: Setup, loaded: Loaded) -> Fitted:
        """Compute the vectors, train the transformer with Trainer, and put it beside the model as it came."""
        from hftransfer.fitting import trainer

        inner, model = self.staged(setup, loaded)
        fitted = trainer.descend(inner, model, self.learning_rate)
        answer = setup.answer.reading(fitted.model)
        return dataclasses.replace(fitted, model=loaded.model, answer=answer)


METHOD = Sequence()
