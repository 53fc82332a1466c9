"""Who is who, what a visitor may name, and what no configuration of a stranger gets through."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.ui import fetching, rules, visitors
from hftransfer.ui import settings as settings_module
from hftransfer.ui.settings import Settings, require_sign_in
from hftransfer.ui.visitors import Visitor
from hftransfer.upstream.options import peft_options, training_options
from tests.app.conftest import ALICE_TOKEN, OWNER_TOKEN

TREE: dict[str, Any] = {"task": "text-classification", "model": "owner/model", "data": {"source": "owner/rows"}}


def asked(**headers: str) -> Any:
    return SimpleNamespace(headers={name.replace("_", "-"): value for name, value in headers.items()})


def signed_in(name: str, token: str, sub: str | None = None, expires_at: float | None = None) -> tuple[Any, Any]:
    profile = {"preferred_username": name, "name": name} | ({"sub": sub} if sub else {})
    return profile, SimpleNamespace(token=token, scope="openid", expires_at=expires_at)


# --- who ---


def test_a_laptop_has_one_visitor_with_the_users_own_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", OWNER_TOKEN)
    settings = Settings.read({})
    visitor = visitors.of(asked(host="127.0.0.1:7860"), None, None, settings)

    assert (visitor.name, visitor.local, visitor.token) == ("local", True, OWNER_TOKEN)
    assert visitor.runs == Path.cwd() / "runs"
    assert not visitor.anonymous
    assert visitors.environment(visitor, settings)["HF_TOKEN"] == OWNER_TOKEN


def test_on_a_space_the_signed_in_user_has_a_folder_and_token_of_their_own(space: Settings) -> None:
    alice = visitors.of(asked(), *signed_in("alice", ALICE_TOKEN, "64a1"), space)

    assert (alice.name, alice.token, alice.local) == ("alice", ALICE_TOKEN, False)
    assert alice.folder == space.root / "users" / "alice~64a1"
    assert ALICE_TOKEN not in repr(alice)


def test_nobody_signed_in_or_expired_is_a_guest(space: Settings) -> None:
    for profile, token in ((None, None), signed_in("alice", ALICE_TOKEN, expires_at=time.time() - 1)):
        guest = visitors.of(asked(), profile, token, space)
        assert guest.anonymous and guest.token is None
        with pytest.raises(UserError, match="Sign in"):
            visitors.require(guest)


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "../bob", "~", "a~b", "\0", "bob~64b2", "a\\b", "%2e%2e", "C:", "con"]
)
def test_no_user_name_leads_out_of_its_own_folder(name: str, space: Settings) -> None:
    folder = visitors.user(space, name, "t").folder
    assert folder.parent == space.root / "users"
    assert folder.name not in ("", ".", "..", "bob~64b2", "bob")
    assert not set(folder.name) & set("/\\\0~")


def test_a_name_that_somebody_else_had_before_opens_nothing_of_theirs(space: Settings) -> None:
    assert visitors.user(space, "alice", "t", "64a1").folder != visitors.user(space, "alice", "t", "99ff").folder
    with pytest.raises(UserError):
        visitors.user(space, "", "t")


# --- environment ---


def test_a_strangers_process_gets_nothing_of_the_owners(space: Settings, alice: Visitor, guest: Visitor) -> None:
    for visitor in (alice, guest):
        found = visitors.environment(visitor, space)
        assert found.get("HF_TOKEN") == visitor.token
        assert OWNER_TOKEN not in found.values()
        assert not found.keys() & {"OAUTH_CLIENT_SECRET", "WANDB_API_KEY", "SPACE_ID"}
        for name in ("HOME", "TMPDIR", "HF_HOME", "XDG_CACHE_HOME", "HFTRANSFER_CACHE", "HF_TOKEN_PATH"):
            assert Path(found[name]).is_relative_to(visitor.folder), name
        fence = json.loads(found["HFTRANSFER_FENCE"])
        assert fence["write"] == [str(visitor.folder)]
    assert visitors.environment(guest, space)["HF_HUB_DISABLE_IMPLICIT_TOKEN"] == "1"


def test_a_process_that_fetches_a_sample_gets_what_it_needs_alone(
    space: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"PIP_INDEX_URL": "https://mirror.example/simple", "npm_config_registry": "https://mirror.example/npm",
            "HTTPS_PROXY": "http://proxy.example", "HFTRANSFER_CACHE": "/cache",
            "SYSTEMROOT": "C:\\Windows", "USERPROFILE": "C:\\Users\\a", "PATHEXT": ".EXE"}  # fmt: skip
    secret = {"HF_TOKEN": OWNER_TOKEN, "OAUTH_CLIENT_SECRET": "o", "WANDB_API_KEY": "w", "AWS_SECRET_ACCESS_KEY": "a",
              "MY_PASSWORD": "p", "GITHUB_TOKEN": "g"}  # fmt: skip
    for name, value in (kept | secret).items():
        monkeypatch.setenv(name, value)
    found = fetching.registry_environment()
    assert kept.items() <= found.items() and "PATH" in found and "PYTHONPATH" in found
    assert not set(secret) & set(found) and OWNER_TOKEN not in found.values()


def test_the_samples_are_shared_and_the_rest_of_the_cache_is_not(
    space: Settings, alice: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HFTRANSFER_CACHE", str(tmp_path / "shared"))
    (tmp_path / "shared" / "samples").mkdir(parents=True)
    found = visitors.environment(alice, space)
    assert os.path.realpath(Path(found["HFTRANSFER_CACHE"]) / "samples") == str(tmp_path / "shared" / "samples")
    assert json.loads(found["HFTRANSFER_FENCE"])["read"] == [str(tmp_path / "shared" / "samples")]


def test_tokens_are_blotted_out_of_what_is_shown(alice: Visitor) -> None:
    text = (
        f"{ALICE_TOKEN} and hf_{'x' * 34} and hf_oauth_eyJhbGciOi.J9 at hf_transfer and eyJhbGciOiJI.eyJzdWIiOiI.c2ln"
    )
    shown = visitors.redacted(text, alice)
    assert "Secret" not in shown and "xxxx" not in shown and "eyJ" not in shown
    assert "hf_transfer" in shown


# --- runs ---


def test_a_run_that_leads_elsewhere_is_not_read_by_the_app(alice: Visitor, bob: Visitor) -> None:
    for visitor, name in ((alice, "console.log"), (alice, "artifact/model.safetensors"), (bob, "")):
        folder = visitor.runs / "run"
        (folder / "artifact").mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text("task: text-classification\n")
        (folder / "events.jsonl").touch()
        if name:
            (folder / name).symlink_to("/etc/passwd")
            with pytest.raises(UserError, match="holds links"):
                visitors.find(visitor, "run")
            (folder / name).unlink()
        assert visitors.find(visitor, "run").folder == folder
    assert visitors.runs(alice) and visitors.runs(bob)
    (alice.runs / "run" / "launch.json").symlink_to("/proc/self/environ")
    assert not visitors.runs(alice) and visitors.runs(bob)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../bob~64b2/runs/secret", "/etc", "run/../run", "run\0", "x" * 300, "other", "link", "RUN"],
)
def test_a_run_is_found_by_its_own_name_alone(name: str, alice: Visitor, bob: Visitor) -> None:
    for visitor, run in ((alice, "run"), (bob, "secret")):
        (visitor.runs / run).mkdir(parents=True)
        (visitor.runs / run / "config.yaml").write_text("task: x\n")
        (visitor.runs / run / "events.jsonl").write_text("")
    (alice.runs / "link").symlink_to(bob.runs / "secret")

    assert visitors.find(alice, "run").folder == alice.runs / "run"
    assert [run.name for run in visitors.runs(alice)] == ["run"]
    with pytest.raises(UserError, match="one of your runs"):
        visitors.find(alice, name)


def test_what_is_there_and_what_is_not_are_refused_alike(space: Settings, alice: Visitor, bob: Visitor) -> None:
    (bob.runs / "qxz1").mkdir(parents=True)
    (bob.runs / "qxz1" / "config.yaml").write_text("task: x\n")
    (bob.uploads / "qxz1.csv").parent.mkdir(parents=True)
    (bob.uploads / "qxz1.csv").write_text("text,label\n")

    def said(name: str) -> list[str]:
        found = []
        for ask in (
            lambda: visitors.find(alice, name),
            lambda: rules.place(alice, str(bob.runs / name), space),
            lambda: rules.admit_data(alice, {**TREE, "data": {"source": str(bob.uploads / f"{name}.csv")}}, space),
            lambda: rules.admit_data(
                alice, {**TREE, "data": {"source": f"../../{bob.folder.name}/uploads/{name}.csv"}}, space
            ),
        ):
            with pytest.raises(UserError) as refused:
                ask()
            found.append(str(refused.value).replace(name, "NAME"))
        return found

    assert said("qxz1") == said("qxz2")


# --- what may be named ---


def hostile(bob: Visitor) -> dict[str, dict[str, Any]]:
    theirs = str(bob.uploads / "rows.csv")
    peft = {"method.name": "lora"}
    return {
        "another's rows": {"data.source": theirs},
        "another's rows by a detour": {"data.source": f"../users/{bob.folder.name}/uploads/rows.csv"},
        "the processes' secrets": {"data.source": "/proc/self/environ"},
        "the root folder": {"data.source": "/"},
        "the app's folder": {"data.source": "."},
        "the home folder": {"data.source": "~/.cache/huggingface/token"},
        "a URL": {"data.source": "http://169.254.169.254/latest/meta-data.csv"},
        "a file system": {"data.source": "s3://bucket/rows.csv"},
        "a Hub file system": {"data.source": "hf://datasets/owner/rows/x.csv"},
        "a builder, which reads the app's folder": {"data.source": "text"},
        "a builder that reads folders": {"data.source": "imagefolder"},
        "a chained path": {"data.source": "zip://x::/etc/passwd"},
        "a Hub id that leads up": {"data.source": "owner/.."},
        "a nul": {"data.source": "rows\0.csv"},
        "a name of 300 letters": {"data.source": "x" * 300 + ".csv"},
        "half a character": {"data.source": "\ud800.csv"},
        "a sample that is none": {"data.source": "sample:../../etc"},
        "a model as data": {"data.source": "sample:all-minilm-l6-v2"},
        "another's test rows": {"data.test": theirs},
        "another's unlabelled rows": {"data.unlabelled": theirs},
        "unlabelled rows of the machine": {"data.unlabelled": "/etc/passwd"},
        "test rows beside the source": {"data.test": "../../bob/rows.csv"},
        "a revision that leads up": {"data.revision": "../../main"},
        "a model's revision that leads up": {"revision": "refs/../../x"},
        "another's model": {"model": str(bob.runs / "secret" / "artifact")},
        "a model of the machine": {"model": "/usr"},
        "a model up the tree": {"model": "../../model"},
        "a model in the app's folder": {"model": "here"},
        "a sample model that is none": {"model": "sample:../x"},
        "pickled weights": {"allow_pickle": True},
        "another's run as output": {"output": str(bob.runs / "secret")},
        "a metric that is code": {"evaluation.metrics": ["owner/metric"]},
        "a metric that is a file": {"evaluation.metrics": ["./metric.py"]},
        "evaluate's own metric, which is code": {"evaluation.metrics": ["rouge"]},
        "ten million resamples": {"evaluation.resamples": 10_000_000},
        "a kernel from the Hub": {"speed.attention": "owner/kernel"},
        "a thousand threads": {"speed.threads": 1000},
        "DeepSpeed's file": {"train.deepspeed": "/etc/passwd"},
        "DeepSpeed's program": {"train.deepspeed": {"aio": {"nvme_path": "/data"}}},
        "FSDP's file": {"train.fsdp_config": "/data/config.json"},
        "accelerate's file": {"train.accelerator_config": "/data/config.json"},
        "the owner's accounts": {"train.report_to": "all"},
        "the owner's accounts, listed": {"train.report_to": ["none", "wandb"]},
        "a Space to be made": {"train.trackio_space_id": "owner/space"},
        "a compiler": {"train.torch_compile_backend": "x"},
        "a debugger": {"train.debug": "underflow_overflow"},
        "a token to be published": {"train.hub_token": "hf_x"},
        "a push of its own": {"train.push_to_hub": True},
        "an optimizer's arguments": {"train.optim_args": "file=/etc/passwd"},
        "a logging level": {"train.log_level": "debug"},
        "a metric to choose by that is code": {"train.metric_for_best_model": "owner/metric"},
        "a thousand loader processes": {"train.dataloader_num_workers": 1000},
        "a batch of a billion rows": {"train.per_device_train_batch_size": 10**9},
        "a module to import": peft | {"method.megatron_core": "os"},
        "a base model of another": peft | {"method.base_model_name_or_path": str(bob.folder)},
        "a pickle to read": peft | {"method.corda_config": {"covariance_file": "/data/x.pt"}},
        "an initialisation that reads": peft | {"method.init_lora_weights": "corda"},
        "a config of mappings": peft | {"method.auto_mapping": {"parent_library": "os"}},
        "an offload folder": peft | {"method.runtime_config": {"offload_folder": str(bob.folder)}},
        "another's run to fuse": {"method.name": "fuse", "method.runs": [str(bob.runs / "secret")]},
        "a task that is a module": {"task": "os"},
        "a method that is a module": {"method.name": "../peft"},
    }  # fmt: skip


CASES = tuple(hostile(Visitor("bob", Path("/root/users/bob"))))


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_configuration_is_refused(case: str, space: Settings, alice: Visitor, bob: Visitor) -> None:
    Path("here").mkdir()
    (bob.runs / "secret" / "artifact").mkdir(parents=True)
    bob.uploads.mkdir()
    (bob.uploads / "rows.csv").write_text("text,label\nsecret,1\n")
    tree = json.loads(json.dumps(TREE))
    assert rules.admit(alice, tree, space), "what is refused below is not the rest of it"
    for dotted, value in hostile(bob)[case].items():
        *parents, last = dotted.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value

    with pytest.raises(UserError) as refused:
        rules.admit(alice, tree, space)
    assert dotted in str(refused.value), "the message names what is wrong"
    assert len(str(refused.value)) < 1500
    assert "secret,1" not in str(refused.value)


def test_every_shipped_configuration_is_admitted(space: Settings, alice: Visitor) -> None:
    seen = 0
    for path in sorted((Path(__file__).parents[2] / "configs").glob("*/*.yaml")):
        tree = rules.read(path.read_text())
        if "task" in tree and str(tree["data"]["source"]).startswith("sample:") and not tree.get("output"):
            rules.admit(alice, tree, space)
            seen += 1
    assert seen >= 6


def test_what_people_set_is_admitted_and_capped(space: Settings, alice: Visitor) -> None:
    alice.uploads.mkdir(parents=True)
    (alice.uploads / "rows.csv").write_text("text,label\n")
    tree = {
        **TREE,
        "data": {"source": "rows.csv", "columns": {"text": "text"}, "test": "held-out.csv"},
        "method": {
            "name": "lora", "r": 4, "target_modules": ["query", "value"], "bias": "lora_only",
            "init_lora_weights": "pissa_niter_4", "rank_pattern": {"layer.0": 8}, "use_dora": True,
        },
        "train": {
            "learning_rate": 1e-4, "lr_scheduler_type": "cosine", "optim": "adafactor", "eval_strategy": "steps",
            "class_weights": {"good": 2.0}, "metric_for_best_model": "eval_f1_macro", "report_to": "none",
            "gradient_checkpointing_kwargs": {"use_reentrant": False}, "label_smoothing_factor": 0.1,
        },
        "evaluation": {"metrics": ["mcc"]},
        "hub": {"repo": "alice/mine", "push": True},
    }  # fmt: skip
    config = rules.admit(alice, tree, space)
    assert config.data.source == str(alice.uploads / "rows.csv")
    assert config.data.max_rows == space.rows


@pytest.mark.parametrize(
    "method",
    [{"name": "full", "init_head": "probe"}, {"name": "zero_shot", "templates": ["This is {}."]}, {"name": "probe"}],
)
def test_our_own_methods_words_are_admitted(method: dict[str, Any], space: Settings, alice: Visitor) -> None:
    assert rules.admit(alice, {**TREE, "method": method}, space).method.name == method["name"]


def test_a_laptop_is_not_held_to_a_spaces_rules(tmp_path: Path) -> None:
    settings = Settings.read({"HFTRANSFER_ROOT": str(tmp_path)})
    local = visitors.of(None, None, None, settings)
    tree = {**TREE, "data": {"source": "/data/rows.csv"}, "model": "../model", "train": {"report_to": "wandb"}}
    assert rules.admit(local, tree, settings).data.max_rows is None


def test_the_closed_sets_are_those_of_the_engine() -> None:
    assert {"deepspeed", "report_to", "fsdp_config"} <= training_options().keys()
    known = {name for kind in ("lora", "ia3") for name in peft_options(kind)} | {"name", "freeze"}
    assert known >= rules.LAYERS
    assert (
        rules.admit_data(Visitor("l", Path(), local=True), TREE, Settings.read({}))["data"]["source"] == "owner/rows"
    )
    assert "lora" in catalog.methods()


# --- pasted text ---


def laughs(levels: int) -> str:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


PASTED = {
    "a billion laughs": laughs(10),
    "an alias": "task: &t text-classification\nmodel: *t\n",
    "a Python object": "task: !!python/object/apply:os.system ['id']\n",
    "another tag": "task: !!binary aGFsbG8=\n",
    "100,000 lists in lists": "task: " + "[" * 30_000 + "]" * 30_000,
    "20 maps in maps": "{a: " * 20 + "1" + "}" * 20,
    "a megabyte": "task: " + "x" * 2**20,
    "a word of 10,000 letters": "task: " + "x" * 10_000,
    "a name of 10,000 letters": "x" * 10_000 + ": 1",
    "5,000 names": "\n".join(f"k{i}: 1" for i in range(5_000)),
    "a number of 5,000 digits": "seed: " + "9" * 5_000,
    "a number of 40 hexadecimal digits": "seed: 0x" + "f" * 40,
    "a list": "- task",
    "a word": "task",
    "nothing": "",
    "two documents": "task: a\n---\ntask: b\n",
    "a name twice": "task: a\ntask: b\n",
    "half a quote": 'task: "a',
    "control characters": "task: a\x00\x1b[31m",
}


@pytest.mark.parametrize("case", PASTED)
def test_hostile_yaml_is_refused_at_once(case: str) -> None:
    began = time.process_time()  # other work on the machine does not count
    with pytest.raises(UserError) as refused:
        rules.read(PASTED[case])
    assert time.process_time() - began < 3
    assert len(str(refused.value)) < 600


def test_a_tree_that_came_another_way_is_measured_too(space: Settings, alice: Visitor) -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    for tree in (
        {**TREE, "train": {"x": deep}},
        {**TREE, "seed": 10**30},
        {**TREE, "task": "x" * 9999},
        "task",
        None,
        [1],
    ):
        with pytest.raises(UserError):
            rules.admit(alice, tree, space)  # type: ignore[arg-type]


def test_good_yaml_is_read_as_ever() -> None:
    assert rules.read("task: t\ntrain: {learning_rate: 1e-4}\n")["train"] == {"learning_rate": 1e-4}
    assert rules.read(json.dumps(TREE)) == TREE


# --- settings ---


def test_settings_come_from_the_environment_and_wrong_ones_are_told() -> None:
    space = Settings.read({"SPACE_ID": "a/b", "HFTRANSFER_UPLOAD_MB": "7", "HFTRANSFER_RUN_SECONDS": "0"})
    assert (space.upload_mb, space.run_seconds, space.space) == (7, 0, True)
    for text in ("-1", "many", "1e3", "\N{FULLWIDTH DIGIT ONE}"):
        with pytest.raises(UserError, match="HFTRANSFER_ROWS"):
            Settings.read({"HFTRANSFER_ROWS": text})


def test_a_space_says_what_its_machine_lacks(tmp_path: Path) -> None:
    assert settings_module.remarks(Settings.read({})) == []
    bare = Settings.read({"SPACE_ID": "a/b", "HFTRANSFER_ROOT": str(tmp_path)})
    zero, storage = settings_module.remarks(bare, {"SPACES_ZERO_GPU": "true"})
    assert "train on the CPU" in zero
    assert "a restart deletes runs" in storage
    assert settings_module.remarks(Settings.read({"SPACE_ID": "a/b", "HFTRANSFER_ROOT": "/data/x"}), {}) == []


SIGN_IN = {
    "SYSTEM": "spaces", "OAUTH_CLIENT_ID": "a", "OAUTH_CLIENT_SECRET": "b", "OAUTH_SCOPES": "openid",
    "OPENID_PROVIDER_URL": "https://huggingface.co",
}  # fmt: skip


@pytest.mark.parametrize("missing", [*SIGN_IN, ""])
def test_a_space_does_not_start_where_anybody_could_be_anybody(missing: str, space: Settings) -> None:
    require_sign_in(space, SIGN_IN)
    require_sign_in(Settings.read({}), {})
    with pytest.raises(UserError, match="hf_oauth: true"):
        require_sign_in(space, SIGN_IN | {missing: ""} if missing else {})


def test_the_owners_tokens_leave_the_process(space: Settings) -> None:
    code = """
        import os
        from pathlib import Path
        from huggingface_hub import get_token
        from hftransfer.ui import visitors
        from hftransfer.ui.settings import Settings
        visitors.forget_owner(Settings.read({}))
        before = get_token()
        visitors.forget_owner(Settings.read({"SPACE_ID": "a/b"}))
        print(before == "hf_owner", get_token(), Path("/proc/self/environ").stat().st_uid)
    """
    environment = {**os.environ, "HF_TOKEN": "hf_owner", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "True None 0\n", done.stdout + done.stderr


def test_a_visitor_travels_nowhere(alice: Visitor) -> None:
    assert re.fullmatch(r"Visitor\(name='alice', folder=.*, local=False\)", repr(alice))
    with pytest.raises(TypeError, match="stays in this process"):
        pickle.dumps(alice)
