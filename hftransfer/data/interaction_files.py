"""Files of interactions and items as people have them: MovieLens, RecBole's atomic files, tables, found by looking."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from hftransfer.config import DataConfig
from hftransfer.data.columns import words
from hftransfer.data.formats.base import Settings
from hftransfer.data.suffixes import BUILDERS, OF_PEOPLE
from hftransfer.data.tables import read_tables
from hftransfer.data.tree import walk
from hftransfer.errors import UserError, hint, unknown

# what columns are often called, in this order
USERS = ("user_id", "userid", "user", "uid", "customer_id", "customer", "visitor_id", "visitor", "member_id", "member",
         "reviewer_id", "author_id", "session_id", "session", "person")  # fmt: skip
ITEMS = ("item_id", "itemid", "item", "iid", "movie_id", "product_id", "product", "parent_asin", "asin", "book_id",
         "book", "track_id", "track", "artist_id", "song_id", "article_id", "article", "business_id", "recipe_id",
         "movie")  # fmt: skip
TIMES = ("timestamp", "time", "datetime", "date", "unix_review_time", "created_at", "event_time", "ts")
RATINGS = ("rating", "ratings", "score", "stars", "overall")
TITLES = ("title", "movie_title", "name", "item_name", "product_name", "product_title")
TEXTS = ("text", "description", "overview", "summary", "plot", "abstract", "genres", "genre", "categories", "category",
         "tags", "class")  # fmt: skip
PICTURES = ("image", "image_path", "image_file", "img", "picture", "photo", "poster", "cover", "thumbnail")
ROLES = ("user", "item", "time", "rating", "title", "text", "image")  # of columns, as data.columns names them
OF_ITEMS = ROLES[4:]
PEOPLE = ("user", "customer", "member", "person", "people", "visitor", "reviewer", "author", "profile", "account")
MOVIELENS = {  # the fields of MovieLens' files that have no header
    "ratings.dat": ("user_id", "item_id", "rating", "timestamp"), "movies.dat": ("item_id", "title", "genres"),
    "u.data": ("user_id", "item_id", "rating", "timestamp"), "u.item": ("item_id", "title"),
}  # fmt: skip


@dataclass(frozen=True)
class Items:
    """Items as they were found, each once.

    `pictures` are encoded ones, or the names of files as they lie below `folder`; None where there are none.
    """

    ids: list[str]
    titles: list[str]
    texts: list[str]
    said: list[str]
    pictures: pa.ChunkedArray | None = None
    folder: Path | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Raw:
    """Interactions (users, items, times: nan for none), as they were found, and the items.

    `dated`: the times were dates, so that they are of one unit, seconds or microseconds, whatever their size.
    """

    users: list[str]
    items: list[str]
    times: np.ndarray | None
    dated: bool
    columns: list[str]
    guesses: list[str]
    warnings: list[str]
    of: Items


def read(place: Path, config: DataConfig, beside: Sequence[str] = ()) -> Raw:
    """Read the interactions and the items of a file or a folder; UserError where one of them is not found.

    `beside`: how the names of tables of items begin that are read beside a file.
    """
    tables = {path: _table(path, config) for path in _candidates(place, beside)}
    _require_named(config, tables)
    named = config.column_names
    interactions = [
        (path, table)
        for path, table in tables.items()
        if _find(table, USERS, named.get("user"), False) and _find(table, ITEMS, named.get("item"), False)
    ]
    if not interactions:
        seen = "; ".join(f"{path.name}: {', '.join(table.column_names)}" for path, table in tables.items())
        raise UserError(
            "a table with a column for the person and one for the item is needed", f"found {seen or 'no table'}",
            "Name them: data.columns={user: ..., item: ..., time: ...}.",
        )  # fmt: skip
    path, table = max(interactions, key=lambda one: one[1].num_rows)
    parts = {one: rows for one, rows in interactions if {*rows.column_names} == {*table.column_names}}
    user, item = (str(_find(table, names, named.get(role))) for names, role in ((USERS, "user"), (ITEMS, "item")))
    time = _find(table, TIMES, named.get("time"))
    rating = _find(table, RATINGS, named.get("rating"))
    read_of = (
        path.name if len(parts) == 1 else f"{', '.join(one.name for one in parts)} (one table in {len(parts)} files)"
    )
    guesses = [f"{read_of}: `{user}` had `{item}`" + (f" at `{time}`" if time else "")]
    if rating is not None:
        guesses.append(f"`{rating}` is not looked at: every row counts as an interaction, whatever it says")
    aside = [f"{one.name} ({rows.num_rows:,} rows)" for one, rows in interactions if one not in parts]
    warnings = [f"not read as interactions, because their columns are others: {', '.join(aside)}"] if aside else []
    users, items = ([value for rows in parts.values() for value in _strings(rows[name])] for name in (user, item))
    moments = [] if time is None else [_moments(rows[time], time) for rows in parts.values()]
    found = _items_of(tables, parts, item, {*items}, named)
    return Raw(
        users, items, np.concatenate([when for when, _ in moments]) if moments else None,
        all(dated for _, dated in moments), table.column_names, [*guesses, *found.said],
        [*warnings, *found.warnings], found,
    )  # fmt: skip


def _require_named(config: DataConfig, tables: Mapping[Path, pa.Table]) -> None:
    """Raise UserError for names in data.columns that are no role's, or no column of any table."""
    there = [*dict.fromkeys(name for table in tables.values() for name in table.column_names)]
    known = [name for named in config.column_names.values() for name in _several(named, there)]
    for role, named in config.columns.items():
        if role not in ROLES:
            raise unknown("role in data.columns", role, ROLES)
        columns = _several(named, there)
        if len(columns) != 1 and role != "text":
            raise UserError(
                f"data.columns.{role} names one column", f"it names {len(columns)}: {', '.join(columns)}", "Name one."
            )
        for column in columns:
            if tables and column not in there:
                raise UserError(
                    f"data.columns.{role} must name a column", f"there is no {column!r}", hint(column, there)
                )
            if known.count(column) > 1:
                raise UserError("a column plays one role", f"`{column}` is named for several", "Mend data.columns.")


def _several(named: str | Sequence[str], there: Collection[str]) -> list[str]:
    """Return the columns that are named: one, a list, or several with commas between them."""
    if isinstance(named, str):
        return [named] if named in there else named.split(", ")
    return [*named]


def _candidates(place: Path, beginnings: Sequence[str]) -> list[Path]:
    """Return the tables of a folder; beside a file, those that are named as tables of items are."""
    suffixes = {*BUILDERS, *OF_PEOPLE} - {".txt"}
    if place.is_dir():
        tree = walk(place)
        found = [tree.path(parts) for parts in tree.files]
    else:
        found = [place]
        for path in sorted(place.parent.iterdir()):
            stem = path.stem.lower()
            if path != place and path.is_file() and (path.suffix == ".item" or stem.startswith(tuple(beginnings))):
                found.append(path)
    found = [path for path in found if path.suffix.lower() in suffixes]
    if place.is_dir() and any(path.name in MOVIELENS for path in found):
        found = [
            path for path in found if path.name in MOVIELENS
        ]  # the folds of u1.base and the like are the same rows
    return found


def _table(path: Path, config: DataConfig) -> pa.Table:
    if path.suffix.lower() in BUILDERS:
        found: pa.Table = read_tables([path], False, Settings.of(config)).rows.with_format("arrow")[:]
        return found
    content = path.read_bytes()
    try:
        text = content.decode(config.encoding or "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # as MovieLens' are
    names = MOVIELENS.get(path.name)
    first = text.partition("\n")[0]
    divider = "::" if "::" in first else "\t" if "\t" in first else "|" if "|" in first else ","
    if names is None:
        head, _, text = text.partition("\n")
        names = tuple(name.partition(":")[0] for name in head.strip().split(divider))  # RecBole: user_id:token
    # not `splitlines`: what ends a line in Unicode, such as \x85, may stand in a title
    lines = [line.rstrip("\r").split(divider)[: len(names)] for line in text.split("\n") if line.strip()]
    short = sum(len(line) < len(names) for line in lines)
    if short:
        raise UserError(
            f"{len(names)} fields are needed in each line", f"{path.name} has {short:,} lines with fewer", "Mend them."
        )
    return pa.table({name: pa.array([line[i] for line in lines], pa.string()) for i, name in enumerate(names)})


def _items_of(
    tables: Mapping[Path, pa.Table], interactions: Mapping[Path, pa.Table], item: str, had: Collection[str],
    named: Mapping[str, str],
) -> Items:  # fmt: skip
    """Return items, and what was guessed: of a table of their own, or of the interactions.

    Of several tables that one is taken which has no people, has the interactions' column, and the most of `had`.
    """
    own: list[tuple[tuple[int, bool, bool, int], Path, str]] = []
    for path, table in tables.items():
        known = _find(table, (item, *ITEMS, "id", "_id"), None)
        if known is None or not (
            _find(table, TITLES, named.get("title"), False)
            or _texts_of(table, named, known)
            or _find(table, PICTURES, named.get("image"), False)
        ):
            continue
        peopled = _find(table, USERS, named.get("user"), False) is not None
        if words(known)[-1] == "id" and len(words(known)) == 1 and path.stem.lower().startswith(PEOPLE):
            continue  # ids and names of people
        most = -len({*_strings(table[known])} & {*had})
        own.append(((len(_lacked(table, named)), peopled, words(known) != words(item), most), path, known))
    if not own:
        return Items([], [], [], [])
    _, path, known = min(own, key=lambda one: one[0])
    parts = {one: rows for one, rows in tables.items() if {*rows.column_names} == {*tables[path].column_names}}
    table = tables[path]
    for role, lacking in _lacked(table, named):
        raise UserError(
            f"data.columns.{role} must name a column of the table of items, {path.name}", f"it has no {lacking!r}",
            hint(lacking, table.column_names),
        )  # fmt: skip
    title = _find(table, TITLES, named.get("title"), False)
    picture = _find(table, PICTURES, named.get("image"), False)
    found = [name for name in _texts_of(table, named, known) if name not in (title, picture)]
    called = ", ".join(one.name for one in parts)
    said = [f"{called}: `{known}` is called `{title}`" + (f" and described by {', '.join(found)}" if found else "")]
    said += [f"{called}: `{picture}` is its picture"] if picture else []

    def column(name: str) -> list[str]:
        return [value for rows in parts.values() for value in _strings(rows[name])]

    ids = column(known)
    titles = column(title) if title else [""] * len(ids)
    described = [column(name) for name in found]
    texts = (
        [" ".join(filter(None, row)).replace("|", " ") for row in zip(*described, strict=True)]
        if described
        else [""] * len(ids)
    )
    first = {name: at for at, name in reversed(list(enumerate(ids))) if name}
    if len(first) < len(ids) and path not in interactions:
        said.append(f"{called}: {len(ids) - len(first):,} rows are of items that stand there before, or of none")
    places = list(first.values())
    pictures = pa.chunked_array([c for rows in parts.values() for c in rows[picture].chunks]) if picture else None
    return Items(
        [ids[i] for i in places], [titles[i].strip() for i in places], [texts[i].strip() for i in places], said,
        None if pictures is None else pictures.take(pa.array(places, pa.int64())), path.parent,
        tuple(_torn(ids, {str(title): titles} if title else dict(zip(found, described, strict=True)))),
    )  # fmt: skip


def _torn(ids: Sequence[str], columns: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a warning of a column that says several things of one item: it may tell of what was done with it."""
    for name, values in columns.items():
        told: dict[str, str] = {}
        torn = {one for one, value in zip(ids, values, strict=True) if one and told.setdefault(one, value) != value}
        if torn:
            yield (
                f"`{name}` says several things of {len(torn):,} of {len(told):,} items, of each of which the first is "
                "taken: is it of the item, or of what somebody did with it? Name others in data.columns={title: ..., "
                "text: ...}, or give a table of the items"
            )


def _texts_of(table: pa.Table, named: Mapping[str, str], item: str) -> list[str]:
    if named.get("text"):
        return [name for name in _several(named["text"], table.column_names) if name in table.column_names]
    known = {words(name): name for name in reversed(table.column_names)}
    return [known[words(name)] for name in TEXTS if words(name) in known and known[words(name)] != item]


def _lacked(table: pa.Table, named: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the columns that are named for what items are like, with their roles, and that a table does not have."""
    there = table.column_names
    asked = [(role, one) for role in OF_ITEMS if role in named for one in _several(named[role], there)]
    return [(role, one) for role, one in asked if one not in there]


def _find(table: pa.Table, names: Sequence[str], chosen: str | None, strict: bool = True) -> str | None:
    """Return the column that is chosen, or the first of these names."""
    if chosen is not None:
        if chosen not in table.column_names:
            if strict:
                raise UserError(
                    "data.columns must name columns", f"there is no {chosen!r}", hint(chosen, table.column_names)
                )
            return None
        return chosen
    known = {words(name): name for name in reversed(table.column_names)}
    return next((known[words(name)] for name in names if words(name) in known), None)


def _strings(column: Any) -> list[str]:
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return [" ".join(map(str, row or ())) for row in column.to_pylist()]
    if pa.types.is_floating(column.type) and bool(pc.all(pc.equal(column, pc.floor(column))).as_py()):
        column = column.cast(pa.int64())  # ids that stand beside missing ones
    return [value or "" for value in column.cast(pa.string()).to_pylist()]


def _moments(column: Any, name: str) -> tuple[np.ndarray, bool]:
    """Return times as numbers (n,), nan where there is none, and whether they were dates (seconds then).

    UserError for what is no time.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    dated = pa.types.is_temporal(column.type)
    if dated:
        column = pc.divide(pc.cast(column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()), pa.float64()), 1e6)
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column, dated = _read_moments(column, name)
    return np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), np.float64), dated


def _read_moments(column: pa.Array, name: str) -> tuple[pa.Array, bool]:
    import pandas

    filled = pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, column)
    numbers = pandas.to_numeric(filled.to_pandas(), errors="coerce")
    if numbers.isna().sum() == filled.null_count:
        return pa.array(numbers, pa.float64()), False
    told = pandas.to_datetime(filled.to_pandas(), errors="coerce", utc=True, format="ISO8601")
    wrong = int(told.isna().sum()) - filled.null_count
    if wrong:
        example = next(value for value, at in zip(filled.to_pylist(), told.isna(), strict=True) if value and at)
        raise UserError(
            "times are needed as numbers or as 2026-11-29T12:30",
            f"{wrong:,} values of `{name}` are neither ({example!r})",
            "Mend them, or name another column in data.columns.time.",
        )  # fmt: skip
    seconds = (told - pandas.Timestamp("1970-01-01", tz="UTC")).dt.total_seconds()
    return pa.array(seconds, pa.float64()), True
