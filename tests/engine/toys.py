"""Tasks that say which columns they need and what they answer with, and nothing more: what tests of data load with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hftransfer import answers
from hftransfer.tasks.base import Preparation, Role, Task


class Toy(Task):
    """A task of some roles, the truth among them."""

    def __init__(self, name: str, *roles: Role, kinds: tuple[str, ...]) -> None:
        self.name, self.roles = name, roles  # type: ignore[misc]
        self.answers = tuple(answers.of(kind) for kind in kinds)  # type: ignore[misc]

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        raise NotImplementedError("rows of a toy are loaded, and never shown to a model")


def of_text(name: str, *roles: Role) -> Toy:
    """Return a toy with the answers of text classification."""
    return Toy(name, *roles, kinds=("single_label", "multi_label", "regression"))
