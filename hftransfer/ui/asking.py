"""A model that answers, as a worker holds it, and what it is asked."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer import catalog, views
from hftransfer.config import RunConfig
from hftransfer.errors import UserError
from hftransfer.runs import is_local, read_json

if TYPE_CHECKING:
    from hftransfer.predictor import Predictor
    from hftransfer.tasks.base import Task
from hftransfer.ui.worker_limits import bound_memory, limits

PAUSE = 0.1  # seconds between two looks at a text that grows
KEPT = 2  # models in memory
PLAIN = "plain"  # the name of a text that came by itself: a model is asked with it as its task takes texts
NOT_FETCHED = (".bin", ".pt", ".h5", ".onnx")  # hftransfer.predictor does not download them


def listing(source: str, revision: str | None) -> tuple[list[tuple[str, int]], str | None]:
    """Return a model's files with their sizes in bytes, and its licence."""
    if Path(source).is_dir():
        notes = read_json(Path(source) / "SAMPLE.json")
        files = [(path.name, path.stat().st_size) for path in Path(source).rglob("*") if path.is_file()]
        return files, notes.get("licence") or notes.get("license")
    from huggingface_hub import HfApi

    config = RunConfig.model_construct(task="", model=source, revision=revision)
    from hftransfer.modeling.problems import explained

    with explained(config, catalog.task("text-classification"), source):
        info = HfApi().model_info(source, revision=revision, files_metadata=True)
    licence = info.card_data.get("license") if info.card_data else None
    return [(file.rfilename, file.size or 0) for file in info.siblings or []], licence


@functools.lru_cache(maxsize=KEPT)
def predictor(where: str, stamp: float) -> Predictor:
    """Load a model that answers; the last ones stay in memory. `stamp` changes when a run writes a new artifact."""
    if not is_local(where):
        files, _ = listing(where, None)
        total = sum(size for name, size in files if not name.endswith(NOT_FETCHED)) / 1e6
        if limits["model_mb"] and total > limits["model_mb"]:
            raise UserError(
                f"a model of at most {limits['model_mb']:,} MB is needed here", f"{where} has {total:,.0f} MB",
                "Choose a smaller one, or run hftransfer on your own machine.",
            )  # fmt: skip
    from hftransfer.predictor import Predictor

    bound_memory()
    return Predictor(where)


def loaded(where: str) -> Predictor:
    notes = Path(where) / "hftransfer.json"
    return predictor(where, notes.stat().st_mtime if notes.is_file() else 0.0)


def predict(where: str, inputs: Sequence[Mapping[str, Any]], top_k: int | None = None) -> list[dict[str, Any]]:
    """Answer each input; {"table": path} stands for the rows of a file."""
    asked = loaded(where)
    values: list[Any] = []
    for value in inputs:
        if "table" not in value:
            values.append(by_role(value, asked.task))
            continue
        from hftransfer import data

        values += data.read_inputs(Path(value["table"]), asked.task, asked.notes.get("columns", {}))
    if len(values) > limits["inputs"]:
        raise UserError(f"up to {limits['inputs']:,} inputs are possible", f"found {len(values):,}", "Ask for fewer.")
    answered = asked.answer(values, top_k)
    return [
        {**answer, "input": _without_paths(answer["input"], asked.task), "view": views.to_dict(view)}
        for answer, view in zip(answered, asked.views(answered), strict=True)
    ]


def by_role(value: Mapping[str, Any], task: Task) -> Mapping[str, Any]:
    """Return an input by role: a lone text is what the task's first role is asked with, and never a path."""
    if PLAIN not in value:
        return value
    role = task.shown[0]
    if role.takes is not None and role.takes.suffixes:
        raise UserError(f"{role.takes.asked} is needed", "found a text", "Upload it, or give it as a data: URL.")
    return {role.name: value[PLAIN]}


def write(where: str, input: Mapping[str, Any]) -> Iterator[str]:
    """Yield the text that answers an input as it grows, a few times a second."""
    told, text = 0.0, ""
    for text in loaded(where).grow(input):
        if time.monotonic() - told > PAUSE:
            yield text
            told = time.monotonic()
    yield text


def _without_paths(shown: Any, task: Task) -> Any:
    """Return an input as it may be shown: of a file's path the name alone, of a lone value the value."""
    if not isinstance(shown, Mapping):
        return shown
    files = {role.name for role in task.shown if role.takes is not None and role.takes.lazy}
    plain = {name: Path(str(part)).name if name in files else part for name, part in shown.items()}
    return next(iter(plain.values())) if len(plain) == 1 else plain
