"""The rows of an embedding that training reads, as a parameter of their own: the others have no gradient.

A vocabulary has thirty thousand entries or a quarter of a million; a small data set holds some thousand of them. An
optimizer that works number by number leaves a weight as it is whose gradient was zero from the beginning, unless it
decays. So nothing is learned otherwise, and the gradient, its norm, the optimizer's numbers and its checkpoints, and
what several processes send one another, are as small as what is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import datasets
import numpy as np
import pyarrow.compute as pc
import torch
from torch import nn
from transformers import PreTrainedModel

from hftransfer.fitting.base import Setup
from hftransfer.processors import tokenizer_of

SPARED = 1_000_000  # numbers without a gradient from which on it pays
ROWS = 200_000  # of train: more of them hold most of a vocabulary, and looking takes its time
BY_NUMBER = {"adamw_torch", "adamw_torch_fused", "sgd"}  # optimizers to which a gradient of zero changes nothing
OTHERWISE = {  # options of Trainer that see the whole table, or a model other than as it is here
    "weight_decay", "torch_compile", "neftune_noise_alpha", "fsdp", "fsdp_config", "deepspeed", "optim_args",
    "optim_target_modules", "lomo", "use_liger_kernel",
}  # fmt: skip
ELSEWHERE = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")
TOKENS = "input_ids"


def read_by(setup: Setup, model: Any) -> torch.Tensor | None:
    """Return which rows (n,) of a model's embedding training reads, in order; None: it is to train as it is."""
    options, train = setup.config.train.options, setup.prepared["train"]
    if any(options.get(name) for name in OTHERWISE) or any(os.environ.get(name) == "true" for name in ELSEWHERE):
        return None
    if str(options.get("optim", "adamw_torch_fused")) not in BY_NUMBER:
        return None
    if getattr(setup.config.method, "unfreeze_after", 0) or setup.answer.catalogue is not None:
        return None
    table, tokenizer = table_of(model), tokenizer_of(setup.processor)
    if table is None or tokenizer is None or not isinstance(train.dataset, datasets.Dataset):
        return None
    if [name for name in train.dataset.column_names if TOKENS in name] != [TOKENS] or len(train.dataset) > ROWS:
        return None
    column = train.dataset.with_format("arrow")[:][TOKENS]
    found = np.union1d(pc.unique(pc.list_flatten(column)).to_numpy(), tokenizer.all_special_ids)
    rows, width = table.weight.shape
    if found.max() >= rows or (rows - len(found)) * width < SPARED:
        return None
    return torch.from_numpy(found.astype(np.int64))


def table_of(model: Any) -> nn.Embedding | None:
    """Return the embedding of a model's tokens where it trains, is a plain one, and nothing else uses its weights."""
    if not isinstance(model, PreTrainedModel):
        return None
    try:
        found = model.get_input_embeddings()
        if model.get_output_embeddings() is not None:
            return None
    except (NotImplementedError, AttributeError):
        return None
    if type(found) is not nn.Embedding or found.max_norm is not None or found.scale_grad_by_freq or found.sparse:
        return None
    users = [one for one in model.modules() if any(p is found.weight for p in one.parameters(recurse=False))]
    return found if users == [found] and found.weight.requires_grad else None


class Compact(nn.Embedding):
    """An embedding whose parameter is some rows of a whole table, (n, d); it is saved and loaded as the whole."""

    def __init__(self, whole: nn.Embedding, read: torch.Tensor) -> None:
        super().__init__(len(read), whole.embedding_dim, _weight=whole.weight.detach()[read].clone())
        self.train(whole.training)
        # no buffers: several processes would send one another those before each step
        self.read = read.to(whole.weight.device)
        self.others = whole.weight.detach()  # its rows that are read are old
        self.places = torch.full((whole.num_embeddings,), -1, device=self.read.device)
        self.places[self.read] = torch.arange(len(read), device=self.read.device)
        padding = whole.padding_idx
        self.padding_idx = int(self.places[padding]) if padding is not None and self.places[padding] >= 0 else None

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        found: Self = super()._apply(fn, recurse)
        self.read, self.others, self.places = fn(self.read), fn(self.others), fn(self.places)
        return found

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the vectors (..., d) of tokens (...): those that train never showed stand still."""
        places = self.places[input]
        known = super().forward(places.clamp(min=0))
        if self.training:
            torch._assert_async((places >= 0).all())  # else something would be learned otherwise
            return known
        return torch.where((places >= 0).unsqueeze(-1), known, self.others[input].to(known.dtype))

    def whole(self) -> torch.Tensor:
        """Return the whole table (vocabulary, d)."""
        return self.others.index_copy(0, self.read, self.weight.detach().to(self.others.dtype))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.whole()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        name = f"{prefix}weight"
        table = state_dict.get(name)
        if table is not None and len(table) == len(self.others):
            self.others.copy_(table)
            state_dict = {**state_dict, name: table.to(self.read.device)[self.read]}
        super()._load_from_state_dict(state_dict, prefix, *rest)


@contextmanager
def compacted(model: Any, read: torch.Tensor | None) -> Iterator[None]:
    """Have a model train these rows of its embedding alone, as a parameter of their own; afterwards it is whole."""
    table = table_of(model) if read is not None else None
    if table is None or read is None:
        yield
        return
    (place,) = [(one, name) for one in model.modules() for name, child in one.named_children() if child is table]
    compact = Compact(table, read)
    setattr(*place, compact)
    try:
        yield
    finally:
        with torch.no_grad():
            table.weight.copy_(compact.whole())
        table.to(compact.weight.device).train(compact.training)
        setattr(*place, table)
