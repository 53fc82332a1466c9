"""Recordings as sources have them: not decoded, parts of long files, manifests, transcripts in files of their own."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, IterableDataset

from hftransfer.config import DataConfig
from hftransfer.data.formats.base import Settings
from hftransfer.data.tables import Table, read_tables
from hftransfer.errors import NAMED_ROWS, UserError
from hftransfer.inputs._sounds import OTHER_SUFFIXES, SUFFIXES, library
from hftransfer.inputs.audio import AUDIO

COLUMN = "audio"  # what the recordings' own column is called
BESIDE = (".txt", ".lab")  # suffixes of texts that are called as their recordings
LISTS = frozenset({"", ".txt", ".tsv", ".csv"})  # suffixes of lists of texts
LONGEST = 100_000  # characters of a line of theirs
MOST_OTHERS = 1000  # of its first lines that may name no recording
NAME = 20  # characters at a line's begin, in which the name of a recording has a digit
NO_TEXTS = frozenset({"wav.scp", "segments", "utt2spk", "spk2utt", "utt2dur", "utt2lang", "utt2num_frames"})  # Kaldi's
ROOTS = ("{data_root}", "$data_root", "{root}", "$root")  # what SpeechBrain's manifests write for their folder


def undecoded(rows: Any) -> Any:
    """Return rows whose recordings are not decoded: `datasets` would want torchcodec for every look at a row."""
    for name, feature in (rows.features or {}).items():
        if isinstance(feature, datasets.Audio) and feature.decode:
            rows = rows.cast_column(name, datasets.Audio(decode=False))
    return rows


def with_parts(rows: Any) -> Any:
    """Return rows of a NeMo manifest (audio_filepath, offset, duration) with one column of parts of recordings."""
    features, name = rows.features or {}, "audio_filepath"
    if name not in features or "offset" not in features or COLUMN in features:
        return rows
    if isinstance(rows, IterableDataset):
        return _streamed_parts(rows, name)
    lengths = rows["duration"] if "duration" in features else [None] * len(rows)
    entries = [
        _entry(path, start, length)
        for path, start, length in zip(rows[name], rows["offset"], lengths, strict=True)
    ]  # fmt: skip
    gone = [column for column in (name, "offset", "duration") if column in features]
    return _with_column(rows.remove_columns(gone), entries)


def _streamed_parts(rows: IterableDataset, name: str) -> IterableDataset:
    features = rows.features
    gone = [column for column in (name, "offset", "duration") if column in features]

    left = {column: feature for column, feature in features.items() if column not in gone}
    made = datasets.Features({COLUMN: AUDIO.feature(), **left})
    return rows.map(functools.partial(_parts, name), batched=True, remove_columns=gone, features=made)


def _parts(name: str, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    lengths = batch.get("duration") or [None] * len(batch[name])
    return {COLUMN: [_entry(*one) for one in zip(batch[name], batch["offset"], lengths, strict=True)]}


def read_table(path: Path, config: DataConfig) -> Table:
    """Read a table file; of SpeechBrain's manifests in JSON ({"id": {"wav": ..., ...}}), a row an id."""
    manifest = _of_speechbrain(path)
    if manifest is None:
        return read_tables([path], config.streaming, Settings.of(config))
    return Table(manifest.to_iterable_dataset() if config.streaming else manifest)


def _of_speechbrain(path: Path) -> Dataset | None:
    if path.suffix.lower() != ".json":
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None  # JSON lines, or a file that the builder has to speak about
    if not isinstance(found, dict) or not found:
        return None
    if not all(isinstance(row, dict) and "wav" in row for row in found.values()):
        return None
    entries = [_of_wav(row["wav"], path.parent) for row in found.values()]
    names = list(dict.fromkeys(name for row in found.values() for name in row if name not in ("wav", COLUMN)))
    rest = {"id": list(found), **{name: [row.get(name) for row in found.values()] for name in names}}
    return _with_column(Dataset.from_dict(rest), entries)


def _of_wav(value: Any, folder: Path) -> dict[str, Any]:
    """Return a recording of SpeechBrain's: a path, or {"file", "start", "stop"} with places in samples."""
    if not isinstance(value, Mapping):
        return _entry(_rooted(str(value)))
    path, start, stop = _rooted(str(value["file"])), value.get("start"), value.get("stop")
    if start is None and stop is None:
        return _entry(path)
    rate = library().info(str(folder / path)).samplerate
    begin = (start or 0) / rate
    return _entry(path, begin, None if stop is None else stop / rate - begin)


def _rooted(path: str) -> str:
    root = next((root for root in ROOTS if path.startswith(root)), "")
    return path.removeprefix(root).lstrip("/") if root else path


def _entry(path: str | None, start: float | None = None, seconds: float | None = None) -> dict[str, Any]:
    return {"bytes": None, "path": path, "start": start, "seconds": seconds}


def _with_column(rows: Dataset, entries: list[dict[str, Any]]) -> Dataset:
    column = Dataset.from_dict({COLUMN: entries}, features=datasets.Features({COLUMN: AUDIO.feature()}))
    return datasets.concatenate_datasets([column, rows], axis=1) if rows.column_names else column


def refuse_others(root: Path, files: Collection[Path]) -> None:
    """Raise UserError for files among which are recordings, all of formats that soundfile does not read."""
    others = sorted(path for path in files if path.suffix.lower() in OTHER_SUFFIXES)
    if others:
        kinds = ", ".join(sorted({path.suffix.lower() for path in others}))
        first = others[0].relative_to(root)
        raise UserError(
            f"recordings ending in {', '.join(sorted(SUFFIXES))} are needed",
            f"{root} holds {len(others)} in {kinds}, such as {first}", _converted(root, others),
        )  # fmt: skip


def said_of_others(root: Path, files: Iterable[Path]) -> list[str]:
    """Return the sentence on recordings among others that are passed over: soundfile does not read their formats."""
    others = sorted(path for path in files if path.suffix.lower() in OTHER_SUFFIXES)
    if not others:
        return []
    return [f"{len(others):,} recordings are not read: {some(root, others)}. {_converted(root, others)}"]


def _converted(root: Path, files: Sequence[Path]) -> str:
    """Return the line that converts files, typed in their folder `root`."""
    kinds = dict.fromkeys("*/" * (len(path.relative_to(root).parts) - 1) + "*" + path.suffix for path in files)
    return f'Convert them first: for f in {" ".join(kinds)}; do ffmpeg -i "$f" "${{f%.*}}.flac"; done'


def texts_beside(root: Path, files: Sequence[Path], sounds: Sequence[Path]) -> tuple[list[str], list[Path]] | None:
    """Return the text of each recording, and the file of its name that it stands in: beside it, or in another folder.

    None where no recording has one. Raises UserError where some have none, and where two recordings have one text.
    """
    texts: dict[Path, Path | None] = {path: _beside(path) for path in sounds}
    if not any(texts.values()):
        named: dict[str, list[Path]] = {}
        for path in files:
            if path.suffix.lower() in BESIDE:
                named.setdefault(path.stem, []).append(path)
        texts = {path: named[path.stem][0] if len(named.get(path.stem, ())) == 1 else None for path in sounds}
        if 2 * sum(text is not None for text in texts.values()) < len(sounds):
            return None
    left = [path for path, text in texts.items() if text is None]
    owner: dict[Path, Path] = {}
    for path, text in texts.items():
        other = path if text is None else owner.setdefault(text, path)
        if other != path:
            raise UserError(
                "recordings with a text beside them need names of their own",
                f"{other.name} and {path.name} have one text", "Rename one of them.",
            )  # fmt: skip
    if left:
        raise UserError(
            "every recording needs its text beside it", f"{len(left)} of {len(sounds)} have none: {some(root, left)}",
            "Write the texts, or take the recordings out of the folder.",
        )  # fmt: skip
    return [text.read_text(encoding="utf-8").strip() for text in owner], list(owner)


def _beside(sound: Path) -> Path | None:
    return next((path for suffix in BESIDE if (path := sound.with_suffix(suffix)).is_file()), None)


def texts_listed(
    root: Path, files: Sequence[Path], sounds: Sequence[Path]
) -> tuple[list[str], list[Path], list[str]] | None:
    """Return the text of each recording, the lists that they stand in, and what is to be said of other lines.

    A list has lines that begin with a recording's name.

    So have it LibriSpeech (`*.trans.txt`), Kaldi (`text`), and LJSpeech (`metadata.csv`: the last field of a line).
    None where no list tells of half of them. Raises UserError where some are left out, or have two texts.
    """
    named: dict[str, Path | None] = {}
    for sound in sounds:
        named[sound.stem] = None if sound.stem in named else sound  # None: the name of several
    text_of: dict[Path, str] = {}
    lists, said = [], []
    own = {sound.with_suffix("") for sound in sounds}  # of texts beside one recording
    for path in sorted(path for path in files if path.suffix.lower() in LISTS and path.name not in NO_TEXTS):
        found, others = ([], 0) if path.with_suffix("") in own else _lines(path, named)
        for sound, text in found:
            other = text_of.setdefault(sound, text)
            if other != text:
                raise UserError(
                    "one text for each recording is needed",
                    f"{sound.name} has {other!r} and, in {path.relative_to(root)}, {text!r}",
                    "Take one of the lists out of the folder.",
                )  # fmt: skip
        lists += [path] if found else []
        if found and others:
            said.append(f"{path.relative_to(root)}: {others:,} lines are of recordings that are not there: not read")
    if 2 * len(text_of) < len(sounds) or not lists:
        return None
    left = [path for path in sounds if path not in text_of]
    if left:
        raise UserError(
            f"every recording needs a line in {lists[0].name}",
            f"{len(left)} of {len(sounds)} have none: {some(root, left)}",
            "Add their lines, or take the recordings out of the folder.",
        )  # fmt: skip
    return [text_of[path] for path in sounds], lists, said


def _lines(path: Path, named: Mapping[str, Path | None]) -> tuple[list[tuple[Path, str]], int]:
    """Return the recordings and texts of a list, and how many lines are of recordings that are not there.

    Nothing of a file that is no list: most of its lines name no recording.
    """
    found: list[tuple[Path, str]] = []
    others = 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line in filter(str.strip, iter(lambda: file.readline(LONGEST), "")):
                sound, text = _of_line(line.strip(), named, path.suffix.lower() == ".csv")
                if sound is not None and (not text or Path(text).suffix.lower() in SUFFIXES):
                    return [], 0
                if sound is None:
                    others += 1
                    if not found and (others > MOST_OTHERS or not any(map(str.isdigit, line[:NAME]))):
                        return [], 0  # names of columns, or none of recordings
                else:
                    found.append((sound, text))
    except UnicodeDecodeError:
        return [], 0
    return (found, others) if others <= len(found) or 2 * len(found) > len(named) else ([], 0)


def _of_line(line: str, named: Mapping[str, Path | None], barred: bool) -> tuple[Path | None, str]:
    mark = next((mark for mark in ("|", "\t") if mark in line), None if barred else " ")
    first, *rest = [line] if mark is None else line.split(mark, 1) if mark == " " else line.split(mark)
    stem = Path(first).stem if Path(first).suffix.lower() in SUFFIXES else first.strip()
    said = [part.strip() for part in rest if part.strip()]
    spoken = [part for part in said if not part.isdigit()]  # a speaker's number may stand behind the text
    return named.get(stem), (spoken or said or [""])[-1]


def some(root: Path, paths: Sequence[Path]) -> str:
    """Return the first of some files as a sentence names them."""
    named = ", ".join(str(path.relative_to(root)) for path in paths[:NAMED_ROWS])
    return named + (", ..." if len(paths) > NAMED_ROWS else "")
