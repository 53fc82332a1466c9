"""Files that each hold one text, or one a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hftransfer.config import DataConfig
from hftransfer.data.formats import encodings
from hftransfer.data.formats.base import Settings
from hftransfer.errors import UserError, with_rows

BLANK = re.compile(r"\n\s*\n")


@dataclass
class Texts:
    """What files hold (None: nothing that is text), what is to be said of them, and what was guessed."""

    values: list[str | None]
    warnings: list[str] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)


def read_texts(paths: Sequence[Path], config: DataConfig) -> Texts:
    """Read files of one text each. Those that are not UTF-8 are read alike: short ones alone would tell nothing.

    Raises UserError where their encoding cannot be told, or is not the one that was set.
    """
    found: list[str | None] = []
    closed: list[str] = []
    odd: dict[int, bytes] = {}
    beyond = 0  # texts in UTF-8 that are more than ASCII
    for place, path in enumerate(paths):
        found.append(None)
        try:
            data = path.read_bytes()
            found[place] = _plain(data, path, config)
            beyond += found[place] is not None and not data.isascii()
        except OSError:
            closed.append(path.name)
        except UnicodeDecodeError:
            odd[place] = data
    names = [paths[place].name for place in odd]
    said = Texts(found)
    if closed:
        said.warnings.append(with_rows(f"{len(closed):,} of {len(paths):,} texts may not be opened", closed))
    if odd and beyond > len(odd):
        read = {place: data.decode("utf-8-sig", encodings.MENDED) for place, data in odd.items()}
        told = f"{len(odd):,} of {len(paths):,} texts are not UTF-8, unlike the others; such bytes were read as cp1252"
        said.warnings.append(with_rows(told, names))
    elif odd:
        evidence = b"\n".join(list(odd.values()))[: encodings.EVIDENCE]
        encoding = encodings.told(paths[next(iter(odd))], evidence, Settings.of(config))
        read = {place: data.decode(encoding, errors="replace") for place, data in odd.items()}
        said.guesses.append(f"{len(odd):,} of {len(paths):,} texts are not UTF-8, read as {encoding} (data.encoding)")
    for place in odd:
        found[place] = _ended(read[place])
    return said


def parts_of(path: Path, config: DataConfig) -> Texts:
    """Read one file as several texts: what stands between its blank lines, or its lines where it has none."""
    found = read_texts([path], config)
    text = found.values[0] or ""
    parts = [part.strip() for part in BLANK.split(text) if part.strip()]
    rows = "what stands between blank lines" if len(parts) > 1 else "a line"
    found.values = [*(parts if len(parts) > 1 else filter(None, map(str.strip, text.split("\n"))))]
    if not found.values:
        raise UserError("rows are needed", f"{path} holds no text", "Check it.")
    found.guesses.append(f"{path.name}: a row is {rows}; a folder of texts has a row for each file")
    return found


def _plain(data: bytes, path: Path, config: DataConfig) -> str | None:
    """Return bytes as text where no guess is needed; None for what is no text. UnicodeDecodeError where one is."""
    if config.encoding is not None:
        try:
            return _ended(data.decode(config.encoding))
        except UnicodeDecodeError as error:
            raise UserError(
                f"every text must be in the encoding {config.encoding} (data.encoding)", f"{path.name} is not",
                "Name the one that they were saved in.",
            ) from error  # fmt: skip
        except LookupError as error:
            raise UserError(
                "data.encoding must be an encoding that Python knows", f"found {config.encoding!r}",
                "Try utf-8, cp1252 or utf-16.",
            ) from error  # fmt: skip
    named = next((name for mark, name in encodings.BOMS.items() if data.startswith(mark)), None)
    if named is None and b"\0" in data:
        try:
            named = encodings.look(path, Settings()).encoding
        except UserError:
            return None
    return _ended(data.decode(named or "utf-8"))


def _ended(text: str) -> str:
    return text.replace("\r\n", "\n").strip("\n")


def lines(path: Path) -> list[str]:
    """Return the lines of a file, blank ones among them; UserError where its encoding cannot be told."""
    found = encodings.look(path, Settings())
    with open(path, encoding=found.encoding, errors=found.errors) as file:
        return file.read().removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}").rstrip("\n").split("\n")
