"""Measure the transfer ladder's figures: python -m benchmarks.ladder [--seeds N] [--rows N] [NAME ...]

Needs the samples `text` and a machine that does nothing else; all of it takes about 15 minutes on 2 cores. Prints
Markdown for docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch
import transformers
from sklearn.linear_model import LogisticRegression

from benchmarks.run import QUICKSTART, Table, heading, markdown, numbers, train
from hftransfer import catalog, data, features, probing, samples, training
from hftransfer.interruption import Interruption
from hftransfer.runs import Run

MODEL = "sample:all-minilm-l6-v2"
SHOTS = (8, 16, 64)
UNLOOKED = ("data.label_issues=false", "data.likely_copies=false")  # looks at the rows are not what is measured
FROZEN = '["*.embeddings", "*.layer.[0-3]"]'  # four of six layers


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    seeds: int
    rows: int | None  # of the data set; all of them in the figures that are quoted
    tuned_rows: int  # on which the models of `rank` are tuned


def main() -> None:
    """Run the benchmarks named, or all, and print their sections."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--seeds", type=int, default=5, help="draws of the few labelled rows")
    parser.add_argument(
        "--rows", type=int, help="of the data set; fewer prove that it runs, their figures say nothing"
    )
    options = parser.parse_args()
    sizes = Sizes(options.seeds, options.rows, min(options.rows or 1000, 1000))
    sections = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names or BENCHMARKS:
            began = time.perf_counter()
            place = Path(folder) / name
            place.mkdir()
            sections.append(BENCHMARKS[name](place, sizes))
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    print("\n\n".join([heading(), *sections]))


def probe(folder: Path, sizes: Sizes) -> str:
    """Compare the probe, end to end, with three epochs of full fine-tuning, and with scikit-learn on mean states."""
    cap = [f"data.max_rows={sizes.rows}"] if sizes.rows else []
    spent, found = {}, {}
    ways = {"probe": ["method.name=probe"], "full, 3 epochs": ["train.num_train_epochs=3"]}
    # no text is that long: nothing is cut, but features of another limit are not taken from disk
    cap.append(f"data.max_length={300 + time.time_ns() % 200}")
    for number, (name, settings) in enumerate(ways.items()):
        began = time.perf_counter()
        run = train(folder / str(number), QUICKSTART, *cap, *UNLOOKED, *settings)
        spent[name], found[name] = time.perf_counter() - began, run.result()
    theirs, seconds = scikit_learn(cap)
    again = refit(cap)
    table: Table = [("", "test accuracy", "training, s", "whole command, s")]
    for name, result in found.items():
        score = result["test"]["metrics"]["accuracy"]
        trained = f"{result['cost']['train_seconds']:.1f}"
        table.append((name, shown(score), trained, f"{spent[name]:.1f}"))
    table.append(("scikit-learn on the mean of the last states", f"{theirs:.3f}", f"{seconds:.1f}", ""))
    one, three = (result["cost"]["train_seconds"] for result in found.values())
    gap = 100 * (found["probe"]["test"]["metrics"]["accuracy"]["value"] - theirs)
    return "\n\n".join(
        [
            "## The probe",
            "MiniLM on the VADER tweets, two cores. Training counts the features of train and validation.",
            markdown(table),
            f"Full fine-tuning trains **{three / one:.1f}** times as long as the probe, and its whole command takes "
            f"**{spent['full, 3 epochs'] / spent['probe']:.1f}** times as long. Probe less scikit-learn: "
            f"**{gap:+.1f} points**. All poolings and penalties anew on features from disk: **{again:.2f} s**.",
        ]
    )


def scikit_learn(cap: Sequence[str]) -> tuple[float, float]:
    """Return test accuracy and seconds of LogisticRegression on mean embeddings, its C chosen on validation."""
    settings = catalog.read_config(QUICKSTART, cap)
    found = data.load(settings.data, catalog.task(settings.task), settings.seed)
    began = time.perf_counter()
    tokenizer = transformers.AutoTokenizer.from_pretrained(samples.resolve(MODEL))
    model = transformers.AutoModel.from_pretrained(samples.resolve(MODEL)).eval()
    values = {split: embedded(model, tokenizer, list(found.splits[split]["text"])) for split in found.splits}
    truth = {split: np.asarray(found.splits[split]["label"]) for split in found.splits}
    heads = [LogisticRegression(C=c, max_iter=5000).fit(values["train"], truth["train"]) for c in (0.1, 1, 10, 100)]
    best = min(heads, key=lambda head: -np.mean(head.predict(values["validation"]) == truth["validation"]))
    return float(np.mean(best.predict(values["test"]) == truth["test"])), time.perf_counter() - began


def embedded(model: Any, tokenizer: Any, texts: Sequence[str]) -> np.ndarray:
    """Return the mean of the last states over the tokens, (n, d)."""
    order = np.argsort([len(text) for text in texts])
    found = np.empty((len(texts), model.config.hidden_size))
    for part in np.array_split(order, 1 + len(texts) // 64):
        batch = tokenizer([texts[i] for i in part], padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        found[part] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return found


def refit(cap: Sequence[str]) -> float:
    """Return the seconds of choosing pooling and penalty anew, features on disk."""
    settings = catalog.read_config(QUICKSTART, [*cap, *UNLOOKED])
    with (
        contextlib.redirect_stdout(sys.stderr),  # where the events go
        Interruption() as interruption,
        training.frozen(settings, interruption) as scene,
    ):
        one, other = (features.extract(scene.setup, scene.loaded, split) for split in ("train", "validation"))
        labels = scene.setup.labels
        began = time.perf_counter()
        probing.fit(one.pooled, one.targets, labels.kind, labels.outputs, validation=(other.pooled, other.targets))
        return time.perf_counter() - began


def few_shot(folder: Path, sizes: Sizes) -> str:
    """Compare contrastive tuning with a probe and with full fine-tuning on a few rows a class."""
    ways = {
        "few_shot": ["method.name=few_shot"],
        "probe": ["method.name=probe"],
        "full, 10 epochs": ["method.name=full", "train.num_train_epochs=10", "train.learning_rate=1e-4"],
    }
    table: Table = [("rows a class", "method", "test accuracy, mean of the seeds", "each seed", "training, s")]
    for shots in SHOTS:
        scores: dict[str, list[float]] = {name: [] for name in ways}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for seed in range(sizes.seeds):
            source = drawn(folder / f"rows-{shots}-{seed}", shots, seed, sizes)
            for name, settings in ways.items():
                result = here(
                    folder / f"{shots}-{seed}-{len(scores[name])}-{name[:4]}", f"data.source={source}",
                    f"seed={seed}", "speed.tune=false", "data.max_rows=null", *settings,
                )  # fmt: skip
                scores[name].append(result["test"]["metrics"]["accuracy"]["value"])
                seconds[name].append(result["cost"]["train_seconds"])
        for name in ways:
            mean, half = statistics.mean(scores[name]), spread(scores[name])
            table.append(
                (shots, name, f"{mean:.3f} ± {half:.3f}", numbers(scores[name], 3),
                 f"{statistics.median(seconds[name]):.1f}")
            )  # fmt: skip
    text = (
        "MiniLM on VADER tweets of three classes; each seed draws other rows, test rows stay. ± is half of "
        "the 95 % interval of the mean over the seeds (Student's t)."
    )
    return "\n\n".join(["## A few labelled rows", text, markdown(table)])


def drawn(folder: Path, shots: int, seed: int, sizes: Sizes) -> Path:
    """Write a train of so many rows a class, 100 validation rows, and the test as it is."""
    cap = [f"data.max_rows={sizes.rows}"] if sizes.rows else []
    settings = catalog.read_config(QUICKSTART, cap)
    found = data.load(settings.data, catalog.task(settings.task), settings.seed)
    given = np.asarray(found.splits["train"]["label"])
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(given == label))[:shots] for label in np.unique(given)])
    most = {"validation": 100, "test": len(given)}
    folder.mkdir()
    for split, rows in found.splits.items():
        kept = rows.select(np.sort(chosen)) if split == "train" else rows.select(range(min(len(rows), most[split])))
        lines = [
            json.dumps({"text": text, "label": found.labels.names[label]})
            for text, label in zip(kept["text"], kept["label"], strict=True)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def tuning(folder: Path, sizes: Sizes) -> str:
    """Compare full fine-tuning with one that begins at a probe's head, and frozen layers with and without a cache."""
    ways = {
        "full": ["train.num_train_epochs=2"],
        "full from the probe's head (LP-FT)": ["train.num_train_epochs=2", "method.init_head=probe"],
        "four of six layers frozen": [
            "train.num_train_epochs=2", f"method.freeze={FROZEN}", "method.cache_frozen=false",
        ],
        "four of six layers frozen, run once": ["train.num_train_epochs=2", f"method.freeze={FROZEN}"],
    }  # fmt: skip
    cap = [f"data.max_rows={sizes.rows}"] if sizes.rows else []
    table: Table = [("", "test accuracy", "validation accuracy after each epoch", "training, s", "in all, s")]
    found = {}
    for number, (name, settings) in enumerate(ways.items()):
        run = train(folder / str(number), QUICKSTART, *cap, *UNLOOKED, *settings)
        result = found[name] = run.result()
        epochs = [e["metrics"]["accuracy"] for e in run.events()[0] if e["type"] == "evaluation"]
        cost = result["cost"]
        table.append(
            (name, shown(result["test"]["metrics"]["accuracy"]), numbers(epochs, 3), f"{cost['train_seconds']:.1f}",
             f"{cost['total_seconds']:.1f}")
        )  # fmt: skip
    without, once = (found[name]["cost"]["train_seconds"] for name in list(ways)[2:])
    text = "Two epochs, the same rows and seed. In all counts the probe of LP-FT and the pass through frozen layers."
    ratio = f"Frozen layers run once: training takes **{once / without:.2f}** of the time."
    return "\n\n".join(["## Tuning from a probe, and frozen layers", text, markdown(table), ratio])


def rank(folder: Path, sizes: Sizes) -> str:
    """Compare the order that frozen features give with that of fine-tuned models, and the time of both."""
    models = variants(folder / "models")
    settings = [f"data.max_rows={sizes.tuned_rows}", *UNLOOKED]
    with Interruption() as interruption, contextlib.redirect_stdout(sys.stderr):  # where the events go
        began = time.perf_counter()
        ranked = training.rank(catalog.read_config(QUICKSTART, settings), [*map(str, models)], interruption)
        asked = time.perf_counter() - began
    figures = {row["model"]: row for row in ranked["models"]}
    true, spent = {}, 0.0
    for number, model in enumerate(models):
        began = time.perf_counter()
        result = here(
            folder / str(number), *settings, f"model={model}", "train.num_train_epochs=2", "speed.tune=false"
        )
        spent += time.perf_counter() - began
        true[str(model)] = result["test"]["metrics"]["accuracy"]["value"]
    table: Table = [("model", "fine-tuned", "probe", "kNN", "LogME")]
    for model in sorted(true, key=lambda name: -true[name]):
        row = figures[model]
        table.append(
            (Path(model).name, f"{true[model]:.3f}", f"{row['probe']['value']:.3f}", f"{row['knn']:.3f}",
             f"{row['logme']:.3f}")
        )  # fmt: skip
    order = list(true)
    truth = [true[model] for model in order]
    said = []
    for name in ("probe", "knn", "logme"):
        values = [figures[m]["probe"]["value"] if name == "probe" else figures[m][name] for m in order]
        said.append(f"{name} **{scipy.stats.spearmanr(truth, values).statistic:.2f}**")
    return "\n\n".join(
        [
            "## Rank",
            f"MiniLM cut to its lower layers, and with random weights; {sizes.tuned_rows} tweets, two epochs.",
            markdown(table),
            f"Spearman's correlation with the fine-tuned order: {', '.join(said)}. Ranking took {asked:.0f} s, "
            f"**{asked / spent:.0%}** of tuning and measuring all ({spent:.0f} s).",
        ]
    )


def variants(folder: Path) -> list[Path]:
    """Save models of known quality: the lower 1, 2, 4 and 6 layers of MiniLM, and two with random weights inside."""
    source = samples.resolve(MODEL)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    found = []
    for layers, random in ((6, False), (4, False), (2, False), (1, False), (6, True), (2, True)):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_pretrained(source)
        model.encoder.layer = model.encoder.layer[:layers]
        model.config.num_hidden_layers = layers
        if random:
            fresh = transformers.AutoModel.from_config(model.config)
            fresh.embeddings.load_state_dict(model.embeddings.state_dict())  # words keep their meaning
            model = fresh
        place = folder / f"{layers} layers{', random' if random else ''}".replace(" ", "-").replace(",", "")
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        found.append(place)
    return found


def here(folder: Path, *overrides: str) -> dict[str, Any]:
    """Run the quickstart with overrides in this process; return its result."""
    settings = catalog.read_config(QUICKSTART, [*UNLOOKED, *overrides])
    with Interruption() as interruption:
        return training.run(settings, Run.create(settings, folder), interruption)


def spread(values: Sequence[float]) -> float:
    """Return half of the 95 % interval of a mean (Student's t); 0 for one value."""
    if len(values) < 2:
        return 0.0
    return float(scipy.stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5)


def shown(score: dict[str, float]) -> str:
    """Return a score with its interval."""
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


BENCHMARKS: dict[str, Callable[[Path, Sizes], str]] = {
    "probe": probe,
    "few_shot": few_shot,
    "tuning": tuning,
    "rank": rank,
}

if __name__ == "__main__":
    main()
