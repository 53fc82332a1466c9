"""ranking: a vector for each text, by which the one that belongs to it is found among all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hftransfer.answers import _ranks
from hftransfer.answers._ranks import MRR, NDCG, RECALL, by_rank
from hftransfer.answers._vectors import Found
from hftransfer.answers.base import Answer, Learner, Rows, Trivial
from hftransfer.errors import UserError
from hftransfer.views import Plot, Prose, View
from hftransfer.weighting import Metric

if TYPE_CHECKING:
    import pyarrow as pa

    from hftransfer.config import DataConfig

FEW, MANY = 20, 10  # texts in a column, and rows of each, that make one wonder whether they are labels
SHOWN = 3  # numbers of a vector that a line shows


class Asked(NamedTuple):
    """The vectors of a row's texts, and the numbers that tell equal texts; one of a kind until all rows are there."""

    query: np.ndarray
    found: np.ndarray | None
    asked: int
    right: int
    text: str


class Placed(NamedTuple):
    """A row's vector; the rank of its own text among `among`, its cosine, and the text that came first."""

    vector: tuple[float, ...]
    rank: int = 0
    among: int = 0
    score: float = 0.0
    first: str = ""


@dataclass(frozen=True)
class Ranking(Found):
    """Truth is a list of the texts to be found, outputs are a list of Placed."""

    temperature: float = 0.05
    rows: int = 0

    kind = "ranking"
    needs = "string"
    measures_untuned = True

    # --- truth ---

    def fits(self, feature: Any) -> bool:
        from hftransfer.column_types import STRINGS, is_value

        return is_value(feature, *STRINGS)

    def plausible(self, distinct: int, rows: int, named: bool) -> bool:
        return named

    def feature(self, encoded: bool = True) -> Any:
        from datasets import Value

        return Value("string")

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        import pyarrow as pa

        return raw if pa.types.is_string(raw.type) else raw.cast(pa.string())

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[str, Any]]:
        import pyarrow.compute as pc

        yield "no text to be found", pc.or_kleene(pc.is_null(truth), pc.equal(pc.utf8_trim_whitespace(truth), ""))
        if "negative" in inputs:
            yield "a negative that is its positive", pc.equal(inputs["negative"], truth)

    def suspicions(self, truth: pa.Array, inputs: Mapping[str, pa.Array], columns: Mapping[str, str]) -> list[str]:
        import pyarrow.compute as pc

        distinct = int(pc.count_distinct(truth).as_py())
        if distinct < 2:
            raise UserError(
                "a catalogue of two texts or more is needed", f"train has {distinct}", "Name another column."
            )
        for role, column in inputs.items():
            if bool(pc.all(pc.fill_null(pc.equal(column, truth), False)).as_py()):
                raise UserError(
                    f"a text to be found other than `{columns[role]}` is needed", "every row has the same as both",
                    "Name another column in data.columns.",
                )  # fmt: skip
        if distinct <= FEW and MANY * distinct <= len(truth):
            column = next((name for role, name in columns.items() if role not in inputs and role != "negative"), "it")
            return [
                f"`{column}` has {distinct} texts in {len(truth):,} rows: is it a label? It is taken for the text "
                "that is to be found; name another in data.columns.target, or train text-classification"
            ]
        return []

    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        return Count(self)

    # --- model ---

    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[Asked]:
        vectors = self.vectors(model, batch).numpy()
        told = zip(vectors, batch["_numbers"], batch["_positive"], strict=True)
        return [
            Asked(row[0], row[1] if len(row) > 1 else None, numbers[0], numbers[1] if len(row) > 1 else 0, text)
            for row, numbers, text in told
        ]

    def gathered(self, outputs: list[Asked]) -> list[Placed]:
        from hftransfer.answers import _nearness

        vectors = [tuple(row.query.tolist()) for row in outputs]
        known = [row.found for row in outputs if row.found is not None]
        if not outputs or len(known) < len(outputs):
            return [Placed(vector) for vector in vectors]
        ranks, scores, best, size = _nearness.ranked(
            np.stack([row.query for row in outputs]), np.stack(known),
            [row.asked for row in outputs], [row.right for row in outputs],
        )  # fmt: skip
        found = zip(vectors, ranks.tolist(), scores.tolist(), best.tolist(), strict=True)
        return [Placed(vector, rank, size, score, outputs[at].text) for vector, rank, score, at in found]

    # --- stored and scored ---

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        import pyarrow as pa

        return {
            "label": pa.array(list(truth), pa.string()),
            "prediction": pa.array([row.first for row in outputs], pa.string()),
            "rank": pa.array([row.rank for row in outputs], pa.int64()),
            "among": pa.array([row.among for row in outputs], pa.int64()),
            "score": pa.array([row.score for row in outputs], pa.float64()),
            "vector": pa.array([row.vector for row in outputs], pa.list_(pa.float32())),
        }

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        parts = (table[name].to_pylist() for name in ("vector", "rank", "among", "score", "prediction"))
        rows = [Placed(tuple(vector), *rest) for vector, *rest in zip(*parts, strict=True)]
        return table["label"].to_pylist(), rows

    def is_finite(self, output: Placed) -> bool:
        return bool(np.isfinite(output.vector).all()) and bool(np.isfinite(output.score))

    def outcomes(self, truth: Rows, outputs: Rows) -> Ranks:
        return Ranks(np.array([row.rank for row in outputs], np.int64))

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return ("ndcg_10", "recall_10", "recall_1", "mrr_10")

    @property
    def main_metric(self) -> str:
        return "ndcg_10"

    def differing(self, one: Rows, other: Rows, metric: str, theirs: Answer[Any] | None = None) -> int:
        return sum(a.rank != b.rank for a, b in zip(one, other, strict=True))

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        """Return what shared pieces of words find (TF-IDF of 2 to 4 characters); chance where no input is at hand."""
        from hftransfer.answers import _nearness

        asked = [_nearness.number_of(text) for text in (truth if rows is None else next(iter(rows.values())))]
        right = [_nearness.number_of(text) for text in truth]
        size = len(set(right))
        if rows is None:
            middle = [Placed((), (size + 1) // 2, size) for _ in truth]
            return Trivial("middle of the list", "ranks by nothing", middle)
        from sklearn.feature_extraction.text import TfidfVectorizer

        shared = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), max_features=20_000, dtype=np.float32)
        found = shared.fit_transform(list(truth))
        queries = shared.transform([str(text) for text in next(iter(rows.values()))])
        distinct, first, place = np.unique(right, return_index=True, return_inverse=True)
        named = {int(one): at for at, one in enumerate(distinct)}
        catalogue, outputs = found[first].T.tocsr(), []
        also: dict[int, list[int]] = {}
        for one, at in zip(asked, place, strict=True):
            also.setdefault(one, []).append(int(at))
        for start in range(0, len(truth), _nearness.BLOCK):
            near = (queries[start : start + _nearness.BLOCK] @ catalogue).toarray()
            for row, line in enumerate(near, start):
                own, itself = float(line[place[row]]), named.get(asked[row])
                if itself not in (None, int(place[row])):  # the question is no answer to itself
                    line[itself] = -1.0
                best = int(first[line.argmax()])
                line[[at for at in also[asked[row]] if at != place[row]]] = -1.0
                line[place[row]] = -1.0
                # of equal scores half come before: words in common with nobody are no success
                rank = 1 + int((line > own).sum()) + int((line == own).sum()) // 2
                outputs.append(Placed((), rank, size, own, truth[best]))
        return Trivial(
            "shared pieces of words", "ranks by TF-IDF of 2 to 4 characters, fitted on the catalogue", outputs
        )

    def plots(self, truth: Rows, outputs: Rows) -> Iterator[Plot]:
        said = f"{len(outputs):,} rows, a catalogue of {outputs[0].among:,} texts"
        yield _ranks.drawn([row.rank for row in outputs], "Ranks of the right texts", said)

    def badness(self, truth: Any, output: Placed) -> float:
        return 1.0 - 1.0 / max(output.rank, 1)

    # --- shown ---

    def to_json(self, row: Mapping[str, Any], output: Placed, top_k: int | None = None) -> dict[str, Any]:
        return {"vector": [float(np.float32(value)) for value in output.vector]}

    def view(self, answer: Mapping[str, Any]) -> View:
        vector = answer["vector"]
        return Prose(f"{len(vector)} numbers: {', '.join(f'{value:.3f}' for value in vector[:SHOWN])}, ...")

    def limits(self) -> list[str]:
        return [
            "It gives a text a vector of length 1: what belongs together has a high cosine. A cosine is no "
            "probability, and ranks depend on how many texts there are to choose from."
        ]

    # --- the artifact ---

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), **dataclasses.asdict(self)}

    def restore(self, noted: Mapping[str, Any]) -> Ranking:
        return Ranking(temperature=float(noted["temperature"]), rows=int(noted["rows"]))


class Count(Learner):
    """Counts rows: texts teach nothing before there is a model."""

    def __init__(self, answer: Ranking) -> None:
        self.answer, self.rows = answer, 0

    def add(self, truth: pa.Array) -> None:
        self.rows += len(truth)

    def learn(self) -> Ranking:
        return dataclasses.replace(self.answer, rows=self.rows)


class Ranks:
    """What each row contributes: its rank, (n,)."""

    def __init__(self, ranks: np.ndarray) -> None:
        self.n, self.gains = len(ranks), by_rank(ranks)


def _share(name: str) -> Any:
    return lambda sample: sample.mean(sample.outcomes.gains[name])


Ranking.METRICS = {
    "ndcg_10": NDCG,
    "recall_10": Metric(RECALL, _share("recall_10"), perfect=1.0, is_share=True),
    "recall_1": Metric("share of rows whose right text comes first", _share("recall_1"), perfect=1.0, is_share=True),
    "mrr_10": MRR,
}
ANSWER = Ranking()
