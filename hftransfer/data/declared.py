"""What a data set of the Hub says about its files: they are its own, or nobody is asked for them.

`datasets` asks whatever address a README names, to find out what lies there, before it refuses files of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from huggingface_hub import DatasetCard, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hftransfer.errors import UserError

PLACES = ("README.md", ".huggingface.yaml")  # where `datasets` reads it
SETTINGS = ("data_files", "data_dir")
MOST = 100_000  # names of one configuration


def require_own_files(source: str, revision: str | None) -> None:
    """Raise UserError for a data set of the Hub that names files which are not in it; what it names, nobody opens.

    A repository that is not there, or may not be read, is left to whoever loads it.
    """
    for name in PLACES:
        try:
            path = Path(hf_hub_download(source, name, repo_type="dataset", revision=revision))
        except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
            continue
        except OfflineModeIsEnabled:
            return
        foreign = next((word for word in _named(_read(path)) if _leads_away(word, source)), None)
        if foreign is not None:
            raise UserError(
                f"{source} must name files of its own", f"its {name} names {foreign[:80]!r}",
                "Choose another data set, or download that file and name it here.",
            )  # fmt: skip


def _read(path: Path) -> Any:
    try:
        if path.name == PLACES[0]:
            return DatasetCard.load(path).data.to_dict()
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, yaml.YAMLError, RecursionError):  # `datasets` reads it the same way, and says so
        return None


def _named(tree: Any) -> Iterator[str]:
    """Yield the files and folders that configurations name, in whatever lists and maps they stand."""
    configurations = tree.get("configs") if isinstance(tree, dict) else None
    for one in configurations if isinstance(configurations, list) else ():
        if isinstance(one, dict):
            yield from _words([one.get(name) for name in SETTINGS])


def _words(value: Any) -> Iterator[str]:
    waiting = [value]
    for _ in range(MOST):
        if not waiting:
            return
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | dict):
            waiting += value if isinstance(value, list) else value.values()
    yield ".."  # a few lines of YAML can stand for names without end


def _leads_away(word: str, source: str) -> bool:
    if word.startswith((f"hf://datasets/{source}/", f"hf://datasets/{source}@")):
        word = word.removeprefix("hf://")
    path = PurePosixPath(word.replace("\\", "/"))
    return "://" in word or "::" in word or path.is_absolute() or word.startswith("~") or ".." in path.parts
