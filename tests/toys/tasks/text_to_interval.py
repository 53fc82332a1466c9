"""text-to-interval: a text to the interval that it tells of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hftransfer import answers
from hftransfer.inputs.text import TEXT
from hftransfer.processors import truncated
from hftransfer.tasks.base import Preparation, Role, Task, truth


class TextToInterval(Task):
    """A sequence classifier with two outputs."""

    name = "text-to-interval"
    about = "a text to the interval that it tells of"
    roles = (
        Role("text", TEXT, "a text", ("text",)),
        truth("interval", "a list of two numbers", ("interval",)),
    )
    answers = (answers.of("interval"),)
    auto_model, auto_processor = "AutoModelForSequenceClassification", "AutoTokenizer"

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        encoded = processor(list(rows["text"]), truncation=True, max_length=preparation.max_length)
        return {**encoded, "_truncated": truncated(encoded, preparation.max_length)}

    def snippet(
        self, place: str, row: Mapping[str, str], notes: Mapping[str, Any], revision: str | None = None
    ) -> str:
        at = "" if revision is None else f", revision={revision}"
        return (
            f"from transformers import {self.auto_model}, {self.auto_processor}\n\n"
            f"tokenizer = {self.auto_processor}.from_pretrained({place}{at})\n"
            f"model = {self.auto_model}.from_pretrained({place}{at})\n"
            f'low, high = model(**tokenizer({row["text"]}, return_tensors="pt")).logits[0].tolist()\n'
            'answer = {"low": low, "high": high}'
        )


TASK = TextToInterval()
