"""A recipe that somebody published, run here: it decides what is computed, and nothing that is its runner's to decide.

It may run no code of others, read no file of this machine, write to no repo but the one it came from, and start no
more processes than make sense here, unless whoever runs it says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from hftransfer import answers
from hftransfer.config import RunConfig, build, override
from hftransfer.errors import UserError
from hftransfer.hub import origins
from hftransfer.runs import is_local
from hftransfer.samples import PREFIX

AT_ONCE = 8  # threads, and processes that load data, for each core of this machine
ROWS = 2**20  # of an update
PLACES = ("model", "data.source", "data.train", "data.validation", "data.test", "data.unlabelled", "data.corrections",
          "data.added")  # fmt: skip
SECTIONS = ("train.", "method.")  # whose options a neighbour declares: any of them may be the name of a file


@contextmanager
def of_ours(repo: str) -> Iterator[None]:
    """Raise UserError in place of whatever it takes to read notes and recipes that hftransfer did not write."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, OSError, RecursionError, yaml.YAMLError) as error:
        if isinstance(error, UserError):
            raise
        said = " ".join(str(error).split())[:160]
        raise UserError(
            f"{repo} must hold what hftransfer writes", f"{type(error).__name__}: {said}",
            "It was made by something else, or is damaged.",
        ) from error  # fmt: skip


def configured(tree: Mapping[str, Any], sources: origins.Origins, overrides: Sequence[str], command: str) -> RunConfig:
    """Return the configuration of a recipe with this machine's own words on top.

    `command` is what is run, as it is typed after `hftransfer`. Raises UserError when the run was made with a file or
    a model folder that only the other machine had, or when the recipe decides what it may not.
    """
    given = {word.partition("=")[0] for word in overrides}
    recipe = build(tree)
    for key, name, origin in (
        ("model", recipe.model, sources.model), ("data.source", recipe.data.source, sources.data),
    ):  # fmt: skip
        here = is_local(name) and not name.startswith(PREFIX)  # whatever the notes say it was
        if key not in given and (origin.is_local or here):
            raise UserError(
                f"{key} was a file or folder of the machine it was trained on", f"it was called {origin.name!r}",
                f"Say where it is here: hftransfer {command} {key}=PATH",
            )  # fmt: skip
    for key, found, why in _decides(recipe):
        if key not in given:
            raise UserError(
                "a recipe that decides nothing for whoever runs it is needed", f"its {key} is {found}, which {why}",
                f"If you trust its author, say it yourself: hftransfer {command} {key}=...",
            )  # fmt: skip
    return build(override(tree, list(overrides)))


def processes(found: Any) -> int:
    """Return the number of processes that notes name; UserError for what is none."""
    if type(found) is not int or found < 1:
        raise _not_ours("a number of processes", found)
    return found


def settings(found: Any, attention: str | None) -> dict[str, Any]:
    """Return the machine settings that notes hold, as the event `tuned` has them; UserError for what they cannot be.

    `attention` is the configuration's: a kernel of somebody's on the Hub is taken from there alone.
    """
    told = fields(found)
    if told and attention is not None:
        told["attention"] = attention
    kernel = told.get("attention")
    if kernel != attention and (not isinstance(kernel, str | None) or "/" in (kernel or "")):
        raise _not_ours("a kernel of transformers", kernel)
    most = AT_ONCE * (os.cpu_count() or 1)
    for name, least, limit in (("micro_batch", 1, ROWS), ("accumulation", 1, ROWS), ("workers", 0, most)):
        if type(told.get(name, least)) is not int or not least <= told.get(name, least) <= limit:
            raise _not_ours(f"{name} from {least} to {limit:,}", told[name])
    if type(told.get("threads", 1)) is not int or told.get("threads", 1) < 1:
        raise _not_ours("a number of threads", told["threads"])
    if "threads" in told:  # of a machine with more cores
        told["threads"] = min(told["threads"], most)
    return told


def fields(noted: Any) -> dict[str, Any]:
    """Return what is noted of an event, without what every event has."""
    return {str(name): value for name, value in dict(noted or {}).items() if name not in ("type", "time")}


def _not_ours(wanted: str, found: Any) -> UserError:
    return UserError(
        f"{wanted} is needed in the notes", f"they say {str(found)[:60]!r}", "hftransfer did not write them so."
    )


def _decides(recipe: RunConfig) -> Iterator[tuple[str, str, str]]:
    """Yield what a recipe would decide: the setting, its value, and what that does."""
    if recipe.allow_pickle:
        yield "allow_pickle", "true", "reads pickled weights: they can run code"
    for name in recipe.evaluation.metrics:
        if name not in answers.metrics() and "/" in name:
            yield "evaluation.metrics", repr(name), "runs somebody's code of the Hub"
    if "/" in (recipe.speed.attention or ""):
        yield "speed.attention", repr(recipe.speed.attention), "runs somebody's kernel of the Hub"
    for key, value in _texts("", recipe.to_dict()):
        if key not in PLACES and not key.startswith(SECTIONS):
            continue  # what divides fields, or names a pattern
        path = PurePosixPath(value.replace("\\", "/"))
        if path.is_absolute() or PureWindowsPath(value).drive or value.startswith("~") or ".." in path.parts:
            yield key, repr(value[:80]), "is a place on the machine of whoever runs it"


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _texts(f"{key}.{name}" if key else str(name), part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(key, part)
    elif isinstance(value, str):
        yield key, value
