"""token-classification: one tag for every word of a sentence (entities, parts of speech)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hftransfer.answers import tags
from hftransfer.inputs.words import WORDS
from hftransfer.tasks.base import Known, Preparation, Role, Task, truth


class TokenClassification(Task):
    """Tags aligned with words: a word is tagged at its first piece, and a long sentence is read in several windows."""

    name = "token-classification"
    about = "a tag for every word: entities, parts of speech"
    heeds = frozenset({"sentence_column"})
    roles = (
        Role("words", WORDS, "a list of words", ("tokens", "words", "sentence", "text", "token", "word")),
        truth("tags", "a list of tags, one for each word", ("ner_tags", "tags", "labels", "ner_tag", "tag",
              "label", "pos_tags", "upos", "pos", "ner", "entities", "chunk_tags")),
    )  # fmt: skip
    answers = (tags.ANSWER,)
    known_models = (
        Known("distilbert/distilbert-base-cased", "Small and quick; English, sees capitals.", "66 M", "apache-2.0"),
        Known("FacebookAI/roberta-base", "A strong all-rounder; English.", "125 M", "mit"),
        Known("FacebookAI/xlm-roberta-base", "A hundred languages.", "278 M", "mit"),
    )
    auto_model = "AutoModelForTokenClassification"
    auto_processor = "AutoTokenizer"
    processor_options: ClassVar = {"add_prefix_space": True}  # byte-level BPE needs it to take words; others ignore it
    pipeline = "token-classification"
    browser = "token-classification"

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Tokenize words; what does not fit one window goes on in the next, so that no word is lost.

        `_words` has the number of the word that begins at each token, -1 elsewhere.
        """
        encoded, unread = self._encode(rows["words"], processor, preparation.max_length)
        sources = encoded.pop("overflow_to_sample_mapping")
        places = []
        for window, source in enumerate(sources):
            words = encoded.word_ids(window)
            first = [w is not None and (i == 0 or words[i - 1] != w) for i, w in enumerate(words)]
            # a word cut in two by the window's edge is tagged where it begins
            if window and sources[window - 1] == source and encoded.word_ids(window - 1):
                previous = [w for w in encoded.word_ids(window - 1) if w is not None]
                first = [f and (not previous or w != previous[-1]) for f, w in zip(first, words, strict=True)]
            places.append([w if f else -1 for f, w in zip(first, words, strict=True)])
        first_windows = [not window or sources[window - 1] != source for window, source in enumerate(sources)]
        counts = [unread[source] if first else 0 for source, first in zip(sources, first_windows, strict=True)]
        return {**encoded, "_words": places, "_row": sources, "_unread": counts}

    def _encode(self, sentences: list[list[str]], processor: Any, max_length: int | None) -> tuple[Any, list[int]]:
        """Return windows of sentences, and how many words of each sentence the tokenizer makes nothing of."""
        options = {"is_split_into_words": True, "truncation": True, "max_length": max_length}
        encoded = processor(sentences, **options, return_overflowing_tokens=True)
        known: list[set[int]] = [set() for _ in sentences]
        for window, source in enumerate(encoded["overflow_to_sample_mapping"]):
            known[source].update(word for word in encoded.word_ids(window) if word is not None)
        unread = [len(words) - len(found) for found, words in zip(known, sentences, strict=True)]
        if not any(unread):
            return encoded, unread
        # a word that the tokenizer makes nothing of would shift the tags of all behind it: it is one unknown piece
        unknown = processor.unk_token or "?"
        whole = [
            [word if i in found else unknown for i, word in enumerate(words)]
            for found, words in zip(known, sentences, strict=True)
        ]
        return processor(whole, **options, return_overflowing_tokens=True), unread


TASK = TokenClassification()
