"""Pictures that a table names are found beside it, however the names are written; what is not there is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hftransfer import catalog
from hftransfer.config import DataConfig
from hftransfer.data import Data, load, read_inputs
from hftransfer.data.named_files import Finder
from hftransfer.errors import UserError
from hftransfer.safety import fence
from hftransfer.safety.pictures import SUFFIXES

TASK = catalog.task("image-classification")
COUNT = 12


def pictures(folder: Path, suffix: str = ".png", first: int = 0) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + COUNT):
        Image.new("RGB", (8, 8), (i * 20 % 256, 90 * (i % 2), i)).save(folder / f"p{i}{suffix}")
    return [f"p{i}{suffix}" for i in range(first, first + COUNT)]


def table(path: Path, names: list[Any], column: str = "image") -> Path:
    path.write_text("".join(json.dumps({column: name, "label": "ab"[i % 2]}) + "\n" for i, name in enumerate(names)))
    return path


def read(source: Path, **options: Any) -> Data:
    return load(DataConfig(source=str(source), **options), TASK, seed=7)


@pytest.mark.parametrize(
    ("place", "written"),
    [
        ("imgs", "{}"), ("images", "{}"), ("a/b", "{}"), ("imgs", "imgs\\{}"), (".", ".\\{}"),
        ("imgs", "/home/me/data/imgs/{}"),
        ("imgs", "C:\\data\\{}"), ("x/imgs", "imgs/{}"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffixless", [False, True])
def test_names_are_found_however_they_are_written(tmp_path, place, written, suffixless):
    names = [written.format(name.removesuffix(".png") if suffixless else name) for name in pictures(tmp_path / place)]
    data = read(table(tmp_path / "rows.jsonl", names, "filename"))
    assert sum(data.sizes.values()) == COUNT
    assert bool(data.guesses) == (suffixless or (place != "." and written != "imgs\\{}"))


def test_numbers_name_files_and_capitals_do_not_matter(tmp_path):
    for i, name in enumerate(pictures(tmp_path / "imgs", ".PNG")):
        (tmp_path / "imgs" / name).rename(tmp_path / "imgs" / f"{i + 100}.PNG")
    assert sum(read(table(tmp_path / "rows.jsonl", list(range(100, 112)), "id")).sizes.values()) == COUNT
    upper = [f"{i}.png" for i in range(100, 112)]
    assert sum(read(table(tmp_path / "rows.jsonl", upper, "id")).sizes.values()) == COUNT


def test_the_column_that_is_named_after_pictures_comes_before_others(tmp_path):
    names = pictures(tmp_path / "imgs")
    rows = [{"id": f"q{i}", "image": name, "label": "ab"[i % 2]} for i, name in enumerate(names)]
    for row in rows:
        (tmp_path / "imgs" / f"{row['id']}.png").write_bytes(b"another picture that the id happens to name")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert sum(read(tmp_path / "rows.jsonl").sizes.values()) == COUNT


def test_what_is_not_there_is_said_with_where_it_was_looked_for(tmp_path):
    names = pictures(tmp_path / "imgs")
    (tmp_path / "imgs" / names[0]).write_bytes(b"no picture")
    (tmp_path / "imgs" / names[1]).write_bytes(b"")
    data = read(table(tmp_path / "rows.jsonl", [*names, "gone.png"]))
    said = next(w for w in data.warnings if "dropped" in w)
    assert "1 with an unreadable image; 1 with an empty file; 1 with no picture of that name" in said
    assert f"train, `image`: 1 name has no file in {tmp_path} or below (or several) [rows: gone.png]" in data.warnings


def test_a_name_that_several_files_have_is_told_apart_by_its_folder_or_not_at_all(tmp_path):
    pictures(tmp_path / "one" / "x")
    pictures(tmp_path / "two" / "x")
    finder = Finder(tmp_path, SUFFIXES)
    assert finder.place("two/x/p1") == tmp_path / "two" / "x" / "p1.png"
    assert not finder.place("p1.png").exists() and finder.missing == ["p1.png"]


@pytest.mark.parametrize("column", ["id", "image_id", "file"])
def test_a_folder_of_pictures_and_a_table_of_their_classes(tmp_path, column):
    names = pictures(tmp_path / "train")
    pictures(tmp_path / "test", first=50)
    table(tmp_path / "train.jsonl", [name.removesuffix(".png") for name in names], column)
    data = read(tmp_path)
    assert data.answer.names == ("a", "b") and sum(data.sizes.values()) == COUNT
    assert any("train.jsonl: a table that names the pictures" in guess for guess in data.guesses)
    assert any(w.startswith("not read: 12 of 25 files: test all 12 (in no table)") for w in data.warnings)


def test_pictures_that_no_metadata_names_are_counted(tmp_path):
    names = pictures(tmp_path)
    table(tmp_path / "metadata.jsonl", [name.removesuffix(".png") for name in names[:10]], "file_name")
    data = read(tmp_path)
    assert sum(data.sizes.values()) == 10
    assert any(w.startswith("not read: 2 of 12 files: at the top 2 of 12 (in no metadata)") for w in data.warnings)


def test_rows_to_predict_on_are_found_alike(tmp_path):
    names = pictures(tmp_path / "imgs")
    found = read_inputs(table(tmp_path / "ask.jsonl", [*names, None]), TASK, {"image": "image"})
    assert found[0] == {"image": str(tmp_path / "imgs" / "p0.png")} and found[-1].reason == "no image"
    (tmp_path / "ask.txt").write_text("imgs\\p3.png\n")
    assert read_inputs(tmp_path / "ask.txt", TASK, {"image": "image"}) == [{"image": str(tmp_path / "imgs/p3.png")}]


def test_a_stranger_names_no_file_elsewhere(tmp_path, monkeypatch):
    names = pictures(tmp_path / "secret")
    rows = table(tmp_path / "own.jsonl", [str(tmp_path / "secret" / name) for name in names])
    (tmp_path / "mine").mkdir()
    rows = rows.rename(tmp_path / "mine" / "rows.jsonl")
    assert sum(read(rows).sizes.values()) == COUNT
    monkeypatch.setenv(fence.VARIABLE, "{}")
    with pytest.raises(UserError, match=r"12 of 12 are not: 12 with no picture of that name"):
        read(rows)
