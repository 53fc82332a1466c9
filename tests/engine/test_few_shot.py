"""A few labelled rows: batches hold pairs of both kinds, classes come together, the result is a plain checkpoint."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import pipeline

from hftransfer import catalog
from hftransfer.answers._linear import Classes
from hftransfer.errors import ConfigError, UserError
from hftransfer.fitting.interruption import Interrupted
from hftransfer.frozen import self_training
from hftransfer.methods import few_shot
from hftransfer.methods.few_shot import batches, contrast
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from tests import tiny
from tests.engine.test_resume import resume, same_weights, start


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.text_model(tmp_path_factory.mktemp("models") / "bert")


def shots(folder: Path, each: int, **more: int) -> Path:
    """Write a train of `each` rows a class, and validation and test of 40."""
    folder.mkdir(exist_ok=True)
    counts = {"train": 2 * each, "validation": 40, "test": 40, **more}
    for seed, (split, count) in enumerate(counts.items()):
        rows = [json.dumps({"text": text, "label": label}) for text, label in tiny.sentences(count, seed)]
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def a_tree(model: Path, source: Path, **method: Any) -> dict[str, Any]:
    return {
        "task": "text-classification", "model": str(model), "data": {"source": str(source), "label_issues": False},
        "method": {"name": "few_shot", **method},
    }  # fmt: skip


@pytest.mark.parametrize(("classes", "size"), [(2, 8), (3, 32), (7, 6), (5, 4)])
def test_every_batch_has_pairs_of_both_kinds_and_every_row_its_turn(classes: int, size: int) -> None:
    given = np.repeat(np.arange(classes), np.arange(classes) + 3)
    drawn = list(itertools.islice(batches(given, size, 1), 40))
    for rows in drawn:
        found = given[rows]
        assert len(set(rows)) == len(rows) and len(set(found)) >= 2
        assert min(np.bincount(found)[np.unique(found)]) >= 2
    seen = np.bincount(np.concatenate(drawn), minlength=len(given))
    for label in range(classes):  # within a class nobody is drawn more than once oftener than another
        assert np.ptp(seen[given == label]) <= 1 and seen[given == label].min() > 0
    again = itertools.islice(batches(given, size, 1), 40)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(drawn, batches(given, size, 2), strict=False))


def test_the_loss_by_hand() -> None:
    """Cosines: 0 and 1 within the classes (0, 1) and (2, 3); across 1, 1, 0, 0."""
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [3.0, 0.0]])
    loss = contrast(vectors, torch.tensor([0, 0, 1, 1]))
    assert float(loss) == pytest.approx(0.5 * np.mean([1, 0]) + 0.5 * np.mean([1, 1, 0, 0]))
    apart = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 5.0]])
    assert float(contrast(apart, torch.tensor([0, 0, 1, 1]))) == pytest.approx(0)


def test_tuning_lifts_the_score_and_the_result_is_plain(train: Callable[..., Any], bert: Path, tmp_path: Path) -> None:
    source = shots(tmp_path / "rows", 24, test=200)
    tree = a_tree(bert, source)
    settings = ("train.num_train_epochs=20", "train.learning_rate=2e-3")
    run, result = train(tree, *settings)
    _, frozen = train({**tree, "method": {"name": "probe"}}, name="probe")
    score, base = (found["test"]["metrics"]["accuracy"]["value"] for found in (result, frozen))
    assert score > base + 0.03, "though the probe learns from the validation rows too"
    assert result["cost"]["steps"] == 60 and result["cost"]["trainable_parameters"] > 10_000
    texts = [text for text, _ in tiny.sentences(8, 9)]
    ask = pipeline("text-classification", str(run.artifact))
    ours = Predictor(str(run.artifact))
    for text, plain in zip(texts, ask(texts, top_k=None), strict=True):
        scores = ours(text)["scores"]
        assert {row["label"] for row in plain} == set(scores)
        assert max(plain, key=lambda row: row["score"])["label"] == max(scores, key=scores.get)
    again, _ = train(tree, *settings, name="again")
    weights = [(r.artifact / "model.safetensors").read_bytes() for r in (run, again)]
    assert weights[0] == weights[1]
    steps = [event for event in run.events()[0] if event["type"] == "step"]
    assert steps[-1]["step"] == steps[-1]["max_steps"] == 60


@pytest.mark.parametrize("stop_after", [1, 7])
def test_a_stopped_tuning_goes_on_where_it_was(stop_after: int, bert: Path, tmp_path: Path) -> None:
    """The weights are those of a run that was never stopped, dropout and all."""
    tree = a_tree(bert, shots(tmp_path / "rows", 12)) | {"train": {"learning_rate": 1e-3, "max_steps": 12}}
    whole = start(tree, tmp_path / "whole")
    with pytest.raises(Interrupted, match=f"step {stop_after + 1}"):
        start(tree, tmp_path / "stopped", stop_after)
    stopped = Run(tmp_path / "stopped")
    assert [path.name for path in stopped.checkpoints.iterdir()] == [f"checkpoint-{stop_after + 1}"]
    resume(stopped)
    same_weights(whole, stopped)
    steps = [event["step"] for event in stopped.events()[0] if event["type"] == "step"]
    assert sorted(steps) == steps and steps[-1] == 12 and len(set(steps)) == len(steps)


def test_a_checkpoint_is_left_now_and_then(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_shot, "SAVE_SECONDS", 0.0)
    run = start(a_tree(bert, shots(tmp_path / "rows", 6)) | {"train": {"max_steps": 3}}, tmp_path / "run")
    assert [event["step"] for event in run.events()[0] if event["type"] == "checkpoint"] == [1, 2, 3]
    assert [path.name for path in run.checkpoints.glob("checkpoint-*")] == ["checkpoint-3"]


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_what_is_pulled_together_is_what_the_head_will_see(pooling: str) -> None:
    hidden = torch.arange(24.0).reshape(2, 4, 3)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    expected = {
        "first": hidden[:, 0],
        "last": torch.stack([hidden[0, 2], hidden[1, 3]]),
        "mean": torch.stack([hidden[0, :3].mean(dim=0), hidden[1].mean(dim=0)]),
    }
    kept = {"backbone": {"last_hidden_state": hidden}, "head": torch.zeros(2, 5)}
    torch.testing.assert_close(few_shot.pooled(kept, {"attention_mask": mask}, pooling), expected[pooling])


def test_what_has_no_pairs_is_refused(train: Callable[..., Any], bert: Path, tmp_path: Path) -> None:
    rows = [{"text": text, "label": i / 7} for i, (text, _) in enumerate(tiny.sentences(40))]
    source = tmp_path / "numbers.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = a_tree(bert, source)
    tree["data"]["problem_type"] = "regression"
    with pytest.raises(UserError, match="texts with one label each"):
        train(tree)
    single = shots(tmp_path / "rows", 4)
    with open(single / "train.jsonl", "a") as file:
        file.write(json.dumps({"text": "a story", "label": "neutral"}) + "\n")
    with pytest.raises(UserError, match="'neutral' has fewer"):
        train(a_tree(bert, single), name="other")


def test_pictures_learn_from_views(train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    extract = few_shot.with_views

    def counted(*given: Any) -> Any:
        seen.append(extract(*given))
        return seen[-1]

    monkeypatch.setattr(few_shot, "with_views", counted)
    tree = a_tree(tiny.image_model(tmp_path / "vit"), tiny.image_folder(tmp_path / "pictures", 40), views=3)
    run, result = train({**tree, "task": "image-classification"})
    rows = result["data"]["splits"]["train"]
    assert len(seen[0]) == 4 * rows
    values = next(iter(seen[0].pooled.values())).reshape(4, rows, -1)
    assert not any(np.allclose(values[i], values[j]) for i in range(4) for j in range(i))
    assert (seen[0].targets.reshape(4, rows) == seen[0].targets[:rows]).all()
    assert result["test"]["metrics"]["accuracy"]["value"] > 0.8 and (run.artifact / "model.safetensors").is_file()


# --- data.unlabelled ---


def notices(run: Any) -> list[str]:
    return [
        e["message"] for e in run.events()[0] if e["type"] == "notice" and e["message"].startswith("self-training")
    ]


def test_unlabelled_rows_are_read_and_their_worth_is_said(
    train: Callable[..., Any], bert: Path, tmp_path: Path
) -> None:
    extra = tmp_path / "more.csv"
    extra.write_text("text\n" + "\n".join(text for text, _ in tiny.sentences(150, 7)) + "\n")
    tree = a_tree(bert, shots(tmp_path / "rows", 30)) | {"method": {"name": "probe"}}
    tree["data"]["unlabelled"] = str(extra)
    run, result = train(tree)
    (said,) = notices(run)
    assert "150 unlabelled rows" in said
    told = result["self_training"]
    assert told["rows"] == 150 and 0 <= told["sure"] <= 150
    assert f"Unlabelled rows: 150, of which {told['sure']}" in (run.artifact / "README.md").read_text()
    assert "kept" in said or "left as it was" in said
    assert str(tmp_path) not in (run.artifact / "run.yaml").read_text() + (run.artifact / "README.md").read_text()


@pytest.mark.parametrize("helps", [True, False])
def test_a_round_is_kept_when_validation_gains(
    train: Callable[..., Any], bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helps: bool
) -> None:
    """The head fitted with the unlabelled rows is put in the place of one that is right on validation, or wrong."""
    extra = tmp_path / "more.csv"
    extra.write_text("text\n" + "\n".join(text for text, _ in tiny.sentences(60, 7)) + "\n")
    monkeypatch.setattr(self_training, "SURE", 0.5)
    fit = self_training.probing.fit

    def fitted(pooled: Any, targets: Any, *rest: Any, **options: Any) -> Any:
        aside, truth = options["validation"]
        wanted = truth if helps else 1 - truth
        return fit(aside, wanted, Classes(), 2, strengths=[1e-4])

    tree = a_tree(bert, shots(tmp_path / "rows", 6)) | {"method": {"name": "probe"}}
    tree["data"]["unlabelled"] = str(extra)
    monkeypatch.setattr(self_training, "probing", type("probing", (), {"fit": staticmethod(fitted)}))
    run, result = train(tree)
    assert notices(run)[0].endswith(": kept" if helps else "that it helps is not shown, left as it was")
    assert (result["validation"]["metrics"]["accuracy"]["value"] > 0.85) == helps
    told, card = result["self_training"], (run.artifact / "README.md").read_text()
    assert told["kept"] is helps and told["change"]["low"] <= told["change"]["value"] <= told["change"]["high"]
    assert (told["change"]["low"] > 0) is helps and told["metric"] == "accuracy"
    assert f"changes by {told['change']['value']:+.3f} ({told['change']['low']:+.3f} to" in card
    assert ("these taught the head again" if helps else "the head is without them") in card


def test_pictures_without_labels(train: Callable[..., Any], tmp_path: Path) -> None:
    tree = a_tree(tiny.image_model(tmp_path / "vit"), tiny.image_folder(tmp_path / "pictures", 40))
    tree |= {"task": "image-classification", "method": {"name": "probe"}}
    tree["data"]["unlabelled"] = str(tiny.image_folder(tmp_path / "more", 12, seed=5))
    run, _ = train(tree)
    assert "of 12 unlabelled rows" in notices(run)[0]


def test_who_cannot_learn_from_them_says_so(train: Callable[..., Any], bert: Path, tmp_path: Path) -> None:
    tree = a_tree(bert, shots(tmp_path / "rows", 6))
    tree["data"]["unlabelled"] = "more.csv"
    with pytest.raises(ConfigError, match=r"lora learns from labelled rows alone. Set method.name=few_shot or probe"):
        catalog.build_config({**tree, "method": {"name": "lora"}})
    with pytest.raises(ConfigError, match="auto learns"):
        catalog.build_config({k: v for k, v in tree.items() if k != "method"})
    with pytest.raises(UserError, match=r"there is no more\.csv"):
        train({**tree, "method": {"name": "probe"}})


@pytest.mark.parametrize(
    ("options", "rows", "steps"),
    [({}, 24, 40), ({}, 192, 60), ({"num_train_epochs": 10}, 24, 8), ({"max_steps": 5}, 24, 5)],
)
def test_a_few_rows_get_steps_enough_unless_the_user_says_how_many(
    options: dict[str, Any], rows: int, steps: int
) -> None:
    assert few_shot.count_steps(options, rows, 32) == steps
