"""What kinds have in common whose truth is one name or number a row."""

from __future__ import annotations

from typing import Any, ClassVar


class OneValue:
    """The part of an answer that says which columns may hold its truth."""

    kind: ClassVar[str]
    needs = "class names, whole numbers, or lists of them"
    told_by_values = True

    def fits(self, feature: Any) -> bool:
        """Tell whether a column of this type may be guessed to hold the truth."""
        from hftransfer.answers import _truth

        return _truth.holds_names(feature) and not _truth.is_list(feature)

    def check_feature(self, feature: Any) -> None:
        """Raise UserError for a column of lists."""
        from hftransfer.answers import _truth

        _truth.refuse_lists(self.kind, feature)

    def plausible(self, distinct: int, rows: int, named: bool) -> bool:
        """Tell whether so many distinct values among so many rows may be guessed to be the truth."""
        return named or 2 * distinct <= rows
