"""Questions and the passages that answer them: a folder as BEIR has it, or tables of pairs; all passages beside."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value

from hftransfer.answers._catalogue import Catalogue
from hftransfer.column_types import STRINGS, element, is_list, is_value, type_name
from hftransfer.config import DataConfig
from hftransfer.data.columns import words
from hftransfer.data.formats.base import Settings
from hftransfer.data.named_splits import Picked, Split, split_of
from hftransfer.data.tables import BUILDERS, read_tables
from hftransfer.data.tree import walk
from hftransfer.errors import UserError, hint
from hftransfer.tasks.base import Task

TRUTH = List({"id": Value("string"), "grade": Value("float64"), "cold": Value("bool")})
NEGATIVES = ("negative", "negatives", "neg", "hard_negative", "hard_negatives")
GRADES = ("score", "grade", "relevance", "rel", "similarity", "label")
IDS = ("_id", "id", "docid", "doc_id", "corpus-id", "corpus_id", "pid", "query-id", "query_id", "qid")
TEXTS = ("text", "contents", "passage", "document", "query", "question", "body")
Judgements = dict[str, dict[str, float]]  # by question: grades by passage


def is_collection(source: Path) -> bool:
    """Tell whether a folder holds a corpus, questions, and judgements of which passages answer which."""
    return source.is_dir() and all(_files(source, name) for name in ("corpus", "queries", "qrels"))


def of_folder(source: Path, task: Task, config: DataConfig) -> tuple[Picked, Catalogue]:
    """Read such a folder: a row a question that is judged, by split; the corpus whole."""
    form = Settings.of(config)
    corpus = _table(_files(source, "corpus"), form, "corpus")
    queries = _table(_files(source, "queries"), form, "queries")
    catalogue = catalogue_of(corpus["id"], corpus.get("title"), corpus["text"])
    texts = dict(zip(queries["id"].to_pylist(), queries["text"].to_pylist(), strict=True))
    splits: dict[str, Split] = {}
    said: list[str] = []
    for path in sorted(_files(source, "qrels")):
        use = split_of(path.stem) or split_of(path.parent.name)
        if use is None and len(_files(source, "qrels")) > 1:
            said.append(f"not read, because no split is in the name: {path.name}")
            continue
        judged = judgements(path)
        known = {query: grades for query, grades in judged.items() if query in texts}
        _require_known(path, "queries", judged, texts)
        _require_known(path, "the corpus", [name for grades in known.values() for name in grades], catalogue.places)
        if len(known) < len(judged):
            said.append(f"{path.name}: {len(judged) - len(known):,} questions are not among the queries: left out")
        lost = {name for grades in known.values() for name in grades if name not in catalogue.places}
        if lost:
            said.append(
                f"{path.name}: {len(lost):,} judged passages are not in the corpus and left out ({_some(lost)})"
            )
        rows = [
            {
                task.shown[0].name: texts[query],
                task.truth.name: [
                    {"id": name, "grade": grade, "cold": False}
                    for name, grade in grades.items()
                    if name in catalogue.places
                ],
            }
            for query, grades in known.items()
        ]
        features = Features({task.shown[0].name: Value("string"), task.truth.name: TRUTH})
        found = Dataset.from_list(rows, features=features) if rows else Dataset.from_dict(
            {name: [] for name in features}, features=features
        )  # fmt: skip
        splits[use or "train"] = Split(found, path.stem, source)
    if "train" not in splits:
        only = next(iter(splits))
        said.append(f"no qrels of train: those of {only} are cut")
        splits = {"train": splits.pop(only), **splits}
    return Picked(splits, tuple(said), (f"a corpus of {len(catalogue):,} passages, all of which are searched",)), (
        catalogue
    )


def _require_known(path: Path, where: str, named: Collection[str], known: Collection[str]) -> None:
    """Raise UserError for judgements that name nothing which is there: ids of another kind, most likely."""
    if not any(name in known for name in named):
        have = ", ".join(str(one) for _, one in zip(range(3), known, strict=False))
        raise UserError(
            f"judgements by the ids of {where} are needed", f"{path.name} has {_some(set(named))}, {where} {have}",
            "Use the same ids in both.",
        )  # fmt: skip


def of_tables(picked: Picked, task: Task, config: DataConfig) -> tuple[Picked, Catalogue, list[str]]:
    """Return pairs as a row a question, with every distinct passage of any split as the catalogue.

    Equal questions of a split (but for case and blanks) are one, with all their passages. Returns what was guessed.
    """
    train = picked.splits["train"].rows
    asked = _column(train.features, task.shown[0].words, config.column_names.get(task.shown[0].name), "question", ())
    found = _column(train.features, task.truth.words, config.column_names.get(task.truth.name), "passage", (asked,))
    wrong = next((name for name in NEGATIVES if name in train.features and name not in (asked, found)), None)
    named: dict[str, str] = {}  # id by text
    splits, said = {}, []
    for use, split in picked.splits.items():
        rows: dict[str, dict[str, Any]] = {}
        same = unusable = 0
        made = (task.shown[0].name, task.truth.name, asked, found, wrong)
        kept = [name for name in split.rows.features if name not in made]
        for row in split.rows:
            question = row.get(asked)
            key = " ".join(str(question or "").casefold().split())
            right, bad = _texts(row.get(found)), _texts(row.get(wrong)) if wrong else []
            same += any(one in right for one in bad)
            if not key or not right:
                unusable += 1
                continue
            here = rows.setdefault(key, {task.shown[0].name: question, **{n: row[n] for n in kept}, "grades": {}})
            for text, grade in [*((one, 0.0) for one in bad), *((one, 1.0) for one in right)]:
                name = named.setdefault(text, f"p{len(named)}")
                here["grades"][name] = max(grade, here["grades"].get(name, 0.0))
        if same:
            message = f"{same:,} rows of {use} have a negative that is its positive"
            if 2 * same > len(split.rows):
                raise UserError("negatives that are wrong are needed", message, "Mend the column, or leave it out.")
            said.append(f"{message}: it is no negative there")
        if unusable:
            said.append(f"{use}: {unusable:,} of {len(split.rows):,} rows dropped: without a question or a passage")
        listed = [
            {
                **{name: value for name, value in row.items() if name != "grades"},
                task.truth.name: [{"id": n, "grade": g, "cold": False} for n, g in row["grades"].items()],
            }
            for row in rows.values()
        ]
        if not listed:
            raise UserError("rows are needed", f"no row of {use} has a question and a passage", "Check data.columns.")
        if len(listed) + unusable < len(split.rows):
            said.append(f"{use}: {len(split.rows):,} rows ask {len(listed):,} questions: equal ones are one row")
        features = {name: split.rows.features[name] for name in kept}
        whole = Features({task.shown[0].name: Value("string"), task.truth.name: TRUTH, **features})
        splits[use] = Split(Dataset.from_list(listed, features=whole), split.name, split.folder)
    catalogue = catalogue_of(pa.array(list(named.values())), None, pa.array(list(named)))
    guesses = [
        f"`{asked}` asks and `{found}` answers" + (f"; `{wrong}` is wrong" if wrong else ""),
        f"the catalogue is the {len(catalogue):,} distinct passages of all splits",
    ]
    graded = next((name for name in GRADES if name in train.features and name not in (asked, found)), None)
    if graded is not None:
        said.append(
            f"`{graded}` is not looked at: every row's passage counts as right, whatever it says. Leave out the rows "
            "that are not, or give a folder with qrels, which have grades"
        )
    return replace(picked, splits=splits), catalogue, [*said, *guesses]


def catalogue_of(ids: Any, titles: Any, texts: Any, pictures: Any = None) -> Catalogue:
    """Return a catalogue of columns; UserError for ids that are missing or not unique."""
    import hashlib

    names = pc.cast(_joined(ids), pa.string())
    if names.null_count or int(pc.count_distinct(names).as_py()) < len(names):
        twice = pc.value_counts(names).to_pylist()
        some = [str(one["values"]) for one in twice if one["counts"] > 1][:3]
        raise UserError(
            "an id of its own is needed for each entry of a catalogue",
            f"{', '.join(some)} stand for several" if some else "some have none", "Mend the ids.",
        )  # fmt: skip
    text = pc.fill_null(pc.cast(_joined(texts), pa.string()), "")
    title = pa.nulls(len(text), pa.string()) if titles is None else pc.cast(_joined(titles), pa.string())
    title = pc.if_else(pc.equal(pc.utf8_trim_whitespace(pc.fill_null(title, "")), ""), None, title)
    # what a model reads begins with the title, as BEIR joins them; what has none is called by how it begins
    read = pc.if_else(pc.is_null(title), text, pc.utf8_trim_whitespace(pc.binary_join_element_wise(
        pc.fill_null(title, ""), text, " ")))  # fmt: skip
    table = pa.table({"id": names, "title": pc.coalesce(title, text), "text": read})
    if pictures is not None:
        table = table.append_column("image", pictures)
    digest = hashlib.blake2b(digest_size=16)
    for batch in table.to_batches():
        for column in batch.columns:
            for buffer in column.buffers():
                digest.update(buffer or b"")
    return Catalogue(table, digest.hexdigest())


def judgements(path: Path) -> Judgements:
    """Read which passages answer which questions: `query-id corpus-id score`, or trec_eval's four fields."""
    found: Judgements = {}
    for number, fields in enumerate(_lines(path), 1):
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


def _lines(path: Path) -> Iterator[Sequence[str]]:
    if path.suffix.lower() in (".parquet", ".jsonl", ".json"):
        for row in read_tables([path], False).rows:
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


def _files(folder: Path, name: str) -> list[Path]:
    tree = walk(folder)
    paths = [tree.path(parts) for parts in tree.files]
    return [
        path
        for path in paths
        if path.suffix.lower() in (*BUILDERS, ".txt", ".trec", ".qrels")
        and (path.stem.lower().startswith(name) or path.parent.name.lower() == name)
    ]


def _table(paths: Sequence[Path], form: Settings, what: str) -> Mapping[str, Any]:
    rows = read_tables(paths, False, form).rows
    assert isinstance(rows, Dataset)
    table = rows.with_format("arrow")[:]
    known = {words(name): name for name in reversed(table.column_names)}
    chosen = {
        "id": next((known[words(name)] for name in IDS if words(name) in known), None),
        "text": next((known[words(name)] for name in TEXTS if words(name) in known), None),
        "title": known.get(("title",)),
    }
    for name in ("id", "text"):
        if chosen[name] is None:
            raise UserError(
                f"{what} needs a column `{'_id' if name == 'id' else name}`",
                f"it has {', '.join(table.column_names)}", "Rename it.",
            )  # fmt: skip
    return {name: table[column] for name, column in chosen.items() if column is not None}


def _column(features: Features, names: Sequence[str], chosen: str | None, what: str, taken: Sequence[str]) -> str:
    """Return the column that plays a part: as the user says, else the first of these names."""
    listing = ", ".join(f"{name} ({type_name(feature)})" for name, feature in features.items())

    def holds(feature: Any) -> bool:
        return is_value(element(feature) if is_list(feature) else feature, *STRINGS)

    if chosen is not None:
        if chosen not in features:
            raise UserError(f"a column with the {what} is needed", f"there is no {chosen!r}", hint(chosen, features))
        if not holds(features[chosen]):
            raise UserError(
                f"a column of texts is needed for the {what}", f"`{chosen}` is {type_name(features[chosen])}",
                f"Name another; the data set has {listing}.",
            )  # fmt: skip
        return chosen
    by_words = {words(name): name for name in reversed(list(features))}
    known = [by_words[words(name)] for name in names if words(name) in by_words]
    found = next((name for name in known if name not in taken and holds(features[name])), None)
    if found is None:
        raise UserError(
            f"a column with the {what} is needed", f"the data set has {listing}",
            f"Name it in data.columns: the {what} is looked for as {', '.join(names[:4])}.",
        )  # fmt: skip
    return found


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(one) for one in values if one is not None and str(one).strip()]


def _joined(values: Any) -> Any:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:3])
