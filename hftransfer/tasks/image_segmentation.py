"""image-segmentation: a picture to a class for every pixel, or to a mask for each single object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from hftransfer.answers import _found_masks, _mask_models, _mask_views, instances, mask
from hftransfer.inputs.image import IMAGE
from hftransfer.tasks._seen import conditions as conditions_of_pictures
from hftransfer.tasks.base import Known, Preparation, Role, Task, truth

if TYPE_CHECKING:
    from hftransfer.config import DataConfig


class ImageSegmentation(Task):
    """Segmentation over a PIL image processor; masks are resized here, never by the processor."""

    name = "image-segmentation"
    about = "a picture to a class for every pixel, or to a mask for each single object"
    roles = (
        Role("image", IMAGE, "a picture", ("image", "img", "picture", "photo", "pixels", "pixel_values")),
        truth("mask", "a picture of classes: a number or a colour a pixel", ("mask", "masks", "segmentation_mask",
              "semantic_mask", "segmentation", "semantic_segmentation", "annotation", "annotations", "label_map",
              "labelmap", "label", "labels", "ground_truth", "gt", "target", "y")),
    )  # fmt: skip
    answers = (mask.ANSWER, instances.ANSWER)
    known_models = (
        Known("nvidia/mit-b0", "SegFormer's small encoder; quick.", "3.7 M", "other"),
        Known("google/deeplabv3_mobilenet_v2_1.0_513", "A small convolutional network.", "2.1 M", "other"),
        Known("apple/deeplabv3-mobilevit-small", "Small, with attention.", "6.4 M", "other"),
        Known("openmmlab/upernet-convnext-tiny", "Strong; larger.", "60 M", "mit"),
        Known("facebook/mask2former-swin-tiny-ade-semantic", "Masks by queries.", "47 M", "other"),
        Known("facebook/mask2former-swin-tiny-coco-instance", "For single objects.", "47 M", "other"),
    )
    auto_model = "AutoModelForSemanticSegmentation"
    auto_processor = "AutoImageProcessor"
    processor_options: ClassVar = {"backend": "pil"}
    pipeline = "image-segmentation"
    also = ("semantic-segmentation",)
    lacks: ClassVar = {
        "instance-segmentation": "image-segmentation with data.problem_type=instances gives each single object a mask",
        **dict.fromkeys(
            ("panoptic-segmentation", "universal-segmentation", "mask-generation"),
            "image-segmentation gives each pixel a class, or, with data.problem_type=instances, each single object a "
            "mask; not both at once",
        ),
    }
    whole = "which classes masks hold is told by all of them"
    carried = ("depth", "background", "window", "tile")

    def auto_class(self, settings: Any) -> Any:
        """Return the Auto class of models that give each pixel a class, or of those that give queries a mask each.

        UserError for models of queries that are asked in another way.
        """
        import transformers

        _mask_models.refuse_others(settings)
        queries = _mask_models.asks_queries(settings)
        return transformers.AutoModelForUniversalSegmentation if queries else getattr(transformers, self.auto_model)

    def tile(self, config: DataConfig) -> int | None:
        """Return what the configuration says."""
        return config.tile

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Resize and normalise; the size of each picture is kept, at which it is answered."""
        pixels = processor(images=rows["image"], return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "_size": [[picture.height, picture.width] for picture in rows["image"]]}

    def conditions(self, said: Mapping[str, Any]) -> list[str]:
        """Say what `pipeline()` would make of a picture otherwise than training did."""
        found = conditions_of_pictures(said)
        if said.get("tile"):
            side = said["tile"]
            found.append(f"A picture of more than {side} pixels a side must be cut into such tiles, and these joined.")
        return found

    def ask_pipeline(self, pipeline: Any, row: dict[str, Any], max_length: int | None) -> dict[str, Any] | None:
        """Give it the picture; a model of queries must be told what is wanted: classes, or single objects, all."""
        settings = pipeline.model.config
        if instances.ANSWER.claims(settings):
            return _found_masks.of_pipeline(pipeline(row["image"], subtask=instances.SUBTASK, threshold=0.0))
        parts = pipeline(row["image"], subtask=mask.SUBTASK)
        return _mask_views.of_parts(parts, {str(name): i for i, name in settings.id2label.items()})


TASK = ImageSegmentation()
