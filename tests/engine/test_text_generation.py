"""Models that go on from a text: what is learned of which form, how they are asked, what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from datasets import Dataset
from safetensors.torch import load_file

from hftransfer import catalog, config, questions
from hftransfer.answers._causal import Reader, ends, shifted_sums, summed_loss
from hftransfer.answers._ngrams import Bigrams
from hftransfer.answers.continuation import ANSWER
from hftransfer.data import load
from hftransfer.errors import UserError
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.inputs._dialogues import turns
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from tests import tiny, tiny_causal
from tests.engine.conftest import QUICK
from tests.engine.test_resume import resume, same_weights, start

FORMS = ("text", "completion", "instruction", "messages", "conversations")
EVERY = pytest.mark.parametrize("architecture", tiny_causal.ARCHITECTURES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of models, each made when it is first asked for, and of rows in every form."""
    found = tmp_path_factory.mktemp("causal")
    for form in FORMS:
        tiny_causal.written(found / f"{form}.jsonl", tiny_causal.rows(form))
    return found


def model(folder: Path, architecture: str = "llama") -> Path:
    place = folder / architecture
    return place if place.is_dir() else tiny_causal.causal_model(place, architecture)


def tree(folder: Path, form: str = "messages", architecture: str = "llama", **data: Any) -> dict[str, Any]:
    return {
        **QUICK, "task": "text-generation", "model": str(model(folder, architecture)),
        "data": {"source": str(folder / f"{form}.jsonl"), "likely_copies": False, **data},
        "train": {**QUICK["train"], "num_train_epochs": 2, "learning_rate": 1e-2},
        "evaluation": {"resamples": 100, "forgetting": False},
    }  # fmt: skip


def loaded(folder: Path, architecture: str) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(model(folder, architecture)).eval()


# --- forms ---

ASKED = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ASKED, ASKED),
        ([{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}], ASKED),
        (json.dumps(ASKED), ASKED),
        (repr(ASKED), ASKED),
        ({"role": ["user", "assistant"], "content": ["hi", "yo"]}, ASKED),
        ([{"role": "User", "content": [{"type": "text", "text": "hi"}]}], ASKED[:1]),
        ([{"role": "user", "content": [{"type": "image"}]}], [{"role": "user", "content": None}]),
        ("a prompt", None),
        ("[not json", None),
        ("[1, 2]", None),
        ([], None),
        (7, None),
    ],
)
def test_conversations_in_every_form(value, expected):
    assert turns(value) == expected


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_the_form_is_found_by_looking(form, streaming, folder):
    section = config.DataConfig(source=str(folder / f"{form}.jsonl"), streaming=streaming)
    found = load(section, catalog.task("text-generation"), 42)
    kind, said = {
        "text": ("text", "`text` holds running texts: every token is learned"),
        "completion": ("completion", "prompts and completions are joined as they stand"),
        "instruction": ("completion", "a prompt is `instruction`, and behind an empty line `input`"),
        "messages": ("chat", "`messages` holds conversations (data.columns.completion)"),
        "conversations": ("chat", "`conversations` holds conversations in ShareGPT's form"),
    }[form]
    assert found.settled == {"form": kind} and len(found.guesses) == 1 and said in found.guesses[0]
    row = next(iter(found.splits["train"]))
    if form == "text":
        assert (row["prompt"] + row["completion"]).endswith(".") and row["completion"].startswith(" ")
    elif form == "messages":
        assert [turn["role"] for turn in turns(row["prompt"])] == ["user", "assistant", "user"]
    elif form == "conversations":
        assert [turn["role"] for turn in turns(row["prompt"])] == ["system", "user"]
    assert row["completion"].strip() and found.leakage is not None


def test_conversations_as_arrow_and_as_json_are_the_same_rows(tmp_path):
    rows = tiny_causal.rows("messages", 40)
    Dataset.from_list(rows).to_parquet(tmp_path / "nested.parquet")
    pd.DataFrame([{"messages": json.dumps(row["messages"])} for row in rows]).to_csv(tmp_path / "json.csv")
    found = [
        load(config.DataConfig(source=str(tmp_path / name)), catalog.task("text-generation"), 1)
        for name in ("nested.parquet", "json.csv")
    ]
    assert found[0].fingerprint == found[1].fingerprint


def test_columns_by_name_and_prompts_put_into_the_template(folder, tmp_path):
    rows = [{"q": row["prompt"], "a": row["completion"]} for row in tiny_causal.rows("completion", 40)]
    source = str(tiny_causal.written(tmp_path / "r.jsonl", rows))
    section = config.DataConfig(source=source, columns={"prompt": "q", "completion": "a"}, form="chat")
    found = load(section, catalog.task("text-generation"), 1)
    assert found.settled == {"form": "chat"} and {c.role: c.column for c in found.columns}["prompt"] == "q"


# --- what is learned ---


def learned(reader: Reader, item: Any) -> str:
    return reader.tokenizer.decode([token for token, known in zip(item.ids, item.learned, strict=True) if known])


def test_every_answer_is_learned_up_to_its_end_which_is_the_padding_too():
    reader = Reader(tiny_causal.tokenizer())
    asked = [*ASKED, {"role": "user", "content": "and?"}]
    item = reader.chat(asked, "fine", None, None)
    whole = reader.tokenizer.decode(item.ids)
    assert learned(reader, item) == "yo<|im_end|>fine<|im_end|>"
    assert whole.endswith("fine<|im_end|>"), "the blank line behind it is the template's"
    assert reader.tokenizer.decode(item.prompt) == whole[: -len("fine<|im_end|>")]
    assert reader.tokenizer.pad_token_id == item.ids[-1] and item.answer == len("fine") + 1


@pytest.mark.parametrize(
    ("template", "expected", "unmatched"),
    [
        # an earlier answer is shown otherwise once another follows, as where thoughts are left out
        ("{% for m in messages %}{{ m['role'] + ':' + (m['content'] if loop.last else '...') + '\n' }}{% endfor %}"
         "{% if add_generation_prompt %}assistant:{% endif %}", "", 1),
        # nothing marks the end of a turn
        ("{% for m in messages %}{{ m['role'] + ':' + m['content'] + '\n' }}{% endfor %}"
         "{% if add_generation_prompt %}assistant:{% endif %}", "yofine<|im_end|>", 0),
        # an answer's words are not asked for in the way in which they are shown
        ("{% for m in messages %}{{ m['role'] + ':' + m['content'] + '\n' }}{% endfor %}"
         "{% if add_generation_prompt %}answer:{% endif %}", "", 1),
    ],
)  # fmt: skip
def test_answers_that_the_template_hides_are_counted(template, expected, unmatched):
    reader = Reader(tiny_causal.tokenizer(template))
    item = reader.chat([*ASKED, {"role": "user", "content": "and?"}], "fine", None, None)
    assert (learned(reader, item), item.unmatched) == (expected, unmatched)


def test_every_token_of_a_running_text_is_learned_once():
    reader = Reader(tiny_causal.tokenizer())
    windows = reader.text("the old cat", " sees the dog", 8)
    assert [learned(reader, item) for item in windows] == ["he old ", "cat see", "s the d", "og<|im_end|>"]
    assert all(len(item.ids) <= 8 for item in windows)
    assert [len(item.prompt) for item in windows] == [11, 0, 0, 0], "it is asked whole"


def test_completions_and_what_is_cut():
    reader = Reader(tiny_causal.tokenizer())
    for prompt, completion in (("Say: ", "hello"), ("Say:", " hello")):
        item = reader.completion(prompt, completion, None, None)
        assert reader.tokenizer.decode(item.prompt) == "Say:" and learned(reader, item) == " hello<|im_end|>"
    assert learned(reader, reader.completion("Say", "hello", None, None)) == "\nhello<|im_end|>"
    long = reader.completion("a long prompt:", "yes", 10, None)
    assert reader.tokenizer.decode(long.ids) == "mpt:\nyes<|im_end|>"[-len(long.ids) :] or len(long.ids) == 10
    assert long.cut and not long.cut_answer and learned(reader, long) == "\nyes<|im_end|>"
    short = reader.completion("a:", "a long answer", None, 4)
    assert short.cut_answer and learned(reader, short) == "\na l", "without its end: it goes on"
    head = Reader(tiny_causal.tokenizer())
    head.head = [2]
    assert head.completion("a long prompt:", "yes", 10, None).ids[0] == 2


def test_what_ends_a_turn_ends_writing():
    marked = tiny_causal.tokenizer(tiny_causal.CHATML.replace("<|im_end|>", "<s>"))
    assert ends(marked) == [0, 2] and ends(tiny_causal.tokenizer(None)) == [0]


# --- likelihood ---


def test_pairs_of_tokens_are_a_distribution_and_know_train():
    rng = np.random.default_rng(0)
    ids = [[0, *rng.integers(1, 6, 30).tolist()] for _ in range(20)]
    counted = Bigrams((row, [-100, *row[1:]]) for row in ids)
    for before in (0, 3, 7):
        total = sum(math.exp(-counted.nll([before, then], [-100, then], 9)[0]) for then in range(9))
        assert total == pytest.approx(1.0)
    assert counted.nll([1, 2, 3], [-100, -100, 3], 9)[1] == 1
    assert Bigrams([]).nll([1, 2], [-100, 2], 8) == (pytest.approx(math.log(8)), 1)


@EVERY
def test_the_loss_is_the_models_own_and_a_sum_over_the_batch(architecture, folder):
    found = loaded(folder, architecture)
    ids = torch.randint(3, 200, (6, 12))
    labels = ids.clone()
    labels[:, :4], labels[::2, 8:] = -100, -100
    with torch.no_grad():
        theirs = found(input_ids=ids, labels=labels)
    count = int((labels[:, 1:] != -100).sum())
    ours = ANSWER.loss()({"logits": theirs.logits}, labels, torch.tensor(count))
    assert ours.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    nll, tokens, _ = shifted_sums(theirs.logits, labels).sum(0).tolist()
    assert nll / tokens == pytest.approx(theirs.loss.item(), rel=1e-5) and tokens == count


def test_a_loss_in_slices_has_the_same_gradient(monkeypatch):
    logits, labels = torch.randn(4, 9, 30, requires_grad=True), torch.randint(0, 30, (4, 9))
    labels[0, :5] = -100
    grown = []
    for size in (10**9, 90):
        monkeypatch.setattr("hftransfer.answers._causal.SLICE", size)
        logits.grad = None
        summed_loss(logits, labels).backward()
        grown.append(logits.grad.clone())
    assert torch.allclose(grown[0], grown[1], rtol=1e-5)


# --- asking ---


@EVERY
def test_alone_or_in_a_batch_a_prompt_is_answered_alike(architecture, folder):
    """Prompts are filled up on their left: on the right, a model would write on from padding."""
    found, processor = loaded(folder, architecture), tiny_causal.tokenizer()
    prompts = [processor(text)["input_ids"] for text in ("the big cat sees", "a", "old dog")]
    import dataclasses

    answer = dataclasses.replace(ANSWER, max_new_tokens=8)
    together = answer.write(found, prompts, processor)
    assert together == [answer.write(found, [prompt], processor)[0] for prompt in prompts]
    assert len(set(together)) > 1


@pytest.mark.parametrize(
    ("form", "architecture", "method"),
    [
        ("messages", "llama", "full"), ("completion", "llama-untied", "lora"), ("text", "gpt2", "full"),
        ("instruction", "qwen3", "lora"), ("conversations", "opt", "full"), ("messages", "bloom", "lora"),
    ],
)  # fmt: skip
def test_every_architecture_learns_and_a_stranger_asks_it(form, architecture, method, folder, train):
    run, result = train(
        tree(folder, form, architecture), f"method.name={method}", "evaluation.max_new_tokens=8", "data.max_length=96"
    )
    scores = result["test"]["metrics"]
    main = "perplexity" if form in ("text", "messages", "conversations") else "chrf"
    assert result["main_metric"] == next(iter(scores)) == main and result["selected_by"] == "perplexity"
    assert scores["perplexity"]["low"] <= scores["perplexity"]["value"] <= scores["perplexity"]["high"]
    chance = 150 if method == "full" else 250  # adapters move random weights little
    assert scores["perplexity"]["value"] < chance, "it has learnt: chance is the vocabulary of 259"
    assert result["baseline"]["metrics"]["perplexity"]["value"] < 10
    stored = pd.read_parquet(run.predictions / "test.parquet")
    assert stored["nll"].sum() / stored["tokens"].sum() == pytest.approx(math.log(scores["perplexity"]["value"]))
    assert (stored["tokens"] == stored["trivial_tokens"]).all()
    predictor = Predictor(run.artifact)
    assert predictor.notes["carried"]["form"] == {"instruction": "completion"}.get(
        form, form if form in ("text", "completion") else "chat"
    )
    pipeline = transformers.pipeline("text-generation", str(run.artifact))
    for asked in ("the big cat", *([ASKED[:1]] if main == "perplexity" and form != "text" else [])):
        row = predictor.task.row({"prompt": asked})
        (ours,) = predictor.answer([{"prompt": asked}])
        assert predictor.task.ask_pipeline(pipeline, predictor.opened(row), None)["text"] == ours["text"]
    assert (run.artifact / "chat_template.jinja").is_file() and (run.artifact / "model.safetensors").is_file()


def test_a_model_that_is_not_ours_is_asked_as_it_was_made(folder):
    predictor = Predictor(model(folder, "gpt2"))
    assert predictor.task.name == "text-generation"
    (found,) = predictor._prepared([{"prompt": "hi"}]).items([0])
    assert predictor.processor.decode(found["_prompt"]).startswith("<|im_start|>user\nhi")


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"messages": ASKED[:1]}, ASKED[:1]),
        ({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]}, ASKED[:1]),
        ({"instruction": "Add.", "input": "1 and 2"}, "Add.\n\n1 and 2"),
        ({"instruction": "Add.", "input": "1 and 2", "output": "3"}, "Add.\n\n1 and 2"),
        ({"prompt": "a cat", "completion": "sat"}, "a cat"),
        ({"text": "a cat"}, "a cat"),
    ],
)
def test_tables_are_asked_as_training_reads_them(row, asked, tmp_path):
    from hftransfer.data import read_inputs

    place = tiny_causal.written(tmp_path / "r.jsonl", [row, row])
    (found, _) = read_inputs(place, catalog.task("text-generation"), {"prompt": "prompt"})
    assert found == {"prompt": json.dumps(asked) if isinstance(asked, list) else asked}


def test_a_text_is_seen_as_it_grows(folder):
    predictor = Predictor(model(folder, "gpt2"))
    object.__setattr__(predictor.answered, "max_new_tokens", 12)
    grown = list(predictor.grow({"prompt": "the big cat"}))
    assert len(grown) > 2 and sorted(grown, key=len) == grown
    assert grown[-1] == predictor.answer(["the big cat"])[0]["text"]


# --- training ---


@pytest.mark.parametrize("form", ["messages", "text"])
def test_four_batches_of_four_are_one_of_sixteen(form, folder, train):
    found = []
    for size, times in ((16, 1), (4, 4)):
        run, _ = train(
            tree(folder, form, max_length=32), f"train.per_device_train_batch_size={size}",
            f"train.gradient_accumulation_steps={times}", "train.learning_rate=0", "train.max_steps=1",
            "train.logging_steps=1", "train.train_sampling_strategy=sequential", "train.bf16=false",
            "evaluation.max_new_tokens=1", name=str(size),
        )  # fmt: skip
        (log,) = (event for event in run.events()[0] if event["type"] == "log")
        found.append((log["loss"], log["grad_norm"]))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_stopped_run_goes_on_to_the_same_bits(folder, tmp_path):
    chosen = {**tree(folder, "completion"), "evaluation": {"resamples": 100, "max_new_tokens": 2, "forgetting": False}}
    whole = start(chosen, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start(chosen, tmp_path / "stopped", steps=4)
    stopped = Run(tmp_path / "stopped")
    resume(stopped)
    same_weights(whole, stopped)


def test_a_stream(folder, train):
    _, result = train(
        tree(folder, "conversations"), "data.streaming=true", "train.max_steps=3", "evaluation.max_new_tokens=2"
    )
    assert result["test"]["n"] > 10 and result["baseline"]["metrics"]["perplexity"]["value"] < 10


def test_the_model_as_it_is(folder, train):
    _, result = train(tree(folder), "method.name=zero_shot", "evaluation.max_new_tokens=2")
    assert result["test"]["metrics"]["perplexity"]["value"] > 150


def test_check_asks_scores_saves_and_asks_again(folder):
    with Interruption() as interruption:
        built = catalog.build_config({**tree(folder), "evaluation": {"max_new_tokens": 2}})
        assert questions.check(built, interruption)["updates"] > 0


# --- packing ---


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3"])
def test_packed_rows_have_the_loss_and_gradient_of_padded_ones(architecture, folder, train):
    """No token sees another row's: one update is the same, however many rows share an item."""
    found = []
    for packing in ("false", "true"):
        run, _ = train(
            tree(folder, "messages", architecture, max_length=150), f"data.packing={packing}",
            "train.per_device_train_batch_size=200", "train.learning_rate=0", "train.max_steps=1",
            "train.logging_steps=1", "train.bf16=false", "evaluation.max_new_tokens=1", name=packing,
        )  # fmt: skip
        (log,) = (event for event in run.events()[0] if event["type"] == "log")
        found.append((log["loss"], log["grad_norm"]))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_packs_hold_every_row_once_and_little_else():
    from hftransfer.modeling.packing import packs_of

    lengths = np.random.default_rng(0).integers(3, 100, 500)
    packs = packs_of(lengths, 128, 7)
    assert sorted(np.concatenate(packs).tolist()) == list(range(500))
    held = [int(lengths[pack].sum()) for pack in packs]
    assert max(held) <= 128 and sum(held) > 0.95 * 128 * len(packs)
    assert [pack.tolist() for pack in packs] == [pack.tolist() for pack in packs_of(lengths, 128, 7)]
    assert [pack.tolist() for pack in packs] != [pack.tolist() for pack in packs_of(lengths, 128, 8)]


@pytest.mark.parametrize(
    ("architecture", "overrides", "message"),
    [
        ("bloom", [], r"packed rows are like rows by themselves; .* is a BloomForCausalLM: a row sees the one before"),
        ("opt", [], r"packed rows are like rows by themselves; .* is a OPTForCausalLM: .*Drop data.packing"),
        (
            "llama",
            ["data.streaming=true", "train.max_steps=2"],
            r"streaming is true. Set data.streaming=false",
        ),
    ],
)
def test_what_cannot_be_packed_is_refused(architecture, overrides, message, folder, train):
    with pytest.raises(UserError, match=message):
        train(tree(folder, "messages", architecture), "data.packing=true", *overrides)


def test_packing_is_for_models_that_go_on(tmp_path, train):
    tree = {
        **QUICK, "task": "text-classification", "model": str(tiny.text_model(tmp_path / "bert")),
        "data": {"source": str(tiny.text_csv(tmp_path / "rows.csv", 60)), "packing": True},
    }  # fmt: skip
    with pytest.raises(UserError, match=r"models that go on.*text-classification is none. Drop data.packing"):
        train(tree)


def test_a_packed_run_learns_and_goes_on_to_the_same_bits(folder, tmp_path):
    chosen = {
        **tree(folder, "completion", packing=True),
        "evaluation": {"resamples": 100, "max_new_tokens": 2, "forgetting": False},
    }
    chosen["train"] = {**chosen["train"], "per_device_train_batch_size": 2}
    whole = start(chosen, tmp_path / "whole")
    assert whole.result()["test"]["metrics"]["perplexity"]["value"] < 200
    with pytest.raises(Interrupted):
        start(chosen, tmp_path / "stopped", steps=4)
    stopped = Run(tmp_path / "stopped")
    resume(stopped)
    same_weights(whole, stopped)


# --- what was forgotten ---


def test_general_text_is_read_before_and_after(folder, train):
    from hftransfer.audit import forgetting_report

    chosen = {**tree(folder, "completion"), "evaluation": {"resamples": 100, "max_new_tokens": 2}}
    run, result = train(chosen)
    found = result["forgotten"]
    assert found["n"] > 50 and found["tokens"] > 1000 and len(found["sha256"]) == 64
    for score in (found["before"], found["after"]):
        assert score["low"] <= score["value"] <= score["high"]
    moved = found["after"]["value"] - found["before"]["value"]
    assert found["difference"]["value"] == pytest.approx(moved) and moved != 0
    (said,) = forgetting_report.facts(result)
    assert said in (run.artifact / "README.md").read_text() and "before training" in said
    _, still = train(chosen, "train.learning_rate=0", "train.max_steps=1", name="still")
    assert still["forgotten"]["difference"]["value"] == 0
    assert "that it has forgotten anything is not shown" in forgetting_report.facts(still)[0]
    _, asked = train(chosen, "method.name=zero_shot", name="asked")
    assert asked["forgotten"] is None and not forgetting_report.facts(asked)


# --- beside one another ---


def test_runs_are_compared_and_fused(folder, train):
    """By stored answers; mixtures are chosen by the likelihood of the validation answers."""
    from hftransfer.comparison import contenders, judging
    from hftransfer.methods import fuse

    chosen = {**tree(folder, "messages"), "evaluation": {"resamples": 100, "max_new_tokens": 2, "forgetting": False}}
    runs = [
        train(chosen, f"train.learning_rate={rate}", f"method.name={method}", name=name)[0]
        for name, rate, method in (("one", 1e-2, "full"), ("two", 5e-3, "full"), ("asked", 0, "zero_shot"))
    ]
    judged = judging.judge([run.name for run in runs], contenders.gather([str(run.folder) for run in runs]))
    assert {one["name"] for one in judged["models"]} == {"one", "two", "asked"}
    assert judged["verdict"] and judged["metric"] == "perplexity"
    method = {"name": "fuse", "runs": [str(run.folder) for run in runs[:2]], "how": "interpolate", "steps": 2}
    fused, result = train({**chosen, "method": method}, name="fused")
    assert json.loads((fused.folder / fuse.FILE).read_text())["tried"]
    assert result["test"]["metrics"]["perplexity"]["value"] < 150


# --- tied embeddings ---

TIED = "same weights as embeddings and as last layer.*trainable_token_indices.*ensure_weight_tying=true"


@pytest.mark.parametrize(
    ("architecture", "method", "refused"),
    [
        ("llama", {}, None),
        ("llama", {"target_modules": ["q_proj", "lm_head"]}, TIED),
        ("llama", {"target_modules": ["q_proj", "embed_tokens"]}, TIED),
        ("llama", {"modules_to_save": ["embed_tokens"]}, TIED),
        ("llama", {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}, None),
        ("llama", {"trainable_token_indices": {"embed_tokens": [1, 2]}}, None),
        ("llama-untied", {"target_modules": ["q_proj", "lm_head"]}, None),
    ],
)
def test_tied_embeddings_merge_exactly_or_are_refused(architecture, method, refused, folder):
    from hftransfer.methods.peft import METHOD, merged
    from hftransfer.modeling.loading import Loaded

    bare = loaded(folder, architecture)
    ids = torch.randint(3, 200, (2, 9))
    chosen = config.MethodConfig(name="lora", r=4, **method)
    if refused:
        with pytest.raises(UserError, match=refused):
            METHOD.apply(Loaded(bare, "", None), chosen)
        return
    adapted = METHOD.apply(Loaded(bare, "", None), chosen)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * (0.3 if "lora" in name else 0.05))
    with torch.no_grad():
        before = adapted.eval()(input_ids=ids).logits
        plain = merged(adapted)
        after = plain(input_ids=ids).logits
    assert torch.allclose(before, after, atol=1e-4)
    place = folder / f"merged-{architecture}-{len(str(method))}"
    plain.save_pretrained(place)
    tied = architecture == "llama"
    assert plain.config.tie_word_embeddings is tied
    assert ("lm_head.weight" in load_file(place / "model.safetensors")) is not tied
    again = transformers.AutoModelForCausalLM.from_pretrained(place)
    with torch.no_grad():
        assert torch.allclose(again(input_ids=ids).logits, after, atol=1e-5)


# --- wrong input ---

NO_ANSWER = [{"messages": [*ASKED, {"role": "user", "content": f"and {i}?"}]} for i in range(40)]
WRONG: dict[str, tuple[Callable[[Path, Path], dict[str, Any]], str]] = {
    "no chat template for messages": (
        lambda folder, place: {"model": str(tiny_causal.causal_model(place / "bare", template=None))},
        r"conversations need a model whose tokenizer has a chat template; this one has none. Use a model",
    ),
    "a template that refuses": (
        lambda folder, place: {
            "model": str(
                tiny_causal.causal_model(place / "strict", template="{{ raise_exception('roles must alternate') }}")
            )
        },
        r"takes are needed; it says 'roles must alternate' of 3 turns that begin with user: ",
    ),
    "conversations that end with the user": (
        lambda folder, place: {"data": {"source": str(tiny_causal.written(place / "r.jsonl", NO_ANSWER))}},
        r"40 of 40 are not: 40 with a conversation that ends with the user, not with an answer",
    ),
    "an encoder": (
        lambda folder, place: {"model": str(tiny.text_model(place / "bert"))},
        r"text-generation needs a model that goes on from a text; .* is of type 'bert', an encoder",
    ),
    "an encoder and a decoder": (
        lambda folder, place: {"model": str(t5(place / "t5"))},
        r"text-generation needs a model that AutoModelForCausalLM can load; .*'t5'",
    ),
    "more new tokens than places": (
        lambda folder, place: {"evaluation": {"max_new_tokens": 256}},
        r"max_new_tokens must be below 256, the places of the model; it is 256. Set evaluation.max_new_tokens=255",
    ),
    "a form that is none": (
        lambda folder, place: {"data": {"source": str(folder / "text.jsonl"), "form": "chats"}},
        r"data.form: wanted 'text', 'completion' or 'chat'; found 'chats'",
    ),
}  # fmt: skip


def t5(place: Path) -> Path:
    from tests import tiny_written

    return tiny_written.written_model(place)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_refused_before_training(name, folder, tmp_path, train):
    arrange, message = WRONG[name]
    with pytest.raises(UserError, match=message) as refused:
        train({**tree(folder), **arrange(folder, tmp_path)})
    assert refused.value.exit_code == 2


def test_some_conversations_without_an_answer_are_named(folder, tmp_path):
    rows = [*tiny_causal.rows("messages", 40), *NO_ANSWER[:3]]
    section = config.DataConfig(source=str(tiny_causal.written(tmp_path / "r.jsonl", rows)))
    found = load(section, catalog.task("text-generation"), 1)
    assert any("3 of 43 rows dropped: 3 with a conversation that ends with the user" in w for w in found.warnings)


@pytest.mark.parametrize("between, rows, said", [("\n\n", 12, "between blank lines"), ("\n", 12, "a row is a line")])
def test_one_file_of_plain_text_is_several_rows(between, rows, said, tmp_path):
    (tmp_path / "book.txt").write_text(between.join(f"Chapter {number} tells a story." for number in range(rows)))
    for streaming in (False, True):
        section = config.DataConfig(source=str(tmp_path / "book.txt"), streaming=streaming, max_rows=rows)
        found = load(section, catalog.task("text-generation"), 1, tmp_path / "work")
        assert sum(found.sizes.values()) == rows and any(said in guess for guess in found.guesses)
