"""Where the Hub is, and whether it can be reached, asked before huggingface_hub spends minutes on finding out."""

from __future__ import annotations

import base64
import os
import threading
from urllib.parse import unquote, urlsplit

from hftransfer.errors import UserError
from hftransfer.safety import terminal

ENDPOINT = "https://huggingface.co"


def endpoint() -> str:
    """Return the address of the Hub as it is shown and published: no slash at its end, nobody's password in it."""
    return terminal.without_secrets((os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/"))


def page(repo: str, kind: str = "model") -> str:
    """Return the address of the page of a model or a dataset: the link to click in an error."""
    return f"{endpoint()}/{'' if kind == 'model' else f'{kind}s/'}{repo}"


def is_offline() -> bool:
    """Tell whether the user, or an earlier look, decided to do without the Hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def reachable(timeout: float = 3.0) -> bool:
    """Tell whether HF_ENDPOINT accepts a connection within `timeout` seconds, through the proxy if one is set."""
    answer: list[bool] = []
    # a thread, because looking a name up takes as long as the resolver likes, whatever a socket's timeout is
    thread = threading.Thread(target=lambda: answer.append(_connects(timeout)), daemon=True)
    thread.start()
    thread.join(timeout)
    return bool(answer) and answer[0]


def go_offline_if_unreachable(timeout: float = 3.0) -> bool:
    """Tell the Hub's libraries to use their caches alone when the Hub is out of reach; True when offline.

    The libraries read the variables when they are imported: call this before.
    """
    if not is_offline():
        if reachable(timeout):
            return False
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DATASETS_OFFLINE"] = "1"
    return True


def require_online(what: str, otherwise: str) -> None:
    """Raise UserError, before any client tries for long, when the Hub that `what` needs is out of reach."""
    if go_offline_if_unreachable():
        found = f"{endpoint()} cannot be reached, or HF_HUB_OFFLINE is set"
        raise UserError(f"{what} needs the Hub", found, f"Go online{otherwise}")


def _connects(timeout: float) -> bool:
    from http.client import HTTPConnection, HTTPException, HTTPSConnection
    from urllib.request import getproxies, proxy_bypass

    url = urlsplit(endpoint())
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    proxy = None if proxy_bypass(host) else getproxies().get(url.scheme)
    if proxy:
        via = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        kind = HTTPSConnection if via.scheme == "https" else HTTPConnection
        connection = kind(via.hostname or "", via.port, timeout=timeout)
        if url.scheme == "https":  # a proxy always answers; only the tunnel tells whether the Hub does
            connection.set_tunnel(host, port, _credentials(via.username, via.password))
    else:
        connection = HTTPConnection(host, port, timeout=timeout)
    try:
        connection.connect()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return True


def _credentials(user: str | None, password: str | None) -> dict[str, str]:
    if not user:
        return {}
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
