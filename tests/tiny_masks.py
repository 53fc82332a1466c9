"""Tiny models that answer with masks, and pictures of shapes whose masks are exact."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

SIDE = 64
SHAPES = ("disc", "box")
COLOURS = {"disc": (220, 60, 50), "box": (60, 90, 220)}


def _convnext() -> Any:
    return transformers.ConvNextConfig(
        hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1], out_features=["stage1", "stage2", "stage3", "stage4"]
    )


def _swin() -> Any:
    return transformers.SwinConfig(
        image_size=SIDE, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2,
        drop_path_rate=0.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip


VIT: dict[str, Any] = {
    "image_size": SIDE, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip

MODELS: dict[str, Callable[[], Any]] = {
    "segformer": lambda: transformers.SegformerConfig(
        hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16,
        classifier_dropout_prob=0.0, drop_path_rate=0.0,
    ),
    "upernet": lambda: transformers.UperNetConfig(
        backbone_config=_convnext(), hidden_size=16, pool_scales=[1, 2], auxiliary_channels=8
    ),
    "mobilenet-v2": lambda: transformers.MobileNetV2Config(
        depth_multiplier=0.35, image_size=SIDE, min_depth=8, classifier_dropout_prob=0.0
    ),
    "mobilevit": lambda: transformers.MobileViTConfig(
        image_size=SIDE, initializer_range=0.3, hidden_sizes=[16, 16, 24],
        neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32],
        num_attention_heads=2, mlp_ratio=1.0, aspp_out_channels=16, classifier_dropout_prob=0.0,
        aspp_dropout_prob=0.0,
    ),
    "beit": lambda: transformers.BeitConfig(
        **VIT, patch_size=16, out_indices=[1, 2, 3, 4], pool_scales=[1, 2], auxiliary_channels=8,
        use_relative_position_bias=True,
    ),
    "dpt": lambda: transformers.DPTConfig(
        **VIT, patch_size=16, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        reassemble_factors=[4, 2, 1, 0.5], is_hybrid=False, semantic_classifier_dropout=0.0,
    ),
    "maskformer": lambda: transformers.MaskFormerConfig(
        fpn_feature_size=32, mask_feature_size=32, backbone_config=_swin(),
        decoder_config=transformers.DetrConfig(
            d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16,
            encoder_attention_heads=2, decoder_attention_heads=2, num_queries=6, dropout=0.0,
        ),
    ),
    "mask2former": lambda: transformers.Mask2FormerConfig(
        backbone_config=_swin(), feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        dim_feedforward=16, encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=6,
        train_num_points=64, feature_strides=[4, 8, 16, 32],
    ),
}  # fmt: skip
PROCESSORS = {
    "segformer": "SegformerImageProcessorPil", "upernet": "SegformerImageProcessorPil",
    "mobilenet-v2": "MobileNetV2ImageProcessorPil", "mobilevit": "MobileViTImageProcessorPil",
    "beit": "BeitImageProcessorPil", "dpt": "DPTImageProcessorPil", "maskformer": "MaskFormerImageProcessorPil",
    "mask2former": "Mask2FormerImageProcessorPil",
}  # fmt: skip
# with smaller random weights these give every pixel one class, which tells nothing
SPREAD = {"dpt": 0.3, "maskformer": 0.3, "mask2former": 0.6}


def model(folder: Path, architecture: str = "segformer") -> Path:
    """Save a model with random weights and its PIL image processor."""
    torch.manual_seed(0)
    settings = MODELS[architecture]()
    settings.num_labels = 3
    queries = architecture in ("maskformer", "mask2former")
    auto = "AutoModelForUniversalSegmentation" if queries else "AutoModelForSemanticSegmentation"
    made = getattr(transformers, auto).from_config(settings)
    if architecture in SPREAD:
        with torch.no_grad():
            for weight in [weight for weight in made.parameters() if weight.dim() > 1]:
                weight.normal_(0, SPREAD[architecture])
    made.save_pretrained(folder)
    options: dict[str, Any] = {"size": {"height": SIDE, "width": SIDE}}
    if architecture in ("mobilenet-v2", "mobilevit"):  # as theirs: the shorter side, then the middle
        options = {"size": {"shortest_edge": SIDE + 8}, "crop_size": {"height": SIDE, "width": SIDE}}
    getattr(transformers, PROCESSORS[architecture])(**options).save_pretrained(folder)
    return folder


def scene(rng: np.random.Generator, width: int = 48, height: int = 40) -> tuple[Image.Image, np.ndarray]:
    """Return a picture with a disc and a box on noise, and the class (h, w) of each pixel: 0 is around them."""
    pixels = rng.integers(90, 150, (height, width, 3)).astype(np.uint8)
    classes = np.zeros((height, width), np.uint8)
    down, across = np.mgrid[:height, :width]
    x, y, radius = rng.integers(8, width - 8), rng.integers(8, height - 8), rng.integers(5, 9)
    left, top = rng.integers(0, width - 14), rng.integers(0, height - 12)
    box = (across >= left) & (across < left + 14) & (down >= top) & (down < top + 10)
    disc = (across - x) ** 2 + (down - y) ** 2 <= radius**2
    for place, inside in ((2, box), (1, disc)):
        classes[inside] = place
        pixels[inside] = COLOURS[SHAPES[place - 1]] + rng.integers(-20, 20, (int(inside.sum()), 3))
    return Image.fromarray(pixels), classes


def as_mask(classes: np.ndarray, form: str = "index") -> Image.Image:
    """Return classes as a mask of a form: index, palette, rgb or binary."""
    if form == "palette":
        found = Image.fromarray(classes, "P")
        found.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        return found
    if form == "rgb":
        return Image.fromarray(np.array([(0, 0, 0), *COLOURS.values()], np.uint8)[classes])
    return Image.fromarray((classes > 0).astype(np.uint8) * 255 if form == "binary" else classes)


def folder(place: Path, count: int = 24, seed: int = 0, form: str = "index", edge: bool = False) -> Path:
    """Write pictures into images/ and their masks into masks/; `edge`: a row of 255 at the top of each."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (place / name).mkdir(parents=True)
    for number in range(count):
        picture, classes = scene(rng, 48 + 4 * (number % 3))
        if edge:
            classes[0] = 255
        picture.save(place / "images" / f"{number:03}.png")
        as_mask(classes, form).save(place / "masks" / f"{number:03}.png")
    return place


def objects(place: Path, count: int = 24, seed: int = 0, crowd: bool = False) -> list[list[tuple[str, np.ndarray]]]:
    """Write pictures of two or three shapes and what is outlined in them as COCO's file; return the masks of each.

    Boxes are polygons, discs are runs; shapes may lie on one another, the later on top. Every fifth picture is of
    noise alone. `crowd`: some discs are one.
    """
    rng = np.random.default_rng(seed)
    place.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    drawn = []
    for number in range(count):
        width, height = 48 + 4 * (number % 3), 40
        pixels = rng.integers(90, 150, (height, width, 3)).astype(np.uint8)
        down, across = np.mgrid[:height, :width]
        masks = []
        for _ in range(int(rng.integers(2, 4)) if number % 5 != 4 else 0):
            kind = int(rng.integers(2))
            left, top, side = (int(rng.integers(high)) for high in (width - 16, height - 16, 6))
            side += 8
            inside = (across >= left) & (across < left + side) & (down >= top) & (down < top + side)
            if kind == 0:
                inside = np.hypot(across - left - side / 2, down - top - side / 2) <= side / 2
            pixels[inside] = COLOURS[SHAPES[kind]] + rng.integers(-20, 20, (int(inside.sum()), 3))
            ring = [left, top, left + side, top, left + side, top + side, left, top + side]
            flat = inside.T.ravel().astype(int)
            runs = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), flat.size]).tolist()
            outline: Any = [ring] if kind else {"size": [height, width], "counts": [0, *runs] if flat[0] else runs}
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": kind + 1, "segmentation": outline,
                "bbox": [left, top, side, side], "area": int(inside.sum()),
                "iscrowd": int(crowd and not kind and number % 2 == 0),
            })  # fmt: skip
            masks.append((SHAPES[kind], inside))
        Image.fromarray(pixels).save(place / f"{number:03}.png")
        images.append({"id": number, "file_name": f"{number:03}.png", "width": width, "height": height})
        drawn.append(masks)
    kinds = [{"id": at + 1, "name": name} for at, name in enumerate(SHAPES)]
    content = {"images": images, "annotations": annotations, "categories": kinds}
    (place / "instances.json").write_text(json.dumps(content))
    return drawn
