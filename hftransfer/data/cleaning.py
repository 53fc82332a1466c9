"""Raw columns made canonical, and the rows that no model can learn from found before an epoch meets them."""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Features, Image, List, Value

from hftransfer.config import DataConfig
from hftransfer.data.columns import Choice, choose
from hftransfer.data.labels import FEATURES, label_kind, to_names
from hftransfer.errors import UserError
from hftransfer.tasks.base import LabelKind, Role, Task

IMAGE = Image()
DECODE_BATCH = 256  # encoded images in memory at a time
NAMED_ROWS = 3  # bad rows that a message names, for each reason
THUMB = 12  # pixels a side of the small copies that near copies are found by
NO_THUMB = np.zeros(3 * THUMB**2, np.uint8)
# what PIL's decoders raise on damaged files; a list, so that a mistake of ours (AttributeError, NameError) still shows
UNREADABLE = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError, NotImplementedError,
    struct.error, zlib.error, PIL.Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """How a source's columns become a task's: the column of each role, and what the labels are."""

    roles: tuple[Role, ...]
    columns: dict[str, str]
    kind: LabelKind
    separator: str | None = None
    folder: Path | None = None  # that image names in a table are relative to

    @property
    def label(self) -> str:
        """The role that holds the answers."""
        return next(role.name for role in self.roles if role.kind in ("label", "tags"))

    def features(self, encoded: bool = True) -> Features:
        """Return the features of canonical rows, with labels as indexes or still as names."""
        by_kind = {"text": Value("string"), "image": Image(), "words": List(Value("string"))}
        names = {"single_label": Value("string"), "regression": Value("float64")}
        answer = FEATURES[self.kind] if encoded else names.get(self.kind, List(Value("string")))
        return Features({"row_id": Value("string")} | {r.name: by_kind.get(r.kind, answer) for r in self.roles})


def plan(
    features: Features, preview: pa.Table, whole: bool, config: DataConfig, task: Task
) -> tuple[tuple[Choice, ...], Reading, list[str]]:
    """Decide which columns are read and how, from the training rows' types and a preview, and return warnings."""
    choices = choose(features, preview, task.roles, config.columns, task=task.name, group=config.group, whole=whole)
    columns = {choice.role: choice.column for choice in choices}
    roles = tuple(role for role in task.roles if role.name in columns)
    label = next(role for role in roles if role.kind in ("label", "tags"))
    feature = features[columns[label.name]]
    kind = label_kind(feature, config, task.label_kinds)
    warnings = []
    if kind == "single_label" and isinstance(feature, Value) and feature.dtype.startswith("float"):
        warnings.append(f"`{columns[label.name]}` holds whole numbers as decimals; they are read as 0, 1, 2")
    return choices, Reading(roles, columns, kind, config.label_separator), warnings


def previewable(features: Features) -> list[str]:
    """Return the columns whose values are looked at to guess roles: no lists, and no images, which may be large."""
    return [
        name
        for name, feature in features.items()
        if isinstance(feature, ClassLabel | Value) and "binary" not in feature.dtype
    ]


@dataclass
class BadRows:
    """The rows of one split that cannot be used, by reason."""

    split: str
    rows: int = 0
    bad: int = 0
    reasons: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def add(self, table: pa.Table, found: Mapping[int, str], reading: Reading) -> None:
        """Count the bad rows found in a canonical table."""
        self.rows += table.num_rows
        self.bad += len(found)
        for place, reason in found.items():
            count, first = self.reasons.get(reason, (0, []))
            first = [*first, _row_name(table, place, reading)] if len(first) < NAMED_ROWS else first
            self.reasons[reason] = (count + 1, first)

    def warnings(self, policy: str) -> list[str]:
        """Return the warning about dropped rows; UserError when the policy refuses them, or most rows are bad."""
        if not self.bad:
            return []
        listed = "; ".join(
            f"{count} with {reason} ({', '.join(first)}{', ...' if count > len(first) else ''})"
            for reason, (count, first) in self.reasons.items()
        )
        if 2 * self.bad > self.rows:
            raise UserError(
                f"usable rows are needed in {self.split}",
                f"{self.bad} of {self.rows} are not: {listed}",
                "Name other columns in data.columns, or mend the data.",
            )
        if policy == "refuse":
            raise UserError(
                f"every row of {self.split} must be usable",
                f"{self.bad} of {self.rows} are not: {listed}",
                "Mend them, or set data.bad_rows=drop.",
            )
        return [f"{self.split}: {self.bad} of {self.rows} rows dropped: {listed}"]


def _row_name(table: pa.Table, place: int, reading: Reading) -> str:
    """Return what a person finds a row by: its id, and the file of an image."""
    images = [table[role.name][place].as_py() for role in reading.roles if role.kind == "image"]
    files = [Path(image["path"]).name for image in images if image and image["path"]]
    return " ".join([table["row_id"][place].as_py(), *files])


def require_columns(use: str, features: Features, reading: Reading) -> list[str]:
    """Return the columns that are read; UserError when a split lacks one of them."""
    for role, column in reading.columns.items():
        if column not in features:
            raise UserError(
                f"every split needs the column `{column}` ({role})",
                f"{use} has {', '.join(features)}",
                f"Rename its columns, or name another split in data.{use}.",
            )
    return list(dict.fromkeys(reading.columns.values()))


def canonical(table: pa.Table, features: Features, row_ids: pa.Array, reading: Reading) -> pa.Table:
    """Return `row_id` and the roles' columns with the roles' types; labels are names still, nulls stay nulls."""
    columns: dict[str, Any] = {"row_id": row_ids}
    for role in reading.roles:
        name = reading.columns[role.name]
        raw = table[name]
        if role.kind == "text":
            text = raw if pa.types.is_string(raw.type) else raw.cast(pa.string())
            columns[role.name] = text if role.required or not text.null_count else pc.fill_null(text, "")
        elif role.kind == "image":
            columns[role.name] = _images(raw, reading.folder)
        elif role.kind == "words":
            columns[role.name] = raw.cast(pa.list_(pa.string()))
        else:
            raw = raw.combine_chunks() if raw.num_chunks != 1 else raw.chunk(0)
            if pa.types.is_large_list(raw.type) or pa.types.is_fixed_size_list(raw.type):
                raw = raw.cast(pa.list_(raw.type.value_type))
            columns[role.name] = to_names(raw, features[name], reading.kind, reading.separator)
    return pa.table(columns)


def _images(column: pa.ChunkedArray, folder: Path | None) -> pa.ChunkedArray:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        base = str(folder or Path.cwd())
        paths = [None if name is None else os.path.join(base, name) for name in column.to_pylist()]
        column = pa.chunked_array([pa.array(paths, pa.string())])
    return pa.chunked_array([IMAGE.cast_storage(chunk) for chunk in column.chunks], IMAGE.pa_type)


def bad_rows(
    table: pa.Table, reading: Reading
) -> tuple[dict[int, str], dict[str, list[bytes]], dict[str, np.ndarray]]:
    """Return the place and the reason of each row of a canonical table that cannot be used.

    Also, by role, the hash of every image's pixels and a small copy of it, uint8 (rows, pixels), since each is decoded
    here: empty and black where it cannot be.
    """
    found: dict[int, str] = {}
    pixels: dict[str, list[bytes]] = {}
    thumbs: dict[str, np.ndarray] = {}
    for role in reading.roles:
        column = table[role.name]
        if role.kind == "text" and role.required:
            trimmed = pc.utf8_trim_whitespace(column)
            _note(found, pc.or_kleene(pc.is_null(column), pc.equal(trimmed, "")), "no text")
        elif role.kind == "words":
            _note(found, pc.equal(pc.fill_null(pc.list_value_length(column), 0), 0), "no words")
            _note(found, _holds_null(column), "a word that is null")
        elif role.kind == "label":
            _note(found, pc.is_null(column), "no label")
            if pa.types.is_list(column.type):
                _note(found, _holds_null(column), "a label that is null")
        elif role.kind == "tags":
            words = next(other.name for other in reading.roles if other.kind == "words")
            _note(found, pc.is_null(column), "no tags")
            _note(found, _holds_null(column), "a tag that is null")
            differ = pc.not_equal(pc.list_value_length(table[words]), pc.list_value_length(column))
            _note(found, differ, "tags and words that differ in number")
        elif role.kind == "image":
            decoded = list(_decode(column))
            pixels[role.name] = [digest for _, digest, _ in decoded]
            thumbs[role.name] = np.stack([thumb for _, _, thumb in decoded])
            for place, (reason, _, _) in enumerate(decoded):
                if reason:
                    found.setdefault(place, reason)
    return dict(sorted(found.items())), pixels, thumbs


def _note(found: dict[int, str], mask: Any, reason: str) -> None:
    for place in np.flatnonzero(np.asarray(pc.fill_null(mask, False))):
        found.setdefault(int(place), reason)


def _holds_null(lists: pa.ChunkedArray) -> pa.Array:
    whole = lists.combine_chunks()
    parents = pc.list_parent_indices(whole)
    mask = np.zeros(len(whole), dtype=bool)
    mask[parents.filter(whole.flatten().is_null()).to_numpy()] = True
    return pa.array(mask)


def _decode(column: pa.ChunkedArray) -> Iterator[tuple[str | None, bytes, np.ndarray]]:
    """Decode every image once, as training will; yield the reason if that fails, its pixels' hash, a small copy."""
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # PIL warns about odd metadata in images that are fine
        for start in range(0, len(column), DECODE_BATCH):
            yield from pool.map(_decoded, column.slice(start, DECODE_BATCH).to_pylist())


def _decoded(value: dict[str, Any] | None) -> tuple[str | None, bytes, np.ndarray]:
    if value is None or (value["bytes"] is None and value["path"] is None):
        return "no image", b"", NO_THUMB
    try:
        image = IMAGE.decode_example({"bytes": image_bytes(value), "path": value["path"]}).convert("RGB")
    except UNREADABLE:
        return "an unreadable image", b"", NO_THUMB
    digest = hashlib.blake2b(image.tobytes(), digest_size=16, salt=b"%dx%d" % image.size).digest()
    thumb = image.resize((THUMB, THUMB), PIL.Image.Resampling.HAMMING)  # BOX takes whole pixels: unlike by size
    return None, digest, np.asarray(thumb, np.uint8).ravel()


def image_bytes(value: dict[str, Any]) -> bytes:
    """Return the encoded bytes of an image, read from its local or remote path when the row does not hold them."""
    if value["bytes"] is not None:
        return bytes(value["bytes"])
    if "://" not in value["path"]:
        return Path(value["path"]).read_bytes()
    with fsspec.open(value["path"], "rb") as file:
        return bytes(file.read())
