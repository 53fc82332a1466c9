"""Photos of 12 megapixels for a model of 224 pixels: trained on by smaller copies, made once, or decoded whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import IMAGES
from benchmarks.measuring import Sizes, train
from benchmarks.page import Table, table
from hftransfer import samples

WIDTH, HEIGHT, EACH, CLASSES, EPOCHS = 4000, 3000, 24, 3, 8
GRAIN = 6.0  # standard deviation of the noise of a sensor, which a JPEG spends its bytes on


def measure(folder: Path, sizes: Sizes) -> str:
    """Return the section: the same run on the same photos, once by their copies and once without."""
    megabytes = taken(folder / "photos", sizes.rows or EACH * CLASSES)
    rows: Table = [
        ("train's photos", "training, s", "examples/s", "waiting for data", "whole run, s", "test accuracy")
    ]
    found = {}
    for name, reduced in (("copies", "true"), ("decoded whole in every epoch", "false")):
        result = train(
            folder / f"reduced-{reduced}", IMAGES, f"data.source={folder / 'photos'}", f"data.reduced={reduced}",
            f"train.num_train_epochs={EPOCHS}", "train.eval_strategy=epoch", "speed.tune=false",
            "train.per_device_train_batch_size=8", "data.label_issues=false", "data.likely_copies=false",
        ).result()  # fmt: skip
        cost = found[reduced] = result["cost"]
        rows.append(
            (
                name, f"{cost['train_seconds']:.1f}", f"{cost['examples_per_second']:.1f}",
                f"{cost['waiting_for_data']:.0%}", f"{cost['total_seconds']:.1f}",
                f"{result['test']['metrics']['accuracy']['value']:.3f}",
            )
        )  # fmt: skip
    times = {name: found["false"][name] / found["true"][name] for name in ("train_seconds", "total_seconds")}
    return "\n\n".join(
        [
            f"MobileNetV2 on {sizes.rows or EACH * CLASSES} JPEGs of {WIDTH} x {HEIGHT} pixels ({megabytes:.1f} MB "
            f"each: digits, enlarged, with a sensor's grain), {EPOCHS} epochs, one after the other.",
            table(rows),
            f"Training is **{times['train_seconds']:.1f}** times as fast by copies, and the whole run "
            f"**{times['total_seconds']:.1f}** times: rows that are scored are decoded whole in both.",
        ]
    )


def taken(place: Path, count: int) -> float:
    """Write photos of digits, a folder a class; return the mean size of one in MB."""
    rng = np.random.default_rng(0)
    found = samples.resolve_data("digits")
    folders = sorted(path for path in Path(found).rglob("*") if path.is_dir() and any(path.glob("*.png")))[:CLASSES]
    written = []
    for folder in folders:
        (place / folder.name).mkdir(parents=True)
        for source in sorted(folder.glob("*.png"))[: count // CLASSES]:
            large = Image.open(source).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            grain = rng.normal(0, GRAIN, (HEIGHT, WIDTH, 1)).astype(np.int16)
            pixels = np.clip(np.asarray(large, np.int16) + grain, 0, 255).astype(np.uint8)
            path = place / folder.name / f"{source.stem}.jpg"
            Image.fromarray(pixels).save(path, quality=90)
            written.append(path.stat().st_size)
    return float(np.mean(written)) / 1e6
