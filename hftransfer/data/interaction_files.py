"""Files of interactions and items as people have them: MovieLens, RecBole's atomic files, tables, found by looking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from hftransfer.data.tables import BUILDERS, read_tables
from hftransfer.data.tree import walk
from hftransfer.errors import UserError, hint

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
OTHERS = {".dat", ".inter", ".item", ".data", ".user"}
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


@dataclass(frozen=True)
class Raw:
    """Interactions (users, items, times: nan for none), as they were found, and the items."""

    users: list[str]
    items: list[str]
    times: np.ndarray | None
    columns: list[str]
    guesses: list[str]
    of: Items


def read(place: Path, config: DataConfig, beside: Sequence[str] = ()) -> Raw:
    """Read the interactions and the items of a file or a folder; UserError where one of them is not found.

    `beside`: how the names of tables of items begin that are read beside a file.
    """
    tables = {path: _table(path, config) for path in _candidates(place, beside)}
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
    user, item = (_find(table, names, named.get(role)) for names, role in ((USERS, "user"), (ITEMS, "item")))
    time = _find(table, TIMES, named.get("time"))
    rating = _find(table, RATINGS, named.get("rating"))
    guesses = [f"{path.name}: `{user}` had `{item}`" + (f" at `{time}`" if time else "")]
    if rating is not None:
        guesses.append(f"`{rating}` is not looked at: every row counts as an interaction, whatever it says")
    found = _items_of({**tables}, path, str(item), named)
    return Raw(
        _strings(table[user]), _strings(table[item]), None if time is None else _moments(table[time], str(time)),
        table.column_names, [*guesses, *found.said], found,
    )  # fmt: skip


def _candidates(place: Path, beginnings: Sequence[str]) -> list[Path]:
    """Return the tables of a folder; beside a file, those that are named as tables of items are."""
    suffixes = {*BUILDERS, *OTHERS} - {".txt"}
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
        text = content.decode(config.encoding or "utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # as MovieLens' are
    names = MOVIELENS.get(path.name)
    first = text.partition("\n")[0]
    divider = "::" if "::" in first else "\t" if "\t" in first else "|" if "|" in first else ","
    if names is None:
        head, _, text = text.partition("\n")
        names = tuple(name.partition(":")[0] for name in head.strip().split(divider))  # RecBole: user_id:token
    lines = [line.split(divider)[: len(names)] for line in text.splitlines() if line.strip()]
    short = sum(len(line) < len(names) for line in lines)
    if short:
        raise UserError(
            f"{len(names)} fields are needed in each line", f"{path.name} has {short:,} lines with fewer", "Mend them."
        )
    return pa.table({name: pa.array([line[i] for line in lines], pa.string()) for i, name in enumerate(names)})


def _items_of(tables: Mapping[Path, pa.Table], interactions: Path, item: str, named: Mapping[str, str]) -> Items:
    """Return items, and what was guessed: of a table of their own, or of the interactions."""
    own: list[tuple[Path, str]] = []
    for path, table in tables.items():
        known = _find(table, (item, *ITEMS, "id", "_id"), None)
        if known is None or not (
            _find(table, TITLES, named.get("title"), False)
            or _texts_of(table, named, known)
            or _find(table, PICTURES, named.get("image"), False)
        ):
            continue
        own.append((path, known))
    own.sort(key=lambda one: one[0] == interactions)  # a table of items before the rows of interactions
    if not own:
        return Items([], [], [], [])
    path, known = own[0]
    table = tables[path]
    title = _find(table, TITLES, named.get("title"), False)
    picture = _find(table, PICTURES, named.get("image"), False)
    found = [name for name in _texts_of(table, named, known) if name not in (title, picture)]
    said = [f"{path.name}: `{known}` is called `{title}`" + (f" and described by {', '.join(found)}" if found else "")]
    said += [f"{path.name}: `{picture}` is its picture"] if picture else []
    ids = _strings(table[known])
    titles = _strings(table[title]) if title else [""] * len(ids)
    parts = [_strings(table[name]) for name in found]
    texts = (
        [" ".join(filter(None, row)).replace("|", " ") for row in zip(*parts, strict=True)]
        if parts
        else [""] * len(ids)
    )
    first = {name: at for at, name in reversed(list(enumerate(ids))) if name}
    if len(first) < len(ids) and path != interactions:
        said.append(f"{path.name}: {len(ids) - len(first):,} rows are of items that stand there before, or of none")
    places = list(first.values())
    return Items(
        [ids[i] for i in places], [titles[i].strip() for i in places], [texts[i].strip() for i in places], said,
        table[picture].take(pa.array(places, pa.int64())) if picture else None, path.parent,
    )  # fmt: skip


def _texts_of(table: pa.Table, named: Mapping[str, str], item: str) -> list[str]:
    if named.get("text"):
        return [name for name in named["text"].split(", ") if name in table.column_names]
    known = {words(name): name for name in reversed(table.column_names)}
    return [known[words(name)] for name in TEXTS if words(name) in known and known[words(name)] != item]


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


def _moments(column: Any, name: str) -> np.ndarray:
    """Return times as numbers (n,), nan where there is none; UserError for what is no time."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _read_moments(column, name)
    return np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _read_moments(column: pa.Array, name: str) -> pa.Array:
    import pandas

    filled = pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, column)
    numbers = pandas.to_numeric(filled.to_pandas(), errors="coerce")
    if numbers.isna().sum() == filled.null_count:
        return pa.array(numbers, pa.float64())
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
    return pa.array(seconds, pa.float64())
