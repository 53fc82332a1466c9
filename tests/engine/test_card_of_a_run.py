"""The card of a real run: its snippets run, its plots are there, and its figures are those of result.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hftransfer import catalog
from hftransfer.card import report
from tests import tiny


def code_blocks(body: str) -> list[str]:
    return [token.content for token in MarkdownIt().parse(body) if token.type == "fence" and token.info == "python"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.text_model(tmp_path_factory.mktemp("models") / "bert")


def test_the_snippets_of_an_adapter_run(train, bert, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tiny.text_csv(tmp_path / "rows.csv", 80)
    tree = {
        "task": "text-classification",
        "model": str(bert),
        "data": {"source": str(source)},
        "method": {"name": "lora"},
    }
    run, result = train(tree, "method.r=4", "train.max_steps=4")
    body = report.render(result, catalog.read_config(run.folder / "config.yaml"), repo=str(run.artifact))
    with_transformers, with_hftransfer, with_peft = code_blocks(body)
    exec(with_transformers, {})
    assert "'label': 'negative'" in (said := capsys.readouterr().out) or "'label': 'positive'" in said
    exec(with_hftransfer, {})
    assert "'scores': {" in capsys.readouterr().out

    names: dict[str, Any] = {}
    exec(
        with_peft.replace('"bert"', repr(str(bert))), names
    )  # the author's folder: the card names its last part alone
    inputs = AutoTokenizer.from_pretrained(run.artifact)("the film was good", return_tensors="pt")
    whole = AutoModelForSequenceClassification.from_pretrained(run.artifact)
    with torch.no_grad():
        logits = [model.eval()(**inputs).logits.numpy() for model in (names["model"], whole)]
    assert np.allclose(*logits, atol=1e-5)


def test_the_card_of_a_run_says_what_its_result_says(train, bert, tmp_path: Path) -> None:
    rows = [*tiny.sentences(60), *tiny.sentences(60)]  # every row twice: some twins are cut apart
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    tree = {"task": "text-classification", "model": str(bert), "data": {"source": str(source), "max_length": 6}}
    run, result = train(tree, "train.max_steps=4")
    text = (run.artifact / report.NAME).read_text(encoding="utf-8")
    assert f"| `accuracy` | {result['test']['metrics']['accuracy']['value']:.3f} |" in text
    assert result["data"]["fingerprint"] in text and str(tmp_path) not in text
    assert re.search(r"\nLeakage:\n\n- leakage: \d+ of 12 validation rows .* also stand in train", text)
    assert re.search(r"\nTruncation:\n\n- train: .* were cut at 6 tokens", text)
    plots = re.findall(r"!\[.*\]\((.*)\)", text)
    assert plots == ["plots/confusion_matrix.png", "plots/reliability.png"]
    assert all((run.artifact / name).is_file() for name in plots)
