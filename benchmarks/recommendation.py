"""What people change next of a program: MiniLM tuned, with what people had and alone, against popularity and EASE."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.measuring import ROOT, Sizes, train
from benchmarks.page import Table, table
from hftransfer import answers, catalog, data
from hftransfer.answers import _catalogue, _nearest, _untaught
from hftransfer.answers._catalogue import Catalogue
from hftransfer.answers._lists import KEPT, listed
from hftransfer.evaluation import differences
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure as score
from hftransfer.runs import Run

CONFIG = ROOT / "configs" / "recommendation" / "full.yaml"
STEPS, ROWS, LENGTH = 60, 32, 64  # updates of MiniLM, rows of each, tokens that are read: what a busy core can do
SEQUENCE_STEPS = 600
METRICS = ("ndcg_10", "recall_10", "ndcg_10_cold")


def measure(folder: Path, sizes: Sizes) -> str:
    """Train both ways, ask the others, and pair all with the tuned encoder on the same people."""
    steps, more = (STEPS, SEQUENCE_STEPS) if sizes.rows is None else (2, 4)
    words = ["train.auto=false", f"data.max_length={LENGTH}"]
    updates = [f"train.max_steps={steps}", f"train.per_device_train_batch_size={ROWS}"]
    tuned = train(folder / "tuned", CONFIG, *words, *updates)
    sequence = train(
        folder / "sequence", CONFIG, *words, "method.name=sequence", "train.learning_rate=1e-3",
        f"train.max_steps={more}", f"train.eval_steps={max(1, more // 10)}",
    )  # fmt: skip
    untuned = train(folder / "untuned", CONFIG, *words, "method.name=zero_shot")
    named = {"MiniLM, tuned": _answers(tuned), "MiniLM as it came": _answers(untuned)}
    named["a transformer over MiniLM's vectors"] = _answers(sequence)
    first = next(iter(named.values()))
    settings = catalog.read_config(CONFIG)
    found = data.load(settings.data, catalog.task(settings.task), settings.seed)
    catalogue, asked = found.answer.catalogue, found.splits["test"][:]["history"]
    assert catalogue is not None and list(found.splits["test"]["row_id"]) == list(first.row_ids)
    named["MiniLM, tuned, without what people had"] = _alone(tuned, named["MiniLM, tuned"], catalogue, asked)
    for simple in (_untaught.simplest(catalogue, asked), *_untaught.others(catalogue, asked)):
        named[simple.name] = Predictions(first.answer, first.row_ids, first.truth, simple.outputs, first.groups)
    rows: Table = [("", "nDCG@10", "recall@10", "nDCG@10 of cold items")]
    rows += [(name, *_figures(one)) for name, one in named.items()]
    apart: Table = [("MiniLM, tuned, less", "nDCG@10", "nDCG@10 of cold items")]
    pairs = {metric: differences.pairwise(list(named.values()), metric) for metric in ("ndcg_10", "ndcg_10_cold")}
    for place, name in enumerate(named):
        if place:
            both = [pairs[metric][0, place] for metric in pairs]
            apart.append((name, *(f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})" for one in both)))
    cold = sum(any(one.cold for one in row) for row in first.truth)
    trained = {run: run.result()["cost"]["train_seconds"] / 60 for run in (tuned, sequence)}
    return "\n\n".join(
        [
            f"`emacs-changes`, cut at one moment: {len(first.truth)} people of test with a history, {cold} of whom "
            f"took an item that nobody had in train; {len(catalogue):,} items, all of them ranked. MiniLM: {steps} "
            f"updates of {ROWS} rows, {trained[tuned]:.0f} minutes, of {found.sizes['train']:,} rows; the transformer "
            f"over its vectors as it came: {more} updates, {trained[sequence]:.0f} minutes. 95 % intervals resample "
            f"people. {_shares(tuned)} {_shares(sequence)}",
            table(rows),
            "Paired, on the same people:",
            table(apart),
        ]
    )


def _shares(run: Run) -> str:
    """Return what a run says of the shares that validation chose."""
    said = [event["message"] for event in run.events()[0] if event["type"] == "notice"]
    told = next((one for one in said if "beside a cosine" in one or "is not added" in one), "")
    return f"Of {run.config().method.name}: {told}."


def _alone(run: Run, given: Predictions, catalogue: Catalogue, asked: list[list[str]]) -> Predictions:
    """Return a run's answers by its cosines alone."""
    vectors = _catalogue.read(run.artifact / _catalogue.FILE)[1]
    queries = np.stack([np.frombuffer(one.vector, np.float32) for one in given.outputs])
    had = [[catalogue.places[name] for name in history] for history in asked]
    places, scores = _nearest.nearest(queries, vectors, KEPT, had)
    outputs = listed(catalogue, places, scores, [b""] * len(had), had)
    return Predictions(given.answer, given.row_ids, given.truth, outputs, given.groups)


def _answers(run: Run) -> Predictions:
    return Predictions.read_parquet(run.predictions / "test.parquet", answers.of_result(run.result()))


def _figures(given: Predictions) -> list[str]:
    found = score(given)
    return [f"{found[n]['value']:.3f} ({found[n]['low']:.3f} to {found[n]['high']:.3f})" for n in METRICS]
