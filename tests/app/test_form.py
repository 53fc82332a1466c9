"""The form: widgets, tree and YAML are the same configuration, and every option comes from its owner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftransfer import catalog
from hftransfer.config import build, read_tree
from hftransfer.errors import UserError
from hftransfer.ui import form, page
from hftransfer.upstream.options import training_options
from hftransfer.yaml_core import read_yaml, written

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*-*/*.yaml"))
WORDS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_configuration_survives_the_form(path: Path) -> None:
    tree = read_tree(path)
    assert form.tree_of(*form.values_of(tree)) == tree
    assert read_yaml(form.yaml_of(tree)) == tree


@settings(max_examples=150, deadline=None)
@given(value=VALUES)
def test_any_value_is_written_so_that_it_reads_back(value: Any) -> None:
    assert form.tree_of({}, [f"train.lr_scheduler_kwargs={written(value)}"]) == {
        "train": {"lr_scheduler_kwargs": value}
    }


def test_widgets_make_the_tree() -> None:
    values = {
        "task": "text-classification", "data.source": " rows.csv ", "data.columns": {"text": "review", "label": ""},
        "data.max_rows": "500", "data.test_size": "0.25", "model": "m", "method.name": "lora", "seed": "",
        "train.num_train_epochs": "2", "train.learning_rate": "1e-4", "revision": None,
    }  # fmt: skip
    tree = form.tree_of(values, ["train.weight_decay=0.1", "method.r=16"])
    assert tree == {
        "task": "text-classification", "model": "m",
        "data": {"source": "rows.csv", "columns": {"text": "review"}, "max_rows": 500, "test_size": 0.25},
        "method": {"name": "lora", "r": 16},
        "train": {"num_train_epochs": 2, "learning_rate": 1e-4, "weight_decay": 0.1},
    }  # fmt: skip
    assert build(tree).train.options["learning_rate"] == 1e-4


def test_what_was_mistyped_is_said_by_the_configuration_itself() -> None:
    tree = form.tree_of({"task": "text-classification", "data.source": "x", "model": "m", "data.max_rows": "many"})
    with pytest.raises(UserError, match=r"data\.max_rows: wanted .* found 'many'"):
        build(tree)


@pytest.mark.parametrize("method", ["full", "lora", "dora", "ia3"])
def test_every_option_can_be_set_and_none_twice(method: str) -> None:
    found = form.options(method)
    train = {name for name in training_options() if f"train.{name}" not in form.BASIC}
    decided = {name for name in train if name in catalog.DECIDED or name.startswith("hub_")}
    assert {path.removeprefix("train.") for path in found if path.startswith("train.")} >= train - decided
    assert not decided & {path.removeprefix("train.") for path in found}
    assert not {*form.BASIC, *form.ELSEWHERE} & set(found)
    tree = {"task": "text-classification", "model": "m", "data": {"source": "x"}, "method": {"name": method}}
    for path, option in found.items():
        section, _, name = path.rpartition(".")
        if section in ("train", "method"):  # a name that nobody knows would be refused
            known = {**tree, section: {**tree.get(section, {}), name: None}}
            assert not [p for p in catalog._name_problems(known) if "no such option" in p.message], option


def test_options_say_what_they_do() -> None:
    found = form.options("lora")
    assert "weight decay" in found["train.weight_decay"].label.lower()
    assert found["method.use_rslora"].choices == ("true", "false")
    assert "gaussian" in found["method.init_lora_weights"].choices
    assert found["data.bad_rows"].choices == ("drop", "refuse")
    assert {"single_label", "multi_label", "regression"} <= {*found["data.problem_type"].choices}
    assert "method.use_dora" not in form.options("dora")  # the name says it already
    assert sum(bool(option.about) for option in found.values()) > 0.9 * len(found)


def test_an_option_replaces_its_earlier_line() -> None:
    lines = form.with_option(["train.weight_decay=0.1", "seed=1"], "train.weight_decay", " 0.2 ")
    assert lines == ["seed=1", "train.weight_decay=0.2"]
    with pytest.raises(UserError, match="needs a value"):
        form.with_option(lines, "train.optim", " ")


@pytest.mark.parametrize("tree", [None, [], {"data": "x"}, {"train": [1]}])
def test_a_browser_cannot_hand_over_what_is_no_tree(tree: Any) -> None:
    with pytest.raises(ValueError, match="no configuration"):
        form.checked(tree)


def test_code_says_the_same() -> None:
    tree = {"task": "text-classification", "model": "it's: true", "data": {"source": "x"}, "train": {"bf16": False}}
    scope: dict[str, Any] = {}
    lines = form.python_of(tree).split("result =")[0].replace("import hftransfer", "")
    exec(lines, scope)
    assert scope["config"] == tree
    command = form.command_of(tree)
    assert command.startswith("python ") and "--config runs/NAME/config.yaml" in command


def test_columns_are_asked_for_where_rows_have_such() -> None:
    assert page.role_names("text-classification") == ["text", "text_pair", "label"]
    assert page.role_names("recommendation") == [] == page.role_names("no such task")
    assert page.role_update("recommendation", 0)["visible"] is False
