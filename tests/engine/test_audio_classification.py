"""A task that hears: every architecture learns, answers as transformers' own pipeline does, and repeats itself."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers

from hftransfer import config
from hftransfer.errors import UserError
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.modeling import inference
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from hftransfer.training import set_scene
from tests import tiny_heard
from tests.engine import accumulation
from tests.engine.conftest import QUICK
from tests.engine.test_resume import resume, same_weights, start

QUIET = {"label_issues": False, "likely_copies": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("heard")
    tiny_heard.class_folder(found / "rows", 48)
    return found


def tree(folder: Path, architecture: str = "wav2vec2", **changes: Any) -> dict[str, Any]:
    model = folder / architecture
    if not model.is_dir():
        tiny_heard.heard_model(model, architecture)
    return {
        "task": "audio-classification", "model": str(model), "data": {"source": str(folder / "rows"), **QUIET},
        "train": {"learning_rate": 5e-3}, **changes,
    }  # fmt: skip


def asked_by_strangers(run: Run, paths: list[Path]) -> float:
    """Return how far the Predictor and pipeline() are apart."""
    predictor = Predictor(run.artifact)
    pipeline = transformers.pipeline("audio-classification", str(run.artifact))
    rows = [predictor.task.row(str(path)) for path in paths]
    ours = [predictor.answered.plainly(row, one) for row, one in zip(rows, predictor.ask(rows), strict=True)]
    theirs = [predictor.task.ask_pipeline(pipeline, predictor.opened(row), None) for row in rows]
    return max(predictor.answered.distance(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("architecture, method", [
    *((name, "full") for name in tiny_heard.ARCHITECTURES), ("wav2vec2", "lora"), ("whisper", "lora"),
    ("wav2vec2", "probe"), ("whisper", "probe"), ("hubert", "probe"), ("ast", "probe"),
])  # fmt: skip
def test_every_architecture_learns_and_answers_strangers(architecture, method, folder, train):
    run, result = train(tree(folder, architecture, method={"name": method}), "train.num_train_epochs=1")
    assert np.isfinite(result["test"]["metrics"]["accuracy"]["value"])
    paths = sorted((folder / "rows").rglob("*.wav"))[::9]  # of unlike length
    assert asked_by_strangers(run, paths) < 1e-4
    if method == "probe":
        assert result["test"]["metrics"]["accuracy"]["value"] > 0.8


def test_several_labels(tmp_path, folder, train):
    rng = np.random.default_rng(0)
    (tmp_path / "rows").mkdir()
    lines = ["file_name,labels"]
    for number in range(40):
        words = [str(word) for word in rng.permutation(list(tiny_heard.WORDS))[: rng.integers(1, 4)]]
        soundfile.write(tmp_path / "rows" / f"{number}.wav", tiny_heard.speech(words, number), tiny_heard.RATE)
        lines.append(f"{number}.wav,{'|'.join(words)}")
    (tmp_path / "rows" / "metadata.csv").write_text("\n".join(lines) + "\n")
    data = {"source": str(tmp_path / "rows"), "label_separator": "|", **QUIET}
    run, result = train(tree(folder, data=data))
    assert result["answer"]["kind"] == "multi_label" and result["answer"]["names"] == ["high", "low", "middle"]
    assert asked_by_strangers(run, sorted((tmp_path / "rows").glob("*.wav"))[:4]) < 1e-4


def scene(folder: Path, tmp_path: Path, *overrides: str, architecture: str = "wav2vec2", **changes: Any) -> Any:
    from hftransfer import catalog

    built = catalog.build_config(config.override({**QUICK, **tree(folder, architecture, **changes)}, overrides))
    with Interruption() as interruption:
        return set_scene(built, Run.create(built, tmp_path / "run"), interruption, resume=False)


@pytest.mark.parametrize("architecture", ["wav2vec2", "wav2vec2-group"])
def test_an_answer_does_not_depend_on_its_batch(architecture, folder, tmp_path):
    found = scene(folder, tmp_path, architecture=architecture)
    setup, model = found.setup, found.loaded.model
    prepared = setup.prepared["test"]
    assert len(set(prepared.lengths)) > 1 and prepared.mixed == (architecture == "wav2vec2")
    together = inference.ask(setup.answer, model, prepared, setup.asking, setup.processor, 8)
    alone = inference.ask(setup.answer, model, prepared, setup.asking, setup.processor, 1)
    assert np.allclose(together, alone, atol=1e-5)


def test_four_batches_of_four_are_one_of_sixteen(folder, tmp_path):
    found = scene(folder, tmp_path)
    setup, model = found.setup, found.loaded.model.eval()
    items = setup.prepared["train"].items(range(16))
    grown = []
    for size in (16, 4):
        model.zero_grad()
        total = 0.0
        for first in range(0, 16, size):
            batch = setup.collator(items[first : first + size])
            labels = batch.pop("labels")
            loss = setup.answer.loss()(model(**batch), labels, torch.tensor(16))
            loss.backward()
            total += loss.item()
        grown.append((total, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])))
    assert grown[0][0] == pytest.approx(grown[1][0], rel=1e-5)
    assert torch.allclose(grown[0][1], grown[1][1], atol=1e-6)


@pytest.mark.parametrize("architecture", ["whisper", "wav2vec2", "ast"])
def test_an_update_of_four_batches_is_one_of_sixteen(architecture, tmp_path, train):
    """Through Trainer, which multiplies the loss of such heads by the number of batches."""
    rows = tiny_heard.class_folder(tmp_path / "rows", 40)
    place = tiny_heard.heard_model(tmp_path / "model", architecture)
    tree = {
        "task": "audio-classification",
        "model": str(accumulation.still(place)),
        "data": {"source": str(rows), **QUIET, "augmentation": False},
    }
    accumulation.require_exact(train, tree)


def test_a_stopped_run_ends_with_the_very_same_weights(folder, tmp_path):
    rows = tree(folder, train={"learning_rate": 1e-3, "per_device_train_batch_size": 8})  # changed at random by row
    whole = start(rows, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start(rows, tmp_path / "stopped", steps=3)
    stopped = Run(tmp_path / "stopped")
    resume(stopped)
    same_weights(whole, stopped)


@pytest.mark.parametrize("method, data", [("few_shot", {}), ("probe", {"augmentation": False})])
def test_few_labels_and_recordings_without(method, data, folder, tmp_path, train):
    more = tmp_path / "more"
    more.mkdir()
    for number, word in enumerate([*tiny_heard.WORDS] * 4):
        soundfile.write(more / f"{number}.wav", tiny_heard.speech([word], 100 + number), tiny_heard.RATE)
    given = {"source": str(folder / "rows"), "unlabelled": str(more), **data, **QUIET}
    run, result = train(tree(folder, data=given, method={"name": method}))
    assert result["self_training"]["rows"] == 12 and result["test"]["metrics"]["accuracy"]["value"] > 0.8
    assert asked_by_strangers(run, sorted(more.iterdir())[:3]) < 1e-4


def test_what_is_too_long_is_cut_and_said(folder, tmp_path, train):
    said = scene(folder, tmp_path / "looked", "data.max_seconds=0.2").warnings
    assert any("were cut: they lasted longer than 0.2 s; data.max_seconds sets the limit" in one for one in said)
    run, _ = train(tree(folder), "data.max_seconds=0.2", "train.num_train_epochs=1")
    assert Predictor(run.artifact).preparation.config.max_seconds == 0.2
    assert asked_by_strangers(run, sorted((folder / "rows").rglob("*.wav"))[:3]) < 1e-4
    with pytest.raises(UserError, match=r"max_seconds must be at most 1 for this model.*Set data.max_seconds=1"):
        scene(folder, tmp_path / "more", "data.max_seconds=5", architecture="whisper")


def test_augmentation_follows_the_epoch_and_no_other_row(folder, tmp_path):
    found = scene(folder, tmp_path)
    lazy = found.setup.prepared["train"].dataset

    def values(epoch: int, places: list[int]) -> list[torch.Tensor]:
        lazy.set_epoch(epoch)
        return [item["input_values"] for item in lazy.__getitems__(places)]

    one, other = values(0, [3, 5]), values(1, [3, 5])
    assert torch.equal(one[1], values(0, [5])[0]) and not torch.equal(one[1], other[1])
    still = found.setup.prepared["test"].dataset
    assert torch.equal(still[2]["input_values"], still[2]["input_values"])


def test_speakers_stay_on_one_side_and_are_resampled(tmp_path, folder, train):
    rows = tiny_heard.spoken_folder(tmp_path / "spoken", 48)
    data = {"source": str(rows), "columns": {"label": "first"}, "group": "speaker", **QUIET}
    lines = [json.loads(line) for line in (rows / "metadata.jsonl").read_text().splitlines()]
    lines = [{**line, "first": line["text"].split()[0]} for line in lines]
    (rows / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = train(tree(folder, data=data), "train.num_train_epochs=1")[1]
    assert any("whole groups of `speaker`" in one for one in result["data"]["warnings"])


def test_the_processor_of_another_kind_is_refused(folder, tmp_path):
    from tests import tiny

    model = tiny.text_model(tmp_path / "bert")
    with pytest.raises(UserError, match="audio-classification needs a model") as caught:
        scene(folder, tmp_path, f"model={model}")
    assert caught.value.exit_code == 2


def test_no_soundfile_is_said(monkeypatch, folder, tmp_path):
    import builtins

    own = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "soundfile":
            raise ImportError("no soundfile")
        return own(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"soundfile.*pip install 'hftransfer-learning\[audio\]'"):
        scene(folder, tmp_path)


def test_features_pool_over_what_is_heard(folder, tmp_path):
    """The mean of places leaves out what a batch is filled up with."""
    from hftransfer.frozen import features

    found = scene(folder, tmp_path)
    one = features.of_first_rows(found.setup, found.loaded, "test", 4)
    rows = found.data.splits["test"].select([1])
    setup = dataclasses.replace(found.setup, rows={**found.setup.rows, "test": rows})
    alone = features.of_first_rows(setup, found.loaded, "test", 1)
    assert np.allclose(one["mean"][1], alone["mean"][0], atol=1e-5)


def test_spectra_are_made_in_full_where_the_model_answers_in_half(folder, tmp_path, monkeypatch):
    """Whisper's are made by torch, which autocast reaches."""
    from hftransfer.fitting import precision
    from hftransfer.frozen import features

    found = scene(folder, tmp_path, architecture="whisper")
    exact = features.extract(found.setup, found.loaded, "test", exact=True)
    monkeypatch.setattr(precision, "quick_bf16", lambda: True)
    half = features.extract(found.setup, found.loaded, "test")
    assert half.pooled["mean"].dtype == np.float32 and np.allclose(half.pooled["mean"], exact.pooled["mean"], atol=0.1)


def test_features_are_kept_by_how_much_of_a_recording_is_shown(folder, tmp_path):
    from hftransfer.frozen import features

    found = scene(folder, tmp_path)

    def shown(**changes: Any) -> Path:
        section = found.setup.config.data.model_copy(update=changes)
        setup = dataclasses.replace(found.setup, config=found.setup.config.model_copy(update={"data": section}))
        return features.place(setup, found.loaded, "test", False, ["classifier"])

    assert shown() == shown(max_rows=7) and shown() != shown(max_seconds=0.1) != shown(max_seconds=0.2)
