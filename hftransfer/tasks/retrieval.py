"""retrieval: a question to the passages of a corpus that answer it, the best first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hftransfer.answers.ranked_items import RankedItems
from hftransfer.inputs.text import TEXT
from hftransfer.tasks import _vectors
from hftransfer.tasks.base import Preparation, Role, Task, truth


class Retrieval(Task):
    """Questions and passages as vectors of one encoder: the mean of their tokens, of length 1."""

    name = "retrieval"
    about = "a question to the passages of a corpus that answer it, the best first"
    roles = (
        Role("query", TEXT, "a question", ("query", "question", "anchor", "sentence1", "text1", "text")),
        truth("relevant", "the passage that answers it, several, or their ids in a corpus", ("relevant", "positive",
              "pos", "passage", "document", "answer", "context", "sentence2", "text2", "target")),
    )  # fmt: skip
    answers = (RankedItems(),)
    reads = "collection"
    by_length = False
    known_models = _vectors.ENCODERS
    library = "sentence-transformers"
    tag = "sentence-similarity"
    auto_model, auto_processor = "AutoModel", "AutoTokenizer"
    processor_options: ClassVar = {"padding_side": "right"}  # the parts of a row are counted from the left

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Tokenize the questions."""
        return self.items(rows, None, processor, preparation)

    def items(
        self, rows: Mapping[str, list[Any]], truth: list[Any] | None, processor: Any, preparation: Preparation
    ) -> dict[str, Any]:
        """Tokenize each question with a passage that answers it, and with wrong ones where rows of train have some."""
        owner, columns = list(range(len(rows["query"]))), [rows["query"]]
        if truth is not None:
            owner, columns = _vectors.choices(rows["query"], truth, preparation)
        found = _vectors.side_by_side(columns, processor, preparation.max_length)
        found |= {"_row": owner, "_hidden": [[] for _ in owner]}
        return found | preparation.answer.targets(truth, found, processor, preparation)

    def entries(self, texts: list[str], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Tokenize passages."""
        return _vectors.side_by_side([texts], processor, preparation.max_length)

    def snippet(
        self, place: str, row: Mapping[str, str], notes: Mapping[str, Any], revision: str | None = None
    ) -> str:
        """Take the mean of the tokens' states, of length 1: what SentenceTransformer does with the same folder."""
        length = int(notes.get("max_length") or 512)
        return _vectors.asked_alone(place, row["query"], "vectors[0].tolist()", length, revision)


TASK = Retrieval()
