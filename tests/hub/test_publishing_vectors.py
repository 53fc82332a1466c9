"""A model that gives vectors: published with what sentence-transformers reads, and proven by the lines on its card."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hftransfer import catalog
from hftransfer.fitting.interruption import Interruption
from hftransfer.runs import Run
from tests import tiny_catalogue, tiny_pairs
from tests.engine.conftest import QUICK
from tests.hub.conftest import python
from tests.hub.finished import call
from tests.hub.test_publishing import publish
from tests.hub_server import HubServer

ASKED = "good film was a"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Run:
    from hftransfer import training

    folder = tmp_path_factory.mktemp("encoder")
    data = {"source": str(tiny_pairs.jsonl(folder / "rows.jsonl", 120))}
    tree = {**QUICK, "task": "sentence-similarity", "model": str(tiny_pairs.model(folder / "bert")), "data": data}
    built = catalog.build_config(tree)
    run = Run.create(built, folder / "runs" / "encoder")
    with Interruption() as interruption:
        result = training.run(built, run, interruption)
    run.event("result", metrics=result["test"]["metrics"], n=result["test"]["n"])
    run.event("done", seconds=1.0)
    return run


def test_it_is_proven_and_asked_by_strangers(encoder: Run, tmp_path: Path, hub: HubServer) -> None:
    assert publish(hub, encoder, "alice/encoder", verify=True)["verified"]
    files = hub.files("alice/encoder")
    assert {"modules.json", "1_Pooling/config.json", "2_Normalize/config.json", "sentence_bert_config.json"} <= set(
        files
    )
    card = files["README.md"].decode()
    assert "pipeline_tag: sentence-similarity" in card and "library_name: sentence-transformers" in card
    block = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    lines = re.sub(r"tokenizer\(\[.*?\]", lambda _: f"tokenizer([{ASKED!r}]", block, count=1)
    told = python(lines, hub, "bob", tmp_path / "stranger", HF_HUB_DISABLE_TELEMETRY="1").stdout.strip()
    ours = call(hub, "bob", tmp_path / "home", "predict", "alice/encoder", ASKED, "--json")
    assert ours.returncode == 0, ours.stderr
    assert json.loads(ours.stdout)["vector"] == pytest.approx(json.loads(told), abs=1e-5)


def test_recommended_items_are_published_with_their_vectors(tmp_path: Path, hub: HubServer) -> None:
    from hftransfer import training

    source = tiny_catalogue.interactions(tmp_path / "rows")
    model = tiny_pairs.model(tmp_path / "bert")
    tree = {**QUICK, "task": "recommendation", "model": str(model), "data": {"source": str(source)}}
    built = catalog.build_config(tree)
    run = Run.create(built, tmp_path / "runs" / "films")
    with Interruption() as interruption:
        result = training.run(built, run, interruption)
    run.event("result", metrics=result["test"]["metrics"], n=result["test"]["n"])
    run.event("done", seconds=1.0)
    assert publish(hub, run, "alice/films", verify=True)["verified"]
    assert "items.parquet" in hub.files("alice/films")
    card = hub.files("alice/films")["README.md"].decode()
    block = next(one for one in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "items.parquet" in one)
    lines = re.sub(r"history = .*", "history = ['3', '6', '9']", block, count=1).replace(
        "print(answer)", "print(ranked.index.tolist())"
    )
    told = python(lines, hub, "bob", tmp_path / "stranger", HF_HUB_DISABLE_TELEMETRY="1").stdout.strip()
    ours = call(hub, "bob", tmp_path / "home", "predict", "alice/films", "3; 6; 9", "--json")
    assert ours.returncode == 0, ours.stderr
    found = [one["id"] for one in json.loads(ours.stdout)["items"]]
    assert set(found[:5]) & set(json.loads(told.replace("'", '"'))[:5]) and not {"3", "6", "9"} & set(found)
