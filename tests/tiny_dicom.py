"""DICOM files of a patient who has never been, written by pydicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

NAME, NUMBER, PRIVATE = "Farnsworth^Hubertine", "MRN-7731904", "secret of the scanner"
CT = UID("1.2.840.10008.5.1.4.1.1.2")


def write(path: Path, pixels: np.ndarray | None, patient: str = NUMBER, study: str = "1.2.3", **tags: Any) -> Path:
    """Write pixels (h, w) or (h, w, 3) as an uncompressed file with a patient's name, number and private tags."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CT
    meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    found = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    found.SOPClassUID, found.SOPInstanceUID, found.Modality = CT, UID("1.2.3.4"), "CT"
    found.PatientName, found.PatientID, found.StudyInstanceUID = NAME, patient, study
    found.private_block(0x0029, "MAKER", create=True).add_new(0x01, "LO", PRIVATE)
    if pixels is not None:
        bits = 8 * pixels.dtype.itemsize
        found.Rows, found.Columns = pixels.shape[:2]
        found.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
        found.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
        if pixels.ndim == 3:
            found.PlanarConfiguration = 0
        found.BitsAllocated = found.BitsStored = bits
        found.HighBit, found.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
        found.PixelData = np.ascontiguousarray(pixels).tobytes()
    for name, value in tags.items():
        setattr(found, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, found)
    return path


def scan(kind: int, rng: np.random.Generator) -> np.ndarray:
    """Return 12-bit noise as a CT stores it, with a dense spot in the middle where `kind` is 1."""
    made = rng.integers(900, 1100, (32, 32)).astype(np.int16)
    made[12:20, 12:20] += 400 * kind
    return made


def folder(place: Path, count: int = 40, suffix: str = ".dcm", different: bool = False, **tags: Any) -> Path:
    """Write two classes of CTs, two pictures of each patient; with windows that are `different` if asked."""
    rng = np.random.default_rng(0)
    tags = {"RescaleIntercept": -1024, "RescaleSlope": 1, **tags}
    for number in range(count):
        kind = number // 2 % 2
        if different:
            tags |= {"WindowCenter": 10 * number, "WindowWidth": 400}
        name = place / ("healthy", "spot")[kind] / f"{number:03}{suffix}"
        write(name, scan(kind, rng), f"{NUMBER}-{number // 2}", f"1.2.3.{number}", **tags)
    return place
