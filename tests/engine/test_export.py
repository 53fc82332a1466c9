"""Models as ONNX: the answers of the trained one by onnxruntime, the same by transformers.js in Node, and refusals."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hftransfer import cli
from hftransfer.artifact import onnx_of
from hftransfer.card import report
from hftransfer.errors import UserError
from hftransfer.hub import exporting, publishing
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from tests import tiny, tiny_heard, tiny_pairs, tiny_spans, tiny_written
from tests.engine.conftest import QUICK
from tests.engine.trained import trained
from tests.engine.trained import tree as text_tree

onnx = pytest.importorskip("hftransfer.export.onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.slow

NODE = Path(__file__).parents[1] / "node"
WHY_NO_NODE = "no Node with transformers.js: npm install --ignore-scripts --prefix tests/node"
ASK = """
import {{ env, pipeline }} from "@huggingface/transformers";
env.allowRemoteModels = false;
env.localModelPath = {folder};
const found = [];
for (const dtype of ["fp32", "q8"]) {{
  const ask = await pipeline({task}, "artifact", {{ dtype }});
  const answer = await ask({asked});
  found.push(answer.tolist ? answer.tolist() : answer);
}}
console.log(JSON.stringify(found));
"""


def in_node(folder: Path, task: str, asked: str) -> list[Any]:
    """Return what transformers.js answers with a model's folder, by its whole and its 8-bit weights."""
    if shutil.which("node") is None or not (NODE / "node_modules" / "@huggingface" / "transformers").is_dir():
        pytest.skip(WHY_NO_NODE)
    script = NODE / f"ask-{folder.parent.name}-{task}.mjs"  # beside node_modules, where Node looks for packages
    try:
        script.write_text(ASK.format(folder=json.dumps(str(folder.parent)), task=json.dumps(task), asked=asked))
        done = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=120)
    finally:
        script.unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Train a tiny text classifier and export it."""
    folder = tmp_path_factory.mktemp("texts")
    run = trained(folder, "run", text_tree(folder))
    onnx.export(run)
    return run


def test_texts_of_any_number_and_length_are_answered_alike(texts: Run) -> None:
    found = onnx_of(texts.artifact)
    assert found["largest_difference"] < 1e-4 and found["rows"] == 32
    assert set(found["files"]) == {"model.onnx", "model_quantized.onnx"}
    assert found["files"]["model_quantized.onnx"] < found["files"]["model.onnx"]
    small = found["quantized"]
    assert small["n"] == texts.result()["test"]["n"] and small["low"] <= small["value"] <= small["high"]
    assert small["whole"] == pytest.approx(texts.result()["test"]["metrics"]["accuracy"]["value"])

    predictor = Predictor(texts.artifact)
    rows = [{"text": "good"}, {"text": "the film was bad, bad and very bad from the beginning to the end"}]
    wanted = predictor.ask(rows)
    predictor.model = onnx.Runtime(texts.artifact / "onnx" / "model.onnx", predictor.model)
    np.testing.assert_allclose(predictor.ask(rows), wanted, atol=1e-5)


def test_transformers_js_answers_texts_alike(texts: Run) -> None:
    predictor = Predictor(texts.artifact)
    text = "the film was good"
    whole, small = in_node(texts.artifact, "text-classification", f'"{text}", {{ top_k: null }}')
    wanted = dict(zip(predictor.answered.names, predictor.ask([{"text": text}])[0], strict=True))
    assert {one["label"]: one["score"] for one in whole} == pytest.approx(wanted, abs=1e-4)
    assert {one["label"] for one in small} == set(wanted)


def test_the_card_has_the_lines_and_the_files_are_published(texts: Run) -> None:
    files = publishing.contents(texts, "me/mine")
    assert {"onnx/model.onnx", "onnx/model_quantized.onnx", "onnx/report.json"} <= set(files)
    card = files["README.md"].decode()  # type: ignore[union-attr]
    assert 'await pipeline("text-classification", "me/mine", { dtype: "fp32" });' in card and "8 bits a weight" in card
    assert "onnx" not in report.render(texts.result(), texts.config(), repo="me/mine")


def test_an_export_that_answers_otherwise_is_refused_and_leaves_nothing(
    texts: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(path.name for path in texts.artifact.iterdir())
    whole = texts.artifact / "onnx" / "model.onnx"
    monkeypatch.setattr(onnx, "write", lambda model, inputs, outputs, path: shutil.copy(whole, path))
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="answers as PyTorch does"):
        onnx.export(texts)
    assert sorted(path.name for path in texts.artifact.iterdir()) == before


def test_pictures(tmp_path: Path) -> None:
    tree = {
        **QUICK, "task": "image-classification", "model": str(tiny.image_model(tmp_path / "base")),
        "data": {"source": str(tiny.image_folder(tmp_path / "pictures", 16))},
    }  # fmt: skip
    run = trained(tmp_path, "run", tree, max_steps=2)
    found = onnx.export(run)
    assert found["largest_difference"] < 1e-4 and found["quantized"]["n"] == run.result()["test"]["n"]
    picture = next((tmp_path / "pictures").rglob("*.png"))
    whole, _ = in_node(run.artifact, "image-classification", f"{json.dumps(str(picture))}, {{ top_k: 5 }}")
    predictor = Predictor(run.artifact)
    scores = predictor.ask([predictor.task.row(str(picture))])[0]
    wanted = dict(zip(predictor.answered.names, scores, strict=True))
    # its resize of pictures is another library's
    assert {one["label"]: one["score"] for one in whole} == pytest.approx(wanted, abs=0.05)


def test_tags(tmp_path: Path) -> None:
    tree = {
        **QUICK, "task": "token-classification", "model": str(tiny.text_model(tmp_path / "base")),
        "data": {"source": str(tiny.token_jsonl(tmp_path / "rows.jsonl", 40))},
    }  # fmt: skip
    run = trained(tmp_path, "run", tree, max_steps=2)
    assert onnx.export(run)["largest_difference"] < 1e-4
    whole, _ = in_node(run.artifact, "token-classification", '"the film was good", { ignore_labels: [] }')
    names = Predictor(run.artifact).answered.names
    assert whole and all(one["entity"] in names for one in whole)


def test_vectors_for_retrieval(tmp_path: Path) -> None:
    tree = {
        **QUICK, "task": "sentence-similarity", "model": str(tiny_pairs.model(tmp_path / "base")),
        "data": {"source": str(tiny_pairs.jsonl(tmp_path / "rows.jsonl", 60))},
    }  # fmt: skip
    run = trained(tmp_path, "run", tree, max_steps=2)
    found = onnx.export(run)
    assert found["outputs"] == ["last_hidden_state"] and found["largest_difference"] < 1e-4
    predictor = Predictor(run.artifact)
    text = "a text"
    whole, _ = in_node(run.artifact, "feature-extraction", f'"{text}", {{ pooling: "mean", normalize: true }}')
    np.testing.assert_allclose(whole[0], predictor.ask([{"anchor": text}])[0].vector, atol=1e-4)


@pytest.mark.parametrize("what", ["a span", "a label of a recording", "what is said"])
def test_other_models_that_answer_in_one_pass(what: str, tmp_path: Path) -> None:
    trees: dict[str, Any] = {
        "a span": ("question-answering", tiny_spans.model, tiny_spans.jsonl, ["start_logits", "end_logits"]),
        "a label of a recording": (
            "audio-classification",
            tiny_heard.heard_model,
            tiny_heard.class_folder,
            ["logits"],
        ),
        "what is said": ("automatic-speech-recognition", tiny_heard.heard_model, tiny_heard.spoken_folder, ["logits"]),
    }
    task, model, rows, outputs = trees[what]
    source = str(rows(tmp_path / "rows.jsonl" if rows is tiny_spans.jsonl else tmp_path / "rows", 24))
    tree = {**QUICK, "task": task, "model": str(model(tmp_path / "base")), "data": {"source": source}}
    found = onnx.export(trained(tmp_path, "run", tree, max_steps=1))
    assert found["outputs"] == outputs and found["largest_difference"] < 1e-4
    assert found["quantized"]["n"] >= 3 and found["quantized"]["whole"] is not None


def test_a_whisper_in_two_parts_writes_the_same_in_node(tmp_path: Path) -> None:
    tree = {
        **QUICK, "task": "automatic-speech-recognition", "model": str(tiny_heard.whisper(tmp_path / "base")),
        "data": {"source": str(tiny_heard.spoken_folder(tmp_path / "rows", 24))},
    }  # fmt: skip
    run = trained(tmp_path, "run", tree, max_steps=4, learning_rate=1e-2)
    found = onnx.export(run)
    assert found["largest_difference"] < 1e-4
    assert set(found["files"]) == {
        f"{part}{kind}.onnx" for part in ("encoder_model", "decoder_model_merged") for kind in ("", "_quantized")
    }
    assert found["quantized"]["n"] == run.result()["test"]["n"] and found["quantized"]["metric"] == "wer"
    assert "encoder_model.onnx" in report.render({**run.result(), "onnx": found}, run.config(), repo="me/mine")
    predictor = Predictor(run.artifact)
    heard = tiny_heard.speech(["low", "high"])
    path = tmp_path / "one.wav"
    soundfile.write(path, heard, tiny_heard.RATE)
    whole, _ = in_node(run.artifact, predictor.task.browser, f"new Float32Array({json.dumps(heard.tolist())})")
    wanted = predictor.answer([str(path)])[0]["text"]
    assert wanted and whole["text"].strip() == wanted


def test_models_that_write_are_refused_and_published_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = {
        **QUICK, "task": "translation", "model": str(tiny_written.written_model(tmp_path / "base")),
        "data": {"source": str(tiny_written.pairs_jsonl(tmp_path / "rows.jsonl", 40))}, "hub": {"onnx": True},
    }  # fmt: skip
    run = trained(tmp_path, "run", tree, max_steps=1)
    assert cli.main(["export", str(run.folder)]) == 2
    assert "written token by token" in capsys.readouterr().err
    said: list[dict[str, Any]] = []
    exporting.add(run, "me/mine", lambda type, **fields: said.append({"type": type, **fields}))
    assert [one["type"] for one in said] == ["publishing", "warning"]
    assert said[1]["message"].startswith("published without ONNX: a model that answers in one pass, or a Whisper")
