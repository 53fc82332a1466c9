"""Which task rows are for, by their columns: what somebody brings is guessed, and what else would fit is said."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hftransfer import catalog
from hftransfer.config import build
from hftransfer.data import catalogued
from hftransfer.data.fitting_tasks import Fitting, fitting
from tests import tiny, tiny_catalogue, tiny_causal, tiny_pairs, tiny_spans, tiny_written

BROUGHT: dict[str, Callable[[Path], Path]] = {
    "text-classification": lambda place: tiny.text_csv(place / "rows.csv", 60),
    "token-classification": lambda place: tiny.token_jsonl(place / "rows.jsonl", 60),
    "question-answering": lambda place: tiny_spans.jsonl(place / "rows.jsonl", 60),
    "sentence-similarity": lambda place: tiny_pairs.jsonl(place / "rows.jsonl", 60),
    "translation": lambda place: tiny_written.pairs_jsonl(place / "rows.jsonl", 60),
    "text-generation": lambda place: tiny_causal.written(place / "rows.jsonl", tiny_causal.rows("conversations", 60)),
    "image-classification": lambda place: tiny.image_folder(place / "photos", 30),
    "recommendation": lambda place: tiny_catalogue.interactions(place, 120),
}


def found_for(source: Path, work: Path) -> list[Fitting]:
    config = build({"task": "text-classification", "model": "m", "data": {"source": str(source)}})
    return fitting(config.data, [catalog.task(name) for name in catalog.tasks()], 42, work)


@pytest.mark.parametrize("task", BROUGHT)
def test_the_task_is_guessed_by_the_columns(task: str, tmp_path: Path) -> None:
    place = tmp_path / "rows"
    place.mkdir()
    found = found_for(BROUGHT[task](place), tmp_path / "work")
    assert found[0].task == task
    assert all(one.speaks <= found[0].speaks for one in found)


def test_rows_for_nothing_fit_no_task(tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_text("a,b\n" + "\n".join(f"{i},{i * i}" for i in range(50)))
    assert "image-classification" not in [one.task for one in found_for(tmp_path / "numbers.csv", tmp_path / "work")]


@pytest.mark.parametrize("inside", ["", "shop", "export/shop"])
@pytest.mark.parametrize("junk", [("__MACOSX/._a", ".DS_Store"), ("Thumbs.db",), ()])
def test_an_archive_is_read_where_its_files_lie(inside: str, junk: tuple[str, ...], tmp_path: Path) -> None:
    """Whatever folders are around them, and whatever the system that packed it left there."""
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as archive:
        for name in ("ratings.csv", "movies.csv"):
            archive.writestr(f"{inside}/{name}".lstrip("/"), "a,b\n1,2\n")
        for name in junk:
            archive.writestr(name, b"\0")
    section = build({"task": "recommendation", "model": "m", "data": {"source": str(tmp_path / "shop.zip")}}).data
    found = catalogued.folder_of(section, tmp_path / "work")
    assert found is not None and {"ratings.csv", "movies.csv"} <= {path.name for path in found.iterdir()}
