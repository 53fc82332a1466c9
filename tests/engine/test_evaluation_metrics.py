"""Our metrics equal scikit-learn's, scipy's and seqeval's, on whole splits and on weighted rows."""

import warnings

import numpy as np
import pytest
from scipy import stats
from seqeval.metrics import f1_score, precision_score, recall_score
from sklearn import metrics as sk

from hftransfer import answers
from hftransfer.answers._entities import find_entities, has_entities
from hftransfer.errors import UserError
from hftransfer.evaluation.names import check_names, greater_is_better
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure_point, per_class
from tests import tiny


def predicted(predictions):
    return predictions.answer.predicted(predictions.outputs)


def single(n=60, k=3, seed=0, classes=None):
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes or k, size=n)
    scores = rng.random((n, k)).round(2) + 0.01  # rounded: ties in the scores
    scores[np.arange(n), truth] += 0.4
    answer = tiny.answer("single_label", "abcdefgh"[:k], (n,) * k)
    return Predictions(answer, [str(i) for i in range(n)], truth, scores / scores.sum(1, keepdims=True))


def multi(n=60, k=4, seed=0):
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, k)) < 0.4).astype(int)
    scores = np.clip(0.3 * truth + 0.8 * rng.random((n, k)).round(1), 0.01, 0.99)
    answer = tiny.answer("multi_label", "abcd"[:k], (n,) * k)
    return Predictions(answer, [str(i) for i in range(n)], truth, scores)


def regression(n=60, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n).round(1)  # ties
    return Predictions(
        tiny.answer("regression"), [str(i) for i in range(n)], truth, (truth + rng.normal(size=n) + 3).round(1)
    )


def tags(n=30, names=("O", "B-PER", "I-PER", "B-LOC", "I-LOC"), seed=0, signal=1.5):
    rng = np.random.default_rng(seed)
    truth = [rng.integers(len(names), size=rng.integers(0, 12)) for _ in range(n)]
    scores = []
    for sentence in truth:
        noisy = rng.random((len(sentence), len(names)))
        noisy[np.arange(len(sentence)), sentence] += signal * rng.random(len(sentence))
        scores.append(noisy / noisy.sum(axis=1, keepdims=True))
    return Predictions(tiny.answer("tags", names, (9,) * len(names)), [str(i) for i in range(n)], truth, scores)


ALL = {"single": single(), "binary": single(k=2), "multi": multi(), "regression": regression(), "tags": tags()}


@pytest.mark.parametrize("classes", [None, 3])
def test_single_label_equals_sklearn(classes):
    p = single(n=200, k=4, classes=classes)  # with 3 classes in the truth, the fourth is still answered at times
    found, answers = measure_point(p, list(p.answer.metrics)), predicted(p)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sklearn warns of classes that are only answered
        for average in ("macro", "micro", "weighted"):
            precision, recall, f1, _ = sk.precision_recall_fscore_support(p.truth, answers, average=average)
            measured = [found[f"{quality}_{average}"] for quality in ("precision", "recall", "f1")]
            np.testing.assert_allclose(measured, [precision, recall, f1], atol=1e-12)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(p.truth, answers))
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(p.truth, answers))
    assert found["log_loss"] == pytest.approx(sk.log_loss(p.truth, p.outputs, labels=range(4)))
    seen = range(classes or 4)
    areas = [sk.roc_auc_score(p.truth == j, p.outputs[:, j]) for j in seen]
    assert found["roc_auc"] == pytest.approx(np.mean(areas))


def test_binary_area_is_of_the_last_label_and_brier_is_twice_sklearns():
    p = single(k=2)
    found = measure_point(p)
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(p.truth, p.outputs[:, 1]))
    assert found["brier"] == pytest.approx(2 * sk.brier_score_loss(p.truth, p.outputs[:, 1]))


def test_multi_label_equals_sklearn():
    p = multi()
    found, answers = measure_point(p), predicted(p)
    for average in ("macro", "micro"):
        expected = sk.precision_recall_fscore_support(p.truth, answers, average=average)[:3]
        measured = [found[f"{quality}_{average}"] for quality in ("precision", "recall", "f1")]
        np.testing.assert_allclose(measured, expected)
    assert found["f1_weighted"] == pytest.approx(sk.f1_score(p.truth, answers, average="weighted"))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(p.truth, answers))
    assert found["hamming_loss"] == pytest.approx(sk.hamming_loss(p.truth, answers))
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(p.truth, p.outputs, average="macro"))
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(p.truth, p.outputs, average="macro"))


def test_regression_equals_scipy():
    p = regression()
    found = measure_point(p)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(p.truth, p.outputs))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(p.truth, p.outputs))
    assert found["r2"] == pytest.approx(sk.r2_score(p.truth, p.outputs))
    assert found["pearson"] == pytest.approx(stats.pearsonr(p.truth, p.outputs).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr(p.truth, p.outputs).statistic)


SCHEMES = [
    ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"),
    ("O", "I-PER", "I-LOC"),
    ("O", "B-X", "I-X", "E-X", "S-X", "B-Y-Z", "I-Y-Z", "E-Y-Z", "S-Y-Z"),
]


@pytest.mark.parametrize("names", SCHEMES)
@pytest.mark.parametrize("seed", range(5))
def test_entities_equal_seqeval(names, seed):
    p = tags(40, names, seed)
    found = measure_point(p)
    truth, answers = ([[names[i] for i in row] for row in rows] for rows in (p.truth, predicted(p)))
    assert found["precision_entity"] == pytest.approx(precision_score(truth, answers))
    assert found["recall_entity"] == pytest.approx(recall_score(truth, answers))
    assert found["f1_entity"] == pytest.approx(f1_score(truth, answers))
    by_type = f1_score(truth, answers, average=None)  # in alphabetical order
    rows = sorted(per_class(p, resamples=100), key=lambda row: row["name"])
    assert [row["f1"] for row in rows] == pytest.approx(by_type)


def test_bilou_reads_as_iobes():
    bilou, iobes = ("O", "B-X", "I-X", "L-X", "U-X"), ("O", "B-X", "I-X", "E-X", "S-X")
    sentences = [np.array([4, 4, 1, 2, 3, 0, 1, 3]), np.array([], int), np.array([1, 3, 4])]
    one, other = find_entities(sentences, bilou), find_entities(sentences, iobes)
    assert one.first.tolist() == other.first.tolist() == [0, 1, 2, 6, 10, 12]
    assert one.last.tolist() == other.last.tolist() == [0, 1, 4, 7, 11, 12]
    assert one.sentence.tolist() == [0, 0, 0, 0, 2, 2]


def test_part_of_speech_tags_have_no_entities():
    p = tags(names=("NOUN", "VERB", "."))
    assert not has_entities(p.answer.names)
    assert p.answer.default_metrics == ("accuracy", "f1_macro")
    flat = np.concatenate(p.truth), np.concatenate(predicted(p))
    assert measure_point(p)["accuracy"] == pytest.approx(sk.accuracy_score(*flat))
    assert measure_point(p)["f1_macro"] == pytest.approx(sk.f1_score(*flat, average="macro"))


def test_calibration_error_is_the_gap_by_bin_of_confidence():
    scores = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 10)
    truth = np.array([0] * 6 + [1] * 4 + [1] * 9 + [0])
    p = Predictions(tiny.answer("single_label", ("a", "b")), [str(i) for i in range(20)], truth, scores)
    assert measure_point(p)["calibration_error"] == pytest.approx((0.3 + 0.3) / 2)  # .9 but right .6; .6 but right .9


@pytest.mark.parametrize("kind", ALL)
def test_weights_mean_repeated_rows(kind):
    """The bootstrap's weighted statistics are the plain ones of a split in which rows stand several times."""
    p = ALL[kind]
    rng = np.random.default_rng(1)
    drawn = rng.integers(len(p), size=(3, len(p)))
    weights = np.stack([np.bincount(rows, minlength=len(p)) for rows in drawn], axis=1).astype(np.float32)
    names = list(p.answer.metrics)
    sample = p.answer.sample(p.outcomes, weights)
    weighted = {name: p.answer.METRICS[name].value(sample) for name in names}
    for i, rows in enumerate(drawn):
        picked = [[part[row] for row in rows] for part in (p.truth, p.outputs)]
        truth, scores = picked if p.answer.kind == "tags" else (np.stack(part) for part in picked)
        repeated = measure_point(Predictions(p.answer, [str(row) for row in rows], truth, scores), names)
        assert {name: weighted[name][i] for name in names} == pytest.approx(repeated, abs=1e-5)


def test_undefined_metrics_are_left_out():
    p = single()
    one_class = Predictions(p.answer, p.row_ids, np.zeros(60, int), p.outputs)
    binary = Predictions(tiny.answer("single_label", ("a", "b")), p.row_ids, np.zeros(60, int), p.outputs[:, :2])
    constant = Predictions(tiny.answer("regression"), ["0", "1"], np.array([1.0, 2.0]), np.array([3.0, 3.0]))
    assert "roc_auc" not in measure_point(one_class) and "roc_auc" not in measure_point(binary)
    assert set(measure_point(constant)) == {"mae", "rmse", "r2"}


def test_names_are_a_closed_set_beside_the_hubs():
    check_names(["accuracy", "exact_match", "someone/metric"])
    with pytest.raises(UserError, match="Did you mean 'accuracy'"):
        check_names(["acuracy"])
    with pytest.raises(UserError, match="single_label"):
        check_names(["rmse"], tiny.answer("single_label", ("a", "b")))
    with pytest.raises(UserError, match="a known metric"):
        check_names(["../script"])


def main_metric_of(measured):
    """Return the main metric of a result of schema 2, which does not name it."""
    classes = [{"name": name} for name in "ab"]
    return answers.of_result({"test": {"metrics": measured, "classes": classes}}).main_metric


def test_main_metrics():
    expected = {"single": "accuracy", "multi": "f1_micro", "regression": "rmse", "tags": "f1_entity"}
    assert {kind: ALL[kind].answer.main_metric for kind in expected} == expected
    assert {kind: main_metric_of(measure_point(ALL[kind])) for kind in expected} == expected
    assert tiny.answer("tags", ("NOUN", "VERB")).main_metric == "accuracy"
    assert greater_is_better("accuracy") and not greater_is_better("rmse") and not greater_is_better("loss")
    with pytest.raises(UserError):
        greater_is_better("f1")


def test_per_class_equals_sklearn():
    p = single(n=200)
    precision, recall, f1, support = sk.precision_recall_fscore_support(p.truth, predicted(p))
    rows = per_class(p, resamples=200)
    assert [row["name"] for row in rows] == ["a", "b", "c"]
    for key, expected in {"precision": precision, "recall": recall, "f1": f1, "n": support}.items():
        assert [row[key] for row in rows] == pytest.approx(list(expected))
    assert all(row["f1_low"] < row["f1"] < row["f1_high"] for row in rows)


def test_a_class_that_never_occurs_has_no_scores():
    p = single(n=30, k=2)
    three = Predictions(
        tiny.answer("single_label", ("a", "b", "c")), p.row_ids, p.truth, np.pad(p.outputs, ((0, 0), (0, 1)))
    )
    absent = per_class(three, resamples=100)[2]
    assert absent == {"name": "c", "n": 0} | dict.fromkeys(["precision", "recall", "f1", "f1_low", "f1_high"])
