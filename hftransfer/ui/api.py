"""The endpoints for programs (gradio_client, MCP): start, status, stop, predict; same visitors, rules and limits.

On a Space a program sends its own Hub token: `Client(space, token="hf_...")`, or the header `Authorization: Bearer`.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from hftransfer.errors import UserError
from hftransfer.launchers import HERE
from hftransfer.ui import places, received, rules, visitors
from hftransfer.ui.queueing import Queue
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from hftransfer.ui.workers import FILES, Workers

EVENTS = 500  # of one answer; the cursor leads on
FILE = 14 * 2**20  # characters of a picture or a recording as a data: URL
PROCESSES = 64  # of one run, wherever it is
DATA_URL = re.compile(
    r"data:(?:image/(?P<image>png|jpeg|webp|gif|bmp)|audio/(?:x-)?(?P<audio>wav|mpeg|flac|ogg)|application/dicom)"
    r";base64,"
)


def add(settings: Settings, queue: Queue, workers: Workers) -> None:
    """Declare the endpoints inside an open gr.Blocks; everything else there is api_visibility="private"."""
    for endpoint in endpoints(settings, queue, workers):
        # none waits in gradio's queue, which would hold what it sent: Workers refuses what is too much at once
        gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=None)


def mcp_wanted(settings: Settings) -> bool:
    """Tell whether HFTRANSFER_MCP=1 asks for MCP and gradio's extra for it is installed: launch(mcp_server=...)."""
    return os.environ.get("HFTRANSFER_MCP") == "1" and importlib.util.find_spec("mcp") is not None


def endpoints(settings: Settings, queue: Queue, workers: Workers) -> list[Callable[..., Any]]:
    """Return the functions; a program sees their names, types and descriptions."""

    def start(
        config: str, request: gr.Request, processes: int = 0, on: str = HERE, options: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Start a training run and return at once.

        Args:
            config: the configuration as YAML or JSON, as in a file for `hftransfer train`
            processes: how many processes train together; 0: one on this machine, elsewhere one for each GPU
            on: where it runs: local (this machine), jobs (Hugging Face Jobs, paid by the minute), slurm (a cluster)
            options: the place's own options by name, such as {"flavor": "t4-small", "minutes": 30} of jobs; without
                minutes nothing starts there, but a check on this machine tells the time and the price

        Returns:
            run: the name to ask `status` with; place: how many runs are before it, plus one; nothing when it started
        """
        with _told():
            visitor, tree = _who(request, settings), rules.read(config)
            visitors.require(visitor)
            _require_count(processes)
            where = places.told(settings, visitor, on, options)
            if where is not None and where.estimates:  # nothing is paid for unseen
                seconds = places.measured(settings, workers, visitor, tree)["seconds"]
                limited, words = where.foreseen(seconds)
                raise UserError(
                    "the longest time of the run is needed in options", f"a check on this machine foresees {words}",
                    f"Call start again with minutes={limited.options.model_dump()['minutes']:.0f}, or fewer.",
                )  # fmt: skip
            usual = 1 if where is None else where.usual_processes
            run = queue.submit(visitor, tree, processes or usual, where)
            return {"run": run.name, "place": queue.place(run)}

    def status(run: str, request: gr.Request, cursor: int = 0) -> dict[str, Any]:
        """Tell how a run goes.

        Args:
            run: the name that `start` gave
            cursor: 0, or the cursor of the last answer: only later events are returned

        Returns:
            state (created, running, done, failed, stopped, killed), phase, message, step, max_steps, place in the
            queue, events since the cursor, the next cursor, and the test scores of a run that is done
        """
        with _told():
            visitor = _who(request, settings)
            found = visitors.find(visitor, run)
            now, place = found.status(), queue.place(found)
            events, after = found.events(max(0, cursor))
            if len(events) > EVENTS:  # the cursor counts bytes: read again up to the last event that is returned
                events, after = events[:EVENTS], _after(found, max(0, cursor), EVENTS)
            answer = {
                "run": found.name,
                "state": now.state,
                "phase": now.phase,
                "message": visitors.redacted(now.message, visitor) if now.message else None,
                "step": now.step,
                "max_steps": now.max_steps,
                "place": place,
                "events": [event for event in events if event["type"] not in ("launched", "process")],
                "cursor": after,
            }
            metrics = found.result().get("test", {}).get("metrics") if now.state == "done" else None
            return {**answer, "metrics": metrics}

    def stop(run: str, request: gr.Request) -> dict[str, Any]:
        """Take a waiting run out of the queue, or ask a running one to save a checkpoint and end.

        Args:
            run: the name that `start` gave
        """
        with _told():
            visitor = _who(request, settings)
            queue.stop(visitor, run)
            return {"run": visitors.find(visitor, run).name}

    def predict(
        where: str, inputs: list[str | dict[str, str]], request: gr.Request, top_k: int = 5
    ) -> list[dict[str, Any]]:
        """Ask a trained model.

        Args:
            where: the name of a run, or a model of the Hub
            inputs: texts, or pictures and recordings as data: URLs (data:image/png;base64,...,
                data:audio/wav;base64,..., data:application/dicom;base64,...); where a task needs several of one
                input, a mapping of them by name, such as {"question": "...", "context": "..."}
            top_k: how many labels to return for each input
        """
        with _told():
            visitor = _who(request, settings)
            if not isinstance(inputs, list) or not all(_is_input(value) for value in inputs):
                raise UserError(
                    "a list of texts is needed, or of mappings of texts by name", "this is none", "Give [text, ...]."
                )
            most = None if top_k < 1 else top_k
            with _as_inputs(inputs) as values:
                answers: list[dict[str, Any]] = workers.call(
                    visitor, "predict", where=where, inputs=values, top_k=most
                )
            return answers

    return [start, status, stop, predict]


def _require_count(processes: Any) -> None:
    """Raise UserError for what is no number of processes: a program may send anything."""
    if type(processes) is not int or not 0 <= processes <= PROCESSES:
        raise UserError(
            f"a whole number of processes from 0 to {PROCESSES} is needed", f"found {str(processes)[:60]!r}",
            "Leave it out for as many as usual.",
        )  # fmt: skip


def _who(request: gr.Request, settings: Settings) -> Visitor:
    return visitors.of(request, None, None, settings)


@contextmanager
def _told() -> Iterator[None]:
    """Hand a UserError's words to the program."""
    try:
        yield
    except UserError as error:
        raise gr.Error(visitors.redacted(str(error)), print_exception=False) from error


def _after(run: Any, cursor: int, count: int) -> int:
    """Return the byte behind so many whole events."""
    with open(run.events_path, "rb") as file:
        file.seek(cursor)
        seen = 0
        while seen < count and (line := file.readline()).endswith(b"\n"):
            cursor += len(line)
            seen += line.strip().startswith(b"{")
    return cursor


def _is_input(value: Any) -> bool:
    parts = [*value, *value.values()] if isinstance(value, dict) else [value]
    return bool(parts) and all(isinstance(part, str) for part in parts)


@contextmanager
def _as_inputs(inputs: list[Any]) -> Iterator[list[Any]]:
    """Write pictures and recordings to files where uploads arrive, for the time of the call."""
    written: list[Path] = []
    try:
        values: list[Any] = []
        for value in inputs:
            if isinstance(value, str):
                found = _file_of(value, written)
                values.append(value if found is None else dict([found]))
                continue
            parts = {}
            for name, text in value.items():
                found = _file_of(text, written)
                if (found[0] if found else None) != (name if name in FILES else None):
                    form = "a data: URL" if name in FILES else "a text"
                    raise UserError(
                        f"`{name}` is needed as {form}", "it is something else",
                        "Give texts as they are, and pictures and recordings as data: URLs.",
                    )  # fmt: skip
                parts[name] = text if found is None else found[1]
            values.append(parts)
        yield values
    finally:
        for path in written:
            path.unlink(missing_ok=True)


def _file_of(text: str, written: list[Path]) -> tuple[str, str] | None:
    """Write the file that a data: URL holds; return its role (image or audio) and its place; None of other texts."""
    head = DATA_URL.match(text[:64])
    if head is None:
        return None
    role, called = ("audio", "recording") if head["audio"] else ("image", "picture")
    if len(text) > FILE:
        raise UserError(f"a {called} of at most 10 MB is needed", "this one is larger", "Make it smaller.")
    try:
        data = base64.b64decode(text[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError("a data: URL is needed", "its base64 is damaged", "Encode it again.") from error
    folder = received.folder()
    folder.mkdir(parents=True, exist_ok=True)
    suffix = {"mpeg": "mp3"}.get(head["audio"] or "", head["image"] or head["audio"] or "dcm")
    written.append(folder / f"api-{secrets.token_hex(8)}.{suffix}")
    written[-1].write_bytes(data)
    return role, str(written[-1])
