"""The whole way by the big buttons alone, for every task: a file is dropped, Train is pressed, the model is good."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hftransfer import answers, catalog
from hftransfer.runs import MARK, Run
from tests import (
    tiny,
    tiny_captions,
    tiny_catalogue,
    tiny_causal,
    tiny_detectors,
    tiny_heard,
    tiny_masks,
    tiny_pairs,
    tiny_spans,
    tiny_written,
)
from tests.browser.conftest import ROOT, App, Window
from tests.hub_server import HubServer

pytestmark = [pytest.mark.slow, pytest.mark.long]
MINUTES = 30  # that a run may take where other work shares the cores
SHOTS = os.environ.get("HFTRANSFER_SHOTS")  # a folder for pictures of each step, to be looked at


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def made(make: Callable[[Path], Any], folder: Path) -> Path:
    folder.mkdir(parents=True)
    make(folder)
    return folder


# by task: the model that stands at its first well-known name, and the rows that somebody brings
MODELS: dict[str, Callable[[Path], Any]] = {
    "text-classification": tiny.text_model,
    "token-classification": tiny.text_model,
    "question-answering": tiny_spans.model,
    "sentence-similarity": tiny_pairs.model,
    "retrieval": tiny_pairs.model,
    "recommendation": tiny_pairs.model,
    "image-classification": lambda place: tiny.image_model(place, "resnet"),
    "image-segmentation": tiny_masks.model,
    "object-detection": tiny_detectors.model,
    "zero-shot-image-classification": lambda place: tiny_captions.model(place, "CLIP"),
    "audio-classification": lambda place: tiny_heard.heard_model(place, "wav2vec2"),
    "automatic-speech-recognition": tiny_heard.whisper,
    "translation": lambda place: tiny_written.written_model(place, "marian"),
    "summarization": tiny_written.written_model,
    "text-generation": tiny_causal.causal_model,
}
ROWS: dict[str, Callable[[Path], Any]] = {
    "text-classification": lambda place: tiny.text_csv(place / "tickets.csv", 300),
    "token-classification": lambda place: tiny.token_jsonl(place / "words.jsonl", 300),
    "question-answering": lambda place: tiny_spans.jsonl(place / "questions.jsonl", 300),
    "sentence-similarity": lambda place: tiny_pairs.jsonl(place / "pairs.jsonl", 300),
    "retrieval": lambda place: tiny_catalogue.collection(place, 300),
    "recommendation": lambda place: tiny_catalogue.interactions(place, 150),
    "image-classification": lambda place: tiny.image_folder(place / "photos", 90),
    "image-segmentation": lambda place: tiny_masks.folder(place / "drawn", 60),
    "object-detection": lambda place: tiny_detectors.folder(place / "boxes", 120),
    "zero-shot-image-classification": lambda place: tiny_captions.folder(place / "captions", 160),
    "audio-classification": lambda place: tiny_heard.class_folder(place / "sounds", 90),
    "automatic-speech-recognition": lambda place: tiny_heard.spoken_folder(place / "spoken", 120),
    "translation": lambda place: tiny_written.pairs_jsonl(place / "translated.jsonl", 300),
    "summarization": lambda place: written(
        place / "reports.jsonl", [{"document": long, "summary": short} for long, short in tiny_written.pairs(300)]
    ),
    "text-generation": lambda place: written(place / "talks.jsonl", tiny_causal.rows("conversations", 300)),
}

# tasks whose tiny models pass the baseline at the rates that the rules choose
LEARNED = {
    "text-classification", "token-classification", "image-classification", "audio-classification", "summarization",
}  # fmt: skip


def test_every_task_is_here() -> None:
    assert set(MODELS) == set(ROWS) == set(catalog.tasks())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, HubServer]]:
    """Serve the app before a Hub that gets a model as a test needs it; no sample was fetched."""
    folder = tmp_path_factory.mktemp("every-task")
    with HubServer(folder / "hub") as hub:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment = {
            **kept, **hub.env("alice"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hf"),
            "GRADIO_TEMP_DIR": str(folder / "gradio"), "HFTRANSFER_CACHE": str(folder / "cache"),
        }  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (folder / "app").mkdir()
        app = App(folder / "app", environment, port)
        app.start()
        yield app, hub
        app.stop()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if str(folder) in process.environ().get(MARK, ""):
                    process.kill()


def brought(task: str, folder: Path) -> Path:
    """Return the one file that somebody would drop: a table, or a zip of what lies in folders."""
    place = made(ROWS[task], folder / "rows")
    files = [path for path in place.rglob("*") if path.is_file()]
    if len(files) == 1:
        return files[0]
    with zipfile.ZipFile(folder / "rows.zip", "w") as archive:
        for path in sorted(files):
            archive.write(path, path.relative_to(place))
    return folder / "rows.zip"


def shot(page: Any, name: str) -> None:
    if SHOTS:
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(400)
            page.screenshot(path=f"{SHOTS}/{name}-{width}.png", full_page=True)
        page.set_viewport_size({"width": 1280, "height": 900})


@pytest.mark.parametrize("task", MODELS)
def test_big_buttons_alone_end_in_a_model_above_the_baseline(
    task: str, served: tuple[App, HubServer], window: Callable[..., Window], tmp_path: Path
) -> None:
    app, hub = served
    repo = catalog.task(task).known_models[0].repo
    if hub.repo(repo) is None:
        model = made(MODELS[task], tmp_path / "model")
        hub.create_repo(repo, files={path.name: path.read_bytes() for path in model.iterdir()})
    page = window(app.url).page()
    page.set_default_timeout(240_000)

    began = time.monotonic()
    page.get_by_label("Upload", exact=True).check()
    page.locator("#upload input[type=file]").set_input_files(brought(task, tmp_path))
    page.wait_for_selector("#data-rows table, #data-said .note.bad")
    assert page.locator("#task input:checked").get_attribute("value") == task
    assert not page.locator("#panel-data .note.bad").count(), page.locator("#panel-data").inner_text()
    shot(page, f"{task}-1-data")
    known = {*(app.folder / "runs").glob("*")}
    page.locator("#train-now").click()
    page.wait_for_selector("#run-head .state, #train-said .note.bad")
    (made_now,) = {*(app.folder / "runs").glob("*")} - known
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
    if task in LEARNED:
        assert sign * (score["value"] - trivial) > 0, (name, score, trivial)
    else:  # a tiny model of random weights learns nothing here at a real one's rates, and the page says so
        assert page.locator("#scores .note.bad").count() or sign * (score["value"] - trivial) >= 0

    page.locator(".steps a[href='#try']").click()
    page.get_by_text("Examples of the test rows").click()
    page.locator("#examples [data-pick]").first.click()
    page.wait_for_selector("#answer .card-block, #answer .note.bad, .chat .bot")
    assert not page.locator("#answer .note.bad").count(), page.locator("#answer").inner_text()
    shot(page, f"{task}-5-try")
