"""What loading gives: the rows of every split, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass, field

from hftransfer.data.columns import Choice
from hftransfer.data.fingerprint import combined
from hftransfer.data.hygiene import Hygiene
from hftransfer.data.sources import Rows
from hftransfer.tasks.base import Labels


@dataclass(frozen=True)
class Data:
    """The rows of a run, by split, in canonical columns: `row_id` and the task's roles.

    A text is a string, an image an `Image()` that was decoded once to see that it can be, words a list of strings; a
    label is an index into `labels.names` (single_label), a sorted list of indexes (multi_label), a float (regression),
    or a list of indexes as long as the words (tags).
    """

    splits: dict[str, Rows]  # train, validation, test; train is an IterableDataset when streaming
    labels: Labels
    columns: tuple[Choice, ...]
    fingerprints: dict[str, str]
    warnings: tuple[str, ...]
    sizes: dict[str, int]
    # how many rows of a split have an input that stands in another too: {"test": {"train": 12}}; None: not looked for
    leakage: dict[str, dict[str, int]] | None = None
    hygiene: Hygiene = field(default_factory=Hygiene)

    @property
    def fingerprint(self) -> str:
        """One hash over the content of every split."""
        return combined(self.fingerprints)
