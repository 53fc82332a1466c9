"""summarization: a long text to a short one that says the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hftransfer.answers.text import Text
from hftransfer.config import DataConfig
from hftransfer.inputs.text import TEXT
from hftransfer.processors import own_prefix, truncated
from hftransfer.tasks.base import Known, Preparation, Role, Task, truth


class Summarization(Task):
    """Sequence to sequence over a tokenizer, with a prefix where the model knows one."""

    name = "summarization"
    about = "a long text to a short one that says the same"
    roles = (
        Role("text", TEXT, "a long text", ("text", "document", "article", "dialogue", "body", "content", "source")),
        truth("summary", "a short text that says the same", ("summary", "highlights", "abstract", "headline", "tldr",
              "target")),
    )  # fmt: skip
    answers = (Text(("rouge_l", "rouge_1", "rouge_2", "chrf", "perplexity"), trivial="lead"),)
    known_models = (
        Known("google-t5/t5-small", "Small and quick; by prefix.", "61 M", "apache-2.0"),
        Known("facebook/bart-base", "A strong start; English.", "139 M", "apache-2.0"),
        Known("facebook/bart-large-cnn", "Made for news; English.", "406 M", "mit"),
        Known("google/mt5-small", "A hundred languages.", "300 M", "apache-2.0"),
    )
    auto_model, auto_processor = "AutoModelForSeq2SeqLM", "AutoTokenizer"
    carried = ("prefix",)

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Tokenize the texts behind the prefix."""
        texts = [(preparation.config.prefix or "") + text for text in rows["text"]]
        encoded = processor(texts, truncation=True, max_length=preparation.max_length)
        return {**encoded, "_truncated": truncated(encoded, preparation.max_length)}

    def settle(self, config: DataConfig, settings: Any) -> DataConfig:
        """Take the prefix from a T5's config."""
        return own_prefix(config, settings, "summarization")

    def snippet(
        self, place: str, row: Mapping[str, str], notes: Mapping[str, Any], revision: str | None = None
    ) -> str:
        """Ask tokenizer, model and tokenizer again."""
        return self.lines(place, row["text"], notes, revision)


TASK = Summarization()
