"""What stands before both listeners' routes: the log, the faults, the token check and the answers to refusals."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import struct
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from tests.hub_server import errors
from tests.hub_server.access import Identity
from tests.hub_server.faults import Fault, Faults
from tests.hub_server.log import Record

Message = MutableMapping[str, Any]
PARTS = {
    "kind": "(?P<kind>models|datasets|spaces)",
    "prefix": "(?P<prefix>datasets/|spaces/)?",
    "path": "(?P<path>.+)",
}
ID, SHORT_ID = "(?P<id>[^/]+/[^/]+)", "(?P<id>[^/]+)"


@dataclass
class Call:
    """One request on its way through a handler."""

    request: Request
    record: Record
    who: Identity
    parts: dict[str, str] = field(default_factory=dict)  # of the path, unquoted

    @property
    def query(self) -> Any:
        return self.request.query_params

    def flag(self, name: str) -> bool:
        return self.query.get(name, "").lower() in ("1", "true")

    async def json(self) -> Any:
        body = await self.request.body()
        try:
            return await self.request.json() if body else {}
        except ValueError as error:
            raise errors.Refused(400, f"The body is not JSON: {error}") from error


Handler = Callable[[Call], Awaitable[Response]]


@dataclass
class Route:
    name: str
    methods: tuple[str, ...]
    pattern: str
    handler: Handler

    def __post_init__(self) -> None:
        ids = [ID, SHORT_ID] if "{id}" in self.pattern else [""]
        self._regexes = [re.compile(self._regex(one)) for one in ids]

    def _regex(self, repo_id: str) -> str:
        parts = {**PARTS, "id": repo_id}
        return re.sub(r"\{(\w+)\}", lambda found: parts.get(found[1], f"(?P<{found[1]}>[^/]+)"), self.pattern)

    def match(self, method: str, raw_path: str, try_number: int) -> dict[str, str] | None:
        if ("GET" if method == "HEAD" else method) not in self.methods or try_number >= len(self._regexes):
            return None
        found = self._regexes[try_number].fullmatch(raw_path)
        return {name: unquote(value or "") for name, value in found.groupdict().items()} if found else None


class Front:
    """An ASGI application over routes that are matched on the raw path: a quoted revision is one segment."""

    def __init__(
        self,
        server: str,
        routes: list[Route],
        requests: list[Record],
        faults: Faults,
        identify: Callable[[Record, dict[str, str]], Identity],
    ) -> None:
        self.server, self.routes, self.requests, self.faults = server, routes, requests, faults
        self.identify = identify
        self.crashes: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        record = Record(
            method=scope["method"],
            path=scope["raw_path"].decode("latin-1"),
            query=scope["query_string"].decode("latin-1"),
            server=self.server,
            authorized="authorization" in headers,
        )
        route, parts = self._find(record)
        record.route = route.name if route else ""
        self.requests.append(record)
        wire = _Wire(scope["state"]["transport"], receive, send, record)
        request = Request(scope, wire.receive)
        refusal = identity = None
        try:
            identity = self.identify(record, headers)
            record.user = identity.user
        except errors.Refused as found:
            refusal = found
        fault = self.faults.take(record) if route else None
        try:
            if fault is not None and await self._fault(fault, wire, request, headers):
                return
            try:
                if refusal is not None:
                    raise refusal
                if route is None or identity is None:
                    raise errors.of_status(404)
                answer = await route.handler(Call(request, record, identity, parts))
            except errors.Refused as found:
                await wire.drain()
                answer = refuse(found)
            if fault is not None and fault.lost:
                wire.drop(True)
            wire.garble = fault is not None and fault.garble and request.method == "GET"
            await self._answer(answer, scope, wire)
        except (Dropped, ClientDisconnect):
            return
        except Exception:
            self.crashes.append(traceback.format_exc())  # a defect of this server must not pass for a Hub's answer
            await self._answer(refuse(errors.of_status(500)), scope, wire)

    async def _answer(self, answer: Response, scope: Any, wire: _Wire) -> None:
        answer.headers.setdefault("X-Request-Id", f"Root=1-{secrets.token_hex(12)}")
        await answer(scope, wire.receive, wire.send)

    def _find(self, record: Record) -> tuple[Route | None, dict[str, str]]:
        for try_number in range(2):  # ids without a namespace come last: models/x/refs is a repo's refs before all
            for route in self.routes:
                parts = route.match(record.method, record.path, try_number)
                if parts is not None:
                    return route, parts
        return None, {}

    async def _fault(self, fault: Fault, wire: _Wire, request: Request, headers: dict[str, str]) -> bool:
        """Do what the fault says; True when the request ends here."""
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.cut:
            length = int(headers.get("content-length", "0"))
            if request.method == "GET":
                wire.cut = fault.cut  # in the middle of the answer
            else:
                await wire.drain(length // 2)
                wire.drop(fault.cut)
        if fault.status is not None:
            await wire.drain()
            answer = refuse(errors.of_status(fault.status, fault.message))
            answer.headers.update(fault.headers)
            await self._answer(answer, request.scope, wire)
            return True
        return False


class Dropped(Exception):
    """The connection is gone: nothing more can be sent."""


class _Wire:
    """The two directions of one exchange, counted, and the connection below them, which a fault can drop."""

    def __init__(self, transport: asyncio.Transport, receive: Any, send: Any, record: Record) -> None:
        self.transport, self.record = transport, record
        self.cut: bool | str = False
        self.garble = False
        self._receive, self._send, self._left, self._ended = receive, send, 0, False

    async def receive(self) -> Message:
        message: Message = await self._receive()
        if message["type"] == "http.request":
            self.record.bytes_in += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
        else:
            self._ended = True
        return message

    async def drain(self, limit: int | None = None) -> None:
        """Read what the client sends, to the end or until `limit` bytes have come."""
        while not self._ended and (limit is None or self.record.bytes_in < limit):
            await self.receive()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.record.status = message["status"]
            if self.cut:
                length = next((value for name, value in message["headers"] if name == b"content-length"), b"0")
                self._left = int(length) // 2
            await self._send(message)
            return
        body = message.get("body", b"")
        if self.garble and body and self.record.status < 300:
            body, self.garble = body[:-1] + bytes([body[-1] ^ 1]), False
        if self.cut:
            body = body[: self._left]
            self._left -= len(body)
        if self.record.method != "HEAD":
            self.record.bytes_out += len(body)
        if self.cut and not self._left:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.sleep(0.05)  # let the client have this half: a reset discards what it has not read
            self.drop(self.cut)
        await self._send({**message, "body": body})

    def drop(self, how: bool | str) -> NoReturn:
        """End the connection, with a reset or in good order."""
        if how == "fin":
            self.transport.close()
        else:
            sock: socket.socket = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        raise Dropped


def refuse(refusal: errors.Refused) -> Response:
    return JSONResponse(refusal.body, refusal.status, headers=refusal.headers)
