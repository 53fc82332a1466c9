"""One fit by gradient descent through transformers' Trainer, by its constructor and public methods alone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from hftransfer.answers.base import Answer, Rows
from hftransfer.errors import UserError
from hftransfer.fitting import dropout, memory, resuming, rules, speed, tracking, vocabulary
from hftransfer.fitting.arguments import (
    class_weights,
    early_stopping,
    has_length,
    require_disk,
    require_recomputing,
    save_minutes,
    training_arguments,
)
from hftransfer.fitting.base import Fitted, Setup, phase
from hftransfer.fitting.interruption import Interrupted
from hftransfer.fitting.ordering import Epochs
from hftransfer.fitting.processes import is_main_process, wait_for_everyone
from hftransfer.fitting.recorder import LowerLossOfEquals, Recorder, StopAtStep, Unmoved
from hftransfer.fitting.speed import Choice
from hftransfer.fitting.watching import watching
from hftransfer.modeling import inference, rereading
from hftransfer.modeling.parts import count_parameters
from hftransfer.modeling.prepared import Prepared


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
    with _dropping(setup, model):
        return _descend(setup, model, learning_rate, groups, callbacks)


def _descend(
    setup: Setup,
    model: Any,
    learning_rate: float,
    groups: list[dict[str, Any]] | None,
    callbacks: Sequence[TrainerCallback],
) -> Fitted:
    trainable, total = count_parameters(model)
    require_disk(setup.run.folder, trainable, total)
    choice, read = _choose(setup, model, plain=groups is None)
    with vocabulary.compacted(model, read):
        return _fit(setup, model, learning_rate, choice, groups, callbacks, (trainable, total))


def _fit(
    setup: Setup,
    model: Any,
    learning_rate: float,
    choice: Choice,
    groups: list[dict[str, Any]] | None,
    callbacks: Sequence[TrainerCallback],
    parameters: tuple[int, int],
) -> Fitted:
    trainable, total = parameters
    memory.forget_peak(PartialState().device)  # what a run says that it took is not what was tried before it
    if setup.config.train.auto:
        learning_rate = rules.rate(setup.config.method.name, learning_rate, total, str(model.config.model_type))
    arguments = training_arguments(setup, choice, learning_rate)
    _tell(setup, arguments, choice, total)
    require_recomputing(arguments, model)
    recorder = Recorder(setup)
    extra: list[TrainerCallback] = [
        StopAtStep(setup.interruption, save_minutes(setup.config)), Unmoved(), *callbacks,
    ]  # fmt: skip
    extra += tracking.trackers(setup.config, arguments, setup.run)
    extra += watching(setup)
    stopping = early_stopping(setup.config, arguments.eval_strategy)
    if stopping is not None:
        extra.append(stopping)
    if setup.config.train.auto:
        extra.append(LowerLossOfEquals())  # behind stopping, which counts an equal score as none better
    optimizer = None
    if groups is not None:
        kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
        scaled = [{"params": g["params"], "lr": arguments.learning_rate * g["scale"]} for g in groups]
        optimizer = (kind, {**options, "params": scaled})
    rows = _training_rows(setup, arguments)
    last = resuming.finished_at(setup.checkpoint, setup.config.train.early_stopping_patience)
    if last is not None:
        rows = resuming.none_left(arguments, last)
    trainer = Trainer(
        model=model,
        args=arguments,
        data_collator=setup.collator,
        train_dataset=rows,
        eval_dataset=_validation_rows(setup),
        processing_class=setup.processor,
        compute_loss_func=loss(setup),
        compute_metrics=validation_metrics(setup),
        preprocess_logits_for_metrics=setup.answer.reduce,
        callbacks=[*extra, recorder],
        optimizer_cls_and_kwargs=optimizer,
    )
    trainer.remove_callback(PrinterCallback)
    phase(setup, "training")
    with setup.interruption.patience(), _own_names(model), memory.explained(setup, model, arguments):
        trainer.train(resume_from_checkpoint=str(setup.checkpoint) if setup.checkpoint else None)
    state = trainer.state
    if setup.interruption.requested:
        raise Interrupted(state.global_step)
    rate = recorder.examples / recorder.seconds if recorder.seconds else 0.0
    if is_main_process():
        items = rate / PartialState().num_processes / setup.prepared["train"].rows_per_item  # which timing counted
        speed.reconsider(choice, items, recorder.seconds)
    best = state.best_global_step if arguments.load_best_model_at_end else None
    if best and not (state.best_model_checkpoint and Path(state.best_model_checkpoint).is_dir()):
        setup.run.event("warning", message=f"the best checkpoint is gone (of step {best}): kept the last")
        best = None
    return Fitted(
        model=_whole(trainer, setup),
        train_seconds=recorder.seconds,
        examples_per_second=rate,
        trainable_parameters=trainable,
        total_parameters=total,
        steps=state.global_step,
        best_step=best,
        waiting_share=recorder.waiting / recorder.seconds if recorder.seconds else 0.0,
    )


def _dropping(setup: Setup, model: Any) -> AbstractContextManager[None]:
    """Return a context in which dropout draws its masks as the device does it best; a compiled step has its own."""
    on_cpu = PartialState().device.type == "cpu"
    return (
        dropout.stretched(model) if on_cpu and not setup.config.train.options.get("torch_compile") else nullcontext()
    )


@contextmanager
def _own_names(model: Any) -> Iterator[None]:
    """Have checkpoints written under the names that Trainer reads them back by, when it resumes or takes the best.

    `save_pretrained` gives weights the names of the layout that their model once had (DETR's backbone, RT-DETR's
    layers), and Trainer, which does not turn them back, would leave those as they are without a word.
    """
    if not isinstance(model, PreTrainedModel):
        yield
        return
    vars(model)["save_pretrained"] = functools.partial(model.save_pretrained, save_original_format=False)
    try:
        yield
    finally:
        del vars(model)["save_pretrained"]


def predict(setup: Setup, model: Any, prepared: Prepared, judging: bool = False) -> Rows:
    """Return a model's outputs for every row, in the rows' own order, computed in float32.

    `judging`: outputs that `answer.judged_by` is measured of, and no more.
    """
    usual = inference.BATCH if PartialState().device.type == "cpu" else inference.GPU_BATCH
    size = int(setup.config.train.options.get("per_device_eval_batch_size", usual))
    workers = speed.loader_workers(setup.config, setup.task)
    return inference.ask(setup.answer, model, prepared, setup.asking, setup.processor, size, workers, judging=judging)


def loss(setup: Setup) -> Callable[..., torch.Tensor]:
    """Return the loss of the run: by the kind of answer, with the class weights and the smoothing asked for."""
    smoothing = float(setup.config.train.options.get("label_smoothing_factor", 0.0))
    return setup.answer.loss(class_weights(setup), smoothing)


def validation_metrics(setup: Setup) -> Callable[..., dict[str, float]]:
    """Return the `compute_metrics` of a Trainer: point values on the validation rows."""

    def compute(output: Any) -> dict[str, float]:
        return setup.answer.validation(np.asarray(output.predictions), np.asarray(output.label_ids))

    return Summed(setup.answer) if setup.answer.sums else compute


class Summed:
    """A `compute_metrics` that is given batch by batch, and keeps one sum: neither outputs nor truth of all rows."""

    def __init__(self, answer: Answer[Any]) -> None:
        self.answer = answer
        self.total: Any = 0

    def __call__(self, output: Any, compute_result: bool) -> dict[str, float]:
        self.total = self.total + output.predictions.sum(0, keepdim=True).cpu().numpy().astype(np.float64)
        if not compute_result:
            return {}
        total, self.total = self.total, 0
        return self.answer.validation(total, np.empty(0))


def _choose(setup: Setup, model: Any, plain: bool) -> tuple[Choice, torch.Tensor | None]:
    """Take the settings of this run's earlier process, or time them; every process works with rank 0's.

    Beside them stands which rows of the embedding train alone: None of them where the optimizer is told of groups of
    weights (not `plain`), or it does not pay.
    """
    known = speed.recorded(setup.run)  # a resume's, or that of the run that this one repeats
    if known is not None:
        speed.apply(known, model)
        return known, vocabulary.read_by(setup, model) if known.compact and plain else None
    phase(setup, "tuning")
    train, collate = setup.prepared["train"], setup.collator
    choice = speed.choose(setup.config, setup.task, model, train, collate, loss(setup), setup.threads, setup.at_once)
    if PartialState().num_processes > 1:
        choice = broadcast_object_list([choice])[0]
        speed.apply(choice, model)
    read = vocabulary.read_by(setup, model) if plain else None
    choice = dataclasses.replace(choice, compact=read is not None)
    if is_main_process():
        setup.run.event("tuned", **dataclasses.asdict(choice))
    return choice, read


def _tell(setup: Setup, arguments: TrainingArguments, choice: Choice, weights: int) -> None:
    """Say which settings rules chose, once a run; a trial's are its own."""
    if not (setup.config.train.auto and setup.trial is None and is_main_process()):
        return
    if any(event["type"] == "chosen" for event in setup.run.events()[0]):
        return
    rows, unit = len(setup.prepared["train"].rows), choice.rows * arguments.world_size
    why = f"{weights / 1e6:.1f} M weights, method {setup.config.method.name}"
    found = rules.explained(setup.config.train.options, arguments, rows, unit, why)
    setup.run.event("chosen", settings=[dataclasses.asdict(one) for one in found])


def _training_rows(setup: Setup, arguments: TrainingArguments) -> Any:
    train = setup.prepared["train"]
    if not has_length(train.dataset) or "train_sampling_strategy" in setup.config.train.options:
        return train.dataset
    unit = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    return Epochs(train.dataset, train.lengths, unit, setup.config.seed, tell=train.on_epoch)


def _validation_rows(setup: Setup) -> Any:
    """Return what is validated on, without the parts of long inputs: nobody knows what is the truth of each."""
    found = setup.prepared.get("validation")
    if found is None:
        return None
    if setup.task.splits and found.too_long:
        kept = np.flatnonzero(np.bincount(found.rows)[found.rows] == 1)
        if not len(kept):
            raise UserError(
                f"validation rows of at most {found.window:g} s are needed, by which a checkpoint is chosen",
                "every one of them lasts longer", "Put shorter ones into validation, or part them.",
            )  # fmt: skip
        lengths = None if found.lengths is None else found.lengths[kept]
        found = dataclasses.replace(found, dataset=found.dataset.select(kept), rows=found.rows[kept], lengths=lengths)
    return rereading.over(_sorted(found)[0], setup.preparation.shelf)


def _sorted(prepared: Prepared) -> tuple[Any, np.ndarray]:
    """Return the rows from the longest down, which pads least, and which row stands where."""
    if prepared.lengths is None:
        return prepared.dataset, np.arange(len(prepared.rows))
    order = np.argsort(-prepared.lengths, kind="stable")
    return prepared.dataset.select(order.tolist()), order


def _whole(trainer: Trainer, setup: Setup) -> Any:
    """Return the trained model outside of any sharding."""
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        model = _in_float32(trainer.accelerator.unwrap_model(trainer.model))
        return model.to(memory_format=torch.contiguous_format)
    folder = setup.run.checkpoints / "whole"
    trainer.save_model(str(folder))
    wait_for_everyone()
    return _reload(setup, folder)


def _in_float32(model: Any) -> Any:
    """Return a model without what accelerate put around it for mixed precision.

    accelerate's own way (`keep_fp32_wrapper=False`, 1.15) looks for a function that equals a bound method, finds none,
    and takes off what transformers put around it as well: a SegFormer's forward pass then has no hidden states. And it
    leaves its mark, by which the next fit of this model (a trial's winner goes on) would be left as it is: in float32.
    """
    vars(model).pop("_is_accelerate_prepared", None)
    original = vars(model).pop("_original_forward", None)
    if original is not None:
        del vars(model)["forward"]
        if model.forward != original:  # one of its own
            model.forward = original
    return model


def _reload(setup: Setup, folder: Path) -> Any:
    base = setup.reload()
    if (folder / "adapter_config.json").is_file():
        from peft import PeftModel

        return PeftModel.from_pretrained(base, folder)
    return type(base).from_pretrained(folder)
