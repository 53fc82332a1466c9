"""One fit by gradient descent through transformers' Trainer, by its constructor and public methods alone."""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import nn
from transformers import (
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from hftransfer import evaluation, modeling, objectives, speed
from hftransfer.config import RunConfig
from hftransfer.errors import UserError, unknown
from hftransfer.interruption import Interrupted, Interruption
from hftransfer.ordering import Epochs
from hftransfer.runs import Run, seal
from hftransfer.speed import Choice
from hftransfer.tasks.base import Labels, Preparation, Prepared, Task

KEPT = 2  # checkpoints kept besides the best one, unless train.save_total_limit says otherwise
EVENT_SECONDS = 0.5  # `step` events are written no more often than this


@dataclass(frozen=True)
class Setup:
    """Everything a method needs to fit a model."""

    config: RunConfig
    task: Task
    preparation: Preparation
    processor: Any
    prepared: Mapping[str, Prepared]
    run: Run
    threads: int
    interruption: Interruption
    reload: Callable[[], Any]  # the base model again, unquantized
    checkpoint: Path | None = None  # to go on from
    resume: bool = False
    on_checkpoint: Callable[[Path], None] | None = None  # told of each whole checkpoint
    rows: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of each split, as they came, columns by role
    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of each split

    @property
    def labels(self) -> Labels:
        return self.preparation.labels


@dataclass(frozen=True)
class Fitted:
    """A fitted model and what fitting it took."""

    model: Any
    train_seconds: float
    examples_per_second: float
    trainable_parameters: int
    total_parameters: int
    steps: int
    best_step: int | None = None
    waiting_share: float = 0.0  # of the training time, spent waiting for data
    adapter: Path | None = None
    plain: bool = True  # whether a checkpoint that `from_pretrained` loads answers alike
    self_training: Mapping[str, Any] | None = None  # what unlabelled rows came to, as result.json has it


def descend(
    setup: Setup,
    model: Any,
    learning_rate: float,
    groups: list[dict[str, Any]] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Fitted:
    """Train `model` on setup.prepared["train"], validating on ["validation"], and return the best of its checkpoints.

    `groups` are optimizer groups with `scale` as a share of the learning rate. Raises Interrupted with a checkpoint
    left when a signal came, UserError when TrainingArguments refuses its options or the disk cannot hold checkpoints.
    """
    trainable, total = modeling.count_parameters(model)
    require_disk(setup.run.folder, trainable, total)
    choice = _choose(setup, model)
    arguments = training_arguments(setup, choice, learning_rate)
    recorder = Recorder(setup)
    extra: list[TrainerCallback] = [StopAtStep(setup.interruption), *callbacks]
    if setup.config.train.early_stopping_patience:
        extra.append(_early_stopping(setup))
    optimizer = None
    if groups is not None:
        kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
        scaled = [{"params": g["params"], "lr": arguments.learning_rate * g["scale"]} for g in groups]
        optimizer = (kind, {**options, "params": scaled})
    trainer = Trainer(
        model=model,
        args=arguments,
        data_collator=setup.task.collator(setup.processor),
        train_dataset=_training_rows(setup, arguments),
        eval_dataset=_sorted(setup.prepared["validation"])[0] if "validation" in setup.prepared else None,
        processing_class=setup.processor,
        compute_loss_func=loss(setup),
        compute_metrics=validation_metrics(setup),
        callbacks=[*extra, recorder],
        optimizer_cls_and_kwargs=optimizer,
    )
    trainer.remove_callback(PrinterCallback)
    phase(setup, "training")
    with setup.interruption.patience():
        trainer.train(resume_from_checkpoint=str(setup.checkpoint) if setup.checkpoint else None)
    state = trainer.state
    if setup.interruption.requested:
        raise Interrupted(state.global_step)
    best = state.best_global_step if arguments.load_best_model_at_end else None
    if best and state.best_model_checkpoint and not Path(state.best_model_checkpoint).is_dir():
        setup.run.event(
            "warning", message=f"the best checkpoint is gone ({state.best_model_checkpoint}): kept the last"
        )
        best = None
    return Fitted(
        model=_whole(trainer, setup),
        train_seconds=recorder.seconds,
        examples_per_second=recorder.examples / recorder.seconds if recorder.seconds else 0.0,
        trainable_parameters=trainable,
        total_parameters=total,
        steps=state.global_step,
        best_step=best,
        waiting_share=recorder.waiting / recorder.seconds if recorder.seconds else 0.0,
    )


def predict(setup: Setup, model: Any, prepared: Prepared) -> tuple[Any, Any]:
    """Return (truth, logits) of every row in the rows' own order, computed in float32 from the longest batch down.

    Shapes: truth (n,), (n, k) or a list of (words,); logits (n, k) or a list of (words, k).
    """
    dataset, order = _sorted(prepared)
    arguments = dataclasses.replace(
        _inference_arguments(setup), per_device_eval_batch_size=_option(setup, "per_device_eval_batch_size", 64)
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        data_collator=setup.task.collator(setup.processor),
        processing_class=setup.processor,
        compute_loss_func=_no_loss,  # a model that is asked as it is may have other outputs than there are labels
    )
    with speed.inference_layout(model):
        output = trainer.predict(dataset)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    logits, truth = np.asarray(_first(output.predictions))[back], np.asarray(output.label_ids)[back]
    if setup.labels.kind != "tags":
        return truth, logits
    return _by_row(prepared.rows, truth, logits)


def training_arguments(setup: Setup, choice: Choice, learning_rate: float) -> TrainingArguments:
    """Build TrainingArguments: proven defaults, then what this machine's timing chose, then the user's own words."""
    options = dict(setup.config.train.options)
    train = setup.prepared["train"]
    strategy = options.get("eval_strategy", "epoch" if "validation" in setup.prepared else "no")
    defaults: dict[str, Any] = {
        "learning_rate": learning_rate,
        "num_train_epochs": 3,
        "per_device_train_batch_size": choice.micro_batch,
        "gradient_accumulation_steps": choice.accumulation,
        "per_device_eval_batch_size": 64,
        "warmup_steps": 0.1,
        "optim": "adamw_torch_fused",
        "bf16": choice.bf16,
        "eval_strategy": strategy,
        "save_strategy": strategy if strategy != "no" else "epoch",
        "load_best_model_at_end": strategy != "no",
        "metric_for_best_model": evaluation.main_metric(setup.labels) if strategy != "no" else None,
        "train_sampling_strategy": "sequential",  # ordering.Epochs puts the rows into the order of each epoch
        "dataloader_num_workers": choice.workers,
        "dataloader_persistent_workers": choice.workers > 0,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.accelerator.is_available(),
        "report_to": "none",
        "restore_callback_states_from_checkpoint": setup.config.train.early_stopping_patience is not None,
    }
    if strategy == "steps" and "eval_steps" in options:
        defaults["save_steps"] = options["eval_steps"]
    merged = {**defaults, **options}
    merged.pop("save_total_limit", None)  # Recorder deletes old checkpoints itself, after a new one is whole
    best = merged["metric_for_best_model"]
    if merged["load_best_model_at_end"] and best:
        merged.setdefault("greater_is_better", _greater_is_better(setup, str(best)))
    total = total_steps(setup, merged)
    merged.setdefault("logging_steps", max(1, min(50, total // 100)))
    if "max_steps" not in options and not _has_length(train.dataset):
        merged["max_steps"] = total
    try:
        return TrainingArguments(
            output_dir=str(setup.run.checkpoints),
            seed=setup.config.seed,
            remove_unused_columns=False,
            label_names=["labels"],
            disable_tqdm=True,
            **merged,
        )
    except (TypeError, ValueError, ImportError, NotImplementedError) as error:
        raise UserError(
            "train: options that TrainingArguments takes are needed", str(error), "Mend train.*"
        ) from error


def total_steps(setup: Setup, options: Mapping[str, Any]) -> int:
    """Return the updates of a whole fit; `options` are TrainingArguments' own."""
    if int(options.get("max_steps", -1)) > 0:
        return int(options["max_steps"])
    batch = int(options["per_device_train_batch_size"]) * PartialState().num_processes
    batches = math.ceil(len(setup.prepared["train"].rows) / batch)
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


def loss(setup: Setup) -> Callable[..., torch.Tensor]:
    """Return the loss of the run: by the kind of label, with the class weights and the smoothing asked for."""
    smoothing = float(setup.config.train.options.get("label_smoothing_factor", 0.0))
    return objectives.loss_function(setup.labels, class_weights(setup), smoothing)


def validation_metrics(setup: Setup) -> Callable[[Any], dict[str, float]]:
    """Return the `compute_metrics` of a Trainer: point values on the validation rows."""

    def compute(output: Any) -> dict[str, float]:
        truth: Any = np.asarray(output.label_ids)
        logits: Any = np.asarray(_first(output.predictions))
        if setup.labels.kind == "tags":
            truth, logits = _by_row(np.arange(len(truth)), truth, logits)
        return evaluation.measure_point(predictions(setup.labels, truth, logits))

    return compute


def predictions(
    labels: Labels, truth: Any, logits: Any, row_ids: Sequence[str] | None = None, temperature: float = 1.0
) -> evaluation.Predictions:
    """Return the answers that logits give, beside the truth."""
    if labels.kind == "tags":
        scores: Any = [objectives.probabilities(labels.kind, row, temperature) for row in logits]
    else:
        scores = objectives.probabilities(labels.kind, logits, temperature)
        truth = truth.astype(np.float64 if labels.kind == "regression" else np.int64)
        truth = truth.reshape(len(truth)) if labels.kind == "regression" else truth
    ids = list(row_ids) if row_ids is not None else [str(i) for i in range(len(truth))]
    return evaluation.Predictions(labels, ids, truth, scores)


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


def is_main_process() -> bool:
    """Tell whether this process writes the run's files."""
    return bool(PartialState().is_main_process)


def wait_for_everyone() -> None:
    """Wait until every process of the run has come here."""
    PartialState().wait_for_everyone()


def leave() -> None:
    """Part from the other processes of the run: NCCL warns of those that just go."""
    PartialState().destroy_process_group()


class StopAtStep(TrainerCallback):
    """Stop with a checkpoint once any process was asked to; all processes agree on the step."""

    def __init__(self, interruption: Interruption) -> None:
        self.interruption = interruption
        self._pending: tuple[Any, torch.Tensor] | None = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        requested = self.interruption.requested
        if args.world_size > 1:
            # the answer of the last step is read while this step's travels: no process waits for another
            requested = self._pending is not None and self._answer(*self._pending)
            flag = torch.tensor([float(self.interruption.requested)], device=args.device)
            self._pending = (dist.all_reduce(flag, op=dist.ReduceOp.MAX, async_op=True), flag)
        if requested:
            self.interruption.requested = True
            control.should_save = True
            control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.interruption.requested and control.should_training_stop and not float(state.epoch or 0).is_integer():
            # Trainer takes a stop for the end of the epoch: its evaluation is none that an unbroken run makes, and a
            # second save would store the random state behind it
            control.should_evaluate = control.should_save = False

    def _answer(self, work: Any, flag: torch.Tensor) -> bool:
        work.wait()
        return bool(flag.item())


class Recorder(TrainerCallback):
    """Write the events of a fit, time it, and keep whole checkpoints only."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.seconds = self.waiting = 0.0
        self.examples = 0
        self._first = self._shown = self._before = 0.0
        self._began: float | None = None
        self._start_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
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
        now = time.perf_counter()
        if self._began is not None:
            self.waiting += self._began - self._before
        self.seconds += now - self._before
        self._before = now
        self.examples += args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        if now - self._shown >= EVENT_SECONDS or state.global_step == self._start_step + 1:
            self._shown = now
            self._event("step", state, seconds=round(now - self._first, 3))

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
            folder = self.setup.run.checkpoints / f"checkpoint-{state.global_step}"
            seal(folder)
            self._rotate(self.setup.run.checkpoints, state)
            self._event("checkpoint", state, path=f"checkpoints/{folder.name}")
            if self.setup.on_checkpoint is not None:
                self.setup.on_checkpoint(folder)
        wait_for_everyone()  # a rank that went on might end, and the launcher would end rank 0 in mid-seal
        self._before = time.perf_counter()

    def _rotate(self, folder: Path, state: TrainerState) -> None:
        limit = int(self.setup.config.train.options.get("save_total_limit") or KEPT)
        found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
        best = Path(state.best_model_checkpoint).name if state.best_model_checkpoint else None
        for old in found[:-limit]:
            if old.name != best:
                shutil.rmtree(old)

    def _event(self, type: str, state: TrainerState, **fields: Any) -> None:
        epoch = round(float(state.epoch or 0.0), 3)
        if is_main_process():
            self.setup.run.event(type, step=state.global_step, max_steps=state.max_steps, epoch=epoch, **fields)


def _choose(setup: Setup, model: Any) -> Choice:
    """Take the settings of this run's earlier process, or time them; every process works with rank 0's."""
    known = speed.recorded(setup.run)  # a resume's, or that of the run that this one repeats
    if known is not None:
        speed.apply(known, model)
        return known
    phase(setup, "tuning")
    train, collate = setup.prepared["train"], setup.task.collator(setup.processor)
    choice = speed.choose(setup.config, setup.task, model, train, collate, loss(setup), setup.threads)
    if PartialState().num_processes > 1:
        choice = broadcast_object_list([choice])[0]
        speed.apply(choice, model)
    if is_main_process():
        setup.run.event("tuned", **dataclasses.asdict(choice))
    return choice


def phase(setup: Setup, name: str) -> None:
    if is_main_process():
        setup.run.event("phase", name=name)


def _inference_arguments(setup: Setup) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(setup.run.checkpoints),
        use_cpu=bool(setup.config.train.options.get("use_cpu", not torch.accelerator.is_available())),
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
        dataloader_num_workers=speed.loader_workers(setup.config, setup.task),
        log_level="error",
    )


def _training_rows(setup: Setup, arguments: TrainingArguments) -> Any:
    train = setup.prepared["train"]
    if not _has_length(train.dataset) or "train_sampling_strategy" in setup.config.train.options:
        return train.dataset
    unit = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    return Epochs(train.dataset, train.lengths, unit, setup.config.seed, tell=train.on_epoch)


def _sorted(prepared: Prepared) -> tuple[Any, np.ndarray]:
    """Return the rows from the longest down, which pads least, and which row stands where."""
    if prepared.lengths is None:
        return prepared.dataset, np.arange(len(prepared.rows))
    order = np.argsort(-prepared.lengths, kind="stable")
    return prepared.dataset.select(order.tolist()), order


def _no_loss(outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    return torch.zeros(())


def _option(setup: Setup, name: str, default: int) -> int:
    return int(setup.config.train.options.get(name, default))


def _early_stopping(setup: Setup) -> EarlyStoppingCallback:
    options = setup.config.train
    if "validation" not in setup.prepared or options.options.get("eval_strategy") == "no":
        raise UserError(
            "train.early_stopping_patience needs validation during training", "eval_strategy is no",
            "Set train.eval_strategy=epoch or drop the patience.",
        )  # fmt: skip
    return EarlyStoppingCallback(int(options.early_stopping_patience or 1), options.early_stopping_threshold)


def _greater_is_better(setup: Setup, name: str) -> bool:
    short = name.removeprefix("eval_")
    if short == "loss":
        return False
    known = [n for n, metric in evaluation.METRICS.items() if setup.labels.kind in metric.kinds]
    if short not in known:
        raise unknown("metric in train.metric_for_best_model", short, [*known, "loss"])
    return evaluation.greater_is_better(short)


def class_weights(setup: Setup) -> list[float] | None:
    asked, labels = setup.config.train.class_weights, setup.labels
    if asked is None:
        return None
    if labels.kind == "regression":
        raise UserError("train.class_weights needs classes", "this is a regression", "Drop train.class_weights.")
    if asked == "balanced":
        if labels.kind == "multi_label":
            rows = len(setup.prepared["train"].rows)
            return [(rows - count) / max(count, 1) for count in labels.counts]
        return objectives.balanced(labels.counts)
    weights = dict(asked)
    for name in weights:
        if name not in labels.names:
            raise unknown("label in train.class_weights", name, labels.names)
    return [float(weights.get(name, 1.0)) for name in labels.names]


def _has_length(dataset: Any) -> bool:
    return not isinstance(dataset, torch.utils.data.IterableDataset)


def _whole(trainer: Trainer, setup: Setup) -> Any:
    """Return the trained model outside of any sharding."""
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        return model.to(memory_format=torch.contiguous_format)
    folder = setup.run.checkpoints / "whole"
    trainer.save_model(str(folder))
    wait_for_everyone()
    return _reload(setup, folder)


def _reload(setup: Setup, folder: Path) -> Any:
    base = setup.reload()
    if (folder / "adapter_config.json").is_file():
        from peft import PeftModel

        return PeftModel.from_pretrained(base, folder)
    return type(base).from_pretrained(folder)


def _first(outputs: Any) -> Any:
    return outputs[0] if isinstance(outputs, tuple) else outputs  # some models also return hidden states


def _by_row(rows: np.ndarray, truth: np.ndarray, logits: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Join the windows of each row, keeping the words' first pieces only."""
    count = int(rows.max()) + 1 if len(rows) else 0
    kept = truth != objectives.IGNORED
    windows: list[list[int]] = [[] for _ in range(count)]
    for window, row in enumerate(rows):
        windows[int(row)].append(window)
    return (
        [np.concatenate([truth[w][kept[w]] for w in found]) for found in windows],
        [np.concatenate([logits[w][kept[w]] for w in found]) for found in windows],
    )
