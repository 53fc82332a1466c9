"""Connectionist temporal classification (Graves et al. 2006): a token or none at each place, as one text."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.answers._decoder import IGNORED

if TYPE_CHECKING:
    import torch

PAD, UNKNOWN, BLANK_BETWEEN = "[PAD]", "[UNK]", "|"  # the first is what stands for no character
FRAME = ((400, 160), (2, 2))  # samples, then frames, of what reads spectra two frames at a time
MOST_NLL = 700.0  # what exp takes


def is_ctc(settings: Any) -> bool:
    """Tell whether models of these settings give a token or none at each place, and write none."""
    from transformers import MODEL_FOR_CTC_MAPPING, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING

    return type(settings) in MODEL_FOR_CTC_MAPPING and type(settings) not in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING


def strides(settings: Any) -> tuple[tuple[int, int], ...]:
    """Return what makes places of samples: width and step of each layer, from the first."""
    found = settings.to_dict()
    layers = tuple(zip(found["conv_kernel"], found["conv_stride"], strict=True)) if "conv_kernel" in found else FRAME
    if found.get("add_adapter"):
        step = (found["adapter_kernel_size"] - 2, found["adapter_stride"])  # it pads one place on both sides
        layers += (step,) * found["num_adapter_layers"]
    return layers


def places(samples: int, layers: Sequence[tuple[int, int]]) -> int:
    """Return how many places a model makes of so many samples."""
    for width, step in layers:
        samples = max(0, (samples - width) // step + 1)
    return samples


def needed(ids: Sequence[int]) -> int:
    """Return how many places a text needs: one a token, and one between two that are alike."""
    return len(ids) + sum(one == other for one, other in itertools.pairwise(ids))


def tokenizer_of(characters: Sequence[str]) -> Any:
    """Return a tokenizer of characters; a blank is one too."""
    from transformers import Wav2Vec2CTCTokenizer

    names = [PAD, UNKNOWN, BLANK_BETWEEN, *(one for one in characters if one not in (" ", BLANK_BETWEEN))]
    with tempfile.TemporaryDirectory(prefix="hftransfer-vocabulary-") as folder:
        path = Path(folder) / "vocab.json"
        path.write_text(json.dumps({name: number for number, name in enumerate(names)}), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(
            str(path), unk_token=UNKNOWN, pad_token=PAD, word_delimiter_token=BLANK_BETWEEN, bos_token=None,
            eos_token=None,
        )  # fmt: skip


def unknown(tokenizer: Any, characters: Sequence[str]) -> list[str]:
    """Return the characters that a tokenizer has no token for; blanks aside."""
    return [one for one in characters if one.strip() and tokenizer.unk_token_id in tokenizer(one)["input_ids"]]


def read_alone(model: Any, named: Any, outputs: Any) -> Any:
    """Make the places that a batch is filled up with certain to hold nothing, so that nobody has to count them."""
    import torch

    mask = named.get("attention_mask")
    if mask is None:
        return outputs
    logits = outputs["logits"]
    if "_places" in named:
        ends = torch.tensor(named["_places"], device=logits.device)[:, None]
        mask = torch.arange(logits.shape[1], device=logits.device)[None] < ends
    elif mask.shape[1] != logits.shape[1]:
        mask = model._get_feature_vector_attention_mask(logits.shape[1], mask)
    nothing = torch.full_like(logits[0, 0], -1e4)
    nothing[model.config.pad_token_id] = 1e4
    outputs["logits"] = torch.where(mask.bool()[..., None], logits, nothing)
    return outputs


def nll_of(logits: torch.Tensor, labels: torch.Tensor, blank: int) -> torch.Tensor:
    """Return the negative log likelihood (n,) in nats of labels (n, t); 0 where a text does not fit its recording."""
    import torch
    from torch.nn import functional

    shares = functional.log_softmax(logits, dim=-1, dtype=torch.float32).transpose(0, 1)
    known = labels != IGNORED
    sizes = torch.full((len(labels),), len(shares), dtype=torch.int64)
    return functional.ctc_loss(
        shares, labels.clamp(min=0), sizes, known.sum(1).cpu(), blank=blank, reduction="none", zero_infinity=True
    )


def loss(blank: int) -> Callable[..., torch.Tensor]:
    """Return the loss: a sum divided by the characters of the whole update."""

    def compute(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        count = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return nll_of(outputs["logits"], labels, blank).sum() / count

    return compute


def sums_of(logits: torch.Tensor, labels: torch.Tensor, blank: int) -> torch.Tensor:
    """Return nll, characters and those not to be edited of each row, (n, 3)."""
    import torch
    from rapidfuzz.distance import Levenshtein

    nll = nll_of(logits, labels, blank)
    known = (labels != IGNORED).sum(1)
    right = []
    for ids, row in zip(collapsed(logits, blank), labels.tolist(), strict=True):
        truth = [one for one in row if one != IGNORED]
        right.append(max(0, len(truth) - Levenshtein.distance(ids, truth)))
    return torch.stack([nll, known.float(), torch.tensor(right, dtype=torch.float32, device=nll.device)], dim=1)


def collapsed(logits: torch.Tensor, blank: int) -> list[list[int]]:
    """Return the likeliest token of each place, alike neighbours as one, and nothing left out."""
    rows = logits.argmax(-1).cpu().numpy()
    return [[int(one) for one in row[np.diff(row, prepend=-1) != 0] if one != blank] for row in rows]
