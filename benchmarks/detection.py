"""What a detector learns of composed scenes, or of trees from above, on a pretrained backbone."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measuring import ROOT, Sizes, train
from benchmarks.page import Table, table
from benchmarks.scenes import waited
from hftransfer.runs import Run

CONFIGS = ROOT / "configs" / "object-detection"
EPOCHS = 5  # what five minutes of two cores suffice for, looks at validation pictures and the test counted in
CROWN_EPOCHS = 40  # about twenty minutes of two cores
SCORES = ("map", "map_50", "ar_100", "f1_boxes", "count_error")


def measure(folder: Path, sizes: Sizes) -> str:
    """Train on composed scenes for as long as five minutes of two cores allow."""
    run = train(folder / "scenes", CONFIGS / "full.yaml", *sizes.cap, f"train.num_train_epochs={EPOCHS}")
    return told(run, "emoji on soft noise, whose boxes are exact")


def crowns(folder: Path, sizes: Sizes) -> str:
    """Train on tree crowns, for which a decoder that is new needs far longer."""
    run = train(folder / "crowns", CONFIGS / "crowns.yaml", *sizes.cap, f"train.num_train_epochs={CROWN_EPOCHS}")
    return told(run, f"tree crowns from above, {CROWN_EPOCHS} epochs of the 100 that the configuration has")


def told(run: Run, what: str) -> str:
    """Return a run's scores beside the trivial answer's, its time, memory and waiting."""
    result, cost = run.result(), run.result()["cost"]
    rows: Table = [("", *(f"`{name}`" for name in SCORES))]
    for name, found in ((result["baseline"]["name"], result["baseline"]), ("trained", result["test"])):
        scores = [found["metrics"][one] for one in SCORES]
        rows.append((name, *("{value:.3f} ({low:.3f} to {high:.3f})".format(**one) for one in scores)))
    return "\n\n".join(
        [
            f"`{result['model']}` on `{result['data']['source']}`: {what}; {result['test']['n']:,} test pictures. "
            f"Trained in {cost['train_seconds']:.0f} s, {waited(run):.1%} of it waiting for pictures, with "
            f"{cost['peak_memory_mb']:,} MB at most; everything took {cost['alone_seconds']:.0f} s.",
            table(rows),
        ]
    )
