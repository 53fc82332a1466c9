"""Columns find their roles by type, name and value; labels of every type keep their names; bad rows are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hftransfer.config import DataConfig
from hftransfer.data import Data, load
from hftransfer.errors import UserError
from hftransfer.inputs.text import TEXT as STRING
from hftransfer.inputs.words import WORDS
from hftransfer.tasks.base import Role, truth
from tests.engine import toys

TEXT = toys.of_text(
    "text-classification",
    Role("text", STRING, "a string", ("text", "sentence", "sentence1", "premise", "review")),
    Role("text_pair", STRING, "a second string", ("text_pair", "sentence2", "hypothesis"), required=False),
    truth("label", "a class", ("label", "class", "sentiment", "score")),
)
TOKENS = toys.Toy(
    "token-classification",
    Role("words", WORDS, "a list of words", ("tokens", "words")),
    truth("tags", "a list of tags", ("ner_tags", "tags", "pos_tags")),
    kinds=("tags",),
)
N = 40
SENTENCES = [f"sentence {i}" for i in range(N)]
BITS = [i % 2 for i in range(N)]
NAMES = [("neg", "pos")[i % 2] for i in range(N)]


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def load_columns(
        rows: dict[str, list[Any]],
        features: Features | None = None,
        task: Any = TEXT,
        test: Any = None,
        **options: Any,
    ) -> Data:
        splits = {"train": Dataset.from_dict(rows, features=features)}
        if test is not None:
            splits["test"] = Dataset.from_dict(test, features=features)
        folder = tmp_path / f"saved{len(list(tmp_path.iterdir()))}"
        DatasetDict(splits).save_to_disk(str(folder))
        return load(DataConfig(source=str(folder), **options), task, seed=3)

    return load_columns


@pytest.fixture
def refused(read: Any) -> Any:
    def message(*args: Any, **options: Any) -> str:
        with pytest.raises(UserError) as caught:
            read(*args, **options)
        return str(caught.value)

    return message


def chosen(data: Data) -> dict[str, str]:
    return {choice.role: choice.column for choice in data.columns}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"sentence": SENTENCES, "label": NAMES}, {"text": "sentence", "label": "label"}),
        ({"body": SENTENCES, "verdict": NAMES}, {"text": "body", "label": "verdict"}),
        ({"id": SENTENCES, "theReview": SENTENCES, "Sentiment": NAMES}, {"text": "theReview", "label": "Sentiment"}),
        ({"text": SENTENCES, "label": BITS, "label_text": NAMES}, {"text": "text", "label": "label"}),
        ({"text_label": NAMES, "content": SENTENCES}, {"text": "content", "label": "text_label"}),
        (
            {"idx": list(range(N)), "premise": SENTENCES, "hypothesis": SENTENCES, "label": NAMES},
            {"text": "premise", "text_pair": "hypothesis", "label": "label"},
        ),
        (
            {"sentence1": SENTENCES, "sentence2": SENTENCES, "score": NAMES},
            {"text": "sentence1", "text_pair": "sentence2", "label": "score"},
        ),
        ({"context": NAMES, "texts": SENTENCES, "labels": NAMES}, {"text": "texts", "label": "labels"}),
        ({"user_id": BITS, "review": SENTENCES, "ok": [True, False] * 20}, {"text": "review", "label": "ok"}),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)  # fmt: skip
def test_columns_are_guessed(read: Any, columns: dict[str, list[Any]], expected: dict[str, str]) -> None:
    assert chosen(read(columns)) == expected


def test_reasons_are_given(read: Any) -> None:
    data = read({"sentence": SENTENCES, "label": NAMES}, columns={"text": "sentence"})
    reasons = {choice.role: choice.reason for choice in data.columns}
    assert reasons == {"text": "named in data.columns.text", "label": "2 distinct strings"}


def test_unclear_columns_name_the_setting(refused: Any) -> None:
    message = refused({"title": SENTENCES, "body": SENTENCES, "label": NAMES})
    assert message == (
        "text-classification needs a text column (string); the data set has title (string), body (string), "
        "label (string). Set data.columns.text=title or data.columns.text=body."
    )
    assert "needs a text column" in refused({"label": NAMES})
    assert "needs a label column" in refused({"text": SENTENCES})
    assert "needs a label column" in refused({"text": SENTENCES, "user_id": NAMES})
    assert "needs a label column" in refused({"text": SENTENCES, "kind": NAMES}, group="kind")


def test_named_columns_are_checked(refused: Any) -> None:
    columns = {"text": SENTENCES, "label": NAMES, "many": [["a"]] * N}
    message = refused(columns, columns={"label": "lable"})
    assert "no column 'lable'" in message and "Did you mean 'label'?" in message
    assert "`many` is list of string" in refused(columns, columns={"text": "many"})
    assert "known role" in refused(columns, columns={"texts": "text"})
    assert "is named for several" in refused(columns, columns={"text": "text", "text_pair": "text"})
    assert "data.group must name a column" in refused(columns, columns={"label": "label"}, group="grp")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (NAMES, ("neg", "pos")),
        ([(10, 9)[i % 2] for i in range(N)], ("9", "10")),
        ([i % 2 == 0 for i in range(N)], ("false", "true")),
        ([float(i % 2) for i in range(N)], ("0", "1")),
        ([-5 if i % 2 else 3 for i in range(N)], ("-5", "3")),
    ],
)
def test_labels_of_every_type_keep_their_names(read: Any, values: list[Any], names: tuple[str, ...]) -> None:
    data = read({"text": SENTENCES, "label": values})
    assert data.answer.kind == "single_label" and data.answer.names == names
    assert sum(data.answer.counts) == data.sizes["train"]
    for row in data.splits["train"]:
        value = values[int(row["text"].split()[1])]
        expected = (
            str(value).lower() if isinstance(value, bool) else str(int(value)) if value in (0, 1) else str(value)
        )
        assert data.answer.names[row["label"]] == expected


def test_lists_are_multi_label(read: Any) -> None:
    values = [[["b", "a"], ["c"], [], ["a", "a"]][i % 4] for i in range(N)]
    data = read({"text": SENTENCES, "label": values})
    assert data.answer.kind == "multi_label" and data.answer.names == ("a", "b", "c")
    found = {row["text"]: row["label"] for rows in data.splits.values() for row in rows}
    assert [found[SENTENCES[i]] for i in range(4)] == [[0, 1], [2], [], [0]]
    assert sum(data.answer.counts) == sum(len(row["label"]) for row in data.splits["train"])
    joined = read({"text": SENTENCES, "label": [" | ".join(value) for value in values]}, label_separator="|")
    assert joined.fingerprint == data.fingerprint
    features = Features({"text": Value("string"), "label": List(ClassLabel(names=["x", "a", "b", "c"]))})
    indexes = [["xabc".index(name) for name in value] for value in values]
    assert read({"text": SENTENCES, "label": indexes}, features).answer.names == ("x", "a", "b", "c")


def test_regression(read: Any, refused: Any) -> None:
    values = [i / 7 for i in range(N)]
    assert "labels are numbers with decimals (0.14" in refused({"text": SENTENCES, "label": values})
    data = read({"text": SENTENCES, "label": values}, problem_type="regression")
    assert data.answer.kind == "regression" and data.answer.names == () and data.answer.outputs == 1
    found = {row["text"]: row["label"] for rows in data.splits.values() for row in rows}
    assert found["sentence 5"] == values[5]
    texts = read({"text": SENTENCES, "label": [repr(value) for value in values]}, problem_type="regression")
    assert texts.fingerprint == data.fingerprint
    message = refused({"text": SENTENCES, "label": NAMES}, problem_type="regression")
    assert "a column of numbers is needed" in message


def test_tags(read: Any, refused: Any) -> None:
    tokens = [["Ann", "met", f"Bob{i}"] for i in range(N)]
    tags: list[Any] = [["PER", "O", "PER" if i % 2 else "LOC"] for i in range(N)]
    data = read({"tokens": tokens, "ner_tags": tags}, task=TOKENS)
    assert data.answer.kind == "tags" and data.answer.names == ("LOC", "O", "PER")
    assert sum(data.answer.counts) == 3 * data.sizes["train"]
    row = data.splits["train"][0]
    number = int(row["words"][2][3:])
    assert [data.answer.names[i] for i in row["tags"]] == tags[number]
    tags[4], tokens[6], tags[6], tags[8] = ["O"], [], [], ["O", None, "O"]
    data = read({"tokens": tokens, "ner_tags": tags}, task=TOKENS)
    warning = next(w for w in data.warnings if "dropped" in w)
    assert "1 with tags and words that differ in number; " in warning and "[rows: train:4, " in warning
    assert "1 with no words; " in warning and "[rows: train:4, train:6, train:8]" in warning
    other = {"tokens": [["x"]], "ner_tags": [["ORG"]]}
    assert "ORG" in refused({"tokens": tokens, "ner_tags": tags}, task=TOKENS, test=other)


def test_labels_that_teach_nothing(refused: Any) -> None:
    assert "every row of `label` is 'a'" in refused({"text": SENTENCES, "label": ["a"] * N})
    free = refused({"text": SENTENCES, "label": [f"free text {i}" for i in range(N)], "verdict": NAMES})
    assert "40 distinct values in 40 rows" in free and "verdict" in free


def test_unseen_labels_of_a_test_split(refused: Any, read: Any) -> None:
    train = {"text": SENTENCES, "label": NAMES}
    test = {"text": ["a", "b", "c"], "label": ["pos", "weird", "neg"]}
    message = refused(train, test=test)
    assert "test also has weird (rows test:1)" in message
    test["label"][1] = "pos"
    assert read(train, test=test).sizes["test"] == 3


def test_bad_rows_are_counted_named_and_dropped(read: Any, refused: Any) -> None:
    columns: dict[str, list[Any]] = {"text": [*SENTENCES], "label": [*NAMES]}
    columns["text"][3], columns["text"][9], columns["label"][12] = None, " \n", None
    data = read(columns)
    assert sum(data.sizes.values()) == N - 3
    said = "train: 3 of 40 rows dropped: 2 with no text; 1 with no label [rows: train:3, train:9, train:12]"
    assert said in data.warnings
    assert "2 with no text" in refused(columns, bad_rows="refuse")
    empty = {"text": [None] * 30 + SENTENCES[:10], "label": NAMES}
    assert "40 of 40 are not: 40 with no text" in refused({"text": [None] * N, "label": NAMES})
    assert "30 of 40 are not: 30 with no text (train:0, train:1, train:2, ...)" in refused(empty)


def test_test_split_without_labels_is_not_one(read: Any) -> None:
    data = read({"text": SENTENCES, "label": NAMES}, test={"text": ["a", "b"], "label": [None, None]})
    assert data.sizes["test"] == 8 and any("labels of test are hidden" in w for w in data.warnings)


def test_a_class_missing_from_a_split_is_a_warning(read: Any) -> None:
    data = read({"text": SENTENCES, "label": NAMES}, test={"text": ["a", "b"], "label": ["pos", "pos"]})
    assert "class neg missing from test" in data.warnings


def test_importing_the_package_stays_light() -> None:
    code = "import sys, hftransfer.data; print([m for m in ('torch', 'transformers', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
