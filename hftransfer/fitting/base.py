"""What everything that fits a model needs, and what comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hftransfer.answers.base import Answer
from hftransfer.config import RunConfig
from hftransfer.fitting.interruption import Interruption
from hftransfer.fitting.processes import is_main_process
from hftransfer.modeling.batches import Collator, collator
from hftransfer.modeling.loading import LONGEST
from hftransfer.modeling.prepared import Prepared
from hftransfer.runs import Run
from hftransfer.tasks.base import Preparation, Task

TOKENS = 32 * LONGEST  # of a batch of long texts: more rows are cut into several


@dataclass(frozen=True)
class Setup:
    """Everything a method needs to fit a model."""

    config: RunConfig
    task: Task
    preparation: Preparation
    processor: Any
    prepared: Mapping[str, Prepared]
    run: Run
    threads: int
    interruption: Interruption
    reload: Callable[[], Any]  # the base model again, unquantized
    checkpoint: Path | None = None  # to go on from
    resume: bool = False
    on_checkpoint: Callable[[Path], None] | None = None  # told of each whole checkpoint
    rows: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of each split, as they came, columns by role
    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of each split
    groups: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)  # of each row, where rows have some

    checkpoints: Path | None = None  # where checkpoints are written; none: in the run's folder for them
    trial: str | None = None  # what is being tried, of a fit that is no more than a trial

    @property
    def place(self) -> Path:
        """The folder of the checkpoints."""
        return self.run.checkpoints if self.checkpoints is None else self.checkpoints

    whole: Setup | None = None  # of which this one is a fold
    places: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # by split: its rows among all of the whole's

    @property
    def answer(self) -> Answer[Any]:
        """What is answered, with what train taught."""
        return self.preparation.answer

    @property
    def at_once(self) -> int | None:
        """Of how many items the model's outputs fit into memory, at most; None: of any number."""
        lengths = [found.lengths.max(initial=1) for found in self.prepared.values() if found.lengths is not None]
        known = int(max(lengths)) if len(lengths) == len(self.prepared) else self.preparation.max_length
        if known is None:
            return None
        limits = [self.answer.at_once(known), TOKENS // known if known > LONGEST else None]
        return min((max(1, limit) for limit in limits if limit is not None), default=None)

    @property
    def collator(self) -> Collator:
        """What joins items to batches that a model is trained on."""
        return collator(self.task, self.processor, self.preparation)

    @property
    def asking(self) -> Collator:
        """What joins items to batches that a model is asked about."""
        return collator(self.task, self.processor, self.preparation, training=False)


@dataclass(frozen=True)
class Fitted:
    """A fitted model and what fitting it took."""

    model: Any
    train_seconds: float
    examples_per_second: float
    trainable_parameters: int
    total_parameters: int
    steps: int
    best_step: int | None = None
    waiting_share: float = 0.0  # of the training time, spent waiting for data
    adapter: Path | None = None
    plain: bool = True  # whether a checkpoint that `from_pretrained` loads answers alike
    self_training: Mapping[str, Any] | None = None  # what unlabelled rows came to, as result.json has it
    held_out: Any = None  # outputs of the validation rows by models that did not see them, where the last one did
    answer: Answer[Any] | None = None  # the answer, where training taught it more than the model's weights hold
    auto: Mapping[str, Any] | None = None  # what was chosen for whoever chose nothing, as result.json has it

    @property
    def learnt(self) -> tuple[str, ...]:
        """The splits that it was fitted on: validation too, where what answers its rows is others, out of fold."""
        return ("train",) if self.held_out is None else ("train", "validation")


def phase(setup: Setup, name: str) -> None:
    if is_main_process():
        setup.run.event("phase", name=name)
