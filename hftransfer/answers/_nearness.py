"""Vectors of texts: a model that gives one for each part of a row, the loss among those of a batch, exact ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from hftransfer.errors import UserError

TOKENS = 16_384  # with padding, that go through the model at once while it trains
BLOCK = 1024  # vectors that are compared with all others at once
NOTHING = 0  # the number of a text that is not there


def number_of(text: str | None) -> int:
    """Return a number (63 bits) that equal texts share, but for case and blanks; NOTHING for an empty one."""
    known = " ".join((text or "").casefold().split())
    if not known:
        return NOTHING
    return int.from_bytes(hashlib.blake2b(known.encode(), digest_size=8).digest(), "big") >> 1 or 1


def apart(ids: torch.Tensor, mask: torch.Tensor, parts: torch.Tensor, fill: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut rows (n, tokens) into their parts, whose lengths are (n, k); return ids and mask (n x k, longest part)."""
    lengths, begins = parts.flatten(), (parts.cumsum(dim=1) - parts).flatten()
    places = torch.arange(int(lengths.max()), device=ids.device)
    known = places < lengths[:, None]
    at = (begins[:, None] + places).clamp(max=ids.shape[1] - 1)
    of_row = ids.repeat_interleave(parts.shape[1], dim=0).gather(1, at)
    return torch.where(known, of_row, torch.full_like(of_row, fill)), known.to(mask.dtype)


def pooled(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the means of the tokens' states (n, tokens, d), of length 1: (n, d)."""
    weights = mask[:, :, None].to(states.dtype)
    return functional.normalize((states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9), dim=-1)


def embedded(ask: Any, fill: int, batch: dict[str, Any], training: bool = False) -> torch.Tensor:
    """Return the vectors (n, k, d) of the parts of each row; `ask` is a model's own forward pass.

    What would not fit is encoded in pieces while it trains, and once more on the way back (as Gao et al. 2021 do in
    two passes): the loss of a batch sees all its rows, whatever memory holds.
    """
    parts = batch["parts"]
    ids, mask = apart(batch["input_ids"], batch["attention_mask"], parts, fill)

    def encode(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return pooled(ask(input_ids=ids, attention_mask=mask)["last_hidden_state"], mask)

    size = max(TOKENS // ids.shape[1], 1)
    if not training or len(ids) <= size:
        found = encode(ids, mask)
    else:
        pieces = zip(ids.split(size), mask.split(size), strict=True)
        found = torch.cat([checkpoint(encode, *piece, use_reentrant=False) for piece in pieces])
    return found.view(*parts.shape, -1)


def require_states(model: Any) -> None:
    """Raise UserError for a model that makes no states of tokens alone: a CLIP wants pictures, a T5 a second text."""
    if "flash" in str(getattr(model.config, "_attn_implementation", "")):
        return  # a kernel that takes no float32: it is asked later, in halves
    tokens = torch.ones((1, 2), dtype=torch.int64, device=next(model.parameters()).device)
    try:
        with torch.no_grad():
            found = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        if found.shape[:2] == tokens.shape:
            return
        why = f"its states are {tuple(found.shape)}, not one a token"
    except Exception as error:  # whatever a model makes of too little
        why = " ".join(str(error).split())[:120]
    raise UserError(
        "a model that makes states of texts alone is needed", f"{type(model).__name__} does not ({why})",
        "Use an encoder of sentences: its vector of a text is the mean of the tokens' states.",
    )  # fmt: skip


def giving_vectors(model: Any) -> Any:
    """Make a model's forward pass give the vectors of the parts of each row, where it is told the parts."""
    if "pooler" in dict(model.named_children()):
        model.pooler = None  # no vector comes of it, and several processes would wait for its gradients
    own, fill = model.forward, model.config.to_dict().get("pad_token_id") or 0

    def forward(self: Any, *args: Any, parts: torch.Tensor | None = None, **kwargs: Any) -> Any:
        if parts is None:
            return own(*args, **kwargs)
        return {"vectors": embedded(own, fill, {**kwargs, "parts": parts}, self.training)}

    model.forward = MethodType(forward, model)  # a method, as accelerate takes it apart and puts it together again
    return model


@dataclass(frozen=True)
class Offsets:
    """What is taken off the scores of texts that stand in batches more often than others: the log of their share.

    A text that is the right one of many rows is a wrong one of all others just as often: without this a model learns
    to avoid what is popular (Bengio and Senecal 2008; Yi et al. 2019). `numbers` are sorted.
    """

    numbers: torch.Tensor
    logs: torch.Tensor

    @classmethod
    def of(cls, texts: Sequence[str], counts: np.ndarray) -> Offsets:
        """Return the offsets of texts by how often each is right: of equal texts together."""
        numbers, place = np.unique([number_of(text) for text in texts], return_inverse=True)
        total = np.bincount(place, weights=np.asarray(counts, np.float64), minlength=len(numbers))
        shares = np.maximum(total, 1) / max(float(total.sum()), 1.0)
        return cls(torch.tensor(numbers), torch.tensor(np.log(shares), dtype=torch.float32))

    def at(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return what is taken off for each of some numbers."""
        known, numbers = self.numbers.to(numbers.device), numbers.contiguous()
        at = torch.searchsorted(known, numbers).clamp(max=len(known) - 1)
        return torch.where(known[at] == numbers, self.logs.to(numbers.device)[at], torch.zeros(()).to(numbers.device))


def contrast(
    vectors: torch.Tensor, numbers: torch.Tensor, temperature: float, offsets: Offsets | None = None
) -> torch.Tensor:
    """Return the summed cross entropy of finding each row's own second part among those of all rows (n, k, d).

    `numbers` (n, k or more) tell equal texts: what is also right for a row, or is its question, is no wrong answer to
    it, and neither are those behind the first k, which it is never going to be answered with. The parts of the other
    processes count too; the loss is that of this process's rows.
    """
    rank, everyone = 0, [vectors]
    numbers, gone = numbers[:, : vectors.shape[1]].contiguous(), numbers[:, vectors.shape[1] :]
    known = [numbers]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        from torch.distributed.nn.functional import all_gather

        rank, everyone = torch.distributed.get_rank(), list(all_gather(vectors))
        known = [torch.empty_like(numbers) for _ in everyone]
        torch.distributed.all_gather(known, numbers)
    whole, told = torch.cat(everyone).float(), torch.cat(known)
    choices = torch.cat([whole[:, side] for side in range(1, whole.shape[1])])
    named = torch.cat([told[:, side] for side in range(1, whole.shape[1])])
    own = torch.arange(len(vectors), device=vectors.device) + rank * len(vectors)
    scores = vectors[:, 0].float() @ choices.T / temperature
    if offsets is not None:  # of what is there because it is right for some row; wrong ones were looked for
        drawn = offsets.at(told[:, 1])
        scores = scores - functional.pad(drawn, (0, len(named) - len(drawn)))
    # the second parts of rows that ask the same, and the same texts, are right as well
    same = (numbers[:, :1] == told[:, 0]).float() @ (told[:, 1:2] == named).float() > 0
    hidden = (named == NOTHING) | same | (named == numbers[:, :1])
    for some in gone.T:  # a few thousand rows by as many texts at a time
        hidden |= some[:, None] == named
    hidden = hidden.scatter(1, own[:, None], False)
    return functional.cross_entropy(scores.masked_fill(hidden, -torch.inf), own, reduction="sum")


def ranked(
    queries: np.ndarray, found: np.ndarray, asked: Sequence[int], right: Sequence[int], gone: Any = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return of each row the rank of its own text in the catalogue, its score, the place of the best, and the size.

    `queries` and `found` are vectors (n, d), `asked` and `right` the numbers of their texts. The catalogue holds each
    text once. A text that is right for another row that asks the same is not counted as wrong, nor is the question
    itself, nor what is `gone` (n, any number), by their numbers. Exact, block by block.
    """
    known, first, place = np.unique(np.asarray(right), return_index=True, return_inverse=True)
    catalogue = np.asarray(found, np.float32)[first]
    also: dict[int, set[int]] = {}
    for one, at in zip(asked, place, strict=True):
        also.setdefault(int(one), set()).add(int(at))
    ranks, scores, best = [], [], []
    for start in range(0, len(queries), BLOCK):
        near = np.asarray(queries[start : start + BLOCK], np.float32) @ catalogue.T
        for row, line in enumerate(near, start):
            own = line[place[row]]
            named = np.array([asked[row], *(() if gone is None else gone[row])], np.int64)
            at = np.searchsorted(known, named).clip(max=len(known) - 1)
            line[list({*at[known[at] == named].tolist()} - {int(place[row])})] = -np.inf
            best.append(int(first[line.argmax()]))
            line[list(also[int(asked[row])] - {int(place[row])})] = -np.inf
            ranks.append(1 + int((line > own).sum()))
            scores.append(float(own))
    return np.array(ranks), np.array(scores), np.array(best), len(catalogue)
