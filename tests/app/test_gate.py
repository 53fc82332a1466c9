"""The gate's rules one by one: whose page asks, which routes there are, what a body may hold, and what shares are."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError
from starlette.requests import Request

from hftransfer.errors import UserError
from hftransfer.hub import connection
from hftransfer.ui import disk, gate, markup, published, same_origin, tokens, visitors
from hftransfer.ui.gate import involved
from hftransfer.ui.same_origin import refusal
from hftransfer.ui.settings import Settings
from hftransfer.ui.shares import Shares

JOIN = ("POST", "/gradio_api/queue/join")
SPACE = "owner-space.hf.space"
OWN = {"host": SPACE, "origin": f"https://{SPACE}", "cookie": "session=x"}
AWAY = {"host": SPACE, "origin": "https://evil.example", "cookie": "session=x"}


@pytest.mark.parametrize(
    ("asked", "headers"),
    [
        (JOIN, AWAY),
        (JOIN, {**AWAY, "origin": "null"}),
        (JOIN, {**AWAY, "origin": f"https://{SPACE}.evil.example"}),
        (JOIN, {**AWAY, "origin": f"https://evil.example/{SPACE}"}),
        (JOIN, {**AWAY, "origin": f"https://{SPACE}:8443"}),
        (JOIN, {**AWAY, "origin": f"ftp://{SPACE}"}),
        (JOIN, {**OWN, "sec-fetch-site": "cross-site"}),
        (JOIN, {"host": SPACE, "cookie": "a=b; session=x"}),
        (JOIN, {**AWAY, "authorization": "Bearer hf_x"}),
        (("GET", "/gradio_api/queue/data"), {"host": SPACE, "sec-fetch-site": "same-site"}),
        (("GET", "/config"), AWAY),
        (("GET", "/"), {**AWAY, "sec-fetch-mode": "cors"}),
        (("GET", "/"), AWAY),
        (("GET", "/logout"), {"host": SPACE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}),
    ],
)
def test_a_page_of_another_site_is_refused(asked: tuple[str, str], headers: dict[str, str]) -> None:
    assert refusal(*asked, headers, space=True)


@pytest.mark.parametrize(
    ("asked", "headers"),
    [
        (JOIN, OWN),
        (JOIN, {**OWN, "sec-fetch-site": "same-origin"}),
        (JOIN, {"host": SPACE, "cookie": "session=x", "sec-fetch-site": "same-origin"}),
        (JOIN, {"host": SPACE, "authorization": "Bearer hf_x"}),
        (JOIN, {"host": SPACE}),
        (("GET", "/gradio_api/queue/data"), {"host": SPACE, "cookie": "session=x"}),
        (("GET", "/"), {"host": SPACE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}),
        (("GET", "/login/callback"), {"host": SPACE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}),
        (("GET", "/"), {"host": SPACE, "sec-fetch-site": "none", "sec-fetch-mode": "navigate"}),
    ],
)
def test_the_own_page_a_link_and_a_program_are_answered(asked: tuple[str, str], headers: dict[str, str]) -> None:
    assert refusal(*asked, headers, space=True) is None


def test_a_proxy_that_calls_the_space_by_another_name_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {**OWN, "host": "10.1.2.3:7860"}
    assert refusal(*JOIN, headers, space=True)
    monkeypatch.setenv("SPACE_HOST", f"models.example, {SPACE}")
    assert refusal(*JOIN, headers, space=True) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:7860"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "127.0.0.1:7860", "origin": "https://evil.example"},
        {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:8000"},
        {"host": "localhost:7860", "origin": "null"},
        {"host": ""},
        {},
    ],
)
def test_another_site_does_not_act_as_the_local_visitor(headers: dict[str, str]) -> None:
    assert refusal(*JOIN, headers, space=False)
    assert "origin" in headers or refusal("GET", "/", headers, space=False), "a name that leads here by DNS"


@pytest.mark.parametrize(
    "headers", [{"host": "localhost:7860", "origin": "http://localhost:7860"}, {"host": "[::1]:7860"}]
)
def test_the_own_page_acts_as_the_local_visitor(headers: dict[str, str]) -> None:
    assert refusal(*JOIN, headers, space=False) is None


def test_a_host_that_the_user_named_is_the_own_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HFTRANSFER_HOSTS", "box.lan,other")
    assert refusal(*JOIN, {"host": "box.lan:7860"}, space=False) is None
    same_origin.allow_host("192.168.1.5")
    same_origin.allow_host("0.0.0.0")
    assert os.environ["HFTRANSFER_HOSTS"] == "box.lan,other,192.168.1.5"
    assert refusal(*JOIN, {"host": "192.168.1.5:7860"}, space=False) is None


# --- bodies ---


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"{}," * 50_000 + b"{}]",
        b"[" + b'"",' * 50_000 + b'""]',
        b"[" + b"1," * 50_000 + b"1]",
        b"[" * 100 + b"]" * 100,
        b'{"a":' * 100 + b"1" + b"}" * 100,
        json.dumps(["x"]).encode("utf-16"),
        b'"' + b'\\"' * 50_000 + b'" [' + b"{}," * 50_000,
        b'["a' + b"\\\\" * 3 + b'", ' + b"{}," * 50_000 + b"{}]",
    ],
)
def test_json_of_many_values_is_not_parsed(body: bytes) -> None:
    assert involved(body)


@pytest.mark.parametrize(
    "value",
    [
        {"data": ["A" * 2**22], "fn_index": 1},
        {"data": [['a text, with {signs} [and], "quotes" \\ ' * 300] * 2_000]},
        {"data": ['\\"[{' * 50_000]},
        [],
        "ü",
    ],
)
def test_what_people_send_is_parsed(value: Any) -> None:
    began = time.perf_counter()
    assert involved(json.dumps(value).encode()) is None
    assert time.perf_counter() - began < 5


def test_a_string_without_an_end_is_looked_at_once() -> None:
    began = time.perf_counter()
    assert involved(b'["' + b'\\"' * 2**20) is None
    assert time.perf_counter() - began < 5, "not once for every quotation mark"


@pytest.mark.parametrize(
    ("asked", "fetched"),
    [
        ({"data": [{"path": "https://example.org/10GB.csv", "meta": {"_type": "gradio.FileData"}}]}, True),
        ({"data": [[{"path": "HTTP://10.0.0.1/a", "url": "x"}]]}, True),
        ({"data": [{"a": {"path": " \thttp://example.org"}}]}, True),
        ({"data": [{"path": "/tmp/gradio/0123/rows.csv", "url": "http://127.0.0.1:7860/gradio_api/file=x"}]}, False),
        ({"data": ["path: https://example.org"]}, False),
        ("https://example.org", False),
    ],
)
def test_a_file_at_an_address_is_not_fetched(asked: Any, fetched: bool) -> None:
    assert gate.names_an_address(asked) is fetched


# --- shares ---


@pytest.mark.parametrize(
    ("method", "path", "there"),
    [
        ("GET", "/", True),
        ("POST", f"/gradio_api/stream/{'0af9' * 8}", True),
        ("POST", f"/gradio_api/stream/{'0af9' * 8}/close", True),
        ("GET", f"/gradio_api/stream/{'0af9' * 8}", False),
        ("POST", "/gradio_api/stream/a/b/1/playlist.m3u8", False),
        ("POST", "/gradio_api/stream/../upload", False),
        ("GET", "/gradio_api/file=https://elsewhere", False),
        ("GET", "/gradio_api/component_server", False),
    ],
)
def test_what_there_is(method: str, path: str, there: bool) -> None:
    assert gate.served(method, path) == there


def test_a_share_is_free_again_after_its_time() -> None:
    now = [0.0]
    shares = Shares(60.0, clock=lambda: now[0])
    assert shares.take("a", 6, own=10) and not shares.take("a", 6, own=10)
    assert shares.take("b", 6, own=10, everybody=12) and not shares.take("c", 1, own=10, everybody=12)
    now[0] = 60.0
    assert shares.take("a", 10, own=10)
    shares.give_back("a")
    assert shares.take("a", 10, own=10)


def test_a_session_and_a_vouched_token_have_shares_of_their_own(
    space: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = gate.Gate(None, space)
    who = {"preferred_username": "alice", "sub": "64a1"}

    def whose(session: dict[str, Any], **headers: str) -> str:
        return door._who({"session": session}, headers)

    monkeypatch.setattr(tokens, "_owners", {tokens._key("hf_good"): tokens.Owner("bob", "64b2", time.monotonic())})
    assert whose({"oauth_info": {"userinfo": who, "expires_at": time.time() + 60}}) == "alice~64a1"
    assert whose({"oauth_info": {"userinfo": who, "expires_at": time.time() - 1}}) == ""
    assert whose({}, authorization="Bearer hf_good") == "bob~64b2"
    assert whose({}, authorization="Bearer hf_other") == "", "a token that nobody vouched for is a guest's"


# --- bodies of files ---

FORM = b'--frontier\r\ncontent-disposition: form-data; name="files"; filename="%d.csv"\r\n\r\n%b\r\n'
END = b"--frontier--\r\n"


def brought(settings: Settings, pieces: Iterable[bytes], **headers: str) -> tuple[int, int]:
    """Send a body in pieces through the gate, which say how long they are by a header or not at all.

    Return the status of the answer, and how many bytes got through.
    """
    waiting, through, answers = iter(pieces), bytearray(), []
    words = {"host": SPACE, "content-type": "multipart/form-data; boundary=frontier", **headers}

    async def receive() -> gate.Message:
        piece = next(waiting, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(message: gate.Message) -> None:
        answers.extend([message["status"]] if message["type"] == "http.response.start" else [])

    async def app(scope: gate.Message, receive: Any, send: Any) -> None:
        async for piece in Request(scope, receive).stream():
            through.extend(piece)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    scope = {
        "type": "http", "method": "POST", "path": gate.FILES, "session": {}, "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in words.items()],
    }  # fmt: skip
    asyncio.run(gate.Gate(app, settings)(scope, receive, send))
    (status,) = answers
    return status, len(through)


def test_a_body_that_does_not_say_its_length_takes_of_the_share_as_it_comes(space: Settings) -> None:
    settings = replace(space, received_mb=80)  # of which guests have 20
    streamed = [FORM % (1, b""), *[bytes(2**16)] * 144, END]  # 9 MB
    answers = [brought(settings, streamed, transfer_encoding="chunked") for _ in range(4)]
    assert [status for status, _ in answers] == [200, 200, 507, 507]
    assert sum(count for _, count in answers) <= 20 * 2**20
    assert brought(settings, [FORM % (1, b"x"), END], content_length=str(2**20))[0] == 507, "it is the same share"
    assert brought(replace(space, received_mb=0), [bytes(2**20)] * 12)[0] == 413


def test_a_body_that_is_longer_than_it_said_takes_of_the_share(space: Settings) -> None:
    settings = replace(space, received_mb=80)
    answers = [brought(settings, [bytes(2**20)] * 9, content_length="10")[0] for _ in range(3)]
    assert answers == [200, 200, 507]


def test_a_body_that_says_its_length_is_paid_for_once(space: Settings) -> None:
    settings = replace(space, received_mb=80)
    whole = [FORM % (1, bytes(9 * 2**20)), END]
    length = str(sum(map(len, whole)))
    assert [brought(settings, whole, content_length=length)[0] for _ in range(3)] == [200, 200, 507]


@pytest.mark.parametrize("size", [1, 7, 100, 2**20])
def test_every_file_counts_as_a_place_however_the_form_is_cut_into_pieces(space: Settings, size: int) -> None:
    settings = replace(space, received_mb=44)  # of which guests have 11: 704 places
    files = [b"".join(FORM % (number, b"x") for number in range(count)) + END for count in (300, 500)]
    few, many = ([whole[at : at + size] for at in range(0, len(whole), size)] for whole in files)
    assert brought(settings, few, content_length=str(len(files[0])))[0] == 200
    assert brought(settings, many, content_length=str(len(files[1])))[0] == 507


def test_a_file_counts_as_a_place_however_its_name_is_written(space: Settings) -> None:
    settings = replace(space, received_mb=44)
    for words in (b"FileName=", b"filename ="):
        whole = b"".join(FORM % (number, b"x") for number in range(800)).replace(b"filename=", words) + END
        assert brought(settings, [whole], content_length=str(len(whole)))[0] == 507


# --- what arrived ---


def test_received_files_that_nobody_took_are_deleted_with_their_folders(received: Path) -> None:
    from hftransfer.ui import received as files

    for name in ("old", "new"):
        (received / name / "deeper").mkdir(parents=True)
        (received / name / "deeper" / "file").write_text("x")
    os.utime(received / "old" / "deeper" / "file", (0, 0))
    files.sweep()
    assert not (received / "old" / "deeper" / "file").exists()
    files.sweep(time.time() + files.MADE * 2)
    assert [path.name for path in received.iterdir()] == ["new"]
    lent = files.place("answers.csv")
    lent.write_text("x")
    files.sweep()
    assert lent.is_file()
    files.sweep(time.time() + 2 * files.STALE)
    files.sweep(time.time() + 3 * files.STALE)
    assert not list(received.iterdir()) and received.is_dir()


def test_small_files_and_folders_count_as_places_on_the_disk(tmp_path: Path) -> None:
    for number in range(64):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "file").write_text("x")
    assert disk.used_mb(tmp_path) == pytest.approx(128 * disk.INODE / 2**20)


def test_what_turns_the_order_of_words_around_is_left_out() -> None:
    assert markup.text("gpj.\u202egnp <b>\u2066x\u2069") == "gpj.gnp &lt;b&gt;x"
    assert markup.text("שלום\u200f!") == "שלום\u200f!", "marks of languages that are written so stay"


# --- tokens of programs ---


def asked(address: str = "", **headers: str) -> Any:
    words = {name.replace("_", "-"): value for name, value in headers.items()}
    return SimpleNamespace(headers=words, client=SimpleNamespace(host=address) if address else None)


def answered(status: int) -> HfHubHTTPError:
    """Return what huggingface_hub raises for an answer of that status."""
    request = httpx2.Request("GET", "https://huggingface.co/api/whoami-v2")
    return HfHubHTTPError("no", response=httpx2.Response(status, request=request))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the tokens that the Hub was asked about; hf_carol and hf_dave are good ones."""
    calls: list[str] = []

    def whoami(self: Any) -> dict[str, Any]:
        calls.append(self.token)
        if self.token == "hf_org":
            return {"type": "org", "name": "company"}
        if self.token not in ("hf_carol", "hf_dave"):
            raise answered(401)
        return {"type": "user", "name": self.token[3:], "id": "64c3"}

    monkeypatch.setattr(huggingface_hub.HfApi, "whoami", whoami)
    monkeypatch.setattr(tokens, "_owners", {})
    monkeypatch.setattr(tokens, "_wrong", Shares(60.0))
    monkeypatch.setattr(tokens, "_unanswered", Shares(60.0))
    return calls


def test_a_program_is_who_the_hub_says_its_token_is(space: Settings, hub: list[str]) -> None:
    for headers in (
        {"authorization": "Bearer hf_carol"},
        {"x-hf-authorization": "Bearer hf_carol", "authorization": "Bearer x"},
    ):
        carol = visitors.of(asked(**headers), None, None, space)
        assert (carol.name, carol.token, carol.folder.name) == ("carol", "hf_carol", "carol~64c3")
    assert hub == ["hf_carol"], "the Hub is asked once"
    assert "hf_carol" not in str(tokens._owners)
    with pytest.raises(UserError, match="token of a user"):
        visitors.of(asked(authorization="Bearer hf_org"), None, None, space)
    assert visitors.of(asked(authorization="Basic Zm9v"), None, None, space).anonymous
    assert visitors.of(asked(authorization="Bearer hf\n_x"), None, None, space).anonymous


def test_wrong_tokens_lock_out_whoever_sends_them_and_nobody_else(
    space: Settings, hub: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert visitors.of(asked("8.8.4.4", authorization="Bearer hf_dave"), None, None, space).name == "dave"
    for number in range(200):  # one sender, who writes another address in front each time
        forwarded = f"9.9.9.{number}, 8.8.8.8, 10.0.0.1"
        with pytest.raises(UserError):
            visitors.of(
                asked("10.0.0.2", authorization=f"Bearer hf_{number}", x_forwarded_for=forwarded), None, None, space
            )
    assert len(hub) == 1 + tokens.WRONG_PER_MINUTE
    with pytest.raises(UserError, match="too many wrong ones"):
        visitors.of(asked(authorization="Bearer hf_carol", x_forwarded_for="8.8.8.8"), None, None, space)
    other = asked("10.0.0.2", authorization="Bearer hf_carol", x_forwarded_for="8.8.4.4, 10.0.0.1")
    assert visitors.of(other, None, None, space).name == "carol"
    monkeypatch.setattr(tokens, "KNOWN_SECONDS", -1.0)
    again = asked(authorization="Bearer hf_dave", x_forwarded_for="8.8.8.8")
    assert visitors.of(again, None, None, space).name == "dave", "a token that was good is asked about from anywhere"


def test_good_tokens_are_not_counted(space: Settings, hub: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3 * tokens.WRONG_PER_MINUTE):
        monkeypatch.setattr(tokens, "_owners", {})
        assert visitors.of(asked("8.8.8.8", authorization="Bearer hf_carol"), None, None, space).name == "carol"


@pytest.mark.parametrize("error", [answered(429), answered(500), answered(503), OSError("no way"), ValueError("HTML")])
def test_a_hub_that_cannot_answer_makes_no_token_wrong(
    space: Settings, hub: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def ask(token: str) -> str:
        return str(visitors.of(asked("8.8.8.8", authorization=f"Bearer {token}"), None, None, space).name)

    assert ask("hf_dave") == "dave"
    known = dict(tokens._owners)
    good = huggingface_hub.HfApi.whoami

    def whoami(self: Any) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(tokens, "KNOWN_SECONDS", -1.0)
    monkeypatch.setattr(huggingface_hub.HfApi, "whoami", whoami)
    for token in ["hf_carol", "hf_dave"] * 2 * tokens.WRONG_PER_MINUTE:
        with pytest.raises(UserError, match=r"cannot answer now. Try again in a minute\."):
            ask(token)
    assert tokens._owners == known, "a token that was good stays one"
    monkeypatch.setattr(huggingface_hub.HfApi, "whoami", good)
    assert (ask("hf_carol"), ask("hf_dave")) == ("carol", "dave")


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_the_hub_refuses_is_forgotten_and_counts(
    space: Settings, hub: list[str], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    def ask() -> None:
        visitors.of(asked("8.8.8.8", authorization="Bearer hf_dave"), None, None, space)

    def whoami(self: Any) -> dict[str, Any]:
        raise answered(status)

    ask()
    monkeypatch.setattr(tokens, "KNOWN_SECONDS", -1.0)
    monkeypatch.setattr(huggingface_hub.HfApi, "whoami", whoami)
    for _ in range(1 + tokens.WRONG_PER_MINUTE):
        with pytest.raises(UserError, match="Make a new one"):
            ask()
        assert not tokens._owners
    with pytest.raises(UserError, match="too many wrong ones"):
        ask()


def test_a_hub_that_cannot_answer_is_not_asked_without_end(
    space: Settings, hub: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def whoami(self: Any) -> dict[str, Any]:
        hub.append(self.token)
        raise answered(429)

    monkeypatch.setattr(huggingface_hub.HfApi, "whoami", whoami)
    for number in range(2 * tokens.UNANSWERED_PER_MINUTE):
        with pytest.raises(UserError, match="cannot answer now"):
            visitors.of(asked("8.8.8.8", authorization=f"Bearer hf_{number}"), None, None, space)
    assert len(hub) == tokens.UNANSWERED_PER_MINUTE


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "no hftransfer.json"), (403, "no hftransfer.json"), (429, "Try again later"), (503, "Try again later")],
)
def test_settings_of_a_published_model_are_missing_only_where_the_hub_says_so(
    monkeypatch: pytest.MonkeyPatch, status: int, words: str
) -> None:
    client = httpx2.Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(status)))
    monkeypatch.setattr(connection, "is_offline", lambda: False)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", lambda: client)
    with pytest.raises(UserError, match=words):
        published.settings("owner/model")
