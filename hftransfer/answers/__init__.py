"""What a model answers with: one file a kind, named as hftransfer.json stores it; the files are the list."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hftransfer.answers.base import Answer
    from hftransfer.config import DataConfig
    from hftransfer.weighting import Metric


def kinds(offered: Sequence[Answer[Any]] | None = None) -> tuple[str, ...]:
    """Return the names of all kinds, or of those that are offered, in their order."""
    if offered is not None:
        return tuple(dict.fromkeys(answer.kind for answer in offered))
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if name != "base" and not name.startswith("_")))


def of(kind: str) -> Answer[Any]:
    """Return the answer of a kind before anything was learnt."""
    found: Answer[Any] = importlib.import_module(f"hftransfer.answers.{kind}").ANSWER
    return found


def restore(noted: Mapping[str, Any]) -> Answer[Any]:
    """Return the answer that `to_dict` noted."""
    return of(noted["kind"]).restore(noted)


def of_notes(notes: Mapping[str, Any]) -> Answer[Any]:
    """Return the answer of an artifact, from its hftransfer.json of any schema."""
    from hftransfer.answers import _legacy

    return restore(notes["answer"]) if "answer" in notes else _legacy.of_notes(notes)


def of_result(result: Mapping[str, Any]) -> Answer[Any]:
    """Return the answer of a run, from its result.json of any schema."""
    from hftransfer.answers import _legacy

    return restore(result["answer"]) if "answer" in result else _legacy.of_result(result)


def choose(offered: Sequence[Answer[Any]], feature: Any, config: DataConfig, written: bool = False) -> Answer[Any]:
    """Return which of a task's answers a column of truth is for: as the user says, else the first that it fits.

    `written`: it holds numbers as texts, as CSV does; a kind that is of numbers comes before any of texts then.
    Raises UserError for one that the task does not offer, or that the column's type rules out.
    """
    from hftransfer.errors import UserError

    wanted = config.problem_type or ("multi_label" if config.label_separator else None)
    known = {answer.kind: answer for answer in offered}
    if wanted is None:
        of_numbers = [answer for answer in offered if written and answer.reads_numbers]
        fitting = [*of_numbers, *(answer for answer in offered if answer.fits(feature))]
        return _among(known, fitting[0] if fitting else offered[0])
    if wanted not in known:
        raise UserError(
            f"labels of kind {' or '.join(known)} are needed", f"these are {wanted}", "Check data.problem_type."
        )
    known[wanted].check_feature(feature)
    return _among(known, known[wanted])


def asked(offered: Sequence[Answer[Any]], config: DataConfig) -> Answer[Any]:
    """Return which of a task's answers a configuration names; the usual one where it names none of them."""
    return next((answer for answer in offered if answer.kind == config.problem_type), offered[0])


def setting(answer: Answer[Any]) -> str:
    """Return how a configuration names a kind."""
    return f"data.problem_type={answer.kind}"


def _among(kinds: Iterable[str], answer: Answer[Any]) -> Answer[Any]:
    """Return an answer that knows which others its task offers, where it speaks of them."""
    speaks = any(field.name == "siblings" for field in dataclasses.fields(answer))  # type: ignore[arg-type]
    return dataclasses.replace(answer, siblings=tuple(kinds)) if speaks else answer  # type: ignore[type-var]


@cache
def metrics() -> Mapping[str, Metric]:
    """Return every metric of every kind by name; a name means the same wherever it stands."""
    found: dict[str, Metric] = {}
    for kind in sorted(kinds(), key=lambda kind: -len(of(kind).METRICS)):
        for name, metric in of(kind).METRICS.items():
            found.setdefault(name, metric)
    return found


@cache
def validated() -> frozenset[str]:
    """Return every name that a checkpoint can be chosen by: metrics, and what is measured while training alone."""
    return frozenset({*metrics(), *(name for kind in kinds() for name in of(kind).validated)})


def kinds_of(metric: str) -> list[str]:
    """Return the kinds that a metric fits."""
    return [kind for kind in kinds() if metric in of(kind).METRICS]
