"""System calls that a fenced process is refused, by Linux's seccomp: what reaches other processes, and odd sockets.

Landlock holds files, TCP ports and signals. This holds what it does not see: limits and priorities of other processes
of the same user, sockets by their kind, and ways around both (io_uring, MPTCP, 32-bit calls).
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from typing import Literal

Sockets = Literal["none", "internet", "all"]  # of those that a program opens: none, TCP and UDP, Unix ones too

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # places in struct seccomp_data; arguments of 8 bytes begin at 16
_X32 = 0x40000000

# the architecture's number, and the numbers of the calls: linux/audit.h, asm/unistd_64.h, asm-generic/unistd.h
_MACHINES: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (0xC000003E, {
        "socket": 41, "prlimit64": 302, "setpriority": 141, "sched_setparam": 142, "sched_setscheduler": 144,
        "sched_setattr": 314, "ioprio_set": 251, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311,
        "perf_event_open": 298, "bpf": 321, "userfaultfd": 323, "add_key": 248, "request_key": 249, "keyctl": 250,
        "io_uring_setup": 425, "pidfd_getfd": 438,
    }),
    "aarch64": (0xC00000B7, {
        "socket": 198, "prlimit64": 261, "setpriority": 140, "sched_setparam": 118, "sched_setscheduler": 119,
        "sched_setattr": 274, "ioprio_set": 30, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
        "perf_event_open": 241, "bpf": 280, "userfaultfd": 282, "add_key": 217, "request_key": 218, "keyctl": 219,
        "io_uring_setup": 425, "pidfd_getfd": 438,
    }),
}  # fmt: skip
# allowed for oneself, which is 0; the place of the argument that names whom
_OF_WHOM = {
    "prlimit64": 0, "sched_setparam": 0, "sched_setscheduler": 0, "sched_setattr": 0, "setpriority": 1,
    "ioprio_set": 1,
}  # fmt: skip
_UNIX, _INTERNET, _NETLINK = 1, (2, 10), 16
_PROTOCOLS = (0, 6, 17)  # the usual one, TCP, UDP; MPTCP and SCTP would pass Landlock's rules of ports by
_RAW = 3


def refuse(sockets: Sockets) -> bool:
    """Refuse this thread and what it starts those calls, for good; False where the machine cannot."""
    if platform.system() != "Linux" or platform.machine() not in _MACHINES:
        return False
    code = b"".join(struct.pack("HBBI", *line) for line in _program(*_MACHINES[platform.machine()], sockets))
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    return int(libc.prctl(_SET_SECCOMP, _FILTER, program, 0, 0)) == 0


def _program(architecture: int, numbers: dict[str, int], sockets: Sockets) -> list[tuple[int, int, int, int]]:
    """Return the filter: a jump names by how many lines it goes on when its test holds, and when not."""
    refused = (_RETURN, 0, 0, _REFUSE)
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), refused,  # calls of 32-bit programs
        (_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32), refused,
    ]  # fmt: skip
    for name, number in numbers.items():
        if name == "socket":
            block = _of_sockets(sockets)
        elif name in _OF_WHOM:
            block = [(_LOAD, 0, 0, 16 + 8 * _OF_WHOM[name]), (_EQUAL, 1, 0, 0), refused, (_LOAD, 0, 0, _NUMBER)]
        else:
            block = [refused]
        lines += [(_EQUAL, 0, len(block), number), *block]
    return [*lines, (_RETURN, 0, 0, _ALLOW)]


def _of_sockets(sockets: Sockets) -> list[tuple[int, int, int, int]]:
    refused, allowed = (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)
    if sockets == "none":
        return [refused]
    free = [_NETLINK, *([_UNIX] if sockets == "all" else [])]  # netlink: how the machine's addresses are looked up
    of_protocol = [(_EQUAL, len(_PROTOCOLS) - place, 0, known) for place, known in enumerate(_PROTOCOLS)]
    internet = [
        (_LOAD, 0, 0, 32), *of_protocol, refused,
        (_LOAD, 0, 0, 24), (_AND, 0, 0, 0xF), (_EQUAL, 0, 1, _RAW), refused, allowed,
    ]  # fmt: skip
    families = [
        *(line for family in free for line in ((_EQUAL, 0, 1, family), allowed)),
        (_EQUAL, 2, 0, _INTERNET[0]), (_EQUAL, 1, 0, _INTERNET[1]), refused,
    ]  # fmt: skip
    return [(_LOAD, 0, 0, 16), *families, *internet]
