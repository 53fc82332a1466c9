"""The option names of TrainingArguments and of every peft method, read from their source without importing them.

Importing transformers' Trainer takes seconds; the command line and the app want to say "did you mean" at once. The
engine still hands every value to the real classes, which have the last word.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hftransfer.errors import UserError


@dataclass(frozen=True)
class Option:
    """One option of a neighbour's class: its annotation, default and first sentences as written there."""

    name: str
    annotation: str
    default: str | None
    about: str = ""


@cache
def training_options() -> dict[str, Option]:
    """Return the fields of transformers.TrainingArguments by name."""
    tree = _parse(_package("transformers") / "training_args.py")
    return _fields(next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "TrainingArguments"))


@cache
def peft_methods() -> dict[str, tuple[str, Path]]:
    """Return peft's registered methods by name, each with its config class and the folder that holds it."""
    found = {}
    for path in sorted((_package("peft") / "tuners").rglob("__init__.py")):
        if "register_peft_method(" not in path.read_text(encoding="utf-8"):
            continue
        for node in ast.walk(_parse(path)):
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
        node = _peft_class(waiting.pop(0), folder)
        if node is not None:
            found = _fields(node) | found  # the subclass has the last word
            waiting += [base.id for base in node.bases if isinstance(base, ast.Name)]
    return found


def _peft_class(name: str, folder: Path) -> ast.ClassDef | None:
    peft = _package("peft")
    for path in [*sorted(folder.rglob("*.py")), peft / "config.py", *sorted((peft / "tuners").rglob("*.py"))]:
        if f"class {name}" in path.read_text(encoding="utf-8"):
            for node in _parse(path).body:
                if isinstance(node, ast.ClassDef) and node.name == name:
                    return node
    return None  # a base from outside peft has no options of ours


def _fields(node: ast.ClassDef) -> dict[str, Option]:
    found, described = {}, _described(ast.get_docstring(node) or "")
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            name, annotation = item.target.id, ast.unparse(item.annotation)
            if not annotation.startswith("ClassVar"):
                about = described.get(name) or _help(item.value)
                found[name] = Option(name, annotation, _default(item.value), " ".join(about.split()))
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
    if isinstance(value, ast.Call):
        for keyword in value.keywords:
            if keyword.arg == "metadata":
                try:
                    return str(ast.literal_eval(keyword.value).get("help", ""))
                except ValueError:
                    return ""  # put together at run time
    return ""


def _default(value: ast.expr | None) -> str | None:
    if isinstance(value, ast.Call):  # dataclasses.field(default=..., ...)
        for keyword in value.keywords:
            if keyword.arg == "default":
                return ast.unparse(keyword.value)
        return None
    return None if value is None else ast.unparse(value)


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise UserError(f"the package {name} is needed", "it is not installed", f"Run: pip install {name}")
    return Path(spec.origin).parent
