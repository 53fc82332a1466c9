"""A bucket of the Hub as a run's folder elsewhere: what lies below a prefix of it, sent and brought back."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

AT_ONCE = 500  # files of one request
PLACE = 4096  # bytes of a disk that a file takes beside its own


class Bucket:
    """A private bucket; made where there is none."""

    def __init__(self, name: str, token: str) -> None:
        self.name, self.token = name, token

    def make(self) -> None:
        """Make the bucket unless it is there."""
        from huggingface_hub import HfApi

        HfApi(token=self.token).create_bucket(self.name, private=True, exist_ok=True)

    def send(self, source: Path, prefix: str, without: Sequence[str] = ()) -> None:
        """Send a folder's content, or one file, below a prefix; what is there already is not sent again."""
        from huggingface_hub import HfApi

        api = HfApi(token=self.token)
        if source.is_dir():
            api.sync_bucket(str(source), f"hf://buckets/{self.name}/{prefix}", exclude=list(without), quiet=True)
        else:
            api.batch_bucket_files(self.name, add=[(source, f"{prefix}/{source.name}")])

    def send_files(self, files: Sequence[tuple[Path, str]]) -> None:
        """Send files, each to its path in the bucket."""
        from huggingface_hub import HfApi

        api = HfApi(token=self.token)
        for start in range(0, len(files), AT_ONCE):
            api.batch_bucket_files(self.name, add=list(files[start : start + AT_ONCE]))

    def size(self, prefix: str, without: Sequence[str] = ()) -> int:
        """Return what lies below a prefix, in bytes; each file counts for its place on a disk as well."""
        from huggingface_hub import HfApi

        found = HfApi(token=self.token).list_bucket_tree(self.name, prefix, recursive=True)
        start = len(prefix) + 1
        files = [one for one in found if one.type == "file" and not _left_out(one.path[start:], without)]
        return sum(one.size + PLACE for one in files)

    def bring(self, prefix: str, target: Path, without: Sequence[str] = ()) -> None:
        """Bring what lies below a prefix into a folder; what is there already is not brought again."""
        from huggingface_hub import HfApi

        HfApi(token=self.token).sync_bucket(
            f"hf://buckets/{self.name}/{prefix}", str(target), exclude=list(without), quiet=True
        )


def _left_out(name: str, without: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in without)
