"""Publishing a finished run: what the repo holds, that it is proven, and that no failure loses or repeats anything."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from hftransfer.runs import Run
from tests.hub.conftest import python
from tests.hub.finished import call, events, last, start
from tests.hub_server import HubServer

FILES = {
    ".gitattributes", "README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    "hftransfer.json", "run.yaml", "adapter/adapter_config.json", "adapter/adapter_model.safetensors",
    "plots/confusion_matrix.png", "plots/confusion_matrix.json", "plots/reliability.png", "plots/reliability.json",
}  # fmt: skip
# the pauses between tries, ours and the client's own, would take minutes
QUICKLY = """
import sys
from hftransfer import cli
from hftransfer.hub import retrying
import huggingface_hub.utils._http as http
retrying.PAUSES = (0.1, 0.1)
http.time.sleep = lambda seconds: None
sys.exit(cli.main(["publish", {folder!r}, "alice/tuned", "--no-verify", "--json"]))
"""


def publish(hub: HubServer, run: Run, *words: str, user: str = "alice", verify: bool = False) -> dict[str, Any]:
    """Publish as a user and return the event `published`; a failure shows what was printed."""
    flags = ["--json", *([] if verify else ["--no-verify"])]
    done = call(hub, user, run.folder.parents[1] / "home", "publish", run.folder, *words, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    return events(done.stdout)[-1]


def quickly(hub: HubServer, run: Run) -> subprocess.CompletedProcess[str]:
    """Publish as alice, without pauses between the tries."""
    code = QUICKLY.format(folder=str(run.folder))
    return python(code, hub, "alice", run.folder.parents[1] / "home", check=False)


def texts(hub: HubServer, repo: str) -> str:
    """Return everything in a repo that is text, in one string."""
    return "\n".join(content.decode(errors="replace") for content in hub.files(repo).values())


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for half a minute at most."""
    end = time.monotonic() + 30
    while time.monotonic() < end and not true():
        time.sleep(0.02)
    assert true()


def arrived(hub: HubServer) -> list[Any]:
    """Return the uploads of large files that were taken."""
    return [one for one in hub.requests if one.route == "lfs-put" and one.status == 200]


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_a_repo_that_strangers_can_use(xet: bool, run: Run, tmp_path: Path) -> None:
    with HubServer(xet=xet) as hub:
        said = publish(hub, run, "alice/tuned", verify=True)
        assert said["type"] == "published" and said["verified"] and said["url"] == f"{hub.endpoint}/alice/tuned"
        repo = hub.repo("alice/tuned")
        assert repo is not None and not repo.private and repo.branches["main"] == said["commit"]
        files = hub.files("alice/tuned")
        assert set(files) == FILES
        assert said["uploaded_files"] == len(FILES) - 1 and said["unchanged_files"] == 0
        for name in ("config.json", "model.safetensors", "run.yaml"):
            assert files[name] == (run.artifact / name).read_bytes()
        everything = texts(hub, "alice/tuned")
        for private in (hub.token("alice"), str(tmp_path), str(Path.home()), str(run.folder), "/tmp/"):
            assert private not in everything
        assert not hub.leaks
        assert any(one.route == "xet-token" for one in hub.requests) == xet

        recipe = yaml.safe_load(files["run.yaml"])
        assert recipe["schema"] == 2 and recipe["model"] == "model" and "hub" not in recipe and "output" not in recipe
        notes = json.loads(files["hftransfer.json"])
        assert notes["schema"] == 3 and notes["files"] == sorted(FILES - {".gitattributes"})
        assert notes["answer"]["names"] == ["negative", "positive"]
        card = files["README.md"].decode()
        assert "alice/tuned" in card and yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "text-classification"

        # a stranger: no token, nothing in the cache, and with transformers and peft alone
        code = """
        import json, sys
        from transformers import AutoModelForSequenceClassification, AutoModel, pipeline
        from peft import PeftModel
        answer = pipeline("text-classification", "alice/tuned")(["a lovely film", "a bad film"])
        model = AutoModelForSequenceClassification.from_pretrained("alice/tuned")
        again = PeftModel.from_pretrained(model, "alice/tuned", subfolder="adapter")
        assert not any(name.startswith("hftransfer") for name in sys.modules)
        print(json.dumps([answer, model.config.id2label, again.peft_config["default"].base_model_name_or_path]))
        """
        answer, names, base = json.loads(python(code, hub, None, tmp_path / "stranger").stdout.splitlines()[-1])
        assert [one["label"] for one in answer] == ["positive", "negative"]
        assert names == {"0": "negative", "1": "positive"} and base == "model"
        asked = call(hub, None, tmp_path / "other" / "home", "predict", "alice/tuned", "a lovely film", "--json")
        assert asked.returncode == 0, asked.stderr
        assert json.loads(asked.stdout)["label"] == "positive"


def test_a_second_publication_sends_nothing(hub: HubServer, run: Run) -> None:
    first = publish(hub, run, "alice/tuned", "--private")
    assert hub.repo("alice/tuned").private and hub.uploaded_bytes >= first["uploaded_bytes"] > 0
    hub.clear_log()
    second = publish(hub, run, "alice/tuned")
    assert (second["uploaded_files"], second["uploaded_bytes"], hub.uploaded_bytes) == (0, 0, 0)
    assert second["unchanged_files"] == first["uploaded_files"] and second["commit"] == first["commit"]
    assert not [one for one in hub.requests if one.route in ("commit", "lfs-put", "lfs-batch", "create")]
    assert hub.repo("alice/tuned").private, "what was not said changes nothing"
    publish(hub, run, "alice/tuned", "--no-private")
    assert not hub.repo("alice/tuned").private


def test_what_an_earlier_publication_left_is_taken_away(hub: HubServer, run: Run) -> None:
    publish(hub, run, "alice/tuned")
    hub.commit("alice/tuned", {"NOTES.md": b"mine"})
    (run.artifact / "adapter" / "adapter_config.json").unlink()
    (run.artifact / "adapter" / "adapter_model.safetensors").unlink()
    again = publish(hub, run, "alice/tuned")
    assert again["uploaded_files"] == 1  # hftransfer.json, which lists the files
    assert set(hub.files("alice/tuned")) == {n for n in FILES if not n.startswith("adapter/")} | {"NOTES.md"}


def test_a_card_that_was_edited_by_hand_stays(hub: HubServer, run: Run) -> None:
    publish(hub, run, "alice/tuned")
    hub.commit("alice/tuned", {"README.md": b"---\nlicense: mit\n---\n# Mine\n"})
    again = call(hub, "alice", run.folder.parents[1] / "home", "publish", run.folder, "alice/tuned", "--no-verify")
    assert again.returncode == 0 and "README.md was edited by hand and stays" in again.stdout, again.stderr
    assert hub.files("alice/tuned")["README.md"].endswith(b"# Mine\n")
    ours = hub.files("alice/tuned")["hftransfer-card.md"]
    publish(hub, run, "alice/tuned")  # and stays the next time too
    assert hub.files("alice/tuned")["README.md"].endswith(b"# Mine\n")
    publish(hub, run, "alice/tuned", "--replace-card")
    assert hub.files("alice/tuned")["README.md"] == ours and "hftransfer-card.md" not in hub.files("alice/tuned")


def test_a_card_of_front_matter_alone_is_nobodys(hub: HubServer, run: Run) -> None:
    hub.create_repo("alice/new", files={"README.md": b"---\nlicense: mit\n---\n"})
    publish(hub, run, "alice/new")
    assert len(hub.files("alice/new")["README.md"]) > 500
    hub.create_repo("alice/old", files={"README.md": b"# Written before\n"})
    publish(hub, run, "alice/old")
    assert hub.files("alice/old")["README.md"] == b"# Written before\n"


def test_a_pull_request_to_somebody_elses_repo(hub: HubServer, run: Run) -> None:
    hub.create_repo("bob/theirs", files={"config.json": b"{}", "model.safetensors": b"theirs"})
    refused = call(hub, "alice", run.folder.parents[1] / "home", "publish", run.folder, "bob/theirs")
    assert refused.returncode == 2 and "alice does not belong to bob" in refused.stderr
    said = publish(hub, run, "bob/theirs", "--create-pr", verify=True)
    assert said["verified"] and said["pull_request"] and said["url"] == said["pull_request"]
    assert hub.files("bob/theirs")["model.safetensors"] == b"theirs"
    proposed = hub.files("bob/theirs", revision="refs/pr/1")
    assert (
        set(proposed) == FILES and proposed["model.safetensors"] == (run.artifact / "model.safetensors").read_bytes()
    )


def test_the_licence_is_the_bases_unless_named(hub: HubServer, run: Run) -> None:
    publish(hub, run, "alice/tuned", "--license", "mit")
    assert "license: mit" in hub.files("alice/tuned")["README.md"].decode()
    publish(hub, run, "alice/tuned", "--license", "my-own")
    assert "license: other\nlicense_name: my-own" in hub.files("alice/tuned")["README.md"].decode()


def test_a_card_that_the_hub_refuses(hub: HubServer, run: Run) -> None:
    hub.fault("validate", status=400)
    done = call(hub, "alice", run.folder.parents[1] / "home", "publish", run.folder, "alice/tuned", "--no-verify")
    assert done.returncode == 2 and "a card that the Hub accepts is needed" in done.stderr
    assert "Traceback" not in done.stderr and hub.files("alice/tuned").keys() == {".gitattributes"}


# --- proof ---


def test_other_labels_are_found_out(hub: HubServer, run: Run) -> None:
    path = run.artifact / "config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"id2label": {"0": "positive", "1": "negative"}}))
    done = call(hub, "alice", run.folder.parents[1] / "home", "publish", run.folder, "alice/tuned")
    assert done.returncode == 1
    assert "pipeline() has the labels positive, negative in place of negative, positive" in done.stderr
    assert last(run, "unpublished")["user_error"] is False and not (run.folder / "published.json").exists()
    assert run.status().state == "done" and run.status().publication == "unpublished"


def test_other_probabilities_are_found_out(hub: HubServer, run: Run) -> None:
    path = run.predictions / "test.parquet"
    table = pq.read_table(path)
    moved = [[score[0] - 0.01, score[1] + 0.01] for score in table["scores"].to_pylist()]
    place = table.column_names.index("scores")
    pq.write_table(table.set_column(place, "scores", pa.array(moved, table["scores"].type)), path)
    done = call(hub, "alice", run.folder.parents[1] / "home", "publish", run.folder, "alice/tuned")
    assert done.returncode == 1 and "Predictor gives probabilities that are up to 0.01 off" in done.stderr
    assert "pipeline() gives probabilities that are up to 0.01 off" in done.stderr


def test_a_repo_that_cannot_be_loaded_is_found_out(hub: HubServer, run: Run) -> None:
    (run.artifact / "tokenizer.json").unlink()
    (run.artifact / "tokenizer_config.json").unlink()
    done = call(hub, "alice", run.folder.parents[1] / "home", "publish", run.folder, "alice/tuned")
    assert done.returncode == 1 and "it cannot be loaded" in done.stderr and "tokenizer" in done.stderr


# --- what must not be published ---


@pytest.mark.parametrize("name", ["README.md", "tokenizer_config.json"])
def test_a_token_is_not_published(hub: HubServer, run: Run, name: str) -> None:
    secret = "hf_" + "Ab3" * 12
    if name == "README.md":  # the card is made from the result
        result = run.result()
        result["data"]["warnings"].append(f"split {secret} is not used")
        run.result_path.write_text(json.dumps(result))
    else:
        path = run.artifact / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"note": secret}))
    done = call(hub, "alice", run.folder.parents[1] / "home", "publish", run.folder, "alice/tuned")
    assert done.returncode == 2 and f"{name} holds an access token" in done.stderr and secret not in done.stderr
    assert hub.repo("alice/tuned") is None


def test_a_path_of_this_machine_is_not_published(hub: HubServer, run: Run) -> None:
    path = run.artifact / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"note": f"{run.folder}/checkpoints"}))
    done = call(hub, "alice", run.folder.parents[1] / "home", "publish", run.folder, "alice/tuned")
    assert done.returncode == 2 and "config.json holds a path below" in done.stderr
    assert hub.repo("alice/tuned") is None


def test_pickles_logs_and_hidden_files_stay_here(hub: HubServer, run: Run) -> None:
    for name in ("training_args.bin", "optimizer.pt", "console.log", ".secret", "events.jsonl", "rng_state.pth"):
        (run.artifact / name).write_bytes(b"x")
    publish(hub, run, "alice/tuned")
    assert set(hub.files("alice/tuned")) == FILES


def test_only_a_finished_run_is_published(hub: HubServer, run: Run) -> None:
    run.result_path.unlink()
    done = call(hub, "alice", run.folder.parents[1] / "home", "publish", run.folder, "alice/tuned")
    assert done.returncode == 2 and "a finished run is needed" in done.stderr
    (run.predictions / "examples.parquet").unlink()
    old = call(hub, "alice", run.folder.parents[1] / "home", "publish", run.folder, "alice/tuned")
    assert old.returncode == 2 and "Publish with --no-verify" in old.stderr
    named = call(hub, "alice", run.folder.parents[1] / "home", "publish", run.folder)
    assert named.returncode == 2 and "a repo to publish to is needed" in named.stderr
    assert not hub.repos


# --- faults: each is survived in one command, and nothing is lost ---

LASTING: list[tuple[str, dict[str, Any], int, str]] = [
    ("commit", {"status": 403}, 2, "a token that may write to alice/tuned is needed"),
    ("commit", {"status": 401}, 2, "Make another at"),  # the token expires after the upload
    ("commit", {"status": 503, "times": None}, 2, "several attempts failed"),
    ("lfs-put", {"cut": True, "times": None}, 2, "several attempts failed"),
]
INTERRUPTIONS = ("somebody else's commit meanwhile", "kill -9", "Ctrl-C")  # tests of their own below

SURVIVED: dict[str, list[dict[str, Any]]] = {
    "commit answers 503 once": [{"name": "commit", "status": 503}],
    "commit is rate limited": [{"name": "commit", "status": 429, "headers": {"Retry-After": "1"}}],
    "commit is made, and its answer lost": [{"name": "commit", "lost": True}],
    "connection cut in an upload": [{"name": "lfs-put", "cut": True}],
    "connection cut in two uploads": [{"name": "lfs-put", "cut": True, "times": 2}],
    "upload answers 500": [{"name": "lfs-put", "status": 500}],
    "upload batch answers 502": [{"name": "lfs-batch", "status": 502}],
    "upload check answers 503": [{"name": "lfs-verify", "status": 503}],
    "preupload answers 503": [{"name": "preupload", "status": 503}],
    "preupload is cut": [{"name": "preupload", "cut": True}],
    "card check answers 503": [{"name": "validate", "status": 503}],
    "whoami answers 503": [{"name": "whoami", "status": 503}],
    "making the repo answers 503": [{"name": "create", "status": 503}],
    "repo is made, and the answer lost": [{"name": "create", "lost": True}],
    "info answers 504": [{"name": "info", "status": 504}],
    "slow answers": [{"name": "*", "delay": 0.2, "times": 5}],
    "everything fails once": [
        {"name": name, "status": 503} for name in ("whoami", "create", "validate", "preupload", "lfs-batch", "commit")
    ],
}


def test_the_page_counts_the_faults() -> None:
    page = (Path(__file__).parents[2] / "docs" / "hub.md").read_text()
    passing = len(SURVIVED) + len(INTERRUPTIONS)
    assert f"nothing lost | {passing} |" in page and f"completes | {len(LASTING)} |" in page


@pytest.mark.parametrize("case", SURVIVED)
def test_a_fault_that_passes_is_survived(hub: HubServer, run: Run, case: str) -> None:
    for fault in SURVIVED[case]:
        hub.fault(**fault)
    if case == "commit answers 503 once":  # with the pauses that users wait for
        said = publish(hub, run, "alice/tuned")
    else:
        done = quickly(hub, run)
        assert done.returncode == 0, done.stdout + done.stderr
        said = events(done.stdout)[-1]
    assert len(hub.fired) >= len(SURVIVED[case]), "the fault never happened"
    assert set(hub.files("alice/tuned")) == FILES
    assert hub.repo("alice/tuned").branches["main"] == said["commit"]
    assert hub.files("alice/tuned")["model.safetensors"] == (run.artifact / "model.safetensors").read_bytes()
    assert len([c for c in hub.repo("alice/tuned").commits if c.title.startswith("Publish")]) == 1
    assert not hub.leaks


def test_somebody_elses_commit_meanwhile(hub: HubServer, run: Run) -> None:
    publish(hub, run, "alice/tuned")
    result = run.result()
    result["data"]["warnings"].append("a new sentence")
    run.result_path.write_text(json.dumps(result))
    meanwhile = iter([True])

    def commit_first(record: Any) -> bool:
        if next(meanwhile, False):
            hub.commit("alice/tuned", {"NOTES.md": b"in between"})
        return False

    hub.fault("preupload", when=commit_first)
    publish(hub, run, "alice/tuned")
    assert [one.status for one in hub.requests if one.route == "commit"][-2:] == [412, 200]
    files = hub.files("alice/tuned")
    assert files["NOTES.md"] == b"in between" and b"a new sentence" in files["README.md"]


@pytest.mark.parametrize(("name", "fault", "code", "words"), LASTING)
def test_a_fault_that_stays_leaves_the_run_as_it_is(
    hub: HubServer, run: Run, name: str, fault: dict[str, Any], code: int, words: str
) -> None:
    before = {path: path.read_bytes() for path in run.artifact.rglob("*") if path.is_file()}
    hub.fault(name, **fault)
    done = quickly(hub, run)
    assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr
    assert hub.token("alice") not in done.stdout + done.stderr
    assert {path: path.read_bytes() for path in run.artifact.rglob("*") if path.is_file()} == before
    assert run.status().state == "done" and run.status().unpublished
    hub.clear_faults()
    hub.clear_log()
    said = publish(hub, run, "alice/tuned")
    assert said["uploaded_files"] == len(FILES) - 1 and set(hub.files("alice/tuned")) == FILES
    if name == "commit":  # the large files had arrived
        assert not [one for one in hub.requests if one.route == "lfs-put"]


def test_an_uploader_killed_half_way_goes_on_where_it_was(hub: HubServer, run: Run) -> None:
    home = run.folder.parents[1] / "home"
    hub.fault("lfs-put", delay=60.0, after=1)
    child = start(hub, "alice", home, "publish", run.folder, "alice/tuned", "--no-verify")
    large = 4  # two weights, two pictures
    wait_until(lambda: len(arrived(hub)) == large - 1 and bool(hub.fired))
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert set(hub.files("alice/tuned")) == {".gitattributes"}, "no half of it may be seen"
    assert run.status().publication == "unpublished" and run.status().state == "done"
    hub.clear_faults()
    hub.clear_log()
    publish(hub, run, "alice/tuned")
    assert set(hub.files("alice/tuned")) == FILES
    assert len(arrived(hub)) == 1, "what had arrived is not sent again"


def test_an_interrupted_uploader_says_so(hub: HubServer, run: Run) -> None:
    hub.fault("lfs-put", delay=20.0)
    child = start(hub, "alice", run.folder.parents[1] / "home", "publish", run.folder, "alice/tuned", "--no-verify")
    wait_until(lambda: bool(hub.fired))
    began = time.monotonic()
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=300)
    assert time.monotonic() - began < 15, "it must not wait for the upload"
    assert child.returncode == 130 and "Traceback" not in err
    assert "publish again" in last(run, "unpublished")["message"]


def test_nobody_sees_a_token(hub: HubServer, run: Run) -> None:
    done = call(hub, "alice", run.folder.parents[1] / "home", "publish", run.folder, "alice/tuned", "--json")
    held = "".join(path.read_text(errors="replace") for path in run.folder.rglob("*") if path.is_file())
    for text in (done.stdout, done.stderr, held, texts(hub, "alice/tuned")):
        assert not re.search(r"hf_[A-Za-z0-9]{20,}", text)
    assert not hub.leaks
