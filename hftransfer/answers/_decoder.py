"""What a decoder is shown of the true text, and what it makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


IGNORED = -100  # in labels: no token


def sums_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return nll, tokens and right tokens of each row, (n, 3), in place of logits (n, t, vocabulary)."""
    import torch
    from torch.nn import functional

    known = labels != IGNORED
    each = functional.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none", ignore_index=IGNORED)
    right = (logits.argmax(-1) == labels) & known
    return torch.stack([each.sum(1), known.sum(1).float(), right.sum(1).float()], dim=1)


def unmarked(labels: torch.Tensor, marks: Sequence[int]) -> torch.Tensor:
    """Return labels (n, t) without tokens that are no part of a text, and that a decoder is given when it writes."""
    for mark in marks:
        labels = labels.masked_fill(labels == mark, IGNORED)
    return labels


def decoder_places(settings: Any) -> int | None:
    """Return how many tokens a model's decoder has places for; None where it says none."""
    found = settings.to_dict()
    places = found.get("max_target_positions") or found.get("max_position_embeddings")
    return None if places is None else int(places)


def shifted(labels: torch.Tensor, settings: Any) -> torch.Tensor:
    """Return what a decoder is shown of labels (n, t): all one place later, behind the token that it starts with.

    An mBART starts with what stands at the end of the text: the mark of its language, or the end token.
    """
    import torch

    ids = labels.masked_fill(labels == IGNORED, settings.pad_token_id)
    if settings.model_type == "mbart":
        last = (labels != IGNORED).sum(dim=1, keepdim=True) - 1
        first = ids.gather(1, last.clamp(min=0))
    else:
        first = torch.full_like(ids[:, :1], settings.decoder_start_token_id)
    return torch.cat([first, ids[:, :-1]], dim=1)


def with_decoder_inputs(model: Any, args: Any, named: dict[str, Any]) -> Any:
    targets = named.pop("targets", None)
    if targets is not None:
        named["decoder_input_ids"] = shifted(targets, model.config)
    return args, named
