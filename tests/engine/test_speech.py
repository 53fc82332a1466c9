"""Transcripts: by a decoder and place by place, of every family, scored raw and normalised, asked as strangers do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from rapidfuzz.distance import Levenshtein
from safetensors.numpy import load_file

from hftransfer import answers, catalog, config
from hftransfer.answers import _ctc
from hftransfer.answers._prose import Generated
from hftransfer.answers.transcript import Transcript
from hftransfer.errors import UserError
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.modeling import inference, short_clips
from hftransfer.modeling.batches import collator
from hftransfer.predictor import Predictor, task_of
from hftransfer.runs import Run
from hftransfer.training import set_scene
from tests import tiny, tiny_heard
from tests.engine import accumulation
from tests.engine.conftest import QUICK
from tests.engine.test_resume import resume, same_weights, start

FRENCH = {"source_language": "fr"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("spoken")
    tiny_heard.spoken_folder(found / "rows", 60)
    return found


def model(folder: Path, architecture: str) -> Path:
    place = folder / architecture
    if not place.is_dir():
        if architecture.startswith("whisper"):
            tiny_heard.whisper(place, architecture == "whisper-all")
        else:
            tiny_heard.heard_model(place, architecture)
    return place


def tree(folder: Path, architecture: str = "whisper", **data: Any) -> dict[str, Any]:
    return {
        "task": "automatic-speech-recognition", "model": str(model(folder, architecture)),
        "data": {"source": str(folder / "rows"), **data}, "train": {"learning_rate": 5e-3},
    }  # fmt: skip


def scene(folder: Path, tmp_path: Path, *overrides: str, architecture: str = "whisper", **data: Any) -> Any:
    built = catalog.build_config(config.override({**QUICK, **tree(folder, architecture, **data)}, overrides))
    with Interruption() as interruption:
        return set_scene(built, Run.create(built, tmp_path / "looked"), interruption, resume=False)


def both(run: Run, paths: list[Path]) -> tuple[list[str], list[str]]:
    """Return what the Predictor and pipeline() write."""
    predictor = Predictor(run.artifact)
    pipeline = transformers.pipeline("automatic-speech-recognition", str(run.artifact))
    rows = [predictor.task.row(str(path)) for path in paths]
    theirs = [predictor.task.ask_pipeline(pipeline, predictor.opened(row), None) for row in rows]
    return [one["text"] for one in predictor([str(path) for path in paths])], [one["text"] for one in theirs if one]


@pytest.mark.parametrize("architecture, method, data", [
    ("whisper", "full", {}), ("whisper", "lora", {}), ("whisper-all", "full", FRENCH), ("wav2vec2", "full", {}),
    ("wav2vec2-group", "full", {}), ("hubert", "lora", {}), ("wav2vec2-bert", "full", {}),
])  # fmt: skip
def test_every_family_is_trained_and_asked_by_strangers(architecture, method, data, folder, train):
    run, result = train({**tree(folder, architecture, **data), "method": {"name": method}})
    ours, theirs = both(run, sorted((folder / "rows").glob("*.flac"))[::12])
    assert ours == theirs
    assert result["answer"]["kind"] == "transcript" and result["baseline"]["name"] == "most common text"
    assert result["baseline"]["metrics"]["wer"]["value"] < 1.0
    assert set(result["test"]["metrics"]) >= {"wer", "cer", "wer_normalized", "cer_normalized", "perplexity"}
    assert "TextNormalizer" in result["signatures"]["wer_normalized"]
    assert task_of(run.artifact, "it") == "automatic-speech-recognition"
    if architecture.startswith("whisper"):
        saved = json.loads((run.artifact / "generation_config.json").read_text())
        assert saved["num_beams"] == 1  # pipeline() would take 5
        assert (saved.get("language"), saved.get("task")) == (("fr", "transcribe") if data else (None, None))


def test_a_recogniser_learns(folder, train):
    rows = {"train": {"learning_rate": 5e-3, "num_train_epochs": 25, "eval_strategy": "no", "save_strategy": "no"}}
    _, result = train({**tree(folder, augmentation=False), **rows})
    score = result["test"]["metrics"]["wer"]
    assert score["value"] < result["baseline"]["metrics"]["wer"]["value"]


def test_the_model_as_it_is_is_measured(folder, train):
    _, result = train({**tree(folder), "method": {"name": "zero_shot"}})
    assert result["cost"]["trainable_parameters"] == 0 and np.isfinite(result["test"]["metrics"]["wer"]["value"])
    with pytest.raises(UserError, match="a model that was trained to give such answers"):
        train({**tree(folder, "wav2vec2"), "method": {"name": "zero_shot"}}, name="new")


@pytest.mark.parametrize("architecture", ["whisper", "wav2vec2"])
def test_four_batches_of_four_are_one_of_sixteen(architecture, folder, tmp_path):
    found = scene(folder, tmp_path, architecture=architecture)
    setup, asked = found.setup, found.loaded.model.eval()
    items, grown = setup.prepared["train"].items(range(16)), []
    counted = sum(len(item["labels"]) for item in items)
    for size in (16, 4):
        asked.zero_grad()
        total = 0.0
        for first in range(0, 16, size):
            batch = setup.collator(items[first : first + size])
            labels = batch.pop("labels")
            loss = setup.answer.loss()(asked(**batch), labels, torch.tensor(counted))
            loss.backward()
            total += loss.item()
        grown.append((total, torch.cat([p.grad.flatten() for p in asked.parameters() if p.grad is not None])))
    assert grown[0][0] == pytest.approx(grown[1][0], rel=1e-5)
    assert torch.allclose(grown[0][1], grown[1][1], atol=1e-5)


@pytest.mark.parametrize("architecture", ["whisper", "wav2vec2"])
def test_an_update_of_four_batches_is_one_of_sixteen(architecture, tmp_path, train):
    """Through Trainer, which multiplies the loss of such heads by the number of batches."""
    rows = tiny_heard.spoken_folder(tmp_path / "rows", 40)
    place = (
        tiny_heard.whisper(tmp_path / "model")
        if architecture == "whisper"
        else tiny_heard.heard_model(tmp_path / "model", architecture)
    )
    tree = {
        "task": "automatic-speech-recognition",
        "model": str(accumulation.still(place)),
        "data": {"source": str(rows), "augmentation": False},
    }
    accumulation.require_exact(train, tree)


# --- place by place ---


def test_the_loss_is_that_of_transformers(folder, tmp_path):
    found = scene(folder, tmp_path, architecture="wav2vec2")
    setup, asked = found.setup, found.loaded.model.eval()
    batch = setup.collator(setup.prepared["train"].items(range(8)))
    labels = batch.pop("labels")
    asked.config.ctc_loss_reduction = "sum"
    with torch.no_grad():
        theirs = transformers.Wav2Vec2ForCTC.forward(asked, **batch, labels=labels)["loss"]
        ours = setup.answer.loss()(asked(**batch), labels, torch.tensor(1))
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("architecture", ["wav2vec2", "wav2vec2-group", "whisper"])
def test_a_transcript_does_not_depend_on_its_batch(architecture, folder, tmp_path):
    found = scene(folder, tmp_path, architecture=architecture)
    setup = found.setup
    outputs = [
        inference.ask(setup.answer, found.loaded.model, setup.prepared["test"], setup.asking, setup.processor, size)
        for size in (8, 1)
    ]
    assert [one.text for one in outputs[0]] == [one.text for one in outputs[1]]
    assert np.allclose([one.nll for one in outputs[0]], [one.nll for one in outputs[1]], rtol=1e-4)


def test_the_vocabulary_is_made_of_transcripts_unless_the_model_has_one(folder, tmp_path, train):
    run, _ = train(tree(folder, "wav2vec2"), "train.num_train_epochs=1", name="first")
    vocabulary = json.loads((run.artifact / "vocab.json").read_text())
    assert set("lowmidehg") <= set(vocabulary) and {"[PAD]", "[UNK]", "|"} <= set(vocabulary)
    again = scene(folder, tmp_path, f"model={run.artifact}", architecture="wav2vec2")
    assert not again.loaded.fresh and again.setup.answer.blank == vocabulary["[PAD]"]
    more = tmp_path / "more"
    tiny_heard.spoken_folder(more, 30)
    text = (more / "metadata.jsonl").read_text().replace("high", "tall")
    (more / "metadata.jsonl").write_text(text)
    new = scene(folder, tmp_path / "new", f"model={run.artifact}", f"data.source={more}", architecture="wav2vec2")
    said = [e["message"] for e in new.setup.run.events()[0] if e["type"] == "notice"]
    assert any("that of the model lacks a, t" in one for one in said) and "lm_head" in new.loaded.fresh


def test_places_and_what_a_text_needs():
    settings = transformers.Wav2Vec2Config()
    layers = _ctc.strides(settings)
    bare = transformers.Wav2Vec2Model(tiny_heard.CONFIGS["wav2vec2"]())
    for samples in (400, 16_000, 31_234):
        small = _ctc.places(samples, _ctc.strides(bare.config))
        assert small == int(bare._get_feat_extract_output_lengths(samples))
    assert _ctc.places(16_000, layers) == 49 and _ctc.places(100, layers) == 0
    assert _ctc.needed([1, 1, 2, 2, 2]) == 8


# --- a Whisper's encoder ---


def test_the_encoder_is_short_while_it_trains_and_whole_after(folder, tmp_path):
    found = scene(folder, tmp_path)
    setup, asked = found.setup, found.loaded.model
    encoder = asked.get_encoder()
    batch = setup.collator(setup.prepared["train"].items(range(2)))
    features = batch["input_features"]
    before = {name: value.clone() for name, value in asked.state_dict().items()}
    one = features.clone()
    one[..., 30:] = features.amin()  # heard for 0.3 s
    assert short_clips.heard(one, 50) == 50 and short_clips.heard(one.repeat(1, 1, 4), 200) == 200
    whole = transformers.WhisperConfig(**{**asked.config.to_dict(), "max_source_positions": 200})
    large = short_clips.shortened(transformers.models.whisper.modeling_whisper.WhisperEncoder(whole))
    long = torch.nn.functional.pad(one, (0, 300), value=float(one.amin()))
    table = large.embed_positions.weight
    assert large.train()(long)["last_hidden_state"].shape[1] == 50
    assert large.embed_positions.weight is table and large.config.max_source_positions == 200
    assert large.eval()(long)["last_hidden_state"].shape[1] == 200
    with pytest.raises(RuntimeError):  # what fails inside leaves it whole as well
        large.train()(long[:, :5])
    assert large.embed_positions.weight is table and large.config.max_source_positions == 200
    assert encoder.train()(features)["last_hidden_state"].shape[1] == 50
    assert all(torch.equal(value, before[name]) for name, value in asked.state_dict().items())


def test_gradients_reach_the_short_encoder():
    settings = tiny_heard.whisper_config(40, pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=1)
    settings.max_source_positions = 200
    asked = short_clips.shortened(transformers.WhisperForConditionalGeneration(settings)).train()
    features = torch.zeros(2, 20, 400)
    features[..., :40] = torch.rand(2, 20, 40) + 0.1
    asked(input_features=features, decoder_input_ids=torch.ones(2, 3, dtype=torch.int64))["logits"].sum().backward()
    assert all(
        p.grad is not None for name, p in asked.named_parameters() if p.requires_grad and "encoder.layers" in name
    )


# --- long recordings, long transcripts ---


def test_long_recordings_are_asked_in_parts_and_not_trained_on(folder, tmp_path, train):
    rows = tiny_heard.spoken_folder(tmp_path / "rows", 30)
    lines = (rows / "metadata.jsonl").read_text().splitlines()
    for number in range(3):
        said = ["low", "high"] * 4
        soundfile.write(rows / f"long{number}.flac", tiny_heard.speech(said, number), tiny_heard.RATE)
        lines.append(json.dumps({"file_name": f"long{number}.flac", "text": " ".join(said), "speaker": f"t{number}"}))
    (rows / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    # of a long recording so long a text is no mistake
    run, result = train(tree(folder, source=str(rows)), "train.num_train_epochs=1", "data.test_size=12")
    said = " ".join(result["data"]["warnings"])
    assert "are asked in parts: they last longer than 1 s" in said or "are not trained on: they last longer" in said
    ours, theirs = both(run, [rows / "long0.flac", rows / "000.flac"])
    assert ours == theirs
    assert Transcript().join([Generated("a", 1.0, 2), Generated(""), Generated("b", 1.0, 2)]).text == "a b"


def test_transcripts_that_are_too_long_are_said_or_refused(folder, tmp_path):
    rows = tiny_heard.spoken_folder(tmp_path / "rows", 30)
    text = (rows / "metadata.jsonl").read_text().replace("low", "low" * 12)
    (rows / "metadata.jsonl").write_text(text)
    said = " ".join(scene(folder, tmp_path / "a", source=str(rows), long_targets="cut").warnings)
    assert "of targets" in said and "were cut at 24 tokens" in said
    for streaming in (False, True):
        with pytest.raises(UserError, match=r"targets of at most 24 tokens are needed.*long_targets=cut or") as caught:
            scene(folder, tmp_path / f"b{streaming}", source=str(rows), streaming=streaming)
        assert caught.value.exit_code == 2
    asked_for = scene(folder, tmp_path / "d", source=str(rows), max_target_length=20)
    assert any("were cut at 20 tokens" in warning for warning in asked_for.warnings)
    scene(folder, tmp_path / "e", "method.name=zero_shot", source=str(rows))  # nobody learns them
    places = scene(folder, tmp_path / "c", architecture="wav2vec2", source=str(rows))
    assert any(
        "have more characters than their recordings give places and are not trained on" in w for w in places.warnings
    )
    assert len(places.setup.prepared["train"]) < places.setup.prepared["train"].count


# --- scores ---


def _scored(answer: Transcript, pairs: list[tuple[str, str]]) -> dict[str, float]:
    truth, outputs = [one for one, _ in pairs], [Generated(text) for _, text in pairs]
    sample = answer.sample(answer.outcomes(truth, outputs), np.ones((len(pairs), 1)))
    return {name: float(answer.metrics[name].value(sample)[0]) for name in answer.metric_names}


def test_errors_are_counted_raw_and_normalised():
    pairs = [("Hello, World!", "hello world"), ("one two three", "one three four"), ("abc", "")]
    basic = _scored(Transcript(), pairs)
    assert basic["wer"] == pytest.approx((2 + 2 + 1) / 6) and basic["wer_normalized"] == pytest.approx((0 + 2 + 1) / 6)
    edits = Levenshtein.distance("one two three", "one three four")
    assert basic["cer_normalized"] == pytest.approx((0 + edits + 3) / (11 + 13 + 3))
    english = Transcript(normalizer="english")
    assert _scored(english, [("twenty five dollars", "$25")])["wer_normalized"] == 0.0
    assert _scored(Transcript(), [("été, là!", "ete la")])["wer_normalized"] == 1.0  # accents stay


def test_the_baseline_is_the_nearer_of_nothing_and_the_most_common(tmp_path):
    import pyarrow as pa

    for texts, name in ((["yes", "yes", "no"], "most common text"), (["a b c", "d e f", "g h i"], "empty transcript")):
        learner = Transcript().learner("text", {})
        learner.add(pa.array(texts))
        learnt = learner.learn()
        assert learnt.baseline(texts, None).name == name
    dense = Transcript().learner("text", {})
    dense.add(pa.array(["\u4f60\u597d\u4e16\u754c"] * 3))
    assert dense.learn().main_metric == "cer"
    assert answers.restore(json.loads(json.dumps(learnt.to_dict()))) == learnt


# --- wrong input ---

WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "no language": ("whisper-all", {}, r"data.source_language is not set. Set it to one of its \d+ codes, such as af"),
    "an unknown language": ("whisper-all", {"source_language": "frr"}, r"language of the model; found 'frr'"),
    "another than English": ("whisper", FRENCH, r"data.source_language is 'fr', and this one writes English alone"),
    "a translation that it cannot": (
        "whisper-all", {"source_language": "fr", "target_language": "de"}, r"or en, which the model translates to",
    ),
    "a limit beyond the decoder": ("whisper", {"max_target_length": 99}, r"max_target_length must be at most 24"),
    "no transcripts": ("whisper", {"columns": {"text": "nothing"}}, r"there is no column 'nothing'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_refused(name, folder, tmp_path):
    architecture, data, message = WRONG[name]
    with pytest.raises(UserError, match=message) as caught:
        scene(folder, tmp_path, architecture=architecture, **data)
    assert caught.value.exit_code == 2


def test_a_model_of_texts_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"needs a model that is shown a recording; .*'bert'.*Choose") as caught:
        scene(folder, tmp_path, f"model={tiny.text_model(tmp_path / 'bert')}")
    assert caught.value.exit_code == 2 and "torchvision" not in str(caught.value)


def test_it_translates_where_the_target_is_english(folder, tmp_path):
    found = scene(folder, tmp_path, architecture="whisper-all", source_language="french", target_language="en")
    assert found.setup.answer.normalizer == "english"
    settings = found.setup.answer.generation(found.loaded.model, found.setup.processor.tokenizer)
    assert (settings.language, settings.task) == ("fr", "translate")
    labels = collator(found.setup.task, found.setup.processor, found.setup.preparation)(
        found.setup.prepared["train"].items([0])
    )["labels"][0]
    marks = found.setup.processor.tokenizer.convert_ids_to_tokens(labels[:3].tolist())
    assert marks == ["<|fr|>", "<|translate|>", "<|notimestamps|>"]


# --- a frozen encoder, a stopped run ---


def test_a_frozen_encoder_is_run_once_and_learns_the_same(folder, train):
    settings = {"name": "full", "freeze": ["model.encoder"]}
    quiet = {**tree(folder, augmentation=False), "method": settings}
    quiet["train"] = {**quiet["train"], "bf16": False}  # states are kept in float32
    run, _ = train(quiet, name="cached")
    other, _ = train({**quiet, "method": {**settings, "cache_frozen": False}}, name="plain")
    said = [event["message"] for event in run.events()[0] if event["type"] == "notice"]
    assert any("the frozen encoder ran once over" in one for one in said)
    assert not (run.folder / "frozen.states").exists()
    one, two = (load_file(each.artifact / "model.safetensors") for each in (run, other))
    assert all(np.allclose(one[name], two[name], atol=1e-4) for name in one)
    before = load_file(model(folder, "whisper") / "model.safetensors")
    kept = [name for name in one if "encoder.layers" in name and "decoder" not in name]
    assert kept and all(np.array_equal(one[name], before[name]) for name in kept)


def test_the_encoder_is_run_once_behind_which_adapters_learn(folder, train):
    method = {"name": "lora", "target_modules": r".*decoder.*(q|v)_proj"}
    quiet = {**tree(folder, augmentation=False), "method": method}
    quiet["train"] = {**quiet["train"], "bf16": False}  # states are kept in float32
    run, _ = train(quiet, name="cached")
    said = [event["message"] for event in run.events()[0] if event["type"] == "notice"]
    assert any("the frozen encoder ran once over" in one for one in said)
    other, _ = train({**quiet, "data": {**quiet["data"], "augmentation": {"gain": 0, "noise": 0}}}, name="plain")
    said = [event["message"] for event in other.events()[0] if event["type"] == "notice"]
    assert any("the frozen encoder runs in every epoch" in one and "data.augmentation=false" in one for one in said)
    one, two = (load_file(each.artifact / "model.safetensors") for each in (run, other))
    assert all(np.allclose(one[name], two[name], atol=1e-4) for name in one)
    before = load_file(model(folder, "whisper") / "model.safetensors")
    assert any(not np.array_equal(one[name], before[name]) for name in one if "decoder" in name)


@pytest.mark.parametrize("architecture", ["whisper", "wav2vec2"])  # the second with dropout
def test_a_stopped_run_ends_with_the_very_same_weights(architecture, folder, tmp_path):
    rows = {**tree(folder, architecture), "train": {"learning_rate": 1e-3, "per_device_train_batch_size": 8}}
    whole = start(rows, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start(rows, tmp_path / "stopped", steps=3)
    stopped = Run(tmp_path / "stopped")
    resume(stopped)
    same_weights(whole, stopped)


def test_a_stream(folder, train):
    _, result = train(tree(folder, streaming=True, test_size=12, validation_size=8), "train.num_train_epochs=1")
    assert result["data"]["splits"] == {"train": 40, "validation": 8, "test": 12} and result["test"]["n"] == 12


def test_a_decoder_that_is_no_whisper_is_refused_in_words(folder, tmp_path):
    place = tiny_heard.whisper(tmp_path / "model")
    processor = transformers.AutoProcessor.from_pretrained(place)
    for other in (transformers.Speech2TextConfig(), transformers.MoonshineConfig(), transformers.SpeechT5Config()):
        with pytest.raises(UserError, match=rf"a Whisper is needed.*this one is {other.model_type}.*openai/whisper"):
            Transcript().reads(processor, other, transformers.GenerationConfig())
