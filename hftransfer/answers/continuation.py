"""continuation: what a model writes on from a text: an answer in a conversation, a completion, the rest of a text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from hftransfer import processors
from hftransfer.answers._causal import ends, fitting, left_padded, places, rows_at_once, shifted_sums, summed_loss
from hftransfer.answers._decoder import IGNORED
from hftransfer.answers._learner import Told
from hftransfer.answers._ngrams import Bigrams
from hftransfer.answers._prose import NEW_TOKENS, ROOM, Generated, Prose, shown
from hftransfer.answers._written import Written
from hftransfer.answers.base import Answer, Loss, Rows, Trivial
from hftransfer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hftransfer.config import DataConfig, EvaluationConfig

SHORT = 32  # tokens that are written of running texts, whose rest is one of many
PROMPTS = 2**15  # tokens of prompts that are read at once: of each, memory holds what every layer made of it
NO_TRUTH = Generated("")
METRICS_OF = {  # the main one first: where many answers would do, the likelihood of the true one
    "text": ("perplexity",),
    "chat": ("perplexity", "chrf", "rouge_l", "exact_match"),
    "completion": ("chrf", "rouge_l", "exact_match", "perplexity"),
}


class Reference(NamedTuple):
    """A true text, and how likely its tokens are by pairs of tokens in train alone: nll in nats, over tokens."""

    text: str
    nll: float = float("nan")
    tokens: int = 0


@dataclass(frozen=True)
class Continuation(Prose):
    """Truth is a list of texts, or of References once the items are made; outputs are a list of Generated."""

    metric_names: tuple[str, ...] = METRICS_OF["completion"]
    vocabulary: int = 1 << 16  # tokens of the model

    kind = "continuation"
    heeds = frozenset({"forgetting", "long_targets", "max_new_tokens", "max_target_length", "num_beams"})
    aligned = True
    padding: ClassVar[Mapping[str, int]] = {"labels": IGNORED, "position_ids": 0}

    # --- truth ---

    def formed(
        self, values: pa.Array | None, feature: Any, column: str, config: DataConfig
    ) -> tuple[Answer[Generated], list[str]]:
        return dataclasses.replace(self, metric_names=METRICS_OF[config.form or "completion"]), []

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[str, Any]]:
        import pyarrow.compute as pc

        prompts = next(iter(inputs.values()))
        turns = pc.fill_null(pc.starts_with(prompts, '[{"role"'), False)
        yield "a conversation that ends with the user, not with an answer", pc.and_(turns, pc.is_null(truth))
        yield from super().unusable(truth, inputs)

    def told_by_items(self, items: Iterable[Mapping[str, Any]]) -> Told:
        """Count pairs of train's tokens, and tell of other rows how likely their tokens are by them."""
        counted = Bigrams((item["input_ids"], item["labels"]) for item in items)

        def told(truth: Rows, found: Iterable[tuple[int, Mapping[str, Any]]]) -> Rows:
            sums = np.zeros((len(truth), 2))
            for row, item in found:
                sums[row] += counted.nll(item["input_ids"], item["labels"], self.vocabulary)
            return [Reference(text, float(nll), int(n)) for text, (nll, n) in zip(texts(truth), sums, strict=True)]

        return told

    # --- model ---

    def limited(self, evaluation: EvaluationConfig, lengths: np.ndarray | None, settings: Any) -> Prose:
        longest = None if lengths is None or not len(lengths) else int(lengths.max())
        wanted = None if longest is None else max(8, math.ceil(ROOM * longest))
        if self.metric_names == METRICS_OF["text"]:
            wanted = SHORT
        most, asked = places(settings), evaluation.max_new_tokens
        if asked is not None and most is not None and asked >= most:
            raise UserError(
                f"evaluation.max_new_tokens must be below {most}, the places of the model",
                f"it is {asked}", f"Set evaluation.max_new_tokens={most - 1} or less.",
            )  # fmt: skip
        if asked is None and wanted is not None and most is not None:
            wanted = min(wanted, most // 2)  # the prompt needs some
        return dataclasses.replace(
            self, max_new_tokens=asked or wanted, num_beams=evaluation.num_beams, vocabulary=int(settings.vocab_size)
        )

    def configure(self, settings: Any) -> None:
        """Nothing: the model is asked as it is."""

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        """Return nothing more: the truth stands among what is read, and the task made labels of it."""
        return {}

    def attach(self, model: Any) -> Any:
        return model

    def at_once(self, longest: int) -> int:
        return rows_at_once(longest, self.vocabulary)

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            count = (labels[:, 1:] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
            # rows of which nothing is learned may be an update by themselves
            count = count.clamp(min=1) if hasattr(count, "clamp") else max(count, 1)
            return summed_loss(outputs["logits"], labels, smoothing) / count

        return loss

    def reduce(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        return shifted_sums(logits[0] if isinstance(logits, tuple) else logits, labels)

    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[Generated]:
        known = self.judge(model, batch, processor) if batch.get("labels") is not None else None
        prompts = batch["_prompt"]
        asked = [place for place, prompt in enumerate(prompts) if prompt]
        outputs = known or [NO_TRUTH] * len(prompts)
        longest = max((len(prompts[place]) for place in asked), default=1)
        size = max(1, PROMPTS // longest)
        for at in range(0, len(asked), size):
            some = asked[at : at + size]
            for place, text in zip(some, self.write(model, [prompts[i] for i in some], processor), strict=True):
                outputs[place] = outputs[place]._replace(text=text)
        return outputs

    def write(self, model: Any, prompts: Sequence[Sequence[int]], processor: Any, streamer: Any = None) -> list[str]:
        """Return what a model writes on from prompts, given as tokens; `streamer` is told each token of one."""
        tokenizer = processors.require_tokenizer(processor)
        settings = self.generation(model, tokenizer)
        most = places(model.config)
        room = None if most is None else max(1, most - (settings.max_new_tokens or 0))
        ids, mask = left_padded(fitting(prompts, room, tokenizer), tokenizer.pad_token_id, model.device)
        written = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings, streamer=streamer)
        found = tokenizer.batch_decode(written[:, ids.shape[1] :].tolist(), skip_special_tokens=True)
        return [text.strip() for text in found]

    def grown(self, model: Any, batch: dict[str, Any], processor: Any) -> Iterator[str]:
        import threading

        import torch
        from transformers import TextIteratorStreamer

        settings = self.generation(model, processors.require_tokenizer(processor))
        if (settings.num_beams or 1) > 1:  # of which no text is seen before all are done
            yield from super().grown(model, batch, processor)
            return
        streamer = TextIteratorStreamer(
            processors.require_tokenizer(processor), skip_prompt=True, skip_special_tokens=True
        )
        failed: list[BaseException] = []

        def write() -> None:
            try:
                with torch.inference_mode():
                    self.write(model, batch["_prompt"], processor, streamer)
            except BaseException as error:
                failed.append(error)
                streamer.end()

        thread = threading.Thread(target=write, name="writing", daemon=True)
        thread.start()
        text = ""
        for piece in streamer:
            text += piece
            yield text.strip()
        thread.join()
        if failed:
            raise failed[0]

    def judge(self, model: Any, batch: dict[str, Any], processor: Any) -> list[Generated]:
        """Return what the model makes of the true texts, a few rows at a time: a score for each token is much."""
        import torch

        labels, given = batch["labels"], shown(batch)
        size = rows_at_once(labels.shape[1], int(model.config.vocab_size))
        parts = [
            shifted_sums(
                model(**{name: value[at : at + size] for name, value in given.items()})["logits"],
                labels[at : at + size],
            )
            for at in range(0, len(labels), size)
        ]
        return [Generated("", float(nll), int(count)) for nll, count, _ in torch.cat(parts).cpu().numpy()]

    def join(self, parts: Sequence[Generated]) -> Generated:
        """Return the text of the first window, and the sums over all."""
        nll, tokens = sum(part.nll for part in parts), sum(part.tokens for part in parts)
        return Generated(parts[0].text, nll, tokens)

    def generation(self, model: Any, tokenizer: Any) -> Any:
        """Return the model's own settings of generation with what this answer says, and the most likely token always.

        It ends at what the tokenizer or its chat template ends a text with.
        """
        import copy

        found = copy.deepcopy(model.generation_config)
        most = self.max_new_tokens or found.max_new_tokens or NEW_TOKENS
        found.max_new_tokens, found.max_length = most, None
        found.min_length, found.min_new_tokens = 0, None
        found.do_sample, found.temperature, found.top_p, found.top_k = False, None, None, None
        if self.num_beams is not None:
            found.num_beams = self.num_beams
        if found.num_beams in (None, 1):
            found.early_stopping = None
        own = found.eos_token_id
        own = [] if own is None else [own] if isinstance(own, int) else list(own)
        found.eos_token_id = list(dict.fromkeys([*own, *ends(tokenizer)])) or None
        found.pad_token_id = tokenizer.pad_token_id
        return found

    def finish(self, model: Any, processor: Any) -> None:
        super().finish(model, processor)
        model.config.use_cache = True  # which Trainer turns off: a stranger would write without

    # --- stored and scored ---

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        import pyarrow as pa

        known = [one if isinstance(one, Reference) else Reference(str(one)) for one in truth]
        return {
            **super().columns(texts(truth), outputs),
            "trivial_nll": pa.array([one.nll for one in known], pa.float64()),
            "trivial_tokens": pa.array([one.tokens for one in known], pa.int64()),
        }

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        truth, outputs = super().from_columns(table)
        known = zip(truth, *(table[name].to_pylist() for name in ("trivial_nll", "trivial_tokens")), strict=True)
        return [Reference(*one) for one in known], outputs

    def outcomes(self, truth: Rows, outputs: Rows) -> Written:
        return super().outcomes(texts(truth), outputs)

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        known = [one if isinstance(one, Reference) else Reference(str(one)) for one in truth]
        return Trivial(
            "most common text",
            "answers the same whatever the input, and takes tokens for as likely as behind the one before in train",
            [Generated(self.most_common, one.nll, one.tokens) for one in known],
        )

    def badness(self, truth: Any, output: Generated) -> float:
        if self.main_metric == "perplexity" and output.tokens:
            return output.nll / output.tokens
        return super().badness(texts([truth])[0], output)

    # --- shown ---

    def limits(self) -> list[str]:
        return [*super().limits(), "It always writes the most likely token: the same prompt gives the same text."]


def texts(truth: Rows) -> list[str]:
    """Return the true texts alone."""
    return [one.text if isinstance(one, Reference) else str(one) for one in truth]


ANSWER = Continuation()
