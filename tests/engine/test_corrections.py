"""Labels that people mended: applied to the rows that are learned from, and to no test row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hftransfer import catalog, data
from hftransfer.config import build
from hftransfer.errors import UserError


@pytest.fixture
def loaded(tmp_path: Path) -> Any:
    """Return what loads rows of two labels, with options of `data`."""
    rows = [f"text number {i},{'a' if i % 3 else 'b'}" for i in range(60)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")

    def load(**options: Any) -> data.Data:
        source = {"source": str(tmp_path / "rows.csv"), **options}
        tree = {"task": "text-classification", "model": "m", "data": source}
        config = build(tree)
        return data.load(config.data, catalog.task(config.task), 42, tmp_path)

    return load


def _labels(found: data.Data, use: str) -> dict[str, str]:
    rows = found.splits[use]
    return {row: found.answer.names[label] for row, label in zip(rows["row_id"], rows["label"], strict=True)}


def _written(folder: Path, *lines: str) -> str:
    path = folder / "corrections.csv"
    path.write_text("\n".join(["row_id,given,label", *lines]), encoding="utf-8")
    return str(path)


def test_rows_are_mended_or_left_out_and_test_rows_stay(loaded: Any, tmp_path: Path) -> None:
    before = loaded()
    train, validation, test = (_labels(before, use) for use in ("train", "validation", "test"))
    changed = next(row for row, label in train.items() if label == "a")
    gone = next(row for row, label in validation.items() if label == "a")
    tested = next(iter(test))
    path = _written(tmp_path, f"{changed},a,b", f"{gone},a,", f"{tested},{test[tested]},a", "train:999,a,b")

    after = loaded(corrections=path)

    assert _labels(after, "test") == test
    assert _labels(after, "train") == {**train, changed: "b"}
    assert _labels(after, "validation") == {row: label for row, label in validation.items() if row != gone}
    assert after.fingerprints["test"] == before.fingerprints["test"]
    assert after.fingerprints["train"] != before.fingerprints["train"]
    assert after.answer.counts == tuple(list(_labels(after, "train").values()).count(name) for name in "ab")
    said = [words for words in after.warnings if words.startswith("corrections: ")]
    assert said[0] == "corrections: 1 rows have another label, 1 are left out"
    assert "1 are of test rows" in said[1] and tested in said[1] and "1 are of rows that are not used" in said[2]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("train:1,b,b",), "was 'b' there"),
        (("train:1,a,c",), "labels of train"),
        (("train:1,a,b", "train:1,a,a"), "stands there twice"),
        (("other:1,a,b",), "none of its 1 rows is one"),
    ],
)
def test_a_file_of_other_data_or_labels_is_refused(
    lines: tuple[str, ...], message: str, loaded: Any, tmp_path: Path
) -> None:
    train = next(row for row, label in _labels(loaded(), "train").items() if label == "a")
    path = _written(tmp_path, *(line.replace("train:1,", f"{train},") for line in lines))
    with pytest.raises(UserError, match=message):
        loaded(corrections=path)


def test_what_is_no_table_of_corrections_is_refused(loaded: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="names a CSV file"):
        loaded(corrections=str(tmp_path / "nowhere.csv"))
    (tmp_path / "other.csv").write_text("row,label\n1,a\n", encoding="utf-8")
    with pytest.raises(UserError, match="needs the columns row_id and label"):
        loaded(corrections=str(tmp_path / "other.csv"))
    with pytest.raises(UserError, match=r"data\.streaming is true"):
        loaded(corrections=str(tmp_path / "other.csv"), streaming=True)
