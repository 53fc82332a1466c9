"""Trackers by their own names (train.report_to): they see a fit, never end it, and publish nothing by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from hftransfer.config import RunConfig
from hftransfer.fitting.arguments import refused
from hftransfer.runs import Run

EVENTS = tuple(name for name in vars(TrainerCallback) if name.startswith("on_"))


class Guarded(TrainerCallback):
    """A tracker that is left out from its first error on."""

    def __init__(self, tracker: TrainerCallback, name: str, run: Run) -> None:
        self.tracker, self.name, self.run, self.broken = tracker, name, run, False

    def call(self, event: str, *args: Any, **kwargs: Any) -> None:
        """Hand an event on; what is raised becomes a warning of the run."""
        if self.broken:
            return
        try:
            getattr(self.tracker, event)(*args, **kwargs)
        except Exception as error:
            self.broken = True
            words = " ".join(str(error).split())[:300] or type(error).__name__
            self.run.event("warning", message=f"{self.name} failed, and is told nothing any more: {words}")


def _handing_on(event: str) -> Callable[..., None]:
    def hand_on(self: Guarded, *args: Any, **kwargs: Any) -> None:
        self.call(event, *args, **kwargs)

    return hand_on


for _event in EVENTS:
    setattr(Guarded, _event, _handing_on(_event))


def trackers(config: RunConfig, arguments: TrainingArguments, run: Run) -> list[TrainerCallback]:
    """Return the trackers that a configuration names, and take them out of Trainer's own hands.

    UserError for one that is unknown or not installed: that is said before anything is trained.
    """
    told = arguments.report_to or []
    names = [told] if isinstance(told, str) else list(told)
    arguments.report_to = []
    if "run_name" not in config.train.options:
        arguments.run_name = run.name
    if "trackio_static_space_id" not in config.train.options:
        arguments.trackio_static_space_id = False  # else it makes a public Space when training ends
    with refused(config):
        made = [kind() for kind in get_reporting_integration_callbacks(names)]
    return [Guarded(tracker, name, run) for tracker, name in zip(made, names, strict=True)]
