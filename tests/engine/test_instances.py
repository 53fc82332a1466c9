"""A mask for each single object: read from outlines, learned however a batch is cut, scored as COCO does."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from hftransfer import api, catalog, cli, config, data, views
from hftransfer.answers import _found_masks, _runs
from hftransfer.answers._average_precision import Pictures, PictureSample
from hftransfer.answers._kept_masks import Kept
from hftransfer.answers.instances import Instances
from hftransfer.errors import UserError
from hftransfer.inputs import _geometry
from hftransfer.modeling.batches import Collator
from hftransfer.predictor import Predictor
from tests import tiny, tiny_detectors, tiny_masks
from tests.engine.test_image_segmentation import noise
from tests.engine.test_image_segmentation import tree as semantic
from tests.engine.test_resume import same_weights, stopped_and_resumed

NAMES = ("box", "disc")
SINGLE = {"problem_type": "instances"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("instances")
    assert len(tiny_masks.objects(place / "rows", 20)) == 20
    return place


def tree(place: Path, architecture: str = "mask2former", **changes: Any) -> dict[str, Any]:
    changes["data"] = {"label_names": None, **SINGLE, **changes.get("data", {})}
    return semantic(place, architecture, **changes)


def read(folder: Path, **changes: Any) -> Any:
    section = {"source": str(folder), "test_size": 4, "validation_size": 4, **changes}
    built = config.build({"task": "image-segmentation", "model": "m", "data": section})
    return data.load(built.data, catalog.task("image-segmentation"), 0, folder.parent / "work")


# --- data ---


def test_each_outline_becomes_a_thing_with_its_mask(tmp_path):
    wanted = tiny_masks.objects(tmp_path / "rows", 12, crowd=True)
    found = read(tmp_path / "rows", **SINGLE)
    assert found.answer.names == NAMES and found.answer.described == "box, disc"
    assert any("each outline is a single object: 2 classes" in guess for guess in found.guesses)
    seen = crowds = 0
    for split in found.splits.values():
        for row in split:
            number = int(Path(row["image"].filename).stem)
            assert len(row["mask"]) == len(wanted[number])
            for one, (name, inside) in zip(row["mask"], wanted[number], strict=True):
                mask = _found_masks.mask_of(one)
                assert found.answer.names[one["label"]] == name and np.array_equal(mask, inside)
                down, across = np.nonzero(mask)
                assert (one["x"], one["y"]) == (across.min(), down.min())
                crowds += one["crowd"]
            seen += len(row["mask"])
    assert crowds and sum(found.answer.counts) < seen


def test_a_class_for_each_pixel_stays_the_usual_and_says_how_to_ask(tmp_path):
    tiny_masks.objects(tmp_path / "rows", 12)
    found = read(tmp_path / "rows")
    assert found.answer.names == ("background", *NAMES)
    assert any("data.problem_type=instances learns a mask for each of them" in guess for guess in found.guesses)
    with pytest.raises(UserError, match=r"data\.problem_type=instances gives each single object a mask"):
        catalog.build_config({**tree(tmp_path), "task": "instance-segmentation"})


def test_what_has_no_single_outlines_is_refused(tmp_path):
    tiny_masks.objects(tmp_path / "rows", 12)
    path = tmp_path / "rows" / "instances.json"
    content = json.loads(path.read_text())
    for one in content["annotations"]:
        del one["segmentation"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"needs outlines of things; .*boxes alone.*task=object-detection"):
        read(tmp_path / "rows", **SINGLE)
    with pytest.raises(UserError, match=r"numbers of single objects, which tell no classes; .* has 2\. Name one"):
        read(tiny_masks.folder(tmp_path / "classes", 12), **SINGLE, label_names=["a", "b"])
    tiny_masks.objects(tmp_path / "whole", 12)
    with pytest.raises(UserError, match=r"tiles would cut objects in two"):
        read(tmp_path / "whole", **SINGLE, tile=32)


def test_masks_with_a_number_an_object_are_read(tmp_path):
    """Cells of one kind, as scientists number them; one picture has none, one mask is of another picture."""
    rng = np.random.default_rng(0)
    for number in range(16):
        cells = np.zeros((40, 48), np.uint16)
        for at in range(number % 4):
            cells[10 * at : 10 * at + 8, 5 : 20 + at] = at + 1
        shown = rng.integers(0, 255, (40, 48 if number != 7 else 50, 3)).astype(np.uint8)
        for name, content in (("images", shown), ("masks", cells)):
            (tmp_path / "rows" / name).mkdir(exist_ok=True, parents=True)
            Image.fromarray(content).save(tmp_path / "rows" / name / f"{number}.png")
    found = read(tmp_path / "rows", **SINGLE)
    assert found.answer.names == ("object",) and sum(map(len, found.splits.values())) == 15
    assert any("each number of a mask but 0, and but 255 beside 1, 2, 3" in guess for guess in found.guesses)
    counts = [(int(Path(row["image"].filename).stem), row["mask"]) for part in found.splits.values() for row in part]
    assert all(len(things) == number % 4 for number, things in counts)
    assert {_runs.area(one["counts"]) for _, things in counts for one in things} == {8 * 15, 8 * 16, 8 * 17}
    assert read(tmp_path / "rows", **SINGLE, label_names=["cell"]).answer.names == ("cell",)
    for path in (tmp_path / "rows" / "masks").iterdir():
        cells = np.asarray(Image.open(path))
        Image.fromarray(np.where(cells > 0, cells + 300, 0).astype(np.uint16)).save(path)
    with pytest.raises(UserError, match=r"do not count from 1 on, and share 3 values, .*data\.label_names=\[object\]"):
        read(tmp_path / "rows", **SINGLE)
    assert read(tmp_path / "rows", **SINGLE, label_names=["cell"]).answer.names == ("cell",)
    for path in (tmp_path / "rows" / "masks").iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8)).save(path)
    with pytest.raises(
        UserError, match=r"all 12 hold 1 alone, as masks of one class do.*data\.label_names=\[object\]"
    ):
        read(tmp_path / "rows", **SINGLE)
    assert read(tmp_path / "rows", **SINGLE, label_names=["leaf"]).answer.names == ("leaf",)


def test_edges_of_255_are_no_objects(tmp_path):
    """As Pascal VOC draws them around objects; 255 alone, or without gap behind 254, is one, and so if one says it."""
    rng = np.random.default_rng(0)
    for number in range(14):
        cells = np.zeros((40, 48), np.uint8)
        for at in range(number % 3 + 1):
            cells[12 * at : 12 * at + 10, 4:22] = 255
            cells[12 * at + 1 : 12 * at + 9, 5:21] = 255 if number == 6 else at + 1
        for name, content in (("images", rng.integers(0, 255, (40, 48, 3)).astype(np.uint8)), ("masks", cells)):
            (tmp_path / "rows" / name).mkdir(exist_ok=True, parents=True)
            Image.fromarray(content).save(tmp_path / "rows" / name / f"{number}.png")

    def counts(**more: Any) -> list[int]:
        found = read(tmp_path / "rows", **SINGLE, **more)
        rows = [(int(Path(row["image"].filename).stem), len(row["mask"])) for s in found.splits.values() for row in s]
        return [count for _, count in sorted(rows)]

    assert counts() == [number % 3 + 1 for number in range(14)]
    kept = counts(label_names=["cell"], ignore_value=-1)
    assert kept == [number % 3 + 1 + (number != 6) for number in range(14)]


def test_a_model_of_pixels_is_refused(folder, train):
    with pytest.raises(UserError, match=r"a MaskFormer or Mask2Former is needed .*'segformer'"):
        train(tree(folder, "segformer"))


@pytest.mark.parametrize("mosaic", [False, True])
def test_masks_move_with_their_pictures_one_by_one(mosaic):
    """Each thing has a shade of its own: after any change its mask holds that alone, and all that is left of it."""
    from hftransfer.config import Augmentation

    answer = tiny.answer("instances", NAMES, (6, 6), 4, usual=[0.3, 0.3, 48.0, 40.0], threshold=0.5)
    augmentation = Augmentation(crop=0.3, color=0.0, upside_down=True, flip=True)
    rng = np.random.default_rng(0)
    pictures, truths = [], []
    for number in range(4):
        shades, things = np.zeros((40, 48), np.uint8), []
        for at in range(3):
            inside = np.zeros((40, 48), bool)
            inside[4 + 12 * at : 12 + 12 * at, 5 * at : 20 + 5 * at] = True
            shades[inside] = 20 * (3 * number + at) + 19
            things.append(_found_masks.thing(inside, label=at % 2, crowd=False, difficult=False))
        pictures.append(Image.fromarray(shades))
        truths.append(things)
    for _ in range(20):
        if mosaic:
            made = _geometry.draw_mosaic([one.size for one in pictures], augmentation, rng, [None] * 4)
            whole, moved = Image.new("L", made.size), answer.together(truths, made)
            for picture, (change, corner) in zip(pictures, made.pieces, strict=True):
                whole.paste(change.of_mask(picture), corner)
        else:
            change = _geometry.draw(pictures[0].size, augmentation, rng, None)
            whole, moved = change.of_mask(pictures[0]), answer.changed(truths[0], change)
        found, known = np.asarray(whole), set()
        for one in moved:
            assert (one["picture_width"], one["picture_height"]) == whole.size
            (value,) = np.unique(found[_found_masks.mask_of(one)])
            known.add(int(value))
        assert known == {*np.unique(found).tolist()} - {0}, "what is gone is dropped, and nothing else"


# --- scores ---


def row(masks: list[np.ndarray], *more: list[float], found: bool = False) -> bytes:
    """Return a picture's things: of what is there `more` is class and mark, of what was found score and class."""
    runs = [_runs.of_mask(mask) for mask in masks]
    height, width = masks[0].shape if masks else (1, 1)
    table = [[*_runs.box_of(one, height), *rest, width, height] for one, rest in zip(runs, more, strict=True)]
    return _found_masks.packed(np.array(table), runs)


def answer_of(threshold: float = 0.5) -> Instances:
    return tiny.answer("instances", NAMES, (6, 2), 4, usual=[0.5, 0.25, 40.0, 40.0], threshold=threshold)  # type: ignore[return-value]


def values_of(answer: Any, truth: list[bytes], outputs: list[bytes]) -> dict[str, float]:
    sample = answer.sample(answer.outcomes(truth, outputs), np.ones((len(truth), 1)))
    return {name: float(metric.value(sample)[0]) for name, metric in answer.metrics.items()}


def square(left: int, top: int, width: int = 10, height: int = 10) -> np.ndarray:
    mask = np.zeros((60, 60), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_average_precision_of_a_case_by_hand():
    """One thing found whole, one half (an overlap of exactly .5), one stray: at .50 both are hit, above it one."""
    truth = [row([square(0, 0), square(30, 0)], [0, 0], [0, 0])]
    outputs = [row([square(0, 0), square(30, 0, height=5), square(0, 40)], [0.9, 0], [0.8, 0], [0.7, 0], found=True)]
    values = values_of(answer_of(), truth, outputs)
    assert values["mask_map_50"] == pytest.approx(1.0) and values["mask_map_75"] == pytest.approx(51 / 101)
    assert values["mask_map"] == pytest.approx((1 + 9 * 51 / 101) / 10)
    assert values["mask_ar_100"] == pytest.approx((1 + 9 * 0.5) / 10)
    assert values["precision_masks"] == pytest.approx(2 / 3) and values["recall_masks"] == 1
    assert values["count_error"] == 1 and values["count_bias"] == 1
    chosen = answer_of().calibrated(truth, outputs)
    assert chosen.threshold == pytest.approx(0.8)
    assert [one["score"] for one in chosen.to_json({}, outputs[0])["objects"]] == pytest.approx([0.9, 0.8])


def test_masks_count_and_not_their_boxes():
    """Two halves of one box have the same box and no pixel in common; what lies in a crowd is passed over."""
    whole, low = square(10, 10, 20, 20), np.tri(60, dtype=bool)
    one, other = whole & low, whole & ~low
    assert values_of(answer_of(), [row([one], [0, 0])], [row([other], [0.9, 0])])["mask_map"] == 0
    crowd = [row([square(0, 0), square(20, 20, 40, 40)], [0, 0], [0, 1])]
    inside = [row([square(0, 0), square(25, 25), square(40, 40)], [0.9, 0], [0.95, 0], [0.93, 0])]
    values = values_of(answer_of(), crowd, inside)
    assert values["mask_map"] == pytest.approx(1) and values["precision_masks"] == 1 and values["count_error"] == 0


def test_it_is_that_of_pycocotools():
    from pycocotools import coco, cocoeval
    from pycocotools import mask as coded

    rng = np.random.default_rng(2)
    answer, truth, outputs = answer_of(), [], []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []

    def blob() -> np.ndarray:
        left, top = rng.integers(0, 40, 2)
        return square(int(left), int(top), *(int(side) for side in rng.integers(4, 40, 2))) & (
            rng.random((60, 60)) < 0.9
        )

    def told(mask: np.ndarray) -> Any:
        return coded.encode(np.asfortranarray(mask.astype(np.uint8)))

    for place in range(15):
        there = [blob() for _ in range(int(rng.integers(0, 5)))]
        marks = [[float(rng.integers(2)), float(rng.random() < 0.2)] for _ in there]
        given = [mask & (rng.random((60, 60)) < rng.uniform(0.5, 1)) for mask in there] + [blob() for _ in range(3)]
        scores = [
            [round(float(rng.random()), 6), marks[at][0] if at < len(there) else 0.0] for at in range(len(given))
        ]
        order = np.argsort([-score for score, _ in scores], kind="stable")
        truth.append(row(there, *marks))
        outputs.append(row([given[at] for at in order], *(scores[at] for at in order)))
        for mask, (kind, crowd) in zip(there, marks, strict=True):
            annotations.append({
                "id": len(annotations) + 1, "image_id": place, "category_id": int(kind), "iscrowd": int(crowd),
                "segmentation": told(mask), "area": int(mask.sum()), "bbox": [0, 0, 1, 1],
            })  # fmt: skip
        for at in order:
            results.append({"image_id": place, "category_id": int(scores[at][1]), "score": scores[at][0],
                            "segmentation": told(given[at])})  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        known = coco.COCO()
        known.dataset = {"images": [{"id": at, "height": 60, "width": 60} for at in range(15)], "info": {},
                         "annotations": annotations, "categories": [{"id": 0}, {"id": 1}]}  # fmt: skip
        known.createIndex()
        theirs = cocoeval.COCOeval(known, known.loadRes(results), "segm")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    values = values_of(answer, truth, outputs)
    names = ("mask_map", "mask_map_50", "mask_map_75", "mask_map_small", "mask_map_medium")
    assert [values[name] for name in names] == pytest.approx(theirs.stats[:5].tolist(), abs=1e-9)
    assert values["mask_ar_100"] == pytest.approx(theirs.stats[8], abs=1e-9)


def test_validation_is_the_score_of_what_the_model_was_compared_by():
    """A model's own comparison, at its own size, gives what the whole masks give where both have one size."""
    from hftransfer.answers import _single_masks

    rng = np.random.default_rng(1)
    answer, truth, outputs, kept, labels = answer_of(), [], [], [], []
    for _ in range(6):
        there = [square(*rng.integers(0, 40, 2).tolist()) for _ in range(int(rng.integers(1, 4)))]
        kinds = rng.integers(0, 2, len(there))
        logits = np.full((5, 60, 60), -9.0)
        for at, mask in enumerate(there):
            logits[at][np.roll(mask, at, axis=1)] = 9.0
        classes = rng.normal(size=(5, 3)) + 3 * np.eye(3)[np.append(kinds, [2] * 5)[:5]]
        shown = {
            "class_queries_logits": torch.tensor(classes)[None],
            "masks_queries_logits": torch.tensor(logits)[None],
        }
        target = {"class_labels": torch.tensor(kinds), "mask_labels": torch.tensor(np.stack(there).astype(np.uint8))}
        kept.append(_single_masks.compared(shown, [target]).numpy()[0])
        labels.append(np.stack([kinds, np.zeros(len(kinds), int)], 1))
        reader = transformers.MaskFormerImageProcessorPil()
        outputs_ = transformers.utils.ModelOutput({name: value.float() for name, value in shown.items()})
        (found,) = _single_masks.asked(lambda **_: outputs_, {"_size": [(60, 60)]}, reader)  # noqa: B023
        outputs.append(found)
        truth.append(row(there, *([float(kind), 0.0] for kind in kinds)))
    most = max(len(one) for one in labels)
    filled = [np.pad(one, ((0, most - len(one)), (0, 0)), constant_values=-100) for one in labels]
    wide = [np.pad(one, ((0, most + 2 - len(one)), (0, 0)), constant_values=-100) for one in kept]
    ours, whole = answer.validation(np.stack(wide), np.stack(filled)), values_of(answer, truth, outputs)
    assert ours == pytest.approx({name: whole[name] for name in answer.validated}, abs=1e-6)


def test_what_came_to_no_numbers_is_not_nothing_found():
    """transformers' own post-processing finds nothing where a model's weights are NaN."""
    from hftransfer.answers import _single_masks
    from hftransfer.evaluation.predictions import Predictions

    shown = {"class_queries_logits": torch.zeros(2, 5, 3), "masks_queries_logits": torch.ones(2, 5, 8, 8)}
    shown["class_queries_logits"][1] = torch.nan
    outputs = transformers.utils.ModelOutput(shown)
    batch, answer = {"_size": [(40, 50), (40, 50)]}, answer_of()
    found = _single_masks.asked(lambda **_: outputs, batch, transformers.Mask2FormerImageProcessorPil())
    assert [answer.is_finite(one) for one in found] == [True, False] and not answer.objects(found[1])
    truth = [row([square(0, 0)], [0, 0])] * 2
    with pytest.raises(UserError, match="NaN or infinite: training diverged"):
        Predictions(answer, ["a", "b"], truth, found)


def test_masks_of_large_pictures_are_kept_tight():
    """Those of an enlarged mask stand in many columns alike."""
    mask = np.kron(np.random.default_rng(0).random((48, 64)) < 0.5, np.ones((16, 16), bool))
    made = row([mask], [0.5, 0.0])
    assert len(made) < _runs.of_mask(mask).nbytes / 4
    (runs,) = _found_masks.unpacked(made).runs
    assert np.array_equal(_runs.to_mask(runs, mask.shape[::-1]), mask)


# --- learning ---


def test_more_objects_than_queries_are_told():
    processor = transformers.Mask2FormerImageProcessorPil()
    for architecture in ("maskformer", "mask2former"):
        settings = tiny_masks.MODELS[architecture]()  # of six queries
        full = tiny.answer("instances", NAMES, (9, 9), 4, usual=[0.5, 0.5, 40.0, 40.0], threshold=0.5,
                           held=[0, 0, 1, 0, 0, 0, 1, 2])  # fmt: skip
        (said,) = [one for one in full.reads(processor, settings, None)[2] if "unfound" in one]
        assert said.startswith("2 of 4 pictures of train hold more than 6 objects")
        assert not any("unfound" in one for one in answer_of().reads(processor, settings, None)[2])


def test_how_many_objects_pictures_hold_is_learnt(folder):
    found = read(folder / "rows", **SINGLE)
    numbers = [sum(not one["crowd"] for one in row["mask"]) for row in found.splits["train"]]
    assert found.answer.held == tuple(np.bincount(numbers).tolist())


def items(count: int = 4) -> list[dict[str, Any]]:
    """Return pictures of noise as a model is trained on them, one of which holds nothing, one much."""
    rng, found = np.random.default_rng(0), []
    for many in (2, 0, 5, 1)[:count]:
        masks = [torch.from_numpy(square(*rng.integers(0, 40, 2).tolist())[:64, :64]) for _ in range(many)]
        stacked = torch.stack([torch.nn.functional.pad(mask, (0, 4, 0, 4)) for mask in masks]) if many else None
        drawn = torch.zeros((0, 64, 64), dtype=torch.uint8) if stacked is None else stacked.to(torch.uint8)
        label = torch.from_numpy(rng.integers(0, 2, (many, 2))).reshape(-1, 2)
        found.append({
            "pixel_values": torch.from_numpy(rng.normal(size=(3, 64, 64))).float(), "labels": label,
            "targets": {"class_labels": label[:, 0].clone(), "mask_labels": drawn},
        })  # fmt: skip
    return found


def test_an_update_is_the_same_however_it_is_cut():
    """Loss and gradient of four pictures at once, or one by one; their own loss weighs crowded pictures less."""
    torch.manual_seed(0)
    settings = tiny_masks.MODELS["maskformer"]()
    settings.num_labels = 2
    model = answer_of().attach(transformers.MaskFormerForInstanceSegmentation(settings).train())
    with torch.no_grad():  # queries as alike as fresh ones are would be matched by what rounding leaves between them
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    rows, loss, join = items(), answer_of().loss(), Collator(None, answer_of().padding)
    counted = torch.tensor(sum(int((one["labels"] != -100).sum()) for one in rows))
    assert counted == 16
    grown, totals = [], []
    for size in (4, 1):
        model.zero_grad()
        total = 0.0
        for at in range(0, 4, size):
            batch = join(rows[at : at + size])
            labels = batch.pop("labels")
            part = loss(model(**batch), labels, counted)
            part.backward()
            total += part.item()
        totals.append(total)
        grown.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert totals[0] == pytest.approx(totals[1], rel=1e-4)
    assert (grown[0] - grown[1]).norm() < 1e-3 * grown[0].norm() and grown[0].norm() > 0


@pytest.mark.parametrize("architecture", ["maskformer", "mask2former"])
def test_it_is_near_to_transformers_own_loss_of_a_whole_batch(architecture):
    """Of an update in one batch, with as many things a picture as train has, it is what transformers minimises."""
    torch.manual_seed(0)
    settings = tiny_masks.MODELS[architecture]()
    settings.num_labels, settings.train_num_points = 2, 4096
    auto = transformers.AutoModelForUniversalSegmentation
    rows, join = items(), Collator(None, {"labels": -100})
    plain = auto.from_config(settings).train()  # nothing is drawn for dropout
    batch = join(rows)
    labels, targets = batch.pop("labels"), batch.pop("targets")
    given = {name: [one[name] for one in targets] for name in ("class_labels", "mask_labels")}
    given["mask_labels"] = [one.float() for one in given["mask_labels"]]
    with torch.no_grad():
        theirs = plain(**batch, **given).loss.item()
        answer = tiny.answer("instances", NAMES, (5, 3), 4, usual=[0.5, 0.25, 40.0, 40.0], threshold=0.5)
        ours = answer.loss()(answer.attach(plain)(**batch, targets=targets), labels, (labels != -100).sum()).item()
    assert ours == pytest.approx(theirs, rel=0.05 if architecture == "mask2former" else 1e-4)


@pytest.mark.parametrize("architecture", ["maskformer", "mask2former"])
def test_it_trains_and_answers_strangers_alike(architecture, folder, train, capsys):
    run, result = train(tree(folder, architecture, train={"num_train_epochs": 2}))
    metrics, answer = result["test"]["metrics"], result["answer"]
    assert result["main_metric"] == "mask_map" and {"mask_map_50", "mask_ar_100", "f1_masks", "count_error"} <= {
        *metrics
    }
    assert metrics["mask_map"]["low"] <= metrics["mask_map"]["value"] <= metrics["mask_map"]["high"]
    assert result["baseline"]["name"] == "usual box on a grid, filled"
    assert [one["name"] for one in result["test"]["classes"]] == list(NAMES)
    assert any("mask_map" in str(event) for event in run.events()[0] if event["type"] != "result")
    predictor = Predictor(run.artifact)
    assert predictor.answered.threshold == answer["threshold"]
    pipeline = transformers.pipeline("image-segmentation", str(run.artifact))
    rows = [predictor.task.row(picture) for picture in noise(3)]
    asked = predictor.ask(rows)
    ours = [predictor.answered.plainly(row, one) for row, one in zip(rows, asked, strict=True)]
    theirs = [predictor.task.ask_pipeline(pipeline, predictor.opened(row), None) for row in rows]
    far = [predictor.answered.distance(one, other) for one, other in zip(ours, theirs, strict=True)]
    assert max(far) < 5e-3 and max(len(one["objects"]) for one in ours) > 1
    other = json.loads(json.dumps(ours[0]))
    other["objects"][0]["score"] += 0.5
    assert predictor.answered.distance(ours[0], other) > 0.4

    card = (run.artifact / "README.md").read_text()
    assert f'subtask="instance", threshold={answer["threshold"]:.6f}' in card and "`mask_map`" in card
    picture = str(folder / "rows" / "000.png")
    assert (
        cli.main(["predict", str(run.folder), picture, "--json", "--files", str(folder / architecture / "out")]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    width, height = Image.open(picture).size
    for one in told["objects"]:
        assert {"score", "label", "box", "mask"} == {*one} and one["mask"]["size"] == [height, width]
        assert one["box"]["xmax"] <= width and sum(one["mask"]["counts"]) == width * height
    view = predictor.views([told])[0]
    assert isinstance(view, views.Regions) and len(view.found) == len(told["objects"]) and view.drawn
    assert Image.open(folder / architecture / "out" / "000.drawn.png").size == (width, height)
    drawn = predictor.answered.drawn(Image.open(picture), [
        _found_masks.thing(square(2, 2)[:height, :width], label=0, crowd=False, difficult=False)], 160)  # fmt: skip
    assert drawn


def test_masks_of_whole_pictures_lie_on_disk(folder):
    answer = answer_of()
    made = row([square(0, 0)], [0.5, 0.0])
    kept = answer.join([made])
    assert isinstance(kept, Kept) and bytes(kept) == made and answer.gathered([kept])[0] == made


def test_a_stopped_run_ends_with_the_same_weights(folder, tmp_path):
    data = {"test_size": 2, "augmentation": {"crop": 0.5, "upside_down": True, "mosaic": 0.5}}
    wanted = tree(folder, train={"num_train_epochs": 2, "dataloader_num_workers": 0}, data=data)
    same_weights(*stopped_and_resumed(wanted, tmp_path))


@pytest.mark.long
def test_runs_compare(folder, train):
    runs = [train(tree(folder), f"train.learning_rate={rate}", name=f"run{rate}")[0] for rate in (1e-4, 1e-3)]
    for run in runs:
        run.event("done", seconds=1.0)
    found = api.compare(*(str(run.folder) for run in runs))
    assert found["verdict"] and len(found["models"]) == 2


def test_boxes_and_masks_share_their_matching():
    """Things that fill their boxes score alike by both."""
    made = tiny_detectors.pictures(6, 3)
    truth = [np.array([[*box, 0, 0, 64, 64] for box in boxes]) for _, boxes, _ in made]
    rng = np.random.default_rng(0)
    moved = [np.array([[*np.round(np.array(one[:4]) + rng.integers(0, 4)), rng.random(), 0] for one in part])
             for part in truth]  # fmt: skip
    size = (64, 64)

    def masks(rows: list[np.ndarray]) -> list[bytes]:
        return [
            _found_masks.packed(
                np.array([[*one[:6], *size] for one in part]), [_runs.of_box(one[:4], size) for one in part]
            )
            for part in rows
        ]

    cut = [
        np.concatenate([np.minimum(part[:, :2] + part[:, 2:4], 64) - part[:, :2], part[:, 4:]], 1) for part in moved
    ]
    moved = [np.concatenate([part[:, :2], rest], 1) for part, rest in zip(moved, cut, strict=True)]
    by_boxes = PictureSample(Pictures(truth, moved, 1, 0.5), np.ones((6, 1))).precisions()
    by_masks = PictureSample(_found_masks.of_rows(masks(truth), masks(moved), 1, 0.5), np.ones((6, 1))).precisions()
    assert by_boxes == pytest.approx(by_masks)
