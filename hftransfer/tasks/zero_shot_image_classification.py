"""zero-shot-image-classification: pictures and texts that belong to them, to vectors that are near to one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hftransfer.answers._both_ways import print_of
from hftransfer.answers.captions import GENERAL, Captions
from hftransfer.inputs.candidates import CANDIDATES
from hftransfer.inputs.image import IMAGE
from hftransfer.processors import require_tokenizer, truncated
from hftransfer.tasks._seen import conditions as conditions_of_pictures
from hftransfer.tasks.base import Known, Preparation, Role, Task, truth

DUAL = "vision-text-dual-encoder"


class ZeroShotImageClassification(Task):
    """A picture and all its captions are a row; asked, a picture is compared with labels."""

    name = "zero-shot-image-classification"
    about = "pictures and their captions, to find one by the other and to choose among labels"
    roles = (
        Role("image", IMAGE, "a picture", ("image", "img", "picture", "photo", "pixels"), shared=True),
        Role("labels", CANDIDATES, "names to choose among", (), required=False, asks=True),
        truth("caption", "a text that belongs to the picture, or a list of them", ("caption", "captions", "text",
              "sentence", "sentences", "description", "title", "alt", "name", "prompt")),
    )  # fmt: skip
    answers = (Captions(),)
    known_models = (
        Known("openai/clip-vit-base-patch32", "The classic; English.", "151 M", "mit"),
        Known("google/siglip-base-patch16-224", "Says of each text by itself whether it fits.", "203 M", "apache-2.0"),
        Known("google/siglip-base-patch16-256-multilingual", "Many languages.", "371 M", "apache-2.0"),
        Known("clip-italian/clip-italian", "A dual encoder; Italian.", "198 M", "gpl-3.0"),
    )
    also = ("image-text-to-retrieval", "image-text-retrieval", "contrastive", "clip")
    auto_model, auto_processor = "AutoModelForZeroShotImageClassification", "AutoProcessor"
    processor_options: ClassVar = {"backend": "pil"}
    gathers = True
    alone = "With transformers alone:"
    carried = ("depth", "background", "window")

    def auto_class(self, settings: Any) -> Any:
        """Return AutoModel for a dual encoder, which is in no mapping for the task."""
        import transformers

        return getattr(transformers, "AutoModel" if settings.model_type == DUAL else self.auto_model)

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Resize and normalise pictures, and keep the labels that each is asked about."""
        return self.items(rows, None, processor, preparation)

    def items(
        self, rows: Mapping[str, list[Any]], truth: list[Any] | None, processor: Any, preparation: Preparation
    ) -> dict[str, Any]:
        """Return pictures as the model takes them, with the tokens of their captions one after the other."""
        found: dict[str, Any] = dict(processor.image_processor(images=rows["image"], return_tensors="pt"))
        found["_picture"] = [print_of(picture.numpy().tobytes()) for picture in found["pixel_values"]]
        found["_labels"] = [list(labels or ()) for labels in rows.get("labels", [()] * len(rows["image"]))]
        if truth is not None:
            found |= captions(truth, require_tokenizer(processor), preparation)
        found["_row"] = list(range(len(rows["image"])))
        return found | preparation.answer.targets(truth, found, processor, preparation)

    def conditions(self, said: Mapping[str, Any]) -> list[str]:
        """Say what must be done to a picture that training scaled, or put on a colour."""
        return conditions_of_pictures(said)

    def snippet(
        self, place: str, row: Mapping[str, str], notes: Mapping[str, Any], revision: str | None = None
    ) -> str:
        """Ask the pipeline, whose labels are the whole texts; of a dual encoder, which it does not know, AutoModel."""
        at = "" if revision is None else f", revision={revision}"
        answer = notes["answer"]
        labels = row.get("labels") or repr(list(answer["choices"]) or list(GENERAL))
        if answer["family"] != DUAL:
            return f"""from transformers import pipeline

classify = pipeline("{self.name}", model={place}{at})
found = classify({row["image"]}, candidate_labels={labels}, hypothesis_template="{{}}")
answer = {{one["label"]: one["score"] for one in found}}"""
        return f"""import torch
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
from transformers.image_utils import load_image

labels = {labels}
model = AutoModel.from_pretrained({place}{at})
texts = AutoTokenizer.from_pretrained({place}{at})(
    labels, padding=True, truncation=True, max_length={answer["longest"]}, return_tensors="pt"
)
picture = AutoImageProcessor.from_pretrained({place}{at})(images=load_image({row["image"]}), return_tensors="pt")
with torch.no_grad():
    scores = model(**picture, **texts).logits_per_image[0].softmax(-1)
answer = dict(zip(labels, scores.tolist()))"""


def captions(truth: list[Any], tokenizer: Any, preparation: Preparation) -> dict[str, Any]:
    """Return the tokens of each row's captions in a row; `parts` are their lengths, `_numbers` tell equal ones."""
    from hftransfer.answers._nearness import number_of

    assert isinstance(preparation.answer, Captions)
    longest, widths = preparation.answer.longest, [len(texts) for texts in truth]
    read = tokenizer([text for texts in truth for text in texts], truncation=True, max_length=longest)
    cut, ids = iter(truncated(read, longest)), iter(read["input_ids"])
    rows = [[next(ids) for _ in range(width)] for width in widths]
    return {
        "input_ids": [[token for part in parts for token in part] for parts in rows],
        "parts": [[len(part) for part in parts] for parts in rows],
        "_numbers": [[number_of(text) for text in texts] for texts in truth],
        "_texts": [list(texts) for texts in truth],
        "_truncated": [sum(next(cut) for _ in range(width)) > 0 for width in widths],
    }


TASK = ZeroShotImageClassification()
