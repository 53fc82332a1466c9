"""What runs are called on the page, what is proposed, and what stands open or behind a line."""

from __future__ import annotations

import base64
import io
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hftransfer import catalog, config, data
from hftransfer.errors import UserError
from hftransfer.runs import Run
from hftransfer.ui import (
    charts,
    data_step,
    downloads,
    inspection,
    markup,
    model_step,
    proposing,
    publish_step,
    train_step,
    train_view,
    worker,
)
from hftransfer.ui import received as files_on_their_way
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from tests import tiny_catalogue, tiny_detectors, tiny_masks


def test_a_run_is_called_by_its_time_task_and_model_until_people_name_it(tmp_path: Path) -> None:
    run = Run(tmp_path / "20261129-210533-text-classification-all-minilm-l6-v2-auto-2")
    run.folder.mkdir()
    assert train_view.called(run) == "Text classification · all-minilm-l6-v2-auto · 29 Nov 21:05-2"
    run.entitle(" Reviews, first try ", "too few rows")
    assert (train_view.called(run), run.title()[1]) == ("Reviews, first try", "too few rows")
    assert train_view.called(Run(tmp_path / "mine")) == "mine"
    run.title_path.write_text("[", encoding="utf-8")  # damaged: the run is still shown
    assert train_view.called(run).startswith("Text classification")


@pytest.mark.parametrize("task", catalog.tasks())
def test_a_model_is_proposed_for_every_task_that_knows_one(task: str) -> None:
    proposed = proposing.usual(task)
    assert bool(proposed) or not catalog.task(task).known_models
    assert not proposed or proposing.is_proposed(proposed)
    assert not proposing.is_proposed("somebody/chosen")


def test_what_is_missing_is_said_before_anything_starts() -> None:
    assert train_step.missing({"data": {}}).startswith("Choose data")
    assert train_step.missing({"data": {"source": "x"}}).startswith("Choose a model")
    assert train_step.missing({"data": {"source": "x"}, "model": "m"}) == ""


def test_many_warnings_stand_behind_a_line_that_says_what_they_are_about() -> None:
    few = markup.warnings(["leakage: a", "no test split: b"])
    assert "<details" not in few and "leakage: a" in few
    many = markup.warnings(["leakage: a", "leakage: b", "labels: c", "odd"])
    assert "4 warnings: rows that stand in more than one split, labels that may be wrong, 1 more" in many
    assert all(words in many for words in ("leakage: a", "leakage: b", "labels: c", "odd"))


@pytest.mark.parametrize(("megabytes", "words"), [(0.0004, "1 kB"), (0.012, "12 kB"), (0.42, "0.4 MB"), (90, "90 MB")])
def test_no_size_is_nothing(megabytes: float, words: str) -> None:
    assert markup.size(megabytes) == words


def test_columns_that_do_not_tell_are_asked_for_in_the_order_of_likeness(tmp_path: Path) -> None:
    rows = [
        f"T-{i},Cannot log in {i},Hello I cannot log in since {i} days,{'IT' if i % 2 else 'Billing'}"
        for i in range(40)
    ]
    (tmp_path / "tickets.csv").write_text("\n".join(["Ticket ID,Subject,Description,Queue", *rows]), encoding="utf-8")
    tree = {"task": "text-classification", "model": "m", "data": {"source": str(tmp_path / "tickets.csv")}}
    found = worker.preview(tree)
    assert (found["splits"], found["unclear"]["role"]) == ({"train": 40}, "text")
    assert list(found["unclear"]["offered"]) == ["Subject", "Description"]
    shown = data_step._seen(found, tree)[0]
    assert "Which column is the text? Subject, Description would fit: choose it below." in shown
    assert "data.columns" not in shown and "40" in shown

    found = worker.preview({**tree, "data": {**tree["data"], "columns": {"text": "Description", "label": "Queue"}}})
    assert found["problem"] is None and {one["label"] for one in found["balance"]} == {"IT", "Billing"}


@pytest.mark.parametrize(
    "when", ["2026-03-{:02} 09:15", "{:02}/03/2026", "{}.3.26, 9:05 PM", "2026-03-{:02}T09:15:00.123Z"]
)
def test_when_something_was_is_neither_text_nor_label(when: str, tmp_path: Path) -> None:
    rows = [f'"{when.format(1 + i % 9)}",I cannot log in since {i} days,{"IT" if i % 2 else "Pay"}' for i in range(40)]
    (tmp_path / "tickets.csv").write_text("\n".join(["Created,Description,Queue", *rows]), encoding="utf-8")
    tree = {"task": "text-classification", "model": "m", "data": {"source": str(tmp_path / "tickets.csv")}}
    found = worker.preview(tree)
    assert {one["role"]: one["column"] for one in found["choices"]} == {"text": "Description", "label": "Queue"}
    assert found["choices"][0]["reason"] == "the only column of type string that fits"
    assert worker.tasks_for(tree)[0]["task"] == "text-classification"


def test_a_preview_shows_a_row_of_every_class(tmp_path: Path) -> None:
    rows = [f"text {i},{'a' if i < 90 else 'b' if i < 95 else 'c'}" for i in range(100)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    found = worker.preview(
        {"task": "text-classification", "model": "m", "data": {"source": str(tmp_path / "rows.csv")}}
    )
    assert found["drawn"] == []
    labels = [row["label"]["value"] for row in found["rows"]]
    assert labels[:3] == ["a", "b", "c"] and len(labels) == worker.ROWS


def test_a_model_without_linear_layers_is_offered_no_low_rank_method() -> None:
    cards = model_step._methods("auto", "image-classification", linear=False)
    assert 'data-pick="full"' in cards and 'data-pick="lora"' not in cards and 'data-pick="ia3"' not in cards
    assert "nothing to wrap" in model_step._about("m", {"linear": False})
    assert 'data-pick="lora"' in model_step._methods("auto", "image-classification")


def test_a_matrix_of_many_labels_has_the_whole_width() -> None:
    assert not charts.is_wide({"chart": "matrix", "labels": list("abcde")})
    assert charts.is_wide({"chart": "matrix", "labels": list("abcdefgh")})


def test_a_model_of_no_use_is_published_only_by_who_says_so_twice() -> None:
    found = {"verdict": {"useless": True, "sentences": ["accuracy is that of the majority class"], "advice": []}}
    with pytest.raises(UserError, match="majority class"):
        publish_step.require_certain(found, False)
    publish_step.require_certain(found, True)
    publish_step.require_certain({"verdict": {"useless": False, "sentences": [], "advice": []}}, False)


def test_a_run_is_handed_on_as_one_file_without_checkpoints_or_links(
    finished: Any, received: Path, tmp_path: Path
) -> None:
    link = finished.run.artifact / "link"
    link.symlink_to("/etc/hostname")
    try:  # other files' tests have the same run, and one that holds links is refused there
        path = downloads.packed(finished.visitor, finished.run, finished.settings)
        assert downloads.packed(finished.visitor, finished.run, finished.settings) == path, "written once"
    finally:
        link.unlink()
    with zipfile.ZipFile(path) as archive:
        names = {name.removeprefix(f"{finished.run.name}/") for name in archive.namelist()}
    assert {"model/model.safetensors", "model/README.md", "result.json", "predictions/test.parquet"} <= names
    assert not any("checkpoint" in name or name.endswith("link") for name in names)
    with pytest.raises(UserError, match="trained model"):
        downloads.packed(finished.visitor, Run(tmp_path / "none"), finished.settings)


def test_what_is_handed_out_again_and_again_fills_no_disk(
    space: Settings, alice: Visitor, bob: Visitor, received: Path
) -> None:
    small = replace(space, received_mb=10)
    first = files_on_their_way.lend(alice, small, "model.zip", 5.0)
    first.write_bytes(bytes(5 * 2**20))
    with pytest.raises(UserError, match="room for files on their way"):
        files_on_their_way.lend(alice, small, "model.zip", 0.1)
    files_on_their_way.lend(bob, small, "model.zip", 4.5).write_bytes(bytes(4 * 2**20 + 2**19))
    with pytest.raises(UserError, match="room for files on their way"):
        files_on_their_way.lend(replace_folder(bob, "carol"), small, "model.zip", 3.0)


def replace_folder(visitor: Visitor, name: str) -> Visitor:
    return replace(visitor, name=name, folder=visitor.folder.with_name(name))


def test_a_preview_reads_several_files_as_its_task_does(tmp_path: Path) -> None:
    source = tiny_catalogue.collection(tmp_path / "rows")
    found = worker.preview({"task": "retrieval", "model": "m", "data": {"source": str(source)}})
    assert found["problem"] is None and [one["name"] for one in found["columns"]] == ["query", "relevant"]


@pytest.mark.parametrize("task", ["object-detection", "image-segmentation"])
def test_what_was_read_is_drawn_into_its_picture(task: str, tmp_path: Path) -> None:
    """Boxes as numbers, and masks whose values are nearly black, tell nobody whether they were read well."""
    if task == "object-detection":
        source = tiny_detectors.folder(tmp_path / "rows", 12)
    else:
        source = tiny_masks.folder(tmp_path / "rows", 12)
    tree = {"task": task, "model": "m", "data": {"source": str(source)}}
    found = worker.preview(tree)
    assert not found["problem"] and len(found["drawn"]) == 4
    whole = data.load(config.DataConfig(source=str(source)), catalog.task(task), 42).splits["train"][0]["image"]
    picture = Image.open(io.BytesIO(base64.b64decode(found["drawn"][0].split(",", 1)[1])))
    assert picture.size == whole.size and (np.asarray(picture) != np.asarray(whole.convert("RGB"))).any()
    assert "_drawn_size" not in found["rows"][0]
    shown = "".join(part for part in data_step._seen(found, tree) if isinstance(part, str))
    assert shown.count("a picture with what was read drawn in") == 4


@pytest.mark.parametrize("form", ["movielens", "recbole"])
def test_files_of_what_people_had_are_uploaded_as_they_are_downloaded(form: str, tmp_path: Path) -> None:
    source = tiny_catalogue.interactions(tmp_path / "rows", 60, form=form)
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", source))
    limits = inspection.Limits(2**30, 10**6, 100)
    assert inspection.inspect(packed, ".zip", limits) == {"pictures": 0, "recordings": 0, "tables": 2, "texts": 0}
    found = worker.tasks_for({"task": "recommendation", "model": "m", "data": {"source": str(packed)}})
    assert found[0]["task"] == "recommendation"


def test_a_setting_that_a_sentence_names_is_told_where_one_rests() -> None:
    shown = markup.note("Guessed: the value 0 is what is around objects (data.background_class; none: it is a class)")
    assert 'title="data.background_class; none: it is a class"' in shown
    assert re.sub("<[^>]*>", "", shown) == "Guessed: the value 0 is what is around objects"
    assert (
        re.sub("<[^>]*>", "", markup.note("It never answers `yes` (of 3 rows)")) == "It never answers yes (of 3 rows)"
    )
    assert "<q>yes</q>" in markup.note("It never answers `yes`.")
