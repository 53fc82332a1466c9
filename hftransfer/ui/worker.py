"""A worker: answers questions about data and models for one visitor, where the heavy libraries may be imported.

Started by hftransfer.ui.workers. A line of JSON on stdin, {id, function, arguments}, gives one on stdout, {id} with
`answer`, `refused` (a UserError's three parts) or `failed` (a sentence).
"""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import json
import os
import re
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer import catalog, fence, imports, samples
from hftransfer.config import RunConfig, build
from hftransfer.errors import UserError
from hftransfer.hub import connection
from hftransfer.runs import Run, is_local, read_json

if TYPE_CHECKING:
    from hftransfer.data.sources import Split
    from hftransfer.predictor import Predictor
    from hftransfer.tasks.base import Task

ROWS = 8  # shown of a data set
TEXT = 400  # characters shown of a text
SIDE = 160  # pixels of a thumbnail
LARGER = 320  # and of a picture with its heat map
LOOKED_AT = {"text": 20_000, "image": 2_000}  # rows that a preview checks, by what the task reads
WORDS = 60  # of a text whose weights are measured
GRID = 6  # squares a side of a picture's heat map
KEPT = 2  # models in memory
SPARE_MB = 2_000  # of address space that libraries reserve and never use
NOT_FETCHED = (".bin", ".pt", ".h5", ".onnx")  # hftransfer.predictor does not download them

limits: dict[str, int] = {"memory_mb": 0, "model_mb": 0, "inputs": 1_000}


def main() -> int:
    """Answer until stdin ends."""
    fence.close()
    limits.update(json.loads(sys.argv[1]))
    # what libraries print must not come between the answers
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    connection.go_offline_if_unreachable()
    for line in sys.stdin:
        asked = json.loads(line)
        answer = {"id": asked["id"], **respond(asked["function"], asked["arguments"])}
        print(json.dumps(answer, default=str), file=out, flush=True)
    return 0


def respond(function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a function answers, or why not."""
    try:
        with imports.uncollected():
            from hftransfer import modeling  # noqa: F401  # all that makes the first answer wait
        return {"answer": FUNCTIONS[function](**arguments)}
    except UserError as error:
        return {"refused": [error.wanted, error.found, error.action] if error.found else [str(error), "", ""]}
    except MemoryError:
        return {"failed": "memory ran out"}
    except Exception as error:  # a hostile file or model may raise anything; the next question is a new one
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


@functools.cache
def bound_memory() -> None:
    """Let this process run out of memory by itself before its parent has to kill it; a GPU's driver reserves more."""
    import torch

    if limits["memory_mb"] and not torch.cuda.is_available():
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + (limits["memory_mb"] + SPARE_MB) * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


# --- preview ---


def preview(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Show the first rows and what is made of the columns."""
    from hftransfer import modeling
    from hftransfer.data.columns import type_name
    from hftransfer.data.sources import open_source, pick_splits

    modeling.silence_libraries()
    bound_memory()
    config = build(tree)
    task = catalog.task(config.task)
    with tempfile.TemporaryDirectory(prefix="preview-") as place:
        source = open_source(config.data, Path(place))
        picked, warnings = pick_splits(source, config.data, Path(place))
        train = picked["train"]
        names = list(train.rows.features)
        return {
            "columns": [{"name": name, "type": type_name(train.rows.features[name])} for name in names],
            "rows": [{name: entry(row.get(name)) for name in names} for row in first_rows(train, ROWS)],
            **understood(config, task, picked, [*source.warnings, *warnings], Path(place)),
        }


def understood(
    config: RunConfig, task: Task, picked: Mapping[str, Split], warnings: list[str], place: Path
) -> dict[str, Any]:
    """Load the rows as training will, at most so many, and tell what was found, or what stands in the way."""
    from hftransfer import data

    rows = None if config.data.streaming else sum(len(split.rows) for split in picked.values())
    most = LOOKED_AT["image" if any(role.kind == "image" for role in task.roles) else "text"]
    wanted = min(config.data.max_rows or rows or most, rows or most)
    section = config.data.model_copy(update={"max_rows": min(wanted, most), "streaming": False})
    nothing: dict[str, Any] = {"choices": [], "balance": [], "splits": {}, "labels": None}
    if config.data.streaming:
        return {**nothing, "warnings": warnings, "problem": None}
    try:
        found = data.load(section, task, config.seed, place)
    except UserError as error:
        return {**nothing, "warnings": warnings, "problem": str(error)}
    if wanted > most:
        warnings.append(f"looked at {most:,} of {wanted:,} rows; the counts are of these")
    counts = found.labels.counts or (0,) * len(found.labels.names)
    return {
        "choices": [{"role": c.role, "column": c.column, "reason": c.reason} for c in found.columns],
        "balance": [{"label": name, "count": count} for name, count in zip(found.labels.names, counts, strict=True)],
        "splits": dict(found.sizes),
        "labels": found.labels.kind,
        "warnings": [*dict.fromkeys([*warnings, *found.warnings])],
        "problem": None,
    }


def first_rows(split: Split, count: int) -> list[dict[str, Any]]:
    """Return the first rows with their pictures not decoded."""
    rows = split.rows
    import datasets

    for name, feature in (rows.features or {}).items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    return (
        list(rows.take(count))
        if isinstance(rows, datasets.IterableDataset)
        else [*rows.select(range(min(count, len(rows))))]
    )


def entry(value: Any, folder: Path | None = None) -> dict[str, Any]:
    """Return one value as the page can show it: text, number, image or empty."""
    import PIL.Image

    if value is None or value == "":
        return {"kind": "empty", "value": None}
    if isinstance(value, Mapping) and set(value) <= {"bytes", "path"} and value:
        return picture_entry(value, folder)
    if isinstance(value, bytes):
        return picture_entry({"bytes": value, "path": None}, folder)
    if isinstance(value, PIL.Image.Image):
        return {"kind": "image", "value": data_url(value)}
    if isinstance(value, bool | int | float):
        return {"kind": "number", "value": value}
    if isinstance(value, list | tuple):
        value = " ".join(str(part) for part in value[:TEXT])
    text = str(value)
    return {"kind": "text", "value": text if len(text) <= TEXT else text[: TEXT - 1] + "…"}


def picture_entry(value: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return a thumbnail; nothing for what cannot be read, and never a file by its path alone from elsewhere."""
    from PIL import Image, ImageOps

    try:
        source = io.BytesIO(value["bytes"]) if value.get("bytes") else Path(folder or ".") / str(value["path"])
        with Image.open(source) as opened:
            opened.draft("RGB", (2 * SIDE, 2 * SIDE))  # a JPEG is decoded small
            return {"kind": "image", "value": data_url(ImageOps.exif_transpose(opened))}
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        return {"kind": "empty", "value": None}


def data_url(picture: Any, side: int = SIDE) -> str:
    """Return a small PNG as a data: URL."""
    small = picture.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


# --- models ---


def model(model: str, revision: str | None = None, task: str | None = None) -> dict[str, Any]:
    """Tell what a model is, from its configuration and the list of its files; no weights are read."""
    import torch
    import transformers

    from hftransfer import modeling

    modeling.silence_libraries()
    bound_memory()
    source = samples.resolve(model)
    if task is None:
        from hftransfer.predictor import task_of

        any_task = catalog.task("text-classification")
        with modeling.explained(build_for(model, any_task), any_task, source):
            task = task_of(source, model, revision)
    chosen = catalog.task(task)
    config = RunConfig.model_construct(task=chosen.name, model=model, revision=revision)
    with modeling.explained(config, chosen, source):
        modeling.require_folder(source)
        settings = transformers.AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        settings = modeling.part_for(config, chosen, settings)
        with torch.device("meta"):  # the shapes without the weights
            empty = getattr(transformers, chosen.auto_model).from_config(settings, trust_remote_code=False)
    files, licence = listing(source, revision)
    weights = sum(size for name, size in files if name.endswith(".safetensors"))
    names = [str(settings.id2label[i]) for i in sorted(settings.id2label)]
    return {
        "architecture": type(empty).__name__,
        "parameters": sum(p.numel() for p in empty.parameters()),
        "size_mb": round(weights / 1e6, 1),
        "license": licence,
        "labels": [] if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names,
        "longest": modeling.longest_input(
            build_for(model, chosen), chosen, _processor(source, revision, chosen), settings
        )
        if chosen.auto_processor == "AutoTokenizer"
        else None,
        "task": chosen.name,
    }


def build_for(model: str, task: Task) -> RunConfig:
    """Return the least configuration that names a model."""
    return build({"task": task.name, "model": model, "data": {"source": "-"}})


def _processor(source: str, revision: str | None, task: Task) -> Any:
    import transformers

    return getattr(transformers, task.auto_processor).from_pretrained(
        source, revision=revision, trust_remote_code=False, **task.processor_options
    )


def listing(source: str, revision: str | None) -> tuple[list[tuple[str, int]], str | None]:
    """Return a model's files with their sizes in bytes, and its licence."""
    if Path(source).is_dir():
        notes = read_json(Path(source) / "SAMPLE.json")
        files = [(path.name, path.stat().st_size) for path in Path(source).rglob("*") if path.is_file()]
        return files, notes.get("licence") or notes.get("license")
    from huggingface_hub import HfApi

    config = RunConfig.model_construct(task="", model=source, revision=revision)
    from hftransfer import modeling

    with modeling.explained(config, catalog.task("text-classification"), source):
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


def _predictor(where: str) -> Predictor:
    notes = Path(where) / "hftransfer.json"
    return predictor(where, notes.stat().st_mtime if notes.is_file() else 0.0)


def predict(where: str, inputs: Sequence[Mapping[str, Any]], top_k: int | None = None) -> list[dict[str, Any]]:
    """Answer each input; {"table": path} stands for the rows of a file."""
    asked = _predictor(where)
    values: list[Any] = []
    for value in inputs:
        if "table" not in value:
            values.append(value)
            continue
        from hftransfer import data

        values += data.read_inputs(Path(value["table"]), asked.task, asked.notes.get("columns", {}))
    if len(values) > limits["inputs"]:
        raise UserError(f"up to {limits['inputs']:,} inputs are possible", f"found {len(values):,}", "Ask for fewer.")
    answers = asked.answer(values, top_k)
    return [{**answer, "input": _without_paths(answer["input"])} for answer in answers]


def _without_paths(shown: Any) -> Any:
    """Return an input as it may be shown: of a picture's path the name alone, of a lone text the text."""
    if not isinstance(shown, Mapping):
        return shown
    plain = {name: Path(str(part)).name if name == "image" else part for name, part in shown.items()}
    return next(iter(plain.values())) if set(plain) in ({"text"}, {"image"}) else plain


# --- rows of a run ---


def examples(run: str, n: int = 12) -> list[dict[str, Any]]:
    """Return test rows to try."""
    found = Run(Path(run))
    path = found.predictions / "examples.parquet"
    if path.is_file():
        import pyarrow.parquet as pq

        rows = pq.read_table(path).slice(0, n).to_pylist()
        return [
            {"row_id": row.pop("row_id"), "input": {role: entry(value) for role, value in row.items()}} for row in rows
        ]
    ids = [row["row_id"] for row in answers_of(found)[:n]]
    return [{"row_id": row_id, "input": values} for row_id, values in inputs_of(found, ids).items()]


def errors(run: str, n: int = 12) -> list[dict[str, Any]]:
    """Return the test rows that were answered worst, with their inputs."""
    found = Run(Path(run))
    names = list(read_json(found.artifact / "hftransfer.json").get("labels", {}).get("names", []))
    wrong = [(badness(row, names), row) for row in answers_of(found) if row["label"] != row["prediction"]]
    worst = [row for _, row in sorted(wrong, key=lambda pair: -pair[0])[:n]]
    inputs = inputs_of(found, [row["row_id"] for row in worst])
    return [
        {
            "row_id": row["row_id"],
            "label": row["label"],
            "prediction": row["prediction"],
            "score": score_of(row),
            "input": inputs.get(row["row_id"], {}),
        }
        for row in worst
    ]


def verdict(run: str, others: Sequence[str]) -> dict[str, Any]:
    """Return what finished runs on the same test rows say of one another: verdict, notes, and the table's cells."""
    from hftransfer import comparison

    found = comparison.judge([run], comparison.contenders([run, *others]))
    return {"verdict": found["verdict"], "notes": found["notes"], "table": comparison.table(found)}


def answers_of(run: Run) -> list[dict[str, Any]]:
    """Return the stored predictions on the test rows."""
    import pyarrow.parquet as pq

    path = run.predictions / "test.parquet"
    if not path.is_file():
        raise UserError("a run that was evaluated is needed", f"{run.name} is {run.status().state}", "Wait for it.")
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def badness(row: Mapping[str, Any], names: Sequence[str]) -> float:
    """Return how wrong an answer is: one minus the truth's probability, the error, or the share of wrong parts."""
    label, prediction, scores = row["label"], row["prediction"], row["scores"]
    if isinstance(label, float):
        return abs(label - float(prediction))
    if isinstance(label, list):
        if isinstance(prediction, list) and len(label) == len(prediction) and scores and isinstance(scores[0], list):
            return float(sum(a != b for a, b in zip(label, prediction, strict=True)) / max(1, len(label)))
        return float(len(set(label) ^ set(prediction)))
    return 1.0 - float(scores[names.index(label)] if label in names else 0.0)


def score_of(row: Mapping[str, Any]) -> float | None:
    """Return how sure a single answer was."""
    scores = row["scores"]
    single = isinstance(row["label"], str) and isinstance(scores, list) and scores
    return round(float(max(scores)), 4) if single else None


def inputs_of(run: Run, row_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the inputs of rows by role, read from the run's source again; nothing where it is gone."""
    from hftransfer.data.sources import open_source, pick_splits

    config = run.config()
    roles = {role.name: role for role in catalog.task(config.task).roles if role.kind not in ("label", "tags")}
    choices = [event for event in run.events()[0] if event["type"] == "columns"]
    columns = {c["role"]: c["column"] for c in choices[-1]["choices"] if c["role"] in roles} if choices else {}
    with tempfile.TemporaryDirectory(prefix="inputs-") as place, contextlib.suppress(UserError):
        source = open_source(config.data, Path(place))
        picked, _ = pick_splits(source, config.data, Path(place))
        found = {}
        for row_id, split, number in places(row_ids, picked):
            row = undecoded(split, number)
            found[row_id] = {role: entry(_beside(row.get(column)), split.folder) for role, column in columns.items()}
        return found
    return {}


def _beside(value: Any) -> Any:
    """Return the name of a picture as an undecoded picture."""
    suffix = Path(value).suffix.lower() if isinstance(value, str) and len(value) < 300 else ""
    return {"bytes": None, "path": value} if suffix in (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif") else value


def places(row_ids: Iterable[str], picked: Mapping[str, Split]) -> Iterator[tuple[str, Split, int]]:
    """Find rows by their id, `split:number`."""
    splits = {split.name: split for split in picked.values()}
    for row_id in row_ids:
        name, _, number = row_id.rpartition(":")
        if name in splits and number.isdigit() and int(number) < len(splits[name].rows):
            yield row_id, splits[name], int(number)


def undecoded(split: Split, number: int) -> dict[str, Any]:
    """Return one row of a split."""
    import datasets

    rows = split.rows
    for name, feature in (rows.features or {}).items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    found: dict[str, Any] = rows[number]
    return found


# --- what spoke for an answer ---


def explain(where: str, input: Mapping[str, Any]) -> dict[str, Any]:
    """Measure which words or parts of a picture an answer rests on: cover each once (Zeiler and Fergus 2014)."""
    asked = _predictor(where)
    if asked.labels.kind == "tags":
        raise UserError("one answer for the whole input is needed", "this model gives one a word", "")
    return of_picture(asked, input["image"]) if "image" in input else of_text(asked, input)


def of_text(asked: Predictor, input: Mapping[str, Any]) -> dict[str, Any]:
    """Weigh words by how much the answer's score falls without each."""
    text = str(input["text"])
    parts = re.findall(r"\s*\S+", text)
    if len(parts) > WORDS:  # neighbours are covered together, so that the number of passes stays the same
        size = -(-len(parts) // WORDS)
        parts = ["".join(parts[i : i + size]) for i in range(0, len(parts), size)]
    covered = ["".join([*parts[:i], *parts[i + 1 :]]).strip() or " " for i in range(len(parts))]
    scores = _scores(asked, [{**input, "text": words} for words in (text, *covered)])
    weights = [scores[0][1] - score for _, score in scores[1:]]
    return {
        "kind": "tokens",
        "label": scores[0][0],
        "parts": [{"text": part, "weight": round(weight, 5)} for part, weight in zip(parts, weights, strict=True)],
    }


def of_picture(asked: Predictor, path: str) -> dict[str, Any]:
    """Weigh squares of a picture by how much the answer's score falls when each is grey."""
    from PIL import Image, ImageOps, ImageStat

    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    picture.thumbnail((2 * LARGER, 2 * LARGER))
    grey = tuple(round(value) for value in ImageStat.Stat(picture).mean)
    covered = []
    for row in range(GRID):
        for column in range(GRID):
            part = picture.copy()
            left, right = (edge * part.width // GRID for edge in (column, column + 1))
            top, bottom = (edge * part.height // GRID for edge in (row, row + 1))
            part.paste(grey, (left, top, right, bottom))
            covered.append(part)
    scores = _scores(asked, [picture, *covered])
    weights = [round(scores[0][1] - score, 5) for _, score in scores[1:]]
    return {
        "kind": "pixels",
        "label": scores[0][0],
        "image": data_url(picture, LARGER),
        "weights": [weights[i : i + GRID] for i in range(0, len(weights), GRID)],
    }


def _scores(asked: Predictor, inputs: Sequence[Any]) -> list[tuple[str | None, float]]:
    """Return the first input's best label, and each input's score for it."""
    answers = asked.answer(inputs)
    if "scores" not in answers[0]:
        return [(None, float(answer["score"])) for answer in answers]
    best = next(iter(answers[0]["scores"]))
    return [(best, float(answer["scores"][best])) for answer in answers]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "preview": preview,
    "model": model,
    "predict": predict,
    "examples": examples,
    "errors": errors,
    "verdict": verdict,
    "explain": explain,
}

if __name__ == "__main__":
    sys.exit(main())
