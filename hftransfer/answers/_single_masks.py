"""Models of queries that give each single object a mask: what they learn, are validated by, and answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from hftransfer.answers import _found_masks, _mask_models, _runs
from hftransfer.answers._found_boxes import IGNORED, MOST

SURE = 1e-6  # as transformers has it, so that the mean over no pixel is 0


def attach(model: Any, rows: int, objects: int) -> Any:
    """Have a model work out its loss of `targets` as a sum over objects, and compare its masks with them to validate.

    Its own loss is divided by the objects of a batch: with accumulation those of crowded pictures would count less.
    The loss over classes is a weighted mean over queries; it is divided by what that weight is on average of train's
    `rows` and `objects`. Targets are {class_labels (n,), mask_labels (n, h, w)} a picture.
    """
    queries, rest = _mask_models.queries(model.config), float(model.criterion.eos_coef)
    usual = 1 - rest + rest * queries * rows / max(objects, 1)

    def loss_of(module: Any, outputs: Any, targets: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        total = _mask_models.nothing(outputs)
        for place, one in enumerate(targets):
            parts = _mask_models.parts_of(module, outputs, place, one["mask_labels"], one["class_labels"])
            named = sum(part for name, part in parts.items() if "cross_entropy" in name)
            found = min(len(one["class_labels"]), queries)
            weight = found + rest * (queries - found)
            total = total + sum(parts.values()) - named + named * weight / usual
        if not module.training:
            with torch.autocast(total.device.type, enabled=False):  # pixels are counted, in whole numbers
                outputs[COMPARED] = compared(outputs, targets)
        return total

    return _mask_models.attach(model, loss_of, lambda labels, device: torch.ones((), device=device))


COMPARED = "compared"  # among a model's outputs, the last of them


def compared(outputs: Any, targets: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """Return how the surest masks of each picture lie on those that are there, (b, 2 + most, kept), IGNORED beyond.

    First their scores, then their classes, then the overlap of each with each that is there, at the model's own size.
    """
    classes, masks = outputs["class_queries_logits"].float(), outputs["masks_queries_logits"].float()
    most = max(len(one["class_labels"]) for one in targets)
    found = classes.new_full((len(classes), 2 + most, min(MOST, classes.shape[1])), float(IGNORED))
    for place, one in enumerate(targets):
        scores, at = classes[place].softmax(-1)[:, :-1].flatten().topk(classes.shape[1])
        logits = masks[place].flatten(1)[at // (classes.shape[-1] - 1)]
        inside = (logits > 0).float()
        scores = scores * (logits.sigmoid() * inside).sum(1) / (inside.sum(1) + SURE)
        order = scores.argsort(descending=True, stable=True)[: found.shape[-1]]
        found[place, 0], found[place, 1] = scores[order], (at % (classes.shape[-1] - 1))[order].float()
        if len(one["class_labels"]):
            there = functional.interpolate(one["mask_labels"][None].float(), size=masks.shape[-2:])[0].flatten(1)
            both = inside[order] @ there.T
            whole = inside[order].sum(1)[:, None] + there.sum(1) - both
            found[place, 2 : 2 + len(there)] = (both / whole.clamp(min=1.0)).T
    return found


def asked(model: Any, batch: dict[str, Any], processor: Any) -> list[bytes]:
    """Return what is found in each picture, as transformers' own post-processing finds it, at the picture's size."""
    outputs = _mask_models.answered(model, batch)
    names = ("class_queries_logits", "masks_queries_logits")
    found = []
    for place, size in enumerate(batch["_size"]):  # one by one: a batch's masks, each of a whole picture, are many
        alone = SimpleNamespace(**{name: getattr(outputs, name)[place : place + 1].float().cpu() for name in names})
        if any(bool(getattr(alone, name).isnan().any()) for name in names):  # theirs would find nothing, and say so
            found.append(_found_masks.broken((int(size[0]), int(size[1]))))
            continue
        made = processor.post_process_instance_segmentation(alone, threshold=0.0, return_binary_maps=True)[0]
        found.append(_packed(made, (int(size[0]), int(size[1]))))
    return found


def _packed(made: Mapping[str, Any], size: tuple[int, int]) -> bytes:
    """Return what a processor made of one picture's outputs, the surest first; `size` is (height, width)."""
    scores = np.array([part["score"] for part in made["segments_info"]])
    rows: list[list[float]] = []
    runs: list[np.ndarray] = []
    for at in np.argsort(-scores, kind="stable"):
        shown = functional.interpolate(made["segmentation"][int(at)][None, None], size=size)[0, 0] > 0
        counts = _runs.of_mask(shown.numpy())
        if _runs.area(counts) and len(rows) < MOST:
            score = float(np.float32(scores[at]))
            kind = float(made["segments_info"][int(at)]["label_id"])
            rows.append([*_runs.box_of(counts, size[0]), score, kind, float(size[1]), float(size[0])])
            runs.append(counts)
    return _found_masks.packed(np.array(rows), runs)
