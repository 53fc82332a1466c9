"""The closed sets that a configuration may name: tasks, methods, and the options of the libraries beneath."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hftransfer import config as configuration
from hftransfer import upstream
from hftransfer.config import RunConfig, TrainConfig
from hftransfer.errors import ConfigError, Problem, hint, unknown

if TYPE_CHECKING:
    from hftransfer.methods.base import Method
    from hftransfer.tasks.base import Task

PEFT = "hftransfer.methods.peft"
START = "init_head"  # the one option beside peft's own: what the head starts from
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
    return own | dict.fromkeys([*upstream.peft_methods(), *aliases()], PEFT)


@cache
def adapting_methods() -> tuple[str, ...]:
    """Return the names of the methods that give a plain model: all but peft's prompts and mixtures."""
    return tuple(
        name
        for name, module in methods().items()
        if module != PEFT or upstream.peft_options(aliases().get(name, {}).get("peft_type", name)).keys() >= ADAPTS
    )


def method(name: str) -> Method:
    """Return the method of that name; UserError with the nearest name when there is none."""
    if name not in methods():
        raise unknown("method", name, methods())
    found: Method = importlib.import_module(methods()[name]).METHOD
    return found


def modules_of(package: str, dash: str = "-") -> dict[str, str]:
    """Return the modules of a package that is a closed set, by name: the file's name, with `dash` for `_`."""
    folder = Path(__file__).parent.joinpath(*package.split(".")[1:])
    stems = sorted(path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "base"))
    return {stem.replace("_", dash): f"{package}.{stem}" for stem in stems}


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a configuration file with `a.b=c` overrides, raising ConfigError with everything that is wrong in it."""
    return build_config(configuration.read_tree(path, overrides))


def build_config(tree: Mapping[str, Any]) -> RunConfig:
    """Validate a plain tree, its names included, raising ConfigError with every problem."""
    return configuration.build(tree, extra=_name_problems(tree))


def check_names(config: RunConfig) -> None:
    """Raise ConfigError when a configuration names what nobody knows."""
    problems = list(_name_problems(config.to_dict()))
    if problems:
        raise ConfigError(problems)


def _name_problems(tree: Mapping[str, Any]) -> Iterable[Problem]:
    name = _text(tree.get("task"))
    if name is not None and name not in tasks():
        yield Problem("task", f"no task {name!r}. {hint(name, tasks())}")
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
    rows = tree.get("data")
    if isinstance(rows, Mapping) and rows.get("unlabelled"):
        yield from _unlabelled_problems(section if isinstance(section, Mapping) else {})


def _unlabelled_problems(section: Mapping[str, Any]) -> Iterable[Problem]:
    name = _text(section.get("name", "full"))
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


def _train_problems(train: Mapping[str, Any]) -> Iterable[Problem]:
    known = [*upstream.training_options(), *TrainConfig.model_fields]
    for name in map(str, train):
        path = f"train.{name}"
        if name in DECIDED or name.startswith("hub_"):
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
    name = _text(section.get("name", "full"))
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
                message = f"{name} has no such option. {hint(option, options.model_fields)}"
            else:
                wanted = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
                message = f"wanted {wanted}; found {section[option]!r}."
            yield Problem(f"method.{option}", message)


def _peft_problems(name: str, section: Mapping[str, Any]) -> Iterable[Problem]:
    kind = aliases().get(name, {"peft_type": name})["peft_type"]
    known = upstream.peft_options(kind)
    if not known.keys() >= ADAPTS:
        yield Problem("method.name", f"{name} {UNMERGEABLE}")
    for option in map(str, section):
        path = f"method.{option}"
        if option == "peft_type":
            yield Problem(path, "set by hftransfer; set method.name=... instead.")
        elif option == START:
            if section[option] not in STARTS:
                yield Problem(path, f"wanted {' or '.join(STARTS)}; found {section[option]!r}.")
        elif option != "name" and option not in known:
            yield Problem(path, f"peft's {kind} has no such option. {hint(option, known)}".rstrip())


def _text(value: Any) -> str | None:
    """Return a name as the tree will read it; what is no text and no number, the tree reports by itself."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def aliases() -> dict[str, dict[str, Any]]:
    """Return the usual names for some settings of peft's methods, each with what it stands for."""
    found: dict[str, dict[str, Any]] = importlib.import_module(PEFT).ALIASES
    return found
