"""Cuts are exact, stratified, whole by group, and the same in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftransfer.answers.multi_label import label_sets
from hftransfer.config import DataConfig
from hftransfer.data import Data, load
from hftransfer.data.grouping import names_of
from hftransfer.data.splits import Lowest, cut, hashes, sample
from hftransfer.errors import UserError
from hftransfer.inputs.text import TEXT as STRING
from hftransfer.tasks.base import Role, truth
from tests.engine import toys

ROLES = (Role("text", STRING, "a string", ("text",)), truth("label", "a class", ("label",)))
TEXT = toys.of_text("text-classification", *ROLES)
SIZES = {"test": 0.2, "validation": 0.1}


def read(folder: Path, rows: list[dict[str, Any]], seed: int = 5, **options: Any) -> Data:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load(DataConfig(source=str(path), **options), TEXT, seed=seed)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(3, 60), min_size=1, max_size=8), st.integers(0, 5))
def test_cuts_are_exact_and_keep_every_class(counts: list[int], seed: int) -> None:
    strata = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    rows = len(strata)
    cuts = cut(rows, SIZES, seed, strata)
    assert sorted(np.concatenate(list(cuts.values()))) == list(range(rows))
    for use, size in SIZES.items():
        number = max(1, round(size * rows))
        assert len(cuts[use]) == number and list(cuts[use]) == sorted(cuts[use])
        if number >= len(counts):
            assert set(strata[cuts[use]]) == set(range(len(counts)))
        share = np.bincount(strata[cuts[use]], minlength=len(counts)) / number
        assert np.abs(share * number - np.array(counts) * number / rows).max() <= len(counts) + 1
    assert set(strata[cuts["train"]]) == set(range(len(counts)))


def test_shares_of_classes_are_kept() -> None:
    strata = np.repeat([0, 1, 2], [700, 200, 100])
    cuts = cut(1000, SIZES, 1, strata)
    assert np.bincount(strata[cuts["test"]]).tolist() == [140, 40, 20]
    assert np.bincount(strata[cuts["validation"]]).tolist() == [70, 20, 10]
    assert not np.array_equal(cuts["test"], cut(1000, SIZES, 2, strata)["test"])
    assert np.array_equal(cuts["test"], cut(1000, SIZES, 1, strata)["test"])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_groups_stay_whole(seed: int) -> None:
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, 60, size=600)
    strata = (groups % 3 == 0).astype(int)
    cuts = cut(600, SIZES, seed, strata, groups)
    parts = [set(groups[found]) for found in cuts.values()]
    assert sum(len(part) for part in parts) == len(set().union(*parts))
    assert abs(len(cuts["test"]) - 120) <= 20 and abs(len(cuts["validation"]) - 60) <= 20
    assert abs(strata[cuts["test"]].mean() - strata.mean()) < 0.15


def test_few_large_groups() -> None:
    groups = np.repeat([0, 1, 2], 20)
    cuts = cut(60, SIZES, 0, None, groups)
    assert sorted(len(found) for found in cuts.values()) == [20, 20, 20]
    with pytest.raises(UserError, match="3 groups are needed"):
        cut(60, SIZES, 0, None, np.repeat([0, 1], 30))


def test_too_few_rows() -> None:
    with pytest.raises(UserError, match="there are 2 in all"):
        cut(2, SIZES, 0)
    with pytest.raises(UserError, match="50 for test"):
        cut(50, {"test": 50}, 0)
    assert {use: len(found) for use, found in cut(3, SIZES, 0).items()} == {"test": 1, "validation": 1, "train": 1}


def test_label_sets_merge_the_rare_ones() -> None:
    sets = [[0], [0], [0], [0, 1], [0, 1], [0, 1], [0, 2], []]
    rows = np.array([row for row, found in enumerate(sets) for _ in found])
    numbers = label_sets(rows, np.array([i for found in sets for i in found]), len(sets))
    assert len(set(numbers[:3])) == 1 and len(set(numbers[3:6])) == 1
    assert len({numbers[0], numbers[3], numbers[6], numbers[7]}) == 4


def test_sample_is_proportional() -> None:
    kept = sample({"train": 900, "test": 100}, 50, 3)
    assert {use: len(rows) for use, rows in kept.items()} == {"train": 45, "test": 5}
    assert len(set(kept["train"])) == 45 and list(kept["train"]) == sorted(kept["train"])
    assert len(sample({"train": 10}, 50, 3)["train"]) == 10


def test_hashes_are_even_and_fixed() -> None:
    found = hashes(np.arange(100_000), 42, "a")
    assert len(np.unique(found)) == 100_000
    assert abs(np.mean(found < np.uint64(2**63)) - 0.5) < 0.01
    assert int(hashes(np.array([7]), 42, "a")[0]) == int(found[7]) != int(hashes(np.array([7]), 42, "b")[0])
    lowest = Lowest(100)
    for start in range(0, 100_000, 1000):
        lowest.add(found[start : start + 1000])
    assert np.array_equal(lowest.values(), np.sort(found)[:100])


def test_load_cuts_by_label_and_by_group(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": "ab"[i % 4 == 0], "doc": f"d{i // 5}"} for i in range(200)]
    data = read(tmp_path, rows)
    assert data.sizes == {"train": 140, "validation": 20, "test": 40}
    assert [data.splits[use]["label"][:].count(1) for use in ("train", "validation", "test")] == [35, 5, 10]
    assert "no test split: 20% (40 rows) cut from train, stratified by label, seed 5" in data.warnings
    grouped = read(tmp_path, rows, group="doc")
    docs = [{int(t[1:]) // 5 for t in grouped.splits[use]["text"]} for use in grouped.splits]
    assert sum(map(len, docs)) == 40 == len(set.union(*docs))
    assert any("whole groups of `doc`" in warning for warning in grouped.warnings)
    assert abs(grouped.sizes["test"] - 40) <= 5
    limited = read(tmp_path, rows, max_rows=50, test_size=10, validation_size=5)
    assert limited.sizes == {"train": 35, "validation": 5, "test": 10}


def test_groups_over_two_given_splits_are_a_warning(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": "ab"[i % 2], "doc": f"d{i // 5}"} for i in range(50)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:10]))
    data = read(tmp_path, rows, group="doc", test="test.jsonl")
    assert "2 groups of `doc` are in both train and test" in data.warnings


@pytest.mark.parametrize("streaming", [False, True])
def test_an_empty_cell_names_no_group(tmp_path: Path, streaming: bool) -> None:
    """Cells of a CSV are texts: one of no letters would make a single group of all rows without a patient."""
    cells = [("", " ", f" p{i // 4} ", f"p{i // 4}")[i % 4] for i in range(160)]
    lines = (f"text {i},{'ab'[i % 2]},{cell}\n" for i, cell in enumerate(cells))
    (tmp_path / "rows.csv").write_text("text,label,patient\n" + "".join(lines))
    data = load(DataConfig(source=str(tmp_path / "rows.csv"), group="patient", streaming=streaming), TEXT, seed=5)
    held = {use: list(names) for use, names in data.groups.items() if use != "train"}
    assert set(held) == {"validation", "test"}
    for use, names in held.items():
        rows = data.splits[use]
        numbers = [int(str(text).split()[1]) for text in rows["text"]]
        assert [cells[n].strip() or row for n, row in zip(numbers, rows["row_id"], strict=True)] == names
        assert len(set(names)) > 3 and 0.5 < len(rows) / (160 * SIZES[use]) < 2
    if not streaming:
        found = [set(data.groups[use]) for use in ("train", "validation", "test")]
        assert not set.intersection(found[0], found[1]) and not set.intersection(found[0], found[2])
    rows = pa.table({"g": [1.0, float("nan"), None, 2.0]})
    assert names_of(rows["g"]).to_pylist() == ["1", None, None, "2"]


def test_multi_label_cuts_keep_rare_sets_apart(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": [["a"], ["a", "b"], []][i % 3]} for i in range(90)]
    data = read(tmp_path, rows)
    assert [sum(label == found for label in data.splits["test"]["label"]) for found in ([0], [0, 1], [])] == [6, 6, 6]


def test_the_same_rows_in_every_process(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": "abc"[i % 3], "doc": f"d{i // 4}"} for i in range(120)]
    here = read(tmp_path, rows, group="doc")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from tests.engine import test_data_splits as t\n"
        "from hftransfer.config import DataConfig; from hftransfer.data import load\n"
        "data = load(DataConfig(source=sys.argv[2], group='doc'), t.TEXT, seed=5)\n"
        "print(data.fingerprint, *data.splits['test']['row_id'])"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parents[2]), str(tmp_path / "rows.jsonl")],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.split() == [here.fingerprint, *here.splits["test"]["row_id"]]


def test_a_column_that_numbers_folds_is_said_not_to_be_used(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2], "fold": i % 5, "kfold": str(i % 4)} for i in range(60)]
    said = [warning for warning in read(tmp_path, rows).warnings if "is not used" in warning]
    assert [warning.partition(" is ")[0] for warning in said] == [
        "`fold` numbers 5 folds and", "`kfold` numbers 4 folds and",
    ]  # fmt: skip
    assert all("folds are drawn (evaluation.folds)" in warning for warning in said)
    assert not any("`fold` numbers" in warning for warning in read(tmp_path, rows, group="fold").warnings)


def test_a_pattern_of_labels_beside_a_table_is_said_not_to_be_used(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(60)]
    found = read(tmp_path, rows, label_pattern="{label}/**")
    assert any(warning.startswith("data.label_pattern is not used") for warning in found.warnings)
    assert not any("label_pattern" in warning for warning in read(tmp_path, rows).warnings)
    for i, row in enumerate(rows):
        place = tmp_path / "texts" / row["label"] / f"{i}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(row["text"])
    found = load(DataConfig(source=str(tmp_path / "texts"), label_pattern="{label}/**"), TEXT, seed=5)
    assert found.answer.names == ("a", "b") and not any("is not used" in warning for warning in found.warnings)
