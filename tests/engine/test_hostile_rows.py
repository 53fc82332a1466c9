"""Files that claim what is not, or lack what their form has: told in words, in the memory and time of a good one."""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from PIL import Image

from hftransfer import catalog
from hftransfer.config import DataConfig
from hftransfer.data import load
from hftransfer.data.annotations import outlines
from hftransfer.data.formats import excel
from hftransfer.errors import UserError
from hftransfer.inputs import _sounds
from tests.app.test_uploads import wav_of_rate


def refused(source: Path, task: str) -> str:
    """Return the words in which a source is refused."""
    began = time.perf_counter()
    with pytest.raises(UserError) as caught:
        load(DataConfig(source=str(source)), catalog.task(task), seed=7)
    assert time.perf_counter() - began < 20
    return str(caught.value)


# --- annotations ---


def coco(folder: Path, size: Any = (64, 64), images: Any = None, **thing: Any) -> Path:
    """Write four pictures of 64 by 64, and a COCO file of two things on each."""
    kinds = thing.pop("categories", [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
    listed, things = [], []
    for number in range(4):
        Image.new("RGB", (64, 64), "red").save(folder / f"{number}.png")
        listed.append({"id": number, "file_name": f"{number}.png", "width": size[0], "height": size[1]})
        things += [
            {"id": 2 * number + part, "image_id": number, "category_id": 1 + part, "bbox": [1, 1, 20, 20], **thing}
            for part in range(2)
        ]
    tree = {"images": listed if images is None else images, "annotations": things, "categories": kinds}
    (folder / "annotations.json").write_text(json.dumps(tree))
    return folder


SEGMENTATION, DETECTION = "image-segmentation", "object-detection"
WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "runs of ten billion pixels": (
        SEGMENTATION,
        {"size": (100_000, 100_000), "segmentation": {"counts": [10**10], "size": [100_000, 100_000]}},
        "another size than they were drawn on",
    ),
    "a polygon on ten billion pixels": (
        SEGMENTATION,
        {"size": (100_000, 100_000), "segmentation": [[1, 1, 20, 1, 20, 20]]},
        "another size than they were drawn on",
    ),
    "boxes on a million millions of pixels": (
        DETECTION,
        {"size": (10**12, 10**12)},
        "another size than they were drawn on",
    ),
    "sides without end": (DETECTION, {"size": (float("inf"), 64)}, "annotations as COCO writes them"),
    "boxes of words": (DETECTION, {"bbox": list("abcd")}, "annotations as COCO writes them"),
    "boxes of lists": (DETECTION, {"bbox": [[1], 2, 3, 4]}, "annotations as COCO writes them"),
    "kinds in no list": (DETECTION, {"categories": {"a": 1}}, "annotations as COCO writes them"),
    "kinds without a number": (DETECTION, {"categories": [{"name": "a"}]}, "a part 'id' is missing"),
    "pictures that are numbers": (DETECTION, {"images": [1, 2, None]}, "annotations as COCO writes them"),
    "pictures of a name of 5,000 letters": (
        DETECTION,
        {"images": [{"id": 0, "file_name": "a" * 5000}]},
        "annotations as COCO writes them",
    ),
    "pictures of the machine": (DETECTION, {"images": [{"id": 0, "file_name": "/etc/passwd"}]}, "boxes are needed"),
    "pictures at an address": (
        DETECTION,
        {"images": [{"id": 0, "file_name": "http://127.0.0.1:1/a.png"}]},
        "pictures",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_annotations_that_lie_are_refused_in_words(case: str, tmp_path: Path) -> None:
    task, wrong, words = WRONG[case]
    assert words in refused(coco(tmp_path, **wrong), task)


@pytest.mark.parametrize(
    "outline",
    [
        {"counts": [-100, 4196], "size": [64, 64]},
        {"counts": [0.5, 4095.5], "size": [64, 64]},
        {"counts": ["a"], "size": [64, 64]},
        {"counts": [4096], "size": "ab"},
        {"counts": [4096], "size": [64]},
        {"counts": "o" * 100_000, "size": [64, 64]},
        {"counts": "é中", "size": [64, 64]},
        {"counts": None, "size": [64, 64]},
        [["a", "b"] * 4],
        [[[1], [2]] * 4],
        [[float("nan")] * 8],
        [[float("inf")] * 8],
        [[1.0]],
    ],
)
def test_an_outline_that_is_none_has_no_pixels(outline: Any) -> None:
    began = time.perf_counter()
    found = outlines.pixels_of(outline, (64, 64))
    assert found is None or not found.any()
    assert time.perf_counter() - began < 2


def test_an_outline_far_outside_is_cut_to_its_picture() -> None:
    found = outlines.pixels_of([[-1e9, -1e9, 1e9, -1e9, 1e9, 1e9, -1e9, 1e9]], (64, 32))
    assert found is not None and found.shape == (32, 64)


def test_things_of_one_picture_are_kept_as_large_as_they_are() -> None:
    inside = np.zeros((900, 1000), bool)
    inside[100:110, 200:204] = True
    part, kept = outlines._cut(inside)
    assert kept.shape == (10, 4) and kept.base is None
    again = np.zeros_like(inside)
    again[part][kept] = True
    assert (again == inside).all()


# --- tables ---

JSON: dict[str, tuple[str, str]] = {
    "a number of 5,000 digits": ('[{"text": "a", "label": ' + "9" * 5000 + "}]", "must be readable JSON"),
    "lists in lists without end": ("[" * 100_000, "nested too deep"),
    "pandas' rows of other lengths": (
        '{"columns": ["text", "label"], "data": [["a"], ["b", "c", "d"]]}',
        "row 0 under",
    ),
    "pandas' rows that are a number": ('{"columns": ["text", "label"], "data": 5}', "row 0 under `data`"),
    "pandas' rows that are numbers": ('{"columns": ["text", "label"], "data": [["a", "b"], 5]}', "row 1 under `data`"),
    "labels beyond all numbers": ('[{"text": "a", "label": 1e999}, {"text": "b", "label": -1e999}]', "(inf, -inf...)"),
}


@pytest.mark.parametrize("case", JSON)
def test_json_that_lies_is_refused_in_words(case: str, tmp_path: Path) -> None:
    content, words = JSON[case]
    (tmp_path / "a.json").write_text(content)
    assert words in refused(tmp_path / "a.json", "text-classification")


@pytest.mark.parametrize(("cell", "written"), [("AZ900", "900"), ("A900", "99999999999")])
def test_a_cell_far_away_is_not_waited_for(
    cell: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """openpyxl makes every row and cell before it: 16,384 for each row, or a row for each number."""
    monkeypatch.setattr(excel, "MOST", 1000)
    book = openpyxl.Workbook()
    for row in [("text", "label"), *((f"film {i}", "ab"[i % 2]) for i in range(20))]:
        book.active.append(row)
    book.active[cell] = "x"
    book.save(tmp_path / "a.xlsx")
    with zipfile.ZipFile(tmp_path / "a.xlsx") as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as file:
        for name, content in parts.items():
            file.writestr(name, content.replace(b"900", written.encode()) if "sheet1" in name else content)
    began = time.perf_counter()
    data = load(DataConfig(source=str(tmp_path / "a.xlsx")), catalog.task("text-classification"), seed=7)
    assert sum(data.sizes.values()) == 20
    assert time.perf_counter() - began < 30


# --- recordings ---


@pytest.mark.parametrize("rate", [2**31 - 1, 2**20 + 1])
def test_a_rate_that_is_none_makes_no_filter(rate: int) -> None:
    pytest.importorskip("soundfile")
    with pytest.raises(OSError, match="samples a second"):
        _sounds.decoded({"bytes": wav_of_rate(rate), "path": None})
