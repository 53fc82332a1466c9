"""text-classification: one text, or a pair of texts, to one label, several labels or a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hftransfer.answers import multi_label, regression, single_label
from hftransfer.inputs.text import TEXT
from hftransfer.processors import truncated
from hftransfer.tasks.base import Known, Preparation, Role, Task, truth


class TextClassification(Task):
    """Sequence classification over a tokenizer."""

    name = "text-classification"
    about = "a text, or a pair of texts, to one label, several labels or a number"
    roles = (
        Role("text", TEXT, "a text", ("text", "sentence", "sentence1", "premise", "review", "tweet", "comment",
             "content", "body", "message", "document", "question", "utterance", "query")),
        Role("text_pair", TEXT, "a text that is read together with the first", ("text_pair", "sentence2",
             "hypothesis", "answer", "passage", "context", "question"), required=False),
        truth("label", "a name, a number, or a list of names", ("label", "labels", "class", "category",
              "target", "sentiment", "intent", "topic", "emotion", "stars", "rating", "score", "y")),
    )  # fmt: skip
    answers = (single_label.ANSWER, multi_label.ANSWER, regression.ANSWER)
    known_models = (
        Known("distilbert/distilbert-base-uncased", "Small and quick; English.", "66 M", "apache-2.0"),
        Known("FacebookAI/roberta-base", "A strong all-rounder; English.", "125 M", "mit"),
        Known("answerdotai/ModernBERT-base", "Newer, and reads long texts; English.", "149 M", "apache-2.0"),
        Known("FacebookAI/xlm-roberta-base", "A hundred languages.", "278 M", "mit"),
    )
    auto_model = "AutoModelForSequenceClassification"
    auto_processor = "AutoTokenizer"
    pipeline = "text-classification"
    browser = "text-classification"
    an_item_a_row = True
    direct = ("entailment", "similarity")
    templates: ClassVar = {"entailment": ("This example is {}.",), "similarity": ("{}", "It was {}.")}
    premise = "First: {} Second: {}"

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Tokenize without padding: batches are padded to their own longest row."""
        encoded = processor(rows["text"], rows.get("text_pair"), truncation=True, max_length=preparation.max_length)
        return {**encoded, "_truncated": truncated(encoded, preparation.max_length)}

    def with_hypothesis(self, rows: Any, hypothesis: str, premise: str) -> Any | None:
        """Make the sentence the second text of each pair; of rows that are pairs already, `premise` makes one text."""
        if "text_pair" in rows.column_names:
            joined = [premise.format(one, other) for one, other in zip(rows["text"], rows["text_pair"], strict=True)]
            rows = rows.remove_columns(["text", "text_pair"]).add_column("text", joined)
        return rows.add_column("text_pair", [hypothesis] * len(rows))

    def cut_in_pipeline(self, max_length: int | None) -> str:
        """Say it: untold, it cuts nothing, and a text of more tokens than the model has places for is an error."""
        return "" if max_length is None else f", truncation=True, max_length={max_length}"

    def ask_pipeline(self, pipeline: Any, row: dict[str, Any], max_length: int | None) -> dict[str, Any] | None:
        """Give it text and pair, cut where training cut them."""
        cut = {} if max_length is None else {"max_length": max_length}
        scores = {found["label"]: found["score"] for found in pipeline(row, top_k=None, truncation=True, **cut)}
        return {"scores": scores, "score": next(iter(scores.values()))}


TASK = TextClassification()
