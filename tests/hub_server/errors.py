"""The refusals of the Hub: status, message and the headers that the clients turn into exception classes."""

from __future__ import annotations


class Refused(Exception):
    """An answer that is not 2xx; `code` becomes X-Error-Code, which decides the client's exception class."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        header = " ".join(message.split()).encode("latin-1", "replace").decode("latin-1")
        self.headers = {"X-Error-Message": header}
        if code:
            self.headers["X-Error-Code"] = code
        self.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
        self.body: dict[str, object] = {"error": message}


def bad_token() -> Refused:
    return Refused(401, "Invalid credentials in Authorization header")


def no_login() -> Refused:
    return Refused(401, "Invalid username or password.")


def no_repo(anonymous: bool) -> Refused:
    """A missing repo and someone else's private one look the same; over http the code is what the client reads."""
    if anonymous:
        return Refused(401, "Invalid username or password.", "RepoNotFound")
    return Refused(404, "Repository not found", "RepoNotFound")


def no_revision(revision: str) -> Refused:
    return Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def no_entry(message: str, commit: str) -> Refused:
    return Refused(404, message, "EntryNotFound", X_Repo_Commit=commit)


def gated(kind: str, repo_id: str, anonymous: bool) -> Refused:
    text = f"Access to {kind} {repo_id} is restricted"
    if anonymous:
        message = f"{text}. You must have access to it and be authenticated to access it. Please log in."
        return Refused(401, message, "GatedRepo")
    message = (
        f"{text} and you are not in the authorized list. Visit https://huggingface.co/{repo_id} to ask for access."
    )
    return Refused(403, message, "GatedRepo")


def stale_parent() -> Refused:
    return Refused(412, "A commit has happened since. Please refresh and try again.")


BROKEN = "Internal Error - We're working hard to fix this as soon as possible!"
BROKEN = "Internal Error - We're working hard to fix this as soon as possible!"
DEFAULTS = {
    400: "Bad request",
    401: "Invalid credentials in Authorization header",
    403: "Forbidden: you must use a write token to upload to a repository.",
    404: "Sorry, we can't find the page you are looking for.",
    409: "Conflict",
    412: "A commit has happened since. Please refresh and try again.",
    416: "Range not satisfiable",
    429: "We had to rate limit you. To continue using our service, please wait or log in.",
}


def of_status(status: int, message: str | None = None) -> Refused:
    """What the Hub says with this status when nothing more is known (used by injected faults)."""
    return Refused(status, message or DEFAULTS.get(status, BROKEN))
