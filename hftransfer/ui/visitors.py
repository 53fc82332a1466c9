"""Who asks: one local visitor on a laptop; on a Space each signed-in user, with a folder and a token of their own."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hftransfer import samples
from hftransfer.errors import UserError, hint
from hftransfer.runs import Run, listing
from hftransfer.safety import fence, machine
from hftransfer.ui import tokens
from hftransfer.ui.settings import Settings

REPO = re.compile(r"[\w][\w.-]{0,95}(/[\w][\w.-]{0,95})?", re.ASCII)
PACKAGE = Path(__file__).parents[1]
LOCAL = "local"
GUESTS = "guests"  # the folder of all who have not signed in: what they try is public


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

    @property
    def cache(self) -> Path:
        """HF_HOME of the processes that work for this visitor: a shared one would show what another may read."""
        if self.local:
            return Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
        return self.folder / "cache"

    runs = property(lambda self: self.folder / "runs")
    uploads = property(lambda self: self.folder / "uploads")
    home = property(lambda self: self.folder / "home")

    @property
    def temporary(self) -> Path:
        """Where files of this visitor lie for the time of one question."""
        return Path(tempfile.gettempdir()) / "hftransfer-app" if self.local else self.folder / "tmp"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a visitor stays in this process: it holds a token")

    def owns(self, path: str | Path) -> bool:
        """Tell whether a path, with every link in it followed, lies in this visitor's folder."""
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.folder))


def of(request: Any, profile: Any, token: Any, settings: Settings) -> Visitor:
    """Return who asks: of gr.Request, gr.OAuthProfile | None and gr.OAuthToken | None, as a handler gets them.

    A program on a Space has no session: its token comes in the header `Authorization: Bearer hf_...` (or
    `X-HF-Authorization`, which gradio_client sends), and the Hub says whose it is.
    """
    if not settings.space:
        return Visitor(LOCAL, settings.root.absolute(), _own_token(), local=True)
    if profile is not None and token is not None:
        if token.expires_at is not None and token.expires_at <= time.time():
            return guest(settings)
        return user(settings, profile["preferred_username"], token.token, profile.get("sub"))
    bearer = None if request is None else tokens.sent(request.headers)
    if bearer is None:
        return guest(settings)
    known = tokens.owner(bearer, tokens.sender(request.headers, request.client.host if request.client else ""))
    return user(settings, known.name, bearer, known.number)


def of_session(session: Mapping[str, Any]) -> str | None:
    """Return the folder's name of who is signed in, as a request's session says before any handler is called."""
    found = session.get("oauth_info") or {}
    who = found.get("userinfo") or {}
    if not who.get("preferred_username") or (found.get("expires_at") or float("inf")) <= time.time():
        return None
    return _folder(who["preferred_username"], who.get("sub"))


def vouched(headers: Mapping[str, str]) -> str | None:
    """Return the folder's name of whose token a request carries, where the Hub vouched for it of late."""
    bearer = tokens.sent(headers)
    known = tokens.known(bearer) if bearer else None
    return _folder(known.name, known.number) if known else None


def user(settings: Settings, name: str, token: str, identity: str | None = None) -> Visitor:
    """Return a signed-in user; the folder carries the Hub's number, which nobody gets by taking over a freed name."""
    if not name or not isinstance(name, str):
        raise UserError("a Hub user is needed", "the token belongs to none", "Sign in again.")
    return Visitor(name, settings.root.absolute() / "users" / _folder(name, identity), token)


def _folder(name: str, identity: str | None) -> str:
    words = [name] if not identity else [name, str(identity)]
    return "~".join(quote(word, safe="").replace(".", "%2E").replace("~", "%7E") for word in words)


def guest(settings: Settings) -> Visitor:
    """Return the visitor that stands for all who have not signed in."""
    return Visitor("", settings.root.absolute() / GUESTS)


def require_writing(visitor: Visitor, repo: str | None) -> str:
    """Return the name of a repo that a visitor may write to, or UserError where it is none, or they hold no token."""
    name = (repo or "").strip()
    if not REPO.fullmatch(name):
        raise UserError(
            "a name like owner/name is needed", f"found {name[:60]!r}", "Letters, digits, - _ . and one /."
        )
    if visitor.token is None:
        raise UserError(
            "a token that may write is needed", "there is none",
            "Set HF_TOKEN before the app starts, or run: hf auth login",
        )  # fmt: skip
    return name


def require(visitor: Visitor) -> None:
    """Raise UserError "sign in" for an anonymous visitor."""
    if visitor.anonymous:
        raise UserError(
            "a signed-in user is needed", "you are not signed in",
            "Sign in with Hugging Face; nothing is published without your asking.",
        )  # fmt: skip


def find(visitor: Visitor, name: str) -> Run:
    """Return the visitor's own run of that name; UserError for any other name, path or link."""
    plain = isinstance(name, str) and is_path(name) and name.strip(".") and not set(name) & set("/\\")
    folder = visitor.runs / name if plain else visitor.runs
    if not plain or not visitor.owns(folder) or folder.is_symlink() or not (folder / "config.yaml").is_file():
        names = [run.name for run in runs(visitor)]
        raise UserError(
            "the name of one of your runs is needed", f"{str(name)[:80]!r} is none", hint(str(name)[:80], names)
        )
    if not visitor.local and _holds_links(folder):
        raise UserError("a run of files is needed", f"{folder.name} holds links", "Ask who runs this Space to look.")
    return Run(folder.absolute())


def _holds_links(folder: Path) -> bool:
    """Tell whether a run leads elsewhere: the app reads its files, and stands behind no fence."""
    for place in (folder, folder / "artifact", folder / "predictions"):
        with contextlib.suppress(NotADirectoryError, FileNotFoundError), os.scandir(place) as entries:
            if any(entry.is_symlink() for entry in entries):
                return True
    return False


def is_path(text: str) -> bool:
    """Tell whether a text can name a file at all: what cannot makes the system's calls raise other errors."""
    try:
        parts = text.encode().split(b"/")
    except UnicodeEncodeError:
        return False
    return bool(text) and "\0" not in text and len(text) < 4096 and all(len(part) <= 255 for part in parts)


def runs(visitor: Visitor) -> list[Run]:
    """Return the visitor's own runs, newest first; for guests those that the operator put there to be looked at."""
    found = [run for run in listing(visitor.runs) if not run.folder.is_symlink()]
    return found if visitor.local else [run for run in found if not _holds_links(run.folder)]


# --- processes ---


def forget_owner(settings: Settings) -> None:
    """On a Space, drop the owner's tokens from this process and close its memory to others of the same Unix user.

    Without this, a call that names no token would read what the owner may read, and so would whoever asked for it.
    """
    if not settings.space:
        return
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN"):
        os.environ.pop(name, None)
    os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    machine.close_memory()  # /proc/PID/environ still holds what a process began with


# what a child on a Space keeps of the app's environment: a list, so that no secret of any name gets through
KEPT = (
    "PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHASHSEED",
    "PYTHONUNBUFFERED", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_XET",
    "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT", "DO_NOT_TRACK",
    "TOKENIZERS_PARALLELISM", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip
KEPT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "ROCR_", "HIP_", "OMP_", "MKL_", "GOMP_", "KMP_", "PYTORCH_", "NCCL_")


def environment(visitor: Visitor, settings: Settings) -> dict[str, str]:
    """Return the whole environment of a process that works for the visitor (train, worker, publish): their token,
    their cache, a fence around their folder; on a Space nothing of the owner's. Pass it as `env=`, never add to it."""
    token = {"HF_TOKEN": visitor.token} if visitor.token else {}
    inherited = os.environ.get("PYTHONPATH")
    if not settings.space:
        # started as `python spaces_app.py`, the app alone finds the package beside it
        path = os.pathsep.join(filter(None, (str(PACKAGE.parent), inherited)))
        return {**os.environ, "PYTHONPATH": path, **token}
    shared = samples.cache_folder() / "samples"
    cache, python = visitor.cache / "hftransfer", visitor.home / "python"
    for folder in (visitor.runs, visitor.uploads, cache, python, visitor.temporary):
        folder.mkdir(parents=True, exist_ok=True)
    if shared.is_dir():
        _link(cache / "samples", shared)
    # behind the fence, the folder that holds the package cannot be listed, and what is not listed is not imported
    _link(python / PACKAGE.name, PACKAGE)
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(python), inherited))),
        "HOME": str(visitor.home),
        "TMPDIR": str(visitor.temporary),
        "XDG_CACHE_HOME": str(visitor.home / ".cache"),
        "HF_HOME": str(visitor.cache),
        "HF_TOKEN_PATH": str(visitor.home / "no-token"),
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0" if token else "1",
        "HFTRANSFER_CACHE": str(cache),
        # no file of theirs grows beyond its share, whatever a server sends or a list of files said; the Hub's cache
        # is made of links, and the app reads nothing there
        **fence.environment(
            [shared], [visitor.folder], settings.model_mb if visitor.anonymous else settings.disk_mb, [visitor.cache]
        ),
        **token,
    }


def _link(place: Path, target: Path) -> None:
    if place.is_symlink() and Path(os.readlink(place)) == target:
        return
    fresh = place.with_name(f".{place.name}.{os.getpid()}.{threading.get_ident()}")
    fresh.symlink_to(target, target_is_directory=True)
    os.replace(fresh, place)


_LOOKS_LIKE_A_TOKEN = re.compile(r"\bhf_(?:oauth_[\w.-]{8,}|[A-Za-z0-9]{20,})|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+")


def redacted(text: str, visitor: Visitor | None = None) -> str:
    """Return text for the page (a log's tail, an error) with anything that looks like a token blotted out."""
    if visitor is not None and visitor.token:
        text = text.replace(visitor.token, "[token]")
    return _LOOKS_LIKE_A_TOKEN.sub("[token]", text)


# --- the request ---


def _own_token() -> str | None:
    from huggingface_hub import get_token

    found: str | None = get_token()
    return found
