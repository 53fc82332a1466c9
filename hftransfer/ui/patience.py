"""Connections that ask for nothing, or as good as nothing: a thousand of them, held open, would keep everybody out.

uvicorn waits for ever for the rest of a request's head, and for its body; each takes one of the files that a process
may have open.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from weakref import WeakKeyDictionary

from hftransfer.safety import machine

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
FILES = 16_384  # that the app may have open, where the system allows as many
HEAD = 30.0  # seconds in which a connection must have asked for something
LOOK = 5.0  # seconds between two looks
SILENCE = 60.0  # seconds in which the next piece of a body must come
PACE = 1000  # bytes a second of a body, after the first minute of it


def watch(server: Any, head: float = HEAD, look: float = LOOK) -> threading.Thread:
    """Close, as long as a uvicorn server runs, the connections on which no request is under way for too long."""
    machine.open_files(FILES)
    work = threading.Thread(target=_watch, args=(server, head, look), name="patience", daemon=True)
    work.start()
    return work


def _watch(server: Any, head: float, look: float) -> None:
    since: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
    while not server.should_exit:
        time.sleep(look)
        now = time.monotonic()
        with contextlib.suppress(RuntimeError):  # the set changed while it was copied: the next look is soon
            for connection in list(server.server_state.connections):
                cycle = getattr(connection, "cycle", None)
                if cycle is not None and not cycle.response_complete:
                    since.pop(connection, None)
                elif now - since.setdefault(connection, now) > head and connection.transport is not None:
                    connection.loop.call_soon_threadsafe(connection.transport.abort)


def paced(receive: Receive, silence: float = SILENCE, pace: int = PACE) -> Receive:
    """Return what receives a body, and takes one that comes too slowly for one whose sender has left."""
    began, count, whole = time.monotonic(), 0, False

    async def received() -> Message:
        nonlocal count, whole
        if whole:
            return await receive()  # which tells when the sender leaves, hours later perhaps
        try:
            message = await asyncio.wait_for(receive(), silence)
        except TimeoutError:
            return {"type": "http.disconnect"}
        whole = message["type"] != "http.request" or not message.get("more_body", False)
        count += len(message.get("body", b""))
        late = time.monotonic() - began - silence
        return {"type": "http.disconnect"} if not whole and late > 0 and count < pace * late else message

    return received
