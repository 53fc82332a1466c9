"""A picture and what is known of places in it are changed at random together, by one record of what was drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from hftransfer import catalog
from hftransfer.answers import _mask_files
from hftransfer.answers.base import Answer
from hftransfer.answers.boxes import Boxes
from hftransfer.answers.mask import Mask
from hftransfer.config import Augmentation, DataConfig
from hftransfer.errors import UserError
from hftransfer.inputs._geometry import Change, draw, draw_mosaic
from hftransfer.modeling.prepared import Lazy
from hftransfer.tasks.base import Preparation

SIZE = (40, 30)


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIZE[::-1], 3)).astype(np.uint8))


def as_before(image: Image.Image, augmentation: Augmentation, rng: np.random.Generator) -> Image.Image:
    """Change a picture as was done before boxes and masks were changed with it."""
    area, ratio, left, top, mirror, *shades = rng.random(8)
    share = augmentation.crop + area * (1 - augmentation.crop)
    aspect = float(np.exp(np.log(3 / 4) + ratio * (np.log(4 / 3) - np.log(3 / 4))))
    width = min(image.width, max(1, round((image.width * image.height * share * aspect) ** 0.5)))
    height = min(image.height, max(1, round((image.width * image.height * share / aspect) ** 0.5)))
    x, y = round(left * (image.width - width)), round(top * (image.height - height))
    image = image.crop((x, y, x + width, y + height))
    image = ImageOps.mirror(image) if mirror < 0.5 else image
    for kind, shade in zip((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), shades, strict=True):
        image = kind(image).enhance(1 + (2 * shade - 1) * augmentation.color)
    return image


def test_pictures_change_as_they_did_before_bit_for_bit() -> None:
    augmentation = Augmentation(crop=0.3)
    for seed in range(30):
        change = draw(SIZE, augmentation, np.random.default_rng([seed, 1, 2]))
        expected = as_before(picture(seed), augmentation, np.random.default_rng([seed, 1, 2]))
        assert np.array_equal(change.of_picture(picture(seed)), expected)


def test_boxes_and_masks_lie_where_their_pixels_lie() -> None:
    augmentation, rng = Augmentation(crop=0.4, upside_down=True), np.random.default_rng(0)
    seen = set()
    for seed in range(200):
        left, top = rng.integers(0, 30), rng.integers(0, 20)
        width, height = rng.integers(2, 12, 2)
        pixels = np.zeros(SIZE[::-1], np.uint8)
        pixels[top : top + height, left : left + width] = 7
        box = np.array([[left, top, min(width, SIZE[0] - left), min(height, SIZE[1] - top)]], float)
        change = draw(SIZE, augmentation, np.random.default_rng(seed))
        mask = np.asarray(change.of_mask(Image.fromarray(pixels)))
        assert mask.shape[::-1] == change.window[2:] and set(np.unique(mask)) <= {0, 7}
        moved, kept = change.of_boxes(box)
        visible = (mask == 7).sum() / (pixels == 7).sum()
        assert kept.tolist() == [visible >= 0.5]
        seen.add((change.mirrored, change.upside_down, bool(kept[0])))
        if kept[0]:
            y, x = np.nonzero(mask)
            assert moved[0].tolist() == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
    assert len(seen) == 8


def test_slivers_go_and_a_picture_keeps_something() -> None:
    whole = Change(SIZE, (0, 0, *SIZE))
    assert whole.of_boxes(np.array([[1, 1, 0.6, 9], [2, 2, 1, 1]]))[1].tolist() == [False, True]
    assert whole.of_boxes(np.zeros((0, 4)))[0].shape == (0, 4)
    corner = np.array([[0.0, 0.0, 3.0, 3.0]])
    tried = []

    def suits(change: Change) -> bool:
        tried.append(change)
        return bool(change.of_boxes(corner)[1].any())

    lost = 0
    for seed in range(50):
        tried.clear()
        change = draw(SIZE, Augmentation(crop=0.05), np.random.default_rng(seed), suits)
        assert change.of_boxes(corner)[1].all()
        lost += change not in tried
    assert lost and len({one.window for one in tried}) == len(tried)


def test_boxes_and_masks_of_four_pictures_lie_where_their_pixels_lie() -> None:
    rng, augmentation = np.random.default_rng(0), Augmentation(crop=0.5, upside_down=True, color=0.0)
    kept_of_all = 0
    for seed in range(60):
        sizes = [SIZE, (64, 20), (25, 50), (30, 30)]
        masks, truths = [], []
        for number, (width, height) in enumerate(sizes, 1):
            left, top = int(rng.integers(0, width - 8)), int(rng.integers(0, height - 8))
            pixels = np.zeros((height, width), np.uint8)
            pixels[top : top + 8, left : left + 8] = number
            masks.append(pixels)
            truths.append([{"x": left, "y": top, "width": 8, "height": 8, "crowd": False, "class": number}])
        suits = [partial(Boxes().suits, truth) for truth in truths]
        mosaic = draw_mosaic(sizes, augmentation, np.random.default_rng(seed), suits)
        assert mosaic.size == SIZE
        whole = _mask_files.of_png(Mask().together([_mask_files.to_png(one) for one in masks], mosaic))
        assert whole.shape == SIZE[::-1] and set(np.unique(whole)) <= {0, 1, 2, 3, 4}, "no pixel is of no picture"
        pictures = [Image.fromarray(np.stack([one * 50] * 3, -1)) for one in masks]
        shown = np.asarray(mosaic.of_pictures(pictures))[..., 0] / 50
        assert (np.abs(shown - whole) < 0.5).mean() > 0.8, "edges of pictures are smoothed, those of masks are not"
        for one in Boxes().together(truths, mosaic):
            y, x = np.nonzero(whole == one["class"])
            found = [x.min(), y.min(), x.max() + 1, y.max() + 1]
            edges = [one["x"], one["y"], one["x"] + one["width"], one["y"] + one["height"]]
            assert np.abs(np.subtract(found, edges)).max() <= 1.0
            assert (one["picture_width"], one["picture_height"]) == SIZE
            kept_of_all += 1
    assert kept_of_all == 240, "a picture that cannot keep its box by a cut is shown whole"


@pytest.mark.parametrize("task, more", [("image-classification", {}), ("image-segmentation", {"tile": 64})])
def test_a_mosaic_of_what_has_no_places_is_refused(task: str, more: dict[str, Any]) -> None:
    data = {"source": "x", "augmentation": {"mosaic": 0.5}, **more}
    with pytest.raises(UserError, match=r"data\.augmentation\.mosaic"):
        catalog.build_config({"task": task, "model": "m", "data": data})
    assert catalog.build_config({"task": task, "model": "m", "data": {"source": "x", **more}})


@dataclass(frozen=True)
class Corner:
    """An answer that is the place of a pixel; what else answers do is not looked at here."""

    def changed(self, truth: Any, change: Change) -> Any:
        return change.of_boxes(np.array([[*truth, 1, 1]]))[0][0, :2].astype(int).tolist()

    def suits(self, truth: Any, change: Change) -> bool:
        return bool(change.of_boxes(np.array([[*truth, 1, 1]]))[1].all())

    def targets(self, truth: Any, *_: Any) -> dict[str, Any]:
        return {"targets": truth}


@pytest.mark.parametrize("training", [True, False])
def test_the_truth_of_a_row_changes_with_its_input(training: bool) -> None:
    task = catalog.task("image-classification")
    places = [[3, 4], [39, 29], [20, 10]]
    made = []
    for x, y in places:
        pixels = np.zeros((*SIZE[::-1], 3), np.uint8)
        pixels[y, x] = 255
        made.append(Image.fromarray(pixels))
    rows = datasets.Dataset.from_dict(
        {"image": made, "label": places}, features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.List(datasets.Value("int64"))}
        ),
    )  # fmt: skip
    config = DataConfig(source="x", augmentation=Augmentation(color=0.0, upside_down=True))
    answer: Answer[Any] = Corner()  # type: ignore[assignment]
    spans = np.array([(row, 0, 1) for row in range(3)])
    lazy = Lazy(task, rows, lambda images, **_: {"pixel_values": images}, Preparation(config, answer, 5), training,
                spans, None)  # fmt: skip
    changed = 0
    for epoch in range(8):
        lazy.set_epoch(epoch)
        items = lazy.__getitems__([2, 0, 1])
        again = lazy[0]
        for item, place in zip(items, [places[2], *places[:2]], strict=True):
            x, y = item["targets"]
            pixels = np.asarray(item["pixel_values"])
            assert pixels[y, x].tolist() == [255] * 3 and pixels.sum() == 3 * 255
            changed += [x, y] != place
        assert np.array_equal(again["pixel_values"], items[1]["pixel_values"])
    assert bool(changed) == training
