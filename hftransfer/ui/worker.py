"""A worker: answers questions about data and models for one visitor, where the heavy libraries may be imported.

Started by hftransfer.ui.workers. A line of JSON on stdin, {id, function, arguments}, gives one on stdout, {id} with
`answer`, `refused` (a UserError's three parts) or `failed` (a sentence).
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer import catalog, imports, samples
from hftransfer.config import RunConfig, build
from hftransfer.errors import UnclearColumn, UserError
from hftransfer.hub import connection
from hftransfer.safety import fence, machine

if TYPE_CHECKING:
    from hftransfer.data import Data
    from hftransfer.data.named_splits import Picked, Split
    from hftransfer.tasks.base import Task
from hftransfer.ui.asking import listing, predict, write
from hftransfer.ui.cells import entry, with_truth
from hftransfer.ui.explaining import explain
from hftransfer.ui.published import settings
from hftransfer.ui.revision import pushed, revision
from hftransfer.ui.rows_of_runs import errors, examples, verdict, watched
from hftransfer.ui.teaching_worker import taught
from hftransfer.ui.worker_limits import bound_memory, limits

ROWS, MORE = 8, 16  # shown of a data set: as many as it has labels, from so many to so many
LOOKED_AT = 20_000  # rows among which one of each label is looked for


def main() -> int:
    """Answer until stdin ends."""
    limits.update(json.loads(sys.argv[1]))
    machine.give_way(limits["later"])
    gpu = Path("/dev/nvidiactl").exists()  # its driver may want a socket of its own
    fence.close(sockets="all" if gpu else "internet")
    # what libraries print must not come between the answers
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    connection.go_offline_if_unreachable()
    for line in sys.stdin:
        asked = json.loads(line)
        for answer in respond(asked["function"], asked["arguments"]):
            print(json.dumps({"id": asked["id"], **answer}, default=str), file=out, flush=True)
    return 0


def respond(function: str, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what a function answers, or why not; before it, of one that grows its answer, what there is so far."""
    try:
        with imports.uncollected():
            ready()
        if function not in GROWING:
            yield {"answer": FUNCTIONS[function](**arguments)}
            return
        part = None
        for part in GROWING[function](**arguments):
            yield {"part": part}
        yield {"answer": part}
    except UserError as error:
        yield {"refused": [error.wanted, error.found, error.action] if error.found else [str(error), "", ""]}
    except MemoryError:
        yield {"failed": "memory ran out"}
    except Exception as error:  # a hostile file or model may raise anything; the next question is a new one
        traceback.print_exc()
        yield {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of a library in Rust that gives up, as a tokenizer's does
            raise
        yield {"failed": " ".join(str(error).split())[:300]}


def ready() -> None:
    """Import what looking at rows needs, which takes seconds, before anybody waits for it."""
    from hftransfer import data  # noqa: F401
    from hftransfer.data import fitting_tasks  # noqa: F401
    from hftransfer.modeling import loading

    loading.silence_libraries()


def preview(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Show the first rows and what is made of the columns."""
    from hftransfer.column_types import type_name
    from hftransfer.data.one_hot import columns_of_one
    from hftransfer.modeling import loading

    loading.silence_libraries()
    bound_memory()
    config = build(tree)
    task = catalog.task(config.task)
    with tempfile.TemporaryDirectory(prefix="preview-") as place:
        picked = picked_of(config, task, Path(place))
        train = picked.splits["train"]
        names = [name for name in train.rows.features if name != "_drawn_size"]  # of annotations, for us alone
        found = understood(config, task, picked, Path(place))
        recorded = {role.name for role in task.shown if role.takes is not None and role.takes.widget == "recording"}
        sounds = {choice["column"] for choice in found["choices"] if choice["role"] in recorded}
        shown = min(max(ROWS, len(found["balance"])), MORE)
        truth = next((choice["column"] for choice in found["choices"] if choice["role"] == task.truth.name), None)
        return {
            "columns": [{"name": name, "type": type_name(train.rows.features[name])} for name in names],
            "rows": [
                {
                    name: entry(placed(row.get(name), name in sounds), train.folder if name in sounds else None)
                    for name in names
                }
                for row in some_rows(train, shown, truth)
            ],
            "parts": columns_of_one(train.rows, task),
            **found,
        }


def placed(value: Any, recorded: bool) -> Any:
    """Return a value as it is, and the name of a recording as a recording."""
    return {"bytes": None, "path": value} if recorded and isinstance(value, str) else value


def picked_of(config: RunConfig, task: Task, place: Path) -> Picked:
    """Return the rows of a source as a task reads them: of one that reads several files, what these are together."""
    from hftransfer.data.catalogued import read_catalogued
    from hftransfer.data.loading import pick

    if task.reads is not None:
        return read_catalogued(config.data, task, place)[0]
    return pick(config.data, place, task)


def understood(config: RunConfig, task: Task, picked: Picked, place: Path) -> dict[str, Any]:
    """Load the rows as training will, at most so many, and tell what was found, or what stands in the way."""
    from hftransfer import data

    rows = None if config.data.streaming else sum(len(split.rows) for split in picked.splits.values())
    most = min(role.takes.preview for role in task.shown if role.takes is not None)
    wanted = min(config.data.max_rows or rows or most, rows or most)
    section = config.data.model_copy(update={"max_rows": min(wanted, most), "streaming": False})
    warnings = [*picked.warnings]
    said = {"warnings": warnings, "guesses": list(picked.guesses)}
    nothing: dict[str, Any] = {"choices": [], "balance": [], "splits": {}, "answers": None, "drawn": [], **said}
    if config.data.streaming:
        return {**nothing, "problem": None}
    nothing["splits"] = {use: len(split.rows) for use, split in picked.splits.items()}
    try:
        found = data.load(section, task, config.seed, place)
    except UnclearColumn as error:
        return {**nothing, "problem": str(error), "unclear": {"role": error.role, "offered": error.offered}}
    except UserError as error:
        return {**nothing, "problem": str(error)}
    if wanted > most:
        warnings.append(f"looked at {most:,} of {wanted:,} rows; the counts are of these")
    names = found.answer.names
    counts = found.answer.counts or (0,) * len(names)
    return {
        "choices": [{"role": c.role, "column": c.column, "reason": c.reason} for c in found.columns],
        "drawn": with_truth(found, task, section),
        "balance": [{"label": name, "count": count} for name, count in zip(names, counts, strict=True)],
        "splits": dict(found.sizes),
        "answers": found.answer.called,
        "guesses": list(found.guesses),
        "warnings": [*dict.fromkeys([*warnings, *found.warnings])],
        "tells": telling(found, config) if wanted == (rows or wanted) else None,
        "problem": None,
    }


def telling(found: Data, config: RunConfig) -> dict[str, Any] | None:
    """Return {n, near, half, difference} of what test rows can show of a share of right rows; None of other scores.

    Half the interval of a share `near` some value, and the difference that tells two models apart: as a check says
    it of rows that stand each for itself.
    """
    from hftransfer.evaluation import resolution

    answer, n = found.answer, found.sizes.get("test", 0)
    if not n or config.data.group or not answer.counts or not answer.metrics[answer.main_metric].is_share:
        return None
    trivial = max(answer.counts) / max(sum(answer.counts), 1)
    near = max(resolution.USUAL, (1 + trivial) / 2)
    half = resolution.half(near, n, config.evaluation.confidence)
    return {"n": n, "near": near, "half": half, "difference": half * 2**0.5}


def tasks_for(tree: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tell which tasks the rows of a source may be for, the likeliest first, with the columns of each."""
    from hftransfer.data.fitting_tasks import fitting
    from hftransfer.modeling import loading

    loading.silence_libraries()
    bound_memory()
    config = build(tree)
    with tempfile.TemporaryDirectory(prefix="preview-") as place:
        found = fitting(config.data, [catalog.task(name) for name in catalog.tasks()], config.seed, Path(place))
    return [
        {
            "task": one.task,
            "speaks": one.speaks,
            "choices": [{"role": choice.role, "column": choice.column} for choice in one.choices],
        }
        for one in found
    ]


def some_rows(split: Split, count: int, truth: str | None) -> list[dict[str, Any]]:
    """Return rows with their pictures not decoded: the first of each value of the truth, then the second of each."""
    rows = split.rows
    import datasets

    for name, feature in (rows.features or {}).items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    if isinstance(rows, datasets.IterableDataset):
        return list(rows.take(count))
    plain = isinstance((rows.features or {}).get(truth), datasets.Value | datasets.ClassLabel)
    values = rows.select_columns([truth])[:LOOKED_AT][truth] if plain else [None] * min(len(rows), LOOKED_AT)
    seen: Counter[str] = Counter()
    order = []
    for place, value in enumerate(values):
        order.append((seen[str(value)], place))
        seen[str(value)] += 1
    return [*rows.select([place for _, place in sorted(order)[:count]])]


def model(model: str, revision: str | None = None, task: str | None = None) -> dict[str, Any]:
    """Tell what a model is, from its configuration and the list of its files; no weights are read."""
    import torch
    import transformers

    from hftransfer.fitting.planning import has_linear
    from hftransfer.modeling import loading
    from hftransfer.modeling.problems import explained, require_folder

    loading.silence_libraries()
    bound_memory()
    source = samples.resolve(model)
    if task is None:
        from hftransfer.predictor import task_of

        any_task = catalog.task("text-classification")
        with explained(build_for(model, any_task), any_task, source):
            task = task_of(source, model, revision)
    chosen = catalog.task(task)
    config = RunConfig.model_construct(task=chosen.name, model=model, revision=revision)
    with explained(config, chosen, source):
        require_folder(source)
        settings = transformers.AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        settings = loading.part_for(config, chosen, settings)
        with torch.device("meta"):  # the shapes without the weights
            empty = chosen.auto_class(settings).from_config(settings, trust_remote_code=False)
    files, licence = listing(source, revision)
    weights = sum(size for name, size in files if name.endswith(".safetensors"))
    names = [str(settings.id2label[i]) for i in sorted(settings.id2label)]
    return {
        "architecture": type(empty).__name__,
        "linear": has_linear(empty),
        "parameters": sum(p.numel() for p in empty.parameters()),
        "size_mb": round(weights / 1e6, 1),
        "license": licence,
        "labels": [] if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names,
        "longest": None
        if chosen.lazy
        else loading.longest_input(build_for(model, chosen), _processor(source, revision, chosen), settings),
        "task": chosen.name,
    }


def build_for(model: str, task: Task) -> RunConfig:
    """Return the least configuration that names a model."""
    return build({"task": task.name, "model": model, "data": {"source": "-"}})


def _processor(source: str, revision: str | None, task: Task) -> Any:
    import transformers

    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    name, own = task.reader(transformers.AutoConfig.from_pretrained(source, **options))
    return getattr(transformers, name).from_pretrained(source, **options, **own)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ready": ready,
    "preview": preview,
    "tasks_for": tasks_for,
    "taught": taught,
    "revision": revision,
    "pushed": pushed,
    "model": model,
    "settings": settings,
    "predict": predict,
    "examples": examples,
    "watched": watched,
    "errors": errors,
    "verdict": verdict,
    "explain": explain,
}

GROWING: dict[str, Callable[..., Iterator[Any]]] = {"write": write}

if __name__ == "__main__":
    sys.exit(main())
