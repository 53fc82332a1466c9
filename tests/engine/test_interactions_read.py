"""Interactions as people have them: in several files, beside other tables, with dates of any year."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hftransfer import catalog, config, data
from hftransfer.errors import UserError
from tests import tiny_catalogue

TASK = catalog.task("recommendation")


def loaded(source: Path, **section: Any) -> Any:
    return data.load(config.DataConfig(source=str(source), **section), TASK, 42)


def rows_of(found: Any) -> list[Any]:
    return [
        (row["history"], row["relevant"]) for split in ("train", "validation", "test") for row in found.splits[split]
    ]


@pytest.fixture
def whole(tmp_path: Path) -> Any:
    return rows_of(loaded(tiny_catalogue.interactions(tmp_path / "whole")))


@pytest.mark.parametrize("form", ["csv", "recbole"])
def test_parts_of_one_table_are_read_together(form, whole, tmp_path):
    """Of `events-2020.csv` and `events-2021.csv` one alone would be half of what there is."""
    folder = tiny_catalogue.interactions(tmp_path / "parts", form=form)
    path = folder / ("ratings.csv" if form == "csv" else "toy.inter")
    head, *lines = path.read_text().splitlines()
    path.unlink()
    for name, part in (("train", lines[:400]), ("valid", lines[400:450]), ("test", lines[450:])):
        (folder / f"part.{name}{path.suffix}").write_text("\n".join([head, *part]) + "\n")
    found = loaded(folder)
    assert rows_of(found) == whole
    assert any("one table in 3 files" in one for one in found.guesses)


def test_other_tables_of_people_and_items_are_named(whole, tmp_path):
    folder = tiny_catalogue.interactions(tmp_path / "rows")
    tags = pd.read_csv(folder / "ratings.csv").head(30).drop(columns="rating").assign(tag="good")
    tags.to_csv(folder / "tags.csv", index=False)
    found = loaded(folder)
    assert rows_of(found) == whole
    assert any(
        "not read as interactions, because their columns are others: tags.csv (30 rows)" in w for w in found.warnings
    )


def test_items_are_not_called_by_the_names_of_people_or_by_what_people_wrote(whole, tmp_path):
    """A table of users has ids and names too, and a review has a title, which is none of the item."""
    folder = tiny_catalogue.interactions(tmp_path / "rows")
    (folder / "movies.csv").rename(folder / "videos.csv")
    pd.DataFrame({"id": range(100), "name": [f"Person {i}" for i in range(100)]}).to_csv(
        folder / "users.csv", index=False
    )
    reviews = pd.read_csv(folder / "ratings.csv").head(60).assign(title="a review", text="so good")
    reviews.to_csv(folder / "a_reviews.csv", index=False)
    found = loaded(folder)
    assert rows_of(found) == whole and found.answer.catalogue.titles(["0"])[0].endswith(" 0")


def test_items_in_several_files_are_read_together(whole, tmp_path):
    folder = tiny_catalogue.interactions(tmp_path / "rows")
    head, *lines = (folder / "movies.csv").read_text().splitlines()
    (folder / "movies.csv").unlink()
    for part in range(2):
        (folder / f"movies{part}.csv").write_text("\n".join([head, *lines[part::2]]) + "\n")
    found = loaded(folder)
    assert len(found.answer.catalogue) == 39 and sorted(map(repr, rows_of(found))) == sorted(map(repr, whole))


def test_what_differs_from_row_to_row_is_asked_about(tmp_path):
    folder = tiny_catalogue.interactions(tmp_path / "rows")
    frame = pd.read_csv(folder / "ratings.csv")
    frame = frame.assign(title=[f"review {i}" for i in range(len(frame))])
    (folder / "movies.csv").unlink()
    frame.to_csv(folder / "ratings.csv", index=False)
    assert any(
        "`title` says several things of" in one and "is it of the item" in one for one in loaded(folder).warnings
    )


def test_rows_without_a_person_or_a_time_are_counted(tmp_path):
    folder = tiny_catalogue.interactions(tmp_path / "rows")
    with (folder / "ratings.csv").open("a") as file:
        file.write(",3,5,1600000100\n,4,5,1600000100\nu1,5,4,\n")
    warnings = loaded(folder).warnings
    assert any("2 of 655 interactions dropped: without a person" in one for one in warnings)
    assert any("1 of 655 interactions dropped: without a time" in one for one in warnings)


@pytest.mark.parametrize("written", [True, False])
def test_dates_are_of_one_unit_whatever_their_year(written, whole, tmp_path):
    """1970 to 1973 is few seconds since 1970, and 1960 less than none: as dates they are no other unit."""
    folder = tiny_catalogue.interactions(tmp_path / "rows")
    frame = pd.read_csv(folder / "ratings.csv", dtype={"movieId": str})
    moments = pd.to_datetime((frame["timestamp"] - 1_600_030_000) * 30_000, unit="s")
    assert moments.min().year < 1965 and moments.max().year > 1980
    frame["timestamp"] = moments.dt.strftime("%Y-%m-%dT%H:%M:%S") if written else moments
    (folder / "ratings.csv").unlink()
    frame.to_csv(folder / "ratings.csv", index=False) if written else frame.to_parquet(folder / "ratings.parquet")
    assert rows_of(loaded(folder)) == whole


def test_lines_end_where_files_say_and_no_mark_hides_a_column(whole, tmp_path):
    """\\x85 ends a line in Unicode and is a sign in latin-1; a byte order mark is no part of a name."""
    folder = tiny_catalogue.interactions(tmp_path / "rows", form="recbole")
    inter, item = folder / "toy.inter", folder / "toy.item"
    inter.write_bytes("\ufeff".encode() + inter.read_bytes().replace(b"\n", b"\r\n"))
    item.write_bytes(item.read_bytes().replace(b" 0\t", b" 0\xc2\x85next\t"))
    found = loaded(folder)
    assert rows_of(found) == whole
    assert "next" in found.answer.catalogue.titles(["0"])[0]


@pytest.mark.parametrize("section", [
        {"test": "more.csv"}, {"train": "train"}, {"validation": "v.csv"}, {"split_column": "rating"}])  # fmt: skip
def test_splits_that_are_named_are_refused_and_not_passed_over(section, tmp_path):
    folder = tiny_catalogue.interactions(tmp_path / "rows")
    with pytest.raises(UserError, match=rf"cut by data.cut.*data\.{next(iter(section))} names a split"):
        loaded(folder, **section)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"titel": "title"}, "a known role in data.columns is needed; found 'titel'. Did you mean 'title'"),
        ({"director": "title"}, "a known role in data.columns is needed; found 'director'. Choices: image, item,"),
        ({"title": "titel"}, "data.columns.title must name a column; there is no 'titel'. Did you mean 'title'"),
        ({"image": "poster"}, "data.columns.image must name a column; there is no 'poster'"),
        ({"text": "genre"}, "data.columns.text must name a column; there is no 'genre'. Did you mean 'genres'"),
        ({"text": ["genres", "plot"]}, "data.columns.text must name a column; there is no 'plot'"),
        ({"rating": "stars"}, "data.columns.rating must name a column; there is no 'stars'"),
        ({"time": ["timestamp", "rating"]}, "data.columns.time names one column; it names 2: timestamp, rating"),
        ({"title": "genres", "text": "genres"}, "a column plays one role; `genres` is named for several"),
        (
            {"title": "rating", "text": "genres"},
            "must name a column of the table of items, movies.csv; it has no 'rating'",
        ),
    ],
)
def test_names_that_no_role_and_no_column_has_are_refused(columns, words, tmp_path):
    folder = tiny_catalogue.interactions(tmp_path / "rows")
    with pytest.raises(UserError) as raised:
        loaded(folder, columns=columns)
    assert words in str(raised.value)


def test_columns_that_are_named_are_read(whole, tmp_path):
    folder = tiny_catalogue.interactions(tmp_path / "rows")
    columns = {"user": "userId", "item": "movieId", "time": "timestamp", "rating": "rating", "title": "genres",
               "text": ["title"]}  # fmt: skip
    found = loaded(folder, columns=columns)
    assert rows_of(found) == whole and found.answer.catalogue.titles(["4"]) == ["kind 1"]


def test_ids_with_leading_zeros_stay(tmp_path):
    folder = tiny_catalogue.interactions(tmp_path / "rows")
    for name in ("ratings.csv", "movies.csv"):
        frame = pd.read_csv(folder / name)
        frame["movieId"] = [f"{value:05d}" for value in frame["movieId"]]
        frame.to_csv(folder / name, index=False)
    found = loaded(folder)
    assert "00003" in found.answer.catalogue.places
    assert np.sum([len(row["history"]) for row in found.splits["test"]]) > 0


def test_sizes_beyond_all_interactions_are_told_as_such(tmp_path):
    folder = tiny_catalogue.interactions(tmp_path / "rows")
    with pytest.raises(
        UserError, match=r"interactions of train are needed, of 652 in all; data.test_size and .* 900 and 65"
    ):
        loaded(folder, test_size=900)
    few = loaded(folder, cut="last")
    assert not any("too few items" in one for one in few.warnings)
    with (folder / "ratings.csv").open("a") as file:
        file.write("new,3,5,1600000100\n")
    assert any("1 of 81 people have too few items to be asked" in one for one in loaded(folder, cut="last").warnings)
