"""What a frozen model makes of each row, computed once and kept on disk: probe, rank, curve and hygiene share it.

A file of the user's cache holds one split's features. Its name is a hash of the weights, the split's fingerprint, the
task, the processor and its limit, the settings of the model, and the precision: what could change a number changes
the name.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.numpy
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from safetensors import SafetensorError
from torch import nn

from hftransfer import runs, samples
from hftransfer.answers._head import IGNORED
from hftransfer.answers.base import Answer
from hftransfer.errors import UserError
from hftransfer.fitting import precision
from hftransfer.fitting.base import Setup
from hftransfer.modeling import inference, prepared
from hftransfer.modeling.loading import Loaded
from hftransfer.modeling.parts import backbone_name, head_modules
from hftransfer.modeling.prepared import Prepared

FORM = 1  # of the files; a change of what is pooled makes old ones unfindable
HEAD = "head"  # the pooling that a model's own output layer is shown
TOKENS = {"cpu": 2048, "cuda": 65536}  # of one batch
PICTURES = {"cpu": 32, "cuda": 256}
CACHE_BYTES = 4 * 2**30  # the least recently used files beyond it are deleted


@dataclass(frozen=True)
class Features:
    """What a frozen model makes of the rows of one split.

    `pooled` has float32 arrays (n, d) by pooling; `targets` is (n,) labels or numbers, or (n, k) of 0 and 1; `rows`
    (n,) tells from which row of the split each comes: rows in order, one a row, but for tags one a word. `seconds` is
    what computing them took, whenever that was; `cached` tells whether this call read them from disk.
    """

    pooled: Mapping[str, np.ndarray]
    targets: np.ndarray
    rows: np.ndarray
    seconds: float
    cached: bool

    def __len__(self) -> int:
        return len(self.rows)


def extract(setup: Setup, loaded: Loaded, split: str, exact: bool = False) -> Features:
    """Return the features of a split of `setup` (without augmentation), from disk where they were computed before.

    `loaded.model` is a model of the task with a head for these labels, as `loading.load_model` returns it; a tuned
    one goes in by `dataclasses.replace(loaded, model=tuned)`. It is left as it was but for its device.

    Poolings of texts and sounds: `first` and `last` token, `mean` over the tokens, `pooler` where the architecture has
    one whose weights are not new; of pictures: `mean` over patches or places, `pooler`; of all: `head`, what the
    model's own output layer is shown (of tags: each word's first piece; that is their only one).

    `exact` computes in float32, as `pipeline()` does; otherwise in bfloat16 where the processor has it. A ladder
    compares costs: it computes anew what was on disk before it began, whose seconds are of another day.
    Every process must call; every process gets all rows.
    """
    if setup.config.data.streaming:
        raise UserError(
            "features are computed from rows on disk", "data.streaming is true", "Set data.streaming=false."
        )
    if setup.whole is not None:
        parts = [extract(setup.whole, loaded, use, exact) for use in ("train", "validation", "test")]
        return of_rows(parts, setup.places[split])
    half = not exact and precision.quick_bf16() and loaded.model.config.model_type not in inference.FLOAT32
    path = place(setup, loaded, split, half, [output_layer(loaded.model, setup.answer)])
    found = _read(path, runs.ladder_began(setup.run))
    if not all(gather_object([found is not None])):  # a machine of its own may lack the file
        found = _compute(setup, loaded, split, half)
        if PartialState().is_local_main_process:
            _write(path, found)
    assert found is not None
    return found


def of_rows(parts: Sequence[Features], places: np.ndarray) -> Features:
    """Return the features of some rows, in this order, `places` being theirs in all parts one after the other."""
    starts = np.cumsum([0, *(int(part.rows.max()) + 1 for part in parts)])
    rows = np.concatenate([part.rows + start for part, start in zip(parts, starts, strict=False)])
    first = np.searchsorted(rows, np.arange(starts[-1] + 1))  # rows come in order, each with its entries
    entries = [np.arange(first[place], first[place + 1]) for place in places]
    chosen = np.concatenate(entries) if entries else np.empty(0, np.int64)
    return Features(
        {name: np.concatenate([part.pooled[name] for part in parts])[chosen] for name in parts[0].pooled},
        np.concatenate([part.targets for part in parts])[chosen],
        np.repeat(np.arange(len(places)), [len(part) for part in entries]),
        sum(part.seconds for part in parts) * len(places) / max(int(starts[-1]), 1),
        all(part.cached for part in parts),
    )


def _settled(path: Path) -> bytes:
    """Return what a file holds, of a tokenizer without how it padded and cut the last texts that it read."""
    if path.name != "tokenizer.json":
        return path.read_bytes()
    held = json.loads(path.read_bytes())
    return json.dumps({name: value for name, value in held.items() if name not in ("padding", "truncation")}).encode()


class Timed(Protocol):
    """What a model made of some rows: how long that took, and whether it was found."""

    @property
    def seconds(self) -> float: ...

    @property
    def cached(self) -> bool: ...

    def __len__(self) -> int: ...


def tell(setup: Setup, found: Sequence[Timed]) -> None:
    """Write that features were computed or found; `spared` are the seconds of those that were found."""
    if PartialState().is_main_process:
        setup.run.event(
            "features",
            rows=sum(len(one) for one in found),
            seconds=round(sum(one.seconds for one in found), 2),
            cached=all(one.cached for one in found),
            spared=round(sum(one.seconds for one in found if one.cached), 2),
        )


def of_first_rows(setup: Setup, loaded: Loaded, split: str, count: int) -> Mapping[str, np.ndarray]:
    """Return what `extract(...).pooled` would begin with, in float32, on this process alone; at most `count`."""
    found = without_augmentation(setup, split)
    items = _passed(setup, loaded, found, [np.arange(min(count, len(found)))], half=False, alone=True)
    return _pooled_of([items[i] for i in range(len(items))])


def output_layer(model: nn.Module, answer: Answer[Any]) -> str:
    """Return the name of the linear layer that gives the logits; UserError where there is none."""
    if answer.linear is None:
        raise UserError(
            "answers that a linear head can give are needed",
            f"these are {answer.called}",
            "Use method.name=full or lora.",
        )
    heads = head_modules(model)
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == answer.outputs and name.split(".")[0] in heads
    ]
    if not found:
        raise UserError(
            "a model whose answers come from one linear layer is needed",
            f"{type(model).__name__} has none with {answer.outputs} outputs",
            "Use method.name=full or lora with this model.",
        )
    return found[-1]


def backbone_of(model: Any) -> nn.Module:
    """Return the pretrained part."""
    found: nn.Module = model.get_submodule(backbone_name(model))
    return found


def without_augmentation(setup: Setup, split: str) -> Prepared:
    """Return a split's rows as a model takes them, the same at every epoch."""
    found = setup.prepared[split]
    if found.on_epoch is None:  # nothing about it changes with the epoch
        return found
    return prepared.prepare(setup.task, setup.rows[split], setup.processor, setup.preparation, training=False)


@contextmanager
def kept_outputs(model: Any, answer: Answer[Any]) -> Iterator[dict[str, Any]]:
    """Collect, during each forward pass, what the backbone gives (`backbone`) and what the output layer is shown."""
    kept: dict[str, Any] = {}
    layer = model.get_submodule(output_layer(model, answer))
    backbone = backbone_of(model)
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: kept.update({HEAD: inputs[0]})),
        backbone.register_forward_hook(lambda _, inputs, outputs: kept.update(backbone=outputs)),
    ]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _compute(setup: Setup, loaded: Loaded, split: str, half: bool) -> Features:
    """Run the model over the rows, each process over its share."""
    began = time.perf_counter()
    found = without_augmentation(setup, split)
    passed = _passed(setup, loaded, found, batches(found, PartialState().device.type), half)
    items = [passed[i] for i in range(len(found))]
    entries = [len(parts[HEAD]) for parts in items]
    targets = setup.answer.entries(found.truth)
    return Features(
        _pooled_of(items), targets, np.repeat(found.rows, entries), time.perf_counter() - began, cached=False
    )


Pooled = dict[str, np.ndarray]  # by pooling: (entries, d) of one item


def _passed(
    setup: Setup, loaded: Loaded, found: Prepared, parts: Sequence[np.ndarray], half: bool, alone: bool = False
) -> dict[int, Pooled]:
    """Return what the model makes of the items in `parts`, one batch each, by the item's number."""
    model, linear = loaded.model, setup.answer.linear
    assert linear is not None
    padding = model.config.to_dict().get("pad_token_id")
    with inference.answering(model), kept_outputs(model, setup.answer) as kept:

        def take(batch: dict[str, Any]) -> list[Pooled]:
            inputs = {name: value for name, value in batch.items() if name != "labels" and not name.startswith("_")}
            model(**inputs)
            if linear.by_part:  # each word's first piece
                states, known = kept[HEAD].float().cpu().numpy(), batch["labels"].cpu().numpy() != IGNORED
                return [{HEAD: state[words]} for state, words in zip(states, known, strict=True)]
            pooled = _pooled(kept, inputs, loaded.fresh, padding, backbone_of(model))
            arrays = {name: value.float().cpu().numpy() for name, value in pooled.items()}
            return [{name: value[at : at + 1] for name, value in arrays.items()} for at in range(len(arrays[HEAD]))]

        # around all batches: within it each weight is cast once
        with torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16, enabled=half):
            return inference.over(model, found, setup.asking, take, parts, alone=alone)


def _pooled_of(items: Sequence[Pooled]) -> Pooled:
    return {name: np.concatenate([parts[name] for parts in items]) for name in sorted(items[0])}


def _pooled(
    kept: Mapping[str, Any], batch: Mapping[str, torch.Tensor], fresh: Sequence[str], padding: Any, backbone: Any
) -> dict[str, torch.Tensor]:
    outputs = kept["backbone"]
    hidden = outputs["last_hidden_state"].float()
    pooled: dict[str, torch.Tensor] = {}
    if hidden.dim() == 4:  # a feature map (rows, channels, height, width)
        pooled["mean"] = hidden.mean(dim=(2, 3))
    else:
        mask = batch.get("attention_mask")
        mask = torch.ones(hidden.shape[:2], device=hidden.device) if mask is None else mask
        if mask.shape[1] != hidden.shape[1]:  # of samples, of which many make one place
            mask = backbone._get_feature_vector_attention_mask(hidden.shape[1], mask)
        pooled["mean"] = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        pooled["first"] = hidden[:, 0]
        places = torch.arange(hidden.shape[1], device=hidden.device) * mask
        pooled["last"] = hidden[torch.arange(len(hidden), device=hidden.device), places.argmax(dim=1)]
    own = outputs.get("pooler_output")
    if own is not None and not any("pooler" in name for name in fresh):
        pooled["pooler"] = own.flatten(1)
    shown = kept[HEAD]
    if shown.dim() == 3:  # decoders put their output layer on every token and take the answer of the last real one
        real = (batch["input_ids"] != padding).int() * torch.arange(shown.shape[1], device=shown.device)
        shown = shown[torch.arange(len(shown), device=shown.device), real.argmax(dim=1)]
    pooled[HEAD] = shown
    return pooled


def batches(prepared: Prepared, device: str) -> list[np.ndarray]:
    """Return the items of each pass, texts from the longest down with so many tokens that the memory is used well."""
    count = len(prepared.rows)
    if prepared.lengths is None:
        size = PICTURES.get(device, PICTURES["cpu"])
        return [np.arange(i, min(i + size, count)) for i in range(0, count, size)]
    budget = TOKENS.get(device, TOKENS["cpu"])
    order = np.argsort(-prepared.lengths, kind="stable")
    parts = []
    for alike in [order] if prepared.mixed else inference.by_length(prepared, order):
        start = 0
        while start < len(alike):
            size = max(1, budget // max(1, int(prepared.lengths[alike[start]])))
            parts.append(alike[start : start + size])
            start += size
    return parts


# --- on disk ---


def place(setup: Setup, loaded: Loaded, split: str, half: bool, without: Sequence[str]) -> Path:
    """Return the file for what a model, all but its modules or weights `without`, makes of a split.

    Whatever could change that is in its name.
    """
    model = loaded.model
    settings = {k: v for k, v in model.config.to_dict().items() if not k.startswith(("_", "id2label", "label2id"))}
    parts = [
        FORM, setup.task.name, setup.fingerprints[split], setup.preparation.max_length, half, sorted(loaded.fresh),
        weights_hash(model, without), _processor_hash(setup.processor), setup.task.said(setup.config.data),
        {k: v for k, v in settings.items() if k not in ("name_or_path", "transformers_version", "problem_type")},
        PartialState().device.type, None if setup.answer.catalogue is None else setup.answer.catalogue.digest,
    ]  # fmt: skip
    name = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:40]
    return samples.cache_folder() / "features" / f"{name}.safetensors"


def weights_hash(model: nn.Module, without: Sequence[str]) -> str:
    """Return a hash over every weight and buffer but those named, or of modules named."""
    found = hashlib.blake2b(digest_size=20)
    for name, value in sorted(model.state_dict().items()):
        if not any(name == one or name.startswith(f"{one}.") for one in without):
            found.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _processor_hash(processor: Any) -> str:
    """Return a hash over the files that a tokenizer or image processor is saved as."""
    found = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix="hftransfer-processor-") as folder:
        processor.save_pretrained(folder)
        for path in sorted(Path(folder).iterdir()):
            found.update(path.name.encode() + _settled(path))
    return found.hexdigest()


def read(path: Path, since: float) -> tuple[dict[str, np.ndarray], float] | None:
    """Return arrays that were written at `since` or later, and the seconds that they took; None where none were."""
    try:
        arrays = safetensors.numpy.load_file(path)
        os.utime(path)  # used just now
    except (FileNotFoundError, SafetensorError):  # none, or one that was cut off
        return None
    seconds, *when = map(float, arrays.pop("seconds"))
    return None if sum(when) < since else (arrays, seconds)


def _read(path: Path, since: float) -> Features | None:
    kept = read(path, since)
    if kept is None:
        return None
    arrays, seconds = kept
    targets, rows = arrays.pop("targets"), arrays.pop("rows")
    pooled = {name.removeprefix("pooled."): arrays[name] for name in sorted(arrays)}
    return Features(pooled, targets, rows, seconds, cached=True)


def _write(path: Path, features: Features) -> None:
    arrays = {f"pooled.{name}": value for name, value in features.pooled.items()}
    write(path, {**arrays, "targets": features.targets, "rows": features.rows}, features.seconds)


def write(path: Path, arrays: Mapping[str, np.ndarray], seconds: float) -> None:
    """Write arrays in one go, with the seconds that they took, and delete the oldest files of a full cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    arrays["seconds"] = np.array([seconds, time.time()])  # that it took, and when
    fresh = path.with_name(f".{path.stem}-{os.getpid()}")
    try:
        safetensors.numpy.save_file(arrays, fresh)
        fresh.rename(path)
    except OSError:  # a full or read-only disk costs time later, not the run
        fresh.unlink(missing_ok=True)
        return
    kept = sorted(path.parent.glob("*.safetensors"), key=lambda p: -p.stat().st_mtime)
    total = 0
    for file in kept:
        total += file.stat().st_size
        if total > CACHE_BYTES and file != path:
            file.unlink(missing_ok=True)
