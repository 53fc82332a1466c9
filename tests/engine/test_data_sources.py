"""Every kind of source gives the same rows, and every wrong one a UserError."""

from __future__ import annotations

import csv
import io
import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub.errors import EntryNotFoundError
from PIL import Image

from hftransfer.config import DataConfig
from hftransfer.data import Data, declared, load
from hftransfer.data.columns import words
from hftransfer.data.named_splits import split_of
from hftransfer.errors import UserError
from hftransfer.inputs.image import IMAGE
from hftransfer.inputs.text import TEXT as STRING
from hftransfer.tasks.base import Role, truth
from tests.engine import toys

TEXT = toys.of_text(
    "text-classification",
    Role("text", STRING, "a string", ("text", "sentence", "review")),
    Role("text_pair", STRING, "a second string", ("text_pair", "hypothesis"), required=False),
    truth("label", "a class", ("label", "class", "sentiment")),
)
IMAGES = toys.Toy(
    "image-classification",
    Role("image", IMAGE, "a picture", ("image", "img")),
    truth("label", "a class", ("label",)),
    kinds=("single_label", "multi_label"),
)
ROWS = [{"text": f"sentence {i}, with a comma", "label": "pos" if i % 3 else "neg"} for i in range(30)]


def read(source: Path | str, task: Any = TEXT, **options: Any) -> Data:
    return load(DataConfig(source=str(source), **options), task, seed=7)


def refused(source: Path | str, task: Any = TEXT, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(source, task, **options)
    assert caught.value.wanted and caught.value.found and caught.value.action
    return str(caught.value)


def write_csv(path: Path, rows: list[dict[str, Any]] = ROWS, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_images(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 8) -> Path:
    for i in range(count):
        for place, name in enumerate(classes):
            path = folder / name / f"train_{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (6, 4), (i * 20, place * 200, 0)).save(path)
    return folder


def as_csv(folder: Path) -> Path:
    return write_csv(folder / "rows.csv")


def as_tsv(folder: Path) -> Path:
    return write_csv(folder / "rows.tsv", delimiter="\t")


def as_semicolons(folder: Path) -> Path:
    return write_csv(folder / "rows [1] train.csv", delimiter=";", encoding="utf-8-sig")


def as_jsonl(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def as_json(folder: Path) -> Path:
    path = folder / "rows.json"
    path.write_text(json.dumps(ROWS))
    return path


def as_parquet(folder: Path) -> Path:
    path = folder / "rows.parquet"
    Dataset.from_list(ROWS).to_parquet(str(path))
    return path


def as_arrow(folder: Path) -> Path:
    path = folder / "rows.arrow"
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    return path


def as_saved(folder: Path) -> Path:
    Dataset.from_list(ROWS).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def as_zip(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "rows.zip", "w") as archive:
        archive.writestr("inner/rows.jsonl", as_jsonl(folder).read_text())
        archive.writestr("__MACOSX/._rows.jsonl", "junk")
    (folder / "rows.jsonl").unlink()
    return folder / "rows.zip"


FORMATS = [as_csv, as_tsv, as_semicolons, as_jsonl, as_json, as_parquet, as_arrow, as_saved, as_zip]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return read(as_csv(tmp_path_factory.mktemp("reference")))


@pytest.mark.parametrize("write", FORMATS, ids=lambda f: f.__name__)
def test_every_format_gives_the_same_content(write: Any, tmp_path: Path, reference: Data) -> None:
    folder = tmp_path / "user"
    folder.mkdir()
    source = write(folder)
    before = sorted(folder.rglob("*"))
    data = read(source)
    assert data.fingerprint == reference.fingerprint
    assert data.sizes == {"train": 21, "validation": 3, "test": 6}
    assert sorted(folder.rglob("*")) == before, "something was written beside the user's data"


def test_a_change_of_any_value_changes_the_fingerprint(tmp_path: Path, reference: Data) -> None:
    changed = [*ROWS[:-1], {"text": "another", "label": ROWS[-1]["label"]}]
    data = read(write_csv(tmp_path / "rows.csv", changed))
    assert data.fingerprint != reference.fingerprint
    assert sum(data.fingerprints[use] != reference.fingerprints[use] for use in data.splits) == 1


def test_row_ids_name_the_file_and_the_row(tmp_path: Path) -> None:
    data = read(as_csv(tmp_path))
    for row in data.splits["test"]:
        name, number = row["row_id"].split(":")
        assert name == "rows.csv"
        assert row["text"] == ROWS[int(number)]["text"]
        assert data.answer.names[row["label"]] == ROWS[int(number)]["label"]


def test_a_folder_names_splits_by_whole_words(tmp_path: Path) -> None:
    write_csv(tmp_path / "my_training-rows.csv")
    write_csv(tmp_path / "dev.csv", ROWS[:6])
    write_csv(tmp_path / "latest.csv", ROWS[:9])
    data = read(tmp_path)
    assert data.sizes == {"train": 24, "validation": 6, "test": 6}
    assert any("latest.csv" in warning for warning in data.warnings)
    assert [split_of(name) for name in ("evaluated", "trainer", "ValData", "x.test", "train-test")] == [
        None, None, "validation", "test", None,
    ]  # fmt: skip
    assert words("fooBar_baz-HTMLText 2") == ("foo", "bar", "baz", "html", "text", "2")


def test_config_names_splits_or_files_beside(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a" / "rows.csv")
    write_csv(tmp_path / "a" / "extra.csv", ROWS[:6])
    data = read(source, test="extra.csv")
    assert data.sizes["test"] == 6 and data.splits["test"][0]["row_id"] == "extra.csv:0"
    assert "no file either" in refused(source, test="nothing")
    assert "data.source itself" in refused(source, test=str(source))
    write_csv(tmp_path / "b" / "train.csv")
    write_csv(tmp_path / "b" / "test.csv", ROWS[:6])
    message = refused(tmp_path / "b", validation="tesst")
    assert "'tesst'" in message and "Did you mean 'test'" in message
    assert "stands for validation and test" in refused(tmp_path / "b", validation="test", test="test")


def test_saved_splits_keep_class_names(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "odd", "pos"])})
    rows = Dataset.from_dict({"text": [f"t{i}" for i in range(30)], "label": [0, 2] * 15}, features=features)
    hidden = Dataset.from_dict({"text": [f"h{i}" for i in range(9)], "label": [-1] * 9}, features=features)
    DatasetDict({"train": rows, "test": hidden}).save_to_disk(str(tmp_path / "saved"))
    data = read(tmp_path / "saved")
    assert data.answer.names == ("neg", "odd", "pos") and data.answer.counts[1] == 0
    assert {choice.role: choice.reason for choice in data.columns}["label"] == "ClassLabel"
    assert any("labels of test are hidden" in warning for warning in data.warnings)
    assert any("odd missing from train" in warning for warning in data.warnings)
    assert data.sizes == {"train": 21, "validation": 3, "test": 6}


def test_csv_types_hold_for_the_whole_file(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": str(i % 2) if i < 10_500 else ["007", "NA"][i % 2]} for i in range(11_000)]
    data = read(write_csv(tmp_path / "rows.csv", rows))
    assert data.answer.names == ("0", "007", "1", "NA")
    gaps = [{"text": f"t{i}", "label": "" if i == 3 else str(i % 2)} for i in range(40)]
    data = read(write_csv(tmp_path / "gaps.csv", gaps))
    assert data.answer.names == ("0", "1") and sum(data.sizes.values()) == 39
    assert any("1 with no label" in warning and "gaps.csv:3" in warning for warning in data.warnings), data.warnings


def test_latin_1_is_read_and_said(tmp_path: Path) -> None:
    rows = [{"text": f"café {i}", "label": "ja" if i % 2 else "nein"} for i in range(20)]
    data = read(write_csv(tmp_path / "rows.csv", rows, encoding="latin-1"))
    assert data.splits["train"][0]["text"].startswith("café")
    assert any("read as cp1252 (data.encoding)" in guess for guess in data.guesses)


def test_long_fields_and_bare_quotes(tmp_path: Path) -> None:
    rows = [{"text": "x" * 200_000 if i == 0 else f't{i}\n"quoted"', "label": str(i % 2)} for i in range(20)]
    assert sum(read(write_csv(tmp_path / "rows.csv", rows)).sizes.values()) == 20
    path = tmp_path / "bare.tsv"
    path.write_text("text\tlabel\n" + "".join(f'"open {i}\t{i % 2}\n' for i in range(19)))
    data = read(path)
    assert sum(data.sizes.values()) == 19 and data.splits["train"][0]["text"].startswith('"open')


@pytest.mark.parametrize("streaming", [False, True])
def test_image_folder(tmp_path: Path, streaming: bool) -> None:
    data = read(write_images(tmp_path / "photos"), IMAGES, streaming=streaming)
    assert data.answer.names == ("cat", "dog")
    assert sum(data.sizes.values()) == 16
    row = next(iter(data.splits["train"]))
    assert row["image"].size == (6, 4)
    assert data.splits["test"][0]["image"].size == (6, 4)


def test_image_folder_with_splits_zip_and_class_named_train(tmp_path: Path) -> None:
    write_images(tmp_path / "photos" / "train")
    write_images(tmp_path / "photos" / "test", count=3)
    data = read(tmp_path / "photos", IMAGES)
    assert data.sizes["test"] == 6 and data.splits["test"][0]["row_id"] == "test:0"
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in (tmp_path / "photos").rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path))
    assert read(tmp_path / "photos.zip", IMAGES).fingerprint == data.fingerprint
    toys = read(write_images(tmp_path / "toys", ("train", "plane")), IMAGES)
    assert toys.answer.names == ("plane", "train")


def test_image_folder_with_metadata_and_table_of_paths(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", ("all",), 12)
    rows = [{"file_name": f"all/train_{i}.png", "label": "odd" if i % 2 else "even"} for i in range(12)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = read(folder, IMAGES)
    assert data.answer.names == ("even", "odd") and sum(data.sizes.values()) == 12
    (folder / "metadata.jsonl").unlink()
    table = write_csv(folder / "list.csv", [{"image": row["file_name"], "label": row["label"]} for row in rows])
    assert read(table, IMAGES).fingerprint == data.fingerprint


def damage(folder: Path) -> None:
    whole = (folder / "cat" / "train_0.png").read_bytes()
    (folder / "cat" / "train_0.png").write_bytes(whole[: len(whole) // 2])
    (folder / "dog" / "train_1.png").write_text("not an image")


@pytest.mark.parametrize("streaming", [False, True])
def test_corrupt_images_are_dropped_or_refused(tmp_path: Path, streaming: bool) -> None:
    folder = write_images(tmp_path / "photos")
    damage(folder)
    data = read(folder, IMAGES, streaming=streaming)
    assert sum(data.sizes.values()) == 14
    assert any("2 of 16 rows dropped" in w and "train_0.png" in w and "train_1.png" in w for w in data.warnings)
    for split in data.splits.values():
        for row in split:
            row["image"].convert("RGB")
    assert "an unreadable image" in refused(folder, IMAGES, bad_rows="refuse", streaming=streaming)


def test_a_decompression_bomb_is_a_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_images(tmp_path / "photos")
    Image.new("L", (100, 100)).save(folder / "cat" / "train_0.png")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)
    assert sum(read(folder, IMAGES).sizes.values()) == 15


@pytest.mark.parametrize("name", ["../rows.csv", "/tmp/rows.csv", "a/../../rows.csv", "C:\\rows.csv", "..\\rows.csv"])
def test_zip_with_paths_outside(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.writestr(name, "text,label\na,b\n")
    assert "leads outside" in refused(tmp_path / "rows.zip")


def test_zip_with_links_bombs_and_junk(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("rows.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "is a link" in refused(tmp_path / "link.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv", bytes(80 * 2**20))
    assert "would become 80 MB" in refused(tmp_path / "bomb.zip")
    (tmp_path / "junk.zip").write_bytes(b"no zip")
    assert "must be a zip file" in refused(tmp_path / "junk.zip")
    truncated = io.BytesIO()
    with zipfile.ZipFile(truncated, "w") as archive:
        archive.writestr("rows.csv", "text,label\n" + "a,b\n" * 100)
    damaged = bytearray(truncated.getvalue())
    damaged[60] ^= 1
    (tmp_path / "damaged.zip").write_bytes(damaged)
    assert "must be a zip file" in refused(tmp_path / "damaged.zip")


def test_ragged_csv_names_the_line(tmp_path: Path) -> None:
    lines = ["text,label", *(f"t{i},{i % 2}" for i in range(5)), "a,b,c,d,e"]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    assert "line 7 has 5 fields, the header has 2" in refused(tmp_path / "rows.csv")
    lines[-1] = '"two\nlines",1'
    (tmp_path / "short.csv").write_text("\n".join([*lines, "alone"]))
    assert "line 9 has 1 fields" in refused(tmp_path / "short.csv")


def test_empty_files(tmp_path: Path) -> None:
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        (tmp_path / name).write_text("")
        assert "is empty" in refused(tmp_path / name)
    (tmp_path / "header.csv").write_text("text,label\n")
    assert "has none below the names" in refused(tmp_path / "header.csv")
    assert "is empty" in refused(tmp_path / "header.csv", streaming=True)
    (tmp_path / "blank.csv").write_text("\n\n")
    assert "is empty" in refused(tmp_path / "blank.csv")


def test_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 nothing")
    assert "rows.parquet must be readable" in refused(tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": 1}\n{"text": \n')
    assert "rows.jsonl must be readable JSON; line 2" in refused(tmp_path / "rows.jsonl")


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    assert f"there is no {tmp_path / 'rows.csv'}" in refused(tmp_path / "rows.csv")
    assert "there is no" in refused("./nothing") and "there is no" in refused("nothing.jsonl")
    (tmp_path / "rows.docx").write_text("x")
    assert "ends in '.docx'" in refused(tmp_path / "rows.docx")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("x")
    assert "no recording and no file" in refused(tmp_path / "folder")


def test_hub_failures_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refused("nobody/nothing")  # the tests run with HF_HUB_OFFLINE=1
    assert "cannot be reached" in message and "sample:NAME" in message

    def failing(error: Exception) -> Any:
        def load_dataset(*args: Any, **options: Any) -> Any:
            assert "trust_remote_code" not in options
            raise error

        return load_dataset

    monkeypatch.setattr("datasets.load_dataset", failing(DatasetNotFoundError("Dataset 'a/b' is a gated dataset")))
    assert "gated" in refused("a/b") and "hf auth login" in refused("a/b")
    monkeypatch.setattr("datasets.load_dataset", failing(ValueError("Config name is missing. Pick one of ['x', 'y']")))
    assert "Set data.name" in refused("a/b")
    monkeypatch.setattr("datasets.load_dataset", failing(RuntimeError("Dataset scripts are no longer supported")))
    assert "run someone's code" in refused("a/b")


@pytest.mark.parametrize(
    ("files", "own"),
    [
        ("train.csv", True),
        ([{"split": "train", "path": ["data/a-*.parquet", "b[0-9].csv"]}], True),
        ("hf://datasets/a/b@main/x.csv", True),
        ("http://169.254.169.254/latest/meta-data", False),
        ("https://example.org/rows.csv", False),
        ("file:///etc/passwd", False),
        ("/etc/passwd", False),
        ("~/.ssh/id_rsa", False),
        ("../../other/rows.csv", False),
        ("s3://bucket/rows.csv", False),
        ("ssh://host/rows.csv", False),
        ("hf://datasets/someone/private/rows.csv", False),
        ("zip://a.csv::http://10.0.0.1/a.zip", False),
        ([{"split": "train", "path": ["a.csv", "http://10.0.0.1/b.csv"]}], False),
        ({"train": "\\\\host\\share\\rows.csv"}, False),
    ],
)
@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
def test_a_hub_source_names_its_own_files_alone(
    files: Any, own: bool, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` would ask the address, whatever it is, before it refuses what lies there."""
    asked: list[str] = []
    settings = json.dumps({"configs": [{"config_name": "default", "data_files": files}]})
    (tmp_path / name).write_text(f"---\n{settings}\n---\nrows\n" if name == "README.md" else settings)

    def download(repo: str, file: str, **_: Any) -> str:
        if file != name:
            raise EntryNotFoundError("none")
        return str(tmp_path / file)

    def load_dataset(*_: Any, **__: Any) -> Any:
        asked.append("load")
        return DatasetDict({"train": Dataset.from_list(ROWS)})

    monkeypatch.setattr("hftransfer.data.declared.hf_hub_download", download)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    if own:
        assert read("a/b").sizes["train"]
    else:
        assert "must name files of its own" in refused("a/b")
    assert asked == (["load"] if own else [])


def test_names_without_end_are_not_looked_for(tmp_path: Path) -> None:
    (tmp_path / ".huggingface.yaml").write_text("configs: [{config_name: a, data_files: &a [*a, *a]}]")
    assert [*declared._named(declared._read(tmp_path / ".huggingface.yaml"))] == [".."]


def test_a_hub_source_uses_its_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Dataset.from_list(ROWS)
    found = DatasetDict({"train": rows, "validation_matched": rows.select(range(6)), "unsupervised": rows})
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **o: found)
    data = read("someone/rows", name="x", revision="main")
    assert data.splits["validation"][0]["row_id"] == "validation_matched:0"
    assert any("unsupervised" in warning for warning in data.warnings)
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **o: DatasetDict({"one": rows, "two": rows}))
    assert "Set data.train" in refused("someone/rows")
    assert read("someone/rows", train="two").sizes["train"] == 21
