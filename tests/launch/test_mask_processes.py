"""A model that answers with masks, trained by two processes: the loss of one with twice the rows, each row once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import tiny_masks
from tests.chaos.zygote import Zygote
from tests.launch.conftest import answered, two_and_one, write

pytestmark = pytest.mark.slow


# a DPT's head normalises over the pictures of a batch, of which a process has half; a MaskFormer over none
@pytest.mark.parametrize(
    "architecture, near", [pytest.param("dpt", 0.05, marks=pytest.mark.long), ("maskformer", 1e-3)]
)
def test_two_processes_compute_what_one_does(
    architecture: str, near: float, materials: Path, tmp_path: Path, zygote: Zygote
) -> None:
    tiny_masks.folder(tmp_path / "rows", 22, edge=True)
    left, right = both(tmp_path, materials, zygote, architecture, near)
    assert [*left["label"]] == [*right["label"]]
    assert left["pixel_accuracy"].to_numpy() == pytest.approx(right["pixel_accuracy"].to_numpy(), abs=0.1)


def both(place: Path, materials: Path, zygote: Zygote, architecture: str, near: float, **more: Any) -> list[Any]:
    """Return the answers of two processes and of one, which began with the same loss."""
    model = tiny_masks.model(place / "model", architecture)
    data = {"source": str(place / "rows"), "test_size": 5, "validation_size": 4, "likely_copies": False, **more}
    path = write(
        materials, place, {"max_steps": 3, "logging_steps": 1, "per_device_train_batch_size": 2},
        task="image-segmentation", model=str(model), data=data,
    )  # fmt: skip
    return [answered(run) for run in two_and_one(zygote, path, place, size=4, near=near)]


def test_two_processes_learn_single_objects_as_one_does(materials: Path, tmp_path: Path, zygote: Zygote) -> None:
    """Pictures hold two objects, three or none, so that processes do not have as many of them."""
    tiny_masks.objects(tmp_path / "rows", 22)
    left, right = both(tmp_path, materials, zygote, "maskformer", 1e-3, problem_type="instances")
    assert [len(row) for row in left["label"]] == [len(row) for row in right["label"]]
    assert all(len(row) for row in left["prediction"])
