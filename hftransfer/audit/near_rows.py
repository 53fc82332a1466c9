"""The training rows nearest to each test row by its features: what a model may have learned a mistake from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from hftransfer.fitting.base import Setup

FILE = "nearest.parquet"  # below `predictions`: row_id, near (ids of training rows, the nearest first), cosine
NEAR = 3
BLOCK = 1024


def write(setup: Setup, places: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]) -> None:
    """Write the nearest of the training rows that were looked at, for each test row that was."""
    if "test" not in values or not len(values["train"]) or not len(values["test"]):
        return
    near, cosines = nearest(values["test"], values["train"])
    ids = {split: np.asarray(setup.rows[split]["row_id"], object)[places[split]] for split in ("train", "test")}
    table = pa.table({
        "row_id": pa.array(ids["test"].tolist()),
        "near": pa.array([ids["train"][one].tolist() for one in near]),
        "cosine": pa.array(cosines.round(4).tolist()),
    })  # fmt: skip
    setup.run.predictions.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(table, setup.run.predictions / FILE)


def nearest(asked: np.ndarray, among: np.ndarray, count: int = NEAR) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows of `among` (m, d) are nearest to each of `asked` (n, d), and their cosines, (n, count)."""
    ours, theirs = _unit(asked), _unit(among)
    count = min(count, len(theirs))
    places, cosines = [], []
    for start in range(0, len(ours), BLOCK):
        found = ours[start : start + BLOCK] @ theirs.T
        top = np.argsort(-found, axis=1, kind="stable")[:, :count]
        places.append(top)
        cosines.append(np.take_along_axis(found, top, 1))
    return np.concatenate(places), np.concatenate(cosines)


def _unit(values: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(lengths, 1e-12), np.float32)
