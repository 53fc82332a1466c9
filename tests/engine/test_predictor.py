"""What a Predictor answers: for every task and form of input, in their order, calibrated, without a word beside it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from datasets import Dataset, Image

from hftransfer import catalog, config, training, views
from hftransfer.errors import UserError
from hftransfer.fitting.interruption import Interruption
from hftransfer.modeling import inference
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from tests import tiny
from tests.engine.conftest import QUICK

TEXTS = [text for text, _ in tiny.sentences(80)]
SECOND = [text for text, _ in tiny.sentences(80, seed=1)]


def trained(folder: Path, task: str, model: Path, source: Path, **data: Any) -> Path:
    train = {**QUICK["train"], "learning_rate": 2e-3, "dataloader_num_workers": 0}
    tree = {**QUICK, "task": task, "model": str(model), "data": {"source": str(source), **data}, "train": train}
    built = catalog.build_config(config.override(tree, []))
    with Interruption() as interruption:
        run = Run.create(built, folder)
        training.run(built, run, interruption)
    return Path(run.artifact)


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def pictures(folder: Path) -> Path:
    return tiny.image_folder(folder / "pictures", 40)


@pytest.fixture(scope="module")
def artifact(folder: Path, pictures: Path) -> Callable[[str], Path]:
    """Return a function that trains each kind of model once."""
    labels = [label for _, label in tiny.sentences(80)]
    sources: dict[str, Callable[[], tuple[str, Path, dict[str, Any]]]] = {
        "texts": lambda: (
            "text-classification",
            table(folder / "texts.csv", [{"review": t, "verdict": v} for t, v in zip(TEXTS, labels, strict=True)]),
            {"columns": {"text": "review", "label": "verdict"}},
        ),
        "pairs": lambda: (
            "text-classification",
            table(
                folder / "pairs.jsonl",
                [{"first": a, "then": b, "y": v} for a, b, v in zip(TEXTS, SECOND, labels, strict=True)],
            ),
            {"columns": {"text": "first", "text_pair": "then"}},
        ),
        "several": lambda: (
            "text-classification",
            table(
                folder / "several.jsonl",
                [{"text": t, "label": [v, "any"] if i % 3 else []} for i, (t, v) in enumerate(tiny.sentences(80))],
            ),
            {},
        ),
        "numbers": lambda: (
            "text-classification",
            table(folder / "numbers.jsonl", [{"text": t, "label": len(t) / 7} for t in TEXTS]),
            {"problem_type": "regression"},
        ),
        "tags": lambda: ("token-classification", tiny.token_jsonl(folder / "tags.jsonl", 80), {"max_length": 8}),
        "pictures": lambda: ("image-classification", pictures, {}),
    }
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            task, source, data = sources[name]()
            maker = tiny.image_model if name == "pictures" else tiny.text_model
            model = maker(folder / f"{name}-model")
            made[name] = trained(folder / "runs" / name, task, model, source, **data)
        return made[name]

    return make


@pytest.fixture(scope="module")
def predictor(artifact: Callable[[str], Path]) -> Callable[[str], Predictor]:
    made: dict[str, Predictor] = {}
    return lambda name: made.setdefault(name, Predictor(artifact(name)))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


# --- one label ---


def test_forms_of_a_text_give_one_answer(predictor):
    ask = predictor("texts")
    single = ask(TEXTS[0])
    assert single["label"] in ("negative", "positive") and single["score"] == max(single["scores"].values())
    assert single["input"] == TEXTS[0]
    for answer in (ask([TEXTS[0]])[0], ask({"text": TEXTS[0]}), ask.answer([TEXTS[0]])[0]):
        assert answer["scores"] == pytest.approx(single["scores"], abs=1e-6)
    assert ask([]) == []


def test_scores_are_the_softmax_of_logits_over_the_temperature(artifact, tmp_path):
    copy = shutil.copytree(artifact("texts"), tmp_path / "copy")
    notes = json.loads((copy / "hftransfer.json").read_text())
    names = notes["answer"]["names"]
    (copy / "hftransfer.json").write_text(json.dumps(notes | {"answer": {**notes["answer"], "temperature": 0.25}}))
    tokenizer = transformers.AutoTokenizer.from_pretrained(copy)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(copy).eval()
    with torch.inference_mode():
        logits = model(**tokenizer(TEXTS[0], return_tensors="pt"))["logits"][0].double().numpy()
    scores = Predictor(copy)(TEXTS[0])["scores"]
    assert scores == pytest.approx(dict(zip(names, softmax(logits / 0.25), strict=True)), abs=1e-6)
    assert sum(scores.values()) == pytest.approx(1)
    assert scores != pytest.approx(dict(zip(names, softmax(logits), strict=True)), abs=1e-3)


def test_answers_come_in_the_order_of_the_inputs(predictor):
    """More than one batch, read from the longest down."""
    ask = predictor("texts")
    together = ask(TEXTS)
    assert [answer["input"] for answer in together] == TEXTS
    for answer, text in list(zip(together, TEXTS, strict=True))[::7]:
        assert answer["scores"] == pytest.approx(ask(text)["scores"], abs=1e-5)


def test_a_long_table_is_answered_part_by_part(predictor, tmp_path, monkeypatch):
    """Whoever asks sees the first answers before the last are made; they are the same ones."""
    rows = [{"text": text} for text in TEXTS[:10]]
    rows[6]["text"] = ""
    path, ask = table(tmp_path / "rows.csv", rows), predictor("texts")
    whole = ask.answer([TEXTS[20], path])
    made: list[int] = []
    told = ask.ask
    monkeypatch.setattr("hftransfer.predictor.AT_ONCE", 4)
    monkeypatch.setattr(ask, "ask", lambda rows: made.append(len(rows)) or told(rows))
    parts = ask.answers([TEXTS[20], path])
    first = next(parts)
    assert len(first) == 4 and made == [4]
    found = [*first, *(one for part in parts for one in part)]
    assert [one["input"] for one in found] == [one["input"] for one in whole] and made == [4, 3, 3]
    for one, other in zip(found, whole, strict=True):
        assert one.get("unanswered") == other.get("unanswered")
        assert one.get("scores") == pytest.approx(other.get("scores"), abs=1e-5)


@pytest.mark.parametrize("name", ["texts", "pairs"])
def test_few_rows_are_answered_as_many(predictor, name, monkeypatch):
    asked = {"pairs": list(zip(TEXTS[:9], SECOND, strict=False))}.get(name, TEXTS[:9])
    without = predictor(name)(asked)
    monkeypatch.setattr("hftransfer.modeling.prepared.FEW", 0)  # each in a data set, as thousands are
    assert predictor(name)(asked) == without


@pytest.mark.parametrize(
    ("name", "key"), [("texts", "score"), ("numbers", "score"), ("tags", "scores"), ("pictures", "score")]
)
def test_bfloat16_answers_nearly_the_same(predictor, artifact, pictures, name, key):
    asked = [str(path) for path in sorted(pictures.rglob("*.png"))[:9]] if name == "pictures" else TEXTS[:9]
    half = Predictor(artifact(name), bf16=True)
    assert {value.dtype for value in half.model.parameters()} == {torch.float32}
    one, other = (
        np.concatenate([np.atleast_1d(answer[key]) for answer in ask(asked)]) for ask in (predictor(name), half)
    )
    assert one == pytest.approx(other, rel=0.05, abs=0.02) and (one != other).any()


def test_bfloat16_is_refused_where_it_cannot_hold_a_models_numbers(artifact, monkeypatch):
    monkeypatch.setattr(inference, "FLOAT32", ("bert",))
    with pytest.raises(UserError, match="bf16"):
        Predictor(artifact("texts"), bf16=True)


def test_it_joins_no_other_processes(predictor, monkeypatch):
    """What asks from within a run of several processes would wait for the others."""
    monkeypatch.setattr(inference, "PartialState", lambda: pytest.fail("a process group"))
    assert predictor("texts")(TEXTS[0])["label"] in ("negative", "positive")


def test_top_k(predictor):
    answers = predictor("texts").answer(TEXTS[:4], top_k=1)
    assert [list(answer["scores"]) for answer in answers] == [[answer["label"]] for answer in answers]
    whole = predictor("texts").answer(TEXTS[:4])
    assert all(list(a["scores"].values()) == sorted(a["scores"].values(), reverse=True) for a in whole)


def test_the_answers_are_those_of_the_run(predictor, artifact):
    """The run's own predictions on test, which are not calibrated, name the same labels."""
    test = pd.read_parquet(artifact("texts").parent / "predictions" / "test.parquet")
    texts = [TEXTS[int(row.partition(":")[2])] for row in test.row_id]
    assert [answer["label"] for answer in predictor("texts")(texts)] == list(test.prediction)


# --- the other tasks ---


def test_pairs(predictor):
    ask = predictor("pairs")
    pair = ask((TEXTS[0], SECOND[0]))
    assert pair["input"] == [TEXTS[0], SECOND[0]]
    forms = ask([{"text": TEXTS[0], "text_pair": SECOND[0]}, [TEXTS[0], SECOND[0]], (TEXTS[0], SECOND[1])])
    for form in forms[:2]:
        assert form["scores"] == pytest.approx(pair["scores"], abs=1e-6)
    assert forms[2]["scores"] != pytest.approx(pair["scores"], abs=1e-6)
    alone = ask(TEXTS[0])["scores"]
    assert ask([TEXTS[0], (TEXTS[1], SECOND[1])])[0]["scores"] == pytest.approx(alone, abs=1e-6)


def test_several_labels(predictor):
    answers = predictor("several")(TEXTS[:10])
    for answer in answers:
        assert set(answer["scores"]) == {"any", "negative", "positive"}
        assert set(answer["labels"]) == {name for name, score in answer["scores"].items() if score >= 0.5}
        assert all(0 < score < 1 for score in answer["scores"].values())


def test_a_number(predictor):
    answers = predictor("numbers")(TEXTS[:3])
    assert [set(answer) for answer in answers] == [{"input", "score"}] * 3
    assert all(isinstance(answer["score"], float) for answer in answers)


def test_tags_for_words_and_sentences(predictor):
    """A sentence that needs three windows of eight tokens has a tag for every word."""
    ask = predictor("tags")
    words = " ".join(TEXTS[:3]).split()
    long, short, sentence = ask([words, {"words": words[:2]}, "the film, was GOOD."])
    assert long["words"] == words and len(words) > 12
    assert len(long["tags"]) == len(long["scores"]) == len(words)
    assert set(long["tags"]) <= {"B-BAD", "B-GOOD", "O"}
    assert short["words"] == words[:2] and len(short["tags"]) == 2
    assert sentence["words"] == ["the", "film", ",", "was", "GOOD", "."] and len(sentence["tags"]) == 6


def test_forms_of_a_picture_give_one_answer(predictor, pictures):
    ask = predictor("pictures")
    path = pictures / "red" / "000.png"
    with PIL.Image.open(path) as opened:
        picture = opened.copy()
        answers = ask([str(path), path, opened, picture, {"image": path}, picture.convert("RGBA")])
    assert {answer["label"] for answer in answers} <= {"blue", "red"}
    for answer in answers[1:]:
        assert answer["scores"] == pytest.approx(answers[0]["scores"], abs=1e-6)
    assert answers[0]["input"] == answers[1]["input"] == str(path)
    json.dumps(answers)


def test_a_picture_is_read_as_it_is_now(predictor, pictures):
    """Not as its file is; and one that came as JPEG is not packed as JPEG again."""
    ask = predictor("pictures")
    with PIL.Image.open(pictures / "red" / "000.png") as opened:
        opened.paste((0, 0, 255), (0, 0, 32, 32))
        changed = ask(opened)
    assert changed["scores"] == pytest.approx(ask(PIL.Image.new("RGB", (32, 32), (0, 0, 255)))["scores"], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "form"), [("texts", views.Ranked), ("numbers", views.Number), ("tags", views.Marked)]
)
def test_an_answer_is_shown_as_its_kind_is(predictor, name, form):
    ask = predictor(name)
    answer = ask(TEXTS[0])
    (view,) = ask.views([answer])
    assert isinstance(view, form) and view == views.from_dict(json.loads(json.dumps(views.to_dict(view))))
    assert views.line(view).startswith(str(answer.get("label", ""))) and views.cell(view)


# --- files ---


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("column", ["review", "text", "Sentence", "whatever"])
def test_a_table_by_the_trained_column_or_the_only_one_that_fits(predictor, tmp_path, suffix, column):
    rows = [{"id": i, column: text, "verdict": "positive"} for i, text in enumerate(TEXTS[:6])]
    path = table(tmp_path / f"rows{suffix}", rows)
    answers = predictor("texts")(str(path))
    assert [answer["input"] for answer in answers] == [{"text": text} for text in TEXTS[:6]]
    assert [answer["label"] for answer in answers] == [answer["label"] for answer in predictor("texts")(TEXTS[:6])]


def test_tables_and_texts_in_one_call(predictor, tmp_path):
    path = table(tmp_path / "rows.csv", [{"text": TEXTS[1]}, {"text": TEXTS[2]}])
    answers = predictor("texts").answer([TEXTS[0], path, TEXTS[3]])
    assert [answer["input"] for answer in answers] == [TEXTS[0], {"text": TEXTS[1]}, {"text": TEXTS[2]}, TEXTS[3]]


def test_a_table_of_pairs(predictor, tmp_path):
    path = table(tmp_path / "rows.jsonl", [{"then": b, "first": a} for a, b in zip(TEXTS[:3], SECOND, strict=False)])
    answers = predictor("pairs")(path)
    wanted = predictor("pairs")(list(zip(TEXTS[:3], SECOND[:3], strict=True)))
    assert [answer["scores"] for answer in answers] == [answer["scores"] for answer in wanted]
    with pytest.raises(UserError, match=r"rows.csv needs a column for text_pair .*it has first.*Name the column then"):
        predictor("pairs")(table(tmp_path / "rows.csv", [{"first": "a"}]))


def test_a_table_of_words(predictor, tmp_path):
    rows = [{"tokens": text.split(), "ner_tags": ["O"] * len(text.split())} for text in TEXTS[:3]]
    for suffix in (".jsonl", ".parquet"):
        answers = predictor("tags")(table(tmp_path / f"rows{suffix}", rows))
        assert [answer["words"] for answer in answers] == [row["tokens"] for row in rows]
    answers = predictor("tags")(table(tmp_path / "sentences.csv", [{"sentence": text} for text in TEXTS[:3]]))
    assert [answer["words"] for answer in answers] == [row["tokens"] for row in rows]


def test_a_table_of_pictures_names_files_relative_to_itself(predictor, pictures, tmp_path):
    names = ["red/000.png", "blue/001.png"]
    path = table(pictures / "list.csv", [{"file": name, "n": i} for i, name in enumerate(names)])
    wanted = predictor("pictures")([pictures / name for name in names])
    answers = predictor("pictures")(path)
    path.unlink()
    assert [answer["scores"] for answer in answers] == [answer["scores"] for answer in wanted]
    inside = Dataset.from_dict({"image": [str(pictures / name) for name in names]}).cast_column("image", Image())
    inside.to_parquet(tmp_path / "rows.parquet")
    answers = predictor("pictures")(tmp_path / "rows.parquet")
    assert [answer["label"] for answer in answers] == [answer["label"] for answer in wanted]
    json.dumps(answers)


# --- other folders ---


def test_a_plain_folder_of_transformers(tmp_path, capfd):
    """The task, the labels and the kind are read off the model's own config; a decoder without padding batches too."""
    torch.manual_seed(0)
    for name, architecture in (("bert", "bert"), ("llama", "llama")):
        settings = tiny.TEXT[architecture]()
        settings.id2label, settings.label2id = {0: "no", 1: "yes", 2: "so"}, {"no": 0, "yes": 1, "so": 2}
        if architecture == "llama":
            settings.pad_token_id = None
        model = transformers.AutoModelForSequenceClassification.from_config(settings)
        model.save_pretrained(tmp_path / name)
        tiny.tokenizer().save_pretrained(tmp_path / name)
        answers = Predictor(tmp_path / name)(TEXTS[:5])
        assert all(set(answer["scores"]) == {"no", "yes", "so"} for answer in answers)
        alone = Predictor(tmp_path / name)(TEXTS[0])
        assert answers[0]["scores"] == pytest.approx(alone["scores"], abs=1e-5)
    transformers.AutoModelForTokenClassification.from_config(tiny.TEXT["bert"]()).save_pretrained(tmp_path / "tags")
    tiny.tokenizer().save_pretrained(tmp_path / "tags")
    assert len(Predictor(tmp_path / "tags")("the film was good")["tags"]) == 4


def test_nothing_is_printed(artifact, pictures, capfd):
    for name, asked in (("texts", TEXTS), ("tags", TEXTS), ("pictures", [pictures / "red" / "000.png"])):
        folder = artifact(name)
        transformers.logging.enable_progress_bar()
        capfd.readouterr()
        Predictor(folder)(list(asked))
        assert capfd.readouterr() == ("", ""), name


# --- what cannot be answered ---


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("texts", "", "a text is needed; found ''"),
        ("texts", "  ", "a text is needed"),
        ("texts", None, "a text is needed; found None"),
        ("texts", 7, "a text is needed; found 7"),
        ("texts", {"sentence": "good"}, "a text is needed"),
        ("texts", {"text": " "}, "a text is needed"),
        ("texts", ("a", "b", "c"), "a text is needed"),
        ("texts", "nowhere.csv", "there is no file 'nowhere.csv'"),
        ("tags", "", "a sentence is needed"),
        ("tags", ["a", 1], "a sentence is needed"),
        ("pictures", "nowhere.png", "there is no file 'nowhere.png'"),
        ("pictures", 7, "a picture is needed; found int"),
        ("pictures", {"text": "good"}, "a picture is needed"),
    ],
)  # fmt: skip
def test_wrong_inputs(predictor, name, value, message):
    with pytest.raises(UserError, match=message):
        predictor(name).answer([value])


def test_a_sentence_may_end_in_the_name_of_a_file(predictor):
    assert predictor("texts")("the story is in rows.csv")["label"] in ("negative", "positive")


def test_wrong_files(predictor, tmp_path, pictures):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG and no more")
    with pytest.raises(UserError, match="a readable picture is needed"):
        predictor("pictures")(tmp_path / "broken.png")
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    with pytest.raises(UserError, match=r"empty.csv is empty"):
        predictor("texts")(empty)
    with pytest.raises(UserError, match=r"rows.csv needs a column for text \(string\); it has a \(string\), b"):
        predictor("texts")(table(tmp_path / "rows.csv", [{"a": "good", "b": "bad"}]))
    with pytest.raises(UserError, match=r"rows with a text are needed in gaps.jsonl; all 2 have no text"):
        predictor("texts")(table(tmp_path / "gaps.jsonl", [{"text": " "}, {"text": None}]))
    with pytest.raises(UserError, match=r"all 1 have no file of that name in .* or below"):
        predictor("pictures")(table(tmp_path / "list.csv", [{"image": "none.png"}]))


def test_a_row_with_nothing_in_it_is_said_and_the_others_are_answered(predictor, tmp_path, pictures):
    ask = predictor("texts")
    asked = table(tmp_path / "gaps.csv", [{"review": text} for text in ("good food", "", "- bad", "12345")])
    first, blank, dash, digits = ask(asked)
    assert blank == {"input": None, "unanswered": "no text"} or blank == {"input": "", "unanswered": "no text"}
    assert first["label"] and (dash["input"], digits["input"]) == ({"text": "- bad"}, {"text": "12345"})
    assert views.line(ask.views([first, blank])[1]) == "not answered: no text"
    (tmp_path / "list.csv").write_text("image,more\nnone.png,1\n" + f"{next(pictures.rglob('*.png')).stem},2\n")
    (tmp_path / "imgs").symlink_to(pictures)
    missing, found = predictor("pictures")(tmp_path / "list.csv")
    assert missing["unanswered"].startswith("no file of that name in ") and found["label"]


def test_inputs_in_other_forms(predictor, tmp_path):
    ask = predictor("texts")
    alone = [one["scores"] for one in ask(["good food", "12345"])]
    (tmp_path / "digits.csv").write_text("review\n12345\n67890\n")
    assert [one["input"] for one in ask(tmp_path / "digits.csv")] == [{"text": "12345"}, {"text": "67890"}]
    (tmp_path / "semicolons.csv").write_text("review;id\ngood food, really;1\n")
    assert ask(tmp_path / "semicolons.csv")[0]["input"] == {"text": "good food, really"}
    (tmp_path / "ask.txt").write_bytes(b"\xef\xbb\xbfgood food\r\n\r\n12345\r\n")
    first, blank, last = ask(tmp_path / "ask.txt")
    assert (first["scores"], last["scores"]) == (pytest.approx(alone[0]), pytest.approx(alone[1]))
    assert blank["unanswered"] == "no text"


def test_a_newer_artifact_is_refused(artifact, tmp_path):
    copy = shutil.copytree(artifact("texts"), tmp_path / "copy")
    notes = json.loads((copy / "hftransfer.json").read_text())
    (copy / "hftransfer.json").write_text(json.dumps(notes | {"schema": notes["schema"] + 1}))
    with pytest.raises(UserError, match=r"schema 3 or older is needed; .* has schema 4.*Upgrade"):
        Predictor(copy)


def test_folders_that_hold_no_model_to_ask(artifact, tmp_path):
    with pytest.raises(UserError, match=r"nowhere.*not there.*Check the path"):
        Predictor("./nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"config.json.*holds nothing"):
        Predictor(tmp_path / "empty")
    tiny.text_model(tmp_path / "backbone")
    with pytest.raises(UserError, match=r"a model with a task head is needed.*BertModel"):
        Predictor(tmp_path / "backbone")
    copy = shutil.copytree(artifact("texts"), tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"weights|whole model"):
        Predictor(copy)


@pytest.mark.parametrize(
    ("config", "architecture", "task"),
    [
        ("BertConfig", "BertForSequenceClassification", "text-classification"),
        ("BertConfig", "BertForTokenClassification", "token-classification"),
        ("BertConfig", "BertForQuestionAnswering", "question-answering"),
        ("GPT2Config", "GPT2LMHeadModel", "text-generation"),
        ("LlamaConfig", "LlamaForCausalLM", "text-generation"),
        ("WhisperConfig", "WhisperForConditionalGeneration", "automatic-speech-recognition"),
        ("Wav2Vec2Config", "Wav2Vec2ForCTC", "automatic-speech-recognition"),
        ("ASTConfig", "ASTForAudioClassification", "audio-classification"),
        ("ViTConfig", "ViTForImageClassification", "image-classification"),
        ("T5Config", "T5ForConditionalGeneration", None),
        ("MarianConfig", "MarianMTModel", None),
        ("BertConfig", "BertModel", None),
    ],
)
def test_the_task_of_a_model_that_is_not_ours_is_one_or_none(
    config: str, architecture: str, task: str | None, tmp_path: Path
) -> None:
    from hftransfer.predictor import task_of

    settings = getattr(transformers, config)()
    settings.architectures = [architecture]
    settings.save_pretrained(tmp_path)
    if task is not None:
        assert task_of(tmp_path, "it") == task
        return
    with pytest.raises(UserError, match=r"which several tasks train|a model with a task head is needed"):
        task_of(tmp_path, "it")
