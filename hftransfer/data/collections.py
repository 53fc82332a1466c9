"""Questions and the passages that answer them: a folder as BEIR has it, or tables of pairs; all passages beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value

from hftransfer.answers._catalogue import Catalogue
from hftransfer.answers._lists import ITSELF
from hftransfer.column_types import STRINGS, element, is_list, is_value, type_name
from hftransfer.config import DataConfig
from hftransfer.data.columns import words
from hftransfer.data.formats.base import Settings
from hftransfer.data.judged import GRADES, Judgements, by_use, files_of, judgements
from hftransfer.data.named_splits import Picked, Split
from hftransfer.data.tables import read_tables
from hftransfer.errors import UserError, hint
from hftransfer.tasks.base import Task

TRUTH = List({"id": Value("string"), "grade": Value("float64"), "cold": Value("bool")})
NEGATIVES = ("negative", "negatives", "neg", "hard_negative", "hard_negatives")
IDS = ("_id", "id", "docid", "doc_id", "corpus-id", "corpus_id", "pid", "query-id", "query_id", "qid")
TEXTS = ("text", "contents", "passage", "document", "query", "question", "body")


def is_collection(source: Path) -> bool:
    """Tell whether a folder holds a corpus, questions, and judgements of which passages answer which."""
    return source.is_dir() and all(files_of(source, name) for name in ("corpus", "queries", "qrels"))


def of_folder(source: Path, task: Task, config: DataConfig) -> tuple[Picked, Catalogue]:
    """Read such a folder: a row a question that is judged, by split; the corpus whole."""
    _refuse_columns(config)
    form = Settings.of(config)
    corpus = _table(files_of(source, "corpus"), form, "corpus")
    queries = _table(files_of(source, "queries"), form, "queries")
    catalogue = catalogue_of(corpus["id"], corpus.get("title"), corpus["text"])
    read = catalogue.table["text"].to_pylist()
    bodies = dict(zip(catalogue.ids, zip(corpus["text"].to_pylist(), read, strict=True), strict=True))
    named = pc.cast(_joined(queries["id"]), pa.string()).to_pylist()
    texts = dict(zip(named, queries["text"].to_pylist(), strict=True))
    if len(texts) < len(named):
        twice = {name for name, count in Counter(named).items() if count > 1}
        raise UserError(
            "an id of its own is needed for each question", f"{_some(twice)} stand for several", "Mend them."
        )
    splits: dict[str, Split] = {}
    said: list[str] = []
    for use, paths in by_use(source, config, said).items():
        judged: Judgements = {}
        for path in paths:
            for query, grades in judgements(path).items():
                judged.setdefault(query, {}).update(grades)
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
        rows, itself = [], 0
        for query, grades in known.items():
            found = {name: grade for name, grade in grades.items() if name in catalogue.places}
            # BEIR's own evaluation leaves it out: ArguAna's questions stand in the corpus by the same id, which alone
            # may be equal by chance
            if query in bodies and found.get(query, 0.0) <= 0 and _is_itself(texts[query], *bodies[query]):
                itself, found[query] = itself + 1, ITSELF
            listed = [{"id": name, "grade": grade, "cold": False} for name, grade in found.items()]
            rows.append({task.shown[0].name: texts[query], task.truth.name: listed})
        said += told_of(itself, use, len(rows))
        features = Features({task.shown[0].name: Value("string"), task.truth.name: TRUTH})
        made = Dataset.from_list(rows, features=features) if rows else Dataset.from_dict(
            {name: [] for name in features}, features=features
        )  # fmt: skip
        splits[use] = Split(made, paths[0].stem, source)
    if "train" not in splits:
        only = next((use for use in splits if getattr(config, use) is None), None)
        if only is None:
            raise UserError(
                "a split to train on is needed", f"the source has {', '.join(splits)}", "Set data.train to it."
            )
        said.append(f"no qrels of train: those of {only} are cut")
        splits = {"train": splits.pop(only), **splits}
    return Picked(splits, tuple(said), (f"a corpus of {len(catalogue):,} passages, all of which are searched",)), (
        catalogue
    )


def _refuse_columns(config: DataConfig) -> None:
    """Raise UserError for what names columns: those of such a folder are called as BEIR calls them."""
    given = [*(f"columns.{role}" for role in config.columns), *(["split_column"] if config.split_column else [])]
    if given:
        raise UserError(
            "the columns of a folder with corpus, queries and qrels are found by their names: _id, title and text",
            f"data.{given[0]} names another", f"Drop {', '.join(f'data.{name}' for name in given)}, and rename the "
            "columns in the files.",
        )  # fmt: skip


def _is_itself(question: Any, *texts: Any) -> bool:
    """Tell whether a question is one of some texts, but for case and blanks."""
    return bool(_alike(question)) and _alike(question) in map(_alike, texts)


def told_of(itself: int, use: str, rows: int) -> list[str]:
    """Return what is to be said of questions that stand in the catalogue themselves."""
    if not itself:
        return []
    return [f"{use}: {itself:,} of {rows:,} questions stand among the passages themselves: no answer to themselves"]


def _alike(text: Any) -> str:
    return " ".join(str(text or "").casefold().split())


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
    named = config.column_names
    answering = named.get(task.truth.name)
    asked = _column(train.features, task.shown[0].words, named.get(task.shown[0].name), "question", [answering or ""])
    found = _column(train.features, task.truth.words, answering, "passage", [asked])
    if asked == found:
        raise UserError("a column plays one role", f"`{asked}` is named for several", "Mend data.columns.")
    wrong = next((name for name in NEGATIVES if name in train.features and name not in (asked, found)), None)
    ids: dict[str, str] = {}  # by text
    graded, grades_of = _graded(picked, asked, found)
    asking: dict[str, dict[str, dict[str, Any]]] = {}
    splits, said = {}, []
    for use, split in picked.splits.items():
        rows: dict[str, dict[str, Any]] = {}
        same = unusable = 0
        made = (task.shown[0].name, task.truth.name, asked, found, wrong)
        kept = [name for name in split.rows.features if name not in made]
        for row in split.rows:
            question = row.get(asked)
            key = _alike(question)
            right, bad = _texts(row.get(found)), _texts(row.get(wrong)) if wrong else []
            same += any(one in right for one in bad)
            if not key or not right:
                unusable += 1
                continue
            here = rows.setdefault(key, {task.shown[0].name: question, **{n: row[n] for n in kept}, "grades": {}})
            own = 1.0 if grades_of is None else float(row[grades_of] or 0)
            for text, grade in [*((one, 0.0) for one in bad), *((one, own) for one in right)]:
                name = ids.setdefault(text, f"p{len(ids)}")
                here["grades"][name] = max(grade, here["grades"].get(name, 0.0))
        if same:
            message = f"{same:,} rows of {use} have a negative that is its positive"
            if 2 * same > len(split.rows):
                raise UserError("negatives that are wrong are needed", message, "Mend the column, or leave it out.")
            said.append(f"{message}: it is no negative there")
        if unusable:
            said.append(f"{use}: {unusable:,} of {len(split.rows):,} rows dropped: without a question or a passage")
        if not rows:
            raise UserError("rows are needed", f"no row of {use} has a question and a passage", "Check data.columns.")
        if len(rows) + unusable < len(split.rows):
            said.append(f"{use}: {len(split.rows):,} rows ask {len(rows):,} questions: equal ones are one row")
        asking[use] = rows
    themselves: dict[str, list[str]] = {}  # the names of passages by what they are but for case and blanks
    for text, name in ids.items():
        themselves.setdefault(_alike(text), []).append(name)
    for use, rows in asking.items():
        split, listed, itself = picked.splits[use], [], 0
        for key, row in rows.items():
            alike = [name for name in themselves.get(key, ()) if row["grades"].get(name, 0.0) <= 0]
            itself += bool(alike)
            grades = {**row.pop("grades"), **dict.fromkeys(alike, ITSELF)}
            listed.append({**row, task.truth.name: [{"id": n, "grade": g, "cold": False} for n, g in grades.items()]})
        said += told_of(itself, use, len(rows))
        own_columns = (task.shown[0].name, task.truth.name)
        features = {name: split.rows.features[name] for name in listed[0] if name not in own_columns}
        whole = Features({task.shown[0].name: Value("string"), task.truth.name: TRUTH, **features})
        splits[use] = Split(Dataset.from_list(listed, features=whole), split.name, split.folder)
    catalogue = catalogue_of(pa.array(list(ids.values())), None, pa.array(list(ids)))
    guesses = [
        f"`{asked}` asks and `{found}` answers" + (f"; `{wrong}` is wrong" if wrong else ""),
        f"the catalogue is the {len(catalogue):,} distinct passages of all splits",
    ]
    if grades_of is not None:
        guesses.append(f"`{grades_of}` grades each row's passage: above 0 it is right, and 0 says that it is wrong")
    elif graded is not None:
        said.append(
            f"`{graded}` is not looked at: every row's passage counts as right, whatever it says. Leave out the rows "
            "that are not, or give a folder with qrels, which have grades"
        )
    return replace(picked, splits=splits), catalogue, [*said, *guesses]


def _graded(picked: Picked, asked: str, found: str) -> tuple[str | None, str | None]:
    """Return the column that may grade passages, if there is one, and that column again if its values are grades.

    Those are whole numbers from 0 on, no more than ten different ones, among them 0 and others: of other numbers
    nobody knows from where on a passage is right.
    """
    train = picked.splits["train"].rows.features
    name = next((one for one in GRADES if one in train and one not in (asked, found)), None)
    if name is None or not all(name in split.rows.features for split in picked.splits.values()):
        return name, None
    distinct: set[Any] = set()
    for split in picked.splits.values():
        distinct |= {*split.rows.unique(name)}
    numbers = all(isinstance(one, int | float) and not isinstance(one, str) for one in distinct)
    whole = numbers and all(one == one and float(one).is_integer() and one >= 0 for one in distinct)
    return name, name if whole and 0 in distinct and 1 < len(distinct) <= 10 else None


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
