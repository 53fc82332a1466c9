"""A look at a fit under way: one that learned nothing begins anew, one that leaves a rare class out weighs it more."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hftransfer.errors import UserError
from hftransfer.evaluation import usefulness
from hftransfer.evaluation.predictions import Predictions
from hftransfer.fitting import trainer
from hftransfer.fitting.base import Setup

AFTER = 0.4  # of the updates
LATEST = 0.6  # of the updates, after which a fit begins once more rather than go on with other weights
UNEVEN = 3.0  # times as many rows in the largest class as in the smallest: then weights help, else another rate
RESAMPLES = 500


class Afresh(TrainerCallback):
    """From an update on, the best checkpoint is one of those that follow: what came before learned otherwise."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == self.step:
            state.best_metric = state.best_global_step = state.best_model_checkpoint = None


class Guard:
    """What is found at the first evaluation after a share of the updates; None where all is well."""

    def __init__(self, setup: Setup, tell: Callable[[int], None] = lambda step: None) -> None:
        """`tell` is given the step at which something was found, before that step's checkpoint is written."""
        self.setup, self.tell = setup, tell
        self.found: str | None = None
        self.learns = False  # whether the fit is on its way all the same, and only leaves a class out

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
                        # what goes on from here must be saved, and have updates left to learn in
                        room = step <= LATEST * state.max_steps and args.save_strategy != "best"
                        guard.learns = guard.learns and room
                        control.should_save |= guard.learns
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
        never = answer.never(truth, outputs)
        if answer.judged_by != answer.main_metric and answer.generates:
            useless = False  # whole answers cost too much to be asked for here
        else:
            trivial = Predictions(answer, ids, truth, answer.baseline(truth, None).outputs, found.groups)
            about = {"name": "trivial answer", "about": "is known beforehand"}
            useless = usefulness.judged(found, trivial, about, 0.95, RESAMPLES, setup.config.seed)["useless"]
        self.learns = not useless
        if never:
            return f"it never answers {', '.join(f'`{name}`' for name, _ in never[:3])}"
        return f"its {answer.main_metric} is not above the trivial answer's" if useless else None

    def _can_weigh(self) -> bool:
        """Tell whether the classes of these answers can weigh more or less."""
        answer = self.setup.answer
        try:
            answer.loss(answer.class_weights("balanced", len(self.setup.prepared["train"].rows)))
        except UserError:
            return False
        return bool(answer.makes_head)

    def remedy(self, rate: float, step: int) -> dict[str, Any]:
        """Return how training goes on, or begins once more: `options` of train, and a sentence.

        A fit that learns, and leaves out a rare class, goes on from where it is (`goes_on`): all that it learned would
        be learned again, and heavy weights of rare classes cost it some of the others.
        """
        answer = self.setup.answer
        counts = [count for count in answer.counts if count]
        uneven = bool(counts) and max(counts) >= UNEVEN * min(counts)
        weigh = uneven and self.setup.config.train.class_weights is None and self._can_weigh()
        if weigh and self.learns:
            weights = {
                name: round(math.sqrt(max(counts) / count), 3)
                for name, count in zip(answer.names, answer.counts, strict=True)
                if count
            }
            return {
                "options": {"class_weights": weights},
                "message": f"After {step} updates {self.found}: from there on rare classes weigh more.",
                "step": step,
                "goes_on": True,
            }
        what = "with rare classes weighing more" if weigh else f"at half the rate, {rate / 2:g}"
        return {
            "options": {"class_weights": "balanced"} if weigh else {"learning_rate": rate / 2},
            "message": f"After {step} updates {self.found}: training begins once more, {what}.",
            "step": step,
        }
