"""Tiny models that go on from a text, with a tokenizer of bytes that chats, and rows in every form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.tiny_written import pairs

PLACES = 256
SPECIAL = ("<|im_end|>", "<|im_start|>", "<s>")
# SmolLM2's and Qwen's: no mark of what is generated, a blank line behind what ends a turn
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": PLACES,
}  # fmt: skip
ARCHITECTURES = ("llama", "llama-untied", "gpt2", "qwen3", "opt", "bloom")


def tokenizer(template: str | None = CHATML, **options: Any) -> PreTrainedTokenizerFast:
    """Return a tokenizer of single bytes whose padding is its end, as SmolLM2's."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*SPECIAL, *letters]
    core = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    given = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "model_max_length": PLACES, **options}
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=template, **given)


def _llama(**options: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda ids: transformers.LlamaConfig(**{**SMALL, **ids}, num_key_value_heads=2, **options)


CONFIGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "llama": _llama(tie_word_embeddings=True),
    "llama-untied": _llama(tie_word_embeddings=False),
    "gpt2": lambda ids: transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=2, n_positions=PLACES, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **ids
    ),
    "qwen3": lambda ids: transformers.Qwen3Config(**SMALL, **ids, num_key_value_heads=2, head_dim=16),
    "opt": lambda ids: transformers.OPTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=64, word_embed_proj_dim=32,
        max_position_embeddings=PLACES, dropout=0.0, **ids,
    ),
    "bloom": lambda ids: transformers.BloomConfig(
        hidden_size=32, n_layer=2, n_head=2, hidden_dropout=0.0, attention_dropout=0.0, **ids
    ),
}  # fmt: skip


def causal_model(folder: Path, architecture: str = "llama", template: str | None = CHATML, **settings: Any) -> Path:
    """Save a model with random weights and its tokenizer; `settings` go into its config."""
    torch.manual_seed(0)
    reads = tokenizer(template)
    ids = {"vocab_size": len(reads), "pad_token_id": 0, "eos_token_id": 0, "bos_token_id": 2, **settings}
    transformers.AutoModelForCausalLM.from_config(CONFIGS[architecture](ids)).save_pretrained(folder)
    reads.save_pretrained(folder)
    return folder


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(form: str, count: int = 120, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows of one content in a form: text, completion, instruction, messages or conversations."""
    found = []
    for asked, answer in pairs(count, seed):
        if form == "text":
            found.append({"text": f"{asked} is {answer}."})
        elif form == "completion":
            found.append({"prompt": asked, "completion": answer})
        elif form == "instruction":
            found.append({"instruction": "Translate.", "input": asked, "output": answer})
        elif form == "messages":
            turns = [("user", asked), ("assistant", answer), ("user", "again"), ("assistant", answer)]
            found.append({"messages": [{"role": who, "content": said} for who, said in turns]})
        else:
            turns = [("system", "short"), ("human", asked), ("gpt", answer)]
            found.append({"conversations": [{"from": who, "value": said} for who, said in turns]})
    return found
