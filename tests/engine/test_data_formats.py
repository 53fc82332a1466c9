"""Files as people bring them are read right, and what was guessed of them is said; or they are refused in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftransfer import catalog, follow
from hftransfer.config import DataConfig
from hftransfer.data import Data, load, read_inputs
from hftransfer.errors import UserError
from tests import round_trips

CLASSES, TAGS = "text-classification", "token-classification"
N = 24
SENTENCES = (
    "the room was lovely and bright", "a dull and awful dinner", "we had a good time here", "poor cast and grim story",
)  # fmt: skip
TEXTS = [f"{SENTENCES[i % 4]} number {i}" for i in range(N)]
LABELS = [("pos", "neg")[i % 2] for i in range(N)]


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def load_bytes(
        data: bytes | str, name: str = "rows.csv", task: str = "text-classification", **options: Any
    ) -> Data:
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return load(DataConfig(source=str(path), **options), catalog.task(task), seed=7)

    return load_bytes


@pytest.fixture
def refused(read: Any) -> Any:
    def message(*args: Any, **options: Any) -> str:
        with pytest.raises(UserError) as caught:
            read(*args, **options)
        assert caught.value.wanted and caught.value.found and caught.value.action
        return str(caught.value)

    return message


def table(rows: Sequence[Sequence[str]], header: str = "text,label", end: str = "\n", by: str = ",") -> str:
    return end.join([header, *(by.join(row) for row in rows)]) + end


def texts_of(data: Data, role: str = "text") -> list[Any]:
    """Return the inputs of all rows, in the order of the file."""
    rows = [row for split in data.splits.values() for row in split]
    return [row[role] for row in sorted(rows, key=lambda row: int(row["row_id"].rpartition(":")[2]))]


def guess(data: Data, part: str) -> str:
    (found,) = [one for one in data.guesses if part in one]
    return found


# --- what is guessed is said ---


def test_a_guess_travels_from_the_column_to_what_is_shown(read: Any) -> None:
    rows = [{"text": text, "labels": [i % 2, int(i % 3 == 0), 1]} for i, text in enumerate(TEXTS)]
    data = read("".join(json.dumps(row) + "\n" for row in rows), "rows.jsonl")
    said = guess(data, "lists of 0 and 1")
    assert "data.label_names" in said
    assert follow.lines_of({"type": "data", "splits": {}, "guesses": [said]}) == [f"guessed: {said}"]


# --- delimited files ---


def test_quotes_that_are_part_of_texts_swallow_no_lines(read: Any, refused: Any) -> None:
    texts = [f'"{text}' if i in (6, 17) else text for i, text in enumerate(TEXTS)]
    data = read(table([*zip(texts, LABELS, strict=True)], "text\tlabel", by="\t"), "rows.tsv")
    assert texts_of(data) == texts and "data.quoting" in guess(data, "quotes are part of the texts")
    quoted = [f'"{text}"' for text in TEXTS]
    quoted[5] = '"he said "x" and left"'
    assert "near line 7" in refused(table([*zip(quoted, LABELS, strict=True)]))
    both = [f'"{text}, x' if i == 6 else f'y {text}", z' if i == 7 else f"{text}, w" for i, text in enumerate(TEXTS)]
    two_ways = table([*zip(both, LABELS, strict=True)], "text,more,label")
    assert "data.quoting=none" in refused(two_ways)
    assert (
        len(texts_of(read(two_ways, quoting="none"))) == N and len(texts_of(read(two_ways, quoting="double"))) == N - 1
    )


def test_backslashes_before_quotes(read: Any) -> None:
    rows = [(f'"he said \\"{text}\\", twice"', label) for text, label in zip(TEXTS, LABELS, strict=True)]
    data = read(table(rows))
    assert texts_of(data)[0] == f'he said "{TEXTS[0]}", twice' and guess(data, 'written `\\"`')


def test_a_line_that_names_the_delimiter(read: Any) -> None:
    data = read("sep=;\n" + table([*zip(TEXTS, LABELS, strict=True)], "text;label", by=";"))
    assert texts_of(data) == TEXTS and guess(data, "first line says that fields are divided by `;`")


def test_commas_in_a_header_and_decimal_commas(read: Any, refused: Any) -> None:
    data = read(table([(t, "12"[i % 2]) for i, t in enumerate(TEXTS)], "text;rating (1,0 to 5,0)", by=";"))
    assert texts_of(data) == TEXTS and data.answer.names == ("1", "2") and guess(data, "fields are divided by `;`")
    scores = [f"{i % 5},{i % 10}" for i in range(N)]
    decimals = table([*zip(TEXTS, scores, strict=True)], "text;score", by=";")
    data = read(decimals, problem_type="regression")
    assert sorted(row["label"] for split in data.splits.values() for row in split) == sorted(
        float(score.replace(",", ".")) for score in scores
    )
    assert "data.decimal" in guess(data, "0,0 is read as 0.0")
    assert "data.problem_type=regression" in refused(decimals)
    thousands = table([(t, f"{i + 1},{i:03}") for i, t in enumerate(TEXTS)], "text;score", by=";")
    assert "Set data.decimal to ." in refused(thousands, problem_type="regression")
    data = read(thousands, problem_type="regression", decimal=".")
    assert max(row["label"] for split in data.splits.values() for row in split) == 24023
    assert not [one for one in data.guesses if "decimal" in one]


def test_settings_that_do_not_fit_are_refused(refused: Any, read: Any) -> None:
    broken = table([(f'"{text}" x', label) for text, label in zip(TEXTS, LABELS, strict=True)])
    assert "near line 2" in refused(broken, quoting="double")
    assert "must divide fields" in refused(broken, delimiter='"')
    for encoding in ("hex", "rot13"):
        assert "an encoding that Python knows" in refused(broken, encoding=encoding)
    section = table([*zip(TEXTS, LABELS, strict=True)], "text§label", by="§")
    assert texts_of(read(section, delimiter="§")) == TEXTS


def test_two_delimiters_are_told_apart_or_asked_about(read: Any, refused: Any) -> None:
    prose = [f"{text}, and more" for text in TEXTS]
    data = read(table([*zip(prose, LABELS, strict=True)], "text, or what was said;label", by=";"))
    assert texts_of(data) == prose
    tied = table([(f"{text};x", label) for text, label in zip(TEXTS, LABELS, strict=True)], "text;a,label")
    assert "data.delimiter" in refused(tied)
    assert texts_of(read(tied, delimiter=",", columns={"text": "text;a"}))[0] == f"{TEXTS[0]};x"


def test_no_header(read: Any, refused: Any) -> None:
    rows = table([*zip(TEXTS[1:], LABELS[1:], strict=True)], f"{TEXTS[0]},{LABELS[0]}")
    data = read(rows)
    assert texts_of(data) == TEXTS and "data.header" in guess(data, "no header was found")
    named = read(rows, header=["text", "label"])
    assert texts_of(named) == TEXTS and not named.guesses
    assert [choice.column for choice in named.columns] == ["text", "label"]
    assert "names 3" in refused(rows, header=["a", "b", "c"])
    unclear = table([*zip(TEXTS, LABELS, strict=True)], "what a fine day we had,splendid")
    assert "data.header=true" in refused(unclear)
    assert texts_of(read(unclear, header=True)) == TEXTS


def test_names_with_line_breaks_and_without_a_name(read: Any) -> None:
    data = read(table([*zip(TEXTS, LABELS, strict=True)], '"text\nof the guest",label'))
    assert [choice.column for choice in data.columns] == ["text of the guest", "label"] and guess(data, "line breaks")
    numbered = [(str(i), f'"{text}"', label) for i, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True))]
    data = read(table(numbered, '"text","label"'))  # as R writes it
    assert texts_of(data) == TEXTS and guess(data, "numbers the rows")


def test_columns_in_another_order_are_joined_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "a.csv").write_text(table([*zip(TEXTS, LABELS, strict=True)]))
    (folder / "b.csv").write_text(
        table([(b, f"more {a}") for a, b in zip(TEXTS, LABELS, strict=True)], "label;text", by=";")
    )
    data = load(DataConfig(source=str(folder)), catalog.task(CLASSES), seed=7)
    assert data.answer.names == ("neg", "pos") and sum(data.sizes.values()) == 2 * N
    (folder / "c.csv").write_text("text,class\na,b\n")
    with pytest.raises(UserError, match=r"the same columns; a.csv has text, label, c.csv has text, class"):
        load(DataConfig(source=str(folder)), catalog.task(CLASSES), seed=7)


# --- encodings ---


@pytest.mark.parametrize(
    ("encoding", "text", "read_as"),
    [
        ("cp1252", "it’s “lovely” – 5€", "cp1252"),  # noqa: RUF001
        ("latin-1", "le café était déçu là-bas, ça va", "cp1252"),
        ("cp1251", "хорошая книга", "cp1251"),
        ("koi8-r", "хорошая книга", "koi8_r"),
        ("cp1250", "příliš žluťoučký kůň", "cp1250"),
        ("cp1252", "la mère très sévère", "cp1252"),
        ("gb18030", "房间很漂亮也很明亮", "gb18030"),
        ("cp932", "とても良い部屋でした", "cp932"),
        ("euc_kr", "방이 아주 좋았어요", "euc_kr"),
        ("utf-16", "schön ist das", None),
        ("utf-16-le", "schön ist das", "utf-16-le"),
        ("utf-32-be", "schön ist das", "utf-32-be"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_encodings(read: Any, encoding: str, text: str, read_as: str | None, suffix: str) -> None:
    texts = [f"{text} {i}" for i in range(N)]
    rows = [{"text": text, "label": label} for text, label in zip(texts, LABELS, strict=True)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    whole = table([(f'"{t}"', label) for t, label in zip(texts, LABELS, strict=True)]) if suffix == "csv" else lines
    data = read(whole.encode(encoding), f"rows.{suffix}")
    assert texts_of(data) == texts
    assert [one for one in data.guesses if "data.encoding" in one and str(read_as) in one] or read_as is None
    assert not [
        one for one in read(whole.encode(encoding), f"rows.{suffix}", encoding=encoding).guesses if "read as" in one
    ]


def test_encodings_that_cannot_be_told_are_asked_for(refused: Any, read: Any) -> None:
    hebrew = "חדר יפה מאוד"
    unclear = table([*zip([hebrew] * N, LABELS, strict=True)]).encode("cp1255")
    assert "data.encoding" in refused(unclear)
    assert texts_of(read(unclear, encoding="cp1255"))[0] == hebrew
    assert "line 3" in refused(b"text,label\na,b\n" + b"\xe9,c\n" * 30, encoding="utf-8")
    assert "an encoding that Python knows" in refused("text,label\na,b\n", encoding="utf-9")
    assert "must be text" in refused(b"text,label\n\x00\x01\x02\x03" * 40)


def test_files_under_a_false_suffix_and_without_rows(refused: Any, tmp_path: Path) -> None:
    assert "begins like a zip file or a workbook" in refused(b"PK\x03\x04" + bytes(range(256)))
    assert "begins like a web page" in refused("<!DOCTYPE html><html></html>")
    assert "none below the names of its columns" in refused("text,label\n")
    rows = [*zip(TEXTS, LABELS, strict=True)]
    assert "names stand in the second, text, label" in refused("My data,\n" + table(rows))
    assert "line 3 holds a zero byte" in refused(table([rows[0], ("ro\0om", "neg"), *rows * 9]))


def test_one_bad_byte_leaves_the_other_rows_alone(read: Any) -> None:
    good = table([(f"le café était très bon {i}", ("comblé", "déçu")[i % 2]) for i in range(N)]).encode()
    data = read(good + b"le caf\xe9 ici,combl\xc3\xa9\n")
    assert data.answer.names == ("comblé", "déçu") and texts_of(data)[-1] == "le café ici"
    assert any("line 26 (byte 0xe9)" in warning for warning in data.warnings)


# --- what is written stays written ---


@pytest.mark.parametrize(
    "names",
    [
        ("1000000000000000001", "1000000000000000002", "9300000000000000001"),
        ("1E1", "2E1", "5E1"), ("1.1", "1.2", "1.10"), ("01", "02", "10"), ("1.0", "2.0", "3.0"),
        ("None", "NA", "null"), ("True", "False", "TRUE"), ("3", "7", "11"), ("0x1", "0x2", "0x3"),
    ],
)  # fmt: skip
def test_labels_are_as_written(read: Any, tmp_path: Path, names: tuple[str, ...]) -> None:
    rows = [(text, names[i % 3]) for i, text in enumerate(TEXTS)]
    assert set(read(table(rows)).answer.names) == set(names)
    book = openpyxl.Workbook()
    for row in [("text", "label"), *rows]:
        book.active.append(row)
    book.save(tmp_path / "book.xlsx")
    data = load(DataConfig(source=str(tmp_path / "book.xlsx")), catalog.task(CLASSES), seed=7)
    assert set(data.answer.names) == set(names)


def test_texts_are_as_written(read: Any, tmp_path: Path) -> None:
    texts = [f"{i}.50" for i in range(N)]
    assert texts_of(read(table([*zip(texts, LABELS, strict=True)]))) == texts
    dates = [f"2020-01-{i + 1:02}" for i in range(N)]
    lines = "".join(json.dumps({"text": d, "label": lab}) + "\n" for d, lab in zip(dates, LABELS, strict=True))
    assert texts_of(read(lines, "rows.jsonl")) == dates
    (tmp_path / "ask.csv").write_text("text\n0123\n-7.50\n")
    asked = read_inputs(tmp_path / "ask.csv", catalog.task(CLASSES), {"text": "text"})
    assert asked == [{"text": "0123"}, {"text": "-7.50"}]


def test_numbers_and_names_are_asked_about_where_both_are_likely(refused: Any, read: Any) -> None:
    scores = table([(text, f"{i % 4 + 0.5}") for i, text in enumerate(TEXTS)])
    assert "data.problem_type=regression" in refused(scores)
    assert read(scores, problem_type="single_label").answer.names == ("0.5", "1.5", "2.5", "3.5")
    assert read(scores, problem_type="regression").answer.names == ()
    mixed = [{"text": text, "label": "007" if i % 2 else 7} for i, text in enumerate(TEXTS)]
    data = read("".join(json.dumps(row) + "\n" for row in mixed), "rows.jsonl")
    assert set(data.answer.names) == {"007", "7"} and guess(data, "several types")


# --- lists, several labels, splits ---


def test_lists_written_as_texts(read: Any, refused: Any) -> None:
    rows = [(text, ("\"['sport']\"", "\"['sport', 'law']\"", "[]")[i % 3]) for i, text in enumerate(TEXTS)]
    data = read(table(rows, "text,labels"))
    assert data.answer.names == ("law", "sport") and "data.lists=false" in guess(data, "written lists")
    assert len(read(table(rows, "text,labels"), lists=False).answer.names) == 3
    numpy = [(text, ("['a' 'b']", "['a']")[i % 2]) for i, text in enumerate(TEXTS)]
    assert read(table(numpy, "text,labels")).answer.names == ("a", "b")
    plain = [(text, ("0 1 1", "1 0 0", "1 1 1")[i % 3]) for i, text in enumerate(TEXTS)]
    assert read(table(plain, "text,labels")).answer.names == ("label_0", "label_1", "label_2")
    sets = [(text, ("\"{'a', 'b'}\"", "{'a'}")[i % 2]) for i, text in enumerate(TEXTS)]
    assert read(table(sets, "text,labels")).answer.names == ("a", "b")
    hot = [(text, ('"[1, 0]"', '"[0, 1]"')[i % 2]) for i, text in enumerate(TEXTS)]
    assert read(table(hot, "text,labels"), label_names=["x", "y"]).answer.names == ("x", "y")
    tokens = [("\"['Anna', 'met', 'Rome']\"", "\"['B-PER', 'O', 'B-LOC']\"")] * N
    data = read(table(tokens, "tokens,ner_tags"), task=TAGS)
    assert texts_of(data, "words")[0] == ["Anna", "met", "Rome"]


def test_labels_joined_by_commas_are_asked_about(refused: Any, read: Any) -> None:
    rows = table([(text, ('"sport,law"', "sport", "law")[i % 3]) for i, text in enumerate(TEXTS)])
    assert 'data.label_separator=","' in refused(rows)
    assert read(rows, label_separator=",").answer.names == ("law", "sport")
    assert len(read(rows, problem_type="single_label").answer.names) == 3
    places = table([(text, ('"Paris, France"', '"London, UK"', '"Leeds, UK"')[i % 3]) for i, text in enumerate(TEXTS)])
    assert len(read(places).answer.names) == 3


def test_a_column_says_which_split_a_row_is_in(read: Any, refused: Any) -> None:
    rows = [
        (t, lab, ("train", "train", "dev", "test")[i // 2 % 4])
        for i, (t, lab) in enumerate(zip(TEXTS, LABELS, strict=True))
    ]
    whole = table(rows, "text,label,split")
    data = read(whole)
    assert data.sizes == {"train": 12, "validation": 6, "test": 6}
    assert {row["text"] for row in data.splits["test"]} == {text for text, _, split in rows if split == "test"}
    assert "data.split_column=false" in guess(data, "train 12, dev 6, test 6")
    assert read(whole, split_column=False).sizes["test"] == 5
    part = table(
        [(t, lab, "AB"[i // 12]) for i, (t, lab) in enumerate(zip(TEXTS, LABELS, strict=True))], "text,label,part"
    )
    assert read(part, split_column="part", train="A", test="B").sizes["test"] == 12


# --- JSON, Parquet, Excel ---


ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
COLUMNS = {name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ("text", "label")}


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"version": "1.0", "data": ROWS}, "under `data`"),
        ({"meta": {"n": 1}, "result": {"items": ROWS}}, "under `result.items`"),
        (COLUMNS, "column by column"),
        ({str(i): row for i, row in enumerate(ROWS)}, "rows by their numbers"),
        ({"text": TEXTS, "label": LABELS}, "a list for each column"),
        ({"columns": ["text", "label"], "index": [*range(N)], "data": [[*row.values()] for row in ROWS]}, "`columns`"),
        ({"train": ROWS[:18], "test": ROWS[18:]}, "the rows of a split each"),
    ],
)
def test_json_in_other_forms(read: Any, tree: Any, said: str) -> None:
    data = read(json.dumps(tree), "rows.json")
    assert sorted(texts_of(data)) == sorted(TEXTS) and guess(data, said)


def test_single_values_among_lists_and_answers_of_prodigy(read: Any) -> None:
    rows = [{"text": text, "labels": ["a", "b"] if i % 2 else "a"} for i, text in enumerate(TEXTS)]
    data = read("".join(json.dumps(row) + "\n" for row in rows), "rows.jsonl")
    assert data.answer.names == ("a", "b") and guess(data, "lists of one")
    answered = [
        {**row, "answer": ("accept", "reject", "accept")[i % 3], "_input_hash": i} for i, row in enumerate(ROWS)
    ]
    data = read("".join(json.dumps(row) + "\n" for row in answered), "rows.jsonl")
    assert texts_of(data) == [text for i, text in enumerate(TEXTS) if i % 3 != 1] and guess(data, "accepted")


def test_json_with_halves_of_characters_and_too_deep(read: Any, refused: Any) -> None:
    lines = "".join(
        f'{{"text": "{text} \\ud83d", "label": "\\ud83d\\ude00{i % 2}"}}\n' for i, text in enumerate(TEXTS)
    )
    data = read(lines, "rows.jsonl")
    assert texts_of(data)[0] == f"{TEXTS[0]} \ufffd" and data.answer.names == ("\U0001f6000", "\U0001f6001")
    assert "nested too deep" in refused("[" * 100_000, "rows.json")


def test_json_that_holds_several_lists_or_none(refused: Any, read: Any) -> None:
    several = json.dumps({"good": ROWS, "bad": ROWS})
    assert "data.key" in refused(several, "rows.json")
    assert texts_of(read(several, "rows.json", key="bad")) == TEXTS
    assert "must hold rows" in refused('{"a": 1, "b": "x"}', "rows.json")
    assert "line 2" in refused('{"text": "a", "label": 1}\n{"text": \n', "rows.jsonl")


def test_types_of_other_libraries_in_parquet(tmp_path: Path) -> None:
    held = pa.table({
        "text": pa.array(TEXTS, pa.string_view()),
        "label": pa.array([Decimal(f"1.{10 * (i % 2)}") for i in range(N)], pa.decimal128(5, 2)),
        "raw": pa.array([text.encode() for text in TEXTS], pa.binary()),
    })  # fmt: skip
    pyarrow.parquet.write_table(held, tmp_path / "rows.parquet")
    config = DataConfig(source=str(tmp_path / "rows.parquet"), problem_type="single_label", columns={"text": "text"})
    data = load(config, catalog.task(CLASSES), seed=7)
    assert texts_of(data) == TEXTS and data.answer.names == ("1.00", "1.10") and guess(data, "`raw` are UTF-8")
    data = load(config.model_copy(update={"columns": {"text": "raw"}}), catalog.task(CLASSES), seed=7)
    assert texts_of(data) == TEXTS
    pl.DataFrame({"text": TEXTS, "label": LABELS}).write_ipc(tmp_path / "rows.feather")
    data = load(DataConfig(source=str(tmp_path / "rows.feather")), catalog.task(CLASSES), seed=7)
    assert texts_of(data) == TEXTS


def test_workbooks(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "notes"
    book.active.append(("made by", "someone"))
    sheet = book.create_sheet("rows")
    for row in [("text", "label"), *zip(TEXTS, [7, 8] * (N // 2), strict=True)]:
        sheet.append(row)
    book.save(tmp_path / "rows.xlsx")
    task = catalog.task(CLASSES)
    with pytest.raises(UserError, match=r"data\.name to one of them"):
        load(DataConfig(source=str(tmp_path / "rows.xlsx")), task, seed=7)
    data = load(DataConfig(source=str(tmp_path / "rows.xlsx"), name="rows"), task, seed=7)
    assert texts_of(data) == TEXTS and data.answer.names == ("7", "8")
    sheet["A2"] = "=1+1"
    book.save(tmp_path / "rows.xlsx")
    with pytest.raises(UserError, match="row 2 holds a formula"):
        load(DataConfig(source=str(tmp_path / "rows.xlsx"), name="rows"), task, seed=7)


# --- words and tags ---


def test_conll_files(read: Any, refused: Any, tmp_path: Path) -> None:
    one = "Anna NN B-PER\nlives NN O\nin NN O\nRome NN B-LOC\n\n"
    conll = "-DOCSTART- -X- O\n\n" + one * N
    for name in ("rows.conll", "rows.txt"):
        data = read(conll, name, task=TAGS)
        assert texts_of(data, "words") == [["Anna", "lives", "in", "Rome"]] * N
        assert data.answer.names == ("B-LOC", "B-PER", "O") and guess(data, "tokens, pos_tags, ner_tags")
    folder = tmp_path / "folder"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        (folder / f"{split}.txt").write_text(conll)
    data = load(DataConfig(source=str(folder)), catalog.task(TAGS), seed=7)
    assert data.sizes == {"train": N, "validation": N, "test": N}
    assert not [warning for warning in data.warnings if "not read" in warning]
    assert "line 4 has 2" in refused(conll.replace("lives NN O", "lives O", 1), "rows.conll", task=TAGS)
    unlike = (
        "1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n1\tde\tde\tADP\t_\t_\t0\troot\t_\t_\n2\tle\tle\tDET\t_\t_\t1\tx\t_\t_\n\n"
    )
    data = read("# text = du\n" + unlike * N, "rows.conllu", task=TAGS, columns={"tags": "upos"})
    assert texts_of(data, "words")[0] == ["de", "le"] and data.answer.names == ("ADP", "DET")


def memory(pairs: Sequence[tuple[str, str]], languages: tuple[str, str] = ("en-GB", "fr"), more: str = "") -> str:
    """Return a translation memory; every second unit has its languages the other way round, and in capitals."""
    units = "".join(
        f'<tu tuid="{i}"><note>a note</note><tuv xml:lang="{languages[i % 2]}"><seg>{pair[i % 2]}</seg></tuv>'
        f'<tuv xml:lang="{languages[1 - i % 2].upper()}"><seg>{pair[1 - i % 2]}</seg></tuv></tu>\n'
        for i, pair in enumerate(pairs)
    )
    head = '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'
    return f'{head}<tmx version="1.4"><header srclang="{languages[0]}" /><body>{units}{more}</body></tmx>'


def test_translation_memories(read: Any, refused: Any) -> None:
    marks = "<bpt i='1'>&lt;b></bpt>{}<ept i='1'/>"
    pairs = [(f"a house {marks.format(i)} &amp; more", f"une maison\n   n\u00b0 {i}") for i in range(N)]
    half = '<tu><tuv xml:lang="fr"><seg>seule</seg></tuv></tu>'
    data = read(memory(pairs, more=half), "memory.tmx", task="translation")
    assert texts_of(data) == [f"a house {i} & more" for i in range(N)]
    assert texts_of(data, "translation") == [f"une maison n\u00b0 {i}" for i in range(N)]
    assert "from en-gb, which the file declares as its source, to fr" in guess(data, "memory.tmx")
    assert any(f"1 of {N + 1} units have one language alone" in warning for warning in data.warnings)

    # ways to write a language are one language where another one stands beside them
    others = [(f"t {i}", f"u {i}") for i in range(N)]
    mixed = memory(others).replace('"en-GB"', '"en-US"', N // 2).replace('"FR"', '"fr-CA"')
    data = read(mixed, "mixed.tmx", task="translation")
    assert texts_of(data) == [one for one, _ in others] and guess(data, "from en, which")


def test_translation_memories_that_cannot_be_read(refused: Any) -> None:
    def said(text: str) -> str:
        return str(refused(text, "m.tmx", task="translation"))

    three = "".join(f'<tuv xml:lang="{name}"><seg>a</seg></tuv>' for name in ("de", "fr", "en"))
    assert "de in 2, fr in 2, en in 2" in said(memory([], more=f"<tu>{three}</tu>" * 2))
    assert "of 0 units found none" in said(memory([]))
    bomb = memory([("a", "b")]).replace('SYSTEM "tmx14.dtd"', '[<!ENTITY a "ha"><!ENTITY b "&a;&a;">]')
    assert "declarations" in said(bomb)
    assert "root is <html>" in said("<html></html>")
    assert "readable as TMX" in said(memory([("a", "b")])[:-30])
    assert "readable as TMX" in said("PK\x03\x04 no XML")


def test_a_word_a_row(read: Any) -> None:
    lines = [(f"Sentence: {i}" if not j else "", word, tag) for i in range(N) for j, (word, tag) in enumerate(
        [("Anna", "B-PER"), ("lives", "O"), ("NA", "O")])]  # fmt: skip
    data = read(table(lines, "Sentence #,Word,Tag"), task=TAGS)
    assert texts_of(data, "words") == [["Anna", "lives", "NA"]] * N and guess(data, "data.sentence_column")
    ids = [(str(i // 3), *line[1:]) for i, line in enumerate(lines)]
    data = read(table(ids, "part,word,tag"), task=TAGS, sentence_column="part")
    assert texts_of(data, "words") == [["Anna", "lives", "NA"]] * N


TEXT = "Anna Smith lives in Rome."
SPANS = [(0, 10, "PER"), (20, 24, "LOC")]
WORDS = ["Anna", "Smith", "lives", "in", "Rome", "."]
RESULT = [{"value": {"start": a, "end": b, "text": TEXT[a:b], "labels": [c]}, "type": "labels"} for a, b, c in SPANS]


@pytest.mark.parametrize(
    "row",
    [
        {"text": TEXT, "label": SPANS},
        {"text": TEXT, "entities": [{"start_offset": a, "end_offset": b, "label": c} for a, b, c in SPANS]},
        {
            "text": TEXT, "spans": [{"start": a, "end": b, "label": c} for a, b, c in SPANS], "_input_hash": 7,
            "tokens": [{"text": w, "start": TEXT.index(w), "end": TEXT.index(w) + len(w)} for w in WORDS],
        },
        {"id": 1, "data": {"text": TEXT}, "annotations": [{"result": RESULT}]},
    ],
    ids=["doccano", "doccano entities", "prodigy", "label studio"],
)  # fmt: skip
def test_spans_by_character(read: Any, row: dict[str, Any]) -> None:
    data = read(json.dumps([row] * N), "rows.json", task=TAGS)
    assert texts_of(data, "words") == [WORDS] * N
    first = data.splits["train"][0]["tags"]
    assert [data.answer.names[tag] for tag in first] == ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]
    assert any("spans by character" in one or "Label Studio" in one for one in data.guesses)


def test_spans_inside_words_beyond_the_text_and_over_one_another(read: Any, refused: Any) -> None:
    def rows(*spans: Any) -> str:
        return "".join(json.dumps({"text": "unhappy Rome", "label": spans}) + "\n" for _ in range(N))

    data = read(rows([0, 2, "NEG"]), "rows.jsonl", task=TAGS)
    assert texts_of(data, "words")[0] == ["un", "happy", "Rome"]
    assert "share characters" in refused(rows([0, 5, "A"], [2, 7, "B"]), "rows.jsonl", task=TAGS)
    assert "is not in it" in refused(rows([8, 20, "A"]), "rows.jsonl", task=TAGS)


def studio(number: int, *results: Any, **more: Any) -> dict[str, Any]:
    """Return a task of Label Studio with one annotation of these results, or with those in `more`."""
    return {"id": number, "data": {"text": f"{TEXT} {number}"}, "annotations": [{"result": list(results)}], **more}


def test_a_task_that_nobody_did_is_no_text_without_a_span(read: Any) -> None:
    tasks = [studio(i, *RESULT) for i in range(N)]
    tasks[3] = studio(3, annotations=[])
    tasks[5] = studio(5, annotations=[{"result": [], "was_cancelled": True}, {"result": RESULT}])  # skipped, then done
    tasks[7] = studio(7, annotations=[{"result": [], "was_cancelled": True}])
    data = read(json.dumps(tasks), "rows.json", task=TAGS)
    assert sum(data.sizes.values()) == N - 2
    assert any(f"2 of {N} rows dropped" in warning for warning in data.warnings)
    assert all(
        any(data.answer.names[tag] != "O" for tag in row["tags"]) for rows in data.splits.values() for row in rows
    )


def test_questions_of_label_studio_are_columns_of_their_own(read: Any) -> None:
    """Both answers in one list would make a row of two labels: its mood and its topic."""

    def chosen(question: str, *names: str) -> dict[str, Any]:
        return {"from_name": question, "type": "choices", "value": {"choices": list(names)}}

    tasks = [studio(i, chosen("mood", ("bad", "good")[i % 2]), chosen("topic", "food")) for i in range(N)]
    data = read(json.dumps(tasks), "rows.json", columns={"text": "text", "label": "mood"})
    assert data.answer.kind == "single_label" and data.answer.names == ("bad", "good")
    assert guess(data, "a column for each of its questions: mood, topic")
    one = read(json.dumps([studio(i, chosen("mood", ("bad", "good")[i % 2])) for i in range(N)]), "rows.json")
    assert one.answer.names == ("bad", "good")


def test_spans_that_are_none_are_refused_and_whole_decimals_are_read(read: Any, refused: Any) -> None:
    rows = [{"text": f"{TEXT} {i}", "label": SPANS} for i in range(150)]
    rows[120] = {"text": rows[120]["text"], "label": [[0.0, 10.0, "PER"]]}
    assert sum(read("\n".join(map(json.dumps, rows)), "rows.jsonl", task=TAGS).sizes.values()) == 150
    rows[120] = {"text": rows[120]["text"], "label": [[0, "10", "PER"]]}
    assert "is no start, end and name" in refused("\n".join(map(json.dumps, rows)), "rows.jsonl", task=TAGS)


# --- any table of any writer ---


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_any_table_is_read_as_written_or_refused_in_words(seed: int) -> None:
    assert next(round_trips.trips(1, seed)) is None
