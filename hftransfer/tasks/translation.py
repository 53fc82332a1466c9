"""translation: a text to the same text in another language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hftransfer.answers.text import Text
from hftransfer.config import DataConfig
from hftransfer.inputs.text import TEXT
from hftransfer.processors import own_prefix, truncated
from hftransfer.tasks.base import Known, Preparation, Role, Task, truth


class Translation(Task):
    """Sequence to sequence over a tokenizer, with a prefix or marks of languages where the model knows some."""

    name = "translation"
    about = "a text to the same text in another language"
    roles = (
        Role("text", TEXT, "a text", ("text", "source", "src", "sentence")),
        truth("translation", "the same text in the other language", ("translation", "target", "tgt")),
    )
    answers = (Text(("chrf", "bleu", "exact_match", "perplexity"), trivial="copy"),)
    known_models = (
        Known("Helsinki-NLP/opus-mt-en-fr", "One pair of languages, of many.", "75 M", "apache-2.0"),
        Known("google-t5/t5-small", "English to German, French, Romanian; by prefix.", "61 M", "apache-2.0"),
        Known("facebook/m2m100_418M", "A hundred languages, in every direction.", "484 M", "mit"),
        Known("facebook/nllb-200-distilled-600M", "Two hundred languages.", "615 M", "cc-by-nc-4.0"),
    )
    auto_model, auto_processor = "AutoModelForSeq2SeqLM", "AutoTokenizer"
    carried = ("prefix", "source_language", "target_language")

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Tokenize the texts behind the prefix."""
        texts = [(preparation.config.prefix or "") + text for text in rows["text"]]
        encoded = processor(texts, truncation=True, max_length=preparation.max_length)
        return {**encoded, "_truncated": truncated(encoded, preparation.max_length)}

    def settle(self, config: DataConfig, settings: Any) -> DataConfig:
        """Take the prefix from a T5's config, by the languages."""
        pair = f"translation_{config.source_language}_to_{config.target_language}"
        return own_prefix(config, settings, pair)

    def words_of(self, role: Role, config: DataConfig) -> tuple[str, ...]:
        """Take a column named by its language (`en`, `translation.fr`) for what the configuration says it is."""
        code = config.target_language if role.answer else config.source_language
        return role.words if code is None else (*role.words, code, code.partition("_")[0])

    def snippet(
        self, place: str, row: Mapping[str, str], notes: Mapping[str, Any], revision: str | None = None
    ) -> str:
        """Ask tokenizer, model and tokenizer again."""
        return self.lines(place, row["text"], notes, revision)


TASK = Translation()
