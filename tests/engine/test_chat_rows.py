"""What rows of conversations hold besides words: systems, calls of tools, weights; and rows without a prompt."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers

from hftransfer import artifact, catalog, config
from hftransfer.answers import continuation
from hftransfer.answers._causal import Reader, fitting
from hftransfer.answers.continuation import Continuation
from hftransfer.data import load
from hftransfer.errors import UserError
from hftransfer.fitting.interruption import Interruption
from hftransfer.inputs._dialogues import turns
from hftransfer.modeling.packing import _joined
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from hftransfer.training import set_scene
from tests import tiny_causal
from tests.engine.conftest import QUICK

NOTES = {
    "schema": artifact.SCHEMA, "task": "text-generation", "max_length": 16, "carried": {"form": "completion"},
    "answer": Continuation(max_new_tokens=4).to_dict(), "columns": {},
}  # fmt: skip
USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}


def rows_of(tmp_path, rows, **data):
    source = tiny_causal.written(tmp_path / "rows.jsonl", rows)
    found = load(config.DataConfig(source=str(source), **data), catalog.task("text-generation"), 1)
    return found, [row for split in found.splits.values() for row in split]


def varied(text: str, count: int = 20) -> list[str]:
    return [f"{text} {number}" for number in range(count)]


def test_a_column_of_systems_begins_conversations(tmp_path):
    asked = [
        {"system": "be short" if number % 2 else "", "conversations": [
            {"from": "human", "value": text}, {"from": "gpt", "value": f"it is {number}"}]}
        for number, text in enumerate(varied("what is"))
    ]  # fmt: skip
    found, rows = rows_of(tmp_path, asked)
    roles = [[turn["role"] for turn in turns(row["prompt"])] for row in rows]
    assert sorted(map(len, roles)) == [1] * 10 + [2] * 10 and ["system", "user"] in roles
    assert any("`system` begins them" in guess for guess in found.guesses)


@pytest.mark.parametrize("form", [None, "chat"])
@pytest.mark.parametrize("names", [("question",), ("instruction", "input")])
def test_a_column_of_systems_stands_before_prompts(names, form, tmp_path):
    asked = [
        {"system_prompt": "be short", **dict.fromkeys(names, text), "response": f"it is {number}"}
        for number, text in enumerate(varied("what is"))
    ]
    found, rows = rows_of(tmp_path, asked, **({} if form is None else {"form": form}))
    for row in rows:
        if form == "chat":
            assert turns(row["prompt"])[0] == {"role": "system", "content": "be short"}
            assert turns(row["prompt"])[1]["content"].startswith("what is")
        else:
            assert row["prompt"].startswith("be short\n\nwhat is")
    assert any("`system_prompt` stands before it" in guess for guess in found.guesses)


def test_a_call_of_a_tool_is_no_empty_answer(tmp_path):
    call = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "f"}}]}
    assert turns([USER, call])[1]["content"] is None
    assert (
        turns([USER, {**ANSWER, "tool_calls": []}])
        == turns([USER, {**ANSWER, "function_call": None}])
        == [USER, ANSWER]
    )
    asked = [{"messages": [{**USER, "content": text}, ANSWER]} for text in varied("hi", 30)]
    for row in asked[:5]:
        row["messages"] = [row["messages"][0], call, {"role": "tool", "content": "3"}, ANSWER]
    found, rows = rows_of(tmp_path, asked)
    assert len(rows) == 25 and any("the call of a tool" in warning for warning in found.warnings)


def test_answers_of_no_weight_are_not_learned(tmp_path):
    light = {**ANSWER, "content": "no", "weight": 0}
    assert turns([USER, light, USER, {**ANSWER, "weight": 1}]) == [USER, light, USER, ANSWER]
    reader = Reader(tiny_causal.tokenizer())
    item = reader.chat([USER, light, USER], "fine", None, None)
    kept = [token for token, known in zip(item.ids, item.learned, strict=True) if known]
    assert reader.tokenizer.decode(kept) == "fine<|im_end|>"
    asked = [{"messages": [{**USER, "content": text}, ANSWER, USER, light]} for text in varied("hi")]
    _, rows = rows_of(tmp_path, asked)
    assert all(row["completion"] == "yo" and len(json.loads(row["prompt"])) == 1 for row in rows)


def test_an_empty_prompt_is_asked_with_what_begins_a_text():
    tokenizer = tiny_causal.tokenizer()
    reader = Reader(tokenizer)
    assert not reader.head and len(reader.begin) == 1
    item = reader.completion(" ", "hello", None, None)
    assert item.prompt == reader.begin and item.ids[0] == reader.begin[0]
    assert item.ids[1:-1] == reader.ids("hello") and item.learned == [False, *[True] * (len(item.ids) - 1)]
    assert reader.completion("", None, None, None).prompt == reader.begin


def test_what_ends_a_packed_row_does_not_tell_the_next_ones_first_token():
    items = [{"input_ids": [5, 6], "labels": [5, 6]}, {"input_ids": [7, 8, 9], "labels": [7, 8, 9]}]
    pack = _joined(items)
    assert pack["labels"] == [-100, 6, -100, 8, 9] and pack["position_ids"] == [0, 1, 0, 1, 2]
    alone = sum(int((np.array(item["labels"][1:]) != -100).sum()) for item in items)
    assert int((np.array(pack["labels"][1:]) != -100).sum()) == alone


TURNED = (  # an answer's words are not asked for in the way in which they are shown
    "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}answer:{% endif %}"
)


def test_an_update_of_rows_without_anything_to_learn_is_none(tmp_path):
    reader = Reader(tiny_causal.tokenizer(TURNED))
    item = reader.chat([{**USER, "content": "a long question " * 9}], "yo", 16, None)
    assert item.unmatched == 1 and len(item.ids) == 16 and not any(item.learned)
    logits = torch.randn(1, 16, 20, requires_grad=True)
    labels = torch.full((1, 16), -100)
    for count in (None, torch.tensor(0), 0):
        loss = Continuation().loss()({"logits": logits}, labels, count)
        loss.backward()
        assert float(loss.detach()) == 0.0 and not logits.grad.any()


def test_a_template_by_which_nothing_is_learned_is_refused(tmp_path):
    source = tiny_causal.written(tmp_path / "rows.jsonl", tiny_causal.rows("messages", 40))
    model = tiny_causal.causal_model(tmp_path / "model", template=TURNED)
    tree = {
        **QUICK, "task": "text-generation", "model": str(model),
        "data": {"source": str(source), "likely_copies": False}, "evaluation": {"forgetting": False},
    }  # fmt: skip
    built = catalog.build_config(tree)
    with (
        Interruption() as interruption,
        pytest.raises(UserError, match="conversations are needed whose answers") as caught,
    ):
        set_scene(built, Run.create(built, tmp_path / "run"), interruption, resume=False)
    assert caught.value.exit_code == 2


def test_a_prompt_is_asked_whole_and_learned_cut():
    reader = Reader(tiny_causal.tokenizer())
    asked = [{"role": "system", "content": "be kind"}, {**USER, "content": "please " * 30}]
    for item in (reader.chat(asked, "yo", 32, None), reader.chat(asked, None, 32, None)):
        assert len(item.ids) <= 32 and reader.tokenizer.decode(item.prompt).count("please") == 30
        assert "be kind" in reader.tokenizer.decode(item.prompt)
    assert fitting([[1, 2, 3, 4], [5]], 3, reader.tokenizer) == [[2, 3, 4], [5]]


def test_prompts_that_are_long_or_end_in_blanks_are_asked_as_strangers_ask_them(tmp_path):
    place = tiny_causal.causal_model(tmp_path / "model")
    config_of = json.loads((place / "generation_config.json").read_text()) | {"max_new_tokens": 4}
    (place / "generation_config.json").write_text(json.dumps(config_of))
    (place / "hftransfer.json").write_text(json.dumps(NOTES))
    predictor = Predictor(place)
    pipeline = transformers.pipeline("text-generation", str(place), do_sample=False)
    asked = ["say " * 20 + "yes: ", "short:", "long " * 200]
    rows = [predictor.task.row(one) for one in asked]
    theirs = [predictor.task.ask_pipeline(pipeline, predictor.opened(row), 16) for row in rows]
    ours = [answer["text"] for answer in predictor(asked)]
    assert [one["text"] for one in theirs[:2]] == ours[:2] and ours[2] is not None
    assert theirs[2] is None, "it is more than the model has places for"


def test_many_long_prompts_are_read_a_few_at_a_time(monkeypatch):
    sizes: list[int] = []
    monkeypatch.setattr(continuation, "PROMPTS", 10)
    monkeypatch.setattr(
        Continuation,
        "write",
        lambda self, model, prompts, processor: sizes.append(len(prompts)) or ["x"] * len(prompts),
    )
    found = Continuation().ask(None, {"_prompt": [[1] * 5, [], [1, 2], [3]]}, None)
    assert sizes == [2, 1] and [one.text for one in found] == ["x", "", "x", "x"]
