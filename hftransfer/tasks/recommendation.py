"""recommendation: what somebody had, to the items of a catalogue that come next, the best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hftransfer.answers._catalogue import TITLE, Catalogue
from hftransfer.answers.ranked_items import PICTURES, RankedItems
from hftransfer.inputs.image import IMAGE
from hftransfer.inputs.item_history import HISTORY
from hftransfer.tasks import _vectors
from hftransfer.tasks.base import Preparation, Role, truth

READ = 20  # items of a history, the newest, that a model reads
BETWEEN = "; "


class Recommendation(_vectors.OfCatalogue):
    """A history as the text of its titles, the newest first, and items as texts: vectors of one encoder."""

    name = "recommendation"
    about = "what somebody had, to the items of a catalogue that come next, the best first"
    heeds = frozenset({"background", "cut", "depth", "window"})
    roles = (
        Role("history", HISTORY, "ids of what somebody had, the oldest first", ("history",)),
        truth("relevant", "what came next", ("relevant",)),
    )
    answers = (RankedItems(recommends=True),)
    reads = "interactions"
    tables_beside = ("item", "movie", "meta")
    carried = (*_vectors.OfCatalogue.carried, "history")

    @property
    def suffixes(self) -> frozenset[str]:
        """Those of pictures, which a table of items may name."""
        return IMAGE.suffixes

    def reader(self, settings: Any) -> tuple[str, Mapping[str, Any]]:
        """Return what reads for a model: of one that sees and reads no texts, what prepares pictures."""
        from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES as SEES
        from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES as READS

        if settings.model_type in SEES and settings.model_type not in READS:
            return "AutoImageProcessor", {"backend": "pil"}
        return super().reader(settings)

    def listed(self, answer: Mapping[str, Any]) -> tuple[str, str]:
        """Return the library and the tag: of what sees, those of picture encoders."""
        return ("transformers", "image-feature-extraction") if answer.get("pictured") else super().listed(answer)

    def items(
        self, rows: Mapping[str, list[Any]], truth: list[Any] | None, processor: Any, preparation: Preparation
    ) -> dict[str, Any]:
        """Tokenize each history with an item that came next; what it holds is no answer."""
        catalogue, size = preparation.answer.catalogue, preparation.config.history or READ
        assert catalogue is not None
        had = [catalogue.listed(history) for history in rows["history"]]
        if preparation.answer.sees:
            return {"_row": list(range(len(had))), "_hidden": had, "_length": [1] * len(had)}
        return self.asked(_read(catalogue, had, size), had, truth, processor, preparation)

    def seen(self, pictures: list[Any], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Resize and normalise pictures of entries; of one that has none nothing is made."""
        import PIL.Image

        none = PIL.Image.new("RGB", (32, 32))
        shown = [none if one is None else IMAGE.opened(one, preparation.config) for one in pictures]
        values = processor(images=shown, return_tensors="pt")["pixel_values"]
        return {"pixel_values": values, "_nothing": [one is None for one in pictures]}

    def snippet(
        self, place: str, row: Mapping[str, str], notes: Mapping[str, Any], revision: str | None = None
    ) -> str:
        """Take the titles of a history, newest first, and rank the items' vectors by the cosine with its own."""
        at = "" if revision is None else f", revision={revision}"
        if notes["answer"].get("sequenced"):
            return _of_vectors(place, row, at) + _ranked("query.numpy()", notes)
        if notes["answer"].get("pictured"):
            return _of_means(place, row, at) + _ranked("query", notes)
        size = notes.get("carried", {}).get("history") or READ
        given = f"[{row['history']}]" if row["history"].startswith('"') else row["history"]  # one item is a list
        before = f"""import numpy
import pandas
from transformers.utils import cached_file

items = pandas.read_parquet(cached_file({place}, "items.parquet"{at})).set_index("id")
history = {given}  # ids, the newest last
text = "{BETWEEN}".join(items.title[name] for name in history[-{size}:][::-1])
"""
        after = """vectors[0].tolist()
""" + _ranked("vectors[0].numpy()", notes)
        length = int(notes.get("max_length") or 512)
        return before + _vectors.asked_alone(place, _vectors.behind_prefix("text", notes), after, length, revision)


def _ranked(query: str, notes: Mapping[str, Any]) -> str:
    """Return the lines that rank items by a query, and by what people had where that counts."""
    counts = bool(notes["answer"].get("crowd"))
    beside = """scores += items.popular.to_numpy()
for row in items.index.get_indexer(history):  # what goes with what was had
    scores[items.others.iloc[row]] += items.weights.iloc[row]
"""
    return (
        f"scores = numpy.stack(items.vector) @ {query}\n"
        + (beside if counts else "")
        + "ranked = pandas.Series(scores, items.index).drop(history).nlargest(10)  # ids with their "
        + ("scores" if counts else "cosines")
    )


def _of_means(place: str, row: Mapping[str, str], at: str) -> str:
    """Return the lines that rank items by the mean of the vectors of those in a history."""
    given = f"[{row['history']}]" if row["history"].startswith('"') else row["history"]
    return f"""import numpy
import pandas
from transformers.utils import cached_file

items = pandas.read_parquet(cached_file({place}, "items.parquet"{at})).set_index("id")
history = {given}  # ids, the newest last
query = numpy.mean(numpy.stack(items.vector[history[-{PICTURES}:]]), axis=0)
query /= numpy.linalg.norm(query)
answer = query.tolist()
"""


def _of_vectors(place: str, row: Mapping[str, str], at: str) -> str:
    """Return the lines by which transformers alone reads a history as vectors of its items."""
    given = f"[{row['history']}]" if row["history"].startswith('"') else row["history"]
    return f"""import numpy
import pandas
import torch
from transformers import AutoModel
from transformers.utils import cached_file

items = pandas.read_parquet(cached_file({place}, "items.parquet"{at})).set_index("id")
reader = AutoModel.from_pretrained({place}{at}, subfolder="histories")
history = {given}  # ids, the newest last
had = torch.from_numpy(numpy.stack(items.vector[history[-50:]]))
with torch.no_grad():
    states = reader(inputs_embeds=had[None]).last_hidden_state
query = torch.nn.functional.normalize(states[0, -1], dim=-1)
answer = query.tolist()
"""


def _read(catalogue: Catalogue, had: Sequence[Sequence[int]], size: int) -> list[str]:
    """Return what a model reads of histories: titles, the newest first, so that a cut takes the oldest."""
    newest = [list(history[-size:])[::-1] for history in had]
    flat = [place for history in newest for place in history]
    titles = iter(catalogue.titles([catalogue.ids[place] for place in flat]))
    return [BETWEEN.join(next(titles)[:TITLE] for _ in history) for history in newest]


TASK = Recommendation()
