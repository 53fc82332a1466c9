"""Each option of TrainingArguments alone, with a sensible value, on a tiny model: it trains, or is refused in words.

python -m tests.options_alone [--method=auto] [NAME ...]
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.upstream.options import Option, training_options
from hftransfer.upstream.values import WORDS

ROWS = 60
AUTO_ROWS = 160  # as many that `auto` trains the weights: of fewer it learns in pairs, which takes few of the options
# values for what takes any text, number or mapping; the rest is read off the types
VALUES: dict[str, list[Any]] = {
    "lr_scheduler_kwargs": [{}], "optim_args": ["amsgrad=True"], "optim_target_modules": [["query"]],
    "activation_checkpointing_kwargs": [{"use_reentrant": False}], "liger_kernel_config": [{"rope": True}],
    "gradient_checkpointing_kwargs": [{"use_reentrant": False}], "torch_compile_backend": ["eager"],
    "torch_compile_mode": ["default"], "report_to": ["none", "all", "tensorboard"], "run_name": ["mine"],
    "metric_for_best_model": ["loss", "accuracy"], "include_for_metrics": [["inputs"], ["loss"]],
    "accelerator_config": [{"split_batches": True}, {"even_batches": False}], "fsdp": ["full_shard"],
    "fsdp_config": [{"min_num_params": 10}], "deepspeed": [{"zero_optimization": {"stage": 1}}],
    "ddp_backend": ["gloo"], "warmup_steps": [0, 2, 0.5], "eval_steps": [1, 0.5],
    "save_steps": [1, 2, 0.5], "logging_steps": [1, 0.5], "eval_delay": [1, 100], "max_steps": [3, -1],
    "num_train_epochs": [0.01, 1.5], "label_smoothing_factor": [0.1], "per_device_train_batch_size": [1, 64],
    "gradient_accumulation_steps": [2, 50], "neftune_noise_alpha": [5], "save_total_limit": [1],
    "dataloader_num_workers": [0, 1], "ddp_timeout": [60], "ddp_bucket_cap_mb": [10], "length_column_name": ["length"],
    "project": ["mine"],
}  # fmt: skip


def sensible(option: Option) -> list[Any]:
    """Return values that an option is made for."""
    if option.name in VALUES:
        return VALUES[option.name]
    found: list[Any] = [True, False] if "bool" in option.takes.types else []
    found += [choice for choice in (*option.takes.choices, *WORDS.get(option.name, ())) if choice not in found]
    if found:
        return found
    numbers = {"learning_rate": 1e-3, "weight_decay": 0.1, "adam_epsilon": 1e-6, "max_grad_norm": 0.5}
    if option.takes.types & {"int", "float"}:
        return [numbers.get(option.name, 0.8 if option.name.startswith("adam_beta") else 1)]
    return ["name/of-mine"]


def free(option: Option) -> bool:
    """Tell whether a configuration may set an option at all."""
    decided = option.name in catalog.DECIDED or option.name.startswith("hub_")
    return not decided and not (option.takes.made and not str(option.takes))  # what Python alone can make


def tree_of(folder: Path, method: str = "full") -> dict[str, Any]:
    """Make a tiny model and rows, and return a configuration of them; it is made once in a folder."""
    from tests import tiny

    if not folder.exists():
        tiny.text_model(folder / "model")
        tiny.text_csv(folder / "rows.csv", AUTO_ROWS if method == "auto" else ROWS)
    return {
        "task": "text-classification", "model": str(folder / "model"), "method": {"name": method},
        "data": {"source": str(folder / "rows.csv"), "label_issues": False, "likely_copies": False},
        "train": {"num_train_epochs": 1, "per_device_train_batch_size": 8}, "evaluation": {"resamples": 100},
        "speed": {"tune": False, "threads": 1},
    }  # fmt: skip


def outcome(tree: dict[str, Any], folder: Path, name: str, value: Any) -> str:
    """Run a configuration with one option more; return how that ended: trained, refused, or a traceback."""
    from hftransfer import training
    from hftransfer.fitting.interruption import Interruption
    from hftransfer.runs import Run

    changed = {**tree, "train": {**tree["train"], name: value}}
    if name == "max_steps":
        del changed["train"]["num_train_epochs"]
    run = None
    try:
        config = catalog.build_config(changed)
        run = Run.create(config, folder)
        with Interruption() as interruption, as_before():
            result = training.run(config, run, interruption)
    except UserError as error:
        loaded = run is not None and any(e["type"] == "data" for e in run.events()[0])
        return f"refused {'LATE' if loaded else 'early'}: {error}"
    except Exception as error:
        traceback.print_exc()
        return f"TRACEBACK {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    notices = [e["message"] for e in run.events()[0] if e["type"] == "notice"][1:]
    return f"trained {result['cost']['steps']} steps" + "".join(f"; {notice}" for notice in notices)


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Give back the environment: transformers tells other libraries of some options through it."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main(names: list[str]) -> int:
    """Try them, print a line each, and return 1 when one ended in a traceback, or was refused when all was loaded."""
    bad, flag = 0, "--method="
    method = next((name.removeprefix(flag) for name in names if name.startswith(flag)), "full")
    names = [name for name in names if not name.startswith(flag)]
    with tempfile.TemporaryDirectory() as folder:
        tree = tree_of(Path(folder) / "made", method)
        for option in training_options().values():
            if not free(option) or (names and option.name not in names):
                continue
            for at, value in enumerate(sensible(option)):
                began = time.perf_counter()
                how = outcome(tree, Path(folder) / f"{option.name}-{at}", option.name, value)
                bad += how.startswith(("refused LATE", "TRACEBACK"))
                print(f"{option.name}={value}: {how} ({time.perf_counter() - began:.1f} s)", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
