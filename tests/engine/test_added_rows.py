"""Rows that people added: learned from, never tested on, and the test rows stay the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hftransfer import catalog, data
from hftransfer.config import build
from hftransfer.data import folding
from hftransfer.errors import UserError
from hftransfer.safety.fence import VARIABLE as FENCED
from tests import tiny


def load(source: Path, task: str = "text-classification", **options: Any) -> data.Data:
    config = build({"task": task, "model": "m", "data": {"source": str(source), **options}})
    return data.load(config.data, catalog.task(task), 42, source.parent / "work")


def written(folder: Path, *rows: dict[str, Any]) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    rows = [f"text number {i},{'b' if i % 3 else 'c'},g{i // 4}" for i in range(60)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label,owner", *rows]), encoding="utf-8")
    return tmp_path / "rows.csv"


@pytest.mark.parametrize("options", [{}, {"group": "owner"}, {"max_rows": 50}])
def test_added_rows_are_trained_on_and_test_rows_stay(texts: Path, options: dict[str, Any]) -> None:
    rows = [{"text": "something quite new", "label": "b"}, {"text": "of a class that was not there", "label": "a"}]
    before = load(texts, **options)
    after = load(texts, added=written(texts.parent / "added", *rows), **options)
    for use in ("test", "validation"):
        assert after.splits[use]["row_id"] == before.splits[use]["row_id"]
    assert after.splits["train"]["row_id"] == [*before.splits["train"]["row_id"], "added:0", "added:1"]
    assert after.answer.names == ("a", "b", "c") and after.splits["train"]["label"][-2:] == [1, 0]
    assert after.fingerprints["train"] != before.fingerprints["train"]


@pytest.mark.parametrize("options", [{}, {"group": "owner"}])
def test_folds_learn_from_added_rows_and_test_none_of_them(texts: Path, options: dict[str, Any]) -> None:
    rows = [{"text": f"something quite new {i}", "label": "abc"[i % 3]} for i in range(6)]
    path = written(texts.parent / "added", *rows)
    (texts.parent / "mended.csv").write_text("row_id,label\nadded:3,\n")  # one of them is left out after a look
    corrections = str(texts.parent / "mended.csv")
    before = folding.each(load(texts, **options), "label", 4, 2, 1)
    after = folding.each(load(texts, added=path, corrections=corrections, **options), "label", 4, 2, 1)
    for one, other in zip(before, after, strict=True):
        for use in ("test", "validation"):
            assert other.data.splits[use]["row_id"] == one.data.splits[use]["row_id"]
        learned = [f"added:{i}" for i in (0, 1, 2, 4, 5)]
        assert other.data.splits["train"]["row_id"] == [*one.data.splits["train"]["row_id"], *learned]
        assert sum(other.data.answer.counts) == other.data.sizes["train"]
        assert not options or other.data.groups["train"][-5:] == learned


def test_added_pictures_lie_beside_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny.image_folder(tmp_path / "photos", 24)
    folder = tmp_path / "added"
    folder.mkdir()
    (folder / "one.png").write_bytes(next((source / "red").iterdir()).read_bytes())
    path = written(folder, {"image": "one.png", "label": "blue"})
    found = load(source, "image-classification", added=path)
    assert found.splits["train"]["row_id"][-1] == "added:0"
    assert found.answer.names[found.splits["train"][-1]["label"]] == "blue"
    monkeypatch.setenv(FENCED, "1")  # as for strangers on a Space
    with pytest.raises(UserError, match="must lie beside it"):
        load(source, "image-classification", added=written(folder, {"image": "../photos/red/0.png", "label": "red"}))


def test_what_is_no_row_is_refused(texts: Path) -> None:
    folder = texts.parent / "added"
    with pytest.raises(UserError, match="needs text, label"):
        load(texts, added=written(folder, {"text": "no label"}))
    with pytest.raises(UserError, match="needs rows"):
        load(texts, added=written(folder))
    with pytest.raises(UserError, match="file of JSON lines"):
        load(texts, added=str(texts))
    with pytest.raises(UserError, match="rows in memory"):
        load(texts, added=written(folder, {"text": "t", "label": "b"}), streaming=True)
