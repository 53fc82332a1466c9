"""A Whisper's encoder on clips far below its 30 seconds, at a length of its own while it trains.

It is always shown 30 seconds, of which silence fills up most where clips are short, and costs the same for each. While
training, what is silent at the end of every clip of a batch is left out, and so are the positions behind. Asked, it
sees 30 seconds, as whoever uses it later has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

STEP = 50  # positions that lengths are rounded up to, a second: few shapes make kernels quick
PLACES = 50  # positions a second
BEHIND = 25  # positions of silence that stay


def shortened(model: Any) -> Any:
    """Return the model, whose encoder leaves out the silence at the end of a batch while it trains."""
    from transformers.models.whisper.modeling_whisper import WhisperEncoder  # for models that write, and no others

    for encoder in [module for module in model.modules() if isinstance(module, WhisperEncoder)]:
        short = _Short(encoder)
        encoder.register_forward_pre_hook(short.begin, with_kwargs=True)
        encoder.register_forward_hook(short.end, always_call=True)
    return model


def encoded(encoder: WhisperEncoder, features: torch.Tensor, places: int) -> torch.Tensor:
    """Return the states (n, places, d) of features (n, bands, frames) that are silent behind so many positions."""
    short = _Short(encoder)
    cut = short.cut(encoder, features, places)
    try:
        states: torch.Tensor = encoder(cut)["last_hidden_state"]
        return states
    finally:
        short.end(encoder, (), None)


def states(model: Any, batch: Mapping[str, torch.Tensor], places: int | None) -> torch.Tensor:
    """Return what a backbone makes of a batch of one; a Whisper's encoder of what is heard, which fills `places`."""
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    if places is None or not isinstance(model, WhisperEncoder):
        found: torch.Tensor = model(**batch)["last_hidden_state"]
        return found
    length = rounded(places, model.config.max_source_positions)
    return encoded(model, batch["input_features"], length)[:, : max(places, 1)]


class _Short:
    """Takes positions and their number away for one forward pass; neither is saved."""

    def __init__(self, encoder: WhisperEncoder) -> None:
        self.whole = encoder.config.max_source_positions
        self.weight: Any = None

    def cut(self, encoder: Any, features: torch.Tensor, places: int) -> torch.Tensor:
        if places >= self.whole:
            return features
        table = encoder.embed_positions
        self.weight = table.weight
        table.weight = torch.nn.Parameter(self.weight[:places].detach(), requires_grad=False)
        table.num_embeddings, encoder.config.max_source_positions = places, places
        return features[..., : features.shape[-1] * places // self.whole]

    def begin(self, encoder: Any, positional: Any, named: Any) -> Any:
        if not encoder.training:
            return None
        found = positional[0] if positional else named["input_features"]
        cut = self.cut(encoder, found, heard(found, self.whole))
        if self.weight is None:
            return None
        if positional:
            return (cut, *positional[1:]), named
        return positional, {**named, "input_features": cut}

    def end(self, encoder: Any, positional: Any, outputs: Any) -> None:
        if self.weight is None:
            return
        encoder.embed_positions.weight, self.weight = self.weight, None
        encoder.embed_positions.num_embeddings = encoder.config.max_source_positions = self.whole


def heard(features: torch.Tensor, whole: int) -> int:
    """Return behind how many of `whole` positions every clip of features (n, bands, frames) is silent, rounded up."""
    quiet = features.amin(dim=(1, 2), keepdim=True)
    loud = (features > quiet + 1e-6).any(dim=1).any(dim=0)
    frames = int(loud.nonzero().max()) + 1 if bool(loud.any()) else 0
    return rounded(frames * whole / features.shape[-1], whole)


def rounded(places: float, whole: int) -> int:
    """Return at how many positions so many are encoded."""
    return min(whole, math.ceil((places + BEHIND) / STEP) * STEP)
