"""The artifact: a folder that from_pretrained loads, with label names, processor and hftransfer.json."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from hftransfer.config import RunConfig
from hftransfer.data import Data
from hftransfer.errors import UserError
from hftransfer.fitting import Fitted, Setup
from hftransfer.runs import Run, read_json, write_text

SCHEMA = 1
NOTES = "hftransfer.json"


def save(
    run: Run,
    config: RunConfig,
    setup: Setup,
    data: Data,
    fitted: Fitted,
    result: dict[str, Any],
    temperature: float,
) -> Path:
    """Write the merged model as safetensors, its processor, the adapter where there is one, and the notes."""
    folder: Path = run.artifact
    fresh = folder.with_name(".artifact")  # renamed when whole: a killed save leaves no half artifact behind
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    fitted.model.config.name_or_path = ""  # it may be a path on this machine
    fitted.model.save_pretrained(fresh)
    setup.processor.save_pretrained(fresh)
    if fitted.adapter is not None:
        shutil.move(str(fitted.adapter), fresh / "adapter")
        _forget_path(fresh / "adapter", config.model)
    write_text(fresh / NOTES, json.dumps(notes(config, setup, data, result, temperature), indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder


def notes(config: RunConfig, setup: Setup, data: Data, result: dict[str, Any], temperature: float) -> dict[str, Any]:
    """Return what hftransfer.json holds: enough to predict alike and to train again."""
    tree = config.to_dict()
    tree.pop("output")
    tree["model"], tree["data"]["source"] = public_name(config.model), public_name(config.data.source)
    return {
        "schema": SCHEMA,
        "task": config.task,
        "labels": {"kind": setup.labels.kind, "names": list(setup.labels.names)},
        "max_length": setup.preparation.max_length,
        "temperature": temperature,
        "columns": {choice.role: choice.column for choice in data.columns},
        "config": tree,
        "data": result["data"] | {"source": public_name(config.data.source)},
        "test": result["test"],
        "baseline": result["baseline"],
        "versions": result["versions"],
    }


def read_notes(folder: Path) -> dict[str, Any]:
    """Return an artifact's notes, or nothing for a model that hftransfer did not make; UserError for newer ones."""
    found = read_json(folder / NOTES)
    if found and found["schema"] > SCHEMA:
        raise UserError(
            f"{NOTES} of schema {SCHEMA} or older is needed", f"{folder} has schema {found['schema']}",
            "Upgrade hftransfer-learning.",
        )  # fmt: skip
    return found


def public_name(source: str) -> str:
    """Return a Hub id or a sample's name as it is, and of a local path the last part alone."""
    if source.startswith("sample:") or (re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) and not Path(source).exists()):
        return source
    return Path(source).name


def _forget_path(adapter: Path, model: str) -> None:
    path = adapter / "adapter_config.json"
    settings = read_json(path)
    settings["base_model_name_or_path"] = public_name(model)
    write_text(path, json.dumps(settings, indent=2))
    (adapter / "README.md").unlink(missing_ok=True)  # peft's empty form, with the local path in it
