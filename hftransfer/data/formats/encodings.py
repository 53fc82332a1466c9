"""The encoding of a text file: found from all of its bytes, or asked for where two readings are plausible."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import charset_normalizer

from hftransfer.data.formats.base import Settings, empty
from hftransfer.data.formats.languages import (
    LATIN,
    LETTERS,
    OLD,
    SEVERAL_BYTES,
    is_common,
    is_mostly_small,
    is_plausible,
)
from hftransfer.errors import UserError

CHUNK = 1 << 20  # bytes that are looked at together: few enough to stay in the processor's cache
EVIDENCE = 200_000  # bytes of lines beyond ASCII by which an encoding is told
MENDED = "hftransfer-cp1252"  # how single bytes that are not UTF-8 are read in a file that else is
BOMS = {
    codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
BINARY = {
    b"PK\x03\x04": "a zip file or a workbook", b"\x1f\x8b": "a gzip file", b"%PDF": "a PDF", b"PAR1": "a Parquet file",
    b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture", b"GIF8": "a picture", 
    b"\xd0\xcf\x11\xe0": "an old workbook", b"ARROW1": "an Arrow file",
}  # fmt: skip
CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
SURE = 0.2  # by how much the better of two readings is more like a language


def _mend(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("cp1252", errors="replace"), error.end


codecs.register_error(MENDED, _mend)


@dataclass(frozen=True)
class Text:
    """How the bytes of a file become characters, and what stands in it that decides how it is read on."""

    path: Path
    encoding: str
    errors: str
    quotes: bool
    returns: bool  # a carriage return without a line feed
    backslashed: bool  # a quote behind a backslash
    paired: bool  # backslashes, and each beside another
    size: int
    guesses: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_utf8(self) -> bool:
        """Whether the bytes can be given to readers that know UTF-8 alone."""
        return self.encoding in ("utf-8", "utf-8-sig") and self.errors == "strict"

    def sample(self, most: int = 1 << 18) -> tuple[str, bool]:
        """Return the beginning as text that ends with a line, and whether that is all."""
        with open(self.path, encoding=self.encoding, errors=self.errors, newline="") as file:
            text = file.read(most)
            more = bool(file.read(1))
        return (text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text if more else text), not more


def look(path: Path, settings: Settings) -> Text:
    """Read a file once and return its encoding; UserError asks for one where it cannot be told."""
    with open(path, "rb") as file:
        head = file.read(4)
    if not head:
        raise empty(path)
    _refuse_others(path, settings)
    seen = _Seen()
    if settings.encoding is not None:
        return _as_asked(path, settings.encoding, seen)
    named = next((name for bom, name in BOMS.items() if head.startswith(bom)), None)
    if named is not None and named != "utf-8-sig":
        return _wide(path, named, seen, settings)
    decoder = codecs.getincrementaldecoder("utf-8")()
    waiting = False  # for the rest of a character
    try:
        for chunk in _chunks(path):
            if b"\0" in chunk:
                return _wide(path, None, seen, settings)
            seen.add(chunk)
            if waiting or not chunk.isascii():
                decoder.decode(chunk)
                waiting = bool(decoder.getstate()[0])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _not_utf8(path, settings)
    if seen.control:
        raise _no_text(path, settings, "it holds control characters")
    return seen.text(path, named or "utf-8")


def _refuse_others(path: Path, settings: Settings) -> None:
    """Raise UserError for files of another kind under the suffix of a text file."""
    with open(path, "rb") as file:
        head = file.read(64)
    known = next((kind for start, kind in BINARY.items() if head.startswith(start)), None)
    if known is None and re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        known = "a web page"
    if known is not None:
        raise UserError(
            f"{path.name} must be what its suffix says", f"it begins like {known}", "Rename it, or get it again."
        )


class _Seen:
    """What was seen of the bytes of a file that is an extension of ASCII."""

    def __init__(self) -> None:
        self.quotes = self.returns = self.backslashed = self.control = False
        self.size = self.slashes = self.pairs = 0

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.quotes = self.quotes or b'"' in chunk
        if b"\\" in chunk:
            self.slashes += chunk.count(b"\\")
            self.pairs += chunk.count(b"\\\\")
            self.backslashed = self.backslashed or b'\\"' in chunk
        self.returns = self.returns or (b"\r" in chunk and chunk.count(b"\r") != chunk.count(b"\r\n"))
        if self.size <= 2 * CHUNK:  # the beginning tells what is no text
            self.control = self.control or any(bytes([sign]) in chunk for sign in range(1, 9))

    def text(self, path: Path, encoding: str, errors: str = "strict", **said: Any) -> Text:
        paired = 0 < self.slashes == 2 * self.pairs
        return Text(path, encoding, errors, self.quotes, self.returns, self.backslashed, paired, self.size, **said)


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            if chunk.endswith(b"\r"):
                chunk += file.read(1)  # a line feed may follow
            yield chunk


def _as_asked(path: Path, encoding: str, seen: _Seen) -> Text:
    try:
        "".encode(encoding)  # knows codecs that are no encodings of text
        if codecs.lookup(encoding).name == "utf-8":
            encoding = "utf-8-sig"  # a mark at the beginning is none of the text
    except LookupError as error:
        raise UserError(
            "data.encoding must be an encoding that Python knows",
            f"found {encoding!r}",
            "Try utf-8, cp1252 or utf-16.",
        ) from error
    return _decoded(path, encoding, seen, f"data.encoding={encoding}")


def _decoded(path: Path, encoding: str, seen: _Seen, wanted: str, **said: Any) -> Text:
    """Read the whole file in an encoding; UserError names the line that is not in it."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    try:
        with open(path, "rb") as file:
            for line, raw in enumerate(file, 1):  # noqa: B007
                seen.add(decoder.decode(raw).encode("utf-8", errors="replace"))
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise UserError(
            f"{path.name} must be in the encoding {encoding} ({wanted})", f"line {line} is not",
            "Name the encoding that it was saved in.",
        ) from error  # fmt: skip
    return seen.text(path, encoding, **said)


def _wide(path: Path, named: str | None, seen: _Seen, settings: Settings) -> Text:
    """Return how a file with zero bytes is read: UTF-16 or UTF-32, by its mark or by what comes out."""
    if named is not None:
        return _decoded(path, named, seen, "its first bytes say so")
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    fitting = [name for name in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be") if _reads_as(head, name)]
    if not fitting and 200 * head.count(0) < len(head):
        line = head[: head.index(0)].count(b"\n") + 1 if 0 in head else "one"
        raise UserError(f"{path.name} must be text", f"line {line} holds a zero byte", "Mend that line.")
    if len(fitting) != 1:
        raise _no_text(path, settings, "it holds zero bytes")
    guess = f"{path.name}: read as {fitting[0]}, by its zero bytes (data.encoding)"
    return _decoded(path, fitting[0], seen, "guessed by its zero bytes", guesses=(guess,))


def _reads_as(head: bytes, encoding: str) -> bool:
    width = 4 if "32" in encoding else 2
    zeros = [place % width for place, byte in enumerate(head[:4096]) if not byte]
    if width == 2 and len(set(zeros)) > 1:
        return False  # the upper bytes of letters are zero, or the lower ones, never both
    try:
        text = head[: len(head) // width * width].decode(encoding, errors="strict")
    except UnicodeDecodeError as error:
        if error.end < len(head) - 4:  # not what was cut off
            return False
        text = head[: error.start].decode(encoding)
    strange = sum(not (sign.isprintable() or sign in "\t\r\n") for sign in text)
    if any(sign in text for sign in "\0\1\2\3\ufffe"):
        return False
    ascii_share = sum(sign < "\x80" for sign in text) / max(1, len(text))
    return 50 * strange < len(text) and ascii_share > 0.05 and any(sign in text for sign in " ,;\t\n")


def _no_text(path: Path, settings: Settings, why: str) -> UserError:
    return UserError(
        f"{path.name} must be text", f"{why}, and in no known encoding is it plausible text",
        settings.advice("data.encoding to the one that it was saved in", "save it as UTF-8"),
    )  # fmt: skip


# --- bytes that are not UTF-8 ---


def _not_utf8(path: Path, settings: Settings) -> Text:
    """Return how a file that is not UTF-8 is read: UTF-8 with single bad bytes, or another encoding as a whole."""
    seen, good, bad, evidence = _Seen(), 0, [], b""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            seen.add(line)
            if line.isascii():
                continue
            if len(evidence) < EVIDENCE:
                evidence += line
            try:
                line.decode()
                good += 1
            except UnicodeDecodeError as error:
                bad.append((number, line[error.start]))
    if seen.control:
        raise _no_text(path, settings, "it holds control characters")
    if good > len(bad):
        lines = ", ".join(f"{number} (byte {byte:#04x})" for number, byte in bad[:3])
        count = "1 line is" if len(bad) == 1 else f"{len(bad):,} lines are"
        said = f"{path.name}: {count} not UTF-8, unlike the others: line {lines}"
        more = ", ..." if len(bad) > 3 else ""
        sentence = f"{said}{more}; such bytes were read as cp1252"
        return seen.text(path, "utf-8-sig", MENDED, warnings=(sentence,))
    encoding = told(path, evidence, settings)
    guess = f"{path.name} is not UTF-8; it was read as {encoding} (data.encoding)"
    return _decoded(path, encoding, _Seen(), "guessed from its bytes", guesses=(guess,))


def told(path: Path, evidence: bytes, settings: Settings) -> str:
    """Return the encoding in which bytes are plausible text; UserError where that are several, or none."""
    readings: dict[str, list[str]] = {}  # by text: encodings that give the same are one reading
    for encoding in sorted(LETTERS, key=lambda name: name in OLD):
        text = _text_in(evidence, encoding)
        if encoding in OLD and readings:
            break
        if text is not None and is_plausible(text, LETTERS[encoding], encoding in LATIN):
            readings.setdefault(text, []).append(encoding)
    small = [text for text in readings if is_mostly_small(text)]
    if small and len(small) < len(readings):  # where the others are all in capitals, they are the wrong ones
        readings = {text: readings[text] for text in small}
    if len(readings) == 1:
        return next(iter(readings.values()))[0]
    if not readings:
        return _of_several_bytes(path, evidence, settings)
    names = [name for found in readings.values() for name in found]
    matches = {
        match.encoding: match
        for match in charset_normalizer.from_bytes(evidence, cp_isolation=names)
        if match.encoding in names
    }
    by = sorted(matches, key=lambda name: -matches[name].coherence)
    if by:
        other = next((name for name in by[1:] if str(matches[name]) != str(matches[by[0]])), None)
        behind = matches[other].coherence if other else 0.0
        if matches[by[0]].coherence - behind >= SURE:
            return next(found[0] for found in readings.values() if by[0] in found)
    raise _unclear(path, names, settings)


def _of_several_bytes(path: Path, evidence: bytes, settings: Settings) -> str:
    """Return the encoding of Chinese, Japanese or Korean in which bytes are text of common signs; UserError else."""
    found = []
    for encoding in SEVERAL_BYTES:
        text = _text_in(evidence, encoding)
        if text is not None and not CONTROL.search(text) and is_common(text, encoding):
            found.append(encoding)
    if len(found) == 1 or found[:1] in (["cp932"], ["euc_jp"]):  # no other has its small letters
        return found[0]
    raise _unclear(path, found, settings)


def _text_in(evidence: bytes, encoding: str) -> str | None:
    try:
        return evidence.decode(encoding)
    except UnicodeDecodeError:
        return None


def _unclear(path: Path, plausible: list[str], settings: Settings) -> UserError:
    found = f"it is not UTF-8, and could be {' or '.join(plausible[:4])}" if plausible else "it is not UTF-8"
    return UserError(
        f"the encoding of {path.name} must be known", f"{found}: its bytes alone do not tell",
        settings.advice("data.encoding to the one that it was saved in", "save it as UTF-8"),
    )  # fmt: skip
