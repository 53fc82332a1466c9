"""What can be asked before training: would it work, which model to start from, would more labels help?"""

from __future__ import annotations

import dataclasses
import math
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hftransfer import artifact, catalog, data, runs
from hftransfer.accounts import peak_memory
from hftransfer.config import RunConfig, build
from hftransfer.data import Data
from hftransfer.errors import UserError
from hftransfer.evaluation import resolution
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure_point
from hftransfer.fitting import memory, speed, trainer
from hftransfer.fitting.answering import inputs_of
from hftransfer.fitting.arguments import require_disk, require_recomputing, total_steps, training_arguments
from hftransfer.fitting.base import Setup
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.fitting.processes import agreed, is_main_process, leave, wait_for_everyone
from hftransfer.frozen import learning_curve, model_selection
from hftransfer.hub import origins
from hftransfer.modeling import inference, loading
from hftransfer.modeling.batches import moved
from hftransfer.modeling.parts import count_parameters
from hftransfer.modeling.prepared import prepare
from hftransfer.runs import Run
from hftransfer.training import Scene, phase, place_of, prepare_process, say, say_rows, set_scene, summary

REHEARSED = 4  # test rows that `check` has answered
SAME = 1e-3  # probabilities of one model, saved and loaded, are nearer


def check(config: RunConfig, interruption: Interruption) -> dict[str, Any]:
    """Find what would fail in training: load everything, then one real batch forward and backward; leaves nothing."""
    with tempfile.TemporaryDirectory(prefix="hftransfer-check-") as folder:
        temporary = Run.create(config, Path(folder) / "run")
        scene = set_scene(config, temporary, interruption, resume=False)
        setup = scene.setup
        scene.method.require(setup, scene.loaded)
        setup, model = scene.method.staged(setup, scene.loaded)
        rows, at_once = len(setup.prepared["train"].rows), setup.at_once
        untimed = speed.default_choice(config, setup.task, setup.threads, rows, at_once)
        arguments = training_arguments(setup, untimed, scene.method.learning_rate)
        require_recomputing(arguments, model)
        trainable, total = count_parameters(model)
        require_disk(place_of(config), trainable, total)
        seconds = one_step(setup, model, arguments)
        usual = usual_step(setup, model, arguments)
        updates = total_steps(vars(arguments), rows)
        rehearse(scene, model, temporary.folder / "rehearsed")
        return {
            **summary(scene),
            "columns": [dataclasses.asdict(choice) for choice in scene.data.columns],
            "labels": {"kind": setup.answer.called, "names": setup.answer.names, "counts": setup.answer.counts},
            "parameters": {"trainable": trainable, "total": total},
            "first_step_seconds": round(seconds, 3),
            "step_seconds": round(usual, 4),
            "steps_an_update": arguments.gradient_accumulation_steps,
            "updates": updates,
            "work": scene.method.work(updates),
            "evaluations": evaluations(arguments, updates),
            "batch": arguments.train_batch_size,
            "resolution": resolved(scene),
            "peak_memory_mb": peak_memory(),
        }


def evaluations(arguments: Any, updates: int) -> int:
    """Return how often a fit of so many updates is evaluated."""
    if arguments.eval_strategy == "steps":
        return math.ceil(updates / max(1, arguments.eval_steps))
    return math.ceil(arguments.num_train_epochs) if arguments.eval_strategy == "epoch" else 0


def resolved(scene: Scene) -> dict[str, Any]:
    """Return what the test rows can resolve, whatever is going to be answered to them."""
    setup, config = scene.setup, scene.setup.config
    truth, rows = setup.prepared["test"].truth, inputs_of(setup, "test")
    outputs = setup.answer.baseline(truth, rows).outputs
    test = Predictions(setup.answer, list(setup.rows["test"]["row_id"]), truth, outputs, setup.groups.get("test"))
    crosses = scene.method.crosses and setup.task.crosses and not config.data.streaming
    return resolution.report(test, config.evaluation, sum(scene.data.sizes.values()), crosses, rows)


def rehearse(scene: Scene, model: Any, folder: Path) -> None:
    """Do once what comes after training, on a few rows: ask, store, score, save, load, ask again and compare.

    What could fail there would otherwise fail for the first time when hours of training are spent. Raises UserError
    for a model that answers otherwise when it is loaded again.
    """
    setup, method = scene.setup, scene.method
    answer, task = setup.answer, setup.task
    rows = scene.data.splits["test"].select(range(min(REHEARSED, scene.data.sizes["test"])))
    few = prepare(task, rows, setup.processor, setup.preparation, training=False)
    plain = method.rehearsed(setup, scene.loaded, model)
    if plain is None:
        return
    plain = plain.float()
    outputs = inference.ask(answer, plain, few, setup.asking, setup.processor, workers=0)
    if is_main_process():
        stored = Predictions(answer, list(rows["row_id"]), few.truth, outputs)
        stored.to_parquet(folder.with_suffix(".parquet"))
        measure_point(Predictions.read_parquet(folder.with_suffix(".parquet"), answer))
        artifact.save_model(plain, setup, folder)
        again = loading.load_saved(folder, task)
        answered = inference.ask(answer, again, few, setup.asking, setup.processor, alone=True)
        shown = list(rows.select_columns([role.name for role in task.shown if role.name in rows.column_names]))
        apart = [
            answer.distance(*(answer.plainly(row, one) for one in pair))
            for row, pair in zip(shown, zip(outputs, answered, strict=True), strict=True)
        ]
        if sum(not distance <= SAME for distance in apart) > max(answer.may_differ * len(apart), 0):
            raise UserError(
                "a model that answers alike when it is saved and loaded is needed",
                f"{type(plain).__name__} is up to {max(apart):.2g} off", "Use another model or method.",
            )  # fmt: skip
    wait_for_everyone()


def rank(config: RunConfig, models: Sequence[str], by: str, interruption: Interruption) -> dict[str, Any]:
    """Score pretrained models on features of the training rows, without training any, and put them in order of `by`.

    The rows are loaded once; UserError when they cannot be. A model that fails, for whatever reason, is in `failed`
    with the reason and whether the user can mend it, and costs the others nothing.
    """
    scored: list[model_selection.Scored] = []
    failed: dict[str, dict[str, Any]] = {}
    require_linear(config)
    with shared_rows(config) as rows:
        for model in dict.fromkeys(models):
            revision = config.revision if model == config.model else None
            try:
                with frozen(config, interruption, rows, model=model, revision=revision) as scene:
                    scored.append(model_selection.score(scene.setup, scene.loaded))
            except Interrupted:
                raise
            except UserError as error:
                failed[model] = {"message": str(error), "user_error": True}
            except Exception as error:  # whatever a library makes of somebody's model
                traceback.print_exc()
                failed[model] = {"message": f"{type(error).__name__}: {error}", "user_error": False}
        ranked = model_selection.order(scored, rows.answer, by, config.evaluation.confidence)
    leave()
    return {
        "by": by,
        "models": ranked,
        "failed": failed,
        "verdict": model_selection.verdict(ranked, by),
        "seconds": round(sum(one["seconds"] for one in ranked), 2),
    }


def curve(config: RunConfig, interruption: Interruption) -> dict[str, Any]:
    """Say what more labels would add, from the probe on growing parts of train, and write it down with its chart.

    curve.json and curve.png lie in `folder`: the configuration's output, else a new one below runs/.
    """
    began = time.perf_counter()
    require_linear(config)
    with frozen(config, interruption) as scene:
        found = learning_curve.measure(scene.setup, scene.loaded)
    report = {"model": config.model, **found.to_dict(), "seconds": round(time.perf_counter() - began, 2)}
    if is_main_process():
        folder = Path(config.output or runs.ROOT / runs.default_name(config, what="curve")).absolute()
        report["folder"] = str(folder)
        learning_curve.write(report, folder)
    wait_for_everyone()
    leave()
    return report


def require_linear(config: RunConfig) -> None:
    """Raise UserError for a task whose answers no linear head on frozen features gives."""
    answers = catalog.task(config.task).answers
    if all(answer.linear is None for answer in answers):
        raise UserError(
            "a task whose answers a linear head on frozen features can give is needed",
            f"{config.task} answers with {', '.join(answer.called for answer in answers)}",
            "Train, and compare what comes of it: hftransfer compare.",
        )  # fmt: skip


@contextmanager
def frozen(config: RunConfig, interruption: Interruption, rows: Data | None = None, **changes: Any) -> Iterator[Scene]:
    """Set the scene of a configuration with changes for a model that is not trained, in a folder that goes away."""
    tree = config.to_dict() | changes | {"method": {"name": "full"}}
    tree["data"] |= {"label_issues": False, "likely_copies": False}
    changed = build(tree)
    with passing_run(changed) as run:
        scene = set_scene(changed, run, interruption, resume=False, rows=rows)
        say(run, "phase", name="features", detail=changed.model)
        yield scene


@contextmanager
def shared_rows(config: RunConfig) -> Iterator[Data]:
    """Load the rows for several models, in a folder that goes away, and say once what there is to say about them."""
    with passing_run(config) as run:
        prepare_process(config)
        revision = agreed(lambda: origins.revision_of_data(config))
        phase(run, "data")
        task = catalog.task(config.task)
        found = data.load(
            config.data.model_copy(update={"revision": revision}), task, config.seed, run.folder / "data"
        )
        say_rows(run, found)
        for warning in found.warnings:
            say(run, "warning", message=warning)
        yield found


@contextmanager
def passing_run(config: RunConfig) -> Iterator[Run]:
    """Make a run whose events are only printed, in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="hftransfer-frozen-") as folder:
        yield dataclasses.replace(Run.create(config, Path(folder) / "run"), mirror=sys.stdout)


def usual_step(setup: Setup, model: Any, arguments: Any) -> float:
    """Return the seconds of a step of rows of mean length, decoding included, when everything is warm."""
    lengths = setup.prepared["train"].lengths
    share = 0.5 if lengths is None else float((lengths > lengths.mean()).mean())
    began = time.perf_counter()
    batch_of(setup, arguments.train_batch_size, share)
    loading = time.perf_counter() - began
    step = min(one_step(setup, model, arguments, share) for _ in range(2))
    workers = arguments.dataloader_num_workers
    return max(step, loading / workers) if workers else step + loading


def batch_of(setup: Setup, size: int, share: float = 0.0) -> list[Any]:
    """Return prepared rows, the longest first, from `share` of the way on: what the longest need is enough for all."""
    train = setup.prepared["train"]
    if setup.config.data.streaming:
        return list(train.dataset.take(size))
    order = np.arange(len(train.rows)) if train.lengths is None else np.argsort(-train.lengths, kind="stable")
    first = max(0, min(int(share * len(order)), len(order) - size))
    return [train.dataset[int(i)] for i in order[first : first + size]]


def one_step(setup: Setup, model: Any, arguments: Any, share: float = 0.0) -> float:
    """Run one real batch (see `batch_of`) forward and backward; return the seconds it took."""
    size = arguments.train_batch_size
    items = batch_of(setup, size, share)
    batch = moved(setup.collator(items), arguments.device)
    labels = batch.pop("labels")
    with memory.explained(setup, model, arguments):
        model.to(arguments.device).train()
        memory.wait_for(arguments.device)
        began = time.perf_counter()
        try:
            with torch.autocast(arguments.device.type, dtype=torch.bfloat16, enabled=arguments.bf16):
                outputs = model(**batch)
        except AttributeError as error:
            raise adapted_convolution(setup.config, model, error) from error
        found = trainer.loss(setup)(outputs, labels)
        if found.requires_grad:  # a model that is asked as it is has nothing that trains
            found.backward()
        memory.wait_for(arguments.device)
    return time.perf_counter() - began


def adapted_convolution(config: RunConfig, model: Any, error: AttributeError) -> Exception:
    """Explain a model that reads attributes of a layer which peft has wrapped (MobileNetV2's padding does)."""
    if "'Conv2d' object has no attribute" not in str(error):
        return error
    return UserError(
        f"method.name={config.method.name} must adapt layers that the model only calls",
        f"{type(model).__name__} reads attributes of its convolutions, which peft has wrapped ({error})",
        "Use method.name=full with this model, or a transformer (ViT, Swin, ConvNeXt) with the method.",
    )
