"""From a run's configuration to TrainingArguments, and what follows from them."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import (
    BertConfig,
    BertModel,
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
    default_data_collator,
)
from transformers.utils import is_liger_kernel_available

from hftransfer.config import RunConfig
from hftransfer.errors import UserError, unknown
from hftransfer.evaluation.names import greater_is_better
from hftransfer.fitting import rules, speed
from hftransfer.fitting.base import Setup
from hftransfer.fitting.matching import matched
from hftransfer.fitting.speed import Choice
from hftransfer.runs import SAVE_MINUTES
from hftransfer.tasks.base import Task

STEPS = 1000  # of a fit that nobody knows the length of yet
EVALUATED = 64  # rows of a batch at validation
KEPT = 2  # checkpoints kept besides the best one, unless train.save_total_limit says otherwise


def training_arguments(setup: Setup, choice: Choice, learning_rate: float) -> TrainingArguments:
    """Build TrainingArguments: proven defaults, then what this machine's timing chose, then the user's own words.

    UserError for what the real class refuses.
    """
    merged, _ = options_of(setup, choice, learning_rate)
    return built(str(setup.place), setup.config, merged)


def options_of(setup: Setup, choice: Choice, learning_rate: float) -> tuple[dict[str, Any], list[str]]:
    """Return the options of a fit, and a sentence for each default of ours that gave way to the user's."""
    train, answer = setup.prepared["train"], setup.answer
    validated = "validation" in setup.prepared
    rows, at_once = len(train.rows), setup.at_once
    merged, said = merge(setup.config, choice, learning_rate, answer.selects_by, validated, rows, at_once)
    if answer.compares:  # with all rows of an update: it is one batch, which the answer itself takes in pieces
        times = int(merged["gradient_accumulation_steps"])
        merged |= {
            "per_device_train_batch_size": times * int(merged["per_device_train_batch_size"]),
            "gradient_accumulation_steps": 1,
        }
    if answer.sums:
        merged["batch_eval_metrics"] = True
    best = merged.get("metric_for_best_model")
    if best:
        merged.setdefault("greater_is_better", is_greater_better(setup, str(best)))
    if "max_steps" not in setup.config.train.options and not has_length(train.dataset):
        merged["max_steps"] = total_steps(merged, rows)
    return merged, said


def merge(
    config: RunConfig,
    choice: Choice,
    learning_rate: float,
    selects_by: str,
    validated: bool,
    rows: int,
    at_once: int | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Return the user's options on top of ours, which match them, and a sentence for each that gave way."""
    options = dict(config.train.options)
    on_gpu = PartialState().device.type == "cuda"
    usual: dict[str, Any] = {
        "learning_rate": learning_rate,
        "num_train_epochs": 3,
        "per_device_train_batch_size": choice.micro_batch,
        "gradient_accumulation_steps": choice.accumulation,
        "per_device_eval_batch_size": min(EVALUATED, at_once or EVALUATED),
        "warmup_steps": 0.1,
        "optim": "adamw_torch_fused",
        "bf16": choice.bf16,
        "metric_for_best_model": selects_by if validated else None,
        "train_sampling_strategy": "sequential",  # ordering.Epochs puts the rows into the order of each epoch
        "dataloader_num_workers": choice.workers,
        # workers that outlive an epoch would draw their seed once, and those of a resume once more: other dropout
        "dataloader_persistent_workers": False,
        "dataloader_pin_memory": on_gpu,
        "logging_nan_inf_filter": False,  # it reads every step's loss, and a GPU would wait for who reads it
        "report_to": "none",
        "restore_callback_states_from_checkpoint": config.train.early_stopping_patience is not None,
    }
    ruled = {}
    if config.train.auto and validated:
        ruled = rules.schedule(options, rows, choice.rows * PartialState().num_processes)
    total = total_steps({**usual, **ruled, **options}, rows)
    defaults, said = matched(options, usual, total, validated)
    merged = {**defaults, **ruled, **options, "use_cpu": wants_cpu(config)}
    own = merged.get("accelerator_config") or {}
    if config.data.streaming and isinstance(own, dict):  # else one process would read, and send all of one width
        merged["accelerator_config"] = own = {"dispatch_batches": False, **own}
    if on_gpu and merged["dataloader_pin_memory"] and isinstance(own, dict):  # a file's may be meant as it is
        merged["accelerator_config"] = {"non_blocking": True, **own}  # a batch travels while the one before computes
    merged.pop("save_total_limit", None)  # Recorder deletes old checkpoints itself, after a new one is whole
    merged.setdefault("logging_steps", max(1, min(50, total // 100)))
    return merged, said


def built(output: str, config: RunConfig, merged: Mapping[str, Any]) -> TrainingArguments:
    """Build TrainingArguments of merged options; UserError for what the real class refuses."""
    with refused(config):
        return TrainingArguments(
            output_dir=output,
            seed=config.seed,
            remove_unused_columns=False,
            label_names=["labels"],
            disable_tqdm=True,
            **merged,
        )


@contextmanager
def refused(config: RunConfig) -> Iterator[None]:
    """Turn what transformers, accelerate and torch raise about options into a UserError in their words."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, ImportError, OSError,
            NotImplementedError, RuntimeError) as error:  # fmt: skip
        words = (" ".join(str(error).split())[:500] or type(error).__name__).rstrip(".")
        asked = ", ".join(f"train.{name}" for name in config.train.options)
        raise UserError(
            "train: options that transformers takes here are needed", words, f"It is about one of these: {asked}."
        ) from error


def wants_cpu(config: RunConfig) -> bool:
    """Tell whether the run stays on the CPU: where it is asked to, and where there is nothing else."""
    return bool(config.train.options.get("use_cpu")) or not torch.accelerator.is_available()


def gave_way(setup: Setup, learning_rate: float) -> list[str]:
    """Return a sentence for each default of ours that gave way to an option of the user's."""
    rows = len(setup.prepared["train"].rows)
    choice = speed.default_choice(setup.config, setup.task, setup.threads, rows, setup.at_once)
    return options_of(setup, choice, learning_rate)[1]


def rehearse(config: RunConfig, task: Task, learning_rate: float, threads: int) -> None:
    """Make, before anything is loaded, all that Trainer makes of a configuration, for the smallest of models.

    Raises UserError in the words of whoever refuses an option.
    """
    choice = speed.default_choice(config, task, threads, rules.FEW)
    merged, _ = merge(config, choice, learning_rate, "loss", True, STEPS)
    merged |= {"metric_for_best_model": "loss" if merged.get("metric_for_best_model") else None}
    early_stopping(config, merged["eval_strategy"])
    if merged.get("use_liger_kernel") and not is_liger_kernel_available():  # Trainer asks when it trains
        raise UserError(
            "train.use_liger_kernel needs the package liger-kernel",
            "it is not installed",
            "Run: pip install liger-kernel",
        )
    with tempfile.TemporaryDirectory(prefix="hftransfer-options-") as folder:
        arguments = built(folder, config, merged)
        rows = [{"x": 0.0}]
        with refused(config):
            model = BertModel(BertConfig(vocab_size=1, hidden_size=1, num_hidden_layers=1, num_attention_heads=1))
            trainer = Trainer(model, arguments, default_data_collator, rows, rows)
            if arguments.optim_target_modules is None:  # these would be the real model's
                trainer.create_optimizer_and_scheduler(STEPS)


def total_steps(options: Mapping[str, Any], rows: int) -> int:
    """Return the updates of a whole fit of so many rows; `options` are TrainingArguments' own."""
    if int(options.get("max_steps", -1)) > 0:
        return int(options["max_steps"])
    batch = int(options["per_device_train_batch_size"]) * PartialState().num_processes
    batches = math.ceil(rows / batch)
    updates = math.ceil(batches / int(options["gradient_accumulation_steps"]))
    return max(1, math.ceil(updates * float(options["num_train_epochs"])))


def require_disk(folder: Path, trainable: int, total: int) -> None:
    """Raise UserError when checkpoints and the result would not fit under `folder`."""
    # a checkpoint: the trained weights (all of them, for a full fit) and two float32 moments of AdamW; one more is
    # written before an old one goes, and the artifact is a whole model
    one = (total if trainable > total // 2 else trainable) * 4 + trainable * 8
    needed = one * (KEPT + 2) + total * 4
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            "disk space for checkpoints and the result is needed",
            f"about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free under {folder}",
            "Free some, or set output= to a folder on another disk.",
        )


def class_weights(setup: Setup) -> list[float] | None:
    """Return the weight of each class that the configuration asks for."""
    return setup.answer.class_weights(setup.config.train.class_weights, len(setup.prepared["train"].rows))


def require_recomputing(arguments: TrainingArguments, model: Any) -> None:
    """Raise UserError where a model is to compute its activations again in the backward pass, and cannot."""
    if arguments.gradient_checkpointing and not model.supports_gradient_checkpointing:
        raise UserError(
            "train.gradient_checkpointing needs a model that can compute its activations again",
            f"{type(model).__name__} cannot",
            "Drop it; a smaller train.per_device_train_batch_size saves memory too.",
        )


def early_stopping(config: RunConfig, strategy: str) -> EarlyStoppingCallback | None:
    """Return what stops a run that improves no more, where that was asked for; `strategy` is of its evaluation."""
    options = config.train
    if options.early_stopping_patience is None:
        return None
    if strategy == "no":
        raise UserError(
            "train.early_stopping_patience needs validation during training", "eval_strategy is no",
            "Set train.eval_strategy=epoch or drop the patience.",
        )  # fmt: skip
    return EarlyStoppingCallback(options.early_stopping_patience, options.early_stopping_threshold)


def save_minutes(config: RunConfig) -> float | None:
    """Return how often a checkpoint is made by the clock: as the run says, else as its place does; None for never."""
    place = os.environ.get(SAVE_MINUTES)
    return config.train.save_minutes or (float(place) if place else None)


def is_greater_better(setup: Setup, name: str) -> bool:
    short = name.removeprefix("eval_")
    if short == setup.answer.selects_by and setup.answer.selects_higher is not None:
        return setup.answer.selects_higher
    if short == "loss":
        return False
    known = list(setup.answer.validated)
    if short not in known:
        raise unknown("metric in train.metric_for_best_model", short, [*known, "loss"])
    return greater_is_better(short)


def has_length(dataset: Any) -> bool:
    return not isinstance(dataset, torch.utils.data.IterableDataset)
