"""Tiny detectors of every architecture, and pictures of shapes with their boxes: built in code, no download."""

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
CLASSES = ("disc", "square")
RESNET: dict[str, Any] = {
    "embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "layer_type": "basic",
}  # fmt: skip
DETR: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_queries": 10,
    "dropout": 0.0, "attention_dropout": 0.0,
    "auxiliary_loss": True,
}  # fmt: skip
FAST: dict[str, Any] = {
    "d_model": 32, "encoder_hidden_dim": 32, "encoder_in_channels": [12, 16, 24], "feat_strides": [8, 16, 32],
    "encoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_layers": 2, "decoder_ffn_dim": 32,
    "decoder_attention_heads": 2, "num_queries": 10, "num_denoising": 4, "decoder_in_channels": [32, 32, 32],
    "decoder_n_points": 2, "hidden_expansion": 0.5,
}  # fmt: skip


def _resnet(stages: list[str]) -> Any:
    return transformers.ResNetConfig(**RESNET, out_features=stages)


def _detr(kind: str, **more: Any) -> Callable[[], Any]:
    options = {**DETR, "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, **more}
    return lambda: getattr(transformers, kind)(backbone_config=_resnet(["stage4"]), **options)


def _fast(kind: str, **more: Any) -> Callable[[], Any]:
    def make() -> Any:
        backbone = transformers.RTDetrResNetConfig(**RESNET, out_features=["stage2", "stage3", "stage4"])
        return getattr(transformers, kind)(backbone_config=backbone, **{**FAST, **more})

    return make


def _yolos() -> Any:
    return transformers.YolosConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=[SIDE, SIDE],
        patch_size=16, num_detection_tokens=10, use_mid_position_embeddings=False, hidden_dropout_prob=0.0,
    )  # fmt: skip


def _d_fine() -> Any:
    backbone = transformers.HGNetV2Config(
        stem_channels=[3, 8, 8], stage_in_channels=[8, 8, 12, 16], stage_mid_channels=[4, 4, 8, 8],
        stage_out_channels=[8, 12, 16, 24], stage_num_blocks=[1, 1, 1, 1], stage_numb_of_layers=[1, 1, 1, 1],
        stage_downsample=[False, True, True, True], stage_light_block=[False, False, True, True],
        stage_kernel_size=[3, 3, 5, 5], embedding_size=8, hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    return transformers.DFineConfig(
        backbone_config=backbone, **{**FAST, "decoder_n_points": [2, 2, 2], "max_num_bins": 8}
    )


def _lw_detr() -> Any:
    backbone = transformers.LwDetrViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=SIDE, patch_size=16,
        pretrain_image_size=SIDE, window_block_indices=[0], num_windows=4, out_indices=[2],
    )  # fmt: skip
    return transformers.LwDetrConfig(
        backbone_config=backbone, projector_scale_factors=[1.0], hidden_expansion=0.5, c2f_num_blocks=1, d_model=32,
        decoder_layers=2, decoder_ffn_dim=32, decoder_n_points=2, decoder_self_attention_heads=2,
        decoder_cross_attention_heads=2, num_queries=10, group_detr=2, num_feature_levels=1,
    )  # fmt: skip


MADE: dict[str, tuple[Callable[[], Any], str]] = {
    "detr": (_detr("DetrConfig"), "DetrImageProcessorPil"),
    "conditional-detr": (_detr("ConditionalDetrConfig"), "ConditionalDetrImageProcessorPil"),
    "deformable-detr": (
        _detr("DeformableDetrConfig", num_feature_levels=1, encoder_n_points=2, decoder_n_points=2),
        "DeformableDetrImageProcessorPil",
    ),
    "yolos": (_yolos, "YolosImageProcessorPil"),
    "rt-detr": (_fast("RTDetrConfig"), "RTDetrImageProcessorPil"),
    "rt-detr-v2": (_fast("RTDetrV2Config"), "RTDetrImageProcessorPil"),
    "d-fine": (_d_fine, "RTDetrImageProcessorPil"),
    "lw-detr": (_lw_detr, "DeformableDetrImageProcessorPil"),
}


def model(folder: Path, architecture: str = "rt-detr-v2", spread: float = 0.0, **options: Any) -> Path:
    """Write a detector of an architecture and what reads for it, its weights spread by so much.

    The queries of a fresh one are alike: which is matched with a box is then what rounding leaves between them.
    """
    torch.manual_seed(0)
    make, reader = MADE[architecture]
    settings = make()
    settings.num_labels = 3
    for name, value in options.items():
        setattr(settings, name, value)
    made = transformers.AutoModelForObjectDetection.from_config(settings)
    with torch.no_grad():
        for parameter in made.parameters() if spread else ():
            parameter += spread * torch.randn_like(parameter)
    made.save_pretrained(folder)
    fixed = reader == "RTDetrImageProcessorPil"
    size = {"height": SIDE, "width": SIDE} if fixed else {"shortest_edge": SIDE, "longest_edge": 2 * SIDE}
    getattr(transformers, reader)(size=size).save_pretrained(folder)
    return folder


def pictures(count: int, seed: int = 0, side: int = SIDE) -> list[tuple[Image.Image, list[list[float]], list[str]]]:
    """Return pictures of one or two shapes on grey, with their boxes (left, top, width, height) and names."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        pixels = np.full((side, side, 3), 128, np.uint8) + rng.integers(-9, 10, (side, side, 3)).astype(np.int8)
        boxes, names = [], []
        for half in range(int(rng.integers(1, 3))):
            size, kind = int(rng.integers(side // 4, side // 2)), int(rng.integers(2))
            left = half * side // 2 + int(rng.integers(0, side // 2 - size + 1))
            top = int(rng.integers(0, side - size + 1))
            y, x = np.mgrid[:size, :size] - (size - 1) / 2
            inside = np.hypot(x, y) <= size / 2 if kind == 0 else np.ones((size, size), bool)
            pixels[top : top + size, left : left + size][inside] = (230, 40, 40) if kind == 0 else (40, 60, 230)
            boxes.append([float(left), float(top), float(size), float(size)])
            names.append(CLASSES[kind])
        found.append((Image.fromarray(pixels.astype(np.uint8)), boxes, names))
    return found


def folder(path: Path, count: int = 24, seed: int = 0) -> Path:
    """Write pictures and metadata.jsonl with `objects`, as the Hub's imagefolder has them."""
    path.mkdir(parents=True)
    lines = []
    for number, (picture, boxes, names) in enumerate(pictures(count, seed)):
        picture.save(path / f"{number:03}.png")
        lines.append(json.dumps({"file_name": f"{number:03}.png", "objects": {"bbox": boxes, "category": names}}))
    (path / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return path
