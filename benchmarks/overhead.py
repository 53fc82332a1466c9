"""The engine, a bare Trainer and a hand-written loop over the same batches, in turn: python -m benchmarks.overhead

Prints one JSON line: seconds of each for the same number of steps, by round. The first steps of each fit are left
out: they warm kernels up.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from accelerate import PartialState
from transformers import AutoModelForSequenceClassification, Trainer, TrainerCallback, TrainingArguments, logging

from hftransfer import catalog, config, samples, training
from hftransfer.fitting import dropout, memory, speed, trainer, vocabulary
from hftransfer.fitting.base import Setup
from hftransfer.fitting.interruption import Interruption
from hftransfer.fitting.ordering import Epochs
from hftransfer.modeling.batches import moved
from hftransfer.runs import Run

STEPS, WARM, ROWS = 40, 5, 32


class Clock(TrainerCallback):
    """The seconds between the end of step `warm` and the end of the last one, a GPU's work included.

    `cpu` are those of the processor, in which other programs do not count.
    """

    def __init__(self, warm: int = WARM) -> None:
        self.warm = warm
        self.seconds = self.cpu = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.warm or state.global_step >= state.max_steps:
            memory.wait_for(args.device)
        if state.global_step == self.warm:
            self.began = time.perf_counter(), time.process_time()
        if state.global_step > self.warm:
            self.seconds, self.cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]


@dataclass(frozen=True)
class Plain:
    """What a fit without the engine is given: its rows, and so many steps of so many of them."""

    setup: Setup
    size: int
    warm: int
    steps: int
    bf16: bool
    rate: float

    @property
    def rows(self) -> Epochs:
        """The training rows in the engine's own order."""
        train = self.setup.prepared["train"]
        return Epochs(train.dataset, train.lengths, self.size, self.setup.config.seed)


def main(rounds: int) -> None:
    """Time `rounds` rounds of the three."""
    logging.set_verbosity_error()
    tree = {
        "task": "text-classification",
        "model": "sample:all-minilm-l6-v2",
        "data": {"source": "sample:vader-tweets", "columns": {"text": "text", "label": "label"}, "max_rows": 2400,
                 "label_issues": False, "likely_copies": False},
        "train": {"max_steps": STEPS, "eval_strategy": "no", "save_strategy": "no", "learning_rate": 1e-4,
                  "bf16": False, "warmup_steps": 0, "auto": False, "per_device_train_batch_size": ROWS},
        "speed": {"tune": False, "attention": "eager"},
    }  # fmt: skip
    found: dict[str, list[float]] = {"hftransfer": [], "trainer": [], "loop": []}
    for number in range(rounds):
        for name, seconds in one_round(catalog.build_config(tree), number).items():
            found[name].append(round(seconds, 3))
    over = {
        f"over_{name}": statistics.median(a / b for a, b in zip(found["hftransfer"], found[name], strict=True))
        for name in ("loop", "trainer")
    }
    print(json.dumps({"seconds": found, **over}))


def one_round(settings: config.RunConfig, number: int) -> dict[str, float]:
    """Fit three times from the same weights over the same batches, another one first in each round."""
    with tempfile.TemporaryDirectory() as folder, Interruption() as interruption:
        run = Run.create(settings, Path(folder) / "run")
        scene = training.set_scene(settings, run, interruption, resume=False)
        setup, clock = scene.setup, Clock()
        plain = Plain(setup, ROWS, WARM, STEPS, bf16=False, rate=1e-4)

        def engine() -> float:
            with mock.patch.object(vocabulary, "read_by", return_value=None):  # the others train the embedding whole
                trainer.descend(setup, fresh(setup), 1e-4, callbacks=[clock])
            done = speed.recorded(run)
            if done is None or (done.rows, done.bf16, done.compact) != (ROWS, False, False):
                raise RuntimeError(f"the engine did not train as the others do: {done}")
            return clock.seconds

        def other(fit: Callable[[Any, Plain], float]) -> float:
            model = fresh(setup)
            with dropout.stretched(model):  # as the engine draws it: the rest is compared
                return fit(model, plain)

        ways = {
            "hftransfer": engine, "trainer": lambda: other(bare_trainer), "loop": lambda: other(hand_written),
        }  # fmt: skip
        names = [*ways][number % len(ways) :] + [*ways][: number % len(ways)]
        return {name: ways[name]() for name in names}


def fresh(setup: Setup) -> Any:
    """Return the pretrained model once more."""
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(
        samples.resolve(setup.config.model), num_labels=3, attn_implementation="eager", dtype=torch.float32
    )


def bare_trainer(model: Any, plain: Plain) -> float:
    """Return the seconds of a Trainer with nothing around it."""
    setup, clock = plain.setup, Clock(plain.warm)
    on_gpu = PartialState().device.type != "cpu"
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=plain.steps, per_device_train_batch_size=plain.size, learning_rate=plain.rate,
            use_cpu=not on_gpu, bf16=plain.bf16, report_to="none", train_sampling_strategy="sequential",
            remove_unused_columns=False, label_names=["labels"], disable_tqdm=True, save_strategy="no",
            logging_steps=10, dataloader_pin_memory=on_gpu,
        )  # fmt: skip
        Trainer(
            model, arguments, train_dataset=plain.rows, data_collator=setup.collator,
            compute_loss_func=trainer.loss(setup), callbacks=[clock],
        ).train()  # fmt: skip
    return clock.seconds


def hand_written(model: Any, plain: Plain) -> float:
    """Return the seconds of the plainest loop."""
    setup, rows, size, device = plain.setup, plain.rows, plain.size, PartialState().device
    collate, loss = setup.collator, trainer.loss(setup)
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=plain.rate, fused=True)
    began = 0.0
    for step in range(plain.steps):
        if step == plain.warm:
            memory.wait_for(device)
            began = time.perf_counter()
        places = [place % len(rows) for place in range(size * step, size * (step + 1))]
        batch = moved(collate(rows.__getitems__(places)), device)
        labels = batch.pop("labels")
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=plain.bf16):
            outputs = model(**batch)
        loss(outputs, labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    memory.wait_for(device)
    return time.perf_counter() - began


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
