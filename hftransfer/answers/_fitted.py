"""What an answer and what reads for a model must know of one another: a vocabulary, the marks of a language."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from hftransfer.answers._projected import Projected


class Fitted(Projected):
    """The part of an answer that kinds fill in whose model reads and writes in a way of its own."""

    sums: ClassVar[bool] = False  # whether `validation` takes the sum over rows of what `reduce` gives, and no truth
    cuts_targets: ClassVar[bool] = True  # whether the beginning of a target that is too long can be learnt
    refuses_long: ClassVar[bool] = False  # whether one that no decoder takes is a mistake, and not merely long

    def reads(
        self, processor: Any, settings: Any, generation: Any, trains: bool = True
    ) -> tuple[Self, Any, list[str]]:
        """Return the answer and what reads for a model, fitted to one another, and what is to be said of that.

        `settings` are the model's config, `generation` its settings of generation (None: it has none);
        `trains` tells whether the model is going to be trained.
        """
        return self, processor, []

    @property
    def in_pipeline(self) -> str:
        """How transformers' own pipeline is told, as Python writes it, which of its answers is meant."""
        return ""

    def scores_given(self, processor: Any) -> int | None:
        """Return how many tokens a model must have outputs for; None where they are what it came with."""
        return None

    @property
    def widened(self) -> int:
        """How many tokens a model's last layer has to give a score to besides its own."""
        return 0

    @property
    def renewed(self) -> bool:
        """Whether a model's last layer is of another vocabulary, and must be made anew."""
        return False
