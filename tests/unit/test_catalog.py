"""Names: closed sets found by file, the nearest name when there is none, and all problems of a config at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import hftransfer
from hftransfer import catalog
from hftransfer.config import build
from hftransfer.errors import ConfigError, UserError
from hftransfer.upstream.options import peft_methods, training_options

MINIMAL = {"task": "text-classification", "model": "m", "data": {"source": "rows.csv"}}


def _problems(**more: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        catalog.build_config({**MINIMAL, **more})
    return {problem.path: problem.message for problem in caught.value.problems}


def test_tasks_are_the_files_of_the_folder() -> None:
    stems = {path.stem for path in (Path(hftransfer.__file__).parent / "tasks").glob("[!_]*.py")}
    assert set(catalog.tasks()) == {stem.replace("_", "-") for stem in stems - {"base"}}
    assert {"text-classification", "image-classification", "token-classification"} <= set(catalog.tasks())


@pytest.mark.parametrize("name", sorted(catalog.tasks()))
def test_a_task_is_named_as_its_file(name: str) -> None:
    assert catalog.task(name).name == name


def test_methods_are_ours_and_pefts_and_their_usual_names() -> None:
    names = catalog.methods()
    assert next(iter(names)) == "auto" == catalog.USUAL
    assert {"lora", "ia3", "dora", "rslora", "pissa", "qlora"} <= set(names)
    assert set(peft_methods()) <= set(names)
    assert not {"peft", "base"} & set(names)


def test_methods_resolve_to_objects() -> None:
    assert catalog.method("full").about and catalog.method("dora") is catalog.method("lora")


@pytest.mark.parametrize(
    ("lookup", "name", "near"),
    [(catalog.task, "text-clasification", "text-classification"), (catalog.method, "loora", "lora")],
)
def test_an_unknown_name_is_answered_with_the_nearest(lookup: Any, name: str, near: str) -> None:
    with pytest.raises(UserError, match=f"Did you mean '{near}'"):
        lookup(name)


def test_every_problem_at_once() -> None:
    problems = _problems(
        task="text-clasification",
        seed=-1,
        train={"learning_rat": 1, "evaluation_strategy": "epoch", "output_dir": "x"},
        method={"name": "lora", "rank": 8, "lora_alpah": 16},
        data={"source": "x", "max_row": 1},
    )
    assert set(problems) == {
        "task", "seed", "train.learning_rat", "train.evaluation_strategy", "train.output_dir", "method.rank",
        "method.lora_alpah", "data.max_row",
    }  # fmt: skip
    assert "Did you mean 'learning_rate'?" in problems["train.learning_rat"]
    assert "Did you mean 'lora_alpha'?" in problems["method.lora_alpah"]
    assert "eval_strategy" in problems["train.evaluation_strategy"]


@pytest.mark.parametrize("name", sorted(catalog.DECIDED))
def test_what_a_run_decides_is_told(name: str) -> None:
    assert problems_say(name, "set by hftransfer; ")


def problems_say(name: str, words: str) -> bool:
    return words in _problems(train={name: "x"})[f"train.{name}"]


def test_what_a_run_decides_still_exists_upstream() -> None:
    """Otherwise the table would shadow nothing, and a new hub option would slip through."""
    assert set(catalog.DECIDED) <= set(training_options())
    hub = {name for name in training_options() if name.startswith("hub_")}
    for name in hub:
        assert problems_say(name, "set by hftransfer; ")


@pytest.mark.parametrize("name", sorted(catalog.RENAMED))
def test_what_transformers_5_took_out_is_answered_with_its_successor(name: str) -> None:
    assert name not in training_options()
    message = _problems(train={name: 1})[f"train.{name}"]
    assert catalog.RENAMED[name] in message
    for successor in (word.partition("=")[0] for word in message.split() if "_" in word and "=" in word):
        assert successor in training_options()


def test_no_token_is_taken_from_a_config() -> None:
    assert "HF_TOKEN" in _problems(train={"hub_token": "hf_x"})["train.hub_token"]


@pytest.mark.parametrize("option", ["run_name", "learning_rate", "bf16", "class_weights", "early_stopping_patience"])
def test_trainings_own_names_pass(option: str) -> None:
    value = {"class_weights": "balanced", "early_stopping_patience": 2}.get(option, 1)
    assert catalog.build_config({**MINIMAL, "train": {option: value}})


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ({"name": "lorra"}, "method.name", "Did you mean 'lora'?"),
        ({"name": "full", "freeze_": ["x"]}, "method.freeze_", "full has no such option. Did you mean 'freeze'?"),
        ({"freeze": ["x"]}, "method.freeze", "auto has no such option. Set method.name=full: there it is known."),
        ({"name": "full", "layer_decay": 3}, "method.layer_decay", "wanted less than or equal to 1; found 3."),
        ({"name": "dora", "alpha": 1}, "method.alpha", "peft's lora has no such option."),
        ({"name": "ia3", "r": 8}, "method.r", "peft's ia3 has no such option."),
        ({"name": "lora", "peft_type": "ia3"}, "method.peft_type", "set method.name=... instead"),
        ({"name": 3}, "method.name", "no method '3'"),
        ({"name": "prefix_tuning"}, "method.name", "adds parts that only peft can run"),
        ({"name": "trainable_tokens", "token_indices": [5]}, "method.name", "trains no new head"),
    ],
)
def test_method_options_are_checked(method: dict[str, Any], path: str, words: str) -> None:
    problems = _problems(method=method)
    assert set(problems) == {path}
    assert words in problems[path]


@pytest.mark.parametrize(
    "method",
    [
        {"name": "lora", "r": 4, "target_modules": ["query"]},
        {"name": "dora", "lora_alpha": 8},
        {"name": "ia3"},
        {"name": "full", "freeze": ["*.embeddings*"], "layer_decay": 0.9},
    ],
)
def test_good_method_options_pass(method: dict[str, Any]) -> None:
    config = catalog.build_config({**MINIMAL, "method": method})
    catalog.checked(config)  # the object is judged as the tree is
    assert {"name": config.method.name, **config.method.options} == {"name": "full", **method}


def test_checked_judges_an_object() -> None:
    with pytest.raises(ConfigError, match=r"method\.rank"):
        catalog.checked(build({**MINIMAL, "method": {"name": "lora", "rank": 1}}))


def test_read_config_takes_a_file_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("task: text-classification\nmodel: m\ndata: {source: rows.csv}\n")
    config = catalog.read_config(path, ["train.learning_rate=2e-4", "method.name=lora"])
    assert config.train.options == {"learning_rate": 2e-4}
    with pytest.raises(ConfigError, match=r"train\.learning_rte"):
        catalog.read_config(path, ["train.learning_rte=1"])


@pytest.mark.parametrize("asked, said", [
    ("asr", "it is called automatic-speech-recognition here. Set task=automatic-speech-recognition"),
    ("Text Classification", "it is called text-classification here"),
    ("instance-segmentation", "data.problem_type=instances gives each single object a mask"),
    ("text-to-speech", "no task here makes sound"),
])  # fmt: skip
def test_tasks_by_other_names(asked: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        catalog.build_config({"task": asked, "model": "m", "data": {"source": "rows.csv"}})
    every = [name for one in catalog.tasks() for name in (*catalog.task(one).also, *catalog.task(one).lacks)]
    assert len(every) == len({*every}) and not {*every} & {*catalog.tasks()}
