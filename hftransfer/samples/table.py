"""Every sample by name, the groups of them, and where a fetched one stands."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hftransfer.errors import UserError, unknown
from hftransfer.samples import (
    backbones,
    changes,
    chat,
    detectors,
    pictures,
    questions,
    scenes,
    telephone,
    text,
    translation,
    whisper,
    words,
)  # fmt: skip
from hftransfer.samples.sample import IMAGES, PREFIX, ROWS, Sample, cache_folder

_FIELDS = (text, words, questions, translation, chat, whisper, telephone, backbones, detectors, pictures, scenes,
           changes)  # fmt: skip
SAMPLES = {sample.name: sample for field in _FIELDS for sample in field.SAMPLES}
GROUPS = {
    "text": ("all-minilm-l6-v2", "vader-tweets", "vader-movie", "vader-amazon"),
    "image": ("mobilenet-v2", "digits"),
    "tokens": ("all-minilm-l6-v2", "brown"),
    "questions": ("all-minilm-l6-v2", "brown-cloze"),
    "translation": ("libreoffice-en-fr",),
    "recommendation": ("all-minilm-l6-v2", "emacs-changes"),
    "chat": ("smollm2-135m-instruct", "libreoffice-en-fr"),
    "speech": (
        "whisper-tiny-en",
        "telephone-numbers",
        "telephone-numbers-es",
        "telephone-prompts",
        "telephone-prompts-en-es",
    ),
    "detection": ("rtdetr-thin", "emoji-scenes"),
    "captions": ("mobilenet-minilm", "emoji-names"),
    "vision": ("resnet50-thin", "emoji-scenes", "tree-crowns", "emoji-names"),
}


def listing() -> list[Sample]:
    """Return every sample."""
    return list(SAMPLES.values())


def models() -> list[Sample]:
    """Return those that are models."""
    return [sample for sample in listing() if sample.is_model]


def data_sets() -> list[Sample]:
    """Return those that are data sets."""
    return [sample for sample in listing() if not sample.is_model]


def resolve(name: str) -> str:
    """Return the place of `sample:NAME`, and any other text untouched; UserError when it was not fetched yet."""
    if not name.startswith(PREFIX):
        return name
    name = name.removeprefix(PREFIX)
    if name not in SAMPLES:
        raise unknown("sample", name, SAMPLES)
    return str(resolve_model(name) if SAMPLES[name].is_model else resolve_data(name))


def resolve_model(name: str) -> Path:
    """Return the folder of a fetched model, fit for from_pretrained."""
    return _fetched(name, "sample model", models()).folder


def resolve_data(name: str) -> Path:
    """Return a fetched data set without its notes: the Parquet file of a table, the folder with a folder a class."""
    folder = _fetched(name, "sample data set", data_sets()).folder
    table = folder / ROWS
    return table if table.is_file() else folder / IMAGES


def _fetched(name: str, wanted: str, among: Iterable[Sample]) -> Sample:
    choices = {sample.name: sample for sample in among}
    if name not in choices:
        raise unknown(wanted, name, choices)
    if not choices[name].present:
        raise UserError(
            f"the sample {name!r} is needed",
            f"it is not in {cache_folder()} yet",
            f"Run: hftransfer samples {name}",
        )
    return choices[name]
