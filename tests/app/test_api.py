"""The endpoints for programs, as gradio_client sees them, on a laptop and on a Space."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from PIL import Image
from starlette.middleware import Middleware

from hftransfer.runs import Run
from hftransfer.ui import api, tokens, visitors
from hftransfer.ui.gate import Gate
from hftransfer.ui.queueing import Queue
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from tests.app.test_queueing import Pretended

TREE = "task: text-classification\nmodel: owner/model\ndata: {source: owner/rows}\n"


class Asked:
    """Workers that note what they were asked, admitted by the real rules."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.seen = settings, []  # type: ignore[var-annotated]

    def call(self, visitor: Visitor, function: str, timeout: float | None = None, **arguments: Any) -> Any:
        files = [value.get("image") or value.get("audio") for value in arguments["inputs"] if isinstance(value, dict)]
        pictures = [Path(file).read_bytes()[:4] for file in files if file]
        self.seen.append((visitor.name, function, arguments, pictures))
        return [{"input": "x", "label": "good", "score": 0.9, "scores": {"good": 0.9}} for _ in arguments["inputs"]]


@pytest.fixture
def served(space: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any, Asked, Pretended]]:
    """Serve a Space's endpoints, and tell who is who without a Hub."""
    known = {"hf_alice_token": ("alice", "64a1"), "hf_bob_token": ("bob", "64b2")}

    now = time.monotonic()
    owners = {tokens._key(token): tokens.Owner(*who, now) for token, who in known.items()}
    monkeypatch.setattr(tokens, "_owners", owners)
    launcher, workers = Pretended(), Asked(space)
    queue = Queue(space, launcher)
    with gr.Blocks(analytics_enabled=False) as blocks:
        box = gr.Textbox()
        box.change(lambda text: text, box, box, api_visibility="private")
        api.add(space, queue, workers)  # type: ignore[arg-type]
    _, url, _ = blocks.launch(
        prevent_thread_lock=True, quiet=True, ssr_mode=False, show_error=False,
        app_kwargs={"middleware": [Middleware(Gate, settings=space)]},
    )  # fmt: skip
    yield url, queue, workers, launcher
    blocks.close()


def client(url: str, token: str | None = None) -> Client:
    return Client(url, token=token or False, verbose=False)  # type: ignore[arg-type]


def test_four_endpoints_are_chosen_typed_and_described(served: Any) -> None:
    found = client(served[0]).view_api(return_format="dict", print_info=False)

    assert set(found["named_endpoints"]) == {"/start", "/status", "/stop", "/predict"}
    assert not found["unnamed_endpoints"]
    names = {p["parameter_name"]: p["python_type"]["type"] for p in found["named_endpoints"]["/predict"]["parameters"]}
    assert names == {"where": "str", "inputs": "list[str | dict(str, str)]", "top_k": "int"}
    names = {p["parameter_name"]: p["python_type"]["type"] for p in found["named_endpoints"]["/start"]["parameters"]}
    assert list(names) == ["config", "processes", "on", "options"]
    schema = httpx.get(served[0] + "gradio_api/info").json()["named_endpoints"]["/start"]
    assert "Start a training run" in json.dumps(schema)


def test_a_program_starts_watches_and_stops_its_own_run(served: Any) -> None:
    url, queue, _, _ = served
    alice, bob = client(url, "hf_alice_token"), client(url, "hf_bob_token")
    started = alice.predict(TREE, 1, "local", {}, api_name="/start")
    assert started["place"] == 1
    with pytest.raises(AppError, match="flavor"):
        alice.predict(TREE, 0, "jobs", {"flavour": "t4-small"}, api_name="/start")

    seen = alice.predict(started["run"], 0, api_name="/status")
    assert (seen["state"], seen["place"]) == ("created", 1)
    assert [event["type"] for event in seen["events"]] == ["created", "queued"]
    for name, arguments in (("/status", (started["run"], 0)), ("/stop", (started["run"],))):
        with pytest.raises(AppError, match="one of your runs"):
            bob.predict(*arguments, api_name=name)
    alice.predict(started["run"], api_name="/stop")
    assert alice.predict(started["run"], seen["cursor"], api_name="/status")["state"] == "stopped"
    assert "hf_alice" not in json.dumps(
        [run.events()[0] for run in queue.runs(visitors.user(queue.settings, "alice", "t", "64a1"))]
    )


def test_without_a_token_nothing_starts(served: Any) -> None:
    with pytest.raises(AppError, match="Sign in"):
        client(served[0]).predict(TREE, 1, api_name="/start")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("task: &a [x]\nmodel: *a", "alias"),
        ("task: text-classification\nmodel: /etc\ndata: {source: /etc/passwd}", "out of reach"),
        ("task: text-classification\nmodel: a/b\ndata: {source: a/b}\nallow_pickle: true", "pickled"),
        ("[" * 5000, "nested"),
    ],
)
def test_hostile_configurations_are_refused_here_too(config: str, words: str, served: Any) -> None:
    with pytest.raises(AppError, match=words):
        client(served[0], "hf_alice_token").predict(config, 1, api_name="/start")


def test_more_processes_than_allowed_are_refused(served: Any) -> None:
    with pytest.raises(AppError, match="processes"):
        client(served[0], "hf_alice_token").predict(TREE, 64, api_name="/start")


def test_what_is_no_number_of_processes_is_refused_for_every_place(served: Any) -> None:
    alice = client(served[0], "hf_alice_token")
    for count in (-1, 65, 1.5, True, "8", [1]):
        for place in ("jobs", "local"):
            with pytest.raises(AppError, match="from 0 to 64"):
                alice.predict(TREE, count, place, {}, api_name="/start")


def test_predictions_of_texts_and_pictures(served: Any, received: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 3)).save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    (answer, _) = client(served[0]).predict("owner/model", ["a text", url], 2, api_name="/predict")

    assert answer["label"] == "good"
    name, function, arguments, pictures = served[2].seen[-1]
    assert (name, function, arguments["where"], arguments["top_k"]) == ("", "predict", "owner/model", 2)
    assert pictures == [b"\x89PNG"]
    assert not list(received.glob("api-*")), "lent for one question"


def test_predictions_of_recordings_and_of_several_texts(served: Any, received: Path) -> None:
    url = "data:audio/{};base64," + base64.b64encode(b"RIFF and so on").decode()
    pair = {"question": "who?", "context": "Ada"}
    given = [url.format("wav"), {"audio": url.format("mpeg")}, pair]
    client(served[0]).predict("owner/model", given, 2, api_name="/predict")

    _, _, arguments, recordings = served[2].seen[-1]
    assert recordings == [b"RIFF", b"RIFF"] and arguments["inputs"][2] == pair
    assert [Path(value["audio"]).suffix for value in arguments["inputs"][:2]] == [".wav", ".mp3"]
    assert not list(received.glob("api-*"))


@pytest.mark.parametrize(
    "given",
    [
        {"image": "/etc/passwd"},
        {"audio": "/tmp/gradio/another/one.wav"},
        {"table": "rows.csv"},
        {"text": "data:image/png;base64,aGVsbG8="},
        {"table": "data:image/png;base64,aGVsbG8="},
        {"image": "data:audio/wav;base64,aGVsbG8="},
        {},
        {"text": ["a text"]},
    ],
)
def test_what_a_program_names_is_no_path_and_no_other_thing(given: Any, served: Any, received: Path) -> None:
    with pytest.raises(AppError, match="needed"):
        client(served[0]).predict("owner/model", [given], 1, api_name="/predict")
    assert not served[2].seen and not list(received.glob("api-*"))


@pytest.mark.parametrize("url", ["data:image/png;base64,###", "data:image/png;base64," + "A" * (14 * 2**20 + 2**18)])
def test_damaged_and_large_pictures_are_refused(url: str, served: Any, received: Path) -> None:
    with pytest.raises(AppError, match="needed"):
        client(served[0]).predict("owner/model", [url], 1, api_name="/predict")
    assert not list(received.glob("api-*"))


def test_no_file_of_a_visitor_or_of_the_machine_is_served(served: Any, alice: Visitor, space: Settings) -> None:
    url = served[0]
    secret = alice.uploads / "rows.csv"
    secret.parent.mkdir(parents=True)
    secret.write_text("text,label\nsecret,1\n")
    (space.root / "users").mkdir(exist_ok=True)

    paths = [
        str(secret),
        "/etc/passwd",
        "/proc/self/environ",
        f"{secret.parent}/../uploads/rows.csv",
        str(space.root / ".queue"),
    ]
    for path in paths:
        for route in ("gradio_api/file=", "file=", "gradio_api/file/"):
            answer = httpx.get(url + route + path)
            assert answer.status_code >= 400 or "secret" not in answer.text, route + path
            assert "root:" not in answer.text and "SecretToken" not in answer.text


def test_a_file_of_the_machine_is_no_upload_of_a_program(served: Any, alice: Visitor) -> None:
    body = {"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, ["x"], 1]}
    answer = httpx.post(served[0] + "gradio_api/call/predict", json=body)
    assert "root:" not in answer.text


def test_no_address_is_fetched_or_led_to(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio fetches a file that is named by an address, of any size, and leads to any address called a file."""
    fetched = []

    async def fetch(url: str) -> Any:
        fetched.append(url)
        raise ValueError

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_get", fetch)
    file = {"path": "https://example.org/10GB.csv", "meta": {"_type": "gradio.FileData"}}
    written = json.dumps({"data": [file], "fn_index": 0, "session_hash": "x"})
    for body in (written, written.replace("path", "p\\u0061th").replace("https", "\\u0068ttps")):
        for route in ("queue/join", "call/predict", "run/predict"):
            headers = {"content-type": "application/json"}
            answer = httpx.post(f"{served[0]}gradio_api/{route}", content=body, headers=headers)
            assert answer.status_code == 403 and "not fetched" in answer.text, route
    assert not fetched
    for address in ("https://example.org/", "http:%2F%2Fexample.org", "HTTPS://example.org", "%20https://example.org"):
        assert httpx.get(f"{served[0]}gradio_api/file={address}").status_code in (403, 404), address


def test_many_events_come_in_parts(served: Any) -> None:
    url, _, _, _ = served
    alice = client(url, "hf_alice_token")
    name = alice.predict(TREE, 1, api_name="/start")["run"]
    run: Run = visitors.find(visitors.user(served[1].settings, "alice", "t", "64a1"), name)
    for step in range(700):
        run.event("step", step=step)
    first = alice.predict(name, 0, api_name="/status")
    rest = alice.predict(name, first["cursor"], api_name="/status")
    steps = [event["step"] for event in first["events"] + rest["events"] if event["type"] == "step"]
    assert steps == list(range(700))
    assert rest["cursor"] == run.events_path.stat().st_size


def test_mcp_is_asked_for_by_name_and_has_the_same_four(space: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not api.mcp_wanted(space)
    monkeypatch.setenv("HFTRANSFER_MCP", "1")
    assert api.mcp_wanted(space)
    senders = []

    def owner(token: str, sender: str) -> tokens.Owner:
        senders.append(sender)
        return tokens.Owner(token.split("_")[1], "64a1", 0.0)

    monkeypatch.setattr(tokens, "owner", owner)
    # gradio's MCP server asks the app through gradio_client, which sends whatever token it finds: the owner's
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    visitors.forget_owner(space)
    with gr.Blocks(analytics_enabled=False) as blocks:
        box = gr.Textbox()
        box.change(lambda text: text, box, box, api_visibility="private")
        api.add(space, Queue(space, Pretended()), Asked(space))  # type: ignore[arg-type]
    _, url, _ = blocks.launch(
        prevent_thread_lock=True, quiet=True, ssr_mode=False, mcp_server=api.mcp_wanted(space),
        app_kwargs={"middleware": [Middleware(Gate, settings=space)]},
    )  # fmt: skip

    async def ask(token: str | None) -> list[Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers["X-Forwarded-For"] = "8.8.8.8"
        async with (
            httpx.AsyncClient(headers=headers, timeout=30) as client,
            streamable_http_client(f"{url}gradio_api/mcp/", http_client=client) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            names = [tool.name for tool in (await session.list_tools()).tools]
            return [names, await session.call_tool("start", {"config": TREE, "processes": 1})]

    try:
        names, started = asyncio.run(ask("hf_alice_token"))
        assert names == ["start", "status", "stop", "predict"]
        assert not started.isError and "'place': 1" in started.content[0].text
        assert set(senders) == {"8.8.8.8"}, "who asks through MCP is who is counted"
        _, refused = asyncio.run(ask(None))
        assert refused.isError and "Sign in" in refused.content[0].text
    finally:
        blocks.close()
