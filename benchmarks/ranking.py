"""`rank` against the order of fine-tuned models: cuts and damaged copies of MiniLM on two tasks."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.figures import agreement
from benchmarks.measuring import MODEL, TWEETS, UNLOOKED, Sizes, here, uncached, write_rows
from benchmarks.page import Table, table
from hftransfer import catalog, data, questions, samples
from hftransfer.comparison import contenders
from hftransfer.evaluation import differences
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import replicates
from hftransfer.events import RANKED_BY
from hftransfer.fitting.interruption import Interruption

CUTS = (6, 5, 4, 3, 2, 1)  # layers kept
NOISES = (0.25, 0.5, 1.0)  # of each weight's own spread, on all six layers and the embeddings
TASKS = {"tweets": ("sample:vader-tweets", ()), "movies": ("sample:vader-movie", ("neutral",))}  # labels left out
TRAIN, VALIDATION, TEST = 1000, 200, 2000  # rows at most
CUT = ("data.test_size=0.7", "data.validation_size=0.05")  # shares of all rows, the smaller task's for these numbers
EPOCHS, RATE = 3, 3e-4  # one layer alone learns something at it, random weights little
RESAMPLES = 2000
FIGURES = ("probe", "knn", "logme")


@dataclass(frozen=True)
class Tuned:
    """The fine-tuned models of one task, in the order they were given."""

    answers: list[Predictions]
    majority: float  # accuracy of the trivial answer
    seconds: float  # of the whole runs
    training: float  # of their training alone


def measure(folder: Path, sizes: Sizes) -> str:
    """Fine-tune every model on every task, rank them without, and compare the orders."""
    models = variants(folder / "models")
    return "\n\n".join([introduction(), *(one_task(folder, name, models, sizes) for name in TASKS)])


def introduction() -> str:
    """Say what was done."""
    return (
        f"MiniLM with its lower {', '.join(map(str, CUTS))} layers; all six with noise added to each matrix, of "
        f"{', '.join(map(str, NOISES))} times the spread of its weights; and with every weight drawn anew. The true "
        f"order is that of test accuracy after {EPOCHS} epochs of full fine-tuning at {RATE:g} on {TRAIN} rows, "
        f"one run a model, tested on up to {TEST} other rows. Pairs are told apart by a paired bootstrap over the "
        "test rows with Holm's correction; what another seed of training would change is in no interval. "
        "Correlations are Spearman's, in brackets 95 % bootstrap intervals over the test rows."
    )


def one_task(folder: Path, name: str, models: list[Path], sizes: Sizes) -> str:
    """Return the tables of one task."""
    source = rows_of(folder / name, name, sizes)
    settings = [
        f"data.source={source}", uncached(), "data.max_rows=null", "speed.tune=false", "train.bf16=false",
        "train.per_device_train_batch_size=32", f"train.num_train_epochs={EPOCHS}", f"train.learning_rate={RATE}",
        "train.save_strategy=no", "train.eval_strategy=no", "train.load_best_model_at_end=false",
    ]  # fmt: skip
    figures, asked = ranked(models, settings)
    tuned = fine_tuned(folder, models, settings)
    draws = [replicates(one, ["accuracy"], RESAMPLES, 0)["accuracy"] for one in tuned.answers]
    truth = [differences.point(one, "accuracy") for one in tuned.answers]
    rows: Table = [("model", "fine-tuned", "probe", "kNN", "LogME")]
    for place in np.argsort(truth)[::-1]:
        low, high = np.quantile(draws[place], (0.025, 0.975))
        shown = [f"{figures[figure][place]:.3f}" for figure in FIGURES]
        rows.append((models[place].name, f"{truth[place]:.3f} ({low:.3f} to {high:.3f})", *shown))
    said = []
    for figure in FIGURES:
        value, low, high = agreement(truth, np.array(draws), figures[figure])
        said.append(f"{figure} **{value:.2f}** ({low:.2f} to {high:.2f})")
    return "\n\n".join(
        [
            f"### {name.capitalize()}",
            f"{len(tuned.answers[0])} test rows; the largest class has {tuned.majority:.3f} of them.",
            table(rows),
            f"{apart(tuned.answers)} Correlation with the fine-tuned order: {', '.join(said)}. Ranking took "
            f"{asked:.0f} s, **{asked / tuned.seconds:.0%}** of fine-tuning and testing all ({tuned.seconds:.0f} s; "
            f"training alone {tuned.training:.0f} s).",
        ]
    )


def apart(answers: list[Predictions]) -> str:
    """Say how many pairs of models the test rows tell apart."""
    pairs = differences.pairwise(answers, "accuracy", resamples=RESAMPLES)
    corrected = differences.holm([pair.p_value for pair in pairs.values()])
    told = sum(value < 0.05 for value in corrected)
    return f"The test rows tell **{told} of {len(pairs)}** pairs of fine-tuned models apart."


def ranked(models: list[Path], settings: list[str]) -> tuple[dict[str, list[float]], float]:
    """Return each figure of `rank` in the order of `models`, and the seconds that ranking took, loading included."""
    config = catalog.read_config(TWEETS, [*UNLOOKED, *settings])
    with Interruption() as interruption, contextlib.redirect_stdout(sys.stderr):  # where the events go
        began = time.perf_counter()
        found = questions.rank(config, [*map(str, models)], RANKED_BY[0], interruption)
        asked = time.perf_counter() - began
    by_name: dict[str, dict[str, Any]] = {row["model"]: row for row in found["models"]}
    rows = [by_name[str(model)] for model in models]
    return {
        "probe": [row["probe"]["value"] for row in rows],
        "knn": [row["knn"]["value"] for row in rows],
        "logme": [row["logme"] for row in rows],
    }, asked


def fine_tuned(folder: Path, models: list[Path], settings: list[str]) -> Tuned:
    """Fine-tune every model in this process, in turn."""
    answers, whole, trained, majority = [], 0.0, 0.0, 0.0
    for model in models:
        began = time.perf_counter()
        run = here(folder / "run", *settings, f"model={model}")
        whole += time.perf_counter() - began
        result = run.result()
        trained += result["cost"]["train_seconds"]
        majority = result["baseline"]["metrics"]["accuracy"]["value"]
        answers.append(Predictions.read_parquet(run.predictions / "test.parquet", contenders.answer_of(run)))
        shutil.rmtree(run.folder)
    return Tuned(answers, majority, whole, trained)


def rows_of(folder: Path, name: str, sizes: Sizes) -> Path:
    """Write a task's rows as JSON lines: a training set of `TRAIN` rows, and most of the others to test on."""
    source, dropped = TASKS[name]
    config = catalog.read_config(TWEETS, [f"data.source={source}", "data.max_rows=null", *CUT])
    found = data.load(config.data, catalog.task(config.task), config.seed)
    folder.mkdir()
    rng = np.random.default_rng(config.seed)  # the samples lie in the order of their source, by class
    for split, most in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        rows = found.splits[split]
        named = [(text, found.answer.names[label]) for text, label in zip(rows["text"], rows["label"], strict=True)]
        usable = [row for row in named if row[1] not in dropped]
        kept = [usable[place] for place in rng.permutation(len(usable))[: min(most, sizes.rows or most)]]
        write_rows(folder / f"{split}.jsonl", [text for text, _ in kept], [label for _, label in kept])
    return folder


def variants(folder: Path) -> list[Path]:
    """Save the models: each knows less than one before it, by depth or by noise."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(samples.resolve(MODEL))
    found = [(f"{layers}-layers", cut(layers)) for layers in CUTS]
    found += [(f"6-layers-noise-{noise:g}", damaged(noise)) for noise in NOISES]
    torch.manual_seed(0)
    found.append(("6-layers-random", transformers.AutoModel.from_config(cut(6).config)))
    for name, model in found:
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return [folder / name for name, _ in found]


def cut(layers: int) -> Any:
    """Return MiniLM with its lower layers."""
    model = transformers.AutoModel.from_pretrained(samples.resolve(MODEL))
    model.encoder.layer = model.encoder.layer[:layers]
    model.config.num_hidden_layers = layers
    return model


def damaged(noise: float) -> Any:
    """Return MiniLM with Gaussian noise on every matrix, `noise` times the spread of its weights."""
    model = cut(max(CUTS))
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight += noise * weight.std() * torch.randn(weight.shape, generator=draws)
    return model
