"""Text from data, files or the Hub, made harmless for a terminal: no sequence of it moves, hides or copies."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

# what a terminal obeys (C0 and C1 without tab and line feed, DEL), and what turns the order of letters around
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


# what stands before the host of an address, what signs it, and tokens of the Hub
SECRETS = re.compile(
    r"(?<=://)[^/@\s]+@|(?<=[?&])(?:X-Amz-(?:Signature|Credential|Security-Token)|Signature|sig|token)=[^&\s'\"]+"
    r"|\bhf_[A-Za-z0-9]{30,}"
)


def without_secrets(text: str) -> str:
    """Return a message without the passwords, signatures and tokens that addresses in it may carry."""
    return SECRETS.sub("", text)


def clean(text: str) -> str:
    """Return a text with every sign that a terminal would obey written out, as in `\\x1b`."""
    return OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


class Clean:
    """A stream that cleans what is written to it, and says it in its caller's words; `inner` takes it as it is."""

    def __init__(self, inner: TextIO, said: Callable[[str], str] = str) -> None:
        self.inner, self.said = inner, said

    def write(self, text: str) -> int:
        """Write a text, cleaned."""
        self.inner.write(self.said(clean(text)))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def raw(stream: TextIO) -> TextIO:
    """Return the stream behind a clean one."""
    return stream.inner if isinstance(stream, Clean) else stream


def words(stream: TextIO) -> Callable[[str], str]:
    """Return how a stream says a text that goes around its cleaning."""
    return stream.said if isinstance(stream, Clean) else str


@contextmanager
def cleaned(said: Callable[[str], str] = str) -> Iterator[None]:
    """Let standard output and standard error clean what is written to them; `said` puts it in other words."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, Clean(stream, said)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def open_streams() -> None:
    """Give a process without standard streams (`>&-`) some that lead nowhere: what it opens next would become one."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
