"""What a segmenter learns of composed scenes from a pretrained trunk, beside a random one and the usual class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.measuring import ROOT, Sizes, train
from benchmarks.page import Table, table
from hftransfer import catalog, samples
from hftransfer.runs import Run

CONFIG = ROOT / "configs" / "image-segmentation" / "scenes.yaml"
SCORES = ("mean_iou", "mean_dice", "boundary_f1", "pixel_accuracy")


def measure(folder: Path, sizes: Sizes) -> str:
    """Train from the pretrained trunk and from a random one, and score both beside the trivial answer."""
    pretrained = train(folder / "pretrained", CONFIG, *sizes.cap)
    random = train(folder / "random", CONFIG, *sizes.cap, f"model={random_trunk(folder / 'trunk')}")
    result, cost = pretrained.result(), pretrained.result()["cost"]
    rows: Table = [("", *(f"`{name}`" for name in SCORES))]
    rows.append((result["baseline"]["name"], *scores(result["baseline"]["metrics"])))
    rows += [
        (name, *scores(run.result()["test"]["metrics"]))
        for name, run in (("random trunk", random), ("pretrained trunk", pretrained))
    ]
    by_class = ", ".join(f"{one['name']} {one['iou']:.2f}" for one in result["test"]["classes"])
    settings = catalog.read_config(CONFIG)
    return "\n\n".join(
        [
            f"`{settings.model}` on `{settings.data.source}`: emoji on soft noise, whose masks are exact; "
            f"{result['test']['n']:,} test scenes. Trained in {cost['train_seconds']:.0f} s, "
            f"{waited(pretrained):.1%} of it waiting for pictures, with {cost['peak_memory_mb']:,} MB at most; "
            f"everything took {cost['alone_seconds']:.0f} s.",
            table(rows),
            f"IoU by class, pretrained: {by_class}.",
        ]
    )


def scores(found: dict[str, Any]) -> list[str]:
    """Return scores with their intervals."""
    return ["{value:.3f} ({low:.3f} to {high:.3f})".format(**found[name]) for name in SCORES]


def waited(run: Run) -> float:
    """Return the share of the training that waited for data."""
    return float(run.result()["cost"]["waiting_for_data"])


def random_trunk(folder: Path) -> Path:
    """Save the same architecture with random weights, and its processor."""
    source = samples.resolve(catalog.read_config(CONFIG).model)
    torch.manual_seed(0)
    transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(source)).save_pretrained(folder)
    transformers.AutoImageProcessor.from_pretrained(source, backend="pil").save_pretrained(folder)
    return folder
