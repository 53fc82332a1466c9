"""What a detector's own loss is of, its boxes among its outputs, its batch norms: DETR and its kin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

KEPT = 100  # boxes of a picture that are kept, from the most certain down: as COCO's results hold
WINDOWED = ("lw_detr",)  # cuts a picture into windows, which must come out even
EACH_BY_ITSELF = ("rt_detr", "d_fine", "deimv2")  # losses that divide by one process's boxes, not by the mean of all


def ready(model: Any, rows: int, boxes: int) -> Any:
    """Return a detector that finds its truth as `targets` and whose loss is a sum over boxes, not a mean.

    Its own loss is divided by the boxes of a batch: with accumulation those of crowded pictures would count less. The
    loss over classes of DETR's kin (softmax) is a mean over queries, weighted; it is divided by what that weight is on
    average of train's `rows` and `boxes`. Batch norms that were trained keep their mean and variance.
    """
    softmax = _has_no_object(model)
    usual = 1.0
    if softmax:
        rest = model.config.eos_coefficient
        usual = 1 - rest + rest * _queries(model) * rows / max(boxes, 1)

    def with_truth(_: Any, args: Any, named: dict[str, Any]) -> Any:
        targets = named.pop("targets", None)
        return args, named if targets is None else {**named, "labels": targets}

    def summed(detector: Any, args: Any, named: dict[str, Any], outputs: Any) -> Any:
        if named.get("labels") is not None:
            outputs["loss"] = _summed(detector, named["labels"], outputs, usual if softmax else None)
        return outputs

    model.register_forward_pre_hook(with_truth, with_kwargs=True)
    model.register_forward_hook(summed, with_kwargs=True)
    for module in model.modules():
        if isinstance(module, _BatchNorm) and _was_trained(module):
            keep(module)
    return model


def keep(norm: Any) -> None:
    """Have a batch norm keep its mean and variance, whatever `model.train()` says.

    Its backward pass is given gradients laid out as its input is: of one picture whose layouts differ, torch 2.13 gets
    the gradient of the bias wrong on the CPU.
    """

    def alike(_: Any, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if output.requires_grad and len(output) == 1:
            plain = given[0].is_contiguous()
            layout = torch.contiguous_format if plain else torch.channels_last
            output.register_hook(lambda gradient: gradient.contiguous(memory_format=layout))

    norm.register_forward_pre_hook(lambda module, _: module.eval() and None)
    norm.register_forward_hook(alike)


def _summed(model: Any, targets: Sequence[Mapping[str, Any]], outputs: Any, usual: float | None) -> Any:
    counts = [len(one["class_labels"]) for one in targets]
    by = _divisor(model, sum(counts), outputs["logits"].device)
    loss = outputs["loss"]
    if usual is None:
        return loss * by
    auxiliary = model.config.auxiliary_loss
    parts = outputs["loss_dict"].items()
    classes = sum(part for name, part in parts if name == "loss_ce" or (auxiliary and name.startswith("loss_ce_")))
    queries, rest = outputs["logits"].shape[1], model.config.eos_coefficient
    found = sum(min(count, queries) for count in counts)
    weight = found + rest * (queries * len(counts) - found)
    return (loss - classes) * by + classes * weight / usual


def _divisor(model: Any, count: int, device: Any) -> float:
    """Return what a detector's own loss was divided by."""
    from accelerate import PartialState
    from accelerate.utils import reduce

    groups = int(getattr(model.config, "group_detr", 1)) if model.training else 1  # of LW-DETR: all have each box
    number = torch.tensor([float(count * groups)], device=device)
    if not any(name in model.loss_function.__module__ for name in EACH_BY_ITSELF) and PartialState._shared_state:
        number = reduce(number) / PartialState().num_processes
    return max(float(number), 1.0) / groups


def _has_no_object(model: Any) -> bool:
    return bool(model.loss_function.__name__ == "ForObjectDetectionLoss")


def _queries(model: Any) -> int:
    settings = model.config
    return int(settings.to_dict().get("num_queries") or settings.num_detection_tokens)


def _was_trained(norm: Any) -> bool:
    return norm.running_mean is not None and bool((norm.running_mean != 0).any() or (norm.running_var != 1).any())


def best_of(logits: Any, classes: int) -> Any:
    """Return the KEPT surest boxes of each picture, (n, KEPT, 6): centre and size in shares, score, class.

    `logits` are a detector's outputs without their names. One more score than `classes` is that of no object.
    """
    scores, boxes = next(
        (one, other) for one, other in pairwise(logits) if _are_tables(one, other) and other.shape[-1] == 4
    )
    scores, boxes = scores.float(), boxes.float()
    shares = scores.softmax(-1)[..., :-1] if scores.shape[-1] > classes else scores.sigmoid()
    kept = min(KEPT, shares[0].numel())
    best, places = shares.flatten(1).topk(kept, dim=1)
    chosen = boxes.gather(1, (places // shares.shape[-1])[..., None].expand(-1, -1, 4))
    return torch.cat([chosen, best[..., None], (places % shares.shape[-1]).float()[..., None]], -1)


def _are_tables(one: Any, other: Any) -> bool:
    tables = all(isinstance(part, torch.Tensor) and part.ndim == 3 for part in (one, other))
    return tables and one.shape[:2] == other.shape[:2]


def as_corners(boxes: np.ndarray) -> np.ndarray:
    """Return left, top, width and height of boxes (n, 4) that are centre and size."""
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], 1)


def as_centres(boxes: np.ndarray, size: tuple[float, float]) -> np.ndarray:
    """Return centre and size, in shares of a picture of `size`, of boxes (n, 4): left, top, width, height."""
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], 1) / np.tile(size, 2)


def one_size(processor: Any, settings: Any) -> tuple[int, int] | None:
    """Return height and width that every picture must get for a model that is told of no padding, or cuts windows.

    None where pictures have one size already, or need none.
    """
    import inspect

    from transformers import AutoModelForObjectDetection

    known: Any = AutoModelForObjectDetection._model_mapping
    if type(settings) not in known:  # no detector: loading it says so
        return None
    kind = known[type(settings)]
    named = "pixel_mask" in inspect.signature(kind.forward).parameters and settings.model_type not in WINDOWED
    if (named and "pixel_mask" in processor.model_input_names) or {"height", "width"} <= set(dict(processor.size)):
        return None
    size = dict(processor.size)
    side = settings.to_dict().get("image_size") or size.get("shortest_edge") or size.get("longest_edge") or 640
    height, width = side if isinstance(side, list | tuple) else (side, side)
    return int(height), int(width)
