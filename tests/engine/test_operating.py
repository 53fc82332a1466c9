"""An operating point: chosen on validation alone, measured with intervals that cover, answered by everywhere."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hftransfer import answers, artifact, catalog, config, follow
from hftransfer.answers import _operating
from hftransfer.answers._operating import Point, Yes
from hftransfer.card import report
from hftransfer.comparison import contenders, judging
from hftransfer.config import EvaluationConfig
from hftransfer.errors import ConfigError, UserError
from hftransfer.evaluation import operating, slices
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure_only, measure_outcomes, per_class
from tests import tiny

TWO = tiny.answer("single_label", ("ham", "spam"), (60, 40), 100)
SETTINGS: dict[str, Any] = {"confidence": 0.95, "resamples": 100, "seed": 0}


def asked(**section: Any) -> EvaluationConfig:
    return EvaluationConfig.model_validate(section)


def rows(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < 0.3).astype(np.int64)
    yes = np.clip(0.35 * truth + rng.normal(0.4, 0.15, n), 0.01, 0.99)
    return truth, np.stack([1 - yes, yes], axis=1)


RULES: list[dict[str, Any]] = [
    {"specificity": 0.9}, {"sensitivity": 0.95}, {"cost": {"false_positive": 1, "false_negative": 8}},
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_no_threshold_is_better_on_the_rows_it_is_chosen_on(rule: dict[str, Any]) -> None:
    truth, scores = rows()
    (point,) = _operating.asked_of(asked(at=rule), ["spam"])
    placed = point.chosen(truth == 1, scores[:, 1])

    def shares(threshold: float) -> tuple[float, float]:
        given = scores[:, 1] >= threshold
        return float(given[truth == 1].mean()), float((~given)[truth == 0].mean())

    def worth(threshold: float) -> float:
        se, sp = shares(threshold)
        if "cost" in rule:
            return -(8 * truth.mean() * (1 - se) + (1 - truth.mean()) * (1 - sp))
        reached, other = (sp, se) if "specificity" in rule else (se, sp)
        return other if reached >= next(iter(rule.values())) else -1

    assert placed.threshold is not None
    assert worth(placed.threshold) == pytest.approx(max(map(worth, np.linspace(0, 1, 3001))), abs=1e-9)
    assert not np.isclose(scores[:, 1], placed.threshold, atol=1e-9).any()  # half way between two scores


def test_a_threshold_that_nothing_reaches_never_answers() -> None:
    (point,) = _operating.asked_of(asked(at={"specificity": 0.999}), ["spam"])
    scores = np.array([0.2, 0.9, 1.0, 1.0])
    placed = point.chosen(np.array([False, True, False, True]), scores)
    assert placed.threshold is not None and placed.threshold > 1
    assert point.chosen(np.array([True, True]), np.array([0.1, 0.2])).threshold is None  # nothing to choose by


def drawn(rng: np.random.Generator, n: int, size: int, prevalence: float | None) -> tuple[Predictions, Yes]:
    """Return rows, 30 % positive: 90 % of these and 92 % of the others are answered rightly, correlated by group."""
    truth = rng.random(n) < 0.3
    if size > 1:
        spread = 1 / 0.17 - 1
        rates = [np.repeat(rng.beta(p * spread, (1 - p) * spread, n // size), size) for p in (0.9, 0.92)]
    else:
        rates = [np.full(n, 0.9), np.full(n, 0.92)]
    given = np.where(truth, rng.random(n) < rates[0], rng.random(n) >= rates[1])
    names = [f"g{i // size}" for i in range(n)] if size > 1 else None
    found = Predictions(TWO, [str(i) for i in range(n)], truth.astype(np.int64), np.eye(2)[given.astype(int)], names)
    return found, Yes(truth, given, prevalence)


@pytest.mark.parametrize(("n", "size", "prevalence"), [(120, 1, None), (120, 1, 0.02), (300, 6, 0.02)])
def test_the_four_intervals_cover(n: int, size: int, prevalence: float | None) -> None:
    share = prevalence or 0.3
    true = {
        "sensitivity": 0.9, "specificity": 0.92,
        "ppv": 0.9 * share / (0.9 * share + 0.08 * (1 - share)),
        "npv": 0.92 * (1 - share) / (0.92 * (1 - share) + 0.1 * share),
    }  # fmt: skip
    rng, hits, tries = np.random.default_rng(3), dict.fromkeys(true, 0), 300 if size == 1 else 150
    for i in range(tries):
        found = measure_outcomes(*reversed_(drawn(rng, n, size, prevalence)), resamples=150, seed=i)
        for name, value in true.items():
            hits[name] += found[name]["low"] - 1e-9 <= value <= found[name]["high"] + 1e-9
    assert all(0.915 <= hit / tries <= 0.99 for hit in hits.values()), hits


def reversed_(pair: tuple[Predictions, Yes]) -> tuple[Predictions, Any, Yes]:
    return pair[0], _operating.METRICS, pair[1]


def test_patients_without_the_disease_are_no_witnesses_of_sensitivity() -> None:
    """5 of 60 patients are positive, and all of their pictures were found: as much as 5 rows tell, not 50 or 60."""
    patients = np.repeat(np.arange(60), 10)
    truth = patients < 5
    names = [f"p{patient}" for patient in patients]
    found = Predictions(TWO, [str(i) for i in range(600)], truth.astype(np.int64), np.eye(2)[truth.astype(int)], names)
    score = measure_outcomes(found, _operating.METRICS, Yes(truth, truth), resamples=200)
    assert score["sensitivity"]["value"] == 1 and 0.3 < score["sensitivity"]["low"] < 0.6
    assert score["specificity"]["low"] > 0.9
    rare = next(row for row in per_class(found, resamples=200) if row["n"] == 50)
    assert rare["f1"] == 1 and 0.5 < rare["f1_low"] < 0.65
    one = Predictions(TWO, found.row_ids, found.truth, np.eye(2)[(~truth).astype(int)], ["p"] * 600)
    assert [measure_only(one, ["accuracy"], resamples=50)["accuracy"][end] for end in ("low", "high")] != [0.0, 0.0]


def test_a_threshold_is_of_its_own_label() -> None:
    """`compare` measures runs that look for other classes by one of them: their answers stay what they are."""
    (point,) = _operating.asked_of(asked(at={"specificity": 0.9}), [TWO.names[0]])
    one = dataclasses.replace(TWO, positive=TWO.names[0], points=(dataclasses.replace(point, threshold=0.8),))
    scores = np.array([[0.9, 0.1], [0.7, 0.3], [0.5, 0.5], [0.1, 0.9]])
    other = one.measured_as(dataclasses.replace(TWO, positive=TWO.names[1]))
    assert list(one.predicted(scores)) == list(other.predicted(scores)) == [0, 1, 1, 1]


def test_ppv_at_a_low_prevalence_knows_that_no_false_positive_was_seen() -> None:
    """Wilson's interval of the rows answered as positive would begin near .9: it knows nothing of rare classes."""
    truth = np.arange(100) < 40
    found = Predictions(TWO, [str(i) for i in range(100)], truth.astype(np.int64), np.eye(2)[truth.astype(int)])
    score = measure_outcomes(found, _operating.METRICS, Yes(truth, truth, 0.01))
    assert score["ppv"]["value"] == 1 and score["ppv"]["low"] < 0.2
    assert measure_outcomes(found, _operating.METRICS, Yes(truth, truth))["ppv"]["low"] > 0.9


def test_every_model_on_the_same_rows_is_measured_at_one_prevalence() -> None:
    """A model of the Hub has no threshold and no stated prevalence of its own: PPV would be another share."""
    truth, scores = rows()
    ours, _ = TWO.asked(asked(at={"specificity": 0.9}, prevalence=0.02), pa.array(truth))
    ours = ours.placed(truth, scores)
    kept = answers.restore(json.loads(json.dumps(ours.to_dict())))
    ids = [str(i) for i in range(len(truth))]
    found = [
        contenders.Contender(str(i), "full", "m", Predictions(answer, ids, truth, scores))
        for i, answer in enumerate((kept, TWO, kept.unplaced, kept.uncalibrated))
    ]
    compared = judging.compare(found, "ppv", resamples=50)
    values = {one["name"]: one["value"] for one in compared["models"]}
    given = scores[:, 1] >= 0.5
    right, wrong = given[truth == 1].mean() * 0.02, given[truth == 0].mean() * 0.98
    assert values["1"] == values["2"] == values["3"] == pytest.approx(right / (right + wrong))
    assert values["0"] > values["1"] and values["0"] < 0.3


def test_the_positive_class_is_named_and_why() -> None:
    assert _operating.positive_of(("a", "b"), (5, 9), None) == ("a", "the rarer class of train")
    assert _operating.positive_of(("Positive", "negative"), (9, 5), None) == ("Positive", "by its name")
    assert _operating.positive_of(("0", "1"), (5, 9), None) == ("1", "by its name")
    assert _operating.positive_of(("a", "b"), (5, 9), "b") == ("b", "evaluation.positive")
    with pytest.raises(UserError, match="'c'"):
        _operating.positive_of(("a", "b"), (5, 9), "c")


def test_it_is_refused_in_words() -> None:
    three = tiny.answer("single_label", ("a", "b", "c"), (3, 3, 3), 9)
    codes = pa.array([0, 1, 2])
    with pytest.raises(UserError, match="there are 3 classes"):
        three.asked(asked(at={"specificity": 0.9}), codes)
    assert three.asked(asked(), codes) == (three, [])
    with pytest.raises(UserError, match="validation rows with `spam` and without"):
        TWO.asked(asked(at={"specificity": 0.9}), pa.array([0, 0]))
    _, said = TWO.asked(asked(at={"specificity": 0.9}), pa.array([0, 0, 1]))
    assert said == ["the threshold of `spam` will rest on 2 validation rows without it: it is rough"]
    several = tiny.answer("multi_label", ("a", "b"), (3, 3), 9)
    with pytest.raises(UserError, match="prevalence needs two classes"):
        several.asked(asked(at={"specificity": 0.9}, prevalence=0.1), pa.array([[0], [1]]))
    number = tiny.answer("regression", rows=9, total=1.0)
    with pytest.raises(UserError, match="these are"):
        number.asked(asked(positive="x"), pa.array([1.0]))
    tree = {"task": "translation", "model": "m", "data": {"source": "x"}}
    for section, message in (
        ({"at": {"specificity": 0.9}}, "a threshold is for labels that a row has or not"),
        ({"prevalence": 0.1}, "for PPV and NPV at a threshold"),
        ({"at": {"specificity": 0.9, "sensitivity": 0.9}}, "one of specificity, sensitivity and cost"),
    ):
        with pytest.raises(ConfigError, match=message):
            catalog.build_config({**tree, "evaluation": section})
    with pytest.raises(ConfigError, match="needs rows on disk"):
        catalog.build_config({**tree, "data": {"source": "x", "streaming": True}, "evaluation": {"slices": ["a"]}})


def test_each_of_several_labels_has_its_own() -> None:
    rng = np.random.default_rng(1)
    answer = tiny.answer("multi_label", ("a", "b", "c"), (30, 30, 0), 60)
    truth = (rng.random((60, 3)) < [0.5, 0.3, 0]).astype(np.int64)
    scores = np.clip(0.3 * truth + rng.normal(0.3, 0.1, (60, 3)), 0.01, 0.99)
    encoded = pa.array([np.flatnonzero(row).tolist() for row in truth])
    made, said = answer.asked(asked(at={"sensitivity": 0.9}), encoded)
    assert "given from 0.5 on" in said[-1] and "`c`" in said[-1]
    placed = made.placed(truth, scores)
    again = answers.restore(json.loads(json.dumps(placed.to_dict())))
    assert again == placed and placed.points[2].threshold is None
    found = placed.predicted(scores)
    assert (found[:, :2].sum(axis=0) > 0).all() and placed.main_metric == "average_precision"
    for _, yes in list(placed.decisions_of(truth, scores))[:2]:
        assert operating.values(yes)["sensitivity"] >= 0.9
    test = Predictions(placed, [str(i) for i in range(60)], truth, scores)
    told = operating.report(test, test, SETTINGS)
    assert told is not None and [one["label"] for one in told["points"]] == ["a", "b", "c"]
    known: dict[str, Any] = {"scores": dict(zip("abc", scores[7].tolist(), strict=True))}
    exec("\n".join(placed.decided_in("scores")), known)
    assert known["answer"] == placed.to_json({}, scores[7])["labels"]


def test_slices_are_told_apart_and_small_ones_said() -> None:
    truth, scores = rows(300)
    site = np.where(np.arange(300) < 200, "A", np.where(np.arange(300) < 290, "B", "C"))
    test = Predictions(TWO, [str(i) for i in range(300)], truth, scores)
    found = slices.report(test, {"site": site.tolist(), "id": [str(i) for i in range(300)]}, SETTINGS)
    assert found is not None and [row["n"] for row in found["columns"]["site"]] == [200, 90, 10]
    assert [row["small"] for row in found["columns"]["site"]] == [False, False, True]
    right = float((np.argmax(scores[:200], axis=1) == truth[:200]).mean())
    assert found["columns"]["site"][0]["metrics"]["accuracy"]["value"] == pytest.approx(right)
    assert len(found["columns"]["id"]) == slices.MOST and "`site` C (10)" in found["sentences"][0]
    assert slices.report(test, {}, SETTINGS) is None


def mail(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(tiny.sentences(240), columns=["text", "label"])
    flip = rng.random(240) < 0.15
    frame["label"] = np.where((frame["label"] == "positive") ^ flip, "spam", "ham")
    frame["site"] = rng.choice(["A", "B"], 240)
    frame.to_csv(folder / "rows.csv", index=False)
    data = {"source": str(folder / "rows.csv"), "test_size": 0.4, "validation_size": 0.2, "label_issues": False}
    return {
        "task": "text-classification", "model": str(tiny.text_model(folder / "base")), "method": {"name": "probe"},
        "data": data | {"columns": {"text": "text", "label": "label"}},
        "evaluation": {"resamples": 100, "at": {"specificity": 0.9}, "positive": "spam", "slices": ["site"]},
    }  # fmt: skip


def test_everything_answers_by_the_threshold(tmp_path: Path, train: Any) -> None:
    from hftransfer.predictor import Predictor
    from hftransfer.ui import charts, monitor, result_step

    tree = mail(tmp_path)
    run, result = train(tree)
    (point,) = result["operating"]["points"]
    stored = pd.read_parquet(run.predictions / "test.parquet")
    scores = np.stack(stored["scores"].to_list())[:, 1]
    assert ((scores >= point["threshold"]) == (stored["prediction"] == "spam")).all()
    given, is_spam = stored["prediction"] == "spam", stored["label"] == "spam"
    assert result["test"]["metrics"]["sensitivity"]["value"] == pytest.approx((given & is_spam).sum() / is_spam.sum())
    assert not (given == (scores > 0.5)).all()  # the threshold is of consequence

    # the artifact, the Predictor and the card's lines, which transformers alone runs
    answer = answers.of_notes(artifact.read_notes(run.artifact))
    assert answer.points[0].threshold == point["threshold"]
    examples = pd.read_parquet(run.predictions / "examples.parquet")
    wanted = stored.set_index("row_id").loc[examples["row_id"], "prediction"].tolist()
    asked_of = Predictor(run.artifact).answer(examples["text"].tolist())
    assert [one["label"] for one in asked_of] == wanted
    assert all(next(iter(one["scores"])) == one["label"] for one in asked_of)
    card = report.render(json.loads(run.result_path.read_text()), run.config(), repo=str(run.artifact))
    lines = re.findall(r"```python\n(from transformers import pipeline.*?)```", card, re.DOTALL)[0]
    moved = next(
        i for i, label in enumerate(wanted) if label != ("spam" if asked_of[i]["scores"]["spam"] > 0.5 else "ham")
    )
    known: dict[str, Any] = {}
    exec(lines.replace('"a text"', repr(examples["text"][moved])), known)
    assert known["answer"] == wanted[moved]

    # what is said, everywhere
    page, text = result_step.scores_of(result), follow.result_text(result)
    for sentence in result["operating"]["sentences"]:
        assert sentence in text
    assert "By site" in page and "By site:" in text and "By site:" in card
    assert "pipeline() answers by one half" in text and "decision_curve.png" in card
    drawn_ = {plot["chart"]: charts.of_plot(plot) for plot in monitor.plots(run.folder)}
    assert "the threshold" in drawn_["lines"]

    # another run without a threshold, beside it
    plain, _ = train(tree | {"evaluation": {"resamples": 100}}, name="plain")
    found = judging.compare([contenders.of_run(run, "at"), contenders.of_run(plain, "plain")], "sensitivity")
    assert {one["name"]: bool(one["thresholds"]) for one in found["models"]} == {"at": True, "plain": False}
    assert any("at answers `spam` from" in note for note in found["notes"])
    assert {one["value"] for one in found["models"]} == {
        result["test"]["metrics"]["sensitivity"]["value"], point["without"]["sensitivity"],
    }  # fmt: skip


def test_a_slice_that_is_not_there_ends_it_before_the_model_is_loaded(tmp_path: Path, train: Any) -> None:
    tree = mail(tmp_path) | {"model": str(tmp_path / "nothing")}
    with pytest.raises(UserError, match="no column 'sites'") as error:
        train(tree, "evaluation.slices=[sites]")
    assert "'site'" in str(error.value)
    with pytest.raises(UserError, match="`text` is its text"):
        train(tree, "evaluation.slices=[text]", name="shown")
    assert config.build(config.override(tree, [])).to_dict()["evaluation"]["at"]["specificity"] == 0.9


def test_points_are_written_and_read() -> None:
    point = Point("spam", (("false_positive", 1.0), ("false_negative", 10.0)), 0.1, 0.25)
    assert Point.of_dict(json.loads(json.dumps(point.to_dict()))) == point
    assert "false negative 10" in point.aim
    assert _operating.from_threshold(0.2, 2.0) == pytest.approx(1 / 3)  # log odds of 1/4, halved: of 1/2
