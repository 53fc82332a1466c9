"""Settings of all tests: no network, one thread, caches in a folder that goes away."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
# every process that a test starts would compile this checkout anew
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


# generated cases are the same in every run, so that a change is judged by what it changed;
# pytest --hypothesis-profile=explore looks for new ones
settings.register_profile("same", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile("same")


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
def no_disk() -> Iterator[None]:
    """Wait for no disk: a run syncs its files some thirty times, and no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


class Pictures:
    """How pictures are drawn here: each of a name and a size once, with fewer dots; every finished run has some."""

    def __init__(self) -> None:
        from hftransfer.evaluation import drawing

        self.usual, self.drawn = (drawing.DPI, drawing.save_image), set[tuple[object, ...]]()

    def save(self, path: Path, figure: Figure) -> Path:
        """Draw a figure of a name and a size for the first time; after that leave an empty sheet in its place."""
        from PIL import Image

        kind = (path.name, *figure.get_size_inches().round(1))
        if kind not in self.drawn:
            self.drawn.add(kind)
            return self.usual[1](path, figure)
        width, height = (figure.get_size_inches() * figure.dpi).astype(int)
        Image.new("P", (int(width), int(height))).save(path)
        return path


@pytest.fixture(autouse=True, scope="session")
def few_pictures() -> Iterator[Pictures]:
    """Draw hardly any plots: that took a third of a tiny run."""
    from hftransfer.evaluation import drawing

    pictures = Pictures()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "DPI", 50)
        patch.setattr(drawing, "save_image", pictures.save)
        yield pictures


@pytest.fixture
def sharp_pictures(few_pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw every plot, as users get them."""
    for name, value in zip(("DPI", "save_image"), few_pictures.usual, strict=True):
        monkeypatch.setattr(f"hftransfer.evaluation.drawing.{name}", value)


@pytest.fixture(autouse=True)
def away_from_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test in a folder of its own: `runs/` is made in the working directory."""
    monkeypatch.chdir(tmp_path)
    yield
