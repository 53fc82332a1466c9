"""ranked_items: the entries of a catalogue that fit, the best first: passages for a question, items for a person."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hftransfer.answers import _catalogue, _crowd, _nearest, _untaught
from hftransfer.answers._catalogue import FILE, Catalogue
from hftransfer.answers._crowd import Shares
from hftransfer.answers._lists import ITSELF, KEPT, NEAR, CountWrong, Listed, Relevant, listed, near_to
from hftransfer.answers._ranks import DEPTH, METRICS, Lists, by_rank
from hftransfer.answers._vectors import Found
from hftransfer.answers._weighed import Weighed
from hftransfer.answers.base import Learner, Rows, Trivial
from hftransfer.errors import UserError
from hftransfer.views import Items, Plot, Prose, View

if TYPE_CHECKING:
    import pyarrow as pa

    from hftransfer.answers._nearness import Offsets
    from hftransfer.config import DataConfig

FEWEST = 20  # people among the test rows
ARTIFACT = "artifact"  # the folder that is published; what lies beside it is not
HIDDEN = 50  # items of a history, the newest, that are no wrong answers in training: as many as a row of train keeps
PICTURES = 20  # of what somebody had, the newest, whose mean asks for what comes next


class Asked(NamedTuple):
    """The vector of a row's question, and the places of the entries that are no answer to it."""

    query: np.ndarray
    hidden: tuple[int, ...]


@dataclass(frozen=True)
class RankedItems(Weighed, Found):
    """Truth is a tuple of Relevant a row, outputs are Listed. `recommends`: rows are people, who had some before."""

    temperature: float = 0.05
    rows: int = 0
    size: int = 0  # entries of the catalogue
    negatives: int = 0  # wrong entries beside each right one in training
    known: np.ndarray | None = field(default=None, compare=False, repr=False)  # vectors of all entries (m, d)
    sequenced: bool = False  # whether histories are read as vectors of items, by a transformer of their own
    reader: Any = field(default=None, compare=False, repr=False)  # that transformer
    pictured: bool = False  # whether entries are seen, as pictures, and not read

    kind = "ranked_items"
    heeds = frozenset({"crowd"})
    needs = "list"
    measures_untuned = True

    # --- truth ---

    def fits(self, feature: Any) -> bool:
        from hftransfer.column_types import element, is_list

        return is_list(feature) and isinstance(element(feature), Mapping) and "id" in element(feature)

    def plausible(self, distinct: int, rows: int, named: bool) -> bool:
        return named

    def feature(self, encoded: bool = True) -> Any:
        from datasets import List, Value

        return List({"id": Value("string"), "grade": Value("float64"), "cold": Value("bool")})

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        return raw if raw.type == self.arrow_type else raw.cast(self.arrow_type)

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of a column of truth."""
        import pyarrow as pa

        return pa.list_(pa.struct({"id": pa.string(), "grade": pa.float64(), "cold": pa.bool_()}))

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[str, Any]]:
        known = self.catalogue.places if self.catalogue is not None else {}
        right = [[one["id"] for one in row or () if one["grade"] > 0] for row in truth.to_pylist()]
        yield "nothing that is right for it", [not row for row in right]
        yield "what is not in the catalogue", [any(name not in known for name in row) for row in right]

    def among(self, catalogue: Catalogue) -> RankedItems:
        catalogue.require_choice()
        return dataclasses.replace(self, catalogue=catalogue, size=len(catalogue))

    def with_negatives(self, count: int) -> RankedItems:
        return dataclasses.replace(self, negatives=count)

    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        return CountWrong(self)

    def refuse_unseen(self, truth: pa.Array, row_ids: pa.Array, split: str) -> None:
        if self.recommends and split == "test" and len(truth) < FEWEST:
            raise UserError(
                f"{FEWEST} people or more are needed in test", f"there are {len(truth)}",
                "Give more interactions, or a larger data.test_size: of fewer people no score says anything.",
            )  # fmt: skip

    def truth(self, encoded: pa.Array) -> Rows:
        return [
            tuple(Relevant(one["id"], one["grade"], bool(one["cold"])) for one in row or ())
            for row in encoded.to_pylist()
        ]

    # --- model ---

    def reads(
        self, processor: Any, settings: Any, generation: Any, trains: bool = True
    ) -> tuple[RankedItems, Any, list[str]]:
        from hftransfer.answers import _pictured

        if not self.recommends or self.catalogue is None:
            return self, processor, []
        pictured = _pictured.sees(processor)
        said = _pictured.require(self.catalogue, pictured, settings.model_type)
        return dataclasses.replace(self, pictured=pictured), processor, said

    @property
    def sees(self) -> bool:
        return self.pictured

    def attach(self, model: Any) -> Any:
        return model if self.pictured else super().attach(model)

    def beside(self, model: Any, preparation: Any) -> Mapping[str, str]:
        return {} if self.pictured else super().beside(model, preparation)

    @property
    def offsets(self) -> Offsets | None:
        if not self.recommends or self.catalogue is None or self.catalogue.histories is None:
            return None
        from hftransfer.answers import _nearness

        texts = self.catalogue.texts(range(len(self.catalogue)))
        return _nearness.Offsets.of(texts, self.catalogue.histories.counts)

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        """Return the numbers of an item's texts, and of those of a history: what was had is not recommended again."""
        found = super().targets(truth, encoded, processor, preparation)
        if truth is None or not self.recommends or self.catalogue is None:
            return found
        had = [[self.catalogue.numbers[at] for at in row[-HIDDEN:]] for row in encoded["_hidden"]]
        rows = zip(found["labels"], had, strict=True)
        return {"labels": [[*own, *gone, *[0] * (HIDDEN - len(gone))] for own, gone in rows]}

    def gone(self, labels: np.ndarray) -> np.ndarray | None:
        return labels[:, -HIDDEN:] if self.recommends else None

    def of_ranks(self, ranks: np.ndarray) -> dict[str, float]:
        found = by_rank(ranks)
        return {name: float(found[name.removesuffix("_own")].mean()) for name in self.validated}

    @property
    def validated(self) -> tuple[str, ...]:
        """Ranks among what is right for some validation row, not the whole catalogue: that would be read each time."""
        return ("ndcg_10_own", "recall_10_own", "mrr_10_own")

    @property
    def selects_by(self) -> str:
        return "ndcg_10_own"

    selects_higher = True

    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[Asked]:
        if self.pictured:  # who had what is asked of the vectors of pictures, in `gathered`
            return [Asked(np.zeros(0), tuple(hidden)) for hidden in batch["_hidden"]]
        vectors = self.vectors(model, batch).numpy()
        return [Asked(row[0], tuple(hidden)) for row, hidden in zip(vectors, batch["_hidden"], strict=True)]

    def entry(self, model: Any, batch: dict[str, Any]) -> list[np.ndarray]:
        if self.pictured:
            from hftransfer.answers import _pictured

            return list(_pictured.vectors(model, batch).numpy())
        return list(self.vectors(model, batch).numpy()[:, 0])

    def knowing(self, vectors: np.ndarray) -> RankedItems:
        return dataclasses.replace(self, known=vectors)

    @property
    def read_beside(self) -> bool:
        return self.sequenced

    @property
    def has_histories(self) -> bool:
        return self.recommends

    def of_sequences(self, vectors: np.ndarray) -> Any:
        from hftransfer.answers import _next_items

        return _next_items.learning(self, vectors)

    def reading(self, reader: Any) -> RankedItems:
        from hftransfer.answers import _next_items

        return dataclasses.replace(self, sequenced=True, reader=_next_items.plain(reader))

    def gathered(self, outputs: list[Asked]) -> list[Listed]:
        queries = [row.query for row in outputs]
        hidden = [row.hidden for row in outputs]
        if self.reader is not None and self.known is not None:
            from hftransfer.answers import _next_items

            queries = list(_next_items.queries(self.reader, self.known, hidden))
        elif self.pictured and self.known is not None:
            from hftransfer.answers import _pictured

            queries = _pictured.queries(self.known, hidden, PICTURES)
        plain = [one.astype(np.float32).tobytes() for one in queries]
        return self._listed(queries, plain, hidden)

    def _listed(self, queries: Any, plain: Sequence[bytes], hidden: Sequence[Sequence[int]]) -> list[Listed]:
        """Return the entries that fit best to queries (`plain`: their bytes), but for the hidden ones."""
        if self.known is None or not plain:
            return [Listed(vector) for vector in plain]
        assert self.catalogue is not None
        added = None if self.crowd is None else (self.crowd.popular, self.crowd.spoken(hidden))
        places, scores = _nearest.nearest(np.stack(queries), self.known, KEPT, hidden, added)
        return listed(self.catalogue, places, scores, plain, hidden, self.known if self.recommends else None)

    # --- stored and scored ---

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        import pyarrow as pa

        return {
            "label": pa.array([[one.id for one in row] for row in truth], pa.list_(pa.string())),
            "prediction": pa.array([row.ids[0] if row.ids else None for row in outputs], pa.string()),
            "grades": pa.array([[one.grade for one in row] for row in truth], pa.list_(pa.float64())),
            "cold": pa.array([[one.cold for one in row] for row in truth], pa.list_(pa.bool_())),
            "found": pa.array([row.ids for row in outputs], pa.list_(pa.string())),
            "scores": pa.array([row.scores for row in outputs], pa.list_(pa.float32())),
            "among": pa.array([row.among for row in outputs], pa.int64()),
            "popularity": pa.array([row.popularity for row in outputs], pa.list_(pa.float64())),
            "near": pa.array([row.near for row in outputs], pa.list_(pa.string())),
            "vector": pa.array([np.frombuffer(row.vector, np.float32) for row in outputs], pa.list_(pa.float32())),
        }

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        named = (table[name].to_pylist() for name in ("label", "grades", "cold"))
        truth = [tuple(map(Relevant, *row)) for row in zip(*named, strict=True)]
        parts = (table[name].to_pylist() for name in ("vector", "found", "scores", "among", "popularity", "near"))
        outputs = [
            Listed(np.array(vector, np.float32).tobytes(), tuple(ids), tuple(scores), among, tuple(known), tuple(near))
            for vector, ids, scores, among, known, near in zip(*parts, strict=True)
        ]
        return truth, outputs

    def is_finite(self, output: Listed) -> bool:
        return bool(np.isfinite(np.frombuffer(output.vector, np.float32)).all() and np.isfinite(output.scores).all())

    def outcomes(self, truth: Rows, outputs: Rows) -> Lists:
        return Lists(truth, outputs, self.size)

    @property
    def metrics(self) -> Mapping[str, Any]:
        people = ("ndcg_10_cold", "coverage_10", "popularity_10")
        return {name: metric for name, metric in METRICS.items() if self.recommends or name not in people}

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return tuple(self.metrics)

    @property
    def main_metric(self) -> str:
        return "ndcg_10"

    def differing(self, one: Rows, other: Rows, metric: str, theirs: Any = None) -> int:
        return sum(a.ids[:DEPTH] != b.ids[:DEPTH] for a, b in zip(one, other, strict=True))

    def is_constant(self, outputs: Rows) -> bool:
        return len({row.ids[:DEPTH] for row in outputs}) == 1 and bool(outputs[0].ids)

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        """Return what words in common find (BM25), or what is popular; nothing without a catalogue."""
        if self.catalogue is None or rows is None:
            return Trivial("nothing", "finds nothing", [Listed(b"", among=self.size) for _ in truth])
        return _untaught.simplest(self.catalogue, next(iter(rows.values())), self._itself(truth))

    def rivals(self, truth: Rows, rows: Any) -> list[Trivial]:
        if self.catalogue is None or rows is None:
            return []
        return _untaught.others(self.catalogue, next(iter(rows.values())), self._itself(truth))

    def _itself(self, truth: Rows) -> list[list[int]]:
        """Return the places of the entries that are the questions themselves."""
        known = {} if self.catalogue is None else self.catalogue.places
        return [[known[one.id] for one in row if one.grade == ITSELF and one.id in known] for row in truth]

    def plots(self, truth: Rows, outputs: Rows) -> Iterator[Plot]:
        values = Lists(truth, outputs, self.size).gains["ndcg_10"]
        counts, edges = np.histogram(values, bins=20, range=(0, 1))
        yield Plot(
            "ndcg", "nDCG@10 of each row", "histogram",
            {"headline": f"{len(values):,} rows, a catalogue of {self.size:,}", "axis": "nDCG@10",
             "edges": edges.tolist(), "counts": counts.tolist()},
        )  # fmt: skip

    def badness(self, truth: Any, output: Listed) -> float:
        return 1.0 - float(Lists([truth], [output], self.size).gains["ndcg_10"][0])

    # --- shown ---

    def to_json(self, row: Mapping[str, Any], output: Listed, top_k: int | None = None) -> dict[str, Any]:
        vector = [float(value) for value in np.frombuffer(output.vector, np.float32)]
        if self.catalogue is None:
            return {"vector": vector, "items": []}
        count = top_k or DEPTH
        ids, scores = output.ids[:count], output.scores[:count]
        near = [*output.near, *[None] * len(ids)]
        titles = self.catalogue.titles(ids)
        why = [None if name is None else self.catalogue.titles([name])[0] for name in near[: len(ids)]]
        items = [
            {"id": name, "title": title, "score": score} | ({} if because is None else {NEAR: because})
            for name, title, score, because in zip(ids, titles, scores, why, strict=True)
        ]
        return {"vector": vector, "items": items}

    def plainly(self, row: Mapping[str, Any], output: Listed) -> dict[str, Any]:
        return {"vector": [float(value) for value in np.frombuffer(output.vector, np.float32)]}

    def view(self, answer: Mapping[str, Any]) -> View:
        if answer.get("items"):
            return Items(tuple((one["title"], one["score"], near_to(one)) for one in answer["items"]))
        shown = ", ".join(f"{value:.3f}" for value in answer["vector"][:3])
        return Prose(f"{len(answer['vector'])} numbers: {shown}, ...; no catalogue lies beside this model")

    def limits(self) -> list[str]:
        what = "picture" if self.pictured else "text"
        said = [
            f"It gives a {what} a vector of length 1: what belongs together has a high cosine. A cosine is no "
            f"probability, and ranks depend on how many entries there are to choose from: here {self.size:,}."
        ]
        if self.recommends:
            by = "pictures" if self.pictured else "texts"
            said.append(f"It knows people by what they had, and items by their {by}: of nobody it knows a name.")
        if self.shares is not None and self.shares.counts:
            said.append(
                "A score is a cosine with something added for what many had, and for what those had who had the same: "
                "this part knows items by their ids, and nothing of other catalogues."
            )
        if self.sequenced:
            said.append("What somebody had is read by the transformer beside it, over the items' vectors.")
        return said

    # --- the artifact ---

    def to_dict(self) -> dict[str, Any]:
        told = ("temperature", "recommends", "rows", "size", "negatives", "sequenced", "pictured")
        more = {"shares": None if self.shares is None else self.shares._asdict(), "crowd": self.crowd is not None}
        return {**super().to_dict(), **{name: getattr(self, name) for name in told}, **more}

    def restore(self, noted: Mapping[str, Any]) -> RankedItems:
        return RankedItems(
            temperature=float(noted["temperature"]), recommends=bool(noted["recommends"]), rows=int(noted["rows"]),
            size=int(noted["size"]), negatives=int(noted["negatives"]), sequenced=bool(noted.get("sequenced")),
            pictured=bool(noted.get("pictured")), shares=Shares(**noted["shares"]) if noted.get("shares") else None,
        )  # fmt: skip

    def write_entries(self, artifact: Path) -> None:
        if self.catalogue is None or self.known is None:
            return
        # what people may be recommended is published; the passages of somebody's corpus stay with the run
        more = {} if self.crowd is None else _crowd.columns(self.crowd)
        _catalogue.write(self.catalogue, self.known, artifact if self.recommends else artifact.parent, more)
        if self.reader is not None:
            from hftransfer.answers import _next_items

            self.reader.save_pretrained(artifact / _next_items.FOLDER)

    def with_entries(self, artifact: Path) -> RankedItems:
        beside = [artifact.parent / FILE] if artifact.name == ARTIFACT else []
        path = next((path for path in (artifact / FILE, *beside) if path.is_file()), None)
        if path is None:
            return self
        catalogue, vectors, table = _catalogue.read(path)
        found = dataclasses.replace(self, catalogue=catalogue, known=vectors, crowd=_crowd.of_columns(table))
        if not self.sequenced:
            return found
        from hftransfer.answers import _next_items

        return dataclasses.replace(found, reader=_next_items.read(artifact))


RankedItems.METRICS = METRICS
ANSWER = RankedItems()
