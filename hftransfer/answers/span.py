"""span: a part of a text that was shown, or none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hftransfer.answers import _references, _spans, _texts
from hftransfer.answers._references import References
from hftransfer.answers._spans import IGNORED, Place
from hftransfer.answers.base import Answer, Learner, Loss, Rows, Trivial
from hftransfer.errors import UserError
from hftransfer.views import Marked, Plot, View

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hftransfer.config import DataConfig, EvaluationConfig

USUAL = 30  # tokens of a span at most, where those of train are no longer (SQuAD's own)
NEVER = -1e9  # the score of no answer where there must be one
FEWEST = 10  # validation rows of either sort; a threshold chosen on less says more about chance than about the model


class Found(NamedTuple):
    """The best parts of a row's text, and the score of there being none."""

    places: tuple[Place, ...]
    none: float


@dataclass(frozen=True)
class Span(Answer[Found]):
    """Truth is a list of the texts that would be right (empty: there is no answer), outputs are a list of Found.

    `within` is the role of the text. Where train has rows without an answer, none is answered where its score is more
    than `threshold` above that of the best part.
    """

    within: str = "context"
    rows: int = 0
    unanswerable: int = 0  # of train's rows
    longest: int = USUAL  # tokens of a part at most
    threshold: float = 0.0

    kind = "span"
    needs = "text with its place, a list of them, or a string"
    contradicts = False
    names = ()
    counts = ()
    makes_head = True
    judged_by = "f1_words"
    selects_higher = True

    # --- truth ---

    def fits(self, feature: Any) -> bool:
        return _spans.holds_spans(feature)

    def plausible(self, distinct: int, rows: int, named: bool) -> bool:
        return named

    def formed(self, values: pa.Array | None, feature: Any, column: str, config: DataConfig) -> tuple[Span, list[str]]:
        if _spans.starts_of(feature) is not None:
            return self, []
        return self, [f"`{column}` does not say where an answer stands: the first place that has its text is learnt"]

    def feature(self, encoded: bool = True) -> Any:
        from datasets import List, Value

        return List({"text": Value("string"), "start": Value("int64")})

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        return _spans.references(raw, feature)

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[str, Any]]:
        import pyarrow.compute as pc

        yield "no answer given (an empty list says that there is none)", pc.is_null(truth)
        absent, elsewhere = _spans.faults(truth.to_pylist(), inputs[self.within].to_pylist())
        yield f"an answer that is not in its {self.within}", absent
        yield f"an answer that does not stand where it says in its {self.within} (counted in characters)", elsewhere

    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        return Answerable(self)

    def truth(self, encoded: pa.Array) -> list[tuple[str, ...]]:
        return [tuple(one["text"] for one in row or ()) for row in encoded.to_pylist()]

    def strata(self, encoded: pa.Array) -> np.ndarray | None:
        if not self.unanswerable:
            return None
        import pyarrow.compute as pc

        return np.asarray(pc.equal(pc.list_value_length(encoded), 0).to_numpy(zero_copy_only=False), np.int64)

    # --- model ---

    def configure(self, settings: Any) -> None:
        if settings.num_labels != 2:  # the head's width, of a start and an end: what a classifier left there breaks it
            settings.num_labels = 2

    def limited(self, evaluation: EvaluationConfig, lengths: np.ndarray | None, settings: Any) -> Span:
        longest = 0 if lengths is None or not len(lengths) else int(lengths.max())
        return dataclasses.replace(self, longest=max(USUAL, longest))

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        """Return the first and last token of each window's answer, or twice the token that stands for none."""
        if truth is None:
            return {}
        windows = zip(*(encoded[name] for name in ("_row", "_text", "_at", "_places", "_first", "_none")), strict=True)
        found = []
        known: dict[int, dict[str, int]] = {}
        for row, text, at, places, first, none in windows:
            told = _spans.at_first(truth[row], text, at, known.setdefault(row, {}))
            held = _spans.within_window(told, text, at, np.reshape(places, (-1, 2)), first)
            found.append((row, held, none))
        whole = {row for row, held, _ in found if held is not None}
        labels = [
            list(held) if held is not None else [none] * 2 if row in whole or not truth[row] else [IGNORED] * 2
            for row, held, none in found
        ]
        return {
            "labels": labels,
            "_target_length": [0 if held is None else held[1] - held[0] + 1 for _, held, _ in found],
        }

    def attach(self, model: Any) -> Any:
        """Take the padding out of the choice: a loss over it would depend on which rows share a batch."""
        model.register_forward_hook(_spans.without_padding, with_kwargs=True)
        return model

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        def loss(outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            count = (targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
            first, last = (outputs[name].float() for name in ("start_logits", "end_logits"))
            total = _spans.missed(first, targets[:, 0], smoothing) + _spans.missed(last, targets[:, 1], smoothing)
            return total / count.clamp(min=1)

        return loss

    def reduce(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        """Return for each window whether both ends are right, and the F1 of its tokens."""
        import torch

        first, last = (side.argmax(dim=-1) for side in logits[:2])
        shared = (torch.minimum(last, labels[:, 1]) - torch.maximum(first, labels[:, 0]) + 1).clamp(min=0)
        both = (last - first + 1).clamp(min=0) + labels[:, 1] - labels[:, 0] + 1
        right = (first == labels[:, 0]) & (last == labels[:, 1])
        return torch.stack([right.float(), 2 * shared / both], dim=-1)

    @property
    def selects_by(self) -> str:
        return "f1_tokens"  # of windows: what a row's windows say together is measured once, at the end

    @property
    def validated(self) -> tuple[str, ...]:
        return ("f1_tokens", "exact_tokens")

    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        known = labels[:, 0] != IGNORED
        exact, f1 = np.asarray(kept, np.float64)[known].mean(axis=0)
        return {"f1_tokens": float(f1), "exact_tokens": float(exact)}

    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[Found]:
        shown = {name: value for name, value in batch.items() if name != "labels" and not name.startswith("_")}
        outputs = model(**shown)
        starts, ends = (outputs[name].float().cpu() for name in ("start_logits", "end_logits"))
        return [
            self.found(starts[i], ends[i], batch["_text"][i], batch["_at"][i], places, batch["_first"][i], none)
            for i, (places, none) in enumerate(zip(batch["_places"], batch["_none"], strict=True))
        ]

    def found(
        self, starts: torch.Tensor, ends: torch.Tensor, text: str, at: int, places: Any, first: int, none: int
    ) -> Found:
        """Return the best places of a window from its logits (tokens,); see `_spans.within_window`."""
        characters = np.reshape(places, (-1, 2))
        inside = slice(first, first + len(characters))
        kept = []
        for one, other, score in _spans.best(starts[inside], ends[inside], self.longest):
            start, end = int(characters[one, 0]), int(characters[other, 1])
            said = text[start:end]
            start += len(said) - len(said.lstrip())
            if said.strip():
                kept.append(Place(said.strip(), at + start, at + start + len(said.strip()), score))
        return Found(tuple(kept), float(starts[none] + ends[none]))

    def join(self, parts: Sequence[Found]) -> Found:
        return Found(_spans.joined([part.places for part in parts]), min(part.none for part in parts))

    # --- decided ---

    def margin(self, output: Found) -> float:
        """Return by how much none is surer than the best place."""
        return output.none - output.places[0].score if output.places else float("inf")

    def given(self, output: Found) -> Place | None:
        """Return the place that is answered; None for no answer."""
        if not output.places or (self.unanswerable and self.margin(output) > self.threshold):
            return None
        return output.places[0]

    def texts(self, outputs: Rows) -> list[str]:
        """Return what is answered, an empty text for no answer."""
        return [place.text if (place := self.given(output)) else "" for output in outputs]

    def shares(self, output: Found) -> tuple[list[float], float]:
        """Return the probability of each place kept and of none, among themselves."""
        logits = np.array([place.score for place in output.places] + [output.none] * bool(self.unanswerable))
        if not len(logits):
            return [], 1.0
        odds = np.exp(logits - logits.max())
        shares = (odds / odds.sum()).tolist()
        return (shares[:-1], shares[-1]) if self.unanswerable else (shares, 0.0)

    def placed(self, truth: Rows, outputs: Rows) -> Span:
        """Choose the threshold with the best F1 (Rajpurkar et al. 2018); the one nearest to 0 of equal ones."""
        without = sum(not references for references in truth)
        if not self.unanswerable or min(without, len(truth) - without) < FEWEST:
            return self
        margins = np.array([self.margin(output) for output in outputs])
        told = [output.places[0].text if output.places else "" for output in outputs]
        answered = np.array([_references.compared(*pair)[1] for pair in zip(told, truth, strict=True)])
        silent = np.array([float(not references) for references in truth])
        order = np.argsort(margins, kind="stable")
        margins, gains = margins[order], (answered - silent)[order]
        scores = silent.sum() + np.concatenate([[0.0], np.cumsum(gains)])  # where the first n are answered
        edges = np.concatenate([[margins[0] - 1], margins, [margins[-1] + 1]])
        between = np.array([_between(low, high) for low, high in pairwise(edges)])
        apart = edges[1:] > edges[:-1]
        best = np.flatnonzero(apart & np.isfinite(between) & np.isclose(scores, scores[apart].max()))
        if not len(best):
            return self
        return dataclasses.replace(self, threshold=float(min(between[best], key=abs)))

    @property
    def unplaced(self) -> Span:
        return dataclasses.replace(self, threshold=0.0)

    # --- stored and scored ---

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        import pyarrow as pa

        place = pa.struct([("text", pa.string()), ("start", pa.int64()), ("end", pa.int64()), ("score", pa.float64())])
        return {
            "label": pa.array([list(row) for row in truth], pa.list_(pa.string())),
            "prediction": pa.array(self.texts(outputs), pa.string()),
            "places": pa.array([[one._asdict() for one in row.places] for row in outputs], pa.list_(place)),
            "none": pa.array([row.none for row in outputs], pa.float64()),
        }

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        truth = [tuple(row) for row in table["label"].to_pylist()]
        rows = zip(table["places"].to_pylist(), table["none"].to_pylist(), strict=True)
        return truth, [Found(tuple(Place(**one) for one in places), none) for places, none in rows]

    def plain(self, truth: Rows, outputs: Rows, as_text: bool) -> tuple[list[Any], list[Any]]:
        return [row[0] if row else "" for row in truth], self.texts(outputs)

    def is_finite(self, output: Found) -> bool:
        return bool(np.isfinite([output.none, *(place.score for place in output.places)]).all())

    def outcomes(self, truth: Rows, outputs: Rows) -> References:
        return References(self.texts(outputs), truth)

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return ("f1_words", "exact", *(("f1_answerable", "exact_unanswerable") if self.unanswerable else ()))

    @property
    def main_metric(self) -> str:
        return "f1_words"

    def differing(self, one: Rows, other: Rows, metric: str, theirs: Answer[Found] | None = None) -> int:
        judged = theirs if isinstance(theirs, Span) else self
        return sum(a != b for a, b in zip(self.texts(one), judged.texts(other), strict=True))

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        """Return the better one of no answer and the first sentence."""
        silent = Trivial("no answer", "never answers", [Found((), 0.0)] * len(truth))
        if rows is None:
            return silent
        led = [_texts.leading(text, 1) for text in rows[self.within]]
        places = [Found((Place(text, 0, len(text), 0.0),) if text else (), NEVER) for text in led]
        first = Trivial("first sentence", f"answers with the first sentence of the {self.within}", places)
        one, other = (self.outcomes(truth, found.outputs).f1.sum() for found in (silent, first))
        return silent if one > other else first

    def plots(self, truth: Rows, outputs: Rows) -> Iterator[Plot]:
        found = self.outcomes(truth, outputs).f1
        counts, edges = np.histogram(found, bins=20, range=(0, 1))
        yield Plot(
            "f1_by_row", "F1 of single test rows", "histogram",
            {"headline": f"{len(found):,} rows, F1 of words of each", "axis": "F1 of words", "edges": edges.tolist(),
             "counts": counts.tolist()},
        )  # fmt: skip

    def is_constant(self, outputs: Rows) -> bool:
        return len(set(self.texts(outputs))) == 1

    def badness(self, truth: Any, output: Found) -> float:
        return 1.0 - _references.compared(self.texts([output])[0], truth)[1]

    def sureness(self, output: Found) -> float | None:
        places, none = self.shares(output)
        return none if self.given(output) is None else places[0]

    # --- shown ---

    def to_json(self, row: Mapping[str, Any], output: Found, top_k: int | None = None) -> dict[str, Any]:
        place, (shares, none) = self.given(output), self.shares(output)
        text, start, end = (place.text, place.start, place.end) if place else ("", 0, 0)
        others = [
            {"answer": one.text, "start": one.start, "end": one.end, "score": round(share, 6)}
            for one, share in zip(output.places, shares, strict=True)
        ]
        return {
            "answer": text, "start": start, "end": end, "score": round(shares[0] if place else none, 6),
            "answers": others if top_k is None else others[:top_k],
            self.within: row.get(self.within, ""),
        }  # fmt: skip

    def view(self, answer: Mapping[str, Any]) -> View:
        text, start, end = answer[self.within], answer["start"], answer["end"]
        parts = [(text[:start], None, None), (text[start:end], "answer", answer["score"]), (text[end:], None, None)]
        return Marked(tuple(part for part in parts if part[0]) or (("", None, None),), said=answer["answer"])

    def limits(self) -> list[str]:
        found = [f"It answers with a part of the {self.within}, of at most {self.longest} tokens, word for word."]
        if not self.unanswerable:
            return [*found, f"It always answers: no row of train said that the {self.within} holds no answer."]
        return [
            *found,
            f"It answers nothing where the score of none is more than {self.threshold:.4g} above that of the best "
            "part, as was best on the validation rows.",
        ]

    def distance(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
        if one["answer"] != other["answer"]:
            return 1.0
        return abs(one["score"] - other["score"]) if "score" in one and "score" in other else 0.0

    may_differ = 0.05  # two places of all but equal scores fall either way by rounding

    # --- the artifact ---

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), **dataclasses.asdict(self)}

    def restore(self, noted: Mapping[str, Any]) -> Span:
        known = {field.name for field in dataclasses.fields(self)}
        return Span(**{name: value for name, value in noted.items() if name in known})


class Answerable(Learner):
    """Counts the rows without an answer."""

    def __init__(self, answer: Span) -> None:
        self.answer, self.rows, self.without = answer, 0, 0

    def add(self, truth: pa.Array) -> None:
        import pyarrow.compute as pc

        self.rows += len(truth)
        self.without += int(pc.sum(pc.equal(pc.list_value_length(truth), 0)).as_py() or 0)

    def learn(self) -> Span:
        if self.rows == self.without:
            found = "there is none" if not self.rows else "every row of train has none"
            raise UserError("answers to learn are needed", found, "Name another column in data.columns.")
        return dataclasses.replace(self.answer, rows=self.rows, unanswerable=self.without)


def _between(low: float, high: float) -> float:
    """Return what lies between two margins; a row without any place is infinitely far."""
    return low + 1 if np.isfinite(low) and not np.isfinite(high) else (low + high) / 2


Span.METRICS = _references.METRICS
ANSWER = Span()
