"""image-classification: a picture to one label or several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hftransfer.answers import multi_label, single_label
from hftransfer.inputs.image import IMAGE
from hftransfer.tasks._seen import conditions as conditions_of_pictures
from hftransfer.tasks.base import Known, Preparation, Role, Task, truth


class ImageClassification(Task):
    """Image classification over a PIL image processor: torchvision is not needed."""

    name = "image-classification"
    about = "a picture to one label or several"
    roles = (
        Role("image", IMAGE, "a picture", ("image", "img", "picture", "photo", "pixels")),
        truth("label", "a name, a number, or a list of names", ("label", "labels", "class", "category",
              "target", "fine_label", "species", "breed", "digit", "y")),
    )  # fmt: skip
    answers = (single_label.ANSWER, multi_label.ANSWER)
    known_models = (
        Known("microsoft/resnet-50", "A convolutional classic; quick on a CPU.", "26 M", "apache-2.0"),
        Known("google/vit-base-patch16-224-in21k", "The vision transformer.", "86 M", "apache-2.0"),
        Known("facebook/dinov2-base", "Features that need little training.", "87 M", "apache-2.0"),
        Known("facebook/convnextv2-tiny-22k-224", "Modern convolutions.", "29 M", "apache-2.0"),
    )
    auto_model = "AutoModelForImageClassification"
    auto_processor = "AutoImageProcessor"
    processor_options: ClassVar = {"backend": "pil"}
    pipeline = "image-classification"
    browser = "image-classification"
    carried = ("depth", "background", "window")
    unsaid: ClassVar = {"background": "black"}  # as transformers' pipeline has it, and as models were made before
    direct = ("image_text",)
    templates: ClassVar = {"image_text": ("a photo of a {}.",)}

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Resize and normalise."""
        return {"pixel_values": processor(images=rows["image"], return_tensors="pt")["pixel_values"]}

    def conditions(self, said: Mapping[str, Any]) -> list[str]:
        """Say what `pipeline()` would make of a picture otherwise than training did."""
        return conditions_of_pictures(said)

    def ask_pipeline(self, pipeline: Any, row: dict[str, Any], max_length: int | None) -> dict[str, Any] | None:
        """Give it the picture."""
        answers = pipeline(row["image"], top_k=len(pipeline.model.config.id2label))
        return {"scores": {answer["label"]: answer["score"] for answer in answers}}


TASK = ImageClassification()
