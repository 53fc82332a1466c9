"""How the steps are built: laid out and connected in one place, and what a button does is a function of its module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from hftransfer.ui import saying

UI = Path(saying.__file__).parent
FEW = 12  # lines of a function within another one
HELP = 4  # lines of a function that connects the same things several times
CONNECTED = 55  # lines in which a step connects its widgets with what they do
LAID_OUT = 116  # lines in which a step is laid out and connected
ENDPOINTS = "api.py"  # whose functions carry the words that programs read, and close over what answers them


def nested(
    node: ast.AST, inside: tuple[ast.FunctionDef, ...] = ()
) -> Iterator[tuple[ast.FunctionDef, ast.FunctionDef]]:
    """Yield functions with those that they stand in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            if inside:
                yield child, inside[-1]  # type: ignore[misc]
            yield from nested(child, (*inside, child))  # type: ignore[arg-type]
        else:
            yield from nested(child, inside)


def lines(one: ast.FunctionDef) -> int:
    return (one.end_lineno or 0) - one.lineno + 1


@pytest.mark.parametrize("path", sorted(UI.glob("*.py")), ids=lambda path: path.stem)
def test_no_function_hides_in_another_one(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for one, outer in nested(tree):
        if path.name == ENDPOINTS and outer.name == "endpoints":
            continue
        wires = one.name == "wire" and outer.name == "build"
        assert lines(one) <= (CONNECTED if wires else FEW), f"{outer.name}.{one.name} has {lines(one)} lines"
        for handler, _ in nested(one, (one,)) if wires else ():
            assert lines(handler) <= HELP, f"{path.name}: {handler.name} stands within wire"
    for one in tree.body:
        if isinstance(one, ast.FunctionDef) and one.name == "build":
            assert lines(one) <= LAID_OUT, f"build has {lines(one)} lines"
