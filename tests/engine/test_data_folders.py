"""What folders mean is found by looking; what lies there and is not read is counted and said; links are followed."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hftransfer import catalog
from hftransfer.config import DataConfig
from hftransfer.data import Data, load
from hftransfer.data.layout import lay_out
from hftransfer.data.patterns import compiled, offer
from hftransfer.data.tree import walk
from hftransfer.errors import UserError
from hftransfer.safety import fence
from hftransfer.safety.pictures import FORMATS, SUFFIXES
from tests import folder_trips

PICTURES, TEXTS = catalog.task("image-classification"), catalog.task("text-classification")


def grow(root: Path, *places: str, count: int = 4) -> Path:
    """Write so many pictures into each folder, no two alike."""
    for number, place in enumerate(places):
        folder = root / place
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (40 * number % 256, 60 * i % 256, 7 * (number + i))).save(folder / f"{i}.png")
    return root


def read(source: Path, task: Any = PICTURES, **options: Any) -> Data:
    return load(DataConfig(source=str(source), **options), task, seed=7)


def refused(source: Path, task: Any = PICTURES, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(source, task, **options)
    return str(caught.value)


def laid(*paths: str, pattern: str | None = None, named: tuple[str, ...] = ()) -> dict[str, dict[str, str | None]]:
    found = lay_out([tuple(path.split("/")) for path in paths], pattern, named, "pictures")
    return {
        split: {"/".join(one): label for one, label in sorted(files.items())} for split, files in found.splits.items()
    }


def classes(found: dict[str, dict[str, str | None]]) -> dict[str, set[str | None]]:
    return {split: set(files.values()) for split, files in found.items()}


def tree(*folders: str, files: int = 3) -> list[str]:
    return [f"{folder}/{i}.png" for folder in folders for i in range(files)]


BOTH = {"cats", "dogs"}


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("training_set/cats", "training_set/dogs", "test_set/cats", "test_set/dogs"), ("training_set", "test_set")),
        (("seg_train/cats", "seg_train/dogs", "seg_test/cats", "seg_test/dogs"), ("seg_train", "seg_test")),
        (("Train/cats", "Train/dogs", "TEST/cats", "TEST/dogs"), ("Train", "TEST")),
        (("train2017/cats", "train2017/dogs", "val2017/cats", "val2017/dogs"), ("train2017", "val2017")),
        (("1. Training/cats", "1. Training/dogs", "2-testing/cats", "2-testing/dogs"), ("1. Training", "2-testing")),
        (("trainset/cats", "trainset/dogs", "testImages/cats", "testImages/dogs"), ("trainset", "testImages")),
        (("a/b/train/cats", "a/b/train/dogs", "a/b/val/cats", "a/b/val/dogs"), ("train", "val")),
        (("train/train/cats", "train/train/dogs", "val/val/cats", "val/val/dogs"), ("train", "val")),
        (("train/train/cats", "train/train/dogs", "train/val/cats", "train/val/dogs"), ("train", "val")),
        (("seg_train/seg_train/cats", "seg_train/seg_train/dogs", "seg_pred/seg_pred"), ("seg_train", "seg_pred")),
        (("train/images/cats", "train/images/dogs", "test/images/cats", "test/images/dogs"), ("train", "test")),
        (("train/cats", "train/dogs", "test/cats", "test/dogs", "more/cats", "more/dogs"), ("train", "test", "more")),
        (("train/cats", "train/dogs", "test/cats", "test/dogs", "docs"), ("train", "test", "docs")),
        (("train/cats", "train/dogs"), ("train",)),
        (("cats/train", "cats/test", "dogs/train", "dogs/test"), ("train", "test")),
    ],
)  # fmt: skip
def test_split_folders_are_recognised_by_looking(folders, expected):
    found = laid(*tree(*folders))
    assert tuple(found) == expected
    assert found[expected[0]] and classes(found)[expected[0]] == BOTH
    assert classes(laid(*tree(*folders), "stray.png")) == classes(found), "one stray picture changes nothing"


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("cats", "dogs"), BOTH), (("pics/cats", "pics/dogs"), BOTH), (("plane", "train"), {"plane", "train"}),
        (("train_station", "test_tube"), {"train_station", "test_tube"}), (("cats/2019", "dogs/2020"), BOTH),
        (("test_positive", "test_negative"), {"test_positive", "test_negative"}),
        (("cats", "dogs", "unlabeled"), BOTH),
    ],
)  # fmt: skip
def test_folders_that_are_classes(folders, expected):
    assert classes(laid(*tree(*folders))) == {"train": expected}
    assert classes(laid(*tree(*folders), "stray.png")) == {"train": expected}


@pytest.mark.parametrize(
    "folders",
    [
        ("train/2020", "train/2021", "plane/2020", "plane/2021"), ("train", "test", "bus"),
        ("train_a/cats", "train_a/dogs", "train_b/cats", "test/cats"),
        ("train_cats", "train_dogs", "test_cats", "test_dogs"),
    ],
)  # fmt: skip
def test_two_plausible_readings_are_refused_with_a_setting_that_decides(folders):
    files = tree(*folders)
    with pytest.raises(UserError) as caught:
        laid(*files)
    patterns = [part.split('"')[0] for part in caught.value.action.split('data.label_pattern="')[1:]]
    assert patterns
    for pattern in patterns:
        found = laid(*files, pattern=pattern)
        assert sum(map(len, found.values())) == len(files) and None not in set().union(*classes(found).values())


def test_a_named_split_decides_too():
    folders = ("train/2020", "train/2021", "plane/2020", "plane/2021")
    assert classes(laid(*tree(*folders), named=("train",)))["train"] == {"2020", "2021"}


def test_several_data_sets_in_one_folder_are_refused():
    parts = [f"{name}/{split}/{kind}" for name in ("a", "b") for split in ("train", "test") for kind in ("x", "y")]
    with pytest.raises(UserError, match=r"a, b are divided and hold classes each. Name one of them in data.source"):
        laid(*tree(*parts))


def test_pictures_beside_folders_are_few_or_refused():
    with pytest.raises(UserError, match=r"7 lie beside the folders old, which hold 3"):
        laid(*tree("old"), *(f"{i}.png" for i in range(7)))


def test_patterns_take_classes_from_paths():
    assert laid("cat.1.png", "x/dog.22.JPG", pattern="{label}.{number}.*") == {
        "train": {"cat.1.png": "cat", "x/dog.22.JPG": "dog"}
    }
    assert laid("train/cat.1.png", "train/dog.1.png", "test/cat.2.png", pattern="{label}.{number}.*") == {
        "train": {"train/cat.1.png": "cat", "train/dog.1.png": "dog"}, "test": {"test/cat.2.png": "cat"},
    }  # fmt: skip
    assert laid("american_bulldog_7.jpg", pattern="{label}_{number}.*")["train"] == {
        "american_bulldog_7.jpg": "american_bulldog"
    }
    assert laid("a/x/1.png", "b/y/1.png", pattern="{label}/*")["train"] == {"a/x/1.png": "x", "b/y/1.png": "y"}
    with pytest.raises(UserError, match=r"fits 0 of 2; not cat.1.png, dog.1.png"):
        laid("cat.1.png", "dog.1.png", pattern="{label}_{number}.*")
    for odd in ("cat.*", "{label}{label}", "{label}.{what}", "{label}" + "*" * 99):
        with pytest.raises(UserError, match=r"needs \{label\} once"):
            compiled(odd)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("cat.1.png", "dog.1.png"), "{label}.{number}.*"), (("cat_01.jpg", "dog_01.jpg"), "{label}_{number}.*"),
        (("cat (1).jpg", "dog (1).jpg"), "{label} ({number}).*"), (("n1.png", "m1.png"), "{label}{number}.*"),
        (("1-cat.png", "2-dog.png"), "{number}-{label}.*"), (("IMG_1.png", "IMG_2.png"), None),
        (("a.png", "b.png"), None),
    ],
)  # fmt: skip
def test_a_pattern_is_offered_where_names_hold_classes(names, expected):
    found = offer([name for name in names for _ in range(3)])
    assert (found and found[0]) == expected


def test_a_flat_folder_offers_the_pattern_and_it_works(tmp_path):
    for kind, shade in (("cat", 0), ("dog", 99)):
        for i in range(8):
            Image.new("RGB", (8, 8), (shade, 9 * i, 9)).save(tmp_path / f"{kind}.{i}.png")
    message = refused(tmp_path)
    assert 'Set data.label_pattern="{label}.{number}.*" to take the class of the pictures (cat, dog)' in message
    assert read(tmp_path, label_pattern="{label}.{number}.*").answer.names == ("cat", "dog")


def test_a_split_that_hides_its_classes_hinders_no_offer():
    files = [*(f"train/{kind}.{i}.jpg" for kind in ("cat", "dog") for i in range(9)), *tree("test1")]
    found = lay_out([tuple(path.split("/")) for path in files], None, (), "pictures")
    assert '"{label}.{number}.*"' in found.offers[0]
    assert classes(laid(*files, pattern="{label}.{number}.*")) == {"train": {"cat", "dog"}}


def test_a_class_that_is_called_like_a_split_is_said():
    found = lay_out([tuple(path.split("/")) for path in tree("cats", "dogs", "test")], None, (), "pictures")
    assert found.guesses == ["test is a class, as cats, dogs are, not a split"]


def test_what_is_not_read_is_counted_by_folder(tmp_path):
    grow(tmp_path, "cats", "dogs", "birds/.old", count=6)
    for i in range(5):
        (tmp_path / "fish").mkdir(exist_ok=True)
        (tmp_path / "fish" / f"{i}.heic").write_bytes(b"x")
    (tmp_path / "cats" / "notes.docx").write_bytes(b"x")
    (tmp_path / "dogs" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "stray.png").write_bytes((tmp_path / "cats" / "0.png").read_bytes())
    for junk in ("Thumbs.db", "cats/.DS_Store", "__MACOSX/cats/._0.png", ".ipynb_checkpoints/0.png"):
        (tmp_path / junk).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / junk).write_bytes(b"x")
    data = read(tmp_path)
    assert data.answer.names == ("cats", "dogs") and sum(data.sizes.values()) == 12
    said = next(warning for warning in data.warnings if warning.startswith("not read"))
    assert said.startswith(
        "not read: 14 of 26 files: birds/.old all 6 (hidden); fish all 5 (.heic); at the top all 1 (beside the "
    )
    assert "cats 1 of 7 (.docx)" in said and "dogs 1 of 7 (a link that leads nowhere)" in said and "[rows: " in said
    assert any(guess.startswith("4 files of the system passed over: ") for guess in data.guesses)


def test_a_class_that_is_not_read_is_named_where_one_is_left(tmp_path):
    grow(tmp_path, "cats")
    (tmp_path / "dogs").mkdir()
    (tmp_path / "dogs" / "1.heic").write_bytes(b"x")
    assert "dogs all 1 (.heic)" in refused(tmp_path)


def test_every_suffix_of_a_format_that_pillow_reads_is_read(tmp_path):
    known = PIL.Image.registered_extensions()
    never = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "IPTC", "PDF", "PALM"}
    assert {suffix for suffix, format in known.items() if format not in never} == SUFFIXES
    assert {format for suffix, format in known.items() if suffix in SUFFIXES} == set(FORMATS)
    grow(tmp_path, "cats", "dogs")
    for suffix, name in (
        (".jfif", "JPEG"),
        (".JPE", "JPEG"),
        (".TIF", "TIFF"),
        (".webp", "WEBP"),
        (".j2k", "JPEG2000"),
    ):
        Image.new("RGB", (8, 8), (1, 2, len(suffix))).save(tmp_path / "cats" / f"more{suffix}", name)
    assert sum(read(tmp_path).sizes.values()) == 13


def test_linked_folders_are_read_once_and_loops_end(tmp_path):
    grow(tmp_path / "pics", "cats")
    grow(tmp_path / "elsewhere", "dogs", "x/wolves")
    (tmp_path / "pics" / "dogs").symlink_to("../elsewhere/dogs")
    (tmp_path / "pics" / "felines").symlink_to("cats")
    (tmp_path / "pics" / "cats" / "again").symlink_to("..")
    (tmp_path / "elsewhere" / "dogs" / "wolves").symlink_to("../x/wolves")
    data = read(tmp_path / "pics")
    assert data.answer.names == ("cats", "dogs") and sum(data.sizes.values()) == 12
    assert any("linked folders are read: dogs -> " in guess and "dogs/wolves -> " in guess for guess in data.guesses)
    said = next(warning for warning in data.warnings if warning.startswith("not read"))
    assert "a link to cats" in said and "a link to the folder itself" in said


def test_a_stranger_reaches_nothing_by_links(tmp_path, monkeypatch):
    grow(tmp_path / "pics", "cats", "dogs")
    grow(tmp_path, "secret", count=1)
    (tmp_path / "pics" / "more").symlink_to("../secret")
    (tmp_path / "pics" / "cats" / "one.png").symlink_to("../../secret/0.png")
    assert len(walk(tmp_path / "pics").files) == 10
    monkeypatch.setenv(fence.VARIABLE, "{}")
    found = walk(tmp_path / "pics")
    assert len(found.files) == 8
    assert {("/".join(one.path), one.why) for one in found.left} == {
        ("more", "a link out of the folder"), ("cats/one.png", "a link out of the folder"),
    }  # fmt: skip


@pytest.mark.parametrize("streaming", [False, True])
def test_texts_in_folders_of_classes(tmp_path, streaming):
    for split, count in (("train", 12), ("test", 4)):
        for label in ("neg", "pos"):
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(count):
                (tmp_path / split / label / f"{i}.txt").write_text(f"{split} {label} näher {i}\r\n", newline="")
    (tmp_path / "train" / "pos" / "0.txt").write_bytes("der Weg war näher".encode("cp1252"))
    (tmp_path / "README").write_text("about")
    data = read(tmp_path, TEXTS, streaming=streaming)
    assert data.answer.names == ("neg", "pos") and sum(data.sizes.values()) == 32
    assert any("1 of 24 texts are not UTF-8, unlike the others" in warning for warning in data.warnings)
    assert {row["text"] for row in data.splits["test"]} >= {"test neg näher 0", "test pos näher 3"}


def test_texts_that_are_not_utf8_are_read_alike(tmp_path):
    words = ("прекрасный день", "ужасный вечер", "скучная книга", "хорошая музыка", "плохая погода", "добрый человек")
    for i, word in enumerate(words * 2):
        place = tmp_path / ("pos", "neg")[i % 2] / f"{i}.txt"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(f"{word} номер {i}".encode("cp1251"))
    (tmp_path / "pos" / "wide.txt").write_bytes("прекрасный и последний".encode("utf-16"))
    (tmp_path / "neg" / "binary.txt").write_bytes(bytes(range(40)))
    data = read(tmp_path, TEXTS)
    texts = {row["text"] for rows in data.splits.values() for row in rows}
    assert texts >= {"прекрасный день номер 0", "добрый человек номер 11", "прекрасный и последний"}
    assert "12 of 14 texts are not UTF-8, read as cp1251 (data.encoding)" in data.guesses
    assert any("1 of 14 rows dropped: 1 with no text" in warning for warning in data.warnings)
    assert read(tmp_path, TEXTS, encoding="cp866").guesses == ()
    assert "is not. Name the one that they were saved in" in refused(tmp_path, TEXTS, encoding="utf-8")


def test_texts_in_no_folders_are_refused_with_what_would_do(tmp_path):
    for i in range(6):
        (tmp_path / f"{'pos' if i % 2 else 'neg'}_{i}.txt").write_text(f"a text {i}")
    message = refused(tmp_path, TEXTS)
    assert 'Set data.label_pattern="{label}_{number}.*"' in message and "6 texts lie in no folders" in message


def test_a_zip_is_read_like_its_folder(tmp_path):
    grow(tmp_path / "pics", "training_set/cats", "training_set/dogs", "test_set/cats", "test_set/dogs")
    (tmp_path / "pics" / "stray.png").write_bytes((tmp_path / "pics" / "test_set" / "cats" / "0.png").read_bytes())
    with zipfile.ZipFile(tmp_path / "pics.zip", "w") as archive:
        for path in sorted((tmp_path / "pics").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path))
    one, other = read(tmp_path / "pics"), read(tmp_path / "pics.zip")
    assert one.fingerprint == other.fingerprint and one.guesses == other.guesses
    assert set(one.warnings) == set(other.warnings)


FILES = st.tuples(
    st.lists(st.sampled_from(folder_trips.NAMES), max_size=4), st.sampled_from(folder_trips.STEMS), st.integers(0, 9),
    st.sampled_from([*folder_trips.SUFFIXES, ".jpeg", ".TIF"]),
).map(lambda drawn: "/".join([*drawn[0], f"{drawn[1]}{drawn[2]}{drawn[3]}"]))  # fmt: skip


@given(st.lists(st.one_of(FILES, st.sampled_from(folder_trips.JUNK)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_tree_gives_as_many_pictures_as_it_holds_or_says_which_not(paths):
    with tempfile.TemporaryDirectory() as place:
        assert folder_trips.lost(Path(place), folder_trips.write(Path(place), paths), links=0) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_folder_that_may_not_be_opened_is_said(tmp_path):
    grow(tmp_path, "cats", "dogs", "birds")
    (tmp_path / "birds").chmod(0)
    try:
        assert any("may not be opened" in warning for warning in read(tmp_path).warnings)
    finally:
        (tmp_path / "birds").chmod(0o755)
