"""Which column plays which role: as the user says, else by type, whole-word name and values, with the reason."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Features, Image, Json, LargeList, List, Value

from hftransfer.errors import UserError, hint, unknown
from hftransfer.tasks.base import Role

PREVIEW_ROWS = 10_000  # rows from which values are judged, spread over the data set
IDENTIFIERS = frozenset({
    "id", "idx", "index", "uid", "uuid", "guid", "key", "row", "number", "group", "user", "author", "fold", "split",
    "file", "path", "url",
})  # fmt: skip
STRINGS, NUMBERS = ("string", "large_string"), ("int", "uint", "float")
NEEDS = {
    "text": "string",
    "image": "image",
    "label": "class names, whole numbers, or lists of them",
    "words": "list of strings",
    "tags": "list of class names",
}
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".avif",
})  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """The column that plays a role, and why."""

    role: str
    column: str
    reason: str


def words(name: str) -> tuple[str, ...]:
    """Split a name on `_`, `-`, `.`, blanks and camelCase, in lower case."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return tuple(word.lower() for word in re.split(r"[\W_]+", spaced) if word)


def choose(
    features: Features,
    preview: pa.Table,
    roles: Sequence[Role],
    columns: Mapping[str, str],
    *,
    task: str,
    group: str | None = None,
    whole: bool = True,
) -> tuple[Choice, ...]:
    """Return a choice for every required role, and for the optional ones that a column is named after.

    `preview` holds rows of the data set (all of them when `whole`); `columns` is what the user set. Raises UserError
    for a column that is not there or does not fit, and where the guess would not be certain.
    """
    table = _Table(features, preview, whole)
    chosen = {role: Choice(role, column, f"named in data.columns.{role}") for role, column in columns.items()}
    _check_named(table, roles, columns)
    for role in sorted(roles, key=lambda role: not role.required):  # an optional role takes what the others leave
        if role.name in chosen:
            continue
        taken = {choice.column for choice in chosen.values()} | ({group} if group else set())
        others = [other for other in roles if other.name not in chosen and other is not role]
        found = _guess(table, role, others, taken)
        if len(found) == 1:
            chosen[role.name] = Choice(role.name, found[0], table.reason(role, found[0]))
        elif role.required:
            raise _unclear(table, role, found, taken, task)
    return tuple(chosen[role.name] for role in roles if role.name in chosen)


def _check_named(table: _Table, roles: Sequence[Role], columns: Mapping[str, str]) -> None:
    known = {role.name: role for role in roles}
    for name, column in columns.items():
        if name not in known:
            raise unknown("role in data.columns", name, known)
        if column not in table.features:
            raise UserError(
                f"data.columns.{name} must name a column",
                f"there is no column {column!r}; the data set has {table.listing()}",
                hint(column, table.features),
            )
        if not table.can_be(known[name], column):
            raise UserError(
                f"data.columns.{name} must name a column of type {NEEDS[known[name].kind]}",
                f"`{column}` is {type_name(table.features[column])}",
                "Name another; the data set has " + table.listing() + ".",
            )
        if list(columns.values()).count(column) > 1:
            raise UserError("a column plays one role", f"`{column}` is named for several", "Mend data.columns.")


def _guess(table: _Table, role: Role, others: Sequence[Role], taken: set[str]) -> list[str]:
    candidates = [c for c in table.features if c not in taken and table.fits(role, c)]
    ranks = {column: _rank(role, column) for column in candidates}
    named = [column for column in candidates if ranks[column] is not None]
    if not role.required:
        named = [column for column in named if _is_exact(role, column)]
        return [min(named, key=lambda c: ranks[c] or (0, 0))] if named else []
    exact = [column for column in named if _is_exact(role, column)]
    if not exact:  # `label_text` holds a text's word, yet may hold labels: only its whole name would settle that
        candidates = [c for c in candidates if not any(_claims(other, c) for other in others)]
        candidates = [c for c in candidates if table.plausible(role, c)]
        named = [column for column in candidates if ranks[column] is not None]
    if named:
        best = min(ranks[column] or (0, 0) for column in named)
        return [column for column in named if ranks[column] == best]
    classes = [c for c in candidates if isinstance(_element(table.features[c]), ClassLabel)]
    return classes if role.kind in ("label", "tags") and len(classes) == 1 else candidates


def _claims(role: Role, column: str) -> bool:
    """Tell whether a column's name speaks for this role: by its head (last) word, or as a whole."""
    head = words(column)[-1:]
    return _is_exact(role, column) or any(_same(words(word), head) for word in role.words)


def _rank(role: Role, column: str) -> tuple[int, int] | None:
    """Return (0 for the whole name, 1 for words of it; place in the role's words), or None without a match."""
    name = words(column)
    for exact in (True, False):
        for place, word in enumerate(role.words):
            wanted = words(word)
            spans = [name] if exact else [name[i : i + len(wanted)] for i in range(len(name))]
            if any(_same(wanted, span) for span in spans):
                return (0 if exact else 1, place)
    return None


def _is_exact(role: Role, column: str) -> bool:
    rank = _rank(role, column)
    return rank is not None and rank[0] == 0


def _same(wanted: tuple[str, ...], found: tuple[str, ...]) -> bool:
    return len(wanted) == len(found) and all(f in (w, w + "s") for w, f in zip(wanted, found, strict=True))


def _unclear(table: _Table, role: Role, found: Sequence[str], taken: set[str], task: str) -> UserError:
    settings = found or [c for c in table.features if c not in taken and table.can_be(role, c)]
    choices = " or ".join(f"data.columns.{role.name}={column}" for column in settings[:4])
    return UserError(
        f"{task} needs a {role.name} column ({NEEDS[role.kind]})",
        f"the data set has {table.listing()}",
        f"Set {choices}." if choices else f"Add such a column ({role.about}), or name another source.",
    )


class _Table:
    """Columns with their types and a preview of their values."""

    def __init__(self, features: Features, preview: pa.Table, whole: bool) -> None:
        self.features, self.preview, self.whole = features, preview, whole

    def listing(self) -> str:
        return ", ".join(f"{name} ({type_name(feature)})" for name, feature in self.features.items())

    def can_be(self, role: Role, column: str) -> bool:
        """Tell whether the user may name this column for the role."""
        feature = self.features[column]
        if role.kind == "text":
            return isinstance(feature, Value) and not _is(feature, "binary", "date", "time", "duration")
        return self.fits(role, column)

    def fits(self, role: Role, column: str) -> bool:
        """Tell whether the column's type is one that the role has."""
        feature, element = self.features[column], _element(self.features[column])
        if role.kind == "text":
            return _is(feature, *STRINGS, "null")
        if role.kind == "image":
            return is_image(feature) or (_is(feature, *STRINGS) and self._holds_image_names(column))
        if role.kind == "label":
            return isinstance(element, ClassLabel | Json) or _is(element, *STRINGS, *NUMBERS, "bool", "null")
        if feature is element:  # what is left is a list for each row
            return False
        if role.kind == "words":
            return _is(element, *STRINGS)
        return isinstance(element, ClassLabel) or _is(element, *STRINGS, "int", "uint")

    def plausible(self, role: Role, column: str) -> bool:
        """Tell whether a guess is allowed: an identifier plays no role, few names are no text, free text no label."""
        if not _rank(role, column) and IDENTIFIERS & set(words(column)) and role.kind != "image":
            return False
        if isinstance(self.features[column], ClassLabel) or role.kind not in ("text", "label"):
            return True
        if isinstance(self.features[column], List | LargeList | Json):
            return True
        distinct, rows = self._distinct(column), self.preview.num_rows
        if role.kind == "text":
            return rows < 6 or 3 * distinct > rows
        return bool(_rank(role, column) or 2 * distinct <= rows)

    def reason(self, role: Role, column: str) -> str:
        """Say what makes this the column."""
        feature = self.features[column]
        if role.kind != "label":
            kind = type_name(feature)
            return f"{kind}, by its name" if _rank(role, column) else f"the only column of type {kind}"
        if not isinstance(feature, Value):
            return type_name(feature)
        kind = "strings" if _is(feature, *STRINGS) else "truth values" if _is(feature, "bool") else "numbers"
        return f"{self._distinct(column)} distinct {kind}" + (
            "" if self.whole else f" in {self.preview.num_rows} rows"
        )

    def _distinct(self, column: str) -> int:
        return int(pc.count_distinct(self.preview[column]).as_py())

    def _holds_image_names(self, column: str) -> bool:
        values = [v for v in self.preview[column].slice(0, 20).to_pylist() if v]
        return bool(values) and all("." + v.rpartition(".")[2].lower() in IMAGE_SUFFIXES for v in values)


def is_image(feature: Any) -> bool:
    """Tell whether a column holds images, or their encoded bytes."""
    if isinstance(feature, dict):
        return "bytes" in feature and set(feature) <= {"bytes", "path"}
    return isinstance(feature, Image) or _is(feature, "binary", "large_binary")


def _is(feature: Any, *dtypes: str) -> bool:
    return isinstance(feature, Value) and re.sub(r"[\d\[(].*", "", str(feature.dtype)) in dtypes


def _element(feature: Any) -> Any:
    return feature.feature if isinstance(feature, List | LargeList) else feature


def type_name(feature: Any) -> str:
    """Return a column's type in one or a few words."""
    if isinstance(feature, Value):
        return str(feature.dtype)
    if isinstance(feature, List | LargeList):
        return f"list of {type_name(feature.feature)}"
    if isinstance(feature, Json):
        return "values of several types"
    return "struct" if isinstance(feature, dict) else type(feature).__name__
