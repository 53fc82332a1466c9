"""Stored predictions, baselines, result blocks, metrics of the Hub, calibration and plots."""

import json
from types import SimpleNamespace

import evaluate
import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sk

from hftransfer.answers import _scores
from hftransfer.config import EvaluationConfig
from hftransfer.errors import UserError
from hftransfer.evaluation.plots import write_plots
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.reliability import with_intervals
from hftransfer.evaluation.reporting import baseline, report, trivial_answers, without_copies, without_rows
from hftransfer.evaluation.scoring import measure, measure_point, prepare_metrics
from hftransfer.fitting.base import Fitted
from hftransfer.weighting import wilson
from tests import tiny


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (odds / odds.sum(axis=-1, keepdims=True)).astype(np.float32)


def made(kind, n=40, k=3, names=None, seed=0):
    rng = np.random.default_rng(seed)
    names = tuple(names or ("O", "B-X", "I-X")) if kind == "tags" else tuple(names or (f"c{i}" for i in range(k)))
    ids = [f"row-{i}" for i in range(n)]
    if kind == "regression":
        truth = rng.normal(size=n)
        return Predictions(tiny.answer(kind, rows=n), ids, truth, truth + rng.normal(size=n))
    answer = tiny.answer(kind, names, range(3 * k, 2 * k, -1))
    if kind == "multi_label":
        truth = (rng.random((n, k)) < 0.4).astype(np.int64)
        return Predictions(answer, ids, truth, rng.random((n, k)).astype(np.float32))
    if kind == "single_label":
        truth = rng.integers(k, size=n)
        return Predictions(answer, ids, truth, softmax(rng.normal(size=(n, k)) + 2 * np.eye(k)[truth]))
    truth = [rng.integers(len(names), size=words) for words in rng.integers(0, 9, size=n)]
    return Predictions(answer, ids, truth, [softmax(rng.normal(size=(len(row), len(names)))) for row in truth])


def predicted(predictions):
    return predictions.answer.predicted(predictions.outputs)


KINDS = ["single_label", "multi_label", "regression", "tags"]


@pytest.mark.parametrize("kind", KINDS)
def test_parquet_round_trip(kind, tmp_path):
    p = made(kind)
    p.to_parquet(tmp_path / "test.parquet")
    again = Predictions.read_parquet(tmp_path / "test.parquet", p.answer)
    assert again.row_ids == p.row_ids
    for before, after in ((p.truth, again.truth), (p.outputs, again.outputs), (predicted(p), predicted(again))):
        assert len(before) == len(after)
        assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert measure_point(again) == measure_point(p)


def test_parquet_holds_names_in_order(tmp_path):
    import pyarrow.parquet as pq

    p = made("single_label", n=5)
    p.to_parquet(tmp_path / "test.parquet")
    table = pq.read_table(tmp_path / "test.parquet")
    assert table.column_names == ["row_id", "label", "prediction", "scores"]
    assert table["label"].to_pylist() == [f"c{i}" for i in p.truth]
    assert str(table.schema.field("scores").type) == "list<element: float>"
    with pytest.raises(UserError, match="the file also has c2"):
        Predictions.read_parquet(tmp_path / "test.parquet", tiny.answer("single_label", ("c0", "c1")))


def test_predictions_refuse_what_cannot_be_measured():
    p = made("single_label")
    with pytest.raises(UserError, match="training diverged"):
        Predictions(p.answer, p.row_ids, p.truth, np.full((40, 3), np.nan))
    with pytest.raises(UserError, match="the split is empty"):
        Predictions(p.answer, [], [], [])
    with pytest.raises(ValueError, match="39 outputs"):
        Predictions(p.answer, p.row_ids, p.truth, p.outputs[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_report_is_plain_json(kind):
    p = made(kind)
    blocks = report(p, p, EvaluationConfig(resamples=100), 0)
    assert json.loads(json.dumps(blocks, allow_nan=False)) == blocks
    assert set(blocks) == {"test", "validation", "baseline", "verdict", "operating"} and blocks["test"]["n"] == 40
    assert blocks["test"]["metrics"] == blocks["validation"]["metrics"]
    for block in (blocks["test"], blocks["baseline"]):
        assert block["metrics"] and all(set(s) == {"value", "low", "high"} for s in block["metrics"].values())
    assert bool(blocks["test"]["classes"]) == (kind != "regression")


def test_report_notes_what_is_undefined_and_says_what_is_of_no_use():
    answer = tiny.answer("single_label", "ab", (9, 1))
    p = Predictions(answer, list("1234"), np.zeros(4, int), np.array([[0.2, 0.8]] * 3 + [[0.8, 0.2]]))
    blocks = report(p, None, EvaluationConfig(resamples=100), 0)
    assert blocks["validation"] is None
    assert blocks["test"]["notes"] == [
        f"{name} is undefined on these rows and left out." for name in ("roc_auc", "average_precision")
    ]
    (said,) = blocks["verdict"]["sentences"]
    assert blocks["verdict"]["useless"] and said.startswith("Its accuracy of 0.250 is worse than the majority class (")


def test_baselines():
    def taught(p, counts=(), **learnt):
        answer = tiny.answer(p.answer.kind, p.answer.names, counts, **learnt)
        return trivial_answers(Predictions(answer, p.row_ids, p.truth, p.outputs))

    p = made("single_label")
    found = baseline(taught(p, (1, 8, 1)), resamples=100)
    assert found["name"] == "majority class"
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(p.truth == 1))
    assert found["metrics"]["roc_auc"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    p = made("multi_label")
    frequent = baseline(taught(p, (6, 2, 1), rows=10), resamples=100)
    assert frequent["metrics"]["recall_micro"]["value"] == pytest.approx(p.truth[:, 0].sum() / p.truth.sum())
    p = made("regression")
    mean = baseline(taught(p, rows=7, total=7.0), resamples=100)
    assert mean["metrics"]["mae"]["value"] == pytest.approx(np.abs(p.truth - 1).mean())
    p = made("tags")
    tag = baseline(taught(p, (9, 1, 1)), resamples=100)
    assert tag["name"] == "majority tag" and tag["metrics"]["f1_entity"]["value"] == 0
    with pytest.raises(ValueError, match="training counts"):
        baseline(taught(made("single_label")))
    with pytest.raises(ValueError, match="training rows' mean"):
        baseline(taught(made("regression")))


class Agreement(evaluate.Metric):
    """A stand-in for a metric of the Hub that compares strings."""

    def _info(self):
        import datasets

        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references):
        return {"agreement": float(np.mean([a == b for a, b in zip(predictions, references, strict=True)]))}


def test_a_hub_metric_gets_names_and_an_interval(monkeypatch, tmp_path):
    p = made("single_label")
    monkeypatch.setattr("hftransfer.evaluation.scoring.HUB_RESAMPLES", 20)
    monkeypatch.setattr(evaluate, "load", lambda name, **_: Agreement(cache_dir=str(tmp_path), keep_in_memory=True))
    measured = measure(p, ["someone/agreement"], resamples=100)
    score = measured["someone/agreement"]
    assert (
        score["value"] == pytest.approx(measured["accuracy"]["value"])
        and score["low"] < score["value"] < score["high"]
    )
    assert measure_point(p, ["someone/agreement"]) == {"someone/agreement": score["value"]}


def test_a_hub_metric_without_a_hub(monkeypatch):
    def offline(name, **_):
        raise FileNotFoundError("Couldn't find a module script.")

    monkeypatch.setattr(evaluate, "load", offline)
    for ask in (lambda p, names: measure(p, names), lambda p, names: prepare_metrics(p.answer, names)):
        with pytest.raises(UserError, match="take 'accuracy', which needs no network"):
            ask(made("single_label"), ["someone/accuracyy"])


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "tags"])
def test_temperature_undoes_a_known_scale(kind):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 1.5
    if kind == "multi_label":
        truth = (rng.random((4000, 3)) < 1 / (1 + np.exp(-logits))).astype(int)
    else:
        truth = (rng.random(4000)[:, None] > np.cumsum(softmax(logits), axis=1)).sum(axis=1).clip(max=2)
    if kind == "tags":
        logits, truth = np.split(logits, 40), np.split(truth, 40)
        scaled = [3 * words for words in logits]
    else:
        scaled = 3 * logits
    answer = tiny.answer(kind, ("O", "B-X", "I-X"))
    overconfident, plain_outputs = (
        [answer.of_logits(words) for words in part] if kind == "tags" else answer.of_logits(part)
        for part in (scaled, logits)
    )
    assert answer.calibrated(truth, overconfident).temperature == pytest.approx(3, rel=0.1)
    calibrated = tiny.answer(kind, ("O", "B-X", "I-X"), temperature=3.0).calibrate(overconfident)
    for back, plain in zip(calibrated, plain_outputs, strict=True):
        np.testing.assert_allclose(back, plain)


def test_temperature_leaves_degenerate_rows_alone():
    faultless, truth = np.eye(3)[np.arange(60) % 3], np.arange(60) % 3
    answer, number = tiny.answer("single_label", "abc"), tiny.answer("regression")
    for logits, rows in ((faultless, 60), (-faultless, 60), (faultless, 10)):
        outputs = answer.of_logits(logits[:rows])
        assert answer.calibrated(truth[:rows], outputs).temperature == 1.0
        assert answer.calibrate(outputs) is outputs
    assert number.calibrated(np.zeros(60), np.zeros(60)) == number
    assert number.calibration(np.zeros(60), np.zeros(60)) is None


def test_reliability_adds_up():
    p = made("single_label", n=200)
    curve = _scores.reliability(p.answer.outcomes(p.truth, p.outputs))
    assert sum(point["n"] for point in curve) == 200
    error = sum(point["n"] * abs(point["accuracy"] - point["confidence"]) for point in curve) / 200
    assert error == pytest.approx(measure_point(p)["calibration_error"], abs=1e-6)
    for point in with_intervals(curve, p, 0.9):
        ends = wilson(point["accuracy"], point["n"], 0.9)
        assert (point["accuracy_low"], point["accuracy_high"]) == pytest.approx(ends)


@pytest.mark.parametrize(("kind", "groups"), [("single_label", 20), ("single_label", None), ("multi_label", None)])
def test_reliability_is_as_sure_as_its_witnesses_are_many(kind, groups):
    """Rows of a group that are all alike tell as much as one; so do labels of a row that stand and fall together."""
    rng = np.random.default_rng(0)
    n = 200
    lucky = rng.random(20)[np.arange(n) % 20] < 0.6 if groups else rng.random(n) < 0.6
    if kind == "single_label":
        answer = tiny.answer(kind, "ab", [n, n], 2 * n)
        truth, outputs = np.where(lucky, 0, 1), np.tile([0.75, 0.25], (n, 1))
    else:
        answer = tiny.answer(kind, "abcdefghij", [n] * 10, n)
        truth, outputs = np.tile(lucky[:, None], (1, 10)).astype(int), np.full((n, 10), 0.75)
    names = [f"g{i % 20}" for i in range(n)] if groups else None
    found = Predictions(answer, [str(i) for i in range(n)], truth, outputs, names)
    (point,) = with_intervals(_scores.reliability(found.outcomes), found, 0.95)
    width = point["accuracy_high"] - point["accuracy_low"]
    low, high = wilson(point["accuracy"], groups or n, 0.95)
    assert point["n"] == (n if kind == "single_label" else 10 * n)
    assert width == pytest.approx(high - low, rel=0.2) and point["accuracy_low"] < 0.6 < point["accuracy_high"]


ODD_NAMES = ["costs $5 & $6", r"$\frac{", "<b>", "two\nlines", "a_name_that_goes_on_and_on_and_on"]


PLOTTED = {
    "two": made("single_label", k=2),
    "odd names": made("single_label", n=90, k=5, names=ODD_NAMES),
    "thirty": made("single_label", n=600, k=30),
    "hundred": made("single_label", n=300, k=100),
    "multi": made("multi_label"),
    "tags": made("tags"),
    "regression": made("regression"),
}


@pytest.mark.parametrize("name", PLOTTED)
def test_plots_are_small_files_with_their_data(name, tmp_path, sharp_pictures):
    predictions = PLOTTED[name]
    written = write_plots(predictions, tmp_path / "plots")
    names = ["predicted_vs_true"] if predictions.answer.kind == "regression" else ["confusion_matrix", "reliability"]
    assert [path.name for path in written] == [f"{name}.{end}" for name in names for end in ("png", "json")]
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert path.stat().st_size < 100_000 and image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
        else:
            data = json.loads(path.read_text())
            assert data["title"] and data["chart"] in ("matrix", "bars", "reliability", "scatter")
    if predictions.answer.kind == "single_label":
        matrix = json.loads(written[1].read_text())
        names = predictions.answer.names
        expected = sk.confusion_matrix(predictions.truth, predicted(predictions), labels=range(len(names)))
        assert matrix["counts"] == expected.tolist() and matrix["labels"] == list(names)


def test_the_score_without_leaked_rows() -> None:
    answer = tiny.answer("single_label", ("no", "yes"), (5, 5))
    truth = np.array([0, 1, 0, 1, 0, 1])
    scores = np.eye(2)[[0, 1, 0, 0, 1, 0]]  # right on the three leaked rows alone
    found = Predictions(answer, list("abcdef"), truth, scores)
    leaked = np.array([True, True, True, False, False, False])
    block = without_rows(found, leaked, EvaluationConfig(resamples=100), 0)
    assert block is not None and (block["n"], block["left_out"]) == (3, 3)
    assert block["metrics"]["accuracy"]["value"] == 0 and found.select(~leaked).row_ids == ["d", "e", "f"]
    for mask in (None, np.zeros(6, bool), np.ones(6, bool)):
        assert without_rows(found, mask, EvaluationConfig(resamples=100), 0) is None


def test_copies_in_validation_leak_where_the_head_was_fitted_on_it_too() -> None:
    """A probe of train and validation rows has seen both; one that chose by validation rows has not learned them."""
    answer = tiny.answer("single_label", ("no", "yes"), (5, 5))
    truth = np.array([0, 1, 0, 1, 0, 1])
    found = Predictions(answer, list("abcdef"), truth, np.eye(2)[truth])
    masks = {("test", "train"): np.arange(6) == 0, ("test", "validation"): np.arange(6) < 3}
    likely = SimpleNamespace(masks={pair: np.arange(6) == 5 for pair in masks})
    config = EvaluationConfig(resamples=100)
    for held_out, learnt, left_out in ((None, ["train"], 2), (truth, ["train", "validation"], 4)):
        fitted = Fitted(None, 1.0, 1.0, 1, 1, 1, held_out=held_out)
        block = without_copies(found, masks, likely, fitted.learnt, config, 0)
        assert block is not None and (block["learnt"], block["left_out"]) == (learnt, left_out)
    assert without_copies(found, {}, likely, ["train"], config, 0) is None


def test_sentences_are_left_out_whole() -> None:
    answer = tiny.answer("tags", ("O", "B-x"), (5, 5))
    words = [np.array([0, 1]), np.array([1]), np.array([0, 0, 1])]
    found = Predictions(answer, list("abc"), words, [np.eye(2)[row] for row in words])
    assert [len(row) for row in found.select(np.array([True, False, True])).truth] == [2, 3]
