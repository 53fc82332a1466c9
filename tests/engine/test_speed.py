"""Settings chosen by timing: the weights stay, what the user said stands, and the choice is found again."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import transformers

from hftransfer import catalog, config, data
from hftransfer.fitting import rules, speed
from hftransfer.modeling import inference, loading, prepared
from hftransfer.runs import Run
from hftransfer.tasks.base import Preparation
from tests import tiny


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Give a function that chooses for a tiny model and checks that its weights stay."""
    monkeypatch.setenv("HFTRANSFER_CACHE", str(tmp_path / "cache"))
    pictures = tiny.image_folder(tmp_path / "pictures", 80)
    texts = tiny.text_csv(tmp_path / "rows.csv", 120)

    def choose(task_name, architecture, *overrides, loss=None):
        make = tiny.text_model if task_name.startswith("text") else tiny.image_model
        source = texts if task_name.startswith("text") else pictures
        tree = {"task": task_name, "model": str(make(tmp_path / architecture, architecture))}
        built = catalog.build_config(config.override({**tree, "data": {"source": str(source)}}, overrides))
        task = catalog.task(task_name)
        found = data.load(built.data, task, 0)
        processor = loading.load_processor(built, task)
        model = loading.load_model(built, task, found.answer, processor).model
        preparation = Preparation(built.data, found.answer, 0, 64)
        rows = prepared.prepare(task, found.splits["train"], processor, preparation, True)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        chosen = speed.choose(
            built, task, model, rows, prepared.collator(task, processor, preparation),
            loss or found.answer.loss(), speed.set_threads(built),
        )  # fmt: skip
        after = model.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        return chosen

    yield choose
    torch.set_num_threads(1)


def test_choice_is_timed_then_found_again(bench):
    first = bench("text-classification", "bert")
    assert first.origin == "timed"
    assert first.micro_batch * first.accumulation == rules.SMALL
    assert any("fp32" in name for name in first.timings)
    again = bench("text-classification", "bert")
    assert again == dataclasses.replace(first, origin="cache")


def test_batch_norms_forget_the_timing_and_see_whole_batches(bench):
    chosen = bench("image-classification", "resnet")
    assert (chosen.micro_batch, chosen.accumulation) == (rules.SMALL, 1)
    assert any("channels last" in name for name in chosen.timings)


def test_what_the_user_says_stands(bench):
    chosen = bench(
        "text-classification", "bert", "train.bf16=false", "train.per_device_train_batch_size=8",
        "speed.attention=eager", "speed.threads=1",
    )  # fmt: skip
    assert (chosen.bf16, chosen.micro_batch, chosen.accumulation) == (False, 8, 1)
    assert (chosen.attention, chosen.threads, chosen.origin) == ("eager", 1, "default")


def test_batches_are_cut_until_they_fit(bench):
    def greedy(outputs, targets, num_items_in_batch=None):
        if len(targets) > 8:
            raise torch.OutOfMemoryError
        return outputs["logits"].sum()

    chosen = bench("text-classification", "bert", loss=greedy)
    assert chosen.micro_batch <= 8
    assert chosen.micro_batch * chosen.accumulation == rules.SMALL


def test_a_resume_takes_the_choice_from_the_run(tmp_path):
    (tmp_path / "run").mkdir()
    run = Run(tmp_path / "run")
    assert speed.recorded(run) is None
    choice = speed.Choice("eager", False, 16, 2, 0, 1, False, "timed", {"eager": 1.0})
    run.event("tuned", **dataclasses.asdict(choice))
    assert speed.recorded(run) == dataclasses.replace(choice, origin="run")


def test_a_convolutional_network_answers_the_same_in_the_layout_that_is_fast(tmp_path):
    folder = tiny.image_model(tmp_path / "mobilenet", "mobilenet-v2")
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    pictures = torch.rand(2, 3, 32, 32)
    strides = {name: value.stride() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        expected = model(pictures).logits
        with inference.channels_together(model):
            convolution = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
            assert convolution.weight.stride()[1] == 1  # channels lie beside each other
            torch.testing.assert_close(model(pictures).logits, expected)
    assert {name: value.stride() for name, value in model.state_dict().items()} == strides


def test_the_layout_that_timing_chose_stays(tmp_path):
    folder = tiny.image_model(tmp_path / "mobilenet", "mobilenet-v2")
    model = transformers.AutoModelForImageClassification.from_pretrained(folder)
    model.to(memory_format=torch.channels_last)
    convolution = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    with inference.channels_together(model):
        pass
    assert convolution.weight.stride()[1] == 1
