"""What a model is made of: the pretrained part, and what stands on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES


def writes_tokens(model: Any) -> bool:
    """Tell whether a model's last layer gives a score to each token of its vocabulary."""
    return model.get_output_embeddings() is not None


def is_whole(model: Any) -> bool:
    """Tell whether all of a model was pretrained: it writes tokens, or is a backbone as AutoModel gives it."""
    return writes_tokens(model) or any(type(model).__name__ in names for names in _backbones())


def _backbones() -> Iterator[tuple[str, ...]]:
    for names in MODEL_MAPPING_NAMES.values():
        yield (names,) if isinstance(names, str) else tuple(names)


def head_modules(model: nn.Module) -> list[str]:
    """Return the direct children with weights other than the backbone; none of a model that was pretrained whole.

    The last layer of one that writes tokens is part of that, and often the embeddings once more.
    """
    if is_whole(model):
        return []
    inside = backbone_name(model)
    return [name for name, child in model.named_children() if name != inside and any(True for _ in child.parameters())]


def backbone_name(model: nn.Module) -> str:
    """Return the child that is the pretrained part: by its usual name, or the largest, as a CLIP classifier's.

    It is the empty name, all of it, of a model that was pretrained whole.
    """
    if is_whole(model):
        return ""
    children = dict(model.named_children())
    if model.base_model_prefix in children:
        return str(model.base_model_prefix)
    return max(children, key=lambda name: sum(p.numel() for p in children[name].parameters()))


def backbone_prefix(model: nn.Module) -> str:
    """Return what the names of the backbone's parameters start with, dot included."""
    name = backbone_name(model)
    return f"{name}." if name else ""


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return how many parameters train and how many there are."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)
