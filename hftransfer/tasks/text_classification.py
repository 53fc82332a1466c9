"""text-classification: one text, or a pair of texts, to one label, several labels or a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from hftransfer.errors import UserError
from hftransfer.tasks.base import Preparation, Prepared, Role, Task, targets


class TextClassification(Task):
    """Sequence classification over a tokenizer."""

    name = "text-classification"
    about = "a text, or a pair of texts, to one label, several labels or a number"
    roles = (
        Role("text", "text", "a string", ("text", "sentence", "sentence1", "premise", "review", "tweet", "comment",
             "content", "body", "message", "document", "question", "utterance", "query")),
        Role("text_pair", "text", "a string that is read together with the text", ("text_pair", "sentence2",
             "hypothesis", "answer", "passage", "context", "question"), required=False),
        Role("label", "label", "a name, a number, or a list of names", ("label", "labels", "class", "category",
             "target", "sentiment", "intent", "topic", "emotion", "stars", "rating", "score", "y")),
    )  # fmt: skip
    label_kinds = ("single_label", "multi_label", "regression")
    auto_model = "AutoModelForSequenceClassification"
    auto_processor = "AutoTokenizer"
    example = '"a text"'
    streams = True
    direct = ("entailment", "similarity")
    templates: ClassVar = {"entailment": ("This example is {}.",), "similarity": ("{}", "It was {}.")}
    premise = "First: {} Second: {}"
    input_widget = "text"
    output_widget = "label"

    def prepare(self, rows: Any, processor: Any, preparation: Preparation, training: bool) -> Prepared:
        """Tokenize without padding: batches are padded to their own longest row."""
        encoded = rows.map(
            lambda batch: self._encode(batch, processor, preparation),
            batched=True,
            remove_columns=rows.column_names,
            desc=None,
        )
        lengths = np.asarray(encoded["length"], dtype=np.int64)
        truncated = int(np.sum(encoded["truncated"]))
        return Prepared(encoded.remove_columns(["truncated"]), np.arange(len(rows)), lengths, truncated)

    def stream(self, rows: Any, processor: Any, preparation: Preparation) -> Any:
        """Tokenize while reading."""
        encoded = rows.map(
            lambda batch: self._encode(batch, processor, preparation), batched=True, remove_columns=rows.column_names
        )
        return encoded.remove_columns(["truncated", "length"])

    def _encode(self, batch: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        encoded = processor(batch["text"], batch.get("text_pair"), truncation=True, max_length=preparation.max_length)
        result: dict[str, Any] = dict(encoded)
        result["length"] = [len(ids) for ids in encoded["input_ids"]]
        result["truncated"] = _truncated(encoded, preparation.max_length)
        if "label" in batch:
            result["labels"] = targets(preparation.labels, batch["label"])
        return result

    def collator(self, processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Pad to the longest row of the batch."""
        from transformers import DataCollatorWithPadding

        pad = DataCollatorWithPadding(processor)
        return lambda items: dict(pad([{k: v for k, v in item.items() if k != "length"} for item in items]))

    def with_hypothesis(self, rows: Any, hypothesis: str, premise: str) -> Any | None:
        """Make the sentence the second text of each pair; of rows that are pairs already, `premise` makes one text."""
        if "text_pair" in rows.column_names:
            joined = [premise.format(one, other) for one, other in zip(rows["text"], rows["text_pair"], strict=True)]
            rows = rows.remove_columns(["text", "text_pair"]).add_column("text", joined)
        return rows.add_column("text_pair", [hypothesis] * len(rows))

    def ask_pipeline(self, pipeline: Any, row: dict[str, Any], max_length: int | None) -> dict[str, float] | None:
        """Give it text and pair, cut where training cut them."""
        cut = {} if max_length is None else {"max_length": max_length}
        return {answer["label"]: answer["score"] for answer in pipeline(row, top_k=None, truncation=True, **cut)}

    def row(self, value: Any) -> dict[str, Any]:
        """Take a string, a pair of strings, or a dict with text and text_pair."""
        row = {"text": value}
        if isinstance(value, Mapping):
            row = {role: value[role] for role in ("text", "text_pair") if value.get(role) is not None}
        elif isinstance(value, tuple | list) and len(value) == 2:
            row = {"text": value[0], "text_pair": value[1]}
        if all(isinstance(part, str) for part in row.values()) and row.get("text", "").strip():
            return row
        raise UserError("a text is needed", f"found {value!r}", "Give a string, a pair of strings, or a text column.")


def _truncated(encoded: Any, max_length: int | None) -> list[bool]:
    if encoded.encodings is not None:
        return [bool(encoding.overflowing) for encoding in encoded.encodings]
    return [len(ids) == max_length for ids in encoded["input_ids"]]  # a slow tokenizer keeps no overflow


TASK = TextClassification()
