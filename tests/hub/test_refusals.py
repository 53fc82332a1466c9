"""What the Hub says no to in the middle of publishing: each refusal has words, and advice that is right for it."""

from __future__ import annotations

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError

from hftransfer.hub import access, publishing, retrying
from hftransfer.safety import fence


def refusal(status: int, message: str) -> HfHubHTTPError:
    request = httpx2.Request("POST", "https://huggingface.co/api/models/alice/tuned/commit/main")
    response = httpx2.Response(status, headers={"X-Error-Message": message}, request=request)
    return HfHubHTTPError(message, response=response, server_message=message)


@pytest.mark.parametrize(
    ("status", "message", "words", "action"),
    [
        (403, "Forbidden: you must use a write token", "a token that may write to alice/tuned", "settings/tokens"),
        (401, "Invalid credentials in Authorization header", "a token that may write", "settings/tokens"),
        (403, "Private repository storage limit reached, please upgrade your plan", "room on the Hub", "billing"),
        (403, "Your storage patterns tripped our internal systems!", "room on the Hub", "billing"),
        (404, "Repository not found", "alice/tuned must be on the Hub", "deleted or moved"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_refusal_has_advice_of_its_own(status: int, message: str, words: str, action: str, inside: bool) -> None:
    error: Exception = refusal(status, message)
    if inside:  # as the client wraps what happens to one file
        try:
            raise RuntimeError("Error while uploading model.safetensors") from error
        except RuntimeError as raised:
            error = raised
    found = publishing._refused(error, "alice/tuned")
    assert found is not None and words in str(found) and action in found.action
    assert message in str(found) and "sent twice" in found.action


def test_what_is_no_refusal_is_none() -> None:
    assert publishing._refused(OSError("gone"), "alice/tuned") is None
    assert publishing._refused(refusal(503, "busy"), "alice/tuned") is None
    assert retrying.answer_of(RuntimeError("no cause")) is None


def test_who_signed_in_on_a_space_signs_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "settings/tokens" in access._bad_token().action
    monkeypatch.setenv(fence.VARIABLE, "{}")
    for error in (access._bad_token(), publishing._refused(refusal(401, "Invalid credentials"), "alice/tuned")):
        assert error is not None and "Sign in again" in error.action and "settings/tokens" not in error.action
