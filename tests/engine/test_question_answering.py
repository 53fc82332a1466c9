"""Answers that are a part of a text: every form of data, windows, no answer, scores, and strangers who ask alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import transformers
from datasets import Dataset
from safetensors.numpy import load_file

from hftransfer import catalog, config, questions, views
from hftransfer.answers import _references, _spans
from hftransfer.answers._spans import Place
from hftransfer.answers.span import Found, Span
from hftransfer.data import load
from hftransfer.errors import UserError
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from hftransfer.ui import markup
from tests import tiny_spans
from tests.engine import accumulation
from tests.engine.conftest import QUICK
from tests.engine.test_resume import resume, same_weights, start

Train = Callable[..., tuple[Run, dict[str, Any]]]
TASK = catalog.task("question-answering")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of models, each made when it is first asked for, and of questions."""
    found = tmp_path_factory.mktemp("spans")
    tiny_spans.jsonl(found / "rows.jsonl")
    return found


def model(folder: Path, architecture: str = "bert", **settings: Any) -> Path:
    """Return a tiny model; `settings` go into its config.json."""
    place = folder / "-".join([architecture, *map(str, settings.values())])
    if not place.is_dir():
        tiny_spans.model(place, architecture)
        known = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps(known | settings))
    return place


def tree(folder: Path, architecture: str = "bert", **settings: Any) -> dict[str, Any]:
    """Return a configuration that learns something in a second."""
    return {
        **QUICK, "task": "question-answering", "model": str(model(folder, architecture, **settings)),
        "data": {"source": str(folder / "rows.jsonl")},
        "train": {**QUICK["train"], "num_train_epochs": 4, "learning_rate": 5e-3},
    }  # fmt: skip


def asked_by_a_stranger(run: Run, row: dict[str, str]) -> dict[str, Any]:
    """Return what the card's lines answer."""
    names: dict[str, Any] = {}
    quoted = {name: repr(value) for name, value in row.items()}
    exec(TASK.snippet(repr(str(run.artifact)), quoted, Predictor(run.artifact).notes), names)
    return dict(names["answer"])


def shown(row: dict[str, Any]) -> dict[str, str]:
    return {name: row[name] for name in ("question", "context")}


@pytest.mark.parametrize("architecture", tiny_spans.ARCHITECTURES)
def test_every_architecture_answers_and_a_stranger_asks_it(architecture, folder, train):
    run, result = train(tree(folder, architecture))
    scores = result["test"]["metrics"]
    assert list(scores) == ["f1_words", "exact", "f1_answerable", "exact_unanswerable"]
    assert all(score["low"] <= score["value"] <= score["high"] for score in scores.values())
    assert result["main_metric"] == "f1_words" and result["selected_by"] == "f1_tokens"
    assert scores["f1_words"]["value"] > 0.7 > result["baseline"]["metrics"]["f1_words"]["value"]
    predictor = Predictor(run.artifact)
    for row in map(shown, tiny_spans.rows(4, seed=5)):
        (ours,) = predictor.answer([row])
        theirs = asked_by_a_stranger(run, row)
        assert (theirs["answer"], theirs["start"]) == (ours["answer"], ours["start"])
        assert row["context"][ours["start"] : ours["end"]] == ours["answer"]
    stored = pd.read_parquet(run.predictions / "test.parquet")
    assert {"row_id", "label", "prediction", "places", "none"} <= set(stored)
    right = [answer in list(truth) if len(truth) else not answer
             for truth, answer in zip(stored["label"], stored["prediction"], strict=True)]  # fmt: skip
    assert np.mean(right) == pytest.approx(scores["exact"]["value"])


# --- windows ---


def long_rows(folder: Path, count: int = 80) -> Path:
    """Write questions whose texts need several windows of 24 tokens."""
    path, rows = folder / "long.jsonl", tiny_spans.rows(count, seed=3)
    for number, row in enumerate(rows):
        filler = " ".join(["the old and new"] * (1 + number % 9))
        row["context"] = f"{filler} {row['context']} {filler}"
        row["answers"]["answer_start"] = [at + len(filler) + 1 for at in row["answers"]["answer_start"]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_long_texts_are_read_in_windows_and_none_is_lost(folder, train):
    source = long_rows(folder)
    run, result = train(tree(folder), f"data.source={source}", "data.max_length=24", "data.stride=5",
                        "train.num_train_epochs=6")  # fmt: skip
    assert result["test"]["metrics"]["f1_words"]["value"] > 0.7
    assert result["carried"] == {"stride": 5} and result["max_length"] == 24
    predictor = Predictor(run.artifact)
    rows = [json.loads(line) for line in source.read_text().splitlines()][:10]
    assert max(len(row["context"].split()) for row in rows) > 3 * 24 - 20
    for row in rows:
        (ours,) = predictor.answer([shown(row)])
        theirs = asked_by_a_stranger(run, shown(row))
        assert (theirs["answer"], theirs["start"]) == (ours["answer"], ours["start"])
    assert len(pd.read_parquet(run.predictions / "test.parquet")) == result["test"]["n"]


def preparation(**settings: Any) -> Any:
    from hftransfer.tasks.base import Preparation

    return Preparation(config.DataConfig(source="-", **settings), Span(), 0, settings.get("max_length", 64))


def prepared(rows: list[dict[str, Any]], tokenizer: Any, **settings: Any) -> dict[str, Any]:
    """Return the windows of rows with their labels."""
    from hftransfer.modeling.prepared import encode

    batch = {name: [row[name] for row in rows] for name in ("question", "context", "answers")}
    return encode(TASK, batch, tokenizer, preparation(**settings))


@pytest.mark.parametrize("bytes_", [False, True], ids=["words", "bytes"])
def test_the_places_of_every_window_are_those_of_the_text(bytes_):
    """Blanks, marks and characters of several bytes included."""
    context = "the  old cup , \u00e9t\u00e9 \U0001f600 and a\u0301 red hat . a blue key of two ; \u4e2d\u6587 ."
    tokenizer = tiny_spans.tokenizer(bytes_)
    for text in ("\u00e9t\u00e9", "\U0001f600", "red hat", "blue key of two", "\u4e2d\u6587", "old cup"):
        truth = [{"text": text, "start": context.index(text)}]
        row = {"question": "what is it ?", "context": context, "answers": truth}
        found = prepared([row], tokenizer, max_length=64 if bytes_ else 16, stride=18 if bytes_ else 4)
        held = []
        for i, (first, last) in enumerate(found["labels"]):
            places = np.reshape(found["_places"][i], (-1, 2))
            if (first, last) == (found["_none"][i],) * 2:
                continue
            at = found["_at"][i]
            start, end = places[first - found["_first"][i]][0], places[last - found["_first"][i]][1]
            held.append(context[at + start : at + end].strip())
            assert found["_text"][i][start:end].strip() == text
        assert held and set(held) == {text}, text
        assert all(len(ids) <= (64 if bytes_ else 16) for ids in found["input_ids"])


def test_an_answer_that_no_window_holds_teaches_nothing_and_a_given_place_is_the_one_learnt():
    tokenizer = tiny_spans.tokenizer()
    context = "red cup and red hat and red key"
    asked = {"question": "what ?", "context": context}
    second = context.index("red hat")
    (labels,) = prepared([{**asked, "answers": [{"text": "red", "start": second}]}], tokenizer)["labels"]
    (first,) = prepared([{**asked, "answers": [{"text": "red", "start": -1}]}], tokenizer)["labels"]
    assert labels == [first[0] + 3] * 2, "the place that is given, not the first that says the same"
    whole = [{"text": context, "start": 0}]
    assert {tuple(row) for row in prepared([{**asked, "answers": whole}], tokenizer, max_length=12)["labels"]} == {
        (-100, -100)
    }
    (none,) = prepared([{**asked, "answers": []}], tokenizer)["labels"]
    assert none == [0, 0]


def test_of_a_text_without_a_place_the_first_one_is_learnt_whatever_window_shows_others():
    tokenizer = tiny_spans.tokenizer()
    context = "red cup . " + "a blue key of two ; " * 6 + "red hat ."
    row = {"question": "what ?", "context": context, "answers": [{"text": "red", "start": -1}]}
    found = prepared([row], tokenizer, max_length=16, stride=2)
    held = [at for at, labels, none in zip(found["_at"], found["labels"], found["_none"], strict=True)
            if tuple(labels) != (none, none)]  # fmt: skip
    assert held == [0] and any("red hat" in text for text in found["_text"])


def test_a_long_question_leaves_half_a_window_to_the_text_and_is_said(folder, train):
    rows = tiny_spans.rows(60)
    for row in rows[:30]:
        row["question"] = "what colour is the old and new " * 3
    path = folder / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run, result = train(
        tree(folder), f"data.source={path}", "data.max_length=32", "train.max_steps=1", "train.use_cpu=true"
    )
    said = r"train: .* of rows \(\d+\) were cut at half of 32 tokens, which is what a question may take"
    assert any(re.search(said, warning) for warning in result["data"]["warnings"])
    row = shown(rows[0])
    (ours,) = Predictor(run.artifact).answer([row])
    assert asked_by_a_stranger(run, row)["answer"] == ours["answer"]


def test_the_best_places_are_those_of_all_pairs():
    import torch

    torch.manual_seed(1)
    starts, ends = torch.randn(40), torch.randn(40)
    both = [(i, j, float(starts[i] + ends[j])) for i in range(40) for j in range(i, min(i + 7, 40))]
    expected = sorted(both, key=lambda one: -one[2])[: _spans.KEPT]
    assert [one[:2] for one in _spans.best(starts, ends, 7)] == [one[:2] for one in expected]
    assert _spans.best(starts[:2], ends[:2], 30) and not _spans.best(starts[:0], ends[:0], 30)


def test_windows_of_a_row_are_joined():
    cat, dog = Place("cat", 3, 6, 1.0), Place("dog", 9, 12, 2.0)
    joined = Span().join([Found((cat,), 4.0), Found((dog, cat._replace(score=3.0)), 1.5)])
    assert joined == Found((cat._replace(score=3.0), dog), 1.5)


# --- loss, resume, processes' business, methods ---


def test_four_batches_of_four_are_one_of_sixteen(folder, train):
    accumulation.require_exact(train, tree(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))


def test_a_stopped_run_goes_on_to_the_same_bits(folder, tmp_path):
    chosen = tree(folder)
    whole = start(chosen, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start(chosen, tmp_path / "stopped", steps=7)
    stopped = Run(tmp_path / "stopped")
    resume(stopped)
    same_weights(whole, stopped)


def test_a_model_with_three_labels_gets_a_head_of_two(folder, train):
    """A classifier's config says how wide its head was: transformers would build that head and fail in it."""
    labels = {str(i): name for i, name in enumerate("abc")}
    _, result = train(tree(folder, id2label=labels), "train.max_steps=1")
    assert result["test"]["n"] > 10


def test_lora_is_merged_and_the_head_is_kept(folder, train):
    run, result = train({**tree(folder), "method": {"name": "lora", "r": 8}}, "train.learning_rate=0.02", "seed=1")
    assert result["test"]["metrics"]["f1_words"]["value"] > 0.7
    assert not any("lora" in name for name in load_file(run.artifact / "model.safetensors"))
    row = shown(tiny_spans.rows(1, seed=8)[0])
    assert asked_by_a_stranger(run, row)["answer"] == Predictor(run.artifact).answer([row])[0]["answer"]


def test_what_was_trained_elsewhere_is_asked_as_it_is(folder, train):
    run, result = train(tree(folder), name="trained")
    again = {**tree(folder), "model": str(run.artifact), "method": {"name": "zero_shot"}}
    _, asked = train(again, name="asked")
    assert asked["test"]["metrics"] == result["test"]["metrics"]
    with pytest.raises(UserError, match="zero_shot needs a model that was trained to give such answers"):
        train({**tree(folder), "method": {"name": "zero_shot"}}, name="bare")


def test_methods_that_need_a_linear_head_are_refused(folder):
    for method in ("probe", "few_shot"):
        with pytest.raises(UserError, match=r"solves a linear head, which gives no span.*Set method.name=lora"):
            catalog.build_config({**tree(folder), "method": {"name": method}})
    for section in ({"name": "full", "init_head": "probe"}, {"name": "lora", "init_head": "probe"}):
        built = catalog.build_config({**tree(folder), "method": section})
        with pytest.raises(UserError, match=r"method.init_head=probe needs"), Interruption() as interruption:
            questions.check(built, interruption)


def test_two_runs_are_compared_and_their_weights_mixed(folder, tmp_path, train):
    from hftransfer import api

    one, _ = train(tree(folder), name="one")
    two, _ = train(tree(folder), "train.num_train_epochs=6", name="two")
    compared = api.compare(str(one.folder), str(two.folder))
    assert compared["metric"] == "f1_words"
    mixed, result = train(
        {**tree(folder), "method": {"name": "fuse", "runs": [str(one.folder), str(two.folder)]}}, name="mixed"
    )
    assert result["test"]["metrics"]["f1_words"]["value"] > 0.6 and mixed.artifact.is_dir()


# --- forms of data ---


def forms(folder: Path) -> dict[str, Path]:
    """Write the same questions in every form there is."""
    rows, places = tiny_spans.rows(40, seed=2), {}

    def write(name: str, found: list[dict[str, Any]]) -> None:
        places[name] = folder / f"{name}.jsonl"
        places[name].write_text("".join(json.dumps(row) + "\n" for row in found))

    def pairs(row: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            dict(zip(("text", "answer_start"), pair, strict=True))
            for pair in zip(*row["answers"].values(), strict=True)
        ]

    write("lists", rows)
    write("dicts", [{**row, "answers": pairs(row)} for row in rows])
    write("texts", [{**row, "answers": row["answers"]["text"]} for row in rows])
    write("text", [{k: v for k, v in {**row, "answer": (row["answers"]["text"] or [""])[0]}.items() if k != "answers"}
                   for row in rows])  # fmt: skip
    articles: dict[str, dict[str, Any]] = {}
    for row in rows:
        none = not row["answers"]["text"]
        more = {"is_impossible": none, "plausible_answers": [{"text": "the", "answer_start": 0}]} if none else {}
        asked = {"id": row["id"], "question": row["question"], "answers": pairs(row), **more}
        article = articles.setdefault(row["title"], {"title": row["title"], "paragraphs": []})
        article["paragraphs"].append({"context": row["context"], "qas": [asked]})
    places["squad"] = folder / "squad.json"
    places["squad"].write_text(json.dumps({"version": "v2.0", "data": [*articles.values()]}, indent=1))
    Dataset.from_list(rows).to_parquet(places.setdefault("parquet", folder / "rows.parquet"))
    return places


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
def test_every_form_gives_the_same_rows(streaming, tmp_path):
    found = {}
    for name, path in forms(tmp_path).items():
        section = config.DataConfig(source=str(path), streaming=streaming, test=None)
        read = load(section, TASK, 42, tmp_path / "work")
        (said,) = [w for w in read.guesses if "does not say where" in w] or [None]
        assert (said is not None) == (name in ("text", "texts")), name
        rows = {row["context"]: row for split in read.splits.values() for row in split}
        assert len(rows) == 40 or sum(read.sizes.values()) == 40
        found[name] = {text: [one["text"] for one in row["answers"]] for text, row in rows.items()}
        if name not in ("text", "texts"):
            for text, row in rows.items():
                assert all(
                    text[one["start"] : one["start"] + len(one["text"])] == one["text"] for one in row["answers"]
                )
    assert all(rows == found["lists"] for rows in found.values())


def test_a_file_of_squads_own_form_is_asked(folder, train, tmp_path):
    run, _ = train(tree(folder), "train.max_steps=1")
    told = Predictor(run.artifact)(forms(tmp_path)["squad"])
    assert len(told) == 40 and [one["input"]["context"] for one in told] == [one["context"] for one in told]


def test_a_stream(folder, train):
    run, result = train(tree(folder), "data.streaming=true", "train.max_steps=30")
    assert result["test"]["n"] > 10 and result["test"]["metrics"]["f1_words"]["value"] > 0.5
    assert Predictor(run.artifact).answered.unanswerable


def test_questions_about_one_text_are_kept_together_when_asked_and_said_otherwise(tmp_path):
    path, rows = tmp_path / "shared.jsonl", tiny_spans.rows(10)
    path.write_text("".join(json.dumps({**row, "question": f"{i} ?"}) + "\n" for row in rows for i in range(4)))
    said = load(config.DataConfig(source=str(path)), TASK, 42).warnings
    assert any("`context` has 10 values in 40 rows" in one and "data.group=context keeps" in one for one in said)
    grouped = load(config.DataConfig(source=str(path), group="context"), TASK, 42)
    texts = [set(split["context"]) for split in grouped.splits.values()]
    assert not (texts[0] & texts[1] or texts[0] & texts[2] or texts[1] & texts[2])


def broken(folder: Path, change: Callable[[int, dict[str, Any]], None], name: str = "broken") -> Path:
    path, rows = folder / f"{name}.jsonl", tiny_spans.rows(60, silent=0)
    for number, row in enumerate(rows):
        change(number, row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def elsewhere(row: dict[str, Any]) -> None:
    row["answers"]["answer_start"] = [row["answers"]["answer_start"][0] + 1]


def absent(row: dict[str, Any]) -> None:
    row["answers"]["text"] = ["nowhere"]


def test_places_are_checked_against_the_text_and_rows_that_fail_are_named(tmp_path):
    def change(number: int, row: dict[str, Any]) -> None:
        if number in (3, 7):
            elsewhere(row)
        if number == 11:
            absent(row)
        if number == 12:
            row["answers"] = None

    found = load(config.DataConfig(source=str(broken(tmp_path, change))), TASK, 42)
    (said,) = [warning for warning in found.warnings if "rows dropped" in warning]
    assert "train: 4 of 60 rows dropped" in said
    assert "2 with an answer that does not stand where it says in its context (counted in characters)" in said
    assert "1 with an answer that is not in its context" in said and "1 with no answer given" in said
    assert "broken.jsonl:3" in said and "broken.jsonl:7" in said


def test_a_row_with_fewer_places_than_texts_costs_no_other_row_its_own(tmp_path):
    def change(number: int, row: dict[str, Any]) -> None:
        if number == 3:
            row["answers"]["text"] *= 2

    source = broken(tmp_path, change)
    found = load(config.DataConfig(source=str(source)), TASK, 1)
    placed = [one["start"] for split in found.splits.values() for row in split for one in row["answers"]]
    assert placed and min(placed) >= 0, "the places of all other rows are read"
    assert any("1 with an answer that does not stand where it says" in one for one in found.warnings)


def test_blanks_around_an_answer_are_not_part_of_it(tmp_path):
    def change(number: int, row: dict[str, Any]) -> None:
        at = row["answers"]["answer_start"][0]
        row["context"] = "the " + row["context"]
        row["answers"] = {"text": [f" {row['answers']['text'][0]} "], "answer_start": [at + 3]}

    found = load(config.DataConfig(source=str(broken(tmp_path, change))), TASK, 42)
    for row in found.splits["train"]:
        (one,) = row["answers"]
        assert one["text"] in tiny_spans.COLOURS and row["context"][one["start"] :].startswith(one["text"])


# --- no answer ---


def test_the_threshold_is_chosen_on_validation_rows_kept_and_asked_by(folder, train, monkeypatch):
    run, result = train(tree(folder), "data.validation_size=60", "train.num_train_epochs=2")
    answer = Predictor(run.artifact).answered
    assert answer.threshold == result["answer"]["threshold"]
    validation = pd.read_parquet(run.predictions / "validation.parquet")
    truth, outputs = answer.from_columns(_table(run, "validation"))
    score = {t: _f1(answer, truth, outputs, t) for t in (answer.threshold, *np.linspace(-6, 6, 97))}
    assert score[answer.threshold] == max(score.values()) and len(validation) == 60
    limits = (run.artifact / "README.md").read_text()
    assert f"more than {answer.threshold:.4g} above that of the best part" in limits


def _table(run: Run, split: str) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(run.predictions / f"{split}.parquet").combine_chunks()


def _f1(answer: Span, truth: Any, outputs: Any, threshold: float) -> float:
    import dataclasses

    other = dataclasses.replace(answer, threshold=float(threshold))
    return float(other.outcomes(truth, outputs).f1.sum())


def test_a_threshold_is_not_read_off_a_handful_of_rows_nor_where_train_always_answers():
    outputs = [Found((Place("cat", 0, 3, float(i)),), 5.0) for i in range(60)]
    truth = [("cat",) if i > 30 else () for i in range(60)]
    always, few = Span(), Span(rows=60, unanswerable=30)
    assert always.placed(truth, outputs) == always
    assert always.texts(outputs) == ["cat"] * 60
    assert few.placed(truth[25:45], outputs[25:45]) == few
    chosen = few.placed(truth, outputs)
    assert chosen.threshold == pytest.approx(5 - 30.5) and chosen.outcomes(truth, outputs).f1.mean() == 1.0
    assert chosen.differing(outputs, outputs, "f1_words", few) == 26, "each by its own threshold"


def test_the_trivial_answer_is_the_better_of_silence_and_the_first_sentence():
    rows = {"question": ["?"] * 3, "context": ["A cat. Another dog.", "It is so! Or not.", "Nothing here"]}
    answer = Span(rows=9, unanswerable=3)
    silent = answer.baseline([(), (), ("Nothing",)], rows)
    assert silent.name == "no answer" and answer.texts(silent.outputs) == ["", "", ""]
    first = answer.baseline([("A cat",), (), ("here",)], rows)
    assert first.name == "first sentence" and answer.texts(first.outputs) == ["A cat.", "It is so!", "Nothing here"]


# --- scores ---


@pytest.mark.parametrize(
    ("text", "references", "exact", "f1"),
    [
        ("The Denver Broncos.", ("denver broncos",), 1, 1),
        ("Denver Broncos", ("Broncos", "the broncos of Denver"), 0, 0.8),
        ("in 1066", ("1066",), 0, 2 / 3),
        ("", (), 1, 1),
        ("anything", (), 0, 0),
        ("", ("anything",), 0, 0),
        ("a an the", ("",), 1, 1),
        ("\u5317\u4eac\u5e02", ("\u5317\u4eac",), 0, 0.8),
        ("red red cat", ("red cat cat",), 0, 2 / 3),
    ],
)
def test_exact_match_and_f1_are_squads(text, references, exact, f1):
    assert _references.compared(text, references) == pytest.approx((exact, f1))


def test_an_answer_is_shown_in_its_text():
    answer = Span(rows=4, unanswerable=1)
    row = {"question": "?", "context": "a <b> cat\nsat"}
    output = Found((Place("cat", 6, 9, 3.0), Place("sat", 10, 13, 1.0)), -20.0)
    told = answer.to_json(row, output)
    assert {name: told[name] for name in ("answer", "start", "end")} == {"answer": "cat", "start": 6, "end": 9}
    assert [one["answer"] for one in told["answers"]] == ["cat", "sat"]
    assert answer.to_json(row, output, top_k=1)["answers"] == told["answers"][:1]
    view = answer.view(told)
    assert views.line(view) == "cat" and views.cell(view) == "cat"
    drawn = markup.view(view)
    assert "a &lt;b&gt; <mark>cat</mark><br>sat" in drawn and "sure" in drawn
    silent = answer.view(answer.to_json(row, output._replace(none=20.0)))
    assert views.line(silent) == "no answer" and views.cell(silent) == "" and "<mark>" not in markup.view(silent)


# --- wrong input ---

WRONG: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "answers that are in no context": (
        lambda folder: [f"data.source={broken(folder, lambda _, row: absent(row))}"],
        r"usable rows are needed in train; 60 of 60 are not: 60 with an answer that is not in its context",
    ),
    "places that are not counted in characters": (
        lambda folder: [f"data.source={broken(folder, lambda _, row: elsewhere(row))}"],
        r"60 with an answer that does not stand where it says in its context \(counted in characters\)",
    ),
    "one such row, refused": (
        lambda folder: [
            f"data.source={broken(folder, lambda n, row: absent(row) if n == 5 else None)}", "data.bad_rows=refuse"
        ],
        r"every row of train must be usable; 1 of 60 are not: 1 with an answer that is not .*broken.jsonl:5",
    ),
    "no answers at all": (
        lambda folder: [
            f"data.source={broken(folder, lambda _, row: row.update(answers={'text': [], 'answer_start': []}))}"
        ],
        r"answers to learn are needed; every row of train has none. Name another column",
    ),
    "a column of numbers": (
        lambda folder: [
            f"data.source={broken(folder, lambda n, row: row.update(answers=n))}", "data.columns.answers=answers"
        ],
        r"data.columns.answers must name a column of type text with its place.*`answers` is int64",
    ),
    "windows that do not move": (
        lambda folder: ["data.max_length=32", "data.stride=30"],
        r"data.stride must be at most 14 for windows of 32 tokens.*it is 30. Set data.stride=14 or less",
    ),
    "a metric of another kind": (
        lambda folder: ["evaluation.metrics=[accuracy]"],
        r"a metric that fits the labels .*these are span. Choices: f1_words, exact",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_refused_before_training(name, folder, tmp_path):
    arrange, message = WRONG[name]
    with pytest.raises(UserError, match=message) as refused, Interruption() as interruption:
        questions.check(catalog.build_config(config.override(tree(folder), arrange(tmp_path))), interruption)
    assert refused.value.exit_code == 2


def test_a_slow_tokenizer_is_refused(folder, tmp_path):
    place = tiny_spans.model(tmp_path / "slow")
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)

    class Slow:
        is_fast = False

    with pytest.raises(UserError, match="a fast tokenizer is needed, which tells the place of each token; found Slow"):
        TASK.inputs({"question": ["?"], "context": ["a"]}, Slow(), preparation())
    assert tokenizer.is_fast


def test_check_asks_scores_saves_and_asks_again(folder):
    with Interruption() as interruption:
        assert questions.check(catalog.build_config(tree(folder)), interruption)["updates"] > 0


def test_odd_structures_are_no_answers_and_no_traceback():
    assert _spans._structure('{"text": null, "answer_start": null}') == []
    assert _spans._structure("{{1}, {2}}") is None and _spans._structure('{"text":' + "[" * 100_000) is None


@pytest.mark.parametrize("form", [
    "{{'text': ['{t}'], 'answer_start': [{s}]}}", '[{{"text": "{t}", "answer_start": {s}}}]',
    "{{'text': array(['{t}'], dtype=object), 'answer_start': array([{s}])}}",
])  # fmt: skip
def test_structures_that_a_table_holds_as_texts(form, tmp_path):
    rows = [row for row in tiny_spans.rows(20) if row["answers"]["text"]]
    table = pd.DataFrame({name: [row[name] for row in rows] for name in ("question", "context")})
    table["answers"] = [form.format(t=row["answers"]["text"][0], s=row["answers"]["answer_start"][0]) for row in rows]
    table.to_csv(tmp_path / "rows.csv", index=False)
    found = load(config.DataConfig(source=str(tmp_path / "rows.csv")), TASK, 42)
    held = {row["context"]: row["answers"] for split in found.splits.values() for row in split}
    assert len(held) == len({row["context"] for row in rows})
    assert all(
        [(one["text"], one["start"]) for one in held[row["context"]]]
        == [*zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)]
        for row in rows
    )
