"""The result page shows what was found of copies and labels, with the first rows of each file as text."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from hftransfer.inputs.candidates import CANDIDATES
from hftransfer.inputs.item_history import HISTORY
from hftransfer.inputs.words import WORDS
from hftransfer.ui import adding_part, cells, charts, rows_found, rows_of_runs

ISSUES = "row_id,text_or_file,about,given,suggested,probability,probability_given\n"
COPIES = "row_id,split,text_or_file,copy_id,copy_split,copy_text_or_file,cosine,ratio\n"


def a_result(issues: int, copies: int) -> dict[str, Any]:
    return {
        "data": {
            "splits": {"train": 200, "test": 30}, "leakage": {},
            "label_issues": {"looked": 200, "found": issues, "file": "label_issues.csv"},
            "likely_copies": {"found": {"test": {"train": copies}} if copies else {}, "file": "likely_copies.csv"},
        }
    }  # fmt: skip


def test_the_first_rows_are_shown_escaped(tmp_path: Path) -> None:
    lines = "".join(f"r:{n},<b>text {n}</b>,,good,bad,0.9,0.1\n" for n in range(12))
    (tmp_path / "label_issues.csv").write_text(ISSUES + lines)
    (tmp_path / "likely_copies.csv").write_text(COPIES + "r:3,test,one way,r:4,train,another way,0.91,0.3\n")
    shown = rows_found.rows_of(a_result(12, 1), tmp_path)
    assert "&lt;b&gt;text 9&lt;/b&gt;" in shown and "text 10" not in shown and "<b>" not in shown
    assert (
        "12 of 200 train rows looked at" in shown
        and "(label_issues.csv)" not in shown
        and "one way" in shown
        and "another way" in shown
    )
    assert ">about<" not in shown and ">suggested<" in shown


def test_nothing_found_has_no_table(tmp_path: Path) -> None:
    shown = rows_found.rows_of(a_result(0, 0), tmp_path)
    assert "none found" in shown and "0 of 200 train rows looked at" in shown and "<table" not in shown
    assert "<table" not in rows_found.rows_of(a_result(12, 1), tmp_path)  # the files were not brought along
    assert rows_found.rows_of({"data": {"splits": {"train": 9}}}, tmp_path) == ""


@pytest.mark.parametrize(
    ("kind", "value"), [(HISTORY, ["a title", "12", "x"]), (WORDS, ["a", "b"]), (CANDIDATES, ["one thing", "other"])]
)
def test_an_example_of_several_texts_is_asked_as_what_it_is(kind: Any, value: list[str]) -> None:
    told = rows_of_runs._told({"role": kind}, "role", value)
    assert isinstance(told, str) and kind.read(told) == value
    assert rows_of_runs._told({"role": kind}, "other", value) == value


def test_an_example_is_not_cut_where_a_preview_is() -> None:
    long = "word " * 500
    assert cells.entry(long)["value"].endswith("…")
    assert cells.entry(long, longest=rows_of_runs.ASKED)["value"] == long


def test_a_value_with_names_inside_is_shown_in_words() -> None:
    assert cells.entry({"id": "3", "grade": 1.0, "cold": False})["value"] == "id 3, grade 1.0"
    assert cells.entry([{"id": "3"}, {"id": "4", "grade": 2}])["value"] == "id 3; id 4, grade 2"


def test_a_mask_of_numbers_is_not_shown_black() -> None:
    grid = np.zeros((8, 8), np.uint8)
    grid[2:5, 2:5], grid[5:, 5:] = 1, 2
    shown = cells.data_url(Image.fromarray(grid))
    with Image.open(io.BytesIO(base64.b64decode(shown.partition(",")[2]))) as seen:
        assert sorted(colour for _, (colour, *_) in seen.convert("RGB").getcolors()) == [0, 128, 255]
    photo = Image.fromarray(np.full((8, 8), 200, np.uint8))
    with Image.open(io.BytesIO(base64.b64decode(cells.data_url(photo).partition(",")[2]))) as seen:
        assert seen.convert("L").getextrema() == (200, 200)


def test_a_long_answer_leaves_room_for_the_label_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "word " * 500
    row = {"row_id": "1", "label": "the truth " * 90, "prediction": long, "score": 0.5, "input": {}}
    (sentence,) = re.findall("<p>(.*?)</p>", rows_found.errors_of([row]))
    assert "(50% sure), is the truth" in sentence
    assert " answered as other: 7" in charts.confusion({"labels": [long, "other"], "counts": [[1, 7], [0, 1]]})

    told: list[str] = []
    monkeypatch.setattr(adding_part.visitors, "find", lambda *_: None)
    monkeypatch.setattr(adding_part, "require_new", lambda *_: None)
    monkeypatch.setattr(adding_part.adding, "add", lambda *_: 3)
    monkeypatch.setattr(adding_part, "opened", lambda visitor, name, words: told.append(words))
    page: Any = SimpleNamespace(settings=None)
    adding_part.kept(page, cast(Any, None), lambda *_: {}, "", "", "run", (), "", "", None, None, long)
    assert len(told[0]) < 250 and told[0].endswith("Rows you added so far: 3.")
