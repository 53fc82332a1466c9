"""text: what `generate` writes, and the likelihood of the true text's tokens: translation, summaries."""

from __future__ import annotations

from dataclasses import dataclass

from hftransfer.answers._prose import Prose


@dataclass(frozen=True)
class Text(Prose):
    """Truth is a list of texts, outputs are a list of Generated: see Prose."""

    kind = "text"
    heeds = frozenset({"long_targets", "max_new_tokens", "max_target_length", "num_beams"})
    typed = str


ANSWER = Text()
