"""Rows that stand in two splits are found, whatever their case, their file or their format, and none is dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hftransfer import catalog
from hftransfer.config import DataConfig
from hftransfer.data import Data, leakage, load
from hftransfer.inputs.text import TEXT
from hftransfer.tasks.base import Role, truth
from tests.engine import toys

TASK = toys.of_text("a task", Role("text", TEXT, "a string", ("text",)), truth("label", "a class", ("label",)))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"text": f"sentence {i}", "label": ["no", "yes"][i % 2]} for i in range(start, start + count)]


def read(folder: Path, task: Any = None, **splits: list[dict[str, Any]]) -> Data:
    for use, rows in splits.items():
        write(folder / f"{use}.jsonl", rows)
    return load(DataConfig(source=str(folder)), task or TASK, 3, folder.with_name("work"))


def leaks(data: Data) -> list[str]:
    return [warning for warning in data.warnings if warning.startswith("leakage: ")]


def test_clean_data_gives_no_warning(tmp_path: Path) -> None:
    data = read(tmp_path / "rows", train=rows_of(60), validation=rows_of(9, 100), test=rows_of(9, 200))
    assert data.leakage == {} and not leaks(data) and not any("otherwise" in warning for warning in data.warnings)


def test_the_number_and_the_first_rows_are_said_and_every_row_stays(tmp_path: Path) -> None:
    test = [*rows_of(35, 200), *rows_of(5), *rows_of(2, 100)]
    data = read(tmp_path / "rows", train=rows_of(60), validation=[*rows_of(9, 100), *rows_of(1, 7)], test=test)
    assert data.sizes == {"train": 60, "validation": 10, "test": 42}
    assert data.leakage == {"validation": {"train": 1}, "test": {"train": 5, "validation": 2}}
    assert leaks(data) == [
        "leakage: 1 of 10 validation rows (10.0%) also stands in train (same text); choices made by them favour "
        "memory [rows: validation.jsonl:9]",
        "leakage: 5 of 42 test rows (11.9%) also stand in train (same text); scores on them measure memory "
        "[rows: test.jsonl:35, test.jsonl:36, test.jsonl:37, ...]",
        "leakage: 2 of 42 test rows (4.8%) also stand in validation (same text); choices were made with them "
        "[rows: test.jsonl:40, test.jsonl:41]",
    ]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("A  Film\n", "a film", True), ("STRASSE", "straße", True), ("\uff46ilm №1", "film no1", True),
        ("é", "e\u0301", True), ("a film", "a film.", False), ("a b", "ab", False),
    ],
)  # fmt: skip
def test_what_counts_as_the_same_text(tmp_path: Path, one: str, other: str, alike: bool) -> None:
    train, test = [*rows_of(20), {"text": one, "label": "no"}], [*rows_of(9, 200), {"text": other, "label": "yes"}]
    data = read(tmp_path / "rows", train=train, validation=rows_of(9, 100), test=test)
    assert data.leakage == ({"test": {"train": 1}} if alike else {})


def test_cut_splits_are_looked_at_too(tmp_path: Path) -> None:
    """Every text stands twice: a row leaks when its twin was cut to the other side."""
    data = read(tmp_path / "rows", train=[row for row in rows_of(100) for _ in range(2)])
    texts = {use: [row["text"] for row in rows] for use, rows in data.splits.items()}
    wanted: dict[str, dict[str, int]] = {}
    for use, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        wanted.setdefault(use, {})[other] = sum(text in texts[other] for text in texts[use])
    assert data.leakage == wanted and min(wanted["test"].values()) > 0


def test_both_texts_of_a_pair_count(tmp_path: Path) -> None:
    def pairs(*texts: tuple[str, str]) -> list[dict[str, Any]]:
        return [{"premise": a, "hypothesis": b, "label": "no"} for a, b in texts]

    train = [*pairs(("a b", "c"), ("x", "y")), *(pairs((str(i), ""))[0] | {"label": "yes"} for i in range(9))]
    data = read(
        tmp_path / "rows", catalog.task("text-classification"),
        train=train, validation=pairs(("v", "w")), test=pairs(("a", "b c"), ("A B", "c"), ("x", "z"), ("y", "x")),
    )  # fmt: skip
    assert data.leakage == {"test": {"train": 1}} and "1 with the same texts, " in leaks(data)[0]


def test_words(tmp_path: Path) -> None:
    def tagged(*sentences: str) -> list[dict[str, Any]]:
        return [
            {"tokens": text.split(), "ner_tags": ["O" if w != "b" else "B-x" for w in text.split()]}
            for text in sentences
        ]

    folder = tmp_path / "rows"
    write(folder / "train.jsonl", tagged("a b", "a c b", "d b"))
    write(folder / "validation.jsonl", tagged("e b"))
    write(folder / "test.jsonl", tagged("A b", "b a", "a cb"))
    data = load(DataConfig(source=str(folder)), catalog.task("token-classification"), 3)
    assert data.leakage == {"test": {"train": 1}} and "(same words); " in leaks(data)[0]


def test_pictures_count_by_their_pixels(tmp_path: Path) -> None:
    """The same pixels in another format, or turned by a camera's mark; other pixels, or the same in another shape."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (40, 6, 4, 3), dtype=np.uint8)
    for number, picture in enumerate(pixels[:30]):
        path = tmp_path / "pictures/train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    for use, numbers in (("validation", (30, 31)), ("test", (32, 33))):
        for name, number in zip("ab", numbers, strict=True):
            (tmp_path / "pictures" / use / name).mkdir(parents=True)
            Image.fromarray(pixels[number]).save(tmp_path / "pictures" / use / name / f"{number}.png")
    test = tmp_path / "pictures/test/a"
    Image.fromarray(pixels[0]).save(test / "same.webp", lossless=True)
    marked = Image.fromarray(np.rot90(pixels[1], 1).copy())
    marked.getexif()[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    marked.save(test / "turned.png", exif=marked.getexif())
    changed = pixels[2].copy()
    changed[0, 0, 0] ^= 1
    Image.fromarray(changed).save(test / "other.png")
    Image.fromarray(pixels[3].reshape(4, 6, 3)).save(test / "shape.png")
    data = load(DataConfig(source=str(tmp_path / "pictures")), catalog.task("image-classification"), 3)
    assert data.sizes["test"] == 6 and data.leakage == {"test": {"train": 2}}
    assert "with the same pixels" in leaks(data)[0]


@pytest.mark.parametrize("streaming", [False, True])
def test_unusable_rows_do_not_shift_the_rest(tmp_path: Path, streaming: bool) -> None:
    train = [{"text": "", "label": "no"}, *rows_of(40), {"text": "x", "label": None}]
    test = [{"text": " ", "label": "no"}, {"text": "sentence 3", "label": None}, *rows_of(20, 200), *rows_of(1, 39)]
    for use, rows in (("train", train), ("validation", rows_of(9, 100)), ("test", test)):
        write(tmp_path / "rows" / f"{use}.jsonl", rows)
    config = DataConfig(source=str(tmp_path / "rows"), streaming=streaming)
    data = load(config, TASK, 3, tmp_path / "work")
    assert data.leakage == {"test": {"train": 1}} and "[rows: test.jsonl:22]" in leaks(data)[0]


# --- contradictions ---


def test_the_same_text_with_two_labels(tmp_path: Path) -> None:
    twice = [{"text": "Sentence 4", "label": "yes"}, {"text": "SENTENCE 5", "label": "yes"}]
    data = read(tmp_path / "rows", train=[*rows_of(20), *twice], validation=rows_of(9, 100), test=rows_of(9, 200))
    said = "train: 2 rows have the same text as another that is labelled otherwise "
    said += "[rows: train.jsonl:4, train.jsonl:20]"
    assert said in data.warnings and data.sizes["train"] == 22


def test_lists_of_labels_contradict_as_sets_and_numbers_never_do(tmp_path: Path) -> None:
    def labelled(*labels: Any) -> list[dict[str, Any]]:
        return [{"text": "the same", "label": label} for label in labels]

    rows = [{"text": f"{i}", "label": ["a"]} for i in range(20)]
    other = {"validation": [{"text": "v", "label": ["a"]}], "test": [{"text": "t", "label": ["b"]}]}
    agreed = read(tmp_path / "agreed", train=[*rows, *labelled(["a", "b"], ["b", "a"])], **other)
    assert not any("otherwise" in warning for warning in agreed.warnings)
    torn = read(tmp_path / "torn", train=[*rows, *labelled(["a", "b"], ["b"])], **other)
    assert any("train: 2 rows have the same text" in warning for warning in torn.warnings)
    source = write(
        tmp_path / "numbers.jsonl", [*({"text": f"{i}", "label": i / 7} for i in range(20)), *labelled(0.5, 0.7)]
    )
    config = DataConfig(source=str(source), problem_type="regression")
    assert not any("otherwise" in warning for warning in load(config, TASK, 3).warnings)


# --- streams ---


def test_a_stream_finds_what_a_file_has(tmp_path: Path) -> None:
    test = [*rows_of(35, 200), *rows_of(5), *rows_of(2, 100)]
    folder = tmp_path / "rows"
    whole = read(folder, train=rows_of(60), validation=[*rows_of(9, 100), *rows_of(1, 7)], test=test)
    streamed = load(DataConfig(source=str(folder), streaming=True), TASK, 3, tmp_path / "work")
    assert streamed.leakage == whole.leakage and leaks(streamed) == leaks(whole)
    assert "print" not in streamed.splits["test"].column_names


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=30), st.integers(0, 5), st.booleans())
def test_what_is_cut_from_a_stream_does_not_leak_into_itself(numbers: list[int], held: int, other: bool) -> None:
    """A held-out row leaks when train, as it is after the cut, still has its like."""
    found = np.array(numbers, np.uint64)
    cut, rest = found[:held], found[held:]
    held_out = {"test": cut, "validation": np.array([3, 99], np.uint64)}
    splits = ["test"] if not other else ["test", "validation"]
    train = np.concatenate([found, held_out["validation"]]) if other else found
    which = leakage.shared_with_stream(held_out, train, splits)
    assert which["test", "train"].tolist() == [number in rest for number in cut]
    assert which["validation", "train"].tolist() == [number in rest for number in held_out["validation"]]


def test_cuts_of_a_stream_are_looked_at_too(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", [row for row in rows_of(300) for _ in range(2)])
    config = DataConfig(source=str(source), streaming=True)
    data = load(config, TASK, 3, tmp_path / "work")
    texts = {use: [row["text"] for row in rows] for use, rows in data.splits.items()}
    assert data.leakage is not None
    assert data.leakage["test"]["train"] == sum(text in texts["train"] for text in texts["test"]) > 0
    assert data.leakage["validation"]["train"] == sum(text in texts["train"] for text in texts["validation"]) > 0


def test_a_stream_too_long_to_remember_is_not_called_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "MOST_PRINTS", 50)
    config = DataConfig(source=str(write(tmp_path / "rows.jsonl", rows_of(300))), streaming=True)
    assert load(config, TASK, 3, tmp_path / "work").leakage is None
