"""The second origin: signed puts and gets of large files, on which no token may ever arrive."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode

from starlette.responses import JSONResponse, Response

from tests.hub_server import errors
from tests.hub_server.access import Identity
from tests.hub_server.delivery import deliver
from tests.hub_server.front import Call, Route
from tests.hub_server.log import Record
from tests.hub_server.store import Repo, Store

LIFE = 3600  # seconds that a signed address is good for


class Cdn:
    """File storage behind signed addresses, which alone say what their holder may do."""

    def __init__(self, store: Store) -> None:
        self.store, self.address = store, ""
        self.leaks: list[Record] = []
        self.routes = [
            Route("lfs-put", ("PUT",), "/repos/{repo}/{sha256}", self.put),
            Route("lfs-put", ("PUT",), "/repos/{repo}/{sha256}/{upload}/{number}", self.put_part),
            Route("cdn-get", ("GET",), "/repos/{repo}/{sha256}", self.get),
        ]

    def sign(self, method: str, repo: Repo, sha256: str, more: str = "", **query: str) -> str:
        """An address on this origin that is good for one method and one file."""
        path = f"/repos/{repo.key}/{sha256}{more}"
        expires = str(int(time.time()) + LIFE)
        words = {**query, "X-Amz-Expires": expires, "X-Amz-Signature": self.signature(method, path, expires)}
        return f"{self.address}{path}?{urlencode(words, quote_via=quote)}"

    def signature(self, method: str, path: str, expires: str) -> str:
        return hmac.new(self.store.secret, f"{method} {path} {expires}".encode(), hashlib.sha256).hexdigest()

    def identify(self, record: Record, headers: dict[str, str]) -> Identity:
        """Nobody is known here; a request that brings a token is recorded as a leak and refused."""
        sent = " ".join([record.path, record.query, *headers.values()])
        if record.authorized or any(value in sent for value in self.store.tokens):
            self.leaks.append(record)
            raise errors.Refused(400, "Only one auth mechanism allowed: a token has reached the file storage")
        query = {name: values[0] for name, values in parse_qs(record.query).items()}
        method = "GET" if record.method == "HEAD" else record.method
        wanted = self.signature(method, record.path, query.get("X-Amz-Expires", ""))
        if not hmac.compare_digest(wanted, query.get("X-Amz-Signature", "")):
            raise errors.Refused(403, "SignatureDoesNotMatch")
        if int(query["X-Amz-Expires"]) < time.time():
            raise errors.Refused(403, "Request has expired")
        return Identity(self.store)

    async def get(self, call: Call) -> Response:
        sha256 = call.parts["sha256"]
        return deliver(call.request, self.store.large(sha256), sha256, call.query.get("name", sha256))

    async def put(self, call: Call) -> Response:
        sha256 = call.parts["sha256"]
        temporary = self.store.folder / "parts" / secrets.token_hex(8)
        found, size = await self._receive(call, temporary)
        if found != sha256:
            temporary.unlink()
            raise errors.Refused(400, "BadDigest: the content does not have the hash of its address")
        self.admit(call.parts["repo"], sha256, size, temporary)
        return Response(None, 200, headers={"ETag": f'"{found[:32]}"'})

    async def put_part(self, call: Call) -> Response:
        name = f"{call.parts['upload']}.{int(call.parts['number']):05}"
        found, _ = await self._receive(call, self.store.folder / "parts" / name)
        return Response(None, 200, headers={"ETag": f'"{found[:32]}"'})

    async def complete(self, call: Call) -> Response:
        """Join the parts of a multipart upload; called on the API's listener, with a signature and no token."""
        parts, upload, sha256 = call.parts, call.parts["upload"], call.parts["sha256"]
        wanted = self.signature("POST", f"/repos/{parts['repo']}/{sha256}/{upload}", "")
        if not hmac.compare_digest(wanted, call.query.get("signature", "")):
            raise errors.Refused(403, "SignatureDoesNotMatch")
        body = await call.json()
        numbers = [part["partNumber"] for part in body.get("parts", [])]
        paths = [self.store.folder / "parts" / f"{upload}.{number:05}" for number in numbers]
        if body.get("oid") != sha256 or not paths or not all(path.exists() for path in paths):
            raise errors.Refused(400, "InvalidPart")
        whole, digest = self.store.folder / "parts" / upload, hashlib.sha256()
        with whole.open("wb") as file:
            for path in paths:
                data = path.read_bytes()
                digest.update(data)
                file.write(data)
                path.unlink()
        if digest.hexdigest() != sha256:
            raise errors.Refused(400, "BadDigest: the content does not have the hash of its address")
        self.admit(parts["repo"], sha256, whole.stat().st_size, whole)
        return JSONResponse({})

    def admit(self, key: str, sha256: str, size: int, temporary: Path) -> None:
        """Make content that has arrived an object of its repo's large file storage."""
        repo = next((repo for repo in self.store.repos.values() if repo.key == key), None)
        if repo is None:
            raise errors.Refused(404, "NoSuchBucket")
        with self.store.lock:
            temporary.replace(self.store.large(sha256))
            repo.objects[sha256] = size

    async def _receive(self, call: Call, path: Path) -> tuple[str, int]:
        digest, size, tail = hashlib.sha256(), 0, b""
        tokens = [value.encode() for value in self.store.tokens]
        leaked = False
        with path.open("wb") as file:
            async for piece in call.request.stream():
                digest.update(piece)
                file.write(piece)
                size += len(piece)
                leaked = leaked or any(token in tail + piece for token in tokens)
                tail = piece[-64:]
        if leaked:  # a token inside an uploaded file is published with it
            self.leaks.append(call.record)
        return digest.hexdigest(), size
