"""Predictor: an artifact folder, any model folder, or a Hub id, to answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from hftransfer import artifact, catalog, data, modeling, objectives, samples
from hftransfer.config import DataConfig, RunConfig, build
from hftransfer.errors import UserError
from hftransfer.hub import access, connection
from hftransfer.hub.retrying import insist
from hftransfer.tasks.base import Labels, Preparation, Prepared, Task

BATCH = 32
NOT_NEEDED = ("*.bin", "*.pt", "*.h5", "*.onnx", "*.msgpack", "*.py", "plots/*", "adapter/*", "checkpoints/*")
TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


class Predictor:
    """Answer single inputs, lists and files with calibrated probabilities.

    `where` is a folder that `from_pretrained` loads, or a Hub id. The task, the label names and the temperature come
    from its hftransfer.json; for other models the task is read off the architecture.
    """

    def __init__(self, where: str | Path, revision: str | None = None) -> None:
        modeling.silence_libraries()
        source = samples.resolve(str(where))
        folder = _fetched(source, revision)
        self.notes = artifact.read_notes(folder)
        self.task: Task = catalog.task(self.notes["task"] if self.notes else task_of(folder, source))
        config = build({"task": self.task.name, "model": str(folder), "data": {"source": "-"}})
        self.processor = modeling.load_processor(config, self.task)
        with modeling.explained(config, self.task, str(folder)):
            self.model = getattr(transformers, self.task.auto_model).from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            )
        modeling.set_padding(self.model.config, self.task, self.processor)
        self.labels = _labels(self.notes, self.model.config, self.task)
        self.temperature = float(self.notes.get("temperature", 1.0))
        longest = self.notes.get("max_length") or modeling.longest_input(
            config, self.task, self.processor, self.model.config
        )
        self._preparation = Preparation(DataConfig(source="-"), self.labels, 0, longest)
        self.device = torch.accelerator.current_accelerator() or torch.device("cpu")
        self.model.to(self.device).eval()

    def __call__(self, value: Any) -> Any:
        """Answer one input with a dict, or a list of inputs (or a table's path) with a list."""
        if isinstance(value, list):
            return self.answer(value)
        return self.answer([value]) if _table(value) else self.answer([value])[0]

    def answer(self, inputs: Sequence[Any], top_k: int | None = None) -> list[dict[str, Any]]:
        """Answer each input; a path of a table (CSV, TSV, JSONL, Parquet) stands for its rows.

        Single label: `label`, `score` and `scores` by name, most likely first. Several labels: `labels` and `scores`.
        Regression: `score`. Tags: `words`, `tags` and `scores`, one a word.
        """
        values = [row for value in inputs for row in self._expand(value)]
        rows = [self.task.row(value) for value in values]
        shown = [_shown(value) for value in values]
        return [
            {"input": show, **self._answer(row, logits, top_k)}
            for show, row, logits in zip(shown, rows, self.logits(rows), strict=True)
        ]

    def logits(self, rows: Sequence[dict[str, Any]]) -> list[np.ndarray]:
        """Return the model's outputs for rows by role, in their order: (k,) each, or (words, k) for tags."""
        if not rows:
            return []
        prepared = self._prepared(rows)
        order = np.arange(len(prepared.rows))
        if prepared.lengths is not None:
            order = np.argsort(-prepared.lengths, kind="stable")
        collate = self.task.collator(self.processor)
        found: dict[int, list[tuple[int, np.ndarray]]] = {}
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            batch = collate([prepared.dataset[int(i)] for i in chosen])
            aims = batch.pop("labels", None)
            with torch.inference_mode():
                outputs = (
                    self.model(**{k: v.to(self.device) for k, v in batch.items()})["logits"].float().cpu().numpy()
                )
            for at, item in enumerate(chosen):
                kept = outputs[at]
                if self.labels.kind == "tags" and aims is not None:
                    kept = kept[aims[at].numpy() != objectives.IGNORED]
                found.setdefault(int(prepared.rows[item]), []).append((int(item), kept))
        if self.labels.kind == "tags":
            return [np.concatenate([part for _, part in sorted(found[i], key=_first)]) for i in range(len(rows))]
        return [found[i][0][1] for i in range(len(rows))]

    def _prepared(self, rows: Sequence[dict[str, Any]]) -> Prepared:
        import datasets

        optional = {role.name for role in self.task.roles if not role.required}
        # a model that was trained on pairs saw an empty second text where there was none
        roles = {role for row in rows for role in row} | (optional & set(self.notes.get("columns", {})))
        columns = {role: [row.get(role, "" if role in optional else None) for row in rows] for role in roles}
        features = {"image": datasets.Image()} if "image" in columns else None
        table = datasets.Dataset.from_dict(columns, features=datasets.Features(features) if features else None)
        return self.task.prepare(table, self.processor, self._preparation, training=False)

    def _expand(self, value: Any) -> list[Any]:
        path = _table(value)
        return [value] if path is None else data.read_inputs(path, self.task, self.notes.get("columns", {}))

    def _answer(self, row: dict[str, Any], logits: np.ndarray, top_k: int | None) -> dict[str, Any]:
        scores = objectives.probabilities(self.labels.kind, logits[None], self.temperature)[0]
        names = self.labels.names
        if self.labels.kind == "regression":
            return {"score": float(scores)}
        if self.labels.kind == "tags":
            best = scores.argmax(axis=-1)
            return {
                "words": row["words"],
                "tags": [names[i] for i in best],
                "scores": [round(float(s[i]), 6) for s, i in zip(scores, best, strict=True)],
            }
        ranked = sorted(zip(names, scores.tolist(), strict=True), key=lambda pair: -pair[1])[:top_k]
        if self.labels.kind == "multi_label":
            return {"labels": [n for n, s in zip(names, scores, strict=True) if s >= 0.5], "scores": dict(ranked)}
        return {"label": ranked[0][0], "score": ranked[0][1], "scores": dict(ranked)}


def _fetched(source: str, revision: str | None) -> Path:
    """Return a local folder with the model's files, downloaded from the Hub when `source` is an id."""
    modeling.require_folder(source)
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import HfApi, snapshot_download

    online = not connection.is_offline() and connection.reachable()
    if online:  # the cache does not know whose token filled it
        access.require_readable(HfApi(), source, "model")
    config = RunConfig.model_construct(task="", model=source, revision=revision)
    with modeling.explained(config, catalog.task("text-classification"), source):
        return Path(
            insist(
                lambda: snapshot_download(
                    source, revision=revision, local_files_only=not online, ignore_patterns=list(NOT_NEEDED)
                )
            )
        )


def task_of(folder: str | Path, source: str, revision: str | None = None) -> str:
    """Return the task that a model's architecture is made for; UserError for one without a head."""
    config = RunConfig.model_construct(task="", model=source)
    with modeling.explained(config, catalog.task("text-classification"), str(folder)):
        settings = transformers.AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=False)
    names = settings.architectures or []
    for name in catalog.tasks():
        suffix = catalog.task(name).auto_model.removeprefix("AutoModel")
        if any(architecture.endswith(suffix) for architecture in names):
            return str(name)
    raise UserError(
        "a model with a task head is needed", f"{source} is {', '.join(names) or 'of no known architecture'}",
        "Give a fine-tuned model of one of the tasks: hftransfer tasks.",
    )  # fmt: skip


def _labels(notes: dict[str, Any], settings: Any, task: Task) -> Labels:
    if notes:
        return Labels(notes["labels"]["kind"], tuple(notes["labels"]["names"]))
    names = tuple(str(settings.id2label[i]) for i in sorted(settings.id2label))
    if "tags" in task.label_kinds:
        return Labels("tags", names)
    if settings.problem_type == "regression" or (settings.problem_type is None and len(names) == 1):
        return Labels("regression")
    return Labels("multi_label" if settings.problem_type == "multi_label_classification" else "single_label", names)


def _table(value: Any) -> Path | None:
    """Return the path of a table; what looks like one and is not there is no text to classify either."""
    if not isinstance(value, str | Path) or Path(value).suffix.lower() not in TABLES:
        return None
    path = Path(value)
    if path.is_file():
        return path
    if isinstance(value, str) and len(value.split()) > 1:
        return None  # a sentence that ends in the name of a file
    raise UserError("a table of inputs is needed", f"there is no file {str(value)!r}", "Check the path.")


def _shown(value: Any) -> Any:
    """Return an input as JSON can hold it."""
    if isinstance(value, Mapping):
        return {name: _shown(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(part) for part in value]
    return value if isinstance(value, str | int | float) or value is None else str(value)


def _first(pair: tuple[int, np.ndarray]) -> int:
    return pair[0]
