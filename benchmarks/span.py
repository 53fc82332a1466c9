"""A small encoder learns to find what a sentence leaves out in a passage, or that it is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.measuring import ROOT, Sizes, train
from benchmarks.page import Table, table
from hftransfer import catalog

CONFIG = ROOT / "configs" / "question-answering" / "full.yaml"
ROWS = 3_000
SCORES = ("f1_words", "exact", "f1_answerable", "exact_unanswerable")


def measure(folder: Path, sizes: Sizes) -> str:
    """Score the tuned model beside the baseline, with what its threshold for no answer came to."""
    run = train(folder / "run", CONFIG, *(sizes.cap or [f"data.max_rows={ROWS}"]))
    result = run.result()
    settings = catalog.read_config(CONFIG)
    rows: Table = [("", *(f"`{name}`" for name in SCORES))]
    for name, found in ((result["baseline"]["name"], result["baseline"]), ("tuned", result["test"])):
        rows.append((name, *(told(found["metrics"].get(score)) for score in SCORES)))
    silent = result["answer"]
    return "\n\n".join(
        [
            f"`{settings.model}`, whose head is new, on {sizes.rows or ROWS:,} rows of `{settings.data.source}` "
            f"(`configs/question-answering/full.yaml`); {result['test']['n']:,} test rows, of documents that train "
            "has none of, intervals over documents.",
            table(rows),
            f"{silent['unanswerable']:,} of {silent['rows']:,} rows of train have no answer; the threshold for none, "
            f"from validation, is {silent['threshold']:.2f}. "
            f"{result['cost']['examples_per_second']:.1f} rows a second.",
        ]
    )


def told(score: dict[str, Any] | None) -> str:
    """Return a score with its interval where it has one."""
    if score is None:
        return ""
    return "{value:.3f} ({low:.3f} to {high:.3f})".format(**score) if "low" in score else f"{score['value']:.3f}"
