"""Nothing of ours asks a GPU in mid-step for a number: it would have to finish all that it was given first.

There is none here. What would wait for one is counted on the processor: operations that read values to go on, and the
methods of a tensor that bring its values to Python.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hftransfer import catalog
from hftransfer.fitting import trainer
from hftransfer.fitting.interruption import Interruption
from hftransfer.runs import Run
from tests import tiny, tiny_causal
from tests.engine.conftest import QUICK
from tests.engine.test_answer_contracts import KINDS, _outputs

READS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "repeat_interleave.Tensor")
BRINGS = ("cpu", "tolist", "numpy")
PLACED = ("index.Tensor", "index_put_", "index_put")  # by a mask they look for what is true first
# what is done on the processor in any case, or between steps: rows become a batch; what is logged, measured and saved
ASIDE = {"fetch", "_next_data", "_get_iterator", "_maybe_log_save_evaluate", "_finalize_training"}
# how many of the values that a batch has are no padding is a number that sizes what is computed, and is read once
SIZED = {"continuation": "_causal.py", "captions": "_beside.py"}
WARM = 2  # steps in which libraries look at their models for the first time
MARKED = ("hftransfer", "transformers", "accelerate", "peft", "tests")


class Waits(TorchDispatchMode):
    """Counts what waits for a device, by the file that asked for it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, operation: Any, types: Any, given: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        name = str(operation).removeprefix("aten.").removesuffix(".default")
        masked = name in PLACED and any(one is not None and one.dtype == torch.bool for one in given[1])
        if masked or name in READS:
            self.note(name)
        return operation(*given, **(named or {}))

    def note(self, name: str) -> None:
        """Count a wait, unless it belongs to what is aside."""
        files, frame = [], sys._getframe(2)
        while frame is not None:
            if frame.f_code.co_name in ASIDE:
                return
            files.append(_file(frame))
            frame = frame.f_back  # type: ignore[assignment]
        asked = next((file for file in files if file), "elsewhere")
        self.found[f"{asked}: {name}"] += 1


def _file(frame: FrameType) -> str:
    parts = frame.f_code.co_filename.split("/")
    known = [at for at, part in enumerate(parts) if part in MARKED]
    return "" if not known or parts[-1] == "test_host_syncs.py" else "/".join(parts[known[-1] :])


@contextmanager
def waits(patch: pytest.MonkeyPatch) -> Iterator[Waits]:
    """Count what would wait for a GPU."""
    mode = Waits()
    with patch.context() as own, mode:
        for name in BRINGS:
            own.setattr(torch.Tensor, name, _noted(mode, name, getattr(torch.Tensor, name)))
        yield mode


def _noted(mode: Waits, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*given: Any, **named: Any) -> Any:
        mode.note(name)
        return method(*given, **named)

    return call


def test_every_way_to_wait_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = torch.arange(4.0)
    with waits(monkeypatch) as found:
        mask = numbers > 1
        for look in (numbers.sum().item, mask.nonzero, numbers.cpu, numbers.tolist, lambda: bool(mask.any())):
            look()
        numbers[mask] = 0.0
        assert numbers[mask].shape == (2,) and torch.unique(mask).numel() == 2
        before = found.found.total()
        torch.nn.functional.cross_entropy(numbers[None], torch.tensor([1])) + numbers[torch.tensor([1])].sum()
    assert before == 8 and found.found.total() == before, found.found


@pytest.mark.parametrize("kind", KINDS)
def test_no_loss_waits(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = KINDS[kind]().answer
    logits, labels = KINDS[kind]().batch()
    asked, loss = logits.clone().requires_grad_(), answer.loss()
    outputs = {"vectors": asked, "scale": torch.tensor(2.0), **_outputs(asked, kind)}
    with waits(monkeypatch) as found:
        loss(outputs, labels, torch.tensor(16)).backward()
    assert asked.grad is not None
    assert {name for name in found.found if SIZED.get(kind, "none") not in name} == set()
    assert found.found.total() <= (1 if kind in SIZED else 0)


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Counter[str]]:
    """Return, by task, what waited in four steps of a real fit, the first ones left out."""
    folder = tmp_path_factory.mktemp("waits")
    causal = tiny_causal.causal_model(folder / "causal")
    rows = {"text": tiny.text_csv(folder / "rows.csv", 120), "causal": folder / "rows.jsonl"}
    tiny_causal.written(rows["causal"], tiny_causal.rows("completion", 60))
    trees = {
        "text-classification": {"model": str(tiny.text_model(folder / "text")), "data": {"source": str(rows["text"])}},
        "text-generation": {"model": str(causal), "data": {"source": str(rows["causal"])}, "method": {"name": "lora"}},
    }
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for task, tree in trees.items():
            found[task] = _steps(folder / task, {**QUICK, "task": task, **tree}, patch)
    return found


def _steps(folder: Any, tree: dict[str, Any], patch: pytest.MonkeyPatch) -> Counter[str]:
    from transformers import TrainerCallback

    from hftransfer import training

    class Cut(TrainerCallback):  # forgets what the first steps waited for
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == WARM:
                counted.found.clear()

    own = {"max_steps": WARM + 4, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    config = catalog.build_config({**tree, "train": {**tree["train"], **own, "logging_steps": 2}})
    with Interruption() as interruption:
        scene = training.set_scene(config, Run.create(config, folder), interruption, resume=False)
        model = scene.method.apply(scene.loaded, config.method)
        with waits(patch) as counted:
            trainer.descend(scene.setup, model, 1e-3, callbacks=[Cut()])
    return counted.found


@pytest.mark.parametrize("task", ["text-classification", "text-generation"])
def test_no_step_waits(task: str, stepped: dict[str, Counter[str]]) -> None:
    """But for transformers' look at its mask, without which there may be a faster kernel, and for what has a size."""
    theirs = {name: count for name, count in stepped[task].items() if "masking_utils" in name}
    ours = {name: count for name, count in stepped[task].items() if name not in theirs}
    assert sum(theirs.values()) >= 4, "the steps were looked at"
    assert ours.keys() == ({"hftransfer/answers/_causal.py: nonzero"} if task == "text-generation" else set())
    assert sum(ours.values()) <= sum(theirs.values()), "at most once a forward pass"
