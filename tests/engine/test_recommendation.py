"""Histories to items: one cut in time, baselines that know the same, cold items apart, and strangers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from PIL import Image

from hftransfer import catalog, config, data, questions, views
from hftransfer.answers import _nearness, _next_items
from hftransfer.answers._catalogue import Catalogue
from hftransfer.answers._histories import Histories
from hftransfer.answers.ranked_items import RankedItems
from hftransfer.card.about import About
from hftransfer.card.metadata import metadata
from hftransfer.errors import ConfigError, UserError
from hftransfer.export import onnx
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from hftransfer.tasks.base import Preparation
from hftransfer.ui import rows_of_runs
from hftransfer.ui.answers_shown import examples_of
from tests import reference_recommenders, tiny, tiny_catalogue, tiny_pairs
from tests.engine import refusals
from tests.engine.conftest import QUICK
from tests.engine.test_resume import resume, same_weights, start

TASK = catalog.task("recommendation")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("recommendation")
    tiny_catalogue.interactions(found / "csv")
    tiny_pairs.model(found / "bert")
    return found


def tree(folder: Path, **section: Any) -> dict[str, Any]:
    return {
        **QUICK, "task": "recommendation", "model": str(folder / "bert"),
        "data": {"source": str(folder / "csv"), **section}, "train": {**QUICK["train"], "learning_rate": 3e-3},
    }  # fmt: skip


def loaded(source: Path, **section: Any) -> Any:
    return data.load(config.DataConfig(source=str(source), **section), TASK, 42)


def test_from_interactions_to_what_comes_next(folder, train):
    run, result = train(tree(folder))
    scores = result["test"]["metrics"]
    assert list(scores) == ["ndcg_10", "recall_10", "mrr_10", "ndcg_10_cold", "coverage_10", "popularity_10"]
    names = [one["name"] for one in result["beside"]["models"] if one["name"] != "its cosines alone"]
    assert (
        names == ["the model as it came", "item-kNN", "EASE", "TF-IDF"] and result["baseline"]["name"] == "popularity"
    )
    cold = {one["name"]: one["metrics"]["ndcg_10_cold"]["value"] for one in result["beside"]["models"]}
    assert cold["TF-IDF"] > 0.05, "words know new items too: what the model is worth is what it finds beyond them"
    assert scores["ndcg_10_cold"]["value"] > 0.2 and cold["item-kNN"] == cold["EASE"] == 0, (
        "ids say nothing of new items"
    )
    assert scores["ndcg_10"]["value"] > result["baseline"]["metrics"]["ndcg_10"]["value"]
    assert not any("evaluation.folds" in one for one in result["verdict"]["advice"])
    items = pd.read_parquet(run.artifact / "items.parquet")
    assert list(items.columns)[:3] == ["id", "title", "vector"] and len(items) == 39
    predictor = Predictor(run.artifact)
    (answer,) = predictor.answer([["3", "6", "9"]], top_k=4)
    assert len(answer["items"]) == 4 and not {"3", "6", "9"} & {one["id"] for one in answer["items"]}
    (typed,) = predictor.answer(["3, 6, 9"], top_k=4)  # as people write a list
    assert typed["items"] == answer["items"]
    titles = dict(zip(items["id"], items["title"], strict=True))
    assert all(one["near"] in {titles["3"], titles["6"], titles["9"]} for one in answer["items"])
    shown = rows_of_runs.examples(str(run.folder))[0]["input"]["history"]  # asked by ids, shown by titles
    assert shown["called"] == "; ".join(titles[name] for name in shown["value"].split("; "))
    assert titles[shown["value"].split("; ")[0]] in examples_of([{"row_id": 1, "input": {"history": shown}}])
    worst = rows_of_runs.errors(str(run.folder))
    assert worst and all(row["prediction"] in titles.values() for row in worst)
    (view,) = predictor.views([answer])
    assert isinstance(view, views.Items) and view.found[0][2].startswith("near ")
    (written,) = predictor.answer([f"{titles['3'].upper()}\n6; 9"])  # ids and titles, as a person writes them
    assert written["items"][:4] == answer["items"]
    with pytest.raises(UserError, match="an entry of the catalogue is needed, by its id or its title; 'nothing'"):
        predictor.answer(["nothing"])
    known: dict[str, Any] = {}
    exec(TASK.snippet(repr(str(run.artifact)), {"history": repr(["3", "6", "9"])}, predictor.notes), known)
    assert np.allclose(known["answer"], answer["vector"], atol=1e-5)
    assert known["ranked"].head(4).tolist() == pytest.approx([one["score"] for one in answer["items"]], abs=1e-5)
    stored = pd.read_parquet(run.predictions / "test.parquet")
    rows = loaded(folder / "csv").splits["test"]
    for found, history in zip(stored["found"], rows["history"], strict=True):
        assert not set(found) & set(history), "what somebody had is not recommended again"


@pytest.mark.parametrize("form", ["movielens", "recbole", "parquet"])
def test_files_of_every_form_give_the_same_rows(form, folder, tmp_path):
    ours, theirs = loaded(folder / "csv"), loaded(tiny_catalogue.interactions(tmp_path / form, form=form))
    for split in ("train", "validation", "test"):
        assert ours.splits[split]["history"] == theirs.splits[split]["history"]
        assert ours.splits[split]["relevant"] == theirs.splits[split]["relevant"]
    assert ours.answer.catalogue.table["text"].to_pylist() == theirs.answer.catalogue.table["text"].to_pylist()


def test_one_moment_divides_all(folder):
    found = loaded(folder / "csv")
    frame = pd.read_csv(folder / "csv" / "ratings.csv", dtype={"movieId": str})
    frame = frame.sort_values("timestamp", kind="stable")
    size = round(0.2 * len(frame)), round(0.1 * len(frame))
    second = frame["timestamp"].iloc[len(frame) - size[0]]
    first = frame["timestamp"].iloc[len(frame) - sum(size)]
    after = frame[frame["timestamp"] >= second].groupby("userId")["movieId"].apply(set)
    before = frame[frame["timestamp"] < second].groupby("userId")["movieId"].apply(list)
    expected = {(tuple(before[user]), frozenset(after[user])) for user in after.index if user in before.index}
    test = found.splits["test"]
    assert {
        (tuple(history), frozenset(one["id"] for one in relevant))
        for history, relevant in zip(test["history"], test["relevant"], strict=True)
    } == expected
    known = set(frame.loc[frame["timestamp"] < first, "movieId"])
    trained = {one["id"] for row in found.splits["train"]["relevant"] for one in row}
    assert trained <= known
    assert all(one["cold"] == (one["id"] not in known) for row in test["relevant"] for one in row)
    assert any("no k-core" in one and "3 items have none in train and are cold" in one for one in found.guesses)


def test_repeats_cold_people_and_items_without_text_are_counted(folder, tmp_path):
    place = tiny_catalogue.interactions(tmp_path / "some")
    ratings, movies = place / "ratings.csv", place / "movies.csv"
    lines = ratings.read_text().splitlines()
    lines += [lines[1].rsplit(",", 1)[0] + ",1700000000"] * 2  # twice more, later
    lines += [f"new{i},3,5,1650000000" for i in range(4)] + ["u1,999,5,1600000001"]
    ratings.write_text("\n".join(lines) + "\n")
    movies.write_text("\n".join(movies.read_text().splitlines()) + "\n")
    found = loaded(place)
    assert any("2 of 658 interactions are repeats" in one for one in found.guesses)
    assert any("cold people: 4 of" in one for one in found.warnings)
    assert any("1 of 659 interactions dropped: 1 items have no text" in one for one in found.warnings)


def test_other_cuts_are_made_when_asked_and_warned_of(folder):
    last = loaded(folder / "csv", cut="last")
    assert any("leave-one-out" in one and "Ji et al. 2023" in one for one in last.warnings)
    assert all(len(row) == 1 for row in last.splits["test"]["relevant"])
    people = loaded(folder / "csv", cut="user", test_size=0.3)
    assert any("people are cut: 24 of 80 are for test" in one for one in people.warnings)


def test_a_stopped_run_goes_on_to_the_same_bits(folder, tmp_path):
    chosen = tree(folder)
    whole = start(chosen, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start(chosen, tmp_path / "stopped", steps=5)
    resume(Run(tmp_path / "stopped"))
    same_weights(whole, Run(tmp_path / "stopped"))


# --- a transformer over the items' vectors ---

SEQUENCE = {"name": "sequence", "width": 32, "layers": 1, "dropout": 0.0}
QUICKLY = {"learning_rate": 1e-2, "per_device_train_batch_size": 16}


def sequenced(folder: Path, **train: Any) -> dict[str, Any]:
    known = tree(folder)
    return {**known, "method": SEQUENCE, "train": {**known["train"], **QUICKLY, **train}}


def test_a_transformer_over_frozen_vectors_reads_long_histories(folder, train):
    run, result = train(sequenced(folder, max_steps=120))
    names = [one["name"] for one in result["beside"]["models"] if one["name"] != "its cosines alone"]
    assert names == ["the model as it came", "item-kNN", "EASE", "TF-IDF"] and result["answer"]["sequenced"] is True
    popular = result["baseline"]["metrics"]["ndcg_10"]["value"]
    assert result["test"]["metrics"]["ndcg_10"]["value"] > popular + 0.1
    before, after = (
        transformers.AutoModel.from_pretrained(place).state_dict() for place in (folder / "bert", run.artifact)
    )
    kept = [name for name in after if not name.startswith("pooler")]  # which no vector comes of
    assert all(torch.equal(after[name], before[name]) for name in kept), "the encoder is frozen"
    predictor = Predictor(run.artifact)
    (answer,) = predictor.answer([["3", "6", "9"]], top_k=4)
    assert len(answer["items"]) == 4 and not {"3", "6", "9"} & {one["id"] for one in answer["items"]}
    known: dict[str, Any] = {}
    exec(TASK.snippet(repr(str(run.artifact)), {"history": repr(["3", "6", "9"])}, predictor.notes), known)
    assert np.allclose(known["answer"], answer["vector"], atol=1e-5)
    assert known["ranked"].head(4).tolist() == pytest.approx([one["score"] for one in answer["items"]], abs=1e-5)
    assert sorted(path.name for path in (run.artifact / "histories").iterdir()) == ["config.json", "model.safetensors"]
    with pytest.raises(UserError, match=r"method\.name=sequence are read by a second model"):
        onnx.export(run)


# --- pictures of items ---


def pictured(folder: Path, **columns: list[str]) -> Path:
    """Write the interactions with a table of items that have a picture each, of a colour that tells their kind."""
    tiny_catalogue.interactions(folder)
    colours = ((200, 30, 30), (30, 200, 30), (30, 30, 200))
    (folder / "posters").mkdir()
    for i in range(39):
        noise = np.random.default_rng(i).integers(-20, 20, (32, 32, 3))
        Image.fromarray((colours[i % 3] + noise).clip(0, 255).astype(np.uint8)).save(folder / "posters" / f"{i}.png")
    table = pd.DataFrame({"movieId": range(39), "poster": [f"posters/{i}.png" for i in range(39)], **columns})
    table.to_csv(folder / "movies.csv", index=False)
    return folder


def test_items_are_known_by_their_pictures(folder, train, tmp_path):
    model = tiny.image_model(tmp_path / "vit")
    source = pictured(tmp_path / "rows")
    (source / "posters" / "38.png").unlink()
    known = {**sequenced(folder, max_steps=80), "model": str(model), "data": {"source": str(source)}}
    run, result = train(known)
    assert result["answer"]["pictured"] is True and result["answer"]["size"] == 38
    said = " ".join(result["data"]["warnings"])
    assert "pictures of 1 items are not there" in said and "neither a text nor a picture" in said
    popular = result["baseline"]["metrics"]["ndcg_10"]["value"]
    assert result["test"]["metrics"]["ndcg_10"]["value"] > popular + 0.1
    assert "the model as it came" in [one["name"] for one in result["beside"]["models"]]
    predictor = Predictor(run.artifact)
    (answer,) = predictor.answer([["3", "6", "9"]], top_k=4)
    assert {int(one["id"]) % 3 for one in answer["items"]} == {0}, "of the kind that was had"
    known_to_all: dict[str, Any] = {}
    exec(TASK.snippet(repr(str(run.artifact)), {"history": repr(["3", "6", "9"])}, predictor.notes), known_to_all)
    assert np.allclose(known_to_all["answer"], answer["vector"], atol=1e-5)
    assert not (run.artifact / "modules.json").exists(), "no encoder of sentences"
    front = metadata(About(result, run.config(), None, None))
    assert (front["library_name"], front["pipeline_tag"]) == ("transformers", "image-feature-extraction")
    with pytest.raises(UserError, match=r"sees the items' pictures, and stays as it came.*method.name=sequence"):
        train({**known, "method": {"name": "full"}}, name="full")

    came, found = train({**known, "method": {"name": "zero_shot"}}, name="zero")
    assert found["test"]["metrics"]["ndcg_10"]["value"] > popular
    rows = pq.read_table(came.predictions / "test.parquet").to_pylist()
    assert all(np.linalg.norm(row["vector"]) == pytest.approx(1, abs=1e-5) for row in rows)


def test_pictures_by_address_are_no_pictures_and_no_trouble(tmp_path):
    source = tiny_catalogue.interactions(tmp_path / "rows")
    table = pd.read_csv(source / "movies.csv").assign(image=[f"https://shop.example/{i}.jpg" for i in range(39)])
    table.to_csv(source / "movies.csv", index=False)
    found = loaded(source)
    assert found.answer.catalogue.pictured == 0 and len(found.answer.catalogue) == 39
    assert not any("picture" in one for one in found.warnings)
    table.drop(columns="title").assign(genres="").to_csv(source / "movies.csv", index=False)
    with pytest.raises(UserError, match="items with a title, a text or a picture are needed"):
        loaded(source)


def test_what_a_model_cannot_read_of_most_items_is_refused(folder, train, tmp_path):
    known = sequenced(folder, max_steps=2)
    images = str(tiny.image_model(tmp_path / "vit"))
    with pytest.raises(UserError, match=r"items with a picture are needed for a model of type vit.*39 of 39"):
        train({**known, "model": images})
    source = pictured(tmp_path / "rows", title=[f"film {i}" if i < 9 else "" for i in range(39)])
    with pytest.raises(UserError, match=r"items with a text are needed for a model of type bert.*30 of 39"):
        train({**known, "data": {"source": str(source)}}, name="other")
    (source / "posters" / "7.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"that of 7 \(.*7\.png\)"):
        train({**known, "model": images, "data": {"source": str(source)}}, name="third")


def test_a_stopped_sequence_goes_on_to_the_same_bits(folder, tmp_path):
    chosen = sequenced(folder, max_steps=10)
    whole = start(chosen, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start(chosen, tmp_path / "stopped", steps=4)
    resume(Run(tmp_path / "stopped"))
    one, other = (
        (place / "artifact" / "histories" / "model.safetensors").read_bytes()
        for place in (whole.folder, tmp_path / "stopped")
    )
    assert one == other


def test_check_takes_a_step_of_the_transformer_alone(folder):
    with Interruption() as interruption:
        found = questions.check(catalog.build_config(sequenced(folder)), interruption)
    assert 0 < found["parameters"]["trainable"] < 20_000
    with pytest.raises(ConfigError, match="sequence reads what somebody had of a catalogue"):
        catalog.build_config({**sequenced(folder), "task": "retrieval"})
    odd = catalog.build_config({**sequenced(folder), "method": {**SEQUENCE, "width": 15}})
    message = r"a multiple of method\.heads is needed as method\.width; 15 is none of 2"
    with pytest.raises(UserError, match=message), Interruption() as interruption:
        questions.check(odd, interruption)


def test_every_place_of_a_sequence_learns_what_came_next_by_hand():
    times = np.arange(5, dtype=np.float64)
    past = Histories(np.array([0, 0, 0, 1, 0]), np.array([4, 2, 0, 1, 3]), times, 6)
    assert list(_next_items.sequences(past)) == [([4, 2, 0], [2, 0, 3])]
    assert _next_items.last_of([5, 1, 2], 4) == ([5, 1, 2], [-100, -100, 4])
    catalogue = Catalogue(
        pa.table({"id": list("abcdef"), "title": list("abcdef"), "text": list("abcdef")}), "six", past
    )
    vectors = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    answer = RankedItems(recommends=True).among(catalogue).of_sequences(vectors)
    model = answer.reader_made(8, 1, 2, 0.0, 0).eval()
    places, labels = torch.tensor([[4, 2, 0], [1, -1, -1]]), torch.tensor([[2, 0, 3], [3, -100, -100]])
    with torch.no_grad():
        outputs = model(places=places)
    logits = outputs["vectors"][labels != -100] @ torch.from_numpy(vectors).T / 0.05
    logits[:, 5] = -torch.inf  # which nobody had
    logits[1, 2] = logits[2, 2] = logits[2, 0] = -torch.inf  # what came before in the same history
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([2, 0, 3, 3]))
    assert float(answer.loss()(outputs, labels)) == pytest.approx(float(expected), rel=1e-5)
    with torch.no_grad():
        alone = model(places=places[:1, :2])["vectors"][0, -1]
    assert torch.allclose(outputs["vectors"][0, 1], alone, atol=1e-5), "no place sees what comes after it"
    _next_items.plain(model)
    asked = _next_items.queries(model, vectors, [[4, 2], [1], []])
    assert np.allclose(asked[0], alone.numpy(), atol=1e-5) and not asked[2].any()


# --- what it is measured against ---


def histories(seed: int = 0) -> Histories:
    rng = np.random.default_rng(seed)
    pairs = np.unique(np.stack([rng.integers(0, 30, 400), rng.integers(0, 12, 400)], axis=1), axis=0)
    return Histories(pairs[:, 0], pairs[:, 1], rng.random(len(pairs)), 12)


def test_ease_is_the_best_linear_model_without_a_diagonal():
    """Column by column: ridge regression of an item on all others, solved by itself."""
    past = histories()
    matrix, penalty = past.matrix.toarray(), 7.0
    found = past.ease(penalty)([[0, 3], [5]])
    weights = np.zeros((12, 12))
    for item in range(12):
        others = [other for other in range(12) if other != item]
        gram = matrix[:, others].T @ matrix[:, others] + penalty * np.eye(11)
        weights[others, item] = np.linalg.solve(gram, matrix[:, others].T @ matrix[:, item])
    assert np.allclose(found[0], weights[0] + weights[3], atol=1e-10) and np.allclose(found[1], weights[5], atol=1e-10)


def test_item_knn_sums_cosines_of_the_nearest_of_what_somebody_had():
    past = histories()
    matrix = past.matrix.toarray()
    cosine = (matrix.T @ matrix) / np.outer(np.linalg.norm(matrix, axis=0), np.linalg.norm(matrix, axis=0))
    np.fill_diagonal(cosine, 0)
    for item in range(12):
        cosine[item, np.argsort(-cosine[item], kind="stable")[4:]] = 0
    assert np.allclose(past.neighbours(4)([[0, 3]])[0], cosine[0] + cosine[3], atol=1e-10)


def test_ease_and_item_knn_are_those_of_lenskit():
    told = json.loads(reference_recommenders.FILE.read_text(encoding="utf-8"))
    pairs = reference_recommenders.interactions()
    past = Histories(pairs[:, 0], pairs[:, 1], np.arange(len(pairs), dtype=np.float64), reference_recommenders.ITEMS)
    assert told["made_by"].startswith("lenskit ") and len(told["histories"]) == 3
    for name, scores in (("ease", past.ease(told["penalty"])), ("item_knn", past.neighbours(told["neighbours"]))):
        assert np.abs(scores(told["histories"]) - np.array(told[name])).max() < 1e-6, name


def test_popularity_counts_train_or_its_last_quarter():
    past = Histories(np.arange(6), np.array([0, 0, 0, 1, 1, 2]), np.array([0.0, 1, 2, 9, 10, 10]), 4)
    assert past.popularity(False)([[]])[0].tolist() == [3, 2, 1, 0]
    assert past.popularity(True)([[]])[0].argsort()[::-1].tolist()[:2] == [1, 2]
    assert past.percentiles.tolist() == [3.5 / 4, 2.5 / 4, 1.5 / 4, 0.5 / 4]


def test_what_is_popular_is_no_more_wrong_than_the_rest():
    """Yi et al. 2019: the log of how often a text is drawn is taken off its score."""
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(5, 2, 4), dim=-1)
    texts = [f"text {i}" for i in range(5)]
    counts = np.array([8, 1, 1, 0, 2])
    numbers = torch.tensor([[100 + i, _nearness.number_of(text)] for i, text in enumerate(texts)])
    offsets = _nearness.Offsets.of(texts, counts)
    logits = vectors[:, 0] @ vectors[:, 1].T / 0.05 - torch.log(torch.tensor([8, 1, 1, 1, 2]) / 12)
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(5), reduction="sum")
    assert float(_nearness.contrast(vectors, numbers, 0.05, offsets)) == pytest.approx(float(expected), rel=1e-5)


def test_the_popular_items_of_the_rows_are_those_that_are_corrected(folder):
    """What is taken off is found by the numbers that stand in a batch: of items' texts, not of their ids."""
    found = loaded(folder / "csv")
    answer, row = found.answer, found.splits["train"][0]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "bert", padding_side="right")
    preparation = Preparation(config.DataConfig(source="-"), answer, 0, 32, training=True)
    items = TASK.items({"history": [row["history"]]}, [row["relevant"]], tokenizer, preparation)
    place = answer.catalogue.place(row["relevant"][0]["id"])
    offsets = _nearness.Offsets.of(
        answer.catalogue.texts(range(len(answer.catalogue))), answer.catalogue.histories.counts
    )
    counts = answer.catalogue.histories.counts
    share = np.log(counts[place] / counts.sum())
    assert float(offsets.at(torch.tensor([items["_numbers"][0][1]]))) == pytest.approx(share, rel=1e-5)
    vectors = torch.nn.functional.normalize(torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    numbers = torch.tensor(
        [[i + 1, _nearness.number_of(text)] for i, text in enumerate(answer.catalogue.texts(range(4)))]
    )
    told = float(answer.loss()({"vectors": vectors}, numbers, 8))
    assert told == pytest.approx(float(_nearness.contrast(vectors, numbers, 0.05, offsets)) / 4, rel=1e-5)
    assert told != pytest.approx(float(_nearness.contrast(vectors, numbers, 0.05)) / 4, rel=1e-3)


# --- wrong input ---


def _ratings(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = folder / "ratings.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


def _mixed(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[frame.index[:50], "timestamp"] *= 1000
    return frame


def _words(frame: pd.DataFrame) -> pd.DataFrame:
    frame["timestamp"] = [f"day {i}" for i in range(len(frame))]
    return frame


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "no time": (
        lambda place: _ratings(place, lambda frame: frame.drop(columns="timestamp")),
        r"a column with the time is needed; found userId, movieId, rating. without a time .*set data.cut=user",
    ),
    "times of mixed units": (
        lambda place: _ratings(place, _mixed),
        r"times of one unit are needed; \d+ look like seconds and 50 look like milliseconds",
    ),
    "times that are words": (lambda place: _ratings(place, _words), r"times are needed as numbers or as"),
    "items without text": (
        lambda place: (place / "movies.csv").unlink(),
        r"items with a title, a text or a picture are needed: ids say nothing to a model; 652 of 652 interactions",
    ),
    "fewer than 20 people in test": (
        lambda place: _ratings(place, lambda frame: frame[frame["userId"].isin([f"u{i}" for i in range(15)])]),
        r"20 people or more are needed in test; there are \d+",
    ),
    "a catalogue with one item": (
        lambda place: _ratings(place, lambda frame: frame.assign(movieId=3)) or (place / "movies.csv").write_text(
            "movieId,title,genres\n3,alone,kind\n"
        ),
        r"a catalogue of two entries or more is needed; this one has 1",
    ),
    "no people": (
        lambda place: _ratings(place, lambda frame: frame.drop(columns="userId")),
        r"a table with a column for the person and one for the item is needed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_ends_the_command_before_training(name, folder, tmp_path, capfd):
    make, message = WRONG[name]
    make(tiny_catalogue.interactions(tmp_path / "place"))
    wrong = {**tree(folder), "data": {"source": str(tmp_path / "place")}}
    assert re.search(message, refusals.said(wrong, tmp_path, capfd))


def test_folds_and_groups_are_refused(folder):
    with pytest.raises(ConfigError, match="the rows of recommendation are divided by time"):
        catalog.build_config({**tree(folder), "evaluation": {"folds": 5}})
    with pytest.raises(UserError, match="interactions are cut by time or by people"):
        loaded(folder / "csv", group="userId")


def test_a_history_is_a_list_or_lines():
    assert TASK.row("a; b\nc")["history"] == ["a", "b", "c"] and TASK.row({"history": [1, "x"]})["history"] == [
        "1",
        "x",
    ]
    with pytest.raises(UserError, match="a history is needed"):
        TASK.row({"history": 5})
    assert json.loads(TASK.example) == ["an id or a title", "another"]
