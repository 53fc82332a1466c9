"""A probe of what no linear head gives: a model's last layers alone, trained on what the frozen rest makes once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from hftransfer import runs
from hftransfer.errors import UserError
from hftransfer.fitting.base import Fitted, Setup, phase
from hftransfer.frozen import features
from hftransfer.modeling import inference
from hftransfer.modeling.loading import Loaded
from hftransfer.modeling.parts import count_parameters

STEPS = 100
LOOKS = 5  # at validation rows, in a fit
ROWS = 1024  # that are compared at once
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.1
DROPOUT = 0.5  # the share of what is before the last layers that is left out at each update


@dataclass(frozen=True)
class Made:
    """What the frozen part of a model made of the rows of a split: entries by name, and how many each row has."""

    arrays: Mapping[str, np.ndarray]
    counts: Mapping[str, np.ndarray]
    seconds: float
    cached: bool = False

    def __len__(self) -> int:
        return len(next(iter(self.counts.values())))

    def rows(self, places: np.ndarray, device: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return the entries of some rows, and how many each has, on a device."""
        arrays, counts = {}, {}
        for name, values in self.arrays.items():
            many = self.counts[name]
            starts = np.cumsum(many) - many
            chosen = np.concatenate([np.arange(starts[at], starts[at] + many[at]) for at in places])
            arrays[name] = torch.from_numpy(values[chosen]).to(device)
            counts[name] = torch.from_numpy(many[places]).to(device)
        return arrays, counts


def fit(setup: Setup, loaded: Loaded) -> Fitted:
    """Solve and train the last layers on train's rows, and keep what is best for validation's."""
    began, model = time.perf_counter(), loaded.model
    trained = parts_of(setup, model)
    phase(setup, "features")
    train, validation = (made(setup, loaded, split, trained) for split in ("train", "validation"))
    if not len(train) or not len(validation):
        raise UserError("rows to fit and to choose by are needed", "a split is empty", "Set data.validation_size.")
    state = PartialState()
    if state.is_main_process:
        features.tell(setup, (train, validation))
    phase(setup, "training")
    found: list[Any] = [None]
    if state.is_main_process:
        found[0] = best_of(setup, model, trained, train, validation)
    weights, told = broadcast_object_list(found)[0]
    put(model, weights)
    if state.is_main_process:
        setup.run.event("notice", message=f"probe: {told}")
    seconds = time.perf_counter() - began
    return Fitted(
        model=model,
        train_seconds=seconds,
        examples_per_second=len(train) / seconds,
        trainable_parameters=sum(model.get_parameter(name).numel() for name in trained),
        total_parameters=count_parameters(model)[1],
        steps=0,
    )


def parts_of(setup: Setup, model: Any) -> tuple[str, ...]:
    """Return the names of the parameters that are trained, and freeze the rest."""
    layers = setup.answer.last_layers(model)
    names = [name for name, _ in model.named_parameters()]
    trained = tuple(name for name in names if any(name == one or name.startswith(f"{one}.") for one in layers))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return trained


def made(setup: Setup, loaded: Loaded, split: str, trained: Sequence[str]) -> Made:
    """Return what all but the `trained` weights make of a split's rows, from disk where it was computed before.

    Every process must call; every process gets all rows.
    """
    path = features.place(setup, loaded, split, False, trained)
    kept = features.read(path, runs.ladder_began(setup.run))
    if not all(gather_object([kept is not None])):  # a machine of its own may lack the file
        found = _computed(setup, loaded, split)
        if PartialState().is_local_main_process:
            parts = {"arrays": found.arrays, "counts": found.counts}
            flat = {f"{part}.{name}": value for part, held in parts.items() for name, value in held.items()}
            features.write(path, flat, found.seconds)
        return found
    assert kept is not None
    arrays, counts = (
        {name.partition(".")[2]: value for name, value in sorted(kept[0].items()) if name.startswith(part)}
        for part in ("arrays.", "counts.")
    )
    return Made(arrays, counts, kept[1], cached=True)


def _computed(setup: Setup, loaded: Loaded, split: str) -> Made:
    """Run the frozen part over the rows, each process over its share."""
    began = time.perf_counter()
    found = features.without_augmentation(setup, split)
    places = features.batches(found, PartialState().device.type)
    with inference.answering(loaded.model):
        passed = inference.over(
            loaded.model, found, setup.asking, lambda batch: setup.answer.before_them(loaded.model, batch), places
        )
    items = [passed[at] for at in range(len(found))]
    names = list(items[0]) if items else []
    return Made(
        {name: np.concatenate([item[name] for item in items]) for name in names},
        {name: np.array([len(item[name]) for item in items], np.int64) for name in names},
        time.perf_counter() - began,
    )


def best_of(
    setup: Setup, model: Any, trained: tuple[str, ...], train: Made, validation: Made
) -> tuple[dict[str, torch.Tensor], str]:
    """Return the weights that are best for validation rows, and what they are.

    They are among those that the model came with, those that are solved, and those that training from the best of
    these comes to.
    """
    best = Best(setup, model, trained, validation)
    best.look("the last layers as they came")
    for about, values in setup.answer.solved(model, train.arrays, train.counts):
        put(model, {name: torch.from_numpy(value) for name, value in values.items()})
        best.look(f"the last layers by {about}")
    put(model, best.weights)
    begun = best.about
    for step in descend(setup, model, trained, train):
        best.look(f"{begun}, then {step} updates")
    return best.weights, best.about


class Best:
    """The best weights so far, by validation rows."""

    def __init__(self, setup: Setup, model: Any, trained: tuple[str, ...], validation: Made) -> None:
        self.setup, self.model, self.trained, self.validation = setup, model, trained, validation
        self.loss, self.about = np.inf, ""
        self.weights: dict[str, torch.Tensor] = {}

    def look(self, about: str) -> None:
        """Fit what is one number each (a scale) to the validation rows, and keep the weights if they are better."""
        came = {name: self.model.get_parameter(name).detach().clone() for name in self.trained}
        settle(self.setup, self.model, self.trained, self.validation)
        found = loss_of(self.setup, self.model, self.validation)
        if found < self.loss:
            self.loss, self.about = found, about
            self.weights = {name: self.model.get_parameter(name).detach().cpu().clone() for name in self.trained}
        put(self.model, came)  # training goes on from there


def put(model: Any, values: Mapping[str, torch.Tensor]) -> None:
    """Set parameters by name."""
    with torch.no_grad():
        for name, value in values.items():
            model.get_parameter(name).copy_(value)


def settle(setup: Setup, model: Any, trained: tuple[str, ...], validation: Made) -> None:
    """Fit those parameters that are one number each to the loss of the validation rows."""
    scales = [model.get_parameter(name) for name in trained if model.get_parameter(name).numel() == 1]
    if not scales:
        return
    arrays, counts = validation.rows(np.arange(len(validation)), scales[0].device)
    loss, optimizer = setup.answer.loss(), torch.optim.LBFGS(scales, max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        value = loss(*setup.answer.behind_them(model, arrays, counts))
        value.backward()
        return value.item()

    optimizer.step(closure)
    model.zero_grad()


def descend(setup: Setup, model: Any, trained: tuple[str, ...], train: Made) -> Iterator[int]:
    """Train the last layers with AdamW, and yield the number of updates where it is worth a look."""
    device, loss = next(model.parameters()).device, setup.answer.loss()
    parameters = [model.get_parameter(name) for name in trained]
    groups = [
        {"params": [one for one in parameters if one.dim() > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [one for one in parameters if one.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    generator = torch.Generator().manual_seed(setup.config.seed)
    for step in range(1, STEPS + 1):
        places = torch.randperm(len(train), generator=generator)[:ROWS].numpy()
        arrays, counts = train.rows(places, device)
        shown = {name: dropped(value, DROPOUT, generator) for name, value in arrays.items()}
        optimizer.zero_grad()
        loss(*setup.answer.behind_them(model, shown, counts)).backward()
        optimizer.step()
        schedule.step()
        if step % (STEPS // LOOKS) == 0:
            yield step


def dropped(value: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Return numbers with a share of them left out at random, and the others larger to match."""
    if not share or not value.is_floating_point():
        return value
    kept = torch.rand(value.shape, generator=generator).to(value.device) >= share
    return value * kept / (1 - share)


def loss_of(setup: Setup, model: Any, validation: Made) -> float:
    """Return the loss of the validation rows: of few rows, shares of what is found say less."""
    arrays, counts = validation.rows(np.arange(len(validation)), next(model.parameters()).device)
    with torch.no_grad():
        return float(setup.answer.loss()(*setup.answer.behind_them(model, arrays, counts)))
