"""The frozen lower part of a model, run once: training then starts each step from what it gave.

Exact but for dropout inside the frozen part, which is off, and for its precision, which is float32: the same weights
come out as without. Off where rows change with the epoch (augmentation), for one epoch (nothing would be saved), and
where processes lie on several machines or shard the model.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import nn

from hftransfer.fitting import rules, speed
from hftransfer.fitting.base import Setup
from hftransfer.fitting.processes import is_main_process, wait_for_everyone
from hftransfer.frozen import features
from hftransfer.modeling.batches import moved
from hftransfer.modeling.prepared import Prepared

ITEM = "prefix_item"  # which state belongs to a row; taken off before the model sees the batch
SPLITS = ("train", "validation")
DISK_SHARE = 0.5  # of what is free


@contextmanager
def computed_once(setup: Setup, model: Any) -> Iterator[tuple[Setup, float]]:
    """Yield a Setup whose batches start behind the frozen layers of `model`, and the seconds that these took.

    Yields `setup` itself where the frozen layers cannot be left out or leaving them out saves nothing. Inside, `model`
    answers batches of that Setup; afterwards it is whole again.
    """
    depth = _depth(setup, model) if possible(setup) else 0
    path = setup.run.folder / "frozen.states"
    if not depth:
        yield setup, 0.0
        return
    began = time.perf_counter()
    layers = list(_layers(model))[:depth]
    states = _compute(setup, model, layers[-1], path)
    if states is None:
        yield setup, 0.0
        return
    seconds = time.perf_counter() - began
    rows = sum(len(setup.prepared[split].rows) for split in SPLITS)
    if is_main_process():
        size = path.stat().st_size / 1e6
        text = (
            f"{depth} frozen layers run once over {rows} rows in {seconds:.1f} s ({size:.0f} MB); their dropout is off"
        )
        setup.run.event("notice", message=text)
    hook = model.register_forward_pre_hook(states.take, with_kwargs=True)
    for layer in layers:
        layer.forward = states.passing(last=layer is layers[-1])
    try:
        yield dataclasses.replace(setup, prepared={**setup.prepared, **states.numbered(setup)}), seconds
    finally:
        hook.remove()
        for layer in layers:
            del layer.forward  # the class's own shows again
        wait_for_everyone()
        if is_main_process():
            path.unlink(missing_ok=True)


def possible(setup: Setup) -> bool:
    """Tell whether rows stay as they are, are seen more than once, and all processes read one disk."""
    options, rows = setup.config.train.options, len(setup.prepared["train"].rows)
    choice = speed.default_choice(setup.config, setup.task, setup.threads, rows)
    unit = choice.rows * PartialState().num_processes
    ruled = rules.schedule(options, rows, unit) if setup.config.train.auto else {}
    epochs = float(options.get("num_train_epochs", 3))
    if (steps := int({**ruled, **options}.get("max_steps", -1))) > 0:
        epochs = steps * unit / max(1, rows)
    sharded = {"ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"} & os.environ.keys()
    elsewhere = os.environ.get("LOCAL_WORLD_SIZE", "1") != os.environ.get("WORLD_SIZE", "1")
    replicas = torch.cuda.device_count() > 1 and PartialState().num_processes == 1
    compiled = bool(options.get("torch_compile", False))
    still = setup.prepared["train"].on_epoch is None or setup.config.data.augmentation is None
    counted = all(found.looked_at is None for found in setup.prepared.values())  # every item's places are known
    return (
        epochs > 1
        and still
        and counted
        and not (setup.config.data.streaming or sharded or elsewhere or replicas or compiled)
        and all(split in setup.prepared for split in SPLITS)
    )


def _layers(model: Any) -> nn.ModuleList:
    """Return the outermost list of layers of the backbone; an empty one where it has none."""
    backbone = features.backbone_of(model)
    found = [(name, module) for name, module in backbone.named_modules() if isinstance(module, nn.ModuleList)]
    if not found:
        return nn.ModuleList()
    return min(found, key=lambda pair: (pair[0].count("."), -sum(p.numel() for p in pair[1].parameters())))[1]


def _depth(setup: Setup, model: Any) -> int:
    """Return behind how many layers nothing that trains has had a part: what autograd says of one real batch."""
    layers = list(_layers(model))
    if not layers or any(parameter.requires_grad for parameter in layers[0].parameters()):
        return 0
    trains: list[bool] = []
    shapes: list[bool] = []

    def look(_: Any, inputs: Any, output: Any) -> None:
        hidden, rest = _split(output)
        trains.append(hidden.requires_grad)
        shapes.append(all(part is None for part in rest))

    hooks = [layer.register_forward_hook(look) for layer in layers]
    training = model.training
    try:
        model.to(PartialState().device).eval()
        prepared = setup.prepared["train"]
        batch = setup.collator([prepared.dataset[0]])
        batch.pop("labels")
        with torch.enable_grad():
            model(**moved(batch, PartialState().device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    if len(trains) != len(layers):  # not each once, in order
        return 0
    depth = next((i for i, (grad, plain) in enumerate(zip(trains, shapes, strict=True)) if grad or not plain), None)
    return len(layers) if depth is None else depth


def _split(output: Any) -> tuple[torch.Tensor, tuple[Any, ...]]:
    return (output[0], tuple(output[1:])) if isinstance(output, tuple) else (output, ())


@dataclass
class States:
    """What the frozen layers gave: `values` (places, d) on disk, an item's at `starts[item]` to `starts[item + 1]`.

    Texts have a place for each token; pictures one, whose values have the shape `shape`.
    """

    values: np.ndarray
    starts: np.ndarray
    shape: tuple[int, ...] | None
    extra: tuple[Any, ...] | None  # what a layer returns beside its states; None: it returns them alone
    current: torch.Tensor | None = None

    def numbered(self, setup: Setup) -> dict[str, Prepared]:
        """Return the splits with the number of its state in each row."""
        found, first = {}, 0
        for split in SPLITS:
            prepared = setup.prepared[split]
            numbers = np.arange(first, first + len(prepared.rows))
            found[split] = dataclasses.replace(prepared, dataset=Numbered(prepared.dataset, numbers))
            first += len(prepared.rows)
        return found

    def take(self, model: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Read the states of a batch, before the model sees it."""
        named = dict(named)
        items = named.pop(ITEM)
        parts = [torch.from_numpy(self.values[self.starts[i] : self.starts[i + 1]].copy()) for i in items.tolist()]
        if self.shape is not None:
            states = torch.stack([part.view(self.shape) for part in parts]).to(items.device)
        else:
            mask = named["attention_mask"].bool()
            states = torch.zeros((*mask.shape, self.values.shape[1]), device=items.device)
            states[mask] = torch.cat(parts).to(items.device)
        self.current = states
        return positional, named

    def passing(self, last: bool) -> Any:
        """Return what stands in for a layer: nothing happens until the last, which gives the states."""

        def forward(*positional: Any, **named: Any) -> Any:
            hidden = self.current if last else (positional[0] if positional else named["hidden_states"])
            return hidden if self.extra is None else (hidden, *self.extra)

        return forward


class Numbered:
    """A data set whose rows carry the numbers of their states."""

    def __init__(self, dataset: Any, numbers: np.ndarray) -> None:
        self.dataset, self.numbers = dataset, numbers

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.dataset[int(index)], ITEM: int(self.numbers[index])}

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        rows = self.dataset.__getitems__([int(i) for i in indices])
        return [{**row, ITEM: int(self.numbers[i])} for row, i in zip(rows, indices, strict=True)]

    def select(self, indices: Any) -> Numbered:
        """Return the rows in another order."""
        return Numbered(self.dataset.select(indices), self.numbers[np.asarray(indices)])


def _compute(setup: Setup, model: Any, layer: nn.Module, path: Path) -> States | None:
    """Run the model over every row in float32 and keep what `layer` gives; None when the disk has no room for it."""
    state = PartialState()
    collate = setup.collator
    kept: dict[str, Any] = {}
    hook = layer.register_forward_hook(lambda _, inputs, output: kept.update(output=output))
    training = model.training
    model.to(state.device).eval()

    def run(prepared: Prepared, part: Any) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        batch = collate([prepared.dataset[int(i)] for i in part])
        batch.pop("labels")
        batch = moved(batch, state.device)
        with torch.inference_mode():
            model(**batch)
        return _split(kept["output"])[0].float(), batch

    try:
        splits = [setup.prepared[split] for split in SPLITS]
        hidden, batch = run(splits[0], [0])
        texts = "attention_mask" in batch and all(prepared.lengths is not None for prepared in splits)
        shape = None if texts else tuple(hidden.shape[1:])
        sizes = [
            np.ones(len(p.rows), np.int64) if p.lengths is None or not texts else p.lengths.astype(np.int64)
            for p in splits
        ]
        starts = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
        width = int(hidden.shape[-1] if texts else hidden[0].numel())
        if not room(path.parent, int(starts[-1]) * width * 4):
            return None
        if state.is_main_process:
            np.memmap(path, np.float32, "w+", shape=(int(starts[-1]), width)).flush()
        wait_for_everyone()
        values = np.memmap(path, np.float32, "r+", shape=(int(starts[-1]), width))
        first = 0
        for prepared in splits:
            for whole in features.batches(prepared, state.device.type):
                part = whole[state.process_index :: state.num_processes]
                if not len(part):
                    continue
                hidden, batch = run(prepared, part)
                for at, item in enumerate(part):
                    mine = hidden[at][batch["attention_mask"][at].bool()] if texts else hidden[at].reshape(1, -1)
                    values[starts[first + item] : starts[first + item + 1]] = mine.cpu().numpy()
            first += len(prepared.rows)
        values.flush()
        wait_for_everyone()
    finally:
        hook.remove()
        model.train(training)
    output = kept["output"]
    extra = _split(output)[1] if isinstance(output, tuple) else None
    return States(values, starts, shape, extra)


def room(folder: Path, needed: int) -> bool:
    """Tell whether a disk has room for so many bytes of states."""
    return needed < shutil.disk_usage(folder).free * DISK_SHARE
