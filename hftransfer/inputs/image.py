"""image: a picture, read by PIL as RGB the way up that its camera noted; a DICOM file as it is to be shown."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import PIL.Image

from hftransfer.column_types import STRINGS, is_value
from hftransfer.errors import UserError
from hftransfer.inputs import _dicom, _geometry, _near_pictures, _pixels, _reduced
from hftransfer.inputs._near_pictures import THUMB
from hftransfer.inputs._pixels import Seen
from hftransfer.inputs.base import Alike, Input, Looked, Suits
from hftransfer.safety.pictures import DICOM, SUFFIXES, is_dicom, suffix_of, unreadable

if TYPE_CHECKING:
    import pyarrow as pa

    from hftransfer.config import DataConfig
    from hftransfer.safety.shelf import Shelf

DECODE_BATCH = 256  # encoded images in memory at a time
NO_THUMB = np.zeros(3 * THUMB**2, np.uint8)
UNREADABLE = unreadable()


class Image(Input):
    """An encoded picture, its path, or a picture of PIL."""

    kind = "image"
    heeds = frozenset({"augmentation", "background", "depth", "reduced", "window"})
    needs = "image"
    words = ("pixels", "pixels")
    widget = "picture"
    example = '"photo.jpg"'
    asked = "a picture"
    lazy = True
    turns = True
    suffixes = SUFFIXES
    buffer = 1_000  # an encoded image is some hundred kB
    preview = 2_000
    owned_by = ("dicom_patient", "dicom_study")
    owners_called = ("patient", "study")
    identifies = True  # `file` and `path` are what pictures' columns are called

    def fits(self, feature: Any, values: Sequence[Any]) -> bool:
        return is_image(feature) or (is_value(feature, *STRINGS) and _are_names(values))

    def feature(self) -> Any:
        import datasets

        return datasets.Image()

    def canonical(self, raw: pa.ChunkedArray, required: bool, folder: Path | None) -> pa.ChunkedArray:
        import datasets
        import pyarrow as pa

        if pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type):
            base = str(folder or Path.cwd())
            paths = [None if name is None else os.path.join(base, name) for name in raw.to_pylist()]
            raw = pa.chunked_array([pa.array(paths, pa.string())])
        feature = datasets.Image()
        return pa.chunked_array([feature.cast_storage(chunk) for chunk in raw.chunks], feature.pa_type)

    def look(self, column: pa.ChunkedArray, required: bool) -> Looked:
        found = list(_decode(column))
        reasons = dict.fromkeys(one.reason for one in found if one.reason)
        unusable = tuple((reason, [one.reason == reason for one in found]) for reason in reasons)
        thumbs = np.stack([one.thumb for one in found]) if found else np.empty((0, len(NO_THUMB)), np.uint8)
        return Looked(
            [one.digest for one in found],
            thumbs,
            unusable,
            functools.reduce(Seen.and_, (one.seen for one in found), Seen()),
        )

    def learn(self, seen: Mapping[str, Any], config: DataConfig) -> tuple[dict[str, Any], list[str]]:
        everything = functools.reduce(Seen.and_, seen.values())
        taught = seen["train"] if "train" in seen and seen["train"].deep else everything
        own = config.window == "own" or (
            config.window is None and config.depth is None and bool(taught.windowed) and taught.window is None
        )
        depth, said = config.depth or (None if own else taught.window) or taught.depth, []
        background = config.background or _pixels.WHITE
        for use, found in seen.items():
            of = f"of {found.pictures:,} pictures"
            if found.several:
                said.append(f"{use}: {found.several:,} {of} have several frames or pages: the first is read")
            if found.told:
                warning = "are files whose name holds that of their patient, or the number: rename them"
                said.append(f"{use}: {found.told:,} {of} {warning}")
            if found.transparent:
                behind = f"shown on {background} (data.background)"
                said.append(f"{use}: {found.transparent:,} {of} have transparent parts, {behind}")
            if found.curved:
                said.append(f"{use}: {found.curved:,} {of} are to be shown by a curve, in whose place stands a line")
            by_own = found.windowed if own else 0
            if by_own:
                said.append(f"{use}: {by_own:,} {of} are shown by the window that their file names (data.window)")
            if found.deep > by_own and depth is not None:
                low, high = depth
                shown = f"{low:g} to {high:g} is shown as 0 to 255 (data.depth)"
                said.append(f"{use}: {found.deep - by_own:,} {of} hold other numbers than 8 bits a colour: {shown}")
        settled: dict[str, Any] = {} if depth is None else {"depth": depth}
        settled |= {"background": background} if everything.transparent else {}
        return settled | ({"window": "own" if own else "same"} if everything.dicom else {}), said

    def near(self, sketches: np.ndarray, owner: np.ndarray, alike: Alike) -> np.ndarray | None:
        return _near_pictures.pairs(sketches, alike)

    def content(self, values: list[Any]) -> list[Any]:
        return [hashlib.sha256(encoded(value)).hexdigest() for value in values]

    def kept(self, values: list[Any], config: DataConfig) -> list[Any]:
        return [value if _dicom_of(value) is None else self._as_png(value, config) for value in values]

    def _as_png(self, value: dict[str, Any], config: DataConfig) -> dict[str, Any]:
        import datasets

        file = io.BytesIO()
        self.opened(datasets.Image().decode_example(value), config).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}

    def embedded(self, values: list[Any]) -> list[Any]:
        for value in values:
            if "://" in (value["path"] or ""):
                value["bytes"] = encoded(value)
        return values

    def read(self, value: Any) -> Any:
        import PIL.ImageOps

        if isinstance(value, str | os.PathLike):
            if not Path(value).is_file():
                raise UserError("a picture is needed", f"there is no file {os.fspath(value)!r}", "Check the path.")
            _dicom.refuse_volumes([value])
            try:
                with PIL.Image.open(value) as opened:
                    opened.load()
            except _dicom.Unfit as error:
                raise UserError("a readable picture is needed", f"this is {error.reason}", error.action) from error
            except (OSError, SyntaxError, ValueError) as error:  # what PIL raises for broken files
                raise UserError(
                    "a readable picture is needed", str(error), "Give a PNG, JPEG or WebP file."
                ) from error
            return os.fspath(value)
        if isinstance(value, PIL.Image.Image):
            if value.format == _dicom.Picture.format:
                raise UserError("a picture is needed", "this one was opened from DICOM", "Give the path of its file.")
            # a copy: `datasets` would read a picture that knows its file from there again, and pack others as JPEG
            turned = PIL.ImageOps.exif_transpose(value)
            found = _pixels.seen(turned)
            return turned.copy() if found.deep else turned.convert("RGBA" if found.transparent else "RGB")
        raise UserError("a picture is needed", f"found {type(value).__name__}", "Give a path or a PIL image.")

    def offered(self, feature: Any) -> bool:
        return is_value(feature, *STRINGS) or is_image(feature)

    def cells(self, rows: Any, column: str, path: Path) -> list[Any]:
        import datasets

        if is_image(rows.features[column]):
            rows = rows.cast_column(column, datasets.Image(decode=False))
        return [_of_cell(path, number, value) for number, value in enumerate(rows[column])]

    def opened(self, value: Any, config: DataConfig, rng: np.random.Generator | None = None) -> Any:
        return self.changed(value, config, rng)[0]

    def undecoded(self, rows: Any, column: str) -> Any:
        import datasets

        return rows.cast_column(column, datasets.Image(decode=False))

    def reduced(self, value: Any, side: int, shelf: Shelf | None) -> Any:
        import datasets

        found = _reduced.copy_of(value, side, shelf)
        return datasets.Image().decode_example(value) if found is None else found

    def changed(
        self, value: Any, config: DataConfig, rng: np.random.Generator | None, suits: Suits = None
    ) -> tuple[Any, _geometry.Change | None]:
        picture = self._plain(value, config)
        if rng is None or config.augmentation is None:
            return picture, None
        change = _geometry.draw(picture.size, config.augmentation, rng, suits)
        return change.of_picture(picture), change

    def together(
        self, values: Sequence[Any], config: DataConfig, rng: np.random.Generator, suits: Sequence[Suits]
    ) -> tuple[Any, _geometry.Mosaic]:
        assert config.augmentation is not None
        pictures = [self._plain(value, config) for value in values]
        mosaic = _geometry.draw_mosaic([one.size for one in pictures], config.augmentation, rng, suits)
        return mosaic.of_pictures(pictures), mosaic

    def _plain(self, value: Any, config: DataConfig) -> Any:
        import PIL.ImageOps

        upright = PIL.ImageOps.exif_transpose(value)
        return _pixels.rgb(upright, config.depth, config.background, config.window == "own")

    def tiles(self, value: Any, side: int) -> int:
        import PIL.ImageOps

        return len(_geometry.tiles(PIL.ImageOps.exif_transpose(value).size, side))

    def tiled(self, value: Any, number: int, side: int) -> tuple[Any, _geometry.Change]:
        import PIL.ImageOps

        picture = PIL.ImageOps.exif_transpose(value)
        change = _geometry.Change(picture.size, _geometry.tiles(picture.size, side)[number])
        return change.of_mask(picture), change

    def stored(self, value: Any) -> Any:
        return PIL.Image.open(io.BytesIO(value["bytes"]))

    def shown(self, value: Any) -> str:
        return self.file(value) or ""

    def file(self, value: Any) -> str | None:
        path = value["path"] if value else None
        source = _dicom_of(value) if path else None
        hidden = source is not None and _dicom.whose(source).told
        return Path(path).name if path and not hidden else None

    def owners(self, values: list[Any]) -> list[tuple[str | None, ...]] | None:
        files = [_dicom_of(value) for value in values]
        found: list[tuple[str | None, ...]] = [NOBODY if one is None else _dicom.whose(one)[:2] for one in files]
        return found if any(one != NOBODY for one in found) else None


def is_image(feature: Any) -> bool:
    """Tell whether a column holds images, or their encoded bytes."""
    import datasets

    if isinstance(feature, dict):
        return "bytes" in feature and set(feature) <= {"bytes", "path"}
    return isinstance(feature, datasets.Image) or is_value(feature, "binary", "large_binary")


def encoded(value: dict[str, Any]) -> bytes:
    """Return the encoded bytes of an image, read from its local or remote path when the row does not hold them."""
    if value["bytes"] is not None:
        return bytes(value["bytes"])
    if "://" not in value["path"]:
        return Path(value["path"]).read_bytes()
    import fsspec

    with fsspec.open(value["path"], "rb") as file:
        return bytes(file.read())


def _are_names(values: Sequence[Any]) -> bool:
    found = [value for value in values[:20] if value]
    return bool(found) and all(_is_name(str(value)) for value in found)


def _is_name(value: str) -> bool:
    return "." + value.rpartition(".")[2].lower() in SUFFIXES or (os.path.isabs(value) and suffix_of(value) in DICOM)


def _of_cell(path: Path, number: int, value: Any) -> Any:
    import datasets

    if value is None or isinstance(value, str):
        return value if not value else os.path.join(path.parent, value)
    try:
        return datasets.Image().decode_example(value)
    except UNREADABLE as error:
        raise UserError(
            f"every image of {path.name} must be readable", f"row {number}: {error}", "Mend it, or remove the row."
        ) from error


NOBODY: tuple[str | None, ...] = (None, None)


def _dicom_of(value: Any) -> str | bytes | None:
    """Return the path or the content of a DICOM file that a value of a column, not decoded, is; None of others."""
    path, content = (value["path"], value["bytes"]) if isinstance(value, dict) else (value, None)
    if content is not None:
        return bytes(content) if is_dicom(content) else None
    return str(path) if path and suffix_of(path) in DICOM else None


class Decoded(NamedTuple):
    """A picture that was decoded: why it cannot be used, its pixels' hash, a small copy, and what else was seen."""

    reason: str | None
    digest: bytes = b""
    thumb: np.ndarray = NO_THUMB
    seen: Seen = Seen()


def _decode(column: pa.ChunkedArray) -> Iterator[Decoded]:
    """Decode every image once, as training will."""
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # PIL warns about odd metadata in images that are fine
        for start in range(0, len(column), DECODE_BATCH):
            yield from pool.map(_decoded, column.slice(start, DECODE_BATCH).to_pylist())


def _decoded(value: dict[str, Any] | None) -> Decoded:
    import datasets

    if value is None or (value["bytes"] is None and value["path"] is None):
        return Decoded("no image")
    try:
        content = encoded(value)
    except FileNotFoundError:
        return Decoded(f"no picture of that name in {Path(value['path']).parent.name or 'the folder'}")
    except UNREADABLE:
        return Decoded("an unreadable image")
    if not content:
        return Decoded("an empty file")
    try:
        opened = datasets.Image().decode_example({"bytes": content, "path": value["path"]})
        seen = _pixels.seen(opened)
        if seen.dicom and value["path"]:
            seen = seen._replace(told=int(_dicom.whose(value["path"]).told))
        image = _pixels.own(opened)
        pixels = (opened if seen.deep else image).tobytes()
    except _dicom.Unfit as error:
        return Decoded(error.reason)
    except UNREADABLE:
        lacking = suffix_of(value["path"] or "") in DICOM and not is_dicom(content)
        return Decoded("a file called DICOM that lacks the mark DICM" if lacking else "an unreadable image")
    digest = hashlib.blake2b(pixels, digest_size=16, salt=b"%dx%d" % image.size).digest()
    thumb = image.resize((THUMB, THUMB), PIL.Image.Resampling.HAMMING)  # BOX takes whole pixels: unlike by size
    return Decoded(None, digest, np.asarray(thumb, np.uint8).ravel(), seen)


IMAGE = INPUT = Image()
