"""Comparing finished runs: the same rows, every pair, the verdict in words, the files, and what is refused."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hftransfer import cli, follow
from hftransfer.comparison import contenders, judging, writing
from hftransfer.errors import UserError
from hftransfer.evaluation.predictions import Predictions
from hftransfer.runs import Run
from tests import tiny
from tests.engine.trained import trained, tree

ANSWER = tiny.answer("single_label", "ab", (1, 1))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("compared")
    return {
        "good": trained(folder, "good", tree(folder)),
        "poor": trained(folder, "poor", tree(folder), max_steps=1, learning_rate=1e-6),
        "lora": trained(folder, "lora", tree(folder, name="lora", r=4), max_steps=2),
        "elsewhere": trained(folder, "elsewhere", {**tree(folder), "seed": 7}, max_steps=1),
    }


def contender(name: str, right: float, seconds: float | None, n: int = 600, **fields: Any) -> contenders.Contender:
    """Return a model that is right on the first share of the rows."""
    truth = np.arange(n) % 2
    answers = np.where(np.arange(n) < right * n, truth, 1 - truth)
    scores = np.full((n, 2), 0.3)
    scores[np.arange(n), answers] = 0.7
    made = Predictions(ANSWER, [f"rows:{i}" for i in range(n)], truth, scores)
    return contenders.Contender(name, name, "base", made, seconds, 10, "cpu", "print", **fields)


def judged(*found: contenders.Contender, **options: Any) -> dict[str, Any]:
    return judging.compare(found, resamples=400, **options)


BASELINE = {"name": "majority class", "metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}}


def test_the_verdict_in_words() -> None:
    found = judged(
        contender("full", 0.8, 300.0), contender("lora", 0.797, 120.0), contender("probe", 0.75, 10.0),
        contender("zero_shot", 0.45, 2.0), baseline=BASELINE,
    )  # fmt: skip
    assert [one["name"] for one in found["models"]] == ["full", "lora", "probe", "zero_shot"]
    assert [one["name"] for one in found["models"] if one["not_worse"]] == ["full", "lora"]
    assert [one["name"] for one in found["models"] if one["recommended"]] == ["lora"]
    assert len(found["pairs"]) == 6
    text = found["verdict"]
    for words in (
        "lora beats probe by 4.8 points of accuracy (3.1 to 6.6) for 12x the time; ",
        "lora beats zero_shot by 34.8 points of accuracy",
        "for 60x the time; full is not distinguishable from lora on 600 rows. ",
        "These 600 test rows can resolve differences above 0.5 points of accuracy. ",
        "Cheapest that is not shown to be worse than the best (full): lora. ",
        "Not above the majority class (0.500): zero_shot.",
    ):
        assert words in text, text
    assert any("all 6 pairs" in note for note in found["notes"])


def test_the_best_wins_when_it_is_also_the_cheapest() -> None:
    found = judged(contender("probe", 0.9, 5.0), contender("full", 0.8, 100.0))
    assert found["verdict"].startswith("probe beats full by 10.0 points of accuracy (7.6 to 12.4) in 5% of the time.")
    assert "Cheapest" not in found["verdict"]
    assert not any("pairs" in note for note in found["notes"])


def test_a_lower_score_can_be_the_better_one() -> None:
    found = judged(contender("probe", 0.9, 5.0), contender("full", 0.8, 100.0), metric="log_loss")
    assert [one["name"] for one in found["models"]] == ["probe", "full"]
    (pair,) = found["pairs"]
    assert pair["better"] == "probe" and 0 < pair["low"] < pair["advantage"] < pair["high"]
    assert " of log_loss (" in found["verdict"] and "points" not in found["verdict"]


def test_holm_can_take_back_what_one_pair_alone_would_show() -> None:
    close = [contender("a", 0.8, 1.0, 400), contender("b", 0.785, 2.0, 400)]
    (alone,) = judged(*close)["pairs"]
    among = judged(*close, *(contender(f"c{i}", 0.8 - 0.0001 * i, 3.0, 400) for i in range(5)))
    pair = writing.pair_of(among, "a", "b")
    assert (
        alone["p_value"] == pytest.approx(pair["p_value"]) and alone["shown"] and alone["p_value"] == alone["p_holm"]
    )
    assert pair["p_holm"] > pair["p_value"] and not pair["shown"]


def test_unknown_seconds_and_other_machines_are_said() -> None:
    found = judged(contender("mine", 0.8, 50.0), contender("user/model", 0.8, None))
    assert [one["name"] for one in found["models"] if one["recommended"]] == ["mine"]
    assert any(note == "What it took to make user/model is not known." for note in found["notes"])


def test_equal_answers_resolve_nothing() -> None:
    one = contender("one", 0.8, 4.0)
    found = judged(one, dataclasses.replace(one, name="again", seconds=2.0))
    assert "Their answers are the same on all 600 test rows." in found["verdict"]
    assert "can resolve" not in found["verdict"]


def test_two_models_are_needed() -> None:
    with pytest.raises(UserError, match=r"two models.*there is 1 \(zero_shot: a bare backbone\)"):
        judged(contender("a", 0.8, 1.0), skipped=[contenders.Skipped("zero_shot", "a bare backbone")])
    with pytest.raises(UserError, match="a known metric"):
        judged(contender("a", 0.8, 1.0), contender("b", 0.8, 1.0), metric="accurracy")


def test_files(tmp_path: Path, sharp_pictures: None) -> None:
    found = judged(
        contender("full|x", 0.8, 300.0), contender("lora", 0.797, 12.0), contender("hub", 0.6, None),
        skipped=[contenders.Skipped("zero_shot", "a bare backbone cannot answer")], baseline=BASELINE,
    )  # fmt: skip
    writing.write(found, tmp_path)
    assert json.loads((tmp_path / "comparison.json").read_text()) == json.loads(json.dumps(found))
    with open(tmp_path / "comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["full|x", "lora", "hub"]
    assert rows[0]["behind_best"] == "" and float(rows[2]["behind_best"]) == pytest.approx(0.2)
    text = (tmp_path / "comparison.md").read_text()
    assert "| **recommended** | `lora` | 0.798 | " in text and "`full\\|x`" in text
    assert "zero\\_shot is not among them: a bare backbone cannot answer" in text
    with Image.open(tmp_path / "comparison.png") as picture:
        assert picture.width > 900 and len(set(picture.convert("RGB").resize((64, 64)).get_flattened_data())) > 10


def test_finished_runs_by_name_and_by_folder(runs: dict[str, Run]) -> None:
    found = contenders.gather([str(runs["good"].folder), str(runs["lora"].folder)])
    assert [one.name for one in found] == ["full", "lora"]
    assert contenders.gather([str(runs["good"].folder), str(runs["poor"].folder)])[1].name == "poor"
    compared = judging.judge([str(runs["good"].folder)], found)
    score = runs["good"].result()["test"]["metrics"]["accuracy"]
    mine = next(one for one in compared["models"] if one["name"] == "full")
    assert {key: mine[key] for key in score} == pytest.approx(score)
    assert compared["baseline"]["name"] == "majority class"


def test_better_than_a_run_that_learned_nothing(runs: dict[str, Run], capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(runs[name].folder) for name in ("good", "poor")]
    assert cli.main(["compare", *names, "output=out", "--metric", "f1_macro"]) == 0
    out = capsys.readouterr().out
    assert "good beats poor by " in out and "folder: out (comparison.md" in out
    assert Path("out/comparison.png").is_file()
    assert cli.main(["compare", *names, "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["type"] == "comparison" and line["pairs"][0]["better"] == "good" and line["pairs"][0]["shown"]
    assert "p (Holm)" in follow.comparison_text(line)


def test_a_model_folder_is_asked_about_the_same_rows(runs: dict[str, Run], tmp_path: Path) -> None:
    shutil.copytree(runs["lora"].artifact, tmp_path / "model")
    found = contenders.gather([str(runs["good"].folder), str(tmp_path / "model")])
    stored = contenders.of_run(runs["lora"]).predictions
    assert found[1].predictions.row_ids == stored.row_ids
    assert np.abs(found[1].predictions.outputs - stored.outputs).max() < 1e-5
    noted = json.loads((tmp_path / "model" / "hftransfer.json").read_text())["cost"]
    assert found[1].method == "lora" and found[1].seconds == noted["alone_seconds"]


def test_a_model_of_other_labels_is_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    shutil.copytree(runs["lora"].artifact, tmp_path / "model")
    (tmp_path / "model" / "hftransfer.json").unlink()
    settings = json.loads((tmp_path / "model" / "config.json").read_text())
    settings["id2label"] = {"0": "negative", "1": "joyful"}
    (tmp_path / "model" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"labels negative, positive is needed; .* has negative, joyful"):
        contenders.gather([str(runs["good"].folder), str(tmp_path / "model")])


def test_label_order_does_not_matter(runs: dict[str, Run], tmp_path: Path) -> None:
    """A model from elsewhere that has the labels in another order is right on the same rows."""
    import torch
    from transformers import AutoModelForSequenceClassification

    shutil.copytree(runs["good"].artifact, tmp_path / "model")
    (tmp_path / "model" / "hftransfer.json").unlink()
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        for part in (model.classifier.weight, model.classifier.bias):
            part.copy_(part.flip(0))
    model.config.id2label = {0: "positive", 1: "negative"}
    model.config.label2id = {"positive": 0, "negative": 1}
    model.save_pretrained(tmp_path / "model")
    found = contenders.gather([str(runs["good"].folder), str(tmp_path / "model")])
    assert np.abs(found[1].predictions.outputs - found[0].predictions.outputs).max() < 1e-5
    assert found[1].seconds is None and found[1].method == "as it is"


def test_a_model_may_be_named_first_and_names_never_clash(runs: dict[str, Run], tmp_path: Path) -> None:
    shutil.copytree(runs["lora"].artifact, tmp_path / "model")
    settings = (tmp_path / "model" / "hftransfer.json").read_text()
    (tmp_path / "model" / "hftransfer.json").write_text(settings.replace('"positive"', '"Positive"'))
    names = [str(tmp_path / "model"), str(runs["good"].folder)]
    found = contenders.gather(names)
    assert [one.name for one in found] == [names[0], "full"] and found[0].predictions.answer.names[1] == "positive"
    assert len(judging.judge(names, found)["models"]) == 2
    shutil.copytree(runs["good"].folder, tmp_path / "runs" / "ladder" / "good")
    both = contenders.gather([names[1], "ladder/good"])
    assert len({one.name for one in both}) == 2 and both[1].name == "ladder/good"


def _other_ids(run: Run) -> None:
    found = contenders.of_run(run).predictions
    Predictions(found.answer, [f"x{i}" for i in found.row_ids], found.truth, found.outputs).to_parquet(
        run.predictions / "test.parquet"
    )


def _unfinished(run: Run) -> None:
    run.result_path.unlink()


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("elsewhere", lambda run: None, "test rows of .* are others than those of .*fingerprints differ"),
        ("lora", _other_ids, "row ids of .* are others"),
        ("lora", _unfinished, "finished runs are needed"),
    ],
)
def test_other_rows_are_refused(
    runs: dict[str, Run], tmp_path: Path, name: str, change: Callable[[Run], None], said: str
) -> None:
    shutil.copytree(runs[name].folder, tmp_path / "other")
    change(Run(tmp_path / "other"))
    with pytest.raises(UserError, match=said):
        judging.compare(contenders.gather([str(runs["good"].folder), str(tmp_path / "other")]))


def test_data_that_changed_is_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    shutil.copytree(runs["good"].folder, tmp_path / "run")
    (tmp_path / "rows.csv").write_text((runs["good"].folder.parent / "rows.csv").read_text().replace(" film", " food"))
    config = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(
        config.replace(str(runs["good"].folder.parent / "rows.csv"), str(tmp_path / "rows.csv"))
    )
    with pytest.raises(UserError, match="its data now gives other ones"):
        contenders.of_model(str(runs["lora"].artifact), Run(tmp_path / "run"))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["nothing/here"], "a finished run must be among the names"),
        (["RUN", "RUN", "seed=3"], r"Only output=FOLDER can be set"),
        (["RUN"], "two models are needed"),
        (["RUN", "RUN"], "is named twice"),
        (["RUN", "ladder"], "Name those that are meant: ladder/full"),
        (["RUN", "other", "--methods", "full"], "a configuration is needed for methods"),
    ],
)
def test_wrong_names_end_with_2(
    runs: dict[str, Run], names: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(runs["good"].folder) if name == "RUN" else name for name in names]
    for path in ("ladder/ladder.json", "ladder/full/config.yaml"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("{}")
    assert cli.main(["compare", *words]) == 2
    assert said in capsys.readouterr().err
