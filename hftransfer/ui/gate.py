"""The gate before every request: whose page sends it, what it asks for, and how large and involved its body is.

Gradio answers every site that sends a session's cookie, takes files and JSON of any size from anyone, and has routes
that this page never asks for.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from hftransfer.ui import disk, received, visitors
from hftransfer.ui.patience import Message, Receive, paced
from hftransfer.ui.same_origin import FRAMES, refusal
from hftransfer.ui.settings import Settings
from hftransfer.ui.shares import GUESTS, Shares

Send = Callable[[Message], Awaitable[None]]

FILES, STREAM = "/gradio_api/upload", "/gradio_api/queue/data"
STREAMS = 50_000  # of which it is known whose they are
# what the page and the four endpoints are made of; all else of gradio's is not there
SERVED = (
    "/config", "/favicon.ico", "/theme.css", "/robots.txt", "/manifest.json", "/pwa_icon", "/login/huggingface",
    "/login/callback", "/logout", FILES, "/gradio_api/app_id", "/gradio_api/cancel", "/gradio_api/config",
    "/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/queue/data", "/gradio_api/queue/join",
    "/gradio_api/reset", "/gradio_api/startup-events", "/gradio_api/theme.css", "/gradio_api/upload_progress",
    "/gradio_api/mcp",
)  # fmt: skip
BROUGHT = "/gradio_api/file="
BELOW = (
    "/assets/", "/static/", "/svelte/", "/gradio_api/call/", BROUGHT, "/gradio_api/heartbeat/",
    "/gradio_api/mcp/", "/gradio_api/run/",
)  # fmt: skip

SEEN = re.compile(r"/gradio_api/stream/[0-9a-f]{16,64}(/close)?")  # what a camera sees goes to a question under way

JSON_MB = 32  # of a question: a program's pictures come in it
GUEST_JSON_MB = 15  # one picture of GUEST_MB, as text
GUEST_MB = 10  # of a file from somebody who has not signed in: a picture to try
SMALL = 2**16  # bytes of JSON that nobody counts: a look, a click
MINUTE = 60.0  # seconds in which so much JSON is taken, for what was sent lies in memory until it is answered
MINUTE_MB = {"guests": 60, "one": 120, "all": 360}
VALUES = 20_000  # of one JSON body: each becomes an object many times its size
DEPTH = 64
PARTS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)|[\[{]|[\]}]|,', re.DOTALL)  # a string is skipped as a whole
ADDRESS = re.compile(r"[\s\x00-\x1f/]*(https?|ftp|file):", re.IGNORECASE)
STEP = 2**20  # bytes that a body of files takes at once, where it did not say how long it is
FULL = "too many files are on their way to this Space; try again later"


def served(method: str, path: str) -> bool:
    """Tell whether there is such a page: gradio leads to any address that is called a file."""
    if _is_address(path.removeprefix(BROUGHT)):
        return False
    return path == "/" or path in SERVED or path.startswith(BELOW) or (method == "POST" and bool(SEEN.fullmatch(path)))


class Gate:
    """ASGI middleware: `launch(app_kwargs={"middleware": [Middleware(Gate, settings=settings)]})`."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self.json = Shares(MINUTE)
        self.files = received.SHARES
        self._streams: OrderedDict[str, str] = OrderedDict()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why not: 403 other sites, 404, 413 too large, 429 and 507 too much at once."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # nothing here speaks it
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        method, path = scope["method"], "/" + scope["path"].strip("/")
        if words := refusal(method, path, headers, self.settings.space):
            await _refuse(send, 403, words)
        elif not served(method, path):
            await _refuse(send, 404, "there is no such page")
        elif method not in ("POST", "PUT", "PATCH"):
            if path == STREAM and not self._is_own(scope, parse_qs(scope["query_string"].decode("latin-1"))):
                await _refuse(send, 403, "this is somebody else's")
                return
            # a file that somebody brought runs nothing in the page's name, whatever it is
            more = "; sandbox; default-src 'none'" if path.startswith(BROUGHT) else ""
            await self.app(scope, receive, self._framed(send, more))
        elif path == FILES:
            await self._file(scope, paced(receive), send, headers)
        else:
            await self._json(scope, paced(receive), send, headers)

    def _framed(self, send: Send, more: str = "") -> Send:
        """Let no other site show the page in a frame, where a click means what that site wants."""
        frames = FRAMES if self.settings.space else "'self'"

        async def framed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"content-security-policy", f"frame-ancestors {frames}{more}".encode()),
                    (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin"),
                ]  # fmt: skip
            await send(message)

        return framed

    # --- files ---

    async def _file(self, scope: Message, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        settings, who, length = self.settings, self._who(scope, headers), _length(headers)
        most = GUEST_MB + 1 if who == GUESTS else settings.upload_mb and settings.upload_mb + 1  # the form around it
        if most and length > most * 2**20:
            await _refuse(send, 413, f"at most {most - 1} MB are taken here")
            return
        room = settings.received_mb
        # guests have a quarter of it, one visitor a half: nobody fills what all share
        own = max(room / (4 if who == GUESTS else 2), most or 0) if room else float("inf")
        asked = max(length, disk.INODE)
        body = _Body(asked, _boundary(scope))

        async def taken(count: int) -> bool:
            more = count / 2**20
            return self.files.take(who, more, own) and await _in_thread(partial(received.has_room, settings), more)

        async def refused(message: Message) -> tuple[int, str] | None:
            more = body.grown(message.get("body", b""))
            if most and body.seen > most * 2**20:
                return 413, f"at most {most - 1} MB are taken here"
            return (507, FULL) if room and more and not await taken(more) else None

        if room and not await taken(asked):
            await _refuse(send, 507, FULL)
            return
        await _bounded(self.app, scope, receive, send, refused)

    # --- questions ---

    async def _json(self, scope: Message, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        who = self._who(scope, headers)
        most = (GUEST_JSON_MB if who == GUESTS else JSON_MB) * 2**20
        own = float(MINUTE_MB["guests" if who == GUESTS else "one"])
        length = _length(headers)
        if length > most:
            await _refuse(send, 413, f"at most {most >> 20} MB are taken here")
            return
        body, taken, more = bytearray(), 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > most:
                await _refuse(send, 413, f"at most {most >> 20} MB are taken here")
                return
            if self.settings.space and len(body) > SMALL and len(body) > taken:
                step = max(length, len(body)) - taken
                if not self.json.take(who, step / 2**20, own, float(MINUTE_MB["all"])):
                    await _refuse(send, 429, "too much is being asked at once; try again in a minute")
                    return
                taken += step
        if words := involved(body):
            await _refuse(send, 413, words)
            return
        if b"\\u" in body or b"session_hash" in body or b"path" in body:
            with contextlib.suppress(ValueError, RecursionError):
                asked = json.loads(body)
                if isinstance(asked, dict) and not self._is_own(scope, {"session_hash": [asked.get("session_hash")]}):
                    await _refuse(send, 403, "this is somebody else's")
                    return
                if names_an_address(asked):
                    await _refuse(send, 403, "files are brought here, not fetched from elsewhere")
                    return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, again, self._framed(send))

    def _is_own(self, scope: Message, asked: Mapping[str, Sequence[Any]]) -> bool:
        """Tell whether the stream of answers that a request names belongs to its session, and remember whose it is.

        Gradio hands a stream to whoever knows its name.
        """
        if not self.settings.space:
            return True
        who = visitors.of_session(scope.get("session", {})) or GUESTS
        for name in map(str, asked.get("session_hash", ())):
            if self._streams.setdefault(name, who) not in (who, GUESTS):
                return False
            self._streams[name] = who
            self._streams.move_to_end(name)
        while len(self._streams) > STREAMS:
            self._streams.popitem(last=False)
        return True

    def _who(self, scope: Message, headers: dict[str, str]) -> str:
        """Return whose share this counts for: a token that the Hub has not vouched for is nobody's."""
        if not self.settings.space:
            return visitors.LOCAL
        return visitors.of_session(scope.get("session", {})) or visitors.vouched(headers) or GUESTS


def names_an_address(asked: Any) -> bool:
    """Tell whether a question names a file by an address: gradio would fetch it, whole, into this process."""
    waiting = [asked]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("path"), str) and _is_address(value["path"]):
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False


def _is_address(text: str) -> bool:
    return ADDRESS.match(text) is not None


def involved(body: bytes | bytearray) -> str | None:
    """Return why JSON must not be parsed: more values, or deeper ones, than any question of ours has; None if it may.

    A few bytes become an object of hundreds; what is in strings costs what it weighs and is not looked at.
    """
    if b"\0" in body:
        return "UTF-8 is needed"  # json would guess UTF-16 or 32, in which this sees other strings
    depth = 0
    for values, part in enumerate(PARTS.finditer(body)):
        first = body[part.start()]
        if first in b"[{":
            depth += 1
        elif first in b"]}":
            depth -= 1
        if values > 2 * VALUES or depth > DEPTH:
            return f"at most {VALUES:,} values, {DEPTH} deep, are taken here"
    return None


def _length(headers: dict[str, str]) -> int:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


class _Body:
    """What of a form with files has come, and how much of it nobody has paid for."""

    def __init__(self, paid: int, boundary: bytes | None) -> None:
        self.seen, self._paid, self._boundary = 0, paid, boundary
        self._tail, self._free = b"", 2  # one part, and the end

    def grown(self, piece: bytes) -> int:
        """Return how many bytes are to be paid for with a piece, those of files' places on the disk among them."""
        self.seen += len(piece)
        more = max(self.seen - self._paid, STEP) if self.seen > self._paid else 0
        self._paid += more
        if self._boundary:
            text = self._tail + piece  # a boundary may come in two pieces
            found = text.count(self._boundary) - self._free
            self._free = max(0, -found)
            self._tail = text[max(0, len(text) - len(self._boundary) + 1) :]
            more += max(0, found) * disk.INODE  # every file takes a place, however small
        return more


def _boundary(scope: Message) -> bytes | None:
    """Return what stands before every part of a form, read as gradio reads it; None where the body is no form."""
    named = (value for name, value in scope["headers"] if name.lower() == b"content-type")
    found = parse_options_header(next(named, b""))[1].get(b"boundary")
    return None if found is None else b"--" + found


async def _bounded(
    app: Any, scope: Message, receive: Receive, send: Send,
    refused: Callable[[Message], Awaitable[tuple[int, str] | None]],
) -> None:  # fmt: skip
    """Pass a body on as it comes, until a piece of it is refused: what is behind it is as if it had never come."""
    why: tuple[int, str] | None = None
    begun = False

    async def bounded() -> Message:
        nonlocal why
        if why is None:
            message = await receive()
            why = await refused(message)
        return message if why is None else {"type": "http.disconnect"}

    async def sent(message: Message) -> None:
        nonlocal begun
        if why is None or begun:
            begun = True
            await send(message)

    try:
        await app(scope, bounded, sent)
    except ClientDisconnect:
        if why is None:
            raise
    if why is not None and not begun:
        await _refuse(send, *why)


async def _in_thread(do: Callable[[float], bool], value: float) -> bool:
    from anyio.to_thread import run_sync

    return await run_sync(do, value)


class NoPreflight:
    """ASGI middleware before all others: gradio answers another site that asks whether it may ask, before the gate."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Refuse OPTIONS, which neither the page nor a program sends."""
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            await _refuse(send, 405, "this app answers its own page and programs, and neither asks for that")
        else:
            await self.app(scope, receive, send)


async def _refuse(send: Send, status: int, words: str) -> None:
    body = json.dumps({"detail": words}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
