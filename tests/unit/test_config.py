"""RunConfig: the same object from YAML, JSON, overrides and Python; every error at once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hftransfer.config import RunConfig, build, override, read_tree
from hftransfer.errors import ConfigError, UserError
from hftransfer.yaml_core import dump_yaml, read_yaml

MINIMAL = {"task": "text-classification", "model": "m", "data": {"source": "rows.csv"}}

TRICKY = st.sampled_from(
    ["no", "on", "yes", "off", "y", "n", "null", "~", "true", "1e-4", "1e4", "0x1F", "0o17", "017", "1_000", "12:30",
     ".5", "5.", "+1", "-", "=", "<<", "2026-11-23", ".inf", ".nan", " a ", "a: b", "#c", "é\n", "'", '"', "a\tb", ""]
)  # fmt: skip
TEXT = TRICKY | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | st.sampled_from([1e-4, 5e-5, 1e20, 1e-300])
SCALAR = st.none() | st.booleans() | NUMBER | TEXT
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
NAME = st.from_regex(r"[a-z][a-z_0-9]{3,12}", fullmatch=True)
OPTIONS = st.dictionaries(NAME.map("x_{}".format), VALUE, max_size=4)
TREE = st.fixed_dictionaries(
    {
        "task": TEXT,
        "model": TEXT,
        "data": st.fixed_dictionaries(
            {"source": TEXT},
            optional={
                "columns": st.dictionaries(TEXT, TEXT, max_size=3),
                "validation_size": st.floats(0.01, 0.99) | st.integers(1, 1000),
                "max_rows": st.none() | st.integers(1, 10**6),
                "problem_type": st.sampled_from([None, "multi_label"]),
                "augmentation": st.booleans() | st.none() | st.just({"flip": False}),
            },
        ),
    },
    optional={
        "method": OPTIONS,
        "train": OPTIONS,
        "evaluation": st.fixed_dictionaries({"metrics": st.lists(TEXT, max_size=3)}),
        "hub": st.fixed_dictionaries({"repo": st.none() | TEXT}),
        "seed": st.integers(0, 2**32 - 1),
        "output": st.none() | TEXT,
    },
)


@settings(max_examples=150, deadline=None)
@given(TREE)
def test_yaml_json_and_object_are_the_same(tree: dict[str, Any]) -> None:
    config = build(tree)
    assert build(read_yaml(config.to_yaml())) == config
    assert build(json.loads(config.to_json())) == config
    assert build(config.to_dict()) == config


@settings(max_examples=150, deadline=None)
@given(VALUE)
def test_any_value_survives_yaml(value: Any) -> None:
    assert read_yaml(dump_yaml(value)) == value


@settings(max_examples=100, deadline=None)
@given(SCALAR)
def test_another_yaml_reader_agrees_on_strings(value: Any) -> None:
    if isinstance(value, str):
        assert yaml.safe_load(dump_yaml({"a": value})) == {"a": value}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("5E3", 5000.0), (".5", 0.5), ("-1", -1), ("0x1F", 31), ("0o17", 15), ("017", 17),
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("True", True), ("null", None), ("~", None), ("", None),
        ("12:30", "12:30"), ("1_000", "1_000"), ("2026-11-23", "2026-11-23"), (".inf", math.inf),
        ("[[1, 2e-1], [no]]", [[1, 0.2], ["no"]]),
    ],
)  # fmt: skip
def test_yaml_is_of_version_1_2(text: str, value: Any) -> None:
    found = read_yaml(text)
    assert found == value and type(found) is type(value)


def test_a_key_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("task: a\ntask: b\n")
    with pytest.raises(UserError, match="'task' stands twice"):
        read_tree(path)


@pytest.mark.parametrize(
    ("content", "words"), [("- 1\n", "it holds a list"), ("", "it holds nothing"), ("a: [", "must be YAML")]
)
def test_a_file_that_is_no_tree(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        read_tree(path)


def test_a_missing_file() -> None:
    with pytest.raises(UserError, match="is not a file"):
        read_tree("nowhere.yaml")


def test_overrides_are_read_as_yaml_and_leave_the_tree_alone() -> None:
    tree = {"train": {"learning_rate": 1.0}, "data": {"source": "a"}}
    done = override(tree, ["train.learning_rate=2e-4", "method.target_modules=[q, v]", "data.name=no", "output=a=b"])
    assert done == {
        "train": {"learning_rate": 2e-4},
        "data": {"source": "a", "name": "no"},
        "method": {"target_modules": ["q", "v"]},
        "output": "a=b",
    }
    assert tree == {"train": {"learning_rate": 1.0}, "data": {"source": "a"}}


def test_wrong_overrides_are_listed_together() -> None:
    with pytest.raises(ConfigError) as caught:
        override({}, ["learning_rate", "x y=1", "a..b=1"])
    assert len(caught.value.problems) == 3


def test_every_error_at_once_with_path_and_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        build({"task": "t", "data": {"sorce": "x", "max_rows": 0}, "evaluation": {"confidence": 2}, "sead": 1})
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert set(found) == {
        "model", "data.source", "data.sorce", "data.max_rows", "evaluation.confidence", "sead",
    }  # fmt: skip
    assert "Did you mean 'source'?" in found["data.sorce"]
    assert "Did you mean 'seed'?" in found["sead"]
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "many"])
def test_a_size_is_a_share_or_a_number_of_rows(size: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.test_size"):
        build({**MINIMAL, "data": {"source": "x", "test_size": size}})


def test_the_tree_is_frozen_through_and_through() -> None:
    config = build({**MINIMAL, "train": {"nested": {"a": [1, {"b": 2}]}}, "data": {"source": "x", "columns": {}}})
    with pytest.raises(ValidationError):
        config.seed = 1
    with pytest.raises(TypeError):
        config.data.columns["text"] = "x"  # type: ignore[index]
    options = config.train.options
    options["nested"]["a"][1]["b"] = 3  # a copy: the config keeps its own
    assert config.train.options == {"nested": {"a": [1, {"b": 2}]}}


def test_a_config_knows_no_secret_and_no_place() -> None:
    names = set(RunConfig.model_fields) | {
        n for f in ("data", "hub") for n in vars(build(MINIMAL))[f].model_fields_set
    }
    assert not names & {"token", "hub_token", "launcher", "on", "processes"}


@pytest.mark.parametrize("form", [99, 0, "1", True, None])
def test_a_form_that_this_version_does_not_know_is_refused(form: Any) -> None:
    with pytest.raises(ConfigError, match=r"schema: a form that this version reads is needed \(1 to 2\).* Upgrade"):
        build({"schema": form, **MINIMAL})


def test_an_older_form_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    before = build({"schema": 1, **MINIMAL})
    assert before == build({**MINIMAL, "method": {"name": "full"}, "train": {"auto": False}})
    assert build({"schema": 2, **MINIMAL}) == build(MINIMAL) != before
    monkeypatch.setattr("hftransfer.config.SCHEMA", 7)
    assert build({"schema": 6, **MINIMAL}) == build(MINIMAL)


def test_train_auto_is_a_word() -> None:
    assert build({**MINIMAL, "train": "auto"}) == build(MINIMAL)
    assert build({**MINIMAL, "train": "auto"}).train.auto


def test_a_push_needs_a_repo() -> None:
    from hftransfer import catalog

    with pytest.raises(ConfigError, match=r"hub\.push: a repo to push to is needed") as caught:
        catalog.build_config({**MINIMAL, "hub": {"push": True, "checkpoints": True}})
    assert [problem.path for problem in caught.value.problems] == ["hub.push", "hub.checkpoints"]
