"""How long two processes of this machine take to add up so many gradients through gloo, and nothing else.

For a line of JSON: python -m benchmarks.reducing NUMBERS
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import distributed, multiprocessing

ROUNDS = 8
PROCESSES = 2


def reduce(rank: int, folder: str, count: int) -> None:
    """Add up float32 numbers over the processes, ROUNDS times; the first writes the median of its seconds."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    values, seconds = torch.ones(count), []
    for _ in range(ROUNDS + 1):
        distributed.barrier()
        began = time.perf_counter()
        distributed.all_reduce(values)
        seconds.append(time.perf_counter() - began)
    if rank == 0:
        Path(folder, "found").write_text(json.dumps(statistics.median(seconds[1:])))  # the first makes the connection
    distributed.destroy_process_group()


def measure(count: int) -> float:
    """Return the seconds of one sum of so many numbers."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(reduce, (folder, count), PROCESSES)
        return float(json.loads(Path(folder, "found").read_text()))


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
