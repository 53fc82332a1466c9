"""Looks at one uploaded file, in a process of its own that may hang, run out of memory or crash without any harm.

Run by hftransfer.ui.uploads: python -m hftransfer.ui.inspection '{"path": ..., "suffix": ".csv", ...}'
"""

from __future__ import annotations

import io
import json
import shutil
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hftransfer.data.suffixes import OF_PEOPLE
from hftransfer.errors import UserError
from hftransfer.safety import fence, machine
from hftransfer.safety.pictures import ACTIVE
from hftransfer.safety.pictures import SUFFIXES as PICTURES
from hftransfer.safety.unpacking import require_places, require_safe
from hftransfer.ui.delimited_inspection import columns_of
from hftransfer.ui.disk import INODE
from hftransfer.ui.metadata_inspection import require_inside

MEMORY = 3 * 2**30  # of this process
CPU_SECONDS = 120
LINE = 10 * 2**20  # bytes of a line: a row of a table
READ = 256 * 2**20  # bytes of JSON that are looked at whole; tables that are larger are looked at so far
ENTRIES = 200_000  # files and folders of a zip
LOOKED_AT = 20_000  # pictures of a zip, spread evenly, that are opened
PICTURE_BYTES = 64 * 2**20  # of one packed picture
DEPTH = 32  # of nested JSON
NAME = 200  # characters of a name in a zip
SENTENCES = (".conll", ".conllu", ".bio", ".iob", ".iob2")
WORKBOOKS = (".xlsx", ".xlsm")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".tmx", *WORKBOOKS, *SENTENCES)
MAPPED = (".arrow", ".feather")  # read where they lie, not checked value by value
TEXTS = (".txt", ".text")
TABULAR = (*TABLES, *TEXTS, *OF_PEOPLE)
BINARY = (b"PK\x03\x04", b"\x7fELF", b"\x1f\x8b", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF", b"MZ", b"PAR1")


@dataclass(frozen=True)
class Limits:
    """What an operator allows: bytes that a file may unpack to, pixels of a picture, columns of a table."""

    unpacked: int
    pixels: int
    columns: int


def main() -> int:
    """Look at the file that the one argument tells of; print {"found": ...} or {"refused": [...]}."""
    asked = json.loads(sys.argv[1])
    machine.give_way(asked["later"])
    fence.close(sockets="none")
    for kind, most in (("AS", MEMORY), ("CPU", CPU_SECONDS), ("FSIZE", 0), ("CORE", 0)):
        machine.limit(kind, most)
    try:
        found = inspect(Path(asked["path"]), asked["suffix"], Limits(**asked["limits"]))
    except UserError as error:
        print(json.dumps({"refused": [error.wanted, error.found, error.action]}))
    except (MemoryError, RecursionError):
        print(json.dumps({"refused": ["a file of reasonable size is needed", "reading it takes too much memory", ""]}))
    else:
        print(json.dumps({"found": found}))
    return 0


def inspect(path: Path, suffix: str, limits: Limits) -> dict[str, Any]:
    """Return what a file holds, in a word or two; UserError when it is not what its suffix says, or does harm."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise UserError("a plain file is needed", f"{path.name} is a link or a device", "Upload the file itself.")
    if not path.stat().st_size:
        raise UserError("a file with content is needed", f"{path.name} is empty", "Upload another.")
    if suffix == ".zip":
        return _zip(path, limits)
    if suffix in PICTURES:
        from hftransfer.ui.picture_inspection import require_picture

        return require_picture(path.read_bytes(), path.name, limits.pixels, decode=True)
    if suffix not in TABULAR:  # what most people bring needs none of what reads pictures and recordings
        from hftransfer.inputs._sounds import SUFFIXES as SOUNDS
        from hftransfer.ui.recording_inspection import require_recording

        if suffix in SOUNDS:
            return require_recording(path.read_bytes(), path.name)
    with open(path, "rb") as file:
        return _table(file, suffix, path.name, limits)


# --- tables ---


def _table(file: IO[bytes], suffix: str, name: str, limits: Limits) -> dict[str, Any]:
    if suffix in (".parquet", ".pq"):
        return _parquet(file, name, limits)
    if suffix in WORKBOOKS:
        return _workbook(file, name, limits)
    if suffix == ".tmx":  # XML, which its reader takes apart piece by piece and opens nothing for
        return {"columns": 2}
    _require_text(file, name)
    if suffix in (*TEXTS, *SENTENCES, *OF_PEOPLE):
        return {"rows": sum(1 for _ in _lines(file, name)), "columns": 1}
    if suffix in (".csv", ".tsv"):
        return _delimited(file, name, limits)
    return _json_lines(file, name, limits) if suffix != ".json" else _json(file, name, limits)


def _require_text(file: IO[bytes], name: str) -> None:
    head = file.read(65536)
    file.seek(0)
    zeros = {place % 2 for place, byte in enumerate(head) if not byte}
    wide = head[:2] in (b"\xff\xfe", b"\xfe\xff") or len(zeros) == 1  # UTF-16 without its mark
    if head.startswith(BINARY) or head.lstrip().lower().startswith(ACTIVE) or (b"\0" in head and not wide):
        raise UserError(
            f"{name} must be the table that its suffix says", "its content is something else", "Convert it."
        )


def _lines(file: IO[bytes], name: str) -> Iterator[bytes]:
    """Return a file's lines; UserError at one that no row of a table is as long as."""
    while line := file.readline(LINE + 1):
        if len(line) > LINE:
            raise UserError(
                f"every row of {name} must fit in {LINE >> 20} MB", "one is longer", "Is it a table? Mend the row."
            )
        yield line


def _delimited(file: IO[bytes], name: str, limits: Limits) -> dict[str, Any]:
    rows = 0
    head = bytearray()  # a header may have line breaks in quotes, as the reader of the rows takes it
    for line in _lines(file, name):
        if len(head) < LINE:
            head += line
        rows += 1
    columns = columns_of(file, bytes(head), limits.columns)
    _require_columns(columns, name, limits)
    return {"rows": max(0, rows - 1), "columns": columns}


def _require_columns(columns: int, name: str, limits: Limits) -> None:
    if columns > limits.columns:
        raise UserError(
            f"{name} may have up to {limits.columns:,} columns", f"it has {columns:,}", "Keep the ones you need."
        )


def _json_lines(file: IO[bytes], name: str, limits: Limits) -> dict[str, Any]:
    keys: set[str] = set()
    rows = read = 0
    for line in _lines(file, name):
        rows += 1
        read += len(line)
        if read < READ and line.strip():
            keys |= _keys([_parsed(line, name)], name)
            _require_columns(len(keys), name, limits)
    return {"rows": rows, "columns": len(keys)}


def _json(file: IO[bytes], name: str, limits: Limits) -> dict[str, Any]:
    data = file.read(READ + 1)
    if len(data) > READ:
        raise UserError(f"{name} must be smaller than {READ >> 20} MB", "it is larger", "Save it as JSONL.")
    try:
        tree = json.loads(data)
    except RecursionError as error:
        raise _too_deep(name) from error
    except ValueError:  # JSON lines under the other suffix
        file.seek(0)
        return _json_lines(file, name, limits)
    rows = tree if isinstance(tree, list) else [tree]
    if isinstance(tree, dict) and tree and all(isinstance(value, dict) for value in tree.values()):
        first = next(iter(tree.values()))  # column by column, or row by row: whichever are fewer are columns
        rows = [first] if len(first) < len(tree) else [dict.fromkeys(tree)]
        _keys([tree], name)  # not too deep
    columns = _keys(rows, name)
    _require_columns(len(columns), name, limits)
    return {"rows": len(rows), "columns": len(columns)}


def _too_deep(name: str) -> UserError:
    return UserError(f"{name} must be a table", "its values are nested too deep", "Flatten it.")


def _parsed(line: bytes, name: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"every line of {name} must be JSON", str(error)[:200], "Mend the line.") from error


def _keys(rows: Iterable[Any], name: str) -> set[str]:
    """Return the names of all fields, those of nested ones included; UserError where they nest too deep."""
    found: set[str] = set()
    waiting = [(row, 1) for row in rows]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEPTH:
            raise _too_deep(name)
        if isinstance(value, dict):
            found |= value.keys()
            waiting += [(part, depth + 1) for part in value.values() if isinstance(part, dict | list)]
        elif isinstance(value, list):
            waiting += [(part, depth + 1) for part in value if isinstance(part, dict | list)]
    return found


def _workbook(file: IO[bytes], name: str, limits: Limits) -> dict[str, Any]:
    """Look at the parts of a workbook, which is a zip; what its cells hold is read by a worker within its limits."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            if sum(part.file_size for part in parts) > limits.unpacked:
                raise _too_large(name, limits)
            if "xl/workbook.xml" not in archive.namelist():
                raise UserError(f"{name} must be a workbook of Excel", "it is another zip file", "Save it again.")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise UserError(f"{name} must be a workbook of Excel", str(error)[:200], "Save it again.") from error
    return {"parts": len(parts)}


def _parquet(file: IO[bytes], name: str, limits: Limits) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        _require_columns(table.metadata.num_columns, name, limits)
        total = 0
        if table.metadata.num_rows * max(1, table.metadata.num_columns) > limits.unpacked:
            # cells that are empty unpack to nothing, and still are looked at one by one
            raise _too_large(name, limits)
        # a few bytes can stand for any number of equal rows: only unpacking tells
        for batch in table.iter_batches(batch_size=256):
            total += sum(_unpacked(column, name) for column in batch.columns)
            if total > limits.unpacked:
                raise _too_large(name, limits)
            _require_embedded(batch, name)
        return {"rows": table.metadata.num_rows, "columns": len(table.schema_arrow.names)}
    except pa.ArrowMemoryError as error:
        raise _too_large(name, limits) from error
    except (pa.ArrowException, OSError, ValueError, IndexError, KeyError) as error:
        raise UserError(
            f"{name} must be a Parquet file", " ".join(str(error).split())[:200], "Write it again."
        ) from error


def _unpacked(column: Any, name: str) -> int:
    """Return the bytes of a column with every value written out: a dictionary holds a repeated one once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        if "dictionary<" in str(column.type):
            raise UserError(f"{name} must be a plain table", "it holds dictionaries inside others", "Flatten it.")
        return int(column.nbytes)
    if not (pa.types.is_string(column.type.value_type) or pa.types.is_large_string(column.type.value_type)):
        return len(column) * 16
    return int(pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0)


def _too_large(name: str, limits: Limits) -> UserError:
    return UserError(f"{name} may unpack to {limits.unpacked >> 20:,} MB", "it is more", "Keep fewer rows.")


def _require_embedded(batch: Any, name: str) -> None:
    """Refuse pictures that are a path and no bytes: they would be read from this machine, or from any URL."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for column in batch.columns:
        if not pa.types.is_struct(column.type) or {field.name for field in column.type} != {"bytes", "path"}:
            continue
        missing = pc.and_(pc.is_null(pc.struct_field(column, "bytes")), pc.is_valid(pc.struct_field(column, "path")))
        if pc.any(missing).as_py():
            raise UserError(
                f"the pictures of {name} must lie in it", "it holds paths instead", "Embed them, or upload a zip."
            )


# --- archives ---


def _zip(path: Path, limits: Limits) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            require_safe(path, archive, shutil.disk_usage(path.parent).free, limits.unpacked)
            return _entries(path.name, archive, limits)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise UserError(
            f"{path.name} must be a zip file", " ".join(str(error).split())[:200], "Pack it again."
        ) from error


def _entries(name: str, archive: zipfile.ZipFile, limits: Limits) -> dict[str, Any]:
    from hftransfer.inputs._dicom import refuse_volumes
    from hftransfer.inputs._sounds import SUFFIXES as SOUNDS
    from hftransfer.ui.picture_inspection import is_marked

    require_places(name, archive, min(ENTRIES, limits.unpacked // INODE))
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    pictures, sounds, tables, texts = [], [], [], []
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        if not parts or any(not part.isprintable() or len(part) > NAME for part in parts) or len(parts) > DEPTH:
            raise UserError(f"{name} must hold plain names", f"found {entry.filename[:80]!r}", "Rename the file.")
        last = parts[-1].lower()
        suffix = PurePosixPath(last).suffix
        if last in ("state.json", "dataset_dict.json") or suffix in MAPPED:
            raise UserError(
                f"{name} must hold pictures or tables", "it holds a saved data set, which names files by their path",
                "Write it as Parquet.",
            )  # fmt: skip
        if any(part.startswith((".", "__")) for part in parts):
            continue  # what systems leave in archives, and nobody reads
        if suffix in PICTURES or is_marked(archive, entry, suffix):
            pictures.append(entry)
        elif suffix in SOUNDS:
            sounds.append(entry)
        elif suffix in (*TABLES, *OF_PEOPLE):
            tables.append(entry)
        elif suffix in TEXTS:
            texts.append(entry)
    if not pictures and not sounds and not tables and not texts:
        refuse_volumes([entry.filename for entry in entries])
        raise UserError(
            f"{name} must hold pictures, recordings, texts or tables", f"it holds {len(entries)} other files",
            "Pack it again.",
        )  # fmt: skip
    readable = _pictures(archive, pictures, limits)
    if pictures and not readable:
        raise UserError(f"the pictures of {name} must be readable", "none that was tried is", "Pack it again.")
    if pictures:
        texts = []  # notes beside them, which nobody reads
    if pictures or sounds:  # beside which such names are those of other files
        tables = [one for one in tables if not one.filename.lower().endswith(OF_PEOPLE)]
    for entry in [*tables, *texts]:
        data = io.BytesIO(archive.read(entry))
        _table(data, PurePosixPath(entry.filename.lower()).suffix, entry.filename, limits)
        if PurePosixPath(entry.filename).stem == "metadata" and (pictures or sounds):
            data.seek(0)
            require_inside(data, entry.filename)
    return {"pictures": len(pictures), "recordings": len(sounds), "tables": len(tables), "texts": len(texts)}


def _pictures(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], limits: Limits) -> int:
    from hftransfer.ui.picture_inspection import require_picture

    readable = 0
    for entry in entries[:: 1 + len(entries) // LOOKED_AT]:
        if entry.file_size > PICTURE_BYTES:
            raise UserError(f"{entry.filename} may have {PICTURE_BYTES >> 20} MB", "it has more", "Make it smaller.")
        data = archive.read(entry)
        try:
            require_picture(data, entry.filename, limits.pixels, decode=False)
            readable += 1
        except UserError as error:
            if "pixels" in error.wanted or "program" in error.found:
                raise
    return readable  # damaged ones among them are found, counted and left out when the data is read


if __name__ == "__main__":
    sys.exit(main())
