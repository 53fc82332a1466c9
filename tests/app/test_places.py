"""Places as the app has them: a widget for each option, time and cost before, Jobs by a visitor's token."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from huggingface_hub import constants

from hftransfer.errors import UserError
from hftransfer.launchers import jobs, launcher, launchers
from hftransfer.launchers.jobs import JobsLauncher
from hftransfer.runs import Run
from hftransfer.ui import api, monitor, places, train_view, visitors
from hftransfer.ui.queueing import Queue
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from tests.app.conftest import ALICE_TOKEN, OWNER_TOKEN
from tests.jobs_server import ENDED, FolderBucket, JobsServer, stub

NAMES = ("jobs", "local", "slurm")


def page_of(settings: Settings) -> Any:
    """Return what of a page the choice of a place needs."""
    page = SimpleNamespace(settings=settings, go={}, inputs=[], estimate=None)
    with gr.Blocks():
        places.build(page)  # type: ignore[arg-type]
    return page


def test_every_option_of_every_place_has_a_widget(space: Settings) -> None:
    page = page_of(replace(space, space=False))
    drawn = page.go["places"]
    assert set(drawn) == {(name, key) for name in launchers() for key in launcher(name).Options.model_fields}
    kinds = {key: type(one).__name__ for (_, key), one in drawn.items()}
    assert (kinds["requeue"], kinds["nodes"], kinds["flavor"]) == ("Checkbox", "Textbox", "Textbox")
    assert {one.info.lower() for one in drawn.values()} == {
        str(field.description).lower() for name in NAMES for field in launcher(name).Options.model_fields.values()
    }
    assert places.offered(space) == ["local", "jobs"]  # no cluster of the owner's for strangers


def test_a_place_is_told_what_was_typed_and_says_what_is_wrong(space: Settings, alice: Visitor) -> None:
    page = page_of(space)

    def typed(**given: str) -> list[str]:
        return [given.get(key, "") for _, key in page.go["places"]]

    assert places.chosen(page, alice, "local", typed()) is None
    found = places.chosen(page, alice, "jobs", typed(flavor=" t4-small ", minutes="30"))
    assert found is not None and found.options.model_dump(exclude_defaults=True) == {
        "flavor": "t4-small",
        "minutes": 30,
    }
    with pytest.raises(UserError, match="nodes"):
        places.chosen(page, alice, "jobs", typed(nodes="many"))
    with pytest.raises(UserError, match="one of the places"):
        places.chosen(page, alice, "slurm", typed())


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsServer]:
    """Start a stand-in that knows alice's token alone."""
    folder = tmp_path / "bucket"
    monkeypatch.setenv("PATH", f"{stub(tmp_path / 'bin')}:{os.environ['PATH']}")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")  # as forget_owner leaves a Space
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(jobs, "MOUNT", str(folder))
    monkeypatch.setattr(JobsLauncher, "least", 0.1)
    with JobsServer() as one:
        one.token = ALICE_TOKEN
        monkeypatch.setattr(constants, "ENDPOINT", one.endpoint)
        monkeypatch.setattr(JobsLauncher, "_bucket", lambda self, name, token: FolderBucket(folder, name, token))
        yield one


class Foreseen:
    """Workers that foresee ten minutes for every configuration."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def call(self, visitor: Visitor, function: str, **arguments: Any) -> Any:
        self.asked.append(function)
        return {"seconds": 600.0}


def test_a_program_names_the_place_with_the_checks_of_the_page(
    server: JobsServer, space: Settings, alice: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.uploads.mkdir(parents=True)
    (alice.uploads / "rows.csv").write_text("text,label\n")
    config = "task: text-classification\nmodel: owner/model\ndata: {source: rows.csv}\n"
    queue, workers = Queue(space, launcher("local")), Foreseen()  # its thread never starts
    monkeypatch.setattr(api, "_who", lambda request, settings: alice)
    start = api.endpoints(space, queue, workers)[0]  # type: ignore[arg-type]
    for on, options, words in (
        ("slurm", {}, "local, jobs"),
        ("jobs", {"nodes": "many"}, "nodes"),
        ("jobs", {"flavour": "t4-small"}, "flavor"),
        ("jobs", ["t4-small"], "by their names"),
        ("local", {"flavor": "t4-small"}, "flavor"),
        ("jobs", {"flavor": "t4-smal"}, "t4-small"),
    ):
        with pytest.raises(gr.Error, match=words):
            start(config, None, 0, on, options)
    with pytest.raises(gr.Error, match=r"foresees about 10 min, 0\.10 USD on t4-small.*minutes=20"):
        start(config, None, 0, "jobs", {"flavor": "t4-small"})
    assert not queue.runs(alice)
    assert start(config, None, 0, "jobs", {"flavor": "t4-smallx2", "minutes": 20})["place"] == 1
    (ticket,) = queue._waiting
    assert ticket.place is not None and ticket.place.name == "jobs" and ticket.processes == 2
    assert ticket.place.options.model_dump(exclude_defaults=True) == {"flavor": "t4-smallx2", "minutes": 20}
    assert start(config, None)["place"] == 2 and queue._waiting[1].place is None


def until(what: Any) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_visitor_of_a_space_trains_on_jobs_with_their_own_token(
    server: JobsServer, space: Settings, alice: Visitor
) -> None:
    alice.uploads.mkdir(parents=True)
    (alice.uploads / "rows.csv").write_text("text,label\n")
    tree = {"task": "text-classification", "model": "owner/model", "data": {"source": "rows.csv"}}
    told = {"minutes": 5, "setup": ":", "flavor": "t4-small"}
    place, words = launcher("jobs", told).acting_as(alice.token).foreseen(90)
    queue = Queue(replace(space, runs_at_once=1), launcher("local"))
    queue.start()
    try:
        run = queue.submit(alice, tree, 1, place, {"seconds": 90.0, "words": words})
        until(lambda: any('"step"' in line for job in server.jobs.values() for line in job.lines))
        (job,) = server.jobs.values()
        assert job.spec["secrets"] == {"HF_TOKEN": ALICE_TOKEN}
        files = [path for path in Path(space.root).rglob("*") if path.is_file()]
        assert files and not any(secret in path.read_text() for path in files for secret in (ALICE_TOKEN, OWNER_TOKEN))
        view = monitor.Monitor().view(run.folder)
        assert view.status().state == "running" and "On jobs: RUNNING" in train_view.elsewhere(view)
        until(lambda: monitor.Monitor().view(run.folder).machine)
        assert dict(train_view.use_of(monitor.Monitor().view(run.folder).machine))["GPU"].startswith("87 %")
        queue.stop(alice, run)
        until(lambda: job.stage in ENDED and run.status().state == "stopped")
        until(lambda: run.checkpoint() is not None)
        assert train_view.estimate_of(run.folder)["place"] == "jobs"
        until(lambda: not queue._working)
        queue.resume(alice, run, places.of_run(run, alice))
        until(lambda: run.status().state == "done" and len(server.jobs) == 2)
    finally:
        queue.close()


def test_a_run_that_went_on_while_the_app_was_away_is_followed_for_its_owner_alone(
    server: JobsServer, space: Settings, alice: Visitor, bob: Visitor
) -> None:
    alice.uploads.mkdir(parents=True)
    (alice.uploads / "rows.csv").write_text("text,label\n")
    tree = {"task": "text-classification", "model": "owner/model", "data": {"source": "rows.csv"}}
    run = Queue(space, launcher("local")).submit(alice, tree)  # its thread never starts
    place = launcher("jobs", {"minutes": 5, "setup": ":"}).acting_as(alice.token)
    place.start(run, False, 1, visitors.environment(alice, space))
    JobsLauncher._tokens.clear()
    jobs.LAUNCHER.forget(run)
    again = Queue(space, launcher("local"))
    again.start()
    try:
        assert Run(run.folder).status().state == "running"  # nobody could be asked
        again.runs(bob)
        assert not any(ticket.follower for ticket in again._working.values())
        again.runs(alice)
        until(lambda: any(event["type"] == "step" for event in run.events()[0]))
        again.stop(alice, run)
        until(lambda: run.status().state == "stopped")
    finally:
        again.close()


def test_a_preview_says_time_and_cost_of_every_place(
    server: JobsServer, alice: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # no SLURM here
    shown = places.preview(alice, NAMES, 600.0)
    assert "0.10 USD on t4-small" in shown and "not on the path" in shown and shown.count("about 10 min") == 3
    server.token = "another"
    assert "prices cannot be had now" in places.preview(alice, NAMES, 600.0)
