"""fuse: make one model of finished runs by mixing their weights, how much of each chosen on validation rows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from hftransfer.config import DataConfig, FrozenMap, MethodConfig, Section
from hftransfer.errors import UserError
from hftransfer.methods.base import Method
from hftransfer.runs import Run, called, read_json, require_artifact, write_text

if TYPE_CHECKING:
    import torch

    from hftransfer.fitting import Fitted, Setup
    from hftransfer.modeling import Loaded

    Weights = dict[str, torch.Tensor]

PARTS = "seconds_of_its_runs"  # in FILE and in a result's cost
FILE = "fusion.json"  # in the run's folder: what was tried and chosen
How = Literal["interpolate", "greedy", "uniform", "task_arithmetic", "ties", "ensemble"]
# what a model's config says beside how it computes
BESIDE = {
    "_name_or_path", "name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "problem_type",
    "id2label", "label2id", "num_labels", "pad_token_id", "_attn_implementation", "return_dict", "use_cache",
}  # fmt: skip


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

    def _measure(self, model: Any, prepared: Any) -> tuple[float, float | None]:
        from hftransfer import evaluation, fitting

        truth, logits = fitting.predict(self.setup, model, prepared)
        found = fitting.predictions(self.setup.labels, truth, logits)
        main = evaluation.main_metric(self.setup.labels)
        names = [main, *(["log_loss"] if self.setup.labels.kind == "single_label" else [])]
        values = evaluation.measure_point(found, names)
        return values.get(main, float("-inf") if self.higher else float("inf")), values.get("log_loss")

    def best(self, among: Sequence[Tried] | None = None) -> Tried:
        """Return the best mixture so far, the first of equal ones."""
        return max(self.tried if among is None else among, key=lambda one: one.rank(self.higher))

    @property
    def higher(self) -> bool:
        """Whether a higher score is better."""
        from hftransfer import evaluation

        return evaluation.greater_is_better(evaluation.main_metric(self.setup.labels))


class Fuse(Method):
    """Mix the weights of finished runs; nothing is trained."""

    about = "mix the weights of finished runs, or of one run and its base, by shares chosen on validation rows"
    OPTIONS = Options
    learning_rate = 0.0

    def apply(self, loaded: Loaded, config: MethodConfig) -> Any:
        """Return the base."""
        return loaded.model

    def fit(self, setup: Setup, loaded: Loaded) -> Fitted:
        """Try the mixtures on validation rows and return the best of them as a plain model."""
        from hftransfer import evaluation, fitting, modeling

        began = time.perf_counter()
        options = Options.model_validate(setup.config.method.model_dump())
        if options.how == "ensemble":
            raise UserError(
                "method.how=ensemble mixes answers, not weights, so no one model comes of it",
                "it was asked of train", "Run: hftransfer fuse runs/A runs/B --how ensemble",
            )  # fmt: skip
        fitting.phase(setup, "fusing")
        runs = [Run(Path(folder)) for folder in options.runs]
        fitting.wait_for_everyone()  # the main process has written the event that is read here
        rows = [event["fingerprint"] for event in setup.run.events()[0] if event["type"] == "data"][-1]
        require_fit(runs, setup.config.task, setup.labels.names, rows)
        judge = Judge(setup, second_rows(setup, options))
        if options.how in ("task_arithmetic", "ties"):
            model = adapters(setup, runs, options, judge)
        elif options.how == "interpolate":
            model = interpolated(setup, loaded, runs, options, judge)
        else:
            model = soup(setup, runs, options.how, judge)
        best, seconds = judge.best(), time.perf_counter() - began
        main = evaluation.main_metric(setup.labels)
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
        if fitting.is_main_process():
            write_text(setup.run.folder / FILE, json.dumps(note, indent=1))
            setup.run.event("fused", how=options.how, chosen=note["chosen"], metric=main, value=best.score)
        total = modeling.count_parameters(model)[1]
        return fitting.Fitted(model, seconds, 0.0, 0, total, 0)


# --- what fits together ---


def require_fit(runs: Sequence[Run], task: str, labels: Sequence[str], rows: str) -> None:
    """Raise UserError unless the runs are done, of this task, labels and rows (a fingerprint), with a model each."""
    for run in runs:
        require_artifact(run)
        result = require_result(run)
        if result["task"] != task:
            raise _unfit(run, f"its task is {result['task']}, not {task}")
        names = labels_of(run)
        if names != tuple(labels):
            raise _unfit(run, f"its labels are {', '.join(names)}, not {', '.join(labels)}")
        if result["data"]["fingerprint"] != rows:
            raise UserError(
                "runs on the same rows in every split are needed: what one was trained on, another was judged by",
                f"the data of {run.name} has the fingerprint {result['data']['fingerprint'][:16]}, not {rows[:16]}",
                "Fuse runs of one data set and one seed (the seed cuts the splits), or of data with its own splits.",
            )


def told_apart(runs: Sequence[Run]) -> list[str]:
    """Return the runs' names, with as many of the folders above as it takes to tell them apart."""
    paths = [run.folder.resolve().parts for run in runs]
    ends = (["/".join(path[-length:]) for path in paths] for length in range(1, max(map(len, paths)) + 1))
    return next((names for names in ends if len(set(names)) == len(names)), [run.name for run in runs])


def require_different(runs: Sequence[Run]) -> None:
    """Raise UserError where a run is named twice."""
    folders = [run.folder.resolve() for run in runs]
    for run in runs:
        if folders.count(run.folder.resolve()) > 1:
            raise UserError("different runs are needed to fuse", f"{run.name} is named twice", "Name each once.")


def require_kin(runs: Sequence[Run]) -> None:
    """Raise UserError for what the folders of runs tell before any library is loaded: `require_fit`, their kind."""
    require_different(runs)
    require_artifact(runs[0])
    first = require_result(runs[0])
    require_fit(runs, first["task"], labels_of(runs[0]), first["data"]["fingerprint"])
    models = [read_json(run.artifact / "config.json") for run in runs]
    for run, model in zip(runs, models, strict=True):
        kinds = [", ".join(one.get("architectures") or ()) for one in (model, models[0])]
        if kinds[0] != kinds[1]:
            raise _unfit(run, f"it is a {kinds[0]}, {runs[0].name} a {kinds[1]}")
        require_same_settings(run, model, models[0], runs[0].name)


def require_result(run: Run) -> dict[str, Any]:
    """Return the result of a run; UserError when it is not done."""
    result = run.result()
    if not result:
        raise UserError(
            "finished runs are needed", f"{run.name} is {run.status().state}",
            f"Go on with it: hftransfer resume {called(run)}",
        )  # fmt: skip
    return result


def labels_of(run: Run) -> tuple[str, ...]:
    """Return the names of the labels of a run with a model, from its artifact's notes."""
    return tuple(read_json(run.artifact / "hftransfer.json")["labels"]["names"])


def require_alike(run: Run, model: Any, reference: Any, name: str) -> None:
    """Raise UserError naming the first difference between two models: kind, configuration, or a weight's shape."""
    if type(model) is not type(reference):
        raise _unfit(run, f"it is a {type(model).__name__}, {name} a {type(reference).__name__}")
    require_same_settings(run, model.config.to_dict(), reference.config.to_dict(), name)
    mine, other = model.state_dict(), reference.state_dict()
    for key in [*mine, *(key for key in other if key not in mine)]:
        shapes = [tuple(state[key].shape) if key in state else None for state in (mine, other)]
        if shapes[0] != shapes[1]:
            raise _unfit(run, f"{key} has the shape {shapes[0]}, in {name} {shapes[1]}")


def require_same_settings(run: Run, ours: Mapping[str, Any], theirs: Mapping[str, Any], name: str) -> None:
    """Raise UserError naming the first setting in which the config of a run's model differs from another's."""
    for key in sorted((ours.keys() | theirs.keys()) - BESIDE):
        if ours.get(key) != theirs.get(key):
            raise _unfit(run, f"{key} is {ours.get(key)!r} in its config, {theirs.get(key)!r} in that of {name}")


def _unfit(run: Run, found: str) -> UserError:
    return UserError(
        "models of one architecture with the same labels are needed to mix their weights",
        f"{run.name} differs: {found}",
        "Answers of different models can be mixed: hftransfer fuse runs/A runs/B --how ensemble",
    )


def seconds_of(cost: Mapping[str, Any]) -> float | None:
    """Return what a model alone took, with the runs it was fused of, from a result's `cost`; None: not known."""
    own = cost.get("alone_seconds", cost.get("total_seconds"))
    return None if own is None else float(own) + float(cost.get(PARTS, 0.0))


def second_rows(setup: Setup, options: Options) -> Any:
    """Return the prepared validation rows of the second data set; None without one."""
    if options.second is None:
        return None
    from hftransfer import data
    from hftransfer.tasks.base import Preparation

    config = DataConfig(source=options.second, columns=options.second_columns)
    try:
        found = data.load(config, setup.task, setup.config.seed, setup.run.folder / "second")
    except UserError as error:  # in the words of the first data set's options
        wanted, action = (
            said.replace("data.source", "method.second").replace("data.columns", "method.second_columns")
            for said in (error.wanted, error.action)
        )
        raise UserError(wanted, error.found, action) from error
    if found.labels.names != setup.labels.names:
        raise UserError(
            f"method.second needs the labels {', '.join(setup.labels.names)}",
            f"{options.second} has {', '.join(found.labels.names)}", "Choose another data set.",
        )  # fmt: skip
    preparation = Preparation(config, found.labels, setup.config.seed, setup.preparation.max_length)
    return setup.task.prepare(found.splits["validation"], setup.processor, preparation, training=False)


def load(setup: Setup, run: Run) -> Any:
    """Return a run's model in float32."""
    import torch
    import transformers

    return getattr(transformers, setup.task.auto_model).from_pretrained(
        run.artifact, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )


# --- mixtures ---


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
            raise _unfit(run, f"its adapter is for {run.result()['model']}, not for {setup.config.model}")
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
