"""The app as people use it: from an upload to a published model, and through whatever ends a process on the way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import axe_playwright_python
import psutil
import pytest

from hftransfer.runs import MARK, Run
from tests.browser.conftest import HOSTILE, SECONDS, App
from tests.hub_server import HubServer

STEPS = ("data", "model", "train", "result", "try", "publish")
QUICK = """\
task: text-classification
model: {model}
data: {{source: {source}}}
method: {{name: full}}
train: {{auto: false, learning_rate: 1e-3, max_steps: {steps}, logging_steps: 1, per_device_train_batch_size: 8,
  use_cpu: true, bf16: false, eval_strategy: steps, eval_steps: {every}, save_strategy: steps, save_steps: {every}}}
evaluation: {{resamples: 100}}
speed: {{tune: false, threads: 1}}
"""

pytestmark = pytest.mark.slow


def go(page: Any, step: str) -> None:
    page.locator(f".steps a[href='#{step}']").click()
    page.wait_for_selector(f"#panel-{step}", state="visible")


def fill_from_text(
    page: Any, text: str, code: str = "The same as code", fill: str = "Fill the form from this text"
) -> None:
    """Paste a configuration, as somebody does who has one."""
    go(page, "model")
    page.get_by_text(code).click()
    editor = page.locator("#yaml .cm-content")
    for _ in range(5):  # unfolding draws the text anew: what was pasted before that is drawn over, and pasted again
        editor.click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(text)
        page.get_by_role("button", name=fill).click()
        end = time.monotonic() + SECONDS / 5
        while time.monotonic() < end:
            if page.locator("#method input").input_value() == "full":  # as QUICK says, and no form does by itself
                return
            time.sleep(0.05)
    raise AssertionError("the form was not filled from the text")


def start(page: Any, app: App) -> Run:
    """Press Start; it returns at once, whatever training takes."""
    go(page, "train")
    page.wait_for_selector("#train-summary dl")
    known = {*(app.folder / "runs").glob("*")}
    began = time.monotonic()
    page.locator("#start").click()
    page.wait_for_selector("#run-head .state.running, #run-head .state.done")
    assert time.monotonic() - began < 60
    (made,) = {*(app.folder / "runs").glob("*")} - known
    return Run(made)


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")


def fits(page: Any) -> None:
    """Check that nothing scrolls sideways, from a small phone to a wide screen."""
    for width in (320, 390, 2560):
        page.set_viewport_size({"width": width, "height": 844})
        for step in STEPS:
            go(page, step)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (width, step)
    page.set_viewport_size({"width": 1280, "height": 900})


def comes_to_rest(page: Any) -> None:
    """Wait until a page asks for nothing by itself, but for the look at the run that it takes every few seconds."""
    asked: list[str] = []

    def note(request: Any) -> None:
        asked.append(request.post_data or "") if "/queue/join" in request.url else None

    page.on("request", note)
    for _ in range(20):
        asked.clear()
        page.wait_for_timeout(2000)
        if len(asked) <= 1:
            break
    page.remove_listener("request", note)
    assert len(asked) <= 1, asked


def usable_by_all(page: Any) -> None:
    """Check every step as it stands against the rules of WCAG A and AA and axe's best practice, in both schemes."""
    source = next(Path(axe_playwright_python.__file__).parent.rglob("axe.min.js"))
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
    page.evaluate(source.read_text(encoding="utf-8"))
    told = []
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.evaluate(f"document.body.classList.toggle('dark', {str(scheme == 'dark').lower()})")
        for step in STEPS:
            go(page, step)
            found = page.evaluate("rules => axe.run(document, rules)", rules)["violations"]
            told += [
                (scheme, step, one["id"], node["html"][:200], node["failureSummary"])
                for one in found
                for node in one["nodes"]
            ]
    assert not told


def test_from_an_upload_to_a_published_model_that_answers_from_the_hub(
    app: App, hub: HubServer, materials: Path, window: Callable[..., Any]
) -> None:
    first = window(app.url)
    page = first.page()

    # Data: a file, its rows, its balance
    page.get_by_label("Upload", exact=True).check()
    page.locator("#upload input[type=file]").set_input_files(materials / "rows.csv")
    page.wait_for_selector("#data-rows table")
    comes_to_rest(page)
    assert "200" in page.locator("#data-summary").inner_text()
    assert HOSTILE in page.locator("#panel-data").inner_text()  # as words

    # Model: found on the Hub; one more option by its name
    go(page, "model")
    page.get_by_text("Search the Hub, or name a model yourself").click()
    page.locator("#model-search textarea, #model-search input").fill("tiny")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="acme/tiny-bert").click()
    page.wait_for_selector("#model-about dl")
    page.get_by_text("Every other option").click()
    for name, value in (("speed.tune", "false"), ("train.max_steps", "30"), ("train.use_cpu", "true")):
        page.locator("#option input").click()
        page.keyboard.type(name)
        page.get_by_role("option", name=name).first.click()
        page.wait_for_selector(f"#described b:has-text('{name}')")
        page.locator("#value input").fill(value)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Set", exact=True).click()
        page.wait_for_selector(f"#more :text('{name}={value}')")

    # Train: live, and the same run in a second browser on a phone
    run = start(page, app)
    phone = window(app.url, width=390).page("train", run=run.name)
    phone.wait_for_selector("#curves svg")
    page.reload()
    page.wait_for_selector("#run-head .state.done")
    phone.wait_for_selector("#run-head .state.done")
    assert run.name in page.url and run.name == phone.locator("#run-head h3").get_attribute("title")
    config = run.config()
    assert config.model == "acme/tiny-bert" and config.train.options["max_steps"] == 30 and not config.speed.tune

    # Result
    go(page, "result")
    page.wait_for_selector("#scores .answer")
    assert not page.locator("#scores table").first.is_visible()  # one number first, all of them behind a line
    page.get_by_text("scores on 40 test rows").click()
    page.wait_for_selector("#scores table")
    assert HOSTILE in page.locator("#where").inner_text()
    page.locator("#show-errors").click()
    page.wait_for_selector("#errors .error, #errors .note")

    # Try
    go(page, "try")
    page.locator("#try-text textarea").fill("the film was great")
    page.locator("#ask").click()
    page.wait_for_selector("#answer .bars")
    page.locator("#why").click()
    page.wait_for_selector("#mattered .words")

    # Publish, and ask what stands on the Hub
    go(page, "publish")
    page.wait_for_selector("#card h3")
    page.locator("#repo textarea, #repo input").fill("alice/films")
    page.locator("#private input").uncheck()
    if page.locator("#publish-sure").is_visible():  # thirty steps of a tiny model may be of no use
        page.locator("#publish-sure input").check()
    page.locator("#publish").click()
    page.wait_for_selector("#publishing .note.good, #publishing .note.bad")
    assert "gives the same answers" in page.locator("#publishing").inner_text()
    repo = hub.repo("alice/films")
    assert repo is not None and not repo.private and "model.safetensors" in hub.files("alice/films")
    go(page, "try")
    page.get_by_label("A model by its name").check()
    page.locator("#try-model textarea, #try-model input").fill("alice/films")
    page.keyboard.press("Enter")
    page.wait_for_selector("#try-about .note")
    page.locator("#try-text textarea").fill("the film was awful")
    page.locator("#ask").click()
    page.wait_for_selector("#answer .bars")
    assert "negative" in page.locator("#answer").inner_text()

    fits(page)
    usable_by_all(page)
    assert page.evaluate("window.hacked") is None
    token = hub.token("alice")
    assert token not in page.content() and token not in app.log()
    assert not [p for p in run.folder.rglob("*") if p.is_file() and token.encode() in p.read_bytes()]


def test_a_killed_trainer_and_a_restarted_app_lose_nothing(
    app: App, materials: Path, window: Callable[..., Any]
) -> None:
    page = window(app.url).page()
    model, rows = materials / "model", materials / "rows.csv"
    fill_from_text(page, QUICK.format(model=model, source=rows, steps=20_000, every=60))
    run = start(page, app)
    page.wait_for_selector("#curves svg")

    # the app is killed and started again: the page finds it, and the curve goes on
    app.stop(signal.SIGKILL)
    page.wait_for_selector("#gone")
    app.start()
    page.wait_for_selector("#gone", state="detached")
    before = page.locator("#run-head").inner_text()
    page.wait_for_selector("#run-head .state.running")
    wait_for(lambda: page.locator("#run-head").inner_text() != before, "the run to go on")

    # the trainer is killed: said in words, and one button goes on from the checkpoint
    wait_for(run.checkpoint, "a checkpoint")
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == os.path.realpath(run.folder):
                process.kill()
        except psutil.Error:
            continue
    page.wait_for_selector("#run-head .state.killed")
    assert "Resume goes on from step" in page.locator("#run-head").inner_text()
    page.locator("#resume").click()
    page.wait_for_selector("#run-head .state.running")
    wait_for(lambda: "Stop" in page.locator("#stop").inner_text(), "the button")
    page.locator("#stop").click()
    page.wait_for_selector("#run-head .state.stopped")
    resumed = [event for event in run.events()[0] if event["type"] in ("launched", "stopped")]
    assert [event["type"] for event in resumed][-2:] == ["launched", "stopped"]

    # and it can be thrown away
    go(page, "result")
    page.get_by_text("All runs").click()
    page.wait_for_selector(f"#history [title='{run.name}']")
    page.locator("#delete").click()
    wait_for(lambda: not run.folder.exists(), "the run to go")
    page.locator("#undo").click()
    wait_for(run.folder.exists, "the run to come back")


def test_what_is_wrong_is_said_where_it_happens(app: App, materials: Path, window: Callable[..., Any]) -> None:
    page = window(app.url, color_scheme="dark").page("train")
    assert "Nothing to train on yet" in page.locator("#train-summary").inner_text()
    page.locator("#start").click()
    page.wait_for_selector("#train-said .note.bad")
    said = page.locator("#train-said").inner_text()
    assert "Choose data in step 1 first" in said  # a model is proposed

    # mistakes in a pasted configuration are listed by their names
    fill_from_text(page, QUICK.format(model="m", source="x", steps=1, every=1) + "seed: -1\n")
    go(page, "train")
    page.wait_for_selector("#train-summary dl")
    page.locator("#start").click()
    page.wait_for_selector("#train-said:has-text('seed: wanted')")
    page.wait_for_timeout(3000)  # events of the form that come late take nothing away of what was said of this form
    assert "seed: wanted" in page.locator("#train-said").inner_text()
    go(page, "model")
    page.get_by_label("Epochs").fill("2")
    go(page, "train")
    page.wait_for_selector("#train-said .note", state="detached")  # and of another form nothing was said

    # files that are none
    bad = materials / "rows.zip"
    bad.write_bytes(b"PK\x03\x04 this is no archive")
    go(page, "data")
    page.get_by_label("Upload", exact=True).check()
    page.locator("#upload input[type=file]").set_input_files(bad)
    page.wait_for_selector(".toast-body")
    assert "zip" in page.locator(".toast-body").inner_text()

    # keyboard: the steps and the cards can be reached and used without a mouse
    page.get_by_label("A sample", exact=True).check()
    page.locator("#from-sample [data-pick]").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.pick") == "vader-movie"
    page.locator(".steps a[href='#model']").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#panel-model", state="visible")
    assert page.locator(".steps a[aria-current=step]").inner_text().startswith("2")
