"""Pictures of two colours, one above the other, each colour with a word of the tiny vocabulary for its name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from tests import tiny

WORDS = (*tiny.GOOD[:3], *tiny.BAD[:3])
COLOURS = ((220, 40, 40), (40, 200, 60), (40, 60, 220), (230, 220, 60), (30, 30, 30), (240, 240, 240))
SIDE = 32


def picture(above: int, below: int, rng: np.random.Generator) -> Image.Image:
    """Return a picture of two colours, by their numbers, with noise."""
    pixels = np.empty((SIDE, SIDE, 3))
    pixels[: SIDE // 2], pixels[SIDE // 2 :] = COLOURS[above], COLOURS[below]
    return Image.fromarray((pixels + rng.normal(0, 12, pixels.shape)).clip(0, 255).astype(np.uint8))


def captions(above: int, below: int) -> list[str]:
    """Return two texts that say which colours a picture has."""
    return [f"a {WORDS[above]} film with a {WORDS[below]} cast", f"the {WORDS[above]} story and {WORDS[below]} food"]


def folder(place: Path, count: int = 120, several: bool = False, seed: int = 0, column: str = "text") -> Path:
    """Write pictures and metadata.jsonl with a caption each, or a list of them where `several`."""
    place.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(seed), []
    for number in range(count):
        above, below = (int(one) for one in rng.integers(0, len(WORDS), 2))
        picture(above, below, rng).save(place / f"{number:03}.png")
        texts = captions(above, below)
        rows.append({"file_name": f"{number:03}.png", column: texts[: 1 + number % 2] if several else texts[0]})
    write(place, rows)
    return place


def write(place: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write metadata.jsonl."""
    (place / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def model(place: Path, family: str) -> Path:
    """Save a model of a family with random weights, without dropout, and what reads for it."""
    if family in ("ChineseCLIP", "MetaClip2"):
        torch.manual_seed(0)
        text = {**tiny.SMALL, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
        still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} if family == "ChineseCLIP" else {}
        vision = {**tiny.SMALL, **tiny.PICTURE}
        settings = getattr(transformers, f"{family}Config")(
            text_config={**text, **still}, vision_config=vision, projection_dim=16
        )
        getattr(transformers, f"{family}Model")(settings).save_pretrained(place)
        tiny.tokenizer().save_pretrained(place)
        size = {"height": SIDE, "width": SIDE}
        transformers.CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False).save_pretrained(place)
        return place
    tiny.image_text_model(place, family)
    if family.startswith("dual-"):
        path = place / "config.json"
        settings = json.loads(path.read_text())
        for part in ("text_config", "vision_config"):
            for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob"):
                if name in settings[part]:
                    settings[part][name] = 0.0
        path.write_text(json.dumps(settings))
    return place


def batch(task: Any, processor: Any, answer: Any, count: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return a batch of pictures with one or two captions each, as a model takes it, and its labels."""
    from hftransfer.config import DataConfig
    from hftransfer.modeling.batches import collator
    from hftransfer.tasks.base import Preparation

    rng, preparation = np.random.default_rng(3), Preparation(DataConfig(source="-"), answer, 0)
    colours = [(i % 6, (i + 1 + i // 6) % 6) for i in range(count)]
    rows = {"image": [picture(*pair, rng) for pair in colours]}
    texts = [captions(*pair)[: 1 + i % 2] for i, pair in enumerate(colours)]
    found = task.items(rows, texts, processor, preparation)
    names = [name for name in found if not name.startswith("_")]
    items = [{name: found[name][i] for name in names} for i in range(count)]
    made = collator(task, processor, preparation)(items)
    return made, made.pop("labels")
