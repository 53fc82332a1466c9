"""Wrong recordings, conversations and questions through the engine's own script: one message each, exit code 2."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import soundfile

from hftransfer import train, yaml_core
from tests import tiny, tiny_causal, tiny_heard, tiny_spans
from tests.engine.conftest import QUICK

SPEECH, WRITING, QUESTIONS = "automatic-speech-recognition", "text-generation", "question-answering"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "hears": tiny_heard.whisper(folder / "whisper"),
        "reads": tiny.text_model(folder / "bert"),
        "chats": tiny_causal.causal_model(folder / "chat"),
        "has no template": tiny_causal.causal_model(folder / "bare", template=None),
        "finds": tiny_spans.model(folder / "span"),
    }


def spoken(folder: Path, change: Callable[[list[dict[str, Any]]], object] = lambda rows: None) -> Path:
    """Write recordings whose rows are changed first."""
    tiny_heard.spoken_folder(folder, 20)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    change(rows)
    tiny_causal.written(folder / "metadata.jsonl", rows)
    return folder


def of_a_phone(folder: Path, suffix: str) -> Path:
    folder.mkdir()
    for number in range(3):
        (folder / f"clip{number}{suffix}").write_bytes(b"\x1aE\xdf\xa3 not read here")
    return folder


def without_texts(folder: Path) -> Path:
    spoken(folder)
    (folder / "metadata.jsonl").unlink()
    for number in range(18):
        (folder / f"{number:03}.txt").write_text("low")
    return folder


def of_one_name(folder: Path) -> Path:
    spoken(folder / "one")
    shutil.copytree(folder / "one", folder / "two", ignore=shutil.ignore_patterns("*.jsonl"))
    shutil.move(folder / "one" / "metadata.jsonl", folder / "metadata.jsonl")
    return folder


def shorter_than_a_frame(folder: Path) -> Path:
    spoken(folder)
    for path in folder.glob("*.flac"):
        soundfile.write(path, tiny_heard.speech(["low"])[:300], tiny_heard.RATE)
    return folder


def unlike_its_context(path: Path) -> Path:
    rows = tiny_spans.rows(60)
    for row in rows:
        row["answers"] = {"text": ["elephants"], "answer_start": [0]}
    return tiny_causal.written(path, rows)


def asked_last(path: Path) -> Path:
    turns = [[{"role": "user", "content": f"and {number}?"}] for number in range(40)]
    return tiny_causal.written(path, [{"messages": one} for one in turns])


class Case(NamedTuple):
    task: str
    model: str
    source: Callable[[Path], Path]
    message: str  # a part of it
    data: dict[str, Any] = {}  # noqa: RUF012


LONG = " ".join("abcdefghijklmnopqrstuvwxyz")
PAIRS = [{"text": f"one {n}", "translation": f"un {n}"} for n in range(40)]
WRONG = {
    "a folder of m4a": Case(
        SPEECH, "hears", lambda place: of_a_phone(place, ".m4a"),
        'holds 3 in .m4a, such as clip0.m4a. Convert them first: for f in *.m4a; do ffmpeg -i "$f" "${f%.*}.flac"',
    ),
    "a folder of webm": Case(
        SPEECH, "hears", lambda place: of_a_phone(place, ".webm"), "Convert them first: for f in *.webm; do ffmpeg"
    ),
    "recordings without a row": Case(
        SPEECH, "hears", lambda place: spoken(place, lambda rows: rows.__delitem__(slice(18, None))),
        "every recording needs a row in metadata.jsonl; 2 of 20 have none: 018.flac, 019.flac. Add their rows",
    ),
    "recordings without a text beside": Case(
        SPEECH, "hears", without_texts, "2 of 20 have none: 018.flac, 019.flac. Write the texts"
    ),
    "rows without a transcript": Case(
        SPEECH, "hears", lambda place: spoken(place, lambda rows: rows[3].update(text=None)),
        "1 of 20 are not: 1 with no text to learn (train:3 003.flac). Mend them", {"bad_rows": "refuse"},
    ),
    "two clips of one name": Case(
        SPEECH, "hears", of_one_name, "000.flac may be one/000.flac, two/000.flac. Write the path"
    ),
    "a model of texts for speech": Case(
        SPEECH, "reads", spoken, "needs a model that is shown a recording; "
    ),
    "labels longer than the decoder": Case(
        SPEECH, "hears", lambda place: spoken(place, lambda rows: [row.update(text=LONG) for row in rows]),
        "targets of at most 24 tokens are needed; 14 of 14 rows of train have longer ones. Shorten them, or set data.",
    ),
    "audio shorter than a frame": Case(
        SPEECH, "hears", shorter_than_a_frame, "20 of 20 are not: 20 with a sound shorter than a frame (25 ms)"
    ),
    "no chat template for messages": Case(
        WRITING, "has no template",
        lambda place: tiny_causal.written(place.with_suffix(".jsonl"), tiny_causal.rows("messages", 40)),
        "conversations need a model whose tokenizer has a chat template; this one has none. Use a model that was made",
    ),
    "conversations that end with the user": Case(
        WRITING, "chats", lambda place: asked_last(place.with_suffix(".jsonl")),
        "40 of 40 are not: 40 with a conversation that ends with the user, not with an answer",
    ),
    "answers that are not in their context": Case(
        QUESTIONS, "finds", lambda place: unlike_its_context(place.with_suffix(".jsonl")),
        "60 of 60 are not: 60 with an answer that is not in its context",
    ),
    "a causal model for translation": Case(
        "translation", "chats", lambda place: tiny_causal.written(place.with_suffix(".jsonl"), PAIRS),
        "is of type 'llama', which writes on from a text: it is for text-generation. Choose a model for translation",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_the_script_says_what_to_do_and_ends_with_2(
    name: str, models: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case = WRONG[name]
    source = case.source(tmp_path / "rows")
    tree = {**QUICK, "task": case.task, "model": str(models[case.model]), "data": {"source": str(source), **case.data}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml_core.dump_yaml(tree))
    assert train.main(["--config", str(path), "--check"]) == 2
    said = capfd.readouterr().err
    assert case.message in said and "Traceback" not in said, said
