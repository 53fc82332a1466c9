"""Advice is never wrong: what a message about odd data proposes works, or leads on, and misplaces no column."""

from __future__ import annotations

import json
import random
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hftransfer import catalog
from hftransfer.config import DataConfig, override
from hftransfer.data import load
from hftransfer.errors import UserError

# a setting that a message proposes
PROPOSED = re.compile(r"data\.[a-z_.]+=(?:\"[^\"]*\"|'[^']*'|\[[^\]]*\]|[^\s,;]*[^\s,;.)])")
ROWS = 24
WORDS = ["the", "room", "was", "lovely", "bright", "but", "dinner", "dull", "awful", "grim", "fine", "great", "story"]


def cells(kind: str, rng: random.Random) -> list[Any]:
    """Return a column of a kind: what stands in it tells what it may play."""
    match kind:
        case "text" | "other text":
            return [" ".join(rng.choices(WORDS, k=7)) + f" {i}" for i in range(ROWS)]
        case "label":
            return [("pos", "neg")[i % 2] for i in range(ROWS)]
        case "classes":
            return [i % 3 for i in range(ROWS)]
        case "flag" | "second flag":
            return [rng.randint(0, 1) if i > 1 else i for i in range(ROWS)]
        case "number":
            return [round(rng.random() * 5, 3) for _ in range(ROWS)]
        case "id":
            return [1000 + i for i in range(ROWS)]
        case "few":
            return [f"place {i % 5}" for i in range(ROWS)]
        case "one":
            return ["same"] * ROWS
        case "list":
            return [rng.sample(["law", "art", "war"], k=2) for _ in range(ROWS)]
        case "words":
            return [rng.choices(WORDS, k=4) for _ in range(ROWS)]
        case "empty":
            return [None] * ROWS
    raise ValueError(kind)


KINDS = (
    "text", "other text", "label", "classes", "flag", "second flag", "number", "id", "few", "one", "list", "words",
    "empty",
)  # fmt: skip
NAMES = (
    "text", "label", "review", "verdict", "a", "b", "c", "my column", "label_text", "id", "sentence", "score", "class",
    "tags", "tokens", "group", "file", "toxic", "obscene", "true",
)  # fmt: skip
TASKS = ("text-classification", "token-classification", "image-classification", "translation")
NO_TEXT = {"label", "classes", "flag", "second flag", "few", "one", "empty", "number", "id"}
NO_LABEL = {"text", "other text", "empty", "id"}


def failure(path: Path, task: str, options: dict[str, Any]) -> UserError | None:
    tree = {"source": str(path), "test_size": 4, "validation_size": 4, **options}
    try:
        load(DataConfig.model_validate(tree), catalog.task(task), seed=1)
    except UserError as error:
        return error
    return None


def followed(proposal: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the data section with a proposal as a shell would hand it on."""
    (word,) = shlex.split(proposal) if "[" not in proposal else (proposal,)
    return dict(override({"data": options}, [word])["data"])


def write(folder: Path, columns: dict[str, str], seed: int) -> Path:
    rng = random.Random(seed)
    held = {name: cells(kind, rng) for name, kind in columns.items()}
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({n: held[n][i] for n in held}) + "\n" for i in range(ROWS)))
    return path


@given(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(KINDS), min_size=1, max_size=5), st.sampled_from(TASKS),
    st.integers(0, 3), st.booleans(),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_following_advice_leads_on(tmp_path_factory, columns, task, seed, sized):
    options: dict[str, Any] = {"bad_rows": "refuse"} if sized else {}
    path = write(tmp_path_factory.mktemp("odd"), columns, seed)
    roles = {role.name: role for role in catalog.task(task).roles}
    seen: set[str] = set()
    while (error := failure(path, task, options)) is not None:
        message = str(error)
        assert message not in seen, f"the advice leads nowhere: {message} with {options}"
        seen.add(message)
        proposals = PROPOSED.findall(error.action)
        for proposal in proposals:
            setting, _, value = proposal.partition("=")
            assert followed(proposal, options) != options, f"{proposal} is set already: {message}"
            role = roles.get(setting.removeprefix("data.columns."))
            if role is None or not setting.startswith("data.columns.") or value.startswith("["):
                continue
            column = value.strip("'\"")
            assert column in columns, f"there is no column {column}: {message}"
            held = columns[column]
            assert column not in [used for name, used in options.get("columns", {}).items() if name != role.name]
            if column != role.name and task == "text-classification":
                assert not (role.name == "text" and held in NO_TEXT), f"{proposal}: {held} is no text: {message}"
                assert not (role.name == "label" and held in NO_LABEL), f"{proposal}: {held} is no label: {message}"
        if not proposals:
            return
        options = followed(proposals[seed % len(proposals)], options)


@pytest.mark.parametrize("kind", ["empty", "list", "classes", "few"])
@pytest.mark.parametrize("name", ["patient_id", "user", "group", "fold", "kfold", "split", "time", "weight", "doc"])
def test_a_column_that_no_role_takes_stops_nothing_whatever_it_holds(tmp_path, name, kind):
    path = write(tmp_path, {"text": "text", "label": "label", name: kind}, 0)
    error = failure(path, "text-classification", {})
    assert error is None or (name == "split" and f"`{name}`" in str(error)), str(error)


@pytest.mark.parametrize(
    ("columns", "options", "never"),
    [
        ({"a": "text", "b": "other text", "verdict": "label"}, {}, "verdict"),
        ({"verdict": "label", "n": "classes"}, {}, "text="),
        ({"review": "text", "toxic": "flag", "obscene": "second flag"}, {}, "label=toxic"),
        ({"a": "text", "b": "other text", "verdict": "label"}, {"columns": {"label": "verdict"}}, "label="),
        ({"text": "text", "label": "one"}, {}, "`text`"),
        ({"text": "text", "label": "one", "id": "id"}, {}, "`id`"),
    ],
)  # fmt: skip
def test_messages_that_were_wrong(tmp_path, columns, options, never):
    error = failure(write(tmp_path, columns, 0), "text-classification", options)
    assert error is not None and never not in error.action, str(error)


@pytest.mark.parametrize("written", [float, str])
def test_numbers_are_proposed_only_where_a_task_learns_them(tmp_path, written):
    rows = [{"text": f"a text {i}", "image": f"{i}.png", "label": written(i * 0.37)} for i in range(24)]
    for row in rows:
        Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / row["image"])
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    error = failure(path, "image-classification", {})
    assert error is not None and "regression" not in error.action and error.action
    error = failure(path, "text-classification", {"columns": {"text": "text"}})
    assert error is not None and "data.problem_type=regression" in error.action
    assert failure(path, "text-classification", {"columns": {"text": "text"}, "problem_type": "regression"}) is None


def test_too_few_rows_propose_only_what_can_be_lowered(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {i}", "label": "ab"[i % 2]}) + "\n" for i in range(6)))
    error = failure(path, "text-classification", {"test_size": 6, "validation_size": 1})
    assert error is not None and error.action == "Add rows, or lower data.test_size."
    path.write_text('{"text": "one", "label": "a"}\n')
    error = failure(path, "text-classification", {"test_size": 0.1, "validation_size": 0.1})
    assert error is not None and "lower" not in error.action
