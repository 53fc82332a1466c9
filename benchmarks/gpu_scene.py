"""Models with random weights in the shapes of known ones, and made-up rows for them: speed asks for no more.

Nothing is fetched. A `Shape` says how large: FULL is what is measured, TINY proves on any machine that it runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = [f"w{number}" for number in range(1000)]
TEMPLATE = "{% for message in messages %}{{ message['role'] + ' ' + message['content'] + ' [SEP] ' }}{% endfor %}"


@dataclass(frozen=True)
class Shape:
    """How large models and rows are, and how many updates are measured behind those that warm up."""

    text: dict[str, Any]
    picture: dict[str, Any]
    chats: dict[str, dict[str, Any]]  # by name
    batches: tuple[int, ...]  # rows of an update of texts
    pictures: int  # rows of an update
    dialogues: int  # rows of an update
    words: tuple[int, int]  # of a text, and of an answer: about
    warm: int
    steps: int
    side: int  # of the square matrices whose product is timed
    compiled: str  # how train.torch_compile compiles


FULL = Shape(
    text={"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536,
          "vocab_size": 30522},
    picture={"image_size": 224},
    chats={
        "135M": {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
                 "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True},
        "1B": {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
               "intermediate_size": 8192, "vocab_size": 128256, "tie_word_embeddings": True},
    },
    batches=(32, 256), pictures=128, dialogues=16, words=(20, 200), warm=10, steps=40, side=8192, compiled="inductor",
)  # fmt: skip
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TINY = Shape(
    text={**SMALL, "vocab_size": 1100}, picture={**SMALL, "image_size": 32, "patch_size": 16},
    chats={"tiny": {**SMALL, "num_key_value_heads": 2, "vocab_size": 1100, "tie_word_embeddings": True}},
    batches=(4,), pictures=4, dialogues=2, words=(4, 6), warm=1, steps=2, side=64, compiled="eager",
)  # fmt: skip


def reader(special: str) -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer of whole words; `special` is what begins a text and ends it."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "user", "assistant", *WORDS]
    core = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        core.post_processor = processors.TemplateProcessing(special, special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        eos_token="[SEP]", model_max_length=512, chat_template=TEMPLATE,
    )  # fmt: skip


def text_model(folder: Path, shape: Shape) -> Path:
    """Save an encoder and its tokenizer."""
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**shape.text)).save_pretrained(folder)
    reader("[CLS] $A [SEP]").save_pretrained(folder)
    return folder


def picture_model(folder: Path, shape: Shape) -> Path:
    """Save a vision transformer and what reads for it."""
    torch.manual_seed(0)
    transformers.ViTModel(transformers.ViTConfig(**shape.picture)).save_pretrained(folder)
    side = shape.picture["image_size"]
    transformers.ViTImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    return folder


def chat_model(folder: Path, settings: dict[str, Any]) -> Path:
    """Save a decoder and its tokenizer."""
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "eos_token_id": 3, "bos_token_id": 2}
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):  # a billion numbers are drawn quickly there
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**settings, **ids, max_position_embeddings=2048)
        )
    model.save_pretrained(folder)
    reader("").save_pretrained(folder)
    return folder


def said(rng: np.random.Generator, about: int) -> str:
    """Return so many words, more or less: lengths are spread as those of what people write."""
    count = int(np.clip(about * rng.lognormal(0.0, 0.5), 2, 3 * about))
    return " ".join(rng.choice(WORDS, count))


def texts(path: Path, shape: Shape, count: int) -> Path:
    """Write texts with one label of three."""
    rng = np.random.default_rng(0)
    rows = [{"text": said(rng, shape.words[0]), "label": "abc"[number % 3]} for number in range(count)]
    return lines(path, rows)


def dialogues(path: Path, shape: Shape, count: int) -> Path:
    """Write questions with answers."""
    rng = np.random.default_rng(0)
    few, many = shape.words
    return lines(path, [{"prompt": said(rng, few), "completion": said(rng, many)} for _ in range(count)])


def pictures(folder: Path, shape: Shape, count: int) -> Path:
    """Write JPEG files of two classes, a little larger than the model wants them."""
    rng = np.random.default_rng(0)
    side = shape.picture["image_size"] * 8 // 7
    for number in range(count):
        place = folder / "ab"[number % 2] / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        small.resize((side, side)).save(place)
    return folder


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
