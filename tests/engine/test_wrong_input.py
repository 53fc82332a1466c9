"""Whatever is wrong with what a user gives is said in three parts (wanted, found, to do) and ends with exit code 2."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from datasets import Dataset

from hftransfer import catalog, config, questions, yaml_core
from hftransfer.errors import UserError
from hftransfer.fitting.interruption import Interruption
from hftransfer.runs import Run
from tests import tiny
from tests.engine.conftest import QUICK

SCRIPT = Path(catalog.__file__).parent / "train.py"
IMAGES = "task=image-classification"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models and data that are as they should be."""
    folder = tmp_path_factory.mktemp("good")
    return {
        "text model": tiny.text_model(folder / "bert"),
        "image model": tiny.image_model(folder / "vit"),
        "texts": tiny.text_csv(folder / "rows.csv", 40),
        "pictures": tiny.image_folder(folder / "pictures", 24),
    }


def tree(good: dict[str, Path]) -> dict[str, Any]:
    model, source = str(good["text model"]), str(good["texts"])
    return {**QUICK, "task": "text-classification", "model": model, "data": {"source": source}}


def rows(folder: Path, *lines: tuple[str, ...], name: str = "rows.csv") -> str:
    with open(folder / name, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    return f"data.source={folder / name}"


def copied(good: dict[str, Path], folder: Path, without: str) -> Path:
    return shutil.copytree(good["text model"], folder / "copy", ignore=shutil.ignore_patterns(without))


def pickled(good: dict[str, Path], folder: Path) -> Path:
    model = copied(good, folder, "*.safetensors")
    torch.save(transformers.AutoModel.from_pretrained(good["text model"]).state_dict(), model / "pytorch_model.bin")
    return model


def headless(good: dict[str, Path], folder: Path) -> Path:
    """Return a checkpoint that holds a head and none of the backbone."""
    from safetensors.torch import save_file

    model = copied(good, folder, "*.safetensors")
    save_file({"classifier.weight": torch.zeros(2, 32)}, model / "model.safetensors", metadata={"format": "pt"})
    return model


def with_tokenizer(good: dict[str, Path], folder: Path) -> Path:
    model = shutil.copytree(good["image model"], folder / "copy")
    tiny.tokenizer().save_pretrained(model)
    return model


def unpackable(good: dict[str, Path], folder: Path) -> list[str]:
    with zipfile.ZipFile(folder / "rows.zip", "w") as archive:
        archive.writestr("../rows.csv", "text,label\ngood,a\nbad,b\n")
    return [f"data.source={folder / 'rows.zip'}"]


def corrupt(good: dict[str, Path], folder: Path) -> list[str]:
    pictures = shutil.copytree(good["pictures"], folder / "pictures")
    (pictures / "red" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return [IMAGES, f"model={good['image model']}", f"data.source={pictures}", "data.bad_rows=refuse"]


def remote_code(good: dict[str, Path], folder: Path) -> list[str]:
    model = copied(good, folder, "nothing")
    settings = json.loads((model / "config.json").read_text())
    settings |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Model"}}
    (model / "config.json").write_text(json.dumps(settings))
    return [f"model={model}"]


def texts(**columns: Callable[[int], Any]) -> Callable[[dict[str, Path], Path], list[str]]:
    """Return what writes 40 rows whose columns are made by the row's number."""
    sentences = tiny.sentences(40)
    made: dict[str, Callable[[int], Any]] = {
        "text": lambda i: sentences[i][0], "label": lambda i: sentences[i][1], **columns
    }  # fmt: skip

    def write(good: dict[str, Path], folder: Path) -> list[str]:
        Dataset.from_dict({name: [make(i) for i in range(40)] for name, make in made.items()}).to_parquet(
            folder / "rows.parquet"
        )
        return [f"data.source={folder / 'rows.parquet'}"]

    return write


def always(*overrides: str) -> Callable[[dict[str, Path], Path], list[str]]:
    return lambda good, folder: list(overrides)


class Case(NamedTuple):
    """What is wrong, as overrides of a configuration that works; words of the message's three parts."""

    arrange: Callable[[dict[str, Path], Path], list[str]]
    wanted: str
    found: str
    action: str


WRONG = {
    # names and options
    "unknown task": Case(always("task=text-clasification"), "task", "'text-clasification'", "Did you mean 'text-cla"),
    "unknown method": Case(always("method.name=lorra"), "method.name", "'lorra'", "Did you mean 'lora'"),
    "option of TrainingArguments": Case(
        always("train.learning_rat=1"), "train.learning_rat", "TrainingArguments has no", "mean 'learning_rate'"
    ),
    "value of TrainingArguments": Case(always("train.optim=adamm"), "train.optim: wanted", "adamm", "Did you mean"),
    "option of peft": Case(
        always("method.name=lora", "method.lora_alpa=1"), "method.lora_alpa", "lora has no such", "mean 'lora_alpha'"
    ),
    "value of peft": Case(
        always("method.name=lora", "method.target_modules=[nothing]"),
        "modules it can adapt", "no module .*nothing", r"method.target_modules.*\(dense, key, query, value\)",
    ),
    "rank above the layer": Case(
        always("method.name=lora", "method.r=33"), "at most 32.*width of .*bert", "33", "Set method.r=32"
    ),
    "rank above the layer, dora": Case(
        always("method.name=dora", "method.r=64"), "at most 32.*width of .*bert", "64", "Set method.r=32"
    ),
    "rank above the layer, pissa": Case(always("method.name=pissa", "method.r=64"), "at most 32", "64", "Set method"),
    "rank above the layer, miss": Case(always("method.name=miss", "method.r=64"), "options that miss", "64", "Mend"),
    # models
    "no weights": Case(
        lambda good, folder: [f"model={copied(good, folder, '*.safetensors')}"],
        "folder with weights", "no .safetensors", "Use a folder",
    ),
    "pickled weights": Case(
        lambda good, folder: [f"model={pickled(good, folder)}"],
        "safetensors are needed", "pytorch_model.bin, a pickle", "allow_pickle=true",
    ),
    "no config.json": Case(
        lambda good, folder: [f"model={copied(good, folder, 'config.json')}"],
        "config.json", "model.safetensors", "Set model=",
    ),
    "no tokenizer": Case(
        lambda good, folder: [f"model={copied(good, folder, 'token*')}"],
        "needs a model with a tokenizer", "knows no words", "tokenizer's files",
    ),
    "no such folder": Case(always("model=./nothing"), "a folder or a Hub id", "not there", "Check the path"),
    "image model for texts": Case(
        lambda good, folder: [f"model={good['image model']}"], "text-classification needs", "'vit'", "Choose a model",
    ),
    "image model with a tokenizer": Case(
        lambda good, folder: [f"model={with_tokenizer(good, folder)}"],
        "text-classification needs", "'vit'", "Choose a model",
    ),
    "text model for images": Case(
        lambda good, folder: [IMAGES, f"model={good['text model']}", f"data.source={good['pictures']}"],
        "image-classification needs", "'bert'", "Choose a model",
    ),
    "no backbone": Case(
        lambda good, folder: [f"model={headless(good, folder)}"], "pretrained weights for Bert", "100%", "Choose",
    ),
    "code of its own": Case(remote_code, "part of transformers", "own.py", "choose another"),
    # data
    "no such column": Case(
        always("data.columns.text=sentense"), "must name a column", "'sentense'.* has text", "text, label|Choices"
    ),
    "one class": Case(texts(label=lambda i: "a"), "two classes", "'a'", "Add rows of another class"),
    "decimals for labels": Case(texts(label=lambda i: i / 7), "names", "decimals", "problem_type=regression"),
    "free text for labels": Case(
        texts(label=lambda i: f"text {i}"), "text-classification needs a label|classes that", "40 dist|label",
        "Add a column of labels",
    ),
    "texts that are null": Case(
        texts(text=lambda i: None if i % 4 else "good"), "usable rows", "30 of 40.*no text", "mend the data"
    ),
    "nothing but null": Case(texts(text=lambda i: None), "usable rows", "40 of 40.*no text", "mend the data"),
    "labels that are null": Case(
        texts(label=lambda i: None if i % 4 else "a"), "usable rows", "30 of 40.*no label", "mend the data"
    ),
    "empty file": Case(lambda good, folder: [rows(folder)], "rows are needed", "rows.csv is empty", "data.source"),
    "header alone": Case(
        lambda good, folder: [rows(folder, ("text", "label"))],
        "rows are needed", "rows.csv has none below the names", "Check it",
    ),
    "too few rows": Case(
        lambda good, folder: [rows(folder, ("text", "label"), ("good", "a"), ("bad", "b"))],
        "rows|classes", "2", "Add rows|Set data",
    ),
    "ragged rows": Case(
        lambda good, folder: [rows(folder, ("text", "label"), ("good", "a"), ("bad", "b", "c"))],
        "as many fields", "line 3 has 3", "quotes",
    ),
    "zip with paths outside": Case(unpackable, "one folder", "'../rows.csv' leads outside", "Do not trust"),
    "corrupt image": Case(corrupt, "every row of train", "1 of 24.*unreadable image.*000.png", "bad_rows=drop"),
    "unseen labels in test": Case(
        lambda good, folder: [
            rows(folder, ("text", "label"), ("good", "positive"), ("bad", "sarcastic"), name="new.csv").replace(
                "data.source", "data.test"
            )
        ],
        "labels of test", "sarcastic.*new.csv:1", "Mend the labels",
    ),
    "no such file": Case(always("data.source=./none.csv"), "a file, a folder", "no .*none.csv", "Check the path"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_run_refuses_what_is_wrong(name, good, train, tmp_path):
    case = WRONG[name]
    with pytest.raises(UserError) as refused:
        train(tree(good), *case.arrange(good, tmp_path))
    assert refused.value.exit_code == 2
    message = str(refused.value)
    for part in (case.wanted, case.found, case.action):
        assert re.search(part, message), (part, message)


@pytest.mark.parametrize("name", ["value of peft", "image model for texts", "one class", "corrupt image"])
def test_check_refuses_it_before_training_and_leaves_nothing(name, good, tmp_path):
    case = WRONG[name]
    overrides = case.arrange(good, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with Interruption() as interruption, pytest.raises(UserError, match=case.found):
        questions.check(catalog.build_config(config.override(tree(good), overrides)), interruption)
    assert sorted(tmp_path.rglob("*")) == before


def test_pickled_weights_train_when_they_are_allowed(good, train, tmp_path):
    run, _ = train(tree(good), f"model={pickled(good, tmp_path)}", "allow_pickle=true")
    assert [p.name for p in run.artifact.iterdir() if p.suffix in (".bin", ".safetensors")] == ["model.safetensors"]


def test_a_rank_of_the_layer_itself_is_allowed(good, train):
    run, _ = train(tree(good), "method.name=lora", "method.r=32", "train.max_steps=1")
    assert run.result()["method"] == "lora"


def test_one_lower_rank_for_the_narrow_layers(good, train):
    overrides = ["method.name=lora", "method.r=33", "method.target_modules=[query, value]", "train.max_steps=1"]
    run, _ = train(tree(good), *overrides, "method.rank_pattern={query: 4, value: 8}")
    assert run.result()["cost"]["steps"] == 1


def test_no_disk_space(good, train, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 10**5))
    with pytest.raises(UserError, match=r"disk space .* needed; about .* GB are free.*Free some, or set output="):
        train(tree(good))


def test_the_folder_of_a_finished_run(good, train):
    run, _ = train(tree(good), "train.max_steps=1")
    with pytest.raises(UserError, match=r"new output folder is needed; .*run holds a run .*set output=another/folder"):
        train(tree(good))
    assert run.result()["cost"]["steps"] == 1, "what was there is untouched"


def test_a_folder_with_something_else(good, train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"empty or new output folder.*something else.*Set output=another/folder"):
        train(tree(good))
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.txt"]


# --- through the command line ---


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one message of a command that ended with the user's mistake."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    messages = [line for line in done.stderr.splitlines() if line.startswith("hftransfer: ")]
    assert len(messages) == 1, done.stderr
    return messages[0]


@pytest.fixture
def written(good: dict[str, Path], tmp_path: Path) -> str:
    """A configuration file that works."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml_core.dump_yaml({**tree(good), "output": str(tmp_path / "run")}))
    return str(path)


def test_the_script_ends_with_2(written, tmp_path):
    message = said(command(str(SCRIPT), "--config", written, "data.columns.label=lable"))
    assert "data.columns.label must name a column; there is no column 'lable'" in message
    assert "Did you mean 'label'" in message
    status = Run(tmp_path / "run").status()
    assert status.state == "failed" and status.message in message


def test_the_command_line_ends_with_2(written, tmp_path):
    message = said(command("-m", "hftransfer.cli", "train", written, "method.name=lora", "method.r=500"))
    assert "method.r must be at most 32" in message and "Set method.r=32" in message


def test_every_mistake_of_a_configuration_at_once(written, tmp_path):
    done = command("-m", "hftransfer.cli", "check", written, "task=text", "train.epochs=1", "method.name=lorra")
    assert "3 problems" in said(done)
    assert all(name in done.stderr for name in ("task: no task 'text'", "train.epochs", "method.name: no method"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("named", ["model=nobody/some-model", "data.source=nobody/some-rows"])
def test_no_network_for_a_hub_id(named, written, tmp_path):
    """A Hub that refuses connections is given up within seconds, with a way out."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    began = time.perf_counter()
    done = command(
        str(SCRIPT), "--config", written, named,
        HF_ENDPOINT=f"http://127.0.0.1:{port}", HF_HUB_OFFLINE="", HF_DATASETS_OFFLINE="", NO_PROXY="127.0.0.1",
    )  # fmt: skip
    message = said(done)
    assert time.perf_counter() - began < 20
    assert "the Hub cannot be reached" in message and "local f" in message and "sample" in message
