"""What kinds have in common that answer with a text that a decoder writes: how it is learnt, written and scored."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np

from hftransfer import processors
from hftransfer.answers import _written
from hftransfer.answers._written import Written
from hftransfer.answers.base import Answer, Learner, Loss, Rows, Trivial
from hftransfer.errors import UserError
from hftransfer.views import Plot, View
from hftransfer.views import Prose as Shown
from hftransfer.weighting import Metric, Sample

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hftransfer.config import DataConfig, EvaluationConfig
from hftransfer.answers._decoder import (
    IGNORED,
    decoder_places,
    shifted,
    sums_of,
    unmarked,
    with_decoder_inputs,
)
from hftransfer.answers._texts import Texts, leading

NEW_TOKENS = 128  # that are written where neither train, the config nor the model says how many
ROOM = 1.5  # times the longest target of train may be written
MARK = re.compile(r"^(__[a-z]{2,3}__\s*)+")  # a language's token that some tokenizers do not take for a special one


class Generated(NamedTuple):
    """What a model wrote, and what it makes of the true text: its negative log likelihood in nats, over its tokens."""

    text: str
    nll: float = float("nan")
    tokens: int = 0


@dataclass(frozen=True)
class Prose(Answer[Generated]):
    """Truth is a list of texts, outputs are a list of Generated.

    A task chooses which metrics count, the main one first, and the trivial answer: the most common text, a copy of the
    first input, or its leading sentences.
    """

    metric_names: tuple[str, ...] = ("chrf", "bleu", "exact_match", "perplexity")
    trivial: Literal["most_common", "copy", "lead"] = "most_common"
    most_common: str = ""
    lead: int = 1  # words of the middle truth of train
    tokenize: str = "13a"  # how BLEU cuts words, by sacrebleu's name
    max_new_tokens: int | None = None
    num_beams: int | None = None
    marks: tuple[int, ...] = ()  # tokens of language and the like: no part of a text, and not scored

    needs = "string"
    contradicts = False
    generates = True
    sums = True
    names = ()
    counts = ()
    METRICS: ClassVar[Mapping[str, Metric]] = _written.METRICS
    padding: ClassVar[Mapping[str, int]] = {"labels": IGNORED, "targets": IGNORED}
    selects_higher = False

    # --- truth ---

    def fits(self, feature: Any) -> bool:
        from hftransfer.column_types import STRINGS, is_value

        return is_value(feature, *STRINGS)

    def plausible(self, distinct: int, rows: int, named: bool) -> bool:
        return named or rows < 6 or 3 * distinct > rows

    def feature(self, encoded: bool = True) -> Any:
        from datasets import Value

        return Value("string")

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        import pyarrow as pa

        return raw if pa.types.is_string(raw.type) else raw.cast(pa.string())

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[str, Any]]:
        import pyarrow.compute as pc

        yield "no text to learn", pc.or_kleene(pc.is_null(truth), pc.equal(pc.utf8_trim_whitespace(truth), ""))

    def suspicions(self, truth: pa.Array, inputs: Mapping[str, pa.Array], columns: Mapping[str, str]) -> list[str]:
        import pyarrow.compute as pc

        found = []
        for role, column in inputs.items():
            same = int(pc.sum(pc.fill_null(pc.equal(column, truth), False)).as_py() or 0)
            if same == len(truth):
                named = f"`{columns[role]}`"
                raise UserError(
                    f"a target other than {named} is needed", "every row has the same text as both",
                    "Name another column in data.columns.",
                )  # fmt: skip
            if 2 * same > len(truth):
                found.append(f"train: {same} of {len(truth)} targets are their input, word for word")
        return found

    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        return Texts(self)

    # --- model ---

    def reads(
        self, processor: Any, settings: Any, generation: Any, trains: bool = True
    ) -> tuple[Self, Any, list[str]]:
        mark = processors.language_token(processors.require_tokenizer(processor))
        return dataclasses.replace(self, marks=() if mark is None else (mark,)), processor, []

    def limited(self, evaluation: EvaluationConfig, lengths: np.ndarray | None, settings: Any) -> Prose:
        longest = None if lengths is None or not len(lengths) else int(lengths.max())
        asked = evaluation.max_new_tokens
        wanted = asked or (None if longest is None else max(8, math.ceil(ROOM * longest)))
        places = decoder_places(settings)
        if asked is not None and places is not None and asked >= places:
            raise UserError(
                f"evaluation.max_new_tokens must be below {places}, the places of the model's decoder",
                f"it is {asked}", f"Set evaluation.max_new_tokens={places - 1} or less.",
            )  # fmt: skip
        if wanted is not None and places is not None:
            wanted = min(wanted, places - 1)  # less the token that begins
        return dataclasses.replace(self, max_new_tokens=wanted, num_beams=evaluation.num_beams)

    def configure(self, settings: Any) -> None:
        if settings.to_dict().get("decoder_start_token_id") is None:
            raise UserError(
                "a model whose config says what its decoder starts with is needed",
                "decoder_start_token_id is not set", "Set it in the model's config.json.",
            )  # fmt: skip

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        """Return token numbers as `labels`, which Trainer takes away and counts, and as `targets`, for the decoder."""
        if truth is None:
            return {}
        tokenizer = processors.require_tokenizer(processor)
        limit = preparation.max_target_length
        found = tokenizer(text_target=list(truth), truncation=limit is not None, max_length=limit)
        cut = [False] * len(truth) if limit is None else processors.truncated(found, limit)
        end = [tokenizer.eos_token_id]  # a text that was cut goes on: where it is cut, nothing is to be ended
        ids = [
            row[:-1] if lost and row[-1:] == end else row for row, lost in zip(found["input_ids"], cut, strict=True)
        ]
        return {"labels": ids, "targets": ids, "_cut_target": list(cut), "_target_length": [len(row) for row in ids]}

    def attach(self, model: Any) -> Any:
        """Let the decoder see the true text, one token late, as each architecture shifts it."""
        model.register_forward_pre_hook(with_decoder_inputs, with_kwargs=True)
        return model

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        from torch.nn import functional

        def loss(outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            logits = outputs["logits"].float()
            total = functional.cross_entropy(
                logits.view(-1, logits.shape[-1]), targets.view(-1), reduction="sum", label_smoothing=smoothing,
                ignore_index=IGNORED,
            )  # fmt: skip
            count = (targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
            return total / count

        return loss

    def reduce(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        return sums_of(logits[0] if isinstance(logits, tuple) else logits, unmarked(labels, self.marks))

    @property
    def selects_by(self) -> str:
        return "perplexity"  # of the true texts: to write them at every validation would cost more than the training

    @property
    def validated(self) -> tuple[str, ...]:
        return ("perplexity", "token_accuracy")

    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        nll, tokens, right = np.asarray(kept, np.float64).sum(axis=0)
        return {"perplexity": float(np.exp(nll / tokens)), "token_accuracy": float(right / tokens)}

    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[Generated]:
        tokenizer = processors.require_tokenizer(processor)
        written = model.generate(**shown(batch), generation_config=self.generation(model, tokenizer))
        mark = processors.language_token(tokenizer)
        texts = tokenizer.batch_decode(
            [[one for one in row if one != mark] for row in written.tolist()], skip_special_tokens=True
        )
        known = (
            self.judge(model, batch, processor) if batch.get("labels") is not None else [Generated("")] * len(texts)
        )
        return [likely._replace(text=text.strip()) for text, likely in zip(texts, known, strict=True)]

    def grown(self, model: Any, batch: dict[str, Any], processor: Any) -> Iterator[str]:
        """Yield the text of a batch's one item as it grows, where that can be seen, and as it is at the end."""
        yield self.ask(model, batch, processor)[0].text

    def judge(self, model: Any, batch: dict[str, Any], processor: Any) -> list[Generated]:
        """Return what the model makes of the true texts, and write none."""
        labels = batch["labels"]
        logits = model(**shown(batch), decoder_input_ids=shifted(labels, model.config))["logits"]
        sums = sums_of(logits, unmarked(labels, self.marks)).cpu().numpy()
        return [Generated("", float(nll), int(count)) for nll, count, _ in sums]

    judged_by = "perplexity"

    def generation(self, model: Any, tokenizer: Any) -> Any:
        """Return the model's own settings of generation with what this answer says: how long, in which language."""
        import copy

        found = copy.deepcopy(model.generation_config)
        most = self.max_new_tokens or found.max_new_tokens
        if most is None and (found.max_length or 0) <= 20:  # what transformers takes where nobody said anything
            places = decoder_places(model.config)
            most = NEW_TOKENS if places is None else min(NEW_TOKENS, places - 1)
        if most is not None:
            found.max_new_tokens, found.max_length = most, None
        if self.max_new_tokens is not None:  # the lengths of train, not those that the model was made for
            found.min_length, found.min_new_tokens = 0, None
        if self.num_beams is not None:
            found.num_beams = self.num_beams
        if found.num_beams == 1:
            found.early_stopping = False
        mark = processors.language_token(tokenizer)
        if mark is not None:
            first = tokenizer(text_target="a")["input_ids"][0]
            if first == mark:
                found.forced_bos_token_id = mark
            else:  # the mark stands behind the text, and is what the decoder begins with
                found.decoder_start_token_id, found.forced_bos_token_id = mark, None
        return found

    def finish(self, model: Any, processor: Any) -> None:
        model.generation_config = self.generation(model, processors.require_tokenizer(processor))

    # --- stored and scored ---

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        import pyarrow as pa

        return {
            "label": pa.array(list(truth), pa.string()),
            "prediction": pa.array([row.text for row in outputs], pa.string()),
            "nll": pa.array([row.nll for row in outputs], pa.float64()),
            "tokens": pa.array([row.tokens for row in outputs], pa.int64()),
        }

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        parts = (table[name].to_pylist() for name in ("prediction", "nll", "tokens"))
        return table["label"].to_pylist(), [Generated(*row) for row in zip(*parts, strict=True)]

    def is_finite(self, output: Generated) -> bool:
        return output.tokens == 0 or math.isfinite(output.nll)

    def outcomes(self, truth: Rows, outputs: Rows) -> Written:
        likelihood = np.array([(row.nll, row.tokens) for row in outputs], np.float64).reshape(-1, 2)
        return Written(list(truth), [row.text for row in outputs], likelihood, self.tokenize)

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return self.metric_names

    @property
    def main_metric(self) -> str:
        return self.metric_names[0]

    def signatures(self) -> dict[str, str]:
        return {name: said for name, said in _written.signatures(self.tokenize).items() if name in self.metric_names}

    def differing(self, one: Rows, other: Rows, metric: str, theirs: Answer[Any] | None = None) -> int:
        by_likelihood = metric == "perplexity"
        return sum(
            (a.nll, a.tokens) != (b.nll, b.tokens) if by_likelihood else a.text != b.text
            for a, b in zip(one, other, strict=True)
        )

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        if self.trivial == "most_common" or rows is None:
            return Trivial(
                "most common text", "answers the same whatever the input", [Generated(self.most_common)] * len(truth)
            )
        sources = next(iter(rows.values()))
        if self.trivial == "copy":
            return Trivial("copy of the input", "repeats the input", [Generated(text) for text in sources])
        led = [Generated(leading(text, self.lead)) for text in sources]
        return Trivial("leading sentences", f"repeats the first sentences, of {self.lead} words or more", led)

    def plots(self, truth: Rows, outputs: Rows) -> Iterator[Plot]:
        outcomes = self.outcomes(truth, outputs)
        scores = _written.chrf(Sample(outcomes, np.eye(outcomes.n))) if outcomes.n <= 2000 else None
        if scores is None:
            chosen = np.linspace(0, outcomes.n - 1, 2000).astype(np.int64)
            part = self.outcomes([truth[i] for i in chosen], [outputs[i] for i in chosen])
            scores = _written.chrf(Sample(part, np.eye(part.n)))
        counts, edges = np.histogram(scores, bins=20, range=(0, 100))
        yield Plot(
            "chrf_by_row", "chrF of single test rows", "histogram",
            {"headline": f"{len(scores):,} rows, chrF of each", "axis": "chrF", "edges": edges.tolist(),
             "counts": counts.tolist()},
        )  # fmt: skip

    def is_constant(self, outputs: Rows) -> bool:
        return len({row.text for row in outputs}) == 1

    def badness(self, truth: Any, output: Generated) -> float:
        if output.text.strip() == str(truth).strip():
            return 0.0
        one = self.outcomes([truth], [output])
        return 100.0 - float(_written.chrf(Sample(one, np.ones((1, 1))))[0])

    # --- shown ---

    def to_json(self, row: Mapping[str, Any], output: Generated, top_k: int | None = None) -> dict[str, Any]:
        return {"text": output.text}

    def as_json(self, answer: Any) -> dict[str, Any]:
        return {"text": MARK.sub("", str(answer)).strip()}

    def view(self, answer: Mapping[str, Any]) -> View:
        return Shown(answer["text"])

    def limits(self) -> list[str]:
        most = f" It stops after {self.max_new_tokens} tokens." if self.max_new_tokens else ""
        return [f"Its texts are written by a model: they may be fluent and wrong.{most}"]

    def distance(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
        from rapidfuzz.distance import Levenshtein

        return float(Levenshtein.normalized_distance(one["text"], other["text"]))

    # greedy choices between tokens of all but equal probability fall either way by rounding
    may_differ = 0.1

    # --- the artifact ---

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), **dataclasses.asdict(self), "metric_names": list(self.metric_names)}

    def restore(self, noted: Mapping[str, Any]) -> Prose:
        known = {field.name for field in dataclasses.fields(self)}
        values = {name: value for name, value in noted.items() if name in known}
        marks = tuple(int(mark) for mark in noted.get("marks", ()))
        return type(self)(**{**values, "metric_names": tuple(noted["metric_names"]), "marks": marks})


def shown(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model is shown of a batch."""
    aside = ("labels", "targets")
    return {name: value for name, value in batch.items() if name not in aside and not name.startswith("_")}
