"""fuse: make one model of finished runs by mixing their weights, how much of each chosen on validation rows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from hftransfer.config import DataConfig, FrozenMap, MethodConfig, Section
from hftransfer.errors import UserError
from hftransfer.methods.base import Method
from hftransfer.runs import Run, write_text

if TYPE_CHECKING:
    import torch

    from hftransfer.answers.base import Answer
    from hftransfer.fitting.base import Fitted, Setup
    from hftransfer.modeling.loading import Loaded
    from hftransfer.modeling.prepared import Prepared

    Weights = dict[str, torch.Tensor]
from hftransfer.methods._kin import PARTS, require_alike, require_fit, seconds_of, told_apart, unfit

FILE = "fusion.json"  # in the run's folder: what was tried and chosen
How = Literal["interpolate", "greedy", "uniform", "task_arithmetic", "ties", "ensemble"]


class Options(Section):
    """The options of `fuse`."""

    name: str = "fuse"
    runs: Annotated[tuple[str, ...], Field(min_length=1)]  # folders of finished runs on the same rows
    how: How = "interpolate"  # one run: between the pretrained weights and its own; two: between theirs
    steps: Annotated[int, Field(ge=1, le=100)] = 10  # shares that are tried: 0, 1/steps, ... 1
    density: Annotated[float, Field(gt=0, le=1)] = 0.3  # ties: share of each adapter's changes that is kept
    second: str | None = None  # another data set whose score counts as much as the target's when a share is chosen
    second_columns: FrozenMap[str] = Field(default_factory=dict)


@dataclass(frozen=True)
class Tried:
    """One mixture: what it is made of, and its scores on validation rows of the target and of the second data set."""

    made_of: Mapping[str, Any]
    score: float
    loss: float | None
    second: float | None = None

    def rank(self, higher: bool) -> tuple[float, float]:
        """Return what mixtures are ordered by: the mean score, then the loss of the target."""
        scores = [self.score] if self.second is None else [self.score, self.second]
        mean = sum(scores) / len(scores)
        return (mean if higher else -mean, -(self.loss or 0.0))


@dataclass
class Judge:
    """Scores mixtures on validation rows and remembers them."""

    setup: Setup
    second: Any = None  # prepared validation rows of the second data set
    tried: list[Tried] = field(default_factory=list)

    def score(self, model: Any, **made_of: Any) -> Tried:
        """Measure a model on the validation rows."""
        value, loss = self._measure(model, self.setup.prepared["validation"])
        second = None if self.second is None else self._measure(model, self.second)[0]
        self.tried.append(Tried(made_of, value, loss, second))
        return self.tried[-1]

    def _measure(self, model: Any, prepared: Prepared) -> tuple[float, float | None]:
        from hftransfer.evaluation.predictions import Predictions
        from hftransfer.evaluation.scoring import measure_point
        from hftransfer.fitting import trainer

        outputs = trainer.predict(self.setup, model, prepared, judging=True)
        found = Predictions(self.answer, [str(i) for i in range(len(outputs))], prepared.truth, outputs)
        names = [self.answer.judged_by, *(["log_loss"] if "log_loss" in self.answer.metrics else [])]
        values = measure_point(found, names)
        worst = float("-inf") if self.higher else float("inf")
        return values.get(self.answer.judged_by, worst), values.get("log_loss")

    def best(self, among: Sequence[Tried] | None = None) -> Tried:
        """Return the best mixture so far, the first of equal ones."""
        return max(self.tried if among is None else among, key=lambda one: one.rank(self.higher))

    @property
    def higher(self) -> bool:
        """Whether a higher score is better."""
        return self.answer.metrics[self.answer.judged_by].greater_is_better

    @property
    def answer(self) -> Answer[Any]:
        """What the rows are answered with."""
        return self.setup.answer


class Fuse(Method):
    """Mix the weights of finished runs; nothing is trained."""

    about = "mix the weights of finished runs, or of one run and its base, by shares chosen on validation rows"
    OPTIONS = Options
    learning_rate = 0.0
    inputs = ("runs", "second")
    crosses = False  # its runs have seen the rows

    def apply(self, loaded: Loaded, config: MethodConfig) -> Any:
        """Return the base."""
        return loaded.model

    def fit(self, setup: Setup, loaded: Loaded) -> Fitted:
        """Try the mixtures on validation rows and return the best of them as a plain model."""
        from hftransfer.fitting.base import Fitted, phase
        from hftransfer.fitting.processes import is_main_process, wait_for_everyone
        from hftransfer.modeling.parts import count_parameters

        began = time.perf_counter()
        options = Options.model_validate(setup.config.method.model_dump())
        if options.how == "ensemble":
            raise UserError(
                "method.how=ensemble mixes answers, not weights, so no one model comes of it",
                "it was asked of train", "Run: hftransfer fuse runs/A runs/B --how ensemble",
            )  # fmt: skip
        phase(setup, "fusing")
        runs = [Run(Path(folder)) for folder in options.runs]
        wait_for_everyone()  # the main process has written the event that is read here
        rows = [event["fingerprint"] for event in setup.run.events()[0] if event["type"] == "data"][-1]
        require_fit(runs, setup.config.task, setup.answer.names, rows)
        judge = Judge(setup, second_rows(setup, options))
        if options.how in ("task_arithmetic", "ties"):
            model = adapters(setup, runs, options, judge)
        elif options.how == "interpolate":
            model = interpolated(setup, loaded, runs, options, judge)
        else:
            model = soup(setup, runs, options.how, judge)
        best, seconds = judge.best(), time.perf_counter() - began
        main = setup.answer.judged_by
        note = {
            "how": options.how,
            "runs": told_apart(runs),
            "metric": main,
            "chosen": dict(best.made_of),
            "tried": [
                {**one.made_of, "validation": one.score, "validation_loss": one.loss, "second": one.second}
                for one in judge.tried
            ],
            "second": options.second,
            PARTS: sum(seconds_of(run.result()["cost"]) or 0.0 for run in runs),
        }
        if is_main_process():
            write_text(setup.run.folder / FILE, json.dumps(note, indent=1))
            setup.run.event("fused", how=options.how, chosen=note["chosen"], metric=main, value=best.score)
        total = count_parameters(model)[1]
        return Fitted(model, seconds, 0.0, 0, total, 0)


def second_rows(setup: Setup, options: Options) -> Any:
    """Return the prepared validation rows of the second data set; None without one."""
    if options.second is None:
        return None
    from hftransfer import data
    from hftransfer.modeling.prepared import prepare

    asked = setup.task.said(setup.config.data)  # as the first data set's rows are: which language, how much at once
    config = DataConfig(source=options.second, columns=options.second_columns, **asked)
    try:
        found = data.load(config, setup.task, setup.config.seed, setup.run.folder / "second")
    except UserError as error:  # in the words of the first data set's options
        wanted, action = (
            said.replace("data.source", "method.second").replace("data.columns", "method.second_columns")
            for said in (error.wanted, error.action)
        )
        raise UserError(wanted, error.found, action) from error
    if found.answer.names != setup.answer.names:
        raise UserError(
            f"method.second needs the labels {', '.join(setup.answer.names)}",
            f"{options.second} has {', '.join(found.answer.names)}", "Choose another data set.",
        )  # fmt: skip
    preparation = replace(setup.preparation, config=config)
    return prepare(setup.task, found.splits["validation"], setup.processor, preparation, training=False)


def load(setup: Setup, run: Run) -> Any:
    """Return a run's model in float32."""
    from hftransfer.modeling import loading

    return loading.load_saved(run.artifact, setup.task)


def mix(one: Weights, other: Weights, share: float) -> Weights:
    """Return weights between two models: `share` of the way from `one` to `other`; whole numbers are the first's."""
    import torch

    if share in (0.0, 1.0):  # not within rounding of an end, but the end
        return {name: (other if share else one)[name].clone() for name in one}
    return {
        name: torch.lerp(value, other[name], share) if value.is_floating_point() else value.clone()
        for name, value in one.items()
    }


def mean(models: Sequence[Weights]) -> Weights:
    """Return the plain mean of several models' weights; whole numbers are the first's."""
    total = {name: value.clone() for name, value in models[0].items()}
    for weights in models[1:]:
        for name, value in total.items():
            if value.is_floating_point():
                value += weights[name]
    return {name: value / len(models) if value.is_floating_point() else value for name, value in total.items()}


def interpolated(setup: Setup, loaded: Loaded, runs: Sequence[Run], options: Options, judge: Judge) -> Any:
    """Return the best model between the base and a run's, or between two runs' (WiSE-FT, Wortsman et al. 2022).

    A base without a head of its own has the run's: only the backbone is interpolated then.
    """
    if len(runs) > 2:
        raise UserError("method.how=interpolate takes one run or two", f"found {len(runs)}", "Use how=greedy.")
    model = load(setup, runs[-1])
    end = {name: value.clone() for name, value in model.state_dict().items()}
    if len(runs) == 2:
        first = load(setup, runs[0])
        require_alike(runs[1], model, first, runs[0].name)
        start = first.state_dict()
    else:
        require_alike(runs[0], model, loaded.model, "the base")
        start = dict(loaded.model.state_dict())
        fresh = tuple(f"{name}." for name in loaded.fresh)
        start |= {name: value for name, value in end.items() if fresh and name.startswith(fresh)}
    for step in range(options.steps + 1):
        share = step / options.steps
        model.load_state_dict(mix(start, end, share))
        judge.score(model, alpha=share)
    model.load_state_dict(mix(start, end, judge.best().made_of["alpha"]))
    return model


def soup(setup: Setup, runs: Sequence[Run], how: str, judge: Judge) -> Any:
    """Return the mean of all runs' weights, or of those that help (model soups, Wortsman et al. 2022, recipe 1)."""
    model, names = load(setup, runs[0]), told_apart(runs)
    weights: list[Weights] = []
    for run in runs:
        other = load(setup, run)
        require_alike(run, other, model, runs[0].name)
        weights.append(other.state_dict())
    if how == "uniform":
        judge.tried.clear()
        model.load_state_dict(mean(weights))
        judge.score(model, runs=names)
        return model
    alone = []
    for name, state in zip(names, weights, strict=True):
        model.load_state_dict(state)
        alone.append(judge.score(model, runs=[name]))
    order = sorted(range(len(runs)), key=lambda i: alone[i].rank(judge.higher), reverse=True)
    chosen, best = [order[0]], alone[order[0]]
    for i in order[1:]:
        model.load_state_dict(mean([weights[j] for j in (*chosen, i)]))
        tried = judge.score(model, runs=[names[j] for j in (*chosen, i)])
        if tried.rank(judge.higher) >= best.rank(judge.higher):
            chosen, best = [*chosen, i], tried
    model.load_state_dict(mean([weights[j] for j in chosen]))
    judge.tried.sort(key=lambda one: one is not best)  # the first of equal ones is what the weights are
    return model


def adapters(setup: Setup, runs: Sequence[Run], options: Options, judge: Judge) -> Any:
    """Return the base with the runs' adapters added up, each by a share, through peft's own add_weighted_adapter.

    task_arithmetic adds the changes themselves (Ilharco et al. 2023); ties keeps the largest of each and those whose
    sign most agree on (Yadav et al. 2023). Modules that were trained whole, such as the head, are averaged.
    """
    from peft import PeftConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict

    from hftransfer.methods.peft import merged

    settings = []
    for run in runs:
        folder = run.artifact / "adapter"
        if not (folder / "adapter_config.json").is_file():
            raise UserError(
                f"method.how={options.how} needs runs of a peft method", f"{run.name} has no adapter",
                "Use how=greedy or how=uniform for whole models.",
            )  # fmt: skip
        settings.append(PeftConfig.from_pretrained(str(folder)))
        if run.result()["model"] != setup.config.model:
            raise unfit(run, f"its adapter is for {run.result()['model']}, not for {setup.config.model}")
    base = setup.reload()
    base.name_or_path = ""  # by this name peft would look for the base on the Hub
    trained = sorted({name for config in settings for name in config.modules_to_save or ()})
    states = [load(setup, run).state_dict() for run in runs]
    averaged = mean(states)
    whole = {key: value for key, value in averaged.items() if _inside(key, trained)}
    base.load_state_dict({**base.state_dict(), **whole})
    names = [f"run{i}" for i in range(len(runs))]
    model: Any = None
    for name, run, config in zip(names, runs, settings, strict=True):
        config.modules_to_save = None  # put in above: peft cannot add up modules that were trained whole
        if model is None:
            model = get_peft_model(base, config, adapter_name=name)
        else:
            model.add_adapter(name, config)
        changes = load_peft_weights(str(run.artifact / "adapter"), device="cpu")
        added = {key: value for key, value in changes.items() if not _inside(key, trained)}
        set_peft_model_state_dict(model, added, adapter_name=name)
    for share in _shares(options.steps):
        _add(model, names, share, options)
        judge.score(model, share=share)
        model.delete_adapter("fused")
    best = judge.best().made_of["share"]
    _add(model, names, best, options)
    for name in names:
        model.delete_adapter(name)
    return merged(model)


def _inside(key: str, modules: Sequence[str]) -> bool:
    return any(f".{name}." in f".{key}" for name in modules)


def _shares(steps: int) -> Iterator[float]:
    yield from (step / steps for step in range(1, steps + 1))


def _add(model: Any, names: Sequence[str], share: float, options: Options) -> None:
    kinds = {"task_arithmetic": "cat", "ties": "ties_svd"}  # both add up the changes, not their two factors apart
    ranks = [getattr(model.peft_config[name], "r", 0) for name in names]
    extra = {"svd_rank": sum(ranks), "density": options.density} if options.how == "ties" else {}
    try:
        model.add_weighted_adapter(
            list(names), [share] * len(names), "fused", combination_type=kinds[options.how], **extra
        )
    except (ValueError, AttributeError, TypeError, NotImplementedError) as error:
        raise UserError(
            f"method.how={options.how} needs adapters that peft can add up",
            " ".join(str(error).split())[:300], "Use runs of method.name=lora with the same target modules.",
        ) from error  # fmt: skip
    model.set_adapter("fused")


METHOD = Fuse()
