"""The option names of TrainingArguments and of every peft method, read from their source without importing them.

Importing transformers' Trainer takes seconds; the command line and the app want to say "did you mean" at once. The
engine still hands every value to the real classes, which have the last word.
"""

from __future__ import annotations

import ast
import contextlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hftransfer.upstream.types import ANYTHING, Wanted, package, parse, wanted


@dataclass(frozen=True)
class Option:
    """One option of a neighbour's class: its annotation, default and first sentences as written there."""

    name: str
    annotation: str
    default: str | None
    about: str = ""
    takes: Wanted = ANYTHING


@cache
def training_options() -> dict[str, Option]:
    """Return the fields of transformers.TrainingArguments by name."""
    path = package("transformers") / "training_args.py"
    found = (n for n in parse(path).body if isinstance(n, ast.ClassDef) and n.name == "TrainingArguments")
    return _fields(next(found), path)


@cache
def peft_methods() -> dict[str, tuple[str, Path]]:
    """Return peft's registered methods by name, each with its config class and the folder that holds it."""
    found = {}
    for path in sorted((package("peft") / "tuners").rglob("__init__.py")):
        if "register_peft_method(" not in path.read_text(encoding="utf-8"):
            continue
        for node in ast.walk(parse(path)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "register_peft_method"
            ):
                words = {k.arg: k.value for k in node.keywords}
                name, config = words["name"], words["config_cls"]
                if isinstance(name, ast.Constant) and isinstance(config, ast.Name):
                    found[str(name.value)] = (config.id, path.parent)
    return found


@cache
def peft_options(method: str) -> dict[str, Option]:
    """Return the fields of one peft method's config class, its bases' included."""
    name, folder = peft_methods()[method]
    found: dict[str, Option] = {}
    waiting = [name]
    while waiting:
        place = _peft_class(waiting.pop(0), folder)
        if place is not None:
            node, path = place
            found = _fields(node, path) | found  # the subclass has the last word
            waiting += [base.id for base in node.bases if isinstance(base, ast.Name)]
    return found


def _peft_class(name: str, folder: Path) -> tuple[ast.ClassDef, Path] | None:
    peft = package("peft")
    for path in [*sorted(folder.rglob("*.py")), peft / "config.py", *sorted((peft / "tuners").rglob("*.py"))]:
        if f"class {name}" in path.read_text(encoding="utf-8"):
            for node in parse(path).body:
                if isinstance(node, ast.ClassDef) and node.name == name:
                    return node, path
    return None  # a base from outside peft has no options of ours


def _fields(node: ast.ClassDef, path: Path) -> dict[str, Option]:
    found, described, mappings = {}, _described(ast.get_docstring(node) or ""), _made_of_mappings(node)
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            name, annotation = item.target.id, ast.unparse(item.annotation)
            if not annotation.startswith("ClassVar"):
                about = described.get(name) or _help(item.value)
                takes = wanted(annotation, path) | Wanted(choices=_choices(item.value))
                if name in mappings:
                    takes |= Wanted(frozenset({"dict"}))
                found[name] = Option(name, annotation, _default(item.value), " ".join(about.split()), takes)
    return found


def _made_of_mappings(node: ast.ClassDef) -> set[str]:
    """Return the fields that a class asks `isinstance(self.NAME, dict)` of: it takes mappings, which goes unsaid."""
    found = set()
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "isinstance":
            one, kind = call.args
            if isinstance(one, ast.Attribute) and isinstance(kind, ast.Name) and kind.id == "dict":
                found.add(one.attr)
    return found


_ENTRY = re.compile(r"^ *(\w+) ?\((?=[`\[]).*\): *(.*)$")  # "learning_rate (`float`, *optional*, defaults to 5e-5):"


def _described(docstring: str) -> dict[str, str]:
    """Return what a class's docstring says about its options, by name."""
    found: dict[str, str] = {}
    name = None
    for line in docstring.splitlines():
        entry = _ENTRY.match(line)
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif name is not None and line.strip() and not line.lstrip().startswith(">"):
            found[name] += f" {line.strip()}"
        elif name is not None and line.lstrip().startswith(">"):
            name = None  # a heading between two groups of options
    return found


def _help(value: ast.expr | None) -> str:
    """Return the help in `dataclasses.field(metadata={"help": ...})`."""
    return str(_metadata(value).get("help", ""))


def _choices(value: ast.expr | None) -> tuple[str, ...]:
    """Return the choices in `dataclasses.field(metadata={"choices": [...]})`."""
    found = _metadata(value).get("choices")
    return tuple(found) if isinstance(found, list | tuple) else ()


def _metadata(value: ast.expr | None) -> dict[str, Any]:
    """Return those entries of a field's metadata that are written out; what is put together at run time is not."""
    found: dict[str, Any] = {}
    for keyword in value.keywords if isinstance(value, ast.Call) else ():
        if keyword.arg == "metadata" and isinstance(keyword.value, ast.Dict):
            for key, entry in zip(keyword.value.keys, keyword.value.values, strict=True):
                with contextlib.suppress(ValueError):
                    found[ast.literal_eval(key) if key else ""] = ast.literal_eval(entry)
    return found


def _default(value: ast.expr | None) -> str | None:
    if isinstance(value, ast.Call):  # dataclasses.field(default=..., ...)
        for keyword in value.keywords:
            if keyword.arg == "default":
                return ast.unparse(keyword.value)
        return None
    return None if value is None else ast.unparse(value)
