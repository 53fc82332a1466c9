"""The gate before every request with a body: gradio takes files and JSON of any size, from anyone, onto one disk."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from hftransfer.ui import uploads
from hftransfer.ui.settings import Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON_MB = 32  # of a question: a program's pictures come in it
GUEST_MB = 10  # of a file from somebody who has not signed in: a picture to try
STALE = 3600.0  # seconds after which a received file that nobody took is deleted


class Gate:
    """ASGI middleware: `launch(app_kwargs={"middleware": [Middleware(Gate, settings=settings)]})`."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 413 when it is too large and 507 when received files fill their share."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self.app(scope, receive, send)
            return
        upload = scope["path"].rstrip("/").endswith("/upload")
        most = self._most(scope) if upload else JSON_MB
        length = _length(scope)
        if most and length > most * 2**20:
            await _refuse(send, 413, f"at most {most} MB are taken here")
        elif upload and not await _in_thread(self._has_room, length / 2**20):
            await _refuse(send, 507, "too many files are on their way to this Space; try again later")
        else:
            await self.app(scope, _counted(receive, most * 2**20) if most else receive, send)

    def _most(self, scope: Scope) -> int:
        if self.settings.space and "oauth_info" not in scope.get("session", {}):
            return GUEST_MB
        return self.settings.upload_mb and self.settings.upload_mb + 1  # and the form around the file

    def _has_room(self, more_mb: float) -> bool:
        if not self.settings.received_mb:
            return True
        folder = uploads.received()
        if uploads.used_mb(folder) + more_mb <= self.settings.received_mb:
            return True
        sweep(folder)
        return uploads.used_mb(folder) + more_mb <= self.settings.received_mb


def sweep(folder: Path, now: float | None = None) -> None:
    """Delete received files that are older than an hour."""
    limit = (time.time() if now is None else now) - STALE
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < limit:
                    path.unlink()


def _length(scope: Scope) -> int:
    found = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(found[0]) if found and found[0].isdigit() else 0


def _counted(receive: Receive, most: int) -> Receive:
    """Hang up on a body that is longer than it said, or did not say."""
    seen = 0

    async def counting() -> MutableMapping[str, Any]:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > most else message

    return counting


async def _in_thread(do: Callable[[float], bool], value: float) -> bool:
    from anyio.to_thread import run_sync

    return await run_sync(do, value)


async def _refuse(send: Send, status: int, words: str) -> None:
    body = json.dumps({"detail": words}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
