"""Where the time of a run goes: its parts by its own events, and its steps by kind of kernel.

For a line of JSON alone: python -m benchmarks.shares steps METHOD, or ... predict FOLDER TEXT
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

from benchmarks import page
from benchmarks.measuring import TWEETS, UNLOOKED, Sizes, command, module, timed, train

KERNELS = {  # the first that a name matches
    "matrix products": r"::(mm|addmm|bmm|baddbmm|linear|matmul|dot)\b|mkldnn_linear|convolution",
    "attention": r"scaled_dot_product|flash_attention|efficient_attention|softmax",
    "norms": r"(layer|batch|group|rms)_norm",
    "dropout": r"dropout|bernoulli",
    "activations": r"gelu|relu|silu|tanh|sigmoid",
    "embeddings and picking rows": r"embedding|index_select|index_put|::index\b|gather|scatter",
    "optimizer and clipping": r"_fused_|_foreach_|vector_norm|linalg",
    "copies": r"copy|::to\b|contiguous|clone|::cat\b|fill_|zero_|::stack\b",
}
REST, CALLS = "other kernels", "Python, autograd and the loader"
STEPS, WARM = 20, 5
TEXT = "The new update is gorgeous and everything just works!"


def measure(folder: Path, sizes: Sizes) -> str:
    """Return the section: full and probe by their events, full's steps by kernel, and one text answered."""
    parts, runs = [], {}
    for name, more in (("full", ()), ("probe", ("method={name: probe}",))):
        runs[name] = train(folder / name, TWEETS, *sizes.cap, *more)
        parts.append(f"A whole run by `{name}`:\n\n{told(phases(runs[name].events()[0]))}")
    steps_of = module("benchmarks.shares", "steps", "full", sizes.rows or "")
    parts.append(
        f"{STEPS - WARM} of its steps, by kind of kernel (each with the profiler's own cost):\n\n{told(steps_of)}"
    )
    answer = module("benchmarks.shares", "predict", runs["full"].artifact, TEXT)
    whole = timed([command(), "predict", str(folder / "full"), TEXT])
    answer["start and end of the process"] = max(0.0, whole - sum(answer.values()))
    parts.append(f"`hftransfer predict` on one text, cold:\n\n{told(answer)}")
    return "\n\n".join(parts)


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

    from hftransfer.fitting import memory, trainer

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
        for one in watch.key_averages() if on_gpu or one.key.startswith("aten::")
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


def answered(folder: str, text: str) -> dict[str, float]:
    """Return what a first answer takes: imports, loading, asking."""
    began = time.perf_counter()
    from hftransfer.predictor import Predictor

    imported = time.perf_counter()
    predictor = Predictor(folder)
    loaded = time.perf_counter()
    predictor(text)
    return {"imports": imported - began, "loading": loaded - imported, "answering": time.perf_counter() - loaded}


if __name__ == "__main__":
    what, first, second = (*sys.argv[1:], "")[:3]
    print(json.dumps(steps_of_tweets(first, second) if what == "steps" else answered(first, second)))
