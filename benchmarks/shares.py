"""Where the time of a run goes: its parts by its own events, and its steps by kind of kernel.

For a line of JSON alone: python -m benchmarks.shares {steps METHOD | measuring} [ROWS]
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import page
from benchmarks.measuring import TWEETS, UNLOOKED, Sizes, command, module, timed, train

KERNELS = {  # the first that a name matches
    "matrix products": r"::(mm|addmm|bmm|baddbmm|linear|matmul|dot)\b|mkldnn_linear|convolution",
    "attention": r"scaled_dot_product|flash_attention|efficient_attention|softmax",
    "norms": r"(layer|batch|group|rms)_norm",
    "dropout": r"dropout|bernoulli|::(ge|random_)\b",  # its multiplications are among the rest
    "activations": r"gelu|relu|silu|tanh|sigmoid",
    "embeddings and picking rows": r"embedding|index_select|index_put|::index\b|gather|scatter",
    "optimizer and clipping": r"_fused_|_foreach_|vector_norm|linalg",
    "copies": r"copy|::to\b|contiguous|clone|::cat\b|fill_|zero_|::stack\b",
}
REST, CALLS = "other kernels", "Python, autograd and the loader"
STEPS, WARM = 20, 5
SCORED = 10_000  # test rows whose scores, intervals and plots are timed
ONCE = "imports"  # of what resamples and draws
TEXT = "The new update is gorgeous and everything just works!"


def measure(folder: Path, sizes: Sizes) -> str:
    """Return the section: full and probe by their events, full's steps by kernel, scores, and one text answered."""
    parts, runs = [], {}
    for name, more in (("full", ("train.num_train_epochs=1",)), ("probe", ("method={name: probe}",))):
        runs[name] = train(folder / name, TWEETS, *sizes.cap, *more)
        events = runs[name].events()[0]
        rows = runs[name].result()["data"]["splits"]
        what = f"by `{name}`, one epoch at most ({rows['train']:,} rows of train, {rows['test']:,} of test)"
        parts.append(f"A whole run of the quickstart {what}:\n\n{told(phases(events))}{until_first_step(events)}")
    steps_of = module("benchmarks.shares", "steps", "full", sizes.rows or "")
    parts.append(
        f"{STEPS - WARM} of its steps, by kind of kernel (each with the profiler's own cost):\n\n{told(steps_of)}"
    )
    scored = module("benchmarks.shares", "measuring", sizes.rows or SCORED)
    once = scored.pop(ONCE)
    parts.append(
        f"Measuring answers to {sizes.rows or SCORED:,} test rows of three classes, after {once:.2f} s in which a "
        f"process imports, once, what resamples and draws:\n\n{told(scored)}"
    )
    sides = {}
    for who, words in (("hftransfer", [command(), "predict", str(folder / "full"), TEXT]), ("transformers", None)):
        found = module("benchmarks.cold", who, runs["full"].artifact, TEXT)
        whole = timed(words or [sys.executable, "-m", "benchmarks.cold", who, str(runs["full"].artifact), TEXT])
        sides[who] = {**found, "start and end of the process": max(0.0, whole - sum(found.values()))}
    parts.append(f"`hftransfer predict` on one text, cold:\n\n{told(sides['hftransfer'])}")
    parts.append(f"The same by a script of transformers alone:\n\n{told(sides['transformers'])}")
    return "\n\n".join(parts)


def until_first_step(events: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence on what passes before the first step ends, of a run that has steps."""
    first = next((one["time"] for one in events if one["type"] == "step"), None)
    if first is None:
        return ""
    imports = phases(events).get("imports", 0.0)
    before = first - events[0]["time"]
    return f"\n\nThe first step ended after **{before:.1f} s**, {before - imports:.1f} s of them after the imports."


def told(seconds: Mapping[str, float]) -> str:
    """Return parts with their seconds and shares, as a table."""
    whole = sum(seconds.values())
    rows: page.Table = [("", "seconds", "share")]
    rows += [(name, f"{value:.2f}", f"{value / whole:.0%}") for name, value in seconds.items()]
    return page.table([*rows, ("together", f"{whole:.2f}", "")])


def phases(events: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the seconds of each phase of a run, in the order in which they came; a name that comes twice once."""
    marks = [("start", events[0]["time"])]
    marks += [(str(one["name"]), one["time"]) for one in events if one["type"] == "phase"]
    ends = [*(time for _, time in marks[1:]), events[-1]["time"]]
    found: dict[str, float] = {}
    for (name, began), ended in zip(marks, ends, strict=True):
        found[name] = found.get(name, 0.0) + ended - began
    return found


def by_kind(kernels: Iterable[tuple[str, float]], whole: float) -> dict[str, float]:
    """Return the seconds of each kind of kernel, by the kernels' names and own seconds, the largest first.

    What is left of `whole` passes outside of kernels.
    """
    found = dict.fromkeys((*KERNELS, REST), 0.0)
    for name, seconds in kernels:
        kind = next((kind for kind, names in KERNELS.items() if re.search(names, name)), REST)
        found[kind] += seconds
    found[CALLS] = max(0.0, whole - sum(found.values()))
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def steps(setup: Any, model: Any, rate: float, warm: int = WARM) -> dict[str, float]:
    """Return where the steps of a fit spend their seconds, the first `warm` left out."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from transformers import TrainerCallback

    from hftransfer.fitting import dropout, memory, trainer

    on_gpu = torch.cuda.is_available()
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    watch = profile(activities=kinds)

    class Window(TrainerCallback):
        seconds = 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == warm:
                memory.wait_for(args.device)
                watch.__enter__()
                self.seconds = -time.perf_counter()
            elif state.global_step == state.max_steps:
                memory.wait_for(args.device)
                self.seconds += time.perf_counter()
                watch.__exit__(None, None, None)

    window = Window()
    trainer.descend(setup, model, rate, callbacks=[window])
    kernels = [
        (one.key, (one.self_device_time_total if on_gpu else one.self_cpu_time_total) / 1e6)
        for one in watch.key_averages() if on_gpu or one.key.startswith(("aten::", dropout.DRAWING))
    ]  # fmt: skip
    return by_kind(kernels, window.seconds)


def steps_of_tweets(method: str, rows: str) -> dict[str, float]:
    """Return where steps on the tweets spend their seconds, with the settings that timing chooses."""
    from hftransfer import catalog, training
    from hftransfer.fitting.interruption import Interruption
    from hftransfer.runs import Run

    own = [
        f"method={{name: {method}}}",
        f"train.max_steps={STEPS}",
        "train.eval_strategy=no",
        "train.save_strategy=no",
    ]
    own += [f"data.max_rows={rows}"] if rows else []
    settings = catalog.read_config(TWEETS, [*UNLOOKED, *own])
    with (
        tempfile.TemporaryDirectory() as folder, Interruption() as interruption, contextlib.redirect_stdout(sys.stderr)
    ):  # fmt: skip
        run = Run.create(settings, Path(folder) / "run")
        scene = training.set_scene(settings, run, interruption, resume=False)
        model = scene.method.apply(scene.loaded, settings.method)
        return steps(scene.setup, model, scene.method.learning_rate)


def measuring(rows: int) -> dict[str, float]:
    """Return what scores with their intervals, and their plots, take of made-up answers to so many rows."""
    from hftransfer import catalog
    from hftransfer.answers.single_label import SingleLabel
    from hftransfer.evaluation import reporting
    from hftransfer.evaluation.plots import write_plots
    from hftransfer.evaluation.predictions import Predictions

    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=rows)
    scores = np.exp(rng.normal(size=(rows, 3)) + 1.5 * (np.arange(3) == truth[:, None])).astype(np.float32)
    answer = SingleLabel(names=("a", "b", "c"), counts=tuple(np.bincount(truth, minlength=3).tolist()))
    outputs, half = scores / scores.sum(axis=1, keepdims=True), rows // 2
    test = Predictions(answer, [*map(str, range(rows))], truth, outputs)
    validation = Predictions(answer, [*map(str, range(half))], truth[:half], outputs[:half])
    few = Predictions(answer, test.row_ids[:99], truth[:99], outputs[:99])
    settings = catalog.read_config(TWEETS, [])

    def measured(of: Predictions, chosen_by: Predictions) -> tuple[float, float]:
        began = time.perf_counter()
        reporting.report(of, chosen_by, settings.evaluation, settings.seed)
        scored = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            write_plots(of, folder)
        return scored - began, time.perf_counter() - scored

    once = sum(measured(few, few))
    scored, drawn = measured(test, validation)
    return {ONCE: once, "scores and intervals, validation's too": scored, "plots": drawn}


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    print(json.dumps(steps_of_tweets(rest[0], "".join(rest[1:])) if what == "steps" else measuring(int(rest[0]))))
