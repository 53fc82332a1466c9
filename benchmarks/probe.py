"""The probe against three epochs of full fine-tuning, and against scikit-learn on mean-pooled states."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sklearn.linear_model import LogisticRegression

from benchmarks.figures import mean, paired
from benchmarks.measuring import MODEL, TWEETS, UNLOOKED, Sizes, here, train, uncached
from benchmarks.page import Table, numbers, table
from hftransfer import catalog, data, questions, samples
from hftransfer.fitting.interruption import Interruption
from hftransfer.frozen import features, probing

FULL = "full, 3 epochs"
STRENGTHS = (0.1, 1, 10, 100)  # scikit-learn's C, among which validation chooses


def measure(folder: Path, sizes: Sizes) -> str:
    """Time each way once, end to end; compare the probe's accuracy with scikit-learn's over splits."""
    cap = [*sizes.cap, uncached()]
    spent, found = {}, {}
    ways = {"probe": ["method.name=probe"], FULL: ["train.num_train_epochs=3"]}
    for number, (name, settings) in enumerate(ways.items()):
        began = time.perf_counter()
        run = train(folder / str(number), TWEETS, *cap, *UNLOOKED, *settings)
        spent[name], found[name] = time.perf_counter() - began, run.result()
    theirs, seconds = scikit_learn(cap)
    again = refit(cap)
    rows: Table = [("", "test accuracy", "training, s", "whole command, s")]
    for name, result in found.items():
        score = result["test"]["metrics"]["accuracy"]
        trained = f"{result['cost']['train_seconds']:.1f}"
        rows.append((name, shown(score), trained, f"{spent[name]:.1f}"))
    rows.append(("scikit-learn on the mean of the last states", f"{theirs:.3f}", f"{seconds:.1f}", ""))
    one, three = (result["cost"]["train_seconds"] for result in found.values())
    return "\n\n".join(
        [
            "MiniLM on the VADER tweets, once with the quickstart's seed. Training counts the features of train and "
            "validation.",
            table(rows),
            f"Full fine-tuning trains **{three / one:.1f}** times as long as the probe, and its whole command takes "
            f"**{spent[FULL] / spent['probe']:.1f}** times as long. All poolings and penalties anew on features from "
            f"disk: **{again:.2f} s**. Aimed at: 20 times less training, half a point of scikit-learn, a refit in "
            "less than a second.",
            gap(folder, sizes),
        ]
    )


def gap(folder: Path, sizes: Sizes) -> str:
    """Compare accuracies over splits by different seeds."""
    ours, theirs = [], []
    for seed in range(sizes.seeds):
        overrides = [*sizes.cap, f"seed={seed}"]
        run = here(folder / f"seed-{seed}", *overrides, "method.name=probe")
        ours.append(run.result()["test"]["metrics"]["accuracy"]["value"])
        theirs.append(scikit_learn(overrides)[0])
        shutil.rmtree(run.folder)
    return (
        f"Over {sizes.seeds} seeds, each with splits of its own that both share: probe {mean(ours)} "
        f"({numbers(ours, 3)}), scikit-learn {mean(theirs)} ({numbers(theirs, 3)}), the probe less scikit-learn "
        f"**{paired(ours, theirs)} points**; in brackets 95 % intervals of the mean over the seeds (Student's t)."
    )


def scikit_learn(cap: Sequence[str]) -> tuple[float, float]:
    """Return test accuracy and seconds of LogisticRegression on mean embeddings, its C chosen on validation."""
    settings = catalog.read_config(TWEETS, cap)
    found = data.load(settings.data, catalog.task(settings.task), settings.seed)
    began = time.perf_counter()
    tokenizer = transformers.AutoTokenizer.from_pretrained(samples.resolve(MODEL))
    model = transformers.AutoModel.from_pretrained(samples.resolve(MODEL)).eval()
    values = {split: embedded(model, tokenizer, list(found.splits[split]["text"])) for split in found.splits}
    truth = {split: np.asarray(found.splits[split]["label"]) for split in found.splits}
    heads = [LogisticRegression(C=c, max_iter=5000).fit(values["train"], truth["train"]) for c in STRENGTHS]
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
    settings = catalog.read_config(TWEETS, [*cap, *UNLOOKED])
    with (
        contextlib.redirect_stdout(sys.stderr),  # where the events go
        Interruption() as interruption,
        questions.frozen(settings, interruption) as scene,
    ):
        one, other = (features.extract(scene.setup, scene.loaded, split) for split in ("train", "validation"))
        answer = scene.setup.answer
        began = time.perf_counter()
        probing.fit(one.pooled, one.targets, answer.linear, answer.outputs, validation=(other.pooled, other.targets))
        return time.perf_counter() - began


def shown(score: dict[str, float]) -> str:
    """Return a score with its interval."""
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"
