"""Recordings from anywhere: formats, folders, manifests, Parquet, and the odd files among them."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile

from hftransfer import catalog
from hftransfer.config import Augmentation, DataConfig
from hftransfer.data import Data, load
from hftransfer.errors import UserError
from hftransfer.inputs import _near_sounds, _sounds
from hftransfer.inputs._sounds import Sound
from hftransfer.inputs.audio import AUDIO
from tests import tiny_heard
from tests.tiny_heard import RATE, speech


def rows(source: Path, task: str = "audio-classification", **settings: Any) -> Data:
    return load(DataConfig(source=str(source), **settings), catalog.task(task), 42)


def refused(source: Path, task: str = "audio-classification", **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        rows(source, task, **settings)
    assert caught.value.exit_code == 2
    return str(caught.value)


def written(format: str, subtype: str | None = None, samples: np.ndarray | None = None, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    samples = speech(["low", "high"]) if samples is None else samples
    soundfile.write(buffer, samples, rate, format=format, subtype=subtype)
    return buffer.getvalue()


# --- one recording ---


FORMATS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]


@pytest.mark.parametrize("format, subtype", FORMATS)
def test_every_format_is_heard_alike(format, subtype):
    entry = AUDIO.read(written(format, subtype))
    sound = AUDIO.opened(entry, DataConfig(source="-"))
    assert sound.rate == RATE and AUDIO.seconds(entry) == pytest.approx(sound.seconds, abs=0.1)
    near = _near_sounds.pairs(
        np.stack(
            [
                _near_sounds.sketch(sound),
                _near_sounds.sketch(Sound(speech(["low", "high"]), RATE)),
                *(_near_sounds.sketch(Sound(speech([w, "middle"], 9), RATE)) for w in ("low", "high")),
            ]
        )
    )
    assert near is not None and near.tolist() == [[0, 1]]


def test_channels_rates_and_types_become_one_channel_of_floats():
    tone = speech(["middle"])
    stereo = np.stack([tone, 0 * tone], axis=1)
    half = AUDIO.opened(AUDIO.read(written("WAV", "PCM_16", stereo)), DataConfig(source="-"))
    assert np.allclose(half.samples, tone / 2, atol=1e-4) and half.samples.dtype == np.float32
    for given in ((RATE, np.round(tone * 32767).astype(np.int16)), {"array": tone, "sampling_rate": RATE}):
        again = AUDIO.opened(AUDIO.read(given), DataConfig(source="-"))
        assert again.rate == RATE and np.allclose(again.samples, tone, atol=1e-4)
    slow = _sounds.resampled(tone, RATE, 8000)
    assert len(slow) == -(-len(tone) // 2)
    back = _sounds.resampled(slow, 8000, RATE)[: len(tone)]
    middle = slice(400, -400)
    assert np.abs(back[middle] - tone[middle]).max() < 0.02  # nothing here is above 2.5 kHz but a little noise


def test_a_long_recording_is_parted_where_it_is_quiet():
    said = speech(["low", "high"] * 6)
    sound = Sound(said, RATE)
    count = _sounds.parts_of(sound.seconds, 1.0)
    parts = [_sounds.part(sound, number, count, 1.0) for number in range(count)]
    assert count > 2 and np.array_equal(np.concatenate([part.samples for part in parts]), said)
    assert all(part.seconds <= 1.0 for part in parts)
    assert all(np.abs(part.samples[-80:]).max() < 0.2 for part in parts[:-1])  # tones reach 0.3
    assert _sounds.part(sound, 0, 1, 0.5).seconds == 0.5


def test_augmentation_is_keyed_and_each_change_stands_alone():
    sound = Sound(speech(["low", "high"]), RATE)

    def changed(**settings: float) -> np.ndarray:
        found = Augmentation(**{"gain": 0.0, "noise": 0.0, "time_mask": 0.0, **settings})
        section = DataConfig(source="-", augmentation=found)
        return AUDIO.opened(AUDIO.read(_sounds.as_wav(sound)), section, np.random.default_rng([1, 2, 3])).samples

    assert np.array_equal(changed(), sound.samples)
    assert np.array_equal(changed(noise=0.2), changed(noise=0.2))
    louder = changed(gain=6.0)
    factor = louder @ sound.samples / (sound.samples @ sound.samples)
    assert 0.5 <= factor <= 2.0 and factor != 1 and np.allclose(louder, factor * sound.samples, atol=1e-6)
    hiss = changed(noise=0.2) - sound.samples
    assert 0 < hiss.std() <= 0.25 * sound.samples.std()
    masked = changed(time_mask=0.5)
    silent = masked == 0
    assert silent.any() and np.array_equal(masked[~silent], sound.samples[~silent])


# --- folders ---


def test_class_folders_and_a_zip_of_them(tmp_path):
    folder = tiny_heard.class_folder(tmp_path / "rows", 30)
    found = rows(folder)
    assert found.answer.names == ("high", "low", "middle") and sum(found.sizes.values()) == 30
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        for path in sorted(folder.rglob("*.wav")):
            archive.write(path, path.relative_to(folder))
    packed = load(
        DataConfig(source=str(tmp_path / "rows.zip")), catalog.task("audio-classification"), 42, tmp_path / "work"
    )
    assert packed.fingerprints == found.fingerprints


def test_splits_by_folder(tmp_path):
    for split, count in (("train", 24), ("test", 6)):
        tiny_heard.class_folder(tmp_path / "rows" / split, count, seed=count)
    found = rows(tmp_path / "rows", validation_size=6)
    assert found.sizes == {"train": 18, "validation": 6, "test": 6}


def in_folder(folder: Path, count: int = 12) -> list[dict[str, Any]]:
    """Write recordings and return what a table may say of them."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for number in range(count):
        word = list(tiny_heard.WORDS)[number % 3]
        soundfile.write(folder / f"{number:02}.wav", speech([word], number), RATE)
        listed.append({"name": f"{number:02}.wav", "label": word, "speaker": f"s{number % 4}"})
    return listed


def as_csv(path: Path, listed: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(listed[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(listed)
    return path


def as_lines(path: Path, listed: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in listed), encoding="utf-8")
    return path


def renamed(listed: list[dict[str, Any]], name: str, prefix: str = "") -> list[dict[str, Any]]:
    return [{name: prefix + row["name"], "label": row["label"], "speaker": row["speaker"]} for row in listed]


def _metadata(folder: Path) -> Path:
    as_csv(folder / "metadata.csv", renamed(in_folder(folder), "file_name"))
    return folder


def _metadata_lines(folder: Path) -> Path:
    as_lines(folder / "metadata.jsonl", renamed(in_folder(folder / "inner"), "file_name", "inner/"))
    return folder


def _without_folder(folder: Path) -> Path:
    as_csv(folder / "rows.tsv", renamed(in_folder(folder / "clips"), "path"), "\t")
    return folder


def _beside(folder: Path) -> Path:
    return as_csv(folder / "rows.csv", renamed(in_folder(folder / "clips"), "audio", "clips/"))


def _nemo(folder: Path) -> Path:
    listed = in_folder(folder)
    whole = np.concatenate([soundfile.read(folder / row["name"], dtype="float32")[0] for row in listed])
    soundfile.write(folder / "whole.wav", whole, RATE)
    starts = np.cumsum([0, *(soundfile.info(folder / row["name"]).duration for row in listed)])
    for row in listed:
        (folder / row["name"]).unlink()
    return as_lines(folder / "manifest.json", [
        {"audio_filepath": "whole.wav", "offset": float(start), "duration": float(end - start), "label": row["label"]}
        for row, start, end in zip(listed, starts, starts[1:], strict=False)
    ])  # fmt: skip


def _speechbrain(folder: Path) -> Path:
    listed = in_folder(folder / "wavs")
    path = folder / "train.json"
    path.write_text(json.dumps(
        {f"u{i}": {"wav": "{data_root}/wavs/" + row["name"], "label": row["label"]} for i, row in enumerate(listed)}
    ))  # fmt: skip
    return path


def _parquet(folder: Path) -> Path:
    listed = in_folder(folder / "clips")
    found = datasets.Dataset.from_dict(
        {"audio": [{"bytes": (folder / "clips" / row["name"]).read_bytes(), "path": row["name"]} for row in listed],
         "label": [row["label"] for row in listed]},
    )  # fmt: skip
    features = datasets.Features({"audio": datasets.Audio(), "label": datasets.Value("string")})
    path = folder / "rows.parquet"
    table = found.data.table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features.to_dict()}})}
    )
    import pyarrow.parquet as pq

    pq.write_table(table, path)
    return path


SOURCES = {
    "metadata.csv": _metadata, "metadata.jsonl": _metadata_lines, "a table that names files alone": _without_folder,
    "a table beside a folder": _beside, "a manifest of NeMo": _nemo, "a manifest of SpeechBrain": _speechbrain,
    "Parquet with the feature Audio": _parquet,
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_the_same_sounds(name, tmp_path):
    found = rows(SOURCES[name](tmp_path / "rows"), test_size=3, validation_size=3)
    heard = {}
    for split in found.splits.values():
        for row in split:
            sound = AUDIO.opened(row["audio"], DataConfig(source="-"))
            spectrum = np.abs(np.fft.rfft(sound.samples))
            pitch = np.argmax(spectrum) / len(sound.samples) * RATE
            heard[row["row_id"]] = abs(pitch - tiny_heard.WORDS[found.answer.names[row["label"]]]) < 100
    assert len(heard) == 12 and all(heard.values())


def test_a_column_of_speakers_is_pointed_out(tmp_path):
    said = rows(_metadata(tmp_path / "rows"), test_size=3, validation_size=3).warnings
    assert any("`speaker` has 4 values in 12 rows" in one and "data.group=speaker" in one for one in said)


# --- odd and wrong ones ---


def _phone(folder: Path) -> Path:
    folder.mkdir()
    for suffix in (".m4a", ".webm"):
        (folder / f"clip{suffix}").write_bytes(b"\x1aE\xdf\xa3 not ours")
    return folder


def _phone_classes(folder: Path) -> Path:
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for suffix in (".m4a", ".webm"):
            (folder / name / f"clip{suffix}").write_bytes(b"\x1aE\xdf\xa3 not ours")
    return folder


def _named_phone(folder: Path) -> Path:
    _phone(folder)
    return as_csv(
        folder / "rows.csv", [{"file_name": f"clip{s}", "label": w} for s in (".m4a", ".webm") for w in "ab"]
    )


def _missing_rows(folder: Path) -> Path:
    as_csv(folder / "metadata.csv", renamed(in_folder(folder), "file_name")[:-2])
    return folder


def _missing_texts(folder: Path) -> Path:
    for row in in_folder(folder)[:-1]:
        (folder / row["name"]).with_suffix(".txt").write_text(row["label"])
    return folder


def _two_of_one_name(folder: Path) -> Path:
    in_folder(folder / "one")
    as_csv(folder / "metadata.csv", renamed(in_folder(folder / "two"), "file_name"))
    return folder


def _named_twice(folder: Path) -> Path:
    listed = renamed(in_folder(folder), "file_name")
    as_csv(folder / "metadata.csv", [*listed, listed[0]])
    return folder


def _two_with_one_text(folder: Path) -> Path:
    in_folder(folder)
    soundfile.write(folder / "00.flac", speech(["low"]), RATE)
    (folder / "00.txt").write_text("low")
    return folder


def _too_short(folder: Path) -> Path:
    for row in in_folder(folder):
        (folder / row["label"]).mkdir(exist_ok=True)
        (folder / row["name"]).unlink()
        soundfile.write(folder / row["label"] / row["name"], speech([row["label"]])[:300], RATE)
    return folder


WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a folder of a phone": (_phone, "2 in .m4a, .webm, such as clip.m4a. Convert them first: for f in *.m4a"),
    "classes of a phone's": (
        _phone_classes, 'such as a/clip.m4a. Convert them first: for f in */*.m4a */*.webm; do ffmpeg -i "$f"',
    ),
    "a table of a phone's": (_named_phone, "ffmpeg -i clip.m4a clip.flac"),
    "no row for some": (_missing_rows, "2 of 12 have none: 10.wav, 11.wav. Add their rows"),
    "no text for some": (_missing_texts, "1 of 12 have none: 11.wav. Write the texts"),
    "two of one name": (_two_of_one_name, "00.wav may be one/00.wav, two/00.wav. Write the path"),
    "one named twice": (_named_twice, "metadata.csv has several of 00.wav. Remove the others"),
    "two with one text": (_two_with_one_text, "00.flac and 00.wav have one text"),
    "shorter than a frame": (_too_short, "12 of 12 are not: 12 with a sound shorter than a frame (25 ms)"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_refused_with_what_to_do(name, tmp_path):
    make, message = WRONG[name]
    assert message in refused(make(tmp_path / "rows"))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_phones_recordings_beside_others_are_said_with_what_to_do(streaming, tmp_path):
    folder = tiny_heard.class_folder(tmp_path / "rows", 24)
    (folder / "low" / "clip.m4a").write_bytes(b"not ours")
    said = rows(folder, test_size=3, validation_size=3, streaming=streaming).warnings
    told = "1 recordings are not read: low/clip.m4a. Convert them first: for f in */*.m4a; do ffmpeg"
    assert any(one.startswith(told) for one in said)


def test_odd_files_are_right_or_said(tmp_path):
    folder = tiny_heard.class_folder(tmp_path / "rows", 24)
    odd = folder / "low"
    whole = written("WAV", "PCM_16")
    (odd / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (odd / "empty.wav").write_bytes(b"")
    (odd / "header.wav").write_bytes(written("WAV", "PCM_16", np.zeros(0)))
    (odd / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(500))
    (odd / "nan.wav").write_bytes(written("WAV", "FLOAT", np.full(4000, np.nan)))
    (odd / "silent.wav").write_bytes(written("WAV", "PCM_16", np.zeros(8000)))
    (odd / "stereo.wav").write_bytes(written("WAV", "PCM_16", np.stack([speech(["low"], 5)] * 2, axis=1), 44_100))
    said = "\n".join(rows(folder, test_size=3, validation_size=3).warnings)
    assert "train: 4 of 31 rows dropped: " in said
    assert "2 with an unreadable sound" in said and "1 with no sound" in said and "not made of numbers" in said
    for part in (
        "1 of 27 recordings have several channels",
        "1 of 27 recordings end before their header says",
        "1 of 27 recordings are silent",
        "recordings are of several rates, all made one: 16,000 Hz",
    ):
        assert part in said, part


def test_copies_are_found_in_any_format(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 18), ("test", 6)):
        for number in range(count):
            words = [str(word) for word in rng.choice(list(tiny_heard.WORDS), 6)]
            place = tmp_path / "rows" / split / f"class {number % 3}"
            place.mkdir(parents=True, exist_ok=True)
            soundfile.write(place / f"{number:02}.wav", speech(words, number), RATE)
    here, there = (
        sorted((tmp_path / "rows" / "train" / "class 0").iterdir())[:2],
        tmp_path / "rows" / "test" / "class 0",
    )
    samples, _ = soundfile.read(here[0], dtype="float32")
    soundfile.write(there / "same.flac", samples, RATE, subtype="PCM_16")
    samples, _ = soundfile.read(here[1], dtype="float32")
    soundfile.write(there / "softer.mp3", 0.5 * samples, RATE)
    found = rows(tmp_path / "rows", validation_size=3)
    both = {split: sum(kind.get("test", {}).get(split, 0) for kind in (found.leakage, found.hygiene.near))
            for split in ("train", "validation")}  # fmt: skip
    assert sum(both.values()) == 2 and found.leakage["test"] and found.hygiene.near["test"]
    assert any("same sound" in one for one in found.warnings) and any(
        "nearly the same sound" in o for o in found.warnings
    )


@pytest.mark.parametrize("place, listed, line", [
    ("{s}/{s}-0-{n:04}.flac", "{s}/{s}-0.trans.txt", "{s}-0-{n:04} {text}"),  # LibriSpeech
    ("wav/u{n}.wav", "text", "u{n} {text}"),  # Kaldi
    ("wavs/LJ-{n:04}.wav", "metadata.csv", "LJ-{n:04}|Low, {n}|{text}"),  # LJSpeech
    ("clips/u{n}.wav", "list.tsv", "clips/u{n}.wav\t{text}"),
])  # fmt: skip
def test_texts_stand_in_lists_that_begin_with_names(place, listed, line, tmp_path):
    said: dict[str, list[str]] = {}
    for number in range(12):
        known = {"n": number, "s": 19 + number % 2, "text": f"low number {number}"}
        path = tmp_path / place.format(**known)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tiny_heard.speech(["low"], number), RATE)
        said.setdefault(listed.format(**known), []).append(line.format(**known))
    for name, lines in said.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    if listed == "text":
        (tmp_path / "wav.scp").write_text("".join(f"u{n} wav/u{n}.wav\n" for n in range(12)))
        (tmp_path / "utt2spk").write_text("".join(f"u{n} s{n % 3}\n" for n in range(12)))
    found = rows(tmp_path, "automatic-speech-recognition", test_size=3, validation_size=3)
    told = {Path(row["audio"]["path"]).stem: row["text"] for split in found.splits.values() for row in split}
    assert len(told) == 12 and all(int(name[-4:].strip("-u")) == int(text.split()[-1]) for name, text in told.items())
    assert any("that begins with its name" in guess for guess in found.guesses)

    name, lines = next(iter(said.items()))
    (tmp_path / name).write_text("\n".join(lines[:-1]) + "\n")
    assert "every recording needs a line in" in refused(tmp_path, "automatic-speech-recognition")


def test_a_list_may_tell_of_more_recordings_and_of_speakers(tmp_path):
    """A part of LJSpeech with all of its list; and VITS' lists, where a speaker's number stands last."""
    (tmp_path / "wavs").mkdir()
    for number in range(12):
        soundfile.write(tmp_path / "wavs" / f"LJ-{number:02}.wav", tiny_heard.speech(["low"], number), RATE)
    (tmp_path / "metadata.csv").write_text("".join(f"LJ-{n:02}|low {n}|{n % 3}\n" for n in range(40, -1, -1)))
    found = rows(tmp_path, "automatic-speech-recognition", test_size=3, validation_size=3)
    told = {Path(row["audio"]["path"]).stem: row["text"] for split in found.splits.values() for row in split}
    assert told == {f"LJ-{number:02}": f"low {number}" for number in range(12)}
    assert any("29 lines are of recordings that are not there" in warning for warning in found.warnings)


def test_classes_stand_beside_a_list_of_texts(tmp_path):
    """Notes by name beside folders of classes are no classes: each task takes the column of its name."""
    tiny_heard.class_folder(tmp_path, 24)
    names = [path.stem for path in sorted(tmp_path.rglob("*.wav"))]
    assert len(set(names)) == len(names)
    (tmp_path / "speakers.txt").write_text("".join(f"{name} spk{n % 3}\n" for n, name in enumerate(names)))
    assert rows(tmp_path, test_size=6, validation_size=6).answer.names == ("high", "low", "middle")


def test_texts_of_their_names_in_another_folder(tmp_path):
    for number in range(12):
        for folder in ("sound", "said"):
            (tmp_path / folder).mkdir(exist_ok=True)
        soundfile.write(tmp_path / "sound" / f"{number}.wav", tiny_heard.speech(["low"], number), RATE)
        (tmp_path / "said" / f"{number}.lab").write_text(f"low {number}\n")
    found = rows(tmp_path, "automatic-speech-recognition", test_size=3, validation_size=3)
    told = {Path(row["audio"]["path"]).stem: row["text"] for split in found.splits.values() for row in split}
    assert told == {str(number): f"low {number}" for number in range(12)}
    assert any("is the .lab of its name" in guess for guess in found.guesses)
    (tmp_path / "said" / "3.lab").unlink()
    assert "every recording needs its text beside it" in refused(tmp_path, "automatic-speech-recognition")


def test_lists_tell_splits(tmp_path):
    tiny_heard.class_folder(tmp_path, 36)
    names = [f"{path.parent.name}/{path.name}" for path in sorted(tmp_path.rglob("*.wav"))]
    (tmp_path / "testing_list.txt").write_text("\n".join(names[::4]))
    (tmp_path / "validation_list.txt").write_text("\n".join(names[1::6]))
    found = rows(tmp_path)
    assert found.sizes == {"train": 36 - 9 - 6, "validation": 6, "test": 9} and found.answer.names == (
        "high", "low", "middle")  # fmt: skip
    assert any("testing_list.txt lists test" in guess for guess in found.guesses)
    (tmp_path / "elsewhere").mkdir()
    assert rows(tmp_path / "elsewhere" / "..").sizes == found.sizes  # names of files hold no ".."
    (tmp_path / "elsewhere").rmdir()
    others = [name for number, name in enumerate(names) if number % 4 and number % 6 != 1]
    (tmp_path / "train.txt").write_text("\n".join(others[1:-1]))
    told = rows(tmp_path)
    assert told.sizes["train"] == len(others) - 2
    assert any("in no list of a split" in warning for warning in told.warnings)
    (tmp_path / "validation_list.txt").write_text("\n".join([*names[1::6], names[0]]))
    assert "stands in those of validation and test" in refused(tmp_path)


@pytest.mark.parametrize("place, table", [
    ("audio/fold{fold}/{n}-3.wav", "metadata/Sounds.csv"), ("audio/{n}-3.wav", "meta/sounds.csv"),
])  # fmt: skip
def test_a_table_in_a_folder_of_its_own_tells_classes_and_folds_do_not(place, table, tmp_path):
    lines = ["slice_file_name,fold,class"]
    for number in range(24):
        path = tmp_path / place.format(fold=number % 4 + 1, n=number)
        path.parent.mkdir(parents=True, exist_ok=True)
        word = ("low", "high")[number % 2]
        soundfile.write(path, tiny_heard.speech([word], number), RATE)
        lines.append(f"{path.name},{number % 4 + 1},{word}")
    (tmp_path / table).parent.mkdir()
    (tmp_path / table).write_text("\n".join(lines) + "\n")
    (tmp_path / table).with_name("rejected.csv").write_text(lines[0] + "\n")
    found = rows(tmp_path, test_size=4, validation_size=4)
    assert found.answer.names == ("high", "low") and sum(found.sizes.values()) == 24
