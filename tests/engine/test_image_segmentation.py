"""A class for every pixel: all architectures answer as transformers' pipeline, and learn the same however cut."""

from __future__ import annotations

import base64
import io
import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from PIL import Image
from safetensors.numpy import load_file

from hftransfer import api, cli, views
from hftransfer.answers import _mask_files, _mask_models, _mask_scores, _mask_views
from hftransfer.answers._kept_masks import Kept, Lazy, keep
from hftransfer.answers.mask import Mask, Piece
from hftransfer.evaluation.predictions import Predictions
from hftransfer.fitting.trainer import Summed
from hftransfer.inputs._geometry import tiles
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from tests import tiny, tiny_masks
from tests.engine.test_resume import stopped_and_resumed

NAMES = ["ground", *tiny_masks.SHAPES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("masks")
    tiny_masks.folder(found / "rows", 16)
    return found


def tree(folder: Path, architecture: str = "segformer", **changes: Any) -> dict[str, Any]:
    model = folder / architecture
    if not model.is_dir():
        tiny_masks.model(model, architecture)
    data = {"source": str(folder / "rows"), "test_size": 4, "validation_size": 4, "label_names": NAMES}
    return {
        "task": "image-segmentation", "model": str(model), "data": {**data, **changes.pop("data", {})},
        "train": {"learning_rate": 3e-3, "per_device_train_batch_size": 4, "num_train_epochs": 1,
                  **changes.pop("train", {})},
        **changes,
    }  # fmt: skip


def apart(run: Run, pictures: list[Image.Image]) -> tuple[list[float], list[int]]:
    """Return how far the Predictor and pipeline() are apart on each picture, and how many classes an answer has."""
    predictor = Predictor(run.artifact)
    pipeline = transformers.pipeline("image-segmentation", str(run.artifact))
    rows = [predictor.task.row(picture) for picture in pictures]
    ours = [predictor.answered.plainly(row, one) for row, one in zip(rows, predictor.ask(rows), strict=True)]
    theirs = [predictor.task.ask_pipeline(pipeline, predictor.opened(row), None) for row in rows]
    assert all(theirs)
    far = [predictor.answered.distance(one, other) for one, other in zip(ours, theirs, strict=True)]
    return far, [len(one["segments"]) for one in ours]


def scenes(count: int, seed: int = 5) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [tiny_masks.scene(rng, 40 + 9 * number)[0] for number in range(count)]


def noise(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(3)
    return [Image.fromarray(rng.integers(0, 256, (50, 40 + 9 * i, 3)).astype(np.uint8)) for i in range(count)]


@pytest.mark.parametrize("architecture", tiny_masks.MODELS)
def test_every_architecture_answers_strangers_alike(architecture, folder, train):
    """At a rate at which nothing is learned: answers of random weights hold all classes, and so tell much.

    In bfloat16 on every machine: what is put around a forward pass for that must come off, and nothing else.
    """
    run, result = train(tree(folder, architecture, train={"learning_rate": 1e-7, "bf16": True}))
    assert np.isfinite(result["test"]["metrics"]["mean_iou"]["value"]) and result["test"]["n"] == 4
    far, classes = apart(run, noise(3))
    assert max(far) <= 2e-3 and max(classes) > 1
    settings = json.loads((run.artifact / "config.json").read_text())
    assert settings["id2label"] == {"0": "ground", "1": "disc", "2": "box"}
    reader = json.loads((run.artifact / "preprocessor_config.json").read_text())
    assert not reader.get("do_reduce_labels") and not reader.get("do_center_crop")
    assert reader["size"] == {"height": tiny_masks.SIDE, "width": tiny_masks.SIDE}


def test_it_learns_more_than_the_usual_class(folder, tmp_path, train):
    tiny_masks.folder(tmp_path / "more", 40, seed=1)
    data = {"source": str(tmp_path / "more"), "background_class": "ground", "test_size": 8, "augmentation": False}
    fit = {"num_train_epochs": 10, "learning_rate": 5e-3, "class_weights": "balanced"}
    run, result = train(tree(folder, data=data, train=fit))
    score, trivial = result["test"]["metrics"]["mean_dice"], result["baseline"]
    assert trivial["name"] == "ground everywhere" and trivial["metrics"]["mean_iou"]["value"] < 0.35
    assert score["low"] > trivial["metrics"]["mean_dice"]["value"] == 0
    assert [row["name"] for row in result["test"]["classes"]] == NAMES
    assert {"iou", "dice", "recall", "boundary_f1", "iou_low"} <= set(result["test"]["classes"][0])
    stored = run.predictions / "test.parquet"
    import pandas as pd

    table = pd.read_parquet(stored)
    with Image.open(io.BytesIO(table["prediction"][0])) as drawn:
        assert drawn.mode == "L" and np.asarray(drawn).max() < 3


def test_models_of_queries_learn_the_same_however_a_batch_is_cut():
    """Four pictures at once, or one by one: the same gradient, whatever share of each counts."""
    torch.manual_seed(0)
    settings = tiny_masks.MODELS["maskformer"]()
    settings.num_labels = 3
    model = transformers.MaskFormerForInstanceSegmentation(settings).train()
    pixels = torch.randn(4, 3, 64, 64)
    labels = torch.randint(0, 3, (4, 64, 64))
    labels[1:, :40] = -100
    labels[3] = -100  # nothing of it counts
    model = _mask_models.attach(model)
    loss = tiny.answer("mask", NAMES, values=[0, 1, 2], coloured=False, ignored=255, background=0, rows=4,
                       queries=True).loss()  # fmt: skip
    counted = int((labels != -100).sum())
    grown = []
    for size in (4, 1):
        model.zero_grad()
        for start in range(0, 4, size):
            outputs = model(pixel_values=pixels[start : start + size], targets=labels[start : start + size])
            loss(outputs, labels[start : start + size], counted).backward()
        grown.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert float(grown[0].abs().max()) > 0
    assert torch.allclose(grown[0], grown[1], rtol=1e-3, atol=1e-5)


def test_a_stopped_run_ends_with_the_same_weights(folder, tmp_path):
    data = {"test_size": 2, "augmentation": {"mosaic": 0.5}}
    wanted = tree(folder, train={"num_train_epochs": 2, "dataloader_num_workers": 0}, data=data)
    whole, part = stopped_and_resumed(wanted, tmp_path)
    left, right = (load_file(run.artifact / "model.safetensors") for run in (whole, part))
    assert all((left[name] == right[name]).all() for name in left)
    # a SegFormer's files have other names than its modules: the best checkpoint is all of it, not a mixture
    best = transformers.AutoModelForSemanticSegmentation.from_pretrained(whole.artifact).state_dict()
    ends = [load_file(path) for path in sorted(whole.checkpoints.glob("*/model.safetensors"))]
    assert len(ends) == 2 and any(all((end[name] == best[name].numpy()).all() for name in best) for end in ends)


@pytest.mark.parametrize("mosaic", [0.0, 0.5])
def test_masks_move_with_their_pictures(mosaic, folder, tmp_path):
    """Each change is drawn once: a picture that shows its classes as colours still agrees with its mask."""
    from hftransfer import catalog
    from hftransfer.fitting.interruption import Interruption
    from hftransfer.training import set_scene
    from tests.engine.conftest import QUICK

    place = tmp_path / "same"
    for name in ("images", "masks"):
        (place / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(12):
        _, classes = tiny_masks.scene(rng)
        shown = (classes * 120).astype(np.uint8)
        Image.fromarray(np.stack([shown] * 3, -1)).save(place / "images" / f"{number}.png")
        Image.fromarray(classes).save(place / "masks" / f"{number}.png")
    data = {"source": str(place), "augmentation": {"crop": 0.5, "color": 0.0, "upside_down": True, "mosaic": mosaic}}
    built = catalog.build_config({**QUICK, **tree(folder, data=data), "method": QUICK["method"]})
    with Interruption() as interruption:
        scene = set_scene(built, Run.create(built, tmp_path / "run"), interruption, resume=False)
    items = scene.setup.prepared["train"].dataset
    means, stds = (torch.tensor(getattr(scene.setup.processor, f"image_{name}")) for name in ("mean", "std"))
    first = items[0]["labels"]
    items.set_epoch(1)
    assert not torch.equal(first, items[0]["labels"])
    for place_ in range(len(items)):
        item = items[place_]
        shown = (item["pixel_values"] * stds[:, None, None] + means[:, None, None])[0] * 255
        agree = (shown / 120).round() == item["labels"]
        assert agree.float().mean() > 0.93  # pictures are resized smoothly, masks are not
        assert set(item["labels"].unique().tolist()) <= {0, 1, 2}


def test_large_pictures_are_answered_in_tiles_that_are_joined(folder, train):
    run, result = train(tree(folder, data={"tile": 32}, train={"learning_rate": 1e-7}))
    assert result["test"]["n"] == 4
    predictor = Predictor(run.artifact)
    large = scenes(3)[2]
    row = predictor.task.row(large)
    assert not predictor.is_whole(row) and predictor.is_whole(predictor.task.row(large.crop((0, 0, 30, 32))))
    whole = _mask_files.of_png(predictor.ask([row])[0])
    assert whole.shape == large.size[::-1]
    windows = tiles(large.size, 32)
    cut = [large.crop((left, top, left + width, top + height)) for left, top, width, height in windows]
    parts = [_mask_files.of_png(one) for one in predictor.ask([predictor.task.row(one) for one in cut])]
    joined = _mask_views.joined([(one, box[:2], large.size) for one, box in zip(parts, windows, strict=True)])
    assert (whole == joined).mean() > 0.999 and len(np.unique(whole)) > 1


def test_validation_keeps_one_table_however_many_rows():
    answer = tiny.answer("mask", NAMES, values=[0, 1, 2], coloured=False, ignored=255, background=0, rows=4,
                         queries=False)  # fmt: skip
    rng = np.random.default_rng(0)
    real = [rng.integers(0, 3, (16, 16)).astype(np.uint8) for _ in range(6)]
    logits = torch.tensor(rng.normal(size=(6, 3, 16, 16)), dtype=torch.float32)
    labels = torch.from_numpy(np.stack(real).astype(np.int64))
    labels[0, :4] = -100
    real[0][:4] = 255
    summed = Summed(answer)
    for start in range(0, 6, 2):
        kept = answer.reduce(logits[start : start + 2], labels[start : start + 2])
        output = transformers.EvalPrediction(predictions=kept, label_ids=labels[start : start + 2])
        found = summed(output, compute_result=start == 4)
        assert np.shape(summed.total) in ((), (1, 3, 3))
    outputs = [_mask_files.to_png(one) for one in logits.argmax(1).numpy()]
    outcomes = answer.outcomes([_mask_files.to_png(one) for one in real], outputs)
    sample = answer.sample(outcomes, np.ones((6, 1)))
    assert found == pytest.approx({name: float(answer.metrics[name].value(sample)[0]) for name in answer.validated})


def test_answers_of_many_pictures_take_the_memory_of_few(tmp_path, monkeypatch):
    """Random masks, which no PNG makes small: asked, joined, stored, scored and held against the trivial answer."""
    answer = tiny.answer("mask", NAMES, values=[0, 1, 2], coloured=False, ignored=255, background=0, rows=4,
                         counts=[3, 2, 1], usual=[0] * 256, queries=False)  # fmt: skip
    monkeypatch.setattr(Mask, "stored_at_once", 8)
    monkeypatch.setattr(_mask_files, "AT_ONCE", 8)

    def made(row: int) -> bytes:
        return _mask_files.to_png(np.random.default_rng(row).integers(0, 3, (200, 200)))

    def peak(count: int) -> int:
        tracemalloc.start()
        truth = Lazy(range(count), made)
        outputs = answer.gathered([answer.join([Piece(keep(made(row + 1)))]) for row in range(count)])
        stored = Predictions(answer, [str(row) for row in range(count)], truth, outputs)
        stored.to_parquet(tmp_path / f"{count}.parquet")
        assert stored.outcomes.actual.sum() == count * 200 * 200
        assert answer.baseline(truth, []).outputs[0] and not answer.is_constant(outputs)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(8)  # what is imported and made once
    few, many = (min(peak(count) for _ in range(3)) for count in (16, 128))  # threads of other tests may take some too
    held = len(made(0))
    assert many - few < 112 * held / 2, "of 112 masks more, each of them held twice; some 300 kB are the collector's"
    table = pq.read_table(tmp_path / "128.parquet")
    assert table["prediction"].to_pylist() == [made(row + 1) for row in range(128)]
    kept = keep(b"a mask")
    assert pickle.loads(pickle.dumps(kept)) == b"a mask" == bytes(kept), "what another process is sent"
    assert isinstance(answer.join([Piece(b"a mask")]), Kept), "what another process sent"


def test_scores_are_those_of_their_definitions():
    """IoU and Dice by sets of pixels; boundaries of a box that lies one pixel aside, or far."""
    real, found = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    real[5:15, 5:15], found[5:15, 6:16] = 1, 1
    real[0] = 255
    counted = _mask_scores.Counted(*map(_mask_files.to_png, (real, found)), 2)
    assert counted.counts.tolist() == [[1450, 10], [10, 90]]
    measured = _mask_scores.measured(counted.counts, 0)
    assert measured["mean_dice"] == pytest.approx(2 * 90 / 200)
    assert measured["mean_iou"] == pytest.approx((1450 / 1470 + 90 / 110) / 2)
    assert measured["pixel_accuracy"] == pytest.approx(1540 / 1560)
    assert counted.met[1] == counted.drawn[1] > 0  # a pixel aside is near enough
    far = np.zeros((40, 40), np.uint8)
    far[25:35, 25:35] = 1
    assert _mask_scores.Counted(*map(_mask_files.to_png, (real, far)), 2).met[1] == 0


def test_the_baseline_knows_where_classes_lie():
    """Sky above and ground below: what is usual at each place is better than one class everywhere."""
    import pyarrow as pa

    classes = np.zeros((20, 24), np.uint8)
    classes[9:] = 1
    rows = [_mask_files.to_png(classes)] * 4
    answer = tiny.answer("mask", ["sky", "ground"], values=[0, 1], coloured=False, ignored=None, background=None,
                         rows=4, queries=False).counted(pa.array(rows, pa.binary()))  # fmt: skip
    trivial = answer.baseline(rows, None)
    assert trivial.name == "usual class at each place"
    assert (_mask_files.of_png(trivial.outputs[0]) == classes).mean() > 0.9
    assert answer.counts == (4 * 9 * 24, 4 * 11 * 24) and answer.pictures == (4, 4)


def test_predict_writes_masks_and_two_runs_compare(folder, tmp_path, train, capsys):
    runs = [train(tree(folder), f"train.learning_rate={rate}", name=f"run{rate}")[0] for rate in (1e-3, 1e-2)]
    for run in runs:
        run.event("done", seconds=1.0)
    picture = str(sorted((folder / "rows" / "images").glob("*.png"))[0])
    assert cli.main(["predict", str(runs[0].folder), picture, "--files", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    with Image.open(picture) as opened, Image.open(tmp_path / "out" / "000.classes.png") as classes:
        assert classes.size == opened.size and classes.mode == "L"
        assert np.array_equal(np.asarray(classes), _mask_files.of_png(base64.b64decode(told["mask"])))
    assert (tmp_path / "out" / "000.drawn.png").is_file()
    view = Predictor(runs[0].artifact).answered.view(told)
    assert isinstance(view, views.Regions) and view.measure == "share" and views.line(view)
    found = api.compare(*(str(run.folder) for run in runs))
    assert found["verdict"] and len(found["models"]) == 2
    mixed = {"name": "fuse", "runs": [str(run.folder) for run in runs], "how": "greedy"}
    fused, result = train(tree(folder, method=mixed), name="mixed")
    assert result["method"] == "fuse" and Predictor(fused.artifact)(picture)["segments"]
