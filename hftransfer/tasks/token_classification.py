"""token-classification: one tag for every word of a sentence (entities, parts of speech)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from hftransfer.errors import UserError
from hftransfer.tasks.base import Preparation, Prepared, Role, Task

IGNORED = -100  # the label that torch's cross entropy leaves out: later pieces of a word, special tokens


class TokenClassification(Task):
    """Tags aligned with words: a word is tagged at its first piece, and a long sentence is read in several windows."""

    name = "token-classification"
    about = "a tag for every word: entities, parts of speech"
    roles = (
        Role("words", "words", "a list of words", ("tokens", "words", "sentence", "text")),
        Role("tags", "tags", "a list of tags, one for each word", ("ner_tags", "tags", "labels", "pos_tags", "upos",
             "pos", "ner", "entities", "chunk_tags")),
    )  # fmt: skip
    label_kinds = ("tags",)
    auto_model = "AutoModelForTokenClassification"
    auto_processor = "AutoTokenizer"
    processor_options: ClassVar = {"add_prefix_space": True}  # byte-level BPE needs it to take words; others ignore it
    example = '"a sentence"'
    streams = True
    input_widget = "text"
    output_widget = "highlighted_text"

    def prepare(self, rows: Any, processor: Any, preparation: Preparation, training: bool) -> Prepared:
        """Tokenize words; what does not fit one window goes on in the next, so that no word is lost."""
        encoded = rows.map(
            lambda batch, indices: self._encode(batch, indices, processor, preparation),
            batched=True,
            with_indices=True,
            remove_columns=rows.column_names,
            desc=None,
        )
        found = np.asarray(encoded["row"], dtype=np.int64)
        lengths = np.asarray(encoded["length"], dtype=np.int64)
        return Prepared(encoded.remove_columns(["row"]), found, lengths)

    def stream(self, rows: Any, processor: Any, preparation: Preparation) -> Any:
        """Tokenize while reading."""
        encoded = rows.map(
            lambda batch: self._encode(batch, range(len(batch["words"])), processor, preparation),
            batched=True,
            remove_columns=rows.column_names,
        )
        return encoded.remove_columns(["row", "length"])

    def _encode(
        self, batch: Mapping[str, list[Any]], indices: Any, processor: Any, preparation: Preparation
    ) -> dict[str, Any]:
        encoded = processor(
            batch["words"],
            is_split_into_words=True,
            truncation=True,
            max_length=preparation.max_length,
            return_overflowing_tokens=True,
        )
        sources = encoded.pop("overflow_to_sample_mapping")
        labels = []
        for window, source in enumerate(sources):
            words = encoded.word_ids(window)
            first = [w is not None and (i == 0 or words[i - 1] != w) for i, w in enumerate(words)]
            # a word cut in two by the window's edge is tagged where it begins
            if window and sources[window - 1] == source and encoded.word_ids(window - 1):
                previous = [w for w in encoded.word_ids(window - 1) if w is not None]
                first = [f and (not previous or w != previous[-1]) for f, w in zip(first, words, strict=True)]
            tags = batch["tags"][source] if "tags" in batch else [0] * len(batch["words"][source])
            labels.append([tags[w] if f else IGNORED for f, w in zip(first, words, strict=True)])
        result: dict[str, Any] = dict(encoded)
        result["labels"] = labels
        result["length"] = [len(ids) for ids in encoded["input_ids"]]
        result["row"] = [indices[source] for source in sources]
        return result

    def collator(self, processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Pad inputs and labels to the longest row of the batch."""
        from transformers import DataCollatorForTokenClassification

        pad = DataCollatorForTokenClassification(processor)
        return lambda items: dict(pad([{k: v for k, v in item.items() if k != "length"} for item in items]))

    def row(self, value: Any) -> dict[str, Any]:
        """Take a string (split at spaces and punctuation), a list of words, or a dict with words."""
        if isinstance(value, Mapping):
            value = value.get("words")
        if isinstance(value, str):
            value = re.findall(r"\w+(?:[-'\N{RIGHT SINGLE QUOTATION MARK}]\w+)*|[^\w\s]", value)
        if isinstance(value, list | tuple) and value and all(isinstance(word, str) for word in value):
            return {"words": list(value)}
        raise UserError("a sentence is needed", f"found {value!r}", "Give a string or a list of words.")


TASK = TokenClassification()
