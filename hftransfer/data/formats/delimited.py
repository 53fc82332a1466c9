"""CSV and TSV files: how fields are divided and quoted, and whether the first line names them, by what comes out.

Every field is read as the text that it is: which columns are numbers is known when it is known what they are for.
"""

from __future__ import annotations

import codecs
import io
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hftransfer.data.columns import words
from hftransfer.data.formats.base import Settings, empty
from hftransfer.data.formats.delimited_rows import (
    BLOCK,
    NOTHING,
    Delimited,
    Malformed,
    broken,
    long_fields,
    records,
    rows_of,
)
from hftransfer.data.formats.encodings import Text
from hftransfer.data.formats.encodings import look as look_at_text
from hftransfer.data.formats.headers import known, names_of
from hftransfer.errors import UserError

DELIMITERS = (",", ";", "\t", "|")
OTHERS = "^~: "  # taken where they divide what are known to be names
QUOTE = ord('"')
SAID = {" ": "blanks", "\t": "tabs", "|": "vertical bars"}
MODES = ("double", "backslash", "none")
EXCEL = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)


def look(path: Path, settings: Settings) -> Delimited:
    """Return how a file is read; UserError names the line that does not fit, or asks where two readings are likely."""
    text = look_at_text(path, settings)
    sample, whole = text.sample()
    skipped, stated = 0, settings.delimiter
    first = sample[: sample.find("\n") + 1]
    if (found := EXCEL.fullmatch(first)) is not None:
        skipped, stated, sample = 1, stated or found[1], sample[len(first) :]
    if not sample.strip():
        raise empty(path)
    if stated is not None and stated in '"\r\n':
        raise UserError("data.delimiter must divide fields", f"found {stated!r}", "Name another sign.")
    guesses = list(text.guesses)
    with long_fields():
        delimiter = stated or _delimiter(path, sample, whole, settings)
        form = Delimited(path, text, delimiter, "double", skipped, True, (), False, (), text.warnings)
        mode, joined, said = _quoted(form, settings)
        form = replace(form, mode=mode, joined=joined)
        try:
            rows = _split(sample, delimiter, mode, whole)
        except Malformed as error:
            raise broken(form, error, Settings()) from error  # the user said how quotes are meant
        header, columns, more = names_of(path, rows, settings)
        form = replace(form, header=header, columns=columns)
        _refuse_twins(path, columns)
        looked = text.quotes and settings.quoting is None and len(rows[-1]) == len(columns)
        if not looked and (text.quotes or not form.is_plain):  # Arrow's reader refuses other lengths itself
            for _ in rows_of(form):
                pass
    guesses += [*said, *more]
    if skipped:
        guesses.append(f"{path.name}: its first line says that fields are divided by `{delimiter}`")
    elif stated is None and delimiter not in ("\t" if path.suffix.lower() == ".tsv" else ",", NOTHING):
        guesses.append(f"{path.name}: fields are divided by {SAID.get(delimiter, f'`{delimiter}`')} (data.delimiter)")
    return replace(form, guesses=tuple(guesses))


# --- delimiters ---


def _delimiter(path: Path, sample: str, whole: bool, settings: Settings) -> str:
    """Return what divides the fields: what gives every row as many as the first has."""
    widths: dict[str, int] = {}
    nearly: dict[str, float] = {}
    for delimiter in DELIMITERS:
        for mode in [settings.quoting] if settings.quoting else MODES:
            try:
                rows = _split(sample, delimiter, mode, whole)
            except Malformed:
                continue
            if not rows or len(rows[0]) < 2:
                continue
            share = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
            if share == 1:
                widths[delimiter] = len(rows[0])
            nearly[delimiter] = max(share, nearly.get(delimiter, 0))
            if share == 1:
                break
    if "\t" in widths and path.suffix.lower() == ".tsv":
        return "\t"
    if len(widths) > 1:
        least = {name: _bare(sample, name) for name in widths}
        best = [name for name in widths if least[name] == min(least.values())]
        if len(best) > 1:
            raise UserError(
                f"what divides the fields of {path.name} must be known",
                f"{' and '.join(map(repr, widths))} both give rows of one length",
                settings.advice(f"data.delimiter, for example to {best[0]!r}", "leave one of them out of the texts"),
            )
        return best[0]
    if widths:
        return next(iter(widths))
    if nearly:
        return max(nearly, key=lambda name: nearly[name])
    return _of_one_name(sample, whole)


def _bare(sample: str, delimiter: str) -> int:
    """Return how often blanks stand around a delimiter in the first lines: prose does that, tables do not."""
    return len(re.findall(rf"{re.escape(delimiter)} ", sample))


def _of_one_name(sample: str, whole: bool) -> str:
    """Return what divides the fields of a file whose first line holds one name: nothing, or what all rows hold."""
    for delimiter in DELIMITERS:
        try:
            rows = _split(sample, delimiter, "double", whole)
        except Malformed:
            continue
        if len(rows) > 1 and len({len(row) for row in rows[1:]}) == 1 and len(rows[1]) == 2:
            return delimiter  # which lacks a name: that is said, not passed over
    first, *below = sample.splitlines() or [""]
    for delimiter in OTHERS:
        names = first.split(delimiter)
        fits = all(line.count(delimiter) == len(names) - 1 for line in below if line.strip())
        if below and fits and len(names) > 1 and all(words(name) in known() for name in names):
            return delimiter
    return NOTHING


# --- quotes ---


def _quoted(form: Delimited, settings: Settings) -> tuple[str, bool, list[str]]:
    """Return how quotes are meant, whether rows span lines, and what is to be said, by reading the whole file."""
    if not form.text.quotes or settings.quoting is not None:
        return settings.quoting or "double", form.text.quotes, []
    name = form.path.name
    try:
        regular, joined = _are_regular(form)
        joined = joined if regular else _rows_span_lines(form)
    except Malformed as error:
        problem = error
    else:
        if joined and form.delimiter != NOTHING and _fits(replace(form, mode="none")):
            raise UserError(
                f"what quotes mean in {name} must be known",
                "read as quotes around fields they join several lines into one row, read as part of the texts "
                "every line is a row",
                settings.advice("data.quoting=none (part of the texts) or data.quoting=double", "mend the quotes"),
            )
        if form.text.backslashed and _fits(replace(form, mode="backslash")):
            raise UserError(
                f"what backslashes before quotes mean in {name} must be known",
                "rows are as long as the first whether they mean a quote or are part of the texts",
                settings.advice("data.quoting=backslash or data.quoting=double", "mend the quotes"),
            )
        said = [f"{name}: backslashes come in pairs, and are kept so (data.quoting=backslash reads a pair as one)"]
        return "double", joined, said if form.text.paired else []
    if form.text.backslashed and _fits(replace(form, mode="backslash")):
        return "backslash", True, [f'{name}: quotes inside fields are written `\\"`, read as `"` (data.quoting)']
    if form.delimiter != NOTHING and _fits(replace(form, mode="none")) and not _wrapped(form):
        return "none", False, [f"{name}: quotes are part of the texts, not around fields (data.quoting)"]
    raise broken(form, problem, settings)


def _are_regular(form: Delimited) -> tuple[bool, bool]:
    """Tell whether every quote begins or ends a field or stands beside another, and whether rows span lines.

    Looks at bytes, many at once: where they are regular, Python's reader and Arrow's agree.
    """
    if not form.text.is_utf8 or form.text.returns or not form.delimiter.isascii():
        return False, False
    around = np.zeros(256, bool)
    around[[*b"\n\r", ord(form.delimiter), QUOTE]] = True
    inside, joined, before, file_ends = False, False, ord("\n"), False
    with open(form.path, "rb") as file:
        for _ in range(form.skipped):
            next(file)
        if form.skipped == 0 and file.read(3) != codecs.BOM_UTF8:
            file.seek(0)
        chunk = file.read(BLOCK)
        while chunk:
            following = file.read(BLOCK)
            file_ends = not following
            bytes_ = np.frombuffer(chunk, np.uint8)
            quotes = np.flatnonzero(bytes_ == QUOTE)
            opening, closing = quotes[int(inside) :: 2], quotes[1 - int(inside) :: 2]
            ahead = np.append(bytes_, ord("\n") if file_ends else following[0])
            behind = np.append(np.uint8(before), bytes_)
            if not around[behind[opening]].all() or not around[ahead[closing + 1]].all():
                return False, False
            if not joined:
                lines = np.flatnonzero(bytes_ == ord("\n"))
                joined = bool((((np.searchsorted(quotes, lines) + int(inside)) & 1) == 1).any())
            inside = inside != bool(len(quotes) & 1)
            before, chunk = int(bytes_[-1]), following
    return not inside, joined


def _fits(form: Delimited) -> bool:
    try:
        _rows_span_lines(form, unnamed=False)
    except Malformed:
        return False
    return True


def _wrapped(form: Delimited) -> bool:
    """Tell whether most fields of some column stand in quotes: then these are not part of the texts."""
    rows = list(itertools.islice(rows_of(replace(form, mode="none", header=False, columns=())), 1000))[1:]
    columns = zip(*[row for row in rows if len(row) == len(rows[0])], strict=False)
    return any(2 * sum(len(c) > 1 and c[0] == c[-1] == '"' for c in column) > len(rows) for column in columns)


def _rows_span_lines(form: Delimited, unnamed: bool = True) -> bool:
    """Read all rows and tell whether some span lines; Malformed where they differ in length.

    With `unnamed`, the first row may be one shorter than the others: R names no column for the names of rows.
    """
    joined, before, wanted, first = False, form.skipped, 0, 0
    with long_fields(), open(form.path, encoding=form.text.encoding, errors=form.text.errors, newline="") as file:
        for _ in range(form.skipped):
            next(file)
        for number, (line, row) in enumerate(records(form, file)):
            if number == 0:
                first = len(row)
            elif number == 1:
                wanted = len(row) if unnamed and len(row) == first + 1 else first
            if number and len(row) != wanted:
                raise Malformed(line, str(first), len(row))
            joined = joined or (line > before + 1 and any("\n" in field or "\r" in field for field in row))
            before = line
    return joined


def _split(sample: str, delimiter: str, mode: str, whole: bool) -> list[list[str]]:
    """Return the rows of a sample; Malformed where these delimiters and quotes cannot be meant."""
    rows = []
    try:
        for _, row in records(_nowhere(delimiter, mode), io.StringIO(sample, newline="")):
            rows.append(row)
    except Malformed as error:
        if whole or not rows or "end of data" not in error.why:  # else a quoted field was cut off
            raise
    return rows


def _nowhere(delimiter: str, mode: str) -> Delimited:
    text = Text(Path("-"), "utf-8", "strict", True, False, True, False, 0)
    return Delimited(Path("-"), text, delimiter, mode, 0, True, (), False, (), ())


def _refuse_twins(path: Path, columns: Sequence[str]) -> None:
    twins = sorted(name for name, count in Counter(columns).items() if count > 1)
    if twins:
        raise UserError(f"the columns of {path.name} need names of their own", f"{twins[0]!r} stands twice", "Rename.")
