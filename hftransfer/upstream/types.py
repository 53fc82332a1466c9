"""What an option takes, by its annotation: types of YAML, closed sets of words, what no configuration can hold."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hftransfer.errors import UserError

PLAIN = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text", "dict": "a mapping"}
CONTAINERS = {"list": "list", "tuple": "list", "set": "list", "dict": "dict", "Mapping": "dict", "Sequence": "list"}
HOPS = 4  # modules that pass a class on, before the one that defines it


@dataclass(frozen=True)
class Wanted:
    """What an option takes: names of types, and the words where a text is one of a closed set.

    `items` is what the members of a list are. `made` are classes that no configuration can write. `anything` is true
    where the annotation says so or says nothing that is known here.
    """

    types: frozenset[str] = frozenset()
    choices: tuple[object, ...] = ()
    items: Wanted | None = None
    made: tuple[str, ...] = ()
    anything: bool = False

    def __or__(self, other: Wanted) -> Wanted:
        items = self.items if other.items is None else other.items if self.items is None else self.items | other.items
        return Wanted(
            self.types | other.types,
            (*self.choices, *(choice for choice in other.choices if choice not in self.choices)),
            items,
            (*self.made, *other.made),
            self.anything or other.anything,
        )

    def __str__(self) -> str:
        """Return it in words, as in `wanted ...`."""
        hidden = {"int" if "float" in self.types else "", "str" if self.closed else ""}
        words = [meaning for name, meaning in PLAIN.items() if name in self.types - hidden]
        if "list" in self.types:
            words.append("a list" if self.items is None else f"a list of {self.items}")
        words += [_word(choice) for choice in self.choices if choice is not None]
        return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

    @property
    def closed(self) -> bool:
        """Tell whether a text must be one of the choices; `SomeEnum | str` means the words of the Enum."""
        return any(isinstance(choice, str) for choice in self.choices)


ANYTHING = Wanted(anything=True)


@cache
def wanted(annotation: str, module: Path) -> Wanted:
    """Return what an annotation of a class in `module` means for a value of a configuration."""
    return _of(ast.parse(annotation, mode="eval").body, module)


def _of(node: ast.expr, module: Path) -> Wanted:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _of(node.left, module) | _of(node.right, module)
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):  # an annotation in quotes
            return _of(ast.parse(node.value, mode="eval").body, module)
        return Wanted(frozenset({"null"})) if node.value is None else ANYTHING
    if isinstance(node, ast.Subscript):
        return _of_subscript(node, module)
    return _of_name(ast.unparse(node).rpartition(".")[2], module)


def _of_subscript(node: ast.Subscript, module: Path) -> Wanted:
    name = ast.unparse(node.value).rpartition(".")[2]
    parts = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        values = tuple(ast.literal_eval(part) for part in parts)
        null = frozenset({"null"}) if None in values else frozenset[str]()
        return Wanted(null, tuple(value for value in values if value is not None))
    if name in ("Optional", "Union", "Annotated"):
        found = Wanted(frozenset({"null"}) if name == "Optional" else frozenset())
        for part in parts if name == "Union" else parts[:1]:
            found |= _of(part, module)
        return found
    if name in CONTAINERS:
        kind = CONTAINERS[name]
        inner = _of(parts[0], module) if kind == "list" else None
        return Wanted(frozenset({kind}), items=inner)
    return ANYTHING


def _of_name(name: str, module: Path) -> Wanted:
    if name in PLAIN:
        return Wanted(frozenset({name, *(["int"] if name == "float" else [])}))
    if name in CONTAINERS:
        return Wanted(frozenset({CONTAINERS[name]}))
    if name == "Any":
        return ANYTHING
    words = members(name, module)
    if words:
        return Wanted(choices=words)
    return Wanted(made=(name,))


def _word(choice: object) -> str:
    return str(choice).lower() if isinstance(choice, bool) else str(choice)


# --- words of an Enum, wherever it is defined ---


@cache
def members(name: str, module: Path) -> tuple[str, ...]:
    """Return the values of an Enum that a module defines or imports; nothing for any other class."""
    for node in _definitions(name, module, HOPS):
        if any("Enum" in ast.unparse(base) for base in node.bases):
            return tuple(
                item.value.value
                for item in node.body
                if isinstance(item, ast.Assign)
                and isinstance(item.value, ast.Constant)
                and isinstance(item.value.value, str)
            )
    return ()


def _definitions(name: str, module: Path, hops: int) -> Iterator[ast.ClassDef]:
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield node
        elif isinstance(node, ast.ImportFrom) and hops and any((a.asname or a.name) == name for a in node.names):
            for path in _imported(node, module):
                yield from _definitions(name, path, hops - 1)


def _imported(node: ast.ImportFrom, module: Path) -> Iterator[Path]:
    parts = node.module.split(".") if node.module else []
    if node.level:
        base = module.parents[node.level - 1]
    elif parts and parts[0] in ("peft", "transformers"):
        base, parts = package(parts[0]), parts[1:]
    else:
        return
    target = base.joinpath(*parts)
    for path in (target.with_suffix(".py"), target / "__init__.py"):
        if (parts and path.is_file()) or (path.name == "__init__.py" and path.is_file()):
            yield path


@cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def package(name: str) -> Path:
    """Return the folder of an installed package; UserError where it is not installed."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise UserError(f"the package {name} is needed", "it is not installed", f"Run: pip install {name}")
    return Path(spec.origin).parent
