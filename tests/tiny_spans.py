"""Questions about small texts whose answers a tiny model can learn, in SQuAD's forms, and tiny models that answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers import processors as endings

THINGS = ("cup", "hat", "pen", "bag", "key", "box")
COLOURS = ("red", "blue", "green", "black", "white", "grey")
NUMBERS = ("one", "two", "three", "four", "five")
FILLER = ("the", "a", "and", "of", "old", "new", "is", "it", "with")
WORDS = (*NUMBERS, *FILLER, "what", "colour", "thing", "number", ".", "?")
SMALL: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
    "max_position_embeddings": 66, "pad_token_id": 0,
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "bert": lambda: transformers.BertConfig(**SMALL),
    "roberta": lambda: transformers.RobertaConfig(**{**SMALL, "pad_token_id": 0}),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=300, dim=48, n_layers=2, n_heads=4, hidden_dim=96, max_position_embeddings=66
    ),
    "electra": lambda: transformers.ElectraConfig(**SMALL, embedding_size=48),
    "modernbert": lambda: transformers.ModernBertConfig(
        **SMALL, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3, global_attn_every_n_layers=1
    ),
    "deberta-v2": lambda: transformers.DebertaV2Config(**SMALL, relative_attention=True, pos_att_type=["c2p", "p2c"]),
    "mpnet": lambda: transformers.MPNetConfig(**{**SMALL, "pad_token_id": 1}),
    "xlnet": lambda: transformers.XLNetConfig(
        vocab_size=300, d_model=48, n_layer=2, n_head=4, d_inner=96, pad_token_id=0
    ),
}
ARCHITECTURES = tuple(CONFIGS)


def tokenizer(bytes_: bool = False, **options: Any) -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer of words and marks, or of bytes, whose pieces begin with their blank."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if bytes_:
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        core = Tokenizer(models.BPE({piece: i for i, piece in enumerate([*special, *letters])}, []))
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
    else:
        core = Tokenizer(
            models.WordLevel(
                {word: i for i, word in enumerate([*special, *THINGS, *COLOURS, *WORDS])}, unk_token="[UNK]"
            )
        )
        core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = endings.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, model_max_length=64, **{**names, "model_input_names": ["input_ids", "attention_mask"]},
        **options,
    )  # fmt: skip


def model(folder: Path, architecture: str = "bert", **options: Any) -> Path:
    """Save a bare backbone with random weights and its tokenizer."""
    torch.manual_seed(0)
    transformers.AutoModel.from_config(CONFIGS[architecture]()).save_pretrained(folder)
    tokenizer(**options).save_pretrained(folder)
    return folder


def rows(count: int, seed: int = 0, silent: float = 0.25) -> list[dict[str, Any]]:
    """Return questions as the Hub's SQuAD has them: the colour in a text, which a share of the texts does not name."""
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        words = [str(word) for word in rng.choice([*THINGS, *NUMBERS, *FILLER], rng.integers(6, 10))]
        colour, none = str(rng.choice(COLOURS)), rng.random() < silent
        if not none:
            words.insert(int(rng.integers(0, len(words) + 1)), colour)
        context = " ".join([*words, "."])
        start = 0 if none else f" {context}".index(f" {colour} ")
        answers = {"text": [] if none else [colour], "answer_start": [] if none else [start]}
        row = {"id": f"q{number}", "title": f"t{number // 4}", "context": context}
        found.append({**row, "question": "what colour is it ?", "answers": answers})
    return found


def jsonl(path: Path, count: int = 160, **options: Any) -> Path:
    """Write such questions, a row each."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(count, **options)))
    return path
