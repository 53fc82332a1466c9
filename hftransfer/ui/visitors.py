"""Who asks: one local visitor on a laptop; on a Space each signed-in user, with a folder and a token of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hftransfer.runs import Run
from hftransfer.ui.settings import Settings


@dataclass(frozen=True)
class Visitor:
    """One person: what is theirs lies in `folder`, and `token` acts on the Hub as them."""

    name: str  # "local", a Hub user name, or "" for somebody who has not signed in
    folder: Path
    token: str | None = field(default=None, repr=False)
    local: bool = False

    @property
    def anonymous(self) -> bool:
        """Tell whether nobody knows who this is: may look and try, never start, upload or write."""
        return not self.name

    runs = property(lambda self: self.folder / "runs")
    uploads = property(lambda self: self.folder / "uploads")
    cache = property(lambda self: self.folder / "cache")  # HF_HOME of the processes that work for this visitor


def of(request: Any, profile: Any, token: Any, settings: Settings) -> Visitor:
    """Return who asks: of gr.Request, gr.OAuthProfile | None and gr.OAuthToken | None, as a handler gets them."""
    raise NotImplementedError


def require(visitor: Visitor) -> None:
    """Raise UserError "sign in" for an anonymous visitor."""
    raise NotImplementedError


def find(visitor: Visitor, name: str) -> Run:
    """Return the visitor's own run of that name; UserError for any other name, path or link."""
    raise NotImplementedError


def runs(visitor: Visitor) -> list[Run]:
    """Return the visitor's own runs, newest first."""
    raise NotImplementedError


def environment(visitor: Visitor, settings: Settings) -> dict[str, str]:
    """Return the whole environment of a process that works for the visitor (train, worker, publish): their token,
    their cache, a fence around their folder; on a Space nothing of the owner's. Pass it as `env=`, never add to it."""
    raise NotImplementedError


def redacted(text: str) -> str:
    """Return text for the page (a log's tail, an error) with anything that looks like a token blotted out."""
    raise NotImplementedError
