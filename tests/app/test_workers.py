"""Workers: what they answer, and that nothing that happens in one ends the app or reaches another visitor."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.ui import asking, estimating, fetching, uploads, visitors, worker_process, workers
from hftransfer.ui.line import LINE
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from hftransfer.ui.workers import Workers
from tests import tiny
from tests.app.conftest import BOB_TOKEN, Finished, tree_of
from tests.app.test_queueing import until


@pytest.fixture(scope="module")
def answering(finished: Finished) -> Iterator[Workers]:
    """Return workers that stay for the whole module: the imports take seconds."""
    found = Workers(finished.settings)
    yield found
    found.close()


def test_preview_shows_rows_roles_and_balance(answering: Workers, finished: Finished) -> None:
    seen = answering.call(
        finished.visitor, "preview", tree={"task": "text-classification", "data": {"source": "rows.csv"}}
    )

    assert seen["columns"] == [{"name": "text", "type": "string"}, {"name": "label", "type": "string"}]
    assert [choice["column"] for choice in seen["choices"]] == ["text", "label"]
    assert len(seen["rows"]) == 8
    assert seen["rows"][0]["text"]["form"] == "text"
    assert {entry["label"] for entry in seen["balance"]} == {"negative", "positive"}
    assert sum(seen["splits"].values()) == 103
    assert any("cut from train" in warning for warning in seen["warnings"])
    (worker,) = answering._workers.values()
    assert psutil.Process(worker._process.pid).nice() > psutil.Process().nice(), "training goes first"


def test_preview_shows_pictures_as_pictures(answering: Workers, finished: Finished) -> None:
    folder = tiny.image_folder(finished.visitor.uploads / "photos", 24)
    seen = answering.call(
        finished.visitor, "preview", tree={"task": "image-classification", "data": {"source": str(folder)}}
    )

    assert seen["rows"][0]["image"]["value"].startswith("data:image/png;base64,")
    assert [choice["role"] for choice in seen["choices"]] == ["image", "label"]


def test_preview_of_columns_that_are_unclear_shows_rows_and_says_why(answering: Workers, finished: Finished) -> None:
    (finished.visitor.uploads / "odd.csv").write_text("a,b\n" + "".join(f"{i},{i * i}\n" for i in range(20)))
    seen = answering.call(
        finished.visitor, "preview", tree={"task": "text-classification", "data": {"source": "odd.csv"}}
    )

    assert seen["rows"]
    assert "needs a text column" in seen["problem"]


def test_markup_in_data_stays_text(answering: Workers, finished: Finished) -> None:
    rows = "".join(f'"<script>alert({i})</script>",<img src=x onerror=alert({i % 2})>\n' for i in range(40))
    (finished.visitor.uploads / "markup.csv").write_text(f"text,label\n{rows}")
    seen = answering.call(
        finished.visitor, "preview", tree={"task": "text-classification", "data": {"source": "markup.csv"}}
    )

    assert seen["rows"][3]["text"] == {"form": "text", "value": "<script>alert(3)</script>"}
    assert {entry["label"] for entry in seen["balance"]} == {f"<img src=x onerror=alert({i})>" for i in (0, 1)}


def test_what_a_model_is(answering: Workers, finished: Finished) -> None:
    where = str(finished.visitor.uploads / "model")
    found = answering.call(finished.visitor, "model", model=where, revision=None, task="text-classification")

    assert found["architecture"] == "BertForSequenceClassification"
    assert found["parameters"] > 20_000
    assert found["longest"] == 64
    with pytest.raises(UserError, match="image-classification"):
        answering.call(finished.visitor, "model", model=where, revision=None, task="image-classification")


def test_predictions_examples_errors_and_reasons(answering: Workers, finished: Finished) -> None:
    visitor, name = finished.visitor, finished.run.name
    one, two = answering.call(visitor, "predict", where=name, inputs=["a good film", {"text": "a bad film"}], top_k=1)
    assert one["input"] == "a good film"
    assert list(one["scores"]) == [one["label"]]
    assert two["input"] == "a bad film"

    shown = answering.call(visitor, "examples", run=name, n=3)
    assert len(shown) == 3
    assert shown[0]["input"]["text"]["form"] == "text"

    wrong = answering.call(visitor, "errors", run=name, n=3)
    assert all(row["label"] != row["prediction"] and row["input"]["text"]["value"] for row in wrong)
    assert wrong == sorted(wrong, key=lambda row: -row["score"])

    shutil.copytree(finished.run.folder, finished.run.folder.with_name(f"{name}-again"))
    judged = answering.call(visitor, "verdict", run=name, others=[f"{name}-again"])
    shutil.rmtree(finished.run.folder.with_name(f"{name}-again"))
    assert judged["verdict"] and len(judged["table"]) == 3 and judged["table"][0][1] == "model"

    reasons = answering.call(visitor, "explain", where=name, input="a good film")
    assert [part["text"] for part in reasons["parts"]] == ["a", " good", " film"]
    assert reasons["label"] in ("negative", "positive")


def test_a_table_is_answered_row_by_row(answering: Workers, finished: Finished) -> None:
    table = finished.visitor.uploads / "ask.csv"
    table.write_text("text\na good film\na bad film\n")
    found = answering.call(
        finished.visitor, "predict", where=finished.run.name, inputs=[{"table": str(table)}], top_k=None
    )
    assert [answer["input"] for answer in found] == ["a good film", "a bad film"]


def test_a_lone_text_is_what_a_task_is_asked_with() -> None:
    given = {asking.PLAIN: "a table of words"}
    assert asking.by_role(given, catalog.task("token-classification")) == {"words": "a table of words"}
    assert asking.by_role(given, catalog.task("text-classification")) == {"text": "a table of words"}
    with pytest.raises(UserError, match="a picture is needed; found a text"):
        asking.by_role(given, catalog.task("image-classification"))


def test_an_estimate_comes_from_real_steps(answering: Workers, finished: Finished) -> None:
    found = answering.call(finished.visitor, "estimate", tree=tree_of(finished.visitor))

    assert found["steps"] == 20
    assert 0 < found["step_seconds"] < 5
    assert found["seconds"] > 20 * found["step_seconds"]
    assert 100 < found["memory_mb"] < 5000
    assert not list(finished.visitor.temporary.glob("estimate-*"))


def test_an_estimate_that_cannot_be_made_says_why(
    space: Settings, alice: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ["a warning", f"hftransfer: no text column; {alice.token}."]
    monkeypatch.setattr(estimating, "_checked", lambda *_: said)
    with pytest.raises(UserError, match=r"no text column; \[token\]"):
        estimating.estimate(alice, space, {}, None)
    monkeypatch.setattr(estimating, "_checked", lambda *_: ["Killed"])
    with pytest.raises(UserError, match="memory may have run out"):
        estimating.estimate(alice, space, {}, None)


# --- what a worker may not do ---


@pytest.mark.parametrize(
    "text", ["/etc/passwd.csv", "rows.csv", "../../../../etc/hosts", "http://169.254.169.254/x.csv", "<b>x</b>"]
)
def test_a_text_is_never_a_path(text: str, answering: Workers, finished: Finished) -> None:
    (answer,) = answering.call(finished.visitor, "predict", where=finished.run.name, inputs=[text], top_k=1)
    assert answer["input"] == text


def test_names_of_others_and_of_the_machine_are_refused(finished: Finished, tmp_path: Path) -> None:
    bob, theirs = visitors.user(finished.settings, "bob", BOB_TOKEN, "64b2"), finished.visitor
    opened = Workers(finished.settings)
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    run, model = finished.run, str(theirs.uploads / "model")
    asked: list[tuple[str, dict[str, Any]]] = [
        ("predict", {"where": str(run.artifact), "inputs": ["x"]}),
        ("predict", {"where": f"../{theirs.folder.name}/runs/{run.name}", "inputs": ["x"]}),
        ("predict", {"where": "/", "inputs": ["x"]}),
        ("predict", {"where": "owner/model", "inputs": [{"table": str(theirs.uploads / "rows.csv")}]}),
        ("predict", {"where": "owner/model", "inputs": [{"image": str(tmp_path / "photo.png")}]}),
        ("predict", {"where": "owner/model", "inputs": [{"image": "/proc/self/environ"}]}),
        ("predict", {"where": "owner/model", "inputs": [{"text": "x" * 200_000}]}),
        ("predict", {"where": "owner/model", "inputs": ["x"] * 3000}),
        ("predict", {"where": "owner/model", "inputs": [{"text": {"a": "b"}}]}),
        ("predict", {"where": "owner/model", "inputs": [7]}),
        ("explain", {"where": str(run.artifact), "input": "x"}),
        ("examples", {"run": run.name}),
        ("errors", {"run": str(run.folder)}),
        ("errors", {"run": f"../../{theirs.folder.name}/runs/{run.name}"}),
        ("verdict", {"run": run.name, "others": [str(run.folder)]}),
        ("model", {"model": model, "revision": None, "task": None}),
        ("model", {"model": "owner/model", "revision": "../../main", "task": None}),
        ("predict", {"where": "x" * 300, "inputs": ["x"]}),
        ("predict", {"where": "\ud800", "inputs": ["x"]}),
        ("examples", {"run": "\ud800"}),
        ("examples", {"run": "\u00e4" * 200}),
        ("preview", {"tree": {"task": "text-classification", "data": {"source": str(theirs.uploads / "rows.csv")}}}),
        ("preview", {"tree": {"task": "text-classification", "data": {"source": "rows.csv"}}}),
        ("preview", {"tree": {"task": "text-classification", "data": {"source": "csv"}}}),
        ("estimate", {"tree": tree_of(theirs)}),
    ]  # fmt: skip
    for function, arguments in asked:
        with pytest.raises(UserError):
            opened.call(bob, function, **arguments)
    assert not opened._workers, "none of these may even start a process"
    with pytest.raises(ValueError, match="no function"):
        opened.call(bob, "__import__")
    opened.close()


def test_a_guest_may_try_and_nothing_else(space: Settings, guest: Visitor, alice: Visitor, received: Path) -> None:
    opened = Workers(space)
    for function, arguments in (
        ("estimate", {"tree": tree_of(alice)}),
        ("preview", {"tree": {"task": "text-classification", "data": {"source": "owner/rows"}}}),
        ("predict", {"where": "owner/model", "inputs": [{"table": "rows.csv"}]}),
    ):
        with pytest.raises(UserError, match=r"Sign in|uploaded file"):
            opened.call(guest, function, **arguments)
    opened.close()


def test_a_picture_is_lent_for_one_question(
    space: Settings, alice: Visitor, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (20, 20)).save(received / "photo.png")
    (received / "script.png").write_bytes(b"%!PS-Adobe-3.0")
    seen: list[Any] = []

    class Watched:
        def ask(self, function: str, arguments: Any, limit: Any) -> Any:
            path = Path(arguments["inputs"][0]["image"])
            seen.append((path, path.is_file()))
            return []

        def lives(self) -> bool:
            return True

        def end(self) -> None:
            pass

    opened = Workers(space)
    monkeypatch.setattr(opened, "_worker", lambda visitor: Watched())
    opened.call(alice, "predict", where="owner/model", inputs=[{"image": str(received / "photo.png")}])
    path, was_there = seen[0]
    assert was_there and alice.owns(path)
    assert not path.exists()
    with pytest.raises(UserError, match="picture"):
        opened.call(alice, "predict", where="owner/model", inputs=[{"image": str(received / "script.png")}])


def test_predictions_a_minute_are_limited(
    space: Settings, alice: Visitor, bob: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Workers(replace(space, predictions_per_minute=2))
    for _ in range(2):
        with pytest.raises(UserError, match="Hub id"):
            opened.call(alice, "predict", where="/etc", inputs=["x"])
    with pytest.raises(UserError, match="2 predictions a minute"):
        opened.call(alice, "predict", where="owner/model", inputs=["x"])
    with pytest.raises(UserError, match="Hub id"):
        opened.call(bob, "predict", where="/etc", inputs=["x"])


def test_what_waits_does_not_take_every_thread(space: Settings, alice: Visitor, bob: Visitor, tmp_path: Path) -> None:
    opened = Workers(space)
    with ExitStack() as waiting:
        for _ in range(4):
            waiting.enter_context(LINE.turn(alice))
        with pytest.raises(UserError, match="4 are awaited"):
            opened.call(alice, "examples", run=a_run(alice))
        with pytest.raises(UserError, match="one of your runs"):
            opened.call(bob, "examples", run="none")
        with pytest.raises(UserError, match="4 are awaited"):
            uploads.accept(alice, tmp_path / "rows.csv", space)
        with pytest.raises(UserError, match="4 are awaited"):
            fetching.fetch("digits", alice)
        with pytest.raises(UserError, match="is not there"):
            uploads.accept(bob, tmp_path / "rows.csv", space)
    assert not len(LINE)


# --- death, time and memory: a stand-in for the worker's process, so that no test waits for imports ---

STAND_IN = """
import json, os, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    {body}
    print(json.dumps({{"id": asked["id"], "answer": [os.getpid(), dict(os.environ)]}}), flush=True)
"""


@pytest.fixture
def standing_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    real = worker_process.subprocess.Popen

    def use(body: str) -> None:
        def start(command: list[str], **options: Any) -> Any:
            return real([command[0], "-c", STAND_IN.format(body=body)], **options)

        monkeypatch.setattr(worker_process.subprocess, "Popen", start)

    return use


@pytest.mark.parametrize(
    "body",
    ["os._exit(3)", "os.kill(os.getpid(), 9)", "print('no json', flush=True)", "print('[1]' * 99999, flush=True)"],
)
def test_a_worker_that_dies_is_told_in_words_and_the_next_one_answers(
    body: str, space: Settings, alice: Visitor, standing_in: Any
) -> None:
    opened = Workers(space)
    standing_in(body)
    with pytest.raises(UserError, match="the process that computes it ended"):
        opened.call(alice, "examples", run=a_run(alice))
    standing_in("pass")
    assert opened.call(alice, "examples", run=a_run(alice))
    opened.close()


def test_a_worker_killed_between_questions_is_replaced(space: Settings, alice: Visitor, standing_in: Any) -> None:
    standing_in("pass")
    opened = Workers(space)
    first = opened.call(alice, "examples", run=a_run(alice))[0]
    os.kill(first, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(first)] if psutil.pid_exists(first) else [], timeout=5)
    assert opened.call(alice, "examples", run=a_run(alice))[0] != first
    opened.close()


def test_too_slow_or_too_large_ends_the_process(space: Settings, alice: Visitor, standing_in: Any) -> None:
    before = set(psutil.Process().children())
    opened = Workers(replace(space, worker_memory_mb=200))
    standing_in("time.sleep(60)")
    with pytest.raises(UserError, match="more than 0 s"):
        opened.call(alice, "examples", timeout=0.3, run=a_run(alice))
    standing_in("held = bytearray(os.urandom(1) * 400_000_000); time.sleep(60)")
    with pytest.raises(UserError, match="200 MB of memory"):
        opened.call(alice, "examples", run=a_run(alice))
    assert not opened._workers
    left = {child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE}
    assert left <= before


def test_each_visitor_has_a_process_with_their_token_alone(
    space: Settings, alice: Visitor, bob: Visitor, guest: Visitor, standing_in: Any
) -> None:
    standing_in("pass")
    opened = Workers(replace(space, workers=3))
    seen = {visitor.name: opened.call(visitor, "examples", run=a_run(visitor)) for visitor in (alice, bob, guest)}
    again = opened.call(alice, "examples", run=a_run(alice))

    assert len({pid for pid, _ in seen.values()}) == 3
    assert again[0] == seen["alice"][0]
    for visitor in (alice, bob, guest):
        variables = seen[visitor.name][1]
        assert variables.get("HF_TOKEN") == visitor.token
        assert variables["HF_HOME"] == str(visitor.cache)
        tokens = {value for value in variables.values() if "SecretToken" in value}
        assert tokens == ({visitor.token} - {None})
    opened.close()


def test_a_new_token_gets_a_new_process(space: Settings, alice: Visitor, standing_in: Any) -> None:
    standing_in("pass")
    opened = Workers(space)
    first = opened.call(alice, "examples", run=a_run(alice))
    later = visitors.user(space, "alice", "hf_" + "NewSecretToken" * 3, "64a1")
    assert opened.call(later, "examples", run=a_run(alice))[1]["HF_TOKEN"] == later.token
    assert not psutil.pid_exists(first[0])
    opened.close()


def test_a_full_cache_is_emptied_before_the_next_answer(
    space: Settings, guest: Visitor, standing_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "DISK_POLL", 0.0)
    standing_in("pass")
    opened = Workers(replace(space, disk_mb=1))
    first = opened.call(guest, "examples", run=a_run(guest))[0]
    (guest.cache / "hub").mkdir(parents=True)
    (guest.cache / "hub" / "model").write_bytes(bytes(2 * 2**20))
    assert opened.call(guest, "examples", run=a_run(guest))[0] != first
    assert not (guest.cache / "hub").exists()
    opened.close()


def test_idle_workers_end_and_the_longest_idle_makes_room(
    space: Settings, alice: Visitor, bob: Visitor, standing_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "REAP", 0.05)
    standing_in("pass")
    opened = Workers(replace(space, workers=1, worker_idle_seconds=1, worker_memory_mb=0))
    first = opened.call(alice, "examples", run=a_run(alice))[0]
    second = opened.call(bob, "examples", run=a_run(bob))[0]
    assert not psutil.pid_exists(first)
    end = time.monotonic() + 5
    while psutil.pid_exists(second) and time.monotonic() < end:
        time.sleep(0.05)
    assert not psutil.pid_exists(second)
    opened.close()


def test_idle_workers_stay_while_there_is_memory_and_few_are_at_work(
    space: Settings, alice: Visitor, bob: Visitor, guest: Visitor, standing_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "REAP", 0.05)
    monkeypatch.setattr(workers, "PATIENCE", 0.1)
    held = {"mb": 900.0}
    monkeypatch.setattr(worker_process.WorkerProcess, "memory", lambda one: held["mb"])
    standing_in("time.sleep(asked['arguments'].get('n') or 0)")
    opened = Workers(replace(space, workers=2, worker_memory_mb=2000))
    pids = [opened.call(one, "examples", run=a_run(one), n=0)[0] for one in (alice, bob, guest)]
    assert len({*pids}) == 3 and all(map(psutil.pid_exists, pids)), "1,800 of 4,000 MB leave one its 2,000"
    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(opened.call, one, "examples", run=a_run(one), n=1) for one in (alice, bob)]
        until(lambda: len(opened._busy) == 2)
        with pytest.raises(UserError, match="all 2 are at work for others"):
            opened.call(guest, "examples", run=a_run(guest), n=0)
        assert [one.result()[0] for one in busy] == pids[:2]
    held["mb"] = 1500.0  # three of them are more than two may have
    until(lambda: not psutil.pid_exists(pids[2]))
    assert all(map(psutil.pid_exists, pids[:2])) and not opened._busy
    opened.close()


def a_run(visitor: Visitor) -> str:
    """Return the name of a folder that looks like a run of this visitor."""
    folder = visitor.runs / "some-run"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("task: text-classification\n")
    return folder.name


def test_memory_that_runs_out_is_an_answer(space: Settings) -> None:
    code = """
        from hftransfer.ui import worker
        worker.limits["memory_mb"] = 100
        worker.bound_memory()
        worker.FUNCTIONS["greedy"] = lambda: len(bytearray(20 * 2**30))
        print(*worker.respond("greedy", {}), next(worker.respond("greedy", {"x": 1}))["failed"][:9])
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(worker_process.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "{'failed': 'memory ran out'} TypeError\n", done.stdout + done.stderr
