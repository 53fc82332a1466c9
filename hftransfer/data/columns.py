"""Which column plays which role: as the user says, else by type, whole-word name and values, with the reason."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Features, Json, Value

from hftransfer.answers.base import Answer
from hftransfer.column_types import NUMBERS, STRINGS, element, is_list, is_value, type_name
from hftransfer.config import DataConfig
from hftransfer.data import one_hot
from hftransfer.errors import UnclearColumn, UserError, hint, unknown
from hftransfer.tasks.base import Role, Task
from hftransfer.yaml_core import assigned, written

PREVIEW_ROWS = 10_000  # rows from which values are judged, spread over the data set
NUMBER = re.compile(r"[-+]?[0-9]*[.,]?[0-9]+([eE][-+]?[0-9]+)?")
CLOCK = r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?( ?[AaPp][Mm])?"
DAY = r"([0-9]{4}[-./][0-9]{1,2}[-./][0-9]{1,2}|[0-9]{1,2}[-./][0-9]{1,2}[-./]([0-9]{4}|[0-9]{2}))"
TIME = re.compile(rf"({DAY}([T ,]+{CLOCK})?|{CLOCK})( ?(Z|UTC|[-+][0-9]{{2}}:?[0-9]{{2}}))?")
IDENTIFIERS = frozenset({
    "id", "idx", "index", "uid", "uuid", "guid", "key", "row", "number", "group", "user", "author", "fold", "split",
    "file", "path", "url",
})  # fmt: skip


FOLDS = frozenset({"fold", "folds", "kfold", "kfolds"})
MOST_FOLDS = 50
# whose rows are no independent witnesses: what such columns are often called
GROUPS = frozenset({
    "patient", "subject", "subj", "speaker", "spk", "document", "doc", "user", "author", "participant", "session",
    "customer", "animal", "video", "recording", "case", "household", "group", "person", "individual", "client",
    "member", "reviewer", "writer", "singer", "dialog", "dialogue", "thread", "specimen", "slide",
    "donor", "mouse", "scene", "pid", "uid",
})  # fmt: skip


FEW_GROUPS = 4  # with fewer, splits cannot be cut of whole ones


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
    answers: Sequence[Answer[Any]],
    group: str | None = None,
    whole: bool = True,
) -> tuple[Choice, ...]:
    """Return a choice for every required role, and for the optional ones that a column is named after.

    `preview` holds rows of the data set (all of them when `whole`); `columns` is what the user set. Raises UserError
    for a column that is not there or does not fit, and where the guess would not be certain.
    """
    table = _Table(features, preview, whole, answers)
    chosen = {role: Choice(role, column, f"named in data.columns.{role}") for role, column in columns.items()}
    _check_named(table, roles, columns)
    for role in sorted(roles, key=lambda role: not role.required):  # an optional role takes what the others leave
        if role.name in chosen:
            continue
        taken = {choice.column for choice in chosen.values()} | ({group} if group and not role.shared else set())
        others = [other for other in roles if other.name not in chosen and other is not role]
        found = _guess(table, role, others, taken)
        if len(found) == 1:
            chosen[role.name] = Choice(role.name, found[0], table.reason(role, found[0]))
        elif role.required:
            raise _unclear(table, role, others, found, taken, task)
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
                f"data.columns.{name} must name a column of type {table.needs(known[name])}",
                f"`{column}` is {type_name(table.features[column])}",
                "Name another; the data set has " + table.listing() + ".",
            )
        if list(columns.values()).count(column) > 1:
            raise UserError("a column plays one role", f"`{column}` is named for several", "Mend data.columns.")


def _guess(table: _Table, role: Role, others: Sequence[Role], taken: set[str]) -> list[str]:
    candidates = [c for c in table.features if c not in taken and table.fits(role, c)]
    ranks = {column: rank(role, column) for column in candidates}
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
    classes = [c for c in candidates if isinstance(element(table.features[c]), ClassLabel)]
    return classes if role.answer and len(classes) == 1 else candidates


def _claims(role: Role, column: str) -> bool:
    """Tell whether a column's name speaks for this role: by its head (last) word, or as a whole."""
    head = words(column)[-1:]
    return _is_exact(role, column) or any(_same(words(word), head) for word in role.words)


def rank(role: Role, column: str) -> tuple[int, int] | None:
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
    found = rank(role, column)
    return found is not None and found[0] == 0


def _same(wanted: tuple[str, ...], found: tuple[str, ...]) -> bool:
    return len(wanted) == len(found) and all(f in (w, w + "s") for w, f in zip(wanted, found, strict=True))


def _unclear(
    table: _Table, role: Role, others: Sequence[Role], found: Sequence[str], taken: set[str], task: str
) -> UnclearColumn:
    parts = table.parts(taken) if role.answer else []
    offered = _offered(table, role, others, found, taken, parts)
    if len(parts) > 1 and not any(_claims(role, column) for column in offered):
        joined = f"data.columns.{role.name}=[{', '.join(map(written, parts))}]"
        action = f"Set {joined} if they say of a label each whether a row has it"
        action += f", or {_setting(role, offered[0])}." if offered else "."
    elif offered:
        action = f"Set {' or '.join(_setting(role, column) for column in offered[:4])}."
    else:
        named = f"Name it in data.columns.{role.name}, or add" if set(table.features) - taken else "Add"
        action = f"{named} one: {role.about}."
    wanted, has = f"{task} needs {_a(role.name)} column ({table.needs(role)})", f"the data set has {table.listing()}"
    return UnclearColumn(wanted, has, action, role.name, offered)


def _offered(
    table: _Table, role: Role, others: Sequence[Role], found: Sequence[str], taken: set[str], parts: Sequence[str]
) -> list[str]:
    """Return the columns that may be proposed for a role: none that likely plays another one, or none at all."""
    settings = found or [c for c in table.features if c not in taken and table.can_be(role, c)]
    claimed = {c for other in others for c in _guess(table, other, [role], taken) if other.required}
    likely = [c for c in settings if not any(_claims(other, c) for other in others) and c not in parts]
    likely = [c for c in likely if table.plausible(role, c) and not (role.takes and table.is_part(c))]
    likely = [c for c in likely if (role.answer or table.fits(role, c) or c == role.name) and not table.empty(c)]
    return [c for c in likely if c not in claimed]


def _setting(role: Role, column: str) -> str:
    return f"data.columns.{role.name}={assigned(column)}"


def alternatives(
    features: Features, preview: pa.Table, whole: bool, task: Task, choices: Sequence[Choice], config: DataConfig
) -> list[str]:
    """Return the columns that may hold the truth as well: none that plays another role, or can hold no labels."""
    table = _Table(features, preview, whole, task.answers)
    taken = {choice.column for choice in choices} | ({config.group} if config.group else set())
    fitting = [c for c in features if c not in taken and table.fits(task.truth, c) and not table.empty(c)]
    return [c for c in fitting if table.plausible(task.truth, c)]


class _Table:
    """Columns with their types and a preview of their values."""

    def __init__(self, features: Features, preview: pa.Table, whole: bool, answers: Sequence[Answer[Any]]) -> None:
        self.features, self.preview, self.whole, self.answers = features, preview, whole, answers

    def listing(self) -> str:
        return ", ".join(f"{name} ({type_name(feature)})" for name, feature in self.features.items())

    def needs(self, role: Role) -> str:
        """Say what a column for the role holds."""
        if role.takes is not None:
            return role.takes.needs
        return " or ".join(dict.fromkeys(answer.needs for answer in self.answers))

    def parts(self, taken: set[str]) -> list[str]:
        """Return the columns that say of one label each whether a row has it, where a row may have several."""
        if not any(answer.several for answer in self.answers):
            return []
        offered = [name for name in self.preview.column_names if name not in taken]
        return [name for name in offered if self.is_part(name)]

    def empty(self, column: str) -> bool:
        """Tell whether nothing is known to be in a column."""
        return column in self.preview.column_names and self.preview[column].null_count == self.preview.num_rows

    def is_part(self, column: str) -> bool:
        """Tell whether a column says of one label whether a row has it."""
        return column in self.preview.column_names and one_hot.says_of_one(self.features[column], self.preview[column])

    def can_be(self, role: Role, column: str) -> bool:
        """Tell whether the user may name this column for the role."""
        if role.takes is None:
            return self.fits(role, column)
        return role.takes.can_be(self.features[column], self._values(column))

    def fits(self, role: Role, column: str) -> bool:
        """Tell whether the column's type is one that the role has."""
        feature = self.features[column]
        if role.takes is not None:
            return role.takes.fits(feature, self._values(column))
        return any(answer.fits(feature) for answer in self.answers)

    def plausible(self, role: Role, column: str) -> bool:
        """Tell whether a guess is allowed: identifiers and times play no role, few names no text, texts no label."""
        feature, named = self.features[column], bool(rank(role, column))
        if not named and self.of_times(column):
            return False
        if role.takes is not None and not named and self.of_numbers(column):
            return False
        identifies = role.takes is not None and role.takes.identifies
        if not named and IDENTIFIERS & set(words(column)) and not identifies:
            return False
        if isinstance(feature, ClassLabel | Json) or is_list(feature) or column not in self.preview.column_names:
            return True
        distinct, rows = self._distinct(column), self.preview.num_rows
        if role.takes is not None:
            return role.takes.plausible(distinct, rows)
        return any(answer.plausible(distinct, rows, named) for answer in self.answers if answer.fits(feature))

    def of_numbers(self, column: str) -> bool:
        """Tell whether a column of strings, as files of text have, holds numbers alone."""
        if not is_value(self.features[column], *STRINGS) or column not in self.preview.column_names:
            return False
        return numbers_alone(self.preview[column])

    def of_times(self, column: str) -> bool:
        """Tell whether a column of strings holds dates or times of day alone."""
        if not is_value(self.features[column], *STRINGS) or column not in self.preview.column_names:
            return False
        found = [value for value in pc.unique(self.preview[column]).to_pylist() if value and value.strip()]
        return bool(found) and all(TIME.fullmatch(value.strip()) for value in found)

    def reason(self, role: Role, column: str) -> str:
        """Say what makes this the column."""
        feature = self.features[column]
        if not role.answer or not any(answer.told_by_values for answer in self.answers):
            kind = type_name(feature)
            if rank(role, column):
                return f"{kind}, by its name"
            alone = sum(type_name(one) == kind for one in self.features.values()) == 1
            return f"the only column of type {kind}" if alone else f"the only column of type {kind} that fits"
        if not isinstance(feature, Value):
            return type_name(feature)
        strings = is_value(feature, *STRINGS) and not self.of_numbers(column)
        kind = "strings" if strings else "truth values" if is_value(feature, "bool") else "numbers"
        return f"{self._distinct(column)} distinct {kind}" + (
            "" if self.whole else f" in {self.preview.num_rows} rows"
        )

    def _distinct(self, column: str) -> int:
        return distinct(self.preview[column])

    def _values(self, column: str) -> list[Any]:
        if column not in self.preview.column_names:
            return []
        return [value for value in self.preview[column].slice(0, 20).to_pylist() if value]


def distinct(values: pa.ChunkedArray) -> int:
    """Return how many different values a column of any type has, gaps apart."""
    try:
        return len(pc.unique(values.drop_null()))
    except pa.ArrowNotImplementedError:  # of lists and the like
        return len({str(value) for value in values.to_pylist() if value is not None})


def shared_values(preview: pa.Table, roles: Sequence[Role], columns: Mapping[str, str]) -> list[str]:
    """Return a warning of columns of which several rows share a value, such as a text with many questions."""
    found = []
    for column in (columns[role.name] for role in roles if role.shared and role.name in columns):
        rows = preview.num_rows
        count = distinct(preview[column]) if column in preview.column_names else rows
        if rows and 3 * count <= 2 * rows:
            found.append(
                f"`{column}` has {count:,} values in {rows:,} rows: those of one stand on both sides of a cut, and "
                f"are no independent witnesses; data.group={column} keeps them together"
            )
    return found


MOSTLY = 0.8  # of a column's different values that are numbers: the others are mistakes


def numbers_mostly(values: Any) -> bool:
    """Tell whether strings are numbers, but for empty ones and a few."""
    found = [value for value in pc.unique(values).to_pylist() if value and value.strip()]
    return bool(found) and sum(NUMBER.fullmatch(value.strip()) is not None for value in found) >= MOSTLY * len(found)


def numbers_alone(values: Any) -> bool:
    """Tell whether strings are numbers, but for empty ones."""
    found = pc.unique(values).to_pylist()
    return any(found) and all(NUMBER.fullmatch(value.strip()) for value in found if value)


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def unused_folds(features: Features, preview: pa.Table, taken: Collection[str | None]) -> list[str]:
    """Return a warning of columns that number folds, by which nothing is divided here."""
    found = []
    for column in preview.column_names:
        if column in taken or not set(words(column)) & FOLDS:
            continue
        values = preview[column]
        texts = is_value(features[column], *STRINGS)
        numbers = is_value(features[column], *NUMBERS) or (texts and numbers_alone(values))
        count = distinct(values)
        if numbers and 1 < count <= MOST_FOLDS:
            found.append(
                f"`{column}` numbers {count} folds and is not used: splits are the source's own, or cut with the "
                "seed, and folds are drawn (evaluation.folds)"
            )
    return found


def says_whose(column: str) -> bool:
    """Tell whether a column is called as those are that say whose a row is: patient_id, userId, docid, speakers."""
    return bool({word.removesuffix(end) for word in words(column) for end in ("", "s", "id", "ids")} & GROUPS)


def likely_groups(features: Features, preview: pa.Table, taken: Sequence[str], whole: bool) -> list[str]:
    """Return a warning of columns that say whose a row is, where several rows are of one.

    Of a preview that is not the `whole`, few rows tell: of whom there are ten rows in a million, hardly two are in it.
    """
    found = []
    for column in preview.column_names:
        if column in taken or not says_whose(column) or not isinstance(features[column], ClassLabel | Value):
            continue
        count = distinct(preview[column])
        rows = preview.num_rows - preview[column].null_count
        if count >= FEW_GROUPS and count <= (0.9 if whole else 0.999) * rows:
            held = "" if whole else " that were looked at"
            found.append(
                f"`{column}` has {count:,} values in {rows:,} rows{held}: rows of one may stand on both sides of a "
                f"cut, and are no independent witnesses; data.group={column} keeps them together"
            )
    return found
