"""Whose token a program sends: the Hub says it, and who sends wrong ones is soon not asked about any more."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hftransfer.errors import UserError
from hftransfer.ui.shares import Shares

HEADERS = ("x-hf-authorization", "authorization")  # gradio_client sends the first
WRONG_PER_MINUTE = 10  # tokens of one sender that the Hub does not know, or not yet
UNANSWERED_PER_MINUTE = 60  # new tokens of one sender that the Hub had no answer to
ASKED_PER_MINUTE = 600  # new tokens of all senders
KNOWN_SECONDS = 300.0  # for which the Hub's word on a token counts
REMEMBERED_SECONDS = 7 * 24 * 3600.0  # for which a token that was good is asked about whatever else arrives
REFUSED = (401, 403)  # what the Hub answers to a token that is none
MOST = 10_000  # tokens that are remembered


class Unanswered(UserError):
    """The Hub did not say whose token it is: nothing is known of the token, good or bad."""

    def __init__(self) -> None:
        super().__init__("the Hub's word on this token is needed", "it cannot answer now", "Try again in a minute.")


@dataclass(frozen=True)
class Owner:
    """Whose token it is, as the Hub said at `at`."""

    name: str
    number: str | None  # of the account
    at: float


_owners: dict[str, Owner] = {}  # by the token's hash: no list of tokens lies in memory
_wrong = Shares(60.0)
_unanswered = Shares(60.0)
_lock = threading.Lock()


def sent(headers: Mapping[str, Any]) -> str | None:
    """Return the token that a program sends with its request."""
    for name in HEADERS:
        kind, _, token = str(headers.get(name) or "").partition(" ")
        if kind.lower() == "bearer" and re.fullmatch(r"[\x21-\x7e]{4,4096}", token):
            return token
    return None


def sender(headers: Mapping[str, Any], peer: str) -> str:
    """Return the address that a request came from: what the last proxy of the outside saw, or who connected.

    Proxies append; what a sender wrote in front of that is theirs to invent.
    """
    for text in reversed(str(headers.get("x-forwarded-for") or "").split(",")):
        try:
            if ipaddress.ip_address(text.strip()).is_global:
                return text.strip()
        except ValueError:
            break
    return peer


def known(token: str) -> Owner | None:
    """Return whose token it is when the Hub was asked of late."""
    with _lock:
        found = _owners.get(_key(token))
    return found if found is not None and found.at > time.monotonic() - KNOWN_SECONDS else None


def owner(token: str, sender: str) -> Owner:
    """Return whose token it is, and ask the Hub where it is not known; UserError when it is nobody's.

    Without limits anybody could make this machine ask the Hub without end; with one limit for all, anybody could
    use it up for all. So each sender has their own, of wrong tokens alone, and a token that was good has none. Where
    the Hub has no answer (Unanswered) nothing counts as wrong, and a token that was good stays one that was.
    """
    found = known(token)
    if found is not None:
        return found
    with _lock:
        remembered = _key(token) in _owners
    if not remembered:
        _take(sender)
    wrong, answered = True, True
    try:
        found = _asked(token)
        wrong = False
    except Unanswered:
        wrong = answered = False
        raise
    except UserError:
        with _lock:
            _owners.pop(_key(token), None)  # revoked
        raise
    finally:
        if not remembered and not wrong:
            _wrong.give_back(sender)
        if not remembered and answered:
            _unanswered.give_back(sender)
    _remember(token, found)
    return found


def _take(sender: str) -> None:
    """Count a try as a wrong one and as one without an answer, until it is known which; UserError where it may not."""
    if not _unanswered.take(sender, 1, UNANSWERED_PER_MINUTE, ASKED_PER_MINUTE):
        raise Unanswered
    if not _wrong.take(sender, 1, WRONG_PER_MINUTE, ASKED_PER_MINUTE):
        _unanswered.give_back(sender)
        raise UserError("a known token is needed", "too many wrong ones came from you", "Try again in a minute.")


def _remember(token: str, found: Owner) -> None:
    limit = time.monotonic() - REMEMBERED_SECONDS
    with _lock:
        _owners[_key(token)] = found
        for old in [key for key, one in _owners.items() if one.at < limit]:
            del _owners[old]
        while len(_owners) > MOST:
            del _owners[min(_owners, key=lambda key: _owners[key].at)]


def _key(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _asked(token: str) -> Owner:
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        found = HfApi(token=token).whoami()
    except HfHubHTTPError as error:
        if error.response.status_code not in REFUSED:
            raise Unanswered from error
        raise UserError("a valid Hub token is needed", "the Hub refuses this one", "Make a new one.") from error
    except (HTTPError, OSError, ValueError) as error:  # no connection, or no JSON from whoever answers in its place
        raise Unanswered from error
    if found.get("type") != "user" or not found.get("name"):
        raise UserError("the token of a user is needed", f"this is one of an {found.get('type')}", "Use your own.")
    return Owner(found["name"], found.get("id"), time.monotonic())
