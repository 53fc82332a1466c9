"""What differs between Linux, macOS and Windows: asked here and nowhere else, each with a way round."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import os
import platform
import signal
import subprocess
import threading
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psutil


def _optional(name: str) -> Any:
    """Return a module that some systems have, None on the others."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_SET_DUMPABLE = 4  # prctl
SYSTEM = platform.system()  # Linux, Darwin or Windows
resource, fcntl, msvcrt = _optional("resource"), _optional("fcntl"), _optional("msvcrt")
BOOT = Path("/proc/sys/kernel/random/boot_id")
PROCESSORS = Path("/proc/cpuinfo")
AUTOGROUP = Path("/proc/self/autogroup")  # of this session, where the kernel shares out processors by session
LATER = 10  # of 19: about a tenth of a core that another process wants as well
LAST = 15  # about a thirtieth: with less, an answer takes minutes where a run trains on every core
TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)  # of a lock that somebody else holds


def bears_two_openmps() -> bool:
    """Tell whether two libraries that each bring an OpenMP of their own, as wheels do, may stand in one process.

    On macOS that can end the process.
    """
    return SYSTEM != "Darwin"


def cores() -> int:
    """Return how many cores this process may use."""
    if SYSTEM == "Linux":
        return len(os.sched_getaffinity(0))
    import psutil

    return psutil.cpu_count() or 1


def peak_memory() -> int:
    """Return the largest memory of this process so far, in bytes."""
    import psutil

    if resource is None:
        info: Any = psutil.Process().memory_info()  # its fields are each system's own
        return int(info.peak_wset)
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if SYSTEM == "Darwin" else 1024)


def address_space() -> int:
    """Return how many bytes of addresses this process has taken."""
    import psutil

    return int(psutil.Process().memory_info().vms)


def limit(name: str, most: int) -> bool:
    """Bound what this process may take (`AS`, `CPU`, `FSIZE`, `CORE`), and tell whether the system does that."""
    kind = getattr(resource, f"RLIMIT_{name}", None)  # None of a system without the module too
    if kind is None:
        return False
    with contextlib.suppress(ValueError, OSError):  # macOS refuses some of them
        resource.setrlimit(kind, (most, most))
        return True
    return False


def open_files(most: int) -> None:
    """Let this process have so many files open, or as many as the system allows it: connections are files too."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS has a limit of its own below the one that it tells
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def close_memory() -> bool:
    """Close this process's memory and environment to others of the same user; tell whether the system does that."""
    return SYSTEM == "Linux" and ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0) == 0


def give_way(later: int = LATER) -> None:
    """Let other processes of this machine go first: one that trains does not wait for one that answers.

    On Linux this is of the thread that calls, and of all that it starts: see `let_first`. A kernel that shares out
    processors by session compares priorities within one alone: a process that leads its own says it of that too.
    """
    if SYSTEM == "Linux":
        _give_way(0, later)
        if os.getsid(0) == os.getpid():
            with contextlib.suppress(OSError):  # a kernel, or a container, without them
                AUTOGROUP.write_text(str(later))
    elif hasattr(os, "nice"):  # Windows has none
        os.nice(later)


def let_first(names: Collection[str], later: int = LATER) -> None:
    """Let other processes go before this one's threads but those of some names, and before what these start.

    What the others start, a run, is not held back: nobody but root takes back what a thread once gave. Only on Linux,
    where each thread has a priority of its own.
    """
    if SYSTEM == "Linux":
        for thread in threading.enumerate():
            if thread.name not in names and thread.native_id is not None:
                _give_way(thread.native_id, later)


def _give_way(thread: int, later: int) -> None:
    with contextlib.suppress(OSError):  # it has ended
        os.setpriority(os.PRIO_PROCESS, thread, max(later, os.getpriority(os.PRIO_PROCESS, thread)))
        os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))  # it interrupts nobody when it wakes


def own_session() -> dict[str, Any]:
    """Return options of Popen by which a child outlives the terminal, and takes no Ctrl-C that is meant for us."""
    if SYSTEM == "Windows":
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}


def end_session(pid: int) -> None:
    """Kill a child that has a session of its own, and all that it has started."""
    import psutil

    with contextlib.suppress(ProcessLookupError, psutil.Error):
        if SYSTEM == "Windows":
            process = psutil.Process(pid)
            for one in (*process.children(recursive=True), process):
                one.kill()
        else:
            os.killpg(pid, signal.SIGKILL)


def wishes() -> tuple[signal.Signals, ...]:
    """Return the signals by which a process is asked to end."""
    return (signal.SIGTERM, signal.SIGINT, *([signal.SIGBREAK] if hasattr(signal, "SIGBREAK") else []))


def ask_to_end(process: psutil.Process) -> None:
    """Ask a process to end in good order; it may not answer."""
    # on Windows SIGTERM ends a process at once; a break reaches its handler, in the same console
    process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM) if SYSTEM == "Windows" else signal.SIGTERM)


def ask_self_to_end() -> None:
    """Ask this process to end, from any of its threads."""
    if SYSTEM == "Windows":
        signal.raise_signal(signal.SIGTERM)
    else:
        os.kill(os.getpid(), signal.SIGTERM)  # wakes the main thread out of whatever it waits for


def has_parent(parent: int) -> bool:
    """Tell whether this process's parent is still the one of that number."""
    import psutil

    if SYSTEM == "Windows":  # the number stays when the parent is gone
        return bool(psutil.pid_exists(parent))
    return os.getppid() == parent


def lock(descriptor: int, within: bool = False) -> bool:
    """Lock an open file for this process; False where another one holds it. It goes when the file is closed.

    `within`: against another opening of it in this process too. OSError of a file system that knows no locks.
    """
    try:
        if fcntl is not None:
            (fcntl.flock if within else fcntl.lockf)(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in TAKEN:
            return False
        raise
    return True


def last_byte(descriptor: int) -> bytes:
    """Return the last byte of a file that is open for reading and appending; nothing of an empty one."""
    if not os.fstat(descriptor).st_size:
        return b""
    os.lseek(descriptor, -1, os.SEEK_END)  # what is appended goes to the end wherever this stands
    return os.read(descriptor, 1)


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with open(path, "rb+" if SYSTEM == "Windows" else "rb") as file:  # which syncs what may be written alone
        os.fsync(file.fileno())


def born(pid: int) -> dict[str, Any]:
    """Return the boot that a process belongs to and its start in clock ticks since then; nothing where none tells."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return {"boot": BOOT.read_text(encoding="utf-8").strip(), "ticks": int(words[19])}
    except (OSError, IndexError, ValueError):
        return {}


def processor() -> str:
    """Return the name of the processor."""
    found = [line for line in _about_processors() if "model name" in line]
    return found[0].partition(":")[2].strip() if found else platform.processor() or platform.machine()


def processor_can(*abilities: str) -> bool:
    """Tell whether the processor has one of these abilities, as Linux names them; False where nobody tells."""
    return any(ability in line.split() for line in _about_processors() for ability in abilities)


def _about_processors() -> list[str]:
    return PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines() if PROCESSORS.is_file() else []
