"""What loading gives: the rows of every split, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hftransfer.answers.base import Answer
from hftransfer.data.columns import Choice
from hftransfer.data.fingerprint import combined
from hftransfer.data.hygiene import Hygiene
from hftransfer.data.tables import Rows


@dataclass(frozen=True)
class Data:
    """The rows of a run, by split, in canonical columns: `row_id` and the task's roles.

    Inputs have the features of their kind, each decoded once to see that it can be; the truth is encoded as its kind
    of answer says.
    """

    splits: dict[str, Rows]  # train, validation, test; train is an IterableDataset when streaming
    answer: Answer[Any]  # with what train taught
    columns: tuple[Choice, ...]
    fingerprints: dict[str, str]
    warnings: tuple[str, ...]
    guesses: tuple[str, ...]  # what was not said and had to be found out
    sizes: dict[str, int]
    # how many rows of a split have an input that stands in another too: {"test": {"train": 12}}; None: not looked for
    leakage: dict[str, dict[str, int]] | None = None
    hygiene: Hygiene = field(default_factory=Hygiene)
    groups: dict[str, list[str]] = field(default_factory=dict)  # of each row, by split, where `data.group` is set
    slices: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # values of each row, by split and column
    settled: dict[str, Any] = field(default_factory=dict)  # settings of `data` that the rows decided
    added: int = 0  # rows of train, its last ones, that are none of the source's: no test is made of them

    @property
    def fingerprint(self) -> str:
        """One hash over the content of every split."""
        return combined(self.fingerprints)
