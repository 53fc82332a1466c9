"""Whether the Hub is there, found out within seconds: directly, through a proxy, and when nobody answers."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from hftransfer.hub import connection


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "")  # set first, so that what the code sets is taken back


@pytest.fixture
def server() -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers a CONNECT for good.example alone; yields its address and what it was asked."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(1)
                try:
                    asked.append(connection.recv(4096))
                    good = asked[-1].startswith(b"CONNECT good.example:443")
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" if good else b"HTTP/1.1 502 Bad\r\n\r\n")
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}", asked
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(2)


def test_a_server_that_listens_is_reachable(server: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://{server[0]}")
    assert connection.reachable()
    assert not connection.go_offline_if_unreachable()
    assert os.environ["HF_HUB_OFFLINE"] == ""


def test_a_closed_port_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    assert connection.go_offline_if_unreachable()
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["HF_DATASETS_OFFLINE"] == "1"


@pytest.mark.parametrize(("host", "answer"), [("good.example", True), ("bad.example", False)])
def test_a_proxy_is_asked_for_the_tunnel(
    server: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch, host: str, answer: bool
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"https://{host}")
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@{server[0]}")
    assert connection.reachable() is answer
    assert server[1][0].startswith(f"CONNECT {host}:443".encode())
    assert b"Proxy-Authorization: Basic bWU6cEBzcw==" in server[1][0]


def test_a_host_in_no_proxy_is_asked_directly(
    server: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://{server[0]}")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert connection.reachable()


def test_a_resolver_that_hangs_costs_no_more_than_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1) or [])
    began = time.monotonic()
    assert not connection.reachable(timeout=0.2)
    assert time.monotonic() - began < 0.8


def test_an_offline_user_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(connection, "reachable", lambda timeout: pytest.fail("asked"))
    assert connection.go_offline_if_unreachable()
    assert os.environ["HF_DATASETS_OFFLINE"] == "1"
