"""A detector on the Hub: what it finds is what a stranger's pipeline finds, box by box."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hftransfer import catalog
from hftransfer.fitting.interruption import Interruption
from hftransfer.runs import Run
from tests import tiny_detectors
from tests.engine.conftest import QUICK
from tests.hub.finished import call
from tests.hub.test_publishing import publish
from tests.hub_server import HubServer


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose weights are saved under the names of an older layout."""
    from hftransfer import training

    folder = tmp_path_factory.mktemp("detector")
    data = {"source": str(tiny_detectors.folder(folder / "rows")), "label_issues": False, "likely_copies": False}
    tree = {
        **QUICK, "task": "object-detection", "model": str(tiny_detectors.model(folder / "model")), "data": data,
        "train": {**QUICK["train"], "learning_rate": 1e-3, "max_steps": 3, "per_device_train_batch_size": 4},
    }  # fmt: skip
    run = Run.create(catalog.build_config(tree), folder / "runs" / "detector")
    with Interruption() as interruption:
        result = training.run(run.config(), run, interruption)
    run.event("result", metrics=result["test"]["metrics"], n=result["test"]["n"])
    run.event("done", seconds=1.0)
    return run


def test_it_is_proven_and_described(detector: Run, hub: HubServer) -> None:
    assert publish(hub, detector, "alice/detector", verify=True)["verified"]
    card = hub.files("alice/detector")["README.md"].decode()
    assert "pipeline_tag: object-detection" in card and "`map`" in card
    block = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    assert 'pipeline("object-detection", model="alice/detector")' in block


def test_boxes_that_lie_elsewhere_are_no_proof(detector: Run, tmp_path: Path, hub: HubServer) -> None:
    run = Run(Path(shutil.copytree(detector.folder, tmp_path / "runs" / "detector")))
    path = run.predictions / "test.parquet"
    table = pq.read_table(path)
    moved = [[{**box, "x": box["x"] + 7} for box in row] for row in table["prediction"].to_pylist()]
    at = table.column_names.index("prediction")
    pq.write_table(table.set_column(at, "prediction", pa.array(moved, table["prediction"].type)), path)
    done = call(hub, "alice", tmp_path / "home", "publish", run.folder, "alice/wrong")
    assert done.returncode != 0 and "gives answers that are up to" in done.stderr
