"""What is counted of transcripts: likelihoods of what fits, scripts with marks and without blanks, and witnesses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
import transformers
from safetensors.numpy import load_file

from hftransfer import catalog, config
from hftransfer.answers import _ctc, _spoken
from hftransfer.answers._decoder import IGNORED
from hftransfer.answers._prose import Generated
from hftransfer.answers._written import joined
from hftransfer.answers.span import Found, Place, Span
from hftransfer.answers.transcript import Transcript
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure
from hftransfer.fitting import trainer
from hftransfer.fitting.interruption import Interruption
from hftransfer.modeling.batches import moved
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from hftransfer.training import set_scene
from tests import tiny_heard
from tests.engine.conftest import QUICK


def scene(folder: Path, rows: Path, model: Path, **changes: Any) -> Any:
    tree: dict[str, Any] = {
        **QUICK, "task": "automatic-speech-recognition", "model": str(model),
        "data": {**QUICK.get("data", {}), "source": str(rows), **changes.pop("data", {})}, **changes,
    }  # fmt: skip
    built = catalog.build_config(config.override(tree, ()))
    with Interruption() as interruption:
        return set_scene(built, Run.create(built, folder / "looked"), interruption, resume=False)


# --- place by place ---


def test_texts_that_do_not_fit_their_recording_have_no_likelihood_in_any_batch():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 12, 6), torch.tensor([[1, 2, 3, IGNORED, IGNORED], [1, 1, 2, 3, 4]])
    logits[1, 5:] = -_ctc.CERTAIN  # the second recording has five places, and its text needs six
    logits[1, 5:, 0] = _ctc.CERTAIN
    together = _ctc.sums_of(logits, labels, 0)
    alone = [_ctc.sums_of(logits[:1], labels[:1, :3], 0), _ctc.sums_of(logits[1:, :5], labels[1:], 0)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)
    assert together[1].tolist() == [0.0, 0.0, 0.0] and together[0, 0] > 0 and together[0, 1] == 3
    fits = _ctc.sums_of(logits[1:], torch.tensor([[1, 2, 1, 3, 4]]), 0)[0]
    assert fits[1] == 5 and 0 < fits[0] < 100
    assert Transcript(way="places").validation(np.array([[0.0, 0.0, 0.0]]), np.empty(0))["perplexity"] > 1e9


def capitals(folder: Path, lacking: str = "", marks: bool = False, small: bool = False) -> Path:
    """Save a recogniser with a head, whose tokenizer knows capital letters alone, or `small` ones alone."""
    letters = [one.lower() if small else one for one in "ABCDEFGHIJKLMNOPQRSTUVWXYZ'" if one not in lacking]
    tokenizer = _ctc.tokenizer_of(letters)
    settings = tiny_heard.CONFIGS["wav2vec2"]()
    settings.vocab_size, settings.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    if marks:
        tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
        assert len(tokenizer) == settings.vocab_size + 2
    torch.manual_seed(0)
    transformers.Wav2Vec2ForCTC(settings).save_pretrained(folder)
    transformers.Wav2Vec2Processor(tiny_heard.ear("wav2vec2"), tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("marks", [False, True])
def test_a_trained_head_of_capitals_is_kept_for_small_letters(marks, tmp_path):
    rows = tiny_heard.spoken_folder(tmp_path / "rows", 24)
    found = scene(tmp_path, rows, capitals(tmp_path / "model", marks=marks))
    assert not found.loaded.fresh and not found.setup.answer.made
    tokenizer = found.setup.processor.tokenizer
    ids = tokenizer("low")["input_ids"]
    assert tokenizer.unk_token_id not in ids and tokenizer.decode(ids) == "low"
    said = [event["message"] for event in found.setup.run.events()[0] if event["type"] == "notice"]
    assert any("capitals" in one for one in said)


def respelled(folder: Path, how: Any) -> Path:
    rows = tiny_heard.spoken_folder(folder, 24)
    lines = [json.loads(line) for line in (rows / "metadata.jsonl").read_text().splitlines()]
    lines = [{**line, "text": how(line["text"])} for line in lines]
    (rows / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return rows


@pytest.mark.parametrize(("small", "how"), [(True, str.upper), (True, str.title), (False, str.title)])
@pytest.mark.parametrize("lacking", ["", "W"])
def test_a_trained_head_of_one_case_is_kept_for_transcripts_of_another(small, how, lacking, tmp_path):
    rows, place = respelled(tmp_path / "rows", how), capitals(tmp_path / "model", lacking, small=small)
    before = load_file(place / "model.safetensors")["lm_head.weight"]
    found = scene(tmp_path, rows, place)
    answer, head = found.setup.answer, found.loaded.model.lm_head.weight.detach().numpy()
    assert not answer.made and answer.small and answer.besides == len(lacking)
    assert np.array_equal(head[: len(before)], before) and len(head) == len(before) + len(lacking)
    said = [event["message"] for event in found.setup.run.events()[0] if event["type"] == "notice"]
    assert any("letters of one case alone" in one for one in said)
    tokenizer, item = found.setup.processor.tokenizer, found.setup.prepared["test"].items(range(1))[0]
    assert tokenizer.unk_token_id not in item["labels"]
    truth = found.data.splits["test"][0][found.setup.task.truth.name]
    assert tokenizer.decode(item["labels"], group_tokens=False) == truth.lower() != truth
    scored = answer.outcomes([truth], [Generated(truth.lower())])
    assert scored.character_errors[0][0] == 0 and answer.restore(answer.to_dict()).small
    assert answer.measured_as(Transcript()).outcomes([truth], [Generated(truth.lower())]).character_errors[0][0] > 0


def test_a_head_is_made_anew_where_more_than_case_differs(tmp_path):
    rows = respelled(tmp_path / "rows", lambda text: text.upper().replace("LOW", "ÑÕÏÆΩ"))
    answer = scene(tmp_path, rows, capitals(tmp_path / "model", small=True)).setup.answer
    assert answer.made and not answer.small


def test_a_model_that_knows_not_every_character_is_measured_as_it_is_and_writes_as_strangers_see(tmp_path, train):
    rows = tiny_heard.spoken_folder(tmp_path / "rows", 24)
    tree = {
        "task": "automatic-speech-recognition", "model": str(capitals(tmp_path / "model", lacking="W")),
        "data": {"source": str(rows)}, "method": {"name": "zero_shot"},
    }  # fmt: skip
    run, result = train(tree)
    assert np.isfinite(result["test"]["metrics"]["wer"]["value"])
    said = [event["message"] for event in run.events()[0] if event["type"] == "notice"]
    assert any("the model knows no w" in one for one in said)
    predictor = Predictor(run.artifact)
    pipeline = transformers.pipeline("automatic-speech-recognition", str(run.artifact))
    row = predictor.task.row(str(next(rows.glob("*.flac"))))
    theirs = predictor.task.ask_pipeline(pipeline, predictor.opened(row), None)["text"]
    assert predictor([str(next(rows.glob("*.flac")))])[0]["text"] == theirs == theirs.lower()


def test_a_trained_head_gets_the_few_characters_that_it_lacks(tmp_path, train):
    rows = tiny_heard.spoken_folder(tmp_path / "rows", 24)
    place = capitals(tmp_path / "model", lacking="W")
    before = load_file(place / "model.safetensors")["lm_head.weight"]
    found = scene(tmp_path, rows, place)
    head = found.loaded.model.lm_head.weight
    assert head.shape[0] == len(before) + 1 and np.array_equal(head[:-1].detach().numpy(), before)
    assert "lm_head" in found.loaded.fresh and found.setup.answer.besides == 1
    tokenizer = found.setup.processor.tokenizer
    assert (
        tokenizer("low")["input_ids"][-1] == len(before) and tokenizer.decode(tokenizer("low")["input_ids"]) == "low"
    )
    tree = {"task": "automatic-speech-recognition", "model": str(place), "data": {"source": str(rows)}}
    run, _ = train({**tree, "method": {"name": "lora"}}, "train.num_train_epochs=1")
    again = transformers.AutoModelForCTC.from_pretrained(run.artifact)
    assert again.config.vocab_size == len(before) + 1 == again.lm_head.out_features
    predictor, path = Predictor(run.artifact), str(next(rows.glob("*.flac")))
    pipeline = transformers.pipeline("automatic-speech-recognition", str(run.artifact))
    theirs = predictor.task.ask_pipeline(pipeline, predictor.opened(predictor.task.row(path)), None)
    assert predictor([path])[0]["text"] == theirs["text"]


def test_a_model_of_places_that_is_not_ours_is_asked(tmp_path):
    rows = tiny_heard.spoken_folder(tmp_path / "rows", 2)
    place, path = capitals(tmp_path / "model"), str(next(rows.glob("*.flac")))
    pipeline = transformers.pipeline("automatic-speech-recognition", str(place))
    predictor = Predictor(place)
    theirs = predictor.task.ask_pipeline(pipeline, predictor.opened(predictor.task.row(path)), None)
    assert predictor([path])[0]["text"] == theirs["text"]


# --- a decoder ---


def test_marks_of_language_and_task_are_no_part_of_a_texts_likelihood(tmp_path):
    rows = tiny_heard.spoken_folder(tmp_path / "rows", 24)
    found = scene(tmp_path, rows, tiny_heard.whisper(tmp_path / "model", True), data={"source_language": "fr"})
    setup, model = found.setup, found.loaded.model.eval()
    tokenizer = setup.processor.tokenizer
    assert tokenizer.convert_ids_to_tokens(list(setup.answer.marks)) == [
        "<|fr|>",
        "<|transcribe|>",
        "<|notimestamps|>",
    ]
    batch = moved(setup.asking(setup.prepared["test"].items(range(3))), "cpu")
    with torch.no_grad():
        judged = setup.answer.judge(model, batch, setup.processor)
        logits = model(
            input_features=batch["input_features"],
            decoder_input_ids=torch.cat([torch.full((3, 1), model.config.decoder_start_token_id),
                                         batch["labels"].clamp(min=0)[:, :-1]], 1),
        ).logits  # fmt: skip
    texts = batch["labels"][:, 3:]
    assert [one.tokens for one in judged] == (texts != IGNORED).sum(1).tolist()
    shares = logits[:, 3:].log_softmax(-1)
    for row, one in enumerate(judged):
        own = texts[row][texts[row] != IGNORED]
        assert one.nll == pytest.approx(-float(shares[row, range(len(own)), own].sum()), rel=1e-4)
    kept = setup.answer.reduce(logits, batch["labels"])
    assert kept[:, 1].tolist() == [one.tokens for one in judged]


def test_parts_of_long_recordings_are_not_validated_by_the_whole_text(tmp_path):
    rows = tiny_heard.spoken_folder(tmp_path / "rows", 24)
    lines = (rows / "metadata.jsonl").read_text().splitlines()
    for number in range(12):
        said = ["low", "high"] * 4
        soundfile.write(rows / f"long{number}.flac", tiny_heard.speech(said, number), tiny_heard.RATE)
        lines.append(json.dumps({"file_name": f"long{number}.flac", "text": " ".join(said)}))
    (rows / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    setup = scene(tmp_path, rows, tiny_heard.whisper(tmp_path / "model"), data={"validation_size": 12}).setup
    prepared = setup.prepared["validation"]
    assert 0 < prepared.too_long < 12 and len(prepared) > 12
    assert len(trainer._validation_rows(setup)) == 12 - prepared.too_long


# --- scripts ---


def test_words_are_not_cut_at_the_marks_of_their_script():
    hindi = ["\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", "\u092f\u0939 \u0939\u0948"]
    learner = Transcript().learner("text", {})
    learner.add(pa.array(hindi))
    learnt = learner.learn()
    assert learnt.normalizer == "marks" and "marks stay" in learnt.signatures()["wer_normalized"]
    other = hindi[0].replace("\u0947", "\u093e")  # another vowel: one word of two is wrong
    found = learnt.outcomes([hindi[0]], [Generated(other + "!")])
    assert found.normalized_word_errors.tolist() == [[1, 2]]
    assert _spoken.normalizer("basic")(hindi[0]).split() != hindi[0].split()
    for texts, expected in ((["d\u00e9j\u00e0 vu"], "basic"), (["de\u0301ja\u0300 vu"], "basic"), (["abc"], "basic")):
        learner = Transcript().learner("text", {})
        learner.add(pa.array(texts))
        assert learner.learn().normalizer == expected
    assert _spoken.normalizer("marks")("  Hello, (uh) [noise] World! ") == "hello world"


def test_how_accents_are_encoded_is_no_error():
    truth = Transcript().canonical(pa.array(["de\u0301ja\u0300 vu", None]), None, config.DataConfig(source="-"))
    assert truth.to_pylist() == ["d\u00e9j\u00e0 vu", None]
    found = Transcript().outcomes(["d\u00e9j\u00e0 vu"], [Generated("de\u0301ja\u0300 vu")])
    assert not found.word_errors[:, 0].any() and not found.character_errors[:, 0].any() and found.exact.all()


def test_models_are_compared_by_one_normaliser():
    english, other = Transcript(normalizer="english"), Transcript(normalizer="basic")
    found = other.measured_as(english).outcomes(["twenty five dollars"], [Generated("$25")])
    assert found.normalized_word_errors[0, 0] == 0


def test_parts_are_joined_as_their_script_is_written():
    assert joined(["a", "", "b"]) == "a b" and joined([]) == ""
    assert joined(["\u4f60\u597d", "\u4e16\u754c"]) == "\u4f60\u597d\u4e16\u754c"
    korean = ["\uc548\ub155", "\uc138\uacc4"]
    assert joined(korean) == " ".join(korean)
    assert Transcript(tokenize="char").join([Generated(text) for text in korean]).text == " ".join(korean)
    learner = Transcript().learner("text", {})
    learner.add(pa.array(["\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01"]))
    assert learner.learn().main_metric == "cer", "Thai has no blanks between words"


# --- intervals ---


def test_a_share_of_some_rows_has_only_them_for_witnesses():
    truth = [("a",)] * 400 + [()] * 3
    right = [Found((Place("a", 0, 1, 5.0),), 0.0)] * 400 + [Found((Place("a", 0, 1, 0.0),), 5.0)] * 3
    answer = Span(rows=10, unanswerable=5)
    ids = [str(number) for number in range(len(truth))]
    scores = measure(Predictions(answer, ids, truth, right))
    assert scores["exact_unanswerable"]["value"] == 1.0 and scores["exact_unanswerable"]["low"] < 0.5
    assert scores["f1_answerable"]["low"] > 0.98
    groups = ["many"] * 400 + ["one"] * 3
    apart = measure(Predictions(answer, ids, truth, right, groups))
    assert apart["exact_unanswerable"]["low"] < 0.25, "one group says next to nothing of others"


def test_an_error_rate_above_one_lies_in_its_interval():
    truth, wrong = ["yes"], [Generated("no no no")]
    score = measure(Predictions(Transcript(), ["a"], truth, wrong))["wer"]
    assert score["value"] == 3.0 and score["low"] == 0.0 and score["high"] >= 3.0
