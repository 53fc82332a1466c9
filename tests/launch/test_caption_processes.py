"""Pictures and captions compared over two processes: each row with those of both, as one process would."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny_captions
from tests.chaos.zygote import Zygote
from tests.launch.conftest import answered, two_and_one, write

pytestmark = pytest.mark.slow


def test_two_processes_compute_what_one_does(materials: Path, tmp_path: Path, zygote: Zygote) -> None:
    """Rows have one caption or two, so that processes do not have as many of them."""
    model = tiny_captions.model(tmp_path / "model", "CLIP")
    rows = tiny_captions.folder(tmp_path / "rows", 60, several=True)
    path = write(
        materials, tmp_path, {"max_steps": 6, "logging_steps": 1}, task="zero-shot-image-classification",
        model=str(model), data={"source": str(rows)},
    )  # fmt: skip
    two, one = two_and_one(zygote, path, tmp_path, near=1e-5)
    left, right = answered(two), answered(one)
    for name in ("texts", "pictures", "right_texts"):
        assert [*left[name]] == [*right[name]]
    for ours, theirs in zip(left["scores"], right["scores"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-2)
