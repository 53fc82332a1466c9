"""Sends a file, whole or one range of it, as both listeners do."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

PIECE = 256 * 1024


def deliver(request: Request, path: Path, etag: str, name: str, **headers: str) -> Response:
    """Answer 200, 206 for a Range, 304 when If-None-Match has this etag, 416 for a range beyond the end."""
    size = path.stat().st_size
    found = {
        "ETag": f'"{etag}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}; filename=\"{quote(name)}\";",
        **headers,
    }
    if etag in [
        tag.strip().removeprefix("W/").strip('"') for tag in request.headers.get("if-none-match", "").split(",")
    ]:
        return Response(None, 304, headers=found)
    start, end, status = 0, size, 200
    wanted = re.fullmatch(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", request.headers.get("range", ""))
    if wanted and any(wanted.groups()):
        first, last = wanted.groups()
        start = int(first) if first else max(size - int(last), 0)
        end = min(int(last) + 1, size) if first and last else size
        if start >= size or start >= end:
            return Response(None, 416, headers={**found, "Content-Range": f"bytes */{size}"})
        status = 206
        found["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    found["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(None, status, headers=found)
    kind = "application/octet-stream" if b"\0" in _beginning(path) else "text/plain; charset=utf-8"
    return StreamingResponse(_pieces(path, start, end), status, headers=found, media_type=kind)


async def _pieces(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < end:
            piece = file.read(min(PIECE, end - start))
            start += len(piece)
            yield piece


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)
