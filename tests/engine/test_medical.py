"""Pictures of medicine: DICOM read as it is to be shown, told apart by patient, and nothing of the patient kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image

from hftransfer import catalog, cli, data
from hftransfer.card import report
from hftransfer.config import DataConfig
from hftransfer.errors import UserError
from hftransfer.hub import publishing
from hftransfer.inputs import _dicom, _pixels
from hftransfer.predictor import Predictor
from hftransfer.safety.pictures import holds_dicom
from tests import tiny, tiny_dicom
from tests.tiny_dicom import NAME, NUMBER, PRIVATE, write

TASK = catalog.task("image-classification")
SECRETS = (NAME, *NAME.split("^"), NUMBER, PRIVATE)


def opened(path: Path, **config: Any) -> np.ndarray:
    """Return a file as a model is shown it, one channel of it."""
    from hftransfer.inputs.image import IMAGE

    with Image.open(path) as picture:
        return np.asarray(IMAGE.opened(picture, DataConfig(source="-", **config)))[..., 0]


def load(source: Path, **config: Any) -> data.Data:
    return data.load(DataConfig(source=str(source), **config), TASK, 1)


# --- one file ---


def test_numbers_are_in_the_files_own_units(tmp_path: Path) -> None:
    stored = np.array([[0, 24], [1024, 3071]], np.int16)
    path = write(tmp_path / "a.dcm", stored, RescaleIntercept=-1024, RescaleSlope=1)
    with Image.open(path) as picture:
        assert np.asarray(picture).tolist() == [[-1024, -1000], [0, 2047]]
    assert opened(path, depth=(-1024, -1000)).tolist() == [[0, 255], [255, 255]]
    dose = write(tmp_path / "b.dcm", stored.astype(np.uint16), RescaleIntercept=0, RescaleSlope=0.5, Modality="PT")
    with Image.open(dose) as picture:
        assert (picture.mode, np.asarray(picture)[1, 1]) == ("F", 1535.5)


def test_the_window_is_the_standards(tmp_path: Path) -> None:
    stored = np.array([[0, 1, 2, 3, 4]], np.uint16)
    plain = {"WindowCenter": 2, "WindowWidth": 3}
    path = write(tmp_path / "a.dcm", stored, **plain)
    assert opened(path, window="own").tolist() == [[0, 64, 191, 255, 255]]
    with Image.open(path) as picture:
        picture.load()
        assert picture.info[_dicom.WINDOW] == (0.5, 2.5)
    exact = write(tmp_path / "b.dcm", stored, VOILUTFunction="LINEAR_EXACT", **plain)
    several = write(tmp_path / "c.dcm", stored, WindowCenter=[450, 200], WindowWidth=[790, 443])
    none = write(tmp_path / "d.dcm", stored, WindowCenter=40, WindowWidth=0)
    for place, expected in ((exact, (0.5, 3.5)), (several, (55.0, 844.0)), (none, None)):
        with Image.open(place) as picture:
            picture.load()
            assert picture.info[_dicom.WINDOW] == expected


def test_low_is_white_in_monochrome1(tmp_path: Path) -> None:
    deep = write(tmp_path / "a.dcm", np.array([[0, 4095]], np.uint16), PhotometricInterpretation="MONOCHROME1")
    assert opened(deep, depth=(0, 4095)).tolist() == [[255, 0]]
    plain = write(tmp_path / "b.dcm", np.array([[0, 200]], np.uint8), PhotometricInterpretation="MONOCHROME1")
    assert opened(plain).tolist() == [[255, 55]]


def test_what_lies_outside_the_field_of_view_is_dark(tmp_path: Path) -> None:
    stored = np.array([[-2000, 0, 100]], np.int16)
    path = write(tmp_path / "a.dcm", stored, PixelPaddingValue=-2000)
    with Image.open(path) as picture:
        assert np.asarray(picture).tolist() == [[0, 0, 100]]


def test_colours_are_rgb_of_eight_bits(tmp_path: Path) -> None:
    rgb = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
    with Image.open(write(tmp_path / "a.dcm", rgb)) as picture:
        assert picture.mode == "RGB" and np.array_equal(np.asarray(picture), rgb)
    deep = write(tmp_path / "b.dcm", rgb.astype(np.uint16) * 257)
    with Image.open(deep) as picture:
        assert np.array_equal(np.asarray(picture), rgb)
    lut = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour, at in (("Red", 0), ("Green", 1), ("Blue", 2))
        for part, value in (("Descriptor", [2, 0, 16]), ("Data", np.array([0, 257 * 50 * (at + 1)], "<u2").tobytes()))
    }
    palette = write(tmp_path / "c.dcm", np.array([[0, 1]], np.uint8), PhotometricInterpretation="PALETTE COLOR", **lut)
    with Image.open(palette) as picture:
        assert np.asarray(picture).tolist() == [[[0, 0, 0], [50, 100, 150]]]


def compressed(path: Path, syntax: str) -> Path:
    found = pydicom.dcmread(write(path, np.zeros((4, 4), np.uint8)))
    found.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    found.PixelData = pydicom.encaps.encapsulate([b"\0" * 20])
    found["PixelData"].VR = "OB"
    found.save_as(path)
    return path


def cut(path: Path) -> Path:
    whole = write(path, np.zeros((32, 32), np.uint16)).read_bytes()
    path.write_bytes(whole[:-900])
    return path


GREY = np.zeros((4, 4), np.uint8)
WRONG = {
    "report": (lambda p: write(p, None), "a DICOM file without pixels"),
    "header": (lambda p: write(p, None, Rows=4, Columns=4, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2",
                               BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0), "without pixels"),
    "cut": (cut, "cut off"),
    "codec": (lambda p: compressed(p, "1.2.840.10008.1.2.4.80"), "compressed as JPEG-LS Lossless"),
    "unknown": (lambda p: compressed(p, "1.2.840.999.1"), "compressed in a way of its maker's"),
    "deflated": (lambda p: compressed(p, "1.2.840.10008.1.2.1.99"), "deflated"),
    "frames": (lambda p: write(p, GREY, NumberOfFrames=2), "MONAI"),
    "marks": (lambda p: write(p, GREY, Modality="SEG", BitsAllocated=1, BitsStored=1, HighBit=0), "a segmentation"),
    "bomb": (lambda p: write(p, GREY, Rows=65535, Columns=65535), "fewer pixels than it says"),
    "colours": (lambda p: write(p, GREY, PhotometricInterpretation="CMYK"), "colours that are not read here"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_picture_is_refused_in_words_of_ours(tmp_path: Path, case: str) -> None:
    make, words = WRONG[case]
    path = make(tmp_path / "a.dcm")
    with pytest.raises(UserError, match=words) as caught:
        TASK.row(str(path))
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_a_frame_that_is_too_large_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: Any) -> None:
    path = compressed(tmp_path / "a.dcm", "1.2.840.10008.1.2.5")
    found = pydicom.dcmread(path)
    found.Rows = found.Columns = 60000
    found.save_as(path)
    monkeypatch.setattr(_dicom, "_decoded", lambda *arguments: pytest.fail("decoded"))
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)


def test_other_volumes_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.nii.gz").write_bytes(b"\x1f\x8b")
    for source in (tmp_path / "scans", tmp_path / "scans" / "a.nii.gz"):
        with pytest.raises(UserError, match=r"volumes \(.nii.gz\).*MONAI"):
            load(source)
    (tmp_path / "scans" / "b.nii.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "scans" / "dataset.json").write_text('{"training": [{"image": "a.nii.gz", "label": "b.nii.gz"}]}')
    with pytest.raises(UserError, match=r"MONAI"):  # a file beside them that says what they are is no table of rows
        load(tmp_path / "scans")
    with pytest.raises(UserError, match=r"MONAI"):
        TASK.row(str(tmp_path / "scans" / "a.nii.gz"))


def test_without_pydicom_it_says_what_to_install(tmp_path: Path, monkeypatch: Any) -> None:
    path = write(tmp_path / "a.dcm", GREY)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(UserError, match=r"pip install 'hftransfer-learning\[medical\]'"):
        TASK.row(str(path))


def test_a_process_may_leave_them_to_others(tmp_path: Path, monkeypatch: Any) -> None:
    path = write(tmp_path / "a.dcm", GREY)
    monkeypatch.setattr(_dicom, "_elsewhere", False)
    _dicom.leave_to_others()
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(path)


# --- a data set ---


@pytest.mark.parametrize("suffix", [".dcm", "", ".113619"])
def test_folders_of_classes_are_told_apart_by_patient(tmp_path: Path, suffix: str) -> None:
    found = load(tiny_dicom.folder(tmp_path / "scans", 40, suffix, WindowCenter=40, WindowWidth=400))
    assert sum(found.sizes.values()) == 40 and found.answer.names == ("healthy", "spot")
    assert found.settled == {"group": "dicom_patient", "depth": (-160.0, 239.0), "window": "same"}
    of = {use: set(groups) for use, groups in found.groups.items()}
    assert all(len(found.groups[use]) == found.sizes[use] == 2 * len(of[use]) for use in of)
    assert not of["train"] & of["test"] and set().union(*of.values()) == {str(i + 1) for i in range(20)}
    assert any(guess.startswith("rows of one patient stay together: 20 in 40 rows") for guess in found.guesses)
    again = load(tmp_path / "scans")
    assert (again.fingerprint, again.groups) == (found.fingerprint, found.groups)
    alone = load(tmp_path / "scans", group=False)
    assert not alone.groups and "group" not in alone.settled


def test_a_table_names_them(tmp_path: Path) -> None:
    tiny_dicom.folder(tmp_path / "scans", 24, "")
    names = sorted(path for path in (tmp_path / "scans").rglob("*") if path.is_file())
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    rows = pd.DataFrame({"scan": [path.name for path in names], "label": [path.parent.name for path in names]})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    found = load(tmp_path / "rows.csv")
    assert sum(found.sizes.values()) == 24 and found.settled["group"] == "dicom_patient"


@pytest.mark.parametrize(
    ("patients", "studies", "group"), [(1, 8, "dicom_study"), (1, 1, None), (0, 8, "dicom_patient")]
)
def test_a_stand_in_for_all_patients_is_none(tmp_path: Path, patients: int, studies: int, group: str | None) -> None:
    rng = np.random.default_rng(0)
    for i in range(16):
        place = tmp_path / "scans" / ("a", "b")[i % 2] / f"{i:02}.dcm"
        write(place, tiny_dicom.scan(i % 2, rng), "ANON" if patients else "", f"1.2.{i // 2 % studies}")
    found = load(tmp_path / "scans")
    assert found.settled.get("group") == group and bool(found.groups) == (group is not None)


def test_windows_that_differ(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for modality in ("CT", "MR"):
        for i in range(16):
            write(
                tmp_path / modality / ("a", "b")[i % 2] / f"{i:02}.dcm", tiny_dicom.scan(i % 2, rng), f"{i}",
                Modality=modality, WindowCenter=1000 + i, WindowWidth=400,
            )  # fmt: skip
    ct, mr = load(tmp_path / "CT"), load(tmp_path / "MR")
    assert ct.settled["window"] == "same" and ct.settled["depth"] == (800.0, 1214.0)
    assert mr.settled["window"] == "own" and mr.settled["depth"] == (0.0, 4095.0)
    assert "train: 16 of 16 pictures are shown by the window that their file names (data.window)" in mr.warnings
    assert load(tmp_path / "MR", depth=(0, 100)).settled["window"] == "same"


def test_a_patient_on_both_sides_of_a_given_split_is_said(tmp_path: Path) -> None:
    for split in ("train", "test"):
        tiny_dicom.folder(tmp_path / "scans" / split, 16)
    said = load(tmp_path / "scans").warnings
    assert "8 groups of `dicom_patient` are in both train and test" in said


def test_bad_files_are_counted_and_no_name_is_told(tmp_path: Path) -> None:
    place = tiny_dicom.folder(tmp_path / "scans", 40)
    for number, case in enumerate(WRONG):
        WRONG[case][0](place / "spot" / f"Hubertine_{number}.dcm")
    (place / "spot" / "text.dcm").write_text("no file of medicine")
    write(place / "healthy" / "farnsworth.dcm", tiny_dicom.scan(0, np.random.default_rng(9)))
    found = load(place)
    said = "\n".join([*found.warnings, *found.guesses])
    assert f"train: {len(WRONG) + 1} of 52 rows dropped" in said
    assert "1 with a file called DICOM that lacks the mark DICM" in said
    assert "1 of 41 pictures are files whose name holds that of their patient, or the number: rename them" in said
    assert not any(secret.casefold() in said.casefold() for secret in SECRETS), said


# --- a run ---


def tree(tmp_path: Path, source: Path, **section: Any) -> dict[str, Any]:
    return {
        "task": "image-classification", "model": str(tiny.image_model(tmp_path / "model")),
        "data": section
        | {"source": str(source), "augmentation": False, "likely_copies": False, "label_issues": False},
        "train": {"num_train_epochs": 1, "learning_rate": 1e-2},
    }  # fmt: skip


def test_a_run_reports_by_patient_and_keeps_nothing_of_them(tmp_path: Path, train: Any, capsys: Any) -> None:
    source = tiny_dicom.folder(tmp_path / "scans", 64, WindowCenter=40, WindowWidth=400)
    names = sorted(source.rglob("*.dcm"))
    rows = pd.DataFrame({"scan": [path.name for path in names], "label": [path.parent.name for path in names]})
    rows.assign(site=["north", "south"] * 32).to_csv(tmp_path / "rows.csv", index=False)
    asked = {"resamples": 100, "at": {"sensitivity": 0.9}, "positive": "spot", "prevalence": 0.1, "slices": ["site"]}
    made = tree(tmp_path, tmp_path / "rows.csv", test_size=0.4, validation_size=0.3) | {"evaluation": asked}
    run, result = train(made)
    assert result["test"]["groups"] == len(pd.read_parquet(run.predictions / "test.parquet")["group"].unique())
    assert result["test"]["n"] == 2 * result["test"]["groups"]
    (point,) = result["operating"]["points"]
    assert {"low", "high"} <= set(point["test"]["sensitivity"])
    assert any("decision_curve" in name for name in result["artifact_plots"])
    parts = result["slices"]["columns"]["site"]
    assert [part["groups"] for part in parts] == [result["test"]["groups"]] * 2, "each patient was seen at both"
    assert all({"low", "high"} <= set(part["metrics"]["sensitivity"]) for part in parts)

    # as the model reads it later, from the file and from what the run keeps of it
    path = next((source / "spot").iterdir())
    predictor = Predictor(run.artifact)
    assert result["carried"] == {"depth": (-160.0, 239.0), "window": "same"}
    kept = pd.read_parquet(run.predictions / "examples.parquet").iloc[0]
    assert kept["image"]["path"] is None and kept["image"]["bytes"][:4] == b"\x89PNG"
    stored = pd.read_parquet(run.predictions / "test.parquet").set_index("row_id").loc[kept["row_id"]]
    (again,) = predictor.answer([TASK.shown[0].takes.stored(kept["image"])])  # type: ignore[union-attr]
    assert [again["scores"][name] for name in ("healthy", "spot")] == pytest.approx(list(stored["scores"]), abs=1e-5)
    assert cli.main(["predict", str(run.artifact), str(path)]) == 0
    assert cli.main(["predict", str(run.artifact), str(cut(tmp_path / "cut.dcm"))]) == 2

    # nothing of a patient, nor of the scanner, in anything that was written or said
    card = report.render(json.loads(run.result_path.read_text()), run.config(), repo="me/scans")
    for file in [path for path in run.folder.rglob("*") if path.is_file()]:
        content = file.read_bytes()
        assert not any(secret.encode() in content for secret in SECRETS), file
        assert not holds_dicom(file)
    assert not any(secret in capsys.readouterr().out + card for secret in SECRETS)

    # the card: what a stranger must know, and the guidelines' items
    assert "`pipeline()` reads no DICOM file" in card and "resampled by `dicom_patient`" in card
    assert "## For a clinical report" in card and "Apart by `dicom_patient`." in card
    assert "By `site`: under How good it is." in card
    assert re.search(r"\| Ethical approval, consent \| 17 \|  \| … \|", card)

    # before anything is pushed
    publishing.contents(run, "me/scans")
    (run.artifact / "more.dcm").write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"no file that names a patient may be published; more.dcm"):
        publishing.contents(run, "me/scans")
    (run.artifact / "more.dcm").rename(run.artifact / "table.parquet")
    pd.DataFrame({"image": [path.read_bytes()]}).to_parquet(run.artifact / "table.parquet", compression=None)
    with pytest.raises(UserError, match=r"table.parquet is or holds a DICOM file"):
        publishing.contents(run, "me/scans")


def test_the_same_run_twice_is_the_same_to_the_bit(tmp_path: Path, train: Any) -> None:
    source = tiny_dicom.folder(tmp_path / "scans", 24, different=True, Modality="MR")
    made = tree(tmp_path, source) | {"train": {"num_train_epochs": 1, "max_steps": 2}}
    found = [train(made, name=name)[0] for name in ("one", "two")]
    path = source / "spot" / "023.dcm"  # whose window is 30 to 429
    with Image.open(path) as picture:
        shown = np.asarray(Predictor(found[0].artifact).opened({"image": picture})["image"])
        numbers = np.asarray(picture)
    assert np.array_equal(shown[..., 0], np.clip(np.rint((numbers - 30) * 255 / 399), 0, 255))
    weights = [(run.artifact / "model.safetensors").read_bytes() for run in found]
    assert weights[0] == weights[1]


def test_a_model_of_plain_pictures_refuses_their_numbers(tmp_path: Path, train: Any) -> None:
    run, _ = train(tree(tmp_path, tiny.image_folder(tmp_path / "plain", 24)))
    path = write(tmp_path / "a.dcm", tiny_dicom.scan(0, np.random.default_rng(0)))
    with pytest.raises(UserError, match="picture of 8 bits a colour is needed"):
        Predictor(run.artifact).answer([str(path)])
    picture = Image.open(path)
    with pytest.raises(UserError, match="Give the path of its file"):
        Predictor(run.artifact).answer([picture])
    assert "For a clinical report" not in report.render(json.loads(run.result_path.read_text()), run.config())


def test_what_was_seen_adds_up() -> None:
    one = _pixels.Seen(1, deep=1, windowed=1, darkest=(0, 0), lightest=(9, 9), dicom=1)
    other = one._replace(darkest=(1, 1), hounsfield=1)
    assert one.and_(one).window == (0, 9) and one.and_(other).window is None
    assert other.and_(one._replace(hounsfield=1)).window == (0, 9)
