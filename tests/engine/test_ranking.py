"""Which model to start from: the evidence is that of the textbook, and the order is the one to expect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from hftransfer import cli, follow, train
from hftransfer.events import PREFIX
from hftransfer.frozen import model_selection, out_of_fold
from tests import tiny
from tests.engine.conftest import QUICK


@pytest.mark.parametrize("shape", [(40, 6), (12, 30)])
def test_logme_is_the_largest_marginal_likelihood(shape: tuple[int, int]) -> None:
    """Against the density of the answers under the model, maximised by a general optimiser."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=shape)
    answers = values[:, :2] @ [0.7, -0.4] + 0.3 * rng.normal(size=shape[0])

    def negative(logs: np.ndarray) -> float:
        prior, noise = np.exp(logs)
        covariance = np.eye(shape[0]) / noise + values @ values.T / prior
        return -float(scipy.stats.multivariate_normal.logpdf(answers, cov=covariance)) / shape[0]

    wanted = -min(scipy.optimize.minimize(negative, start, method="Nelder-Mead").fun for start in ([0, 0], [1, 2]))
    assert model_selection.logme(values, answers[:, None]) == pytest.approx(wanted, abs=1e-4)


def test_logme_prefers_features_that_tell_the_classes() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 200)
    telling = np.eye(3)[classes] + 0.3 * rng.normal(size=(200, 3))
    scores = [
        model_selection.logme(telling + spread * rng.normal(size=(200, 3)), np.eye(3)[classes]) for spread in (0, 1, 5)
    ]
    assert scores == sorted(scores, reverse=True)


def test_neighbours_are_of_other_folds() -> None:
    """Every entry has a twin in its own fold with its label, and its likes elsewhere have the other."""
    values = np.repeat(np.eye(2), 40, axis=0) + 1e-3 * np.random.default_rng(0).normal(size=(80, 2))
    folds = np.arange(80) % out_of_fold.FOLDS
    targets = np.where(folds == 0, 1, 0)
    found = out_of_fold.neighbours(values, targets, tiny.answer("single_label", "ab"), folds)
    assert (found[folds == 0] == [1, 0]).all()


def scored(
    name: str, score: float, draws: np.ndarray, parameters: int = 10, probe: float = 0.5
) -> model_selection.Scored:
    scores, drawn = {"knn": score, "probe": probe}, {"knn": draws, "probe": draws - score + probe}
    return model_selection.Scored(name, parameters, 100, "mean", scores, drawn, -0.3, 1.0)


def test_the_order_says_who_is_told_apart() -> None:
    rng = np.random.default_rng(0)
    common = 0.02 * rng.normal(size=1000)  # of the rows, which all models share
    models = [
        scored("far", 0.6, 0.6 + common, 5, probe=0.7),
        scored("best", 0.8, 0.8 + common),
        scored("near", 0.79, 0.79 + common + 0.01 * rng.normal(size=1000), 7, probe=0.4),
    ]
    answer = tiny.answer("single_label", "ab")
    rows = model_selection.order(models, answer)
    assert [row["model"] for row in rows] == ["best", "near", "far"]
    assert [row["knn"]["told_apart"] for row in rows] == [False, False, True]
    behind = rows[2]["knn"]["behind"]
    assert behind["low"] == pytest.approx(0.2) == behind["high"]  # paired: the rows cancel out
    assert model_selection.verdict(rows) == (
        "start from best; near is not distinguishable from it on 100 rows, and near is the smallest of them; "
        "frozen, under a probe, far is ahead of it"
    )
    rows = model_selection.order(models, answer, "probe")
    assert [row["model"] for row in rows] == ["far", "best", "near"]
    assert model_selection.verdict(rows, "probe") == "start from far; by its nearest neighbours best is ahead of it"
    assert model_selection.order([], answer) == []


def test_lower_is_better_for_errors() -> None:
    draws = np.zeros(10)
    rows = model_selection.order([scored("a", 2.0, draws + 2), scored("b", 1.0, draws + 1)], tiny.answer("regression"))
    assert [row["model"] for row in rows] == ["b", "a"] and rows[1]["knn"]["behind"]["value"] == 1.0
    assert rows[1]["knn"]["told_apart"] and model_selection.verdict(rows) == "start from b"


def config_of(path: Path, task: str, model: Path, source: Path, **data: Any) -> Path:
    path.write_text(json.dumps({**QUICK, "task": task, "model": str(model), "data": {"source": str(source), **data}}))
    return path


def last_event(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.splitlines()[-1].removeprefix(PREFIX))
    return found


def test_models_are_ranked_and_a_broken_one_costs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tiny.text_csv(tmp_path / "rows.csv", 160)
    models = [tiny.text_model(tmp_path / name, name) for name in ("bert", "distilbert")]
    path = config_of(tmp_path / "c.yaml", "text-classification", models[0], source)
    vit = tiny.image_model(tmp_path / "vit")  # of another kind
    names = [str(tmp_path / "none"), str(models[0]), str(vit), str(models[1])]
    assert train.main(["--config", str(path), "--rank", ",".join(names)]) == 2
    out = capsys.readouterr().out
    found = last_event(out)
    assert found["type"] == "ranked" and {row["model"] for row in found["models"]} == set(map(str, models))
    assert list(found["failed"]) == [names[0], names[2]] and all(one["user_error"] for one in found["failed"].values())
    assert found["verdict"].startswith(f"start from {found['models'][0]['model']}")
    assert out.count('"type": "warning"') == out.count("no test split") + out.count("no validation split") == 2
    assert out.count('"type": "columns"') == 1
    lines = follow.lines_of(found)
    assert any(line.startswith(f"failed: {names[0]}: model=") for line in lines)
    first = found["models"][0]
    assert first["metric"] == "accuracy" and first["rows"] == 112
    for figure in (first["knn"], first["probe"]):
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert first["knn"]["value"] == max(row["knn"]["value"] for row in found["models"])
    assert train.main(["--config", str(path), "--rank", str(tmp_path / "none")]) == 2
    assert follow.lines_of(last_event(capsys.readouterr().out))[-1] == "none of the models could be scored"


def test_what_a_library_makes_of_a_model_costs_the_others_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny.text_csv(tmp_path / "rows.csv", 160)
    models = [tiny.text_model(tmp_path / name, name) for name in ("bert", "distilbert")]
    path = config_of(tmp_path / "c.yaml", "text-classification", models[0], source)
    score = model_selection.score

    def broken(setup: Any, loaded: Any) -> model_selection.Scored:
        if setup.config.model == str(models[0]):
            raise RuntimeError("boom")
        return score(setup, loaded)

    monkeypatch.setattr(model_selection, "score", broken)
    assert train.main(["--config", str(path), "--rank", ",".join(map(str, models))]) == 1
    found = last_event(capsys.readouterr().out)
    assert [row["model"] for row in found["models"]] == [str(models[1])]
    assert found["failed"] == {str(models[0]): {"message": "RuntimeError: boom", "user_error": False}}
    config = config_of(tmp_path / "d.yaml", "text-classification", models[0], tmp_path / "no.csv")
    assert train.main(["--config", str(config), "--rank", ",".join(map(str, models))]) == 2
    assert capsys.readouterr().err.count("data.source must name") == 1  # the rows are nobody's fault among the models


def test_tags_numbers_and_pictures_are_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bert = tiny.text_model(tmp_path / "bert")
    numbers = tmp_path / "numbers.jsonl"
    rows = [{"text": text, "label": len(text.split()) + 0.5} for text, _ in tiny.sentences(120)]
    numbers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cases = [
        ("token-classification", bert, tiny.token_jsonl(tmp_path / "tags.jsonl"), {}, "f1_entity"),
        ("text-classification", bert, numbers, {"problem_type": "regression"}, "rmse"),
        (
            "image-classification",
            tiny.image_model(tmp_path / "vit"),
            tiny.image_folder(tmp_path / "p"),
            {},
            "accuracy",
        ),
    ]
    for task, model, source, data, metric in cases:
        path = config_of(tmp_path / "c.yaml", task, model, source, **data)
        assert train.main(["--config", str(path), "--rank", str(model)]) == 0
        row = last_event(capsys.readouterr().out)["models"][0]
        scores = [row[name]["value"] for name in ("knn", "probe")]
        assert row["metric"] == metric and np.isfinite([*scores, row["logme"]]).all()
        if metric == "accuracy":
            assert min(scores) > 0.9


@pytest.mark.slow
def test_the_command_prints_a_table(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, model = tiny.text_csv(tmp_path / "rows.csv"), tiny.text_model(tmp_path / "bert")
    path = config_of(tmp_path / "c.yaml", "text-classification", model, source)
    assert cli.main(["rank", str(path), "--models", str(model), "--by", "probe"]) == 0
    said = capfd.readouterr().out
    assert "probe's accuracy" in said and said.rstrip().endswith(f"start from {model}")
