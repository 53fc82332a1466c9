"""What kinds have in common whose models give a vector for each text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.answers._ranks import by_rank
from hftransfer.answers.base import Answer

if TYPE_CHECKING:
    import torch

    from hftransfer.answers._nearness import Offsets
    from hftransfer.answers.base import Loss


class Vectors(Answer[Any]):
    """Answers that are made of the mean of a text's tokens, of length 1."""

    contradicts = False
    projects = True
    names = ()
    counts = ()

    def last_layers(self, model: Any) -> tuple[str, ...]:
        """Return the normalisation that the last states come from: its scale and shift are what a probe trains."""
        from hftransfer.answers import _last_norm

        return (_last_norm.name_of(model),)

    def before_them(self, model: Any, batch: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
        """Return the means of what is normalised, (1, k, d) an item, and its labels."""
        from hftransfer.answers import _last_norm

        made, labels = _last_norm.before(model, self._norm(model), batch), batch["labels"].cpu().numpy()
        return [{"means": made[row : row + 1], "labels": labels[row : row + 1]} for row in range(len(made))]

    def solved(
        self, model: Any, made: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Yield scales and shifts in closed form."""
        from hftransfer.answers import _last_norm

        yield from _last_norm.solved(model, self._norm(model), made["means"])

    def behind_them(self, model: Any, made: Mapping[str, Any], counts: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return the vectors of the texts of each item, and the labels."""
        from hftransfer.answers import _last_norm

        return {"vectors": _last_norm.behind(model, self._norm(model), made["means"])}, made["labels"]

    def _norm(self, model: Any) -> str:
        """Return the normalisation that a probe chose: the one that trains."""
        return next(name for name, value in model.named_parameters() if value.requires_grad).rpartition(".")[0]

    def attach(self, model: Any) -> Any:
        """Let the forward pass give the vectors of the parts of each row; UserError for a model of more than texts."""
        from hftransfer.answers import _nearness

        _nearness.require_states(model)
        return _nearness.giving_vectors(model)

    def beside(self, model: Any, preparation: Any) -> Mapping[str, str]:
        """Return what SentenceTransformer reads: the mean of the tokens, of length 1."""
        types = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(types.items())
        ]
        pooling = {"word_embedding_dimension": int(model.config.hidden_size), "pooling_mode_mean_tokens": True}
        config, length = preparation.config, preparation.max_length
        before = {"query": config.prefix or "", "document": config.entry_prefix or ""}
        # `encode_query` and `encode_document` put these before their texts, as training did
        prompts = {"prompts": before, "default_prompt_name": None, "similarity_fn_name": "cosine"}
        told = {"config_sentence_transformers.json": json.dumps(prompts, indent=1)} if any(before.values()) else {}
        return {
            **told,
            "modules.json": json.dumps(modules, indent=1),
            "1_Pooling/config.json": json.dumps(pooling, indent=1),
            "2_Normalize/config.json": "{}",
            "sentence_bert_config.json": json.dumps({"max_seq_length": length, "do_lower_case": False}, indent=1),
        }

    def vectors(self, model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the vectors (n, k, d) of a batch, on the CPU."""
        from hftransfer.answers import _nearness

        shown = {name: batch[name] for name in ("input_ids", "attention_mask", "parts")}
        return _nearness.embedded(model, model.config.to_dict().get("pad_token_id") or 0, shown).float().cpu()


class Found(Vectors):
    """Such answers where a row's own text is to be found among all: learnt among those of a batch, ranked by cosine.

    Labels are the numbers that tell equal texts, (n, k).
    """

    compares = True
    temperature: float

    @property
    def offsets(self) -> Offsets | None:
        """What is taken off the scores of texts that stand in batches more often than others."""
        return None

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        """Return the numbers of an item's texts."""
        return {} if truth is None else {"labels": encoded["_numbers"]}

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        """Return the cross entropy of finding a row's own text among those of the batch."""
        from hftransfer.answers import _nearness

        offsets = self.offsets

        def loss(outputs: Any, numbers: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            count = numbers.numel() if num_items_in_batch is None else num_items_in_batch
            total = _nearness.contrast(outputs["vectors"], numbers, self.temperature, offsets)
            return total * numbers.shape[1] / count  # what is counted are the texts of the rows

        return loss

    def reduce(self, logits: Any, labels: torch.Tensor) -> Any:
        """Return the vectors of what asks and of what is to be found, (n, 2, d)."""
        found = logits[0] if isinstance(logits, tuple) else logits
        return found[:, :2].float()

    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Return the means of what the ranks among all of these texts come to."""
        from hftransfer.answers import _nearness

        asked, right = labels[:, 0].tolist(), labels[:, 1].tolist()
        return self.of_ranks(_nearness.ranked(kept[:, 0], kept[:, 1], asked, right, self.gone(labels))[0])

    def gone(self, labels: np.ndarray) -> np.ndarray | None:
        """Return the numbers in labels (n, k or more) of what a row is never answered with; None: of nothing."""
        return None

    def of_ranks(self, ranks: np.ndarray) -> dict[str, float]:
        """Return what `validation` gives of the ranks (n,) of what is right."""
        return {name: float(value.mean()) for name, value in by_rank(ranks).items()}

    def as_json(self, answer: Any) -> dict[str, Any]:
        """Return what a stranger's lines give."""
        return {"vector": [float(value) for value in answer]}

    def distance(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
        """Return the largest difference between the numbers of two vectors."""
        if len(one["vector"]) != len(other["vector"]):
            return float("inf")
        return float(max((abs(a - b) for a, b in zip(one["vector"], other["vector"], strict=True)), default=0.0))
