"""A detector trained by two processes: the loss of one with twice the pictures, each picture once.

Crops would give pictures of unlike sizes, which are padded to the largest of a batch: that moves outputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import tiny_detectors
from tests.chaos.zygote import Zygote
from tests.launch.conftest import answered, two_and_one, write

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("architecture", ["detr", pytest.param("deformable-detr", marks=pytest.mark.long)])
def test_two_processes_compute_what_one_does(
    architecture: str, materials: Path, tmp_path: Path, zygote: Zygote
) -> None:
    model = tiny_detectors.model(tmp_path / "model", architecture, spread=0.05)
    data: dict[str, Any] = {
        "source": str(tiny_detectors.folder(tmp_path / "rows", 31)),
        "label_issues": False,
        "likely_copies": False,
    }
    data["augmentation"] = False
    path = write(
        materials, tmp_path, {"max_steps": 3, "logging_steps": 1, "per_device_train_batch_size": 4},
        task="object-detection", model=str(model), data=data,
    )  # fmt: skip
    two, one = two_and_one(zygote, path, tmp_path, size=8, near=1e-3)
    left, right = answered(two), answered(one)
    assert [len(row) for row in left["label"]] == [len(row) for row in right["label"]]
    assert two.result()["answer"]["counts"] == one.result()["answer"]["counts"]
