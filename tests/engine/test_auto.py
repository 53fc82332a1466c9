"""auto: what is not set is chosen, measured where rows can tell, said, written down, and repeated by a resume."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerControl, TrainerState, TrainingArguments

from hftransfer import catalog, runs, training
from hftransfer.answers import multi_label, regression, single_label, tags
from hftransfer.errors import UserError
from hftransfer.evaluation.predictions import Predictions
from hftransfer.fitting import arguments, planning, rules, soup, trainer, trials
from hftransfer.fitting.guard import Afresh, Guard
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.fitting.recorder import LowerLossOfEquals
from hftransfer.runs import Run
from tests import tiny

BARE: dict[str, Any] = {
    "method": {"name": "auto"}, "evaluation": {"resamples": 100}, "speed": {"tune": False, "threads": 1},
}  # fmt: skip


def tree(folder: Path, rows: int = 200, **more: Any) -> dict[str, Any]:
    data = {"source": str(tiny.text_csv(folder / "rows.csv", rows)), "validation_size": 0.5, "test_size": 40}
    data |= {"label_issues": False, "likely_copies": False}
    return {
        **BARE, "task": "text-classification", "model": str(tiny.text_model(folder / "model")),
        **more, "data": {**data, **more.get("data", {})}, "train": {"use_cpu": True, **more.get("train", {})},
    }  # fmt: skip


def start(built: dict[str, Any], folder: Path, interruption: Interruption | None = None, resume: bool = False) -> Any:
    parsed = catalog.build_config(built)
    run = Run(folder) if resume else Run.create(parsed, folder)
    with interruption or Interruption() as caught:
        return run, training.run(parsed, run, caught, resume=resume)


def test_updates_follow_from_rows() -> None:
    assert [rules.updates(n, rules.batch(n)) for n in (1, 16, 40)] == [40, 40, 120]
    found = [rules.updates(n, rules.batch(n)) for n in (100, 200, 500, 1000, 2000)]
    assert found == [250, 260, 320, 320, 320]
    epochs = [rules.updates(n, 32) * 32 / n for n in (5_000, 15_000, 40_000, 400_000)]
    assert np.allclose(epochs, [3, 3, 2, 1], atol=0.05)
    rising = [rules.updates(n, rules.batch(n)) for n in range(100, 20_000, 100)]
    assert rising == sorted(rising)


def test_rates_fall_with_size_and_stay_within_limits() -> None:
    assert rules.rate("full", 5e-5, 110_000_000, "bert") == 5e-5
    assert rules.rate("full", 5e-5, 22_700_000, "bert") > rules.rate("full", 5e-5, 335_000_000, "bert")
    assert rules.rate("full", 5e-5, 10_000, "bert") == rules.LIMITS[1]
    assert rules.rate("lora", 5e-4, 7_000_000_000, "llama") == rules.ADAPTER_LIMITS[0]
    assert rules.rate("full", 5e-5, 110_000_000, "t5") == 2e-4
    assert rules.rate("ia3", 5e-4, 22_700_000, "bert") == 5e-4


def test_what_the_user_says_wins() -> None:
    assert rules.schedule({"num_train_epochs": 3}, 1000, 16) == {}
    assert rules.schedule({"max_steps": 5}, 1000, 16) == {}
    found = rules.schedule({"eval_strategy": "epoch"}, 1000, 16)
    assert found == {"max_steps": 320}
    assert rules.schedule({}, 1000, 16)["eval_steps"] == 32


def test_the_whole_way(tmp_path: Path) -> None:
    run, result = start(tree(tmp_path), tmp_path / "run")
    found = result["auto"]
    assert found["plan"]["method"] == "full" and found["plan"]["trials"]
    names = [one["name"] for one in found["trials"]]
    assert names[:3] == ["0.001", "0.003", "0.00033"] and names[-1] == "probe's head"
    assert names[3:-1] in ([], ["0.009"], ["0.00011"])
    (best,) = [one for one in found["trials"] if one["name"] == found["goes_on"]]
    assert found["final"]["judged_by"] == "log loss" and found["looks"] > len(found["trials"])
    events = run.events()[0]
    rates = [event["learning_rate"] for event in events if event["type"] == "log"]
    assert max(rates) == pytest.approx(best["learning_rate"], rel=0.05)
    shape = trials.Shape.of(found["plan"]["updates"])
    steps = [event["step"] for event in events if event["type"] == "log"]
    assert min(steps) > shape.kept, "the winner goes on from its own checkpoint"
    evaluated = [event["step"] for event in events if event["type"] == "evaluation"]
    assert evaluated == list(range(32, 161, 16)), "ten times a fit, but for those before the trial's end"
    (said,) = [event for event in events if event["type"] == "chosen"]
    assert [one["origin"] for one in said["settings"]] == ["rule", "rule", "rule", "measured"]
    assert all(one["reason"] for one in said["settings"])
    assert result["test"]["metrics"]["accuracy"]["value"] > 0.8
    assert not (run.folder / trials.FOLDER).exists()
    notes = json.loads((run.artifact / "hftransfer.json").read_text())
    found = json.loads(json.dumps(found))
    assert notes["auto"] == found
    assert json.loads((run.folder / runs.AUTO).read_text()) == found
    card = (run.artifact / "README.md").read_text()
    assert f"{found['looks']} times" in card and "learning rate" in card and card.count("| went on |") == 1


def test_few_validation_rows_leave_it_to_the_rule_and_little_time_to_the_probe(tmp_path: Path) -> None:
    few = tree(tmp_path, 200, data={"validation_size": 30})
    _, result = start({**few, "train": {"use_cpu": True, "max_steps": 20}}, tmp_path / "few")
    assert not result["auto"]["trials"] and "too few to tell rates apart" in json.dumps(result["auto"]["plan"])
    assert result["auto"]["plan"]["settings"][1]["origin"] == "given"
    _, result = start({**few, "auto": {"minutes": 1e-5}}, tmp_path / "short")
    assert result["auto"]["final"] == {"method": "probe"} and result["cost"]["steps"] == 0


def test_few_rows_a_class_are_learned_in_pairs(tmp_path: Path) -> None:
    _, result = start(tree(tmp_path, 60, data={"validation_size": 10, "test_size": 20}), tmp_path / "run")
    assert result["auto"]["plan"]["method"] == "few_shot"


@pytest.mark.parametrize(("changes", "method"), [(None, "few_shot"), (0, "full")])
def test_few_pictures_a_class_are_fine_tuned(changes: int | None, method: str) -> None:
    """Of what changes with the epoch few_shot tunes a head alone: a probe under another name."""
    train = types.SimpleNamespace(on_epoch=changes, rows=range(60))
    answer = tiny.answer("single_label", "abcdef", [10] * 6, 60)
    loaded = types.SimpleNamespace(model=torch.nn.Linear(4, 6))
    setup: Any = types.SimpleNamespace(answer=answer, prepared={"train": train})
    assert planning._method(setup, loaded, True)[0] == method  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"early_stopping_patience": 2, "eval_strategy": "no"}, "eval_strategy is no"),
        ({"use_liger_kernel": True}, "liger-kernel"),
        ({"optim": "galore_adamw"}, "train: options that transformers takes"),
        ({"optim": "lomo"}, "train: options that transformers takes"),
    ],
)
def test_options_that_trainer_refuses_are_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], match: str
) -> None:
    monkeypatch.setattr(arguments, "is_liger_kernel_available", lambda: False)
    with pytest.raises(UserError, match=match):
        start(tree(tmp_path, train=options), tmp_path / "run")
    assert not [event for event in Run(tmp_path / "run").events()[0] if event["type"] in ("data", "chosen")]


def test_what_gave_way_is_said_of_what_is_planned(tmp_path: Path) -> None:
    few = tree(tmp_path, 200, data={"validation_size": 30}, train={"eval_strategy": "steps", "max_steps": 20})
    run, _ = start(few, tmp_path / "run")
    told = "train.eval_strategy=steps: validation and checkpoints every 2 steps"
    assert told in messages(run, "notice")
    assert sum(event["type"] == "evaluation" for event in run.events()[0]) == 10
    pairs = tree(tmp_path, 60, data={"validation_size": 10, "test_size": 20}, train={"eval_strategy": "steps"})
    run, result = start(pairs, tmp_path / "pairs")
    assert result["auto"]["plan"]["method"] == "few_shot", "which is not evaluated on its way"
    assert not [message for message in messages(run, "notice") if message.startswith("train.eval_strategy")]


def messages(run: Run, type: str) -> list[str]:
    return [event["message"] for event in run.events()[0] if event["type"] == type]


def plan_of(setup: Any, loaded: Any, probed: bool, minutes: float | None, **options: Any) -> planning.Plan:
    """Return what is planned where sixteen rows take a second."""
    config = trials.with_options(setup.config, options)
    config = config.model_copy(update={"auto": config.auto.model_copy(update={"minutes": minutes})})
    return planning._decided(dataclasses.replace(setup, config=config), loaded, probed)


def said(plan: planning.Plan) -> dict[str, tuple[Any, str, str]]:
    return {one.name: (one.value, one.origin, one.reason) for one in plan.settings}


def test_minutes_cut_no_given_length_and_every_reason_is_the_true_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, loaded = setup_of(tmp_path)  # 60 training rows, four updates an epoch
    monkeypatch.setattr(planning, "_rows_a_second", lambda setup, loaded: 16.0)
    assert plan_of(setup, loaded, False, None).updates == 160
    held = plan_of(setup, loaded, True, 2)
    assert held.updates == 120 and said(held)["updates"][1:] == ("rule", "as many as 2 minutes hold on this machine")
    least = plan_of(setup, loaded, False, 0.5)
    told = "60 updates at least; they take about 1.0 minutes, more than auto.minutes"
    assert least.updates == 60 and said(least)["updates"][1:] == ("rule", told)
    assert plan_of(setup, loaded, True, 0.5).method == "probe"
    told = "set by you; they take about 2.0 minutes, more than auto.minutes"
    for options in ({"max_steps": 120}, {"num_train_epochs": 30}):
        for probed in (False, True):
            given = plan_of(setup, loaded, probed, 0.5, **options)
            assert given.method == "full" and said(given)["updates"] == (120, "given", told)
            assert not given.trials and "0.5 minutes leave no time to measure it" in said(given)["learning rate"][2]
    assert said(plan_of(setup, loaded, False, 3, max_steps=120))["updates"] == (120, "given", "set by you")
    monkeypatch.setattr(planning, "_method", lambda *given: ("few_shot", "pairs"))
    assert said(plan_of(setup, loaded, True, 2))["method"][2] == "pairs; auto.minutes does not bound this"
    assert said(plan_of(setup, loaded, True, None))["method"][2] == "pairs"


def test_a_fit_that_is_not_looked_at_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup, loaded = setup_of(tmp_path)
    guarded = plan_of(setup, loaded, True, None)
    assert guarded.guarded and "guard" not in said(guarded)
    short = plan_of(setup, loaded, True, None, max_steps=59)
    assert not short.guarded
    assert said(short)["guard"] == ("off", "rule", "59 updates are too few for an early look (60 are enough)")
    blind = plan_of(setup, loaded, True, None, eval_strategy="no")
    assert not blind.guarded and said(blind)["guard"][2].startswith("train.eval_strategy=no leaves no moment")
    monkeypatch.setattr(planning, "FEW", 1000)
    few = plan_of(setup, loaded, True, None)
    assert not few.guarded and "validation rows are too few for an early look (1000 are" in said(few)["guard"][2]


def test_a_card_says_who_chose_each_setting(tmp_path: Path) -> None:
    from hftransfer.card.choices import choices

    settings = [{"name": "updates", "value": 20, "origin": "given", "reason": "set by you"}]
    parts = choices(
        {"auto": {"plan": {"settings": settings}, "final": {}, "soup": {}, "again": {}, "looks": 0, "trials": []}}
    )
    assert "given" in "".join(parts) and "Nobody gave" not in "".join(parts)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.artifact / "model.safetensors")


class StopAfter(Interruption):
    """Ask for a stop once so many events of a type were written."""

    def __init__(self, folder: Path, type: str, count: int) -> None:
        super().__init__()
        self.folder, self.type, self.count = folder, type, count

    @property
    def requested(self) -> bool:
        found = [event for event in Run(self.folder).events()[0] if event["type"] == self.type]
        return self._asked or len(found) >= self.count

    @requested.setter
    def requested(self, value: bool) -> None:
        self._asked = value


@pytest.mark.parametrize(
    ("type", "count"), [("trial", 2), pytest.param("tried", 2, marks=pytest.mark.long), ("evaluation", 2)]
)
def test_a_resume_repeats_what_was_chosen(tmp_path: Path, type: str, count: int) -> None:
    quick = tree(tmp_path, train={"max_steps": 80})
    whole, expected = start(quick, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start(quick, tmp_path / "cut", StopAfter(tmp_path / "cut", type, count))
    assert type != "evaluation" or [*(tmp_path / "cut" / "checkpoints").glob(f"checkpoint-*/{runs.UNPLANNED}")]
    cut, result = start(quick, tmp_path / "cut", resume=True)
    kept, others = ({one.name for one in run.checkpoints.glob("checkpoint-*")} for run in (cut, whole))
    assert kept == others, "a checkpoint of the stop takes no other one's place"
    assert result["auto"]["soup"] == expected["auto"]["soup"]
    names = [[one["name"] for one in found["auto"]["trials"]] for found in (result, expected)]
    assert names[0] == names[1] and result["auto"]["goes_on"] == expected["auto"]["goes_on"]
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(cut)[name]), name


def setup_of(folder: Path, rows: int = 200, **more: Any) -> tuple[Any, Any]:
    built = catalog.build_config({**tree(folder, rows, **more), "method": {"name": "full"}})
    with Interruption() as caught:
        scene = training.set_scene(built, Run.create(built, folder / "run"), caught, resume=False)
    return scene.setup, scene.loaded


def test_every_fit_of_a_model_computes_in_the_precision_that_was_asked_for(tmp_path: Path) -> None:
    setup, loaded = setup_of(tmp_path, train={"bf16": True, "max_steps": 2})
    computed: list[set[torch.dtype]] = []
    layer = loaded.model.bert.encoder.layer[0].output.dense
    layer.register_forward_hook(lambda module, given, made: computed[-1].add(made.dtype) if module.training else None)
    for name in ("a", "b"):  # of a trial, and what goes on from it
        computed.append(set())
        trainer.descend(dataclasses.replace(setup, checkpoints=setup.run.folder / name), loaded.model, 1e-3)
    assert computed == [{torch.bfloat16}] * 2


def test_a_fit_that_learned_nothing_begins_once_more(tmp_path: Path) -> None:
    _, result = start(tree(tmp_path, train={"learning_rate": 1e-12, "max_steps": 60}), tmp_path / "run")
    again = result["auto"]["again"]
    assert again["options"] == {"learning_rate": 5e-13} and again["step"] == 24
    assert again["message"].startswith("After 24 updates it never answers `")
    assert result["auto"]["final"]["method"] == "probe", "and what is kept is what learned something"
    card = (tmp_path / "run" / "artifact" / "README.md").read_text()
    assert "training begins once more, at half the rate" in card


def trial_of(folder: Path, rate: float, loss: float, resampled: list[float] | None = None) -> trials.Trial:
    place = folder / f"{rate:g}"
    place.mkdir(exist_ok=True)
    if resampled is not None:
        (place / trials.RESAMPLED).write_text(json.dumps(resampled))
    return trials.Trial(f"{rate:g}", rate, "log loss", loss, 1.0, place / "checkpoint-2")


def test_a_rate_above_the_rules_must_be_better_on_nearly_all_resamples(tmp_path: Path) -> None:
    low, middle = trial_of(tmp_path, 1e-4, 0.9, [0.9] * 100), trial_of(tmp_path, 3e-4, 0.80, [0.8] * 100)
    chance = trial_of(tmp_path, 9e-4, 0.78, [0.7] * 90 + [0.9] * 10)
    sure = trial_of(tmp_path, 9.1e-4, 0.78, [0.7] * 99 + [0.9])
    assert trials.chosen([middle, chance, low], 3e-4) is middle
    assert trials.chosen([middle, sure, low], 3e-4) is sure
    below = trial_of(tmp_path, 1.1e-4, 0.79, [0.81] * 100)
    assert trials.chosen([middle, below, chance], 3e-4) is middle, "from above no further than to the rule's"
    assert trials.chosen([middle, below], 3e-4) is below, "short trials flatter no low rate"
    assert trials.chosen([middle, trial_of(tmp_path, 9.2e-4, 0.78)], 3e-4).rate == 9.2e-4, (
        "an older version's: its loss"
    )
    far = trial_of(tmp_path, 2.7e-3, 0.77, [0.69] * 100)
    assert trials.chosen([middle, chance, far], 3e-4) is far, "it is surely better than both"
    edge = trial_of(tmp_path, 2.8e-3, 0.77, [0.69] * 50 + [0.95] * 50)
    assert trials.chosen([middle, chance, edge], 3e-4) is middle


def test_the_main_metric_decides_where_likelihood_cannot_tell(tmp_path: Path) -> None:
    setup, _ = setup_of(tmp_path)
    truth = setup.prepared["validation"].truth
    rng, right = np.random.default_rng(0), np.eye(2)[np.asarray(truth)]
    ids = [str(number) for number in range(len(truth))]

    def answers(sure: float, wrong: int) -> Predictions:
        shares = sure * right + (1 - sure) * right[:, ::-1]
        places = rng.permutation(len(truth))[:wrong]
        shares[places] = shares[places][:, ::-1]
        return Predictions(setup.answer, ids, truth, setup.answer.of_logits(np.log(shares)))

    good, bad = answers(0.9, 2), answers(0.9, 60)
    assert trials.by_score(good, bad, 0) is None and trials.by_score(None, bad, 0) is None
    one, other = answers(0.8, 20), answers(0.8, 23)
    near = trials.by_score(one, other, 0)
    assert near is not None and near.metric == "accuracy" and near.first_is_better and near.first > near.second
    assert trials.by_score(one, one, 0) is None


def test_what_is_resampled_is_what_trials_are_ranked_by() -> None:
    """Of several labels F1 is 0 for every rate after a short trial; the likelihood tells them apart."""
    rng = np.random.default_rng(0)
    truth = (rng.random((120, 3)) < 0.2).astype(np.int8)
    ids = [str(number) for number in range(len(truth))]
    answer = dataclasses.replace(multi_label.ANSWER, names=("a", "b", "c"), counts=(24, 24, 24), rows=120)
    near, far = (
        Predictions(answer, ids, truth, np.clip(0.15 + lift * truth, 0.01, 0.45).astype(np.float64))
        for lift in (0.2, 0.0)
    )
    for found in (near, far):
        values, counts = answer.unlikelihoods(found.truth, found.outputs)
        assert values.sum() / counts.sum() == pytest.approx(answer.unlikelihood(found.truth, found.outputs)[1])
    one, other = (np.array(trials.resampled(found, 0)) for found in (near, far))
    assert (one < other).all() and trials.by_score(near, far, 0) is None


def test_rows_without_a_decision_and_numbers_are_resampled_too() -> None:
    words = dataclasses.replace(tags.ANSWER, names=("O", "B-X"), counts=(9, 3))
    shares = [np.array([[0.9, 0.1], [0.4, 0.6]]), np.zeros((0, 2)), np.array([[0.7, 0.3]])]
    truth = [np.array([0, 1]), np.zeros(0, np.int64), np.array([0])]
    values, counts = words.unlikelihoods(truth, shares)
    assert counts.tolist() == [2, 0, 1] and values[1] == 0
    assert values.sum() / 3 == pytest.approx(words.unlikelihood(truth, shares)[1])
    numbers, found = regression.ANSWER, np.array([1.0, 2.0, 4.0])
    values, counts = numbers.unlikelihoods(np.array([1.0, 1.0, 1.0]), found)
    assert values.tolist() == [0, 1, 9] and counts.tolist() == [1, 1, 1]
    ids = ["a", "b", "c"]
    both = [Predictions(numbers, ids, np.array([1.0, 1.0, 1.0]), found + more) for more in (0, 0.1)]
    assert trials.by_score(*both, 0) is None, "rmse says what the squared error says"


def test_classes_that_cannot_weigh_are_not_weighed() -> None:
    """Detection and models of queries have losses of their own: weights of classes end such a run."""
    pictures = catalog.task("object-detection").answers[0]
    texts = dataclasses.replace(single_label.ANSWER, names=("a", "b"), counts=(90, 10), rows=100)
    for answer, weighs in ((dataclasses.replace(pictures, names=("a", "b"), counts=(90, 10)), False), (texts, True)):
        config = types.SimpleNamespace(train=types.SimpleNamespace(class_weights=None))
        train = types.SimpleNamespace(rows=range(100))
        guard = Guard(types.SimpleNamespace(answer=answer, config=config, prepared={"train": train}))
        guard.found, guard.learns = "it never answers `b`", True
        found = guard.remedy(1e-3, 40)
        assert bool(found.get("goes_on")) == weighs and ("class_weights" in found["options"]) == weighs


@pytest.mark.parametrize(
    ("step", "saves", "goes_on"), [(40, "steps", True), (60, "no", True), (100, "steps", False), (40, "best", False)]
)
def test_a_fit_goes_on_only_with_updates_left_and_from_a_checkpoint_of_its_own(
    monkeypatch: pytest.MonkeyPatch, step: int, saves: str, goes_on: bool
) -> None:
    """With one evaluation, at the end, nothing would follow; `best` leaves out a step that is not the best so far."""

    def look(guard: Guard, model: Any) -> str:
        guard.learns = True
        return "it never answers `b`"

    monkeypatch.setattr(Guard, "look", look)
    told: list[int] = []
    guard, control = Guard(types.SimpleNamespace(), told.append), TrainerControl()
    state = TrainerState(global_step=step, max_steps=100, log_history=[{"step": step, "eval_loss": 1.0}])
    guard.callback().on_evaluate(types.SimpleNamespace(save_strategy=saves), state, control, model=None)
    assert guard.learns == control.should_save == goes_on and control.should_training_stop and told == [step]


def test_what_goes_on_is_chosen_among_what_follows() -> None:
    for step, kept in ((32, None), (40, 0.9)):
        state = TrainerState(best_metric=0.9, best_global_step=16, best_model_checkpoint="x", global_step=step)
        Afresh(32).on_train_begin(None, state, None)
        assert state.best_metric == kept and (state.best_model_checkpoint is None) == (kept is None)


def uneven(folder: Path, **train: Any) -> dict[str, Any]:
    """A run of rows of which a sixth is of one class, guarded at 32 of 80 updates."""
    built = tree(folder, 300, train={"max_steps": 80, **train})
    lines = (folder / "rows.csv").read_text().splitlines()
    kept = [lines[0], *(line for i, line in enumerate(lines[1:]) if line.endswith("positive") or i % 5 == 0)]
    (folder / "rows.csv").write_text("\n".join(kept) + "\n")
    return built


@pytest.mark.parametrize("count", [3, 4, 6])
def test_a_fit_that_learns_and_leaves_a_class_out_goes_on_from_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    def look(guard: Guard, model: Any) -> str:
        guard.learns = True
        return "it never answers `negative`"

    monkeypatch.setattr(Guard, "look", look)
    built = uneven(tmp_path)
    whole, expected = start(built, tmp_path / "whole")
    again = expected["auto"]["again"]
    assert again["goes_on"] and again["step"] == 32 and "from there on rare classes weigh more" in again["message"]
    weights_of = again["options"]["class_weights"]
    assert weights_of["positive"] == 1 and 1.7 < weights_of["negative"] < 4
    assert not (whole.checkpoints / "again").exists()
    steps = [event["step"] for event in whole.events()[0] if event["type"] == "log"]
    assert steps == sorted(set(steps)), "no update is made twice"
    with pytest.raises(Interrupted):
        start(built, tmp_path / "cut", StopAfter(tmp_path / "cut", "evaluation", count))
    cut, result = start(built, tmp_path / "cut", resume=True)
    assert result["auto"]["again"] == again
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(cut)[name]), name


def test_a_fit_goes_on_where_nothing_else_is_saved_and_all_its_seconds_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(guard: Guard, model: Any) -> str:
        guard.learns = True
        return "it never answers `negative`"

    taken: list[float] = []
    descend = trainer.descend

    def timed(*given: Any, **named: Any) -> Any:
        fitted = descend(*given, **named)
        taken.append(fitted.train_seconds)
        return fitted

    monkeypatch.setattr(Guard, "look", look)
    monkeypatch.setattr(trainer, "descend", timed)
    whole, result = start(uneven(tmp_path, save_strategy="no", learning_rate=1e-3), tmp_path / "whole")
    assert result["auto"]["again"]["goes_on"] and len(taken) == 2
    steps = [event["step"] for event in whole.events()[0] if event["type"] == "log"]
    assert steps == sorted(set(steps)) and steps[-1] == 80
    assert result["cost"]["train_seconds"] >= round(sum(taken), 2)


@pytest.mark.parametrize(
    ("score", "loss", "is_best"), [(0.9, 0.1, True), (0.9, 0.7, False), (0.8, 0.1, False), (1.0, 0.7, True)]
)
def test_of_equal_scores_the_lower_loss_is_the_best(tmp_path: Path, score: float, loss: float, is_best: bool) -> None:
    options = TrainingArguments(str(tmp_path), metric_for_best_model="accuracy", greater_is_better=True, use_cpu=True)
    log = [{"step": 10, "eval_loss": 0.5, "eval_accuracy": 0.9}]
    state = TrainerState(best_metric=0.9, best_global_step=10, log_history=log, global_step=20)
    LowerLossOfEquals().on_evaluate(options, state, None, metrics={"eval_loss": loss, "eval_accuracy": score})
    assert bool(score > state.best_metric) is is_best, "which is what Trainer asks next"


def test_rare_classes_weigh_more_where_there_are_some(tmp_path: Path) -> None:
    setup, _ = setup_of(tmp_path)
    found = Guard(setup)
    found.found = "it never answers `a`"
    assert found.remedy(1e-3, 9)["options"] == {"learning_rate": 5e-4}
    uneven = tiny.answer("single_label", ("a", "b"), (10, 90))
    object.__setattr__(setup.preparation, "answer", uneven)
    assert found.remedy(1e-3, 9)["options"] == {"class_weights": "balanced"}


def test_checkpoints_are_averaged_only_where_validation_gains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    setup, loaded = setup_of(tmp_path)
    model = loaded.model
    name = "classifier.weight"
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for step, shift in ((1, 0.5), (2, -0.5)):
        folder = setup.place / f"checkpoint-{step}"
        folder.mkdir()
        save_file({**state, name: state[name] + shift}, folder / "model.safetensors")
        runs.seal(folder)
    off = state[name] + 0.25

    def judged(best: torch.Tensor) -> Callable[..., trials.Judged]:
        return lambda setup, model: trials.Judged("x", float((model.get_parameter(name) - best).abs().mean()), None)

    with torch.no_grad():
        model.get_parameter(name).copy_(off)
    monkeypatch.setattr(trials, "judged", judged(state[name]))
    found = soup.stir(setup, model)
    assert found["steps"] == [1, 2] and torch.allclose(model.get_parameter(name), state[name], atol=1e-6)
    with torch.no_grad():
        model.get_parameter(name).copy_(off)
    monkeypatch.setattr(trials, "judged", judged(off))
    assert soup.stir(setup, model)["steps"] == [] and torch.equal(model.get_parameter(name), off)


def test_large_models_get_adapters_where_they_have_linear_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, loaded = setup_of(tmp_path)
    assert planning.way(loaded.model) == "full"
    monkeypatch.setattr(planning, "_free_memory", lambda: 1000.0)
    assert planning.way(loaded.model) == "lora"
    assert planning.way(torch.nn.Module()) == "full"


def test_a_probe_learns_from_validation_rows_too_and_answers_them_unseen(tmp_path: Path) -> None:
    _, result = start({**tree(tmp_path), "method": {"name": "probe"}}, tmp_path / "run")
    events = Run(tmp_path / "run").events()[0]
    (probed,) = [event for event in events if event["type"] == "probe"]
    assert probed["rows"] == sum(result["data"]["splits"][split] for split in ("train", "validation"))
    assert result["validation"]["metrics"]["log_loss"]["value"] > 0


def test_explicit_methods_follow_the_rules_unless_told_otherwise(tmp_path: Path) -> None:
    rules_on = {**tree(tmp_path, 60, data={"validation_size": 10, "test_size": 20}), "method": {"name": "full"}}
    run, result = start(rules_on, tmp_path / "ruled")
    assert result["cost"]["steps"] == 80  # 30 training rows, 16 in an update: 40 epochs
    (said,) = [event for event in run.events()[0] if event["type"] == "chosen"]
    assert {one["name"]: one["origin"] for one in said["settings"]}["train.learning_rate"] == "rule"
    off = {**rules_on, "train": {"use_cpu": True, "auto": False}}
    run, result = start(off, tmp_path / "plain")
    assert result["cost"]["steps"] == 3 and not [e for e in run.events()[0] if e["type"] == "chosen"]


def of_kind(folder: Path, kind: str) -> dict[str, Any]:
    """Return data and model of a kind of answer, with 100 validation rows and more."""
    if kind == "text":
        from tests import tiny_written
        from tests.engine import test_translation

        tiny_written.pairs_jsonl(folder / "pairs.jsonl", 240)
        return {name: test_translation.tree(folder)[name] for name in ("task", "model", "data")}
    if kind == "tags":
        source = tiny.token_jsonl(folder / "rows.jsonl", 240)
        model = str(tiny.text_model(folder / "model"))
        return {"task": "token-classification", "model": model, "data": {"source": str(source)}}
    if kind == "image":
        source = tiny.image_folder(folder / "pictures", 240)
        model = str(tiny.image_model(folder / "model", "mobilenet-v2"))
        return {"task": "image-classification", "model": model, "data": {"source": str(source)}}
    rows = [{"text": text, "label": (label == "positive") + i % 5 / 10}
            for i, (text, label) in enumerate(tiny.sentences(240))]  # fmt: skip
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"source": str(path), "problem_type": "regression"}
    return {"task": "text-classification", "model": str(tiny.text_model(folder / "model")), "data": data}


@pytest.mark.parametrize("kind", ["text", "tags", pytest.param("image", marks=pytest.mark.long), "regression"])
def test_every_kind(tmp_path: Path, kind: str) -> None:
    made = of_kind(tmp_path, kind)
    sizes = {"validation_size": 0.5, "test_size": 30, "label_issues": False, "likely_copies": False}
    more = {"train": {"use_cpu": True, "max_steps": 60}, "evaluation": {"resamples": 100, "max_new_tokens": 6}}
    if kind != "text":
        del more["evaluation"]["max_new_tokens"]
    run, result = start({**BARE, **made, **more, "data": {**made["data"], **sizes}}, tmp_path / "run")
    found = result["auto"]
    assert found["final"]["judged_by"] == {"text": "perplexity", "regression": "squared error"}.get(kind, "log loss")
    assert ("other" in found["final"]) == (kind != "text"), "a probe stands beside all but texts"
    assert len(found["trials"]) in ((3, 4) if kind == "text" else (4, 5)) or not found["plan"]["trials"]
    assert result["test"]["n"] == 30 and run.result_path.is_file()


def test_a_small_regret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark of docs/defaults.md, of a few updates: its figures say nothing, its table holds them."""
    from benchmarks import regret, regret_table

    rows = str(tiny.text_csv(tmp_path / "rows.csv", 140))
    monkeypatch.setattr(regret, "SETS", {rows: str(tiny.text_model(tmp_path / "model"))})
    monkeypatch.setattr(regret, "TEST", 40)
    found = [regret.tried(tmp_path, cell, threads=1) for cell in regret.cells([rows], [100], range(1), 1, steps=8)]
    assert [one.way for one in found] == ["auto", "probe", "full 1e-05", "lora 0.0001"]
    assert not any(one.error for one in found) and found[0].splits == {"train": 70, "validation": 30, "test": 40}
    assert found[0].auto is not None and found[0].auto["final"]["method"] in ("full", "probe")
    told = regret_table.told(found, regret_table.Settings.here())
    best = max(found[2:], key=lambda one: one.judged)
    assert f"| 100 | 1 | {found[0].score:.3f} | {best.score:.3f} | {found[1].score:.3f} |" in told
    assert not (tmp_path / "run").exists(), "hundreds of runs are not kept"
