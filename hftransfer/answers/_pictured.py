"""Entries of a catalogue as pictures: a vector of each by a picture encoder, and what somebody had as their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.errors import UserError

if TYPE_CHECKING:
    import torch

    from hftransfer.answers._catalogue import Catalogue

SHOWN, NONE = "pixel_values", "_nothing"  # of a batch: pictures, and which entries have none


def sees(processor: Any) -> bool:
    """Tell whether what reads for a model reads pictures, and no texts."""
    from hftransfer.processors import tokenizer_of

    return tokenizer_of(processor) is None


def require(catalogue: Catalogue, pictured: bool, called: str) -> list[str]:
    """Return what is to be said of entries that a model cannot read; UserError where those are most."""
    import pyarrow.compute as pc

    written = pc.sum(pc.greater(pc.binary_length(catalogue.table["text"]), 0)).as_py()
    known, what = (catalogue.pictured, "picture") if pictured else (int(written), "text")
    lacking = len(catalogue) - known
    if 2 * lacking > len(catalogue):
        other = "texts" if pictured else "pictures"
        raise UserError(
            f"items with a {what} are needed for a model of type {called}",
            f"{lacking:,} of {len(catalogue):,} have none",
            f"Give the table of items a column with it, or use an encoder of {other}.",
        )  # fmt: skip
    said = "they are near to nothing" if pictured else "they look alike to the model"
    return [f"{lacking:,} of {len(catalogue):,} items have no {what}: {said}"] if lacking else []


def vectors(model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
    """Return vectors (n, d) of length 1, on the CPU: the mean over the places of a picture; 0 where there is none.

    Not the pooler's: a model that was published as a classifier has none, and AutoModel would draw one at random.
    """
    from torch.nn import functional

    states = model(pixel_values=batch[SHOWN]).last_hidden_state
    found = states.flatten(2).mean(dim=2) if states.ndim == 4 else states.mean(dim=1)
    made = functional.normalize(found.float(), dim=-1).cpu()
    made[[bool(nothing) for nothing in batch[NONE]]] = 0.0
    return made


def queries(known: np.ndarray, histories: Sequence[Sequence[int]], size: int) -> list[np.ndarray]:
    """Return vectors (d,) of length 1 of what somebody had (places, the newest last): the mean of the last `size`."""
    found = [known[list(history[-size:])].mean(axis=0) for history in histories]
    return [vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in found]
