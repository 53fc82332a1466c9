"""Files as people bring them (tests/data/cases), each read as it is meant, or refused with what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hftransfer import catalog, cli, config, data
from hftransfer.data import Data
from hftransfer.errors import UserError
from tests import tiny

CASES = Path(__file__).parents[1] / "data" / "cases"
WORDS = ("B-LOC", "B-PER", "I-PER", "O")


@dataclass(frozen=True)
class Read:
    """What comes of a case: rows of all splits, labels, what is said of them, and what some rows hold."""

    rows: int
    names: tuple[str, ...] = ("neg", "pos")
    said: tuple[str, ...] = ()
    holds: tuple[Any, ...] = ()  # values of the first role that some rows have
    counts: tuple[int, ...] = ()  # of each label in all splits
    splits: tuple[int, int, int] | None = None  # train, validation, test


@dataclass(frozen=True)
class Refused:
    """What a refusal says."""

    said: tuple[str, ...]


EXPECTED: dict[str, Read | Refused] = {
    "01-multi-hot-list": Read(
        24, ("label_0", "label_1", "label_2"), ("3 labels that a row has or not", "label_names")
    ),
    "02-tsv-bare-quotes": Read(24, ("0", "1"), ("quotes are part of the texts",)),
    "04-one-bad-byte": Read(25, ("comblé", "déçu"), ("1 line is not UTF-8, unlike the others: line 26",)),
    "05-cp1251": Read(24, ("да", "нет"), ("read as cp1251", "data.encoding"), ("хорошая книга номер 0",)),
    "06-cp1252-quotes": Read(
        24,
        ("neg", "pos"),
        ("read as cp1252",),
        ("it\u2019s \u201cthe room was lovely and bright number 0\u201d \u2013 5€",),
    ),
    "08-jsonl-latin1": Read(24, said=("read as cp1252",), holds=("é the room was lovely and bright number 0",)),
    "09-no-header": Read(25, said=("no header was found", "column_1, column_2"), holds=("what a good day we had",)),
    "10-excel-sep-line": Read(24, said=("fields are divided by `;`",)),
    "11-label-blanks-and-case": Read(24, ("Pos", "neg", "pos"), ("`Pos` and `pos`",)),
    "13-list-as-string": Read(24, ("law", "sport"), ("written lists", "data.lists=false")),
    "15-split-column": Read(24, said=("`split` says which split",), splits=(14, 2, 8)),
    "16-long-ids-merge": Read(24, ("1000000000000000001", "1000000000000000002", "2000000000000000000")),
    "18-codes-like-1E5": Read(24, ("1E1", "2E1", "5E1")),
    "19-versions-1.10": Read(24, ("1.1", "1.10", "1.2")),
    "20-one-hot-columns": Refused(("data.columns.label=[toxic, obscene, threat]",)),
    "21-semicolon-commas-in-header": Read(24, ("1", "2"), ("divided by `;`",)),
    "22-decimal-comma": Read(24, (), ("0,0 is read as 0.0", "data.decimal")),
    "23-json-data-key": Read(24, said=("the rows stand under `data`",)),
    "25-parquet-string-view": Read(24),
    "26-parquet-decimal-label": Read(24, ("0", "1", "2"), ("decimals of `label` are read as they are written",)),
    "28-text-folders": Read(16, holds=("the room was lovely and bright number 0",)),
    "29-columns-in-another-order": Read(48),
    "30-utf16-without-bom": Read(24, said=("utf-16-le, by its zero bytes",)),
    "31-training_set-test_set": Read(
        32, ("cats", "dogs"), ("test_set is test, training_set is train",), splits=(14, 2, 16)
    ),
    "33-train-test-and-one-more": Read(24, ("cats", "dogs"), ("not used: extra (12 rows)",), splits=(11, 1, 12)),
    "35-jfif-class-vanishes": Read(30, ("birds", "cats", "dogs"), counts=(10, 10, 10)),
    "36-symlinked-class-vanishes": Read(30, ("birds", "cats", "dogs"), counts=(10, 10, 10)),
    "37-sixteen-bit-png": Read(32, ("box", "disc"), ("0 to 65535 is shown as 0 to 255",)),
    "38-transparent-icons": Read(32, ("box", "disc"), ("transparent parts, shown on white",)),
    "40-csv-of-names-beside-imgs": Read(16, ("blue", "red"), ("found by their names: 16 in imgs",)),
    "42-flat-names": Refused(('data.label_pattern="{label}.{number}.*"', "(cat, dog)")),
    "43-doubly-nested-train-val": Read(32, ("cats", "dogs"), splits=(13, 16, 3)),
    "44-junk-files": Read(20, ("cats", "dogs"), ("8 files of the system passed over",)),
    "45-conll-file": Read(24, WORDS, ("columns are called tokens, pos_tags, ner_tags",), (["Anna", "lives"],)),
    "46-word-a-row-csv": Read(24, WORDS, ("`Sentence #` says which sentence", "24 sentences")),
    "47-lists-as-strings-csv": Read(24, WORDS, ("`ner_tags` are written lists",)),
    "49-stray-tags": Read(24, ("B-LOC", "B-PER", "I-PER", "O", "o"), ("`O` and `o`",)),
    "50-words-without-pieces": Read(40, ("B-BAD", "B-GOOD", "O")),
    "51-reserved-and-index-columns": Read(24, ("0", "1")),
    "52-none-na-null-labels": Read(24, ("N/A", "NA", "None", "null"), ("are labels like the others, not missing",)),
    "53-leading-zeros": Read(24, ("01", "02", "10")),
    "54-ints-with-gaps": Read(24, ("3", "7", "11")),
    "55-bom-crlf-semicolon": Read(
        24, said=("divided by `;`",), holds=('the room was lovely and bright number 0\nzweite Zeile, "ja"',)
    ),
    "56-class-with-one-row": Read(24, ("neg", "pos", "rare"), ("class rare missing from test",)),
    "57-backslash-quotes": Read(
        24, said=('written `\\"`',), holds=('he said "the room was lovely and bright number 0" twice',)
    ),
    "58-predict-digits": Read(40),
    "59-odd-label-names": Read(120),
    "60-class-weights-int-labels": Read(60, ("0", "1")),
}


def settled(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> config.RunConfig:
    """Copy a case into `folder`, go there, and return its configuration."""
    here = shutil.copytree(CASES / name, folder / name)
    if name.startswith("36"):  # a link: some archives and file systems hold none
        (here / "pics" / "dogs").symlink_to(Path("..") / "elsewhere" / "dogs")
    monkeypatch.chdir(here)
    return catalog.build_config(config.read_tree(here / "config.yaml"))


def rows_of(found: Data) -> list[dict[str, Any]]:
    return [dict(row) for split in found.splits.values() for row in split.with_format("arrow")[:].to_pylist()]


def test_every_case_has_an_expectation() -> None:
    assert {path.name for path in CASES.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_read_or_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, wanted = settled(name, tmp_path, monkeypatch), EXPECTED[name]
    task = catalog.task(settings.task)
    if isinstance(wanted, Refused):
        with pytest.raises(UserError) as caught:
            data.load(settings.data, task, settings.seed, tmp_path / "work")
        assert not [words for words in wanted.said if words not in str(caught.value)], str(caught.value)
        return
    found = data.load(settings.data, task, settings.seed, tmp_path / "work")
    assert sum(found.sizes.values()) == wanted.rows
    if name != "59-odd-label-names":
        assert found.answer.names == wanted.names
    said = "\n".join([*found.guesses, *found.warnings])
    assert not [words for words in wanted.said if words not in said], said
    if wanted.splits:
        assert tuple(found.sizes[split] for split in ("train", "validation", "test")) == wanted.splits
    rows = rows_of(found)
    first = task.shown[0].name
    for value in wanted.holds:
        assert any(row[first][: len(value)] == value for row in rows), value
    if wanted.counts:
        assert tuple(np.bincount([row["label"] for row in rows])) == wanted.counts


def test_the_columns_that_are_proposed_are_several_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settled("20-one-hot-columns", tmp_path, monkeypatch)
    tree = config.override(settings.to_dict(), ["data.columns.label=[toxic, obscene, threat]"])
    found = data.load(config.build(tree).data, catalog.task(settings.task), 42, tmp_path / "work")
    assert found.answer.kind == "multi_label" and set(found.answer.names) == {"toxic", "obscene", "threat"}


def test_the_pattern_that_is_offered_finds_the_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settled("42-flat-names", tmp_path, monkeypatch)
    tree = config.override(settings.to_dict(), ["data.label_pattern='{label}.{number}.*'"])
    found = data.load(config.build(tree).data, catalog.task(settings.task), 42, tmp_path / "work")
    assert found.answer.names == ("cat", "dog")


def test_files_to_predict_on(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Digits alone, a text beside digits, semicolons, a blank row: none of them costs the file."""
    settings = settled("58-predict-digits", tmp_path, monkeypatch)
    model = str(tiny.text_model(tmp_path / "model"))
    run, _ = train({"task": settings.task, "model": model, "data": {"source": settings.data.source}})
    answered = {}
    for file in ("ask.csv", "ask2.csv", "ask3.csv", "ask4.csv"):
        capsys.readouterr()
        assert cli.main(["predict", str(run.folder), file, "--json"]) == 0, file
        answered[file] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(rows) for rows in answered.values()] == [2, 2, 1, 3]
    blank = ["label" in row for row in answered["ask4.csv"]]
    assert blank == [True, False, True], "the row of a blank text stays, without an answer"
