"""Settings chosen by timing: the weights stay, what the user said stands, and the choice is found again."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
import transformers

from hftransfer import catalog, config, data
from hftransfer.errors import UserError
from hftransfer.fitting import arguments, memory, precision, rules, speed
from hftransfer.modeling import batches, inference, loading, prepared
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
            built, task, model, rows, batches.collator(task, processor, preparation),
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


@pytest.fixture
def stopwatch(monkeypatch):
    """Give a function that times made-up choices: each takes the seconds that its list says, one after another."""

    def fastest(said, threads=(1, 1, 1)):
        start = speed.Choice("sdpa", False, 8, 1, 0, 1, False, "default")
        choices = [
            dataclasses.replace(start, attention=name, threads=count)
            for name, count in zip(said, threads, strict=False)
        ]
        left = {name: iter(seconds) for name, seconds in said.items()}
        trial = speed.Trial(None, [[0] * 8] * 2, list, None)
        warm = iter([1.0] * len(choices) + [0.01])
        monkeypatch.setattr(
            trial, "_seconds", lambda choice, batches: next(warm, None) or next(left[choice.attention])
        )
        return trial.fastest(choices), {name: len([*rest]) for name, rest in left.items()}, trial.timings

    return fastest


def test_a_disturbed_time_is_taken_again(stopwatch):
    """The faster one was disturbed twice: its two times do not agree, so neither is believed."""
    chosen, left, timings = stopwatch({"fast": [1.2, 1.0, 0.7, 0.71, 9], "slow": [1.0, 1.0, 1.0, 1.0, 9]})
    assert chosen.attention == "fast" and left == {"fast": 2, "slow": 2}
    assert timings == {"fast, fp32, 1 x 8 rows, 1 thread": 11.43, "slow, fp32, 1 x 8 rows, 1 thread": 8.0}


def test_what_is_far_from_the_fastest_is_timed_once_but_threads(stopwatch):
    times = {"one": [1.0, 1.0, 9], "two": [2.5, 0.5, 0.5, 9], "three": [1.1, 1.1, 9]}
    chosen, left, _ = stopwatch(times)
    assert chosen.attention == "one" and left == {"one": 1, "two": 3, "three": 1}
    chosen, left, _ = stopwatch(times, threads=(1, 2, 1))  # a busy core halves two threads, and leaves one alone
    assert chosen.attention == "two" and left == {"one": 1, "two": 1, "three": 1}


def test_timing_ends_when_its_seconds_are_spent(bench, stopwatch, monkeypatch):
    monkeypatch.setattr(speed, "BUDGET_SECONDS", -1.0)
    _, left, _ = stopwatch({"one": [1.0, 2.0, 3.0, 9], "two": [1.1, 2.2, 3.3, 9]})  # no two times agree
    assert left == {"one": 2, "two": 2}
    chosen = bench("text-classification", "bert")
    assert all(f"{chosen.threads} thread" in name for name in chosen.timings), "threads are not tried any more"


def test_a_choice_whose_run_went_otherwise_is_timed_anew(bench, tmp_path):
    first = bench("text-classification", "bert")
    foreseen = first.timings[speed._name(first)]
    assert not speed.reconsider(first, 0.8 * foreseen, 60.0) and not speed.reconsider(first, 0.1 * foreseen, 1.0)
    assert bench("text-classification", "bert").origin == "cache"
    assert speed.reconsider(first, 2 * foreseen, 60.0)  # the machine was busy while it was timed
    assert bench("text-classification", "bert").origin == "timed"
    assert not speed.reconsider(dataclasses.replace(first, origin="run"), 2 * foreseen, 60.0)


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


@pytest.fixture
def half_only(monkeypatch):
    """Register an attention kernel that, like the flash ones, takes no float32; give the precisions it was shown."""
    shown = []

    def kernel(module, query, key, value, mask, **options):
        shown.append(query.dtype if not torch.is_autocast_enabled("cpu") else torch.bfloat16)
        if shown[-1] == torch.float32:
            raise RuntimeError("FlashAttention only supports fp16 and bf16 data type")
        return transformers.AttentionInterface()["sdpa"](module, query, key, value, mask, **options)

    transformers.AttentionInterface.register("toy_of_halves", kernel)
    transformers.AttentionMaskInterface.register("toy_of_halves", transformers.AttentionMaskInterface()["sdpa"])
    monkeypatch.setattr(
        inference, "HALF_ONLY", ("flash", "halves")
    )  # of a flash kernel transformers wants the package
    monkeypatch.setattr(speed, "_flash", lambda model: iter(["toy_of_halves"]))
    yield shown
    for interface in (transformers.AttentionInterface, transformers.AttentionMaskInterface):
        del interface._global_mapping["toy_of_halves"]


def test_a_kernel_of_half_precision_is_timed_in_it_alone(bench, half_only, monkeypatch):
    monkeypatch.setattr(speed, "native_bf16", lambda: True)
    chosen = bench("text-classification", "bert")
    assert any(name.startswith("toy_of_halves, bf16") for name in chosen.timings)
    assert not any(name.startswith("toy_of_halves, fp32") for name in chosen.timings)
    assert half_only and set(half_only) == {torch.bfloat16}


def test_answers_are_float32_whatever_kernel_trained(half_only, tmp_path):
    model = transformers.AutoModel.from_pretrained(tiny.text_model(tmp_path / "model"))
    inference.set_attention(model, "toy_of_halves")
    with inference.answering(model, alone=True):
        assert inference.attention_of(model) == "sdpa"
        model(torch.tensor([[1, 2, 3]]))
    assert inference.attention_of(model) == "toy_of_halves" and not half_only


@pytest.mark.parametrize(("rows", "gone"), [(8, False), (1, True)])
def test_memory_that_ran_out_is_said_with_what_takes_less(rows, gone):
    answer = tiny.answer("single_label", ("a", "b"), (1, 1), 2)
    setup = SimpleNamespace(
        config=SimpleNamespace(train=SimpleNamespace(options={})), answer=answer,
        preparation=SimpleNamespace(max_length=512),
    )  # fmt: skip
    model = SimpleNamespace(supports_gradient_checkpointing=True)
    given = SimpleNamespace(train_batch_size=rows, gradient_accumulation_steps=2)
    with pytest.raises(UserError) as error, memory.explained(setup, model, given):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. Of the allocated memory 1 GiB is")
    text = str(error.value)
    assert f"memory for a step of {rows} row" in text and "Tried to allocate 2 GiB" in text
    assert "train.gradient_checkpointing=true" in text and "data.max_length below 512" in text
    asked = "train.per_device_train_batch_size=4 and train.gradient_accumulation_steps=4"
    assert (asked not in text) is gone and "batch_size=0" not in text


def test_a_step_leaves_room_for_what_an_optimizer_keeps(monkeypatch):
    """A GPU of 1,000 bytes, of which a step took 700: two moments of 30 weights fit beside it, those of 40 do not."""
    card = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (200, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 780)
    assert memory.leaves_room(torch.nn.Linear(30, 1, bias=False), card)
    assert not memory.leaves_room(torch.nn.Linear(40, 1, bias=False), card)
    assert memory.leaves_room(torch.nn.Linear(40, 1, bias=False).requires_grad_(False), card)
    assert memory.leaves_room(torch.nn.Linear(4000, 1), torch.device("cpu"))


def test_a_gpu_gets_pinned_batches_that_travel_while_it_computes(monkeypatch, tmp_path):
    tree = {"task": "text-classification", "model": "x", "data": {"source": "y"}}
    choice = speed.Choice(None, False, 16, 1, 0, 1, False, "default")

    def merged(kind, *overrides):
        state = SimpleNamespace(device=torch.device(kind), num_processes=1)
        monkeypatch.setattr(arguments, "PartialState", lambda: state)
        built = catalog.build_config(config.override(tree, overrides))
        return arguments.merge(built, choice, 1e-4, "accuracy", True, 100)[0]

    there = merged("cuda")
    assert there["dataloader_pin_memory"] and there["accelerator_config"] == {"non_blocking": True}
    assert there["optim"] == "adamw_torch_fused" and not there["logging_nan_inf_filter"]
    assert merged("cuda", "train.accelerator_config={split_batches: true}")["accelerator_config"] == {
        "non_blocking": True, "split_batches": True,
    }  # fmt: skip
    assert "accelerator_config" not in merged("cuda", "train.dataloader_pin_memory=false")
    here = merged("cpu")
    assert not here["dataloader_pin_memory"] and "accelerator_config" not in here


def test_processes_agree_on_bf16_once_and_one_may_ask_alone_then(monkeypatch):
    asked = []
    monkeypatch.setattr(precision, "native_bf16", lambda: True)
    monkeypatch.setattr(precision, "PartialState", lambda: SimpleNamespace(num_processes=2))
    monkeypatch.setattr(precision, "agreed", lambda find: asked.append(find) or True)
    precision._agreed_once.cache_clear()
    try:
        precision.settle()
        assert precision.quick_bf16() and precision.quick_bf16()
        assert len(asked) == 1, "what one process asks alone waits for nobody"
    finally:
        precision._agreed_once.cache_clear()


def test_bf16_that_is_slower_than_float32_is_not_taken_and_the_machine_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HFTRANSFER_CACHE", str(tmp_path))
    monkeypatch.setattr(precision, "native_bf16", lambda: True)
    clock, kinds = [0.0], []

    def product(left, right):
        kinds.append(left.dtype)
        clock[0] += 2.0 if left.dtype == torch.bfloat16 else 1.0
        return left

    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(torch.nn.functional, "linear", product)
    for _ in range(2):
        precision._known.cache_clear()
        assert precision.quick_bf16() is False
    precision._known.cache_clear()
    assert len(kinds) == 2 * (precision.ROUNDS + 1) and len([*(tmp_path / "speed").iterdir()]) == 1
    monkeypatch.setattr(precision, "native_bf16", lambda: False)
    assert precision.quick_bf16() is False


def test_a_place_for_times_that_cannot_be_written_or_is_damaged_costs_nothing_but_time(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "native_bf16", lambda: True)
    choice = speed.Choice("eager", False, 16, 2, 0, 1, False, "timed", {"eager": 1.0})
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "cache"):  # a file is no folder: nothing can lie in it
        monkeypatch.setenv("HFTRANSFER_CACHE", str(place))
        precision._known.cache_clear()
        assert isinstance(precision.quick_bf16(), bool)
        speed._remember("key", choice)
    precision._known.cache_clear()
    assert speed._cached("key") == dataclasses.replace(choice, origin="cache")
    for one in (tmp_path / "cache" / "speed").iterdir():
        one.write_text("{")
    assert isinstance(precision.quick_bf16(), bool) and speed._cached("key") is None
    precision._known.cache_clear()
    monkeypatch.setenv("HFTRANSFER_CACHE", str(tmp_path / "file"))
    assert speed._cached("key") is None
