"""The engine: one run from configuration to artifact, and the scene that it is set in."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from accelerate import PartialState
from transformers import set_seed

from hftransfer import artifact, catalog, data, runs
from hftransfer.accounts import cost, speed_notes, taken, versions
from hftransfer.answers.base import Answer
from hftransfer.audit import forgetting, label_issues, likely_copies
from hftransfer.audit.label_issues import LabelIssues
from hftransfer.audit.likely_copies import LikelyCopies
from hftransfer.card import report
from hftransfer.config import RunConfig
from hftransfer.data import Data
from hftransfer.data.folding import Fold
from hftransfer.data.streaming import to_keep
from hftransfer.errors import UserError
from hftransfer.evaluation import beside, folds, reporting, slices
from hftransfer.evaluation.plots import write_plots
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.reporting import settings_of, without_rows
from hftransfer.evaluation.scoring import measure_point, prepare_metrics
from hftransfer.evaluation.usefulness import advice, never_above
from hftransfer.fitting import crossing, speed
from hftransfer.fitting.answering import answers_of, as_it_came, inputs_of, knowing, taught
from hftransfer.fitting.arguments import wants_cpu
from hftransfer.fitting.base import Setup
from hftransfer.fitting.interruption import Interruption
from hftransfer.fitting.processes import agreed, is_main_process, leave, wait_for_everyone
from hftransfer.frozen import hard_negatives
from hftransfer.hub import origins
from hftransfer.hub.origins import Origins
from hftransfer.methods.base import Method
from hftransfer.modeling import lengths, loading, packing
from hftransfer.modeling.batches import collator
from hftransfer.modeling.cuts import refuse_long_targets, truncation
from hftransfer.modeling.prepared import Entries, Prepared, informed, prepare
from hftransfer.modeling.streamed import stream
from hftransfer.runs import Run, write_text
from hftransfer.tasks.base import Preparation, Task

EXAMPLES = "examples.parquet"
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
    trivial = say_trivial(scene)
    reads = scene.method.trains and forgetting.why_not(setup) is None
    before = forgetting.measured(setup, scene.loaded.model) if reads else None
    untuned = as_it_came(setup, scene.method, scene.loaded.model)
    fitted = scene.method.fit(setup, scene.loaded)
    setup = taught(setup, fitted)
    phase(run, "evaluation")
    fitted = dataclasses.replace(fitted, model=fitted.model.float())  # what pipeline() computes with by default
    after = forgetting.measured(setup, fitted.model) if before is not None else None
    validation, test = answers_of(setup, scene.method, fitted)
    result: dict[str, Any] = {}
    if is_main_process():
        for split, stored in (("validation", validation), ("test", test)):  # before anything that could fail on them
            stored.to_parquet(run.predictions / f"{split}.parquet")
        write_examples(scene, run.predictions / EXAMPLES)
    crossed = (
        crossing.cross(setup, scene.data, lambda *fold: refit(scene, *fold), (origins.FILE,))
        if (config.evaluation.folds)
        else []
    )
    if is_main_process():
        answer = test.answer
        result = {
            **summary(scene, answer),
            **reporting.report(test, validation, config.evaluation, config.seed, rows=inputs_of(scene.setup, "test")),
            "beside": beside.report(
                test,
                [*untuned, *answer.rivals(test.truth, inputs_of(setup, "test"))],
                config.evaluation.metrics,
                **settings_of(config.evaluation, config.seed),
            ),
            "signatures": answer.signatures(),
            "slices": slices.report(
                test, scene.data.slices.get("test", {}), settings_of(config.evaluation, config.seed)
            ),
            "folds": folds.report(
                crossed, answer, config.evaluation, config.data.group or None, scene.data.hygiene.any
            )
            if crossed
            else None,
            "without_leaked_rows": without_rows(test, leaked(scene), config.evaluation, config.seed),
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
        plots = write_plots(test, run.folder / artifact.PLOTS)
        result["artifact_plots"] = [f"{artifact.PLOTS}/{path.name}" for path in plots if path.suffix == ".png"]
        if fitted.plain:
            artifact.save(run, config, knowing(setup, fitted.model), scene.data, fitted, result)
        else:
            result["artifact"] = None
        report.write(run.artifact if fitted.plain else run.folder, result, config)
        result["cost"] |= taken(run, began)  # with saving it
        write_text(run.result_path, json.dumps(result, indent=1))
        shutil.rmtree(run.folder / "data", ignore_errors=True)  # unpacked archives and the like
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
) -> Scene:
    """Load data, processor and model, each of one commit, and prepare the rows.

    `rows` are the data where an earlier model was asked about them: they are not loaded nor spoken about again.
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
    answer, processor, notices = loading.fitted(config, found.answer, processor)
    found = dataclasses.replace(found, answer=answer)
    for notice in notices:
        say(run, "notice", message=notice)
    loaded = method.load(config, task, found.answer, processor)
    prepare_metrics(found.answer, config.evaluation.metrics)
    settings = loaded.model.config
    config = config.model_copy(update={"data": task.settle(config.data, settings)})
    loading.set_languages(config, processor)
    longest, told = lengths.settle(run, resume, config, task, found.splits["train"], found.answer, processor, settings)
    for type, fields in told.items():
        say(run, type, **fields)
    longest_target = loading.longest_target(config, settings, longest, found.answer)
    preparation = Preparation(config.data, found.answer, config.seed, longest, longest_target)
    found, mined = hard_negatives.mined(config, task, found, loaded.model, processor, preparation)
    preparation = dataclasses.replace(preparation, answer=found.answer)
    for notice in mined:
        say(run, "notice", message=notice)
    prepared = prepare_splits(task, found, processor, preparation)
    refuse_long_targets(config, prepared, longest_target)
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
    issues, copies, reasons = look_at_rows(setup, loaded, found, bounded=method.needs != "linear")
    more = (*(copies.warnings if copies else ()), *(issues.warnings() if issues else ()))
    for warning in more:
        say(run, "warning", message=warning)
    return Scene(setup, method, found, loaded, sources, (*warnings, *more), issues, copies, reasons)


def ask_of(found: Data, task: Task, config: RunConfig) -> tuple[Data, list[str]]:
    """Return the data with an answer that knows what the evaluation asks of it, and what is to be said of that."""
    validation = found.splits["validation"].with_format("arrow")[:][task.truth.name]
    answer, said = found.answer.asked(config.evaluation, validation.combine_chunks())
    crossing.foresee(dataclasses.replace(found, answer=answer), task.truth.name, config)
    uneven = [] if config.train.class_weights is not None else answer.uneven()
    return dataclasses.replace(found, answer=answer), [*said, *uneven]


def look_at_rows(
    setup: Setup, loaded: loading.Loaded, found: Data, bounded: bool
) -> tuple[LabelIssues | None, LikelyCopies | None, dict[str, str]]:
    """Look for label errors and likely copies by features, where that can be, and return why not where it cannot."""
    began, issues, copies = time.perf_counter(), None, None
    reasons = {
        "label_issues": label_issues.why_not(setup, loaded),
        "likely_copies": likely_copies.why_not(setup, loaded),
    }
    if reasons["label_issues"] is None:
        phase(setup.run, "labels")
        issues = label_issues.look(setup, loaded, bounded)
    if reasons["likely_copies"] is None:
        phase(setup.run, "copies")
        copies = likely_copies.look(setup, loaded, found.hygiene.copied, bounded)
    total = found.sizes["train"]
    looked = issues.looked if issues else copies.looked["train"] if copies else total
    if looked < total:
        many = f"{looked:,} of {total:,} rows of train, drawn with the seed: what a look can afford"
        say(setup.run, "notice", message=f"labels and copies are looked for among {many}")
    say(setup.run, "looked", seconds=round(time.perf_counter() - began, 2))
    return issues, copies, {name: why for name, why in reasons.items() if why is not None}


def leaked(scene: Scene) -> np.ndarray | None:
    """Return which test rows (rows,) have a copy in train: the same, a near or a likely one; None: not looked for."""
    known = scene.data.hygiene.leaked("test")
    likely = None if scene.likely_copies is None else scene.likely_copies.masks["test", "train"]
    return known if likely is None or known is None else known | likely


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
                made = prepare(task, rows, processor, preparation, training=split == "train")
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
    return answers_of(inner.setup, inner.method, fitted)[1], inputs_of(inner.setup, "test")


def place_of(config: RunConfig) -> Path:
    """Return the nearest folder that is there to where the run would be written."""
    target = Path(config.output or runs.ROOT).absolute()
    return next(folder for folder in (target, *target.parents) if folder.exists())


def summary(scene: Scene, answer: Answer[Any] | None = None) -> dict[str, Any]:
    """Return what a result says of a run before it is measured; `answer` with what validation rows taught."""
    config, found, answer = scene.setup.config, scene.data, answer or scene.setup.answer
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
            "likely_copies": None if scene.likely_copies is None else scene.likely_copies.to_dict(),
            "label_issues": None if scene.label_issues is None else scene.label_issues.to_dict(),
            "not_looked_for": dict(scene.not_looked_for),
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
