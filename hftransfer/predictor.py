"""Predictor: an artifact folder, any model folder, or a Hub id, to answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import transformers

from hftransfer import answers, artifact, catalog, data, samples
from hftransfer.answers._prose import Prose as Writing
from hftransfer.answers.base import Answer, Rows
from hftransfer.config import DataConfig, RunConfig, build
from hftransfer.data.suffixes import BUILDERS, TEXTS
from hftransfer.errors import UserError
from hftransfer.hub import access, connection
from hftransfer.hub.retrying import insist
from hftransfer.modeling import inference, loading
from hftransfer.modeling.batches import collator, moved
from hftransfer.modeling.prepared import Prepared, of_values
from hftransfer.modeling.problems import explained, require_folder
from hftransfer.safety import intact
from hftransfer.tasks.base import Preparation, Task
from hftransfer.views import Prose, View

BATCH = 32
AT_ONCE = 2_048  # rows whose answers are made before the first is given
NOT_NEEDED = ("*.bin", "*.pt", "*.h5", "*.onnx", "*.msgpack", "*.py", "plots/*", "adapter/*", "checkpoints/*")
TABLES = frozenset({*BUILDERS, *TEXTS})


class Predictor:
    """Answer single inputs, lists and files with calibrated probabilities.

    `where` is a folder that `from_pretrained` loads, or a Hub id. The task, the label names and the temperature come
    from its hftransfer.json; for other models the task is read off the architecture.

    `bf16` computes in bfloat16: about half the time where the processor multiplies it. Answers are then not quite
    those that were measured.
    """

    def __init__(self, where: str | Path, revision: str | None = None, bf16: bool = False) -> None:
        loading.silence_libraries()
        source = samples.resolve(str(where))
        folder = _fetched(source, revision)
        self.notes = artifact.read_notes(folder)
        self.task: Task = catalog.task(self.notes["task"] if self.notes else task_of(folder, source))
        config = build({"task": self.task.name, "model": str(folder), "data": {"source": "-"}})
        self.processor = loading.load_processor(config, self.task)
        with explained(config, self.task, str(folder)):
            self.model = loading.load_saved(folder, self.task)
        loading.set_padding(self.model.config, self.processor)
        if bf16:
            inference.in_bf16(self.model)
        self.answered = _answer(self.notes, self.model.config, self.task).with_entries(folder.absolute())
        longest = self.notes.get("max_length")
        if longest is None and not self.task.lazy:
            longest = loading.longest_input(config, self.processor, self.model.config)
        section = self.task.settle(
            DataConfig(source="-", **self.notes.get("carried", self.task.unsaid if self.notes else {})),
            self.model.config,
        )
        self.preparation = Preparation(section, self.answered.to_prepare, 0, longest)

    def __call__(self, value: Any) -> Any:
        """Answer one input with a dict, or a list of inputs (or a table's path) with a list."""
        if isinstance(value, list):
            return self.answer(value)
        return self.answer([value]) if _table(value) else self.answer([value])[0]

    def answer(self, inputs: Sequence[Any], top_k: int | None = None) -> list[dict[str, Any]]:
        """Answer each input; a path of a table (CSV, TSV, JSONL, Parquet) or of a text file stands for its rows.

        What an answer holds is its kind's to say: `label`, `score` and `scores` by name, most likely first; `labels`
        and `scores`; `score` alone; `words`, `tags` and `scores`, one a word; `text`. A row of a table that holds
        nothing to ask with has `unanswered`, the reason.
        """
        return [one for part in self.answers(inputs, top_k) for one in part]

    def answers(self, inputs: Sequence[Any], top_k: int | None = None) -> Iterator[list[dict[str, Any]]]:
        """Yield what `answer` returns as it is made, AT_ONCE rows at a time: of a long table all is never held."""
        values = [row for value in inputs for row in self._expand(value)]
        for first in range(0, len(values), AT_ONCE):
            yield self._answer(values[first : first + AT_ONCE], top_k)

    def _answer(self, values: Sequence[Any], top_k: int | None) -> list[dict[str, Any]]:
        rows = [self.task.row(value) for value in values if not isinstance(value, data.Unanswerable)]
        answers = iter([self.answered.to_json(row, out, top_k) for row, out in zip(rows, self.ask(rows), strict=True)])
        return [
            {"input": _shown(value.input), "unanswered": value.reason}
            if isinstance(value, data.Unanswerable)
            else {"input": _shown(value), **next(answers)}
            for value in values
        ]

    def opened(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row's values as the processor takes them: what transformers' own code must be given."""
        taken = {role.name: role.takes for role in self.task.shown if role.takes is not None}
        found = {name: taken[name].opened(value, self.preparation.config) for name, value in row.items()}
        window = self.task.window(self.processor, self.preparation.config)
        if window is None or self.task.splits:
            return found
        return {name: taken[name].part(value, 0, 1, window) for name, value in found.items()}

    def views(self, answers: Sequence[Mapping[str, Any]]) -> list[View]:
        """Return how answers of `answer` are shown."""
        return [
            Prose(f"not answered: {answer['unanswered']}") if "unanswered" in answer else self.answered.view(answer)
            for answer in answers
        ]

    def ask(self, rows: Sequence[Mapping[str, Any]]) -> Rows:
        """Return the model's outputs for rows by role, in their order, not calibrated; see the kind of answer."""
        if not rows:
            return []
        prepared = self._prepared(rows)
        collate = collator(self.task, self.processor, self.preparation, training=False)
        return inference.ask(self.answered, self.model, prepared, collate, self.processor, BATCH, alone=True)

    def grow(self, value: Any) -> Iterator[str]:
        """Yield the text that answers one input as it grows; UserError for a model that writes none."""
        if not isinstance(self.answered, Writing):
            raise UserError("a model that writes is needed", f"this one gives {self.answered.called}", "Ask for all.")
        prepared = self._prepared([self.task.row(value)])
        collate = collator(self.task, self.processor, self.preparation, training=False)
        with inference.answering(self.model, alone=True):
            batch = moved(collate(prepared.items([0])), self.model.device)
            yield from self.answered.grown(self.model, batch, self.processor)

    def is_whole(self, row: Mapping[str, Any]) -> bool:
        """Tell whether a row is shown to the model in one piece, as transformers' own pipeline shows it."""
        config = self.preparation.config
        own = self.task.tile(config) is not None or (self.task.splits and config.max_seconds is not None)
        return not own or len(self._prepared([row]).rows) == 1

    def _prepared(self, rows: Sequence[Mapping[str, Any]]) -> Prepared:
        taken = {role.name: role.takes for role in self.task.shown if role.takes is not None}
        optional = {role.name for role in self.task.shown if not role.required and not role.teaches}
        # a model that was trained on pairs saw an empty second text where there was none
        roles = {role for row in rows for role in row} | (optional & set(self.notes.get("columns", {})))
        columns = {
            role: [row.get(role, taken[role].nothing if role in optional else None) for row in rows] for role in roles
        }
        return of_values(self.task, columns, self.processor, self.preparation)

    def _expand(self, value: Any) -> list[Any]:
        path = _table(value)
        if path is None:
            return [value]
        read = data.read_inputs  # which imports `datasets`
        loading.silence_libraries()
        return read(path, self.task, self.notes.get("columns", {}))


def _fetched(source: str, revision: str | None) -> Path:
    """Return a local folder with the model's files, downloaded from the Hub when `source` is an id."""
    require_folder(source)
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import HfApi, snapshot_download

    online = not connection.is_offline() and connection.reachable()
    if online:  # the cache does not know whose token filled it
        access.require_readable(HfApi(), source, "model")
    config = RunConfig.model_construct(task="", model=source, revision=revision)
    with explained(config, catalog.task("text-classification"), source):
        folder = Path(
            insist(
                lambda: snapshot_download(
                    source, revision=revision, local_files_only=not online, ignore_patterns=list(NOT_NEEDED)
                )
            )
        )
    intact.require(folder, source, samples.cache_folder() / intact.RECORD)
    return folder


def task_of(folder: str | Path, source: str, revision: str | None = None) -> str:
    """Return the task that a model's architecture is made for; UserError for one without a head."""
    config = RunConfig.model_construct(task="", model=source)
    with explained(config, catalog.task("text-classification"), str(folder)):
        settings = transformers.AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=False)
    names = settings.architectures or []
    headed = [name for name in catalog.tasks() if catalog.task(name).auto_model != "AutoModel"]  # which says nothing
    for name in headed:
        suffix = catalog.task(name).auto_model.removeprefix("AutoModel")
        if suffix and any(architecture.endswith(suffix) for architecture in names):  # AutoModel alone says nothing
            return str(name)
    claiming = [name for name in headed if _made_for(catalog.task(name), settings, names)]
    if len(claiming) == 1:
        return str(claiming[0])
    if claiming:
        raise UserError(
            "a model whose task is known is needed",
            f"{source} is {', '.join(names)}, which several tasks train: {', '.join(claiming)}",
            "Give one that hftransfer made, or measure this one on rows: method.name=zero_shot with task=...",
        )
    raise UserError(
        "a model with a task head is needed", f"{source} is {', '.join(names) or 'of no known architecture'}",
        "Give a fine-tuned model of one of the tasks: hftransfer tasks.",
    )  # fmt: skip


def _made_for(task: Task, settings: Any, architectures: Sequence[str]) -> bool:
    """Tell whether a model's architecture is one of the task's Auto class, whatever it is called (GPT2LMHeadModel)."""
    mapping = task.auto_class(settings)._model_mapping
    own = type(settings) in mapping and mapping[type(settings)].__name__ in architectures
    return own or bool(set(architectures) & set(mapping._model_mapping.values()))


def _answer(notes: dict[str, Any], settings: Any, task: Task) -> Answer[Any]:
    """Return what a model answers with, by its notes; of one that is not ours, by its config."""
    if notes:
        return answers.of_notes(notes)
    return next(answer for answer in task.answers if answer.claims(settings)).of_config(settings)


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
