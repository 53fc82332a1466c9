"""Columns find their roles by type, name and value; labels of every type keep their names; bad rows are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hftransfer.config import DataConfig
from hftransfer.data import Data, load, read_inputs
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


def test_numbers_are_read_in_one_way_in_every_row_and_split(read: Any, refused: Any) -> None:
    """A point that is dropped as if it divided thousands would make 35 of 3.5."""
    commas, points = ([f"{i // 4}{sign}{i % 4}" for i in range(N)] for sign in ",.")
    train = {"text": SENTENCES, "label": commas}
    data = read(train, problem_type="regression")
    found = {row["text"]: row["label"] for rows in data.splits.values() for row in rows}
    assert [found[text] for text in SENTENCES] == [float(value) for value in points]
    for decimal, other in ((None, points), (",", points)):
        message = refused(
            train, test={"text": ["a", "b"], "label": other[-2:]}, problem_type="regression", decimal=decimal
        )
        assert "with `,` before decimals (data.decimal)" in message and "'9.2'" in message
    train["label"] = points
    assert "'9,2'" in refused(train, test={"text": ["a", "b"], "label": commas[-2:]}, problem_type="regression")
    assert "'0,0', '0,1'" in refused({**train, "label": commas}, problem_type="regression", decimal=".")


@pytest.mark.parametrize(
    ("values", "decimal", "expected"),
    [
        (["1.234,5", "2,25"], None, [1234.5, 2.25]),
        (["1,234.5", "2.25"], None, [1234.5, 2.25]),
        (["1.234.567", "2.500"], None, [1234567, 2500]),
        (["1.234", "950"], ",", [1234, 950]),
        (["1.234", "950"], ".", [1.234, 950]),
        (["0.125", "2"], None, [0.125, 2]),
        (["1.234", "1500"], None, [1.234, 1500]),
        (["1.234", "2.345"], None, [1.234, 2.345]),
        (["\u22123.5", "+2.5"], None, [-3.5, 2.5]),
        (["1e-3", "2.5E2"], None, [0.001, 250]),
    ],
)
def test_numbers_written_as_texts(read: Any, values: list[str], decimal: str | None, expected: list[float]) -> None:
    columns = {"text": SENTENCES, "label": [values[i % 2] for i in range(N)]}
    data = read(columns, problem_type="regression", decimal=decimal)
    found = {row["text"]: row["label"] for rows in data.splits.values() for row in rows}
    assert [found[text] for text in SENTENCES[:2]] == pytest.approx(expected)


def test_points_that_may_divide_thousands_are_asked_about(refused: Any) -> None:
    message = refused({"text": SENTENCES, "label": ["1.234", "950"] * (N // 2)}, problem_type="regression")
    assert "'1.234' can be read as 1234 or as it is written" in message and "data.decimal to ," in message


def test_what_stands_for_no_number_is_a_row_without_one(read: Any, refused: Any) -> None:
    values = ["NA", "n/a", "", "?", "nan", *(f"{i},5" for i in range(N - 5))]
    data = read({"text": SENTENCES, "label": values}, problem_type="regression")
    assert sum(data.sizes.values()) == N - 5 and any("5 with no label" in warning for warning in data.warnings)
    units = refused({"text": SENTENCES, "label": [f"{i}%" for i in range(N)]}, problem_type="regression")
    assert "'0%', '1%', '2%' are not written so" in units and "without units" in units


def test_names_that_look_the_same_are_one_or_are_said_to_be_several(read: Any) -> None:
    same = ["\u00e9t\u00e9", "e\u0301te\u0301", "\u200b\u00e9t\u00e9\ufeff", "hiver"]  # NFC, NFD, unseen signs
    data = read({"text": SENTENCES, "label": same * (N // 4)}, test={"text": ["a", "b"], "label": same[1:3]})
    assert data.answer.names == ("hiver", "\u00e9t\u00e9")
    assert not any("different labels" in warning for warning in data.warnings)
    for names, how in (
        (["1", "1.0", "0", "0.0"], "how a number is written are different labels: `0` and `0.0`, `1` and `1.0`"),
        (["Pos", "pos", "neg", "neg"], "capitals alone"),
        (["\uff30\uff2f\uff33", "POS", "neg", "neg"], "signs that look alike"),
    ):
        warnings = read({"text": SENTENCES, "label": names * (N // 4)}).warnings
        assert sum("different labels" in warning for warning in warnings) == 1
        assert any(how in warning for warning in warnings)


def test_a_name_that_may_be_several_is_said_to_be_one(read: Any) -> None:
    data = read({"text": SENTENCES, "label": ["law", "law; food", "sport", "sport; war"] * (N // 4)})
    assert data.answer.names == ("law", "law; food", "sport", "sport; war")
    (guess,) = [guess for guess in data.guesses if "is one label" in guess]
    assert "'law; food'" in guess and 'data.label_separator=";"' in guess


def test_columns_of_other_splits_are_found_under_other_capitals(read: Any, refused: Any) -> None:
    """Labels called `Label` are labels: others, cut out of train, would be scored in their place."""
    data = read({"text": SENTENCES, "label": NAMES}, test={"Label": ["pos", "neg", "pos"], "TEXT": ["a", "b", "c"]})
    assert data.sizes["test"] == 3 and [row["text"] for row in data.splits["test"]] == ["a", "b", "c"]
    assert [data.answer.names[row["label"]] for row in data.splits["test"]] == ["pos", "neg", "pos"]
    assert any("test: its column `Label` is `label`" in guess for guess in data.guesses)
    other = read({"text": SENTENCES, "label": NAMES}, test={"text": ["a", "b"], "verdict": ["pos", "neg"]})
    assert any("it has no column `label` but text, verdict" in warning for warning in other.warnings)
    hot = {"text": SENTENCES, "a": [i % 2 for i in range(N)], "b": [i % 3 == 0 for i in range(N)]}
    part = {"text": ["x", "y"], "a": [0, 1]}
    assert "test has no b" in refused(hot, test=part, columns={"label": ["a", "b"]})


@pytest.mark.parametrize("streaming", [False, True])
def test_fields_inside_fields_are_columns(read: Any, streaming: bool) -> None:
    rows = [
        {"text": text, "stars": {"given": 1 + 4 * (i % 2), "of.all": 5}} if i else None
        for i, text in enumerate(SENTENCES)
    ]
    columns = {"text": "review.text", "label": "review.stars.given"}
    data = read({"review": rows, "id": list(range(N))}, columns=columns, streaming=streaming)
    found = [row for rows in data.splits.values() for row in rows]
    assert {row["text"]: data.answer.names[row["label"]] for row in found} == {
        text: "15"[i % 2] for i, text in enumerate(SENTENCES) if i
    }
    assert any("1 with no text" in warning for warning in data.warnings)


def test_a_table_to_ask_with_may_write_its_columns_otherwise(tmp_path: Path) -> None:
    (tmp_path / "ask.csv").write_text("Titel,BEWERTUNG\neins,gut\nzwei,schlecht\n", encoding="utf-8")
    found = read_inputs(tmp_path / "ask.csv", TEXT, {"text": "Bewertung", "label": "Note"})
    assert found == [{"text": "gut"}, {"text": "schlecht"}]
    (tmp_path / "ask.jsonl").write_text('{"review": {"text": "a", "by": {"name": "b"}}}\n', encoding="utf-8")
    assert read_inputs(tmp_path / "ask.jsonl", TEXT, {"text": "review.text", "label": "x"}) == [{"text": "a"}]


def test_what_is_no_input_is_not_asked(tmp_path: Path) -> None:
    """Labels alone are no texts, and a first line that may be a row is not passed over."""
    path = tmp_path / "ask.csv"
    for content, said in (("id,label\n1,pos\n2,neg\n", "needs a column for text"),
                          ("good film\nbad film\nso so\n", "'good film', which may be a row")):  # fmt: skip
        path.write_text(content)
        with pytest.raises(UserError, match=said):
            read_inputs(path, TEXT, {"text": "comment", "label": "verdict"})
    path.write_text("remarks\ngood film\nbad film\n")
    assert read_inputs(path, TEXT, {"text": "comment", "label": "verdict"}) == [
        {"text": "good film"},
        {"text": "bad film"},
    ]


def test_sentences_whose_numbers_begin_anew_in_each_document(read: Any, refused: Any) -> None:
    """Documents of one sentence each, all of number 0, would be one sentence; their group is theirs, not a list."""
    words = [("Ann", "PER"), ("met", "O"), ("Bob", "PER")]
    rows = [(f"e{i // 2}" if i > 9 else f"d{i}", i % 2 if i > 9 else 0, *pair) for i in range(30) for pair in words]
    columns = dict(zip(("doc", "sentence", "word", "tag"), map(list, zip(*rows, strict=True)), strict=True))
    columns["sentence"] = [str(n) for n in columns["sentence"]]
    data = read(columns, task=TOKENS, columns={"words": "word", "tags": "tag"}, group="doc")
    assert sum(data.sizes.values()) == 30 and len(data.splits["train"][0]["words"]) == 3
    names = {use: set(found) for use, found in data.groups.items()}
    assert len(set.union(*names.values())) == 20 and not names["train"] & names["test"]
    assert any("30 sentences" in guess for guess in data.guesses)


def test_tags_that_are_no_entities_among_others_that_are(read: Any, refused: Any) -> None:
    tags = [["B-PER", "O", "X"] for _ in range(N)]
    data = read({"tokens": [["Ann", "met", f"Bob{i}"] for i in range(N)], "ner_tags": tags}, task=TOKENS)
    assert data.answer.main_metric == "accuracy"
    assert any("`B-PER` does, there are others than O: `X`" in guess for guess in data.guesses)


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
