"""transformers' image-classification example: python -m benchmarks.pictures_defaults CONFIG ROWS

The example (examples/pytorch/image-classification/run_image_classification.py) ships in transformers' repository and
crops with torchvision, which need not be there; this states its defaults again with Pillow: a random part of 8 % to
all of the picture at a size of the model's own, mirrored half of the time, batches of 8, float32, AdamW at 5e-5, one
process that decodes and trains. CONFIG says which pictures and model. Prints one JSON line.
"""

from __future__ import annotations

import json
import math
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    Trainer,
    TrainingArguments,
    default_data_collator,
    logging,
    set_seed,
)

from hftransfer import catalog, data, samples

SEED = 42


def main(config: Path, rows: int) -> None:
    """Train for one epoch, print examples per second."""
    logging.set_verbosity_error()
    set_seed(SEED)
    settings = catalog.read_config(config, [f"data.max_rows={rows}", "data.likely_copies=false"])
    found = data.load(settings.data, catalog.task(settings.task), settings.seed)
    model = str(samples.resolve(settings.model))
    processor = AutoImageProcessor.from_pretrained(model, use_fast=False)
    size = processor.crop_size or processor.size
    side = int(size["height"])
    mean, std = np.array(processor.image_mean, np.float32), np.array(processor.image_std, np.float32)

    def shown(batch: dict[str, list[Any]]) -> dict[str, Any]:
        pictures = [changed(one.convert("RGB"), side) for one in batch["image"]]
        pixels = [(np.asarray(one, np.float32) / 255 - mean) / std for one in pictures]
        return {"pixel_values": [torch.from_numpy(one).permute(2, 0, 1) for one in pixels], "labels": batch["label"]}

    train = found.splits["train"].with_transform(shown)
    network = AutoModelForImageClassification.from_pretrained(
        model, num_labels=len(found.answer.names), ignore_mismatched_sizes=True, dtype=torch.float32
    )
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            output, num_train_epochs=1, seed=SEED, disable_tqdm=True, report_to="none", remove_unused_columns=False
        )
        trained = Trainer(network, arguments, train_dataset=train, data_collator=default_data_collator).train().metrics
    print(json.dumps({"examples_per_second": trained["train_samples_per_second"]}))


def changed(picture: Image.Image, side: int) -> Image.Image:
    """Return a random part of a picture, `side` pixels wide and high, mirrored half of the time."""
    width, height = picture.size
    share, ratio = random.uniform(0.08, 1), math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
    wide = min(width, max(1, round(math.sqrt(share * width * height * ratio))))
    high = min(height, max(1, round(math.sqrt(share * width * height / ratio))))
    left, top = random.randint(0, width - wide), random.randint(0, height - high)
    part = picture.resize((side, side), Image.Resampling.BILINEAR, (left, top, left + wide, top + high))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else part


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
