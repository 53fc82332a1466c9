"""What the engine makes of a GPU: python -m benchmarks.gpu --out FILE, then --table FILE [--write]; see gpu.sh

Speed, memory and waits alone: weights are random, so nothing here says what a model learns.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import PartialState

from benchmarks import gpu_table, page
from benchmarks.gpu_scene import FULL, TINY, Shape, chat_model, dialogues, picture_model, pictures, text_model, texts
from benchmarks.measuring import Sizes
from benchmarks.overhead import Clock, Plain, bare_trainer, hand_written
from hftransfer import accounts, catalog, training
from hftransfer.fitting import memory, precision, speed, trainer
from hftransfer.fitting.base import Setup
from hftransfer.fitting.interruption import Interruption
from hftransfer.modeling.parts import count_parameters
from hftransfer.runs import Run

RATE = 1e-4
ROUNDS = 2
Figures = Iterator[dict[str, Any]]


class Bench:
    """A folder with models and rows, each made when it is first asked for, and the fits that are timed on them."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.folder, self.shape, self.device = folder, shape, PartialState().device
        self.runs = 0

    def made(self, name: str, make: Callable[[Path], Path]) -> str:
        """Return the place of something, which is made once."""
        place = self.folder / name
        return str(place if place.exists() else make(place))

    def text(self, **train: Any) -> dict[str, Any]:
        """Return a run on texts."""
        model = self.made("text", lambda place: text_model(place, self.shape))
        rows = self.made("texts.jsonl", lambda place: texts(place, self.shape, 1500 if self.shape is FULL else 60))
        return self.tree("text-classification", model, rows, train)

    def picture(self, **train: Any) -> dict[str, Any]:
        """Return a run on pictures."""
        model = self.made("picture", lambda place: picture_model(place, self.shape))
        rows = self.made("pictures", lambda place: pictures(place, self.shape, 1500 if self.shape is FULL else 40))
        size = {"per_device_train_batch_size": self.shape.pictures}
        return self.tree("image-classification", model, rows, {**size, **train})

    def chat(self, name: str, method: str = "lora", packing: bool = False, **train: Any) -> dict[str, Any]:
        """Return a run on dialogues."""
        model = self.made(f"chat-{name}", lambda place: chat_model(place, self.shape.chats[name]))
        rows = self.made("chat.jsonl", lambda place: dialogues(place, self.shape, 1000 if self.shape is FULL else 40))
        size = {"per_device_train_batch_size": self.shape.dialogues}
        tree = self.tree("text-generation", model, rows, {**size, **train})
        tree["method"] = {"name": method, "r": 16 if self.shape is FULL else 2}
        tree["data"]["packing"] = packing
        return tree

    def tree(self, task: str, model: str, rows: str, train: dict[str, Any]) -> dict[str, Any]:
        """Return a configuration in which nothing but steps takes time."""
        usual = {
            "auto": False, "max_steps": self.shape.warm + self.shape.steps, "eval_strategy": "no",
            "save_strategy": "no", "learning_rate": RATE, "warmup_steps": 0, "bf16": precision.native_bf16(),
        }  # fmt: skip
        data = {"source": rows, "label_issues": False, "likely_copies": False}
        return {
            "task": task, "model": model, "data": data, "train": {**usual, **train},
            "method": {"name": "full"}, "speed": {"tune": False},
        }  # fmt: skip

    @contextlib.contextmanager
    def scene(self, tree: dict[str, Any]) -> Iterator[tuple[Setup, Any]]:
        """Set a run's scene; give its setup, and the model as it trains."""
        self.runs += 1
        settings = catalog.build_config(tree)
        with Interruption() as interruption, contextlib.redirect_stdout(sys.stderr):
            run = Run.create(settings, self.folder / f"run-{self.runs}")
            found = training.set_scene(settings, run, interruption, resume=False)
            yield found.setup, found.method.apply(found.loaded, settings.method)

    def fit(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Return what the steps of a run took behind those that warm up."""
        with self.scene(tree) as (setup, model):
            clock = Clock(self.shape.warm)
            began = time.perf_counter()
            fitted = trainer.descend(setup, model, RATE, callbacks=[clock])
            whole = time.perf_counter() - began
            choice = speed.recorded(setup.run)
            assert choice is not None
            rows = self.shape.steps * choice.rows
            lengths = setup.prepared["train"].lengths
            mean = 1.0 if lengths is None else float(lengths.mean())
            return {
                "examples": rows * setup.prepared["train"].rows_per_item / clock.seconds,
                "tokens": rows * mean / clock.seconds,
                "step": clock.seconds / self.shape.steps, "before": whole - clock.seconds,
                "memory_mb": accounts.peak_memory(), "waiting": fitted.waiting_share,
                "weights": count_parameters(model)[1], "choice": {
                    "attention": choice.attention, "bf16": choice.bf16, "micro_batch": choice.micro_batch,
                    "accumulation": choice.accumulation, "timings": choice.timings,
                },
            }  # fmt: skip


def peaks(bench: Bench) -> Figures:
    """Measure the ceilings: a large matrix product, and a large copy."""
    for name in ("float32", "bfloat16"):
        left, right = (torch.randn(bench.shape.side, bench.shape.side, device=bench.device) for _ in range(2))
        pair = left.to(getattr(torch, name)), right.to(getattr(torch, name))
        seconds = _median(bench, lambda pair=pair: torch.mm(*pair))
        yield {"figure": "product", "type": name, "tflops": 2 * bench.shape.side**3 / seconds / 1e12}
    one = torch.randn(bench.shape.side * bench.shape.side, device=bench.device)
    other = torch.empty_like(one)
    seconds = _median(bench, lambda: other.copy_(one))
    yield {"figure": "copy", "gbytes": 2 * one.numel() * one.element_size() / seconds / 1e9}


def _median(bench: Bench, call: Callable[[], Any]) -> float:
    found = []
    for number in range(12):
        memory.wait_for(bench.device)
        began = time.perf_counter()
        call()
        memory.wait_for(bench.device)
        if number >= 2:
            found.append(time.perf_counter() - began)
    return statistics.median(found)


def timed(bench: Bench) -> Figures:
    """Let the engine choose by timing: what it tried, and what it took."""
    for name, tree in (("text", bench.text()), ("chat", bench.chat(next(iter(bench.shape.chats))))):
        del tree["train"]["bf16"]
        tree["speed"] = {"tune": True}
        tree["train"] |= {"max_steps": bench.shape.warm + 1}
        with bench.scene(tree) as (setup, model):
            began = time.perf_counter()
            size, rows = setup.at_once, setup.prepared["train"]
            loss = trainer.loss(setup)
            found = speed.choose(setup.config, setup.task, model, rows, setup.collator, loss, setup.threads, size)
            yield {
                "figure": "timed", "what": name, "seconds": time.perf_counter() - began, "timings": found.timings,
                "attention": found.attention, "bf16": found.bf16,
            }  # fmt: skip


def overhead(bench: Bench) -> Figures:
    """Train the same weights on the same batches by the engine, by a bare Trainer, and by a loop."""
    shape = bench.shape
    for size in shape.batches:
        found: dict[str, list[float]] = {"hftransfer": [], "trainer": [], "loop": []}
        for _ in range(ROUNDS):
            tree = bench.text(per_device_train_batch_size=size)
            with bench.scene(tree) as (setup, model):
                first = {name: value.clone() for name, value in model.state_dict().items()}
                plain = Plain(setup, size, shape.warm, shape.warm + shape.steps, bool(tree["train"]["bf16"]), RATE)
                clock = Clock(shape.warm)
                trainer.descend(setup, model, RATE, callbacks=[clock])
                found["hftransfer"].append(clock.seconds)
                for name, way in (("trainer", bare_trainer), ("loop", hand_written)):
                    model.load_state_dict(first)
                    found[name].append(way(model, plain))
        rows, mean = shape.steps * size, float(setup.prepared["train"].lengths.mean())
        yield {
            "figure": "overhead", "rows": size, "seconds": found, "steps": shape.steps, "tokens_a_row": mean,
            "examples": rows / statistics.median(found["hftransfer"]), "body": _body(model),
        }  # fmt: skip


def _body(model: torch.nn.Module) -> int:
    """Return the weights that every token is multiplied with: all but embeddings."""
    inside = {id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in inside)


def seen(bench: Bench) -> Figures:
    """Train a vision transformer on pictures that are decoded on the way."""
    for workers in (None, 0):
        own = {} if workers is None else {"dataloader_num_workers": workers}
        found = bench.fit(bench.picture(**own))
        chosen = speed.loader_workers(catalog.build_config(bench.picture(**own)), catalog.task("image-classification"))
        yield {"figure": "pictures", "workers": chosen, **found}


def chats(bench: Bench) -> Figures:
    """Train decoders through adapters: padded, packed, and in 4 bits."""
    for name in bench.shape.chats:
        ways: list[tuple[str, dict[str, Any]]] = [("lora", {}), ("lora, packed", {"packing": True})]
        if name == list(bench.shape.chats)[-1]:
            ways.append(("lora, activations computed again", {"gradient_checkpointing": True}))
            if importlib.util.find_spec("bitsandbytes"):
                ways.append(("qlora", {"method": "qlora"}))
        for way, own in ways:
            yield {"figure": "chat", "model": name, "way": way, **bench.fit(bench.chat(name, **own))}


def compiled(bench: Bench) -> Figures:
    """Compile the model: what that costs before the steps, and what it gains in each."""
    for name, tree in (("text", bench.text()), ("pictures", bench.picture())):
        for own in ({}, {"torch_compile": True, "torch_compile_backend": bench.shape.compiled}):
            found = bench.fit({**tree, "train": {**tree["train"], **own}})
            yield {"figure": "compile", "what": name, "compiled": bool(own), **found}


def waits(bench: Bench) -> Figures:
    """Count where a step makes the processor wait for the GPU, as CUDA says it."""
    if bench.device.type != "cuda":
        yield {"figure": "left out", "part": "waits", "why": "CUDA alone counts them"}
        return
    for name, tree in (("text", bench.text()), ("chat", bench.chat(next(iter(bench.shape.chats))))):
        tree["train"] |= {"logging_steps": 1000}
        with bench.scene(tree) as (setup, model), warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                trainer.descend(setup, model, RATE)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        places = Counter(
            f"{'/'.join(Path(one.filename).parts[-2:])}:{one.lineno}"
            for one in heard if "called a synchronizing" in str(one.message)
        )  # fmt: skip
        yield {
            "figure": "waits", "what": name, "steps": bench.shape.warm + bench.shape.steps,
            "places": dict(places.most_common(12)),
        }  # fmt: skip


PARTS: dict[str, Callable[[Bench], Figures]] = {
    "peaks": peaks, "overhead": overhead, "timed": timed, "chats": chats, "seen": seen, "waits": waits,
    "compiled": compiled,
}  # fmt: skip


def machine() -> dict[str, Any]:
    """Return what was measured on."""
    cuda = torch.cuda.is_available()
    return {
        "figure": "machine", "day": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if cuda else None, "processor": page.processor(),
        "gpu_mib": torch.cuda.mem_get_info()[1] // 2**20 if cuda else None,
        "memory_gib": round(psutil.virtual_memory().total / 2**30), "versions": accounts.versions(),
    }  # fmt: skip


def measure(out: Path, shape: Shape, names: Sequence[str], minutes: float) -> None:
    """Append each figure to `out` as soon as it is known; a part that fails is one too, and no part begins late."""
    until = time.monotonic() + 60 * minutes

    def say(figure: dict[str, Any]) -> None:
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(figure) + "\n")
        print(json.dumps(figure), flush=True)

    say(machine())
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), shape)
        for name in names:
            if time.monotonic() > until:
                say({"figure": "left out", "part": name, "why": f"{minutes:g} minutes were over"})
                continue
            began = time.monotonic()
            try:
                for figure in PARTS[name](bench):
                    say(figure)
                    if time.monotonic() > until:
                        say({"figure": "left out", "part": name, "why": f"{minutes:g} minutes were over in it"})
                        break
            except Exception as error:  # what one part meets costs the others nothing
                traceback.print_exc()
                say({"figure": "failed", "part": name, "why": f"{type(error).__name__}: {error}"[:500]})
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def section(folder: Path, sizes: Sizes) -> str:
    """Measure everything, and return the section but for its first line."""
    if not torch.cuda.is_available() and not sizes.rows:
        raise SystemExit("a GPU is needed; --rows 1 proves that it runs without one")
    measure(folder / "gpu.jsonl", TINY if sizes.rows else FULL, list(PARTS), minutes=9)
    found = [json.loads(line) for line in (folder / "gpu.jsonl").read_text(encoding="utf-8").splitlines()]
    return gpu_table.section(found).partition("\n\n")[2]


def main(words: Sequence[str] | None = None) -> None:
    """Measure into a file, or make the section of the page of one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON lines: a figure each, appended")
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas; all of them: %(default)s")
    parser.add_argument("--minutes", type=float, default=9, help="after which no part begins")
    parser.add_argument("--tiny", action="store_true", help="prove that it runs, on any machine")
    parser.add_argument("--table", type=Path, help="make the section of the figures in this file")
    parser.add_argument("--write", action="store_true", help="put the section into docs/benchmarks.md")
    options = parser.parse_args(words)
    if options.table:
        found = [json.loads(line) for line in options.table.read_text(encoding="utf-8").splitlines()]
        body = gpu_table.section(found)
        if options.write:
            page.write(gpu_table.TITLE, body)
        else:
            print(body)
        return
    names = [name for name in options.parts.split(",") if name]
    if options.out is None or not set(names) <= PARTS.keys():
        parser.error(f"--out FILE is needed, and parts among {', '.join(PARTS)}")
    measure(options.out, TINY if options.tiny else FULL, names, options.minutes)


if __name__ == "__main__":
    main()
