"""The answers of results and artifacts of schema 1 and 2, which named labels and left the rest to guess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hftransfer.answers.base import Answer


def of_notes(notes: Mapping[str, Any]) -> Answer[Any]:
    """Return the answer of an hftransfer.json that has `labels` and `temperature`."""
    from hftransfer import answers

    return answers.restore({**notes["labels"], "temperature": notes.get("temperature", 1.0)})


def of_result(result: Mapping[str, Any]) -> Answer[Any]:
    """Return the answer of a result.json, by which metrics were measured and by its table of classes."""
    from hftransfer import answers

    measured, classes = result["test"]["metrics"], result["test"].get("classes") or ()
    names = [row["name"] for row in classes]
    if "rmse" in measured:
        return answers.restore({"kind": "regression", "names": []})
    kind = "multi_label" if "hamming_loss" in measured else "single_label"
    if "f1_entity" in measured:  # its table is of types of entities, not of tags
        kind, names = "tags", [f"{prefix}-{name}" for name in names for prefix in "BI"]
    elif kind == "single_label" and not {"roc_auc", "log_loss", "mcc", "brier"} & set(measured):
        kind = "tags"
    temperature = (result.get("calibration") or {}).get("temperature", 1.0)
    return answers.restore({"kind": kind, "names": names, "temperature": temperature})
