"""A task that finds things: every architecture trains, answers as transformers' pipeline does, and adds up."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch.nn.modules.batchnorm import _BatchNorm

from hftransfer import catalog, cli, training, views
from hftransfer.answers._detector import keep
from hftransfer.answers.boxes import Boxes
from hftransfer.comparison import contenders, judging
from hftransfer.errors import UserError
from hftransfer.fitting import planning, trainer
from hftransfer.fitting.guard import Guard
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.modeling.batches import Collator
from hftransfer.modeling.loading import load_model, load_processor
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from hftransfer.tasks.base import Preparation
from tests import tiny, tiny_detectors
from tests.engine.conftest import QUICK
from tests.engine.test_auto import StopAfter
from tests.engine.test_resume import resume, same_weights, start

QUIET = {"label_issues": False, "likely_copies": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("detection")
    tiny_detectors.folder(found / "rows", 24)
    return found


def tree(folder: Path, architecture: str = "rt-detr-v2", **train: Any) -> dict[str, Any]:
    model = folder / architecture
    if not model.is_dir():
        tiny_detectors.model(model, architecture)
    return {
        "task": "object-detection", "model": str(model), "data": {"source": str(folder / "rows"), **QUIET},
        "train": {"learning_rate": 1e-3, "max_steps": 2, "per_device_train_batch_size": 4, **train},
    }  # fmt: skip


@pytest.mark.parametrize("architecture", tiny_detectors.MADE)
def test_every_architecture_trains_and_answers_strangers_alike(architecture, folder, train):
    run, result = train(tree(folder, architecture))
    assert np.isfinite(result["test"]["metrics"]["map"]["value"]) and result["baseline"]["name"]
    predictor = Predictor(run.artifact)
    pipeline = transformers.pipeline("object-detection", str(run.artifact))
    row = predictor.task.row(Image.open(folder / "rows" / "003.png"))
    ours = predictor.answered.plainly(row, predictor.ask([row])[0])
    theirs = predictor.task.ask_pipeline(pipeline, predictor.opened(row), None)
    assert len(ours["objects"]) >= 10 and predictor.answered.distance(ours, theirs) < 1e-3
    fixed = any("told of no padding" in event.get("message", "") for event in run.events()[0])
    assert fixed == (architecture in ("yolos", "lw-detr"))


def test_what_is_learnt_goes_with_the_model_and_is_shown(folder, train, capsys):
    run, result = train(tree(folder, max_steps=30, learning_rate=3e-3))
    losses = [event["loss"] for event in run.events()[0] if event["type"] == "log" and "loss" in event]
    assert losses[-1] < 0.9 * losses[0]
    metrics, answer = result["test"]["metrics"], result["answer"]
    assert {"map", "map_50", "map_75", "ar_100", "f1_boxes", "count_error"} <= set(metrics)
    assert metrics["map"]["low"] <= metrics["map"]["value"] <= metrics["map"]["high"]
    assert [row["name"] for row in result["test"]["classes"]] == list(tiny_detectors.CLASSES)
    assert Predictor(run.artifact).answered.threshold == answer["threshold"]
    assert {path.name for path in (run.folder / "plots").glob("*.png")} >= {
        "precision_recall.png", "thresholds.png", "counts.png"
    }  # fmt: skip
    card = (run.artifact / "README.md").read_text()
    assert "pipeline_tag: object-detection" in card and f"{answer['threshold']:.3f}" in card

    picture = str(folder / "rows" / "000.png")
    assert cli.main(["predict", str(run.folder), picture, "--json", "--files", str(folder / "drawn")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert all(set(one) == {"score", "label", "box"} for one in told["objects"])
    view = Predictor(run.artifact).views([told])[0]
    assert isinstance(view, views.Regions) and len(view.found) == len(told["objects"]) and view.drawn
    (drawn,) = (folder / "drawn").iterdir()
    assert Image.open(drawn).size == (64, 64)

    other, _ = train(tree(folder, "detr"), name="other")
    runs = [run, other]
    for one in runs:
        one.event("done", seconds=1.0)
    judged = judging.judge([one.name for one in runs], contenders.gather([str(one.folder) for one in runs]))
    assert len(judged["models"]) == 2 and judged["verdict"]


def test_the_threshold_is_chosen_on_validation_rows_and_counts_follow():
    answer = tiny.answer("boxes", ("a", "b"), (6, 2), 4, usual=[0.5, 0.25, 40.0, 40.0], threshold=0.5)
    truth = [np.array([[5, 5, 10, 10, 0, 0, 40, 40], [20, 20, 10, 10, 1, 0, 40, 40]], float), np.zeros((0, 8))]
    outputs = [
        np.array([[5, 5, 10, 10, 0.3, 0], [20, 20, 10, 10, 0.2, 1], [0, 0, 4, 4, 0.1, 0]], np.float32),
        np.array([[0, 0, 4, 4, 0.15, 0]], np.float32),
    ]
    chosen = answer.calibrated(truth, outputs)
    assert chosen.threshold == pytest.approx(0.2)
    sample = chosen.sample(chosen.outcomes(truth, outputs), np.ones((2, 1)))
    values = {name: float(metric.value(sample)[0]) for name, metric in chosen.metrics.items()}
    assert values["f1_boxes"] == values["precision_boxes"] == 1 and values["count_error"] == 0
    before = answer.sample(answer.outcomes(truth, outputs), np.ones((2, 1)))
    assert answer.metrics["count_bias"].value(before)[0] == -1 and answer.metrics["recall_boxes"].value(before)[0] == 0
    assert len(chosen.to_json({}, outputs[0])["objects"]) == 2 and not chosen.to_json({}, outputs[1])["objects"]
    assert len(answer.plainly({}, outputs[0])["objects"]) == 3
    grid = answer.baseline(truth, None).outputs
    assert [len(row) for row in grid] == [8, 8] and (grid[0][:, 5] == 0).all() and grid[0][0, 2:4].tolist() == [20, 10]
    row = {"image": Image.new("RGB", (40, 40), "white")}
    drawn = np.asarray(Image.open(io.BytesIO(chosen.files(chosen.to_json(row, outputs[0]))["drawn.png"])))
    assert (drawn[10, 5] != 255).any() and (drawn[20:31, 30] != 255).any() and (drawn[38, 38] == 255).all()
    assert chosen.in_words([{"name": "a", "score": 0.3}, {"name": "b", "score": 0.1}]) == "1 a"
    assert answer.never(truth, outputs) == [("a", 1), ("b", 1)] and not chosen.never(truth, outputs)


# --- the sum over boxes ---


def batches(architecture: str, folder: Path, **options: Any) -> tuple[Any, Boxes, list[dict[str, Any]], Any]:
    """Return a detector without randomness, the answer, items with unlike many boxes, and what joins them."""
    place = tiny_detectors.model(folder / architecture, architecture, **options)
    task = catalog.task("object-detection")
    built = catalog.build_config({**QUICK, **tree(folder), "model": str(place), "method": {"name": "full"}})
    answer = tiny.answer("boxes", tiny_detectors.CLASSES, (20, 19), 16, usual=[0.3, 0.3, 64.0, 64.0], threshold=0.5)
    processor = load_processor(built, task)
    answer, processor, _ = answer.reads(processor, transformers.AutoConfig.from_pretrained(place), None)
    model = load_model(built, task, answer, processor).model.train()
    rows: dict[str, list[Any]] = {"image": [], "objects": []}
    for picture, boxes, names in tiny_detectors.pictures(8, 5):
        times = 4 if len(rows["image"]) == 3 else 1 if len(rows["image"]) != 5 else 0
        rows["image"].append(picture)
        rows["objects"].append([
            {**dict(zip(("x", "y", "width", "height"), box, strict=True)), "crowd": False, "difficult": False,
             "picture_width": 64, "picture_height": 64, "label": tiny_detectors.CLASSES.index(name)}
            for box, name in zip(boxes * times, names * times, strict=True)
        ])  # fmt: skip
    preparation = Preparation(built.data, answer, 0)  # type: ignore[arg-type]
    found = task.items({"image": rows["image"]}, rows["objects"], processor, preparation)
    items = [{name: found[name][at] for name in found if not name.startswith("_")} for at in range(8)]
    return model, answer, items, Collator(None, answer.padding)  # type: ignore[return-value]


EXACT = {
    "detr": {}, "conditional-detr": {}, "deformable-detr": {}, "yolos": {}, "rt-detr": {"num_denoising": 0},
    "rt-detr-v2": {"num_denoising": 0}, "lw-detr": {},
}  # fmt: skip


@pytest.mark.parametrize("architecture", EXACT)
def test_an_update_is_the_same_however_it_is_cut(architecture, tmp_path):
    """Loss and gradient of 8 pictures at once, 2 and 1 at a time: their own losses weigh crowded pictures less."""
    model, answer, items, join = batches(architecture, tmp_path, **EXACT[architecture])
    torch.manual_seed(1)
    with torch.no_grad():  # queries as alike as fresh ones are would be matched by what rounding leaves between them
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(**{name: value for name, value in join(items).items() if name != "labels"})
    for norm in norms:  # what a batch norm sees that learns are the rows of its batch
        keep(norm)
    loss, count = answer.loss(), sum(int((item["labels"] != -100).sum()) for item in items)
    found = []
    for size in (8, 2, 1):
        model.zero_grad()
        total = 0.0
        for start_at in range(0, 8, size):
            batch = join(items[start_at : start_at + size])
            labels = batch.pop("labels")
            part = loss(model(**batch), labels, torch.tensor(count))
            part.backward()
            total += part.item()
        grown = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((total, grown.clone()))
    for total, grown in found[1:]:
        assert total == pytest.approx(found[0][0], rel=1e-4)
        assert (grown - found[0][1]).norm() < 1e-3 * found[0][1].norm()


def test_trained_batch_norms_keep_their_mean_and_new_ones_learn(tmp_path):
    model, answer, items, join = batches("rt-detr-v2", tmp_path)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    assert norms
    batch = join(items)
    batch.pop("labels")
    before = [norm.running_mean.clone() for norm in norms]
    model(**batch)
    assert any((norm.running_mean != mean).any() for norm, mean in zip(norms, before, strict=True))
    place = tmp_path / "trained"
    model.save_pretrained(place)
    again = answer.attach(type(model).from_pretrained(place)).train()
    norms = [module for module in again.modules() if isinstance(module, _BatchNorm)]
    before = [norm.running_mean.clone() for norm in norms]
    again(**batch)
    assert all((norm.running_mean == mean).all() for norm, mean in zip(norms, before, strict=True))


def test_pictures_of_unlike_sizes_are_padded_and_masked(tmp_path):
    _, _, items, join = batches("detr", tmp_path)
    items[1]["pixel_values"], items[1]["pixel_mask"] = items[1]["pixel_values"][:, :40], items[1]["pixel_mask"][:40]
    batch = join(items[:2])
    assert batch["pixel_values"].shape == (2, 3, 64, 64) and not batch["pixel_values"][1, :, 40:].any()
    assert batch["pixel_mask"][0].all() and batch["pixel_mask"][1].sum() == 40 * 64
    assert (batch["labels"][1, len(items[1]["labels"]) :] == -100).all()


def test_the_backbone_learns_at_its_own_rate(folder):
    from hftransfer.methods.full import backbone_groups

    model = transformers.AutoModelForObjectDetection.from_pretrained(tiny_detectors.model(folder / "rates", "detr"))
    groups = backbone_groups(model, 0.1)
    assert groups is not None and [group["scale"] for group in groups] == [0.1, 1.0]
    slow = {id(p) for p in groups[0]["params"]}
    named = {name for name, p in model.named_parameters() if id(p) in slow}
    assert named and all("backbone" in name for name in named)
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())
    assert Boxes.backbone_rate == 0.1


def auto_tree(folder: Path) -> dict[str, Any]:
    """Return a run of `auto` that measures its rate, and is looked at on its way."""
    often = {"eval_strategy": "steps", "eval_steps": 4}
    made = {**QUICK, **tree(folder, max_steps=16, use_cpu=True, **often), "method": {"name": "auto"}}
    del made["train"]["learning_rate"]
    return made


def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ENOUGH": 1, "FEW": 1, "LEAST": 4}.items():
        monkeypatch.setattr(planning, name, value)


def test_the_backbone_learns_at_its_own_rate_by_default_too(folder, tmp_path, monkeypatch):
    """In every trial, in the fit that goes on from one of them, and in the one that begins once more."""
    few_are_enough(monkeypatch)
    made: list[tuple[str | None, bool, list[float]]] = []
    descend = trainer.descend

    def spied(setup: Any, model: Any, rate: float, groups: Any = None, callbacks: Any = ()) -> Any:
        made.append((setup.trial, setup.checkpoints is None, [group["scale"] for group in groups or ()]))
        return descend(setup, model, rate, groups=groups, callbacks=callbacks)

    monkeypatch.setattr(trainer, "descend", spied)
    monkeypatch.setattr(Guard, "look", lambda self, model: "nothing was learned")
    config = catalog.build_config(auto_tree(folder))
    with Interruption() as interruption:
        result = training.run(config, Run.create(config, tmp_path / "run"), interruption)
    assert len(result["auto"]["trials"]) >= 3 and result["auto"]["again"]
    assert len(made) == len(result["auto"]["trials"]) + 2
    assert all(scales == [0.1, 1.0] for _, _, scales in made), made


@pytest.mark.parametrize(("type", "count"), [pytest.param("trial", 2, marks=pytest.mark.long), ("evaluation", 3)])
def test_a_default_run_resumes_with_the_rate_of_its_backbone(folder, tmp_path, monkeypatch, type, count):
    few_are_enough(monkeypatch)
    config = catalog.build_config(auto_tree(folder))
    whole, cut = (Run.create(config, tmp_path / name) for name in ("whole", "cut"))
    with Interruption() as interruption:
        training.run(config, whole, interruption)
    with pytest.raises(Interrupted), StopAfter(cut.folder, type, count) as interruption:
        training.run(config, cut, interruption)
    with Interruption() as interruption:
        training.run(config, cut, interruption, resume=True)
    same_weights(whole, cut)


def test_it_resumes_bit_for_bit_with_augmentation(folder, tmp_path):
    made = tree(folder, max_steps=6)
    made["data"] = {**made["data"], "augmentation": {"crop": 0.5, "upside_down": True, "mosaic": 0.5}}
    whole = start(made, tmp_path / "whole")
    with pytest.raises(Interrupted) as stop:
        start(made, tmp_path / "stopped", steps=3)
    assert 0 < stop.value.step < 6
    stopped = Run(tmp_path / "stopped")
    resume(stopped)
    same_weights(whole, stopped)


# --- the wrong model ---


def test_models_that_cannot_are_refused_in_words(folder, tmp_path):
    def refused(model: Path, match: str, **train: Any) -> None:
        made = {**QUICK, **tree(folder, **train), "model": str(model)}
        made["train"] = {**QUICK["train"], **made["train"]}
        run = Run.create(catalog.build_config(made), tmp_path / f"run-{model.name}")
        with Interruption() as interruption, pytest.raises(UserError, match=match):
            training.set_scene(run.config(), run, interruption, resume=False)

    refused(tiny.image_model(tmp_path / "classifier"), "AutoModelForObjectDetection can load")
    settings = transformers.RfDetrConfig()
    place = tmp_path / "rf-detr"
    settings.save_pretrained(place)
    (place / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "RfDetrImageProcessor"}))
    refused(place, "needs a model that is shown a picture")


def test_smoothing_is_refused(folder, train):
    with pytest.raises(UserError, match="label_smoothing_factor"):
        train(tree(folder, label_smoothing_factor=0.1))


# --- other methods ---


def test_adapters_merge_into_a_plain_detector(folder, train):
    """Detectors tie their heads and embed nothing, which peft asks of them."""
    made = {**tree(folder, learning_rate=1e-2), "method": {"name": "lora", "r": 2}}
    run, result = train(made)
    assert result["method"] == "lora" and result["cost"]["trainable_parameters"] < result["cost"]["total_parameters"]
    predictor = Predictor(run.artifact)
    pipeline = transformers.pipeline("object-detection", str(run.artifact))
    row = predictor.task.row(Image.open(folder / "rows" / "003.png"))
    ours = predictor.answered.plainly(row, predictor.ask([row])[0])
    theirs = predictor.task.ask_pipeline(pipeline, predictor.opened(row), None)
    assert predictor.answered.distance(ours, theirs) <= 1e-4


def test_what_a_detector_cannot_is_refused_with_what_it_can(folder, train):
    with pytest.raises(UserError, match=r"Set method.name=lora or auto or full"):
        train({**tree(folder), "method": {"name": "probe"}})
    with pytest.raises(UserError, match=r"without a head for disc, square\. Use method.name=full"):
        train({**tree(folder), "method": {"name": "zero_shot"}})


@pytest.mark.long
def test_runs_are_folded_and_fused(folder, train):
    first, _ = train({**tree(folder), "evaluation": {"resamples": 100, "folds": 2}}, name="first")
    assert len(first.result()["folds"]["metrics"]["map"]["scores"]) == 2
    second, _ = train(tree(folder, learning_rate=2e-3), name="second")
    mixed = {
        **tree(folder),
        "method": {"name": "fuse", "runs": [str(first.folder), str(second.folder)], "how": "greedy"},
    }
    run, result = train(mixed, name="mixed")
    assert result["method"] == "fuse" and (run.artifact / "model.safetensors").is_file()
