"""What follows from the options that a user set: our defaults give way to them, and each that gave way is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LOOKS = 10  # evaluations of a run that evaluates by steps, unless eval_steps or save_steps says otherwise
STRATEGIES = ("eval_strategy", "eval_steps", "save_strategy", "save_steps")
NEED_WORKERS = ("dataloader_prefetch_factor", "dataloader_persistent_workers", "dataloader_multiprocessing_context")


def matched(
    options: Mapping[str, Any], defaults: Mapping[str, Any], total: int, validated: bool
) -> tuple[dict[str, Any], list[str]]:
    """Return the defaults that go with a user's `options`, in place of `defaults`, and a sentence for each of note.

    `total` are the updates of the whole fit; `validated`: whether there are validation rows.
    """
    given = {name: value for name, value in options.items() if value is not None}
    found, said = _strategies(given, total, validated)
    if found["load_best_model_at_end"] or found["eval_strategy"] != "no":
        found["metric_for_best_model"] = defaults["metric_for_best_model"]
    if given.get("prediction_loss_only") and found.get("metric_for_best_model"):
        found["metric_for_best_model"] = "loss"
        if "metric_for_best_model" not in given:
            said.append("train.prediction_loss_only measures the loss alone: the best checkpoint is chosen by it")
    if {"max_steps", "num_train_epochs"} <= given.keys() and given["max_steps"] > 0:
        said.append("train.max_steps decides how long the run trains: train.num_train_epochs is not used")
    if given.get("save_only_model"):
        said.append("train.save_only_model: a resume begins with the weights alone, and ends with others")
    if needs_worker(given):
        said.append(f"{_names(given, NEED_WORKERS)}: this is about processes that load rows, so one is started")
    return {**defaults, **found}, said


def needs_worker(options: Mapping[str, Any]) -> bool:
    """Tell whether options are about processes that load rows, while nobody said how many there are."""
    return "dataloader_num_workers" not in options and any(options.get(name) for name in NEED_WORKERS)


def _strategies(given: Mapping[str, Any], total: int, validated: bool) -> tuple[dict[str, Any], list[str]]:
    """Return when is evaluated and saved, and whether the best checkpoint is taken at the end."""
    asked = {
        name: given.get(f"{name}_strategy", "steps" if f"{name}_steps" in given else None) for name in ("eval", "save")
    }
    evaluate, save = asked["eval"], asked["save"]
    if evaluate is None:
        evaluate = save if save in ("steps", "epoch") else "epoch"
    if not validated:
        evaluate = given.get("eval_strategy", "no")
    if save is None:
        save = evaluate if evaluate != "no" else "epoch"
    every = max(1, total // LOOKS)
    found: dict[str, Any] = {"eval_strategy": evaluate, "save_strategy": save}
    if evaluate == "steps":
        found["eval_steps"] = given.get("eval_steps", given.get("save_steps", every) if save == "steps" else every)
    if save == "steps":
        found["save_steps"] = given.get("save_steps", found.get("eval_steps", every))
    best = evaluate != "no" and _can_take_best(evaluate, save, found)
    found["load_best_model_at_end"] = best
    said: list[str] = []
    chosen = {
        what: found[f"{name}_steps"]
        for name, what in (("eval", "validation"), ("save", "checkpoints"))
        if found[f"{name}_strategy"] == "steps" and not {f"{name}_strategy", f"{name}_steps"} <= given.keys()
    }
    if chosen:
        each = ", ".join(f"{what} every {_steps(steps)}" for what, steps in chosen.items())
        if len(set(chosen.values())) < len(chosen):
            each = f"{' and '.join(chosen)} every {_steps(next(iter(chosen.values())))}"
        said.append(each)
    if evaluate != "no" and not best and "load_best_model_at_end" not in given:
        reason = "there are no checkpoints" if save == "no" else "checkpoints are not written where validation is"
        said.append(f"{reason}, so the last model is kept, not the best one")
    return found, [f"{_names(given, STRATEGIES)}: {'; '.join(said)}"] if said else []


def _can_take_best(evaluate: str, save: str, steps: Mapping[str, Any]) -> bool:
    """Tell whether every checkpoint is written where one was just validated, as Trainer asks for."""
    if save == "best" or evaluate != save:
        return save == "best"
    if evaluate != "steps":
        return True
    often, seldom = float(steps["eval_steps"]), float(steps["save_steps"])
    if (often < 1) != (seldom < 1):
        return False  # a share of the steps and a number of them
    return round(seldom * 1_000_000) % round(often * 1_000_000) == 0


def _steps(every: float) -> str:
    return f"{every:.0%} of the steps" if every < 1 else "step" if every == 1 else f"{every} steps"


def _names(given: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return ", ".join(f"train.{name}={given[name]}" for name in names if name in given)
