"""Vectors trained by two processes: each row is compared with those of both, as by one process with twice the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny_catalogue, tiny_pairs
from tests.chaos.zygote import Zygote
from tests.launch.conftest import answered, two_and_one, write

pytestmark = pytest.mark.slow


def test_two_processes_compute_what_one_does(materials: Path, tmp_path: Path, zygote: Zygote) -> None:
    model = tiny_pairs.model(tmp_path / "bert", still=True)
    rows = tiny_pairs.jsonl(tmp_path / "rows.jsonl", 120)
    path = write(
        materials, tmp_path, {"max_steps": 6, "logging_steps": 1}, task="sentence-similarity", model=str(model),
        data={"source": str(rows)},
    )  # fmt: skip
    two, one = two_and_one(zygote, path, tmp_path)
    left, right = answered(two), answered(one)
    assert [*left["among"]] == [*right["among"]]
    assert left["score"].to_numpy() == pytest.approx(right["score"].to_numpy(), abs=1e-2)


@pytest.mark.parametrize(
    ("task", "method"),
    [
        pytest.param("retrieval", {"name": "full", "negatives": 2}, marks=pytest.mark.long),
        ("recommendation", {"name": "full"}),
        pytest.param(
            "recommendation", {"name": "sequence", "width": 32, "layers": 1, "dropout": 0.0}, marks=pytest.mark.long
        ),
    ],
)
def test_two_processes_search_a_catalogue_as_one_does(
    materials: Path, tmp_path: Path, zygote: Zygote, task: str, method: dict[str, Any]
) -> None:
    model = tiny_pairs.model(tmp_path / "bert", still=True)
    make = tiny_catalogue.collection if task == "retrieval" else tiny_catalogue.interactions
    path = write(
        materials, tmp_path, {"max_steps": 5, "logging_steps": 1}, task=task, model=str(model),
        data={"source": str(make(tmp_path / "rows"))}, method=method,
    )  # fmt: skip
    two, one = two_and_one(zygote, path, tmp_path)
    left, right = answered(two), answered(one)
    assert [*left["among"]] == [*right["among"]]
    # what counts beside cosines is chosen among a few shares, where little may tip the balance
    one, other = (np.stack(answers["vector"]) for answers in (left, right))
    assert np.abs(one - other).max() < 1e-2
