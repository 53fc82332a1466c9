"""What stopped people once, each gone through in Chromium: said in plain words, until it is mended."""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hftransfer.runs import Run
from tests import tiny
from tests.browser.conftest import App, Window, shot
from tests.browser.test_the_way import QUICK, fill_from_text, go, start, wait_for
from tests.hub_server import HubServer

pytestmark = pytest.mark.slow
# of commands and configurations: no person types any of it into the page
SETTINGS = re.compile(
    r"hftransfer [a-z]+|\b(data|train|method|model|evaluation|auto|speed)(\.[a-z]+_?)*=|--[a-z]|\bdata\."
)
BRIGHT = """() => [...document.querySelectorAll("button.primary")].filter((one) => one.checkVisibility() &&
  getComputedStyle(one).backgroundColor === BRIGHT_COLOUR).map((one) => one.textContent.trim())"""


def tickets(path: Path, agents: bool = False, count: int = 160) -> Path:
    """Write tickets as a support desk exports them: a number, a date, a text, the queue, and perhaps who had it."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["Ticket ID", "Created", "Description", "Queue", "Agent"][: 5 if agents else 4])
        for number, (text, label) in enumerate(tiny.sentences(count)):
            queue = "billing" if label == "positive" else "shipping"
            day = f"2026-03-{1 + number % 28:02} 09:{number % 60:02}"
            row = [f"SD-{100_000 + number}", day, f"{text} and order {number}", queue, f"agent {number % 7}"]
            out.writerow(row[: 5 if agents else 4])
    return path


def upload(page: Any, *files: Path) -> None:
    """Bring files as the big box takes them."""
    page.locator("#upload input[type=file]").set_input_files(list(files))


def bright(page: Any) -> list[str]:
    """Return the words of the buttons that stand out, which are as bright as Train is."""
    colour = page.evaluate(
        "() => getComputedStyle(document.body).getPropertyValue('--button-primary-background-fill').trim()"
    )
    probe = page.evaluate("""(colour) => {
        const one = Object.assign(document.createElement("i"), {style: `background-color: ${colour}`});
        document.body.append(one);
        const found = getComputedStyle(one).backgroundColor;
        one.remove();
        return found;
    }""", colour)  # fmt: skip
    page.mouse.move(0, 0)
    page.wait_for_timeout(400)  # a colour that changes takes its time
    return page.evaluate(BRIGHT.replace("BRIGHT_COLOUR", f'"{probe}"'))


@pytest.mark.long
def test_what_people_bring_is_read_or_refused_in_plain_words(
    app: App, tmp_path: Path, window: Callable[..., Window]
) -> None:
    page = window(app.url).page()

    # an empty file, a heading alone, one row: each is said, and nothing hangs
    for name, words in (("empty.csv", ""), ("heading.csv", "text,label\n"), ("one.csv", "text,label\na film,good\n")):
        (tmp_path / name).write_text(words)
        page.evaluate("() => document.querySelectorAll('#panel-data .note').forEach((one) => one.dataset.before = 1)")
        upload(page, tmp_path / name)
        said = page.locator("#panel-data .note.bad:not([data-before])").first  # it stays, other than a message
        said.wait_for()
        told = said.inner_text()
        assert not SETTINGS.search(told) and str(app.folder) not in told, told
        shot(page, f"red-{name}")
        for close in page.locator("[data-testid=toast-close]").all():
            close.click()
        page.wait_for_selector("#upload input[type=file]", state="attached")
        page.wait_for_selector("#data-said .progress.waiting", state="detached")

    # an ordinary export: all rows, the columns that people would name, and no word of commands
    upload(page, tickets(tmp_path / "tickets.csv"))
    page.wait_for_selector("#data-summary:has-text('tickets.csv')")
    page.wait_for_selector("#data-rows table")
    assert page.locator("#data-summary dl").inner_text().split()[:2] == ["Rows", "160"]
    assert "Description is the text" in page.locator("#task-said").inner_text()
    assert "Queue is the label" in page.locator("#task-said").inner_text()
    assert "Ticket ID" not in page.locator("#task-said").inner_text()
    told = page.locator("#panel-data").inner_text()
    assert not SETTINGS.search(told), SETTINGS.findall(told)
    assert {"billing", "shipping"} <= {*page.locator("#panel-data .bars").first.inner_text().split()}
    shot(page, "red-tickets")
    assert bright(page) == ["Train"]
    assert page.locator("h1:visible").count() == 1

    # where two columns may be meant, it is asked which, and chosen there
    upload(page, tickets(tmp_path / "agents.csv", agents=True))
    page.wait_for_selector("#panel-data .note.warn:has-text('Which column is the label? Queue, Agent would fit')")
    page.locator("#role-2 input").click()
    page.get_by_role("option", name="Queue", exact=True).click()
    page.wait_for_selector("#panel-data .note.warn:has-text('Which column')", state="detached")
    page.wait_for_selector("#panel-data .bars:has-text('billing')")
    page.locator("#from-upload [data-pick$='tickets.csv']").click()
    page.wait_for_selector("#data-summary:has-text('tickets.csv')")

    # an upload goes when somebody says twice that it may
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.locator("#delete-upload").click()
    page.wait_for_timeout(500)
    assert (app.folder / "uploads" / "tickets.csv").is_file()
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("#delete-upload").click()
    wait_for(lambda: not (app.folder / "uploads" / "tickets.csv").exists(), "the file to go")
    page.wait_for_selector("#data-said .empty")
    page.wait_for_selector("#delete-upload", state="hidden")
    page.locator("#train-now").click()
    page.wait_for_selector("#train-said .note.bad")
    assert "Choose data in step 1 first" in page.locator("#train-said").inner_text()


def test_a_model_that_is_missing_is_asked_for_and_a_red_box_goes_once_it_is_there(
    app: App, hub: HubServer, materials: Path, window: Callable[..., Window]
) -> None:
    page = window(app.url).page()
    upload(page, materials / "rows.csv")
    page.wait_for_selector("#data-rows table")
    go(page, "model")
    page.get_by_text("Search the Hub, or name a model yourself").click()
    name = page.locator("#model input, #model textarea").first
    assert name.input_value(), "a model is proposed"
    page.wait_for_selector("#data-said .progress.waiting", state="detached")
    name.fill("")
    name.press("Enter")
    page.get_by_role("button", name="Next: train").click()
    page.wait_for_selector("#train-summary:has-text('No model yet')")
    page.locator("#start").click()
    page.wait_for_selector("#train-said .note.bad")
    said = page.locator("#train-said").inner_text()
    assert said == "Choose a model in step 2 first." and not SETTINGS.search(said)
    shot(page, "red-no-model")
    assert not [*(app.folder / "runs").glob("[0-9]*")]
    page.get_by_role("link", name="Choose a model first").click()
    page.wait_for_selector("#panel-model", state="visible")
    name.fill("acme/tiny-bert")
    name.press("Enter")
    go(page, "train")
    page.wait_for_selector("#train-said .note", state="detached")
    page.wait_for_selector("#train-summary dl:has-text('tiny-bert')")


@pytest.mark.long
def test_while_a_run_goes_nothing_bright_starts_another_one(
    app: App, materials: Path, window: Callable[..., Window]
) -> None:
    page = window(app.url).page()
    tree = QUICK.format(model=materials / "model", source=materials / "rows.csv", steps=20_000, every=5_000)
    fill_from_text(page, tree)
    go(page, "train")
    assert bright(page) == ["Start training"]
    run = start(page, app)
    page.wait_for_selector("#run-head .state.running")
    assert bright(page) == []
    below = page.evaluate("""() => document.querySelector("#live").getBoundingClientRect().top <
        document.querySelector("#to-train").getBoundingClientRect().top""")
    assert below, "what could be started stands above what goes on"
    page.wait_for_selector("#curves svg")
    shot(page, "red-running")
    page.locator("#stop").click()
    page.wait_for_selector("#run-head .state.stopped")
    assert "Resume" in bright(page)
    assert [*(app.folder / "runs").glob("[0-9]*")] == [run.folder]


@pytest.mark.long
def test_a_model_of_no_use_is_called_so_and_published_only_by_who_insists(
    app: App, hub: HubServer, materials: Path, tmp_path: Path, window: Callable[..., Window]
) -> None:
    page = window(app.url).page()
    chance = random.Random(7)
    source = tmp_path / "chance.csv"
    rows = [f"{text},{chance.choice(['yes', 'no'])}" for text, _ in tiny.sentences(200)]
    source.write_text("\n".join(["text,label", *rows]))
    fill_from_text(page, QUICK.format(model=materials / "model", source=source, steps=30, every=15))
    start(page, app)
    page.wait_for_selector("#run-head .state.done")
    assert "of no use" in page.locator("#run-head .note.bad").inner_text()
    page.locator("#onward").click()
    page.wait_for_selector("#scores .note.bad")
    told = page.locator("#scores .note.bad").inner_text()
    assert "of no use" in told and not SETTINGS.search(told) and "`" not in told
    assert page.locator("#next [data-pick]").count() and not page.locator("#next [data-pick='go:publish']").count()
    shot(page, "red-useless-result")
    go(page, "publish")
    page.wait_for_selector("#publish-sure", state="visible")
    told = page.locator("#panel-publish .note.bad").first.inner_text()
    assert "of no use" in told and not SETTINGS.search(told)
    page.locator("#repo textarea, #repo input").fill("alice/chance")
    page.locator("#publish").click()
    page.wait_for_selector("#publishing .note.bad")
    assert "Or tick" in page.locator("#publishing").inner_text() and hub.repo("alice/chance") is None
    shot(page, "red-useless-publish")
    page.locator("#publish-sure input").check()
    page.locator("#publish").click()
    page.wait_for_selector("#publishing .note.good")
    assert hub.repo("alice/chance") is not None


@pytest.mark.long
def test_runs_are_called_what_people_call_them(app: App, materials: Path, window: Callable[..., Window]) -> None:
    page = window(app.url).page()
    fill_from_text(page, QUICK.format(model=materials / "model", source=materials / "rows.csv", steps=10, every=5))
    run = start(page, app)
    page.wait_for_selector("#run-head .state.done")
    called = page.locator("#run-head h3").inner_text()
    assert run.name != called and "Text classification" in called
    go(page, "result")
    page.get_by_text("All runs").click()
    page.locator("#title input, #title textarea").fill("first try")
    page.locator("#remark input, #remark textarea").fill("much too short")
    page.locator("#liked input").check()
    page.locator("#keep-title").click()
    page.wait_for_selector("#history:has-text('much too short')")
    page.wait_for_function("() => document.querySelector('#run input').value.includes('first try')")
    assert page.locator("#run input").input_value().startswith("★ first try")
    assert run.title() == ("first try", "much too short")
    page.reload()
    page.wait_for_function("() => document.querySelector('#run input')?.value.includes('first try')")

    # what can be downloaded is, at the first click: the report, and the model with its scores
    page.get_by_text("Use it in code, or keep its report").click()
    with page.expect_download() as download:
        page.locator("#report").click()
    assert "first try" in download.value.path().read_text(encoding="utf-8")
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == f"{run.name}.zip" and Run(run.folder).result()
