"""Calls to the Hub that are made again, with growing pauses, when what went wrong may pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from hftransfer.errors import UserError
from hftransfer.hub.connection import endpoint
from hftransfer.safety import terminal

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

T = TypeVar("T")

PASSING = (408, 429, 500, 502, 503, 504)  # answers that another try may turn into a good one
PAUSES = (1.0, 3.0, 9.0)  # seconds before each further try; huggingface_hub makes tries of its own inside most calls
LONGEST = 60.0  # seconds that a server's Retry-After is obeyed for


def insist(call: Callable[[], T], tell: Callable[[str], object] = lambda message: None) -> T:
    """Make the call, and make it again after each of PAUSES while it fails with what may pass; `tell` why.

    Raises the last error as it is.
    """
    for pause in PAUSES:
        try:
            return call()
        except Exception as error:
            if not may_pass(error):
                raise
            seconds = _pause(error, pause)
            tell(f"{in_words(error)}; trying again in {seconds:.0f} s")
            time.sleep(seconds)
    return call()


def may_pass(error: BaseException) -> bool:
    """Tell whether another try may succeed: the connection broke, or the server is busy or faulty."""
    from httpx2 import TransportError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return False
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING
    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        return may_pass(error.__cause__)  # "Error while uploading FILE", from whatever it was
    # the Xet client, which moves the large files, has no classes of its own: it raises what its runtime raises
    return isinstance(error, TransportError | ConnectionError | TimeoutError) or _of_xet(error)


def answer_of(error: BaseException) -> HfHubHTTPError | None:
    """Return the Hub's refusal that an error is, or was made of; None where the Hub refused nothing."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # "Error while uploading FILE"
        return answer_of(error.__cause__)
    return error if isinstance(error, HfHubHTTPError) else None


def in_words(error: BaseException) -> str:
    """Return what went wrong in one sentence without the request's number and address, and without any secret."""
    return terminal.without_secrets(_in_words(error))


def _in_words(error: BaseException) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        said = error.server_message or error.response.reason_phrase
        return " ".join(f"the Hub answers {error.response.status_code} ({said})".split())
    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        return f"{error} {_in_words(error.__cause__)}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def unavailable(error: BaseException) -> UserError:
    """Build the error for a Hub that does not answer as it should."""
    return UserError(f"the Hub at {endpoint()} must answer", in_words(error), "Try again later.")


def _pause(error: BaseException, planned: float) -> float:
    from huggingface_hub.errors import HfHubHTTPError

    asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return min(float(asked), LONGEST) if asked.isdecimal() and asked.isascii() else planned


def _of_xet(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(
        word in str(error).lower() for word in ("xet", "cas", "network", "timeout", "connection")
    )
