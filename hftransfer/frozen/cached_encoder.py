"""The frozen encoder of a model that hears and writes, run once: training then starts each step from its states.

Of adapters, where they are in the decoder alone. Off where rows change with the epoch (augmentation, SpecAugment), for
one epoch, and where `cached_layers` is off.
Train is encoded at the length of its longest clip, and validation at the whole length, as it is asked; in float32.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hftransfer.fitting.base import Setup
from hftransfer.fitting.processes import is_main_process, wait_for_everyone
from hftransfer.frozen.cached_layers import ITEM, SPLITS, possible, room
from hftransfer.modeling import inference, short_clips
from hftransfer.modeling.prepared import Prepared

BATCH = 16  # clips that are encoded at once
TAUGHT = ("labels", "targets")  # what an item holds besides what is heard


@contextmanager
def computed_once(setup: Setup, model: Any) -> Iterator[tuple[Setup, float]]:
    """Yield a Setup whose batches start behind the frozen encoder of `model`, and the seconds that this took.

    Yields `setup` itself where nothing would be saved. Inside, `model` answers batches of that Setup.
    """
    encoder = _encoder(setup, model)
    path = setup.run.folder / "frozen.states"
    if encoder is None:
        if is_main_process() and _would_be(setup, model):
            text = (
                "the frozen encoder runs in every epoch, as recordings change at random; data.augmentation=false: once"
            )
            setup.run.event("notice", message=text)
        yield setup, 0.0
        return
    began = time.perf_counter()
    states = _compute(setup, model, encoder, path)
    if states is None:
        yield setup, 0.0
        return
    seconds = time.perf_counter() - began
    if is_main_process():
        size = path.stat().st_size / 1e6
        text = f"the frozen encoder ran once over {len(states.starts) - 1} rows in {seconds:.1f} s ({size:.0f} MB)"
        setup.run.event("notice", message=text)
    hook = model.register_forward_pre_hook(states.take, with_kwargs=True)
    try:
        # without rows: what is watched while a model learns is asked from the beginning, and there is none of it here
        yield dataclasses.replace(setup, prepared={**setup.prepared, **states.prepared}, rows={}), seconds
    finally:
        hook.remove()
        wait_for_everyone()
        if is_main_process():
            path.unlink(missing_ok=True)


def _encoder(setup: Setup, model: Any) -> WhisperEncoder | None:
    """Return the encoder, where it is one that hears, all of it is frozen, and it gives the same at every epoch."""
    found = [module for module in model.modules() if isinstance(module, WhisperEncoder)]
    if len(found) != 1 or not setup.answer.generates or not possible(setup) or model.config.apply_spec_augment:
        return None
    return None if any(p.requires_grad for p in found[0].parameters()) else found[0]


def _would_be(setup: Setup, model: Any) -> bool:
    """Tell whether nothing but augmentation stands in the way."""
    if setup.config.data.augmentation is None:
        return False
    data = setup.config.data.model_copy(update={"augmentation": None})
    still = dataclasses.replace(setup, config=setup.config.model_copy(update={"data": data}))
    return _encoder(still, model) is not None


@dataclass
class States:
    """What the encoder gave: `values` (places, d) on disk, an item's at `starts[item]` to `starts[item + 1]`."""

    values: np.ndarray
    starts: np.ndarray
    prepared: dict[str, Prepared]

    def take(self, model: Any, positional: Any, named: dict[str, Any]) -> Any:
        """Read the states of a batch, before the model sees it."""
        named = dict(named)
        items = named.pop(ITEM)
        parts = [torch.from_numpy(self.values[self.starts[i] : self.starts[i + 1]].copy()) for i in items.tolist()]
        named["encoder_outputs"] = BaseModelOutput(last_hidden_state=torch.stack(parts).to(items.device))
        return positional, named


class Taught:
    """A data set of what is to be written alone, each row with the number of its states."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[int(index)]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return [self.rows[int(i)] for i in indices]

    def select(self, indices: Any) -> Taught:
        """Return the rows in another order."""
        return Taught([self.rows[int(i)] for i in indices])


def _compute(setup: Setup, model: Any, encoder: WhisperEncoder, path: Path) -> States | None:
    """Encode every row in float32; None when the disk has no room for the states."""
    state, whole = PartialState(), encoder.config.max_source_positions
    counts = [len(setup.prepared[split]) for split in SPLITS]
    longest = _longest(setup.prepared["train"], whole) if setup.config.speed.short_clips else whole
    places = dict(zip(SPLITS, (longest, whole), strict=True))
    sizes = np.repeat([places[split] for split in SPLITS], counts)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    width = encoder.config.d_model
    if not room(path.parent, int(starts[-1]) * width * 4):
        return None
    if state.is_main_process:
        np.memmap(path, np.float32, "w+", shape=(int(starts[-1]), width)).flush()
    wait_for_everyone()
    values = np.memmap(path, np.float32, "r+", shape=(int(starts[-1]), width))
    prepared, first = {}, 0
    with inference.answering(model), torch.inference_mode():
        for split in SPLITS:
            found = setup.prepared[split]
            rows: list[dict[str, Any]] = []
            for start in range(0, len(found), BATCH):
                items = found.items(range(start, min(start + BATCH, len(found))))
                rows += [{name: item[name] for name in TAUGHT if name in item} for item in items]
                mine = range(state.process_index, len(items), state.num_processes)
                if not mine:
                    continue
                features = torch.stack([items[i]["input_features"] for i in mine]).to(state.device)
                given = short_clips.encoded(encoder, features, places[split]).float().cpu().numpy()
                for at, one in zip(mine, given, strict=True):
                    number = first + start + at
                    values[starts[number] : starts[number + 1]] = one
            taught = Taught([{**row, ITEM: first + number} for number, row in enumerate(rows)])
            prepared[split] = dataclasses.replace(found, dataset=taught)
            first += len(found)
    values.flush()
    wait_for_everyone()
    return States(values, starts, prepared)


def _longest(prepared: Prepared, whole: int) -> int:
    assert prepared.lengths is not None and prepared.window is not None
    share = float(prepared.lengths.max()) / (short_clips.PLACES * prepared.window)
    return short_clips.rounded(share * whole, whole)
