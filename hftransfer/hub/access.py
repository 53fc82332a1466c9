"""What must be true on the Hub before a run starts: who asks, what they may write, and what they may read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hftransfer.config import RunConfig
from hftransfer.errors import ConfigError, Problem, UserError
from hftransfer.hub.connection import endpoint, is_offline, page
from hftransfer.hub.retrying import insist, may_pass, unavailable
from hftransfer.runs import is_hub_id
from hftransfer.safety import fence

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NOTES = "hftransfer.json"  # a repo that holds it was published by hftransfer
EMPTY = {".gitattributes", "README.md", "LICENSE"}  # what the Hub's "new model" form makes by itself
MAY_WRITE = ("admin", "write", "contributor")  # roles in an organization
PERMISSION = "repo.write"  # of a fine-grained token


@dataclass(frozen=True)
class Access:
    """What was found out: the user (None: not asked), the whole id of the repo to write to, and whether it exists."""

    user: str | None = None
    repo: str | None = None
    exists: bool = False


@dataclass(frozen=True)
class Identity:
    """Whose token it is and what it is allowed."""

    name: str
    orgs: dict[str, str | None]  # each with the user's role in it
    role: str | None  # of the token: read, write, fineGrained; None for those that do not tell (a Space's sign-in)
    scopes: dict[str, tuple[str, ...]]  # of a fine-grained token: permissions by user, organization or repo


def require(config: RunConfig) -> Access:
    """Ask the Hub, within seconds, for everything that a run will need of it; nothing is created there.

    Raises ConfigError with each thing that is missing, in a sentence and with the page to click.
    """
    reads = list(_reads(config))
    writes = config.hub.push or config.hub.checkpoints
    if not reads and not writes:
        return Access()
    if is_offline():
        if writes:
            raise UserError(
                "hub.push and hub.checkpoints need the Hub",
                f"{endpoint()} cannot be reached, or HF_HUB_OFFLINE is set",
                "Go online, or train with hub.push=false and publish later: hftransfer publish RUN",
            )
        return Access()
    from huggingface_hub import HfApi

    api = HfApi()
    identity = identify(api) if writes else None  # asked only where it matters: the Hub limits this question
    problems, access = [], Access(identity.name if identity else None)
    if identity is not None:
        try:
            repo, exists = require_writable(api, identity, str(config.hub.repo))
            access = Access(identity.name, repo, exists)
        except UserError as error:
            problems.append(Problem("hub.repo", str(error)))
    for path, kind, name in reads:
        try:
            require_readable(api, name, kind)
        except UserError as error:
            problems.append(Problem(path, str(error)))
    if problems:
        raise ConfigError(problems)
    return access


def identify(api: HfApi) -> Identity:
    """Return whose token is set; UserError when there is none, or the Hub does not know it."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise UserError(
            "a token that may write is needed to publish", "none is set",
            f"Make one at {endpoint()}/settings/tokens and set HF_TOKEN, or run: hf auth login",
        )  # fmt: skip
    with explained():
        found = insist(api.whoami)
    token: dict[str, Any] = (found.get("auth") or {}).get("accessToken") or {}
    fine: dict[str, Any] = token.get("fineGrained") or {}
    return Identity(
        str(found["name"]),
        {str(org["name"]): org.get("roleInOrg") for org in found.get("orgs", [])},
        token.get("role"),
        {str(part["entity"].get("name")): tuple(part["permissions"]) for part in fine.get("scoped", [])},
    )


def require_writable(api: HfApi, identity: Identity, repo: str, create_pr: bool = False) -> tuple[str, bool]:
    """Return the whole id of a repo that this token may publish to, and whether it exists.

    UserError when the token, the role in the organization or the repo's content forbids it. `create_pr` needs an
    existing repo that may be read, whatever is in it.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    full = repo if "/" in repo else f"{identity.name}/{repo}"
    try:
        validate_repo_id(full)
    except HFValidationError as error:
        raise UserError("a repo is named user/name", str(error).partition(". Use")[0], "Set another.") from error
    if identity.role == "read":
        raise UserError(
            f"a token that may write to {full} is needed", f"the token of {identity.name} is read-only",
            f"Make one with the role write at {endpoint()}/settings/tokens and set HF_TOKEN.",
        )  # fmt: skip
    exists = _exists(api, identity, full, create_pr)
    if not exists:
        if create_pr:
            raise UserError("a pull request needs a repo", f"there is no {full}", "Publish without --create-pr.")
        _require_namespace(identity, full)
    elif not create_pr:
        files = set(insist(lambda: api.list_repo_files(full)))
        if NOTES not in files and files - EMPTY:
            others = sorted(files - EMPTY)
            raise UserError(
                f"{full} must be new, or published by hftransfer",
                f"it holds {len(others)} other files ({', '.join(others[:3])}{', ...' if others[3:] else ''})",
                f"Choose another name; see {page(full)}; or propose the files there: hftransfer publish --create-pr",
            )
    return full, exists


def require_readable(api: HfApi, name: str, kind: str) -> None:
    """Raise UserError when this token may not read a model or a dataset, even if the cache holds it from another."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    with explained():
        try:
            insist(lambda: api.auth_check(name, repo_type=kind))
        except GatedRepoError as error:
            who = "nobody is logged in" if error.response.status_code == 401 else "this token has no access yet"
            raise UserError(
                f"{name} is gated: its owner must let you in", who,
                f"Ask for access at {page(name, kind)} and set HF_TOKEN.",
            ) from error  # fmt: skip
        except RepositoryNotFoundError as error:
            raise UserError(
                f"a {kind} of the Hub is needed", f"there is no {name} for this token ({page(name, kind)})",
                f"Check the spelling; for a private one set HF_TOKEN to a token that may read it "
                f"({endpoint()}/settings/tokens).",
            ) from error  # fmt: skip


def _reads(config: RunConfig) -> Iterator[tuple[str, str, str]]:
    if is_hub_id(config.model):
        yield "model", "model", config.model
    if is_hub_id(config.data.source):
        yield "data.source", "dataset", config.data.source


def _exists(api: HfApi, identity: Identity, full: str, create_pr: bool) -> bool:
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    with explained():
        try:
            insist(lambda: api.auth_check(full, write=not create_pr))
        except RepositoryNotFoundError:
            return False
        except HfHubHTTPError as error:
            if error.response.status_code != 403:
                raise
            _require_namespace(identity, full)
            raise UserError(
                f"a token that may write to {full} is needed", f"this one of {identity.name} may not",
                f"Give it {PERMISSION} there at {endpoint()}/settings/tokens, or choose another name.",
            ) from error  # fmt: skip
    return True


def _require_namespace(identity: Identity, full: str) -> None:
    namespace = full.partition("/")[0]
    if namespace != identity.name and namespace not in identity.orgs:
        places = ", ".join([identity.name, *identity.orgs])
        raise UserError(
            f"a name under {places} is needed", f"{identity.name} does not belong to {namespace}",
            f"Set hub.repo={identity.name}/{full.partition('/')[2]}, or join {page(namespace)}.",
        )  # fmt: skip
    role = identity.orgs.get(namespace)
    if role is not None and role not in MAY_WRITE:
        raise UserError(
            f"a role in {namespace} that may write is needed", f"{identity.name} has the role {role}",
            f"Ask an admin of {page(namespace)}, or set hub.repo={identity.name}/{full.partition('/')[2]}.",
        )  # fmt: skip
    if identity.role == "fineGrained" and PERMISSION not in identity.scopes.get(namespace, ()):
        raise UserError(
            f"a token that may create {full} is needed",
            f"this fine-grained token of {identity.name} lacks {PERMISSION} for {namespace}",
            f"Add it at {endpoint()}/settings/tokens.",
        )


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the Hub may answer to any question, a bad token or no service, into a UserError."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        raise (_bad_token() if error.response.status_code == 401 else unavailable(error)) from error
    except Exception as error:
        if may_pass(error):
            raise unavailable(error) from error
        raise


def _bad_token() -> UserError:
    return UserError("a token that the Hub knows is needed", "this one has expired or was revoked", renewal())


def renewal() -> str:
    """Return how somebody comes by another token: on a Space it is that of their sign-in, which ends after hours."""
    if fence.VARIABLE in os.environ:
        return "Sign in again on the page; what was trained stays."
    return f"Make another at {endpoint()}/settings/tokens and set HF_TOKEN, or run: hf auth login."
