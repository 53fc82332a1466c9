"""DICOM in the app: looked at and opened in processes of their own, never in the app's."""

from __future__ import annotations

import base64
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hftransfer.errors import UserError
from hftransfer.ui import api, inspection, uploads, workers
from hftransfer.ui.cells import entry
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from tests.tiny_dicom import NAME, write

LIMITS = inspection.Limits(2**30, 1000, 1000)
PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8)


def test_an_upload_is_looked_at_in_a_process_of_its_own(space: Settings, alice: Visitor, received: Path) -> None:
    path = write(received / "scan.dcm", PIXELS)
    with uploads.held(alice, path, space, workers.FILES["image"]) as found:
        assert found.suffix == ".dcm" and found.is_relative_to(alice.folder)
    path.write_bytes(path.read_bytes()[:-90])
    with (
        pytest.raises(UserError, match=r"scan.dcm must be a picture; it is a DICOM file that is cut off") as caught,
        uploads.held(alice, path, space, workers.FILES["image"]),
    ):
        pass
    assert NAME.split("^")[0] not in str(caught.value)


def test_what_claims_too_much_is_refused_by_its_header(tmp_path: Path) -> None:
    large = write(tmp_path / "large.dcm", np.zeros((40, 40), np.uint8))
    with pytest.raises(UserError, match="megapixels"):
        inspection.inspect(large, ".dcm", LIMITS)
    assert inspection.inspect(write(tmp_path / "a.dcm", PIXELS), ".dcm", LIMITS)["format"] == "DICOM"


def test_a_zip_of_files_without_suffixes(tmp_path: Path) -> None:
    path = write(tmp_path / "IM0001", PIXELS)
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        archive.write(path, "healthy/IM0001")
        archive.write(path, "spot/1.2.840.7")
        archive.writestr("LICENSE", "no picture")
    assert inspection.inspect(tmp_path / "scans.zip", ".zip", LIMITS)["pictures"] == 2


def test_programs_send_it_as_a_data_url() -> None:
    url = f"data:application/dicom;base64,{base64.b64encode(b'DICM').decode()}"
    with api._as_inputs([url]) as (value,):
        assert Path(value["image"]).suffix == ".dcm" and Path(value["image"]).read_bytes() == b"DICM"


def test_a_page_shows_it_small(tmp_path: Path) -> None:
    found = entry({"bytes": write(tmp_path / "a.dcm", PIXELS).read_bytes(), "path": None})
    assert found["form"] == "picture" and found["value"].startswith("data:image/png;base64,")


@pytest.mark.parametrize("suffix", ["webp", "gif", "bmp", "tiff", "tga"])
def test_other_pictures_are_still_looked_at(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    assert inspection.inspect(path, f".{suffix}", LIMITS)["width"] == 8
