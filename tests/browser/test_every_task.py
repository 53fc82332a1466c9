"""The whole way by the big buttons alone, for every task: a file is dropped, Train is pressed, the model is good."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hftransfer import answers, catalog
from hftransfer.runs import Run
from tests.browser.big_buttons import MODELS, ROWS, brought, serving, well_known
from tests.browser.conftest import App, Window, shot
from tests.browser.test_the_way import wait_for
from tests.hub_server import HubServer

pytestmark = [pytest.mark.slow, pytest.mark.long]
MINUTES = 30  # that a run may take where other work shares the cores

# the trivial answer of these rows, texts that share their words, is right everywhere: nothing can be above it
PERFECT_ALREADY = {"sentence-similarity"}
# a few updates teach a tiny model of random weights to speak or hear no better than its baseline: the page says so
NOT_LEARNED = {"text-generation", "automatic-speech-recognition"}


def test_every_task_is_here() -> None:
    assert set(MODELS) == set(ROWS) == set(catalog.tasks())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, HubServer]]:
    with serving(tmp_path_factory.mktemp("every-task")) as found:
        yield found


@pytest.mark.parametrize("task", MODELS)
def test_big_buttons_alone_end_in_a_model_above_the_baseline(
    task: str, served: tuple[App, HubServer], window: Callable[..., Window], tmp_path: Path
) -> None:
    app, hub = served
    well_known(task, hub, tmp_path)
    page = window(app.url).page()
    page.set_default_timeout(240_000)

    began = time.monotonic()
    page.get_by_label("Upload", exact=True).check()
    page.locator("#upload input[type=file]").set_input_files(brought(task, tmp_path))
    page.wait_for_selector("#data-rows table, #data-said .note.bad")
    assert page.locator("#task input:checked").get_attribute("value") == task
    assert not page.locator("#panel-data .note.bad").count(), page.locator("#panel-data").inner_text()
    shot(page, f"{task}-1-data")
    runs = (app.folder / "runs").glob
    known = {*runs("[0-9]*")}
    page.locator("#train-now").click()
    wait_for(  # the head of an earlier run stands there until this one has begun
        lambda: page.locator("#train-said .note.bad").count() or {*runs("[0-9]*")} - known, "a run"
    )
    (made_now,) = {*runs("[0-9]*")} - known
    run = Run(made_now)
    seen = unsaid = 0
    while time.monotonic() - began < 60 * MINUTES and not run.status().finished:
        told = page.locator("#figures dt", has_text="Left")
        unsaid = unsaid + 1 if not told.count() and run.status().state == "running" else 0
        assert unsaid < 10, "for ten looks nothing said how long it takes"
        if len(run.events()[0]) > seen and page.locator("#watched table").count():
            shot(page, f"{task}-2-train")
            seen = 10**9
        page.wait_for_timeout(1000)
    status = run.status()
    assert status.state == "done", (status, run.log_path.read_text()[-3000:])
    page.wait_for_selector("#run-head .state.done")
    shot(page, f"{task}-3-done")

    page.locator("#onward").click()
    page.wait_for_selector("#scores .answer")
    result = json.loads(run.result_path.read_text())
    name, score = next(iter(result["test"]["metrics"].items()))
    trivial = result["baseline"]["metrics"][name]["value"]
    sign = 1 if answers.metrics()[name].greater_is_better else -1
    print(
        f"{task}: {name} {score['value']:.3f}, baseline {trivial:.3f}, {time.monotonic() - began:.0f} s from the file"
    )
    shot(page, f"{task}-4-result")
    gained = sign * (score["value"] - trivial)
    if task in NOT_LEARNED:
        assert gained > 0 or page.locator("#scores .note.bad").count()
    else:
        assert gained > 0 or (task in PERFECT_ALREADY and gained == 0), (name, score, trivial)

    page.locator(".steps a[href='#try']").click()
    page.get_by_text("Examples of the test rows").click()
    page.locator("#examples [data-pick]").first.click()
    page.wait_for_selector("#answer .card-block, #answer .note.bad, #talk .turn.assistant")
    assert not page.locator("#answer .note.bad").count(), page.locator("#answer").inner_text()
    shot(page, f"{task}-5-try")
