"""The artifact: a folder that from_pretrained loads, with label names, processor, plots, recipe and notes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer.config import SCHEMA as CONFIG_SCHEMA
from hftransfer.config import RunConfig, build, without_defaults
from hftransfer.errors import UserError
from hftransfer.runs import Run, is_hub_id, read_json, write_text
from hftransfer.yaml_core import dump_yaml

if TYPE_CHECKING:
    from hftransfer.data import Data
    from hftransfer.fitting.base import Fitted, Setup

SCHEMA = 3  # 1: without sources, method, cost, calibration, speed and columns as choices; 2: labels for an answer
NOTES = "hftransfer.json"
RECIPE = "run.yaml"  # what trains the same model again
ADAPTER = "adapter"
PLOTS = "plots"
ONNX, ONNX_REPORT = "onnx", "report.json"  # the model for other engines, and how it was checked


def save(
    run: Run,
    config: RunConfig,
    setup: Setup,
    data: Data,
    fitted: Fitted,
    result: dict[str, Any],
) -> Path:
    """Write the merged model as safetensors, its processor, the adapter if there is one, plots, recipe and notes."""
    folder: Path = run.artifact
    fresh = folder.with_name(".artifact")  # renamed when whole: a killed save leaves no half artifact behind
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_model(fitted.model, setup, fresh)
    setup.answer.write_entries(fresh)
    if fitted.adapter is not None:
        shutil.move(str(fitted.adapter), fresh / ADAPTER)
        name_base(fresh / ADAPTER, config)
    if (run.folder / PLOTS).is_dir():
        shutil.copytree(run.folder / PLOTS, fresh / PLOTS)
    write_text(fresh / RECIPE, recipe(config))
    write_text(fresh / NOTES, json.dumps(notes(run, config, setup, data, result), indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder


def save_model(model: Any, setup: Setup, folder: Path) -> None:
    """Write a model as safetensors, with what a stranger needs to have it answer alike, and its processor."""
    model.config.name_or_path = ""  # it may be a path on this machine
    setup.answer.finish(model, setup.processor)
    model.save_pretrained(folder)
    setup.processor.save_pretrained(folder)
    for name, content in setup.answer.beside(model, setup.preparation).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(folder / name, content)


def notes(run: Run, config: RunConfig, setup: Setup, data: Data, result: dict[str, Any]) -> dict[str, Any]:
    """Return what hftransfer.json holds: enough to predict alike and to train again."""
    told = (
        "carried",
        "model",
        "revision",
        "method",
        "seed",
        "sources",
        "test",
        "baseline",
        "beside",
        "operating",
        "slices",
        "folds",
        "calibration",
        "cost",
        "speed",
        "auto",
    )
    return {
        "schema": SCHEMA,
        "run": run.name,
        "task": config.task,
        "answer": result["answer"],
        "main_metric": result["main_metric"],
        "max_length": setup.preparation.max_length,
        "columns": {choice.role: choice.column for choice in data.columns},
        "config": public_config(config).to_dict(),
        "data": result["data"] | {"source": public_name(config.data.source)},
        **{name: result[name] for name in told if name in result},
        "model": public_name(config.model),
        "versions": result["versions"],
    }


def read_notes(folder: Path) -> dict[str, Any]:
    """Return an artifact's notes, or nothing for a model that hftransfer did not make; UserError for newer ones."""
    found = read_json(folder / NOTES)
    if found:
        require_schema(NOTES, found.get("schema"), SCHEMA)
    return found


def onnx_of(folder: Path) -> dict[str, Any]:
    """Return how an artifact's ONNX model was checked; nothing where it has none."""
    return read_json(folder / ONNX / ONNX_REPORT)


def require_schema(name: str, found: Any, newest: int) -> None:
    """Raise UserError for a file that a later version of hftransfer wrote, or that names no version."""
    if not isinstance(found, int) or found > newest:
        raise UserError(
            f"{name} of schema {newest} or older is needed",
            f"this one has schema {found}",
            "Upgrade: pip install -U hftransfer-learning"
            if isinstance(found, int)
            else "It was not written by hftransfer, or is damaged.",
        )


def recipe(config: RunConfig) -> str:
    """Return run.yaml: the configuration as others can use it, with the version of its form."""
    tree = without_defaults(public_config(config))
    tree.pop("hub", None)  # whoever trains it again publishes under a name of their own
    head = f"# hftransfer train {RECIPE}\n"
    return head + dump_yaml({"schema": CONFIG_SCHEMA, **tree})


def public_config(config: RunConfig) -> RunConfig:
    """Return a configuration without anything of this machine: of paths the last part alone, no output folder."""
    tree = config.to_dict()
    tree.pop("output")
    tree["model"] = public_name(config.model)
    for name in ("source", "train", "validation", "test", "unlabelled"):
        if tree["data"][name] is not None:
            tree["data"][name] = public_name(tree["data"][name])
    return build(_without_paths(tree))


def public_name(source: str) -> str:
    """Return a Hub id or a sample's name as it is, and of a local path the last part alone."""
    if source.startswith("sample:") or is_hub_id(source):
        return source
    return Path(source).name


def name_base(adapter: Path, config: RunConfig) -> None:
    """Write the public name and the commit of the base model into an adapter's settings."""
    path = adapter / "adapter_config.json"
    settings = read_json(path)
    settings["base_model_name_or_path"] = public_name(config.model)
    settings["revision"] = config.revision
    for name, value in settings.items():
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            settings[name] = sorted(value)  # sets of peft's, in another order each time: an upload would see a change
    write_text(path, json.dumps(settings, indent=2))
    (adapter / "README.md").unlink(missing_ok=True)  # peft's empty form, with the local path in it


def _without_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_paths(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(part) for part in value]
    if isinstance(value, str) and (os.path.isabs(value) or value.startswith("~")):
        return Path(value).name
    return value
