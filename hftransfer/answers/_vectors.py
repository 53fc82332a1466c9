"""What kinds have in common whose models give a vector for each text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.answers.base import Answer

if TYPE_CHECKING:
    import torch


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
        """Let the forward pass give the vectors of the parts of each row."""
        from hftransfer.answers import _nearness

        return _nearness.giving_vectors(model)

    def beside(self, model: Any, max_length: int | None) -> Mapping[str, str]:
        """Return what SentenceTransformer reads: the mean of the tokens, of length 1."""
        types = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(types.items())
        ]
        pooling = {"word_embedding_dimension": int(model.config.hidden_size), "pooling_mode_mean_tokens": True}
        return {
            "modules.json": json.dumps(modules, indent=1),
            "1_Pooling/config.json": json.dumps(pooling, indent=1),
            "2_Normalize/config.json": "{}",
            "sentence_bert_config.json": json.dumps({"max_seq_length": max_length, "do_lower_case": False}, indent=1),
        }

    def vectors(self, model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the vectors (n, k, d) of a batch, on the CPU."""
        from hftransfer.answers import _nearness

        shown = {name: batch[name] for name in ("input_ids", "attention_mask", "parts")}
        return _nearness.embedded(model, model.config.to_dict().get("pad_token_id") or 0, shown).float().cpu()
