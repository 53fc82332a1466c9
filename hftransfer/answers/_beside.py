"""Pictures beside texts: the vectors of both, and the loss among those of a batch over all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from hftransfer.answers._nearness import TOKENS, apart
from hftransfer.errors import UserError

PIXELS = 64 * 224 * 224  # of the pictures that go through the model at once while it trains
NONE = -100  # where a row has fewer captions than another
FAR = -1e9  # a score that weighs nothing
PICTURES = ("pixel_values", "pixel_attention_mask", "spatial_shapes")  # what is known of a picture, by processor


def scale_of(model: Any) -> nn.Parameter:
    """Return what cosines are multiplied with, as a logarithm; UserError for a model that does not compare."""
    known = dict(model.named_parameters())
    found = next((known[name] for name in known if name.split(".")[-1] == "logit_scale"), None)
    if found is None:
        raise UserError(
            "a model that compares pictures with texts is needed", f"{type(model).__name__} has no learned scale",
            "Use a CLIP, a SigLIP or a dual encoder of both.",
        )  # fmt: skip
    return found


def bias_of(model: Any) -> nn.Parameter | None:
    """Return what is added to scaled cosines, of models that say of each pair by itself whether it fits."""
    return next((value for name, value in model.named_parameters() if name.split(".")[-1] == "logit_bias"), None)


def texts_of(batch: Mapping[str, torch.Tensor], fill: int, width: int, masked: bool) -> dict[str, torch.Tensor]:
    """Return the captions (m, tokens) of a batch, one after the other; `width` is what they are filled up to, or 0."""
    parts = batch["parts"]
    ids, mask = apart(batch["input_ids"], batch["input_ids"], parts, fill)
    known = parts.flatten() > 0
    ids, mask = ids[known], mask[known]
    if width > ids.shape[1]:
        ids = functional.pad(ids, (0, width - ids.shape[1]), value=fill)
        mask = functional.pad(mask, (0, width - mask.shape[1]))
    return {"input_ids": ids, **({"attention_mask": mask} if masked else {})}


def encoded(ask: Callable[..., Any], inputs: Mapping[str, torch.Tensor], size: int, training: bool) -> torch.Tensor:
    """Return the vectors (n, d), of length 1, that a tower gives; `size` of them fit into memory while it trains.

    More are encoded in pieces, and once more on the way back (as Gao et al. 2021 do in two passes).
    """

    def encode(*values: torch.Tensor) -> torch.Tensor:
        found = ask(**dict(zip(inputs, values, strict=True)))["pooler_output"]
        return functional.normalize(found.float(), dim=-1)

    values = tuple(inputs.values())
    if not training or len(values[0]) <= size:
        return encode(*values)
    pieces = zip(*(value.split(size) for value in values), strict=True)
    return torch.cat([checkpoint(encode, *piece, use_reentrant=False) for piece in pieces])


def pictures(model: Any, batch: Mapping[str, torch.Tensor], training: bool = False) -> torch.Tensor:
    """Return the vectors (n, d) of the pictures of a batch."""
    shown = {name: batch[name] for name in PICTURES if name in batch}
    size = max(3 * PIXELS // shown["pixel_values"][0].numel(), 1)
    return encoded(model.get_image_features, shown, size, training)


def texts(model: Any, shown: Mapping[str, torch.Tensor], training: bool = False) -> torch.Tensor:
    """Return the vectors (m, d) of tokenized texts."""
    size = max(TOKENS // shown["input_ids"].shape[1], 1)
    return encoded(model.get_text_features, shown, size, training)


def giving_vectors(model: Any, fill: int, width: int, masked: bool) -> Any:
    """Make a model's forward pass give the vectors of pictures and their captions, where it is told the captions.

    They are (n, 1 + k, d): the picture's, then those of up to k captions, zeros where a row has fewer. Batch norms
    keep their means and variances: a piece of a batch, or a process, would have others than the whole.
    """
    scale_of(model)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(lambda frozen, inputs: frozen.eval() and None)
    own = model.forward

    def forward(self: Any, *args: Any, parts: torch.Tensor | None = None, **kwargs: Any) -> Any:
        if parts is None:
            return own(*args, **kwargs)
        shown, known = {**kwargs, "parts": parts}, parts > 0
        found = texts(self, texts_of(shown, fill, width, masked), self.training)
        whole = found.new_zeros(*parts.shape, found.shape[-1]).index_put((known,), found)
        vectors = torch.cat([pictures(self, shown, self.training)[:, None], whole], dim=1)
        bias = bias_of(self)
        return {"vectors": vectors, "scale": scale_of(self).exp(), **({} if bias is None else {"bias": bias})}

    model.forward = MethodType(forward, model)  # a method, as accelerate takes it apart and puts it together again
    return model


# the modules that stand behind the towers, by the names that the families have for them
LAST = {"seen": ("visual_projection",), "said": ("text_projection", "text_model.head")}


def last_of(model: Any, side: str) -> nn.Linear | None:
    """Return the linear layer behind the tower of a side; None where a tower ends in none."""
    known = dict(model.named_modules())
    return next((known[name] for name in LAST[side] if isinstance(known.get(name), nn.Linear)), None)


def before(model: Any, side: str, ask: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Return what the last layer of a side is shown while `ask` runs; without one, what `ask` gives."""
    layer, kept = last_of(model, side), []
    if layer is None:
        return ask()
    hook = layer.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    try:
        ask()
    finally:
        hook.remove()
    return torch.cat(kept).float()


def behind(model: Any, side: str, made: torch.Tensor) -> torch.Tensor:
    """Return the vectors of what `before` gave."""
    layer = last_of(model, side)
    return made if layer is None else functional.normalize(layer(made), dim=-1)


def contrast(
    vectors: torch.Tensor, numbers: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None,
    alone: bool = False,
) -> torch.Tensor:  # fmt: skip
    """Return the summed loss of this process's rows among the pictures and captions of all processes.

    `vectors` are (n, 1 + k, d), `numbers` (n, k) tell equal captions, NONE where there is none. Without a bias it is
    the cross entropy of finding the caption among all, and the picture among all, half each, summed over the captions
    (Radford et al. 2021); with one whether each picture and each caption belong together (Zhai et al. 2023). What
    equals a row's own caption is right as well. Who is `alone` has all rows that there are.
    """
    owner, place = (numbers != NONE).nonzero(as_tuple=True)  # the one look at values: how many captions there are
    seen, said, told = vectors[:, 0], vectors[owner, 1 + place], numbers[owner, place]
    all_seen, first_seen = everyone(seen, alone)
    all_said, first_said = everyone(said, alone)
    all_told, _ = everyone(told, alone)
    width = torch.tensor([numbers.shape[1]], device=numbers.device)
    widest = numbers.shape[1] if by_itself(alone) else int(everyone(width, alone)[0].max())
    all_numbers, _ = everyone(functional.pad(numbers, (0, widest - numbers.shape[1]), value=NONE), alone)
    by_picture = scale * seen @ all_said.T  # (n, M)
    right = belonging(numbers, all_told)
    if bias is not None:
        sign = right.to(by_picture.dtype) * 2 - 1
        return functional.softplus(-sign * (by_picture + bias)).sum()
    by_text = scale * said @ all_seen.T  # (m, N)
    also = belonging(all_numbers, told).T
    places = torch.arange(len(said), device=owner.device)
    own = by_picture[owner, first_said + places]
    same = by_text[places, first_seen + owner]
    wrong_texts = by_picture.masked_fill(right, FAR).logsumexp(dim=1)[owner]
    wrong_pictures = by_text.masked_fill(also, FAR).logsumexp(dim=1)
    return (torch.logaddexp(own, wrong_texts) - own + torch.logaddexp(same, wrong_pictures) - same).sum() / 2


def belonging(numbers: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Return which captions (m,), by their numbers, are among those (n, k) of each row: (n, m)."""
    found = torch.zeros(len(numbers), len(told), dtype=torch.bool, device=told.device)
    for side in range(numbers.shape[1]):
        found |= numbers[:, side, None] == told
    return found


def by_itself(alone: bool = False) -> bool:
    """Tell whether this process has all rows that there are."""
    return alone or not (torch.distributed.is_available() and torch.distributed.is_initialized())


def everyone(values: torch.Tensor, alone: bool = False) -> tuple[torch.Tensor, int]:
    """Return the values (k, ...) of all processes one after the other, and where this one's begin.

    Processes may have unlike many. The gradient of a value is the sum of those that all processes have of it.
    """
    if by_itself(alone):
        return values, 0
    from torch.distributed.nn.functional import all_gather

    count = torch.tensor([len(values)], device=values.device)
    counts = [torch.empty_like(count) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(counts, count)
    sizes = [int(one) for one in counts]
    padded = torch.cat([values, values.new_zeros(max(sizes) - len(values), *values.shape[1:])]).contiguous()
    if values.is_floating_point():
        parts = list(all_gather(padded))
    else:
        parts = [torch.empty_like(padded) for _ in sizes]
        torch.distributed.all_gather(parts, padded)
    whole = torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
    return whole, sum(sizes[: torch.distributed.get_rank()])


def odds(model: Any, seen: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """Return the probabilities (n, m) that a model gives texts, by the vectors of both, as `pipeline()` does."""
    bias = bias_of(model)
    logits = scale_of(model).exp() * seen @ said.T
    return logits.softmax(dim=-1) if bias is None else (logits + bias).sigmoid()
