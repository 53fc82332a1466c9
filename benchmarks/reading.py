"""Time and memory of reading one large CSV file, as `data.source` reads it and by `datasets` alone.

Run: python -m benchmarks.reading [--megabytes 1000] [--repeat 3] [--quoted]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WORDS = ("the", "room", "was", "lovely", "and", "bright", "a", "dull", "awful", "dinner", "we", "had", "good", "time")
WAYS = ("ours", "datasets")


def write(path: Path, megabytes: int, quoted: bool) -> None:
    """Write rows of a text, a label and a number; with `quoted`, every other text stands in quotes."""
    rng = np.random.default_rng(0)
    parts = [" ".join(rng.choice(WORDS, size=size)) for size in rng.integers(5, 120, size=20_000)]
    with open(path, "w", encoding="utf-8") as file:
        file.write("text,label,number\n")
        written = row = 0
        while written < megabytes * 1_000_000:
            text = parts[row % len(parts)]
            if quoted and row % 2:
                text = f'"he said: ""{text}"", twice"'
            written += file.write(f"{text},{('pos', 'neg')[row % 2]},{row}\n")
            row += 1


def read(way: str, path: Path, cache: str) -> dict[str, float]:
    """Read the file once in this process; return seconds, MB of its peak and of what reading added to it, and rows."""
    os.environ["HF_DATASETS_CACHE"] = cache
    import datasets

    from hftransfer.data.tables import read_tables

    datasets.disable_progress_bars()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    if way == "ours":
        rows = read_tables([path], streaming=False).rows
    else:
        rows = datasets.load_dataset("csv", data_files={"train": [str(path)]}, split="train")
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "megabytes": (peak - before) / 1024, "peak": peak / 1024, "rows": len(rows)}


def main() -> int:
    """Read in turn, each time in a process of its own and without a cache, and print both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--quoted", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FILE"))
    asked = parser.parse_args()
    if asked.one:
        with tempfile.TemporaryDirectory() as cache:
            print(json.dumps(read(asked.one[0], Path(asked.one[1]), cache)))
        return 0
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "rows.csv"
        write(path, asked.megabytes, asked.quoted)
        for _ in range(asked.repeat):
            for way in WAYS:
                command = [sys.executable, "-m", "benchmarks.reading", "--one", way, str(path)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
    best = {way: min(runs, key=lambda run: run["seconds"]) for way, runs in found.items()}
    for way in WAYS:
        print(
            f"{way:10} {best[way]['seconds']:7.1f} s  {best[way]['peak']:8.0f} MB at the peak, "
            f"{best[way]['megabytes']:.0f} MB of it added by reading  {best[way]['rows']:,.0f} rows"
        )
    ratios = (best["ours"][name] / best["datasets"][name] for name in ("seconds", "peak", "megabytes"))
    print("ours is {:.2f} x the seconds, {:.2f} x the peak, {:.2f} x what reading adds".format(*ratios))
    return 0


if __name__ == "__main__":
    sys.exit(main())
