"""A model that answers with masks, trained by two processes: the loss of one with twice the rows, each row once."""

from __future__ import annotations

from pathlib import Path

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
    rows = tiny_masks.folder(tmp_path / "rows", 22, edge=True)
    model = tiny_masks.model(tmp_path / "model", architecture)
    data = {"source": str(rows), "test_size": 5, "validation_size": 4, "likely_copies": False}
    path = write(
        materials, tmp_path, {"max_steps": 3, "logging_steps": 1, "per_device_train_batch_size": 2},
        task="image-segmentation", model=str(model), data=data,
    )  # fmt: skip
    two, one = two_and_one(zygote, path, tmp_path, size=4, near=near)
    left, right = answered(two), answered(one)
    assert [*left["label"]] == [*right["label"]]
    assert left["pixel_accuracy"].to_numpy() == pytest.approx(right["pixel_accuracy"].to_numpy(), abs=0.1)
