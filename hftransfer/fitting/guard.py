"""A look at a fit that is under way: one that has learned nothing begins once more, with one thing changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hftransfer.evaluation import usefulness
from hftransfer.evaluation.predictions import Predictions
from hftransfer.fitting import trainer
from hftransfer.fitting.base import Setup

AFTER = 0.4  # of the updates
UNEVEN = 3.0  # times as many rows in the largest class as in the smallest: then weights help, else another rate
RESAMPLES = 500


class Guard:
    """What is found at the first evaluation after a share of the updates; None where all is well."""

    def __init__(self, setup: Setup, tell: Callable[[int], None] = lambda step: None) -> None:
        """`tell` is given the step at which something was found, before that step's checkpoint is written."""
        self.setup, self.tell = setup, tell
        self.found: str | None = None

    def callback(self) -> TrainerCallback:
        """Return what a Trainer calls: it looks once, and stops a fit that has learned nothing."""
        guard = self

        class Look(TrainerCallback):
            def on_evaluate(
                self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
            ) -> None:
                due, step = AFTER * state.max_steps, state.global_step
                before = [log["step"] for log in state.log_history if "eval_loss" in log and log["step"] < step]
                if step >= due > max(before, default=0):  # by what a checkpoint holds: a resume agrees
                    guard.found = guard.look(kwargs["model"])
                    if guard.found is not None:
                        control.should_training_stop = True
                        guard.tell(step)

        return Look()

    def look(self, model: Any) -> str | None:
        """Return what is wrong with a model's answers to validation rows: at the baseline, or without a class."""
        setup = self.setup
        was_training = model.training
        outputs = trainer.predict(setup, model, setup.prepared["validation"], judging=True)
        model.train(was_training)
        answer = setup.answer
        truth: Any = setup.prepared["validation"].truth
        ids = [str(i) for i in range(len(truth))]
        found = Predictions(answer, ids, truth, outputs, setup.groups.get("validation"))
        if never := answer.never(truth, outputs):
            return f"it never answers {', '.join(f'`{name}`' for name, _ in never[:3])}"
        if answer.judged_by != answer.main_metric and answer.generates:
            return None  # whole answers cost too much to be asked for here
        trivial = Predictions(answer, ids, truth, answer.baseline(truth, None).outputs, found.groups)
        about = {"name": "trivial answer", "about": "is known beforehand"}
        verdict = usefulness.judged(found, trivial, about, 0.95, RESAMPLES, setup.config.seed)
        return f"its {answer.main_metric} is not above the trivial answer's" if verdict["useless"] else None

    def remedy(self, rate: float, step: int) -> dict[str, Any]:
        """Return how training begins once more: `options` of train, `weights`, and a sentence."""
        counts = [count for count in self.setup.answer.counts if count]
        uneven = bool(counts) and max(counts) >= UNEVEN * min(counts)
        weigh = uneven and self.setup.config.train.class_weights is None and self.setup.answer.makes_head
        what = "with rare classes weighing more" if weigh else f"at half the rate, {rate / 2:g}"
        return {
            "options": {"class_weights": "balanced"} if weigh else {"learning_rate": rate / 2},
            "message": f"After {step} updates {self.found}: training begins once more, {what}.",
            "step": step,
        }
