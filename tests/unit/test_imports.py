"""What importing costs, which names are free, and who may import whom."""

from __future__ import annotations

import importlib.metadata
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hftransfer

HEAVY = {
    "torch", "transformers", "datasets", "peft", "accelerate", "evaluate", "gradio", "sklearn", "pandas",
    "matplotlib", "numpy", "huggingface_hub",
}  # fmt: skip
LIGHT = [
    "errors", "events", "config", "upstream", "runs", "samples", "catalog", "launchers", "launchers.base",
    "launchers.local", "hub", "follow", "cli", "methods.base", "methods.full", "methods.peft",
]  # fmt: skip
ROOT = Path(hftransfer.__file__).parents[1]


def _loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_imports_nothing_heavy(module: str) -> None:
    assert not HEAVY & _loaded(f"import hftransfer.{module}")


def test_what_predict_needs_of_the_data_comes_without_their_library() -> None:
    loaded = _loaded("from hftransfer import data\nfrom hftransfer.data import Unanswerable, suffixes")
    assert not HEAVY & loaded


def test_importing_the_package_does_almost_nothing() -> None:
    loaded = _loaded("import hftransfer; hftransfer.__version__")
    assert {name for name in loaded if name.startswith("hftransfer.")} == set()
    assert not {"yaml", "pydantic", "argparse", *HEAVY} & loaded


def test_public_names_come_when_they_are_used() -> None:
    assert not HEAVY & _loaded("import hftransfer; hftransfer.RunConfig; hftransfer.run; hftransfer.RunFailed")
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        hftransfer.runn  # noqa: B018


def test_the_collector_neither_runs_during_heavy_imports_nor_looks_at_them_later() -> None:
    code = """
import gc
from hftransfer import imports
with imports.uncollected():
    print(gc.isenabled())
    kept = [{} for _ in range(1000)]
print(gc.isenabled(), gc.get_freeze_count() > 1000)
gc.unfreeze()
import sys
sys.modules["transformers"] = sys  # imported by whoever uses this as a library: nothing of theirs is frozen
with imports.uncollected():
    print(gc.isenabled())
print(gc.get_freeze_count())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True", "True", "0"]


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_imports_neither_yaml_nor_anything_heavy(arguments: list[str]) -> None:
    loaded = _loaded(
        "from hftransfer import cli\nimport contextlib, io\n"
        f"with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): cli.main({arguments!r})"
    )
    assert not {"yaml", "pydantic", "psutil", "tqdm", *HEAVY} & loaded


@pytest.mark.parametrize("command", [["runs"], ["samples"]])
def test_a_command_that_reads_files_imports_nothing_heavy(command: list[str], tmp_path: Path) -> None:
    loaded = _loaded(
        f"import os; os.chdir({str(tmp_path)!r})\nfrom hftransfer import cli\nassert cli.main({command!r}) == 0"
    )
    assert not HEAVY & loaded


def test_reading_a_config_imports_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "task: text-classification\nmodel: m\ndata: {source: x}\nmethod: {name: dora, r: 4}\n"
        "train: {learning_rate: 1e-4}\n"
    )
    assert not HEAVY & _loaded(f"from hftransfer.catalog import read_config; read_config({str(path)!r})")


def test_no_module_shadows_another_package() -> None:
    """`accelerate launch hftransfer/train.py` puts hftransfer/ first on sys.path."""
    names = {module.name for module in pkgutil.iter_modules([str(ROOT / "hftransfer")])}
    names |= {path.name for path in (ROOT / "hftransfer").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {"cli", "launchers"} <= names
    assert not names & set(sys.stdlib_module_names)
    assert not names & set(importlib.metadata.packages_distributions())


def test_the_layers_hold() -> None:
    lint = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    assert lint is not None, "install hftransfer-learning[dev]"
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
