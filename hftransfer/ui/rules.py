"""What a visitor may name in a configuration: own files, samples and the Hub; on a Space, nothing that runs code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from hftransfer import answers, catalog, samples, yaml_core
from hftransfer.config import RunConfig
from hftransfer.errors import ConfigError, Problem, UserError, hint, unknown
from hftransfer.ui import visitors
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from hftransfer.upstream.options import peft_methods, peft_options, training_options

BESIDE = ("corrections", "added")  # settings of `data` that name a file beside the rows
MOST_CHARACTERS = 64_000  # of a pasted configuration; the largest in configs/ has 1,200
MOST_NODES = 4_000
MOST_DEPTH = 12
MOST_WORD = 4_000  # characters of one value or name

# a model's id on the Hub, and a data set's: `load_dataset("text")` would read every file of the app's folder
MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
DATA_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
REVISION = re.compile(r"\w[\w./-]{0,200}", re.ASCII)
SPLIT = re.compile(r"\w[\w .+-]{0,200}")

# kernels that are part of torch or transformers; other words are repositories of the Hub with native code
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flex_attention")

# A number or a truth value of a neighbour's option can name no file, host or code, whatever the option is. A word may:
# it passes where its annotation is a closed set, and in these, which name layers, labels or metrics.
CLOSED = re.compile(r"Literal\[|\b(SchedulerType|OptimizerNames|IntervalStrategy|SaveStrategy)\b")
WORDS = {"metric_for_best_model", "train_sampling_strategy", "report_to", "class_weights"}
LAYERS = {
    "name", "target_modules", "exclude_modules", "modules_to_save", "layers_pattern", "target_parameters",
    "feedforward_modules", "freeze",
}  # fmt: skip
OWN = {"init_head", "poolings", "how", "templates"}  # of our methods: closed sets and sentences, no paths
INITIAL = re.compile(r"gaussian|orthogonal|olora|pissa(_niter_\d{1,3})?")  # others read files or whole data sets
MOST = {"resamples": 20_000, "batch": 4_096}


def read(text: str) -> dict[str, Any]:
    """Read pasted YAML or JSON into a tree; UserError when it is too large, deep or repeats itself by aliases."""
    wanted = "a configuration as YAML or JSON is needed"
    if len(text) > MOST_CHARACTERS:
        raise UserError(wanted, f"this has {len(text):,} characters", f"{MOST_CHARACTERS:,} are the most.")
    try:
        _require_plain(text, wanted)
        tree = yaml_core.read_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(wanted, " ".join(str(error).split())[:300], "Mend it.") from error
    if not isinstance(tree, dict):
        raise UserError(wanted, "this holds no names and values", "Start it with 'task: ...'.")
    _require_small(tree, wanted)
    return tree


def _require_plain(text: str, wanted: str) -> None:
    """Look at YAML before it is built: aliases make a few bytes a tree of any size, tags build other objects."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise UserError(wanted, "it holds an alias (& or *)", "Write the value out.")
        if tag := getattr(event, "tag", None):
            raise UserError(wanted, f"it holds the tag {str(tag)[:60]!r}", "Write plain values.")
        if depth > MOST_DEPTH or count > 2 * MOST_NODES:
            raise UserError(wanted, "this is nested too deep, or too large", "Write less.")


def _require_small(tree: Any, wanted: str = "a configuration of reasonable size is needed") -> None:
    waiting, count = [(tree, 1)], 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if isinstance(node, Mapping):
            waiting += [(part, depth + 1) for pair in node.items() for part in pair]
        elif isinstance(node, list | tuple):
            waiting += [(part, depth + 1) for part in node]
        elif isinstance(node, str) and len(node) > MOST_WORD:
            raise UserError(wanted, f"a value has {len(node):,} characters", f"{MOST_WORD:,} are the most.")
        elif isinstance(node, int) and abs(node) >= 2**63:
            raise UserError(wanted, "a number has more than 19 digits", "Write a smaller one.")
        if count > MOST_NODES or depth > MOST_DEPTH:
            raise UserError(wanted, "this is nested too deep, or too large", "Write less.")


def small(tree: Any) -> dict[str, Any]:
    """Return a tree that came another way than as text, where it is one of reasonable size; UserError otherwise."""
    if not isinstance(tree, dict):
        raise UserError("a configuration is needed", f"found {type(tree).__name__}", "Start it with 'task: ...'.")
    _require_small(tree)
    return tree


def hub_model(name: Any) -> str:
    """Return a model's id on the Hub; UserError for whatever else."""
    if not isinstance(name, str) or not MODEL_ID.fullmatch(name) or ".." in name:
        raise UserError("the name of a published model is needed", f"found {str(name)[:80]!r}", "Type owner/name.")
    return name


def admit(visitor: Visitor, tree: Mapping[str, Any], settings: Settings) -> RunConfig:
    """Build the configuration and refuse whatever this visitor may not use; ConfigError lists all problems at once.

    On a Space the rows are capped, and local names come back as whole paths inside the visitor's folder.
    """
    if not isinstance(tree, Mapping):
        raise UserError("a configuration is needed", f"found {type(tree).__name__}", "Start it with 'task: ...'.")
    _require_small(tree)
    config = catalog.build_config(tree)
    if not settings.space:
        return config
    problems = list(_problems(visitor, config, settings))
    if problems:
        raise ConfigError(problems)
    data: dict[str, Any] = {"source": _source(visitor, config.data.source)}
    if config.data.unlabelled is not None:
        data["unlabelled"] = _source(visitor, config.data.unlabelled)
    for name in BESIDE:
        if (beside := getattr(config.data, name)) is not None:
            data[name] = _source(visitor, beside)
    if settings.rows:
        data["max_rows"] = min(config.data.max_rows or settings.rows, settings.rows)
    update = {"data": config.data.model_copy(update=data), "model": place(visitor, config.model, settings)}
    return config.model_copy(update=update)


def admit_data(visitor: Visitor, tree: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Check the task and the data of a configuration whose rest may be missing yet; return them as a whole tree."""
    if not isinstance(tree, Mapping):
        raise UserError("a configuration is needed", f"found {type(tree).__name__}", "Start it with 'task: ...'.")
    kept = {name: tree[name] for name in ("task", "data", "seed") if name in tree}
    return admit(visitor, {**kept, "model": "none-yet"}, settings).to_dict()


def place(visitor: Visitor, where: str, settings: Settings) -> str:
    """Return a model's place (a run's name, own artifact folder, sample:NAME, Hub id) as the worker takes it."""
    _require_small(where)
    if not isinstance(where, str) or not visitors.is_path(where):
        raise UserError("a model is needed", f"found {str(where)[:80]!r}", "Give a Hub id or the name of a run.")
    if where.startswith(samples.PREFIX):
        return _sample(where, "model", samples.models())
    if "/" not in where and (visitor.runs / where / "config.yaml").is_file():
        return str(_artifact(visitor, where))
    if not settings.space:
        return where
    if Path(where).is_absolute() and visitor.owns(where) and Path(where).is_dir():
        return os.path.realpath(where)
    if MODEL_ID.fullmatch(where) and ".." not in where and not Path(where).exists():
        return where
    raise UserError(
        "one of your runs, a sample or a Hub id (owner/name) is needed", f"found {where[:120]!r}",
        "Files of others and of this machine are out of reach.",
    )  # fmt: skip


def _artifact(visitor: Visitor, name: str) -> Path:
    run = visitors.find(visitor, name)
    if not run.artifact.is_dir():
        raise UserError(
            "a run with a trained model is needed", f"{run.name} is {run.status().state} and has none", "Wait for it."
        )
    return Path(run.artifact)


def _sample(text: str, kind: str, among: Iterable[samples.Sample]) -> str:
    choices = [sample.name for sample in among]
    if text.removeprefix(samples.PREFIX) not in choices:
        raise unknown(f"sample {kind}", text.removeprefix(samples.PREFIX)[:80], choices)
    return text


def _source(visitor: Visitor, source: str) -> str:
    """Return a data source as the visitor may use it; UserError otherwise."""
    if not visitors.is_path(source):
        raise UserError("a data source is needed", f"found {source[:80]!r}", "Mend it.")
    if source.startswith(samples.PREFIX):
        return _sample(source, "data", samples.data_sets())
    # a plain name is one of the visitor's own uploads
    path = visitor.uploads / source if Path(source).name == source else Path(source)
    if path.is_absolute() and visitor.owns(path) and path.exists():
        return os.path.realpath(path)
    if DATA_ID.fullmatch(source) and ".." not in source and not Path(source).exists():
        return source
    raise UserError(
        "one of your uploads, a sample or a Hub id (owner/name) is needed", f"found {source[:120]!r}",
        "Upload the file first; files of others and of this machine are out of reach.",
    )  # fmt: skip


# --- on a Space ---


def _problems(visitor: Visitor, config: RunConfig, settings: Settings) -> Iterator[Problem]:
    if config.allow_pickle:
        yield Problem("allow_pickle", "not here: pickled weights can run code. Choose a model with safetensors.")
    if config.output is not None:
        yield Problem("output", "decided by the app. Leave it out.")
    yield from _refused("data.source", lambda: _source(visitor, config.data.source))
    yield from _refused("model", lambda: place(visitor, config.model, settings))
    for name in ("train", "validation", "test"):
        split = getattr(config.data, name)
        if split is not None and (not SPLIT.fullmatch(split) or ".." in split):
            yield Problem(f"data.{name}", f"the name of a split, or of a file beside the source; found {split!r}.")
    if config.data.unlabelled is not None:
        yield from _refused("data.unlabelled", lambda: _source(visitor, str(config.data.unlabelled)))
    for name in BESIDE:
        if (beside := getattr(config.data, name)) is not None:
            yield from _refused(f"data.{name}", partial(_source, visitor, str(beside)))
    for path, revision in (("revision", config.revision), ("data.revision", config.data.revision)):
        if revision is not None and (not REVISION.fullmatch(revision) or ".." in revision):
            yield Problem(path, f"a branch, tag or commit is needed; found {revision!r}.")
    for number, metric in enumerate(config.evaluation.metrics):
        if metric not in answers.metrics():
            said = hint(metric, answers.metrics())
            yield Problem(f"evaluation.metrics.{number}", f"{metric!r} runs code of the Hub. {said}")
    if config.evaluation.resamples > MOST["resamples"]:
        yield Problem("evaluation.resamples", f"at most {MOST['resamples']:,} here.")
    cores = os.cpu_count() or 1
    if config.speed.threads is not None and config.speed.threads > cores:
        yield Problem("speed.threads", f"at most {cores} here.")
    if config.speed.attention is not None and config.speed.attention not in ATTENTION:
        yield Problem("speed.attention", f"one of {', '.join(ATTENTION)} is needed; found {config.speed.attention!r}.")
    yield from _train(config, cores)
    yield from _method(config)


def _refused(path: str, check: Any) -> Iterator[Problem]:
    try:
        check()
    except UserError as error:
        yield Problem(path, str(error))


NOT_HERE = "this Space takes numbers, true, false and closed sets of words here; found {}. Leave it out."


def _train(config: RunConfig, cores: int) -> Iterable[Problem]:
    known = training_options()
    measured = [*sorted(answers.validated()), "loss"]
    for name, value in config.train.options.items():
        path = f"train.{name}"
        words = list(_words(value))
        if name == "report_to" and set(words) - {"none"}:
            yield Problem(path, "none is the only choice here: others send to accounts of whoever owns the Space.")
        elif name == "metric_for_best_model" and str(value).removeprefix("eval_") not in measured:
            yield Problem(path, f"found {value!r}. {hint(str(value), measured)}")
        elif words and name not in WORDS and not (isinstance(value, str) and CLOSED.search(known[name].annotation)):
            yield Problem(path, NOT_HERE.format(repr(words[0][:60])))
        elif name == "dataloader_num_workers" and isinstance(value, int) and value > cores:
            yield Problem(path, f"at most {cores} here.")
        elif "batch_size" in name and isinstance(value, int) and value > MOST["batch"]:
            yield Problem(path, f"at most {MOST['batch']:,} here.")


def _method(config: RunConfig) -> Iterable[Problem]:
    known = _method_annotations(config.method.name)
    for name, value in config.method.options.items():
        words = list(_words(value))
        if not words or name in LAYERS or name in OWN:
            continue
        closed = isinstance(value, str) and CLOSED.search(known.get(name, ""))
        if name.startswith("init_") and not (isinstance(value, str) and INITIAL.fullmatch(value)):
            yield Problem(f"method.{name}", f"gaussian, orthogonal, olora, pissa, true or false; found {value!r}.")
        elif not name.startswith("init_") and not closed:
            yield Problem(f"method.{name}", NOT_HERE.format(repr(words[0][:60])))


def _method_annotations(name: str) -> dict[str, str]:
    from hftransfer.methods.peft import ALIASES

    kind = str(ALIASES.get(name, {}).get("peft_type", name))
    if kind not in peft_methods():
        return {}
    return {option.name: option.annotation for option in peft_options(kind).values()}


def _words(value: Any) -> Iterator[str]:
    """Return every word among an option's values; the names of a map count as what they name: layers or labels."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _words(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _words(part)
