"""Intervals cover what they claim to, at the edges too, and do not depend on how memory is cut."""

import numpy as np
import pytest

from hftransfer.evaluation import intervals
from hftransfer.evaluation.intervals import bootstrap_weights, jackknife_weights
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure, replicates
from hftransfer.weighting import wilson
from tests import tiny

ANSWER = tiny.answer("single_label", "abc", (6, 3, 1))
PRIOR = np.array([0.6, 0.3, 0.1])
ANSWERS = np.array([[0.85, 0.1, 0.05], [0.2, 0.7, 0.1], [0.25, 0.25, 0.5]])  # of each true class


def draw(n, seed):
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, size=n, p=PRIOR)
    answers = (rng.random(n)[:, None] > np.cumsum(ANSWERS, axis=1)[truth]).sum(axis=1)
    scores = np.full((n, 3), 0.2)
    scores[np.arange(n), answers] = 0.6
    return Predictions(ANSWER, [str(i) for i in range(n)], truth, scores)


def test_nominal_coverage_at_200_rows():
    joint = PRIOR[:, None] * ANSWERS
    f1 = 2 * np.diag(joint) / (joint.sum(axis=0) + joint.sum(axis=1))
    true = {"accuracy": np.trace(joint), "f1_macro": f1.mean()}
    trials = [measure(draw(200, seed), resamples=400, seed=seed) for seed in range(300)]
    for name, value in true.items():
        covered = np.mean([trial[name]["low"] <= value <= trial[name]["high"] for trial in trials])
        assert 0.92 <= covered <= 0.98, f"{name}: {covered}"


@pytest.mark.parametrize("right", [0, 50])
def test_accuracy_is_never_certain(right):
    truth = np.arange(50) % 2
    scores = np.eye(2)[truth if right else 1 - truth]
    p = Predictions(tiny.answer("single_label", "ab", (1, 1)), [str(i) for i in range(50)], truth, scores)
    measured = measure(p, resamples=100)
    low, high = measured["accuracy"]["low"], measured["accuracy"]["high"]
    assert (low, high) == pytest.approx((0.929, 1) if right else (0, 0.071), abs=1e-3)
    if right:
        for name in ("f1_macro", "mcc", "roc_auc"):
            assert measured[name]["low"] < 0.95 and measured[name]["high"] == 1


def test_wilson_is_the_published_interval():
    assert wilson(81 / 263, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I


def test_intervals_hold_their_value_and_narrow_with_rows():
    small, large = (measure(draw(n, 1), resamples=300) for n in (100, 3000))
    for name, score in small.items():
        assert score["low"] <= score["value"] <= score["high"]
        assert large[name]["high"] - large[name]["low"] < score["high"] - score["low"]


def test_confidence_widens():
    p = draw(200, 0)
    narrow, wide = (measure(p, confidence=c, resamples=500) for c in (0.8, 0.99))
    for name in narrow:
        assert wide[name]["low"] < narrow[name]["low"] and wide[name]["high"] > narrow[name]["high"]


def test_seeded_whatever_the_chunk(monkeypatch):
    p = draw(80, 0)
    whole = measure(p, resamples=200, seed=3)
    monkeypatch.setattr(intervals, "CHUNK", 1000)
    assert [w.shape for w in bootstrap_weights(80, 30, 3)] == [(80, 12), (80, 12), (80, 6)]
    assert measure(p, resamples=200, seed=3) == whole
    assert measure(p, resamples=200, seed=4) != whole
    monkeypatch.setattr(intervals, "KEPT", 0)  # too many to keep
    assert measure(p, resamples=200, seed=3) == whole


def test_resamples_keep_the_number_of_rows_and_the_jackknife_leaves_each_out_once():
    assert {w.sum(axis=0).tolist()[0] for w in bootstrap_weights(37, 5, 0)} == {37.0}
    left_out = np.concatenate([1 - w for w in jackknife_weights(500)], axis=1)
    assert left_out.shape == (500, 200) and (left_out.sum(axis=1) == 1).all()


def test_replicates_pair_two_runs_on_the_same_rows():
    p = draw(100, 0)
    worse = Predictions(p.answer, p.row_ids, p.truth, np.roll(p.outputs, 1, axis=1))
    one, other = (replicates(q, ["accuracy"], 50, seed=2)["accuracy"] for q in (p, worse))
    rows = np.concatenate(list(bootstrap_weights(100, 50, 2)), axis=1)
    given, worsened = (q.answer.predicted(q.outputs) for q in (p, worse))
    hits = (given == p.truth).astype(float) - (worsened == p.truth)
    assert one - other == pytest.approx(hits @ rows / 100, abs=1e-6)


def test_a_sentence_is_the_unit_of_tags():
    """Words of one sentence are right or wrong together here, so the interval is that of the sentences."""
    rng = np.random.default_rng(0)
    right = rng.random(100) < 0.8
    truth = [np.zeros(10, int) for _ in right]
    scores = [np.tile([0.9, 0.1] if good else [0.1, 0.9], (10, 1)) for good in right]
    p = Predictions(tiny.answer("tags", ("NOUN", "VERB"), (1, 1)), [str(i) for i in range(100)], truth, scores)
    score = measure(p, resamples=500)["accuracy"]
    assert 0.11 < score["high"] - score["low"] < 0.21  # 1000 independent words would give 0.05
