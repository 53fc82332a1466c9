"""Samples made in the cache: fetched, built beside their place, and put there whole."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from hftransfer.errors import UserError, unknown
from hftransfer.samples import fetching, table
from hftransfer.samples.archives import Archive
from hftransfer.samples.sample import NOTE, Package, Sample, cache_folder


def materialise(name: str, progress: Callable[[str], object] = print) -> list[Path]:
    """Fetch and build a sample or a group, and along with one those of the same packages: samples.materialise."""
    if name not in table.SAMPLES and name not in table.GROUPS:
        raise unknown("sample", name, [*table.SAMPLES, *table.GROUPS])
    wanted = [table.SAMPLES[one] for one in table.GROUPS.get(name, (name,))]
    absent = {sample.packages for sample in wanted if not sample.present}
    missing = [sample for sample in table.listing() if sample.packages in absent and not sample.present]
    if missing:
        try:
            _build(missing, progress)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOTDIR):
                raise
            raise UserError(
                "a cache folder with room is needed",
                f"{cache_folder()}: {error.strerror}",
                "Free some space, or set HFTRANSFER_CACHE=another/folder.",
            ) from error
    for sample in wanted:
        progress(f"{sample.name}: {sample.folder} (licence: {sample.licence})")
    return [sample.folder for sample in wanted]


def _build(samples: list[Sample], progress: Callable[[str], object]) -> None:
    root = cache_folder() / "samples"
    root.mkdir(parents=True, exist_ok=True)
    # on the cache's own disk: a rename is atomic there, and /tmp is often too small for weights
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as scratch:
        archives: dict[Package, Archive] = {}
        for sample in samples:
            for package in sample.packages:
                if package not in archives:
                    progress(f"{package}: {package.size / 1e6:.1f} MB")
                    archives[package] = fetching.fetch(package, Path(scratch) / f"archive-{len(archives)}")
            progress(f"{sample.name}: building")
            folder = Path(scratch) / "build" / sample.name
            folder.mkdir(parents=True)
            sample.build(folder, *(archives[package] for package in sample.packages))
            _annotate(sample, archives, folder)
            sample.folder.parent.mkdir(exist_ok=True)
            try:
                folder.rename(sample.folder)
            except OSError:
                if not sample.present:  # another process was first with the same content
                    raise


def _annotate(sample: Sample, archives: Mapping[Package, Archive], folder: Path) -> None:
    notices = [archives[package].read(package.notice) for package in sample.packages if package.notice]
    if notices:
        (folder / "LICENSE").write_bytes(b"\n\n".join(dict.fromkeys(notices)))
    sources = ", ".join(str(package) for package in sample.packages)
    (folder / "README.md").write_text(
        f"# {sample.name}\n\n{sample.about}\n\nLicence: {sample.licence}.\nFrom: {sources}.\n", encoding="utf-8"
    )
    note = {
        "name": sample.name,
        "kind": sample.kind,
        "licence": sample.licence,
        "packages": [
            {
                "source": package.registry,
                "package": package.name,
                "version": package.version or importlib.metadata.version(package.name),
                "sha256": package.sha256,
            }
            for package in sample.packages
        ],
    }
    (folder / NOTE).write_text(json.dumps(note, indent=1), encoding="utf-8")
