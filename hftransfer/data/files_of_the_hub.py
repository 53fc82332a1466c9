"""Recordings that lie on the Hub as files: of those `datasets` wants torchcodec, even to write down their paths."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from hftransfer.config import DataConfig
from hftransfer.data.folders import open_folder
from hftransfer.data.named_splits import Source
from hftransfer.data.recordings import BESIDE
from hftransfer.data.suffixes import BUILDERS
from hftransfer.errors import UserError
from hftransfer.inputs._sounds import OTHER_SUFFIXES, SUFFIXES
from hftransfer.safety import intact
from hftransfer.safety.fence import VARIABLE as FENCED

BUILDER = "audiofolder"  # of `datasets`


def wants_a_decoder(error: BaseException | None) -> bool:
    """Tell whether torchcodec was missing, in an error or what led to it."""
    while error is not None:
        if isinstance(error, ImportError) and "torchcodec" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def refuse_a_stream(config: DataConfig, found: Any) -> None:
    """Raise UserError for a stream of such files: which of them a table names is known of all alone."""
    if any(getattr(rows.info, "builder_name", None) == BUILDER for rows in found.values()):
        raise UserError(
            f"data.streaming of {config.source} needs its recordings in tables", "they lie there as files",
            "Set data.streaming=false.",
        )  # fmt: skip


def opened(config: DataConfig, work_dir: Path | None, record: Path, named: list[str]) -> Source:
    """Fetch recordings, tables and texts of a data set, and open them as those of a folder; see `open_folder`.

    They stay in the client's cache. A process that follows no link out of a folder has them in `work_dir`.
    """
    from huggingface_hub import snapshot_download

    if config.name is not None:
        raise UserError(
            f"the recordings of {config.source} lie there as files, which have no configurations",
            f"data.name is {config.name!r}", "Drop it.",
        )  # fmt: skip
    suffixes = {*SUFFIXES, *OTHER_SUFFIXES, *BUILDERS, *BESIDE}
    patterns = [f"*{one}" for suffix in sorted(suffixes) for one in (suffix, suffix.upper())]
    own = work_dir / "files" if work_dir is not None and FENCED in os.environ else None
    folder = Path(
        snapshot_download(
            config.source, repo_type="dataset", revision=config.revision, allow_patterns=patterns, local_dir=own
        )
    )
    if own is not None:
        shutil.rmtree(own / ".cache", ignore_errors=True)  # the client's notes, which are no data
    else:
        intact.require(intact.snapshot(config.source, "dataset", config.revision), config.source, record)
    return open_folder(folder, config, named)
