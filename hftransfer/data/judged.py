"""Which passages answer which questions, as files say it: BEIR's qrels, trec_eval's, tables; and of which split."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from hftransfer.config import DataConfig
from hftransfer.data.columns import words
from hftransfer.data.named_splits import SPLITS, split_of
from hftransfer.data.suffixes import BUILDERS
from hftransfer.data.tables import read_tables
from hftransfer.data.tree import walk
from hftransfer.errors import UserError, unknown

GRADES = ("score", "grade", "relevance", "rel", "similarity", "label")
QUESTIONS = ("query-id", "query_id", "queryid", "qid", "query", "question-id", "question_id", "topic")
PASSAGES = ("corpus-id", "corpus_id", "corpusid", "doc-id", "doc_id", "docid", "docno", "passage-id", "passage_id",
            "pid", "document-id", "document_id")  # fmt: skip
Judgements = dict[str, dict[str, float]]  # by question: grades by passage


def files_of(folder: Path, name: str) -> list[Path]:
    """Return the files of a folder that are called by a name, or lie in a folder of that name."""
    tree = walk(folder)
    paths = [tree.path(parts) for parts in tree.files]
    return [
        path
        for path in paths
        if path.suffix.lower() in (*BUILDERS, ".txt", ".trec", ".qrels")
        and (path.stem.lower().startswith(name) or path.parent.name.lower() == name)
    ]


def by_use(source: Path, config: DataConfig, said: list[str]) -> dict[str, list[Path]]:
    """Return the files of judgements of each split, and say which are not read, and which are read together.

    A split that the user names has the files of that name, the others those whose names speak of them.
    """
    paths = sorted(files_of(source, "qrels"))
    wanted = {use: name for use in SPLITS if (name := getattr(config, use)) is not None}
    found = {use: _named(source, paths, use, name) for use, name in wanted.items()}
    _refuse_reuse(found)
    left = [path for path in paths if not any(path in several for several in found.values())]
    if found and "train" not in found and len(left) == 1:  # whatever its name: the others are cut out of it
        found["train"] = [left.pop()]
    for path in left:
        use = split_of(path.stem) or split_of(path.parent.name)
        if use is None and len(paths) > 1:
            said.append(f"not read, because no split is in the name: {path.name}")
        elif (use or "train") in wanted:
            said.append(f"not read, because data.{use or 'train'} names another: {path.name}")
        else:
            found.setdefault(use or "train", []).append(path)
    said += [
        f"{', '.join(path.name for path in several)} are all of {use}: read together, a later grade of the same pair "
        "before an earlier one"
        for use, several in found.items()
        if len(several) > 1
    ]  # fmt: skip
    if not found:
        raise UserError(
            "qrels named after their splits are needed", f"found {', '.join(path.name for path in paths)}",
            "Call them train.tsv, dev.tsv and test.tsv, in a folder qrels.",
        )  # fmt: skip
    return found


def _named(source: Path, paths: Sequence[Path], use: str, name: str) -> list[Path]:
    """Return the files of judgements that a name means: as a file is called, a word of that, or a file beside."""
    exact = [path for path in paths if name in (path.stem, path.name, path.relative_to(source).as_posix())]
    found = exact or [
        path for path in paths if name.lower() in words(path.stem) or name.lower() == path.parent.name.lower()
    ]
    beside = [path.absolute() for path in (Path(name).expanduser(), source / name) if path.is_file()]
    if not found and not beside:
        raise unknown(f"split in data.{use}", name, {path.stem for path in paths})
    return found or beside[:1]


def _refuse_reuse(found: Mapping[str, Sequence[Path]]) -> None:
    """Raise UserError for a file of judgements that is named for several splits."""
    for path in {path for paths in found.values() for path in paths}:
        uses = [use for use, paths in found.items() if path in paths]
        if len(uses) > 1:
            raise UserError(
                "each split is used once", f"{path.stem!r} stands for {' and '.join(uses)}",
                "Remove one: it will be cut.",
            )  # fmt: skip


def judgements(path: Path) -> Judgements:
    """Read which passages answer which questions: by the names of the fields, where the first line has them.

    Without names they are `query-id corpus-id score`, or trec_eval's four fields.
    """
    found: Judgements = {}
    order: Sequence[int] | None = None
    for number, fields in enumerate(_lines(path), 1):
        if number == 1:
            order = _order(fields)
            if order is not None:
                continue  # the names of the fields
        if order is not None:
            query, passage, grade = [*(fields[at] for at in order), "1"][:3]
        else:
            query, passage, grade = (fields[0], fields[2], fields[3]) if len(fields) == 4 else [*fields, "1"][:3]
        try:
            score = float(grade)
        except ValueError:
            if number == 1:
                continue  # the names of the fields
            raise UserError(
                "a number is needed as the score of each judgement", f"{path.name} has {grade!r} in line {number}",
                "Mend it.",
            ) from None  # fmt: skip
        found.setdefault(query, {})[passage] = score
    if not found:
        raise UserError("judgements are needed", f"{path.name} has none", "Give question, passage and score a line.")
    return found


def _order(fields: Sequence[str]) -> Sequence[int] | None:
    """Return where question, passage and, if it is there, grade stand, of fields that are names; None of others."""
    known = [words(field) for field in fields]
    found = []
    for names in (QUESTIONS, PASSAGES, GRADES):
        at = next((known.index(words(name)) for name in names if words(name) in known), None)
        if at is None:
            break
        found.append(at)
    return found if len(found) > 1 else None


def _lines(path: Path) -> Iterator[Sequence[str]]:
    if path.suffix.lower() in (".parquet", ".jsonl", ".json"):
        table = read_tables([path], False).rows
        yield list(table.features)
        for row in table:
            yield [str(value) for value in row.values()]
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        if "\t" in first or "," in first:
            rows: Iterable[Sequence[str]] = csv.reader(file, delimiter="\t" if "\t" in first else ",")
        else:
            rows = (line.split() for line in file)
        for fields in rows:
            if not fields:
                continue
            if not 2 <= len(fields) <= 4:
                raise UserError(
                    "question, passage and score are needed in each line", f"{path.name} has {len(fields)} fields",
                    "Write them as query-id, corpus-id, score.",
                )  # fmt: skip
            yield fields
