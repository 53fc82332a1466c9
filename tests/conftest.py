"""Settings of all tests: no network, one thread, caches in a folder that goes away."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# before anything imports torch or huggingface_hub: both read their environment once
CACHE = tempfile.mkdtemp(prefix="hftransfer-tests-")
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HOME=f"{CACHE}/huggingface",
    HFTRANSFER_CACHE=f"{CACHE}/hftransfer",
    TOKENIZERS_PARALLELISM="false",
)
os.environ.pop("HF_TOKEN", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first: two workers then end together, on small files."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


class Frozen:
    """What the garbage collector has been told of."""

    modules = 0


def pytest_runtest_setup() -> None:
    """Keep what was imported from the garbage collector, which walks all of it once a training otherwise."""
    if len(sys.modules) > Frozen.modules + 300:
        gc.collect()
        gc.freeze()
        Frozen.modules = len(sys.modules)


def pytest_sessionfinish() -> None:
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def coarse_pictures() -> Iterator[int]:
    """Draw plots with fewer dots: every finished run draws some. The value is how many an inch has otherwise."""
    from hftransfer.evaluation import drawing

    usual = drawing.DPI
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "DPI", 50)
        yield usual


@pytest.fixture
def sharp_pictures(coarse_pictures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw plots as users get them."""
    monkeypatch.setattr("hftransfer.evaluation.drawing.DPI", coarse_pictures)


@pytest.fixture(autouse=True)
def away_from_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test in a folder of its own: `runs/` is made in the working directory."""
    monkeypatch.chdir(tmp_path)
    yield
