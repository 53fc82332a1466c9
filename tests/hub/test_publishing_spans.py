"""A model that answers from a text, which transformers has no pipeline for: proven by the lines on its card."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hftransfer import catalog
from hftransfer.fitting.interruption import Interruption
from hftransfer.runs import Run
from tests import tiny_spans
from tests.engine.conftest import QUICK
from tests.hub.conftest import python
from tests.hub.finished import call
from tests.hub.test_publishing import publish
from tests.hub_server import HubServer

ASKED = {"question": "what colour is it ?", "context": "the old cup is with a grey hat and it is new ."}


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose texts need several windows, with rows that have no answer."""
    from hftransfer import training

    folder = tmp_path_factory.mktemp("answering")
    data = {"source": str(tiny_spans.jsonl(folder / "rows.jsonl")), "max_length": 20, "stride": 4}
    tree = {
        **QUICK, "task": "question-answering", "model": str(tiny_spans.model(folder / "bert")), "data": data,
        "train": {**QUICK["train"], "learning_rate": 5e-3, "num_train_epochs": 5},
    }  # fmt: skip
    built = catalog.build_config(tree)
    run = Run.create(built, folder / "runs" / "answering")
    with Interruption() as interruption:
        result = training.run(built, run, interruption)
    run.event("result", metrics=result["test"]["metrics"], n=result["test"]["n"])
    run.event("done", seconds=1.0)
    return run


def test_it_is_proven_and_asked_by_strangers(answering: Run, tmp_path: Path, hub: HubServer) -> None:
    assert publish(hub, answering, "alice/answering", verify=True)["verified"]
    card = hub.files("alice/answering")["README.md"].decode()
    assert "pipeline_tag: question-answering" in card and "which has no pipeline for this" in card
    block = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    assert "AutoModelForQuestionAnswering" in block and "alice/answering" in block and '"max_length": 20' in block
    quoted = ", ".join(json.dumps(value) for value in ASKED.values())
    lines = re.sub(r"question, context = .*", lambda _: f"question, context = {quoted}", block, count=1)
    told = python(lines, hub, "bob", tmp_path / "stranger", HF_HUB_DISABLE_TELEMETRY="1").stdout.strip()
    table = tmp_path / "asked.jsonl"
    table.write_text(json.dumps(ASKED) + "\n")
    ours = call(hub, "bob", tmp_path / "home", "predict", "alice/answering", str(table), "--json")
    assert ours.returncode == 0, ours.stderr
    answer = json.loads(ours.stdout)
    assert answer["answer"] == "grey" and str({name: answer[name] for name in ("answer", "start", "end")}) == told


def test_a_model_that_answers_otherwise_is_not_called_published(
    answering: Run, tmp_path: Path, hub: HubServer
) -> None:
    import shutil

    run = Run(Path(shutil.copytree(answering.folder, tmp_path / "runs" / "answering")))
    path = run.predictions / "test.parquet"
    table = pq.read_table(path)
    others = [[{**place, "text": "something else"} for place in places] for places in table["places"].to_pylist()]
    at = table.column_names.index("places")
    pq.write_table(table.set_column(at, "places", pa.array(others, table["places"].type)), path)
    done = call(hub, "alice", tmp_path / "home", "publish", run.folder, "alice/wrong")
    assert done.returncode != 0 and "gives answers that are up to" in done.stderr
