"""What tasks have in common whose models give vectors: texts of a row side by side, and the lines of a stranger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from hftransfer.answers._lists import is_wrong
from hftransfer.processors import require_tokenizer, truncated
from hftransfer.tasks.base import Known, Preparation, Task

ENCODERS = (  # of sentences
    Known("sentence-transformers/all-MiniLM-L6-v2", "Small and quick; English.", "23 M", "apache-2.0"),
    Known("sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", "Fifty languages.", "118 M", "apache-2.0"),
    Known("BAAI/bge-small-en-v1.5", "Made for search; English.", "33 M", "mit"),
)


def side_by_side(
    columns: Sequence[Sequence[str | None]], processor: Any, max_length: int | None, before: Sequence[str] = ()
) -> dict[str, Any]:
    """Tokenize the texts of an item one after the other; `parts` are their lengths, `_numbers` tell equal texts.

    `columns` hold one text an item each; one that is not there counts for nothing. `before` has what stands before
    the texts of each column, which is no part of what tells them.
    """
    from hftransfer.answers._nearness import number_of

    tokenizer = require_tokenizer(processor)
    behind = [*before, *[""] * (len(columns) - len(before))]
    read = [
        tokenizer([first + text if text else "" for text in texts], truncation=True, max_length=max_length)
        if len(texts)
        else {}
        for first, texts in zip(behind, columns, strict=True)
    ]
    cut = [truncated(encoded, max_length) if encoded else [] for encoded in read]
    ids = list(zip(*(encoded.get("input_ids", []) for encoded in read), strict=True))
    return {
        "input_ids": [[token for part in parts for token in part] for parts in ids],
        "attention_mask": [[1] * sum(map(len, parts)) for parts in ids],
        "parts": [[len(part) for part in parts] for parts in ids],
        "_numbers": [[number_of(text) for text in texts] for texts in zip(*columns, strict=True)],
        "_row": list(range(len(ids))),
        "_length": [sum(map(len, parts)) for parts in ids],
        "_truncated": [any(parts) for parts in zip(*cut, strict=True)],
    }


def asked_alone(place: str, texts: str, answer: str, length: int, revision: str | None) -> str:
    """Return the lines by which transformers alone makes vectors of texts: what SentenceTransformer does with them."""
    at = "" if revision is None else f", revision={revision}"
    return f"""import torch
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({place}{at})
model = AutoModel.from_pretrained({place}{at})
inputs = tokenizer([{texts}], truncation=True, max_length={length}, padding=True, return_tensors="pt")
with torch.no_grad():
    states = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
mask = inputs["attention_mask"][:, :, None]
vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
answer = {answer}"""


def choices(
    questions: Sequence[str], truth: Sequence[Sequence[Mapping[str, Any]]], preparation: Any
) -> tuple[list[int], list[list[str]]]:
    """Return whose row each item is, and an item's texts in columns: the question, a right entry, wrong ones.

    In training each right entry of a row is an item, else the first: a catalogue is searched for all of them.
    """
    catalogue, count = preparation.answer.catalogue, preparation.answer.negatives if preparation.training else 0
    rows: list[int] = []
    names: list[list[str | None]] = []
    for row, entries in enumerate(truth):
        right = [one["id"] for one in entries if one["grade"] > 0]
        wrong = [one["id"] for one in entries if is_wrong(one["grade"])][:count]
        for name in right if preparation.training else right[:1]:
            rows.append(row)
            names.append([name, *wrong, *[None] * (count - len(wrong))])
    flat = [name for item in names for name in item]
    known = [name for name in flat if name is not None]
    texts = dict(zip(known, catalogue.texts(catalogue.places[name] for name in known), strict=True))
    columns = [[questions[row] for row in rows]]
    columns += [["" if item[at] is None else texts[str(item[at])] for item in names] for at in range(1 + count)]
    return rows, columns


class OfCatalogue(Task):
    """Rows and the entries of a catalogue as vectors of one encoder: the mean of their tokens, of length 1."""

    by_length = False
    carried: ClassVar[tuple[str, ...]] = ("prefix", "entry_prefix")
    known_models = ENCODERS
    library = "sentence-transformers"
    tag = "sentence-similarity"
    auto_model, auto_processor = "AutoModel", "AutoTokenizer"
    processor_options: ClassVar = {"padding_side": "right"}  # the parts of a row are counted from the left

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Tokenize what asks."""
        return self.items(rows, None, processor, preparation)

    def entries(self, texts: list[str], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Tokenize entries."""
        return side_by_side([texts], processor, preparation.max_length, [preparation.config.entry_prefix or ""])

    def asked(
        self, texts: Sequence[str], hidden: Sequence[Sequence[int]], truth: list[Any] | None, processor: Any,
        preparation: Preparation,
    ) -> dict[str, Any]:  # fmt: skip
        """Tokenize what asks with an entry that is right; `_hidden` are the places of those that are no answer."""
        config = preparation.config
        owner, columns = list(range(len(texts))), [list(texts)]
        if truth is not None:
            owner, columns = choices(texts, truth, preparation)
        before = [config.prefix or "", *[config.entry_prefix or ""] * (len(columns) - 1)]
        found = side_by_side(columns, processor, preparation.max_length, before)
        # with a type: rows of which none hides anything would have lists of nothing, and the next no place among them
        found |= {"_row": owner, "_hidden": [np.array(hidden[row], np.int64) for row in owner]}
        return found | preparation.answer.targets(truth, found, processor, preparation)


def behind_prefix(asked: str, notes: Mapping[str, Any]) -> str:
    """Return a Python expression of what is asked, behind the words that stand before it, if any do."""
    prefix = notes.get("carried", {}).get("prefix")
    return f"{prefix!r} + {asked}" if prefix else asked
