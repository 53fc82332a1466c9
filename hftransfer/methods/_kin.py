"""Which finished runs can be mixed: same task, labels, rows and architecture, and different weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hftransfer import answers
from hftransfer.errors import UserError
from hftransfer.runs import Run, called, read_json, require_artifact

if TYPE_CHECKING:
    import torch

    Weights = dict[str, torch.Tensor]


PARTS = "seconds_of_its_runs"  # in FILE and in a result's cost
# what a model's config says beside how it computes
BESIDE = {
    "_name_or_path", "name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "problem_type",
    "id2label", "label2id", "num_labels", "pad_token_id", "_attn_implementation", "return_dict", "use_cache",
    "subtask",
}  # fmt: skip


def require_fit(runs: Sequence[Run], task: str, labels: Sequence[str], rows: str) -> None:
    """Raise UserError unless the runs are done, of this task, labels and rows (a fingerprint), with a model each."""
    for run in runs:
        require_artifact(run)
        result = require_result(run)
        if result["task"] != task:
            raise unfit(run, f"its task is {result['task']}, not {task}")
        names = labels_of(run)
        if names != tuple(labels):
            raise unfit(run, f"its labels are {', '.join(names)}, not {', '.join(labels)}")
        if result["data"]["fingerprint"] != rows:
            raise UserError(
                "runs on the same rows in every split are needed: what one was trained on, another was judged by",
                f"the data of {run.name} has the fingerprint {result['data']['fingerprint'][:16]}, not {rows[:16]}",
                "Fuse runs of one data set and one seed (the seed cuts the splits), or of data with its own splits.",
            )


def told_apart(runs: Sequence[Run]) -> list[str]:
    """Return the runs' names, with as many of the folders above as it takes to tell them apart."""
    paths = [run.folder.resolve().parts for run in runs]
    ends = (["/".join(path[-length:]) for path in paths] for length in range(1, max(map(len, paths)) + 1))
    return next((names for names in ends if len(set(names)) == len(names)), [run.name for run in runs])


def require_different(runs: Sequence[Run]) -> None:
    """Raise UserError where a run is named twice."""
    folders = [run.folder.resolve() for run in runs]
    for run in runs:
        if folders.count(run.folder.resolve()) > 1:
            raise UserError("different runs are needed to fuse", f"{run.name} is named twice", "Name each once.")


def require_kin(runs: Sequence[Run]) -> None:
    """Raise UserError for what the folders of runs tell before any library is loaded: `require_fit`, their kind."""
    require_different(runs)
    require_artifact(runs[0])
    first = require_result(runs[0])
    require_fit(runs, first["task"], labels_of(runs[0]), first["data"]["fingerprint"])
    models = [read_json(run.artifact / "config.json") for run in runs]
    for run, model in zip(runs, models, strict=True):
        kinds = [", ".join(one.get("architectures") or ()) for one in (model, models[0])]
        if kinds[0] != kinds[1]:
            raise unfit(run, f"it is a {kinds[0]}, {runs[0].name} a {kinds[1]}")
        require_same_settings(run, model, models[0], runs[0].name)


def require_result(run: Run) -> dict[str, Any]:
    """Return the result of a run; UserError when it is not done."""
    result = run.result()
    if not result:
        raise UserError(
            "finished runs are needed", f"{run.name} is {run.status().state}",
            f"Go on with it: hftransfer resume {called(run)}",
        )  # fmt: skip
    return result


def labels_of(run: Run) -> tuple[str, ...]:
    """Return the names of the labels of a run with a model, from its artifact's notes."""
    return answers.of_notes(read_json(run.artifact / "hftransfer.json")).names


def require_alike(run: Run, model: Any, reference: Any, name: str) -> None:
    """Raise UserError naming the first difference between two models: kind, configuration, or a weight's shape."""
    if type(model) is not type(reference):
        raise unfit(run, f"it is a {type(model).__name__}, {name} a {type(reference).__name__}")
    require_same_settings(run, model.config.to_dict(), reference.config.to_dict(), name)
    mine, other = model.state_dict(), reference.state_dict()
    for key in [*mine, *(key for key in other if key not in mine)]:
        shapes = [tuple(state[key].shape) if key in state else None for state in (mine, other)]
        if shapes[0] != shapes[1]:
            raise unfit(run, f"{key} has the shape {shapes[0]}, in {name} {shapes[1]}")


def require_same_settings(run: Run, ours: Mapping[str, Any], theirs: Mapping[str, Any], name: str) -> None:
    """Raise UserError naming the first setting in which the config of a run's model differs from another's."""
    for key in sorted((ours.keys() | theirs.keys()) - BESIDE):
        if ours.get(key) != theirs.get(key):
            raise unfit(run, f"{key} is {ours.get(key)!r} in its config, {theirs.get(key)!r} in that of {name}")


def unfit(run: Run, found: str) -> UserError:
    return UserError(
        "models of one architecture with the same labels are needed to mix their weights",
        f"{run.name} differs: {found}",
        "Answers of different models can be mixed: hftransfer fuse runs/A runs/B --how ensemble",
    )


def seconds_of(cost: Mapping[str, Any]) -> float | None:
    """Return what a model alone took, with the runs it was fused of, from a result's `cost`; None: not known."""
    own = cost.get("alone_seconds", cost.get("total_seconds"))
    return None if own is None else float(own) + float(cost.get(PARTS, 0.0))
