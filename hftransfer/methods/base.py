"""What a method is: a way to adapt the weights; the object of a method's file is its module's `METHOD`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from hftransfer.config import MethodConfig, RunConfig, Section
    from hftransfer.fitting import Fitted, Setup
    from hftransfer.modeling import Loaded
    from hftransfer.tasks.base import Labels, Task


class Method(ABC):
    """Fit a model to the prepared rows of a Setup."""

    about: ClassVar[str]
    OPTIONS: ClassVar[type[Section] | None] = None  # None: the options are a neighbour's
    learning_rate: ClassVar[float]
    takes_unlabelled: ClassVar[bool] = False  # whether data.unlabelled can teach it

    def loading(self, config: MethodConfig) -> Mapping[str, Any]:
        """Return what `from_pretrained` needs besides the usual."""
        return {}

    def load(self, config: RunConfig, task: Task, labels: Labels, processor: Any) -> Loaded:
        """Load the model that this method begins with."""
        from hftransfer import modeling

        attention = config.speed.attention
        return modeling.load_model(config, task, labels, processor, attention, **self.loading(config.method))

    @abstractmethod
    def apply(self, loaded: Loaded, config: MethodConfig) -> Any:
        """Return the model as it trains: parts frozen, or adapters put in."""

    def require(self, setup: Setup, loaded: Loaded) -> None:
        """Raise UserError for what `fit` would refuse after a look at data and model; `check` asks."""
        return

    @abstractmethod
    def fit(self, setup: Setup, loaded: Loaded) -> Fitted:
        """Adapt the loaded model and return a plain one."""

    def predict(self, setup: Setup, fitted: Fitted, split: str) -> tuple[Any, Any]:
        """Return (truth, logits) of a split's rows in their order, as `fitting.predict` does."""
        from hftransfer import fitting

        return fitting.predict(setup, fitted.model, setup.prepared[split])
