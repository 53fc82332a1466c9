"""How the fields of an uploaded CSV or TSV file may be divided, in the process that looks at uploads.

What is refused of a file must hold however its reader (hftransfer.data.formats.delimited) divides it. That takes a
second to import and looks for one way: here are all that it may find, by the same rules.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import IO, Any

SIGNS = (",", ";", "\t", "|")
OTHERS = "^~: "  # which divide what is divided by none of those
STATED = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)  # a first line, as Excel writes it
ESCAPED = re.compile(r'\\(["\\])')
SAMPLE = 1 << 18  # characters from which the reader tells what divides the fields
FIELD = 20 * 2**20  # characters
WIDE = (b"\xff\xfe", b"\xfe\xff")


def columns_of(file: IO[bytes], head: bytes, limit: int) -> int:
    """Return how many columns a file has, of which this is the head; more than `limit` where it may have more."""
    skipped, signs, text = _looked(_decoded(head))
    found = 0
    for sign in signs:
        widths = [len(next(_rows(text, sign, mode), [])) for mode in ("double", "backslash", "none")]
        most = max(widths)
        # quotes are part of the texts where they do not end with fields, somewhere in the file
        if most > limit >= widths[0] and _is_quoted(file, _encoding(head), sign, skipped):
            most = widths[0]
        found = max(found, most)
    return found


def tables_of(data: bytes) -> Iterator[Iterator[list[str]]]:
    """Yield the rows of a table, that of names first, in each way that they may be divided."""
    _, signs, text = _looked(_decoded(data))
    for sign in signs:
        yield _rows(text, sign, "double")
        if not _is_quoted(io.BytesIO(text.encode(errors="replace")), "utf-8", sign, 0):
            yield _rows(text, sign, "backslash")
            yield _rows(text, sign, "none")


def _encoding(head: bytes) -> str:
    return "utf-16" if head.startswith(WIDE) else "utf-8"


def _decoded(data: bytes) -> str:
    """Return bytes as text in which all that divides is what it is; zeros are of UTF-16 without its mark."""
    return data.decode(_encoding(data), errors="replace").replace("\0", "").lstrip("\ufeff\ufffd")


def _looked(text: str) -> tuple[int, tuple[str, ...], str]:
    """Return how many lines stand above a table, what may divide its fields, and its text below those lines."""
    first = text[: text.find("\n") + 1]
    if (stated := STATED.fullmatch(first)) is not None:
        return 1, () if stated[1] in '"\r\n' else (stated[1],), text[len(first) :]
    sample = text[:SAMPLE]
    if len(text) > SAMPLE:
        sample = sample[: max(sample.rfind("\n"), sample.rfind("\r")) + 1] or sample
    names, *below = sample.splitlines() or [""]
    lines = [line for line in below if line.strip()]
    more = [sign for sign in OTHERS if below and all(line.count(sign) == names.count(sign) for line in lines)]
    return 0, (*SIGNS, *more), text


def _rows(text: str, sign: str, mode: str) -> Iterator[list[str]]:
    """Yield the rows that hold something, up to one that cannot be as this mode of quotes says."""
    lines: Iterable[str] = io.StringIO(text, newline="")
    if mode == "backslash":
        lines = (ESCAPED.sub(lambda found: '""' if found[1] == '"' else "\\", line) for line in lines)
    try:
        yield from _divided(lines, sign, mode)
    except csv.Error:
        return


def _divided(lines: Iterable[str], sign: str, mode: str) -> Iterator[list[str]]:
    csv.field_size_limit(FIELD)
    options: dict[str, Any] = {"quoting": csv.QUOTE_NONE if mode == "none" else csv.QUOTE_MINIMAL}
    yield from filter(None, csv.reader(lines, delimiter=sign, strict=True, **options))


def _is_quoted(file: IO[bytes], encoding: str, sign: str, skipped: int) -> bool:
    """Tell whether quotes stand around fields in all of a file, whose rows are then of one length.

    R names no column for the names of rows: the first row may be one shorter.
    """
    file.seek(0)
    text = io.TextIOWrapper(file, encoding, errors="replace", newline="")
    try:
        lines = (line.replace("\0", "").lstrip("\ufeff") for line in text)
        for _ in range(skipped):
            next(lines, None)
        widths = map(len, _divided(lines, sign, "double"))
        first = next(widths, 0)
        others = set(itertools.islice(widths, 1))
        return others <= {first, first + 1} and all(width in others for width in widths)
    except csv.Error:
        return False
    finally:
        text.detach()
