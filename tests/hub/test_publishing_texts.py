"""A model that writes, for which transformers has no pipeline: proven by running the lines that its card shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hftransfer import catalog
from hftransfer.fitting.interruption import Interruption
from hftransfer.runs import Run
from tests import tiny_causal, tiny_written
from tests.engine.conftest import QUICK
from tests.hub.conftest import python
from tests.hub.finished import call
from tests.hub.test_publishing import publish
from tests.hub_server import HubServer

ASKED = "the big cat sees the dog"


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A T5 whose prefix comes from its own config."""
    folder = tmp_path_factory.mktemp("translator")
    model = tiny_written.written_model(folder / "t5")
    settings = json.loads((model / "config.json").read_text())
    settings["task_specific_params"] = {"translation_en_to_fr": {"prefix": "to le: "}}
    (model / "config.json").write_text(json.dumps(settings))
    rows = tiny_written.pairs_jsonl(folder / "pairs.jsonl", 160)
    data = {"source": str(rows), "source_language": "en", "target_language": "fr"}
    return finished(folder, "translation", model, data, num_train_epochs=6)


def finished(folder: Path, task: str, model: Path, data: dict[str, Any], **train: Any) -> Run:
    """Train and return a finished run."""
    from hftransfer import training

    tree = {
        **QUICK, "task": task, "model": str(model), "data": data,
        "train": {**QUICK["train"], "learning_rate": 1e-2, **train},
    }  # fmt: skip
    built = catalog.build_config(tree)
    run = Run.create(built, folder / "runs" / "finished")
    with Interruption() as interruption:
        result = training.run(built, run, interruption)
    run.event("result", metrics=result["test"]["metrics"], n=result["test"]["n"])
    run.event("done", seconds=1.0)
    return run


def test_it_is_proven_and_asked_by_strangers(translator: Run, tmp_path: Path, hub: HubServer) -> None:
    said = publish(hub, translator, "alice/translator", verify=True)
    assert said["verified"]
    files = hub.files("alice/translator")
    assert {"model.safetensors", "generation_config.json", "hftransfer.json", "README.md"} <= set(files)
    card = files["README.md"].decode()
    assert "pipeline_tag: translation" in card and "which has no pipeline for this" in card
    block = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    assert "AutoModelForSeq2SeqLM" in block and "'to le: ' + " in block and "alice/translator" in block
    place = json.dumps(ASKED)
    lines = re.sub(r"'to le: ' \+ \"[^\"]*\"", f"'to le: ' + {place}", block)
    assert ASKED in lines
    told = python(lines, hub, "bob", tmp_path / "stranger", HF_HUB_DISABLE_TELEMETRY="1").stdout.strip()
    ours = call(hub, "bob", tmp_path / "home", "predict", "alice/translator", ASKED, "--json")
    assert ours.returncode == 0, ours.stderr
    assert json.loads(ours.stdout)["text"] == told


def test_a_model_that_writes_otherwise_is_not_called_published(
    translator: Run, tmp_path: Path, hub: HubServer
) -> None:
    """The stored answers are what the trained model gave: another text is a difference."""
    import shutil

    import pyarrow as pa
    import pyarrow.parquet as pq

    run = Run(Path(shutil.copytree(translator.folder, tmp_path / "runs" / "translator")))
    path = run.predictions / "test.parquet"
    table = pq.read_table(path)
    at = table.column_names.index("prediction")
    other = pa.array(["something else"] * table.num_rows)
    pq.write_table(table.set_column(at, "prediction", other), path)
    done = call(hub, "alice", tmp_path / "home", "publish", run.folder, "alice/wrong")
    assert done.returncode != 0
    assert "gives answers that are up to" in done.stderr


def test_a_model_that_chats_is_proven_and_asked_by_strangers(tmp_path: Path, hub: HubServer) -> None:
    """By its pipeline, with the chat template that came with it, as the card says."""
    data = {"source": str(tiny_causal.written(tmp_path / "rows.jsonl", tiny_causal.rows("messages", 80)))}
    run = finished(tmp_path, "text-generation", tiny_causal.causal_model(tmp_path / "llama"), data)
    said = publish(hub, run, "alice/chats", verify=True)
    assert said["verified"]
    files = hub.files("alice/chats")
    assert {"model.safetensors", "generation_config.json", "chat_template.jinja", "README.md"} <= set(files)
    card = files["README.md"].decode()
    assert "pipeline_tag: text-generation" in card and "It is given a list of turns" in card
    block = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    assert 'pipeline("text-generation", model="alice/chats")' in block
    lines = block.replace("print(answer(", "import json; print(json.dumps(answer(").rstrip() + ")"
    told = python(lines, hub, "bob", tmp_path / "stranger", HF_HUB_DISABLE_TELEMETRY="1").stdout.strip()
    turns = json.loads(told.splitlines()[-1])[0]["generated_text"]
    assert turns[0] == {"role": "user", "content": "a prompt"} and turns[-1]["role"] == "assistant"
    ours = call(hub, "bob", tmp_path / "home", "predict", "alice/chats", "a prompt", "--json")
    assert ours.returncode == 0, ours.stderr
    assert json.loads(ours.stdout)["text"] == turns[-1]["content"].strip()
