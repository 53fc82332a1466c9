"""Who holds connections open without asking for anything keeps nobody out; who waits for an answer keeps theirs."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from hftransfer.safety import machine
from hftransfer.ui import patience

HEAD = 0.4


async def answers(scope: Any, receive: Any, send: Any) -> None:
    """Answer at once, but what asks for it piece by piece, for longer than anybody may keep silent."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
    for number in range(8):
        await send({"type": "http.response.body", "body": b"x", "more_body": number < 7})
        if scope["path"] == "/slowly":
            await asyncio.sleep(HEAD / 2)


@pytest.fixture(params=["h11", "httptools"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Serve that, watched."""
    pytest.importorskip(request.param)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(answers, http=request.param, lifespan="off", log_level="critical", timeout_keep_alive=60)
    )
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    watching = patience.watch(server, HEAD, 0.05)
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    watching.join(10)
    assert not thread.is_alive() and not watching.is_alive()


def said(port: int, first: bytes, then: bytes = b"") -> tuple[bytes, float]:
    """Send something, and then perhaps more after an answer; return what came until the end, and after how long."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        began = time.monotonic()
        connection.sendall(first)
        heard = b""
        try:
            while piece := connection.recv(4096):
                heard += piece
                if then and heard.endswith(b"x" * 8):
                    connection.sendall(then)
                    then, began = b"", time.monotonic()
        except ConnectionResetError:
            pass
    return heard, time.monotonic() - began


def test_what_asks_for_nothing_is_closed_and_what_waits_is_not(port: int) -> None:
    head = b"GET /%s HTTP/1.1\r\nHost: x\r\n"
    for half in (b"", head % b"", head % b"" + b"X-A: "):
        heard, seconds = said(port, half)
        assert not heard and HEAD / 2 < seconds < 10, half
    heard, seconds = said(port, head % b"slowly" + b"\r\n", head % b"slowly")
    assert heard.endswith(b"x" * 8), "an answer that takes longer than patience comes whole"
    assert HEAD / 2 < seconds < 10, "and half a question after it is one"


def test_a_body_comes_at_a_pace_or_its_sender_has_left() -> None:
    def bodies(*pieces: tuple[float, bytes, bool]) -> list[str]:
        waiting = iter(pieces)

        async def receive() -> Any:
            pause, body, more = next(waiting)
            await asyncio.sleep(pause)
            return {"type": "http.request", "body": body, "more_body": more}

        async def all_of() -> list[str]:
            received, found = patience.paced(receive, 0.2, 1000), []
            while True:
                message = await received()
                found.append(message["type"])
                if message["type"] == "http.disconnect" or not message["more_body"]:
                    return found

        return asyncio.run(all_of())

    taken, left = "http.request", "http.disconnect"
    assert bodies((0, b"a", True), (0.1, b"b", True), (0, b"c", False)) == [taken] * 3
    assert bodies((0, b"a", True), (5, b"b", False)) == [taken, left], "silence"
    assert bodies(*[(0.1, b"a", True)] * 50)[-1] == left, "a byte now and then"
    assert bodies(*[(0.1, bytes(1000), True)] * 6, (0, b"", False)) == [taken] * 7


def test_what_comes_after_the_body_is_waited_for() -> None:
    async def receive() -> Any:
        await asyncio.sleep(0.3)
        return {"type": "http.disconnect"}

    async def whole() -> Any:
        return {"type": "http.request", "body": b""}

    async def run() -> None:
        messages = iter([whole, receive])
        received = patience.paced(lambda: next(messages)(), 0.1)
        await received()
        began = time.monotonic()
        assert (await received())["type"] == "http.disconnect" and time.monotonic() - began > 0.25

    asyncio.run(run())


@pytest.mark.skipif(machine.resource is None, reason="a system without limits of open files")
def test_the_app_may_have_more_files_open(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(machine.resource, "getrlimit", lambda kind: (1024, 4096))
    monkeypatch.setattr(machine.resource, "setrlimit", lambda kind, limits: asked.append(limits))
    machine.open_files(16_384)
    machine.open_files(512)
    assert asked == [(4096, 4096)], "no more than the system allows, and never fewer"
