"""Recordings in the app: what a page shows of one, what is asked with one, and which uploads are taken for one."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path

import pytest
import soundfile

from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.inputs.audio import AUDIO
from hftransfer.ui import inspection, try_step, uploads, workers
from hftransfer.ui.cells import entry
from hftransfer.ui.recording_inspection import require_recording
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from tests import tiny_heard

LIMITS = inspection.Limits(2**30, 10**8, 1000)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "clip.flac"
    soundfile.write(path, tiny_heard.speech(["low", "high"]), tiny_heard.RATE)
    return path


def test_a_page_shows_its_name_and_plays_it(recording: Path) -> None:
    found = entry(AUDIO.read(str(recording)))
    assert found["form"] == "text" and found["value"].startswith("clip.flac, 0.")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(found["sound"].partition(",")[2])))
    assert rate == tiny_heard.RATE and len(samples) / rate == pytest.approx(soundfile.info(recording).duration)
    assert entry({"bytes": b"RIFF and no more", "path": None})["form"] == "empty"
    assert entry({"bytes": recording.read_bytes(), "path": None})["value"].startswith("a recording")


def test_a_recogniser_is_asked_with_one(recording: Path) -> None:
    for task in ("automatic-speech-recognition", "audio-classification"):
        asks = try_step._asks(task, ())
        assert asks == [("audio", "recording")]
        files = {"picture": None, "recording": str(recording)}
        assert try_step._input(asks, "", "", files) == {"audio": str(recording)}
        with pytest.raises(UserError, match=r"a recording is needed.*Record or drop one"):
            try_step._input(asks, "", "", {"picture": None, "recording": None})
        (role,) = catalog.task(task).shown
        assert workers.FILES[role.name] == uploads.RECORDINGS


def test_uploads_are_looked_at(recording: Path, tmp_path: Path) -> None:
    assert inspection.inspect(recording, ".flac", LIMITS)["rate"] == tiny_heard.RATE
    assert require_recording(recording.read_bytes(), "clip.flac")["rate"] == tiny_heard.RATE
    for content in (b"<html>", b"nothing of a sound", recording.read_bytes()[:200]):
        with pytest.raises(UserError, match="must be a recording"):
            require_recording(content, "clip.flac")
    for samples, words in (([0.0] * 16_000, "microphone muted"), ([0.1] * 16, "lasts 1 ms"), ([], "lasts 0 ms")):
        soundfile.write(tmp_path / "none.wav", samples, tiny_heard.RATE)
        with pytest.raises(UserError, match=words):
            require_recording((tmp_path / "none.wav").read_bytes(), "none.wav")
    path = tmp_path / "rows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(recording, "low/clip.flac")
        archive.writestr("metadata.csv", "file_name,text\n/etc/passwd,low\n")
    with pytest.raises(UserError, match="must name"):
        inspection.inspect(path, ".zip", LIMITS)


def test_a_file_of_another_kind_is_answered_with_what_to_do_instead(alice: Visitor, space: Settings) -> None:
    """Phones keep what they record as .m4a, and their pictures as .heic: nobody there has a program that converts."""
    for kinds, name, words in (
        (uploads.RECORDINGS, "memo.m4a", "record it here"),
        (uploads.kinds_of(AUDIO.suffixes), "memo.m4a", "record it here"),
        (uploads.PICTURES, "IMG_1.heic", "take the picture here"),
        (uploads.KINDS, "letter.docx", "Convert it"),
    ):
        with pytest.raises(UserError, match=words), uploads.held(alice, name, space, kinds):
            raise AssertionError
