"""What `method.name=auto` does, decided before it trains: how, how long, at which rate; and the record of it.

Decisions that hang on this machine (its memory, its speed) are written down before anything follows from them: a
resume, and whoever reproduces the run, takes them from there.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import nn

from hftransfer.evaluation.scoring import measure_point
from hftransfer.fitting import rules, speed, trainer, trials
from hftransfer.fitting.arguments import total_steps
from hftransfer.fitting.base import Fitted, Setup
from hftransfer.fitting.processes import is_main_process
from hftransfer.fitting.rules import Chosen
from hftransfer.modeling.loading import Loaded
from hftransfer.modeling.parts import backbone_prefix, count_parameters
from hftransfer.runs import AUTO, Run, read_json, write_text

WHOLE = 16  # bytes a weight that is trained: itself, its gradient, two moments of AdamW
SHARE = 0.5  # of the free memory that they may take; the rest is for activations
MOST = 1_000_000_000  # weights of a model that is trained whole, and of one that is kept twice for a probe
RARE = 20  # rows a class; below, pairs of rows teach more than rows
ENOUGH = 100  # validation rows; of fewer, the difference between two rates is noise
FEW = 40  # validation rows; of fewer, an early look says nothing
LEAST = 60  # updates; a fit of fewer is none
OURS = {"learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "optim"}  # user's: no trials


@dataclass(frozen=True)
class Plan:
    """How a model is adapted: the method, its updates, the rate (of the rule, where trials measure it)."""

    method: str
    updates: int
    rate: float
    trials: bool
    guarded: bool  # whether the fit is looked at on its way
    settings: tuple[Chosen, ...]

    @classmethod
    def read(cls, note: Mapping[str, Any]) -> Plan:
        """Return what `dataclasses.asdict` wrote down."""
        return cls(**{**note, "settings": tuple(Chosen(**one) for one in note["settings"])})


@dataclass
class Record:
    """What was decided and measured, in the run's folder as it comes: `plan`, then what followed."""

    plan: dict[str, Any] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    goes_on: str = ""  # the name of the trial that does
    again: dict[str, Any] = field(default_factory=dict)  # why and how training began once more
    soup: dict[str, Any] = field(default_factory=dict)
    final: dict[str, Any] = field(default_factory=dict)
    looks: int = 0  # how often validation rows were asked about to choose something

    @classmethod
    def of(cls, run: Run) -> Record:
        """Read the record of a run's earlier process; an empty one for a new run."""
        names = {one.name for one in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in read_json(run.folder / AUTO).items() if name in names})

    def note(self, run: Run, **parts: Any) -> None:
        """Take parts down, on the disk too."""
        for name, value in parts.items():
            setattr(self, name, value)
        if is_main_process():
            write_text(run.folder / AUTO, json.dumps(self.to_dict(), indent=1))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as result.json has them."""
        return dataclasses.asdict(self)


def settled(setup: Setup, loaded: Loaded, record: Record, probed: bool) -> Plan:
    """Return the plan, of this run's earlier process or decided now, the same on every process."""
    if not record.plan:
        found: list[Any] = [dataclasses.asdict(_decided(setup, loaded, probed)) if is_main_process() else None]
        record.note(setup.run, plan=broadcast_object_list(found)[0])
    return Plan.read(record.plan)


def way(model: nn.Module) -> str:
    """Return how a model of this size is fine-tuned on this machine: whole, or by low-rank matrices beside it."""
    weights = count_parameters(model)[1]
    too_large = weights > MOST or weights * WHOLE > SHARE * _free_memory()
    return "lora" if too_large and has_linear(model) else "full"


def can_probe(setup: Setup, loaded: Loaded) -> bool:
    """Tell whether a linear head on frozen features gives these answers, of rows on disk and a model of this size."""
    fits = setup.answer.linear is not None and not setup.config.data.streaming
    return fits and count_parameters(loaded.model)[1] <= MOST


def say(setup: Setup, settings: Sequence[Chosen]) -> None:
    """Tell what was chosen, by whom and why."""
    if is_main_process():
        setup.run.event("chosen", settings=[dataclasses.asdict(one) for one in settings])


def tried(setup: Setup, trial: trials.Trial) -> None:
    """Tell what a trial came to."""
    if is_main_process():
        setup.run.event("tried", **trial.to_dict())


def probed(setup: Setup, fitted: Fitted) -> None:
    """Tell what the probe scores on validation rows: a line that fine-tuning should pass."""
    if fitted.held_out is None or not is_main_process():
        return
    found = trials.of_outputs(setup, fitted.held_out).found
    if found is not None:
        names = [name for name in setup.answer.validated if name in setup.answer.metrics]
        values = {name: round(value, 6) for name, value in measure_point(found, names).items()}
        setup.run.event("probed", metrics=values, seconds=round(fitted.train_seconds, 2))


def looks(setup: Setup, record: Record) -> int:
    """Return how often validation rows were asked about something that was then chosen."""
    evaluations = sum(event["type"] == "evaluation" for event in setup.run.events()[0])
    return evaluations + len(record.trials) + int(record.soup.get("tried", 0)) + 2


def notice(setup: Setup, message: str) -> None:
    """Tell something in a sentence, from the main process."""
    if is_main_process():
        setup.run.event("notice", message=message)


def _decided(setup: Setup, loaded: Loaded, probed: bool) -> Plan:
    options, config = setup.config.train.options, setup.config.auto
    rows, held_out = len(setup.prepared["train"].rows), len(setup.prepared["validation"].rows)
    unit = speed.default_choice(setup.config, setup.task, setup.threads, rows).rows * PartialState().num_processes
    weights, family = count_parameters(loaded.model)[1], str(loaded.model.config.model_type)
    method, reason = _method(setup, loaded, probed)
    own = 5e-5 if method == "full" else 5e-4
    ruled = rules.rate(method, own, weights, family)
    rate = float(options.get("learning_rate", ruled))
    total, why = _length(setup, options, rows, unit)
    measured, no_trials = _may_try(setup, method, total, held_out)
    if config.minutes is not None and method in ("full", "lora"):
        seconds = unit * total / _rows_a_second(setup, loaded)
        budget = config.minutes * 60
        if measured and seconds * trials.cost(total, 4) > budget:
            measured, no_trials = False, f"{config.minutes:g} minutes leave no time to measure it"
        if seconds > budget:
            held, least = int(total * budget / seconds), min(LEAST, total)
            if options.keys() & rules.LENGTHS:
                why = f"set by you; they take about {_minutes(seconds)} minutes, more than auto.minutes"
            else:
                if held < LEAST and probed:
                    method, reason = "probe", f"{config.minutes:g} minutes are too few to fine-tune"
                why = f"as many as {config.minutes:g} minutes hold on this machine"
                if held < least:
                    about = _minutes(seconds * least / total)
                    why = f"{least} updates at least; they take about {about} minutes, more than auto.minutes"
                total = max(held, least)
    if config.minutes is not None and method == "few_shot":
        reason = f"{reason}; auto.minutes does not bound this"
    settings = [Chosen("method", method, "rule", reason)]
    if method in ("full", "lora"):
        settings.append(Chosen("updates", total, _origin(options, "max_steps", "num_train_epochs"), why))
        settings.append(Chosen("rows an update", unit, _origin(options, "per_device_train_batch_size"),
                               f"{rows:,} training rows"))  # fmt: skip
        about = f"{weights / 1e6:.1f} M weights of {family}"
        if "learning_rate" in options:
            settings.append(Chosen("learning rate", rate, "given", "set by you"))
        elif measured:
            tried = ", ".join(f"{one:g}" for one in sorted(trials.rates(rate)))
            settings.append(Chosen("learning rate", tried, "measured", f"the best of these; {about}"))
        else:
            settings.append(Chosen("learning rate", rate, "rule", f"{about}; not measured: {no_trials}"))
    unguarded = _no_guard(options, total, held_out)
    if unguarded and method in ("full", "lora"):
        settings.append(Chosen("guard", "off", "rule", unguarded))
    return Plan(method, total, rate, measured, not unguarded, tuple(settings))


def _method(setup: Setup, loaded: Loaded, probed: bool) -> tuple[str, str]:
    answer = setup.answer
    pairs = setup.prepared["train"].on_epoch is None  # of what changes with the epoch, few_shot tunes a head alone
    if pairs and probed and answer.linear is not None and answer.linear.stratified and answer.counts:
        each = len(setup.prepared["train"].rows) / len(answer.counts)
        if each < RARE and min(answer.counts) >= 2:
            return "few_shot", f"{each:.0f} training rows a class: pairs of rows teach more than rows"
    chosen = way(loaded.model)
    weights = count_parameters(loaded.model)[1]
    if chosen == "full":
        return chosen, f"{weights / 1e6:.1f} M weights can all be trained here"
    return chosen, f"{weights / 1e6:,.0f} M weights: with AdamW they would take {weights * WHOLE / 1e9:.1f} GB"


def _length(setup: Setup, options: Mapping[str, Any], rows: int, unit: int) -> tuple[int, str]:
    if options.keys() & {"max_steps", "num_train_epochs"}:
        sized = {"per_device_train_batch_size": unit // PartialState().num_processes, "gradient_accumulation_steps": 1}
        return total_steps({"num_train_epochs": 3, **options, **sized}, rows), "set by you"
    total = int(rules.schedule(options, rows, unit)["max_steps"])
    return total, f"{rows:,} training rows: {total * unit / max(rows, 1):.1f} epochs"


def _may_try(setup: Setup, method: str, total: int, held_out: int) -> tuple[bool, str]:
    """Return whether rates can be tried, and why not."""
    reasons = {
        "auto.trials is false": not setup.config.auto.trials,
        "its schedule is set by you": bool(setup.config.train.options.keys() & OURS),
        f"{held_out} validation rows are too few to tell rates apart ({ENOUGH} are enough)": held_out < ENOUGH,
        f"{total} updates are too few for a part of them to tell": total < LEAST,
        "the weights are spread over processes": bool(
            {"ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"} & os.environ.keys()
        ),
    }
    reason = next((name for name, so in reasons.items() if so), "")
    return not reason and method in ("full", "lora"), reason


def _no_guard(options: Mapping[str, Any], total: int, held_out: int) -> str:
    """Return why nobody looks on the way whether anything is learned; nothing where somebody does."""
    reasons = {
        "train.eval_strategy=no leaves no moment for an early look": options.get("eval_strategy") == "no",
        f"{total} updates are too few for an early look ({LEAST} are enough)": total < LEAST,
        f"{held_out} validation rows are too few for an early look ({FEW} are enough)": held_out < FEW,
    }
    return next((name for name, so in reasons.items() if so), "")


def _minutes(seconds: float) -> str:
    return f"{max(seconds / 60, 0.1):.1f}"


def _origin(options: Mapping[str, Any], *names: str) -> rules.Origin:
    return "given" if options.keys() & set(names) else "rule"


def _rows_a_second(setup: Setup, loaded: Loaded) -> float:
    """Time a few real updates of the whole model."""
    train = setup.prepared["train"]
    start = speed.default_choice(setup.config, setup.task, setup.threads, len(train.rows))
    state = trials.kept(loaded.model)
    batches = speed.typical_batches(train, start.micro_batch)
    trial = speed.Trial(loaded.model, batches, setup.collator, trainer.loss(setup))
    with torch.random.fork_rng(), trial as timed:  # a resume does not time, and draws the same numbers
        while start.micro_batch > 1 and not timed.fits(start):
            half = start.micro_batch // 2
            start = dataclasses.replace(start, micro_batch=half, accumulation=2 * start.accumulation)
        timed.fastest([start])
    trials.put_back(loaded.model, state)
    return max(*timed.timings.values(), 0.01)


def _free_memory() -> float:
    if PartialState().device.type == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    return float(psutil.virtual_memory().available)


def has_linear(model: nn.Module) -> bool:
    """Tell whether the model has linear layers below its head: what low-rank methods wrap."""
    prefix = backbone_prefix(model)
    return any(isinstance(one, nn.Linear) for name, one in model.named_modules() if name.startswith(prefix))
