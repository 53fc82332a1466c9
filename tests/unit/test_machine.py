"""What differs between systems: here as it is, and the other branches by injection; no other module asks."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import psutil
import pytest

import hftransfer
from hftransfer.safety import machine

PACKAGE = Path(hftransfer.__file__).parent
# the fence is Linux's own (Landlock, seccomp), and says what holds elsewhere
LINUX = ("safety/machine.py", "safety/fence.py", "safety/calls.py")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Let the module believe that it runs on Windows; return what it asks of msvcrt."""
    asked: list[tuple[Any, ...]] = []
    fake = types.SimpleNamespace(LK_NBLCK=2, locking=lambda *words: asked.append(words))
    for name, value in {"SYSTEM": "Windows", "resource": None, "fcntl": None, "msvcrt": fake}.items():
        monkeypatch.setattr(machine, name, value)
    monkeypatch.setattr(machine, "PROCESSORS", Path("nowhere"))
    return asked


def test_here() -> None:
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    assert 2**20 < machine.peak_memory() < 2**40 and machine.address_space() > 2**20
    assert machine.processor()
    assert machine.has_parent(os.getppid()) and not machine.has_parent(1 if os.getppid() != 1 else 2)
    assert set(machine.wishes()) >= {signal.SIGTERM, signal.SIGINT}


def test_windows_has_a_way_round_each(
    windows: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = types.SimpleNamespace(peak_wset=7 * 2**20, vms=1)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: info)
    assert machine.peak_memory() == 7 * 2**20
    assert machine.cores() == psutil.cpu_count()
    assert machine.limit("AS", 1) is False
    monkeypatch.delattr(os, "nice", raising=False)
    machine.give_way()
    assert machine.own_session() == {"creationflags": 0} and machine.born(-1) == {}
    assert machine.processor() and not machine.processor_can("bf16")
    assert machine.has_parent(os.getpid()) and not machine.has_parent(2**22 + 1)
    monkeypatch.setattr(signal, "CTRL_BREAK_EVENT", 1, raising=False)
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    sent: list[int] = []
    machine.ask_to_end(types.SimpleNamespace(send_signal=sent.append))  # type: ignore[arg-type]
    assert sent == [1] and signal.SIGUSR1 in machine.wishes()
    path = tmp_path / "file"
    path.write_text("x")
    machine.sync(path)
    with open(path, "r+b") as file:
        assert machine.lock(file.fileno()) and windows == [(file.fileno(), 2, 1)]

        def refuse(*_: Any) -> None:
            raise OSError(errno.EACCES, "locked")

        monkeypatch.setattr(machine.msvcrt, "locking", refuse)
        assert not machine.lock(file.fileno())


def test_a_session_ends_with_all_that_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    for system in ("Linux", "Windows"):
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True) as child:
            while not (below := psutil.Process(child.pid).children()):
                pass
            with monkeypatch.context() as patched:
                patched.setattr(machine, "SYSTEM", system)
                machine.end_session(child.pid)
            assert not psutil.wait_procs(below, timeout=5)[1]
    machine.end_session(child.pid)  # which is gone


def test_macos_counts_memory_in_bytes_and_refuses_some_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("current limit exceeds maximum limit")

    used = types.SimpleNamespace(ru_maxrss=5)
    fake = types.SimpleNamespace(RUSAGE_SELF=0, RLIMIT_AS=5, getrusage=lambda _: used, setrlimit=refuse)
    monkeypatch.setattr(machine, "SYSTEM", "Darwin")
    monkeypatch.setattr(machine, "resource", fake)
    assert machine.peak_memory() == 5
    assert machine.limit("AS", 1) is False and machine.limit("CORE", 1) is False


WITHOUT = """
import os, platform, signal, sys
import psutil, subprocess, tempfile, multiprocessing, tqdm, pathlib  # theirs work there in their way
for name in ("resource", "fcntl", "pwd", "termios"):
    sys.modules[name] = None
platform.system = lambda: "Windows"
for name in ("sched_getaffinity", "killpg", "pread", "sysconf", "setsid", "getpgid"):
    delattr(os, name)
del signal.SIGKILL
from hftransfer import cli
from hftransfer.config import build
from hftransfer.runs import Run, seal
from hftransfer.safety import identity
assert cli.main(["tasks", "--json"]) == 0 and cli.main(["where"]) == 0
run = Run.create(build({"task": "t", "model": "m", "data": {"source": "x"}}))
identity.hold(run.folder)
folder = run.checkpoints / "checkpoint-1"
folder.mkdir()
(folder / "weights").write_text("w")
seal(folder)
run.event("process", **identity.note_process())
assert run.checkpoint() == folder and run.status().state == "running"
assert cli.main(["runs"]) == 0 and cli.main(["stop", run.name]) == 0
print("all of it")
"""


def test_the_command_line_works_without_what_posix_has(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.endswith("all of it\n"), done.stderr


def test_no_other_module_asks_what_differs() -> None:
    """Imports and names are ruff's to find (banned-api in pyproject.toml); these are words in texts and calls."""
    asked = re.compile(r"[\"']/proc/|start_new_session|preexec_fn|sys\.platform|platform\.system\(|os\.name\b")
    found = {
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).as_posix() not in LINUX
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if asked.search(line) and not line.lstrip().startswith("#")
    }
    assert not found


@pytest.mark.skipif(machine.SYSTEM != "Linux", reason="elsewhere a priority is that of a whole process")
def test_threads_that_serve_give_way_and_what_the_others_start_does_not() -> None:
    done = threading.Event()
    found: dict[str, int] = {}
    script = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"

    def work(name: str) -> None:
        done.wait(30)
        found[name] = int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)

    threads = [threading.Thread(target=work, args=(name,), name=name) for name in ("serves", "starts runs")]
    for thread in threads:
        thread.start()
    before = os.getpriority(os.PRIO_PROCESS, 0)
    others = [thread.name for thread in threading.enumerate() if thread.name != "serves"]
    machine.let_first(others, 15)
    machine.let_first(others, 12)  # what gave way once does not take it back
    done.set()
    for thread in threads:
        thread.join()
    assert found == {"serves": 15, "starts runs": before} and os.getpriority(os.PRIO_PROCESS, 0) == before


@pytest.mark.skipif(not machine.AUTOGROUP.exists(), reason="the kernel shares out no processors by session")
def test_a_process_with_a_session_of_its_own_gives_way_as_a_session() -> None:
    script = "from hftransfer.safety import machine; machine.give_way(12); print(machine.AUTOGROUP.read_text())"
    ran = {
        alone: subprocess.run([sys.executable, "-c", script], start_new_session=alone, capture_output=True, check=True)
        for alone in (True, False)
    }
    # a kernel that was told to share out nothing by session has the file, and nothing in it
    assert ran[True].stdout.split()[-2:] in ([b"nice", b"12"], [])
    assert ran[False].stdout.split()[-1:] != [b"12"]  # a terminal, and what else was started there
