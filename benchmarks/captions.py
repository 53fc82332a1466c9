"""Pictures with words: how exact the gradient of a cut batch is, and what projections alone find on frozen towers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel

from benchmarks.measuring import ROOT, Sizes, train
from benchmarks.page import Table, table
from benchmarks.scenes import waited
from hftransfer.answers import _beside
from hftransfer.answers.captions import Captions

CONFIGS = ROOT / "configs" / "zero-shot-image-classification"
CONFIG, FULL, UPDATES = CONFIGS / "probe.yaml", CONFIGS / "full.yaml", 12  # updates of both towers, to see what waits
ROWS, SIDE, WORDS, CAPTIONS = 32, 32, 12, 3
PROCESSES, PARTS = 2, 4
SCORES = tuple(f"{side}_recall_{k}" for side in ("text", "picture") for k in (1, 5, 10))


def measure(folder: Path, sizes: Sizes) -> str:
    """Train the projections of two frozen towers on pictures and their names, 200 held out; then tune both a bit."""
    run = train(folder / "probe", CONFIG, *sizes.cap)
    full = train(folder / "full", FULL, *sizes.cap, f"train.max_steps={UPDATES}")
    result = run.result()
    (untuned,) = [one for one in result["beside"]["models"] if one["name"] == "the model as it came"]
    chance = {name: result["baseline"]["metrics"][name] for name in SCORES}
    rows: Table = [("", *(f"`{name}`" for name in SCORES))]
    for name, found in (("chance", chance), ("as it came", untuned["metrics"]), ("probe", result["test"]["metrics"])):
        rows.append((name, *("{value:.3f} ({low:.3f} to {high:.3f})".format(**found[one]) for one in SCORES)))
    done = next(event["message"] for event in run.events()[0] if event.get("message", "").startswith("probe: "))
    return "\n\n".join(
        [
            f"MobileNetV2 and MiniLM, both frozen, on {result['data']['splits']['train']:,} Noto emoji and their "
            f"names; {result['test']['n']} others are held out, and each is found among these "
            f"(`{CONFIG.relative_to(ROOT)}`). Kept were {done.removeprefix('probe: ')}.",
            table(rows),
            f"Tuning both towers (`{FULL.relative_to(ROOT)}`, {UPDATES} updates of 128 pictures and their names) "
            f"waits for data {waited(full):.1%} of its time.",
        ]
    )


# --- the gradient of a cut batch ---


def gradients(folder: Path, sizes: Sizes) -> str:
    """Compare gradients of one batch: whole, in pieces, over processes, and as models' own losses cut it."""
    rows: Table = [
        ("", "in pieces of a quarter", f"{PROCESSES} processes", f"own loss, {PARTS} batches", "own loss, processes")
    ]
    for family in ("CLIP", "Siglip"):
        whole = gradient_of(family, range(ROWS))
        with pieces():
            cut = gradient_of(family, range(ROWS))
        share = ROWS // PARTS
        plain = [gradient_of(family, range(at, at + share), own=True) for at in range(0, ROWS, share)]
        half = [gradient_of(family, part, own=True) for part in halves()]
        single = gradient_of(family, range(ROWS), own=True)
        found = (
            error(cut, whole), error(over_processes(family), whole),
            error(torch.stack(plain).mean(dim=0), single), error(torch.stack(half).mean(dim=0), single),
        )  # fmt: skip
        rows.append((family, *(f"{one:.1e}" for one in found)))
    return "\n\n".join(
        [
            f"{ROWS} pictures with 1 to {CAPTIONS} captions through a small CLIP and a small SigLIP with random "
            "weights, float32: the relative error of the whole gradient, against the batch at once on one process. "
            "In the last columns, for comparison, each picture has one caption, and the model's own loss compares the "
            "rows of a part with one another alone.",
            table(rows),
        ]
    )


def error(found: torch.Tensor, true: torch.Tensor) -> float:
    """Return the relative error of a gradient."""
    return float((found - true).norm() / true.norm())


def halves() -> list[range]:
    """Return the rows of each process."""
    share = ROWS // PROCESSES
    return [range(at, at + share) for at in range(0, ROWS, share)]


@contextmanager
def pieces() -> Iterator[None]:
    """Let a quarter of the pictures, and some texts, fit into memory."""
    kept = _beside.PIXELS, _beside.TOKENS
    _beside.PIXELS, _beside.TOKENS = ROWS // PARTS * SIDE * SIDE, 8 * WORDS
    try:
        yield
    finally:
        _beside.PIXELS, _beside.TOKENS = kept


def model_of(family: str) -> Any:
    """Return a small model with random weights, the same every time."""
    torch.manual_seed(0)
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    text = {**small, "vocab_size": 200, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 199}
    vision = {**small, "image_size": SIDE, "patch_size": 8}
    extra = {"projection_dim": 32} if family == "CLIP" else {}
    settings = getattr(transformers, f"{family}Config")(text_config=text, vision_config=vision, **extra)
    return getattr(transformers, f"{family}Model")(settings).train()


def batch_of(places: range, captions: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return some rows of a fixed batch, and the numbers that tell captions."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(ROWS, 3, SIDE, SIDE, generator=generator)
    ids = torch.randint(2, 199, (ROWS, CAPTIONS * WORDS), generator=generator)
    ids[:, WORDS - 1 :: WORDS] = 199
    many = torch.arange(ROWS) % captions + 1
    parts = (torch.arange(CAPTIONS) < many[:, None]).long() * WORDS
    numbers = torch.where(parts > 0, torch.arange(ROWS * CAPTIONS).view(ROWS, CAPTIONS), _beside.NONE)
    shown = {"pixel_values": pixels, "input_ids": ids, "parts": parts}
    return {name: value[list(places)] for name, value in shown.items()}, numbers[list(places)]


def gradient_of(family: str, places: range, own: bool = False, processes: int = 1) -> torch.Tensor:
    """Return the gradient of some rows as one vector; `own`: by the model's own loss, one caption a row."""
    model = model_of(family)
    batch, numbers = batch_of(places, 1 if own else CAPTIONS)
    if own:
        ids = batch["input_ids"][:, :WORDS]
        loss = model(input_ids=ids, pixel_values=batch["pixel_values"], return_loss=True).loss
    else:
        _, everything = batch_of(range(ROWS), CAPTIONS)
        answer = Captions(masked=False)
        attached = answer.attach(model)
        runs = DistributedDataParallel(attached) if processes > 1 else attached
        count = (everything != _beside.NONE).sum() / processes  # as Trainer does, for DDP takes the mean
        loss = answer.loss()(runs(**batch), numbers, count)
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def over_processes(family: str) -> torch.Tensor:
    """Return the gradient that two processes come to, each with half of the rows."""
    with tempfile.TemporaryDirectory(prefix="hftransfer-benchmark-") as folder:
        multiprocessing.spawn(_process, (family, folder), nprocs=PROCESSES)
        found: torch.Tensor = torch.load(Path(folder) / "gradient.pt")
    return found


def _process(rank: int, family: str, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{os.path.join(folder, 'meeting')}", rank=rank, world_size=PROCESSES
    )
    found = gradient_of(family, halves()[rank], processes=PROCESSES)
    if rank == 0:
        torch.save(found, Path(folder) / "gradient.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
