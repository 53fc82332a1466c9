"""Texts that a model writes: trained, written, scored and asked by strangers, for every architecture."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Translation
from safetensors.numpy import load_file

from hftransfer import catalog, config, questions
from hftransfer.data import load
from hftransfer.errors import UserError
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.methods.peft import ALIASES
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from tests import tiny, tiny_written
from tests.engine.conftest import QUICK
from tests.engine.test_resume import resume, same_weights, start

Train = Callable[..., tuple[Run, dict[str, Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of models, each made when it is first asked for, and of pairs."""
    found = tmp_path_factory.mktemp("written")
    tiny_written.pairs_jsonl(found / "pairs.jsonl", 120)
    return found


def model(folder: Path, architecture: str = "t5", **settings: Any) -> Path:
    """Return a tiny model; `settings` go into its config.json."""
    place = folder / "-".join([architecture, *map(str, settings.values())])
    if not place.is_dir():
        tiny_written.written_model(place, architecture)
        known = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps(known | settings))
    return place


def tree(folder: Path, architecture: str = "t5", task: str = "translation", **settings: Any) -> dict[str, Any]:
    """Return a configuration that learns something in seconds."""
    languages = dict(
        zip(("source_language", "target_language"), tiny_written.LANGUAGES.get(architecture, ()), strict=False)
    )
    data = {"source": str(folder / "pairs.jsonl"), "likely_copies": False, **languages}
    if task == "summarization":
        data["columns"] = {"text": "text", "summary": "translation"}
    return {
        **QUICK, "task": task, "model": str(model(folder, architecture, **settings)), "data": data,
        "train": {**QUICK["train"], "num_train_epochs": 3, "learning_rate": 5e-3},
    }  # fmt: skip


@pytest.mark.parametrize("architecture", tiny_written.ARCHITECTURES)
def test_every_architecture_translates_and_a_stranger_asks_it(architecture, folder, train):
    run, result = train(tree(folder, architecture), "evaluation.max_new_tokens=8")
    scores = result["test"]["metrics"]
    assert list(scores) == ["chrf", "bleu", "exact_match", "perplexity"]
    vocabulary = json.loads((run.artifact / "config.json").read_text())["vocab_size"]
    assert 1 < scores["perplexity"]["value"] < 0.9 * vocabulary, "it has learnt: chance is the vocabulary"
    for score in scores.values():
        assert score["low"] <= score["value"] <= score["high"]
    assert result["selected_by"] == "perplexity" and result["main_metric"] == "chrf"
    predictor = Predictor(run.artifact)
    asked = "the big cat"
    (ours,) = predictor.answer([asked])
    names: dict[str, Any] = {}
    exec(predictor.task.snippet(repr(str(run.artifact)), {"text": repr(asked)}, predictor.notes), names)
    assert predictor.answered.as_json(names["answer"])["text"] == ours["text"]
    stored = pd.read_parquet(run.predictions / "test.parquet")
    assert {"row_id", "label", "prediction", "nll", "tokens"} <= set(stored)
    assert stored["nll"].sum() / stored["tokens"].sum() == pytest.approx(math.log(scores["perplexity"]["value"]))


def test_the_lines_of_readme_ask_a_model(folder, train):
    """Four lines with the Auto class, as README shows them, give the Predictor's answer."""
    run, _ = train(tree(folder, "bart"), "evaluation.max_new_tokens=8", "train.max_steps=4")
    page = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    lines = (
        page.partition("<!-- generated: stranger translation -->")[2].partition("```python\n")[2].partition("```")[0]
    )
    asked = "the big cat"
    known: dict[str, Any] = {}
    exec(lines.replace('"you/your-model"', repr(str(run.artifact))).replace('"..."', repr(asked)), known)
    assert known["answer"].strip() == Predictor(run.artifact).answer([asked])[0]["text"]


def test_the_loss_of_the_model_itself_is_the_one_that_is_trained(folder):
    """Decoder inputs are what the model would make of its labels, whatever its way of shifting."""
    from hftransfer.answers._decoder import shifted, sums_of

    for architecture in tiny_written.ARCHITECTURES:
        found, labels = _loaded(folder, architecture), torch.tensor([[4, 5, 6, 2], [7, 2, -100, -100]])
        ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
        with torch.no_grad():
            theirs = found(input_ids=ids, labels=labels)
            ours = found(input_ids=ids, decoder_input_ids=shifted(labels, found.config))
        nll, tokens, _ = sums_of(ours.logits, labels).sum(0).tolist()
        assert nll / tokens == pytest.approx(theirs.loss.item(), rel=1e-5), architecture


def _loaded(folder: Path, architecture: str) -> Any:
    from transformers import AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM.from_pretrained(model(folder, architecture)).eval()


@pytest.mark.parametrize("architecture", ["t5", "bart", "marian"])
def test_four_batches_of_four_are_one_of_sixteen(architecture, folder, train):
    """The rows' targets differ in length, and every token of the update counts once."""
    quiet = {"dropout_rate": 0.0} if architecture == "t5" else {"dropout": 0.0}
    found = []
    for size, times in ((16, 1), (4, 4)):
        run, _ = train(
            tree(folder, architecture, **quiet), f"train.per_device_train_batch_size={size}",
            f"train.gradient_accumulation_steps={times}", "train.learning_rate=0", "train.max_steps=1",
            "train.logging_steps=1", "train.train_sampling_strategy=sequential", "train.bf16=false", name=str(size),
        )  # fmt: skip
        (log,) = (event for event in run.events()[0] if event["type"] == "log")
        found.append((log["loss"], log["grad_norm"]))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_stopped_run_goes_on_to_the_same_bits(folder, tmp_path):
    chosen = tree(folder)
    whole = start(chosen, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start(chosen, tmp_path / "stopped", steps=7)
    stopped = Run(tmp_path / "stopped")
    resume(stopped)
    same_weights(whole, stopped)


# whose defaults fit layers of 32 units, and which peft can merge into layers without a bias
UNFIT = {"adalora", "beft", "c3a", "lily", "miss", "poly", "road", "shadow", "shira", "vblora", "waveft", "qlora"}


@pytest.mark.parametrize("method", ["full", "lora", "dora", "ia3"])
def test_methods(method, folder, train):
    run, result = train(tree(folder, "bart"), f"method.name={method}", "train.max_steps=4")
    assert result["method"] == method and (run.artifact / "model.safetensors").is_file()
    before = load_file(model(folder, "bart") / "model.safetensors")
    after = load_file(run.artifact / "model.safetensors")
    assert before.keys() == after.keys() and any((before[name] != after[name]).any() for name in before)


@pytest.mark.long
@pytest.mark.parametrize(
    "method",
    sorted(
        {name for name in catalog.adapting_methods() if catalog.methods()[name] == catalog.PEFT} - UNFIT - {*ALIASES}
    ),
)
def test_every_method_of_peft(method, folder, train):
    run, _ = train(tree(folder, "bart"), f"method.name={method}", "train.max_steps=2", "evaluation.max_new_tokens=4")
    assert Predictor(run.artifact).answer(["the cat"])[0]["text"] is not None


def test_the_model_as_it_is(folder, train):
    _, result = train(tree(folder), "method.name=zero_shot")
    assert result["test"]["metrics"]["perplexity"]["value"] > 10
    assert result["baseline"]["name"] == "copy of the input"


def test_methods_that_need_a_linear_head_are_refused(folder):
    for method in ("probe", "few_shot"):
        with pytest.raises(UserError, match=r"solves a linear head, which gives no text.*Set method.name=lora"):
            catalog.build_config({**tree(folder), "method": {"name": method}})


def test_summaries(folder, train):
    run, result = train(tree(folder, task="summarization"))
    assert list(result["test"]["metrics"]) == ["rouge_l", "rouge_1", "rouge_2", "chrf", "perplexity"]
    assert result["baseline"]["name"] == "leading sentences"
    assert set(result["signatures"]) == {"chrf"}
    assert "text" in Predictor(run.artifact).answer(["the cat sees the dog"])[0]


def test_a_stream(folder, train):
    _, result = train(tree(folder), "data.streaming=true", "train.max_steps=5")
    assert result["test"]["n"] > 10


# --- prefixes, languages, lengths ---


def test_the_prefix_of_a_t5(folder, train):
    known = {
        "summarization": {"prefix": "summarize: "},
        "translation_en_to_fr": {"prefix": "translate English to French: "},
    }
    place = folder / "prefixed"
    if not place.is_dir():
        tiny_written.written_model(place)
        settings = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps(settings | {"task_specific_params": known}))
    for task, overrides, expected in (
        ("translation", ["data.source_language=en", "data.target_language=fr"], "translate English to French: "),
        ("translation", ["data.source_language=en", "data.target_language=de"], None),
        ("translation", ["data.source_language=en", "data.target_language=fr", 'data.prefix="own: "'], "own: "),
        ("summarization", [], "summarize: "),
    ):
        chosen = {**tree(folder, task=task), "model": str(place)}
        run, _ = train(chosen, *overrides, "train.max_steps=1", name=f"{task}-{expected}-{len(overrides)}")
        predictor = Predictor(run.artifact)
        assert predictor.notes["carried"].get("prefix") == expected
        lines = predictor.task.snippet("'x'", {"text": "'y'"}, predictor.notes)
        assert (expected is None) == ("tokenizer('y'" in lines) and (expected is None or repr(expected) in lines)


@pytest.mark.parametrize("architecture", ["mbart50", "nllb", "m2m_100"])
def test_languages_are_saved_for_strangers(architecture, folder, train):
    from transformers import AutoTokenizer, GenerationConfig

    run, _ = train(tree(folder, architecture), "train.max_steps=1")
    source, target = tiny_written.LANGUAGES[architecture]
    tokenizer = AutoTokenizer.from_pretrained(run.artifact)
    assert (tokenizer.src_lang, tokenizer.tgt_lang) == (source, target)
    from hftransfer.processors import language_token

    settings = GenerationConfig.from_pretrained(run.artifact)
    assert language_token(tokenizer) in (settings.forced_bos_token_id, settings.decoder_start_token_id)


def test_long_targets_are_counted_cut_dropped_or_refused(folder, train):
    _, cut = train(tree(folder), "data.max_target_length=4", "train.max_steps=1", name="cut")
    assert any(re.search(r"train: .*% of targets \(\d+\) were cut at 4 tokens", w) for w in cut["data"]["warnings"])
    _, dropped = train(
        tree(folder), "data.max_target_length=4", "data.long_targets=drop", "train.max_steps=1", name="dropped"
    )
    assert any("are not trained on: they are longer than 4 tokens" in w for w in dropped["data"]["warnings"])
    with pytest.raises(
        UserError, match=r"targets of at most 4 tokens.*of train have longer ones.*long_targets=cut or"
    ):
        train(tree(folder), "data.max_target_length=4", "data.long_targets=refuse", name="refused")


def test_sources_that_are_cut_are_counted(folder, train):
    _, result = train(tree(folder), "data.max_length=4", "train.max_steps=1")
    assert any("were cut at 4 tokens" in warning for warning in result["data"]["warnings"])


def test_generation_settings_of_the_run_are_the_artifacts(folder, train):
    run, _ = train(tree(folder), "evaluation.max_new_tokens=5", "evaluation.num_beams=3", "train.max_steps=1")
    settings = json.loads((run.artifact / "generation_config.json").read_text())
    assert (settings["max_new_tokens"], settings["num_beams"]) == (5, 3)
    longest = max(len(text.split()) for text in pd.read_parquet(run.predictions / "test.parquet")["prediction"])
    assert longest <= 5


# --- columns ---


def nested(folder: Path) -> Path:
    """Write pairs as the Hub has them: one column of two languages."""
    pairs = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    rows = [{"translation": {"en": pair["text"], "fr": pair["translation"]}} for pair in pairs]
    place = folder / "nested"
    if not place.is_dir():
        features = Features({"translation": Translation(["en", "fr"])})
        DatasetDict({"train": Dataset.from_list(rows, features=features)}).save_to_disk(place)
        (folder / "nested.jsonl").write_text(
            "".join(json.dumps({"id": i, **row}) + "\n" for i, row in enumerate(rows))
        )
        Dataset.from_list(rows, features=features).to_parquet(folder / "nested.parquet")
    return place


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["nested.jsonl", "nested.parquet"])
def test_nested_columns(name, streaming, folder):
    nested(folder)
    for settings in (
        {"columns": {"text": "translation.en", "translation": "translation.fr"}},
        {"source_language": "en", "target_language": "fr"},
    ):
        section = config.DataConfig(source=str(folder / name), streaming=streaming, **settings)
        found = load(section, catalog.task("translation"), 42)
        columns = {choice.role: choice.column for choice in found.columns}
        assert columns == {"text": "translation.en", "translation": "translation.fr"}
        row = next(iter(found.splits["train"]))
        assert [tiny_written.WORDS[word] for word in row["text"].split()] == row["translation"].split()


# --- wrong input ---

WRONG: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "a decoder-only model": (
        lambda folder: [f"model={tiny.text_model(folder / 'llama', 'llama')}"],
        r"translation needs .*'llama'.*text-generation",
    ),
    "the target is the source": (
        lambda folder: ["data.columns.text=text", "data.columns.translation=text"],
        r"one role; `text` is named for several. Mend data.columns",
    ),
    "every target is its source": (
        lambda folder: [f"data.source={rows(folder, lambda i: (f'line {i}', f'line {i}'))}"],
        r"target other than `text` is needed; every row has the same text as both. Name another column",
    ),
    "no targets": (
        lambda folder: [f"data.source={rows(folder, lambda i: (f'line {i}', ' '))}"],
        r"usable rows are needed in train; 40 of 40 are not: 40 with no text to learn.*Name other columns",
    ),
    "a limit beyond the decoder's places": (
        lambda folder: [f"model={model(folder, 'bart')}", "data.max_target_length=1000"],
        r"data.max_target_length must be at most 64 for .*; it is 1000. Set data.max_target_length=64 or less",
    ),
    "more new tokens than places": (
        lambda folder: [f"model={model(folder, 'bart')}", "evaluation.max_new_tokens=64"],
        r"max_new_tokens must be below 64.*it is 64. Set evaluation.max_new_tokens=63 or less",
    ),
    "no language": (
        lambda folder: [f"model={model(folder, 'nllb')}"],
        r"marks texts with their language.*data.source_language is not set. Set it to one of its \d+ codes",
    ),
    "an unknown language": (
        lambda folder: [
            f"model={model(folder, 'nllb')}", "data.source_language=eng_Latn", "data.target_language=fra_Latin"
        ],
        r"data.target_language must be a language code of .*; found 'fra_Latin'. Did you mean 'fra_Latn'",
    ),
    "a metric of another kind": (
        lambda folder: ["evaluation.metrics=[accuracy]"],
        r"a metric that fits the labels .*for accuracy\); these are text. Choices: chrf, bleu",
    ),
}  # fmt: skip


def rows(folder: Path, pair: Callable[[int], tuple[str, str]]) -> Path:
    """Write 40 rows of pairs."""
    path = folder / "own.jsonl"
    names = ("text", "translation")
    path.write_text("".join(json.dumps(dict(zip(names, pair(i), strict=True))) + "\n" for i in range(40)))
    return path


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("command", ["train", "check"])
def test_wrong_input_is_refused_before_training(name, command, folder, tmp_path, train):
    arrange, message = WRONG[name]
    overrides = arrange(folder if "model(" in name else tmp_path)
    with pytest.raises(UserError, match=message) as refused:
        if command == "train":
            train(tree(folder), *overrides)
        else:
            with Interruption() as interruption:
                questions.check(catalog.build_config(config.override(tree(folder), overrides)), interruption)
    assert refused.value.exit_code == 2


def test_check_asks_scores_saves_and_asks_again(folder, tmp_path, monkeypatch):
    """What would fail after hours of training fails in a check: here, a model that cannot be asked."""
    from hftransfer.answers.text import Text

    def broken(self: Any, model: Any, batch: Any, processor: Any) -> Any:
        raise UserError("texts are needed", "nothing was written", "Mend the model.")

    with Interruption() as interruption:
        built = catalog.build_config(tree(folder))
        assert questions.check(built, interruption)["updates"] > 0
        monkeypatch.setattr(Text, "ask", broken)
        with pytest.raises(UserError, match="nothing was written"):
            questions.check(built, interruption)
