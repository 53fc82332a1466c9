"""Dropout on the CPU whose mask is stretched from one number of torch's generator: the same law, drawn much faster.

torch draws its masks one number after another, which takes a sixth of a small model's step. Here one number seeds
SFC64, whose bits are compared sixteen at a time. So a mask follows from torch's random state alone: a resume, and
a layer that is computed again for its gradient, find the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.autograd.profiler import record_function

LEVELS = 2**16  # a probability is rounded to so many levels: .1 is .099991
LEAST = 4096  # values that are worth a generator of their own
DRAWING = "hftransfer::dropout"  # what a profile calls the drawing of a mask


class Stretched(nn.Dropout):
    """nn.Dropout with such a mask while it trains on the CPU."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Zero values (any shape) with probability `p` and scale the others up."""
        if not self.training or not 0 < self.p < 1 or input.device.type != "cpu" or input.numel() < LEAST:
            return super().forward(input)
        with record_function(DRAWING):
            kept = mask(input.shape, self.p)
        return input * kept.to(input.dtype).mul_(1 / (1 - level(self.p) / LEVELS))


def level(share: float) -> int:
    """Return how many of LEVELS are zeroed; never all of them."""
    return min(round(share * LEVELS), LEVELS - 1)


def mask(shape: torch.Size, share: float) -> torch.Tensor:
    """Return which values of a shape are kept (bool), each with probability 1 - `share`; moves torch on."""
    seed = int(torch.empty((), dtype=torch.int64).random_())
    count = shape.numel()
    bits = np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.int16)[:count]
    return (torch.from_numpy(bits) >= level(share) - LEVELS // 2).view(shape)


@contextmanager
def stretched(model: nn.Module) -> Iterator[None]:
    """Have a model's dropout layers draw their masks so while it trains; they are put back afterwards."""
    changed = []
    for module in list(model.modules()):
        for name, layer in module.named_children():
            if type(layer) is nn.Dropout and not layer.inplace:
                quick = Stretched(layer.p).train(layer.training)
                module.register_module(name, quick)
                changed.append((module, name, layer, quick))
    try:
        yield
    finally:
        for module, name, layer, quick in changed:
            module.register_module(name, layer.train(quick.training))
