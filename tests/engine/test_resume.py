"""A run that was stopped in mid-epoch, or killed while it wrote a checkpoint, ends with the very same weights."""

from __future__ import annotations

import shutil

import pytest
import transformers
from safetensors.numpy import load_file

from hftransfer import catalog, config, runs, training
from hftransfer.fitting import recorder
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.fitting.resuming import NoneLeft
from hftransfer.runs import Run
from tests import tiny
from tests.engine.conftest import QUICK


class StopAfter(Interruption):
    """An interruption that comes at the end of a given step."""

    def __init__(self, steps: int) -> None:
        self.left, self.fired = steps, False
        super().__init__()

    @property
    def requested(self) -> bool:
        if self._patient and not self.fired:
            self.left -= 1
            self.fired = self.left < 0
        return self.fired

    @requested.setter
    def requested(self, value: bool) -> None:
        self.fired = self.fired or value


def text_tree(tmp_path, **method):
    model = tiny.text_model(tmp_path / "model")
    return {
        "task": "text-classification",
        "model": str(model),
        "data": {"source": str(tiny.text_csv(tmp_path / "rows.csv", 100)), **QUICK["data"]},
        "method": {"name": "full", **method},
        "train": {"learning_rate": 1e-3, "per_device_train_batch_size": 8},
    }


def image_tree(tmp_path, workers):
    model = tiny.image_model(tmp_path / "model", "resnet")
    return {
        "task": "image-classification",
        "model": str(model),
        "data": {"source": str(tiny.image_folder(tmp_path / "pictures", 60)), **QUICK["data"]},
        "train": {"learning_rate": 1e-3, "per_device_train_batch_size": 8, "dataloader_num_workers": workers},
    }


def start(tree, folder, steps=None):
    built = catalog.build_config({**QUICK, **tree, "train": {**QUICK["train"], **tree["train"]}})
    run = Run.create(built, folder)
    interruption = Interruption() if steps is None else StopAfter(steps)
    with interruption:
        training.run(built, run, interruption)
    return run


def resume(run):
    with Interruption() as interruption:
        return training.run(run.config(), run, interruption, resume=True)


def stopped_and_resumed(tree, folder, steps=3):
    """Return a run that was left alone, and one that a stop cut in two."""
    whole = start(tree, folder / "whole")
    with pytest.raises(Interrupted):
        start(tree, folder / "part", steps=steps)
    part = Run(folder / "part")
    resume(part)
    return whole, part


def same_weights(one, other):
    left, right = (load_file(run.artifact / "model.safetensors") for run in (one, other))
    assert left.keys() == right.keys()
    assert all((left[name] == right[name]).all() for name in left)


@pytest.mark.parametrize("options", [{}, {"layer_decay": 0.8}, {"unfreeze_after": 0.5}, {"name": "lora", "r": 4}])
def test_text_resumes_bit_for_bit(tmp_path, options):
    tree = text_tree(tmp_path, **options)
    whole = start(tree, tmp_path / "whole")
    with pytest.raises(Interrupted) as stop:
        start(tree, tmp_path / "stopped", steps=4)
    assert 0 < stop.value.step < 10  # in the middle of the first epoch of two
    stopped = Run(tmp_path / "stopped")
    assert stopped.checkpoint().name == f"checkpoint-{stop.value.step}"
    resume(stopped)
    same_weights(whole, stopped)


@pytest.mark.parametrize("workers", [0, 1])
def test_images_resume_bit_for_bit_with_augmentation(tmp_path, workers):
    tree = image_tree(tmp_path, workers)
    whole = start(tree, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start(tree, tmp_path / "stopped", steps=8)  # in the second epoch
    stopped = Run(tmp_path / "stopped")
    resume(stopped)
    same_weights(whole, stopped)


def test_augmentation_changes_the_weights(tmp_path):
    """Else the test above proves nothing."""
    tree = image_tree(tmp_path, 0)
    augmented = load_file(start(tree, tmp_path / "augmented").artifact / "model.safetensors")
    tree["data"]["augmentation"] = False
    plain = load_file(start(tree, tmp_path / "plain").artifact / "model.safetensors")
    assert any((augmented[name] != plain[name]).any() for name in augmented)


def test_torn_checkpoint_is_passed_over(tmp_path):
    """What a power cut leaves of a checkpoint is not resumed from: the last whole one is."""
    tree = text_tree(tmp_path)
    whole = start(tree, tmp_path / "whole")
    with pytest.raises(Interrupted) as stop:
        start(tree, tmp_path / "stopped", steps=14)  # one checkpoint at the epoch's end, one at the stop
    stopped = Run(tmp_path / "stopped")
    last = stopped.checkpoints / f"checkpoint-{stop.value.step}"
    weights = last / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert not runs.is_whole(last)
    assert stopped.checkpoint() not in (None, last)
    shutil.rmtree(last)
    resume(stopped)
    same_weights(whole, stopped)


def test_same_config_same_weights(tmp_path):
    tree = text_tree(tmp_path)
    one = start(tree, tmp_path / "one")
    same_weights(one, start(tree, tmp_path / "two"))


def test_checkpoints_by_the_clock_change_no_weight(tmp_path, monkeypatch):
    tree = text_tree(tmp_path)
    tree["train"] = {**tree["train"], "max_steps": 6, "save_strategy": "no", "eval_strategy": "no"}
    whole = start(tree, tmp_path / "whole")
    assert whole.checkpoint() is None
    monkeypatch.setenv(runs.SAVE_MINUTES, "1e-6")  # as a place says it where the run does not
    often = start(tree, tmp_path / "often")
    assert {event["step"] for event in often.events()[0] if event["type"] == "checkpoint"} >= {1, 2}
    same_weights(whole, often)
    monkeypatch.setenv(runs.SAVE_MINUTES, "1e6")
    said = {**tree, "train": {**tree["train"], "save_minutes": 1e-6}}
    assert start(said, tmp_path / "said").checkpoint() is not None


def test_config_of_a_run_reads_back(tmp_path):
    tree = text_tree(tmp_path)
    built = catalog.build_config(tree)
    run = Run.create(built, tmp_path / "run")
    assert run.config() == built.model_copy(update={"output": str(tmp_path / "run")})
    assert config.build(built.to_dict()) == built


# --- behind the last checkpoint: nothing is trained once more ---

ENDS = {
    "fractional epochs": {"num_train_epochs": 1.5},
    "max_steps in mid-epoch": {"max_steps": 13},
    "whole epochs": {"num_train_epochs": 2},
    "by steps": {"max_steps": 13, "save_strategy": "steps", "save_steps": 5},
    "validation and checkpoints apart": {"max_steps": 13, "save_strategy": "steps", "save_steps": 3,
                                         "eval_strategy": "epoch"},
    "stopped early": {"num_train_epochs": 5, "early_stopping_patience": 1, "early_stopping_threshold": 0.9},
    "the last one is kept": {"num_train_epochs": 1.5, "load_best_model_at_end": False},
}  # fmt: skip


def constant(tmp_path, **options):
    """Return a tree with a constant rate, so that one step more shows in the weights."""
    tree = text_tree(tmp_path)
    return {**tree, "train": {**tree["train"], "lr_scheduler_type": "constant", "warmup_steps": 0, **options}}


@pytest.mark.parametrize("end", ENDS)
def test_killed_after_the_last_checkpoint(tmp_path, monkeypatch, end):
    tree = constant(tmp_path, **ENDS[end])
    whole = start(tree, tmp_path / "whole")

    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(training.artifact, "save", power_cut)
        start(tree, tmp_path / "killed")
    killed = Run(tmp_path / "killed")
    last = killed.checkpoint()
    assert resume(killed)["cost"]["steps"] == whole.result()["cost"]["steps"]
    assert killed.checkpoint() == last
    same_weights(whole, killed)


def test_a_resume_stops_early_where_the_quiet_run_does(tmp_path):
    """Of equal scores the lower loss is the best, which is no reason to train on; behind a resume either."""
    slow = {**ENDS["stopped early"], "learning_rate": 3e-4}
    tree = constant(tmp_path, **slow)
    whole = start(tree, tmp_path / "whole")
    scores = [e["metrics"] for e in whole.events()[0] if e["type"] == "evaluation"]
    assert len(scores) == 2 and len({one["accuracy"] for one in scores}) == 1, scores
    assert scores[1]["loss"] < scores[0]["loss"], scores
    with pytest.raises(Interrupted):
        start(tree, tmp_path / "stopped", steps=11)
    stopped = Run(tmp_path / "stopped")
    assert resume(stopped)["cost"]["steps"] == whole.result()["cost"]["steps"]
    same_weights(whole, stopped)


@pytest.mark.parametrize(
    ("end", "step"),
    [
        ("fractional epochs", 9),
        ("fractional epochs", 14),
        ("whole epochs", 18),
        ("validation and checkpoints apart", 9),
    ],
)
def test_stopped_at_an_end(tmp_path, end, step):
    """At the last step of an epoch, and of the run, the checkpoint comes after the evaluation."""
    tree = constant(tmp_path, **ENDS[end])
    whole = start(tree, tmp_path / "whole")
    with pytest.raises(Interrupted) as stop:
        start(tree, tmp_path / "stopped", steps=step - (step <= 9))  # it is asked at the end of an epoch too
    assert stop.value.step == step
    stopped = Run(tmp_path / "stopped")
    resume(stopped)
    same_weights(whole, stopped)
    evaluated = [[e["step"] for e in run.events()[0] if e["type"] == "evaluation"] for run in (whole, stopped)]
    assert evaluated[0] == evaluated[1]


def test_a_finished_fit_reads_no_row():
    with pytest.raises(LookupError):
        NoneLeft(3)[0]


def test_the_best_checkpoint_of_a_moved_run_is_found(tmp_path):
    """A checkpoint names the best one by its whole path, of before."""
    told = recorder.Recorder.__new__(recorder.Recorder)
    told._event = lambda *words, **fields: None
    arguments = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    (tmp_path / "checkpoint-2").mkdir()
    here = str(tmp_path / "checkpoint-2")
    # Trainer has forgotten the place when this is called; the step it keeps
    for before, step, after in ((None, 2, here), ("/gone/checkpoint-2", 2, here), (here, 2, here), (None, None, None)):
        state = transformers.TrainerState(best_model_checkpoint=before, best_global_step=step, max_steps=4)
        told.on_train_begin(arguments, state, transformers.TrainerControl())
        assert state.best_model_checkpoint == after
