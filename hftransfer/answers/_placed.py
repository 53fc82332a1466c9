"""What a truth does that lies somewhere in its input: it changes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class Placed:
    """The part of an answer that kinds fill in whose truth lies in places of the input: boxes, masks."""

    in_places: ClassVar[bool] = False  # whether truth lies in places of the input, counted in its own pixels
    outlined: ClassVar[bool] = False  # whether truth can be made of outlines in such files
    apart: ClassVar[bool] = False  # whether things in such outlines stay single ones, each with its class
    annotated: ClassVar[bool] = False  # whether truth may stand in the files of tools that draw on pictures
    mosaics: ClassVar[bool] = False  # whether the truths of several inputs can be that of one made of them
    stored_at_once: ClassVar[int | None] = None  # rows whose columns are in memory while they are written; none: all
    backbone_rate: ClassVar[float] = 1.0  # learning rate of the backbone, as a share of the rest's
    suffixes: ClassVar[frozenset[str]] = frozenset()  # of files that hold a truth each: a table may name such files

    def changed(self, truth: Any, change: Any) -> Any:
        """Return a row's encoded truth, not None, beside its input changed at random: `change` is what was drawn.

        For a picture that is `inputs._geometry.Change`.
        """
        return truth

    def suits(self, truth: Any, change: Any) -> bool:
        """Tell whether a row can be learned from when its input is changed so; if not, it is drawn again."""
        return True

    def together(self, truths: Sequence[Any], mosaic: Any) -> Any:
        """Return the encoded truth of an input that is made of several: `mosaic` is what was drawn.

        For pictures that is `inputs._geometry.Mosaic`.
        """
        raise NotImplementedError

    def drawn(self, picture: Any, truth: Any, largest: int) -> str | None:
        """Return a row's encoded truth drawn into its picture (of PIL), a PNG as base64, None where it lies in none.

        No side is longer than `largest` pixels.
        """
        return None

    def in_words(self, stored: Any) -> Any:
        """Return a stored label or prediction as a person can read it."""
        return stored

    def files(self, answer: Mapping[str, Any]) -> dict[str, bytes]:
        """Return what an answer holds that a file shows better than text: the content by the end of its name."""
        return {}
