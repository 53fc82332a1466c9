"""DICOM: one frame's pixels, what says how they are shown, and, hashed, whose they are; no other tag is read.

PIL reads such files as it reads others once this module is imported, by a plugin of its own registry: numbers in the
file's own units (Hounsfield units of a CT), in `info` the window and whether low is white.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageFile

from hftransfer.errors import UserError
from hftransfer.safety.pictures import DICOM, VOLUMES, is_dicom

WINDOW, INVERTED, HOUNSFIELD, CURVED = (
    "dicom_window",
    "dicom_inverted",
    "dicom_hounsfield",
    "dicom_curved",
)  # of `info`
HEADER = [
    "SOPClassUID", "Modality", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence", "WindowCenter",
    "WindowWidth", "VOILUTFunction", "VOILUTSequence", "SmallestImagePixelValue", "LargestImagePixelValue",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData",
]  # fmt: skip
PIXELS = ["PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"]
WHOSE = ["PatientName", "PatientID", "IssuerOfPatientID", "StudyInstanceUID"]
DEFLATED = "1.2.840.10008.1.2.1.99"
GREY, COLOURS = ("MONOCHROME1", "MONOCHROME2"), ("RGB", "PALETTE COLOR")
LONGEST_NAME = 3  # letters of a part of a name below which it says nothing in the name of a file
DAMAGED: tuple[type[Exception], ...] = (
    OSError, ValueError, TypeError, AttributeError, KeyError, IndexError, EOFError, NotImplementedError, RuntimeError,
    OverflowError, MemoryError, struct.error, PIL.Image.DecompressionBombError,
)  # fmt: skip
SCAN = "MONAI (https://monai.io) learns from volumes."

_elsewhere = False


class Unfit(OSError):
    """A DICOM file that is no picture: what it is, in words of ours (its own may hold names), and what to do."""

    def __init__(self, reason: str, action: str) -> None:
        super().__init__(reason)
        self.reason, self.action = reason, action

    def __reduce__(self) -> tuple[type[Unfit], tuple[str, str]]:
        return Unfit, (self.reason, self.action)


def leave_to_others() -> None:
    """From now on this process opens no DICOM file: the app's own, whose workers do."""
    global _elsewhere
    _elsewhere = True


def library() -> Any:
    """Return pydicom, silenced; UserError without it."""
    try:
        import pydicom
    except ImportError as error:
        raise UserError(
            "pydicom is needed to read DICOM files", "it is not installed",
            "Install it: pip install 'hftransfer-learning[medical]'",
        ) from error  # fmt: skip
    # it quotes values, in warnings and in its log
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    warnings.filterwarnings("ignore", module=r"pydicom\b")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return pydicom


class Picture(PIL.ImageFile.ImageFile):
    """A DICOM file of one frame as PIL opens it: grey as L, I or F in the file's own units, or RGB."""

    format, format_description = "DICOM", "Digital Imaging and Communications in Medicine"
    _header: Any = None
    _waiting = False  # for its pixels

    def _open(self) -> None:
        assert self.fp is not None
        if _elsewhere or not is_dicom(self.fp.read(132)):
            raise SyntaxError("no DICOM file")
        size = self.fp.seek(0, io.SEEK_END)
        self._header = _header(self.fp)
        _require_picture(self._header, size)
        self._size = int(self._header.Columns), int(self._header.Rows)
        try:
            self._mode = _mode(self._header)
        except _broken() as error:
            raise _damaged() from error
        self.tile = []
        self._waiting = True

    def load(self) -> Any:
        """Decode the pixels."""
        if self._waiting:
            assert self.fp is not None
            shown, info = _decoded(self.fp, self._header)
            self.info.update(info)
            self.im = shown.im
            self._waiting = False
            if self._exclusive_fp:
                self.fp.close()
            self.fp = None
        return super().load()


PIL.Image.register_open(Picture.format, Picture)
PIL.Image.register_extensions(Picture.format, [*DICOM])


def refuse_volumes(paths: Sequence[str | os.PathLike[str]]) -> None:
    """Raise UserError where files are volumes of other formats than DICOM: NIfTI, MetaImage, NRRD, FreeSurfer's."""
    found = [os.fspath(path) for path in paths if os.fspath(path).lower().endswith(VOLUMES)]
    if found:
        kinds = sorted({next(end for end in VOLUMES if path.lower().endswith(end)) for path in found})
        raise UserError(
            "pictures of two dimensions are needed", f"found volumes ({', '.join(kinds)})",
            f"{SCAN} To learn from single slices, save them as PNG, with a column that says whose they are.",
        )  # fmt: skip


def _broken() -> tuple[type[Exception], ...]:
    """Return what pydicom raises on damaged files."""
    errors = library().errors
    return (*DAMAGED, errors.InvalidDicomError, errors.BytesLengthException)


def _header(file: Any) -> Any:
    pydicom = library()
    file.seek(0)
    try:
        return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=HEADER)
    except _broken() as error:
        raise _damaged() from error


def _damaged() -> Unfit:
    return Unfit("a damaged DICOM file", "Export it again.")


def _require_picture(header: Any, size: int) -> None:
    """Raise Unfit for what is no picture of one frame, before anything is decoded. `size` is the file's, in bytes."""
    try:
        syntax = header.file_meta.TransferSyntaxUID
        if syntax == DEFLATED:
            raise Unfit("a DICOM file that is deflated as a whole", "Convert it: gdcmconv --raw in.dcm out.dcm")
        rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
        if not rows or not columns:
            raise Unfit("a DICOM file without pixels", "Leave out reports, plans, structures and DICOMDIR.")
        bits, frames = int(header.BitsAllocated), int(header.get("NumberOfFrames") or 1)
        if bits == 1 or header.get("Modality") == "SEG":
            raise Unfit("a DICOM file of marks (a segmentation), no picture", "Give the pictures that it marks.")
        if frames > 1:
            raise Unfit(
                "a DICOM file of several frames (a film or a volume: see MONAI, https://monai.io)",
                f"Save single frames; {SCAN}",
            )
        colours = str(header.PhotometricInterpretation)
        if colours not in (*GREY, *COLOURS) and not colours.startswith("YBR_"):
            raise Unfit("a DICOM file of colours that are not read here", "Convert it to MONOCHROME2 or RGB.")
        if not _is_compressed(syntax):
            share = 2 if colours == "YBR_FULL_422" else int(header.get("SamplesPerPixel") or 1)
            if rows * columns * share * bits // 8 > size:
                raise Unfit("a DICOM file that is cut off: it has fewer pixels than it says", "Export it again.")
    except Unfit:
        raise
    except _broken() as error:
        raise _damaged() from error


def _is_compressed(syntax: Any) -> bool:
    try:
        return bool(syntax.is_compressed)
    except ValueError:  # of a maker's own, or none at all
        return True


def _decoded(file: Any, header: Any) -> tuple[PIL.Image.Image, dict[str, Any]]:
    """Return a file's pixels as a picture of mode L, I, F or RGB, and its `info`."""
    pydicom = library()
    file.seek(0)
    syntax = header.file_meta.TransferSyntaxUID
    try:
        whole = pydicom.dcmread(io.BytesIO(file.read()), specific_tags=[*HEADER, *PIXELS])
        held = [tag for tag in PIXELS[:3] if tag in whole]
    except _broken() as error:
        raise _damaged() from error
    if not held:
        raise Unfit("a DICOM file without pixels", "Export it with its pixels.")
    try:
        values = pydicom.pixels.pixel_array(whole)
        if values.shape[:2] != (header.Rows, header.Columns):
            raise ValueError("pixels of another shape")
        if whole.PhotometricInterpretation in GREY:
            return _grey(pydicom, whole, values)
        return _coloured(pydicom, whole, values), {}
    except _broken() as error:
        if not _is_compressed(syntax):
            raise Unfit("a DICOM file that is cut off or damaged", "Export it again.") from error
        known = str(syntax) in pydicom.uid.UID_dictionary  # else whatever stands there
        named = f"as {syntax.name}, which" if known else "in a way of its maker's, which"
        raise Unfit(
            f"a DICOM file compressed {named} cannot be decoded here",
            "Convert it: gdcmconv --raw in.dcm out.dcm",
        ) from error


def _mode(header: Any) -> str:
    """Return how PIL holds a file's pixels: RGB, L as they are, I for other whole numbers, F for others."""
    if header.PhotometricInterpretation not in GREY:
        return "RGB"
    scale = [float(header.get(name) or 0) for name in ("RescaleSlope", "RescaleIntercept")]
    rescaled = "ModalityLUTSequence" in header or (scale[0] not in (0, 1) or scale[1] != 0)
    plain = header.BitsStored <= 8 and header.PixelRepresentation == 0 and not rescaled
    if plain and _window(header) in (None, (0.0, 255.0)):
        return "L"
    wide = header.BitsAllocated > 16 or not all(value.is_integer() and abs(value) < 2**14 for value in scale)
    return "F" if wide else "I"


def _coloured(pydicom: Any, whole: Any, values: np.ndarray) -> PIL.Image.Image:
    depth = int(whole.BitsStored)
    if whole.PhotometricInterpretation == "PALETTE COLOR":
        values = pydicom.pixels.apply_color_lut(values, whole)
        depth = 8 * values.dtype.itemsize
    return PIL.Image.fromarray((values >> max(0, depth - 8)).astype(np.uint8)[..., :3])


def _grey(pydicom: Any, whole: Any, values: np.ndarray) -> tuple[PIL.Image.Image, dict[str, Any]]:
    inverted, mode = whole.PhotometricInterpretation == "MONOCHROME1", _mode(whole)
    if mode == "L":
        return PIL.Image.fromarray((255 - values if inverted else values).astype(np.uint8)), {}
    scaled = _without_padding(whole, values, np.asarray(pydicom.pixels.apply_modality_lut(values, whole)), inverted)
    info = {
        WINDOW: _window(whole), INVERTED: inverted,
        HOUNSFIELD: whole.get("Modality") == "CT" or whole.get("RescaleType") == "HU",
        CURVED: "VOILUTSequence" in whole or whole.get("VOILUTFunction") == "SIGMOID",
    }  # fmt: skip
    return PIL.Image.fromarray(scaled.astype(np.int32 if mode == "I" else np.float32)), info


def _window(whole: Any) -> tuple[float, float] | None:
    """Return what a file's first window shows as black and as white (PS3.3 C.11.2.1.2); None without a usable one."""
    first = [np.ravel(whole.get(name)) for name in ("WindowCenter", "WindowWidth")]
    if any(part.size == 0 or part[0] is None for part in first):
        return None
    centre, width = (float(part[0]) for part in first)
    linear = whole.get("VOILUTFunction") in (None, "", "LINEAR")
    if not np.isfinite(centre + width) or width < (1 if linear else 1e-9):
        return None
    return (centre - width / 2, centre + width / 2 - 1) if linear else (centre - width / 2, centre + width / 2)


def _without_padding(whole: Any, stored: np.ndarray, values: np.ndarray, inverted: bool) -> np.ndarray:
    """Return values with those outside the field of view, which are no measurement, as dark as the darkest."""
    pad = whole.get("PixelPaddingValue")
    if pad is None:
        return values
    limit = whole.get("PixelPaddingRangeLimit")
    low, high = sorted((int(pad), int(pad if limit is None else limit)))
    outside = (stored >= low) & (stored <= high)
    if outside.all() or not outside.any():
        return values
    inside = values[~outside]
    return np.where(outside, inside.max() if inverted else inside.min(), values)


# --- whose they are ---


class Whose(NamedTuple):
    """Hashes of a DICOM file's patient and of its study; whether the file's own name tells the patient's."""

    patient: str | None = None
    study: str | None = None
    told: bool = False


def whose(source: str | bytes) -> Whose:
    """Return whose a DICOM file is, by its path or its content; nothing of what it does not say."""
    pydicom = library()
    try:
        found = pydicom.dcmread(
            io.BytesIO(source) if isinstance(source, bytes) else source, stop_before_pixels=True, specific_tags=WHOSE
        )
        patient, issuer, study = (str(found.get(name) or "").strip() for name in WHOSE[1:])
        name = str(found.get("PatientName") or "")
    except _broken():
        return Whose()
    told = not isinstance(source, bytes) and _tells(Path(source).name, name, patient)
    return Whose(_hash(f"{issuer}\n{patient}") if patient else None, _hash(study) if study else None, told)


def _tells(file: str, name: str, patient: str) -> bool:
    words = set(re.findall(r"[^\W\d_]+", file.casefold()))
    parts = {part for part in re.findall(r"[^\W\d_]+", name.casefold()) if len(part) >= LONGEST_NAME}
    return bool(words & parts) or (len(patient) > LONGEST_NAME and patient.casefold() in file.casefold())


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
