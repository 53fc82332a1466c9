"""Settings that a user gave and that nothing of a run reads: each is said, none passed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hftransfer.answers.base import Answer
from hftransfer.config import DataConfig, EvaluationConfig, Section, TrainConfig
from hftransfer.errors import UserError
from hftransfer.tasks.base import Task

# those of `data` that hold for every source and task; the others are for some tasks, inputs or answers, which say so
EVERYWHERE = frozenset({
    "source", "name", "revision", "columns", "train", "validation", "test", "validation_size", "test_size", "max_rows",
    "group", "streaming", "problem_type", "encoding", "delimiter", "quoting", "header", "key", "lists",
    "split_column", "label_pattern", "bad_rows", "packing", "unlabelled", "corrections", "added",
    "label_issues", "likely_copies",
})  # fmt: skip
SPECIAL = frozenset(DataConfig.model_fields) - EVERYWHERE
SPECIAL_OF_EVALUATION = frozenset({"forgetting", "max_new_tokens", "num_beams"})  # likewise, of `evaluation`


def heeded(task: Task, answer: Answer[Any]) -> frozenset[str]:
    """Return the special settings that a task with this kind of answer reads."""
    of_inputs = (role.takes.heeds for role in task.roles if role.takes is not None)
    return frozenset().union(task.heeds, task.carried, answer.heeds, *of_inputs)


def unheeded(config: DataConfig, task: Task, answer: Answer[Any]) -> list[str]:
    """Return what a user is to know of settings of `data` that do nothing here, a sentence each.

    UserError where the names that were given for classes are none of theirs.
    """
    idle = _set(config, SPECIAL - heeded(task, answer))
    return [*(_for_nothing(f"data.{name}", task) for name in idle), *_misnamed(config, answer)]


def unheeded_later(evaluation: EvaluationConfig, train: TrainConfig, task: Task, answer: Answer[Any]) -> list[str]:
    """Return the same of settings of the sections `evaluation` and `train`."""
    found = [
        _for_nothing(f"evaluation.{name}", task) for name in _set(evaluation, SPECIAL_OF_EVALUATION - answer.heeds)
    ]
    if _set(evaluation, {"repeats"}) and evaluation.folds is None:
        found.append("evaluation.repeats has no effect: it repeats evaluation.folds, which is not set")
    if train.early_stopping_threshold and train.early_stopping_patience is None:
        found.append("train.early_stopping_threshold has no effect without train.early_stopping_patience")
    return found


def _set(section: Section, names: Iterable[str]) -> list[str]:
    """Return those of some settings of a section that are not as they are when nobody sets them."""
    fields = type(section).model_fields
    usual = {name: fields[name].get_default(call_default_factory=True) for name in sorted(names)}
    return [name for name, value in usual.items() if getattr(section, name) != value]


def _for_nothing(setting: str, task: Task) -> str:
    return f"{setting} has no effect: {task.name} with these answers does not read it"


def _misnamed(config: DataConfig, answer: Answer[Any]) -> Iterator[str]:
    names = set(getattr(answer, "names", ()))
    if not config.label_names or "label_names" not in answer.heeds or not names:
        return
    strange = [name for name in config.label_names if name.strip() not in names]
    if len(strange) == len(config.label_names):
        raise UserError(
            "data.label_names names classes that the source tells by number alone",
            f"none of {_few(strange)} is a class: the source calls them {_few(sorted(names))}",
            "Drop data.label_names, or rename the classes in the source.",
        )
    if strange:
        yield f"data.label_names names {_few(strange)}, which no row of train has"


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
