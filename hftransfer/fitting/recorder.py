"""What Trainer calls back: events of the run, a stop between two steps, layers that begin to train."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import ExportableState

from hftransfer.fitting import memory
from hftransfer.fitting.arguments import KEPT
from hftransfer.fitting.base import Setup
from hftransfer.fitting.interruption import Interruption
from hftransfer.fitting.processes import is_main_process, wait_for_everyone
from hftransfer.runs import UNPLANNED, is_whole, seal, write_text

EVENT_SECONDS = 0.5  # `step` events are written no more often than this


def unfreezing(held: Sequence[nn.Parameter], share: float) -> TrainerCallback:
    """Return a callback that trains the head alone for a share of the steps, then everything."""

    class Unfreeze(TrainerCallback):
        def on_step_begin(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> None:
            training = state.global_step >= share * state.max_steps  # from the step alone: a resume agrees
            if held[0].requires_grad != training:
                for parameter in held:
                    parameter.requires_grad_(training)

    return Unfreeze()


def latest(folder: Path) -> Path | None:
    """Return the last whole checkpoint of a folder."""
    found = [one for one in folder.glob("checkpoint-*") if is_whole(one)]
    return max(found, key=lambda one: int(one.name.rpartition("-")[2]), default=None)


class StopAtStep(TrainerCallback):
    """Stop with a checkpoint once any process was asked to, and make one when it is time; all agree on the step.

    At the end of an epoch, and of the run, the checkpoint is written after the evaluation that belongs to it: a resume
    goes on behind both.
    """

    def __init__(self, interruption: Interruption, save_minutes: float | None = None) -> None:
        self.interruption = interruption
        self.save_seconds = math.inf if save_minutes is None else 60 * save_minutes
        self._pending: tuple[Any, torch.Tensor] | None = None
        self._saved = self._unplanned = 0
        self._saved_at = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        requested, due = self.interruption.requested, time.monotonic() - self._saved_at >= self.save_seconds
        if args.world_size > 1:
            # the answer of the last step is read while this step's travels: no process waits for another
            flags = torch.tensor([float(requested), float(due)], device=args.device)
            requested, due = (False, False) if self._pending is None else self._answer(*self._pending)
            due = due and self._saved < state.global_step - 1  # what was due before that checkpoint is made
            self._pending = (dist.all_reduce(flags, op=dist.ReduceOp.MAX, async_op=True), flags)
        if (requested or due) and not _at_end(state):
            self._save(state, control)
        if requested:
            self.interruption.requested = True
            control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._saved, self._saved_at = state.global_step, time.monotonic()
        if self._unplanned == state.global_step and is_main_process():
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            write_text(folder / UNPLANNED, json.dumps({"stop": self.interruption.requested}))

    def _save(self, state: TrainerState, control: TrainerControl) -> None:
        if not control.should_save:  # Trainer's own schedule is asked first
            control.should_save, self._unplanned = True, state.global_step

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.interruption.requested and control.should_training_stop:
            if _at_end(state):
                if self._saved < state.global_step:
                    self._save(state, control)
            else:
                # Trainer takes a stop for the end of the epoch: its evaluation is none that an unbroken run makes, and
                # a second save would store the random state behind it
                control.should_evaluate = control.should_save = False

    def _answer(self, work: Any, flags: torch.Tensor) -> tuple[bool, bool]:
        work.wait()
        requested, due = flags.tolist()
        return bool(requested), bool(due)


def _at_end(state: TrainerState) -> bool:
    """Tell whether the step just made was the last one of an epoch or of the run."""
    return float(state.epoch or 0).is_integer() or state.global_step >= state.max_steps


class Unmoved(TrainerCallback):
    """Let an evaluation leave the random state as it was: a loader draws its seed from what training draws from.

    A run that goes on behind a checkpoint makes no evaluation twice, and trains with the same numbers all the same.
    """

    def __init__(self) -> None:
        self._before = torch.get_rng_state()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._before = torch.get_rng_state()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._before = torch.get_rng_state()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        torch.set_rng_state(self._before)


class LowerLossOfEquals(TrainerCallback, ExportableState):
    """Of evaluations that score alike, let the one of the lowest loss be the best: Trainer stays with the first.

    A few validation rows are soon answered right, all of them, and the probabilities go on getting better. It has a
    state, an empty one, for its place: a resume puts callbacks with a state behind all others, early stopping too.
    """

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it."""
        return {"args": {}, "attributes": {}}

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        name = f"eval_{str(args.metric_for_best_model).removeprefix('eval_')}"
        if not metrics or "eval_loss" not in metrics or metrics.get(name) != state.best_metric:
            return
        best = [log["eval_loss"] for log in state.log_history if log.get("step") == state.best_global_step
                and "eval_loss" in log]  # fmt: skip
        if best and metrics["eval_loss"] < best[-1]:
            # Trainer compares next, and puts this evaluation's own score here
            state.best_metric = -math.inf if args.greater_is_better else math.inf


class Recorder(TrainerCallback):
    """Write the events of a fit, time it, and keep whole checkpoints only."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.seconds = self.waiting = 0.0
        self.examples = 0.0
        self._first = self._shown = self._before = 0.0
        self._began: float | None = None
        self._start_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        state.compute_steps(args, state.max_steps)  # the checkpoint of a trial holds when that was saved
        best = Path(str(args.output_dir)) / f"checkpoint-{state.best_global_step}"
        if best.is_dir():  # Trainer forgets one that a checkpoint names by where the run's folder was before
            state.best_model_checkpoint = str(best)
        self._start_step = state.global_step
        self._first = self._before = time.perf_counter()
        self._event("step", state, seconds=0.0)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._began = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if control.should_evaluate or control.should_save or state.global_step >= state.max_steps:
            memory.wait_for(args.device)  # else the steps that a GPU still works on would count as what comes next
        now = time.perf_counter()
        if self._began is not None:
            self.waiting += self._began - self._before
        self.seconds += now - self._before
        self._before = now
        items = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.examples += items * self.setup.prepared["train"].rows_per_item
        if now - self._shown >= EVENT_SECONDS or state.global_step == self._start_step + 1:
            self._shown = now
            self._event("step", state, seconds=round(now - self._first, 3))

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        memory.wait_for(args.device)
        now = time.perf_counter()
        self.seconds += now - self._before
        self._before = now

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if logs and "loss" in logs:
            rate = self.examples / self.seconds if self.seconds else 0.0
            done = state.global_step - self._start_step
            left = (state.max_steps - state.global_step) * self.seconds / done if done else 0.0
            shown = {k: float(logs[k]) for k in ("loss", "learning_rate", "grad_norm") if k in logs}
            if not all(math.isfinite(v) for v in shown.values()):
                shown = {k: v for k, v in shown.items() if math.isfinite(v)}
                self.setup.run.event("warning", message=f"the loss is not finite at step {state.global_step}")
            self._event("log", state, **shown, examples_per_second=round(rate, 2), eta_seconds=round(left, 1))

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        kept = {k.removeprefix("eval_"): float(v) for k, v in (metrics or {}).items() if isinstance(v, int | float)}
        for noise in ("runtime", "samples_per_second", "steps_per_second", "epoch", "model_preparation_time"):
            kept.pop(noise, None)
        self._event("evaluation", state, metrics={k: round(v, 6) for k, v in kept.items() if math.isfinite(v)})
        self._before = time.perf_counter()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        wait_for_everyone()  # every rank has written its random state
        if is_main_process():
            folder = self.setup.place / f"checkpoint-{state.global_step}"
            seal(folder)
            self._rotate(self.setup.place, state)
            self._event("checkpoint", state, path=folder.relative_to(self.setup.run.folder).as_posix())
            if self.setup.on_checkpoint is not None:
                self.setup.on_checkpoint(folder)
        wait_for_everyone()  # a rank that went on might end, and the launcher would end rank 0 in mid-seal
        self._before = time.perf_counter()

    def _rotate(self, folder: Path, state: TrainerState) -> None:
        limit = int(self.setup.config.train.options.get("save_total_limit") or KEPT)
        *older, newest = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
        best = Path(state.best_model_checkpoint).name if state.best_model_checkpoint else None
        planned = [one for one in (*older, newest) if not (one / UNPLANNED).exists()][-limit:]
        for old in older:
            if old.name != best and old not in planned:
                shutil.rmtree(old)

    def _event(self, type: str, state: TrainerState, **fields: Any) -> None:
        epoch = round(float(state.epoch or 0.0), 3)
        if not is_main_process():
            return
        if self.setup.trial is None:
            self.setup.run.event(type, step=state.global_step, max_steps=state.max_steps, epoch=epoch, **fields)
        elif type == "step":
            name, run = self.setup.trial, self.setup.run
            run.event("trial", name=name, step=state.global_step, max_steps=state.max_steps, epoch=epoch)
