"""Plain checkpoints whose head is shown another pooling than its architecture's own, with no code of their own.

A sequence classifier shows its output layer one vector of a text, often the first token behind a dense layer that
was never trained. Three exact changes of weights and config give it another one:

* an extra layer whose attention has zero queries and keys weighs all tokens alike: with identity values it adds
  their mean to the first token (times AVERAGE, after which the layer norm leaves little of the token itself);
* a dense layer before a tanh becomes the identity times EPSILON, where tanh is straight;
* one before a ReLU or GELU becomes the identity plus an offset, beyond which they are straight.

What the output layer is shown then is a function of poolings that `features` has: a probe is fitted to that. Where no
layer can average, the dense layer can also be trained together with the head (`dense_head`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from hftransfer.answers.base import Answer
from hftransfer.frozen.dense_head import ACTIVATIONS, NAME, Dense
from hftransfer.frozen.features import HEAD, output_layer

AVERAGE = 1000.0  # float16 holds a thousand times a mean; the token's own share is part of what the probe is fitted to
EPSILON = 1e-3
BEYOND = 5.5  # GELU(x) is x to the seventh digit from here on
COMPARED = 16  # rows
ALIKE = 0.05  # the features of training rows may be of bfloat16

Pooled = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Form:
    """A shape that a checkpoint can take; `shown` maps pooled features to what its output layer is shown, (n, d)."""

    name: str
    shown: Callable[[Pooled], np.ndarray]
    build: Callable[[], Any]  # a model in this form, the given one or a copy
    normed: bool = False  # whether what is shown, without the offset, has the same length and a mean of 0 in all rows
    offset: np.ndarray | float = 0.0


@dataclass(frozen=True)
class Family:
    """Where architectures keep the parts that a form changes, by the names of modules."""

    dense: str  # the layer before the activation that the output layer is behind
    activation: str  # tanh, or one that is straight for large numbers
    layers: str | None = None  # the list that takes an averaging layer; None: its attention cannot weigh all alike
    parts: Mapping[str, tuple[str, ...]] | None = None
    takes: str = "first"  # the pooling that the dense layer is shown


BERT_PARTS = {
    "zero": ("attention.self.query", "attention.self.key", "intermediate.dense", "output.dense"),
    "value": ("attention.self.value",),
    "output": ("attention.output.dense",),
    "norms": ("attention.output.LayerNorm", "output.LayerNorm"),
}
DEBERTA_PARTS = {
    **BERT_PARTS,
    "zero": ("attention.self.query_proj", "attention.self.key_proj", "intermediate.dense", "output.dense"),
    "value": ("attention.self.value_proj",),
}
DISTILBERT_PARTS = {
    "zero": ("attention.q_lin", "attention.k_lin", "ffn.lin1", "ffn.lin2"),
    "value": ("attention.v_lin",),
    "output": ("attention.out_lin",),
    "norms": ("sa_layer_norm", "output_layer_norm"),
}
ROBERTA = Family("classifier.dense", "tanh", "roberta.encoder.layer", BERT_PARTS)
FAMILIES: dict[str, Family] = {
    "bert": Family("bert.pooler.dense", "tanh", "bert.encoder.layer", BERT_PARTS),
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "electra": Family("classifier.dense", "gelu", "electra.encoder.layer", BERT_PARTS),
    "deberta-v2": Family("pooler.dense", "gelu", "deberta.encoder.layer", DEBERTA_PARTS),
    "distilbert": Family("pre_classifier", "relu", "distilbert.transformer.layer", DISTILBERT_PARTS),
}


def forms(model: Any, answer: Answer[Any], pooled: Pooled, fresh: tuple[str, ...] = ()) -> list[Form]:
    """Return the forms that a model of a task can take, its own first; `pooled` are features of the training rows.

    The own form is left out where its output layer stands behind weights that were made at random (in `fresh`) and
    another form does not.
    """
    own = own_form(model)
    if _by_part(answer) or "first" not in pooled:
        return [own]
    kind = model.config.model_type
    others: list[Form] = []
    if kind in FAMILIES:
        others = list(_family_forms(model, FAMILIES[kind], pooled))
    elif "classifier_proj_size" in model.config.to_dict():
        others = [_projected(model)]
    elif kind == "modernbert":
        others = [_modernbert(model, pooling, pooled) for pooling in ("mean", "first")]
    else:
        family = trainable(model, answer, pooled)
        others = list(_family_forms(model, family, pooled)) if family is not None else []
    layer = output_layer(model, answer)
    random_inside = any(_reaches(name, model, layer) for name in fresh)
    return [*([] if others and random_inside else [own]), *others]


def trainable(model: Any, answer: Answer[Any], pooled: Pooled) -> Family | None:
    """Return the dense layer before the output layer of a model that cannot be shown the mean of the tokens, if any.

    It is found by its numbers: what it makes of the first or last token is what the output layer is shown.
    """
    known = model.config.model_type in (*FAMILIES, "modernbert") or "classifier_proj_size" in model.config.to_dict()
    if _by_part(answer) or "first" not in pooled or known:
        return None
    layer = output_layer(model, answer)
    shown = torch.from_numpy(pooled[HEAD][:COMPARED])
    for name, module in model.named_modules():
        square = isinstance(module, nn.Linear) and module.in_features == module.out_features == shown.shape[1]
        if not square or module.bias is None or name == layer or any(part.isdigit() for part in name.split(".")):
            continue
        weight, bias = module.weight.detach().cpu().float(), module.bias.detach().cpu().float()
        for pooling in ("first", "last"):
            inner = torch.from_numpy(pooled[pooling][:COMPARED]) @ weight.T + bias
            for activation, apply in ACTIVATIONS.items():
                if (apply(inner) - shown).norm() < ALIKE * shown.norm():
                    return Family(name, activation, takes=pooling)
    return None


def with_dense(model: Any, family: Family, dense: Dense) -> Form:
    """Return the form of a model with a trained dense layer."""

    def build() -> Any:
        changed = copy.deepcopy(model)
        layer = changed.get_submodule(family.dense)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(dense.weight))
            layer.bias.copy_(torch.from_numpy(dense.bias))
        return changed

    return Form(NAME, lambda found: dense.shown(found[family.takes]), build)


def own_form(model: Any) -> Form:
    """Return the form that a model has: nothing changes but its output layer."""
    return Form(HEAD, lambda found: found[HEAD], lambda: model)


def set_output(model: Any, answer: Answer[Any], weight: np.ndarray, bias: np.ndarray) -> None:
    """Give the output layer of a model its weights (k, d) and bias (k,)."""
    layer = model.get_submodule(output_layer(model, answer))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))


def _by_part(answer: Answer[Any]) -> bool:
    return answer.linear is None or answer.linear.by_part


def _reaches(name: str, model: Any, layer: str) -> bool:
    """Tell whether fresh weights other than the output layer's own lie between the tokens and it."""
    module = model.get_submodule(name)
    inside = [n for n, m in module.named_modules(prefix=name) if next(m.parameters(recurse=False), None) is not None]
    return any(n != layer for n in inside)


def _family_forms(model: Any, family: Family, pooled: Pooled) -> list[Form]:
    activation, takes = ACTIVATIONS[family.activation], family.takes

    def straight(values: torch.Tensor, offset: torch.Tensor) -> np.ndarray:
        return np.asarray(activation(values * EPSILON if family.activation == "tanh" else values + offset).numpy())

    def form(name: str, vectors: Callable[[Pooled], torch.Tensor], build: Callable[[], Any], normed: bool) -> Form:
        offset = _offset(vectors(pooled), family.activation)
        if normed and family.activation != "tanh":  # no value behind a layer norm is larger than the vector is long
            offset = torch.full_like(offset, len(offset) ** 0.5 + (BEYOND if family.activation == "gelu" else 0.0))
        return Form(
            name,
            lambda found: straight(vectors(found), offset),
            lambda: _straightened(build(), family, offset),
            normed,
            offset.numpy(),
        )

    found = [form(takes, lambda found: torch.from_numpy(found[takes]), lambda: copy.deepcopy(model), False)]
    if family.layers is None or family.parts is None:
        return found
    norms = len(family.parts["norms"])
    norm = model.get_submodule(family.layers)[-1].get_submodule(family.parts["norms"][-1])

    def averaged(found: Pooled, share: float) -> torch.Tensor:
        values = torch.from_numpy(found["first"]) + share * torch.from_numpy(found["mean"])
        for _ in range(norms):
            values = nn.functional.layer_norm(values, norm.normalized_shape, eps=norm.eps)
        return values

    for name, share in (("mean", AVERAGE), ("first_and_mean", 1.0)):
        vectors, build = partial(averaged, share=share), partial(_averaging, model, family, share)
        found.append(form(name, vectors, build, True))
    return found


def _offset(vectors: torch.Tensor, activation: str) -> torch.Tensor:
    """Return what lifts each feature of the training rows to where the activation is straight, and as far again."""
    low, high = vectors.amin(dim=0), vectors.amax(dim=0)
    if activation == "tanh":
        return torch.zeros_like(low)
    return (high - low) - low + (BEYOND if activation == "gelu" else 0.0)


def _straightened(model: Any, family: Family, offset: torch.Tensor) -> Any:
    """Make the dense layer before the output layer pass on what comes in."""
    dense = model.get_submodule(family.dense)
    tanh = family.activation == "tanh"
    with torch.no_grad():
        dense.weight.copy_(torch.eye(len(dense.weight)) * (EPSILON if tanh else 1.0))
        dense.bias.copy_(offset)
    return model


def _averaging(model: Any, family: Family, share: float) -> Any:
    """Return a copy with one more layer, behind which each token is LN(LN(token + share * mean of the tokens))."""
    model = copy.deepcopy(model)
    assert family.layers is not None and family.parts is not None
    layers = model.get_submodule(family.layers)
    layer = copy.deepcopy(layers[-1])
    with torch.no_grad():
        for name in family.parts["zero"]:
            for parameter in layer.get_submodule(name).parameters():
                parameter.zero_()
        for names, scale in ((family.parts["value"], 1.0), (family.parts["output"], share)):
            for name in names:
                module = layer.get_submodule(name)
                module.weight.copy_(torch.eye(len(module.weight)) * scale)
                module.bias.zero_()
        for name in family.parts["norms"]:
            norm = layer.get_submodule(name)
            norm.weight.fill_(1.0)
            norm.bias.zero_()
    layers.append(layer)
    model.config.num_hidden_layers += 1
    return model


def _projected(model: Any) -> Form:
    """What hears shows its output layer the mean of projected places: the mean, where the identity projects."""

    def build() -> Any:
        changed = copy.deepcopy(model)
        width = changed.projector.in_features
        changed.config.classifier_proj_size = width
        changed.projector = nn.Linear(width, width)
        changed.classifier = nn.Linear(width, changed.classifier.out_features)
        with torch.no_grad():
            changed.projector.weight.copy_(torch.eye(width))
            changed.projector.bias.zero_()
        return changed

    return Form("mean", lambda found: found["mean"], build)


def _modernbert(model: Any, pooling: str, pooled: Pooled) -> Form:
    """ModernBERT's config has both poolings; its layer norm takes the offset off again."""
    norm = model.head.norm
    offset = float(_offset(torch.from_numpy(pooled[pooling]).flatten(), "gelu"))

    def shown(found: Pooled) -> np.ndarray:
        values = nn.functional.gelu(torch.from_numpy(found[pooling]) + offset)
        return np.asarray(nn.functional.layer_norm(values, norm.normalized_shape, eps=norm.eps).numpy())

    def build() -> Any:
        changed = copy.deepcopy(model)
        changed.config.classifier_pooling = {"mean": "mean", "first": "cls"}[pooling]
        changed.config.classifier_bias = True
        width = changed.config.hidden_size
        with torch.no_grad():
            changed.head.dense.weight.copy_(torch.eye(width))
            changed.head.dense.bias = nn.Parameter(torch.full((width,), offset))
            changed.head.norm.weight.fill_(1.0)
            for bias in [p for name, p in changed.head.norm.named_parameters() if name == "bias"]:
                bias.zero_()
        return changed

    return Form(pooling, shown, build, normed=True)
