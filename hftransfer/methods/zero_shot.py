"""zero_shot: the pretrained model on the task as it is; nothing is trained, and train rows are not looked at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from hftransfer.config import MethodConfig, Section
from hftransfer.errors import UserError
from hftransfer.methods.base import Method

if TYPE_CHECKING:
    from hftransfer.answers.base import Rows
    from hftransfer.fitting.base import Fitted, Setup
    from hftransfer.frozen.zero_shot import Way
    from hftransfer.modeling.loading import Loaded


def _template(value: str) -> str:
    if value.count("{}") != 1:
        raise ValueError("a sentence with one {} where the label's name goes")
    return value


def _premise(value: str) -> str:
    if value.count("{}") != 2:
        raise ValueError("a text with two {} where the two texts go")
    return value


class Options(Section):
    """The options of `zero_shot`."""

    name: str = "zero_shot"
    templates: tuple[Annotated[str, AfterValidator(_template)], ...] = ()  # none: the task's own for each way
    premise: Annotated[str, AfterValidator(_premise)] | None = None  # of a pair of texts; none: the task's own


class ZeroShot(Method):
    """Ask the model's own head, entailment, similarity of embeddings, or pictures beside prompts: what it can."""

    about = "train nothing: ask the pretrained model as it is"
    trains = False
    OPTIONS = Options
    learning_rate = 0.0

    def apply(self, loaded: Loaded, config: MethodConfig) -> Any:
        """Leave the model as it is: nothing trains."""
        loaded.model.requires_grad_(False)
        return loaded.model

    def require(self, setup: Setup, loaded: Loaded) -> None:
        """Find a way to answer, or raise UserError."""
        way_of(setup, loaded)

    def rehearsed(self, setup: Setup, loaded: Loaded, model: Any) -> Any | None:
        """Return the model that answers, where a folder can hold it."""
        way = way_of(setup, loaded)
        return way.model if way.plain else None

    def fit(self, setup: Setup, loaded: Loaded) -> Fitted:
        """Find the way in which the model can answer; UserError when there is none."""
        from hftransfer.fitting.base import Fitted, phase
        from hftransfer.fitting.processes import is_main_process
        from hftransfer.modeling.parts import count_parameters

        began = time.perf_counter()
        phase(setup, "asking")
        way = way_of(setup, loaded)
        if is_main_process():
            setup.run.event("notice", message=f"zero_shot: {way.about}")
        return Fitted(
            model=way.model,
            train_seconds=round(time.perf_counter() - began, 3),
            examples_per_second=0.0,
            trainable_parameters=0,
            total_parameters=count_parameters(way.model)[1],
            steps=0,
            plain=way.plain,
        )

    def predict(self, setup: Setup, fitted: Fitted, split: str) -> Rows:
        """Ask row by row, or once for each label where the answer is whether it is entailed."""
        from hftransfer.fitting import trainer
        from hftransfer.frozen import zero_shot

        if isinstance(fitted.model, zero_shot.Entailment):
            return zero_shot.ask(setup, fitted.model, split)
        return trainer.predict(setup, fitted.model, setup.prepared[split])


NEEDS = {
    "entailment": "an entailment model (NLI)",
    "similarity": "a text encoder, for similarity",
    "image_text": "an image-text model (CLIP, SigLIP)",
}


def way_of(setup: Setup, loaded: Loaded) -> Way:
    """Return the way in which the model can answer; UserError that names what could."""
    from hftransfer.frozen import zero_shot

    options = Options.model_validate(setup.config.method.model_dump())
    way = zero_shot.find(setup, loaded, options.templates, options.premise)
    if way is None:
        known = ", ".join(setup.answer.names[:5]) or "numbers"
        solved = setup.answer.linear is not None or setup.answer.projects
        better = "method.name=probe, which needs seconds" if solved else "method.name=full"
        raise UserError(
            f"method.name=zero_shot needs {_needed(setup)}",
            f"{setup.config.model} is {type(loaded.model.base_model).__name__}, without a head for {known}",
            f"Use {better}, or another model.",
        )
    return way


def _needed(setup: Setup) -> str:
    target = setup.answer.linear
    if target is None:
        return "a model that was trained to give such answers: the weights that would are new here"
    if target.numeric:
        return "a model whose own head gives one number: a number has no name that could be asked for"
    if target.by_part:
        return "a model whose own tags are those of the data: the words of a sentence are asked for nothing else"
    ways = [NEEDS[way] for way in setup.task.direct]
    return " or ".join(["a model that can answer as it is: one whose own labels are those of the data", *ways])


METHOD = ZeroShot()
