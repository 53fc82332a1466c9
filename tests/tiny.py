"""Tiny models, processors and data sets, built in code: no download, a fraction of a second each."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hftransfer import answers
from hftransfer.answers.base import Answer

GOOD = ("good", "great", "fine", "lovely", "bright")
BAD = ("bad", "poor", "awful", "dull", "grim")
FILLER = ("the", "film", "was", "a", "very", "story", "and", "food", "with", "cast", "an", "of", "in", "it", "we")
SMALL: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
PICTURE: dict[str, Any] = {"image_size": 32, "patch_size": 8, "num_channels": 3}


def answer(
    kind: str, names: Iterable[str] = (), counts: Iterable[int] = (), rows: int = 0, **learnt: Any
) -> Answer[Any]:
    """Return the answer of a kind as training rows would have taught it."""
    return answers.restore({"kind": kind, "names": list(names), "counts": list(counts), "rows": rows, **learnt})


def tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """Return a word-level tokenizer over the vocabulary above."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *FILLER]
    vocabulary = {word: i for i, word in enumerate(words)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", **special}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=64, **names)


def _text(config: str, **options: Any) -> Callable[[], Any]:
    return lambda: getattr(transformers, config)(**{**SMALL, "pad_token_id": 0, **options})


TEXT: dict[str, Callable[[], Any]] = {
    "bert": _text("BertConfig"),
    "roberta": _text("RobertaConfig"),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=48, dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=64
    ),
    "deberta-v2": _text("DebertaV2Config", relative_attention=True, pos_att_type=["c2p", "p2c"]),
    "modernbert": _text(
        "ModernBertConfig",
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
        global_attn_every_n_layers=1,
    ),
    "llama": _text("LlamaConfig", num_key_value_heads=2, bos_token_id=2, eos_token_id=3),
}  # fmt: skip
IMAGE: dict[str, Callable[[], Any]] = {
    "vit": lambda: transformers.ViTConfig(**{**SMALL, **PICTURE}),
    "dinov2": lambda: transformers.Dinov2Config(**{**SMALL, **PICTURE, "mlp_ratio": 2}),
    "swin": lambda: transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4
    ),
    "convnext": lambda: transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
    "resnet": lambda: transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic"
    ),
    "mobilenet-v2": lambda: transformers.MobileNetV2Config(depth_multiplier=0.35, image_size=32, min_depth=8),
}
PROCESSORS = {
    "vit": "ViTImageProcessorPil",
    "dinov2": "BitImageProcessorPil",
    "swin": "ViTImageProcessorPil",
    "convnext": "ConvNextImageProcessorPil",
    "resnet": "ConvNextImageProcessorPil",
    "mobilenet-v2": "MobileNetV2ImageProcessorPil",
}


def text_model(folder: Path, architecture: str = "bert", **special: str) -> Path:
    """Save a bare backbone with random weights and its tokenizer."""
    torch.manual_seed(0)
    transformers.AutoModel.from_config(TEXT[architecture]()).save_pretrained(folder)
    tokenizer(**special).save_pretrained(folder)
    return folder


def image_model(folder: Path, architecture: str = "vit") -> Path:
    """Save a bare backbone with random weights and its PIL image processor."""
    torch.manual_seed(0)
    transformers.AutoModel.from_config(IMAGE[architecture]()).save_pretrained(folder)
    size: dict[str, Any] = {"height": 32, "width": 32}
    options: dict[str, Any] = {"size": size, "crop_size": size, "do_center_crop": False}
    if architecture in ("convnext", "resnet"):
        options = {"size": {"shortest_edge": 32}, "crop_pct": 1.0}
    getattr(transformers, PROCESSORS[architecture])(**options).save_pretrained(folder)
    return folder


def image_text_model(folder: Path, kind: str) -> Path:
    """Save a CLIP or Siglip, or a VisionTextDualEncoder of a picture model (`dual-...`), with what reads for it."""
    text = {**SMALL, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    vision = {**SMALL, **PICTURE}
    torch.manual_seed(0)
    if kind.startswith("dual-"):
        name = kind.removeprefix("dual-")
        part = transformers.CLIPVisionConfig(**vision) if name == "clip" else IMAGE[name]()
        if name == "mobilenet-v2":
            part.hidden_size = 1280  # its config names no width, and the projection needs one
            part.initializer_range = 0.3  # with smaller random weights nothing is left of a picture
        config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(
            part, TEXT["bert"](), projection_dim=16
        )
        transformers.VisionTextDualEncoderModel(config).save_pretrained(folder)
        reader = PROCESSORS.get(name, "CLIPImageProcessorPil")
    else:
        extra = {"projection_dim": 16} if kind == "CLIP" else {}
        config = getattr(transformers, f"{kind}Config")(text_config=text, vision_config=vision, **extra)
        getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
        reader = f"{kind}ImageProcessorPil"
    tokenizer().save_pretrained(folder)
    size = {"height": 32, "width": 32}
    getattr(transformers, reader)(size=size, crop_size=size, do_center_crop=False).save_pretrained(folder)
    return folder


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return sentences with their label: every one holds a good or a bad word."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        label, words = ("positive", GOOD) if number % 2 else ("negative", BAD)
        text = [str(w) for w in rng.choice(FILLER, rng.integers(2, 9))]
        text.insert(int(rng.integers(0, len(text) + 1)), str(rng.choice(words)))
        found.append((" ".join(text), label))
    return found


def text_csv(path: Path, count: int = 120, seed: int = 0) -> Path:
    """Write sentences to a CSV with the columns text and label."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(sentences(count, seed))
    return path


def token_jsonl(path: Path, count: int = 120, seed: int = 0) -> Path:
    """Write sentences with an entity tag on every good or bad word."""
    with open(path, "w", encoding="utf-8") as file:
        for text, _ in sentences(count, seed):
            words = text.split()
            tags = ["B-GOOD" if w in GOOD else "B-BAD" if w in BAD else "O" for w in words]
            file.write(json.dumps({"tokens": words, "ner_tags": tags}) + "\n")
    return path


def image_folder(folder: Path, count: int = 48, seed: int = 0, size: int = 32) -> Path:
    """Write red and blue pictures with noise into one folder a class."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        name, channel = ("blue", 2) if number % 2 else ("red", 0)
        pixels = rng.integers(0, 90, (size, size, 3), dtype=np.uint8)
        pixels[..., channel] += 150
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name / f"{number:03}.png")
    return folder
