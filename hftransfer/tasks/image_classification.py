"""image-classification: a picture to one label or several."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hftransfer.errors import UserError
from hftransfer.tasks.base import Preparation, Prepared, Role, Task, targets

if TYPE_CHECKING:
    from PIL.Image import Image

    from hftransfer.config import Augmentation


class ImageClassification(Task):
    """Image classification over a PIL image processor: torchvision is not needed."""

    name = "image-classification"
    about = "a picture to one label or several"
    roles = (
        Role("image", "image", "a picture", ("image", "img", "picture", "photo", "pixels")),
        Role("label", "label", "a name, a number, or a list of names", ("label", "labels", "class", "category",
             "target", "fine_label", "species", "breed", "digit", "y")),
    )  # fmt: skip
    label_kinds = ("single_label", "multi_label")
    auto_model = "AutoModelForImageClassification"
    auto_processor = "AutoImageProcessor"
    processor_options: ClassVar = {"backend": "pil"}
    example = '"photo.jpg"'
    direct = ("image_text",)
    templates: ClassVar = {"image_text": ("a photo of a {}.",)}
    input_widget = "image"
    output_widget = "label"

    def prepare(self, rows: Any, processor: Any, preparation: Preparation, training: bool) -> Prepared:
        """Decode, augment and resize when a row is asked for."""
        augmentation = preparation.config.augmentation if training else None
        pictures = Pictures(rows, processor, preparation, augmentation)
        return Prepared(pictures, np.arange(len(rows)), on_epoch=pictures.set_epoch)

    def collator(self, processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Stack equal sizes."""
        from transformers import default_data_collator

        return default_data_collator

    def ask_pipeline(self, pipeline: Any, row: dict[str, Any], max_length: int | None) -> dict[str, float] | None:
        """Give it the picture."""
        answers = pipeline(row["image"], top_k=len(pipeline.model.config.id2label))
        return {answer["label"]: answer["score"] for answer in answers}

    def row(self, value: Any) -> dict[str, Any]:
        """Take a path, a PIL picture, or a dict with image."""
        import PIL.Image
        import PIL.ImageOps

        if isinstance(value, Mapping):
            value = value.get("image")
        if isinstance(value, str | os.PathLike):
            if not Path(value).is_file():
                raise UserError("a picture is needed", f"there is no file {os.fspath(value)!r}", "Check the path.")
            try:
                with PIL.Image.open(value) as opened:
                    opened.load()
            except (OSError, SyntaxError, ValueError) as error:  # what PIL raises for broken files
                raise UserError(
                    "a readable picture is needed", str(error), "Give a PNG, JPEG or WebP file."
                ) from error
            return {"image": os.fspath(value)}
        if isinstance(value, PIL.Image.Image):
            # a copy: `datasets` would read a picture that knows its file from there again, and pack others as JPEG
            return {"image": PIL.ImageOps.exif_transpose(value).convert("RGB")}
        raise UserError("a picture is needed", f"found {type(value).__name__}", "Give a path or a PIL image.")


class Pictures:
    """A torch-style data set that decodes, augments and processes pictures as they are asked for.

    Each row's randomness is keyed by (seed, epoch, row): neither the order of reading, nor the number of worker
    processes, nor a resume in the middle of an epoch changes what a row looks like.
    """

    def __init__(self, rows: Any, processor: Any, preparation: Preparation, augmentation: Augmentation | None) -> None:
        import torch

        self.rows, self.processor, self.preparation, self.augmentation = rows, processor, preparation, augmentation
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that outlive an epoch see it too

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Tell which epoch comes next."""
        self.epoch.fill_(int(epoch))

    def select(self, indices: Any) -> Pictures:
        """Return the same pictures in another order."""
        return Pictures(self.rows.select(indices), self.processor, self.preparation, self.augmentation)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        batch = self.rows[indices]
        pictures = [self._picture(image, index) for image, index in zip(batch["image"], indices, strict=True)]
        pixels = self.processor(images=pictures, return_tensors="pt")["pixel_values"]
        items: list[dict[str, Any]] = [{"pixel_values": value} for value in pixels]
        if "label" in batch:
            for item, target in zip(items, targets(self.preparation.labels, batch["label"]), strict=True):
                item["labels"] = target
        return items

    def _picture(self, image: Image, index: int) -> Image:
        from PIL import ImageOps

        image = ImageOps.exif_transpose(image).convert("RGB")
        if self.augmentation is None:
            return image
        return augment(
            image, self.augmentation, np.random.default_rng([self.preparation.seed, int(self.epoch), index])
        )


def augment(image: Image, augmentation: Augmentation, rng: np.random.Generator) -> Image:
    """Crop, mirror and recolour an RGB picture at random (Inception's crop: Szegedy et al. 2015, section 6)."""
    from PIL import ImageEnhance, ImageOps

    # every draw is made whatever is switched on, so that turning one change off leaves the others as they were
    area, ratio, left, top, mirror, *shades = rng.random(8)
    if augmentation.crop < 1:
        share = augmentation.crop + area * (1 - augmentation.crop)
        aspect = float(np.exp(np.log(3 / 4) + ratio * (np.log(4 / 3) - np.log(3 / 4))))
        width = min(image.width, max(1, round((image.width * image.height * share * aspect) ** 0.5)))
        height = min(image.height, max(1, round((image.width * image.height * share / aspect) ** 0.5)))
        x, y = round(left * (image.width - width)), round(top * (image.height - height))
        image = image.crop((x, y, x + width, y + height))
    if augmentation.flip and mirror < 0.5:
        image = ImageOps.mirror(image)
    if augmentation.color:
        kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for kind, shade in zip(kinds, shades, strict=True):
            image = kind(image).enhance(1 + (2 * shade - 1) * augmentation.color)
    return image


TASK = ImageClassification()
