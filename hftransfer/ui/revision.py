"""The rows of a run as they are now, mended and added to, written for other programs; runs in a visitor's worker."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hftransfer import catalog
from hftransfer.config import build
from hftransfer.errors import UserError

Row = dict[str, Any]


def revision(tree: Mapping[str, Any], form: str, target: str) -> dict[str, Any]:
    """Write the rows that a configuration loads, with their split and their truth in words; return how many."""
    import tempfile

    from hftransfer import data
    from hftransfer.modeling import loading

    loading.silence_libraries()
    config = build(tree)
    task = catalog.task(config.task)
    if task.gathers or task.reads is not None or config.data.streaming:
        raise UserError("rows each for itself are needed", f"those of {task.name} are not", "Keep the source.")
    files = [role.name for role in task.shown if role.takes is not None and role.takes.lazy]
    if (form == "Folders of files") != bool(files):
        what = "pictures or recordings" if files else "texts"
        raise UserError(f"a form for {what} is needed", f"{form} is none", f"Choose {'Folders' if files else 'CSV'}.")
    with tempfile.TemporaryDirectory(prefix="revision-") as place:
        found = data.load(config.data, task, config.seed, Path(place))
        rows = _rows(found, task.truth.name)
        count = _WRITERS[form](rows, Path(target), [role.name for role in task.shown], task.truth.name)
    return {"rows": count}


def _rows(found: Any, truth: str) -> Iterator[Row]:
    import datasets

    for split, rows in found.splits.items():
        for name, feature in (rows.features or {}).items():
            if isinstance(feature, datasets.Image | datasets.Audio):
                rows = rows.cast_column(name, type(feature)(decode=False))
        for row in rows:
            value = row[truth]
            said = found.answer.names[value] if found.answer.names and isinstance(value, int) else value
            yield {**row, truth: said, "split": split}


def _csv(rows: Iterator[Row], target: Path, shown: list[str], truth: str) -> int:
    count = 0
    with open(target, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        for count, row in enumerate(rows, 1):
            names = [name for name in shown if name in row]
            if count == 1:
                out.writerow([*names, truth, "split"])
            out.writerow([*(row[name] for name in names), row[truth], row["split"]])
    return count


def _folders(rows: Iterator[Row], target: Path, shown: list[str], truth: str) -> int:
    count = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for count, row in enumerate(rows, 1):
            value = next(row[name] for name in shown if isinstance(row.get(name), Mapping))
            held = value.get("bytes") or Path(value["path"]).read_bytes()
            suffix = Path(value.get("path") or "a.png").suffix or ".png"
            label = "".join(c if c.isalnum() or c in "-_ ." else "_" for c in str(row[truth])).strip(". ") or "_"
            archive.writestr(f"{row['split']}/{label}/{count:06}{suffix}", held)
    return count


def _label_studio(rows: Iterator[Row], target: Path, shown: list[str], truth: str) -> int:
    tasks = []
    for row in rows:
        names = [name for name in shown if name in row]
        choice = {"from_name": truth, "to_name": names[0], "type": "choices", "value": {"choices": [str(row[truth])]}}
        held = {name: row[name] for name in names} | {"split": row["split"]}
        tasks.append({"data": held, "annotations": [{"result": [choice]}]})
    target.write_text(json.dumps(tasks, ensure_ascii=False, default=str), encoding="utf-8")
    return len(tasks)


_WRITERS = {"CSV": _csv, "Folders of files": _folders, "Label Studio": _label_studio}
