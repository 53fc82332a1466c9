"""Repeated cross-validation of a run's way of training: each fold is a run in a folder that goes away when scored."""

from __future__ import annotations

import dataclasses
import gc
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hftransfer.config import RunConfig
from hftransfer.data import Data, folding
from hftransfer.data.folding import Fold
from hftransfer.errors import UserError
from hftransfer.evaluation import folds
from hftransfer.evaluation.predictions import Predictions
from hftransfer.fitting.base import Setup, phase
from hftransfer.fitting.processes import is_main_process, wait_for_everyone
from hftransfer.runs import Run, write_text

FOLDER, RECORDS = "folds", "folds.json"
Refit = Callable[[RunConfig, Run, Fold], tuple[Predictions, Any]]  # answers to the fold, and inputs for trivial ones


def cross(setup: Setup, data: Data, refit: Refit, noted: Sequence[str]) -> list[dict[str, Any]]:
    """Train and test each fold with a configuration of its own, and return what each scored (see `folds.record`).

    Every process must call; the records are those of the main process, elsewhere empty. A fold that was scored before
    the run was stopped is not trained again. `noted` are files of the run that a fold goes on from: what was found out
    about the sources.
    """
    run, asked = setup.run, setup.config.evaluation
    phase(setup, "folds")
    path = run.predictions / RECORDS
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    done = {(one["repeat"], one["fold"]) for one in found}
    wait_for_everyone()  # the main process is going to write that file
    assert asked.folds is not None
    for fold in folding.each(data, setup.task.truth.name, asked.folds, asked.repeats, setup.config.seed):
        if (fold.repeat, fold.number) in done:
            continue
        began = time.perf_counter()
        config = of_fold(setup, fold)
        inner = opened(run, config, run.folder / FOLDER / fold.name, noted)
        test, inputs = refit(config, inner, fold)
        if is_main_process():
            test.to_parquet(run.predictions / f"fold-{fold.name}.parquet")
            scored = folds.record(
                test, asked.metrics, len(fold.places["train"]) + len(fold.places["validation"]), inputs
            )
            found.append({"repeat": fold.repeat, "fold": fold.number, **scored})
            write_text(path, json.dumps(found, indent=1))
            main = test.answer.main_metric
            run.event(
                "fold", repeat=fold.repeat, repeats=asked.repeats, fold=fold.number, folds=asked.folds,
                metrics={main: scored["metrics"].get(main)}, seconds=round(time.perf_counter() - began, 2),
            )  # fmt: skip
            shutil.rmtree(inner.folder, ignore_errors=True)
        del test, inputs
        gc.collect()
        wait_for_everyone()
    if is_main_process():
        shutil.rmtree(run.folder / FOLDER, ignore_errors=True)
    return found if is_main_process() else []


def foresee(data: Data, truth: str, config: RunConfig) -> None:
    """Raise UserError for folds that cannot be made of the rows, before anything is trained."""
    if config.evaluation.folds is None:
        return
    asked = config.evaluation.model_copy(update={"positive": data.answer.to_dict().get("positive")})
    for fold in folding.each(data, truth, config.evaluation.folds, config.evaluation.repeats, config.seed):
        validation = fold.data.splits["validation"].with_format("arrow")[:][truth]
        try:
            fold.data.answer.asked(asked, validation.combine_chunks())
        except UserError as error:
            found = f"in fold {fold.number} of repeat {fold.repeat}: {error.found}"
            raise UserError(error.wanted, found, "Add rows, or set evaluation.folds lower.") from error


def of_fold(setup: Setup, fold: Fold) -> RunConfig:
    """Return the configuration that a fold is trained by: with a seed for each repeat, and no looks at the rows."""
    config = setup.config
    told = setup.answer.to_dict()
    evaluation = {"folds": None, "repeats": 1, "slices": (), "positive": told.get("positive")}
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"label_issues": False, "likely_copies": False}),
            "evaluation": config.evaluation.model_copy(update=evaluation),
            "seed": (config.seed + fold.repeat - 1) % 2**32,
            "hub": type(config.hub)(),
            "output": None,
        }
    )


def opened(run: Run, config: RunConfig, folder: Path, noted: Sequence[str]) -> Run:
    """Make the folder of a fold, on the main process, with what the run knows of its sources and of this machine."""
    if is_main_process():
        shutil.rmtree(folder, ignore_errors=True)  # of a fold that was cut off
        inner = Run.create(config, folder)
        for name in noted:
            if (run.folder / name).is_file():
                shutil.copyfile(run.folder / name, folder / name)
        for event in run.events()[0]:
            if event["type"] == "tuned":
                inner.event("tuned", **{key: value for key, value in event.items() if key not in ("type", "time")})
    wait_for_everyone()
    return Run(folder)


def within(setup: Setup, whole: Setup, fold: Fold) -> Setup:
    """Return a fold's setup as a part of the whole's, which has computed the features of its rows."""
    return dataclasses.replace(setup, whole=whole, places=fold.places)
