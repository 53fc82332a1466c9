"""sentence-similarity: a text to a vector, near to those of texts that belong to it or are like it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hftransfer.answers.likeness import Likeness
from hftransfer.answers.ranking import Ranking
from hftransfer.errors import UserError
from hftransfer.inputs.text import TEXT
from hftransfer.tasks import _vectors
from hftransfer.tasks.base import Preparation, Role, Task, truth


class SentenceSimilarity(Task):
    """Texts side by side in one row of tokens, each read by itself: the mean of its tokens, of length 1."""

    name = "sentence-similarity"
    about = "a text to a vector, near to those of texts that belong to it"
    roles = (
        Role("anchor", TEXT, "a text", ("anchor", "query", "question", "sentence1", "text1", "text")),
        Role("compared", TEXT, "a text that it is compared with, where scores say how near the two are",
             ("compared", "sentence2", "text2", "positive"), required=False),
        Role("negative", TEXT, "a text that does not belong to it", ("negative", "neg"), required=False,
             teaches=True),
        truth("target", "the text that belongs to it, or a number: how near the two are", ("target", "score",
              "similarity_score", "similarity", "label", "positive", "pos", "passage", "answer", "sentence2", "text2",
              "document")),
    )  # fmt: skip
    answers = (Ranking(), Likeness())
    known_models = _vectors.ENCODERS
    library = "sentence-transformers"
    carried: ClassVar = ("prefix", "entry_prefix")
    browser = "feature-extraction"
    browser_options: ClassVar = {"pooling": "mean", "normalize": True}  # the mean of the tokens, of length 1
    browser_takes_all = True  # each by itself
    auto_model, auto_processor = "AutoModel", "AutoTokenizer"
    processor_options: ClassVar = {"padding_side": "right"}  # the parts of a row are counted from the left

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Tokenize what is asked about."""
        return self.items(rows, None, processor, preparation)

    def items(
        self, rows: Mapping[str, list[Any]], truth: list[Any] | None, processor: Any, preparation: Preparation
    ) -> dict[str, Any]:
        """Tokenize the texts of a row one after the other; `parts` are their lengths, `_numbers` tell equal texts."""
        columns, config = {"anchor": rows["anchor"]}, preparation.config
        first, second = config.prefix or "", config.entry_prefix or ""
        if not preparation.answer.compares:  # a pair has a score of its own, and its texts are of one kind
            second = first
            columns["compared"] = rows.get("compared", [""] * len(rows["anchor"]))
            if not all(text.strip() for text in columns["compared"]):
                raise UserError(
                    "two texts are needed, whose likeness is scored", "one of them is empty, or not there",
                    'Give both: {"anchor": ..., "compared": ...}; of the data, name it in data.columns.compared.',
                )  # fmt: skip
        elif truth is not None:
            columns |= {"target": truth} | ({"negative": rows["negative"]} if "negative" in rows else {})
        before = [first, *[second] * (len(columns) - 1)]
        found = _vectors.side_by_side(list(columns.values()), processor, preparation.max_length, before)
        found["_positive"] = list(columns.get("target", [""] * len(rows["anchor"])))
        return found | preparation.answer.targets(truth, found, processor, preparation)

    def snippet(
        self, place: str, row: Mapping[str, str], notes: Mapping[str, Any], revision: str | None = None
    ) -> str:
        """Take the mean of the tokens' states, of length 1: what SentenceTransformer does with the same folder."""
        scored = notes["answer"]["kind"] == Likeness.kind
        texts = ", ".join(_vectors.behind_prefix(row[name], notes) for name in ("anchor", *["compared"] * scored))
        answer = "(vectors[0] @ vectors[1]).item()" if scored else "vectors[0].tolist()"
        return _vectors.asked_alone(place, texts, answer, int(notes.get("max_length") or 512), revision)


TASK = SentenceSimilarity()
