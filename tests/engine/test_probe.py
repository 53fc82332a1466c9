"""The probe as a run, what it chooses, what it keeps on disk, and what a tuned model starts from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl
import transformers
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression, Ridge

from hftransfer import predictor, samples
from hftransfer.answers._linear import Classes, Labels, Numbers
from hftransfer.errors import UserError
from hftransfer.frozen import probing
from hftransfer.runs import LADDER
from tests import tiny

CLASSES = Classes()
RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 6)) * [1, 2, 0.1, 5, 1, 1] + 3
Y = ((X - 3) @ RNG.normal(size=(6, 3)) + RNG.normal(size=(120, 3))).argmax(axis=1)


def standardised(values: np.ndarray) -> np.ndarray:
    return (values - X.mean(axis=0)) / X.std(axis=0)


@pytest.mark.parametrize("strength", [1e-1, 1e-3])
def test_the_head_is_scikit_learns_on_standardised_features(strength: float) -> None:
    head = probing.fit(X, Y, CLASSES, 3, strengths=[strength])
    other = LogisticRegression(C=1 / (strength * len(X)), tol=1e-10, max_iter=10_000).fit(standardised(X), Y)
    expected = softmax(other.decision_function(standardised(X)), axis=1)
    np.testing.assert_allclose(softmax(head.logits(X), axis=1), expected, atol=1e-4)


def test_several_labels_are_one_logistic_regression_each() -> None:
    aims = np.eye(3)[Y]
    head = probing.fit(X, aims, Labels(), 3, strengths=[1e-2 / 3])  # the mean is over three decisions a row
    for label in range(3):
        other = LogisticRegression(C=1 / (1e-2 * len(X)), tol=1e-10, max_iter=10_000)
        expected = other.fit(standardised(X), aims[:, label]).predict_proba(standardised(X))[:, 1]
        np.testing.assert_allclose(expit(head.logits(X)[:, label]), expected, atol=1e-4)


def test_numbers_get_a_ridge() -> None:
    aims = X @ [1.0, 0, 2, 0, 0, 1] + 7
    head = probing.fit(X, aims, Numbers(), 1, strengths=[1e-2])
    expected = Ridge(alpha=1e-2 * len(X)).fit(standardised(X), aims).predict(standardised(X))
    np.testing.assert_allclose(head.logits(X)[:, 0], expected, atol=1e-8)


@pytest.mark.parametrize("intercept", [True, False])
def test_wide_features_of_few_rows_have_the_same_optimum(intercept: bool) -> None:
    wide = np.hstack([X, RNG.normal(size=(120, 300))])
    head = probing.fit(wide, Y, CLASSES, 3, strengths=[1e-2], intercept=intercept)
    probabilities = softmax(head.logits(wide), axis=1)
    errors = (probabilities - np.eye(3)[Y]) / len(wide)
    center = wide.mean(axis=0) if intercept else 0.0
    spread = np.sqrt(((wide - center) ** 2).mean(axis=0))
    gradient = ((wide - center) / spread).T @ errors + 1e-2 * (head.weight * spread).T
    assert np.abs(gradient).max() < 1e-5
    assert intercept or not head.bias.any()


def test_pooling_and_strength_are_those_that_validate_best() -> None:
    noise = RNG.normal(size=(120, 6))
    train, held_out = slice(0, 80), slice(80, 120)
    head = probing.fit(
        {"noise": noise[train], "signal": X[train]}, Y[train], CLASSES, 3,
        validation=({"noise": noise[held_out], "signal": X[held_out]}, Y[held_out]),
    )  # fmt: skip
    assert head.pooling == "signal"
    assert head.loss == min(head.tried.values()) == pytest.approx(CLASSES.loss(head.logits(X[held_out]), Y[held_out]))


def test_class_weights_move_the_answers_towards_their_class() -> None:
    plain = probing.fit(X, Y, CLASSES, 3, strengths=[1e-2])
    weighted = probing.fit(X, Y, CLASSES, 3, strengths=[1e-2], class_weights=[10.0, 1.0, 1.0])
    assert (weighted.logits(X).argmax(axis=1) == 0).sum() > (plain.logits(X).argmax(axis=1) == 0).sum()


def test_features_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(UserError, match="finite features"):
        probing.fit(np.where(X > 5, np.nan, X), Y, CLASSES, 3, strengths=[1.0])


def text_tree(folder: Path, **method: Any) -> dict[str, Any]:
    return {
        "task": "text-classification",
        "model": str(tiny.text_model(folder / "model")),
        "data": {"source": str(tiny.text_csv(folder / "rows.csv", 120)), "likely_copies": False},
        "method": {"name": "probe", **method},
    }


def events(run: Any, type: str) -> list[dict[str, Any]]:
    return [event for event in run.events()[0] if event["type"] == type]


def test_a_probe_is_a_run_as_any_other_and_its_features_are_kept(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HFTRANSFER_CACHE", str(tmp_path / "cache"))
    tree = text_tree(tmp_path)
    run, result = train(tree, name="first")
    assert result["method"] == "probe" and result["artifact"] == "artifact"
    assert result["test"]["metrics"]["accuracy"]["value"] > 0.7  # random weights, but a word decides
    assert 0 < result["cost"]["trainable_parameters"] < 100
    assert events(run, "features")[0]["cached"] is False
    again, repeated = train(tree, name="second")
    assert events(again, "features")[0]["cached"] is True
    assert repeated["test"]["metrics"] == result["test"]["metrics"]
    (tmp_path / "ladder").mkdir()
    (tmp_path / "ladder" / LADDER).write_text(json.dumps({"time": time.time()}))
    rungs = [train(tree, name=f"ladder/{name}")[0] for name in ("one", "two")]
    computed = [[event["cached"] for event in events(rung, "features")] for rung in rungs]
    assert computed == [[False], [True]], "what a ladder compares was computed in it"
    files = list((samples.cache_folder() / "features").glob("*.safetensors"))
    other, _ = train(tree, "data.max_length=9", name="third")
    assert events(other, "features")[0]["cached"] is False
    assert len(list((samples.cache_folder() / "features").glob("*.safetensors"))) > len(files)
    pipeline = transformers.pipeline("text-classification", str(run.artifact), device="cpu")
    answer = predictor.Predictor(run.artifact)("a lovely film")
    assert pipeline("a lovely film")[0]["label"] == answer["label"] == "positive"


def test_a_broken_file_of_features_is_computed_again(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HFTRANSFER_CACHE", str(tmp_path / "cache"))
    tree = text_tree(tmp_path)
    _, result = train(tree, name="first")
    for file in (samples.cache_folder() / "features").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    run, again = train(tree, name="second")
    assert events(run, "features")[0]["cached"] is False
    assert again["test"]["metrics"] == result["test"]["metrics"]


def test_a_pooling_can_be_asked_for_by_name(train: Callable[..., Any], tmp_path: Path) -> None:
    run, _ = train(text_tree(tmp_path, poolings=["first"], strengths=[0.1]))
    assert events(run, "probe")[-1] | {"pooling": "first", "strength": 0.1} == events(run, "probe")[-1]
    with pytest.raises(UserError, match="known pooling"):
        train(text_tree(tmp_path, poolings=["meen"]), name="other")


def test_a_probe_of_words(train: Callable[..., Any], tmp_path: Path) -> None:
    tree = {
        "task": "token-classification",
        "model": str(tiny.text_model(tmp_path / "model")),
        "data": {"source": str(tiny.token_jsonl(tmp_path / "rows.jsonl", 80))},
        "method": {"name": "probe"},
    }
    _, result = train(tree)
    assert result["test"]["metrics"]["accuracy"]["value"] > 0.95


def image_tree(folder: Path, method: str) -> dict[str, Any]:
    return {
        "task": "image-classification",
        "model": str(tiny.image_model(folder / "model")),
        "data": {"source": str(tiny.image_folder(folder / "pictures", 48))},
        "method": {"name": method},
    }


def test_a_probe_of_pictures(train: Callable[..., Any], tmp_path: Path) -> None:
    run, result = train(image_tree(tmp_path, "probe"))
    assert result["test"]["metrics"]["accuracy"]["value"] == 1.0
    assert events(run, "probe")[-1]["losses"].keys() == {"head"}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_tuning_can_start_from_the_probe(method: str, train: Callable[..., Any], tmp_path: Path) -> None:
    tree = image_tree(tmp_path, method) | {"train": {"learning_rate": 1e-9}}
    _, random = train(tree, name="random")
    run, started = train(tree, "method.init_head=probe", name="probe")
    losses = [found["test"]["metrics"]["log_loss"]["value"] for found in (random, started)]
    assert losses[1] < losses[0] - 0.1
    assert events(run, "probe")[-1]["pooling"] == "head"


def test_streamed_rows_have_no_features(train: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rows on disk"):
        train(text_tree(tmp_path), "data.streaming=true", "train.max_steps=2")


def test_scipys_own_threads_rest_while_a_head_is_solved() -> None:
    def threads() -> list[int]:
        pools = threadpoolctl.threadpool_info()
        return [pool["num_threads"] for pool in pools if "scipy.libs" in pool["filepath"]]

    before = threads()
    with probing.one_thread_of_scipy():
        assert set(threads()) <= {1}
    assert threads() == before
