"""Several rows in one item of training, none of which sees another: nothing is padded, and nothing is computed twice.

The tokens of an item are numbered anew where a row begins. By that transformers lets no token look behind its row's
first one, with kernels that take a mask; whether a model follows it is measured before it is trained.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from hftransfer.answers._decoder import IGNORED
from hftransfer.answers.base import Answer
from hftransfer.config import RunConfig
from hftransfer.errors import UserError
from hftransfer.modeling.batches import Collator
from hftransfer.modeling.prepared import Prepared
from hftransfer.tasks.base import Preparation

SAME = 1e-2  # of the spread of scores, by which rounding may move them
PROBED = 64  # tokens of a row by which a model is tried


class Packs:
    """A torch-style data set of items that hold several of another's: their tokens, labels and positions in a row."""

    def __init__(self, dataset: Any, packs: Sequence[np.ndarray]) -> None:
        self.dataset, self.packs = dataset, packs

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        wanted = [self.packs[index] for index in indices]
        items = iter(self.dataset.__getitems__([int(place) for pack in wanted for place in pack]))
        return [_joined([next(items) for _ in pack]) for pack in wanted]


def _joined(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "input_ids": [token for item in items for token in item["input_ids"]],
        # the first token of a row has none before it: what ends the row before is not what tells it
        "labels": [label for item in items for label in (IGNORED, *item["labels"][1:])],
        "position_ids": [place for item in items for place in range(len(item["input_ids"]))],
    }


def pack(config: RunConfig, train: Prepared, preparation: Preparation, model: Any, collate: Collator) -> Prepared:
    """Return the training rows packed; UserError where that would not be the same training."""
    require_possible(config, train, preparation.answer)
    require_exact(config, model, train, collate)
    assert train.lengths is not None
    return packed(train, preparation.max_length or int(train.lengths.max()), config.seed)


def packed(prepared: Prepared, size: int, seed: int) -> Prepared:
    """Return training rows in items of at most `size` tokens; which rows share one is drawn with the seed."""
    assert prepared.lengths is not None
    packs = packs_of(prepared.lengths, size, seed)
    lengths = np.array([int(prepared.lengths[pack].sum()) for pack in packs])
    rows = len(np.unique(prepared.rows))
    return replace(
        prepared, dataset=Packs(prepared.dataset, packs), rows=np.arange(len(packs)), lengths=lengths,
        rows_per_item=rows / max(1, len(packs)),
    )  # fmt: skip


def packs_of(lengths: np.ndarray, size: int, seed: int) -> list[np.ndarray]:
    """Return which items share a pack of `size` tokens: the longest first, each where it leaves the least room.

    Best fit decreasing fills at most 11/9 of the fewest packs and one more (Johnson et al. 1974).
    """
    drawn = np.random.default_rng(seed).permutation(len(lengths))  # among items of one length
    order = drawn[np.argsort(-lengths[drawn], kind="stable")]
    packs: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (tokens left, pack), sorted
    for item in order.tolist():
        needed = int(lengths[item])
        at = bisect.bisect_left(rooms, (needed, -1))
        if at == len(rooms):
            packs.append([item])
            left, pack = size - needed, len(packs) - 1
        else:
            left, pack = rooms.pop(at)
            packs[pack].append(item)
            left -= needed
        if left > 1:
            bisect.insort(rooms, (left, pack))
    return [np.array(pack) for pack in packs]


def require_possible(config: RunConfig, train: Prepared, answer: Answer[Any]) -> None:
    """Raise UserError for rows or settings with which rows cannot share an item."""
    problem = None
    if not (answer.generates and answer.aligned):
        problem = f"{config.task} is none", "Drop data.packing."
    elif train.lengths is None:
        problem = "data.streaming is true", "Set data.streaming=false, or drop data.packing."
    elif (config.speed.attention or "").startswith("flash"):
        problem = f"speed.attention is {config.speed.attention}", "Set speed.attention=sdpa, or drop data.packing."
    if problem is not None:
        raise UserError(
            "data.packing is for models that go on from a text, rows on disk and a kernel that takes a mask", *problem
        )


def require_exact(config: RunConfig, model: Any, train: Prepared, collate: Collator) -> None:
    """Raise UserError for a model to which the second row of an item is not the same as by itself.

    Its scores must not move in the last bit when the first row is another, and must be those that it has alone.
    """
    assert train.lengths is not None
    first, second = ([*train.dataset[int(place)]["input_ids"]] for place in np.argsort(train.lengths)[[0, -1]])
    first, second = first[:PROBED], second[:PROBED]
    other = [*first[1:], first[0]] if len(set(first)) > 1 else [token + 1 if token == 0 else 0 for token in first]
    packs = [[_probe(first), _probe(second)], [_probe(other), _probe(second)], [_probe(second)]]
    training, caches = model.training, model.config.use_cache
    model.eval()
    model.config.use_cache = False
    try:
        with torch.no_grad():
            scores = [_scores(model, collate, pack)[-len(second) :] for pack in packs]
    except TypeError as error:
        raise _unfit(config, model, "it takes no positions of tokens") from error
    finally:
        model.train(training)
        model.config.use_cache = caches
    if not torch.equal(scores[0], scores[1]):
        raise _unfit(config, model, "a row sees the one before it")
    if float((scores[0] - scores[2]).abs().max()) > SAME * float(scores[2].std()):
        raise _unfit(config, model, "it numbers the tokens of a row otherwise behind another one")


def _probe(ids: list[int]) -> dict[str, Any]:
    return {"input_ids": ids, "labels": ids}


def _scores(model: Any, collate: Collator, items: Sequence[dict[str, Any]]) -> torch.Tensor:
    """Return the scores (tokens, vocabulary) of one item that holds several."""
    batch = collate([_joined(items)])
    given = {name: value.to(model.device) for name, value in batch.items() if name != "labels"}
    found: torch.Tensor = model(**given)["logits"][0].float()
    return found


def _unfit(config: RunConfig, model: Any, why: str) -> UserError:
    return UserError(
        "data.packing needs a model to which packed rows are like rows by themselves",
        f"{config.model} is a {type(model).__name__}: {why}", "Drop data.packing.",
    )  # fmt: skip
