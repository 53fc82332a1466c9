"""What a probe asks of answers that no linear head gives: the last layers alone, trained on what is before them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np


class Projected:
    """The part of an answer that kinds fill in whose model ends in layers that can be trained by themselves."""

    projects: ClassVar[bool] = False  # whether a probe can train the last layers alone

    def last_layers(self, model: Any) -> tuple[str, ...]:
        """Return the names of the modules and parameters that a probe trains; UserError where there are none."""
        raise NotImplementedError

    def before_them(self, model: Any, batch: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
        """Return what the frozen rest makes of each item of a batch: arrays (entries, ...) by name."""
        raise NotImplementedError

    def solved(
        self, model: Any, made: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Yield values of the last layers' parameters by name that rows alone give, with what they are in words."""
        yield from ()

    def behind_them(self, model: Any, made: Mapping[str, Any], counts: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return what the forward pass gives, and the labels, of what `before_them` made.

        `made` are tensors with the entries of all items one after the other, `counts` (items,) how many each has.
        """
        raise NotImplementedError
