"""The API's routes, as HUB.md lists them."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from starlette.responses import JSONResponse, PlainTextResponse, Response

from tests.hub_server import cards, errors
from tests.hub_server.access import Identity, identify
from tests.hub_server.cdn import Cdn
from tests.hub_server.delivery import deliver
from tests.hub_server.front import Call, Route
from tests.hub_server.info import Infos, folders
from tests.hub_server.log import Record
from tests.hub_server.store import (
    KINDS,
    NAME,
    PREFIX,
    Commit,
    Discussion,
    Entry,
    Repo,
    Store,
    pointer,
    stamp,
)
from tests.hub_server.xet import Xet

SINGULAR = {"models": "model", "datasets": "dataset", "spaces": "space", "datasets/": "dataset", "spaces/": "space"}
PREUPLOAD_LIMIT = 256  # files a call
EXPANDED_PAGE = 50  # entries a page when each comes with its last commit


class Api:
    """Handlers of the first origin."""

    def __init__(self, store: Store, cdn: Cdn, xet: Xet | None, page_size: int, multipart: int | None) -> None:
        self.store, self.cdn, self.xet, self.page_size, self.multipart = store, cdn, xet, page_size, multipart
        self.infos, self.address = Infos(store), ""
        get, post, delete = ("GET",), ("POST",), ("DELETE",)
        repo, git = "/api/{kind}/{id}", "/{prefix}{id}.git/info/lfs"
        self.routes = [
            Route("whoami", get, "/api/whoami-v2", self.whoami),
            Route("create", post, "/api/repos/create", self.create),
            Route("delete", delete, "/api/repos/delete", self.delete),
            Route("move", post, "/api/repos/move", self.move),
            Route("validate", post, "/api/validate-yaml", self.validate),
            Route("settings", ("PUT",), f"{repo}/settings", self.settings),
            Route("preupload", post, f"{repo}/preupload/{{rev}}", self.preupload),
            Route("lfs-batch", post, f"{git}/objects/batch", self.batch),
            Route("lfs-verify", post, f"{git}/verify", self.verify),
            Route("lfs-complete", post, "/api/complete_multipart/{repo}/{sha256}/{upload}", self.cdn.complete),
            Route("lfs-duplicate", post, f"{repo}/lfs-files/duplicate", self.duplicate),
            Route("xet-token", get, f"{repo}/xet-write-token/{{rev}}", self.xet_write),
            Route("xet-token", get, f"{repo}/xet-read-token/{{rev}}", self.xet_read),
            Route("commit", post, f"{repo}/commit/{{rev}}", self.commit),
            Route("super-squash", post, f"{repo}/super-squash/{{rev}}", self.squash),
            Route("tree", get, f"{repo}/tree/{{rev}}", self.tree),
            Route("tree", get, f"{repo}/tree/{{rev}}/{{path}}", self.tree),
            Route("paths-info", post, f"{repo}/paths-info/{{rev}}", self.paths_info),
            Route("refs", get, f"{repo}/refs", self.refs),
            Route("commits", get, f"{repo}/commits/{{rev}}", self.commits),
            Route("branch", ("POST", "DELETE"), f"{repo}/branch/{{name}}", self.branch),
            Route("tag", ("POST", "DELETE"), f"{repo}/tag/{{name}}", self.tag),
            Route("auth-check", get, f"{repo}/auth-check", self.auth_check),
            Route("auth-check", get, f"{repo}/auth-check/write", self.auth_check_write),
            Route("access", post, f"{repo}/user-access-request/{{action}}", self.access),
            Route("access", get, f"{repo}/user-access-request/{{action}}", self.access_list),
            Route("access", post, "/{prefix}{id}/ask-access", self.ask_access),
            Route("discussions", ("GET", "POST"), f"{repo}/discussions", self.discussions),
            Route("discussions", get, f"{repo}/discussions/{{num}}", self.discussion),
            Route("resolve", get, "/{prefix}{id}/resolve/{rev}/{path}", self.resolve),
            Route("info", get, f"{repo}/revision/{{rev}}", self.info),
            Route("list", get, "/api/{kind}", self.list),
            Route("info", get, repo, self.info),
        ]

    def identify(self, record: Record, headers: dict[str, str]) -> Identity:
        return identify(self.store, headers.get("authorization"))

    # finding what a call is about

    def repo(self, call: Call) -> Repo | None:
        kind = SINGULAR.get(call.parts.get("kind") or call.parts.get("prefix", ""), "model")
        repo_id = call.parts["id"]
        known = self.store.repos.get((kind, repo_id))
        new = self.store.moved.get((kind, repo_id))
        if known is None and new is not None and call.who.sees(self.store.repos[kind, new]):
            target = call.record.path.replace(quote(repo_id), quote(new), 1)
            query = f"?{call.record.query}" if call.record.query else ""
            raise errors.Refused(307, f"Temporary Redirect. Redirecting to {target}", Location=target + query)
        return known

    def seen(self, call: Call) -> tuple[Repo, Commit]:
        repo = call.who.must_see(self.repo(call))
        return repo, self.at(repo, call.parts.get("rev") or "main")

    def at(self, repo: Repo, revision: str) -> Commit:
        commit = repo.find(revision)
        if commit is None:
            raise errors.no_revision(revision)
        return commit

    def page(self, call: Call, items: list[Any], size: int, make: Callable[[Any], Any]) -> Response:
        """One page of a listing; the Link header leads to the next."""
        start = int(call.query.get("cursor", "0"))
        headers = {}
        if start + size < len(items):
            query = [(name, value) for name, value in call.query.multi_items() if name != "cursor"]
            address = f"{self.address}{call.record.path}?{urlencode([*query, ('cursor', start + size)])}"
            headers["Link"] = f'<{address}>; rel="next"'
        return JSONResponse([make(item) for item in items[start : start + size]], headers=headers)

    def url(self, repo: Repo) -> str:
        return f"{self.address}/{PREFIX[repo.kind]}{repo.id}"

    # the caller

    async def whoami(self, call: Call) -> Response:
        if call.who.anonymous:
            raise errors.no_login()
        return JSONResponse(call.who.describe())

    async def validate(self, call: Call) -> Response:
        body = await call.json()
        found, warnings = cards.check(body.get("content", ""), body.get("repoType", "model"))
        if "text/plain" in call.request.headers.get("accept", ""):  # what ModelCard.push_to_hub asks for and shows
            lines = [f"- Error: {one}" for one in found] or [f"- Warning: {one}" for one in warnings]
            return PlainTextResponse("\n".join(lines), 400 if found else 200)
        messages = {
            "errors": [{"message": one} for one in found],
            "warnings": [{"message": one} for one in warnings],
        }
        return JSONResponse(messages, 400 if found else 200)

    async def auth_check(self, call: Call) -> Response:
        call.who.must_read(self.repo(call))
        return JSONResponse({})

    async def auth_check_write(self, call: Call) -> Response:
        call.who.must_write(self.repo(call))
        return JSONResponse({})

    # repos

    async def create(self, call: Call) -> Response:
        body = await call.json()
        if call.who.user is None:
            raise errors.no_login()
        kind, name = body.get("type") or "model", body.get("name") or ""
        namespace = body.get("organization") or call.who.user
        if kind not in KINDS or not NAME.match(name):
            raise errors.Refused(400, f"Invalid name or type of a repo: {name!r}, {kind!r}")
        if not call.who.creates(namespace):
            raise errors.Refused(
                403, f'You don\'t have the rights to create a {kind} under the namespace "{namespace}"'
            )
        known = self.store.repos.get((kind, f"{namespace}/{name}"))
        if known is not None:
            refusal = errors.Refused(409, f"You already created this {kind} repo")
            refusal.body.update(url=self.url(known), id=known.key)
            raise refusal
        private = body.get("visibility", "private" if body.get("private") else "public") == "private"
        repo = self.store.create(kind, f"{namespace}/{name}", call.who.user, private, body.get("sdk"))
        return JSONResponse({"url": self.url(repo), "name": repo.id, "id": repo.key})

    async def delete(self, call: Call) -> Response:
        body = await call.json()
        call.parts.update(id=f"{body.get('organization') or call.who.user}/{body.get('name')}")
        call.parts.update(kind=f"{body.get('type') or 'model'}s")
        repo = call.who.must_write(self.repo(call))
        with self.store.lock:
            del self.store.repos[repo.kind, repo.id]
        return PlainTextResponse("OK")

    async def move(self, call: Call) -> Response:
        body = await call.json()
        call.parts.update(id=body.get("fromRepo", ""), kind=f"{body.get('type') or 'model'}s")
        repo = call.who.must_write(self.repo(call))
        namespace, _, name = body.get("toRepo", "").partition("/")
        if not NAME.match(name):
            raise errors.Refused(400, f"Invalid repo name: {name!r}")
        if not call.who.creates(namespace):
            raise errors.Refused(403, f'You don\'t have the rights to move a repo to the namespace "{namespace}"')
        if (repo.kind, f"{namespace}/{name}") in self.store.repos:
            raise errors.Refused(409, f"The {repo.kind} {namespace}/{name} exists already")
        self.store.move(repo, f"{namespace}/{name}")
        return PlainTextResponse("OK")

    async def settings(self, call: Call) -> Response:
        body = await call.json()
        repo = call.who.must_write(self.repo(call))
        if body.get("gated", False) not in ("auto", "manual", False):
            raise errors.Refused(400, '"gated" must be one of [auto, manual, false]')
        if body.get("visibility", "public") not in ("public", "private", "protected"):
            raise errors.Refused(400, '"visibility" must be one of [public, private]')
        repo.gated = body.get("gated", repo.gated)
        if "visibility" in body or "private" in body:
            repo.private = body["visibility"] == "private" if "visibility" in body else bool(body["private"])
        return JSONResponse({"private": repo.private, "gated": repo.gated})

    async def info(self, call: Call) -> Response:
        repo, commit = self.seen(call)
        expand = _many(call, "expand")
        return JSONResponse(self.infos.shown(repo, commit, expand, call.flag("blobs")))

    async def list(self, call: Call) -> Response:
        kind = SINGULAR[call.parts["kind"]]
        wanted = [repo for repo in self.store.repos.values() if repo.kind == kind and call.who.sees(repo)]
        rows = [(repo, repo.find("main")) for repo in wanted]
        shown = [(repo, commit, self.infos.full(repo, commit)) for repo, commit in rows if commit]
        found = [row for row in shown if _matches(call, row[2])]
        sort = call.query.get("sort", "trendingScore")
        if sort not in ("downloads", "likes", "lastModified", "createdAt", "trendingScore"):
            raise errors.Refused(400, f"Invalid sort field: {sort}")
        found.sort(key=lambda row: (row[2][sort], row[2]["lastModified"]), reverse=call.query.get("direction") != "1")
        flags = {name for name in ("cardData", "config") if call.flag(name)}
        expand, full = _many(call, "expand"), call.flag("full")
        size = min(int(call.query.get("limit") or self.page_size), self.page_size)
        return self.page(call, found, size, lambda row: self.infos.listed(row[0], row[1], expand, full, flags))

    # uploads

    async def preupload(self, call: Call) -> Response:
        _, commit = self._target(call)
        body = await call.json()
        files = body.get("files", [])
        if len(files) > PREUPLOAD_LIMIT:
            raise errors.Refused(400, f'"files" must contain less than or equal to {PREUPLOAD_LIMIT} items')
        attributes = self.store.attributes(commit.tree)
        ignored = body.get("gitIgnore")
        if ignored is None and ".gitignore" in commit.tree:
            ignored = self.store.content(commit.tree[".gitignore"]).decode()
        found = []
        for file in files:
            path, sample = file["path"], base64.b64decode(file.get("sample", ""))
            known = commit.tree.get(path)
            found.append(
                {
                    "path": path,
                    "uploadMode": self.store.upload_mode(attributes, path, file.get("size", 0), sample),
                    "shouldIgnore": _ignored(ignored or "", path),
                    **({"oid": known.remote_oid} if known else {}),
                }
            )
        return JSONResponse({"files": found, "commitOid": commit.oid})

    async def batch(self, call: Call) -> Response:
        repo = self.repo(call)
        body = await call.json()
        if body.get("operation") == "download":
            call.who.must_read(repo)
        repo = call.who.must_propose(repo) if not repo or not call.who.writes(repo) else repo
        objects = [self._object(repo, one["oid"], one["size"]) for one in body.get("objects", [])]
        return JSONResponse({"transfer": "basic", "objects": objects}, media_type="application/vnd.git-lfs+json")

    def _object(self, repo: Repo, oid: str, size: int) -> dict[str, Any]:
        found: dict[str, Any] = {"oid": oid, "size": size}
        if not re.fullmatch("[0-9a-f]{64}", oid):
            return {**found, "error": {"code": 422, "message": "oid must be a sha256"}}
        if oid in repo.objects:
            return found  # without actions: nothing to send
        upload: dict[str, Any] = {"href": self.cdn.sign("PUT", repo, oid)}
        if self.multipart and size > self.multipart:
            number = secrets.token_hex(8)
            count = -(-size // self.multipart)
            words = urlencode({"signature": self.cdn.signature("POST", f"/repos/{repo.key}/{oid}/{number}", "")})
            upload = {
                "href": f"{self.address}/api/complete_multipart/{repo.key}/{oid}/{number}?{words}",
                "header": {
                    "chunk_size": str(self.multipart),
                    **{f"{i:05}": self.cdn.sign("PUT", repo, oid, f"/{number}/{i}") for i in range(1, count + 1)},
                },
            }
        verify = {"href": f"{self.url(repo)}.git/info/lfs/verify"}
        return {**found, "authenticated": True, "actions": {"upload": upload, "verify": verify}}

    async def verify(self, call: Call) -> Response:
        repo = self.repo(call)
        repo = call.who.must_propose(repo) if not repo or not call.who.writes(repo) else repo
        body = await call.json()
        if repo.objects.get(body.get("oid")) != body.get("size"):
            raise errors.Refused(404, "The object has not arrived, or has another size")
        return JSONResponse({})

    async def duplicate(self, call: Call) -> Response:
        source = call.who.must_read(self.repo(call))
        body = await call.json()
        target = body.get("target", {})
        call.parts.update(id=target.get("name", ""), kind=f"{target.get('type', 'model')}s")
        into = call.who.must_write(self.repo(call))
        failed = []
        for file in body.get("files", []):
            if file["sha256"] in source.objects:
                into.objects[file["sha256"]] = source.objects[file["sha256"]]
            else:
                failed.append({"sha256": file["sha256"], "error": "not found"})
        return JSONResponse({"failed": failed})

    async def xet_write(self, call: Call) -> Response:
        return self._xet_answer(self._xet().write_token(self._uploadable(call)))

    async def xet_read(self, call: Call) -> Response:
        repo = call.who.must_read(self.repo(call))
        commit = self.at(repo, call.parts["rev"])
        blobs = {entry.sha256 for entry in commit.tree.values() if entry.sha256}
        return self._xet_answer(await self._xet().read_token({one: self.store.large(one) for one in blobs}))

    def _xet(self) -> Xet:
        if self.xet is None:
            raise errors.Refused(404, "This server speaks plain LFS alone")
        return self.xet

    def _xet_answer(self, token: dict[str, Any]) -> Response:
        headers = {
            "X-Xet-Cas-Url": token["casUrl"],
            "X-Xet-Access-Token": token["accessToken"],
            "X-Xet-Token-Expiration": str(token["exp"]),
        }
        return JSONResponse(token, headers=headers)

    async def commit(self, call: Call) -> Response:
        body = await call.request.body()
        repo, base = self._target(call)
        pull = call.flag("create_pr")
        try:
            lines = [json.loads(line) for line in body.splitlines() if line.strip()]
            header = next(line["value"] for line in lines if line["key"] == "header")
        except (ValueError, KeyError, StopIteration) as error:
            raise errors.Refused(400, "The body must be ndjson with a header") from error
        if not header.get("summary"):
            raise errors.Refused(400, '"summary" is not allowed to be empty')
        tree = dict(base.tree)
        for line in lines:
            await self._apply(call, repo, base, tree, line["key"], line["value"])
        self._check_card(repo, base.tree, tree)
        user = call.who.user or ""
        with self.store.lock:
            parent = header.get("parentCommit")
            now = self.at(repo, call.parts["rev"])
            # a short hash is allowed; the branch may also have moved while this body was on its way
            if (parent and not now.oid.startswith(parent)) or (not pull and now.oid != base.oid):
                raise errors.stale_parent()
            ref = call.parts["rev"].removeprefix("refs/heads/")
            answer: dict[str, Any] = {"success": True, "hookOutput": ""}
            if pull:
                discussion = self._open(repo, header["summary"], header.get("description", ""), user, True)
                ref = f"refs/pr/{discussion.num}"
                repo.pulls[ref] = base.oid
                answer["pullRequestUrl"] = f"{self.url(repo)}/discussions/{discussion.num}"
            elif ref not in repo.branches and ref not in repo.pulls:
                raise errors.Refused(400, f"{ref} is not a branch: nothing can be committed on it")
            made = self.store.commit(repo, ref, header["summary"], header.get("description", ""), user, tree)
        answer |= {"commitUrl": f"{self.url(repo)}/commit/{made.oid}", "commitOid": made.oid}
        return JSONResponse(answer)

    def _target(self, call: Call) -> tuple[Repo, Commit]:
        """The repo and the commit that an upload goes on top of, for someone who may do that."""
        repo = self._uploadable(call)
        return repo, self.at(repo, call.parts["rev"])

    def _uploadable(self, call: Call) -> Repo:
        """The repo, for someone who may write to the revision: a pull request is open to its author too."""
        repo = self.repo(call)
        pulls = [one for one in repo.discussions if one.pull] if repo else []
        own = call.parts["rev"] in {f"refs/pr/{one.num}" for one in pulls if one.author == call.who.user}
        return call.who.must_propose(repo) if call.flag("create_pr") or own else call.who.must_write(repo)

    async def _apply(
        self, call: Call, repo: Repo, base: Commit, tree: dict[str, Entry], key: str, value: dict[str, Any]
    ) -> None:
        """Do one line of a commit to the tree."""
        path = value.get("path", "")
        if key == "header":
            return
        if not path or path.startswith("/") or {"..", ".git", ""} & set(path.rstrip("/").split("/")):
            raise errors.Refused(400, f"Invalid path: {path!r}")
        if key == "file":
            data = value["content"].encode()
            data = base64.b64decode(data) if value.get("encoding") == "base64" else data
            call.record.blob_bytes += len(data)
            if len(data) > self.store.lfs_threshold:
                raise errors.Refused(400, f"Your file {path} is too big for git: it must go to large file storage")
            tree[path] = self.store.keep(data)
        elif key == "lfsFile":
            await self._large_file(repo, tree, path, value["oid"])
        elif key == "deletedFile":
            if path not in tree:
                raise errors.no_entry(f"A file with this name doesn't exist: {path}", base.oid)
            del tree[path]
        elif key == "deletedFolder":
            inside = [name for name in tree if name.startswith(f"{path.rstrip('/')}/")]
            if not inside:
                raise errors.no_entry(f"A folder with this name doesn't exist: {path}", base.oid)
            for name in inside:
                del tree[name]
        elif key == "copyFile":
            source = self.at(repo, value.get("srcRevision") or call.parts["rev"]).tree.get(value["srcPath"])
            if source is None:
                raise errors.no_entry(f"A file with this name doesn't exist: {value['srcPath']}", base.oid)
            tree[path] = source
        else:
            raise errors.Refused(400, f"Unknown operation: {key}")

    async def _large_file(self, repo: Repo, tree: dict[str, Entry], path: str, sha256: str) -> None:
        if sha256 not in repo.objects and self.xet is not None:
            size = await self.xet.fetch(repo, sha256, self.store.large(sha256))
            if size is not None:
                repo.objects[sha256] = size
        if sha256 not in repo.objects:
            raise errors.Refused(
                400,
                "Your push was rejected because an LFS pointer pointed to a file that does not exist. "
                f"Offending file: - {path}",
            )
        tree[path] = pointer(sha256, repo.objects[sha256])
        attributes = self.store.attributes(tree)
        if self.store.upload_mode(attributes, path, 0, b"") == "regular":  # as git lfs track does, so that clones work
            line = f"{path.replace(' ', '[[:space:]]')} filter=lfs diff=lfs merge=lfs -text\n"
            tree[".gitattributes"] = self.store.keep((attributes + line).encode())

    def _check_card(self, repo: Repo, before: dict[str, Entry], after: dict[str, Entry]) -> None:
        entry = after.get("README.md")
        if entry is None or entry == before.get("README.md"):
            return
        found, _ = cards.check(self.store.content(entry).decode(errors="replace"), repo.kind)
        if found:
            lines = "\n".join(f"- Error: {one}" for one in found)
            raise errors.Refused(400, f"Your push was rejected during YAML metadata verification:\n{lines}")

    async def squash(self, call: Call) -> Response:
        repo = call.who.must_write(self.repo(call))
        body = await call.json()
        ref = call.parts["rev"]
        commit = self.at(repo, ref)
        if ref not in repo.branches and ref not in repo.pulls:
            raise errors.no_revision(ref)
        title = body.get("message") or f"Super-squash branch '{ref}'"
        self.store.commit(repo, ref, title, "", call.who.user or "", commit.tree, orphan=True)
        return JSONResponse({})

    # reading

    async def tree(self, call: Call) -> Response:
        repo, commit = self.seen(call)
        path = call.parts.get("path", "").strip("/")
        inside = [name for name in commit.tree if not path or name.startswith(f"{path}/")]
        if path and not inside:
            raise errors.no_entry(f'"{path}" does not exist on "{call.parts["rev"]}"', commit.oid)
        names = set(inside) | {name for name in folders(inside) if not path or name.startswith(f"{path}/")}
        if not call.flag("recursive"):
            depth = path.count("/") + 1 if path else 0
            names = {name for name in names if name.count("/") == depth}
        expand = call.flag("expand")
        size = min(self.page_size, EXPANDED_PAGE) if expand else self.page_size
        ordered = sorted(names, key=lambda name: (name in commit.tree, name))
        return self.page(call, ordered, size, lambda name: self.node(repo, commit, name, expand))

    async def paths_info(self, call: Call) -> Response:
        repo, commit = self.seen(call)
        if "json" in call.request.headers.get("content-type", ""):
            body = await call.json()
            paths, expand = body.get("paths", []), bool(body.get("expand"))
        else:
            form = parse_qs((await call.request.body()).decode())
            paths, expand = form.get("paths", []), form.get("expand", ["false"])[0].lower() == "true"
        known = set(commit.tree) | folders(commit.tree)
        names = [path.strip("/") for path in ([paths] if isinstance(paths, str) else paths)]
        return JSONResponse([self.node(repo, commit, name, expand) for name in names if name in known])

    def node(self, repo: Repo, commit: Commit, path: str, expand: bool) -> dict[str, Any]:
        entry = commit.tree.get(path)
        xet_hash = (
            self.xet.hash_of(entry.sha256, self.store.path(entry)) if self.xet and entry and entry.sha256 else None
        )
        return self.infos.node(repo, commit, path, expand, xet_hash)

    async def refs(self, call: Call) -> Response:
        repo = call.who.must_see(self.repo(call))
        found: dict[str, Any] = {
            "branches": [_ref(name, f"refs/heads/{name}", oid) for name, oid in repo.branches.items()],
            "converts": [],
            "tags": [_ref(name, f"refs/tags/{name}", oid) for name, oid in repo.tags.items()],
        }
        if call.flag("include_prs"):
            found["pullRequests"] = [_ref(ref.removeprefix("refs/pr/"), ref, oid) for ref, oid in repo.pulls.items()]
        return JSONResponse(found)

    async def commits(self, call: Call) -> Response:
        repo, commit = self.seen(call)
        return self.page(
            call,
            repo.log(commit.oid),
            min(self.page_size, EXPANDED_PAGE),
            lambda one: {
                "id": one.oid,
                "title": one.title,
                "message": one.message,
                "date": stamp(one.date),
                "authors": [{"user": one.author, "avatar": "/avatars/default.svg"}],
            },
        )

    async def resolve(self, call: Call) -> Response:
        repo = call.who.must_read(self.repo(call))
        commit, path = self.at(repo, call.parts["rev"]), call.parts["path"]
        entry = commit.tree.get(path)
        if entry is None:
            raise errors.no_entry("Entry not found", commit.oid)
        headers = {"X-Repo-Commit": commit.oid}
        name = path.rsplit("/", 1)[-1]
        if entry.sha256 is None:
            return deliver(call.request, self.store.path(entry), entry.oid, name, **headers)
        headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
        headers |= {"ETag": f'"{entry.oid}"', "Location": self.cdn.sign("GET", repo, entry.sha256, name=name)}
        if self.xet is not None:
            route = f"{self.address}/api/{repo.kind}s/{repo.id}/xet-read-token/{commit.oid}"
            headers["X-Xet-Hash"] = self.xet.hash_of(entry.sha256, self.store.path(entry))
            headers["X-Xet-Refresh-Route"] = route
            headers["Link"] = f'<{route}>; rel="xet-auth"'
        return PlainTextResponse(f"Found. Redirecting to {headers['Location']}", 302, headers=headers)

    # branches, tags, pull requests

    async def branch(self, call: Call) -> Response:
        repo, name = call.who.must_write(self.repo(call)), call.parts["name"]
        if call.request.method == "DELETE":
            if name == "main":
                raise errors.Refused(403, "Cannot delete refs/heads/main")
            if repo.branches.pop(name, None) is None:
                raise errors.no_revision(name)
            return PlainTextResponse("OK")
        body = await call.json()
        if not re.fullmatch(r"(?!refs/|.*\.\.)[\w./-]+", name):
            raise errors.Refused(400, f"Invalid branch name: {name}")
        start = self.at(repo, body.get("startingPoint") or "main")
        if name in repo.branches:
            raise errors.Refused(409, f"Reference already exists: refs/heads/{name}")
        repo.branches[name] = start.oid
        return PlainTextResponse("Created", 201)

    async def tag(self, call: Call) -> Response:
        repo = call.who.must_write(self.repo(call))
        if call.request.method == "DELETE":
            if repo.tags.pop(call.parts["name"], None) is None:
                raise errors.no_revision(call.parts["name"])
            return PlainTextResponse("OK")
        body = await call.json()
        start = self.at(repo, call.parts["name"])  # the path names the revision, the body the tag
        if body.get("tag") in repo.tags:
            raise errors.Refused(409, "Tag reference exists already")
        repo.tags[body["tag"]] = start.oid
        return PlainTextResponse("Created", 201)

    async def discussions(self, call: Call) -> Response:
        if call.request.method == "GET":
            repo = call.who.must_see(self.repo(call))
            shown = [one for one in reversed(repo.discussions) if _is_wanted(call, one)]
            start = int(call.query.get("p", "0")) * self.page_size
            rows = [self._discussion(repo, one) for one in shown[start : start + self.page_size]]
            return JSONResponse({"discussions": rows, "count": len(shown), "start": start, "numClosedDiscussions": 0})
        repo = call.who.must_propose(self.repo(call))
        body = await call.json()
        if len(body.get("title", "")) < 3:
            raise errors.Refused(400, '"title" length must be at least 3 characters long')
        pull = bool(body.get("pullRequest"))
        with self.store.lock:
            made = self._open(repo, body["title"], body.get("description", ""), call.who.user or "", pull)
            if pull:
                made.status = "draft"
                repo.pulls[f"refs/pr/{made.num}"] = repo.branches["main"]
        return JSONResponse({"num": made.num, "pullRequest": pull, "url": f"{self.url(repo)}/discussions/{made.num}"})

    async def discussion(self, call: Call) -> Response:
        repo = call.who.must_see(self.repo(call))
        found = next((one for one in repo.discussions if str(one.num) == call.parts["num"]), None)
        if found is None:
            raise errors.of_status(404)
        answer = self._discussion(repo, found)
        created = stamp(found.created)
        said = {
            "raw": found.description,
            "html": found.description,
            "updatedAt": created,
            "author": {"name": found.author},
        }
        answer["events"] = [
            {
                "id": f"{found.num:024x}",
                "type": "comment",
                "createdAt": created,
                "author": {"name": found.author},
                "data": {"edited": False, "hidden": False, "latest": said, "history": [said]},
            }
        ]
        if found.pull:
            answer |= {"changes": {"base": "refs/heads/main"}, "filesWithConflicts": [], "diff": ""}
        return JSONResponse(answer)

    def _open(self, repo: Repo, title: str, description: str, author: str, pull: bool) -> Discussion:
        made = Discussion(len(repo.discussions) + 1, title, description, author, pull, self.store.now())
        repo.discussions.append(made)
        return made

    def _discussion(self, repo: Repo, one: Discussion) -> dict[str, Any]:
        return {
            "num": one.num,
            "title": one.title,
            "author": {"name": one.author},
            "createdAt": stamp(one.created),
            "status": one.status,
            "isPullRequest": one.pull,
            "repo": {"name": repo.id, "type": repo.kind},
        }

    # gates

    async def ask_access(self, call: Call) -> Response:
        repo = call.who.must_see(self.repo(call))
        if call.who.user is None:
            raise errors.no_login()
        if repo.gated == "auto":
            repo.granted.add(call.who.user)
        elif repo.gated:
            repo.asked.add(call.who.user)
        return PlainTextResponse("OK")

    async def access(self, call: Call) -> Response:
        repo = call.who.must_write(self.repo(call))
        body = await call.json()
        user, status = body.get("user"), body.get("status", "accepted")
        if not repo.gated:
            raise errors.Refused(400, f"The {repo.kind} {repo.id} is not gated")
        if user not in self.store.users:
            raise errors.Refused(404, f"User {user} does not exist")
        if call.parts["action"] == "grant" and user in repo.granted:
            raise errors.Refused(400, f"{user} has access already")
        repo.asked.discard(user)
        repo.granted.discard(user)
        if status == "accepted":
            repo.granted.add(user)
        elif status == "pending":
            repo.asked.add(user)
        return JSONResponse({})

    async def access_list(self, call: Call) -> Response:
        repo = call.who.must_write(self.repo(call))
        names = {"accepted": repo.granted, "pending": repo.asked}.get(call.parts["action"], set())
        now = stamp(datetime.now(repo.created.tzinfo))
        return self.page(
            call,
            sorted(names),
            self.page_size,
            lambda name: {
                "requestId": self.store.users[name].id,
                "user": {"user": name, "fullname": name.capitalize(), "email": f"{name}@example.com"},
                "status": call.parts["action"],
                "timestamp": now,
            },
        )


def _many(call: Call, name: str) -> list[str]:
    """The values of a query field that may be repeated, or separated by commas."""
    values = [*call.query.getlist(name), *call.query.getlist(f"{name}[]")]
    return [word for value in values for word in value.split(",") if word]


def _matches(call: Call, found: dict[str, Any]) -> bool:
    """Whether an info passes the filters of a list call."""
    known = {tag.lower() for tag in found["tags"]} | {found["id"].lower()}
    if not all(tag.lower() in known for tag in _many(call, "filter")):
        return False
    if not all(word.lower() in found["id"].lower() for word in call.query.getlist("search")):
        return False
    if call.query.get("author") and call.query["author"] != found["author"]:
        return False
    if call.query.get("pipeline_tag") and call.query["pipeline_tag"] != found.get("pipeline_tag"):
        return False
    if call.query.get("gated") and call.flag("gated") != bool(found["gated"]):
        return False
    limits = dict(part.split(":") for part in call.query.get("num_parameters", "").split(",") if ":" in part)
    total = found.get("safetensors", {}).get("total")
    if limits and total is None:
        return False
    return _number(limits.get("min", "0")) <= (total or 0) <= _number(limits.get("max", "inf"))


def _number(text: str) -> float:
    scale = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}.get(text[-1:].upper())
    return float(text[:-1]) * scale if scale else float(text)


def _is_wanted(call: Call, one: Discussion) -> bool:
    kind, status, author = (call.query.get(name) for name in ("type", "status", "author"))
    if kind in ("pull_request", "discussion") and one.pull != (kind == "pull_request"):
        return False
    is_open = one.status in ("open", "draft")
    if status in ("open", "closed") and is_open != (status == "open"):
        return False
    return not author or author == one.author


def _ignored(rules: str, path: str) -> bool:
    """Whether a .gitignore has this path left out; the last rule that matches decides."""
    answer = False
    for line in rules.splitlines():
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!").strip("/")
        parts = path.split("/")
        hits = (fnmatchcase("/".join(parts[: i + 1]), pattern) for i in range(len(parts)))
        if "/" not in pattern:
            hits = (fnmatchcase(part, pattern) for part in (parts[:-1] if rule.endswith("/") else parts))
        if any(hits):
            answer = not rule.startswith("!")
    return answer


def _ref(name: str, ref: str, oid: str) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": oid}
