"""A million items searched exactly: the first ten of each for a thousand people, its seconds and its memory."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import Sizes, module
from benchmarks.page import Table, table

ITEMS, PEOPLE, WIDTH, FIRST = 1_000_000, 1_000, 384, 10


def measure(folder: Path, sizes: Sizes) -> str:
    """Search in a process of its own, whose memory nothing else takes."""
    items, people = (ITEMS, PEOPLE) if sizes.rows is None else (20 * sizes.rows, sizes.rows)
    np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (items, WIDTH)).flush()
    found = module("benchmarks.searching", folder, items, people)
    rows: Table = [("items", "numbers each", "people", "first", "seconds", "memory beside the vectors, MB")]
    rows.append((f"{items:,}", WIDTH, f"{people:,}", FIRST, f"{found['seconds']:.1f}", f"{found['beside_mb']:,.0f}"))
    return "\n\n".join(
        [
            "Random vectors of length 1 in a file that is mapped into memory; `hftransfer.answers._nearest`, block by "
            f"block, by {found['threads']} threads. Of {found['checked']} people the same ten come of one product "
            "with all items at once.",
            table(rows),
        ]
    )


def search(folder: Path, items: int, people: int) -> dict[str, Any]:
    """Fill the file with vectors, search, and check some of what is found."""
    import torch

    from hftransfer import accounts
    from hftransfer.answers import _nearest

    rng = np.random.default_rng(0)
    vectors = np.load(folder / "vectors.npy", mmap_mode="r+")
    for start in range(0, items, 50_000):
        block = rng.normal(size=(min(50_000, items - start), WIDTH)).astype(np.float32)
        vectors[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    queries = rng.normal(size=(people, WIDTH)).astype(np.float32)
    before, began = accounts.peak_memory(), time.perf_counter()
    places, _ = _nearest.nearest(queries, vectors, FIRST)
    seconds = time.perf_counter() - began
    beside = max(accounts.peak_memory() - max(before, vectors.nbytes / 2**20), 0)
    some = rng.permutation(people)[:20]
    whole = queries[some] @ np.asarray(vectors).T
    expected = np.argsort(-whole, axis=1, kind="stable")[:, :FIRST]
    if not (places[some] == expected).all():
        raise RuntimeError("what is found block by block is not what one product finds")
    return {
        "seconds": seconds, "beside_mb": beside, "checked": len(some), "threads": torch.get_num_threads(),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(search(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
