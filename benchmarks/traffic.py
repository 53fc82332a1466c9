"""What several GPUs would send each other, on paper: bytes of an update, and the seconds beside those of computing.

Nothing is measured here: no GPU was there. Sizes of collectives are those of ring algorithms; what is sent in which
type is what torch's DDP, and accelerate's FSDP2 and ZeRO-2 with bf16, do by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import Sizes
from benchmarks.page import Table, table

GPUS = 8
TOKENS = 4_096  # of an update on each GPU: 32 rows of 128
PEAK, REACHED = 989e12, 0.4  # bf16 operations a second of an H100 (dense, NVIDIA's data sheet), and the share assumed
LINKS = {"PCIe 4, 25 GB/s": 25e9, "NVLink 4, 450 GB/s": 450e9}  # each way, about what is left of 32 and nominal


@dataclass(frozen=True)
class Model:
    """A model's weights, and how many of them have a gradient."""

    name: str
    weights: float
    trained: float


MODELS = (
    Model("MiniLM, all weights", 22.7e6, 22.7e6),
    Model("BERT base, all weights", 110e6, 110e6),
    Model("BERT base, LoRA of rank 8 on query and value", 110e6, 0.3e6),
    Model("1 B, all weights", 1e9, 1e9),
)


def ddp(model: Model, gpus: int = GPUS) -> float:
    """Return the bytes that a GPU sends in an update: an all-reduce of float32 gradients."""
    return 2 * (gpus - 1) / gpus * 4 * model.trained


def fsdp2(model: Model, gpus: int = GPUS) -> float:
    """Return the same of weights gathered in bf16 for forward and again for backward, gradients scattered in bf16."""
    return (gpus - 1) / gpus * 2 * (2 * model.weights + model.trained)


def zero2(model: Model, gpus: int = GPUS) -> float:
    """Return the same of bf16 gradients scattered, and of the new weights gathered in bf16."""
    return (gpus - 1) / gpus * 2 * (model.trained + model.trained)


def computing(model: Model) -> float:
    """Return the seconds of computing: 6 operations a weight and token (4 of weights without a gradient)."""
    return (4 * model.weights + 2 * model.trained) * TOKENS / (PEAK * REACHED)


def measure(folder: Path, sizes: Sizes) -> str:
    """Return the table and what overlaps."""
    ways = {"DDP": ddp, "FSDP2": fsdp2, "ZeRO-2": zero2}
    rows: Table = [("", "computing, ms", *(f"{way}, MB" for way in ways), *(f"DDP over {one}, ms" for one in LINKS))]
    rows += [
        (
            model.name, f"{1e3 * computing(model):.1f}", *(f"{way(model) / 1e6:,.1f}" for way in ways.values()),
            *(f"{1e3 * ddp(model) / rate:.2f}" for rate in LINKS.values()),
        )
        for model in MODELS
    ]  # fmt: skip
    return "\n\n".join(
        [
            f"On paper, not measured: {GPUS} GPUs, {TOKENS:,} tokens an update on each, {REACHED:.0%} of the "
            f"{PEAK / 1e12:.0f} TFLOP/s of an H100 assumed; MB are what each sends in an update.",
            table(rows),
            "DDP sends buckets of 25 MiB while the backward pass goes on, so that what shows of it is the larger of "
            "both, and the last bucket: the embedding, whose gradient comes last, is most of MiniLM. With "
            "`gradient_accumulation_steps` only the last part of an update sends. FSDP2 gathers the next layer while "
            "one computes; the first gather of each pass shows, and each part of an accumulated update gathers again. "
            "ZeRO-2 scatters gradients during the backward pass; gathering the new weights shows.",
        ]
    )
