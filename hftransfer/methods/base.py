"""What a method is: a way to adapt the weights; the object of a method's file is its module's `METHOD`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from hftransfer.config import MethodConfig, Section
    from hftransfer.fitting import Fitted, Setup
    from hftransfer.modeling import Loaded


class Method(ABC):
    """Fit a model to the prepared rows of a Setup."""

    about: ClassVar[str]
    OPTIONS: ClassVar[type[Section] | None] = None  # None: the options are a neighbour's
    learning_rate: ClassVar[float]

    def loading(self, config: MethodConfig) -> Mapping[str, Any]:
        """Return what `from_pretrained` needs besides the usual."""
        return {}

    @abstractmethod
    def apply(self, loaded: Loaded, config: MethodConfig) -> Any:
        """Return the model as it trains: parts frozen, or adapters put in."""

    @abstractmethod
    def fit(self, setup: Setup, loaded: Loaded) -> Fitted:
        """Adapt the loaded model and return a plain one."""
