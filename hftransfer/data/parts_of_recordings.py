"""Tables whose rows are parts of recordings: columns that say where each begins and ends, in whatever unit."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset, IterableDataset

from hftransfer.column_types import NUMBERS, STRINGS, is_value
from hftransfer.data.named_splits import Picked, Split
from hftransfer.data.recordings import COLUMN
from hftransfer.inputs import _sounds
from hftransfer.inputs.audio import AUDIO
from hftransfer.tasks.base import Role, Task

# a begin with its end, or with how long it lasts: names without case and marks
ENDS = (
    ("start", "end"), ("start", "stop"), ("starttime", "endtime"), ("starttime", "stoptime"), ("begin", "end"),
    ("begintime", "endtime"), ("segmentstart", "segmentend"), ("segmentstarttime", "segmentendtime"),
    ("starts", "ends"), ("startsec", "endsec"), ("startsecs", "endsecs"), ("startseconds", "endseconds"),
    ("startms", "endms"), ("startframe", "endframe"), ("startsample", "endsample"), ("onset", "offset"),
    ("tstart", "tend"), ("xmin", "xmax"),
)  # fmt: skip
LENGTHS = (("offset", "duration"), ("start", "duration"), ("starttime", "duration"), ("onset", "duration"))
CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)")  # 1:02:03.5
FIRST = 20  # rows by which a column is told to hold recordings
LOOKED_AT = 200  # rows whose recordings tell the unit
SLACK = 0.5  # seconds by which a part may end behind its recording: clocks are rounded
WHOLE = 0.05  # of a recording, by which one that is cut already may differ from its part
BATCH = 64  # rows


@dataclass(frozen=True)
class Columns:
    """The column of the recordings, and of where their parts begin, and end or how long they last."""

    file: str
    begin: str
    end: str
    lasts: bool  # whether `end` says how long

    def span(self, row: Mapping[str, Any]) -> tuple[float, float]:
        """Return where a row's part begins and ends, in the columns' unit; NaN for the recording's own end."""
        begin, end = (_number(row.get(name)) for name in (self.begin, self.end))
        begin = 0.0 if math.isnan(begin) else begin
        return begin, begin + end if self.lasts else end


def times_of(features: Mapping[str, Any]) -> tuple[str, str, bool] | None:
    """Return the columns that say where something begins, and where it ends or (True) how long it lasts, if any do."""
    plain = {re.sub(r"[\W_]+", "", name.casefold()): name for name in features}
    pairs = [(*pair, False) for pair in ENDS] + [(*pair, True) for pair in LENGTHS]
    for begin, end, lasts in pairs:
        named = [plain.get(begin), plain.get(end)]
        if all(name is not None and is_value(features[name], *NUMBERS, *STRINGS) for name in named):
            return str(named[0]), str(named[1]), lasts
    return None


def columns_of(rows: Any, role: Role, named: str | None) -> Columns | None:
    """Return the columns of a table that name parts of recordings; None where none do."""
    features = rows.features or {}
    times = times_of(features)
    if times is None:
        return None
    if named in features:
        return Columns(str(named), *times)
    first = rows[:FIRST] if isinstance(rows, Dataset) else _turned(rows.take(FIRST), features)
    files = [name for name, feature in features.items() if AUDIO.fits(feature, first[name])]
    order = {name: place for place, name in enumerate(role.words)}
    file = min(files, key=lambda name: order.get(name, len(order)), default=None)
    return None if file is None else Columns(file, *times)


def _turned(rows: IterableDataset, names: Iterable[str]) -> dict[str, list[Any]]:
    found = list(rows)
    return {name: [row[name] for row in found] for name in names}


def parted(picked: Picked, task: Task, named: Mapping[str, str]) -> Picked:
    """Return splits whose recordings are the parts that their rows name, and what they were taken for."""
    splits, guesses = {}, [*picked.guesses]
    for use, split in picked.splits.items():
        splits[use], said = of_parts(split, task, named)
        guesses += [f"{use}: {one}" for one in said]
    return replace(picked, splits=splits, guesses=tuple(dict.fromkeys(guesses)))


def of_parts(split: Split, task: Task, named: Mapping[str, str]) -> tuple[Split, list[str]]:
    """Return rows with the parts of recordings that they name, where a task hears, and what those were taken for.

    Their unit is told by how long the recordings are. Where the parts lie in no recording, or are as long as the
    recordings, these are cut already: that is said, and each is read whole.
    """
    role = next((role for role in task.shown if role.takes is AUDIO), None)
    columns = None if role is None else columns_of(split.rows, role, named.get(role.name))
    if role is None or columns is None:
        return split, []
    feature = split.rows.features[columns.file]
    if isinstance(feature, dict) and "start" in feature:
        return split, []
    unit, said = _unit(split, columns)
    if unit is not None:
        split = replace(split, rows=_with_parts(split, columns, unit, named.get(role.name)))
        if is_value((split.rows.features or {}).get(columns.file), *STRINGS):
            said += f" (those of one recording may stand on both sides of a cut: data.group={columns.file})"
    return split, [f"`{columns.begin}` and `{columns.end}` {said}"]


def _unit(split: Split, columns: Columns) -> tuple[float | None, str]:
    """Return how many of the columns' units make a second (0: those are samples), None for no parts; and why."""
    known = [*_evidence(split, columns)]
    if not known:
        return 1.0, "name parts of recordings, taken for seconds: no recording was found to compare them with"
    begins, ends, frames, rates = (np.array(one, np.float64) for one in zip(*known, strict=True))
    lengths, given = frames / rates, np.where(np.isnan(ends), begins, ends)
    told = re.sub(r"[\W_]+", "", columns.begin.casefold())
    if np.isnan(ends).all() and not begins.any():
        return None, "are not read: they are no times"
    whole = bool(np.all(begins % 1 == 0) and np.all(given % 1 == 0))
    readings = {
        "seconds": (1.0, np.all(given <= lengths + SLACK) and not told.endswith(("ms", "sample", "frame"))),
        "milliseconds": (1000.0, (whole and np.all(given <= 1000 * (lengths + SLACK))) or told.endswith("ms")),
        "samples": (0.0, bool(np.all(given <= frames + SLACK * rates)) and whole),
    }
    unit = next((name for name, (_, fits) in readings.items() if fits), None)
    if unit is None:
        return None, "are not read: they lie behind the ends of the recordings, which seem to be cut already"
    by = rates if unit == "samples" else readings[unit][0]
    lasting = np.where(np.isnan(ends), lengths, ends / by) - begins / by
    if np.mean(np.abs(lasting - lengths) <= WHOLE * (lengths + 1)) > 0.9:
        return None, "are not read: they are as long as the recordings, which are cut already"
    return readings[unit][0], f"name parts of recordings, in {unit}: each row is heard from there to there"


def _evidence(split: Split, columns: Columns) -> Iterator[tuple[float, float, int, int]]:
    """Yield begin and end of some rows' parts, and how many samples their recording has, and in a second."""
    rows = split.rows
    if isinstance(rows, Dataset):
        places = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), LOOKED_AT)).astype(np.int64))
        some: Any = rows.select(places) if len(rows) else []
    else:
        some = rows.take(LOOKED_AT)
    headers: dict[str, tuple[int, int] | None] = {}
    for row in some:
        value = AUDIO.entry(row[columns.file], split.folder)
        if value is None:
            continue
        key = str(value["path"]) if value["bytes"] is None else str(len(headers))
        if key not in headers:
            headers[key] = _header(value)
        found = headers[key]
        if found is not None:
            yield (*columns.span(row), *found)


def _header(value: Mapping[str, Any]) -> tuple[int, int] | None:
    try:
        return _sounds.header(value)
    except (_sounds.library().SoundFileError, OSError, ValueError):
        return None


def _with_parts(split: Split, columns: Columns, unit: float, named: str | None) -> Any:
    """Return rows with a column of parts: in place of the recordings', or beside it, where it names their files."""
    rows = split.rows
    features, name = rows.features, columns.file if columns.file in (named, COLUMN) else COLUMN
    if not is_value(features[columns.file], *STRINGS):
        name = columns.file
    left = {
        column: feature for column, feature in features.items() if column not in (name, columns.begin, columns.end)
    }
    made = datasets.Features({name: AUDIO.feature(), **left})
    gone = [column for column in features if column not in left]
    options: dict[str, Any] = {} if isinstance(rows, IterableDataset) else {"desc": None}
    convert = functools.partial(_parts, columns, unit, name, split.folder)
    return rows.map(convert, batched=True, batch_size=BATCH, remove_columns=gone, features=made, **options)


def _parts(
    columns: Columns, unit: float, name: str, folder: Path | None, batch: Mapping[str, list[Any]]
) -> dict[str, list[Any]]:
    found = []
    for place, value in enumerate(batch[columns.file]):
        begin, end = columns.span({one: batch[one][place] for one in (columns.begin, columns.end)})
        entry = AUDIO.entry(value, folder)
        if entry is not None:
            by = unit or float((_header(entry) or (0, 1))[1])
            entry |= {"start": begin / by, "seconds": None if math.isnan(end) else (end - begin) / by}
        found.append(entry)
    return {name: found}


def _number(value: Any) -> float:
    """Return a number, or a time of a clock in seconds; NaN for what is none."""
    if isinstance(value, str):
        clock = CLOCK.fullmatch(value.strip())
        if clock:
            hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in clock.groups())
            return 3600 * hours + 60 * minutes + seconds
        value = value.strip().replace(",", ".")
    try:
        return float("nan") if value is None or value == "" else float(value)
    except ValueError:
        return float("nan")


def heads(names: Iterable[str]) -> bool:
    """Tell whether columns of these names say where parts of files begin and end."""
    return times_of(dict.fromkeys(names, datasets.Value("float64"))) is not None
