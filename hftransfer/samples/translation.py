"""Sentences in two languages: the messages of a program and their translations."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hftransfer.samples import rows
from hftransfer.samples.sample import Package, Sample

if TYPE_CHECKING:
    from hftransfer.samples.archives import Archive

LIBREOFFICE_FR = Package(
    "Debian",
    "libreoffice-l10n-fr",
    "4:7.4.7-1+deb12u14",
    "111da5e1b8379dc58a127ef76ef85e2b6819da5cb2c5fe73d13b25a0437f988c",
    860_388,
    "./usr/share/doc/libreoffice-l10n-fr/copyright",
    source="libreoffice",
)
LONGEST = 300  # characters of a message
FEWEST = 3  # words of one
# what is no language: keys under an underscore or tilde, tags, and what the program fills in
_MARKUP = r"[~_&](?=\w)|<[^>]+>|%[A-Z_0-9]+%?|\$\([^)]*\)"


def libreoffice(folder: Path, archive: Archive, language: str) -> None:
    """Write translation {en, LANGUAGE} and doc (the part of the program), each English message once."""
    found: dict[str, tuple[dict[str, str], str]] = {}
    for path, content in sorted(archive.files("./usr/lib/libreoffice/program/resource/", ".mo")):
        for source, target in messages(content):
            english, other = _plain(source), _plain(target)
            sentence = len(english.split()) >= FEWEST and len(english) < LONGEST and "{" not in english
            if sentence and other and other != english:
                found.setdefault(english, ({"en": english, language: other}, PurePosixPath(path).stem))
    rows.write(folder, ("translation", "doc"), found.values())


def messages(catalog: bytes) -> Iterator[tuple[str, str]]:
    """Yield message and translation of a compiled gettext catalogue, the singular of two: gettext's manual, 10.3."""
    magic, _, count, sources, targets = struct.unpack_from("<5I", catalog)
    if magic != 0x950412DE:
        raise ValueError("no gettext catalogue in little-endian order")
    for index in range(count):
        source, target = (_string(catalog, table + 8 * index) for table in (sources, targets))
        yield source.rpartition("\x04")[2], target  # before it stands a context


def _string(catalog: bytes, at: int) -> str:
    length, start = struct.unpack_from("<2I", catalog, at)
    return catalog[start : start + length].partition(b"\0")[0].decode()


def _plain(message: str) -> str:
    return " ".join(re.sub(_MARKUP, "", message).split())


SAMPLES = (
    Sample(
        "libreoffice-en-fr",
        "data",
        "translation",
        "10079 messages of LibreOffice in English and French, 3 words and more; doc is the part of the program.",
        "MPL-2.0",
        (LIBREOFFICE_FR,),
        partial(libreoffice, language="fr"),
    ),
)
