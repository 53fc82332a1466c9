"""Fusion: the configuration of a run that mixes others' weights, and ensembles, which mix stored answers."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hftransfer import answers, artifact, catalog
from hftransfer import config as configuration
from hftransfer.answers.base import Answer
from hftransfer.card import report
from hftransfer.comparison import contenders
from hftransfer.config import RunConfig
from hftransfer.errors import UserError
from hftransfer.evaluation import reporting
from hftransfer.evaluation.plots import write_plots
from hftransfer.evaluation.predictions import Predictions
from hftransfer.methods._kin import PARTS, require_different, require_kin, seconds_of, told_apart
from hftransfer.methods.fuse import FILE
from hftransfer.runs import RESULT_SCHEMA, Run, find, write_text

NO_MODEL = "an ensemble of several models: there is no one model that a folder could hold"


def read_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the runs that were named, and the values to set."""
    overrides = [word for word in words if re.fullmatch(r"[\w-]+(\.[\w-]+)*=.*", word, re.DOTALL)]
    return [word for word in words if word not in overrides], overrides


def configure(names: Sequence[str], how: str | None, partner: str | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Return the configuration of a run that fuses finished ones: that of the first, with the method `fuse`."""
    if not names:
        raise UserError("a run to fuse is needed", "found none", "Run: hftransfer fuse runs/A --with base")
    runs = [find(name) for name in names]
    if partner == "base" and len(runs) > 1:
        raise UserError("one run is fused with its base", f"found {len(runs)}", "Drop --with base, or name one run.")
    if partner is None and len(runs) == 1:
        raise UserError(
            "something to fuse the run with is needed", f"found {names[0]} alone",
            "Add --with base, or name more runs.",
        )  # fmt: skip
    default = "interpolate" if len(runs) == 1 else "greedy"
    if how == "ensemble":
        require_different(runs)
    else:
        require_kin(runs)
    tree = runs[0].config().to_dict() | {"hub": {}, "output": None}
    tree["method"] = {"name": "fuse", "runs": [str(run.folder) for run in runs], "how": how or default}
    return catalog.build_config(configuration.override(tree, overrides))


def ensemble(config: RunConfig) -> Run:
    """Mix the stored answers of finished runs and return a run that holds the mixture's answers and scores.

    The probabilities of each are flattened by a temperature fitted on the validation rows, then averaged. There is no
    artifact: result.json says null, and why.
    """
    began = time.perf_counter()
    runs = [Run(Path(folder)) for folder in config.method.options["runs"]]
    members = [contenders.of_run(run) for run in runs]
    contenders.require_same_rows(members)
    answer = members[0].predictions.answer
    splits: dict[str, list[Predictions]] = {
        "test": [member.predictions for member in members],
        "validation": [Predictions.read_parquet(run.predictions / "validation.parquet", answer) for run in runs],
    }
    for other in splits["validation"][1:]:
        if other.row_ids != splits["validation"][0].row_ids:
            raise UserError(
                "runs with the same validation rows are needed: the temperatures are fitted on them",
                "they differ", "Fuse runs of one data set and one seed.",
            )  # fmt: skip
    flat = [answer.calibrated(one.truth, one.outputs) for one in splits["validation"]]
    mixed = {split: _mean(found, flat) for split, found in splits.items()}
    held_out = mixed["validation"]  # thresholds are of the mixture's own probabilities
    placed = _not_scaled(held_out.answer).placed(held_out.truth, held_out.outputs)
    mixed = {split: dataclasses.replace(found, answer=placed) for split, found in mixed.items()}
    run = Run.create(config)
    for split, found in mixed.items():
        found.to_parquet(run.predictions / f"{split}.parquet")
    note = {
        "how": "ensemble", "runs": told_apart(runs),
        "temperatures": [one.to_dict().get("temperature", 1.0) for one in flat],
        PARTS: sum(seconds_of(one.result()["cost"]) or 0.0 for one in runs),
    }  # fmt: skip
    write_text(run.folder / FILE, json.dumps(note, indent=1))
    result = _result(config, runs, mixed)
    result["cost"] |= {"total_seconds": round(time.perf_counter() - began, 2), PARTS: note[PARTS]}
    plots = write_plots(mixed["test"], run.folder / artifact.PLOTS, config.evaluation.confidence)
    result["artifact_plots"] = [f"{artifact.PLOTS}/{path.name}" for path in plots if path.suffix == ".png"]
    report.write(run.folder, result, config)
    write_text(run.result_path, json.dumps(result, indent=1))
    run.event("notice", message=NO_MODEL)
    run.event("result", metrics=result["test"]["metrics"], n=result["test"]["n"])
    run.event("done", seconds=result["cost"]["total_seconds"])
    return run


def _not_scaled(answer: Answer[Any]) -> Answer[Any]:
    """Return an answer whose probabilities are taken as they are: each part was calibrated before their mean."""
    noted = answer.to_dict()
    return answers.restore({**noted, "temperature": 1.0}) if "temperature" in noted else answer


def _mean(found: Sequence[Predictions], flat: Sequence[Answer[Any]]) -> Predictions:
    """Return the mean of several models' answers, each calibrated by its own validation rows."""
    first = found[0]
    calibrated = [answer.calibrate(one.outputs) for answer, one in zip(flat, found, strict=True)]
    outputs = first.answer.average(calibrated)
    if outputs is None:
        raise UserError(
            "answers that can be averaged are needed for an ensemble", f"these are {first.answer.called}",
            "Mix the weights instead: --how greedy, or --with base.",
        )  # fmt: skip
    return dataclasses.replace(first, outputs=outputs)


def _result(config: RunConfig, runs: Sequence[Run], mixed: dict[str, Predictions]) -> dict[str, Any]:
    """Return result.json of an ensemble: the first run's, with the mixture's scores and without its model."""
    first = runs[0].result()
    answer = mixed["test"].answer
    costs = [run.result()["cost"] for run in runs]
    kept = ("task", "revision", "seed", "sources", "columns", "max_length", "data", "versions")
    return {
        **{name: first[name] for name in kept if name in first},
        "schema": RESULT_SCHEMA,
        "answer": answer.to_dict(),
        "main_metric": answer.main_metric,
        "selected_by": answer.selects_by,
        "model": config.model,
        "method": "fuse",
        **reporting.report(mixed["test"], mixed["validation"], config.evaluation, config.seed),
        "calibration": None,
        "cost": {
            **costs[0], "train_seconds": 0.0, "examples_per_second": 0.0, "trainable_parameters": 0, "steps": 0,
            "total_parameters": sum(cost["total_parameters"] for cost in costs),
        },
        "artifact": None,
        "no_artifact": NO_MODEL,
    }  # fmt: skip
