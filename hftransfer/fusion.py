"""Fusion: the configuration of a run that mixes others' weights, and ensembles, which mix stored answers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hftransfer import artifact, card, catalog, comparison, evaluation
from hftransfer import config as configuration
from hftransfer.config import RunConfig
from hftransfer.errors import UserError
from hftransfer.evaluation import Predictions
from hftransfer.methods.fuse import FILE, PARTS, require_different, require_kin, seconds_of, told_apart
from hftransfer.runs import Run, find, write_text

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
    members = [comparison.of_run(run) for run in runs]
    comparison.require_same_rows(members)
    labels = members[0].predictions.labels
    splits: dict[str, list[Predictions]] = {
        "test": [member.predictions for member in members],
        "validation": [Predictions.read_parquet(run.predictions / "validation.parquet", labels) for run in runs],
    }
    for other in splits["validation"][1:]:
        if other.row_ids != splits["validation"][0].row_ids:
            raise UserError(
                "runs with the same validation rows are needed: the temperatures are fitted on them",
                "they differ", "Fuse runs of one data set and one seed.",
            )  # fmt: skip
    temperatures = [evaluation.fit_temperature(_logits(one), one.truth, labels.kind) for one in splits["validation"]]
    mixed = {split: _mean(found, temperatures) for split, found in splits.items()}
    run = Run.create(config)
    for split, found in mixed.items():
        found.to_parquet(run.predictions / f"{split}.parquet")
    note = {
        "how": "ensemble", "runs": told_apart(runs), "temperatures": temperatures,
        PARTS: sum(seconds_of(one.result()["cost"]) or 0.0 for one in runs),
    }  # fmt: skip
    write_text(run.folder / FILE, json.dumps(note, indent=1))
    result = _result(config, runs, mixed)
    result["cost"] |= {"total_seconds": round(time.perf_counter() - began, 2), PARTS: note[PARTS]}
    plots = evaluation.write_plots(mixed["test"], run.folder / artifact.PLOTS)
    result["artifact_plots"] = [f"{artifact.PLOTS}/{path.name}" for path in plots if path.suffix == ".png"]
    card.write(run.folder, result, config)
    write_text(run.result_path, json.dumps(result, indent=1))
    run.event("notice", message=NO_MODEL)
    run.event("result", metrics=result["test"]["metrics"], n=result["test"]["n"])
    run.event("done", seconds=result["cost"]["total_seconds"])
    return run


def _logits(found: Predictions) -> Any:
    """Return logits that give the stored probabilities."""
    kind = found.labels.kind
    if kind == "regression":
        return found.scores
    if kind == "tags":
        return [np.log(np.clip(words, 1e-7, 1)) for words in found.scores]
    scores = np.clip(np.asarray(found.scores, np.float64), 1e-7, 1 - 1e-7 if kind == "multi_label" else 1)
    return np.log(scores / (1 - scores)) if kind == "multi_label" else np.log(scores)


def _mean(found: Sequence[Predictions], temperatures: Sequence[float]) -> Predictions:
    first = found[0]
    flat = [
        evaluation.apply_temperature(_logits(one), temperature, first.labels.kind)
        for one, temperature in zip(found, temperatures, strict=True)
    ]
    if first.labels.kind == "tags":
        scores: Any = [np.mean(words, axis=0) for words in zip(*flat, strict=True)]
    else:
        scores = np.mean([np.asarray(one, np.float64) for one in flat], axis=0)
    return Predictions(first.labels, first.row_ids, first.truth, scores)


def _result(config: RunConfig, runs: Sequence[Run], mixed: dict[str, Predictions]) -> dict[str, Any]:
    """Return result.json of an ensemble: the first run's, with the mixture's scores and without its model."""
    first = runs[0].result()
    settings: dict[str, Any] = {
        "confidence": config.evaluation.confidence, "resamples": config.evaluation.resamples, "seed": config.seed
    }  # fmt: skip
    blocks: dict[str, dict[str, Any]] = {
        split: {
            "n": len(found),
            "confidence": config.evaluation.confidence,
            "metrics": evaluation.measure(found, config.evaluation.metrics, **settings),
            "classes": evaluation.per_class(found, **settings),
            "notes": [],
        }
        for split, found in mixed.items()
    }
    baseline = {name: first["baseline"][name] for name in ("name", "metrics")}
    metric = evaluation.main_metric(mixed["test"].labels)
    below = evaluation.below_baseline(blocks["test"]["metrics"], baseline["metrics"], metric)
    costs = [run.result()["cost"] for run in runs]
    kept = ("schema", "task", "revision", "seed", "sources", "columns", "max_length", "data", "versions")
    return {
        **{name: first[name] for name in kept if name in first},
        "model": config.model,
        "method": "fuse",
        **blocks,
        "baseline": baseline | ({"below": below} if below else {}),
        "calibration": None,
        "cost": {
            **costs[0], "train_seconds": 0.0, "examples_per_second": 0.0, "trainable_parameters": 0, "steps": 0,
            "total_parameters": sum(cost["total_parameters"] for cost in costs),
        },
        "artifact": None,
        "no_artifact": NO_MODEL,
    }  # fmt: skip
