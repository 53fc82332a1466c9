"""How long an input is read by default: by the rows' own lengths, told with its price, saved with the model."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import transformers

from hftransfer import artifact
from hftransfer.frozen import out_of_fold
from hftransfer.modeling import lengths
from hftransfer.predictor import Predictor
from tests import tiny

LONG = 1024  # tokens that the model of these tests reads


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny model of 1,024 places, and rows of which one in twenty has 700 words and one 3,000."""
    folder = tmp_path_factory.mktemp("long")
    settings = transformers.BertConfig(**{**tiny.SMALL, "max_position_embeddings": LONG, "pad_token_id": 0})
    transformers.AutoModel.from_config(settings).save_pretrained(folder / "model")
    reader = tiny.tokenizer()
    reader.model_max_length = LONG
    reader.save_pretrained(folder / "model")
    rows = tiny.sentences(60)
    with open(folder / "rows.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number, (text, label) in enumerate(rows):
            more = 3000 if number == 0 else 700 if number % 20 == 1 else 5
            writer.writerow([f"{text} {'the film ' * (more // 2)}", label])
    return folder


def tree(made, **data):
    return {
        "task": "text-classification",
        "model": str(made / "model"),
        "data": {"source": str(made / "rows.csv"), "label_issues": False, "likely_copies": False, **data},
        "train": {"max_steps": 2, "per_device_train_batch_size": 4},
    }


def told(run, words):
    return [e["message"] for e in run.events()[0] if e["type"] == "notice" and words in e["message"]]


def test_rows_decide_and_the_price_is_told(made, train):
    run, result = train(tree(made))
    (reason,) = told(run, "inputs are read up to")
    assert f"of {LONG:,} that the model can" in reason and "set data.max_length=512" in reason
    assert 512 < result["max_length"] <= LONG and result["max_length"] % lengths.STEP == 0
    notes = json.loads((run.artifact / artifact.NOTES).read_text())
    assert notes["max_length"] == result["max_length"]
    long = " ".join(["the film"] * 400) + " good"
    predictor = Predictor(run.artifact)
    assert predictor.answer([long]) != predictor.answer([" ".join(long.split()[:600])])  # read beyond 512


def test_short_rows_and_small_models_are_read_as_ever(made, train, tmp_path):
    run, result = train(
        tree(made) | {"data": {**tree(made)["data"], "source": str(tiny.text_csv(tmp_path / "r.csv"))}}
    )
    assert result["max_length"] == 512 and not told(run, "inputs are read")
    run, result = train(tree(made, max_length=100), name="asked")
    assert result["max_length"] == 100 and not told(run, "inputs are read")


def test_a_stream_is_told_by_its_first_rows(made, train):
    run, result = train(tree(made, streaming=True))
    (reason,) = told(run, "inputs are read up to")
    assert "the first" in reason and "of the stream" in reason and result["max_length"] > 512


def test_a_resume_cuts_where_its_run_did(tmp_path):
    from hftransfer.runs import Run

    (tmp_path / "events.jsonl").write_text('{"type": "lengths", "time": 1, "tokens": 704}\n')
    assert lengths.of_earlier(Run(tmp_path)) == 704
    (tmp_path / "events.jsonl").write_text('{"type": "data", "time": 1}\n')
    assert lengths.of_earlier(Run(tmp_path)) is None


@pytest.mark.parametrize(("tokens", "rows"), [(20, 10_000), (500, 1000), (5000, 200), (None, 10_000)])
def test_a_look_reads_so_many_tokens(tokens, rows):
    class Split:
        lengths = None if tokens is None else np.full(50_000, tokens)

    class Setup:
        prepared = {"train": Split}  # noqa: RUF012

    assert out_of_fold.affordable(Setup, 10_000) == rows


def test_what_was_not_looked_at_is_said(made, train, monkeypatch):
    monkeypatch.setattr(out_of_fold, "FEWEST_ROWS", 20)
    monkeypatch.setattr(out_of_fold, "MOST_TOKENS", 2000)
    run, result = train(tree(made, label_issues=True))
    looked = result["data"]["label_issues"]["looked"]
    assert 20 <= looked < result["data"]["splits"]["train"]
    assert told(run, f"among {looked} of ")
