"""A recipe of somebody else decides what is computed, and nothing that is for whoever runs it to decide."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hftransfer.errors import UserError
from hftransfer.hub import recipes
from hftransfer.hub.origins import Origin, Origins
from hftransfer.safety import terminal

TREE: dict[str, Any] = {
    "schema": 2, "task": "text-classification", "model": "a/base", "data": {"source": "a/rows"},
    "evaluation": {"metrics": ["rouge"]},
}  # fmt: skip
PUBLIC = Origins(Origin("a/base", "hub"), Origin("a/rows", "hub"))
DECIDES = {
    "allow_pickle": ({"allow_pickle": True}, "can run code"),
    "evaluation.metrics": ({"evaluation": {"metrics": ["stranger/metric"]}}, "runs somebody's code"),
    "speed.attention": ({"speed": {"attention": "stranger/kernel"}}, "runs somebody's kernel"),
    "data.validation": ({"data": {"source": "a/rows", "validation": "/etc/passwd"}}, "the machine of whoever runs it"),
    "data.added": ({"data": {"source": "a/rows", "added": "../mine.csv"}}, "the machine of whoever runs it"),
    "train.deepspeed": ({"train": {"deepspeed": "~/ds.json"}}, "the machine of whoever runs it"),
    "method.target_modules": ({"method": {"name": "lora", "target_modules": "C:\\mine"}}, "the machine of whoever"),
}  # fmt: skip


def configured(tree: dict[str, Any], *overrides: str) -> Any:
    return recipes.configured(tree, PUBLIC, list(overrides), "reproduce a/tuned")


def test_an_honest_recipe_runs_as_it_is() -> None:
    found = configured({**TREE, "data": {"source": "a/rows", "delimiter": "/"}}, "seed=7")
    assert found.seed == 7 and found.evaluation.metrics == ("rouge",)


def test_what_a_recipe_leaves_to_the_defaults_is_the_defaults() -> None:
    tree = {name: value for name, value in TREE.items() if name != "schema"}  # as `run.yaml` is written
    found = configured(tree)
    assert (found.method.name, found.train.auto) == ("auto", True), "no recipe of before there was `auto`"


@pytest.mark.parametrize("key", DECIDES)
def test_what_a_recipe_may_not_decide_is_said_by_its_runner_or_not_at_all(key: str) -> None:
    more, words = DECIDES[key]
    with pytest.raises(UserError) as error:
        configured({**TREE, **more})
    assert key in str(error.value) and words in str(error.value)
    assert f"hftransfer reproduce a/tuned {key}=" in str(error.value)


def test_who_trusts_its_author_says_so() -> None:
    tree = {**TREE, "allow_pickle": True}
    assert configured(tree, "allow_pickle=true").allow_pickle
    assert not configured(tree, "allow_pickle=false").allow_pickle


def test_notes_that_call_a_local_file_public_do_not_make_it_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.csv").write_text("text,label\n")
    with pytest.raises(UserError, match=r"Say where it is here: .* data\.source=PATH"):
        configured({**TREE, "data": {"source": "secret.csv"}})
    assert configured({**TREE, "data": {"source": "secret.csv"}}, "data.source=secret.csv")


@pytest.mark.parametrize("count", [0, -1, "2", True, None, 1.5])
def test_a_number_of_processes_is_one(count: Any) -> None:
    with pytest.raises(UserError, match="a number of processes"):
        recipes.processes(count)
    assert recipes.processes(2) == 2


TUNED = {
    "type": "x", "time": 0, "attention": "sdpa", "bf16": True, "micro_batch": 8, "accumulation": 2, "workers": 0,
    "threads": 4096,
}  # fmt: skip


def test_machine_settings_of_another_machine_are_taken_as_far_as_this_one_goes() -> None:
    found = recipes.settings(TUNED, None)
    assert found["threads"] == min(4096, 8 * (os.cpu_count() or 1)) and found["attention"] == "sdpa"
    assert "type" not in found and "time" not in found, "an event has those itself"
    assert recipes.settings(None, None) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("attention", "stranger/kernel"), ("attention", 3), ("workers", 10**6), ("workers", -1), ("micro_batch", "8"),
     ("micro_batch", 0), ("accumulation", True), ("threads", 0), ("threads", None)],
)  # fmt: skip
def test_machine_settings_that_hftransfer_never_wrote_are_refused(name: str, value: Any) -> None:
    with pytest.raises(UserError, match="hftransfer did not write them so"):
        recipes.settings({**TUNED, name: value}, None)


def test_a_kernel_is_chosen_by_whoever_names_one() -> None:
    for kernel in ("eager", "trusted/kernel"):
        assert recipes.settings({**TUNED, "attention": "stranger/kernel"}, kernel)["attention"] == kernel
    assert recipes.settings({}, "eager") == {}, "nothing was measured"


@pytest.mark.parametrize("tree", [None, [], "x", {"schema": "x"}, {"task": 1}, {"train": []}])
def test_what_hftransfer_did_not_write_is_told_in_words(tree: Any) -> None:
    with pytest.raises(UserError), recipes.of_ours("a/tuned"):
        configured(tree)
    with pytest.raises(UserError, match="made by something else"), recipes.of_ours("a/tuned"):
        {}["sources"]


def test_messages_hold_no_secret() -> None:
    said = terminal.without_secrets(
        "cannot reach https://me:pass@hub.corp/a/b, then http://x/y?X-Amz-Signature=abc&token=def hf_" + "a" * 34
    )
    assert said == "cannot reach https://hub.corp/a/b, then http://x/y?& "
    assert terminal.without_secrets("mail a@b.c, ratio 3://4") == "mail a@b.c, ratio 3://4"
