"""retrieval: a question to the passages of a corpus that answer it, the best first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hftransfer.answers._lists import ITSELF
from hftransfer.answers.ranked_items import RankedItems
from hftransfer.inputs.text import TEXT
from hftransfer.tasks import _vectors
from hftransfer.tasks.base import Preparation, Role, truth


class Retrieval(_vectors.OfCatalogue):
    """Questions and passages as vectors of one encoder: the mean of their tokens, of length 1."""

    name = "retrieval"
    about = "a question to the passages of a corpus that answer it, the best first"
    heeds = frozenset({"background", "depth", "window"})
    roles = (
        Role("query", TEXT, "a question", ("query", "question", "anchor", "sentence1", "text1", "text")),
        truth("relevant", "the passage that answers it, several, or their ids in a corpus", ("relevant", "positive",
              "pos", "passage", "document", "answer", "context", "sentence2", "text2", "target")),
    )  # fmt: skip
    answers = (RankedItems(),)
    reads = "collection"

    def items(
        self, rows: Mapping[str, list[Any]], truth: list[Any] | None, processor: Any, preparation: Preparation
    ) -> dict[str, Any]:
        """Tokenize each question with a passage that answers it, and with wrong ones where rows of train have some."""
        catalogue = preparation.answer.catalogue
        places = {} if catalogue is None else catalogue.places
        itself = [
            [places[one["id"]] for one in row if one["grade"] == ITSELF and one["id"] in places]
            for row in (truth or [()] * len(rows["query"]))
        ]
        return self.asked(rows["query"], itself, truth, processor, preparation)

    def snippet(
        self, place: str, row: Mapping[str, str], notes: Mapping[str, Any], revision: str | None = None
    ) -> str:
        """Take the mean of the tokens' states, of length 1: what SentenceTransformer does with the same folder."""
        length = int(notes.get("max_length") or 512)
        return _vectors.asked_alone(
            place, _vectors.behind_prefix(row["query"], notes), "vectors[0].tolist()", length, revision
        )


TASK = Retrieval()
