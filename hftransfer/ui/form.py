"""The form and the configuration are one thing: widgets <-> plain tree <-> YAML, with options read from their owners.

The few options that most people set have widgets of their own (`BASIC`). Every other option of RunConfig,
TrainingArguments and the chosen method is found by its name or by what it does, and stands as `a.b=value`, as on the
command line.
"""

from __future__ import annotations

import ast
import json
import pprint
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from hftransfer import catalog, yaml_core
from hftransfer.config import RunConfig, meanings, override
from hftransfer.errors import UserError
from hftransfer.launchers.local import LAUNCHER, shown
from hftransfer.runs import Run
from hftransfer.ui.saying import retold, say
from hftransfer.upstream.options import Option as UpstreamOption
from hftransfer.upstream.options import peft_options, training_options
from hftransfer.yaml_core import written

Tree = dict[str, Any]

BASIC: tuple[str, ...] = (
    "task", "data.source", "data.name", "data.revision", "data.columns", "data.max_rows", "data.test_size",
    "data.validation_size", "data.group", "model", "revision", "method.name", "auto.minutes",
    "train.num_train_epochs", "train.learning_rate", "train.per_device_train_batch_size", "seed",
)  # fmt: skip
NUMBERS = ("auto.minutes", "data.max_rows", "data.test_size", "data.validation_size", "train.num_train_epochs",
           "train.learning_rate", "train.per_device_train_batch_size", "seed")  # fmt: skip
ELSEWHERE = ("output", "hub.repo", "hub.private", "hub.push")  # set by the queue and by publishing
SECTIONS = tuple(
    name for name, field in RunConfig.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
)  # fmt: skip


@dataclass(frozen=True)
class Option:
    """One option that has no widget of its own: its dotted path, what it takes, its default, what it does."""

    path: str
    wants: str
    default: str
    about: str = ""
    choices: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What a search goes through: the path, the default and the first words of what it does."""
        words = re.split(r"(?<=[a-z)])\. ", self.about, maxsplit=1)[0]
        short = words if len(words) <= 90 else words[:89] + "…"
        return f"{self.path}{f' = {self.default}' if self.default else ''}{f'  ·  {short}' if short else ''}"


# --- widgets -> tree -> widgets ---


def tree_of(values: Mapping[str, Any], more: Sequence[str] = ()) -> Tree:
    """Return the plain tree of widgets (by path of BASIC) and of `a.b=value` lines; empty widgets leave no trace."""
    tree: Tree = {}
    for path in BASIC:
        value = _read(path, values.get(path))
        if value is not None:
            _put(tree, path, value)
    return override(tree, list(more))


def values_of(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return what `tree_of` turns into this tree: the widgets' values, and a line for each other option."""
    flat = dict(_leaves(tree))
    values = {path: flat.pop(path, None) for path in BASIC}
    return values, [f"{path}={written(value)}" for path, value in flat.items()]


def checked(tree: Any) -> Tree:
    """Return a tree that a browser kept, when it is one: a plain mapping whose sections are mappings."""
    if not isinstance(tree, dict) or any(s in tree and not isinstance(tree[s], dict) for s in SECTIONS):
        raise ValueError("no configuration")
    return tree


def _read(path: str, value: Any) -> Any:
    if value is None or value == "" or value == {}:
        return None
    if path == "data.columns":
        return {role: _columns(column) for role, column in value.items() if column} or None
    if path in NUMBERS:
        return number_of(value)
    return value.strip() if isinstance(value, str) else value


def several(columns: Sequence[str]) -> str:
    """Return several columns as the one value that a drop-down holds."""
    return json.dumps(list(columns))


def as_words(value: str) -> str:
    """Return what a drop-down shows for a column, or for several."""
    found = _columns(value)
    return value if isinstance(found, str) else say("{columns} (a label each)", columns=", ".join(found))


def _columns(value: str) -> str | list[str]:
    if not value.startswith('["'):
        return value
    try:
        found = json.loads(value)
    except ValueError:  # a column of such a name
        return value
    return [str(one) for one in found]


def number_of(value: Any) -> Any:
    """Return what was typed as the number it is; anything else stays as it is, for RunConfig to say what is wrong."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return value
    return int(found) if found.is_integer() and abs(found) < 2**53 else found


def _put(tree: Tree, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[last] = value


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if name in SECTIONS and isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", entry) for inner, entry in value.items())
        else:
            yield name, value


# --- the options without a widget ---


def options(method: str = catalog.USUAL) -> dict[str, Option]:
    """Return every option that a configuration with this method may set and that has no widget, by dotted path."""
    found: dict[str, Option] = {}
    for option in (*_own(), *_of_training(), *_of_method(method or catalog.USUAL)):
        if option.path not in (*BASIC, *ELSEWHERE):
            found.setdefault(option.path, option)
    return found


def with_option(more: Sequence[str], path: str, value: str) -> list[str]:
    """Return the lines with one more option; an earlier one of it gives way; UserError when unreadable."""
    text = (value or "").strip()
    if not text:
        raise UserError(f"{path} needs a value", "found none", "Type one, or pick one from the list.")
    override({}, [f"{path}={text}"])
    return [*(line for line in more if line.partition("=")[0] != path), f"{path}={text}"]


@cache
def _own() -> tuple[Option, ...]:
    closed = {"data.problem_type": catalog.problem_types()}  # by files, which no annotation spells out
    options = _fields_of(RunConfig, "")
    return tuple(replace(option, choices=closed.get(option.path, option.choices)) for option in options)


def _fields_of(model: type[BaseModel], prefix: str) -> Iterator[Option]:
    for name, field in model.model_fields.items():
        path, annotation = f"{prefix}{name}", field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _fields_of(annotation, f"{path}.")
        else:
            default = field.get_default(call_default_factory=True)
            plain = default.model_dump() if isinstance(default, BaseModel) else default
            text = "" if plain is None or field.is_required() else json.dumps(_listed(plain))
            yield Option(path, _kind(annotation), text, meanings.plain(path), _choices(annotation))


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _kind(annotation: Any) -> str:
    if annotation is bool:
        return "true or false"
    names = {int: "a whole number", float: "a number", str: "text"}
    return names.get(annotation, "")


def _choices(annotation: Any) -> tuple[str, ...]:
    if annotation is bool:
        return "true", "false"
    if get_origin(annotation) is Literal:
        return tuple(str(value) for value in get_args(annotation))
    return tuple(choice for part in get_args(annotation) for choice in _choices(part))


@cache
def _of_training() -> tuple[Option, ...]:
    decided = set(catalog.DECIDED) | {name for name in training_options() if name.startswith("hub_")}
    return tuple(
        _upstream(f"train.{option.name}", option)
        for option in training_options().values()
        if option.name not in decided
    )


@cache
def _of_method(name: str) -> tuple[Option, ...]:
    if name not in catalog.methods():
        return ()
    own = catalog.method(name).OPTIONS
    if own is not None:
        return tuple(_fields_of(own, "method."))
    alias: Mapping[str, Any] = catalog.aliases().get(name, {"peft_type": name})
    known = peft_options(str(alias["peft_type"]))
    decided = ("peft_type", "task_type", "inference_mode", *alias)
    return tuple(_upstream(f"method.{o.name}", o) for o in known.values() if o.name not in decided)


def _upstream(path: str, option: UpstreamOption) -> Option:
    default = option.default or ""
    shown_default = {"None": "", "True": "true", "False": "false"}.get(default, default.strip("'\""))
    choices = _literals(option.annotation)
    about = re.sub(r"<[^>]+>|\[`([^`]+)`\](\([^)]*\))?|`+", lambda m: m[1] or "", option.about)
    return Option(path, option.annotation, shown_default, about, choices)


def _literals(annotation: str) -> tuple[str, ...]:
    """Return the choices that an annotation spells out: those of bool and of Literal[...]."""
    found: list[str] = []
    for node in ast.walk(ast.parse(annotation, mode="eval")):
        if isinstance(node, ast.Name) and node.id == "bool":
            found += ["true", "false"]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Literal"):
            found += [str(part.value) for part in ast.walk(node.slice) if isinstance(part, ast.Constant)]
    return tuple(dict.fromkeys(choice for choice in found if choice != "None"))


# --- methods as cards, and as code ---

COMMON = ("auto", "probe", "lora", "full", "zero_shot")  # shown as cards, in this order, where the catalog has them
WORDS = {
    "auto": "A probe first, then training at a learning rate that is measured; kept is the better. For most people.",
    "full": "Train all weights. The best scores where there are thousands of rows; the most memory.",
    "lora": "Train small added parts, then merge them. Less memory, and close to full training.",
    "dora": "LoRA with direction and size apart: a little slower, often a little better at low ranks.",
    "ia3": "Train only scales of the layers: the fewest weights, for few rows.",
    "probe": "Train a classifier on the frozen model's features: seconds, and a good first look.",
    "zero_shot": "No training: what the model gives as it is.",
}


def method_names(task: str | None = None) -> list[str]:
    """Return the methods that can be chosen, those for most people first; for a task, those that give its answers."""
    names = [*(name for name in catalog.methods() if catalog.methods()[name] != catalog.PEFT)]
    names += [name for name in catalog.adapting_methods() if name not in names]
    if task in catalog.tasks():
        names = [name for name in names if catalog.fits(str(task), name)]
    first = [name for name in COMMON if name in names]
    return [*first, *sorted(name for name in names if name not in first)]


def about_method(name: str) -> str:
    """Return one sentence about a method."""
    return retold(WORDS.get(name) or catalog.method(name).about.capitalize() + ".")


def yaml_of(tree: Mapping[str, Any]) -> str:
    """Return the tree as a configuration file, in the order of RunConfig."""
    order = [*RunConfig.model_fields]
    known = {name: tree[name] for name in order if name in tree}
    return yaml_core.dump_yaml({**known, **{k: v for k, v in tree.items() if k not in known}}) if tree else ""


def command_of(tree: Mapping[str, Any], run: Run | None = None) -> str:
    """Return the launch command of a run, or of the run that would be made; as a person types it."""
    if run is not None and run.launch().get("command"):
        return shown(run.launch()["command"])
    return shown(LAUNCHER.command(run or Run(Path.cwd() / "runs" / "NAME")))


def cli_of() -> str:
    """Return the short command for the downloaded file."""
    return f"hftransfer train {shlex.quote('config.yaml')}"


def python_of(tree: Mapping[str, Any]) -> str:
    """Return the Python lines that do the same."""
    lines = pprint.pformat(dict(tree), sort_dicts=False, width=100)
    return (
        "import hftransfer\n\n"
        f"config = {lines}\n"
        "result = hftransfer.run(config)\n"
        'print(result["test"]["metrics"])\n\n'
        'predictor = hftransfer.Predictor("runs/NAME/artifact")\n'
    )
