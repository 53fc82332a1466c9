"""Who is compared: finished runs and models of the Hub, each with its answers to the same test rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hftransfer import answers, artifact
from hftransfer.answers.base import Answer
from hftransfer.errors import UserError
from hftransfer.evaluation.predictions import Predictions
from hftransfer.methods import _kin
from hftransfer.runs import LADDER, ROOT, Run, called, find, read_json


@dataclass(frozen=True)
class Contender:
    """One model: its answers to the test rows, and what it took to make it."""

    name: str
    method: str
    model: str
    predictions: Predictions
    seconds: float | None = None  # of the whole run, and of the runs that a fused one is made of
    trainable_parameters: int | None = None
    hardware: str | None = None
    test_fingerprint: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A method that has no model to compare, and why."""

    name: str
    reason: str


def of_run(run: Run, name: str | None = None) -> Contender:
    """Return a finished run by what it stored, called `name`; UserError when it is not done."""
    result, path = run.result(), run.predictions / "test.parquet"
    if not result or not path.is_file():
        raise UserError(
            "finished runs are needed", f"{run.name} is {run.status().state} and has no answers to the test rows",
            f"Wait for it, or go on with it: hftransfer resume {called(run)}",
        )  # fmt: skip
    cost = result["cost"]
    return Contender(
        name or run.name,
        result["method"],
        result["model"],
        Predictions.read_parquet(path, answer_of(run)),
        seconds=_kin.seconds_of(cost),
        trainable_parameters=cost["trainable_parameters"],
        hardware=cost.get("hardware"),
        test_fingerprint=result["data"]["split_fingerprints"]["test"],
    )


def answer_of(run: Run) -> Answer[Any]:
    """Return the answer of a finished run, from its artifact's notes, else from its result."""
    notes = artifact.read_notes(run.artifact)
    return answers.of_notes(notes) if notes else answers.of_result(run.result())


def of_model(where: str, reference: Run, revision: str | None = None) -> Contender:
    """Ask a model folder or Hub model about the test rows of a finished run, without training anything.

    Raises UserError when the rows are no longer those of the run, or when the model has another task or other labels.
    """
    from hftransfer import runs
    from hftransfer.hub import connection

    if not all(runs.is_local(name) for name in (where, reference.config().data.source)):
        connection.go_offline_if_unreachable()  # before the Hub's clients are imported
    with tempfile.TemporaryDirectory(prefix="hftransfer-compare-") as folder:  # unpacked archives and the like
        return _asked(where, reference, revision, Path(folder))


def _asked(where: str, reference: Run, revision: str | None, folder: Path) -> Contender:
    from hftransfer import catalog, data
    from hftransfer.hub import origins
    from hftransfer.predictor import Predictor

    config = reference.config()
    noted = read_json(reference.folder / origins.FILE)
    config = origins.read(noted).pin(config) if noted else config
    task = catalog.task(config.task)
    rows = data.load(config.data, task, config.seed, folder)
    wanted = reference.result()["data"]["split_fingerprints"]["test"]
    if rows.fingerprints["test"] != wanted:
        raise UserError(
            f"the test rows of {reference.name} are needed to ask {where} about them",
            f"its data now gives other ones (fingerprint {rows.fingerprints['test'][:16]}, it was {wanted[:16]})",
            "Bring the data back, or compare finished runs alone.",
        )
    predictor = Predictor(where, revision)
    if predictor.task.name != config.task:
        raise UserError(
            f"a model for {config.task} is needed", f"{where} is one for {predictor.task.name}", "Leave it out."
        )
    answer = answer_of(reference)
    translate = _translation(where, predictor.answered, answer)
    # a threshold is a model's own: the run's would be none of this one
    own = predictor.answered if predictor.answered.same_as(answer) else answer.unplaced
    inputs = [role.name for role in task.shown]
    test = rows.splits["test"]
    outputs = translate(predictor.ask([{name: row[name] for name in inputs if name in row} for row in test]))
    stored = Predictions.read_parquet(reference.predictions / "test.parquet", answer)
    cost: Mapping[str, Any] = predictor.notes.get("cost") or {}
    return Contender(
        where,
        str(predictor.notes.get("method", "as it is")),
        str(predictor.notes.get("model", where)),
        Predictions(own, list(test["row_id"]), stored.truth, outputs, stored.groups),
        seconds=_kin.seconds_of(cost),
        trainable_parameters=cost.get("trainable_parameters"),
        hardware=cost.get("hardware"),
        test_fingerprint=wanted,
    )


def _translation(where: str, found: Answer[Any], wanted: Answer[Any]) -> Callable[[Any], Any]:
    """Return what turns a model's outputs into those of the run's answer; labels correspond by name."""
    translate = wanted.translated(found)
    if translate is None:
        raise UserError(
            f"a model with the labels {wanted.described} is needed",
            f"{where} has {found.described} ({found.called})",
            "Leave it out, or train it on this data: hftransfer train",
        )
    return translate


def gather(names: Sequence[str]) -> list[Contender]:
    """Return the models that names stand for: runs by name or folder, model folders, Hub ids; at least one is a run.

    Models that are no runs are asked about the test rows of the first run.
    """
    runs = {name: find(name) for name in names if is_run(name)}
    for name in names:
        require_no_ladder(name)
    if not runs:
        raise UserError(
            "a finished run must be among the names: its test rows are what all are compared on",
            f"{', '.join(names)}: no run here is called so" if names else "found no name",
            "Run: hftransfer compare runs/A runs/B; or: hftransfer compare CONFIG",
        )
    places = [str(runs[name].folder.resolve()) if name in runs else name for name in names]
    twice = [name for name, place in zip(names, places, strict=True) if places.count(place) > 1]
    if twice:
        raise UserError("different models are needed to compare", f"{twice[-1]} is named twice", "Name each once.")
    short = _short_names(runs, set(names) - set(runs))
    reference = next(iter(runs.values()))
    stored = {name: of_run(run, short[name]) for name, run in runs.items()}
    require_same_rows([*stored.values()])  # before any model is asked
    return [stored[name] if name in stored else of_model(name, reference) for name in names]


def is_run(name: str) -> bool:
    """Tell whether a name is that of a run, or its folder."""
    return any((folder / "config.yaml").is_file() for folder in (Path(name), ROOT / name))


def require_no_ladder(name: str) -> None:
    """Raise UserError for the folder of a ladder, which holds runs and is none."""
    folder = next((folder for folder in (Path(name), ROOT / name) if (folder / LADDER).is_file()), None)
    if folder is not None:
        inside = sorted(path.parent.as_posix() for path in folder.glob("*/config.yaml"))
        raise UserError(
            "the name of a run or of a model is needed", f"{name} is a folder of several runs",
            f"Name those that are meant: {', '.join(inside)}",
        )  # fmt: skip


def _short_names(runs: Mapping[str, Run], models: set[str]) -> dict[str, str]:
    """Call runs by their methods where that tells all apart, else by their names, else by what `find` takes."""
    for call in (lambda run: run.config().method.name, lambda run: run.name):
        names = {name: call(run) for name, run in runs.items()}
        if len({*names.values(), *models}) == len(names) + len(models):
            return names
    return {name: called(run) for name, run in runs.items()}


def require_same_rows(found: Sequence[Contender]) -> None:
    """Raise UserError unless all answered the same test rows: by content, by row id, and by the truth they carry."""
    first = found[0]
    for other in found[1:]:
        one, two = first.predictions, other.predictions
        if first.test_fingerprint != other.test_fingerprint:
            differ = f"the test rows of {other.name} are others than those of {first.name} (fingerprints differ)"
        elif one.row_ids != two.row_ids:
            differ = f"the row ids of {other.name} are others than those of {first.name}"
        elif not one.answer.same_as(two.answer):
            differ = f"{first.name} has the labels {one.answer.described}, {other.name} others"
        else:
            continue
        raise UserError(
            "models that answered the same test rows are needed", differ,
            "Compare runs of one data set, one seed and one way to split.",
        )  # fmt: skip
