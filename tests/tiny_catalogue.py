"""Questions with the passages that answer them, as folders and tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tests import tiny, tiny_pairs

SPLITS = {"train": (0, 120), "dev": (120, 150), "test": (150, 190)}


def collection(folder: Path, count: int = 200) -> Path:
    """Write a folder as BEIR has it: corpus, queries and qrels; ten passages answer nothing, some have a title."""
    (folder / "qrels").mkdir(parents=True)
    rows = tiny_pairs.rows(count)
    _lines(folder / "corpus.jsonl", [
        {"_id": f"d{i}", "title": "film" if i % 2 else "", "text": row["positive"]} for i, row in enumerate(rows)
    ])  # fmt: skip
    _lines(folder / "queries.jsonl", [{"_id": f"q{i}", "text": row["anchor"]} for i, row in enumerate(rows)])
    for split, (low, high) in SPLITS.items():
        lines = [f"q{i}\td{i}\t2" for i in range(low, high)] + [f"q{i}\td{i + 1}\t0" for i in range(low, high, 3)]
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n")
    return folder


def _lines(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def interactions(folder: Path, people: int = 80, form: str = "csv", seed: int = 0) -> Path:
    """Write who had what and when, and the items: people have items of one kind, which the items' words tell.

    `form` is how the files are written: csv, movielens (`::`), recbole or parquet.
    """
    rng = np.random.default_rng(seed)
    words = [tiny.GOOD, tiny.BAD, tiny.FILLER]
    items = [
        (
            str(i),
            f"{words[i % 3][i % len(words[i % 3])]} {words[i % 3][(i + 3) % len(words[i % 3])]} {i}",
            f"kind {i % 3}",
        )
        for i in range(39)
    ]
    rows = []
    for person in range(people):
        start = 1_600_000_000 + int(rng.integers(0, 10_000))
        own = rng.permutation([i for i in range(36) if i % 3 == person % 3])[: int(rng.integers(6, 11))]
        for at, item in enumerate(own):
            rows.append((f"u{person}", str(item), "4", str(start + 5_000 * at + int(rng.integers(0, 900)))))
        if person % 4 == 0:  # what is new at the end, and had by nobody before
            rows.append((f"u{person}", str(36 + person % 3), "5", str(1_600_060_000 + person)))
    folder.mkdir(parents=True, exist_ok=True)
    order = rng.permutation(len(rows))
    rows = [rows[i] for i in order]
    if form == "movielens":
        _joined(folder / "ratings.dat", rows, "::")
        _joined(folder / "movies.dat", items, "::", encoding="latin-1")
    elif form == "recbole":
        head = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
        _joined(folder / "toy.inter", [head, *rows], "\t")
        _joined(folder / "toy.item", [("item_id:token", "title:token_seq", "genre:token_seq"), *items], "\t")
    elif form == "parquet":
        names = ("customer_id", "product_id", "rating", "time")
        frame = pd.DataFrame(rows, columns=names)
        frame["time"] = pd.to_datetime(frame["time"].astype(int), unit="s")
        frame.to_parquet(folder / "events.parquet")
        pd.DataFrame(items, columns=("product_id", "title", "description")).to_parquet(folder / "products.parquet")
    else:
        _joined(folder / "ratings.csv", [("userId", "movieId", "rating", "timestamp"), *rows], ",")
        _joined(folder / "movies.csv", [("movieId", "title", "genres"), *items], ",")
    return folder


def _joined(path: Path, rows: list[tuple[str, ...]], divider: str, encoding: str = "utf-8") -> None:
    path.write_text("".join(divider.join(row) + "\n" for row in rows), encoding=encoding)
