"""The closed sets that a configuration may name: tasks, methods, and the options of the libraries beneath."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hftransfer import answers
from hftransfer import config as configuration
from hftransfer.config import MethodConfig, RunConfig, TrainConfig
from hftransfer.errors import Problem, hint, unknown
from hftransfer.upstream import values
from hftransfer.upstream.options import Option, peft_methods, peft_options, training_options

if TYPE_CHECKING:
    from hftransfer.methods.base import Method
    from hftransfer.tasks.base import Task

PEFT = "hftransfer.methods.peft"
USUAL = str(MethodConfig.model_fields["name"].default)  # the method of who names none
START = "init_head"  # an option beside peft's own: what the head starts from
NEGATIVES = "negatives"  # and how many wrong entries of a catalogue stand beside a right one
STARTS = ("random", "probe")
ADAPTS = {"target_modules", "modules_to_save"}  # a peft method without them changes no weights, or trains no new head


def tasks() -> dict[str, str]:
    """Return the tasks by name, each with the module that holds it."""
    return modules_of("hftransfer.tasks")


def task(name: str) -> Task:
    """Return the task of that name; UserError with the nearest name when there is none."""
    if name not in tasks():
        raise unknown("task", name, tasks())
    found: Task = importlib.import_module(tasks()[name]).TASK
    return found


@cache
def methods() -> dict[str, str]:
    """Return the methods by name, our own first, then peft's and the usual names for some of its settings."""
    found = modules_of("hftransfer.methods", dash="_")
    own = {name: module for name, module in found.items() if module != PEFT}
    return own | dict.fromkeys([*peft_methods(), *aliases()], PEFT)


@cache
def adapting_methods() -> tuple[str, ...]:
    """Return the names of the methods that give a plain model: all but peft's prompts and mixtures."""
    return tuple(
        name
        for name, module in methods().items()
        if module != PEFT or peft_options(aliases().get(name, {}).get("peft_type", name)).keys() >= ADAPTS
    )


def method(name: str) -> Method:
    """Return the method of that name; UserError with the nearest name when there is none."""
    if name not in methods():
        raise unknown("method", name, methods())
    found: Method = importlib.import_module(methods()[name]).METHOD
    return found


@cache
def problem_types() -> tuple[str, ...]:
    """Return the kinds of answer among which some task must choose, in the order in which tasks name them."""
    several = [offered for offered in (task(name).answers for name in tasks()) if len(offered) > 1]
    return answers.kinds([answer for offered in several for answer in offered])


def modules_of(package: str, dash: str = "-") -> dict[str, str]:
    """Return the modules of a package that is a closed set, by name: the file's name, with `dash` for `_`."""
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    stems = sorted(module.name for module in found if module.name != "base" and not module.name.startswith("_"))
    return {stem.replace("_", dash): f"{package}.{stem}" for stem in stems}


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a configuration file with `a.b=c` overrides, raising ConfigError with everything that is wrong in it."""
    return build_config(configuration.read_tree(path, overrides))


def build_config(tree: Mapping[str, Any]) -> RunConfig:
    """Validate a plain tree, its names included, raising ConfigError with every problem."""
    problems = list(_name_problems(tree))
    read, unfit = _values(tree)
    return configuration.build(read, extra=[*problems, *unfit])


def checked(config: RunConfig) -> RunConfig:
    """Return a configuration that was made elsewhere, its names and values checked; see `build_config`."""
    return build_config(config.to_dict())


def _name_problems(tree: Mapping[str, Any]) -> Iterable[Problem]:
    wanted = _text(tree.get("task"))
    if wanted is not None and wanted not in tasks():
        yield Problem("task", _no_task(wanted))
    train = tree.get("train")
    if isinstance(train, Mapping):
        yield from _train_problems(train)
    publishing = tree.get("hub")
    if isinstance(publishing, Mapping) and not publishing.get("repo"):
        for name in ("push", "checkpoints"):
            if publishing.get(name):
                yield Problem(f"hub.{name}", "a repo to push to is needed; none is named. Set hub.repo=user/name.")
    section = tree.get("method")
    if isinstance(section, Mapping):
        yield from _method_problems(section)
        yield from _fit_problems(wanted, _text(section.get("name", USUAL)))
    rows, measured = tree.get("data"), tree.get("evaluation")
    if isinstance(measured, Mapping):
        yield from _evaluation_problems(measured, rows if isinstance(rows, Mapping) else {}, wanted)
        way = _text(section.get("name", USUAL)) if isinstance(section, Mapping) else None
        if measured.get("folds") is not None and way in methods() and not method(way).crosses:
            yield Problem("evaluation.folds", f"{way} makes a model of finished runs: it cannot be trained again.")
        if measured.get("folds") is not None and wanted in tasks() and not task(str(wanted)).crosses:
            yield Problem("evaluation.folds", f"the rows of {wanted} are divided by time: drop it.")
    if isinstance(rows, Mapping) and rows.get("problem_type") is not None:
        kind, known = _text(rows["problem_type"]), answers.kinds()
        if kind not in known:
            yield Problem("data.problem_type", f"no kind of answer {kind!r}. {hint(str(kind), known)}".rstrip())
    if isinstance(rows, Mapping):
        yield from _mosaic_problems(rows, wanted)
        yield from _streaming_problems(rows, wanted) if rows.get("streaming") else ()
        if rows.get("unlabelled"):
            yield from _unlabelled_problems(section if isinstance(section, Mapping) else {})


def _no_task(wanted: str) -> str:
    """Return what is to be said to a name that no task has: what it is called here, or that it is not."""
    plain = "-".join(wanted.lower().replace("_", " ").split())
    for name in tasks():
        if plain == name or plain in task(name).also:
            return f"no task {wanted!r}: it is called {name} here. Set task={name}."
        if plain in task(name).lacks:
            return f"no task {wanted!r}: {task(name).lacks[plain]}. Choices: {', '.join(tasks())}."
    return f"no task {wanted!r}. {hint(wanted, tasks())}"


def _mosaic_problems(rows: Mapping[str, Any], task_name: str | None) -> Iterable[Problem]:
    """Yield what keeps pictures from being put together of four."""
    changes = rows.get("augmentation")
    if not isinstance(changes, Mapping) or not changes.get("mosaic") or task_name not in tasks():
        return
    able = [name for name in tasks() if any(answer.mosaics for answer in task(name).answers)]
    if task_name not in able:
        yield Problem(
            "data.augmentation.mosaic", f"a truth that lies in places is needed, as of {' and '.join(able)}."
        )
    elif rows.get("tile"):
        yield Problem("data.augmentation.mosaic", "tiles are parts of one picture. Drop it, or data.tile.")


def _streaming_problems(rows: Mapping[str, Any], task_name: str | None) -> Iterable[Problem]:
    """Yield what needs other rows than the one that a stream is at, or to know how many parts each has."""
    if task_name in tasks() and task(task_name).whole:
        yield Problem("data.streaming", f"{task_name} needs rows on disk: {task(task_name).whole}. Set it to false.")
    changes = rows.get("augmentation")
    if isinstance(changes, Mapping) and changes.get("mosaic"):
        yield Problem("data.augmentation.mosaic", "it needs rows on disk. Set data.streaming=false.")
    if rows.get("tile"):
        yield Problem("data.tile", "it needs rows on disk. Set data.streaming=false.")


def _fit_problems(task_name: str | None, method_name: str | None) -> Iterable[Problem]:
    """Yield what keeps a method from giving the answers of a task."""
    if task_name not in tasks() or method_name not in methods() or fits(task_name, method_name):
        return
    kinds = ", ".join(answer.called for answer in task(task_name).answers)
    able = [own for own, module in methods().items() if module != PEFT and own != "fuse" and fits(task_name, own)]
    reason = (
        "reads what somebody had of a catalogue"
        if method(method_name).needs == "histories"
        else "solves a linear head"
    )
    yield Problem(
        "method.name",
        f"{method_name} {reason}, which gives no {kinds}: {task_name} answers with those. "
        f"Set method.name={' or '.join(['lora', *able])}.",
    )


def fits(task_name: str, method_name: str) -> bool:
    """Tell whether a method can give one of the answers of a task."""
    found = method(method_name)
    if found.needs is None:
        return True
    if found.needs == "histories":
        return any(one.has_histories for one in task(task_name).answers)
    return any(one.linear is not None or (found.projects and one.projects) for one in task(task_name).answers)


def _values(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Return a tree with the neighbours' values as their options take them, and what is wrong with those."""
    read, problems = dict(tree), []
    for section in ("train", "method"):
        given = tree.get(section)
        if isinstance(given, Mapping):
            known = training_options() if section == "train" else _peft_known(given)
            read[section] = dict(given)
            for name in (name for name in map(str, given) if name in known and not _decided(section, name)):
                try:
                    read[section][name] = values.read(known[name], given[name])
                except values.Unfit as error:
                    problems.append(Problem(f"{section}.{name}", str(error)))
    return read, problems


def _evaluation_problems(
    section: Mapping[str, Any], rows: Mapping[str, Any], task_name: str | None
) -> Iterable[Problem]:
    """Yield what is asked of an evaluation and cannot be, whatever the rows."""
    if section.get("at") is not None and task_name in tasks():
        kinds = task(task_name).answers
        if not any(answer.has_points for answer in kinds):
            called = ", ".join(answer.called for answer in kinds)
            yield Problem(
                "evaluation.at",
                f"a threshold is for labels that a row has or not; {task_name} answers with {called}. Drop it.",
            )
    if section.get("prevalence") is not None and section.get("at") is None:
        yield Problem("evaluation.prevalence", "it is for PPV and NPV at a threshold. Set evaluation.at=... too.")
    if section.get("folds") is not None and rows.get("streaming"):
        yield Problem("evaluation.folds", "it needs rows on disk. Set data.streaming=false.")
    if section.get("repeats", 1) != 1 and section.get("folds") is None:
        yield Problem("evaluation.repeats", "it repeats folds. Set evaluation.folds=5 too.")
    if section.get("slices") and rows.get("streaming"):
        yield Problem("evaluation.slices", "it needs rows on disk. Set data.streaming=false.")


def _unlabelled_problems(section: Mapping[str, Any]) -> Iterable[Problem]:
    name = _text(section.get("name", USUAL))
    if name in methods() and not method(name).takes_unlabelled:
        able = [own for own, module in methods().items() if module != PEFT and method(own).takes_unlabelled]
        yield Problem(
            "data.unlabelled", f"{name} learns from labelled rows alone. Set method.name={' or '.join(able)}."
        )


# --- train.* ---

# what TrainingArguments has and a run decides by itself
DECIDED = {
    "output_dir": "set output=... instead",
    "seed": "set seed=... instead",
    "data_seed": "set seed=... instead",
    "push_to_hub": "set hub.push=true and hub.repo=... instead",
    "resume_from_checkpoint": "run: hftransfer resume RUN",
    "do_train": "leave it out: a run trains, chooses on validation rows and evaluates once on test rows",
    "do_eval": "leave it out: a run trains, chooses on validation rows and evaluates once on test rows",
    "do_predict": "leave it out: a run trains, chooses on validation rows and evaluates once on test rows",
    "hub_model_id": "set hub.repo=... instead",
    "hub_private_repo": "set hub.private=... instead",
    "remove_unused_columns": "leave it out: a model is given what its task prepares",
    "label_names": "leave it out: truth goes by the name `labels`",
    "disable_tqdm": "leave it out: a run writes events; hftransfer train --no-follow shows none",
    "dataloader_drop_last": "leave it out: it would drop rows of validation too",
    "debug": "leave it out: its hooks cannot look at tensors of true and false, such as masks",
    "local_rank": "leave it out: set --processes N instead",
    "enable_jit_checkpoint": "leave it out: a run that is asked to stop writes a checkpoint first",
    "batch_eval_metrics": "leave it out: validation keeps sums, never the outputs of all rows",
    "eval_do_concat_batches": "leave it out: validation keeps sums, never the outputs of all rows",
    "hub_token": "put the token in the environment variable HF_TOKEN: what stands here would be published",
}
# what transformers 5 took out, and what older recipes call things
RENAMED = {
    "evaluation_strategy": "set eval_strategy=...",
    "warmup_ratio": "set warmup_steps=0.1: below 1 it is a share of all steps",
    "no_cuda": "set use_cpu=true",
    "use_mps_device": "leave it out: the device is found by itself; use_cpu=true keeps to the CPU",
    "group_by_length": "leave it out: rows of like length share a batch by default",
    "overwrite_output_dir": "set output=another/folder",
    "logging_dir": "set the environment variable TENSORBOARD_LOGGING_DIR",
    "save_safetensors": "leave it out: safetensors is the only format",
    "fp16_backend": "leave it out: set fp16=true or bf16=true",
    "half_precision_backend": "leave it out: set fp16=true or bf16=true",
    "fp16_opt_level": "leave it out: set fp16=true or bf16=true",
    "push_to_hub_model_id": "set hub.repo=...",
    "push_to_hub_token": "put the token in the environment variable HF_TOKEN",
    "jit_mode_eval": "set torch_compile=true",
    "use_ipex": "set torch_compile=true",
    "torchdynamo": "set torch_compile_backend=...",
    "include_tokens_per_second": "set include_num_input_tokens_seen=all",
    "include_inputs_for_metrics": "set include_for_metrics=[inputs]",
    "dispatch_batches": "set accelerator_config={dispatch_batches: ...}",
    "split_batches": "set accelerator_config={split_batches: ...}",
    "per_gpu_train_batch_size": "set per_device_train_batch_size=...",
    "per_gpu_eval_batch_size": "set per_device_eval_batch_size=...",
    "adafactor": "set optim=adafactor",
    "tokenizer": "leave it out: the processor comes with the model",
    "lr": "set learning_rate=...",
    "epochs": "set num_train_epochs=...",
    "batch_size": "set per_device_train_batch_size=...",
}


def _decided(section: str, name: str) -> bool:
    """Tell whether a neighbour's option is none of the user's to set."""
    return name == "peft_type" if section == "method" else name in DECIDED or name.startswith("hub_")


def _train_problems(train: Mapping[str, Any]) -> Iterable[Problem]:
    known = [*training_options(), *TrainConfig.model_fields]
    for name in map(str, train):
        path = f"train.{name}"
        if _decided("train", name):
            yield Problem(path, f"set by hftransfer; {DECIDED.get(name, 'see the hub section instead')}.")
        elif name not in known and name in RENAMED:
            yield Problem(path, f"TrainingArguments has no such option; {RENAMED[name]}.")
        elif name not in known:
            yield Problem(path, f"TrainingArguments has no such option. {hint(name, known)}".rstrip())


# --- method.* ---

UNMERGEABLE = (
    "adds parts that only peft can run, or trains no new head: no plain model comes of it. Use lora, dora or ia3."
)


def _method_problems(section: Mapping[str, Any]) -> Iterable[Problem]:
    name = _text(section.get("name", USUAL))
    if name is None:
        return
    if name not in methods():
        yield Problem("method.name", f"no method {name!r}. {hint(name, methods())}".rstrip())
        return
    options = method(name).OPTIONS
    if options is None:
        yield from _peft_problems(name, section)
        return
    try:
        options.model_validate(section)
    except ValidationError as error:
        # a union reports once per member: the option's name and its first message say enough
        for option, item in {str(item["loc"][0]): item for item in reversed(error.errors())}.items():
            if item["type"] == "extra_forbidden":
                message = f"{name} has no such option. {_of_another(option) or hint(option, options.model_fields)}"
            elif item["type"] == "missing":
                message = f"{name} needs it, and it is not set."
            else:
                wanted = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
                message = f"wanted {wanted}; found {section[option]!r}."
            yield Problem(f"method.{option}", message)


def _of_another(option: str) -> str:
    """Return which of our own methods has an option, in words; nothing where none has."""
    own = [name for name, module in methods().items() if module != PEFT]
    able = [name for name in own if option in (method(name).OPTIONS or MethodConfig).model_fields]
    return f"Set method.name={' or '.join(able)}: there it is known." if able else ""


def _peft_type(name: str) -> str:
    return str(aliases().get(name, {"peft_type": name})["peft_type"])


def _peft_known(section: Mapping[str, Any]) -> dict[str, Option]:
    """Return peft's options for the method of a section; none for a method of ours, or of nobody."""
    kind = _peft_type(str(section.get("name", USUAL)))
    return peft_options(kind) if kind in peft_methods() else {}


def _peft_problems(name: str, section: Mapping[str, Any]) -> Iterable[Problem]:
    kind, known = _peft_type(name), _peft_known(section)
    if not known.keys() >= ADAPTS:
        yield Problem("method.name", f"{name} {UNMERGEABLE}")
    for option in map(str, section):
        path = f"method.{option}"
        if option == "peft_type":
            yield Problem(path, "set by hftransfer; set method.name=... instead.")
        elif option == START:
            if section[option] not in STARTS:
                yield Problem(path, f"wanted {' or '.join(STARTS)}; found {section[option]!r}.")
        elif option == NEGATIVES:
            if not isinstance(section[option], int) or not 0 <= section[option] <= 64:
                yield Problem(path, f"wanted a number from 0 to 64; found {section[option]!r}.")
        elif option != "name" and option not in known:
            yield Problem(path, f"peft's {kind} has no such option. {hint(option, known)}".rstrip())


def _text(value: Any) -> str | None:
    """Return a name as the tree will read it; what is no text and no number, the tree reports by itself."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def aliases() -> dict[str, dict[str, Any]]:
    """Return the usual names for some settings of peft's methods, each with what it stands for."""
    found: dict[str, dict[str, Any]] = importlib.import_module(PEFT).ALIASES
    return found
