"""Where a request comes from: this app's own page or a program; another site's page gets no answer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
# What a link on another site may open: the page, and the sign-in, whose last step comes from the Hub.
DOCUMENTS = ("/", "/login/huggingface", "/login/callback")
FRAMES = "'self' https://huggingface.co"  # where the page of a Space is shown
READS = ("GET", "HEAD")


def refusal(method: str, path: str, headers: Mapping[str, str], space: bool) -> str | None:
    """Return why a request must not be answered; None for the app's own page and for programs.

    A browser says itself where a request comes from, and no page can change that: `Sec-Fetch-Site` with every
    request to https or this machine, `Origin` with every one that writes and with every one whose answer a page of
    another site could read. A program sends neither, and no session either: with one, a request that writes needs
    one of the two.
    """
    host = headers.get("host", "").lower()
    if not space and _name(host) not in (*LOCAL_HOSTS, *_named("HFTRANSFER_HOSTS")):
        return (
            f"a page of this app is needed, and {host[:80]!r} is no name of it (HFTRANSFER_HOSTS=name,name adds some)"
        )
    origin, site, mode = headers.get("origin"), headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
    if path in DOCUMENTS and method in READS and (mode == "navigate" or (mode is None and origin is None)):
        return None
    if origin is not None and not _is_own(origin, host):
        return f"the request comes from a page of {origin[:80]!r}, and this app answers its own page alone"
    if site not in (None, "none", "same-origin"):
        return "the request comes from a page of another site, and this app answers its own page alone"
    if space and method not in READS and origin is None and site is None and "session=" in headers.get("cookie", ""):
        return "a request with somebody's session must say where it comes from; a program sends a token instead"
    return None


def allow_host(name: str) -> None:
    """Let the local app answer under the address that it listens on; 0.0.0.0 is every address and no name."""
    known = _named("HFTRANSFER_HOSTS")
    os.environ["HFTRANSFER_HOSTS"] = ",".join(filter(None, dict.fromkeys([*known, "" if name == "0.0.0.0" else name])))


def _is_own(origin: str, host: str) -> bool:
    """Tell whether an origin is the address that was asked, or one that a proxy before the app answers under."""
    place = urlsplit(origin)
    named = (*_named("HFTRANSFER_HOSTS"), *_named("SPACE_HOST"))
    return place.scheme in ("http", "https") and (place.netloc.lower() == host or _name(place.netloc.lower()) in named)


def _name(host: str) -> str:
    return re.sub(r":\d+$", "", host)


def _named(variable: str) -> Iterable[str]:
    return [name.strip().lower() for name in os.environ.get(variable, "").split(",") if name.strip()]
