"""The matrix-product rate of this machine at MiniLM's own shape: python -m benchmarks.matmul_peak"""

from __future__ import annotations

import json
import time

import torch

SHAPE = (2048, 384, 1536)  # rows x hidden x intermediate


def rate(dtype: torch.dtype, repeats: int = 60) -> float:
    """Return the best GFLOP/s of three timings of a linear layer's forward product."""
    rows, inner, outer = SHAPE
    left, right = torch.randn(rows, inner, dtype=dtype), torch.randn(outer, inner, dtype=dtype)
    best = 0.0
    for _ in range(3):
        torch.nn.functional.linear(left, right)
        began = time.perf_counter()
        for _ in range(repeats):
            torch.nn.functional.linear(left, right)
        best = max(best, 2 * rows * inner * outer * repeats / (time.perf_counter() - began) / 1e9)
    return best


if __name__ == "__main__":
    print(json.dumps({"float32": rate(torch.float32), "bfloat16": rate(torch.bfloat16)}))
