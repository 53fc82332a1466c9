"""A run that was stopped in mid-epoch, or killed while it wrote a checkpoint, ends with the very same weights."""

from __future__ import annotations

import shutil

import pytest
from safetensors.numpy import load_file

from hftransfer import catalog, config, runs, training
from hftransfer.interruption import Interrupted, Interruption
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
        "data": {"source": str(tiny.text_csv(tmp_path / "rows.csv", 100))},
        "method": {"name": "full", **method},
        "train": {"learning_rate": 1e-3, "per_device_train_batch_size": 8},
    }


def image_tree(tmp_path, workers):
    model = tiny.image_model(tmp_path / "model", "resnet")
    return {
        "task": "image-classification",
        "model": str(model),
        "data": {"source": str(tiny.image_folder(tmp_path / "pictures", 60))},
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
    same_weights(start(tree, tmp_path / "one"), start(tree, tmp_path / "two"))


def test_config_of_a_run_reads_back(tmp_path):
    tree = text_tree(tmp_path)
    built = catalog.build_config(tree)
    run = Run.create(built, tmp_path / "run")
    assert run.config() == built.model_copy(update={"output": str(tmp_path / "run")})
    assert config.build(built.to_dict()) == built
