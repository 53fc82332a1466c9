"""What a method is: a way to adapt the weights; the object of a method's file is its module's `METHOD`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hftransfer.errors import UserError

if TYPE_CHECKING:
    from hftransfer.answers.base import Answer, Rows
    from hftransfer.config import MethodConfig, RunConfig, Section
    from hftransfer.fitting.base import Fitted, Setup
    from hftransfer.modeling.loading import Loaded
    from hftransfer.tasks.base import Task


class Method(ABC):
    """Fit a model to the prepared rows of a Setup."""

    about: ClassVar[str]
    OPTIONS: ClassVar[type[Section] | None] = None  # None: the options are a neighbour's
    learning_rate: ClassVar[float]
    # what an answer must have for this method: a linear target, histories of a catalogue's entries, or nothing
    needs: ClassVar[Literal["linear", "histories"] | None] = None
    projects: ClassVar[bool] = False  # whether it can train a model's last layers alone in place of a linear head
    crosses: ClassVar[bool] = True  # whether it can be trained again on other rows of the same data, for folds
    trains: ClassVar[bool] = True  # whether the weights change
    takes_unlabelled: ClassVar[bool] = False  # whether data.unlabelled can teach it

    inputs: ClassVar[tuple[str, ...]] = ()  # options that name files or folders of this machine

    def try_options(self, config: RunConfig, task: Task, threads: int) -> None:
        """Raise UserError for options that the classes which take them refuse; nothing is loaded yet."""
        return

    def gave_way(self, setup: Setup) -> list[str]:
        """Return a sentence for each default of ours that an option of the user's changed."""
        return []

    def loading(self, config: MethodConfig) -> Mapping[str, Any]:
        """Return what `from_pretrained` needs besides the usual."""
        return {}

    def loads_plainly(self, config: MethodConfig) -> bool:
        """Tell whether `Setup.reload` gives once more what `load` gave."""
        return type(self).load is Method.load and not self.loading(config)

    def load(self, config: RunConfig, task: Task, answer: Answer[Any], processor: Any) -> Loaded:
        """Load the model that this method begins with; UserError for one that this method cannot train."""
        from hftransfer.modeling import loading

        if answer.sees and self.trains and self.needs != "histories":
            raise UserError(
                "a model that reads texts is needed to be trained",
                f"{config.model} sees the items' pictures, and stays as it came",
                "Set method.name=sequence, which learns over its vectors; or zero_shot, which measures them.",
            )  # fmt: skip
        attention = config.speed.attention
        return loading.load_model(config, task, answer, processor, attention, **self.loading(config.method))

    @abstractmethod
    def apply(self, loaded: Loaded, config: MethodConfig) -> Any:
        """Return the model as it trains: parts frozen, or adapters put in."""

    def staged(self, setup: Setup, loaded: Loaded) -> tuple[Setup, Any]:
        """Return the setup and the model as they train: what `check` takes a step of."""
        return setup, self.apply(loaded, setup.config.method)

    def require(self, setup: Setup, loaded: Loaded) -> None:
        """Raise UserError for what `fit` would refuse after a look at data and model; `check` asks."""
        return

    def rehearsed(self, setup: Setup, loaded: Loaded, model: Any) -> Any | None:
        """Return what `apply` gave as the plain model that a fit ends with; None where only a fit can tell."""
        return model

    @abstractmethod
    def fit(self, setup: Setup, loaded: Loaded) -> Fitted:
        """Adapt the loaded model and return a plain one."""

    def work(self, updates: int) -> int:
        """Return the updates that a fit takes in all, those of what is tried before it among them."""
        return updates

    def conclude(self, setup: Setup, fitted: Fitted) -> Fitted:
        """Return what is left to do once the model that `apply` gave was trained: nothing, or to merge parts of it."""
        return fitted

    def predict(self, setup: Setup, fitted: Fitted, split: str) -> Rows:
        """Return the outputs of a split's rows in their order, as `trainer.predict` does."""
        from hftransfer.fitting import trainer

        if split == "validation" and fitted.held_out is not None:
            found: Rows = fitted.held_out
            return found
        return trainer.predict(setup, fitted.model, setup.prepared[split])
