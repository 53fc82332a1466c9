"""What the Hub keeps: users, organizations, tokens, repos with their commits, and the content of files in a folder."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
import secrets
import string
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

KINDS = ("model", "dataset", "space")
PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}
ROLES = ("admin", "write", "contributor", "read")
_LFS_PATTERNS = """
*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack *.npy *.npz *.onnx
*.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/**/* *.tar.* *.tar *.tflite *.tgz
*.wasm *.xz *.zip *.zst *tfevents*
"""
LFS_PATTERNS = tuple(_LFS_PATTERNS.split())
_DATASET_PATTERNS = """
*.avro *.lz4 *.mds *.pcm *.sam *.raw *.aac *.flac *.mp3 *.ogg *.wav *.bmp *.gif *.png *.tiff *.jpg *.jpeg *.webp
*.mp4 *.webm
"""
DATASET_PATTERNS = tuple(_DATASET_PATTERNS.split())
NAME = re.compile(r"^(?!.*(--|\.\.))(?!.*\.git$)[\w][\w.-]{0,94}[\w]$|^\w$")
TOKEN_LENGTH = 34


@dataclass
class User:
    name: str
    id: str = field(default_factory=lambda: secrets.token_hex(12))


@dataclass
class Org:
    name: str
    members: dict[str, str]  # user -> role
    id: str = field(default_factory=lambda: secrets.token_hex(12))


@dataclass
class Token:
    value: str
    user: str
    role: str  # write, read, fineGrained
    scopes: dict[str, list[str]] = field(default_factory=dict)  # namespace or repo -> permissions
    anywhere: list[str] = field(default_factory=list)
    gated_repos: bool = False
    revoked: bool = False


@dataclass(frozen=True)
class Entry:
    """One file of a commit; `sha256` is set when it is kept in large file storage."""

    oid: str
    size: int
    sha256: str | None = None

    @property
    def remote_oid(self) -> str:
        """What the client compares with to see that a file has not changed."""
        return self.sha256 or self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    title: str
    message: str
    author: str
    date: datetime
    parent: str | None
    tree: dict[str, Entry] = field(repr=False)


@dataclass
class Discussion:
    num: int
    title: str
    description: str
    author: str
    pull: bool
    created: datetime
    status: str = "open"


@dataclass
class Repo:
    kind: str
    id: str
    private: bool
    gated: bool | str
    creator: str
    created: datetime
    sdk: str | None = None
    likes: int = 0
    downloads: int = 0
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)  # refs/pr/1 -> oid
    discussions: list[Discussion] = field(default_factory=list)
    granted: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    objects: dict[str, int] = field(default_factory=dict)  # sha256 -> size of what its large file storage holds
    history: dict[str, Commit] = field(default_factory=dict, repr=False)
    key: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def namespace(self) -> str:
        return self.id.split("/")[0]

    @property
    def commits(self) -> list[Commit]:
        """The commits of main, oldest first."""
        return self.log(self.branches["main"])[::-1]

    def log(self, oid: str) -> list[Commit]:
        """The commits that lead to this one, newest first."""
        found, at = [], self.history.get(oid)
        while at:
            found.append(at)
            at = self.history[at.parent] if at.parent else None
        return found

    def find(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag, a pull request's ref or a (short) hash names."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        oid = self.branches.get(name) or self.tags.get(name) or self.pulls.get(revision)
        if oid is None and re.fullmatch(r"[0-9a-f]{7,40}", revision):
            oid = next((known for known in self.history if known.startswith(revision)), None)
        return self.history[oid] if oid else None


class Store:
    """All state of one server; every change happens under `lock`, as tests call it from other threads."""

    def __init__(self, folder: Path, lfs_threshold: int) -> None:
        self.folder, self.lfs_threshold = folder, lfs_threshold
        self.lock = threading.RLock()
        self.users: dict[str, User] = {}
        self.orgs: dict[str, Org] = {}
        self.tokens: dict[str, Token] = {}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.moved: dict[tuple[str, str], str] = {}
        self.secret = secrets.token_bytes(32)
        self._count = itertools.count()
        self._last = datetime.fromtimestamp(0, UTC)
        for name in ("blobs", "lfs", "parts"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    # people

    def add_user(self, name: str) -> User:
        if name in self.users or name in self.orgs:
            raise ValueError(f"{name} exists already")
        return self.users.setdefault(name, User(name))

    def add_org(self, name: str, members: dict[str, str]) -> Org:
        if name in self.users or name in self.orgs:
            raise ValueError(f"{name} exists already")
        for user, role in members.items():
            if user not in self.users or role not in ROLES:
                raise ValueError(f"a member is a known user with one of the roles {ROLES}, not {user}: {role}")
        return self.orgs.setdefault(name, Org(name, dict(members)))

    def add_token(self, user: str, role: str, **more: object) -> Token:
        if user not in self.users:
            raise ValueError(f"no user {user}; there are {', '.join(self.users)}")
        value = "hf_" + "".join(random.SystemRandom().choices(string.ascii_letters + string.digits, k=TOKEN_LENGTH))
        return self.tokens.setdefault(value, Token(value, user, role, **more))  # type: ignore[arg-type]

    # repos

    def create(self, kind: str, repo_id: str, creator: str, private: bool = False, sdk: str | None = None) -> Repo:
        repo = Repo(kind, repo_id, private, False, creator, self.now(), sdk)
        with self.lock:
            self.repos[kind, repo_id] = repo
            self.moved.pop((kind, repo_id), None)
            patterns = LFS_PATTERNS + (DATASET_PATTERNS if kind == "dataset" else ())
            text = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in patterns)
            tree = {".gitattributes": self.keep(text.encode())}
            self.commit(repo, "main", "initial commit", "", creator, tree)
        return repo

    def commit(
        self, repo: Repo, ref: str, title: str, message: str, author: str, tree: dict[str, Entry], orphan: bool = False
    ) -> Commit:
        """Put a commit with this tree on top of a branch, or of a pull request's ref."""
        with self.lock:
            refs = repo.pulls if ref.startswith("refs/pr/") else repo.branches
            parent = None if orphan else refs.get(ref)
            text = repr((parent, title, message, author, sorted(tree.items()), next(self._count), self.secret))
            oid = hashlib.sha1(text.encode()).hexdigest()
            repo.history[oid] = Commit(oid, title, message, author, self.now(), parent, tree)
            refs[ref] = oid
        return repo.history[oid]

    def move(self, repo: Repo, repo_id: str) -> None:
        with self.lock:
            del self.repos[repo.kind, repo.id]
            self.moved[repo.kind, repo.id] = repo_id
            repo.id = repo_id
            self.repos[repo.kind, repo_id] = repo

    def upload_mode(self, attributes: str, path: str, size: int, sample: bytes) -> str:
        """`lfs` or `regular`, decided as the Hub does: attributes, then size, then whether it is text."""
        if size > self.lfs_threshold or tracked(attributes, path) or b"\0" in sample:
            return "lfs"
        try:
            sample.decode()
        except UnicodeDecodeError as error:
            if error.start < len(sample) - 4:  # a character cut off by the sample's end is not binary content
                return "lfs"
        return "regular"

    def attributes(self, tree: dict[str, Entry]) -> str:
        entry = tree.get(".gitattributes")
        return self.content(entry).decode() if entry else ""

    # content

    def keep(self, data: bytes) -> Entry:
        """Store a regular file."""
        oid = git_oid(data)
        path = self.folder / "blobs" / oid
        if not path.exists():
            path.write_bytes(data)
        return Entry(oid, len(data))

    def keep_large(self, repo: Repo, data: bytes) -> Entry:
        """Store a file in large file storage."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.large(sha256)
        if not path.exists():
            path.write_bytes(data)
        repo.objects[sha256] = len(data)
        return pointer(sha256, len(data))

    def large(self, sha256: str) -> Path:
        return self.folder / "lfs" / sha256

    def path(self, entry: Entry) -> Path:
        return self.large(entry.sha256) if entry.sha256 else self.folder / "blobs" / entry.oid

    def content(self, entry: Entry) -> bytes:
        return self.path(entry).read_bytes()

    def now(self) -> datetime:
        """The time in whole milliseconds, later at each call: what is made later sorts later."""
        with self.lock:
            now = datetime.now(UTC)
            now = now.replace(microsecond=now.microsecond // 1000 * 1000)
            self._last = max(now, self._last + timedelta(milliseconds=1))
            return self._last


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def pointer_text(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def pointer(sha256: str, size: int) -> Entry:
    """The entry of a large file: in git it is a small pointer with a hash of its own."""
    return Entry(git_oid(pointer_text(sha256, size)), size, sha256)


def tracked(attributes: str, path: str) -> bool:
    """Whether .gitattributes sends this path to large file storage; the last line that matches decides."""
    answer = False
    for line in attributes.splitlines():
        words = line.split()
        if len(words) < 2 or line.startswith("#"):
            continue
        pattern = words[0].replace("[[:space:]]", " ")
        name = path if "/" in pattern else path.rsplit("/", 1)[-1]
        if fnmatchcase(name, pattern.removeprefix("/").replace("**/", "*")):
            answer = "filter=lfs" in words[1:]
    return answer


def stamp(date: datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%S.") + f"{date.microsecond // 1000:03}Z"
