"""What comes next of a sequence of items: a small causal transformer over their frozen vectors, and how it is learnt.

The model is that of Kang and McAuley 2018 (SASRec) with the loss over all items (Klenitskiy and Vasilev 2023), over
vectors of the items' texts in place of ids: it reads items that nobody had yet, and moves to another catalogue.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional
from transformers import OPTConfig, OPTModel

from hftransfer.answers import _nearness
from hftransfer.answers._histories import Histories
from hftransfer.answers.base import Loss, Rows
from hftransfer.answers.ranked_items import RankedItems

FOLDER = "histories"  # of the transformer, in a model's folder
READ = 50  # items of a history, the newest
NOTHING = -1  # in place of an item, behind the end of a history
IGNORED = -100  # in place of what comes next, where nobody knows it: Trainer counts the others
AT_ONCE = 256  # histories


def made(width: int, size: int, layers: int, heads: int, dropout: float, seed: int) -> OPTModel:
    """Return a transformer that knows nothing yet, for vectors of `width` numbers; inside it has `size` of them.

    It is an OPTModel, whose projections lead from vectors of another width and back: AutoModel loads it.
    """
    settings = OPTConfig(
        vocab_size=2, word_embed_proj_dim=width, hidden_size=size, ffn_dim=4 * size, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=READ, dropout=dropout, attention_dropout=dropout,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OPTModel(settings)
    model.get_input_embeddings().requires_grad_(False)  # of two tokens that nobody reads: vectors come in their place
    return model


def read(folder: Path) -> OPTModel:
    """Load the transformer of a model's folder."""
    return OPTModel.from_pretrained(folder / FOLDER, use_safetensors=True).eval()


def queries(model: OPTModel, vectors: np.ndarray, histories: Sequence[Sequence[int]]) -> np.ndarray:
    """Return vectors (n, d), of length 1, of what comes after histories of places, the newest last."""
    device = next(model.parameters()).device
    found = np.zeros((len(histories), vectors.shape[1]), np.float32)
    for start in range(0, len(histories), AT_ONCE):
        some = [list(history)[-READ:] for history in histories[start : start + AT_ONCE]]
        ends = torch.tensor([len(history) - 1 for history in some])
        places = torch.full((len(some), max(1, int(ends.max()) + 1)), NOTHING)
        for row, history in enumerate(some):
            places[row, : len(history)] = torch.tensor(history, dtype=torch.int64)
        known = torch.from_numpy(np.ascontiguousarray(vectors[places.clamp(min=0).numpy()], dtype=np.float32))
        with torch.inference_mode():
            states = _read(model.forward, known.to(device), (places != NOTHING).long().to(device)).cpu()
        last = states[torch.arange(len(some)), ends.clamp(min=0)]
        found[start : start + AT_ONCE] = torch.where(ends[:, None] >= 0, last, torch.zeros(())).numpy()
    return found


def _read(ask: Any, vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return what each place of histories (n, items, d) says of the next one: vectors of length 1."""
    return functional.normalize(ask(inputs_embeds=vectors, attention_mask=mask).last_hidden_state, dim=-1)


def giving_next(model: OPTModel, vectors: np.ndarray) -> OPTModel:
    """Make the forward pass take places of items in the catalogue, and give a vector of what comes next at each."""
    own, whole = model.forward, torch.from_numpy(np.asarray(vectors, np.float32))

    def forward(self: Any, *args: Any, places: torch.Tensor | None = None, **kwargs: Any) -> Any:
        if places is None:
            return own(*args, **kwargs)
        known = whole[places.clamp(min=0).cpu()].to(places.device)
        return {"vectors": _read(own, known, (places != NOTHING).long())}

    model.forward = MethodType(forward, model)
    return model


def plain(model: OPTModel) -> OPTModel:
    """Return the transformer as it was before `giving_next`."""
    vars(model).pop("forward", None)
    return model.eval()


def sequences(histories: Histories) -> Iterator[tuple[list[int], list[int]]]:
    """Yield (places, what comes next at each) of what people had in train, cut from the newest on."""
    order = np.lexsort((histories.times, histories.users))
    users, items = histories.users[order], histories.items[order]
    for own in np.split(items, np.flatnonzero(users[1:] != users[:-1]) + 1):
        for end in range(len(own), 1, -READ):
            part = own[max(0, end - READ - 1) : end].tolist()
            yield part[:-1], part[1:]


def last_of(history: Sequence[int], wanted: int) -> tuple[list[int], list[int]]:
    """Return a history whose next item alone is asked for."""
    places = list(history)[-READ:]
    return places, [*[IGNORED] * (len(places) - 1), wanted]


@dataclass(frozen=True)
class NextItems(RankedItems):
    """How the transformer is learnt: outputs have a vector (n, items, d) a place, labels are places of next items."""

    compares = False
    padding: ClassVar[Mapping[str, int]] = {"places": NOTHING, "labels": IGNORED}

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        """Return the cross entropy of the next item among all that somebody had in train, but for those had before."""
        assert self.known is not None and self.catalogue is not None and self.catalogue.histories is not None
        whole = torch.from_numpy(np.asarray(self.known, np.float32))
        nobody = torch.from_numpy(self.catalogue.histories.counts == 0)

        def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            asked = labels != IGNORED
            count = asked.sum() if num_items_in_batch is None else num_items_in_batch
            wanted = labels[asked]
            scores = outputs["vectors"][asked].float() @ whole.to(labels.device).T / self.temperature
            # what nobody could have had is no wrong answer, and what is asked for in validation is one of the choices
            hidden = nobody.to(labels.device).expand_as(scores)
            hidden = hidden.scatter(1, _before(labels, asked, wanted), True).scatter(1, wanted[:, None], False)
            scores = scores.masked_fill(hidden, -torch.inf)
            return functional.cross_entropy(scores, wanted, reduction="sum") / count

        return loss

    def reduce(self, logits: Any, labels: torch.Tensor) -> Any:
        """Return the vectors of what is asked for last and of what it is, (n, 2, d)."""
        found = logits[0] if isinstance(logits, tuple) else logits
        assert self.known is not None
        rows = torch.arange(len(labels), device=labels.device)
        last = labels.shape[1] - 1 - (labels != IGNORED).flip(1).int().argmax(dim=1)
        wanted = torch.from_numpy(np.asarray(self.known[labels[rows, last].cpu().numpy()], np.float32))
        return torch.stack([found[rows, last].float(), wanted.to(labels.device)], dim=1)

    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Return ranks among what validation rows ask for, as the answer that is trained whole has them."""
        right = [int(row[row != IGNORED][-1]) for row in labels]
        return self.of_ranks(_nearness.ranked(kept[:, 0], kept[:, 1], range(len(right)), right)[0])

    def sequences(self) -> Iterator[tuple[list[int], list[int]]]:
        """Yield sequences of train with what comes next at each place."""
        assert self.catalogue is not None and self.catalogue.histories is not None
        yield from sequences(self.catalogue.histories)

    def asked_last(self, rows: Any, truth: Rows) -> Iterator[tuple[list[int], list[int]]]:
        """Yield histories of ids with the first entry that is right for each."""
        assert self.catalogue is not None
        places = self.catalogue.places
        for history, right in zip(rows, truth, strict=True):
            yield last_of([places[name] for name in history], places[right[0].id])

    def reader_made(self, width: int, layers: int, heads: int, dropout: float, seed: int) -> OPTModel:
        """Return a transformer that is ready to learn over the vectors."""
        assert self.known is not None
        return giving_next(made(self.known.shape[1], width, layers, heads, dropout, seed), self.known)


def _before(labels: torch.Tensor, asked: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the items (k, n) that came before each place that is asked for, and what is wanted there where none did.

    What came next before is what was had: such an item is never recommended again.
    """
    rows, places = asked.nonzero(as_tuple=True)
    known = labels[rows]
    earlier = (torch.arange(labels.shape[1], device=labels.device) < places[:, None]) & (known != IGNORED)
    return torch.where(earlier, known, wanted[:, None])


def learning(answer: RankedItems, vectors: np.ndarray) -> NextItems:
    """Return how the transformer of an answer is learnt over the vectors (m, d) of its catalogue."""
    values = {one.name: getattr(answer, one.name) for one in dataclasses.fields(RankedItems)}
    return NextItems(**{**values, "known": vectors})
