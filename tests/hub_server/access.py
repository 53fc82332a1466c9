"""Who may see, read and write what, by the token's role and scopes, the role in an organization, and the gates."""

from __future__ import annotations

from dataclasses import dataclass

from tests.hub_server import errors
from tests.hub_server.store import Repo, Store, Token

READ, WRITE = "repo.content.read", "repo.write"
PROPOSE = "discussion.write"


@dataclass
class Identity:
    """Who is calling, and with which token; both are None for an anonymous call."""

    store: Store
    user: str | None = None
    token: Token | None = None

    @property
    def anonymous(self) -> bool:
        return self.user is None

    def sees(self, repo: Repo) -> bool:
        """Whether the repo exists for the caller: anybody's public ones, private ones of its own namespaces."""
        if not repo.private:
            return True
        if self.role_in(repo.namespace, repo) is None:
            return False
        return self._token_allows(repo, READ) or self._token_allows(repo, WRITE)

    def reads(self, repo: Repo) -> bool:
        """Whether the caller may download files: a gate stops everybody who is neither a member nor on the list."""
        if not self.sees(repo) or not repo.gated:
            return self.sees(repo)
        if self.anonymous:
            return False
        if self.role_in(repo.namespace, repo) is not None:
            return self._token_allows(repo, READ) or self._token_allows(repo, WRITE) or self._passes_gates()
        return self.user in repo.granted and self._passes_gates()

    def writes(self, repo: Repo) -> bool:
        role = self.role_in(repo.namespace, repo)
        return role in ("admin", "write") and self._token_allows(repo, WRITE)

    def proposes(self, repo: Repo) -> bool:
        """Whether the caller may open a pull request or a discussion."""
        if self.token is None or not self.reads(repo):
            return False
        if self.token.role == "fineGrained":
            return self._token_allows(repo, PROPOSE) or PROPOSE in self.token.anywhere or self.writes(repo)
        return self.token.role == "write"

    def creates(self, namespace: str) -> bool:
        if self.token is None or self.role_in(namespace) not in ("admin", "write", "contributor"):
            return False
        if self.token.role == "fineGrained":
            return WRITE in self.token.scopes.get(namespace, ())
        return self.token.role == "write"

    def role_in(self, namespace: str, repo: Repo | None = None) -> str | None:
        """The caller's role in a namespace; a contributor is `write` in the repos it made and `read` in the others."""
        if self.user == namespace:
            return "admin"
        org = self.store.orgs.get(namespace)
        role = org.members.get(self.user or "") if org else None
        if role == "contributor" and repo is not None:
            return "write" if repo.creator == self.user else "read"
        return role

    def _token_allows(self, repo: Repo, permission: str) -> bool:
        if self.token is None:
            return False
        if self.token.role == "fineGrained":
            return any(permission in self.token.scopes.get(name, ()) for name in (repo.namespace, repo.id))
        return permission == READ or self.token.role == "write"

    def _passes_gates(self) -> bool:
        return self.token is not None and (self.token.role != "fineGrained" or self.token.gated_repos)

    # the same questions, answered with the Hub's refusal

    def must_see(self, repo: Repo | None) -> Repo:
        if repo is None or not self.sees(repo):
            raise errors.no_repo(self.anonymous)
        return repo

    def must_read(self, repo: Repo | None) -> Repo:
        repo = self.must_see(repo)
        if not self.reads(repo):
            raise errors.gated(repo.kind, repo.id, self.anonymous)
        return repo

    def must_write(self, repo: Repo | None) -> Repo:
        repo = self.must_see(repo)
        if self.anonymous:
            raise errors.no_login()
        if not self.writes(repo):
            raise self.no_right(repo)
        return repo

    def must_propose(self, repo: Repo | None) -> Repo:
        repo = self.must_read(repo)
        if self.anonymous:
            raise errors.no_login()
        if not self.proposes(repo):
            raise self.no_right(repo)
        return repo

    def no_right(self, repo: Repo) -> errors.Refused:
        if self.token is not None and self.token.role == "read":
            return errors.Refused(403, "Forbidden: you must use a write token to upload to a repository.")
        if self.token is not None and self.token.role == "fineGrained":
            return errors.Refused(
                403, f"Forbidden: this token lacks the permission repo.write for the {repo.kind} {repo.id}."
            )
        return errors.Refused(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request.")

    def describe(self) -> dict[str, object]:
        """What /api/whoami-v2 tells."""
        assert self.user is not None and self.token is not None
        user = self.store.users[self.user]
        token: dict[str, object] = {
            "displayName": f"{user.name}-{self.token.role}",
            "role": self.token.role,
            "createdAt": "2026-01-01T00:00:00.000Z",
        }
        if self.token.role == "fineGrained":
            token["fineGrained"] = {
                "canReadGatedRepos": self.token.gated_repos,
                "global": list(self.token.anywhere),
                "scoped": [
                    {"entity": self._entity(name), "permissions": list(permissions)}
                    for name, permissions in self.token.scopes.items()
                ],
            }
        return {
            "type": "user",
            "id": user.id,
            "name": user.name,
            "fullname": user.name.capitalize(),
            "email": f"{user.name}@example.com",
            "emailVerified": True,
            "canPay": False,
            "isPro": False,
            "avatarUrl": "/avatars/default.svg",
            "orgs": [
                {
                    "type": "org",
                    "id": org.id,
                    "name": org.name,
                    "fullname": org.name.capitalize(),
                    "email": None,
                    "canPay": False,
                    "isEnterprise": False,
                    "avatarUrl": "/avatars/default.svg",
                    "roleInOrg": org.members[user.name],
                }
                for org in self.store.orgs.values()
                if user.name in org.members
            ],
            "auth": {"type": "access_token", "accessToken": token},
        }

    def _entity(self, name: str) -> dict[str, str]:
        if name in self.store.users:
            return {"_id": self.store.users[name].id, "type": "user", "name": name}
        if name in self.store.orgs:
            return {"_id": self.store.orgs[name].id, "type": "org", "name": name}
        repo = next((repo for repo in self.store.repos.values() if repo.id == name), None)
        return {"_id": repo.key if repo else "0" * 24, "type": repo.kind if repo else "model", "name": name}


def identify(store: Store, header: str | None) -> Identity:
    """Tell who an Authorization header belongs to; an unknown or revoked token is refused on every route."""
    if header is None:
        return Identity(store)
    scheme, _, value = header.partition(" ")
    token = store.tokens.get(value.strip())
    if scheme.lower() != "bearer" or token is None or token.revoked:
        raise errors.bad_token()
    return Identity(store, token.user, token)
