"""A fence around a process that works for a stranger: it reaches that stranger's files alone, and no private host.

On a Space all visitors' processes run as one Unix user, so file permissions keep nobody apart. Linux's Landlock does,
without any privilege; it also covers what native code opens, signals, and the environments of other processes.
System calls that reach other processes are refused by seccomp (calls.py). Where the kernel has no Landlock, and for
hosts, Python's audit hooks refuse what Python code opens: enough against names that a file or a configuration smuggles
in, not against somebody who can run code of their own. docs/space.md has the table of what holds where.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import platform
import site
import socket
import struct
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from hftransfer.safety import machine
from hftransfer.safety.calls import Sockets, refuse

VARIABLE = "HFTRANSFER_FENCE"  # environment variable of a process that is to close itself in
Kind = Literal["kernel", "python", "none"]

SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc", "/opt", "/sys", "/proc",
    "/run/systemd/resolve", "/run/resolvconf", "/run/nscd",
)  # fmt: skip
DEVICES = ("/dev",)  # read and written, never made: null, urandom, nvidia*
SHARED_MEMORY = ("/dev/shm",)  # where processes of one run hand tensors to one another
SECRETS = ("environ", "mem", "maps", "fd", "root", "cwd", "task")  # of another process, below /proc/PID


def environment(
    readable: Iterable[Path], writable: Iterable[Path], file_mb: int = 0, linked: Iterable[Path] = ()
) -> dict[str, str]:
    """Return the variable that makes a process of ours close itself in; no file it writes has more MB, 0: any.

    `linked` are the folders in which it makes links: whoever stands behind no fence must not follow them.
    """
    asked = {
        "read": [str(path) for path in readable], "write": [str(path) for path in writable], "file_mb": file_mb,
        "link": [str(path) for path in linked],
    }  # fmt: skip
    return {VARIABLE: json.dumps(asked)}


def close(given: Mapping[str, str] | None = None, sockets: Sockets = "all") -> Kind:
    """Close this process and all it starts in, if its environment says so; to be called before any thread starts.

    `sockets` are the kinds that it will need. Returns what holds: the kernel, Python's audit hooks alone, or none when
    nobody asked.
    """
    found = os.environ if given is None else given
    text = found.get(VARIABLE)
    if not text:
        return "none"
    machine.limit("CORE", 0)  # a core file would hold the token
    asked = json.loads(text)
    if asked["file_mb"]:
        machine.limit("FSIZE", asked["file_mb"] * 2**20)
    readable = [*SYSTEM, *_python(), *_certificates(), *asked["read"]]
    writable, linked = [*DEVICES, *SHARED_MEMORY, *asked["write"]], asked["link"]
    hosts = _endpoints()
    alone = int(found.get("WORLD_SIZE", "1")) == 1  # processes of one run meet at a port of this machine
    own_hub = urlsplit(os.environ.get("HF_ENDPOINT", "")).scheme == "http"  # its storage is at a port of its own
    kernel = restrict(readable, writable, None if own_hub or not alone else _ports(), linked)
    refuse(sockets)
    sys.addaudithook(_Hook(readable, writable, linked, hosts, files=not kernel))
    return "kernel" if kernel else "python"


def _python() -> list[str]:
    """Return where code is imported from: our package, not the folder that it lies in, which may hold anything."""
    packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages", "lib-dynload"))]
    return [
        sys.prefix, sys.base_prefix, *site.getsitepackages(), site.getusersitepackages(), *packages,
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    ]  # fmt: skip


def _certificates() -> list[str]:
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return [os.environ[name] for name in names if os.environ.get(name)]


# --- Landlock: linux/landlock.h; the numbers are the same on every architecture ---

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_ALL = (1 << 13) - 1
_MAKE_LINK = 1 << 12
_MAKE_SPECIAL = 1 << 6 | 1 << 10 | 1 << 11  # devices, and pipes, which whoever opens one waits at
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_SCOPE = 3  # no signals and no abstract sockets to anyone outside
_PATH_BENEATH, _PORT = 1, 2
_CONNECT_TCP, _TCP = 1 << 1, 3  # and waiting at a port
_NO_NEW_PRIVILEGES = 38
_CAPABILITY_VERSION = 0x20080522
_CAPABILITIES = (19, 21, 38)  # SYS_PTRACE, SYS_ADMIN, PERFMON


def version() -> int:
    """Return the kernel's version of Landlock, 0 where there is none."""
    if platform.system() != "Linux":
        return 0
    return max(0, int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))))


def restrict(
    readable: Iterable[str], writable: Iterable[str], ports: Iterable[int] | None = None, linked: Iterable[str] = ()
) -> bool:
    """Restrict this thread and what it starts, for good, by Landlock; False where the kernel has none.

    `ports` are those that TCP connects to; None leaves all open, also for whoever waits at one. Symbolic links are
    made in the folders `linked` alone.
    """
    found = version()
    if not found:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    handled = _ALL | (_REFER if found >= 2 else 0) | (_TRUNCATE if found >= 3 else 0) | (_IOCTL if found >= 5 else 0)
    closed = ports is not None and found >= 4
    attributes = struct.pack("QQQ", handled, _TCP if closed else 0, _SCOPE if found >= 6 else 0)
    size = 24 if found >= 6 else 16 if found >= 4 else 8
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        writes = handled & ~(_MAKE_LINK | _MAKE_SPECIAL)
        rights = ((readable, _EXECUTE | _READ_FILE | _READ_DIR), (writable, writes), (linked, writes | _MAKE_LINK))
        for paths, allowed in rights:
            for path in paths:
                _allow(libc, ruleset, path, allowed & handled)
        for port in ports or () if closed else ():
            rule = struct.pack("=QQ", _CONNECT_TCP, port)
            libc.syscall(_ADD_RULE, ruleset, _PORT, rule, ctypes.c_uint32(0))
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        _drop_capabilities(libc)
        if libc.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)):
            raise OSError(ctypes.get_errno(), "the kernel refused to close the fence")
    finally:
        os.close(ruleset)
    return True


def _allow(libc: Any, ruleset: int, path: str, allowed: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no way in
    try:
        rights = allowed if os.path.isdir(path) else allowed & _FILE
        rule = struct.pack("=Qi", rights, descriptor)
        if libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, ctypes.c_uint32(0)):
            raise OSError(ctypes.get_errno(), "the kernel refused a part of the fence", path)
    finally:
        os.close(descriptor)


def _drop_capabilities(libc: Any) -> None:
    """Give up what lets root read other processes in spite of Landlock (may_access_mm in the kernel's fork.c)."""
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    data = ctypes.create_string_buffer(24)
    if libc.capget(header, data):
        return
    sets = list(struct.unpack("6I", data.raw))  # effective, permitted, inheritable: the low words, then the high ones
    for number in _CAPABILITIES:
        first = 3 * (number // 32)
        sets[first : first + 3] = [word & ~(1 << number % 32) for word in sets[first : first + 3]]
    libc.capset(header, struct.pack("6I", *sets))


# --- audit hooks ---

# the paths among the arguments of an event, and whether they are written
_EVENTS: dict[str, tuple[tuple[int, ...], bool]] = {
    "os.listdir": ((0,), False),
    "os.scandir": ((0,), False),
    "os.chdir": ((0,), False),
    "os.mkdir": ((0,), True),
    "os.remove": ((0,), True),
    "os.rmdir": ((0,), True),
    "os.rename": ((0, 1), True),
    "os.link": ((0, 1), True),
    "os.symlink": ((0, 1), True),
    "os.truncate": ((0,), True),
    "os.chmod": ((0,), True),
    "os.chown": ((0,), True),
    "os.utime": ((0,), True),
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _below(real: str, roots: Iterable[str]) -> bool:
    return any(real == root or real.startswith(root.rstrip("/") + "/") for root in roots)


class _Hook:
    """Refuses, from inside Python, files outside of the fence and connections to private hosts."""

    def __init__(
        self, readable: Iterable[str], writable: Iterable[str], linked: Iterable[str], hosts: set[str], files: bool
    ) -> None:
        self.writable = [os.path.realpath(path) for path in writable]
        self.linked = [os.path.realpath(path) for path in linked]
        self.readable = [os.path.realpath(path) for path in readable] + self.writable
        self.hosts, self.files = hosts, files
        self.own = f"/proc/{os.getpid()}/"

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            self._require_public(arguments[1])
        elif not self.files:
            return
        elif event == "open":
            path, mode, flags = arguments
            self._require(path, bool(flags & _WRITES) or (isinstance(mode, str) and bool(set(mode) & set("wax+"))))
        elif event in _EVENTS:
            places, written = _EVENTS[event]
            for place in places:
                self._require(arguments[place], written)
            if event == "os.symlink" and not _below(os.path.realpath(os.fsdecode(arguments[1])), self.linked):
                raise PermissionError(1, "this process makes no links there", os.fsdecode(arguments[1]))

    def _require(self, path: Any, written: bool) -> None:
        if path is None:
            path = "."
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a descriptor: opening it was refused or not
        real = os.path.realpath(os.fsdecode(path))
        allowed = self.writable if written else self.readable
        if not _below(real, allowed) or self._secret(real):
            raise PermissionError(13, "outside of what this process may reach", os.fsdecode(path))

    def _secret(self, path: str) -> bool:
        parts = path.split("/")
        if len(parts) < 4 or parts[1] != "proc" or not parts[2].isdigit():
            return False
        return parts[3] in SECRETS and int(parts[2]) != os.getpid()

    def _require_public(self, address: Any) -> None:
        if isinstance(address, str | bytes):  # a Unix socket: a file, or a name that begins with a zero
            if address and address[:1] not in ("\0", b"\0"):
                self._require(address, True)
            return
        if not isinstance(address, tuple) or len(address) < 2:
            return
        host, port = str(address[0]), address[1]
        for found in _addresses(host, port):
            if found not in self.hosts and not ipaddress.ip_address(found.partition("%")[0]).is_global:
                raise PermissionError(13, "a private host, which this process may not reach", host)


_NAMED = ("HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def _named() -> list[SplitResult]:
    """Return the Hub and the proxies that the operator named, wherever they are."""
    texts = [text for name in _NAMED if (text := os.environ.get(name))]
    return [urlsplit(text if "://" in text else f"http://{text}") for text in texts]


def _endpoints() -> set[str]:
    return {address for place in _named() if place.hostname for address in _addresses(place.hostname, 0)}


def _ports() -> set[int]:
    """Return the ports that a process connects to: https, names, and what the operator named."""
    named = {place.port or (80 if place.scheme == "http" else 443) for place in _named()}
    return {443, 53} | named


def _addresses(host: str, port: int) -> set[str]:
    try:
        ipaddress.ip_address(host.partition("%")[0])
        return {host}
    except ValueError:
        pass
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(host, port)}
    except OSError:
        return set()
