"""object-detection: a picture to boxes around what is in it, each with a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hftransfer.answers import boxes
from hftransfer.inputs.image import IMAGE
from hftransfer.tasks import _seen
from hftransfer.tasks.base import Known, Preparation, Role, Task, truth


class ObjectDetection(Task):
    """Detection by set prediction: DETR and its kin, which need no search among overlapping boxes."""

    name = "object-detection"
    about = "a picture to boxes around what is in it, each with a name"
    roles = (
        Role("image", IMAGE, "a picture", ("image", "img", "picture", "photo", "pixels")),
        truth("objects", "boxes with their classes", ("objects", "annotations", "boxes", "bboxes", "labels")),
    )
    answers = (boxes.ANSWER,)
    known_models = (
        Known("PekingU/rtdetr_v2_r18vd", "Quick and good: a start for most.", "20 M", "apache-2.0"),
        Known("facebook/detr-resnet-50", "The first of its kind; learns slowly.", "42 M", "apache-2.0"),
        Known("hustvl/yolos-tiny", "A small vision transformer.", "6.5 M", "apache-2.0"),
        Known("SenseTime/deformable-detr", "Better on small things than DETR.", "40 M", "apache-2.0"),
    )
    auto_model = "AutoModelForObjectDetection"
    auto_processor = "AutoImageProcessor"
    processor_options: ClassVar = {"backend": "pil"}
    pipeline = "object-detection"
    also = ("detection", "bounding-boxes")
    whole = "which form boxes have is told by all of them"
    carried = ("depth", "background", "window")
    unsaid: ClassVar = {"background": "black"}  # as transformers' pipeline has it

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Resize and normalise each by itself; boxes are not given: processors take wrong ones without a word."""
        made = [processor(images=picture, return_tensors="pt") for picture in rows["image"]]
        named = [name for name in ("pixel_values", "pixel_mask") if name in made[0]]
        return {
            **{name: [one[name][0] for one in made] for name in named},
            "_size": [picture.size for picture in rows["image"]],
        }

    def conditions(self, said: Mapping[str, Any]) -> list[str]:
        """Say what `pipeline()` would make of a picture otherwise than training did."""
        return _seen.conditions(said)

    def ask_pipeline(self, pipeline: Any, row: dict[str, Any], max_length: int | None) -> dict[str, Any] | None:
        """Give it the picture, and ask for all boxes: what they are worth is no matter here."""
        return {"objects": pipeline(row["image"], threshold=0.0)}


TASK = ObjectDetection()
