"""Detectors to start from: a pretrained backbone under a decoder that has learnt nothing yet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hftransfer.samples import backbones
from hftransfer.samples.sample import Sample

if TYPE_CHECKING:
    from hftransfer.samples.archives import Archive

SIDE = 128  # pixels that pictures are made


def rtdetr_thin(folder: Path, archive: Archive) -> None:
    """Write an RT-DETRv2 on the trunk of resnet50-thin."""
    import tempfile

    import torch
    from transformers import ResNetBackbone, ResNetConfig, RTDetrImageProcessorPil, RTDetrV2Config
    from transformers import RTDetrV2ForObjectDetection as Detector

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        backbones.resnet50_thin(Path(place), archive)
        stages = ["stage2", "stage3", "stage4"]
        trunk = ResNetBackbone.from_pretrained(place, out_features=stages)
        settings = ResNetConfig.from_pretrained(place, out_features=stages)
    detector = Detector(
        RTDetrV2Config(
            backbone_config=settings, encoder_in_channels=list(trunk.channels), d_model=128, encoder_hidden_dim=128,
            encoder_ffn_dim=256, decoder_in_channels=[128, 128, 128], decoder_ffn_dim=256, decoder_layers=3,
            encoder_attention_heads=4, decoder_attention_heads=4, num_queries=60, num_denoising=40,
        )
    )  # fmt: skip
    known = detector.model.backbone.model.state_dict()
    found = {name: value for name, value in trunk.state_dict().items() if name in known}
    if set(known) - set(found):
        raise RuntimeError(f"the trunk lacks {len(set(known) - set(found))} of the detector's weights")
    detector.model.backbone.model.load_state_dict(found)
    detector.save_pretrained(folder)
    RTDetrImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, do_normalize=True, image_mean=backbones.MEAN, image_std=[1 / 255] * 3
    ).save_pretrained(folder)


SAMPLES = (
    Sample(
        "rtdetr-thin",
        "model",
        "object-detection",
        f"RT-DETRv2 for pictures of {SIDE}x{SIDE}: the backbone is resnet50-thin, pretrained; all else is new.",
        "MIT package, BSD-2-Clause weights",
        (backbones.OPEN_NSFW,),
        rtdetr_thin,
    ),
)
