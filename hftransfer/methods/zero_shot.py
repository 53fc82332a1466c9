"""zero_shot: the pretrained model on the task as it is; nothing is trained, and train rows are not looked at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from hftransfer.config import MethodConfig, Section
from hftransfer.errors import UserError
from hftransfer.methods.base import Method

if TYPE_CHECKING:
    from hftransfer.direct import Way
    from hftransfer.fitting import Fitted, Setup
    from hftransfer.modeling import Loaded


def _template(value: str) -> str:
    if value.count("{}") != 1:
        raise ValueError("a sentence with one {} where the label's name goes")
    return value


class Options(Section):
    """The options of `zero_shot`."""

    name: str = "zero_shot"
    templates: tuple[Annotated[str, AfterValidator(_template)], ...] = ()  # none: the task's own for each way


class ZeroShot(Method):
    """Ask the model's own head, entailment, similarity of embeddings, or pictures beside prompts: what it can."""

    about = "train nothing: ask the pretrained model as it is"
    OPTIONS = Options
    learning_rate = 0.0

    def apply(self, loaded: Loaded, config: MethodConfig) -> Any:
        """Leave the model as it is: nothing trains."""
        loaded.model.requires_grad_(False)
        return loaded.model

    def require(self, setup: Setup, loaded: Loaded) -> None:
        """Find a way to answer, or raise UserError."""
        way_of(setup, loaded)

    def fit(self, setup: Setup, loaded: Loaded) -> Fitted:
        """Find the way in which the model can answer; UserError when there is none."""
        from hftransfer import fitting, modeling

        began = time.perf_counter()
        way = way_of(setup, loaded)
        if fitting.is_main_process():
            setup.run.event("notice", message=f"zero_shot: {way.about}")
        return fitting.Fitted(
            model=way.model,
            train_seconds=round(time.perf_counter() - began, 3),
            examples_per_second=0.0,
            trainable_parameters=0,
            total_parameters=modeling.count_parameters(way.model)[1],
            steps=0,
            plain=way.plain,
        )

    def predict(self, setup: Setup, fitted: Fitted, split: str) -> tuple[Any, Any]:
        """Ask row by row, or once for each label where the answer is whether it is entailed."""
        from hftransfer import direct, fitting

        if isinstance(fitted.model, direct.Entailment):
            return direct.ask(setup, fitted.model, split)
        return fitting.predict(setup, fitted.model, setup.prepared[split])


NEEDS = {
    "entailment": "an entailment model (NLI)",
    "similarity": "a text encoder, for similarity",
    "image_text": "an image-text model (CLIP, SigLIP)",
}


def way_of(setup: Setup, loaded: Loaded) -> Way:
    """Return the way in which the model can answer; UserError that names what could."""
    from hftransfer import direct

    options = Options.model_validate(setup.config.method.model_dump())
    way = direct.find(setup, loaded, options.templates)
    if way is None:
        raise UserError(
            "method.name=zero_shot needs a model that can answer as it is: "
            + " or ".join(["one whose own labels are those of the data", *(NEEDS[way] for way in setup.task.direct)]),
            f"{setup.config.model} is {type(loaded.model.base_model).__name__}, without a head for "
            + (", ".join(setup.labels.names[:5]) or "numbers"),
            "Use method.name=probe, which needs seconds, or another model.",
        )
    return way


METHOD = ZeroShot()
