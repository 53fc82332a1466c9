"""A SLURM of two nodes on this machine, from Debian's packages: its own keys, ports and folder, and nothing left."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

NEEDED = ("sbatch", "srun", "slurmctld", "slurmd", "munged")
WHY_NOT = "SLURM is not installed: apt-get install slurm-wlm munge"
DAEMONS = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
KillWait=5
BatchStartTimeout=30
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=2000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""


def installed() -> bool:
    """Tell whether every program is here."""
    return all(shutil.which(name, path=DAEMONS) for name in NEEDED)


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start a cluster in `folder`; yield the environment variables by which its commands find it."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "key").write_bytes(secrets.token_bytes(128))
    (folder / "key").chmod(0o600)
    path = folder / "slurm.conf"
    settings = {"host": socket.gethostname(), "ports": _free_ports(3), "user": getpass.getuser(), "folder": folder}
    path.write_text(CONFIGURATION.format(**settings))
    environment = {**os.environ, "PATH": DAEMONS, "SLURM_CONF": str(path)}
    files = {"key-file": "key", "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
    flags = [f"--{name}={folder / file}" for name, file in {**files, "seed-file": "munge.seed"}.items()]
    children = [
        subprocess.Popen([program, *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for program, words in (
            ("munged", ["--foreground", "--force", *flags]), ("slurmctld", ["-D", "-f", str(path)]),
            ("slurmd", ["-D", "-N", "n1", "-f", str(path)]), ("slurmd", ["-D", "-N", "n2", "-f", str(path)]),
        )
    ]  # fmt: skip
    try:
        _wait_until_idle(environment)
        yield {"SLURM_CONF": str(path)}
    finally:
        for child in reversed(children):
            child.send_signal(signal.SIGTERM)
        for child in reversed(children):
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _wait_until_idle(environment: dict[str, str]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done = subprocess.run(["sinfo", "-h", "-o", "%t %D"], env=environment, capture_output=True, text=True)
        if done.stdout.split() == ["idle", "2"]:
            return
        time.sleep(0.3)
    raise AssertionError(f"no cluster: {done.stdout} {done.stderr}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            found.append(one.getsockname()[1])
        return found
