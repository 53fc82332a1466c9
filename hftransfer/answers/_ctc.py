"""Connectionist temporal classification (Graves et al. 2006): a token or none at each place, as one text."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hftransfer.answers._decoder import IGNORED

if TYPE_CHECKING:
    import torch

PAD, UNKNOWN, BLANK_BETWEEN = "[PAD]", "[UNK]", "|"  # the first is what stands for no character
FRAME = ((400, 160), (2, 2))  # samples, then frames, of what reads spectra two frames at a time
FEW = 0.2  # of train's characters, up to which a model that lacks them keeps its vocabulary and gets them besides
MOST_NLL = 700.0  # what exp takes
CERTAIN = 1e4  # the score of nothing at a place that is no part of a recording


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
    names = [PAD, UNKNOWN, BLANK_BETWEEN, *(one for one in characters if one not in (" ", BLANK_BETWEEN))]
    return _of({name: number for number, name in enumerate(names)}, PAD, UNKNOWN, BLANK_BETWEEN)


def takes_more(tokenizer: Any) -> bool:
    """Tell whether a tokenizer is a plain list of characters, of one language."""
    return type(tokenizer).__name__ == "Wav2Vec2CTCTokenizer" and tokenizer.target_lang is None


def widened(tokenizer: Any, characters: Sequence[str], size: int) -> Any:
    """Return a tokenizer of the first `size` tokens of another, with characters behind them."""
    if tokenizer.do_lower_case:
        characters = [one.upper() for one in characters]
    known = {name: number for name, number in tokenizer.get_vocab().items() if number < size}
    more = {name: size + number for number, name in enumerate(characters)}
    options = {"do_lower_case": tokenizer.do_lower_case}
    return _of(known | more, tokenizer.pad_token, tokenizer.unk_token, tokenizer.word_delimiter_token, **options)


def _of(vocabulary: dict[str, int], pad: str, unknown: str, between: str, **options: Any) -> Any:
    from transformers import Wav2Vec2CTCTokenizer

    with tempfile.TemporaryDirectory(prefix="hftransfer-vocabulary-") as folder:
        path = Path(folder) / "vocab.json"
        path.write_text(json.dumps(vocabulary), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(
            str(path), unk_token=unknown, pad_token=pad, word_delimiter_token=between, bos_token=None, eos_token=None,
            **options,
        )  # fmt: skip


def unknown(tokenizer: Any, characters: Sequence[str], size: int) -> list[str]:
    """Return the characters that a tokenizer has no token for, among the first `size`; blanks aside.

    Those behind are marks that tokenizers add and no model of their kind gives a score to.
    """

    def is_known(ids: Sequence[int]) -> bool:
        return all(one != tokenizer.unk_token_id and one < size for one in ids)

    return [one for one in characters if one.strip() and not is_known(tokenizer(one)["input_ids"])]


def in_capitals(tokenizer: Any, characters: Sequence[str]) -> bool:
    """Tell whether a tokenizer knows capital letters alone, and none is among some characters."""
    return one_case(tokenizer) == "capitals" and not any(one.isupper() for one in characters)


def one_case(tokenizer: Any) -> Literal["capitals", "small"] | None:
    """Return of which case a tokenizer's letters are; None where it has both, or capitals that it makes nothing of."""
    known = [name for name in tokenizer.get_vocab() if len(name) == 1]
    capitals, small = any(name.isupper() for name in known), any(name.islower() for name in known)
    if capitals == small:
        return None
    return "small" if small else "capitals" if hasattr(tokenizer, "do_lower_case") else None


def make_small(tokenizer: Any, small: bool = True) -> None:
    """Have a tokenizer of capitals read letters of both cases, and write small ones."""
    tokenizer.do_lower_case = tokenizer.init_kwargs["do_lower_case"] = small


def are_few(tokenizer: Any, lacking: Sequence[str], characters: Sequence[str]) -> bool:
    """Tell whether a vocabulary can get what it lacks besides."""
    return takes_more(tokenizer) and len(lacking) <= FEW * len(characters)


def in_one_case(
    tokenizer: Any, characters: list[str], lacking: list[str], size: int, trains: bool
) -> tuple[list[str], list[str]]:
    """Return the characters with their letters made small, and what a vocabulary of one case still lacks of them.

    As they are where it knows both cases, or where a head that is trained would be thrown away all the same.
    """
    case = one_case(tokenizer)
    small = sorted({*"".join(characters).lower()})
    if case is None or small == characters:
        return characters, lacking
    before = case == "small" or tokenizer.do_lower_case
    if case == "capitals":
        make_small(tokenizer)
    left = unknown(tokenizer, small, size)
    if len(left) < len(lacking) and (not left or not trains or are_few(tokenizer, left, small)):
        return small, left
    if not before:
        make_small(tokenizer, False)
    return characters, lacking


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
    nothing = torch.full_like(logits[0, 0], -CERTAIN)
    nothing[model.config.pad_token_id] = CERTAIN
    outputs["logits"] = torch.where(mask.bool()[..., None], logits, nothing)
    return outputs


def nll_of(logits: torch.Tensor, labels: torch.Tensor, blank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the negative log likelihood (n,) in nats of labels (n, t), and which fit the places of their recording.

    It is 0 where a text does not. Places that a batch is filled up with are not the recording's own.
    """
    import torch
    from torch.nn import functional

    shares = functional.log_softmax(logits, dim=-1, dtype=torch.float32).transpose(0, 1)
    known = labels != IGNORED
    sizes = torch.full((len(labels),), len(shares), dtype=torch.int64)
    found = functional.ctc_loss(
        shares, labels.clamp(min=0), sizes, known.sum(1).cpu(), blank=blank, reduction="none", zero_infinity=True
    )
    own = (logits[..., blank] < CERTAIN / 2).sum(1)
    wanted = known.sum(1) + ((labels[:, 1:] == labels[:, :-1]) & known[:, 1:]).sum(1)  # see `needed`
    return torch.where(wanted <= own, found, 0.0), wanted <= own


def loss(blank: int) -> Callable[..., torch.Tensor]:
    """Return the loss: a sum divided by the characters of the whole update."""

    def compute(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        count = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return nll_of(outputs["logits"], labels, blank)[0].sum() / count

    return compute


def sums_of(logits: torch.Tensor, labels: torch.Tensor, blank: int) -> torch.Tensor:
    """Return nll, characters and those not to be edited of each row, (n, 3); zeros where a text does not fit."""
    import torch
    from rapidfuzz.distance import Levenshtein

    nll, fits = nll_of(logits, labels, blank)
    known = (labels != IGNORED).sum(1) * fits
    right = []
    for ids, row, possible in zip(collapsed(logits, blank), labels.tolist(), fits.tolist(), strict=True):
        truth = [one for one in row if one != IGNORED]
        right.append(max(0, len(truth) - Levenshtein.distance(ids, truth)) if possible else 0)
    return torch.stack([nll, known.float(), torch.tensor(right, dtype=torch.float32, device=nll.device)], dim=1)


def collapsed(logits: torch.Tensor, blank: int) -> list[list[int]]:
    """Return the likeliest token of each place, alike neighbours as one, and nothing left out."""
    rows = logits.argmax(-1).cpu().numpy()
    return [[int(one) for one in row[np.diff(row, prepend=-1) != 0] if one != blank] for row in rows]
