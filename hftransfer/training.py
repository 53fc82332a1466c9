"""The engine: one run from configuration to artifact, and the check of everything that can be known before it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import set_seed

import hftransfer
from hftransfer import (
    artifact,
    card,
    catalog,
    data,
    evaluation,
    fitting,
    label_issues,
    learning_curve,
    likely_copies,
    modeling,
    ranking,
    runs,
    speed,
)
from hftransfer.config import RunConfig, build
from hftransfer.data import Data
from hftransfer.errors import UserError
from hftransfer.fitting import Fitted, Setup
from hftransfer.hub import origins
from hftransfer.hub.origins import Origins
from hftransfer.interruption import Interrupted, Interruption
from hftransfer.label_issues import LabelIssues
from hftransfer.likely_copies import LikelyCopies
from hftransfer.methods import fuse
from hftransfer.methods.base import Method
from hftransfer.runs import Run, read_json, write_text
from hftransfer.tasks.base import Preparation, Prepared, Task

SCHEMA = 1
EXAMPLES = "examples.parquet"
EXAMPLES_KEPT = 32
PACKAGES = ("torch", "transformers", "datasets", "accelerate", "peft", "evaluate", "huggingface_hub", "numpy")


@dataclass(frozen=True)
class Scene:
    """What a run works on, once its data and model are loaded."""

    setup: Setup
    method: Method
    data: Data
    loaded: modeling.Loaded
    sources: Origins
    warnings: tuple[str, ...]
    label_issues: LabelIssues | None
    likely_copies: LikelyCopies | None
    not_looked_for: Mapping[str, str]  # label_issues and likely_copies, where they were not looked for: why


def run(
    config: RunConfig,
    run: Run,
    interruption: Interruption,
    resume: bool = False,
    on_checkpoint: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Adapt, evaluate once on test, save; return what result.json holds (on every process).

    `on_checkpoint` is called with each whole checkpoint, on the main process.
    """
    began = time.perf_counter()
    scene = set_scene(config, run, interruption, resume, on_checkpoint)
    setup, config = scene.setup, scene.setup.config
    fitted = scene.method.fit(setup, scene.loaded)
    phase(run, "evaluation")
    fitted = dataclasses.replace(fitted, model=fitted.model.float())  # what pipeline() computes with by default
    outcomes = {split: scene.method.predict(setup, fitted, split) for split in ("validation", "test")}
    result: dict[str, Any] = {}
    if fitting.is_main_process():
        temperature, predictions = answers(scene, outcomes)
        for split, found in predictions.items():  # before anything that could fail on them
            found.to_parquet(run.predictions / f"{split}.parquet")
        write_examples(scene, run.predictions / EXAMPLES)
        result = {
            **summary(scene),
            **evaluation.report(
                predictions["test"],
                predictions["validation"],
                setup.labels,
                config.evaluation,
                config.seed,
                train_mean=train_mean(scene),
                train_rows=scene.data.sizes["train"],
            ),
            "without_leaked_rows": evaluation.without_rows(
                predictions["test"], leaked(scene), config.evaluation, config.seed
            ),
            "calibration": calibration(scene, outcomes["test"], predictions["test"], temperature),
            "self_training": fitted.self_training,
            "cost": cost(fitted) | taken(run, began),  # as it is published
            "speed": speed_notes(run, fitted),
        }
        phase(run, "saving")
        plots = evaluation.write_plots(predictions["test"], run.folder / artifact.PLOTS)
        result["artifact_plots"] = [f"{artifact.PLOTS}/{path.name}" for path in plots if path.suffix == ".png"]
        if fitted.plain:
            artifact.save(run, config, setup, scene.data, fitted, result, temperature)
        else:
            result["artifact"] = None
        card.write(run.artifact if fitted.plain else run.folder, result, config)
        result["cost"] |= taken(run, began)  # with saving it
        write_text(run.result_path, json.dumps(result, indent=1))
        shutil.rmtree(run.folder / "data", ignore_errors=True)  # unpacked archives and the like
    fitting.wait_for_everyone()
    fitting.leave()
    return result


def check(config: RunConfig, interruption: Interruption) -> dict[str, Any]:
    """Find what would fail in training: load everything, then one real batch forward and backward; leaves nothing."""
    with tempfile.TemporaryDirectory(prefix="hftransfer-check-") as folder:
        temporary = Run.create(config, Path(folder) / "run")
        scene = set_scene(config, temporary, interruption, resume=False)
        setup = scene.setup
        untimed = speed.default_choice(config, setup.task, setup.threads)
        arguments = fitting.training_arguments(setup, untimed, scene.method.learning_rate)
        scene.method.require(setup, scene.loaded)
        model = scene.method.apply(scene.loaded, config.method)
        trainable, total = modeling.count_parameters(model)
        fitting.require_disk(place_of(config), trainable, total)
        seconds = one_step(setup, model, arguments)
        usual = usual_step(setup, model, arguments)
        return {
            **summary(scene),
            "columns": [dataclasses.asdict(choice) for choice in scene.data.columns],
            "labels": {"kind": setup.labels.kind, "names": setup.labels.names, "counts": setup.labels.counts},
            "parameters": {"trainable": trainable, "total": total},
            "first_step_seconds": round(seconds, 3),
            "step_seconds": round(usual, 4),
            "updates": fitting.total_steps(setup, vars(arguments)),
            "peak_memory_mb": peak_memory(),
        }


def rank(config: RunConfig, models: Sequence[str], by: str, interruption: Interruption) -> dict[str, Any]:
    """Score pretrained models on features of the training rows, without training any, and put them in order of `by`.

    The rows are loaded once; UserError when they cannot be. A model that fails, for whatever reason, is in `failed`
    with the reason and whether the user can mend it, and costs the others nothing.
    """
    scored: list[ranking.Scored] = []
    failed: dict[str, dict[str, Any]] = {}
    with shared_rows(config) as rows:
        for model in dict.fromkeys(models):
            revision = config.revision if model == config.model else None
            try:
                with frozen(config, interruption, rows, model=model, revision=revision) as scene:
                    scored.append(ranking.score(scene.setup, scene.loaded))
            except Interrupted:
                raise
            except UserError as error:
                failed[model] = {"message": str(error), "user_error": True}
            except Exception as error:  # whatever a library makes of somebody's model
                traceback.print_exc()
                failed[model] = {"message": f"{type(error).__name__}: {error}", "user_error": False}
        ranked = ranking.order(scored, rows.labels, by, config.evaluation.confidence)
    fitting.leave()
    return {
        "by": by,
        "models": ranked,
        "failed": failed,
        "verdict": ranking.verdict(ranked, by),
        "seconds": round(sum(one["seconds"] for one in ranked), 2),
    }


def curve(config: RunConfig, interruption: Interruption) -> dict[str, Any]:
    """Say what more labels would add, from the probe on growing parts of train, and write it down with its chart.

    curve.json and curve.png lie in `folder`: the configuration's output, else a new one below runs/.
    """
    began = time.perf_counter()
    with frozen(config, interruption) as scene:
        found = learning_curve.measure(scene.setup, scene.loaded)
    report = {"model": config.model, **found.to_dict(), "seconds": round(time.perf_counter() - began, 2)}
    if fitting.is_main_process():
        folder = Path(config.output or runs.ROOT / runs.default_name(config, what="curve")).absolute()
        report["folder"] = str(folder)
        learning_curve.write(report, folder)
    fitting.wait_for_everyone()
    fitting.leave()
    return report


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


def set_scene(
    config: RunConfig,
    run: Run,
    interruption: Interruption,
    resume: bool,
    on_checkpoint: Callable[[Path], None] | None = None,
    rows: Data | None = None,
) -> Scene:
    """Load data, processor and model, each of one commit, and prepare the rows.

    `rows` are the data where an earlier model was asked about them: they are not loaded nor spoken about again.
    """
    task, method = catalog.task(config.task), catalog.method(config.method.name)
    threads = prepare_process(config)
    sources = agreed(lambda: origins.of(run, config))
    config = sources.pin(config)
    if rows is None:
        phase(run, "data")
        found = data.load(config.data, task, config.seed, run.folder / "data")
        if resume:
            refuse_other_data(run, found)
        say_rows(run, found)
    else:
        found = rows
    phase(run, "model")
    processor = modeling.load_processor(config, task)
    loaded = method.load(config, task, found.labels, processor)
    evaluation.prepare_metrics(found.labels, config.evaluation.metrics)
    longest = modeling.longest_input(config, task, processor, loaded.model.config)
    preparation = Preparation(config.data, found.labels, config.seed, longest)
    prepared = prepare(task, found, processor, preparation)
    cut = truncation(prepared, longest)
    warnings = (*found.warnings, *cut)
    for notice in loaded.notices:
        say(run, "notice", message=notice)
    for warning in warnings if rows is None else cut:
        say(run, "warning", message=warning)
    setup = Setup(
        config, task, preparation, processor, prepared, run, threads, interruption,
        reload=lambda: modeling.load_model(config, task, found.labels, processor).model,
        checkpoint=run.checkpoint() if resume else None,
        resume=resume,
        on_checkpoint=on_checkpoint,
        rows=found.splits,
        fingerprints=found.fingerprints,
    )  # fmt: skip
    issues, copies, reasons = look_at_rows(setup, loaded, found)
    more = (*(copies.warnings if copies else ()), *(issues.warnings() if issues else ()))
    for warning in more:
        say(run, "warning", message=warning)
    return Scene(setup, method, found, loaded, sources, (*warnings, *more), issues, copies, reasons)


def look_at_rows(
    setup: Setup, loaded: modeling.Loaded, found: Data
) -> tuple[LabelIssues | None, LikelyCopies | None, dict[str, str]]:
    """Look for label errors and likely copies by features, where that can be, and return why not where it cannot."""
    began, issues, copies = time.perf_counter(), None, None
    reasons = {
        "label_issues": label_issues.why_not(setup, loaded),
        "likely_copies": likely_copies.why_not(setup, loaded),
    }
    if reasons["label_issues"] is None:
        phase(setup.run, "labels")
        issues = label_issues.look(setup, loaded)
    if reasons["likely_copies"] is None:
        phase(setup.run, "copies")
        copies = likely_copies.look(setup, loaded, found.hygiene.copied)
    say(setup.run, "looked", seconds=round(time.perf_counter() - began, 2))
    return issues, copies, {name: why for name, why in reasons.items() if why is not None}


def leaked(scene: Scene) -> np.ndarray | None:
    """Return which test rows (rows,) have a copy in train: the same, a near or a likely one; None: not looked for."""
    known = scene.data.hygiene.leaked("test")
    likely = None if scene.likely_copies is None else scene.likely_copies.masks["test", "train"]
    return known if likely is None or known is None else known | likely


def prepare_process(config: RunConfig) -> int:
    """Set up this process for a configuration: quiet libraries, device, threads, seed; return the threads."""
    task = catalog.task(config.task)
    modeling.silence_libraries()
    if config.data.streaming and not task.streams:
        raise task.cannot_stream()
    PartialState(cpu=wants_cpu(config))
    threads = speed.set_threads(config)
    set_seed(config.seed)
    return threads


def say_rows(run: Run, found: Data) -> None:
    """Say which rows were loaded, and what each column was taken for."""
    say(run, "data", fingerprint=found.fingerprint, splits=dict(found.sizes))
    say(run, "columns", choices=[dataclasses.asdict(choice) for choice in found.columns])


def agreed(find: Callable[[], Any]) -> Any:
    """Return what the main process finds, on every process: the Hub may answer two of them differently."""
    if PartialState().num_processes == 1:
        return find()
    found: list[Any] = [None]
    if fitting.is_main_process():
        try:
            found = [find()]
        except UserError as error:
            found = [error]  # the others would wait for ever
    answer = broadcast_object_list(found)[0]
    if isinstance(answer, UserError):
        raise answer
    return answer


def refuse_other_data(run: Run, found: Data) -> None:
    """Raise UserError when a run goes on with other rows than it began with."""
    began = [event["fingerprint"] for event in run.events()[0] if event["type"] == "data"]
    if began and began[0] != found.fingerprint:
        raise UserError(
            "the rows that the run began with are needed to go on",
            f"its data had the fingerprint {began[0][:16]}, now it has {found.fingerprint[:16]}",
            "Bring the data back, or start a new run: hftransfer train",
        )


def write_examples(scene: Scene, path: Path) -> None:
    """Keep some test rows as they came, for whoever wants to ask the model again: `row_id` and a column a role.

    They stay in the run's folder: what is published never holds rows.
    """
    rows = scene.data.splits["test"]
    chosen = np.random.default_rng(scene.setup.config.seed).permutation(len(rows))[:EXAMPLES_KEPT]
    answers = [role.name for role in scene.setup.task.roles if role.kind in ("label", "tags")]
    kept = rows.select(np.sort(chosen)).remove_columns(answers).with_format("arrow")[:]
    pyarrow.parquet.write_table(datasets.table.embed_table_storage(kept), path)  # with the pictures' bytes


def prepare(task: Task, found: Data, processor: Any, preparation: Preparation) -> dict[str, Prepared]:
    """Turn every split into model inputs; a streamed training split stays a stream."""
    prepared = {}
    with PartialState().main_process_first():
        for split, rows in found.splits.items():
            if split == "train" and preparation.config.streaming:
                stream = task.stream(rows, processor, preparation)
                prepared[split] = Prepared(stream, np.arange(found.sizes["train"]))
            else:
                prepared[split] = task.prepare(rows, processor, preparation, training=split == "train")
    return prepared


def answers(scene: Scene, outcomes: Mapping[str, Any]) -> tuple[float, dict[str, evaluation.Predictions]]:
    """Return the temperature that calibrates on validation, and the uncalibrated predictions of each split."""
    labels, config = scene.setup.labels, scene.setup.config
    predictions = {}
    for split, (truth, logits) in outcomes.items():
        ids = scene.data.splits[split]["row_id"]
        predictions[split] = fitting.predictions(labels, truth, logits, list(ids))
    temperature = 1.0
    if config.evaluation.calibrate and labels.kind != "regression":
        truth, logits = outcomes["validation"]
        if labels.kind == "tags":
            truth, logits = np.concatenate(truth), np.concatenate(logits)
        temperature = evaluation.fit_temperature(logits, truth, labels.kind)
    return temperature, predictions


def calibration(
    scene: Scene, outcome: Any, predictions: evaluation.Predictions, temperature: float
) -> dict[str, Any] | None:
    """Return the calibration error on test as the model is, and as the Predictor answers (divided by temperature)."""
    labels = scene.setup.labels
    if labels.kind not in ("single_label", "multi_label"):
        return None if labels.kind == "regression" else {"temperature": temperature}
    truth, logits = outcome
    calibrated = fitting.predictions(labels, truth, logits, predictions.row_ids, temperature)
    names = ["calibration_error"]
    return {
        "temperature": temperature,
        "calibration_error": evaluation.measure_point(predictions, names)[names[0]],
        "calibration_error_calibrated": evaluation.measure_point(calibrated, names)[names[0]],
    }


def place_of(config: RunConfig) -> Path:
    """Return the nearest folder that is there to where the run would be written."""
    target = Path(config.output or runs.ROOT).absolute()
    return next(folder for folder in (target, *target.parents) if folder.exists())


def usual_step(setup: Setup, model: Any, arguments: Any) -> float:
    """Return the seconds of a step of rows of middle length, decoding included, when everything is warm."""
    began = time.perf_counter()
    batch_of(setup, arguments.train_batch_size, share=0.5)
    loading = time.perf_counter() - began
    step = min(one_step(setup, model, arguments, share=0.5) for _ in range(2))
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
    batch = {k: v.to(arguments.device) for k, v in setup.task.collator(setup.processor)(items).items()}
    labels = batch.pop("labels")
    model.to(arguments.device).train()
    began = time.perf_counter()
    try:
        with torch.autocast(arguments.device.type, dtype=torch.bfloat16, enabled=arguments.bf16):
            outputs = model(**batch)
        found = fitting.loss(setup)(outputs, labels)
        if found.requires_grad:  # a model that is asked as it is has nothing that trains
            found.backward()
    except AttributeError as error:
        raise adapted_convolution(setup.config, model, error) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise UserError(
            f"memory for a batch of {size} rows is needed", "there is too little",
            "Set train.per_device_train_batch_size lower, or data.max_length for texts.",
        ) from error  # fmt: skip
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


def truncation(prepared: Mapping[str, Prepared], longest: int | None) -> list[str]:
    """Return a sentence for each split that lost the ends of texts."""
    return [
        f"{split}: {found.truncated / len(found.rows):.1%} of rows ({found.truncated}) were cut at {longest} tokens; "
        "data.max_length sets the limit"
        for split, found in prepared.items()
        if found.truncated
    ]


def summary(scene: Scene) -> dict[str, Any]:
    """Return what a result says of a run before it is measured."""
    config, found = scene.setup.config, scene.data
    return {
        "schema": SCHEMA,
        "task": config.task,
        "model": config.model,
        "revision": scene.loaded.revision or scene.sources.model.revision,
        "method": config.method.name,
        "seed": config.seed,
        "sources": scene.sources.to_dict(),
        "columns": [dataclasses.asdict(choice) for choice in found.columns],
        "max_length": scene.setup.preparation.max_length,
        "data": {
            "source": config.data.source,
            "fingerprint": found.fingerprint,
            "splits": dict(found.sizes),
            "split_fingerprints": dict(found.fingerprints),
            "leakage": found.leakage,
            "hygiene": found.hygiene.to_dict(),
            "likely_copies": None if scene.likely_copies is None else scene.likely_copies.to_dict(),
            "label_issues": None if scene.label_issues is None else scene.label_issues.to_dict(),
            "not_looked_for": dict(scene.not_looked_for),
            "warnings": list(scene.warnings),
        },
        "artifact": "artifact",
        "versions": versions(),
    }


def seconds_before(events: Sequence[Mapping[str, Any]]) -> float:
    """Return what the earlier processes of a resumed run took, each from reading the data to its last word."""
    total, began, last = 0.0, None, 0.0
    for event in events:
        if event["type"] in ("launched", "process"):
            total += 0.0 if began is None else last - began
            began = None
        elif began is None and event["type"] == "phase" and event["name"] == "data":  # libraries are not counted
            began = event["time"]
        last = event["time"]
    return total


def alone(events: Sequence[Mapping[str, Any]]) -> float:
    """Return what to add to a run's seconds to compare it with others, which may be negative.

    Looking for copies and wrong labels is the same for all methods; features that an earlier run had left on disk
    would have had to be computed.
    """
    spared = sum(event["spared"] for event in events if event["type"] == "features")
    return float(spared - sum(event["seconds"] for event in events if event["type"] == "looked"))


def taken(run: Run, began: float) -> dict[str, float]:
    """Return the seconds of a run so far: of all its processes, alone (see there), and of the runs it was fused of."""
    events = run.events()[0]
    total = seconds_before(events) + time.perf_counter() - began
    parts = {name: value for name, value in read_json(run.folder / fuse.FILE).items() if name == fuse.PARTS}
    return {"total_seconds": round(total, 2), "alone_seconds": round(total + alone(events), 2), **parts}


def cost(fitted: Fitted) -> dict[str, Any]:
    """Return what the fit took, and where: seconds, MB, parameters."""
    return {
        "train_seconds": round(fitted.train_seconds, 2),
        "examples_per_second": round(fitted.examples_per_second, 2),
        "peak_memory_mb": peak_memory(),
        "trainable_parameters": fitted.trainable_parameters,
        "total_parameters": fitted.total_parameters,
        "steps": fitted.steps,
        "best_step": fitted.best_step,
        "waiting_for_data": round(fitted.waiting_share, 4),
        "processes": PartialState().num_processes,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "hardware": hardware(),
    }


def hardware() -> str:
    """Return what the run computed on, in words."""
    if torch.cuda.is_available():
        return f"{PartialState().num_processes} x {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    return f"{speed.processor()}, {threads} thread{'s' if threads > 1 else ''} a process"


def speed_notes(run: Run, fitted: Fitted) -> dict[str, Any]:
    """Return the settings that were chosen for this machine."""
    choice = speed.recorded(run)
    return {} if choice is None else dataclasses.asdict(choice)


def train_mean(scene: Scene) -> float | None:
    """Return the mean of a regression's training labels."""
    if scene.setup.labels.kind != "regression":
        return None
    return float(np.mean([row["label"] for row in scene.data.splits["train"].select_columns(["label"])]))


def peak_memory() -> int:
    """Return the largest memory of this process so far, on the GPU where there is one, in MB."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"hftransfer": hftransfer.__version__, "python": platform.python_version(), **found}


def wants_cpu(config: RunConfig) -> bool:
    """Tell whether the run is to stay on the CPU."""
    return bool(config.train.options.get("use_cpu", not torch.accelerator.is_available()))


def phase(run: Run, name: str) -> None:
    """Say which phase begins."""
    say(run, "phase", name=name)


def say(run: Run, type: str, **fields: Any) -> None:
    """Write one event, from the main process alone."""
    if fitting.is_main_process():
        run.event(type, **fields)
