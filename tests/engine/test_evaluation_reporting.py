"""Stored predictions, baselines, result blocks, evaluate modules, calibration and plots."""

import json

import evaluate
import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sk

from hftransfer.config import EvaluationConfig
from hftransfer.errors import UserError
from hftransfer.evaluation import (
    Predictions,
    apply_temperature,
    baseline,
    below_baseline,
    fit_temperature,
    measure,
    measure_point,
    prepare_metrics,
    reliability,
    report,
    without_rows,
    write_plots,
)
from hftransfer.evaluation.modules import MODULES, SingleLabelMetrics
from hftransfer.tasks.base import Labels


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (odds / odds.sum(axis=-1, keepdims=True)).astype(np.float32)


def made(kind, n=40, k=3, names=None, seed=0):
    rng = np.random.default_rng(seed)
    names = tuple(names or ("O", "B-X", "I-X")) if kind == "tags" else tuple(names or (f"c{i}" for i in range(k)))
    ids = [f"row-{i}" for i in range(n)]
    if kind == "regression":
        truth = rng.normal(size=n)
        return Predictions(Labels(kind), ids, truth, truth + rng.normal(size=n))
    labels = Labels(kind, names, tuple(range(3 * k, 2 * k, -1)))
    if kind == "multi_label":
        truth = (rng.random((n, k)) < 0.4).astype(np.int64)
        return Predictions(labels, ids, truth, rng.random((n, k)).astype(np.float32))
    if kind == "single_label":
        truth = rng.integers(k, size=n)
        return Predictions(labels, ids, truth, softmax(rng.normal(size=(n, k)) + 2 * np.eye(k)[truth]))
    truth = [rng.integers(len(names), size=words) for words in rng.integers(0, 9, size=n)]
    return Predictions(labels, ids, truth, [softmax(rng.normal(size=(len(row), len(names)))) for row in truth])


KINDS = ["single_label", "multi_label", "regression", "tags"]


@pytest.mark.parametrize("kind", KINDS)
def test_parquet_round_trip(kind, tmp_path):
    p = made(kind)
    p.to_parquet(tmp_path / "test.parquet")
    again = Predictions.read_parquet(tmp_path / "test.parquet", p.labels)
    assert again.row_ids == p.row_ids
    for before, after in ((p.truth, again.truth), (p.scores, again.scores), (p.predicted(), again.predicted())):
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
        Predictions.read_parquet(tmp_path / "test.parquet", Labels("single_label", ("c0", "c1")))


def test_predictions_refuse_what_cannot_be_measured():
    p = made("single_label")
    with pytest.raises(UserError, match="training diverged"):
        Predictions(p.labels, p.row_ids, p.truth, np.full((40, 3), np.nan))
    with pytest.raises(UserError, match="the split is empty"):
        Predictions(p.labels, [], [], [])
    with pytest.raises(ValueError, match="39 scores"):
        Predictions(p.labels, p.row_ids, p.truth, p.scores[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_report_is_plain_json(kind):
    p = made(kind)
    blocks = report(p, p, p.labels, EvaluationConfig(resamples=100), 0, train_mean=0.0)
    assert json.loads(json.dumps(blocks, allow_nan=False)) == blocks
    assert set(blocks) == {"test", "validation", "baseline"} and blocks["test"]["n"] == 40
    assert blocks["test"]["metrics"] == blocks["validation"]["metrics"]
    for block in (blocks["test"], blocks["baseline"]):
        assert block["metrics"] and all(set(s) == {"value", "low", "high"} for s in block["metrics"].values())
    assert bool(blocks["test"]["classes"]) == (kind != "regression")


def test_report_notes_what_is_undefined_and_says_below():
    labels = Labels("single_label", ("a", "b"), (9, 1))
    p = Predictions(labels, list("1234"), np.zeros(4, int), np.array([[0.2, 0.8]] * 3 + [[0.8, 0.2]]))
    blocks = report(p, None, labels, EvaluationConfig(resamples=100), 0)
    assert blocks["validation"] is None
    assert blocks["test"]["notes"] == ["roc_auc is undefined on these rows and left out."]
    assert blocks["baseline"]["below"].startswith("accuracy is 0.250, worse than the 1.000 of the trivial baseline")


def test_baselines():
    p = made("single_label")
    found = baseline(Labels("single_label", ("c0", "c1", "c2"), (1, 8, 1)), p, resamples=100)
    assert found["name"] == "majority class"
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(p.truth == 1))
    assert found["metrics"]["roc_auc"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    p = made("multi_label")
    frequent = baseline(Labels("multi_label", ("c0", "c1", "c2"), (6, 2, 1)), p, resamples=100, train_rows=10)
    assert frequent["metrics"]["recall_micro"]["value"] == pytest.approx(p.truth[:, 0].sum() / p.truth.sum())
    p = made("regression")
    assert baseline(p.labels, p, resamples=100, train_mean=1.0)["metrics"]["mae"]["value"] == pytest.approx(
        np.abs(p.truth - 1).mean()
    )
    p = made("tags")
    tag = baseline(Labels("tags", ("O", "B-X", "I-X"), (9, 1, 1)), p, resamples=100)
    assert tag["name"] == "majority tag" and tag["metrics"]["f1_entity"]["value"] == 0
    with pytest.raises(ValueError, match="training counts"):
        baseline(Labels("single_label", ("c0", "c1", "c2")), made("single_label"))


def test_below_baseline_knows_the_direction():
    lower, higher = {"rmse": {"value": 1.0}}, {"rmse": {"value": 2.0}}
    assert below_baseline(lower, higher, "rmse") is None and below_baseline(lower, lower, "rmse") is None
    assert "2.000" in str(below_baseline(higher, lower, "rmse"))


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_modules_need_no_network(kind, tmp_path):
    p = made(kind)
    module = MODULES[kind](cache_dir=str(tmp_path), keep_in_memory=True)
    scores, truth = ([np.asarray(row).tolist() for row in rows] for rows in (p.scores, p.truth))
    found = module.compute(predictions=scores, references=truth, names=p.labels.names)
    assert found == pytest.approx(measure_point(p), abs=1e-6)
    assert "accuracy: share of right answers" in module.description or kind == "regression"


def test_evaluate_modules_take_batches_and_names(tmp_path):
    p = made("single_label")
    module = SingleLabelMetrics(cache_dir=str(tmp_path), keep_in_memory=True)
    for rows in (slice(0, 15), slice(15, 40)):
        module.add_batch(predictions=p.scores[rows].tolist(), references=p.truth[rows].tolist())
    assert module.compute(names=p.labels.names, metrics=["mcc"]) == {
        "mcc": pytest.approx(sk.matthews_corrcoef(p.truth, p.predicted()))
    }


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
    for ask in (lambda p, names: measure(p, names), lambda p, names: prepare_metrics(p.labels, names)):
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
    temperature = fit_temperature(scaled, truth, kind)
    assert temperature == pytest.approx(3, rel=0.1)
    for back, plain in zip(apply_temperature(scaled, 3.0, kind), apply_temperature(logits, 1.0, kind), strict=True):
        np.testing.assert_allclose(back, plain)


def test_temperature_leaves_degenerate_rows_alone():
    faultless, truth = np.eye(3)[np.arange(60) % 3], np.arange(60) % 3
    assert fit_temperature(faultless, truth, "single_label") == 1.0
    assert fit_temperature(-faultless, truth, "single_label") == 1.0
    assert fit_temperature(faultless[:10], truth[:10], "single_label") == 1.0
    assert fit_temperature(np.zeros(60), np.zeros(60), "regression") == 1.0


def test_reliability_adds_up():
    p = made("single_label", n=200)
    curve = reliability(p)
    assert sum(point["n"] for point in curve) == 200
    error = sum(point["n"] * abs(point["accuracy"] - point["confidence"]) for point in curve) / 200
    assert error == pytest.approx(measure_point(p)["calibration_error"], abs=1e-6)
    assert all(point["accuracy_low"] <= point["accuracy"] <= point["accuracy_high"] for point in curve)


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
def test_plots_are_small_files_with_their_data(name, tmp_path):
    predictions = PLOTTED[name]
    written = write_plots(predictions, tmp_path / "plots")
    names = ["predicted_vs_true"] if predictions.labels.kind == "regression" else ["confusion_matrix", "reliability"]
    assert [path.name for path in written] == [f"{name}.{end}" for name in names for end in ("png", "json")]
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert path.stat().st_size < 100_000 and image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
        else:
            assert json.loads(path.read_text())
    if predictions.labels.kind == "single_label":
        matrix = json.loads(written[1].read_text())
        expected = sk.confusion_matrix(
            predictions.truth, predictions.predicted(), labels=range(len(predictions.labels.names))
        )
        assert matrix["counts"] == expected.tolist() and matrix["labels"] == list(predictions.labels.names)


def test_the_score_without_leaked_rows() -> None:
    labels = Labels("single_label", ("no", "yes"), (5, 5))
    truth = np.array([0, 1, 0, 1, 0, 1])
    scores = np.eye(2)[[0, 1, 0, 0, 1, 0]]  # right on the three leaked rows alone
    found = Predictions(labels, list("abcdef"), truth, scores)
    leaked = np.array([True, True, True, False, False, False])
    block = without_rows(found, leaked, EvaluationConfig(resamples=100), 0)
    assert block is not None and (block["n"], block["left_out"]) == (3, 3)
    assert block["metrics"]["accuracy"]["value"] == 0 and found.select(~leaked).row_ids == ["d", "e", "f"]
    for mask in (None, np.zeros(6, bool), np.ones(6, bool)):
        assert without_rows(found, mask, EvaluationConfig(resamples=100), 0) is None


def test_sentences_are_left_out_whole() -> None:
    labels = Labels("tags", ("O", "B-x"), (5, 5))
    words = [np.array([0, 1]), np.array([1]), np.array([0, 0, 1])]
    found = Predictions(labels, list("abc"), words, [np.eye(2)[row] for row in words])
    assert [len(row) for row in found.select(np.array([True, False, True])).truth] == [2, 3]
