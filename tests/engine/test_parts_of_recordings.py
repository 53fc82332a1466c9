"""Tables whose rows are parts of recordings, in every unit; and samples as programs hold them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hftransfer import catalog
from hftransfer.config import DataConfig
from hftransfer.data import load
from hftransfer.data.inputs import read_inputs
from hftransfer.errors import UserError
from hftransfer.inputs import _sounds
from hftransfer.inputs.audio import AUDIO
from tests import tiny_heard
from tests.tiny_heard import RATE, speech

TASK = "automatic-speech-recognition"
WORDS = list(tiny_heard.WORDS)


def recordings(folder: Path, count: int = 4, each: int = 6) -> list[dict[str, Any]]:
    """Write recordings of several words, and return where each word stands, in seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(count):
        parts = [speech([WORDS[(number + i) % 3]], 10 * number + i) for i in range(each)]
        ends = np.cumsum([len(part) for part in parts]) / RATE
        soundfile.write(folder / f"r{number}.wav", np.concatenate(parts), RATE)
        for i, end in enumerate(ends):
            begin = 0.0 if not i else ends[i - 1]
            found.append({"file": f"r{number}.wav", "begin": begin, "end": end, "text": WORDS[(number + i) % 3]})
    return found


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def clock(second: float) -> str:
    return f"00:{int(second) // 60:02}:{second % 60:06.3f}"


UNITS: dict[str, Any] = {
    "seconds": lambda row: {"start": row["begin"], "end": row["end"]},
    "milliseconds": lambda row: {"start": round(1000 * row["begin"]), "end": round(1000 * row["end"])},
    "samples": lambda row: {"start": round(RATE * row["begin"]), "stop": round(RATE * row["end"])},
    "a duration": lambda row: {"offset": row["begin"], "duration": row["end"] - row["begin"]},
    "a clock": lambda row: {"start_time": clock(row["begin"]), "end_time": clock(row["end"])},
}


def heard(found: Any) -> list[bool]:
    """Return for each row whether the pitch of what is heard is that of its word, and nothing else is."""
    told = []
    for split in found.splits.values():
        for row in split:
            sound = AUDIO.opened(row["audio"], DataConfig(source="-"))
            spectrum = np.abs(np.fft.rfft(sound.samples))
            pitch = np.argmax(spectrum) / len(sound.samples) * RATE
            told.append(abs(pitch - tiny_heard.WORDS[row["text"]]) < 100 and sound.seconds < 0.4)
    return told


@pytest.mark.parametrize("place", ["a table", "a folder", "metadata"])
@pytest.mark.parametrize("unit", UNITS)
def test_rows_are_the_parts_that_they_name(unit, place, tmp_path):
    listed = recordings(tmp_path / "rows")
    key = {"metadata": "file_name", "a table": "clip", "a folder": "filename"}[place]
    rows = [{key: row["file"], **UNITS[unit](row), "text": row["text"]} for row in listed]
    path = table(tmp_path / "rows" / ("metadata.csv" if place == "metadata" else "list.csv"), rows)
    section = DataConfig(source=str(path if place == "a table" else path.parent), test_size=4, validation_size=4)
    found = load(section, catalog.task(TASK), 1)
    assert len(told := heard(found)) == 24 and all(told)
    named = unit if unit in ("seconds", "milliseconds", "samples") else "seconds"
    assert any(f"name parts of recordings, in {named}" in guess for guess in found.guesses)


def test_parts_of_one_recording_stay_on_one_side_when_asked(tmp_path):
    rows = [{"path": row["file"], **UNITS["seconds"](row), "text": row["text"]} for row in recordings(tmp_path, 8, 3)]
    source = str(table(tmp_path / "list.csv", rows))
    found = load(DataConfig(source=source, test_size=6, validation_size=6, group="path"), catalog.task(TASK), 1)
    sides = {use: {Path(row["audio"]["path"]).name for row in split} for use, split in found.splits.items()}
    assert not sides["train"] & sides["test"] and not sides["train"] & sides["validation"]
    assert all(heard(found)) and any("data.group=path" in guess for guess in found.guesses)


def test_a_table_to_predict_on_is_read_in_parts_too(tmp_path):
    listed = recordings(tmp_path / "rows")
    rows = [{"path": row["file"], **UNITS["seconds"](row)} for row in listed]
    asked = read_inputs(table(tmp_path / "rows" / "list.csv", rows), catalog.task(TASK), {"audio": "audio"})
    lengths = [AUDIO.opened(row["audio"], DataConfig(source="-")).seconds for row in asked]
    assert np.allclose(lengths, [row["end"] - row["begin"] for row in listed], atol=1e-3)


@pytest.mark.parametrize("shift, said", [(50.0, "behind the ends of the recordings"), (0.0, "cut already")])
def test_recordings_that_are_cut_already_are_read_whole_and_that_is_said(shift, said, tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = []
    for number in range(12):
        sound = speech([WORDS[number % 3]], number)
        soundfile.write(folder / f"{number}.wav", sound, RATE)
        length = len(sound) / RATE
        rows.append({"path": f"{number}.wav", "start": shift, "end": shift + length, "text": WORDS[number % 3]})
    found = load(
        DataConfig(source=str(table(folder / "list.csv", rows)), test_size=3, validation_size=3), catalog.task(TASK), 1
    )
    assert all(heard(found)) and any(said in guess for guess in found.guesses)


def test_a_part_that_ends_before_it_begins_is_no_sound(tmp_path):
    listed = recordings(tmp_path / "rows")
    value = {"bytes": None, "path": str(tmp_path / "rows" / listed[0]["file"]), "start": 0.5, "seconds": -0.3}
    assert len(_sounds.decoded(value)[0].samples) == 0


# --- samples ---


@pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "list", "float64"])
def test_samples_of_every_type_are_as_loud(kind):
    tone = speech(["middle"])
    given: Any = {
        "uint8": lambda: np.round(tone * 127 + 128).astype(np.uint8), "int16": lambda: (tone * 32767).astype(np.int16),
        "int32": lambda: (tone * (2**31 - 1)).astype(np.int32), "list": lambda: (tone * 32767).astype(int).tolist(),
        "float64": lambda: tone.astype(np.float64),
    }[kind]()  # fmt: skip
    both = np.stack([given, given], axis=1)
    for samples, rate in ((given, RATE), (both, np.int64(RATE))):
        sound = AUDIO.opened(AUDIO.read({"array": samples, "sampling_rate": rate}), DataConfig(source="-"))
        assert sound.rate == RATE and np.allclose(sound.samples, tone, atol=0.01)


def test_floats_that_were_not_divided_are_refused():
    with pytest.raises(UserError, match=r"samples around -1 to 1 are needed.*Divide") as caught:
        AUDIO.read((RATE, speech(["low"]) * 32767))
    assert caught.value.exit_code == 2
