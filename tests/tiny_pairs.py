"""Texts that belong together, and tiny models that make vectors of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from tests import tiny, tiny_spans

WORDS = (*tiny.GOOD, *tiny.BAD, *tiny.FILLER)


def model(folder: Path, architecture: str = "bert", still: bool = False) -> Path:
    """Save a bare backbone with random weights and its tokenizer; `still`: without dropout."""
    torch.manual_seed(0)
    config = (tiny.TEXT | {"mpnet": tiny_spans.CONFIGS["mpnet"]})[architecture]()
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob") if still else ():
        setattr(config, name, 0.0)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def rows(count: int, seed: int = 0, negative: bool = False) -> list[dict[str, Any]]:
    """Return pairs: some words, and the same ones backwards with one more."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        words = [str(word) for word in rng.choice(WORDS, 4, replace=False)]
        row = {"anchor": " ".join(words), "positive": " ".join([*words[::-1], str(rng.choice(WORDS))])}
        other = " ".join(str(word) for word in rng.choice(WORDS, 5))
        found.append(row | ({"negative": other} if negative else {}))
    return found


def jsonl(path: Path, count: int = 200, **options: Any) -> Path:
    """Write such pairs, a row each."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(count, **options)))
    return path


def scored(path: Path, count: int = 200, highest: float = 5.0, seed: int = 0) -> Path:
    """Write pairs with the share of their words that they have in common, as a score from 0 to `highest`."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        words = [str(word) for word in rng.choice(WORDS, 8, replace=False)]
        shared = int(rng.integers(0, 5))
        other = [*words[:shared], *words[4 : 8 - shared]]
        row = {"sentence1": " ".join(words[:4]), "sentence2": " ".join(str(word) for word in rng.permutation(other))}
        found.append(row | {"score": highest * shared / 4})
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path
