"""No setting of `data` is passed over without a word: it is read, or it is said to do nothing; names fit, or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features, List, Value

from hftransfer import catalog
from hftransfer.config import DataConfig, EvaluationConfig, TrainConfig
from hftransfer.data import Data, load
from hftransfer.data.unheeded import EVERYWHERE, SPECIAL, SPECIAL_OF_EVALUATION, heeded, unheeded, unheeded_later
from hftransfer.errors import UserError
from tests import tiny_masks

ROOT = Path(__file__).parents[2]


def test_every_setting_is_for_all_or_is_heeded_by_somebody() -> None:
    assert set(DataConfig.model_fields) > EVERYWHERE
    tasks = [catalog.task(name) for name in catalog.tasks()]
    by_any = frozenset().union(*(heeded(task, answer) for task in tasks for answer in task.answers))
    assert by_any == SPECIAL | SPECIAL_OF_EVALUATION


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*/*.yaml")), ids=lambda path: path.stem)
def test_no_shipped_configuration_sets_what_does_nothing(path: Path) -> None:
    if path.parent.name == "accelerate":
        return
    config = catalog.read_config(path)
    task = catalog.task(config.task)
    wanted = config.data.problem_type
    kinds = [one for one in task.answers if wanted in (None, one.kind)]
    assert any(not unheeded(config.data, task, one) for one in kinds)


def read(folder: Path, rows: dict[str, list[Any]], task: str, features: Features | None = None, **data: Any) -> Data:
    DatasetDict({"train": Dataset.from_dict(rows, features=features)}).save_to_disk(str(folder / "rows"))
    return load(DataConfig(source=str(folder / "rows"), **data), catalog.task(task), seed=1)


def texts(labels: list[Any]) -> dict[str, list[Any]]:
    return {"text": [f"text {i}" for i in range(len(labels))], "label": labels}


BITS = [0, 1] * 20


def test_what_does_nothing_is_said(tmp_path: Path) -> None:
    found = read(tmp_path, texts(BITS), "text-classification", history=3, tile=64, prefix="x: ", max_length=8)
    said = [one for one in found.warnings if "no effect" in one]
    assert [one.split()[0] for one in said] == ["data.history", "data.prefix", "data.tile"]
    assert all("text-classification" in one for one in said)


def test_what_does_nothing_in_an_evaluation_is_said() -> None:
    asked = EvaluationConfig(num_beams=4, repeats=3, resamples=500)
    classes, texts = catalog.task("text-classification"), catalog.task("translation")
    said = unheeded_later(asked, TrainConfig(early_stopping_threshold=0.1), classes, classes.answers[0])
    names = ["evaluation.num_beams", "evaluation.repeats", "train.early_stopping_threshold"]
    assert [one.split()[0] for one in said] == names
    train = TrainConfig(early_stopping_threshold=0.1, early_stopping_patience=2)
    asked = EvaluationConfig(num_beams=4, folds=5, repeats=3)
    assert unheeded_later(asked, train, texts, texts.answers[0]) == []


def test_pictures_are_not_cut_in_tokens() -> None:
    task = catalog.task("image-classification")
    assert unheeded(DataConfig(source="-", max_length=64), task, task.answers[0])[0].startswith("data.max_length")


@pytest.mark.parametrize("labels", [BITS, [float(one) for one in BITS], [bool(one) for one in BITS]], ids=str)
def test_numbers_take_the_names_that_are_given(labels: list[Any], tmp_path: Path) -> None:
    found = read(tmp_path, texts(labels), "text-classification", label_names=["bad", "good"])
    assert found.answer.names == ("bad", "good") and not [one for one in found.warnings if "label_names" in one]
    row = found.splits["test"][0]
    assert ("bad", "good")[row["label"]] == ("bad", "good")[BITS[int(row["text"].split()[1])]]


def test_a_hidden_label_has_no_name(tmp_path: Path) -> None:
    found = read(tmp_path, texts([*BITS, -1, -1]), "text-classification", label_names=["bad", "good"])
    assert found.answer.names == ("bad", "good") and any("2 " in one and "no label" in one for one in found.warnings)


def test_tags_that_are_numbers_too(tmp_path: Path) -> None:
    features = Features({"tokens": List(Value("string")), "ner_tags": List(Value("int64"))})
    rows = {"tokens": [["Ann", f"sleeps{i}"] for i in range(40)], "ner_tags": [[1, 0]] * 40}
    found = read(tmp_path, rows, "token-classification", features, label_names=["O", "B-PER", "I-PER"])
    assert found.answer.names == ("B-PER", "O")
    assert any(one == "data.label_names names I-PER, which no row of train has" for one in found.warnings)


@pytest.mark.parametrize("labels", [[1, 2] * 20, [0, 1, 2, 1] * 10, [0, -2] * 20], ids=str)
def test_a_number_without_a_name_is_refused(labels: list[int], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must name every number .* it has 2 names, for 0 to 1, and labels are"):
        read(tmp_path, texts(labels), "text-classification", label_names=["bad", "good"])


def test_names_of_what_has_a_name_are_refused(tmp_path: Path) -> None:
    labels = [("neg", "pos")[one] for one in BITS]
    with pytest.raises(UserError, match=r"none of bad, good is a class: the source calls them neg, pos"):
        read(tmp_path, texts(labels), "text-classification", label_names=["bad", "good"])


@pytest.mark.parametrize("problem", [None, "instances"])
def test_names_that_do_not_fit_outlines_are_refused(problem: str | None, tmp_path: Path) -> None:
    tiny_masks.objects(tmp_path / "rows", 12)
    task = catalog.task("image-segmentation")
    given = {"source": str(tmp_path / "rows"), "problem_type": problem}
    with pytest.raises(UserError, match="none of cat, dog is a class: the source calls them"):
        load(DataConfig(**given, label_names=["cat", "dog"]), task, seed=1)
    names = load(DataConfig(**given), task, seed=1).answer.names
    fits = load(DataConfig(**given, label_names=names), task, seed=1)
    assert fits.answer.names == names and not [one for one in fits.warnings if "label_names" in one]
