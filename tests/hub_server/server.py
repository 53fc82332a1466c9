"""A Hub in a thread: two listeners on loopback ports, and what a test asks of them."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.hub_server.app import Api
from tests.hub_server.cdn import Cdn
from tests.hub_server.faults import Fault, Faults, Fired
from tests.hub_server.front import Front
from tests.hub_server.log import Record
from tests.hub_server.store import KINDS, Entry, Org, Repo, Store, User
from tests.hub_server.xet import Xet

PATIENCE = 10.0  # seconds that starting and stopping may take before they count as hanging


class HubServer:
    """A Hub for unpatched clients: the API on http://localhost:P1, file storage on http://127.0.0.1:P2."""

    def __init__(
        self,
        folder: str | Path | None = None,
        xet: bool = False,
        *,
        lfs_threshold: int = 10_000_000,
        multipart: int | None = None,
        page_size: int = 1000,
        port: int = 0,
    ) -> None:
        """Make the default users; `multipart` is the size of a part, which files beyond it are sent in."""
        self._temporary = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="hub-server-") if folder is None else folder).resolve()
        self.store = Store(self.folder, lfs_threshold)
        self.xet = Xet(self.folder / "xet") if xet else None
        self.requests: list[Record] = []
        cdn = Cdn(self.store)
        self.leaks = cdn.leaks
        self._api = Api(self.store, cdn, self.xet, page_size, multipart)
        self._cdn = cdn
        self._faults = Faults({route.name for route in (*self._api.routes, *cdn.routes)})
        self._fronts = [
            Front("api", self._api.routes, self.requests, self._faults, self._api.identify),
            Front("cdn", cdn.routes, self.requests, self._faults, cdn.identify),
        ]
        self._sockets = [_listen(port), _listen(0)]
        api, storage = (one.getsockname()[1] for one in self._sockets)
        # two names for one machine are two origins: the clients drop the token on the way from one to the other
        self.endpoint = self._api.address = f"http://localhost:{api}"
        self.storage = cdn.address = f"http://127.0.0.1:{storage}"
        self._xet_before = 0
        self._thread = _Loop(self._fronts, self._sockets)
        for name in ("alice", "bob", "carol"):
            self.store.add_user(name)
        self.store.add_org("acme", {"alice": "admin", "carol": "read"})

    def __enter__(self) -> HubServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        crashes = [text for front in self._fronts for text in front.crashes]
        if crashes and kind is None:
            raise AssertionError("the hub server itself failed:\n" + "\n".join(crashes))
        for text in crashes:
            print(text, file=sys.stderr)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop()
        if self.xet:
            self.xet.close()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    # people

    @property
    def users(self) -> dict[str, User]:
        return self.store.users

    @property
    def orgs(self) -> dict[str, Org]:
        return self.store.orgs

    def add_user(self, name: str) -> User:
        return self.store.add_user(name)

    def add_org(self, name: str, members: dict[str, str]) -> Org:
        """Add an organization; a member's role is admin, write, contributor or read."""
        return self.store.add_org(name, members)

    def token(
        self,
        user: str,
        role: str = "write",
        scopes: dict[str, list[str]] | None = None,
        anywhere: list[str] | None = None,
        gated_repos: bool = False,
    ) -> str:
        """A token of this user: the same one at each call, until it is revoked.

        `fine` is a fine-grained one: `scopes` gives permissions by the name of a user, an organization or a repo,
        `anywhere` those for everything, `gated_repos` whether it opens the gated repos of others.
        """
        if role not in ("write", "read", "fine", "fineGrained"):
            raise ValueError(f"a token's role is write, read or fine, not {role}")
        wanted = {
            "user": user,
            "role": "fineGrained" if role == "fine" else role,
            "scopes": scopes or {},
            "anywhere": anywhere or [],
            "gated_repos": gated_repos,
        }
        for known in self.store.tokens.values():
            if not known.revoked and all(getattr(known, name) == value for name, value in wanted.items()):
                return known.value
        return self.store.add_token(**wanted).value  # type: ignore[arg-type]

    def revoke(self, token: str) -> None:
        """Make a token invalid: calls with it get 401 from now on."""
        self.store.tokens[token].revoked = True

    # repos

    @property
    def repos(self) -> list[tuple[str, str]]:
        """The (kind, id) of every repo."""
        return list(self.store.repos)

    def repo(self, repo_id: str, kind: str = "model") -> Repo | None:
        return self.store.repos.get((kind, repo_id))

    def create_repo(
        self,
        repo_id: str,
        kind: str = "model",
        private: bool = False,
        gated: bool | str = False,
        files: dict[str, bytes | str] | None = None,
        likes: int = 0,
        downloads: int = 0,
        sdk: str | None = None,
    ) -> Repo:
        """Make a repo without a client; a namespace that does not exist is made too."""
        namespace = repo_id.split("/")[0]
        if kind not in KINDS or gated not in (False, "auto", "manual"):
            raise ValueError(f"kind is one of {KINDS}, gated False, auto or manual; not {kind!r}, {gated!r}")
        if (kind, repo_id) in self.store.repos:
            raise ValueError(f"the {kind} {repo_id} exists already")
        if namespace not in self.users and namespace not in self.orgs:
            self.add_org(namespace, {})
        sdk = (sdk or "gradio") if kind == "space" else None
        repo = self.store.create(kind, repo_id, namespace, private, sdk)
        repo.gated, repo.likes, repo.downloads = gated, likes, downloads
        if files:
            self.commit(repo_id, files, "Upload files", kind=kind)
        return repo

    def commit(
        self,
        repo_id: str,
        files: dict[str, bytes | str],
        title: str = "Update files",
        branch: str = "main",
        kind: str = "model",
    ) -> str:
        """Commit files without a client, and return the commit's hash: what somebody else does meanwhile."""
        repo = self._known(repo_id, kind)
        with self.store.lock:
            tree = dict(repo.history[repo.branches[branch]].tree)
            attributes = self.store.attributes(tree)
            for path, content in files.items():
                data = content.encode() if isinstance(content, str) else content
                mode = self.store.upload_mode(attributes, path, len(data), data[:512])
                tree[path] = self.store.keep_large(repo, data) if mode == "lfs" and data else self.store.keep(data)
            return self.store.commit(repo, branch, title, "", repo.creator, tree).oid

    def grant(self, repo_id: str, user: str, kind: str | None = None) -> None:
        """Put a user on the list of those who may read a gated repo."""
        kinds = [kind] if kind else [known for known in KINDS if (known, repo_id) in self.store.repos]
        for known in kinds or ["model"]:
            self._known(repo_id, known).granted.add(user)

    def files(self, repo_id: str, revision: str = "main", kind: str = "model") -> dict[str, bytes]:
        """What a clone would hold."""
        commit = self._known(repo_id, kind).find(revision)
        if commit is None:
            raise KeyError(f"{repo_id} has no revision {revision}")
        entries: list[tuple[str, Entry]] = sorted(commit.tree.items())
        return {path: self.store.content(entry) for path, entry in entries}

    def _known(self, repo_id: str, kind: str) -> Repo:
        repo = self.repo(repo_id, kind)
        if repo is None:
            raise KeyError(f"no {kind} {repo_id}; there are {self.repos}")
        return repo

    # clients

    def env(self, user: str | None = None, token: str | None = None) -> dict[str, str]:
        """The environment of an unpatched client that acts as this user, or with this token, or as nobody."""
        found = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "0" if self.xet else "1",
            "NO_PROXY": "localhost,127.0.0.1",
            "no_proxy": "localhost,127.0.0.1",  # where both are set, this is the one that counts
        }
        token = token or (self.token(user) if user else None)
        return {**found, "HF_TOKEN": token} if token else found

    # what happened, and what shall go wrong

    @property
    def uploaded_bytes(self) -> int:
        """Bytes of files' content received since the log was cleared, by either way."""
        sent = sum(one.bytes_in if one.route == "lfs-put" else one.blob_bytes for one in list(self.requests))
        return sent + (self.xet.stored_bytes() - self._xet_before if self.xet else 0)

    def clear_log(self) -> None:
        self.requests.clear()
        self._xet_before = self.xet.stored_bytes() if self.xet else 0

    @property
    def fired(self) -> list[Fired]:
        """The faults that have happened."""
        return self._faults.fired

    def fault(
        self,
        name: str,
        times: int | None = 1,
        after: int = 0,
        status: int | None = None,
        headers: dict[str, str] | None = None,
        cut: bool | str = False,
        delay: float = 0.0,
        when: Callable[[Record], bool] | None = None,
        lost: bool = False,
        do: Callable[[Record], object] | None = None,
        message: str | None = None,
        garble: bool = False,
    ) -> Fault:
        """Order a fault on a route, see `faults.Fault`; the answer's status may come with headers, as Retry-After."""
        more: dict[str, Any] = {
            "status": status,
            "headers": headers or {},
            "cut": cut,
            "delay": delay,
            "garble": garble,
        }
        return self._faults.add(Fault(name, times, after, **more, when=when, lost=lost, do=do, message=message))

    def clear_faults(self) -> None:
        self._faults.orders.clear()


class _Protocol(H11Protocol):
    """Shows the connection to the application, so that a fault can drop it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class _Loop:
    """An event loop in a thread of its own that serves each application on its socket."""

    def __init__(self, applications: list[Any], sockets: list[socket.socket]) -> None:
        self.sockets, self.ready = sockets, threading.Event()
        self.failure: BaseException | None = None
        self.servers = [
            uvicorn.Server(
                uvicorn.Config(
                    one,
                    http=_Protocol,
                    ws="none",
                    lifespan="off",
                    log_config=None,
                    log_level="critical",
                    access_log=False,
                )
            )
            for one in applications
        ]
        self.thread = threading.Thread(target=self._run, name="hub-server", daemon=True)

    def start(self) -> None:
        self.thread.start()
        if not self.ready.wait(PATIENCE) or self.failure:
            raise RuntimeError("the hub server did not start") from self.failure

    def stop(self) -> None:
        if not self.thread.is_alive():
            for one in self.sockets:
                one.close()
            return
        self.loop.call_soon_threadsafe(self.end.set)
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            raise RuntimeError("the hub server did not stop")

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.failure = error
        finally:
            self.ready.set()

    async def _serve(self) -> None:
        # uvicorn's own main loop ticks ten times a second and waits for idle clients: too slow for hundreds of tests
        self.loop, self.end = asyncio.get_running_loop(), asyncio.Event()
        for server, one in zip(self.servers, self.sockets, strict=True):
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            await server.startup(sockets=[one])
        self.ready.set()
        await self.end.wait()
        for server in self.servers:
            for listener in server.servers:
                listener.close()
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            for task in list(server.server_state.tasks):
                task.cancel()


def _listen(port: int) -> socket.socket:
    # asyncio turns Nagle's delay off only where the protocol is named: without it each answer takes 40 ms
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", port))
    found.listen(128)
    return found
