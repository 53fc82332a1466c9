"""What somebody brings for every task, and the app before a Hub with a tiny model: for tests and for measurements."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from hftransfer import catalog
from hftransfer.runs import MARK
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
from tests.browser.conftest import ROOT, App
from tests.hub_server import HubServer


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
    "question-answering": lambda place: tiny_spans.jsonl(place / "questions.jsonl", 600),
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


def well_known(task: str, hub: HubServer, folder: Path) -> None:
    """Let a tiny model stand on the Hub under the name of the first well-known one of a task."""
    repo = catalog.task(task).known_models[0].repo
    if hub.repo(repo) is None:
        model = made(MODELS[task], folder / "model")
        hub.create_repo(repo, files={path.name: path.read_bytes() for path in model.iterdir()})


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


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[App, HubServer]]:
    """Serve the app before a Hub that gets a model as it is needed; no sample was fetched."""
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
        try:
            app.start()
            yield app, hub
        finally:
            try:
                app.stop()
            finally:
                for process in psutil.process_iter():
                    with contextlib.suppress(psutil.Error, OSError):
                        if str(folder) in process.environ().get(MARK, ""):
                            process.kill()
