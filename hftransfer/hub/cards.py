"""A card that somebody edited on the Hub: found by the hash of the one that was published last, and left as it is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer import artifact
from hftransfer.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = "README.md"
BESIDE = "hftransfer-card.md"  # where the new card stands while somebody's own is the README
WRITTEN = "card"  # in hftransfer.json: the git hash of the card that was published with it
FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def blob_of(content: bytes) -> str:
    """Return the hash by which git knows a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def body_in(path: Path) -> str:
    """Return the text of a card that somebody wrote, without metadata; UserError for what is no text or none."""
    try:
        text = FRONT.sub("", path.read_text(encoding="utf-8").replace("\r\n", "\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("a card is a file of Markdown", f"{path}: {error}", "Name a text file in UTF-8.") from error
    if not text.strip():
        raise UserError("a card is a file of Markdown", f"{path} is empty", "Write it, or leave --card out.")
    return text


def with_body(card: str, body: str) -> str:
    """Return a card with its own metadata above another text."""
    front = FRONT.match(card)
    return f"{front[0] if front else ''}\n{body.strip()}\n"


def settled(
    api: HfApi, repo: str, head: str, files: Mapping[str, Any], earlier: Mapping[str, Any], replace: bool
) -> tuple[dict[str, Any], bool]:
    """Return the files to publish, and whether a card that was edited by hand stays: the new one then stands beside.

    `earlier` are the notes of the last publication; without its word on the card (older versions) the card is ours.
    """
    ours = blob_of(files[CARD])
    kept = not replace and _edited(api, repo, head, earlier, ours)
    found = dict(files)
    if kept:
        found[BESIDE] = found.pop(CARD)
    notes = json.loads(files[artifact.NOTES])
    notes[WRITTEN] = earlier.get(WRITTEN) if kept else ours
    notes["files"] = sorted(found)
    found[artifact.NOTES] = (json.dumps(notes, indent=1) + "\n").encode()
    return found, kept


def _edited(api: HfApi, repo: str, head: str, earlier: Mapping[str, Any], ours: str) -> bool:
    there: Any = next(iter(api.get_paths_info(repo, [CARD], revision=head)), None)
    if there is None or there.blob_id in (ours, earlier.get(WRITTEN)):
        return False
    if earlier:
        return WRITTEN in earlier
    from huggingface_hub import hf_hub_download

    text = Path(hf_hub_download(repo, CARD, revision=head)).read_text(encoding="utf-8", errors="replace")
    return bool(FRONT.sub("", text.replace("\r\n", "\n")).strip())  # the Hub makes one of front matter alone
