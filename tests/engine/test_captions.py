"""Pictures with words: the loss of a whole batch, ranks both ways, probes, strangers, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from PIL import Image

from hftransfer import api, catalog, config, data, questions
from hftransfer.answers import _beside, _both_ways
from hftransfer.answers.captions import GENERAL, Captions
from hftransfer.errors import UserError
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.frozen import projections
from hftransfer.inputs.candidates import CANDIDATES
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from hftransfer.training import set_scene
from tests import tiny, tiny_captions
from tests.engine.conftest import QUICK
from tests.engine.test_resume import resume, same_weights, start

TASK = catalog.task("zero-shot-image-classification")
FAMILIES = ("CLIP", "Siglip", "ChineseCLIP", "MetaClip2", "dual-vit", "dual-mobilenet-v2")
ASKED = ["a good film with a bad cast", "a great film with a great cast", "the fine story and poor food"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("captions")
    tiny_captions.folder(found / "one")
    tiny_captions.folder(found / "several", 80, several=True)
    return found


def model_of(folder: Path, family: str) -> Path:
    place = folder / family
    if not place.is_dir():
        tiny_captions.model(place, family)
    return place


def tree(folder: Path, family: str = "CLIP", rows: str = "one") -> dict[str, Any]:
    return {
        **QUICK, "task": TASK.name, "model": str(model_of(folder, family)), "data": {"source": str(folder / rows)},
        "train": {**QUICK["train"], "learning_rate": 3e-3},
    }  # fmt: skip


def told(run: Run, picture: Any, labels: list[str]) -> dict[str, float]:
    """Return what the card's lines say of a picture beside labels."""
    names: dict[str, Any] = {"picture": picture}
    row = {"image": "picture", "labels": repr(labels)}
    exec(TASK.snippet(repr(str(run.artifact)), row, Predictor(run.artifact).notes), names)
    return dict(names["answer"])


# --- every family ---


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_finds_captions_and_a_stranger_gets_the_same_scores(family, folder, train):
    run, result = train(tree(folder, family), name=family)
    scores = result["test"]["metrics"]
    assert result["main_metric"] == "mean_recall_10" and len(scores) == 9
    assert {choice["role"]: choice["column"] for choice in result["columns"]} == {"image": "image", "caption": "text"}
    chance = result["baseline"]
    assert chance["name"] == "chance" and 0 < chance["metrics"]["text_recall_10"]["value"] < 1
    stored = pd.read_parquet(run.predictions / "test.parquet")
    assert (stored["text_rank"] <= 10).mean() == pytest.approx(scores["text_recall_10"]["value"])
    picture = Image.open(folder / "one" / "000.png").convert("RGB")
    (ours,) = Predictor(run.artifact).answer([{"image": picture, "labels": ASKED}])
    theirs = told(run, picture, ASKED)
    assert ours["scores"] == pytest.approx(theirs, abs=1e-5) and set(theirs) == set(ASKED)
    if family != "Siglip":
        assert sum(theirs.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("family", ["CLIP", "Siglip", "dual-vit"])
def test_a_probe_trains_the_last_layers_alone_and_finds_far_more_than_chance(family, folder, train):
    run, result = train({**tree(folder, family, "several"), "method": {"name": "probe"}}, name="probe")
    assert result["test"]["metrics"]["mean_recall_10"]["value"] > 0.8
    assert (
        result["test"]["metrics"]["text_recall_1"]["value"]
        > 3 * result["baseline"]["metrics"]["text_recall_1"]["value"]
    )
    before = transformers.AutoModel.from_pretrained(folder / family).state_dict()
    after = transformers.AutoModel.from_pretrained(run.artifact).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    last = {"text_model.head.weight", "text_model.head.bias"} if family == "Siglip" else {
        "visual_projection.weight", "text_projection.weight"}  # fmt: skip
    assert last <= changed <= last | {"logit_scale", "logit_bias"}
    assert any("probe: the last layers" in event.get("message", "") for event in run.events()[0])


def test_what_the_frozen_towers_make_is_kept_on_disk(folder, tmp_path):
    built = catalog.build_config({**tree(folder), "method": {"name": "probe"}})
    with Interruption() as interruption:
        scene = set_scene(built, Run.create(built, tmp_path / "run"), interruption, resume=False)
    setup, loaded = scene.setup, scene.loaded
    trained = projections.parts_of(setup, loaded.model)
    first, again = (projections.made(setup, loaded, "validation", trained) for _ in range(2))
    assert not first.cached and again.cached and again.seconds == first.seconds
    for one, other in ((first.arrays, again.arrays), (first.counts, again.counts)):
        assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
    with torch.no_grad():
        loaded.model.get_parameter(trained[0]).add_(1.0)
    assert projections.made(setup, loaded, "validation", trained).cached, "what is trained changes nothing before it"
    section = setup.config.data.model_copy(update={"background": "black"})
    other = dataclasses.replace(setup, config=setup.config.model_copy(update={"data": section}))
    assert not projections.made(other, loaded, "validation", trained).cached, "pictures are shown otherwise"


# --- the loss ---


@pytest.mark.parametrize("family", ["CLIP", "Siglip"])
def test_the_loss_of_pairs_is_the_model_own(family, folder):
    model = transformers.AutoModel.from_pretrained(model_of(folder, family)).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / family)
    texts = [tiny_captions.captions(i, (i + 1) % 6)[0] for i in range(6)]
    batch = tokenizer(texts, padding="max_length" if family == "Siglip" else True, max_length=64, return_tensors="pt")
    pixels = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    shown = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        theirs = model(pixel_values=pixels, return_loss=True, **shown)
    vectors = torch.stack([theirs.image_embeds, theirs.text_embeds], dim=1)
    outputs = {"vectors": vectors, "scale": model.logit_scale.exp()}
    outputs |= {"bias": model.logit_bias} if family == "Siglip" else {}
    ours = Captions().loss()(outputs, torch.arange(6)[:, None])
    assert float(ours) == pytest.approx(float(theirs.loss), rel=1e-5)


def test_the_loss_of_several_captions_is_that_of_a_plain_loop():
    torch.manual_seed(2)
    vectors = torch.nn.functional.normalize(torch.randn(4, 3, 5), dim=-1)
    numbers = torch.tensor([[1, 2], [3, -100], [1, 4], [5, 6]])  # two rows share a caption
    pictures = vectors[:, 0]
    texts = [(i, int(n), vectors[i, 1 + k]) for i in range(4) for k, n in enumerate(numbers[i]) if n != -100]
    own = [{int(n) for n in row if n != -100} for row in numbers]
    total = 0.0
    for i, number, text in texts:
        score = 14.0 * float(pictures[i] @ text)
        wrong = [14.0 * float(pictures[i] @ other) for _, n, other in texts if n not in own[i]]
        total += np.logaddexp.reduce([score, *wrong]) - score
        wrong = [14.0 * float(pictures[j] @ text) for j in range(4) if number not in own[j]]
        total += np.logaddexp.reduce([score, *wrong]) - score
    assert float(_beside.contrast(vectors, numbers, torch.tensor(14.0))) == pytest.approx(total / 2, rel=1e-5)
    pairs = [
        np.logaddexp(0, (-1 if n in own[i] else 1) * (14.0 * float(pictures[i] @ text) - 3.0))
        for i in range(4) for _, n, text in texts
    ]  # fmt: skip
    found = _beside.contrast(vectors, numbers, torch.tensor(14.0), torch.tensor(-3.0))
    assert float(found) == pytest.approx(sum(pairs), rel=1e-5)


@pytest.mark.parametrize("family", ["CLIP", "Siglip", "dual-mobilenet-v2"])
def test_rows_that_are_encoded_in_pieces_have_the_gradient_of_the_whole_batch(family, folder, monkeypatch):
    place = model_of(folder, family)
    processor = transformers.AutoProcessor.from_pretrained(place, backend="pil")
    settings = transformers.AutoConfig.from_pretrained(place)
    answer, *_ = Captions().reads(processor, settings, None)
    batch, labels = tiny_captions.batch(TASK, processor, answer, 8)
    grown = []
    for pixels, tokens in ((10**9, 10**9), (2 * 32 * 32, 40)):  # all at once, and two or so at a time
        monkeypatch.setattr(_beside, "PIXELS", pixels)
        monkeypatch.setattr(_beside, "TOKENS", tokens)
        model = answer.attach(transformers.AutoModel.from_pretrained(place)).train()
        loss = answer.loss()(model(**batch), labels)
        loss.backward()
        grown.append((loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])))
    assert grown[0][0] == pytest.approx(grown[1][0], rel=1e-6)
    assert (grown[0][1] - grown[1][1]).norm() / grown[0][1].norm() < 1e-5


def test_four_batches_of_four_are_one_of_sixteen(folder, train):
    """An update is one batch, whose rows are all compared with one another."""
    found = []
    for size, times in ((16, 1), (4, 4)):
        run, _ = train(
            tree(folder), f"train.per_device_train_batch_size={size}", f"train.gradient_accumulation_steps={times}",
            "train.learning_rate=0", "train.max_steps=1", "train.logging_steps=1", "train.bf16=false", name=str(size),
        )  # fmt: skip
        (log,) = (event for event in run.events()[0] if event["type"] == "log")
        found.append((log["loss"], log["grad_norm"]))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_stopped_run_goes_on_to_the_same_bits_with_augmentation(folder, tmp_path):
    chosen = tree(folder, rows="several")
    chosen["data"]["augmentation"] = {"crop": 0.7, "flip": True, "color": 0.3}
    whole = start(chosen, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start(chosen, tmp_path / "stopped", steps=5)
    resume(Run(tmp_path / "stopped"))
    same_weights(whole, Run(tmp_path / "stopped"))


# --- ranks ---


def test_ranks_both_ways_count_what_is_equal_as_right(monkeypatch):
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(30, 4)).astype(np.float32)
    prints = [i % 25 for i in range(30)]  # five pictures stand in two rows
    seen = seen[prints]
    numbers = [[i % 20, 100 + i][: 1 + i % 2] for i in range(30)]  # ten captions are those of two rows
    vectors = {n: rng.normal(size=4).astype(np.float32) for row in numbers for n in row}
    said = [np.stack([vectors[n] for n in row]) for row in numbers]
    of = {p: {n for q, row in zip(prints, numbers, strict=True) if q == p for n in row} for p in prints}
    for block in (7, 1000):
        monkeypatch.setattr(_both_ways, "BLOCK", block)
        ranks, others, rights, firsts, sizes = _both_ways.ranked(seen, prints, said, numbers)
        assert sizes == (25, len(vectors))
        for i in range(30):
            best = max(seen[i] @ vectors[n] for n in of[prints[i]])
            assert ranks[i] == 1 + sum(seen[i] @ v > best for n, v in vectors.items() if n not in of[prints[i]])
            assert seen[i] @ vectors[firsts[i]] == max(seen[i] @ v for v in vectors.values())
            for k, number in enumerate(numbers[i]):
                having = {p for p in of if number in of[p]}
                best = max(seen[p] @ vectors[number] for p in having)
                assert others[i][k] == 1 + sum(seen[p] @ vectors[number] > best for p in set(prints) - having)
            assert rights[i][0] == len(of[prints[i]])


def test_a_model_to_which_all_is_the_same_finds_no_more_than_chance():
    seen, said = np.ones((40, 3), np.float32), [np.ones((1, 3), np.float32)] * 40
    ranks, others, *_ = _both_ways.ranked(seen, range(40), said, [[i] for i in range(40)])
    assert set(ranks) == {20} and {rank for row in others for rank in row} == {20}


def test_chance_is_what_an_order_at_random_finds():
    ranks = np.array(_both_ways.at_random([1] * 1000, 200))
    assert [(ranks <= k).mean() for k in (1, 5, 10)] == pytest.approx([1 / 200, 5 / 200, 10 / 200], abs=1e-9)
    several = np.array(_both_ways.at_random([5] * 1000, 200))
    missed = np.prod([(195 - i) / (200 - i) for i in range(10)])
    assert (several <= 10).mean() == pytest.approx(1 - missed, abs=2e-3)


def test_recall_of_captions_is_over_captions_and_its_interval_over_pictures():
    answer = Captions()
    ranks = _both_ways.Ranks([1, 11, 3], [[1, 1, 1], [20], [7]])
    sample = answer.sample(ranks, np.array([[1.0, 2.0], [1.0, 0.0], [1.0, 1.0]]))
    values = {name: metric.value(sample).tolist() for name, metric in answer.METRICS.items()}
    assert values["text_recall_10"] == pytest.approx([2 / 3, 1.0])
    assert values["picture_recall_10"] == pytest.approx([4 / 5, 1.0])
    assert values["picture_recall_5"] == pytest.approx([3 / 5, 6 / 7])
    assert values["text_median_rank"] == [3.0, 1.0] and values["picture_median_rank"] == [1.0, 1.0]


# --- the way ---


def test_the_untuned_model_lora_and_their_comparison(folder, train):
    tuned, _ = train({**tree(folder), "method": {"name": "lora", "r": 8}}, "train.learning_rate=0.01", name="tuned")
    untuned, before = train({**tree(folder), "method": {"name": "zero_shot"}}, name="untuned")
    assert before["cost"]["trainable_parameters"] == 0
    assert not any("lora" in name for name in transformers.AutoModel.from_pretrained(tuned.artifact).state_dict())
    assert api.compare(str(tuned.folder), str(untuned.folder))["metric"] == "mean_recall_10"
    card = (tuned.artifact / "README.md").read_text()
    assert (
        'pipeline("zero-shot-image-classification"' in card and "pipeline_tag: zero-shot-image-classification" in card
    )


@pytest.mark.long
def test_runs_are_fused(folder, train):
    runs = [train(tree(folder), f"train.learning_rate={rate}", name=f"run{rate}")[0] for rate in (1e-3, 3e-3)]
    for run in runs:
        run.event("done", seconds=1.0)
    mixed = {"name": "fuse", "runs": [str(run.folder) for run in runs], "how": "greedy"}
    fused, result = train({**tree(folder), "method": mixed}, name="mixed")
    assert result["method"] == "fuse" and result["test"]["metrics"]["mean_recall_10"]["value"] > 0
    assert transformers.AutoModelForZeroShotImageClassification.from_pretrained(fused.artifact)


def test_a_model_of_the_hub_is_asked_without_any_training(folder):
    predictor = Predictor(model_of(folder, "CLIP"))
    assert predictor.task.name == TASK.name
    (found,) = predictor.answer([{"image": str(folder / "one" / "000.png"), "labels": "a cat, a dog\na film"}])
    assert list(found["scores"]) != [] and set(found["scores"]) == {"a cat", "a dog", "a film"}
    (alone,) = predictor.answer([str(folder / "one" / "000.png")])
    assert set(alone["scores"]) == set(GENERAL)


def test_check_asks_scores_saves_and_asks_again(folder):
    with Interruption() as interruption:
        assert questions.check(catalog.build_config(tree(folder)), interruption)["updates"] > 0


def test_captions_that_many_pictures_share_are_the_labels_of_who_names_none(folder, train):
    run, result = train(tree(folder), "train.max_steps=1")
    known = result["answer"]["choices"]
    rows = [json.loads(line)["text"] for line in (folder / "one" / "metadata.jsonl").read_text().splitlines()]
    assert len(known) > 1 and all(rows.count(text) >= 3 for text in known)
    (found,) = Predictor(run.artifact).answer([str(folder / "one" / "000.png")])
    assert set(found["scores"]) == set(known)


def test_a_picture_in_several_rows_is_one_row_with_all_its_captions(folder, tmp_path):
    place = tiny_captions.folder(tmp_path / "rows", 30)
    lines = [json.loads(line) for line in (place / "metadata.jsonl").read_text().splitlines()]
    (place / "metadata.jsonl").unlink()
    long = [(line["file_name"], text) for line in lines for text in (line["text"], f"it was {line['text']}")]
    pd.DataFrame(long, columns=["image", "caption"]).sample(frac=1, random_state=0).to_csv(
        place / "captions.csv", index=False
    )
    found = data.load(config.DataConfig(source=str(place)), TASK, 42)
    assert sum(found.sizes.values()) == 30 and not any("data.group" in one for one in found.warnings)
    assert any("train: `image` has 30 values in 60 rows: all of `caption` of one are one row" in one
               for one in found.guesses)  # fmt: skip
    kept = {tuple(sorted(row["caption"], key=len)) for rows in found.splits.values() for row in rows}
    assert kept == {(line["text"], f"it was {line['text']}") for line in lines}


def test_numbered_columns_of_captions_are_one_list(tmp_path):
    place = tiny_captions.folder(tmp_path / "rows", 20)
    lines = [json.loads(line) for line in (place / "metadata.jsonl").read_text().splitlines()]
    several = [{"file_name": line["file_name"], "caption_0": line["text"], "caption_1": "a film"} for line in lines]
    several[3]["caption_1"] = ""
    tiny_captions.write(place, several)
    found = data.load(config.DataConfig(source=str(place)), TASK, 42)
    assert "train: `caption` is made of caption_0, caption_1" in found.guesses
    assert {len(row["caption"]) for rows in found.splits.values() for row in rows} == {1, 2}
    named = data.load(config.DataConfig(source=str(place), columns={"caption": "caption_0"}), TASK, 42)
    assert {len(row["caption"]) for rows in named.splits.values() for row in rows} == {1}


# --- wrong input ---


def test_labels_are_a_list_or_a_text_with_commas():
    assert CANDIDATES.read(" a cat, a dog,, a cat\n") == ["a cat", "a dog"] == CANDIDATES.read(["a cat", "a dog"])
    for wrong in ("", "a cat", ["a cat", "a cat"], 3, [1, 2]):
        with pytest.raises(UserError, match="two labels or more are needed, to choose among"):
            CANDIDATES.read(wrong)


def refused(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error, Interruption() as interruption:
        questions.check(catalog.build_config(tree), interruption)
    assert error.value.exit_code == 2


def test_pictures_without_captions_are_refused(folder, tmp_path):
    pictures = tiny.image_folder(tmp_path / "classes", 12)
    message = (
        r"needs a caption column \(string or list of strings\); the data set has image \(Image\), label \(string\)"
    )
    refused({**tree(folder), "data": {"source": str(pictures)}}, message)


def test_rows_of_which_most_have_no_caption_are_refused_and_few_are_said(folder, tmp_path):
    place = tiny_captions.folder(tmp_path / "rows", 40)
    lines = [json.loads(line) for line in (place / "metadata.jsonl").read_text().splitlines()]
    lines[3]["text"], lines[5]["text"] = " ", None
    tiny_captions.write(place, lines)
    said = data.load(config.DataConfig(source=str(place)), TASK, 42).warnings
    assert any("2 of 40 rows dropped: 2 with no caption" in one for one in said)
    tiny_captions.write(place, [{**line, "text": None if i % 4 else "a film"} for i, line in enumerate(lines)])
    refused({**tree(folder), "data": {"source": str(place)}}, r"usable rows are needed in train; 30 of 40 are not")


def test_captions_that_are_all_the_same_are_refused(folder, tmp_path):
    place = tiny_captions.folder(tmp_path / "rows", 24)
    tiny_captions.write(place, [{"file_name": f"{i:03}.png", "text": "the film"} for i in range(24)])
    refused({**tree(folder), "data": {"source": str(place)}}, r"captions that differ are needed; every row of `text`")


@pytest.mark.parametrize("kind", ["classifier", "encoder", "lone tower"])
def test_a_model_that_compares_nothing_is_refused(kind, folder, tmp_path):
    place = tmp_path / "model"
    if kind == "classifier":
        tiny.image_model(place, "vit")
    elif kind == "encoder":
        tiny.text_model(place)
    else:
        transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**tiny.SMALL | tiny.PICTURE)).save_pretrained(place)
        transformers.CLIPImageProcessorPil().save_pretrained(place)
    refused(
        {**tree(folder), "model": str(place)},
        "a model that reads pictures and texts is needed|zero-shot-image-classification needs a model",
    )


def test_texts_may_be_no_longer_than_the_model_takes(folder):
    refused({**tree(folder), "data": {"source": str(folder / "one"), "max_length": 99}},
            "data.max_length must be at most 64 for this model; it is 99")  # fmt: skip
    refused({**tree(folder, "Siglip"), "data": {"source": str(folder / "one"), "max_length": 16}},
            "data.max_length must be 64 for this model; it is 16")  # fmt: skip


def test_methods_that_solve_a_head_over_labels_are_refused(folder):
    with pytest.raises(UserError, match=r"few_shot solves a linear head, which gives no captions"):
        catalog.build_config({**tree(folder), "method": {"name": "few_shot"}})
