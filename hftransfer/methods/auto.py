"""auto: a probe, then fine-tuning at a measured learning rate; kept is what validation rows say is better."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hftransfer.config import MethodConfig, RunConfig, Section
from hftransfer.errors import UserError
from hftransfer.methods.base import Method

if TYPE_CHECKING:
    from hftransfer.fitting.base import Fitted, Setup
    from hftransfer.fitting.planning import Plan, Record
    from hftransfer.fitting.trials import Trial
    from hftransfer.modeling.loading import Loaded
    from hftransfer.tasks.base import Task

SPREAD = 1.0  # of the logits of a head that a probe puts in: a steeper one may diverge at a rate that suits the rest
HEAD = "probe's head"  # the trial that begins with it


class Options(Section):
    """The options of `auto`: what it may take stands in the section of that name."""

    name: str = "auto"


class Auto(Method):
    """Choose what nobody chose, say why, and keep what validation rows say is best."""

    about = "a probe, then fine-tuning at a measured learning rate; the better of both by validation rows"
    OPTIONS = Options
    learning_rate = 5e-5

    def try_options(self, config: RunConfig, task: Task, threads: int) -> None:
        """Ask TrainingArguments and Trainer, whatever the plan is going to be: what they refuse is right for none."""
        from hftransfer.fitting import arguments

        arguments.rehearse(config, task, self.learning_rate, threads)

    def apply(self, loaded: Loaded, config: MethodConfig) -> Any:
        """Return the model as it is fine-tuned, by the rule for its size."""
        from hftransfer.fitting import planning

        chosen = planning.way(loaded.model)
        return _method(chosen).apply(loaded, MethodConfig(name=chosen))

    def rehearsed(self, setup: Setup, loaded: Loaded, model: Any) -> Any | None:
        """Return the plain model of what `apply` gave."""
        from hftransfer.fitting import planning

        chosen = planning.way(loaded.model)
        return _method(chosen).rehearsed(_as(setup, chosen), loaded, model)

    def work(self, updates: int) -> int:
        """Return the updates of the fit and of four trials before it."""
        from hftransfer.fitting import trials

        return round(updates * trials.cost(updates, 4))

    def fit(self, setup: Setup, loaded: Loaded) -> Fitted:
        """Probe, plan, measure the rate, train, and return the better of probe and tuned model."""
        from hftransfer.fitting import planning

        record = planning.Record.of(setup.run)
        probe = _probe(setup, loaded) if planning.can_probe(setup, loaded) else None
        plan = planning.settled(setup, loaded, record, probe is not None)
        planning.say(setup, plan.settings)
        for sentence in _gave_way(setup, plan, self.learning_rate):
            planning.notice(setup, sentence)
        if plan.method == "probe" and probe is not None:
            record.note(setup.run, final={"method": "probe"})
            return dataclasses.replace(probe, auto=record.to_dict())
        part = _as(setup, plan.method)
        if plan.method == "few_shot":
            tuned = _method(plan.method).fit(part, loaded)
        else:
            tuned = _tuned(part, loaded, plan, record)
        best = _better(setup, plan, tuned, probe, record)
        spent = tuned.train_seconds + (0.0 if probe is None else probe.train_seconds)
        return dataclasses.replace(best, train_seconds=spent, auto=record.to_dict())


def _method(name: str) -> Method:
    from hftransfer.methods import few_shot, full, peft

    own: dict[str, Method] = {"full": full.METHOD, "few_shot": few_shot.METHOD}
    return own.get(name, peft.METHOD)


def _gave_way(setup: Setup, plan: Plan, learning_rate: float) -> list[str]:
    """Return what of Trainer's options was set to match the user's, of a plan that Trainer carries out.

    `Method.gave_way` is asked before there is a plan: a probe and pairs of rows take none of these options, and how
    often is evaluated hangs on how many updates are planned.
    """
    from hftransfer.fitting import arguments, rules

    if plan.method not in ("full", "lora"):
        return []
    own = setup.config.train.options.keys() & rules.LENGTHS
    return arguments.gave_way(setup if own else _with(setup, {"max_steps": plan.updates}), learning_rate)


def _as(setup: Setup, name: str) -> Setup:
    """Return a setup whose configuration names a method."""
    return dataclasses.replace(setup, config=setup.config.model_copy(update={"method": MethodConfig(name=name)}))


def _probe(setup: Setup, loaded: Loaded) -> Fitted | None:
    """Return the probe in a model of its own, the loaded one as it was; None where its architecture gives none."""
    import copy

    from hftransfer.fitting import planning, trials
    from hftransfer.methods import probe

    state = trials.kept(loaded.model)
    try:
        train, validation = probe.features_of(setup, loaded)
        fitted = probe.conclude(setup, loaded, train, validation, (), (), None, both=True)
    except UserError as error:
        planning.notice(setup, f"No probe: {error}")
        return None
    if fitted.model is loaded.model:
        fitted = dataclasses.replace(fitted, model=copy.deepcopy(fitted.model))
        trials.put_back(loaded.model, state)
    planning.probed(setup, fitted)
    return fitted


def _tuned(setup: Setup, loaded: Loaded, plan: Plan, record: Record) -> Fitted:
    """Fine-tune as planned: measure the rate, train, begin once more if nothing is learned, average what helps."""
    from hftransfer.fitting import planning, rules, soup, trainer, trials
    from hftransfer.fitting.guard import Guard

    began, method = time.perf_counter(), _method(plan.method)
    model = method.apply(loaded, setup.config.method)
    start = trials.kept(model)
    options, rate = rules.of_steps(setup.config.train.options, plan.updates), plan.rate
    best: Trial | None = None
    if plan.trials:
        best = _measured(setup, loaded, model, start, plan, record)
        rate, options = best.rate, options | trials.Shape.of(plan.updates).options(plan.updates)
    spent = time.perf_counter() - began
    if _due(setup, record):

        def again(step: int) -> None:
            record.note(setup.run, again=watch.remedy(rate, step))
            planning.notice(setup, record.again["message"])

        watch = Guard(setup, again)
        part = _with(setup, {**options, "learning_rate": rate})
        checkpoint = setup.checkpoint
        if checkpoint is None and best is not None:
            checkpoint = trials.go_on_from(part, best)
        if checkpoint is None:
            trials.put_back(model, start)
        callbacks, groups = [watch.callback()] if plan.guarded else [], _groups(setup, plan, model)
        part = dataclasses.replace(part, checkpoint=checkpoint)
        fitted = trainer.descend(part, model, rate, groups=groups, callbacks=callbacks)
        spent += fitted.train_seconds
    if record.again:
        fitted, part = _once_more(setup, model, start, plan, rate, options, record)
        spent += fitted.train_seconds
    since = record.again["step"] if record.again.get("goes_on") else 0
    record.note(setup.run, soup=soup.stir(part, model, since))
    shutil.rmtree(setup.run.folder / trials.FOLDER, ignore_errors=True)
    return method.conclude(setup, dataclasses.replace(fitted, train_seconds=spent))


def _due(setup: Setup, record: Record) -> bool:
    """Tell whether the fit is still as it was before the guard changed something, if it did."""
    if not record.again:
        return True
    reached = 0 if setup.checkpoint is None else int(setup.checkpoint.name.rpartition("-")[2])
    return bool(record.again.get("goes_on")) and reached < record.again["step"]  # stopped before that was on disk


def _once_more(
    setup: Setup, model: Any, start: Any, plan: Plan, rate: float, options: Mapping[str, Any], record: Record
) -> tuple[Fitted, Setup]:
    """Train on with what the guard changed, or from the start; then its checkpoints lie in a folder of their own."""
    from hftransfer.fitting import rules, trainer, trials
    from hftransfer.fitting.guard import Afresh
    from hftransfer.fitting.recorder import latest

    goes_on = record.again.get("goes_on", False)
    if not goes_on:
        options = rules.of_steps(setup.config.train.options, plan.updates)
    part = _with(setup, {**options, "learning_rate": rate, **record.again["options"]})
    part = dataclasses.replace(part, checkpoints=None if goes_on else setup.run.checkpoints / "again")
    checkpoint = latest(part.place) if setup.resume or goes_on else None
    if checkpoint is None:
        trials.put_back(model, start)
    part, groups = dataclasses.replace(part, checkpoint=checkpoint), _groups(setup, plan, model)
    afresh = [Afresh(record.again["step"])] if goes_on else []
    fitted = trainer.descend(part, model, rate, groups=groups, callbacks=afresh)
    return fitted, part


def _measured(setup: Setup, loaded: Loaded, model: Any, start: Any, plan: Plan, record: Record) -> Trial:
    """Return the best of the trials; those that an earlier process ended are not tried again."""
    from hftransfer.fitting import planning, trials
    from hftransfer.fitting.base import phase
    from hftransfer.fitting.processes import agreed

    shape, folder = trials.Shape.of(plan.updates), setup.run.folder / trials.FOLDER
    phase(setup, "trials")
    known = {one["name"]: trials.Trial.read(one, folder, shape) for one in record.trials}
    if record.goes_on:
        return known[record.goes_on]

    def tried(name: str, rate: float, begins: Any) -> Trial:
        if name not in known:
            trials.put_back(model, begins)
            known[name] = trials.attempt(setup, model, name, rate, shape, _groups(setup, plan, model))
            record.note(setup.run, trials=[one.to_dict() for one in known.values()])
            planning.tried(setup, known[name])
        return known[name]

    def leading() -> Trial:  # by what lies on the main process's disk
        return known[agreed(lambda: trials.chosen(several, plan.rate).name)]

    several = [tried(f"{rate:g}", rate, start) for rate in trials.rates(plan.rate)]
    best = leading()
    if (further := trials.beyond(best.rate, plan.rate)) is not None:
        several.append(tried(f"{further:g}", further, start))
        best = leading()
    if plan.method == "full" and setup.answer.linear is not None and planning.can_probe(setup, loaded):
        trials.put_back(model, start)
        try:
            _head_of_probe(setup, loaded)
        except UserError as error:
            planning.notice(setup, f"No trial with a probe's head: {error}")
        else:
            best = min(best, tried(HEAD, best.rate, trials.kept(model)), key=lambda one: one.loss)
    record.note(setup.run, goes_on=best.name)
    lowest = min(several, key=lambda one: one.loss)
    if lowest.rate > best.rate:
        planning.notice(
            setup,
            f"{lowest.name} was better than {best.rate:g} by less than validation rows can tell, and short trials "
            "flatter high rates: the lower one goes on.",
        )
    return best


def _head_of_probe(setup: Setup, loaded: Loaded) -> None:
    """Put a probe's head into the model, its logits no more spread than a head that is going to move may have."""
    from hftransfer.frozen import pooling_heads
    from hftransfer.methods import probe

    own = pooling_heads.own_form(loaded.model)
    head, shown = probe.own_head(setup, loaded)
    scale = min(1.0, SPREAD / max(float(head.logits(shown).std()), 1e-9))
    if setup.answer.linear is not None and setup.answer.linear.numeric:
        scale = 1.0  # numbers are what they are
    probe.built(setup, own, dataclasses.replace(head, weight=head.weight * scale, bias=head.bias * scale))


def _groups(setup: Setup, plan: Plan, model: Any) -> list[dict[str, Any]] | None:
    """Return the optimizer's groups as `full` has them by itself; None for adapters, and where all learns alike."""
    from hftransfer.methods import full

    return full.groups_of(setup, model, full.Options()) if plan.method == "full" else None


def _with(setup: Setup, options: Mapping[str, Any]) -> Setup:
    from hftransfer.fitting import trials

    return dataclasses.replace(setup, config=trials.with_options(setup.config, options))


def _better(setup: Setup, plan: Plan, tuned: Fitted, probe: Fitted | None, record: Record) -> Fitted:
    """Return what validates better, and write down by how much."""
    from hftransfer.fitting import planning, trainer, trials

    ours = trials.judged(setup, tuned.model) if tuned.held_out is None else trials.of_outputs(setup, tuned.held_out)
    looks = planning.looks(setup, record)
    if probe is None:
        record.note(setup.run, looks=looks, final={"method": plan.method, "judged_by": ours.by, "loss": ours.loss})
        return tuned
    held_out = probe.held_out
    if held_out is None:
        held_out = trainer.predict(setup, probe.model, setup.prepared["validation"], judging=True)
    theirs = trials.of_outputs(setup, held_out)
    better = ours.loss <= theirs.loss
    near = trials.by_score(ours.found, theirs.found, setup.config.seed)
    if near is not None:
        better = near.first_is_better
    kept, left = (plan.method, "probe") if better else ("probe", plan.method)
    loss, other = (ours.loss, theirs.loss) if better else (theirs.loss, ours.loss)
    final: dict[str, Any] = {
        "method": kept, "judged_by": ours.by or theirs.by, "loss": loss, "instead_of": left, "other": other,
    }  # fmt: skip
    told = [f"Kept: {kept}. Its {theirs.by} on validation rows is {loss:.4f}, that of {left} {other:.4f}."]
    if near is not None:
        value, beside = (near.first, near.second) if better else (near.second, near.first)
        final |= {"decided_by": near.metric, "score": value, "other_score": beside}
        told.append(f"These are too near to tell apart: {near.metric} decided, {value:.4f} against {beside:.4f}.")
    record.note(setup.run, looks=looks, final=final)
    for sentence in told:
        planning.notice(setup, sentence)
    return tuned if better else probe


METHOD = Auto()
