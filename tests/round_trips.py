"""Tables as many programs write them, read back: the same strings or an error in words, never something else.

Run: python -m tests.round_trips --tables 10000
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import openpyxl
import pandas as pd
import polars as pl

from hftransfer.data.tables import read_tables
from hftransfer.errors import UserError

PIECES = (
    "good", "the room", "a", "7", "007", "1.10", "1E5", "0.50", "-3", "NA", "None", "null", "nan", "true", "False",
    "1000000000000000001", ",", ";", "|", "\t", '"', '""', "'", "\\", '\\"', "\n", "\r\n", " ", "  ", "=", "#", "@",
    "é", "ß", "ж", "字", "😀", "\u2028", "\x0b", "\x0c", "\ufeff", "2020-01-01", "[1, 2]", "['x', 'y']", "{}", "//",
    "NaN", "%", "\\n", "\\t", "<b>", "sep=;", "inf", "3,5", "1.234,5", "O", "$", "\u200b", "\xa0",
)  # fmt: skip
NAMES = ("text", "label", "note", "number (1,0 to 5,0)", "an id", "wert;gut", "two\nlines")
Columns = dict[str, list[str]]
Writer = Callable[[Columns, Path, random.Random], Path]


def draw(rng: random.Random) -> Columns:
    """Return a table of strings: few or many rows, with columns of classes, of texts and of anything."""
    rows, width = rng.choice((1, 2, 3, 8, 40)), rng.randint(1, 4)
    names = ["text", *rng.sample(NAMES[1:], width - 1)]
    found: Columns = {}
    for name in names:
        most = rng.choice((0, 1, 1, 2, 4))
        pool = ["".join(rng.choices(PIECES, k=rng.randint(0 if most else 1, max(1, most)))) for _ in range(rows)]
        if rng.random() < 0.4:
            pool = rng.choices(pool[:3], k=rows)
        if rng.random() < 0.3:
            pool = [rng.choice(("good day", "bad night")) if rng.random() < 0.9 else cell for cell in pool]
        found[name] = pool
    return found


def by_csv(columns: Columns, folder: Path, rng: random.Random) -> Path:
    delimiter = rng.choice(",;\t|")
    path = folder / ("rows.tsv" if delimiter == "\t" and rng.random() < 0.5 else "rows.csv")
    quoting = rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC))
    encoding = rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"))
    end = rng.choice(("\n", "\r\n"))
    with open(path, "w", encoding=encoding, newline="") as file:
        if delimiter != "," and rng.random() < 0.1:
            file.write(f"sep={delimiter}{end}")
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def by_escaping(columns: Columns, folder: Path, rng: random.Random) -> Path:
    path = folder / "rows.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, escapechar="\\", doublequote=False, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def by_pandas(columns: Columns, folder: Path, rng: random.Random) -> Path:
    frame = pd.DataFrame(columns, dtype=object)
    kind = rng.choice(("csv", "json", "lines", "parquet"))
    if kind == "csv":
        path = folder / "rows.csv"
        frame.to_csv(path, sep=rng.choice(",;\t|"), index=False, quoting=rng.choice((0, 1)))
    elif kind == "json":
        path = folder / "rows.json"
        frame.to_json(path, orient=rng.choice(("columns", "index", "records", "split", "table")))
    elif kind == "lines":
        path = folder / "rows.jsonl"
        frame.to_json(path, orient="records", lines=True, force_ascii=rng.random() < 0.5)
    else:
        path = folder / "rows.parquet"
        if rng.random() < 0.5:
            frame = frame.astype("category")
        frame.to_parquet(path, index=False)
    return path


def by_polars(columns: Columns, folder: Path, rng: random.Random) -> Path:
    frame = pl.DataFrame(columns)
    kind = rng.choice(("csv", "json", "lines", "parquet", "arrow"))
    path = folder / {"csv": "rows.csv", "json": "rows.json", "lines": "rows.jsonl"}.get(kind, f"rows.{kind}")
    if kind == "csv":
        frame.write_csv(path, separator=rng.choice(",;\t|"), quote_style=rng.choice(("necessary", "always")))
    elif kind == "json":
        frame.write_json(path)
    elif kind == "lines":
        frame.write_ndjson(path)
    elif kind == "parquet":
        frame.write_parquet(path)
    else:
        frame.write_ipc(path, compression="uncompressed")
    return path


def by_excel(columns: Columns, folder: Path, rng: random.Random) -> Path:
    for cells in columns.values():  # what a workbook cannot hold
        cells[:] = [cell.replace("\x0b", "").replace("\x0c", "").replace("\r", "") for cell in cells]
    book = openpyxl.Workbook()
    book.active.append(list(columns))
    for row in zip(*columns.values(), strict=True):
        book.active.append(row)
    path = folder / "rows.xlsx"
    book.save(path)
    return path


WRITERS: tuple[Writer, ...] = (
    by_csv,
    by_csv,
    by_csv,
    by_escaping,
    by_pandas,
    by_pandas,
    by_polars,
    by_polars,
    by_excel,
)


def different(columns: Columns, path: Path) -> str | None:
    """Read a file back and say what is different from what was written; None for the same, or an error in words."""
    try:
        table = read_tables([path], streaming=False)
    except UserError as error:
        return None if error.found and error.action else f"refused without words: {error}"
    rows = table.rows
    if "index" in rows.column_names and "index" not in columns:  # pandas' own
        rows = rows.remove_columns(["index"])
    if [name.split() for name in rows.column_names] != [name.split() for name in columns]:
        return f"columns {rows.column_names} instead of {list(columns)}"
    read = [tuple(row.values()) for row in rows]
    # a row that holds nothing is none
    full = [row for row in zip(*columns.values(), strict=True) if any(row)]
    found = [row for row in read if any(row)]
    if found == full or any("backslashes come in pairs" in guess for guess in table.guesses):
        return None
    first = next((i for i, (a, b) in enumerate(zip(found, full, strict=False)) if a != b), None)
    shown = f"{found[first]!r} instead of {full[first]!r}" if first is not None else ""
    return f"{len(found)} rows instead of {len(full)}; {shown}"


def trip(seed: int, folder: Path) -> str | None:
    """Write and read one table; say what came of it where that is not what was written."""
    rng = random.Random(seed)
    columns = draw(rng)
    writer = rng.choice(WRITERS)
    path = writer(columns, folder, rng)
    said = different(columns, path)
    return None if said is None else f"table {seed} by {writer.__name__} ({path.name}): {said}"


def trips(tables: int, first: int = 0) -> Iterator[str | None]:
    """Yield what came of each table."""
    datasets.disable_progress_bars()
    for seed in range(first, first + tables):
        with tempfile.TemporaryDirectory() as place:
            datasets.config.HF_DATASETS_CACHE = Path(place) / "cache"
            yield trip(seed, Path(place))


def main() -> int:
    """Count the differences that nobody was told of."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    found = [said for said in trips(asked.tables, asked.first) if said is not None]
    print("\n".join(found[:50]))
    print(f"{asked.tables:,} tables written and read, {len(found)} silent differences")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
