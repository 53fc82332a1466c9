"""From plain trees, files and `a.b=c` assignments to a RunConfig, with every problem told at once."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

import hftransfer.config as sections
from hftransfer.config import RunConfig
from hftransfer.errors import ConfigError, Problem, UserError, hint
from hftransfer.yaml_core import read_yaml

S = TypeVar("S", bound=BaseModel)


def build(tree: Mapping[str, Any], extra: Iterable[Problem] = ()) -> RunConfig:
    """Validate a plain tree, raising ConfigError with every problem found here and in `extra`."""
    problems = list(extra)
    config = None
    if "schema" in tree:
        problems += _schema_problems(tree["schema"])
        tree = as_now(tree) if not problems else tree
        tree = {name: value for name, value in tree.items() if name != "schema"}
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        problems = [*_problems(error), *problems]
    if config is None or problems:
        raise ConfigError(problems)
    return config


def build_section(section: type[S], tree: Mapping[str, Any]) -> S:
    """Validate plain values of a section that stands alone, raising ConfigError with every problem found."""
    try:
        return section.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_problems(error, section)) from error


def as_now(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the tree of a file that a run wrote, with `full` and fixed defaults named where schema 1 meant so.

    A tree without a schema is one that a run of before schemas wrote: what people write goes to `build` as it is.
    """
    if tree.get("schema", 1) >= 2:
        return tree
    method, train = tree.get("method") or {}, tree.get("train") or {}
    return {**tree, "method": {"name": "full", **method}, "train": {"auto": False, **train}}


def _schema_problems(found: Any) -> list[Problem]:
    if isinstance(found, int) and not isinstance(found, bool) and 0 < found <= sections.SCHEMA:
        return []
    wanted = f"a form that this version reads is needed (1 to {sections.SCHEMA}); this file has {_show(found)}."
    return [Problem("schema", f"{wanted} Upgrade: pip install -U hftransfer-learning")]


def read_tree(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML (or JSON) file and apply `a.b=c` overrides to it."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            "a configuration file is needed", f"{str(path)!r} is not a file", "Check the path; see configs/."
        )
    try:
        tree = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} must be YAML", " ".join(str(error).split()), "Mend the file.") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold names and values", f"it holds {_kind(tree)}", "Start it with 'task: ...'.")
    return override(tree, overrides)


def override(tree: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return the tree with `a.b=value` assignments applied, each value read as YAML."""
    result = json.loads(json.dumps(tree)) if _jsonable(tree) else dict(tree)
    problems = []
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", dotted):
            problems.append(Problem("", f"an override looks like data.source=rows.csv; found {assignment!r}."))
            continue
        *parents, last = dotted.split(".")
        node = result
        for parent in parents:
            if not isinstance(node.get(parent), dict):
                node[parent] = {}
            node = node[parent]
        node[last] = _value(text)
    if problems:
        raise ConfigError(problems)
    return result


def _value(text: str) -> Any:
    try:
        return read_yaml(text)
    except yaml.YAMLError:
        return text  # a Windows path or a text with ': ' is meant as it stands


def _jsonable(tree: Any) -> bool:
    try:
        json.dumps(tree)
    except (TypeError, ValueError):
        return False
    return True


def _kind(value: Any) -> str:
    return {list: "a list", str: "text", type(None): "nothing"}.get(type(value), f"a {type(value).__name__}")


def _problems(error: ValidationError, root: type[BaseModel] = RunConfig) -> list[Problem]:
    found: dict[str, Problem] = {}
    for item in error.errors():
        path = _dotted(item["loc"], root)
        # a union reports once per member; the path up to its last name says the same thing once
        found.setdefault(path, Problem(path, _message(item, path, root)))
    return list(found.values())


def _dotted(location: tuple[int | str, ...], root: type[BaseModel]) -> str:
    names: list[str] = []
    node: Any = root
    for part in location:
        fields = node.model_fields if isinstance(node, type) and issubclass(node, BaseModel) else None
        if fields is not None and part in fields:
            names.append(str(part))
            node = _section_of(fields[str(part)].annotation)
        elif fields is not None:
            if not re.search(r"[\[(]", str(part)):
                names.append(str(part))
            node = None
        elif isinstance(part, int):
            names.append(str(part))
    return ".".join(names)


def _section_of(annotation: Any) -> Any:
    if isinstance(annotation, type):
        return annotation
    found = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
    return found[0] if found else None


def _message(item: Any, path: str, root: type[BaseModel]) -> str:
    value, kind, context = item.get("input"), item["type"], item.get("ctx", {})
    if kind == "missing":
        return f"a value is needed; none was given. Set {path}=..."
    if kind == "extra_forbidden":
        return f"no such option. {hint(path.rpartition('.')[2], _siblings(path, root))}"
    if kind == "literal_error":
        return f"wanted {context['expected']}; found {_show(value)}."
    wanted = str(item["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    if wanted.startswith(("greater", "less")):
        wanted = f"a value {wanted}"
    return f"wanted {wanted}; found {_show(value)}."


def _siblings(path: str, root: type[BaseModel]) -> list[str]:
    node: Any = root
    for name in path.split(".")[:-1]:
        node = _section_of(node.model_fields[name].annotation)
    return list(node.model_fields)


def _show(value: Any) -> str:
    text = repr(value)
    if isinstance(value, float) and not math.isfinite(value):
        text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
