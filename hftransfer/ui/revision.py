"""The rows of a run as they are now, mended and added to, written for other programs; runs in a visitor's worker."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from hftransfer import catalog
from hftransfer.config import build
from hftransfer.errors import UserError

Row = dict[str, Any]
MARK = ".hftransfer"  # in a data set that was pushed from here: the next push may take its place


def revision(tree: Mapping[str, Any], form: str, target: str) -> dict[str, Any]:
    """Write the rows that a configuration loads, with their split and their truth in words; return how many."""
    files, shown, truth = _read(tree)
    if (form == "Folders of files") != bool(files):
        what = "pictures or recordings" if files else "texts"
        raise UserError(f"a form for {what} is needed", f"{form} is none", f"Choose {'Folders' if files else 'CSV'}.")
    with _loaded(tree) as rows:
        count = _WRITERS[form](rows, Path(target), shown, truth)
    return {"rows": count}


def pushed(tree: Mapping[str, Any], repo: str) -> dict[str, Any]:
    """Commit the same rows as the data set `repo` of the Hub, private where it is new; return {rows, url}.

    A file of JSON lines a split, or a folder a label in a folder a split: as `datasets` reads them by itself. What an
    earlier push wrote gives way in one commit, and stays in the history. UserError for a repo that holds files of
    somebody else, and for a Hub that refuses.
    """
    import tempfile

    from hftransfer.hub import connection

    files, shown, truth = _read(tree)
    connection.require_online("a data set", ", or write a file instead.")
    with tempfile.TemporaryDirectory(prefix="pushed-") as place, _loaded(tree) as rows:
        folder = Path(place)
        count = (_tree_of_files if files else _json_lines)(rows, folder, shown, truth)
        (folder / MARK).write_text("rows as hftransfer wrote them\n", encoding="utf-8")
        return {"rows": count, "url": _sent(folder, repo)}


def _sent(folder: Path, repo: str) -> str:
    from huggingface_hub import HfApi

    from hftransfer.hub.retrying import answer_of, in_words, insist

    api = HfApi()
    try:
        full = api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True).repo_id
        there = set(api.list_repo_files(full, repo_type="dataset"))
        if there - {".gitattributes", "README.md"} and MARK not in there:
            raise UserError(
                "a new data set, or one pushed from here, is needed", f"{full} holds other files", "Rename."
            )
        sent = insist(lambda: api.upload_folder(
            repo_id=full, repo_type="dataset", folder_path=folder, commit_message="Rows as they are now",
            delete_patterns=["train*", "validation*", "test*"],
        ))  # fmt: skip
    except Exception as error:
        if isinstance(error, UserError) or (answer_of(error) is None and not isinstance(error, ValueError)):
            raise
        raise UserError(
            "a data set that you may write to is needed", in_words(error), "Mend the name, or sign in."
        ) from error
    return str(sent.repo_url)


def _read(tree: Mapping[str, Any]) -> tuple[list[str], list[str], str]:
    """Return the roles that are files, those that are shown, and that of the truth; UserError for rows of no such."""
    config = build(tree)
    task = catalog.task(config.task)
    if task.gathers or task.reads is not None or config.data.streaming:
        raise UserError("rows each for itself are needed", f"those of {task.name} are not", "Keep the source.")
    files = [role.name for role in task.shown if role.takes is not None and role.takes.lazy]
    return files, [role.name for role in task.shown], task.truth.name


@contextmanager
def _loaded(tree: Mapping[str, Any]) -> Iterator[Iterator[Row]]:
    import tempfile

    from hftransfer import data
    from hftransfer.modeling import loading

    loading.silence_libraries()
    config = build(tree)
    task = catalog.task(config.task)
    with tempfile.TemporaryDirectory(prefix="revision-") as place:
        yield _rows(data.load(config.data, task, config.seed, Path(place)), task.truth.name)


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
        for name, held in _placed(rows, shown, truth):
            archive.writestr(name, held)
            count += 1
    return count


def _tree_of_files(rows: Iterator[Row], target: Path, shown: list[str], truth: str) -> int:
    count = 0
    for name, held in _placed(rows, shown, truth):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(held)
        count += 1
    return count


def _placed(rows: Iterator[Row], shown: list[str], truth: str) -> Iterator[tuple[str, bytes]]:
    """Yield the file of each row with its place: its split, its label, and a number."""
    for number, row in enumerate(rows, 1):
        value = next(row[name] for name in shown if isinstance(row.get(name), Mapping))
        held = value.get("bytes") or Path(value["path"]).read_bytes()
        suffix = Path(value.get("path") or "a.png").suffix or ".png"
        label = "".join(c if c.isalnum() or c in "-_ ." else "_" for c in str(row[truth])).strip(". ") or "_"
        yield f"{row['split']}/{label}/{number:06}{suffix}", held


def _json_lines(rows: Iterator[Row], target: Path, shown: list[str], truth: str) -> int:
    count = 0
    with ExitStack() as opened:
        files: dict[str, IO[str]] = {}
        for row in rows:
            count += 1
            split = str(row["split"])
            if split not in files:
                files[split] = opened.enter_context(open(target / f"{split}.jsonl", "w", encoding="utf-8"))
            held = {name: row[name] for name in (*shown, truth) if name in row}
            files[split].write(json.dumps(held, ensure_ascii=False, default=str) + "\n")
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
