"""French messages found for English ones: MiniLM before and after, against sentence-transformers' own trainer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.few_shot import REQUIREMENTS
from benchmarks.measuring import MODEL, ROOT, Sizes, environment, module, train
from benchmarks.page import Table, table
from hftransfer import catalog, data, samples
from hftransfer.answers import _nearest
from hftransfer.answers._lists import Listed
from hftransfer.evaluation import differences
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure as score
from hftransfer.runs import Run

CONFIG = ROOT / "configs" / "retrieval" / "full.yaml"
BATCH, RATE, EPOCHS = 64, 2e-4, 2
METRICS = ("recall_10", "ndcg_10")


def measure(folder: Path, sizes: Sizes) -> str:
    """Train both on the same pairs for as many steps, and find the same messages among all."""
    words = sizes.cap
    settings = catalog.read_config(CONFIG, words)
    found = data.load(settings.data, catalog.task(settings.task), settings.seed)
    rows = {split: [*found.splits[split]] for split in ("train", "test")}
    catalogue = found.answer.catalogue
    assert catalogue is not None
    given = {
        "train": [[row["query"], *catalogue.texts(catalogue.places[one["id"]] for one in row["relevant"])[:1]]
                  for row in rows["train"]],
        "test": [row["query"] for row in rows["test"]], "corpus": catalogue.table["text"].to_pylist(),
    }  # fmt: skip
    (folder / "rows.json").write_text(json.dumps(given))
    began = time.perf_counter()
    run = train(folder / "run", CONFIG, *words, "train.auto=false")
    whole = time.perf_counter() - began
    result = run.result()
    steps = [event["step"] for event in run.events()[0] if event["type"] == "step"][-1]
    python = environment(REQUIREMENTS)
    theirs = module(
        "benchmarks.sentence_transformers_trainer", folder, samples.resolve(MODEL), BATCH, RATE, steps,
        settings.data.max_length, python=python,
    )  # fmt: skip
    ours = Predictions.read_parquet(run.predictions / "test.parquet", _answer(run))
    other = _answered(ours, folder, catalogue)
    untuned = next(one for one in result["beside"]["models"] if one["name"] == "the model as it came")
    table_of: Table = [("", "recall@10", "nDCG@10", "training, s", "whole, s")]
    table_of.append(("MiniLM as it came", *_figures(untuned["metrics"]), "", ""))
    spent = f"{result['cost']['train_seconds']:.0f}", f"{whole:.0f}"
    table_of.append(("hftransfer", *_figures(result["test"]["metrics"]), *spent))
    table_of.append(
        ("sentence-transformers", *_figures(score(other)), f"{theirs['seconds']:.0f}", f"{theirs['whole']:.0f}")
    )
    apart = differences.pairwise([ours, other], "recall_10")[0, 1]
    share = result["cost"]["train_seconds"] / theirs["seconds"]
    return "\n\n".join(
        [
            f"{len(rows['train']):,} pairs of train, {len(rows['test']):,} English messages of other parts, "
            f"{len(catalogue):,} French ones to choose from. Both take {steps} steps of {BATCH} pairs at {RATE:g}; "
            "sentence-transformers is that of `benchmarks/setfit-requirements.txt`, with its "
            "MultipleNegativesRankingLoss at a scale of 20. 95 % intervals resample the parts of the program that the "
            "messages are of.",
            table(table_of),
            f"recall@10 of ours less that of sentence-transformers: **{apart.value:+.3f}** ({apart.low:+.3f} to "
            f"{apart.high:+.3f}), paired. Our training takes **{share:.2f}** of the time.",
        ]
    )


def _answer(run: Run) -> Any:
    from hftransfer import answers

    return answers.of_result(run.result())


def _answered(ours: Predictions, folder: Path, catalogue: Any) -> Predictions:
    """Return the same messages answered with sentence-transformers' vectors."""
    queries, corpus = np.load(folder / "queries.npy"), np.load(folder / "corpus.npy")
    places, scores = _nearest.nearest(queries, corpus, 50)
    outputs = [
        Listed(b"", tuple(catalogue.ids[at] for at in row), tuple(map(float, near)), len(catalogue))
        for row, near in zip(places, scores, strict=True)
    ]
    return Predictions(ours.answer, ours.row_ids, ours.truth, outputs, ours.groups)


def _figures(metrics: dict[str, Any]) -> list[str]:
    return [f"{metrics[n]['value']:.3f} ({metrics[n]['low']:.3f} to {metrics[n]['high']:.3f})" for n in METRICS]
