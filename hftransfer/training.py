"""The engine: one run from configuration to artifact, and the scene that it is set in."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from accelerate import PartialState
from transformers import set_seed

from hftransfer import artifact, catalog, data, runs
from hftransfer.accounts import cost, speed_notes, taken, versions
from hftransfer.answers.base import Answer
from hftransfer.audit import forgetting, looking
from hftransfer.audit.looking import Looks
from hftransfer.card import report
from hftransfer.config import RunConfig
from hftransfer.data import Data
from hftransfer.data.folding import Fold
from hftransfer.data.streaming import to_keep
from hftransfer.data.unheeded import unheeded_later
from hftransfer.errors import UserError
from hftransfer.evaluation import beside, folds, reporting, slices
from hftransfer.evaluation.plots import write_plots
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.reporting import settings_of
from hftransfer.evaluation.scoring import measure_point, prepare_metrics
from hftransfer.evaluation.usefulness import advice, never_above
from hftransfer.fitting import answering, crossing, speed
from hftransfer.fitting.answering import inputs_of
from hftransfer.fitting.arguments import wants_cpu
from hftransfer.fitting.base import Setup
from hftransfer.fitting.interruption import Interruption
from hftransfer.fitting.processes import agreed, is_main_process, leave, wait_for_everyone
from hftransfer.frozen import hard_negatives
from hftransfer.hub import origins
from hftransfer.hub.origins import Origins
from hftransfer.methods.base import Method
from hftransfer.modeling import lengths, loading, on_demand, packing
from hftransfer.modeling.batches import collator
from hftransfer.modeling.cuts import refuse_long_targets, truncation
from hftransfer.modeling.prepared import Entries, Prepared, informed, prepare
from hftransfer.modeling.streamed import stream
from hftransfer.runs import Run, write_text
from hftransfer.safety.shelf import Shelf
from hftransfer.tasks.base import Preparation, Task

EXAMPLES = "examples.parquet"
COPIES = "copies"  # of what is slow to read, while a run lasts
EXAMPLES_KEPT = 32


@dataclass(frozen=True)
class Scene:
    """What a run works on, once its data and model are loaded."""

    setup: Setup
    method: Method
    data: Data
    loaded: loading.Loaded
    sources: Origins
    warnings: tuple[str, ...]
    looks: Looks


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
    scene = set_scene(config, run, interruption, resume, on_checkpoint, later=True)
    setup, config = scene.setup, scene.setup.config
    trivial = say_trivial(scene)
    reads = scene.method.trains and forgetting.why_not(setup) is None
    before = forgetting.measured(setup, scene.loaded.model) if reads else None
    untuned = answering.as_it_came(setup, scene.method, scene.loaded.model)
    fitted = scene.method.fit(setup, scene.loaded)
    phase(run, "evaluation")
    fitted = dataclasses.replace(fitted, model=fitted.model.float())  # what pipeline() computes with by default
    setup = answering.weighed(answering.taught(setup, fitted), scene.method, fitted)
    after = forgetting.measured(setup, fitted.model) if before is not None else None
    validation, test = answering.answers_of(setup, scene.method, fitted)
    result: dict[str, Any] = {}
    if is_main_process():
        for split, stored in (("validation", validation), ("test", test)):  # before anything that could fail on them
            stored.to_parquet(run.predictions / f"{split}.parquet")
        write_examples(scene, run.predictions / EXAMPLES)
    if scene.looks.waits:
        scene = looked_at(scene, dataclasses.replace(scene.loaded, model=setup.reload()))
    crossed = (
        crossing.cross(setup, scene.data, lambda *fold: refit(scene, *fold), (origins.FILE,))
        if (config.evaluation.folds)
        else []
    )
    phase(run, "intervals")
    if is_main_process():
        answer = test.answer
        result = {
            **summary(scene, answer),
            **reporting.report(test, validation, config.evaluation, config.seed, rows=inputs_of(scene.setup, "test")),
            "beside": beside.report(
                test,
                answering.others(setup, fitted, test, untuned),
                config.evaluation.metrics,
                **settings_of(config.evaluation, config.seed),
            ),
            "signatures": answer.signatures(),
            "slices": slices.report(
                test, scene.data.slices.get("test", {}), settings_of(config.evaluation, config.seed)
            ),
            "folds": folds.report(
                crossed, answer, config.evaluation, config.data.group or None, scene.data.hygiene.any, scene.data.added
            )
            if crossed
            else None,
            "without_leaked_rows": reporting.without_copies(
                test,
                scene.data.hygiene.copied,
                scene.looks.likely_copies,
                fitted.learnt,
                config.evaluation,
                config.seed,
            ),
            "calibration": answer.calibration(test.truth, test.outputs),
            "forgotten": None
            if before is None or after is None
            else forgetting.report(before, after, **settings_of(config.evaluation, config.seed)),
            "self_training": fitted.self_training,
            "auto": fitted.auto,
            "cost": cost(fitted) | taken(run, began),  # as it is published
            "speed": speed_notes(run, fitted),
        }
        fits = [name for name in catalog.methods() if catalog.fits(config.task, name)]
        result["verdict"]["sentences"] += never_above(run.events()[0], trivial, answer)
        result["verdict"]["advice"] = advice(
            result["verdict"], config.method.name, fits, len(test), bool(crossed) or not setup.task.crosses
        )
        phase(run, "saving")
        plots = write_plots(test, run.folder / artifact.PLOTS, config.evaluation.confidence)
        result["artifact_plots"] = [f"{artifact.PLOTS}/{path.name}" for path in plots if path.suffix == ".png"]
        if fitted.plain:
            artifact.save(run, config, answering.knowing(setup, fitted.model), scene.data, fitted, result)
        else:
            result["artifact"] = None
        report.write(run.artifact if fitted.plain else run.folder, result, config)
        result["cost"] |= taken(run, began)  # with saving it
        write_text(run.result_path, json.dumps(result, indent=1))
        for name in ("data", COPIES):  # unpacked archives and the like
            shutil.rmtree(run.folder / name, ignore_errors=True)
    wait_for_everyone()
    leave()
    return result


def set_scene(
    config: RunConfig,
    run: Run,
    interruption: Interruption,
    resume: bool,
    on_checkpoint: Callable[[Path], None] | None = None,
    rows: Data | None = None,
    later: bool = False,
) -> Scene:
    """Load data, processor and model, each of one commit, and prepare the rows.

    `rows` are the data where an earlier model was asked about them: they are not loaded nor spoken about again.
    `later`: looks at rows are left to whoever called where they can wait; see `looked_at`.
    """
    task, method = catalog.task(config.task), catalog.method(config.method.name)
    threads = prepare_process(config)
    method.try_options(config, task, threads)
    sources = agreed(lambda: origins.of(run, config))
    config = sources.pin(config)
    if rows is None:
        phase(run, "data")
        found = data.load(config.data, task, config.seed, run.folder / "data", slices=config.evaluation.slices)
        if resume:
            refuse_other_data(run, found)
        say_rows(run, found)
    else:
        found = rows
    config = config.model_copy(update={"data": config.data.model_copy(update=found.settled)})
    found, asked = ask_of(found, task, config)
    phase(run, "model")
    processor = loading.load_processor(config, task)
    loading.set_languages(config, processor)
    answer, processor, notices = loading.fitted(config, found.answer, processor, method.trains)
    found = dataclasses.replace(found, answer=answer)
    for notice in notices:
        say(run, "notice", message=notice)
    loaded = method.load(config, task, found.answer, processor)
    prepare_metrics(found.answer, config.evaluation.metrics)
    settings = loaded.model.config
    config = config.model_copy(update={"data": task.settle(config.data, settings)})
    longest, told = lengths.settle(run, resume, config, task, found.splits["train"], found.answer, processor, settings)
    for type, fields in told.items():
        say(run, type, **fields)
    longest_target = loading.longest_target(config, settings, longest, found.answer)
    preparation = Preparation(
        config.data, found.answer, config.seed, longest, longest_target, shelf=Shelf(run.folder / COPIES)
    )
    found, mined = hard_negatives.mined(config, task, found, loaded.model, processor, preparation)
    preparation = dataclasses.replace(preparation, answer=found.answer)
    for notice in mined:
        say(run, "notice", message=notice)
    prepared = prepare_splits(task, found, processor, preparation)
    refuse_long_targets(config, prepared, preparation, method.trains)
    prepared = informed(found.answer, prepared)
    if config.data.packing:
        collate = collator(task, processor, preparation)
        prepared["train"] = packing.pack(config, prepared["train"], preparation, loaded.model, collate)
    targets = prepared["validation" if config.data.streaming else "train"].target_lengths
    preparation = dataclasses.replace(preparation, answer=found.answer.limited(config.evaluation, targets, settings))
    cut = truncation(prepared, preparation, task)
    warnings = (*found.warnings, *asked, *cut)
    for warning in warnings if rows is None else (*asked, *cut):
        say(run, "warning", message=warning)
    setup = Setup(
        config, task, preparation, processor, prepared, run, threads, interruption,
        reload=lambda: loading.load_model(config, task, found.answer, processor).model,
        checkpoint=run.checkpoint() if resume else None,
        resume=resume,
        on_checkpoint=on_checkpoint,
        rows=found.splits,
        fingerprints=found.fingerprints,
        groups=found.groups,
    )  # fmt: skip
    for notice in (*loaded.notices, *method.gave_way(setup)):
        say(run, "notice", message=notice)
    later = later and method.trains and method.needs is None and method.loads_plainly(config.method)
    scene = Scene(setup, method, found, loaded, sources, warnings, looking.planned(setup, loaded, later))
    return scene if scene.looks.waits else looked_at(scene, loaded)


def looked_at(scene: Scene, loaded: loading.Loaded) -> Scene:
    """Look at the rows by the features of a model as it came; see `audit.looking`."""
    bounded = scene.method.needs != "linear"
    looks = looking.look(scene.setup, loaded, scene.data, scene.looks, bounded)
    return dataclasses.replace(scene, looks=looks, warnings=(*scene.warnings, *looks.warnings))


def ask_of(found: Data, task: Task, config: RunConfig) -> tuple[Data, list[str]]:
    """Return the data with an answer that knows what the evaluation asks of it, and what is to be said of that."""
    validation = found.splits["validation"].with_format("arrow")[:][task.truth.name]
    answer, said = found.answer.asked(config.evaluation, validation.combine_chunks())
    crossing.foresee(dataclasses.replace(found, answer=answer), task.truth.name, config)
    uneven = [] if config.train.class_weights is not None else answer.uneven()
    idle = unheeded_later(config.evaluation, config.train, task, answer)
    return dataclasses.replace(found, answer=answer), [*said, *uneven, *idle]


def prepare_process(config: RunConfig) -> int:
    """Set up this process for a configuration: quiet libraries, device, threads, seed; return the threads."""
    loading.silence_libraries()
    PartialState(cpu=wants_cpu(config))
    threads = speed.set_threads(config)
    set_seed(config.seed)
    return threads


def say_rows(run: Run, found: Data) -> None:
    """Say which rows were loaded, and what each column was taken for."""
    say(run, "data", fingerprint=found.fingerprint, splits=dict(found.sizes), guesses=list(found.guesses))
    say(run, "columns", choices=[dataclasses.asdict(choice) for choice in found.columns])


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
    kept = rows.select(np.sort(chosen)).remove_columns(scene.setup.task.truth.name).with_format("arrow")[:]
    pyarrow.parquet.write_table(to_keep(kept, scene.setup.task.shown, scene.setup.config.data), path)


def prepare_splits(task: Task, found: Data, processor: Any, preparation: Preparation) -> dict[str, Prepared]:
    """Turn every split into model inputs; a streamed training split stays a stream."""
    prepared = {}
    entries = Entries(task, processor, preparation) if found.answer.catalogue is not None else None
    streamed = preparation.config.streaming
    if streamed:  # by all at once: it reads the whole stream, and whoever waits for that too long is given up
        prepared["train"] = stream(task, found.splits["train"], processor, preparation, found.sizes["train"])
    with PartialState().main_process_first():
        for split, rows in found.splits.items():
            if split != "train" or not streamed:
                later = on_demand.possible(task, rows)
                make = on_demand.on_demand if later else partial(prepare, training=split == "train")
                made = make(task, rows, processor, preparation)
                prepared[split] = made if split == "train" else dataclasses.replace(made, entries=entries)
    return prepared


def say_trivial(scene: Scene) -> dict[str, float]:
    """Tell, and return, what the trivial answer scores on the validation rows: the line that a curve must pass."""
    answer = scene.setup.answer
    truth = scene.setup.prepared["validation"].truth
    trivial = answer.baseline(truth, inputs_of(scene.setup, "validation"))
    found = Predictions(answer, list(scene.data.splits["validation"]["row_id"]), truth, trivial.outputs)
    values = measure_point(found, [name for name in answer.validated if name in answer.metrics])
    run = scene.setup.run
    say(run, "trivial", name=trivial.name, metrics=values)
    return values


def refit(scene: Scene, config: RunConfig, run: Run, fold: Fold) -> tuple[Predictions, Any]:
    """Train a model of its own on a fold's rows as `scene` was trained, and return its answers to the fold."""
    inner = set_scene(config, run, scene.setup.interruption, resume=False, rows=fold.data)
    inner = dataclasses.replace(inner, setup=crossing.within(inner.setup, scene.setup, fold))
    fitted = inner.method.fit(inner.setup, inner.loaded)
    fitted = dataclasses.replace(fitted, model=fitted.model.float())
    return answering.answers_of(inner.setup, inner.method, fitted)[1], inputs_of(inner.setup, "test")


def place_of(config: RunConfig) -> Path:
    """Return the nearest folder that is there to where the run would be written."""
    target = Path(config.output or runs.ROOT).absolute()
    return next(folder for folder in (target, *target.parents) if folder.exists())


def summary(scene: Scene, answer: Answer[Any] | None = None) -> dict[str, Any]:
    """Return what a result says of a run before it is measured; `answer` with what validation rows taught."""
    config, found, answer = scene.setup.config, scene.data, answer or scene.setup.answer
    copies, issues = scene.looks.likely_copies, scene.looks.label_issues
    return {
        "schema": runs.RESULT_SCHEMA,
        "task": config.task,
        "answer": answer.to_dict(),
        "main_metric": answer.main_metric,
        "selected_by": answer.selects_by,
        "model": config.model,
        "revision": scene.loaded.revision or scene.sources.model.revision,
        "method": config.method.name,
        "seed": config.seed,
        "sources": scene.sources.to_dict(),
        "columns": [dataclasses.asdict(choice) for choice in found.columns],
        "max_length": scene.setup.preparation.max_length,
        "carried": scene.setup.task.said(config.data),
        "data": {
            "source": config.data.source,
            "group": config.data.group or None,
            "fingerprint": found.fingerprint,
            "splits": dict(found.sizes),
            "split_fingerprints": dict(found.fingerprints),
            "leakage": found.leakage,
            "hygiene": found.hygiene.to_dict(),
            "likely_copies": None if copies is None else copies.to_dict(),
            "label_issues": None if issues is None else issues.to_dict(),
            "not_looked_for": dict(scene.looks.reasons),
            "guesses": list(found.guesses),
            "warnings": list(scene.warnings),
        },
        "artifact": "artifact",
        "versions": versions(),
    }


def phase(run: Run, name: str) -> None:
    """Say which phase begins."""
    say(run, "phase", name=name)


def say(run: Run, type: str, **fields: Any) -> None:
    """Write one event, from the main process alone."""
    if is_main_process():
        run.event(type, **fields)
