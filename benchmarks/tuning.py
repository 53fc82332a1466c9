"""Full fine-tuning, from a random head and from a probe's, and frozen layers run in every epoch and once."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.figures import Curve, mean, reached
from benchmarks.measuring import MODEL, Sizes, here, uncached
from benchmarks.page import Table, numbers, table
from hftransfer import samples
from hftransfer.runs import Run

EPOCHS = 2
BATCH = 32
EVALUATIONS = 4  # an epoch
FROZEN = '["*.embeddings", "*.layer.[0-3]"]'  # four of six layers
FULL, PROBED, AGAIN, ONCE = (
    "full",
    "full from the probe's head (LP-FT)",
    "four of six layers frozen",
    "the same, run once",
)


@dataclass(frozen=True)
class Trained:
    """One run: what it took before its first step and after, and how it did on validation as it went."""

    before: float  # seconds: the probe of LP-FT, the pass through frozen layers
    fitting: float  # seconds of all steps
    steps: int
    curve: Curve  # seconds from the start, validation accuracy
    accuracy: float  # on test
    scores: np.ndarray  # of the test rows


def measure(folder: Path, sizes: Sizes) -> str:
    """Train each way with each seed, look at validation several times an epoch, and compare the seconds to levels."""
    calm = without_dropout(folder / "no-dropout")
    ways = {
        FULL: [],
        PROBED: ["method.init_head=probe"],
        AGAIN: [f"model={calm}", f"method.freeze={FROZEN}", "method.cache_frozen=false"],
        ONCE: [f"model={calm}", f"method.freeze={FROZEN}"],
    }
    seeds = range(sizes.seeds)
    found: dict[str, list[Trained]] = {name: [] for name in ways}
    for seed in seeds:
        for number, (name, settings) in enumerate(ways.items()):
            run = here(folder / f"{number}-{seed}", *sizes.cap, uncached(), f"seed={seed}", *SETTINGS, *settings)
            found[name].append(read(run))
            shutil.rmtree(run.folder)
    levels = {
        "the probe's": [one.curve[0][1] for one in found[PROBED]],
        "full's last less 1 point": [one.curve[-1][1] - 0.01 for one in found[FULL]],
        "full's last": [one.curve[-1][1] for one in found[FULL]],
    }
    return "\n\n".join([introduction(len(seeds)), times(found, levels), steps(found)])


SETTINGS = (
    f"train.num_train_epochs={EPOCHS}", f"train.per_device_train_batch_size={BATCH}", "train.bf16=false",
    "speed.tune=false", "train.eval_strategy=steps", f"train.eval_steps={1 / (EPOCHS * EVALUATIONS)}",
    "train.eval_on_start=true", "train.logging_steps=1", "train.save_strategy=no",
    "train.load_best_model_at_end=false",
)  # fmt: skip


def introduction(seeds: int) -> str:
    """Say what was done."""
    return (
        f"The quickstart's MiniLM, VADER tweets and learning rate, {EPOCHS} epochs, float32, {seeds} seed(s), each "
        f"with splits of its own. Validation is looked at before the first step and {EVALUATIONS} times an epoch; "
        "what looking takes is not counted. What comes before the first step is: LP-FT's features and head, the one "
        "pass through frozen layers. A level is reached at the first look at which validation accuracy is there; "
        "validation is a tenth of the rows, so a single look is noisy. The probe's level is that of LP-FT before "
        "its first step: a probe on what the model's own output layer is shown."
    )


def times(found: dict[str, list[Trained]], levels: dict[str, list[float]]) -> str:
    """Return the table of seconds to each level."""
    heads = [f"s to {name} ({statistics.mean(values):.3f})" for name, values in levels.items()]
    rows: Table = [("", "test accuracy at the end", *heads, "s in all, of which before the first step")]
    for name, runs in found.items():
        cells = []
        for aims in levels.values():
            seconds = [reached(one.curve, aim) for one, aim in zip(runs, aims, strict=True)]
            cells.append(f"{shown(statistics.median(seconds))} ({', '.join(map(shown, seconds))})")
        whole = statistics.median(one.before + one.fitting for one in runs)
        before = statistics.median(one.before for one in runs)
        rows.append((name, mean([one.accuracy for one in runs]), *cells, f"{whole:.1f}, {before:.1f}"))
    return f"{table(rows)}\n\nMedian of the seeds, in brackets each seed; never: not within these epochs."


def steps(found: dict[str, list[Trained]]) -> str:
    """Say what running frozen layers once saves, and that it changes nothing."""
    pairs = list(zip(found[AGAIN], found[ONCE], strict=True))
    step = [[1000 * one.fitting / one.steps for one in runs] for runs in (found[AGAIN], found[ONCE])]
    ratio = [b / a for a, b in zip(*step, strict=True)]
    whole = [(b.before + b.fitting) / (a.before + a.fitting) for a, b in pairs]
    curves = max(abs(x[1] - y[1]) for a, b in pairs for x, y in zip(a.curve, b.curve, strict=True))
    scores = max(float(np.abs(a.scores - b.scores).max()) for a, b in pairs)
    saved = statistics.median((a.fitting - b.fitting) / EPOCHS for a, b in pairs)
    cost = statistics.median(b.before for _, b in pairs)
    even = f"{math.ceil(cost / saved)} epochs" if saved > 0 else "no number of epochs"
    return (
        "Both frozen ways train a copy of the model without dropout, which alone the cache changes. A step takes "
        f"{statistics.median(step[0]):.0f} ms without and {statistics.median(step[1]):.0f} ms with the frozen layers "
        f"run once, **{statistics.median(ratio):.2f}** of the time ({numbers(ratio, 2)}); with the pass before it "
        f"{EPOCHS} epochs take **{statistics.median(whole):.2f}** of the time, and the pass has paid for itself after "
        f"{even}. The answers are the same: validation accuracies differ by at most {curves:.4f}, test probabilities "
        f"by at most {scores:.1g}."
    )


def read(run: Run) -> Trained:
    """Return what a finished run's events and files say."""
    events, result = run.events()[0], run.result()
    rate = {event["step"]: event["examples_per_second"] for event in events if event["type"] == "log"}
    spent = {0: 0.0, **{step: step * BATCH / value for step, value in rate.items() if value}}
    last = spent[max(spent)]
    before = max(result["cost"]["train_seconds"] - last, 0.0) + head_seconds(run)  # a frozen pass is part of the first
    looks = [(event["step"], event["metrics"]["accuracy"]) for event in events if event["type"] == "evaluation"]
    scores = pq.read_table(run.folder / "predictions" / "test.parquet")["scores"].to_pylist()
    return Trained(
        before=before,
        fitting=last,
        steps=max(spent),
        curve=[(before + spent[step], accuracy) for step, accuracy in looks],
        accuracy=result["test"]["metrics"]["accuracy"]["value"],
        scores=np.asarray(scores),
    )


def head_seconds(run: Run) -> float:
    """Return the seconds that a probe's head took before training; 0 where there was none."""
    phases = {event["name"]: event["time"] for event in run.events()[0] if event["type"] == "phase"}
    return phases["tuning"] - phases["features"] if "features" in phases else 0.0


def shown(seconds: float) -> str:
    """Return seconds as text."""
    return f"{seconds:.1f}" if math.isfinite(seconds) else "never"


def without_dropout(folder: Path) -> Path:
    """Save a copy of MiniLM whose dropout is off."""
    shutil.copytree(samples.resolve(MODEL), folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder
