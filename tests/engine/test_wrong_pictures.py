"""What is wrong with pictures, boxes, masks, captions and scans is said in words, and the script ends with 2.

What is allowed but odd is counted, and the script ends with 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import transformers
from PIL import Image

from hftransfer import train, yaml_core
from hftransfer.events import PREFIX
from tests import tiny, tiny_captions, tiny_detectors, tiny_dicom, tiny_masks
from tests.engine.conftest import QUICK
from tests.engine.test_medical import compressed

COUNT = 16
MODELS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "detector": ("object-detection", tiny_detectors.model),
    "segmenter": ("image-segmentation", tiny_masks.model),
    "CLIP": ("zero-shot-image-classification", lambda place: tiny_captions.model(place, "CLIP")),
    "classifier": ("image-classification", tiny.image_model),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the folder of a model, which it makes once."""
    held = tmp_path_factory.mktemp("models")

    def of(name: str) -> Path:
        place = held / name
        if not place.is_dir():
            MODELS[name][1](place)
        return place

    return of


def checked(task: str, model: Path, source: Path, tmp_path: Path, capsys: Any, **data: Any) -> tuple[int, str, Any]:
    """Return the exit code of a check, its message, and what it found."""
    path = tmp_path / "config.yaml"
    data = {"source": str(source), "label_issues": False, "likely_copies": False, **data}
    path.write_text(yaml_core.dump_yaml({**QUICK, "task": task, "model": str(model), "data": data}))
    capsys.readouterr()
    code = train.main(["--config", str(path), "--check"])
    out, err = capsys.readouterr()
    found = [json.loads(line.removeprefix(PREFIX)) for line in out.splitlines() if line.startswith(PREFIX)]
    assert "Traceback" not in out + err, err
    said = [line for line in err.splitlines() if line.startswith("hftransfer: ")]
    assert len(said) == (code != 0), err
    return code, "".join(said), next((one for one in found if one["type"] == "checked"), None)


class Wrong(NamedTuple):
    """What is wrong: the model that is named, what writes the source (and may change the model), and the message."""

    model: str
    arrange: Callable[[Path], Path]
    message: str
    task: str | None = None


def coco(root: Path, change: Callable[[dict[str, Any]], None] = lambda whole: None) -> Path:
    """Write shapes and their COCO file, changed."""
    (root / "images").mkdir(parents=True)
    whole: dict[str, Any] = {
        "images": [], "annotations": [],
        "categories": [{"id": at, "name": name} for at, name in enumerate(tiny_detectors.CLASSES)],
    }  # fmt: skip
    for number, (picture, boxes, names) in enumerate(tiny_detectors.pictures(COUNT)):
        picture.save(root / "images" / f"{number:03}.png")
        whole["images"].append(
            {"id": number, "file_name": f"{number:03}.png", "width": picture.width, "height": picture.height}
        )
        for box, name in zip(boxes, names, strict=True):
            left, top, width, height = box
            ring = [left, top, left + width, top, left + width, top + height, left, top + height]
            whole["annotations"].append({
                "id": len(whole["annotations"]), "image_id": number, "bbox": box, "segmentation": [ring],
                "category_id": tiny_detectors.CLASSES.index(name), "area": width * height, "iscrowd": 0,
            })  # fmt: skip
    change(whole)
    (root / "instances.json").write_text(json.dumps(whole))
    return root


def without_pictures(root: Path) -> Path:
    for path in (coco(root) / "images").iterdir():
        path.unlink()
    return root


def without_boxes(root: Path) -> Path:
    (coco(root) / "instances.json").unlink()
    return root


def of_two_points(root: Path) -> Path:
    def change(whole: dict[str, Any]) -> None:
        for one in whole["annotations"]:
            one["segmentation"] = [one["segmentation"][0][:4]]
            del one["bbox"]

    return coco(root, change)


def from_one(root: Path) -> Path:
    """YOLO's labels, their classes counted from 1, and names for 0 and 1."""
    (root / "labels").mkdir(parents=True)
    (root / "images").mkdir()
    for number, (picture, boxes, names) in enumerate(tiny_detectors.pictures(COUNT)):
        picture.save(root / "images" / f"{number:03}.png")
        lines = [
            f"{tiny_detectors.CLASSES.index(name) + 1} {x + w / 2} {y + h / 2} {w} {h}"
            for (x, y, w, h), name in zip(np.array(boxes) / tiny_detectors.SIDE, names, strict=True)
        ]
        (root / "labels" / f"{number:03}.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text("names: [disc, square]\n")
    return root


def of_another_size(root: Path) -> Path:
    place = tiny_masks.folder(root, COUNT)
    for path in (place / "masks").iterdir():
        with Image.open(path) as opened:
            opened.resize((20, 20), Image.Resampling.NEAREST).save(path)
    return place


def of_many_colours(root: Path) -> Path:
    """Colours as JPEG leaves them: 40,000 of them in the first mask."""
    place = tiny_masks.folder(root, COUNT)
    colours = np.random.default_rng(0).permutation(2**24)[:40_000].astype(np.uint32)
    pixels = colours.view(np.uint8).reshape(200, 200, 4)[..., :3]
    for path in sorted((place / "masks").iterdir()):
        with Image.open(place / "images" / path.name) as opened:
            opened.resize((200, 200)).save(place / "images" / path.name)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    return place


def as_jpeg(root: Path) -> Path:
    place = tiny_masks.folder(root, COUNT, form="rgb")
    for path in sorted((place / "masks").iterdir()):
        with Image.open(path) as opened:
            opened.save(path.with_suffix(".jpg"), quality=60)
        path.unlink()
    return place


def without_captions(root: Path) -> Path:
    place = tiny_captions.folder(root, COUNT)
    tiny_captions.write(
        place, [{"file_name": f"{i:03}.png", "text": "a film" if i < 2 else None} for i in range(COUNT)]
    )
    return place


def volumes(root: Path) -> Path:
    for number in range(4):
        place = root / ("healthy", "spot")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.nii.gz").write_bytes(b"\x1f\x8b")
    return root


def scans(write: Callable[[Path], Any]) -> Callable[[Path], Path]:
    """Return what writes two folders of classes of DICOM files."""

    def arrange(root: Path) -> Path:
        for number in range(COUNT):
            place = root / ("healthy", "spot")[number % 2] / f"{number}.dcm"
            place.parent.mkdir(parents=True, exist_ok=True)
            write(place)
        return root

    return arrange


def of_settings(settings: Any, reader: str, **options: Any) -> Callable[[Path], Path]:
    """Return what writes the settings of a model, without weights, and of what reads for it."""

    def arrange(place: Path) -> Path:
        settings().save_pretrained(place)
        (place / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": reader, **options}))
        return place

    return arrange


MODELS |= {
    "RF-DETR": ("object-detection", of_settings(transformers.RfDetrConfig, "RfDetrImageProcessor")),
    "OneFormer": ("image-segmentation", of_settings(transformers.OneFormerConfig, "OneFormerImageProcessor")),
    "EoMT": ("image-segmentation", of_settings(transformers.EomtConfig, "EomtImageProcessor")),
}
GREY = np.zeros((4, 4), np.uint8)
WRONG = {
    "boxes without pictures": Wrong(
        "detector", without_pictures, "the pictures of annotations are needed; none of .*instances.json names.*Put"
    ),
    "no box anywhere": Wrong("detector", without_boxes, r"object-detection needs an objects column"),
    "polygons of two points, for boxes": Wrong(
        "detector", of_two_points, r"boxes are needed; .* \d\d boxes without four numbers.*three points"
    ),
    "polygons of two points, for masks": Wrong(
        "segmenter", of_two_points, "outlines with an area; all .* fewer than three points"
    ),
    "class numbers from 1 on beside names": Wrong(
        "detector", from_one, "class numbers from 0 on.* 1 to 2 and no 0, for 2 names"
    ),
    "masks of another size": Wrong("segmenter", of_another_size, "16 with a mask of another size than its picture"),
    "masks of 40,000 colours": Wrong("segmenter", of_many_colours, r"one value or colour a class.* 40,000 colours"),
    "masks as JPEG": Wrong("segmenter", as_jpeg, r"one value or colour a class.*JPEG, which changes.*Save .* as PNG"),
    "captions missing": Wrong("CLIP", without_captions, r"usable rows are needed in train; .* no caption"),
    "no captions at all": Wrong("CLIP", lambda root: tiny.image_folder(root, COUNT), "needs a caption column"),
    "a classifier for detection": Wrong(
        "classifier",
        coco,
        "object-detection needs a model that AutoModelForObjectDetection can load",
        "object-detection",
    ),
    "a classifier for segmentation": Wrong("classifier", coco, "image-segmentation needs", "image-segmentation"),
    "a detector for segmentation": Wrong("detector", coco, "image-segmentation needs a model", "image-segmentation"),
    "RF-DETR without torchvision": Wrong("RF-DETR", coco, "is shown a picture; .*'rf_detr'.*torchvision installed"),
    "OneFormer": Wrong("OneFormer", coco, "a MaskFormer or Mask2Former; .*'oneformer'"),
    "EoMT": Wrong("EoMT", coco, "a MaskFormer or Mask2Former; .*'eomt'"),
    "DICOM without pixels": Wrong(
        "classifier", scans(lambda path: tiny_dicom.write(path, None)), "DICOM file without pixels"
    ),
    "DICOM of an unknown codec": Wrong(
        "classifier", scans(lambda path: compressed(path, "1.2.840.999.1")), "in a way of its maker's"
    ),
    "DICOM of a codec without a decoder": Wrong(
        "classifier", scans(lambda path: compressed(path, "1.2.840.10008.1.2.4.80")), "compressed as JPEG-LS"
    ),
    "DICOM of several frames": Wrong(
        "classifier", scans(lambda path: tiny_dicom.write(path, GREY, NumberOfFrames=2)), "MONAI"
    ),
    "volumes": Wrong("classifier", volumes, r"volumes \(.nii.gz\).*MONAI"),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_ends_with_2_and_a_message(name, models, tmp_path, capsys):
    case = WRONG[name]
    task = case.task or MODELS[case.model][0]
    code, said, _ = checked(task, models(case.model), case.arrange(tmp_path / "rows"), tmp_path, capsys)
    assert code == 2
    assert re.search(case.message, said), said


def gaps(whole: dict[str, Any]) -> None:
    """Class ids that begin at 1 and have gaps; and a picture of which nothing is told."""
    for one in whole["categories"]:
        one["id"] = 1 + 89 * one["id"]
    for one in whole["annotations"]:
        one["category_id"] = 1 + 89 * one["category_id"]
    whole["annotations"] = [one for one in whole["annotations"] if one["image_id"] not in (3, 5)]


def test_what_is_odd_and_allowed_is_counted(models, tmp_path, capsys):
    source = coco(tmp_path / "rows", gaps)
    code, _, found = checked("object-detection", models("detector"), source, tmp_path, capsys)
    assert code == 0 and found["labels"]["names"] == ["disc", "square"]
    assert "train: 2 of 16 pictures have no box: they teach what is none (18 boxes)" in found["data"]["warnings"]
