"""Training the rows of an embedding that train reads alone is training the whole one; a model is saved whole."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from hftransfer import catalog
from hftransfer.fitting import trials, vocabulary
from hftransfer.runs import Run
from tests import tiny, tiny_causal
from tests.engine.test_resume import Interrupted, resume, same_weights, start

LARGE = 40_000  # entries of a vocabulary, 32 numbers each: more than a million that no row needs


def large(folder: Path) -> Path:
    """Return a tiny model whose tokenizer knows a small share of its vocabulary."""
    place = tiny.text_model(folder)
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(place)
    model.resize_token_embeddings(LARGE, mean_resizing=False)
    model.save_pretrained(place)
    return place


def tree(tmp_path: Path, **train: Any) -> dict[str, Any]:
    place = tmp_path / "model"
    return {
        "task": "text-classification",
        "model": str(place if place.is_dir() else large(place)),
        "data": {"source": str(tiny.text_csv(tmp_path / "rows.csv", 100)), "label_issues": False},
        "train": {"learning_rate": 1e-3, "per_device_train_batch_size": 8, "max_steps": 6, **train},
    }


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    found = load_file(run.artifact / "model.safetensors")
    assert isinstance(found, dict)
    return found


def compact(run: Run) -> bool:
    (told,) = [event for event in run.events()[0] if event["type"] == "tuned"]
    return bool(told["compact"])


def numbers_of_optimizer(run: Run) -> int:
    state = torch.load(run.checkpoint() / "optimizer.pt", weights_only=True)["state"]
    return sum(value.numel() for one in state.values() for value in one.values())


TABLE = "bert.embeddings.word_embeddings.weight"


def test_nothing_is_learned_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tree(tmp_path)
    small = start(settings, tmp_path / "small")
    monkeypatch.setattr(vocabulary, "SPARED", 10**12)
    whole = start(settings, tmp_path / "whole")
    assert compact(small) and not compact(whole)
    before = load_file(tmp_path / "model" / "model.safetensors")[TABLE]
    first, second = weights_of(small), weights_of(whole)
    assert first.keys() == second.keys() and first[TABLE].shape == (LARGE, 32)
    for name, value in first.items():
        assert torch.allclose(value, second[name], atol=1e-6), name
    moved = (first[TABLE] != before).any(1)
    assert 10 < int(moved.sum()) < 48 and torch.equal(moved, (second[TABLE] != before).any(1))


def test_a_resume_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tree(tmp_path, max_steps=12)
    whole = start(settings, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start(settings, tmp_path / "stopped", steps=4)
    stopped = Run(tmp_path / "stopped")
    assert compact(stopped) and numbers_of_optimizer(stopped) < LARGE * 32  # both moments of the whole are twice it
    monkeypatch.setattr(vocabulary, "SPARED", 1)  # a rule of another version: the run goes on as it began
    resume(stopped)
    same_weights(whole, stopped)


def test_a_run_that_began_with_the_whole_goes_on_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tree(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(vocabulary, "SPARED", 10**12)
        whole = start(settings, tmp_path / "whole")
        with pytest.raises(Interrupted):
            start(settings, tmp_path / "stopped", steps=3)
    stopped = Run(tmp_path / "stopped")
    resume(stopped)
    same_weights(whole, stopped)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Return what a fit knows, as far as it is asked here, and its model."""
    place = tmp_path_factory.mktemp("asked")
    settings = catalog.build_config(tree(place))
    rows = datasets.Dataset.from_dict({"input_ids": [[2, 7, 9, 3], [2, 8, 3]], "labels": [0, 1]})
    setup = SimpleNamespace(
        config=settings, prepared={"train": SimpleNamespace(dataset=rows)}, answer=SimpleNamespace(catalogue=None),
        processor=transformers.AutoTokenizer.from_pretrained(place / "model"),
    )  # fmt: skip
    return setup, transformers.AutoModelForSequenceClassification.from_pretrained(place / "model")


def test_which_rows_are_read(asked: tuple[Any, Any]) -> None:
    setup, model = asked
    found = vocabulary.read_by(setup, model)
    assert found is not None
    assert found.tolist() == sorted({2, 7, 9, 3, 8, *setup.processor.all_special_ids})


@pytest.mark.parametrize(
    "changed",
    [
        {"weight_decay": 0.01},  # it moves every weight
        {"optim": "adafactor"},  # it knows rows and columns
        {"neftune_noise_alpha": 5.0},
        {"torch_compile": True},
    ],
)
def test_options_that_see_the_whole_table(changed: dict[str, Any], asked: tuple[Any, Any]) -> None:
    setup, model = asked
    config = trials.with_options(setup.config, changed)
    assert vocabulary.read_by(SimpleNamespace(**{**vars(setup), "config": config}), model) is None


def test_rows_that_say_not_all_that_is_read(asked: tuple[Any, Any]) -> None:
    setup, model = asked
    rows = setup.prepared["train"].dataset
    for name, value in (
        ("prepared", {"train": SimpleNamespace(dataset=rows.rename_column("labels", "decoder_input_ids"))}),
        ("prepared", {"train": SimpleNamespace(dataset=rows.to_iterable_dataset())}),
        ("answer", SimpleNamespace(catalogue="entries are read beside them")),
    ):
        assert vocabulary.read_by(SimpleNamespace(**{**vars(setup), name: value}), model) is None


def test_a_frozen_table_stands_still_anyhow(asked: tuple[Any, Any]) -> None:
    setup, model = asked
    model.get_input_embeddings().requires_grad_(False)
    assert vocabulary.read_by(setup, model) is None
    model.get_input_embeddings().requires_grad_(True)


def test_weights_that_the_optimizer_is_told_of_train_whole(tmp_path: Path) -> None:
    settings = tree(tmp_path, max_steps=1)
    assert not compact(start({**settings, "method": {"name": "full", "layer_decay": 0.5}}, tmp_path / "run"))


def embedding(padding: int | None = 0) -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(20, 4, padding_idx=padding)


READ = torch.tensor([0, 3, 5, 19])


class Holder(nn.Module):
    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.table: nn.Module = table


def test_a_compact_table_answers_as_the_whole_one() -> None:
    whole = embedding()
    made = vocabulary.Compact(copy.deepcopy(whole), READ)
    tokens = torch.tensor([[0, 3], [19, 5]])
    one, other = whole(tokens), made(tokens)
    assert torch.equal(one, other)
    one.square().sum().backward()
    other.square().sum().backward()
    assert whole.weight.grad is not None and torch.equal(whole.weight.grad[READ], made.weight.grad)
    assert not made.weight.grad[0].any()  # padding learns nothing
    made.eval()
    assert torch.equal(made(torch.arange(20)), whole(torch.arange(20)))  # rows of validation may hold other tokens
    made.train()
    with pytest.raises(RuntimeError):
        made(torch.tensor([4]))


def test_it_is_saved_and_loaded_as_the_whole() -> None:
    table = embedding(None)
    holder = Holder(vocabulary.Compact(table, READ))
    with torch.no_grad():
        holder.table.weight.add_(1.0)  # type: ignore[operator,union-attr]
    saved = holder.state_dict()
    assert list(saved) == ["table.weight"] and saved["table.weight"].shape == (20, 4)
    assert torch.equal(saved["table.weight"][READ], table.weight[READ] + 1)
    other = {"table.weight": torch.randn(20, 4)}
    holder.load_state_dict(other)
    assert torch.equal(holder.state_dict()["table.weight"], other["table.weight"])
    assert torch.equal(holder.table.weight, other["table.weight"][READ])


def test_afterwards_the_model_is_as_it_was_but_for_what_it_learned(tmp_path: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny.text_model(tmp_path / "model"))
    table = model.get_input_embeddings()
    before = table.weight.detach().clone()
    with vocabulary.compacted(model, READ):
        assert type(model.get_input_embeddings()) is vocabulary.Compact
        with torch.no_grad():
            model.get_input_embeddings().weight.fill_(7.0)
    assert model.get_input_embeddings() is table and table.weight.requires_grad
    assert (table.weight[READ] == 7).all()
    others = [row for row in range(len(before)) if row not in READ.tolist()]
    assert torch.equal(table.weight[others], before[others])


def test_tied_tables_are_left_alone(tmp_path: Path) -> None:
    place = tiny_causal.causal_model(tmp_path / "causal")
    assert vocabulary.table_of(transformers.AutoModelForCausalLM.from_pretrained(place)) is None
