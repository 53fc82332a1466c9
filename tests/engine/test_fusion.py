"""Fusing finished runs: exact mixtures, chosen on validation rows, an ordinary artifact, and what does not fit."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hftransfer import catalog, cli, follow
from hftransfer.card import report
from hftransfer.comparison import contenders, fusion
from hftransfer.errors import UserError
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure_point
from hftransfer.methods import _kin, fuse
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from tests import tiny
from tests.engine.trained import trained, tree


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("fused")
    return {
        "one": trained(folder, "one", tree(folder)),
        "two": trained(folder, "two", tree(folder), learning_rate=4e-3, num_train_epochs=6),
        "poor": trained(folder, "poor", tree(folder), max_steps=1, learning_rate=1e-6),
        "lora": trained(folder, "lora", tree(folder, name="lora", r=4), learning_rate=2e-2),
        "lora2": trained(folder, "lora2", tree(folder, name="lora", r=2), learning_rate=1e-2, num_train_epochs=4),
    }


def fused(folder: Path, runs: dict[str, Run], names: str, **options: Any) -> tuple[Run, dict[str, Any]]:
    """Return a fused run of runs (by name, parted by blanks) and its note of what was tried."""
    first = runs[names.split()[0]]
    made = first.config().to_dict()
    folders = [str(runs[name].folder) for name in names.split()]
    made["method"] = {"name": "fuse", "runs": folders, **options}
    made.pop("output")
    run = trained(folder, "fused", made)
    return run, json.loads((run.folder / fuse.FILE).read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForSequenceClassification.from_pretrained(folder).state_dict())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.allclose(one[k], other[k], atol=1e-6) for k in one)


def test_between_base_and_tuned(tmp_path: Path, runs: dict[str, Run]) -> None:
    run, note = fused(tmp_path, runs, "one", how="interpolate", steps=4)
    assert [one["alpha"] for one in note["tried"]] == [0, 0.25, 0.5, 0.75, 1]
    assert note["tried"][-1]["validation"] == runs["one"].result()["validation"]["metrics"]["accuracy"]["value"]
    best = max(note["tried"], key=lambda one: (one["validation"], -one["validation_loss"]))
    share = note["chosen"]["alpha"]
    assert share == best["alpha"] > 0
    base, tuned = tiny_base(runs["one"]), weights(runs["one"].artifact)
    made = weights(run.artifact)
    for name, value in made.items():
        start = base.get(name.removeprefix("bert."), tuned[name])  # the base has no head: that of the run stays
        assert torch.allclose(value, torch.lerp(start, tuned[name], share), atol=1e-6), name
    result = run.result()
    assert result["method"] == "fuse" and result["cost"]["trainable_parameters"] == 0
    (looked,) = (event["seconds"] for event in run.events()[0] if event["type"] == "looked")
    own = result["cost"]["total_seconds"] - looked
    assert result["cost"]["alone_seconds"] == pytest.approx(own, abs=0.02) and own > result["cost"]["train_seconds"]
    assert note["seconds_of_its_runs"] == runs["one"].result()["cost"]["alone_seconds"]
    assert contenders.of_run(run).seconds == pytest.approx(
        note["seconds_of_its_runs"] + result["cost"]["alone_seconds"]
    )
    assert Predictor(run.artifact)("the film was good")["label"] in ("positive", "negative")
    events = [event for event in run.events()[0] if event["type"] == "fused"]
    assert events[0]["chosen"] == {"alpha": share}
    assert follow.lines_of(events[0])[0].startswith(f"chosen on validation rows: alpha {share:g} (accuracy ")


def tiny_base(run: Run) -> dict[str, torch.Tensor]:
    from transformers import AutoModel

    return dict(AutoModel.from_pretrained(run.config().model).state_dict())


def test_all_the_way_is_the_run_itself_and_halfway_is_halfway() -> None:
    one = {"w": torch.tensor([0.0, 1.0]), "n": torch.tensor(3)}
    two = {"w": torch.tensor([1.0, 0.3]), "n": torch.tensor(5)}
    assert torch.equal(fuse.mix(one, two, 1.0)["w"], two["w"]) and torch.equal(fuse.mix(one, two, 0.0)["w"], one["w"])
    assert torch.allclose(fuse.mix(one, two, 0.5)["w"], torch.tensor([0.5, 0.65]))
    assert fuse.mean([one, two])["n"] == 3 and torch.allclose(fuse.mean([one, two])["w"], torch.tensor([0.5, 0.65]))
    assert torch.equal(one["w"], torch.tensor([0.0, 1.0]))  # untouched


def test_a_second_data_set_counts_as_much(tmp_path: Path, runs: dict[str, Run]) -> None:
    """On rows with the labels turned round the tuned weights are wrong: the choice moves away from them."""
    rows = tmp_path / "other.csv"
    tiny.text_csv(rows, 120, seed=5)
    lines = [line.rpartition(",") for line in rows.read_text().splitlines()]
    turned = {"positive": "negative", "negative": "positive"}
    rows.write_text("\n".join(f"{text},{turned.get(label, label)}" for text, _, label in lines) + "\n")
    _, note = fused(tmp_path, runs, "one", how="interpolate", steps=2, second=str(rows))
    ends = note["tried"][0], note["tried"][-1]
    assert ends[1]["second"] < 0.3 < ends[1]["validation"]
    means = [(one["validation"] + one["second"]) / 2 for one in note["tried"]]
    chosen = next(one for one in note["tried"] if one["alpha"] == note["chosen"]["alpha"])
    assert (chosen["validation"] + chosen["second"]) / 2 == max(means)


def test_a_greedy_soup_leaves_out_what_harms(tmp_path: Path, runs: dict[str, Run]) -> None:
    run, note = fused(tmp_path, runs, "poor one two", how="greedy")
    assert "poor" not in note["chosen"]["runs"]
    chosen = [runs[name] for name in note["chosen"]["runs"]]
    assert same(weights(run.artifact), fuse.mean([weights(one.artifact) for one in chosen]))
    alone = [runs[name].result()["validation"]["metrics"]["accuracy"]["value"] for name in ("one", "two", "poor")]
    assert run.result()["validation"]["metrics"]["accuracy"]["value"] >= max(alone)


def test_runs_of_one_name_are_told_apart() -> None:
    runs = [Run(Path(folder)) for folder in ("runs/monday/full", "runs/tuesday/full", "runs/tuesday/lora")]
    assert _kin.told_apart(runs) == ["monday/full", "tuesday/full", "tuesday/lora"]
    assert _kin.told_apart(runs[1:]) == ["full", "lora"] and _kin.told_apart(runs[:1]) == ["full"]


def test_a_uniform_soup_is_the_mean(tmp_path: Path, runs: dict[str, Run]) -> None:
    run, note = fused(tmp_path, runs, "one two", how="uniform")
    assert note["chosen"] == {"runs": ["one", "two"]}
    assert same(weights(run.artifact), fuse.mean([weights(runs[name].artifact) for name in ("one", "two")]))


def test_one_adapter_with_share_one_is_that_run(tmp_path: Path, runs: dict[str, Run]) -> None:
    run, note = fused(tmp_path, runs, "lora", how="task_arithmetic", steps=1)
    assert note["chosen"] == {"share": 1.0}
    assert same(weights(run.artifact), weights(runs["lora"].artifact))


def test_task_arithmetic_adds_the_changes(tmp_path: Path, runs: dict[str, Run]) -> None:
    run, note = fused(tmp_path, runs, "lora lora2", how="task_arithmetic", steps=2)
    share, base = note["chosen"]["share"], tiny_base(runs["lora"])
    one, two, made = (weights(found.artifact) for found in (runs["lora"], runs["lora2"], run))
    for name, value in made.items():
        start = base.get(name.removeprefix("bert."))
        expected = (
            (one[name] + two[name]) / 2 if start is None else start + share * (one[name] + two[name] - 2 * start)
        )
        assert torch.allclose(value, expected, atol=1e-5), name


def test_ties(tmp_path: Path, runs: dict[str, Run]) -> None:
    run, note = fused(tmp_path, runs, "lora lora2", how="ties", steps=2, density=0.5)
    assert len(note["tried"]) == 2 and run.result()["artifact"] == "artifact"
    assert not same(weights(run.artifact), weights(runs["lora"].artifact))


def _other_width(run: Run) -> None:
    settings = tiny.TEXT["bert"]()
    settings.intermediate_size = 96
    settings.id2label = {0: "negative", 1: "positive"}
    AutoModelForSequenceClassification.from_config(settings).save_pretrained(run.artifact)


def _other_labels(run: Run) -> None:
    path = run.artifact / "hftransfer.json"
    notes = json.loads(path.read_text())
    notes["answer"]["names"] = ["negative", "joyful"]
    path.write_text(json.dumps(notes))


def _other_rows(run: Run) -> None:
    result = run.result()
    result["data"]["fingerprint"] = "0" * 64
    run.result_path.write_text(json.dumps(result))


def _no_artifact(run: Run) -> None:
    shutil.rmtree(run.artifact)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_other_width, "other differs: intermediate_size is 96 in its config, 64 in that of one"),
        (_other_labels, "other differs: its labels are negative, joyful, not negative, positive"),
        (_other_rows, "the data of other has the fingerprint 0000000000000000"),
        (_no_artifact, "a run with a trained model is needed; other is done and has none"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, runs: dict[str, Run], change: Callable[[Run], None], said: str
) -> None:
    shutil.copytree(runs["two"].folder, tmp_path / "other")
    other = Run(tmp_path / "other")
    change(other)
    with pytest.raises(UserError, match=said):
        fused(tmp_path, {**runs, "other": other}, "one other", how="greedy")


def test_whole_models_have_no_adapters_to_add(tmp_path: Path, runs: dict[str, Run]) -> None:
    with pytest.raises(UserError, match="one has no adapter"):
        fused(tmp_path, runs, "one two", how="ties")


def test_configure(runs: dict[str, Run]) -> None:
    one, two = (str(runs[name].folder) for name in ("one", "two"))
    assert fusion.configure([one], None, "base").method.options["how"] == "interpolate"
    config = fusion.configure([one, two], None, None, ["method.steps=5", "output=runs/x"])
    assert config.method.options["how"] == "greedy" and config.output == "runs/x"
    assert config.hub == catalog.build_config({"task": config.task, "model": "m", "data": {"source": "x"}}).hub
    for names, partner, said in (([one], None, "Add --with base"), ([one, two], "base", "one run is fused")):
        with pytest.raises(UserError, match=said):
            fusion.configure(names, None, partner)
    with pytest.raises(UserError, match=r"method\.how: wanted"):
        fusion.configure([one, two], "stir", None)


def test_what_folders_tell_is_said_before_anything_starts(tmp_path: Path, runs: dict[str, Run]) -> None:
    one = str(runs["one"].folder)
    for change, said in ((_other_width, "other differs: intermediate_size is 96 in its config, 64 in that of one"),
                         (_other_labels, "its labels are negative, joyful"), (_other_rows, "has the fingerprint 0000"),
                         (_no_artifact, "a run with a trained model is needed"),
                         (lambda run: run.result_path.unlink(), "finished runs are needed; other is ")):  # fmt: skip
        shutil.rmtree(tmp_path / "other", ignore_errors=True)
        shutil.copytree(runs["two"].folder, tmp_path / "other")
        change(Run(tmp_path / "other"))
        with pytest.raises(UserError, match=said):
            fusion.configure([one, str(tmp_path / "other")], None, None)
    for how in (None, "ensemble"):
        with pytest.raises(UserError, match="one is named twice"):
            fusion.configure([one, one], how, None)
    assert not Path("runs").exists()


def test_a_second_data_set_that_is_not_there(tmp_path: Path, runs: dict[str, Run]) -> None:
    with pytest.raises(UserError, match=r"method\.second must name a file, .*nowhere\.csv"):
        fused(tmp_path, runs, "one", how="interpolate", second=str(tmp_path / "nowhere.csv"))


def test_an_ensemble_averages_answers_and_has_no_model(
    tmp_path: Path, runs: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(runs[name].folder) for name in ("one", "lora")]
    assert cli.main(["fuse", *names, "--how", "ensemble", "output=mixed"]) == 0
    assert "no model: an ensemble" in capsys.readouterr().out
    run = Run(Path("mixed").absolute())
    result = run.result()
    assert (run.folder / "README.md").read_text() == report.render(result, run.config())
    assert run.status().state == "done" and result["artifact"] is None and not run.artifact.exists()
    members = [contenders.of_run(runs[name]).predictions for name in ("one", "lora")]
    note = json.loads((run.folder / fuse.FILE).read_text())
    flat = [
        np.exp(np.log(member.outputs) / temperature)
        for member, temperature in zip(members, note["temperatures"], strict=True)
    ]
    expected = np.mean([one / one.sum(axis=1, keepdims=True) for one in flat], axis=0)
    found = Predictions.read_parquet(run.predictions / "test.parquet", members[0].answer)
    assert np.abs(found.outputs - expected).max() < 1e-5
    value = measure_point(dataclasses.replace(members[0], outputs=expected), ["accuracy"])["accuracy"]
    assert result["test"]["metrics"]["accuracy"]["value"] == pytest.approx(value)
    assert result["answer"]["temperature"] == 1.0 and result["calibration"] is None
    both = contenders.gather([names[0], str(run.folder)])  # an ensemble is compared as any other run
    assert both[1].name == "fuse" and both[1].predictions.answer.names == ("negative", "positive")


def test_an_ensemble_with_a_threshold_is_read_again_as_it_was_scored(tmp_path: Path, runs: dict[str, Run]) -> None:
    """What result.json says of its answer gives the scores beside it: without the threshold it would not."""
    point = {"label": "positive", "rule": {"sensitivity": 0.99}, "prevalence": 0.1, "threshold": 0.5}
    names = []
    for name in ("one", "lora"):
        folder = shutil.copytree(runs[name].folder, tmp_path / f"placed-{name}")
        path = folder / "artifact" / "hftransfer.json"
        notes = json.loads(path.read_text())
        notes["answer"] |= {"positive": "positive", "points": [point]}
        path.write_text(json.dumps(notes))
        names.append(str(folder))
    assert cli.main(["fuse", *names, "--how", "ensemble", "output=placed"]) == 0
    result = Run(Path("placed").absolute()).result()
    again = contenders.of_run(Run(Path("placed").absolute())).predictions
    (placed,), (shown,) = again.answer.points, result["operating"]["points"]
    assert placed.prevalence == 0.1 and placed.threshold != 0.5
    assert shown["shown_threshold"] == pytest.approx(placed.threshold, abs=1e-12)
    assert result["main_metric"] == again.answer.main_metric == "roc_auc"
    for metric, value in measure_point(again, ["accuracy", "sensitivity", "ppv"]).items():
        assert result["test"]["metrics"][metric]["value"] == pytest.approx(value), metric
