"""Models that give each pixel a class, and such that give queries a mask and a class each: what both learn and say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.answers import _mask_files as files
from hftransfer.answers._head import IGNORED
from hftransfer.answers._learner import Loss
from hftransfer.errors import UserError

if TYPE_CHECKING:
    import torch

SIDE_HEADS = "use_auxiliary_head"  # a second head that only training asks: its loss is in none of the model's outputs
QUERIED = ("maskformer", "mask2former")
OTHERS = {
    "oneformer": "it must be told a task in words, and its processor reads names of classes from the Hub",
    "eomt": "it cuts pictures into pieces of its own, and its processor numbers classes anew",
    "eomt_dinov3": "it cuts pictures into pieces of its own, and its processor numbers classes anew",
    "videomt": "it reads films",
}
SUBTASK = "subtask"  # where a config of ours holds what transformers' pipeline must be told of queries
STRIDE = 16  # pixels a side that one logit stands for, at most, where a convolutional network can be told


def asks_queries(settings: Any) -> bool:
    """Tell whether a model of these settings answers by masks of queries, as MaskFormer."""
    import transformers

    one, other = (
        transformers.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING,
        transformers.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING,
    )
    return type(settings) in one and type(settings) not in other


def queries(settings: Any) -> int:
    """Return how many masks a model of queries gives, at most."""
    return int(settings.to_dict().get("num_queries") or settings.decoder_config.num_queries)


def refuse_others(settings: Any) -> None:
    """Raise UserError for a model of queries that is asked, or taught, in another way than the ones here."""
    kind = settings.model_type
    if asks_queries(settings) and kind not in QUERIED:
        raise UserError(
            "a model that gives each pixel a class is needed, or a MaskFormer or Mask2Former",
            f"this one is of type {kind!r}: {OTHERS.get(kind, 'nobody has tried it here')}",
            "Choose another model: hftransfer tasks",
        )  # fmt: skip


def configure(settings: Any, subtask: str) -> None:
    """Set what a model's config must say of its heads before it is made, and what its queries are going to answer."""
    setattr(settings, SUBTASK, subtask)
    if getattr(settings, SIDE_HEADS, False):
        setattr(settings, SIDE_HEADS, False)
    if getattr(settings, "output_stride", 0) > STRIDE:
        settings.output_stride = STRIDE
    settings.semantic_loss_ignore_index = files.NOTHING


def cross_entropy(class_weights: Sequence[float] | None, smoothing: float) -> Loss:
    """Return the loss of pixels: logits (b, k, ...) enlarged to the labels (b, h, w), summed over those that count.

    A model of queries has its own, see `attach`.
    """
    import torch
    from torch.nn import functional

    weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        if "class_queries_logits" in outputs:
            total = outputs["loss"]
        else:
            logits = enlarged(outputs["logits"].float(), labels)
            total = functional.cross_entropy(
                logits, labels, None if weight is None else weight.to(logits.device), reduction="sum",
                label_smoothing=smoothing, ignore_index=IGNORED,
            )  # fmt: skip
        return total / ((labels != IGNORED).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch)

    return loss


def enlarged(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return logits at the size of labels (b, h, w)."""
    from torch.nn import functional

    size = labels.shape[-2:]
    if logits.shape[-2:] == size:
        return logits
    return functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def confusions(logits: Any, labels: torch.Tensor) -> torch.Tensor:
    """Return how many pixels of each true class are given each class, (b, k, k), of what a batch came to."""
    import torch

    scores = logits[0] if isinstance(logits, tuple | list) else logits
    if scores.dim() == 3:  # of queries: which class each has, and where
        scores = of_queries(scores, logits[1])
    k = scores.shape[1]
    found = enlarged(scores.float(), labels).argmax(1)
    known = labels != IGNORED
    rows = torch.arange(len(labels), device=labels.device)[:, None, None].expand_as(labels)
    flat = (rows[known] * k + labels[known]) * k + found[known]
    return torch.bincount(flat, minlength=len(labels) * k * k).view(len(labels), k, k)


def of_queries(classes: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Return the scores (b, k, h, w) of classes, from queries' class logits (b, q, k + 1) and mask logits."""
    import torch

    return torch.einsum("bqc,bqhw->bchw", classes.float().softmax(-1)[..., :-1], masks.float().sigmoid())


def attach(model: Any, loss_of: Callable[..., Any] | None = None, masks: Callable[..., Any] | None = None) -> Any:
    """Have a model of queries work out its loss of `targets` (b, h, w) beside its outputs.

    transformers divides by the masks of a batch, and by the weights of its queries: four batches of four are not one
    of sixteen. Here each picture's loss is that of the picture alone, times its pixels that count: a sum over them.
    `loss_of(model, outputs, targets)` gives another sum of other targets, whose losses of one picture's masks are
    divided by what `masks` gives.
    """
    held: list[Any] = []
    model.criterion.get_num_masks = masks or _masks_of_one
    summed = loss_of or _loss_of
    uses = bool(getattr(model.config, "use_auxiliary_loss", False))

    def before(module: Any, args: Any, named: dict[str, Any]) -> Any:
        held[:] = [named.pop("targets", None)]
        if held[0] is not None and module.training and uses:
            named["output_auxiliary_logits"] = True
        return args, named

    def after(module: Any, args: Any, named: dict[str, Any], outputs: Any) -> Any:
        targets = held.pop() if held else None
        if targets is not None:
            outputs["loss"] = summed(module, outputs, targets)
        return outputs

    model.register_forward_pre_hook(before, with_kwargs=True)
    model.register_forward_hook(after, with_kwargs=True)
    return model


def _masks_of_one(class_labels: list[torch.Tensor], device: Any) -> torch.Tensor:
    """Return how many masks one picture has; transformers would ask every process for theirs."""
    import torch

    return torch.tensor(float(max(len(class_labels[0]), 1)), device=device)


def nothing(outputs: Any) -> torch.Tensor:
    """Return 0 as a loss of a model's outputs: a picture without anything to learn from still has its place."""
    found: torch.Tensor = 0.0 * (outputs["class_queries_logits"].float().sum() + outputs["masks_queries_logits"].sum())
    return found


def parts_of(model: Any, outputs: Any, place: int, drawn: torch.Tensor, present: torch.Tensor) -> dict[str, Any]:
    """Return the parts of a model's own loss of one picture of a batch, whose masks (n, h, w) are of classes (n,)."""
    beside, others = outputs.get("auxiliary_logits") if model.training else None, None
    alone = slice(place, place + 1)
    if beside:
        others = [{name: part[alone].float() for name, part in one.items()} for one in beside]
    classes, masks = (outputs[f"{name}_queries_logits"][alone].float() for name in ("class", "masks"))
    found: dict[str, Any] = model.get_loss_dict(masks, classes, [drawn.float()], [present], others)
    return found


def _loss_of(model: Any, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
    total = nothing(outputs)
    for place, labels in enumerate(targets):
        present = labels[labels != IGNORED].unique()
        if len(present):
            parts = parts_of(model, outputs, place, labels[None] == present[:, None, None], present)
            total = total + model.get_loss(parts) * (labels != IGNORED).sum()
    return total


def answered(model: Any, batch: dict[str, Any]) -> Any:
    """Return a model's outputs for a batch, without what it is trained on."""
    aside = {"labels", "targets"}
    return model(**{name: value for name, value in batch.items() if name not in aside and not name.startswith("_")})


def asked(model: Any, batch: dict[str, Any], processor: Any) -> list[np.ndarray]:
    """Return the class (h, w) of each pixel of each picture, as transformers' own pipeline finds it."""
    outputs = answered(model, batch)
    maps = processor.post_process_semantic_segmentation(outputs, target_sizes=[tuple(size) for size in batch["_size"]])
    return [one.cpu().numpy().astype(np.uint8) for one in maps]


USUAL_SIDE = 512  # pixels a side where a processor only says how long the shorter one is to be


def reader(processor: Any) -> tuple[Any, list[str]]:
    """Return a processor that shows a model whole pictures at one size, and what was changed of it.

    What crops would show a mask otherwise than its picture, and sizes that follow the picture would make batches of
    unlike shapes. Masks are never given to it: some resize them as pictures, which makes classes that nobody drew, and
    some number classes anew (`do_reduce_labels`).
    """
    from transformers import SegformerImageProcessorPil

    said = []
    height, width = _sides(processor)
    if not hasattr(processor, "post_process_semantic_segmentation"):
        known = {name: getattr(processor, name) for name in
                 ("image_mean", "image_std", "resample", "do_normalize", "do_rescale", "rescale_factor")
                 if getattr(processor, name, None) is not None}  # fmt: skip
        said.append(f"{type(processor).__name__} gives no masks back: SegformerImageProcessor does, with its numbers")
        processor = SegformerImageProcessorPil(**known)
    if getattr(processor, "do_center_crop", None):
        said.append("pictures are resized whole, not cropped to their middle")
        processor.do_center_crop = False
    from transformers.image_utils import SizeDict

    processor.size = SizeDict(height=height, width=width)
    for name, value in (
        ("do_reduce_labels", False),
        ("do_resize", True),
        ("do_pad", False),
        ("keep_aspect_ratio", False),
    ):
        if hasattr(processor, name):
            setattr(processor, name, value)
    return processor, said


def _sides(processor: Any) -> tuple[int, int]:
    """Return height and width at which pictures are shown."""
    cropped = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", None) else None
    for part in (cropped, processor.size):
        if part and part.get("height") and part.get("width"):
            return int(part["height"]), int(part["width"])
    side = int(processor.size.get("shortest_edge") or USUAL_SIDE)
    side = min(side, USUAL_SIDE)
    return side, side
