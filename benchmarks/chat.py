"""A small model that chats, taught to translate: against itself, against copying, and against a plain script's speed.

Needs `hftransfer samples chat`. Run alone: python -m benchmarks.chat [ROWS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from benchmarks import page
from benchmarks.measuring import Sizes, train
from benchmarks.overhead import Clock
from hftransfer import catalog, config, samples, training
from hftransfer.answers import _written
from hftransfer.audit import forgetting_report
from hftransfer.fitting import trainer
from hftransfer.fitting.base import Setup
from hftransfer.fitting.interruption import Interruption
from hftransfer.fitting.ordering import Epochs
from hftransfer.runs import Run
from hftransfer.weighting import Sample

CONFIG = Path(__file__).parents[1] / "configs" / "text-generation" / "lora.yaml"
RANK, RATE, BATCH, WARM = 16, 3e-4, 4, 2
STEPS = 10  # of a comparison of speed, the first WARM left out
TRAIN, VALIDATION, TEST = 480, 20, 100  # rows
QUICK = (
    "speed.tune=false",
    "train.per_device_train_batch_size=8",
    "train.learning_rate=5e-4",
)  # few rows: more updates


def measure(folder: Path, sizes: Sizes) -> str:
    """Return chrF and perplexity of the tuned model, of the untuned one, and chrF of the source itself."""
    cut = [
        f"data.max_rows={TRAIN + VALIDATION + TEST}",
        f"data.validation_size={VALIDATION}",
        f"data.test_size={TEST}",
    ]
    cut = sizes.cap or cut
    runs = {name: train(folder / name, CONFIG, f"method.name={name}", *kept(name), *QUICK, *cut) for name in METHODS}
    rows: list[list[str]] = [["", "chrF", "perplexity"]]
    for name, run in runs.items():
        found = run.result()["test"]["metrics"]
        rows.append([METHODS[name], *(told(found[metric]) for metric in ("chrf", "perplexity"))])
    rows.append(["copy of the source", f"{copied(runs['lora']):.1f}", ""])
    result = runs["lora"].result()
    learned = result["data"]["splits"]["train"]
    return (
        f"SmolLM2-135M-Instruct by LoRA (`configs/text-generation/lora.yaml`) on {learned:,} of the 10,079 pairs, one "
        f"epoch; {result['test']['n']:,} test rows.\n\n{page.table(rows)}\n\n"
        f"{result['cost']['examples_per_second']:.2f} rows a second. {' '.join(forgetting_report.facts(result))}"
    )


METHODS = {"zero_shot": "as it is", "lora": "LoRA"}


def kept(method: str) -> list[str]:
    """Return what takes the other method's options away."""
    return ["method={name: zero_shot}"] if method == "zero_shot" else []


def told(score: dict[str, float]) -> str:
    """Return a score with its interval."""
    return f"{score['value']:.1f} ({score['low']:.1f} to {score['high']:.1f})"


def copied(run: Run) -> float:
    """Return the chrF of the English messages as answers, on a run's test rows."""
    stored = pq.read_table(run.predictions / "test.parquet", columns=["label", "row_id"]).to_pylist()
    pairs = pq.read_table(samples.resolve_data("libreoffice-en-fr"))["translation"].to_pylist()
    texts = [pairs[int(row["row_id"].rpartition(":")[2])]["en"] for row in stored]
    likelihood = np.zeros((len(stored), 2))
    outcomes = _written.Written([row["label"] for row in stored], texts, likelihood, "13a")
    return float(_written.chrf(Sample(outcomes, np.ones((len(stored), 1))))[0])


def speed(folder: Path, sizes: Sizes) -> str:
    """Return tokens a second of the engine, of peft under a bare Trainer, and of packed rows."""
    ways = ("hftransfer", "peft and Trainer", "hftransfer, packed")
    found: dict[str, list[Pace]] = {name: [] for name in ways}
    for _ in range(sizes.rounds):  # in turn: what else the machine does meets all of them
        for name, pace in one_round(sizes).items():
            found[name].append(pace)
    rows = [["", "tokens/s, each round", "tokens by second of the processor, each round"]]
    rows += [
        [name, page.numbers([pace.wall for pace in paces]), page.numbers([pace.cpu for pace in paces])]
        for name, paces in found.items()
    ]
    engine, plain, packed = (
        {kind: median(getattr(pace, kind) for pace in paces) for kind in ("wall", "cpu")} for paces in found.values()
    )
    return (
        f"{STEPS - WARM} updates by LoRA of {BATCH} rows each (packed: of as many items), float32; tokens without "
        f"padding.\n\n{page.table(rows)}\n\nEngine over plain script: **{plain['cpu'] / engine['cpu'] - 1:+.1%}** of "
        f"the processor's time for a token ({plain['wall'] / engine['wall'] - 1:+.1%} of the clock's). Packing over "
        f"padding: **{packed['cpu'] / engine['cpu']:.2f}** times the tokens by second of the processor "
        f"({packed['wall'] / engine['wall']:.2f} by the clock)."
    )


class Pace(NamedTuple):
    """Tokens a second, by the clock and by the processor's time, which other programs do not count in."""

    wall: float
    cpu: float

    @classmethod
    def of(cls, count: int, clock: Clock) -> Pace:
        """Return the pace of so many tokens."""
        return cls(count / clock.seconds, count / clock.cpu)


def one_round(sizes: Sizes) -> dict[str, Pace]:
    """Return the pace of the three, from the same weights over rows in the same order."""
    words = [
        "speed.tune=false", f"train.per_device_train_batch_size={BATCH}", f"train.max_steps={STEPS}",
        "train.eval_strategy=no", "train.save_strategy=no", "train.bf16=false", "train.warmup_steps=0",
        "data.max_rows=1500", "data.likely_copies=false", "evaluation.forgetting=false", *sizes.cap,
    ]  # fmt: skip
    found = {}
    with tempfile.TemporaryDirectory() as folder, Interruption() as interruption:
        for name, more in (("hftransfer", []), ("hftransfer, packed", ["data.packing=true"])):
            settings = catalog.build_config(config.read_tree(CONFIG, [*words, *more]))
            run = Run.create(settings, Path(folder) / name.replace(" ", "-"))
            scene = training.set_scene(settings, run, interruption, resume=False)
            setup, clock = scene.setup, Clock(WARM)
            adapted = scene.method.apply(scene.loaded, settings.method)
            trainer.descend(setup, adapted, RATE, callbacks=[clock])
            found[name] = Pace.of(tokens(setup), clock)
            if not more:
                found["peft and Trainer"] = Pace.of(tokens(setup), plainly(setup, folder))
    return {name: found[name] for name in ("hftransfer", "peft and Trainer", "hftransfer, packed")}


def tokens(setup: Setup) -> int:
    """Return the tokens of the updates that are timed, padding left out."""
    train = setup.prepared["train"]
    assert train.lengths is not None
    order = Epochs(train.dataset, train.lengths, BATCH, setup.config.seed)
    size = len(train.rows)
    places = [step * BATCH + i for step in range(WARM, STEPS) for i in range(BATCH)]
    # a short data set is read again from its start, in another order of nearly the same tokens
    return int(sum(train.lengths[order._current()[place % size]] for place in places))


def plainly(setup: Setup, folder: str) -> Clock:
    """Return the clock of peft under a Trainer with nothing around it, the model's own loss included."""
    train = setup.prepared["train"]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(samples.resolve(setup.config.model), dtype=torch.float32)
    adapted: Any = get_peft_model(
        model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    clock = Clock(WARM)
    arguments = TrainingArguments(
        f"{folder}/plain", max_steps=STEPS, per_device_train_batch_size=BATCH, learning_rate=RATE, use_cpu=True,
        report_to="none", train_sampling_strategy="sequential", remove_unused_columns=False, disable_tqdm=True,
        save_strategy="no", logging_steps=10, dataloader_pin_memory=False,
    )  # fmt: skip
    rows = Epochs(train.dataset, train.lengths, BATCH, setup.config.seed)
    Trainer(adapted, arguments, train_dataset=rows, data_collator=setup.collator, callbacks=[clock]).train()
    return clock


if __name__ == "__main__":
    began = time.perf_counter()
    sizes = Sizes(1, 1, int(sys.argv[1]) if len(sys.argv) > 1 else None, 1, 0)
    with tempfile.TemporaryDirectory() as place:
        print(measure(Path(place), sizes), speed(Path(place), sizes), sep="\n\n")
    print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)
