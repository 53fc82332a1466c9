"""Short fits that measure a learning rate: rates are tried for a part of the updates, and the best one goes on.

A trial rises to its rate, keeps it, leaves a checkpoint, and then falls to nothing in a few more updates, because a
model is only as good as it looks once the rate is low. What goes on is the checkpoint before the fall: the updates of
the trial that won are the first ones of the fit.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hftransfer.config import RunConfig, TrainConfig
from hftransfer.evaluation.intervals import bootstrap_weights
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure_point, replicates
from hftransfer.fitting import trainer
from hftransfer.fitting.base import Setup
from hftransfer.fitting.processes import is_main_process, wait_for_everyone
from hftransfer.runs import is_whole, write_text

SHARE = 8  # a trial keeps its rate until so much of the whole fit, one part in
FALL = 4  # and falls within so much of that, one part in
APART = 3.0  # from one rate to the next
FOLDER = "trials"  # in the run's folder
RESAMPLES = 400  # of the validation rows
RESAMPLED = "resampled.json"  # in the folder of a trial
SURE = 0.975  # share of them in which a rate above the rule's must be the better one

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """How the rate goes in a fit of `total` updates that begins with a trial: up, level until `kept`, then down."""

    total: int
    kept: int

    @classmethod
    def of(cls, total: int) -> Shape:
        """Return the shape of a fit of so many updates."""
        return cls(total, max(2, total // SHARE))

    @property
    def fall(self) -> int:
        """The updates in which a trial's rate falls."""
        return max(1, self.kept // FALL)

    def options(self, total: int) -> dict[str, Any]:
        """Return TrainingArguments of a fit that ends, its rate at nothing, after `total` updates."""
        warm = self.kept // 2
        levels = {"num_stable_steps": self.kept - warm, "num_decay_steps": total - self.kept, "decay_type": "linear"}
        return {
            "max_steps": total, "warmup_steps": warm, "lr_scheduler_type": "warmup_stable_decay",
            "lr_scheduler_kwargs": levels,
        }  # fmt: skip


class Judged(NamedTuple):
    """How unlikely validation rows are to a model, less being better, by what name, and its answers if it has any."""

    by: str
    loss: float
    found: Predictions | None


@dataclass(frozen=True)
class Trial:
    """What one rate came to on validation rows: their mean loss, infinite where it diverged."""

    name: str
    rate: float
    by: str
    loss: float
    seconds: float
    checkpoint: Path

    @classmethod
    def read(cls, note: Mapping[str, Any], folder: Path, shape: Shape) -> Trial:
        """Return what `to_dict` gave; its checkpoint lies below `folder`."""
        checkpoint = folder / slug(note["name"]) / f"checkpoint-{shape.kept}"
        loss = note.get("loss", math.inf)
        return cls(note["name"], note["learning_rate"], note["judged_by"], loss, note["seconds"], checkpoint)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as result.json has them; a loss that is not finite is left out."""
        found = {"judged_by": self.by} | ({"loss": self.loss} if math.isfinite(self.loss) else {})
        return {"name": self.name, "learning_rate": self.rate, **found, "seconds": round(self.seconds, 2)}


def kept(model: Any) -> State:
    """Return a copy, on the CPU, of all of a model that training could change."""
    parts = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    parts += list(model.named_buffers())
    return {name: value.detach().to("cpu", copy=True) for name, value in parts}


def put_back(model: Any, state: State) -> None:
    """Give a model the values that `kept` copied."""
    there = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, value in state.items():
            there[name].copy_(value)


def with_options(config: RunConfig, options: Mapping[str, Any]) -> RunConfig:
    """Return a configuration whose `train` says so; our own three settings of it stay."""
    own = {name: getattr(config.train, name) for name in TrainConfig.model_fields}
    train = TrainConfig.model_validate({**own, **config.train.options, **options})
    return config.model_copy(update={"train": train})


def attempt(
    setup: Setup, model: Any, name: str, rate: float, shape: Shape, groups: list[dict[str, Any]] | None = None
) -> Trial:
    """Train `model` as it stands for a trial at a rate, and measure it; a trial that was cut off goes on.

    `groups`: those of the optimizer in the whole fit, which goes on from the optimizer of the trial that won.
    """
    folder = setup.run.folder / FOLDER / slug(name)
    options = {
        **shape.options(shape.kept + shape.fall), "learning_rate": rate, "eval_strategy": "no",
        "save_strategy": "steps", "save_steps": shape.kept, "load_best_model_at_end": False,
    }  # fmt: skip
    config = with_options(setup.config, options)
    config = config.model_copy(update={"train": config.train.model_copy(update={"early_stopping_patience": None})})
    began = time.perf_counter()
    found = folder.glob("checkpoint-*") if setup.resume else ()
    whole = sorted((one for one in found if is_whole(one) and step_of(one) <= shape.kept), key=step_of)
    part = dataclasses.replace(
        setup, config=config, checkpoints=folder, trial=name, checkpoint=whole[-1] if whole else None,
        on_checkpoint=None,
    )  # fmt: skip
    fitted = trainer.descend(part, model, rate, groups=groups)
    told = judged(part, fitted.model)
    if told.found is not None and is_main_process():
        write_text(folder / RESAMPLED, json.dumps(resampled(told.found, setup.config.seed)))
    wait_for_everyone()
    seconds = time.perf_counter() - began
    return Trial(name, rate, told.by, told.loss, seconds, folder / f"checkpoint-{shape.kept}")


def judged(setup: Setup, model: Any) -> Judged:
    """Return what validation rows say of a model."""
    return of_outputs(setup, trainer.predict(setup, model, setup.prepared["validation"], judging=True))


def of_outputs(setup: Setup, outputs: Any) -> Judged:
    """Return what answers to the validation rows, in order, come to."""
    answer = setup.answer
    truth: Any = setup.prepared["validation"].truth
    if not all(answer.is_finite(output) for output in outputs):
        return Judged("", math.inf, None)
    found = Predictions(answer, [str(i) for i in range(len(truth))], truth, outputs, setup.groups.get("validation"))
    name, value = answer.unlikelihood(truth, outputs)
    return Judged(name, value, found) if math.isfinite(value) else Judged(name, math.inf, None)


def resampled(found: Predictions, seed: int) -> list[float]:
    """Return what is the less the better on each of RESAMPLES resamples of the rows, or of their groups.

    The same seed draws the same rows: two rates are compared on each.
    """
    answer, name = found.answer, found.answer.judged_by
    parts = answer.unlikelihoods(found.truth, found.outputs)
    if parts is None:
        values = replicates(found, [name], RESAMPLES, seed)[name]
        return [float(value) for value in (-values if answer.METRICS[name].greater_is_better else values)]
    drawn = bootstrap_weights(len(found), RESAMPLES, seed, found.codes)
    sums = [[(part[:, None] * weights).sum(axis=0) for part in parts] for weights in drawn]
    return [float(value) for losses, counts in sums for value in losses / counts]


def chosen(several: Sequence[Trial], centre: float) -> Trial:
    """Return the trial that goes on: the one of the lowest loss, unless it went above the rule's rate by chance.

    A few updates flatter high rates, whose harm shows in a whole fit (Wu et al. 2018, arXiv:1803.02021): a rate above
    the rule's must be better than the next lower one on nearly all resamples of the validation rows.
    """
    best = min(several, key=lambda one: (one.loss, one.rate))
    lower = [one for one in several if centre <= one.rate < best.rate and math.isfinite(one.loss)]
    for one in sorted(lower, key=lambda one: -one.rate):
        if not _surely_better(best, one):
            best = one
    return best


def _surely_better(one: Trial, other: Trial) -> bool:
    """Tell whether a trial is better than another on nearly all resamples; True where there are none to ask."""
    found = [trial.checkpoint.parent / RESAMPLED for trial in (one, other)]
    if not all(path.is_file() for path in found):  # of an older version
        return True
    left, right = (np.array(json.loads(path.read_text(encoding="utf-8"))) for path in found)
    return float((left < right).mean()) >= SURE


class Scored(NamedTuple):
    """The main metric of two models on validation rows, which differ in it."""

    metric: str
    first: float
    second: float
    first_is_better: bool


def by_score(one: Predictions | None, other: Predictions | None, seed: int) -> Scored | None:
    """Return two models' scores where the likelihood of validation rows does not tell which is better; else None."""
    if one is None or other is None or (one.answer.linear is not None and one.answer.linear.numeric):
        return None  # of numbers both are the same error
    left, right = (np.array(resampled(found, seed)) for found in (one, other))
    share = float((left < right).mean())
    if not 1 - SURE < share < SURE:
        return None
    metric = one.answer.main_metric
    first, second = (measure_point(found, [metric]).get(metric, math.nan) for found in (one, other))
    if first == second or not (math.isfinite(first) and math.isfinite(second)):
        return None
    return Scored(metric, first, second, (first > second) == one.answer.METRICS[metric].greater_is_better)


def rates(centre: float) -> tuple[float, ...]:
    """Return the rates to try, the rule's own first."""
    return tuple(float(f"{rate:.1e}") for rate in (centre, centre * APART, centre / APART))


def beyond(best: float, centre: float) -> float | None:
    """Return one rate more, where the best of those tried lies at their edge."""
    middle, *edges = rates(centre)
    if best not in edges:
        return None
    return float(f"{best * APART if best > middle else best / APART:.1e}")


def slug(name: str) -> str:
    """Return the name of a trial's folder."""
    return "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in name)


def step_of(folder: Path) -> int:
    """Return the step of a checkpoint's folder."""
    return int(folder.name.rpartition("-")[2])


def go_on_from(setup: Setup, best: Trial) -> Path:
    """Put the checkpoint of the trial that won where the fit's own are, and return it."""
    target = setup.run.checkpoints / best.checkpoint.name
    if is_main_process() and not is_whole(target):
        shutil.rmtree(target, ignore_errors=True)
        staged = target.with_name(f"{target.name}.part")
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(best.checkpoint, staged)
        staged.rename(target)
    wait_for_everyone()
    return target


def cost(total: int, count: int) -> float:
    """Return how many updates a fit of `total` takes with `count` trials before it, as a share of `total`."""
    shape = Shape.of(total)
    return (total + (count - 1) * shape.kept + count * shape.fall) / total
