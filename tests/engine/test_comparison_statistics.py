"""By simulation: intervals cover what they claim, and equal models are rarely called different.

Every trial draws a test set from a known distribution. All trials share the resamples, as all runs on n rows do, so
that replicates are one matrix product; the functions under test are those of the package.
"""

from __future__ import annotations

import numpy as np
import pytest

from hftransfer import answers as kinds
from hftransfer.answers._prose import Generated
from hftransfer.evaluation import intervals
from hftransfer.evaluation.differences import difference, holm, pairwise
from hftransfer.evaluation.intervals import bootstrap_weights, jackknife_weights
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure
from hftransfer.weighting import wilson
from tests import tiny

ANSWER = tiny.answer("single_label", "abc", (45, 25, 30))
PRIOR = np.array([0.45, 0.25, 0.3])
ANSWERS = np.array([[0.9, 0.05, 0.05], [0.15, 0.7, 0.15], [0.05, 0.15, 0.8]])  # of each true class
TRIALS, RESAMPLES = 1500, 600
SIZES = (50, 200, 1000)


def draw(
    n: int,
    seed: int,
    trials: int = TRIALS,
    shared: float = 0.5,
    prior: np.ndarray = PRIOR,
    answers: np.ndarray = ANSWERS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth and answers of two equally good models, (trials, n) each; a share of the rows they answer alike."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, size=(trials, n), p=prior)
    steps = np.cumsum(answers, axis=1)[truth]
    first, second = rng.random((trials, n, 1)), rng.random((trials, n, 1))
    second = np.where(rng.random((trials, n, 1)) < shared, first, second)
    return truth, (first > steps).sum(axis=-1), (second > steps).sum(axis=-1)


def accuracy(truth: np.ndarray, answers: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return accuracies (trials, resamples)."""
    return (truth == answers).astype(np.float32) @ weights.astype(np.float32) / weights.sum(axis=0)


def f1_macro(truth: np.ndarray, answers: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return macro-averaged F1 (trials, resamples)."""
    weights = weights.astype(np.float32)
    total, classes = np.zeros((len(truth), weights.shape[1])), np.zeros((len(truth), weights.shape[1]))
    for k in range(3):
        right = ((truth == k) & (answers == k)).astype(np.float32) @ weights
        both = ((truth == k).astype(np.float32) + (answers == k)) @ weights
        total += np.divide(2 * right, both, out=np.zeros_like(right), where=both > 0)
        classes += both > 0
    return total / classes


def resamples(n: int, count: int = RESAMPLES, seed: int = 7) -> np.ndarray:
    return np.concatenate(list(bootstrap_weights(n, count, seed)), axis=1)


def true_scores(prior: np.ndarray = PRIOR, answers: np.ndarray = ANSWERS) -> dict[str, float]:
    joint = prior[:, None] * answers
    f1 = 2 * np.diag(joint) / (joint.sum(axis=0) + joint.sum(axis=1))
    return {"accuracy": float(np.trace(joint)), "f1_macro": float(f1.mean())}


SCORES = {"accuracy": accuracy, "f1_macro": f1_macro}


@pytest.mark.parametrize("n", SIZES)
def test_the_interval_of_a_score_covers_it(n: int) -> None:
    truth, answers, _ = draw(n, seed=n)
    shares = accuracy(truth, answers, np.ones((n, 1)))[:, 0]
    value = true_scores()["accuracy"]
    ends = np.array([wilson(float(share), n, 0.95) for share in shares])
    assert 0.93 <= np.mean((ends[:, 0] <= value) & (value <= ends[:, 1])) <= 0.97

    covered = covered_f1(truth, answers, true_scores()["f1_macro"])
    assert 0.93 <= covered <= 0.97, covered


def test_five_rows_of_a_class_are_too_few_for_a_plain_mean_over_classes() -> None:
    """The limit that docs/ladder.md names: 50 rows, 5 of them of the rarest class."""
    prior = np.array([0.6, 0.3, 0.1])
    rarely_found = np.array([[0.85, 0.1, 0.05], [0.2, 0.7, 0.1], [0.25, 0.25, 0.5]])
    truth, given, _ = draw(50, seed=0, prior=prior, answers=rarely_found)
    assert 0.9 <= covered_f1(truth, given, true_scores(prior, rarely_found)["f1_macro"]) < 0.93


def covered_f1(truth: np.ndarray, answers: np.ndarray, value: float) -> float:
    n = truth.shape[1]
    left_out = np.concatenate(list(jackknife_weights(n)), axis=1)
    points = f1_macro(truth, answers, np.ones((n, 1)))[:, 0]
    drawn, groups = f1_macro(truth, answers, resamples(n)), f1_macro(truth, answers, left_out)
    ends = [
        intervals.interval(float(point), trial, without, n, 0.95, kinds.metrics()["f1_macro"])
        for point, trial, without in zip(points, drawn, groups, strict=True)
    ]
    return float(np.mean([low <= value <= high for low, high in ends]))


@pytest.mark.parametrize("metric", SCORES)
@pytest.mark.parametrize("n", SIZES)
def test_equal_models_are_called_different_in_one_of_twenty_test_sets(n: int, metric: str) -> None:
    truth, one, other = draw(n, seed=1 + n)
    weights, whole = resamples(n), np.ones((n, 1))
    apart = SCORES[metric](truth, one, weights) - SCORES[metric](truth, other, weights)
    values = (SCORES[metric](truth, one, whole) - SCORES[metric](truth, other, whole))[:, 0]
    differing = (one != other).sum(axis=1)
    found = [difference(float(v), a, n, 0.95, int(d)) for v, a, d in zip(values, apart, differing, strict=True)]
    rejected = np.mean([one.p_value < 0.05 for one in found])
    assert 0.03 <= rejected <= 0.07, rejected
    excluded = np.mean([one.low > 0 or one.high < 0 for one in found])
    assert excluded == rejected  # the interval on the difference says the same as the p-value


def test_a_real_difference_is_found_and_covered() -> None:
    """The second model is wrong on 8 % of the rows more: the interval on the difference covers that."""
    n, rng = 1000, np.random.default_rng(0)
    truth, one, other = draw(n, seed=5, trials=400)
    other = np.where(rng.random(other.shape) < 0.1, (truth + 1) % 3, other)
    right = true_scores()["accuracy"]
    value = right - 0.9 * right
    weights, whole = resamples(n), np.ones((n, 1))
    apart = accuracy(truth, one, weights) - accuracy(truth, other, weights)
    points = (accuracy(truth, one, whole) - accuracy(truth, other, whole))[:, 0]
    found = [difference(float(p), a, n, 0.95) for p, a in zip(points, apart, strict=True)]
    assert np.mean([one.p_value < 0.05 for one in found]) > 0.95
    assert 0.92 <= np.mean([one.low <= value <= one.high for one in found]) <= 0.98
    assert np.mean([one.resolvable for one in found]) < value  # which is why it is found


def predictions(truth: np.ndarray, answers: np.ndarray) -> Predictions:
    scores = np.full((len(truth), 3), 0.2)
    scores[np.arange(len(truth)), answers] = 0.6
    return Predictions(ANSWER, [str(i) for i in range(len(truth))], truth, scores)


def test_pairs_of_stored_predictions_are_what_was_simulated() -> None:
    truth, one, other = (rows[0] for rows in draw(200, seed=3, trials=1))
    models = [predictions(truth, answers) for answers in (one, other, truth)]
    for metric, score in SCORES.items():
        found = pairwise(models, metric, resamples=300, seed=7)
        assert set(found) == {(0, 1), (0, 2), (1, 2)}
        weights = resamples(200, 300)
        first, second = (score(truth[None], answers[None], weights)[0] for answers in (one, other))
        value = measure(models[0], resamples=100)[metric]["value"] - measure(models[1], resamples=100)[metric]["value"]
        expected = difference(value, first - second, 200, 0.95, int((one != other).sum()))
        assert vars(found[0, 1]) == pytest.approx(vars(expected), abs=1e-5)
        assert found[0, 2].value < 0 and found[0, 2].p_value < 1e-6  # the truth itself is better, without a doubt


def test_a_few_rows_show_nothing() -> None:
    truth = np.zeros(60, int)
    for rows, shown in ((0, False), (1, False), (4, False), (9, True)):
        worse = truth.copy()
        worse[:rows] = 1
        found = pairwise([predictions(truth, truth), predictions(truth, worse)], "accuracy", resamples=500)[0, 1]
        assert found.value == pytest.approx(rows / 60)
        assert (found.p_value < 0.05, found.low > 0) == (shown, shown)
    assert pairwise([predictions(truth, truth)] * 2, "accuracy", resamples=100)[0, 1].p_value == 1


def test_probabilities_alone_can_differ() -> None:
    truth = np.arange(90) % 3
    sure, unsure = predictions(truth, truth), predictions(truth, truth)
    flat = Predictions(ANSWER, unsure.row_ids, truth, np.where(unsure.outputs > 0.5, 0.5, 0.25))
    assert pairwise([sure, flat], "accuracy", resamples=100)[0, 1].value == 0
    found = pairwise([sure, flat], "log_loss", resamples=100)[0, 1]
    assert found.value == pytest.approx(np.log(0.5) - np.log(0.6)) and found.high < 0


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # statsmodels.multipletests(method="holm")
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == [] and holm([0.2]) == [0.2]


def test_holm_keeps_the_chance_of_any_false_alarm_down() -> None:
    rng = np.random.default_rng(0)
    alarms = np.mean([min(holm(rng.random(6).tolist())) < 0.05 for _ in range(4000)])
    assert 0.035 <= alarms <= 0.06


def test_perplexities_are_compared_by_how_many_times_one_is_the_other():
    """A difference of 300 that varies with the worse model alone would show nothing."""
    rng = np.random.default_rng(0)
    made = kinds.of("text")
    truth = ["a"] * 40
    nll = [rng.normal(mean, 1.5, 40).clip(0.1) for mean in (2.5, 5.0)]
    found = [
        Predictions(made, [str(i) for i in range(40)], truth, [Generated("b", float(value), 1) for value in model])
        for model in nll
    ]
    (told,) = pairwise(found, "perplexity").values()
    means = [np.exp(model.mean()) for model in nll]
    assert told.value == pytest.approx(means[0] - means[1])
    assert told.low < told.value < told.high < 0 and told.p_value < 1e-6
    assert -means[1] < told.low, "a perplexity is above 0"
