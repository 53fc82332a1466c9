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
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, Trainer, TrainerCallback, TrainingArguments, logging

from hftransfer import catalog, config, samples, training
from hftransfer.fitting import trainer
from hftransfer.fitting.base import Setup
from hftransfer.fitting.interruption import Interruption
from hftransfer.fitting.ordering import Epochs
from hftransfer.runs import Run

STEPS, WARM = 40, 5


class Clock(TrainerCallback):
    """The seconds between the end of step `warm` and the end of the last one, and those of the processor."""

    def __init__(self, warm: int = WARM) -> None:
        self.warm = warm
        self.seconds = self.cpu = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.warm:
            self.began = time.perf_counter(), time.process_time()
        if state.global_step > self.warm:
            self.seconds, self.cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]


def main(rounds: int) -> None:
    """Time `rounds` rounds of the three."""
    logging.set_verbosity_error()
    tree = {
        "task": "text-classification",
        "model": "sample:all-minilm-l6-v2",
        "data": {"source": "sample:vader-tweets", "columns": {"text": "text", "label": "label"}, "max_rows": 2400},
        "train": {"max_steps": STEPS, "eval_strategy": "no", "save_strategy": "no", "learning_rate": 1e-4,
                  "bf16": False, "warmup_steps": 0},
        "speed": {"tune": False, "attention": "eager"},
    }  # fmt: skip
    found: dict[str, list[float]] = {"hftransfer": [], "trainer": [], "loop": []}
    for _ in range(rounds):
        for name, seconds in one_round(catalog.build_config(tree)).items():
            found[name].append(round(seconds, 3))
    loop, trainer = statistics.median(found["loop"]), statistics.median(found["trainer"])
    engine = statistics.median(found["hftransfer"])
    print(json.dumps({"seconds": found, "over_loop": engine / loop, "over_trainer": engine / trainer}))


def one_round(settings: config.RunConfig) -> dict[str, float]:
    """Fit three times from the same weights over the same batches."""
    with tempfile.TemporaryDirectory() as folder, Interruption() as interruption:
        run = Run.create(settings, Path(folder) / "run")
        scene = training.set_scene(settings, run, interruption, resume=False)
        setup = scene.setup
        train, collate, loss = setup.prepared["train"], setup.collator, trainer.loss(setup)
        rows = Epochs(train.dataset, train.lengths, 32, settings.seed)
        clock = Clock()
        trainer.descend(setup, fresh(setup), 1e-4, callbacks=[clock])
        return {
            "hftransfer": clock.seconds,
            "trainer": bare_trainer(fresh(setup), rows, collate, loss, folder),
            "loop": hand_written(fresh(setup), rows, collate, loss),
        }


def fresh(setup: Setup) -> Any:
    """Return the pretrained model once more."""
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(
        samples.resolve(setup.config.model), num_labels=3, attn_implementation="eager", dtype=torch.float32
    )


def bare_trainer(model: Any, rows: Any, collate: Any, loss: Any, folder: str) -> float:
    """Return the seconds of a Trainer with nothing around it."""
    clock = Clock()
    arguments = TrainingArguments(
        folder, max_steps=STEPS, per_device_train_batch_size=32, learning_rate=1e-4, use_cpu=True, report_to="none",
        train_sampling_strategy="sequential", remove_unused_columns=False, label_names=["labels"], disable_tqdm=True,
        save_strategy="no", logging_steps=10, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, train_dataset=rows, data_collator=collate, compute_loss_func=loss, callbacks=[clock]
    )
    trainer.train()
    return clock.seconds


def hand_written(model: Any, rows: Any, collate: Any, loss: Any) -> float:
    """Return the seconds of the plainest loop."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    began = 0.0
    for step in range(STEPS):
        if step == WARM:
            began = time.perf_counter()
        batch = collate(rows.__getitems__(list(range(32 * step, 32 * (step + 1)))))
        labels = batch.pop("labels")
        loss(model(**batch), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
