"""The one loop in which a model answers: for evaluation, Predictor, features, and what is asked without training."""

from __future__ import annotations

import functools
import hashlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import convert_outputs_to_fp32, gather_object
from torch import nn
from torch.utils.data import DataLoader, Dataset

from hftransfer.answers.base import Answer, Rows
from hftransfer.errors import UserError
from hftransfer.modeling.batches import Collator, moved
from hftransfer.modeling.prepared import Entries, Prepared

T = TypeVar("T")
Take = Callable[[dict[str, Any]], Sequence[T]]  # a batch on the device -> one thing an item
BATCH = 64
GPU_BATCH = 256  # a small model on 64 short rows leaves a GPU waiting for the next call
HALF_ONLY = ("flash",)  # in the names of attention kernels that take no float32
FLOAT32 = ("deberta",)  # its mask has a number that bfloat16 cannot hold
ENTRANCES = ("get_image_features", "get_text_features")  # by which a part of a model is asked
AT_ONCE = 50_000  # entries of a catalogue whose vectors are held apart before they are put together


def ask(
    answer: Answer[Any],
    model: Any,
    prepared: Prepared,
    collate: Collator,
    processor: Any,
    size: int = BATCH,
    workers: int = 0,
    alone: bool = False,
    judging: bool = False,
) -> Rows:
    """Return a model's output for every row, in the rows' own order, computed in float32 from the longest item down.

    What is kept of a batch is what the answer keeps of each row. Every process must call and gets all rows, unless
    `alone`. Items of one row are joined as the answer says. `judging`: outputs that `answer.judged_by` is measured of.
    """
    asked = answer.judge if judging else answer.ask
    with answering(model, alone):
        if prepared.entries is not None:
            answer = answer.knowing(known_of(answer, model, prepared.entries, collate, size, workers, alone))
        found = over(
            model, prepared, collate, lambda batch: asked(model, batch, processor), batches(prepared, size), workers,
            alone,
        )  # fmt: skip
    rows: list[list[Any]] = [[] for _ in range(prepared.count)]
    for item, row in enumerate(prepared.rows):
        rows[int(row)].append(found[item])
    return answer.gathered([answer.join(outputs) for outputs in rows])


_KNOWN: weakref.WeakKeyDictionary[Any, tuple[Any, np.ndarray]] = weakref.WeakKeyDictionary()


def known_of(
    answer: Answer[Any], model: Any, entries: Entries, collate: Collator, size: int = BATCH, workers: int = 0,
    alone: bool = False,
) -> np.ndarray:  # fmt: skip
    """Return what a model makes of every entry of a catalogue, (entries, d) of float32.

    Validation and test are answered with the same ones: as long as no weight changed, they are not asked again.
    """
    state = entries.catalogue.digest, entries.preparation.max_length, digest_of(model)
    known = _KNOWN.get(model)
    if known is not None and known[0] == state:
        return known[1]
    found: np.ndarray | None = None
    for start in range(0, len(entries), AT_ONCE):
        places = np.arange(start, min(start + AT_ONCE, len(entries)))
        places = places[np.argsort(-entries.lengths[places], kind="stable")]
        parts = [places[at : at + size] for at in range(0, len(places), size)]
        made = over(model, entries, collate, lambda batch: answer.entry(model, batch), parts, workers, alone)
        first = next(iter(made.values()))
        found = np.empty((len(entries), len(first)), np.float32) if found is None else found
        for place, vector in made.items():
            found[place] = vector
    assert found is not None
    _KNOWN[model] = (state, found)
    return found


def digest_of(model: Any) -> str:
    """Return a hash of all weights: fused optimizers change them without a trace (`_version` stays)."""
    found = hashlib.blake2b(digest_size=16)
    for value in model.state_dict().values():
        found.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.dim() else b"")
    return found.hexdigest()


def over(
    model: Any,
    prepared: Prepared | Entries,
    collate: Collator,
    take: Take[T],
    parts: Sequence[np.ndarray],
    workers: int = 0,
    alone: bool = False,
) -> dict[int, T]:
    """Return what `take` makes of each item, by its number; `parts` are the items of each batch.

    Processes share every part, and all get everything. A batch that memory cannot hold is halved.
    """
    mine = [part for part in (parts if alone else map(_share, parts)) if len(part)]
    device = next(model.parameters()).device
    found: dict[int, T] = {}
    loader: DataLoader[Any] = DataLoader(
        _Items(prepared.dataset if isinstance(prepared, Prepared) else prepared),
        batch_sampler=[[int(place) for place in part] for part in mine],
        collate_fn=collate,
        num_workers=min(workers, len(mine)),
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # else each loop would draw from the random state of training
    )
    # what autocast casts of weights is kept from batch to batch: by the outermost of them, but not in inference mode
    with torch.no_grad(), torch.autocast(device.type, **_as_it_is(device.type)):
        batches = iter(loader)
        for part in mine:
            # a caller's autocast is for the model: Whisper's features, computed by torch, would be bfloat16 too
            with torch.autocast(device.type, enabled=False):
                batch = next(batches)
            found |= zip(
                (int(place) for place in part),
                halving(take, moved(batch, device, device.type == "cuda"), len(part)),
                strict=True,
            )
    if not alone and PartialState().num_processes > 1:
        for share in gather_object([found]):
            found |= share
    return found


def _as_it_is(kind: str) -> dict[str, Any]:
    """Return the arguments of an autocast that changes nothing."""
    return {"dtype": torch.get_autocast_dtype(kind), "enabled": torch.is_autocast_enabled(kind)}


def in_bf16(model: Any) -> None:
    """Have a model compute in bfloat16 from now on, and give float32, as `accelerate` does where it trains so.

    UserError for models whose numbers bfloat16 cannot hold.
    """
    if model.config.model_type in FLOAT32:
        raise UserError(
            "a model whose numbers bfloat16 holds is needed", f"this one is {model.config.model_type}",
            "Leave bf16 out.",
        )  # fmt: skip

    def halved(function: Any) -> Any:
        @functools.wraps(function)
        def run(*values: Any, **named: Any) -> Any:
            with torch.autocast(model.device.type, dtype=torch.bfloat16):
                return function(*values, **named)

        return convert_outputs_to_fp32(run)

    for name in ("forward", *ENTRANCES):
        if hasattr(model, name):
            setattr(model, name, halved(getattr(model, name)))
    if getattr(model.config, "is_encoder_decoder", False):  # `generate` asks it by itself
        encoder = model.get_encoder()
        encoder.forward = halved(encoder.forward)


def _share(part: np.ndarray) -> np.ndarray:
    """Return this process's part of a batch."""
    state = PartialState()
    return part[state.process_index :: state.num_processes]


class _Items(Dataset[Any]):
    """A data set as a loader takes it: a batch of rows in one go where the rows can be had so."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int) -> Any:
        return self.dataset[place]

    def __getitems__(self, places: list[int]) -> list[Any]:
        return list(self.dataset.__getitems__(places))


def halving(take: Take[T], batch: dict[str, Any], count: int) -> list[T]:
    """Return what `take` makes of a batch; in halves where memory does not hold it at once."""
    try:
        return list(take(dict(batch)))
    except (MemoryError, RuntimeError) as error:
        if count == 1 or not _out_of_memory(error):
            raise
    first = count // 2  # outside of the except clause: the traceback would hold on to the batch's memory
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return [
        one
        for start, end in ((0, first), (first, count))
        for one in halving(take, {name: value[start:end] for name, value in batch.items()}, end - start)
    ]


def _out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out; the CPU's allocator has no class of its own for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


@contextmanager
def answering(model: Any, alone: bool = False) -> Iterator[None]:
    """Put a model on this process's device as it answers: without dropout, in the layout that is fast; and back.

    Who is `alone` joins no process group, even where the environment names the processes of a run: so is a Predictor
    that a run's main process starts to see what it published.
    """
    training = model.training
    kernel = attention_of(model)
    device = torch.accelerator.current_accelerator() or torch.device("cpu") if alone else PartialState().device
    model.to(device).eval()
    if is_half_only(kernel):
        set_attention(model, "sdpa")
    try:
        with channels_together(model):
            yield
    finally:
        if kernel is not None and is_half_only(kernel):
            set_attention(model, kernel)
        model.train(training)


def is_half_only(attention: str | None) -> bool:
    """Tell whether an attention kernel takes no float32, in which answers are computed."""
    return attention is not None and any(kind in attention for kind in HALF_ONLY)


def attention_of(model: Any) -> str | None:
    """Return the name of a model's attention kernel; None where it has none."""
    settings = getattr(model, "config", None)
    return getattr(settings, "_attn_implementation", None)


def set_attention(model: Any, name: str) -> None:
    """Set the attention kernel; of a model whose backbone has none (a ResNet under a DETR), all but that."""
    try:
        model.set_attn_implementation(name)
    except ValueError:
        model.set_attn_implementation({"": name})


def batches(prepared: Prepared, size: int) -> list[np.ndarray]:
    """Return the items of each batch, from the longest item down, which pads least."""
    order = np.arange(len(prepared))
    if prepared.lengths is None:
        return [order[start : start + size] for start in range(0, len(order), size)]
    order = np.argsort(-prepared.lengths, kind="stable")
    alike = [order] if prepared.mixed else by_length(prepared, order)
    return [part[start : start + size] for part in alike for start in range(0, len(part), size)]


def by_length(prepared: Prepared, order: np.ndarray) -> list[np.ndarray]:
    """Return items, sorted by length, in groups of one length each."""
    assert prepared.lengths is not None
    return np.split(order, np.flatnonzero(np.diff(prepared.lengths[order])) + 1)


@contextmanager
def channels_together(model: Any) -> Iterator[None]:
    """Keep the channels of a pixel together while a convolutional network only answers: twice as fast on CPU."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    # a transformer's one convolution cuts the picture into patches
    changed = len(layers) > 1 and not any(_channels_last(layer.weight) for layer in layers)
    if changed:
        model.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        if changed:
            model.to(memory_format=torch.contiguous_format)


def _channels_last(weight: torch.Tensor) -> bool:
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
