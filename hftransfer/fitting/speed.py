"""Settings that change seconds, not what is learned: chosen by timing a few real steps on this machine.

The choice is written to the run (a resume takes it from there) and to the user's cache (the same config on the same
machine trains with the same settings again, to the same weights).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import accelerate
import numpy as np
import psutil
import torch
import transformers
from accelerate import PartialState
from torch.nn.modules.batchnorm import _BatchNorm
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

from hftransfer import samples
from hftransfer.config import RunConfig
from hftransfer.errors import UserError
from hftransfer.fitting import memory, precision, rules
from hftransfer.fitting.matching import needs_worker
from hftransfer.fitting.precision import native_bf16, quick_bf16
from hftransfer.modeling import inference
from hftransfer.modeling.batches import moved
from hftransfer.modeling.prepared import Prepared
from hftransfer.runs import Run, write_text
from hftransfer.safety import machine
from hftransfer.tasks.base import Task

ROWS_OF_AN_UPDATE = {"per_device_train_batch_size", "gradient_accumulation_steps"}
TIMED_BATCHES = 4
ROUNDS = 2
MOST_ROUNDS = 6
ALIKE = 1.1  # two times of one choice that are nearer than this agree
NEAR = 1.25  # times the fastest: a choice that may still turn out to be it
FAR = 2.0  # times the fastest: one that will not
BUDGET_SECONDS = 15.0  # what timing may take, roughly
LONG = 0.1  # seconds of a batch that is timed well enough alone
BELIEVABLE = (0.5, 1.5)  # a run's own rate by what timing had foreseen; beyond, something else kept the machine busy
STEADY = 5.0  # seconds of steps that have a rate
FLASH = {"flash_attention_2": is_flash_attn_2_available, "flash_attention_3": is_flash_attn_3_available}


@dataclass(frozen=True)
class Choice:
    """How a run computes."""

    attention: str | None
    bf16: bool
    micro_batch: int
    accumulation: int
    workers: int
    threads: int
    channels_last: bool  # convolutions keep the channels of a pixel together in memory
    origin: Literal["default", "timed", "cache", "run", "config"]
    timings: dict[str, float] = dataclasses.field(default_factory=dict)  # examples per second of what was tried
    key: str = ""  # under which it is remembered
    compact: bool = False  # the rows of the embedding that train reads are a parameter of their own: `vocabulary`

    @property
    def rows(self) -> int:
        """The rows of an update in one process."""
        return self.micro_batch * self.accumulation


def set_threads(config: RunConfig) -> int:
    """Share the machine's cores among the run's processes on it; return the threads of one.

    OMP_NUM_THREADS is not asked: accelerate and torchrun set it to 1 for their children.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    threads = config.speed.threads or max(1, machine.cores() // processes)
    torch.set_num_threads(threads)
    precision.settle()
    return threads


def default_choice(config: RunConfig, task: Task, threads: int, rows: int, at_once: int | None = None) -> Choice:
    """Return the choice without timing anything: what the config says, then rules, `rows` being those of train.

    The rows of an update are cut into batches of at most `at_once`, unless the config says how many a batch has.
    """
    options = config.train.options
    usual = rules.batch(rows) if config.train.auto else rules.FULL
    batch, parts = int(options.get("per_device_train_batch_size", usual)), 1
    while at_once is not None and batch > max(1, at_once) and not ROWS_OF_AN_UPDATE & options.keys():
        batch, parts = batch // 2, parts * 2
    return Choice(
        attention=config.speed.attention,
        bf16=bool(options.get("bf16", quick_bf16() and not options.get("fp16", False))),
        micro_batch=batch,
        accumulation=int(options.get("gradient_accumulation_steps", parts)),
        workers=loader_workers(config, task),
        threads=threads,
        channels_last=False,
        origin="default",
    )


def choose(
    config: RunConfig,
    task: Task,
    model: Any,
    prepared: Prepared,
    collate: Callable[[list[Any]], dict[str, Any]],
    loss: Callable[..., torch.Tensor],
    threads: int,
    at_once: int | None = None,
) -> Choice:
    """Time a few real steps of `model` with each candidate and return the fastest; the weights stay as they are.

    Kernel, precision and memory layout come first; then, with the fastest of them, threads and how the rows of one
    update are cut into batches, of at most `at_once` rows.
    """
    start = default_choice(config, task, threads, len(prepared.rows), at_once)
    candidates = list(_candidates(config, model, start))
    if not config.speed.tune or (len(candidates) == 1 and not any(_variations(config, model, start))):
        return start
    key = _key(config, model, prepared, start, candidates)
    known = _cached(key)
    if known is not None:
        apply(known, model)
        return known
    with Trial(model, typical_batches(prepared, start.micro_batch), collate, loss) as trial:
        while _may_cut(config, model) and candidates[0].micro_batch > 1 and not trial.fits(candidates[0]):
            candidates = [_halved(candidate) for candidate in candidates]
        best = trial.fastest(candidates)
        if not trial.spent:  # where times never agreed, more of them would tell no more
            best = trial.fastest([best, *_variations(config, model, best)])
    apply(best, model)
    chosen = dataclasses.replace(best, origin="timed", timings=trial.timings, key=key)
    if PartialState().is_main_process:  # whose choice all processes take
        _remember(key, chosen)
    return chosen


class Trial:
    """A model and batches to time choices with; what batch norms counted meanwhile is forgotten at the end."""

    def __init__(
        self,
        model: Any,
        batches: list[list[Any]],
        collate: Callable[[list[Any]], dict[str, Any]],
        loss: Callable[..., torch.Tensor],
    ) -> None:
        self.model, self.batches, self.collate, self.loss = model, batches, collate, loss
        self.device = PartialState().device
        self.timings: dict[str, float] = {}
        self.began = time.perf_counter()

    def __enter__(self) -> Trial:
        self.model.to(self.device)
        self.model.train()
        self._buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        return self

    def __exit__(self, *exception: object) -> None:
        for name, buffer in self.model.named_buffers():
            buffer.copy_(self._buffers[name])

    @property
    def spent(self) -> bool:
        """Whether timing took as long as it may."""
        return time.perf_counter() - self.began > BUDGET_SECONDS

    def fits(self, choice: Choice) -> bool:
        """Tell whether the longest rows, the last batch, fit into memory, beside what an optimizer will keep there."""
        memory.forget_peak(self.device)
        return math.isfinite(self._seconds(choice, self.batches[-1:])) and memory.leaves_room(self.model, self.device)

    def fastest(self, choices: Sequence[Choice]) -> Choice:
        """Return the fastest choice: each is timed in turn ROUNDS times, since the machine may be busy meanwhile.

        Those near the fastest go on until two of their times agree, for BUDGET_SECONDS of a trial at most; those far
        from it are left out after their first time, unless they differ in threads, which whatever else runs slows
        unequally.
        """
        typical = self.batches[:-1] or self.batches
        for choice in reversed(choices):  # warms caches and kernels up, those of each
            self._seconds(choice, typical[:1])
        chosen = typical if self._seconds(choices[0], typical[:1]) < LONG else typical[:1]
        seconds: list[list[float]] = [[] for _ in choices]
        equal = len({choice.threads for choice in choices}) == 1
        left = list(range(len(choices)))
        for number in range(MOST_ROUNDS):
            for one in left:
                seconds[one].append(self._seconds(choices[one], chosen))
            if number == 0 and equal:
                left = _within(FAR, seconds, left)
            if number + 1 >= ROUNDS:
                left = _within(NEAR, seconds, left)
                if all(_agree(seconds[one]) for one in left) or self.spent:
                    break
            if len(left) == 1 < len(choices) and equal:
                break
        rows, least = sum(len(batch) for batch in chosen), [min(times) for times in seconds]
        self.timings |= {_name(c): round(rows / s, 2) for c, s in zip(choices, least, strict=True)}
        return choices[int(np.argmin(least))]

    def _seconds(self, choice: Choice, batches: list[list[Any]]) -> float:
        """Time forward and backward; infinite when the memory does not suffice."""
        apply(choice, self.model)
        size = choice.micro_batch
        cut = [self.collate(batch[i : i + size]) for batch in batches for i in range(0, len(batch), size)]
        began = time.perf_counter()
        try:
            for batch in cut:
                inputs = moved(batch, self.device)
                labels = inputs.pop("labels")
                with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=choice.bf16):
                    outputs = self.model(**inputs)
                self.loss(outputs, labels).backward()
                self.model.zero_grad()
        except torch.OutOfMemoryError:
            self.model.zero_grad()
            return math.inf
        memory.wait_for(self.device)
        return time.perf_counter() - began


def _within(share: float, seconds: Sequence[Sequence[float]], of: Sequence[int]) -> list[int]:
    """Return those of some choices whose least time is at most so many times the least of all."""
    least = min(min(seconds[one]) for one in of)
    return [one for one in of if min(seconds[one]) <= share * least]


def _agree(times: Sequence[float]) -> bool:
    """Tell whether the two least times are near each other; what does not fit into memory needs no second time."""
    first, *others = sorted(times)
    return not math.isfinite(first) or (bool(others) and others[0] <= ALIKE * first)


def reconsider(choice: Choice, rate: float, seconds: float) -> bool:
    """Forget a choice, for runs to come, whose run made `rate` examples/s for `seconds`, not what timing foresaw.

    Returns whether it did: something else kept the machine busy then or now, and it is timed anew the next time.
    """
    foreseen = choice.timings.get(_name(choice), 0.0)
    if choice.origin not in ("timed", "cache") or not choice.key or not foreseen or seconds < STEADY:
        return False
    low, high = BELIEVABLE
    if low * foreseen <= rate <= high * foreseen:
        return False
    (samples.cache_folder() / "speed" / f"{choice.key}.json").unlink(missing_ok=True)
    return True


def recorded(run: Run) -> Choice | None:
    """Return the choice that an earlier process of this run worked with."""
    found = [event for event in run.events()[0] if event["type"] == "tuned"]
    if not found:
        return None
    fields = {field.name for field in dataclasses.fields(Choice)}
    return dataclasses.replace(Choice(**{k: v for k, v in found[-1].items() if k in fields}), origin="run")


def loader_workers(config: RunConfig, task: Task) -> int:
    """Return how many processes prepare batches beside the training one."""
    asked = config.train.options.get("dataloader_num_workers")
    if asked is not None:
        return int(asked)
    if needs_worker(config.train.options) and not task.lazy:
        return 1
    if config.data.streaming and task.lazy:
        return 1  # each would read the whole stream
    # texts are prepared beforehand; pictures are decoded on the way, beside the step, which a GPU makes a short one
    most = 4 if PartialState().device.type == "cpu" else 8
    own = (psutil.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(most, max(1, own // 2)) if task.lazy else 0


def apply(choice: Choice, model: Any) -> None:
    """Give a model the attention kernel and the memory layout of a choice, and this process its threads."""
    torch.set_num_threads(choice.threads)
    if any(p.dim() == 4 for p in model.parameters()):
        model.to(memory_format=torch.channels_last if choice.channels_last else torch.contiguous_format)
    attention = choice.attention
    if attention is not None and model.config._attn_implementation != attention:
        try:
            inference.set_attention(model, attention)
        except ValueError as error:
            raise UserError(
                f"speed.attention={attention} must suit the model", " ".join(str(error).split())[:200],
                "Drop speed.attention: a kernel is then chosen by timing.",
            ) from error  # fmt: skip


def _candidates(config: RunConfig, model: Any, start: Choice) -> Iterator[Choice]:
    options = config.train.options
    precisions = [start.bf16]
    if "bf16" not in options and "fp16" not in options and native_bf16():
        precisions = [True, False]
    attentions = [config.speed.attention] if config.speed.attention else _attentions(model)
    layouts = [True, False] if any(p.dim() == 4 for p in model.parameters()) else [False]
    for bf16, attention, channels_last in itertools.product(precisions, attentions, layouts):
        if bf16 or not inference.is_half_only(attention):
            yield dataclasses.replace(start, bf16=bf16, attention=attention, channels_last=channels_last)


def _flash(model: Any) -> Iterator[str]:
    """Yield the kernels of half precision that are installed and that the architecture can take."""
    if PartialState().device.type == "cuda" and getattr(model, "_supports_flash_attn", False):
        yield from (name for name, there in FLASH.items() if there())


def _attentions(model: Any) -> list[str | None]:
    current = model.config._attn_implementation
    if current not in ("sdpa", "eager"):
        return [current]
    other = "eager" if current == "sdpa" else "sdpa"
    try:
        inference.set_attention(model, other)
    except ValueError:
        return [current]  # this architecture has the one kernel, or no attention at all
    inference.set_attention(model, current)
    return [current, other, *_flash(model)]


def _variations(config: RunConfig, model: Any, best: Choice) -> Iterator[Choice]:
    if best.threads > 1 and config.speed.threads is None:
        yield dataclasses.replace(best, threads=best.threads // 2)
    if best.micro_batch > 1 and _may_cut(config, model):
        yield _halved(best)


def _halved(choice: Choice) -> Choice:
    return dataclasses.replace(choice, micro_batch=choice.micro_batch // 2, accumulation=choice.accumulation * 2)


def _may_cut(config: RunConfig, model: Any) -> bool:
    """Tell whether the rows of an update may be cut otherwise: not against the user, nor where batch norms see it."""
    asked = ROWS_OF_AN_UPDATE & config.train.options.keys()
    return not asked and not any(isinstance(module, _BatchNorm) for module in model.modules())


def typical_batches(prepared: Prepared, size: int) -> list[list[Any]]:
    """Return batches of rows of like length from the middle of training's own batches, and last the longest."""
    if isinstance(prepared.dataset, torch.utils.data.IterableDataset):
        rows = list(itertools.islice(prepared.dataset, size * TIMED_BATCHES))
        return [rows[i : i + size] for i in range(0, len(rows), size)]
    count = len(prepared.rows)
    order = np.arange(count) if prepared.lengths is None else np.argsort(prepared.lengths, kind="stable")
    batches = []
    for share in (0.5, 0.25, 0.75, 1.0):
        first = max(0, min(count - size, round(share * count - size / 2)))
        batches.append([prepared.dataset[int(i)] for i in order[first : first + size]])
    return batches


def _name(choice: Choice) -> str:
    layout = ", channels last" if choice.channels_last else ""
    rows = f"{choice.accumulation} x {choice.micro_batch} rows"
    threads = f"{choice.threads} thread{'s' if choice.threads > 1 else ''}"
    return f"{choice.attention or 'no attention'}, {'bf16' if choice.bf16 else 'fp32'}{layout}, {rows}, {threads}"


def _key(config: RunConfig, model: Any, prepared: Prepared, start: Choice, candidates: Sequence[Choice]) -> str:
    lengths = [] if prepared.lengths is None else np.quantile(prepared.lengths, [0.25, 0.5, 0.75]).round().tolist()
    parts = [
        model.config.to_json_string(use_diff=False), config.method.model_dump(mode="json"), lengths,
        [dataclasses.asdict(choice) for choice in (*candidates, *_variations(config, model, start))],
        torch.__version__, transformers.__version__, accelerate.__version__, processor(),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def processor() -> str:
    """Return the name of the GPU that this process computes on, or else of the processor."""
    if PartialState().device.type == "cuda":
        return str(torch.cuda.get_device_name())
    return machine.processor()


def _cached(key: str) -> Choice | None:
    path = samples.cache_folder() / "speed" / f"{key}.json"
    try:
        return dataclasses.replace(Choice(**json.loads(path.read_text(encoding="utf-8"))), origin="cache")
    except (OSError, ValueError, TypeError):  # none yet, or damaged: timed again
        return None


def _remember(key: str, choice: Choice) -> None:
    folder = samples.cache_folder() / "speed"
    with contextlib.suppress(OSError):  # a place that is read-only: the next run times again
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{key}.json", json.dumps(dataclasses.asdict(choice)))
