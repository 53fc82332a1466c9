"""The normalisation that a model's last states come from: its scale and shift are a linear map in a plain model.

A text's vector is the mean of its tokens' last states, and these are `weight * z + bias` of what is normalised, z: so
the mean of z, computed once, tells the vector for every weight and bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from hftransfer.answers import _nearness
from hftransfer.errors import UserError

SAME = 1e-4  # of states that the scale and shift give again
FLOOR = 1e-6  # of a spread


def name_of(model: Any) -> str:
    """Return the name of the normalisation that gives the last states; UserError for a model that ends otherwise."""
    known = [name for name, module in model.named_modules() if "Norm" in type(module).__name__]
    parameters = dict(model.named_parameters())
    last = _last_called(model, [name for name in known if f"{name}.weight" in parameters])
    if last is None:
        raise UserError(
            "a model whose last states come from a normalisation with a scale is needed for a probe",
            f"{type(model).__name__} ends otherwise", "Use method.name=full or lora with this model.",
        )  # fmt: skip
    return last


def _last_called(model: Any, names: list[str]) -> str | None:
    """Return which of some modules gives a model's last states, as a small input shows."""
    called: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: called.update({name: output})

    hooks = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    training, device = model.training, next(model.parameters()).device
    try:
        with torch.no_grad():
            ids = torch.arange(1, 5, device=device)[None]
            states = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))["last_hidden_state"]
            for name, output in reversed(list(called.items())):
                norm = model.get_submodule(name)
                if output.shape == states.shape and torch.equal(output, states):
                    with plain(norm):
                        bare = model(input_ids=ids, attention_mask=torch.ones_like(ids))["last_hidden_state"]
                    again = bare * norm.weight + (0 if bias_of(norm) is None else bias_of(norm))
                    return name if torch.allclose(again, states, atol=SAME) else None
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    return None


def bias_of(norm: Any) -> Any:
    """Return the shift of a normalisation; None where it has none."""
    return dict(norm.named_parameters(recurse=False)).get("bias")


@contextmanager
def plain(norm: Any) -> Iterator[None]:
    """Let a normalisation neither scale nor shift, and then again as before."""
    kept = {name: value.detach().clone() for name, value in norm.named_parameters(recurse=False)}
    try:
        with torch.no_grad():
            norm.weight.fill_(1.0)
            if bias_of(norm) is not None:
                bias_of(norm).zero_()
        yield
    finally:
        with torch.no_grad():
            for name, value in norm.named_parameters(recurse=False):
                value.copy_(kept[name])


def before(model: Any, norm: str, batch: Mapping[str, Any]) -> np.ndarray:
    """Return the means (n, k, d) of what is normalised, of the tokens of each part of some rows."""
    fill = model.config.to_dict().get("pad_token_id") or 0
    ids, mask = _nearness.apart(batch["input_ids"], batch["attention_mask"], batch["parts"], fill)
    with plain(model.get_submodule(norm)):
        states = model(input_ids=ids, attention_mask=mask)["last_hidden_state"]
    weights = mask[:, :, None].to(states.dtype)
    means = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
    return np.asarray(means.view(*batch["parts"].shape, -1).float().cpu().numpy())


def behind(model: Any, norm: str, means: torch.Tensor) -> torch.Tensor:
    """Return the vectors, of length 1, that the scale and shift make of such means."""
    module = model.get_submodule(norm)
    shift = 0 if bias_of(module) is None else bias_of(module)
    return functional.normalize(means * module.weight + shift, dim=-1)


def solved(model: Any, norm: str, means: np.ndarray) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield scales by which texts that belong together differ alike in every direction, with and without centring.

    The difference of a row's two texts is noise: a number counts the less, the more of it there is.
    """
    spread = np.sqrt(((means[:, 0] - means[:, 1]) ** 2).mean(axis=0)) + FLOOR
    scale = (1 / spread / (1 / spread).mean()).astype(np.float32)
    shift = bias_of(model.get_submodule(norm))
    if shift is None:
        yield "the spread within pairs", {f"{norm}.weight": scale}
        return
    middle = means.reshape(-1, means.shape[-1]).mean(axis=0)
    ones = np.ones_like(scale)
    for about, weight in (("the mean of all texts", ones), ("mean and spread within pairs", scale)):
        yield about, {f"{norm}.weight": weight, f"{norm}.bias": (-middle * weight).astype(np.float32)}
