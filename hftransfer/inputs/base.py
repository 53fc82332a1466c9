"""What an input is: how a column becomes what a model is shown, what makes a value unusable, how copies are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from hftransfer.config import DataConfig
    from hftransfer.safety.shelf import Shelf

Alike = Callable[[np.ndarray], np.ndarray]  # pairs (m, 2) of rows -> which of them (m,) have the same answer
Suits = Callable[[Any], bool] | None  # what was drawn for a value -> whether its row can be learned from so


@dataclass(frozen=True)
class Looked:
    """What one look at a column found, each value decoded once.

    `prints` are bytes that are equal for equal inputs, `sketches` what near copies are found by: a list, or an array
    with a row for each value; None where this kind has none. `unusable` yields reasons with masks (n,).
    `seen` is what `Input.learn` is told of them, joined by its `and_`, of kinds that have something to learn.
    """

    prints: list[bytes]
    sketches: Any
    unusable: tuple[tuple[str, Any], ...] = field(default=())
    seen: Any = None


class Input(ABC):
    """One kind of input; the object of its file is the module's `INPUT`."""

    kind: ClassVar[str]  # the file's name
    needs: ClassVar[str]  # what a column of it holds, in messages
    words: ClassVar[tuple[str, str]]  # what rows that are alike have in common: of one role, of several
    widget: ClassVar[Literal["textbox", "picture", "recording", "chat"]]  # how a person gives one in the app
    example: ClassVar[str]  # one, as Python writes it
    asked: ClassVar[str]  # what a person is asked for: "a text"
    rewritten: ClassVar[bool] = False  # whether a person writes it otherwise than a column of it holds it
    lazy: ClassVar[bool] = False  # decoded when a row is asked for, not before
    turns: ClassVar[bool] = False  # whether near copies may be turned or mirrored
    nothing: ClassVar[Any] = ""  # what stands for a value where none is given and none is needed
    spoken: ClassVar[bool] = False  # whether it is in a language
    suffixes: ClassVar[frozenset[str]] = frozenset()  # of files that hold one each: a table may name such files
    buffer: ClassVar[int] = 10_000  # rows of a stream that are shuffled in memory
    preview: ClassVar[int] = 20_000  # rows that a preview checks
    heeds: ClassVar[frozenset[str]] = frozenset()  # settings that are for it: see `data.unheeded`

    # --- columns ---

    @abstractmethod
    def fits(self, feature: Any, values: Sequence[Any]) -> bool:
        """Tell whether a column of this type, that begins with these values, may be guessed to be one."""

    def can_be(self, feature: Any, values: Sequence[Any]) -> bool:
        """Tell whether the user may name such a column."""
        return self.fits(feature, values)

    def plausible(self, distinct: int, rows: int) -> bool:
        """Tell whether so many distinct values among so many rows may be guessed to be one."""
        return True

    identifies: ClassVar[bool] = False  # whether a column that is named like an identifier may be one

    @abstractmethod
    def feature(self) -> Any:
        """Return the `datasets` feature of the canonical column."""

    @abstractmethod
    def canonical(self, raw: pa.ChunkedArray, required: bool, folder: Path | None) -> pa.ChunkedArray:
        """Return a raw column in the one form that everything behind works on; `folder` holds what names mean."""

    @abstractmethod
    def look(self, column: pa.ChunkedArray, required: bool) -> Looked:
        """Decode every value of a canonical column once and return what was found."""

    def near(self, sketches: Any, owner: np.ndarray, alike: Alike) -> np.ndarray | None:
        """Return pairs (m, 2) of rows that are near copies, from their sketches; None: too many to look.

        `owner` (n,) numbers the split of each row.
        """
        return np.empty((0, 2), np.int64)

    owned_by: ClassVar[tuple[str, ...]] = ()  # columns that tell rows apart by their owner, where values name one
    owners_called: ClassVar[tuple[str, ...]] = ()  # and what such an owner is

    def owners(self, values: list[Any]) -> list[tuple[str | None, ...]] | None:
        """Return whose each value of a column, not decoded, is, an entry for each of `owned_by`; None if none says so.

        An owner is a hash: no name of a person leaves its file.
        """
        return None

    def learn(self, seen: Mapping[str, Any], config: DataConfig) -> tuple[dict[str, Any], list[str]]:
        """Return settings of `data` that the rows of each split (`seen`, from `look`) decide, and what is to be said.

        They hold for the whole data set, and go with the model: it is asked by them.
        """
        return {}, []

    # --- values ---

    def content(self, values: list[Any]) -> list[Any]:
        """Return the values of a canonical column as a fingerprint counts them."""
        return values

    def kept(self, values: list[Any], config: DataConfig) -> list[Any]:
        """Return the values of rows that are kept in a run's folder: without what a file says beside its input."""
        return values

    def embedded(self, values: list[Any]) -> list[Any]:
        """Return the values with what lies elsewhere than on this machine in them."""
        return values

    @abstractmethod
    def read(self, value: Any) -> Any:
        """Return a user's value as a row holds it, or raise UserError."""

    def offered(self, feature: Any) -> bool:
        """Tell whether a column of a table to predict on may hold such values."""
        return self.fits(feature, ())

    def cells(self, rows: Any, column: str, path: Path) -> list[Any]:
        """Return the values of a column of a table to predict on, names in it relative to `path`."""
        return list(rows[column])

    def opened(self, value: Any, config: DataConfig, rng: np.random.Generator | None = None) -> Any:
        """Return a row's value as the processor takes it, changed at random where there is something to draw with."""
        return value

    def undecoded(self, rows: Any, column: str) -> Any:
        """Return a data set whose column holds what `reduced` takes."""
        return rows

    def reduced(self, value: Any, side: int, shelf: Shelf | None) -> Any:
        """Return a row's value out of `undecoded` rows, decoded, of kinds that have sides.

        One far larger than `side` pixels is a copy whose shorter side has so many, from the shelf where it has it.
        """
        return value

    def changed(
        self, value: Any, config: DataConfig, rng: np.random.Generator | None, suits: Suits = None
    ) -> tuple[Any, Any]:
        """Return a row's value as `opened` does, and what was drawn: `Answer.changed` does the same to the truth.

        A draw that does not suit is made again. None is drawn where nothing moves in the value that a truth may be of.
        """
        return self.opened(value, config, rng), None

    def together(
        self, values: Sequence[Any], config: DataConfig, rng: np.random.Generator, suits: Sequence[Suits]
    ) -> tuple[Any, Any]:
        """Return several rows' values as one, changed at random, and what was drawn: see `Answer.together`."""
        raise NotImplementedError

    def seconds(self, value: Any) -> float | None:
        """Return how long a value, not opened, lasts; None of kinds that do not last."""
        return None

    def parts(self, seconds: float, window: float) -> int:
        """Return in how many parts a value of so many seconds is asked that may last `window` at once."""
        return 1

    def part(self, opened: Any, number: int, count: int, window: float) -> Any:
        """Return one of `count` parts, none longer than `window` seconds, of an opened value that lasts."""
        return opened

    def tiles(self, value: Any, side: int) -> int:
        """Return into how many tiles, `side` pixels each way, a value is cut that has places."""
        return 1

    def tiled(self, value: Any, number: int, side: int) -> tuple[Any, Any]:
        """Return one tile of a value, and what does the same to a truth: see `changed`."""
        return value, None

    def stored(self, value: Any) -> Any:
        """Return a value of a stored example as a user would give it."""
        return value

    def shown(self, value: Any) -> str:
        """Return a value, not decoded, as a person knows it."""
        return str(value)

    def file(self, value: Any) -> str | None:
        """Return the name of the file that a value, not decoded, came from."""
        return None


def alike(text: str) -> bytes:
    """Return what is equal for texts that differ in case, blanks or compatible characters alone (Unicode NFKC)."""
    import unicodedata

    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).encode()
