"""Pinned archives, through the registries' ordinary clients: they know the user's mirror, proxy and certificates."""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

from hftransfer.errors import UserError
from hftransfer.safety import terminal
from hftransfer.samples import installed
from hftransfer.samples.archives import Archive
from hftransfer.samples.sample import Package

MIRROR = "HFTRANSFER_DEBIAN_MIRROR"
DEBIAN = "https://deb.debian.org/debian"
MORE = 2**20  # bytes beyond the size that a package is said to have, which is rounded


def fetch(package: Package, folder: Path) -> Archive:
    """Put a package's archive into a new folder and return it; UserError when it cannot be had or is another."""
    if package.registry == "installed":
        path = _digits_file()
    else:
        folder.mkdir()
        path = _from_debian(package, folder) if package.registry == "Debian" else _with_client(package, folder)
    found = _sha256(path)
    if found != package.sha256:
        raise UserError(
            f"{path.name} with sha256 {package.sha256[:16]}... is needed",
            f"the registry served one with {found[:16]}...",
            "Try again; if it stays so, do not use what that registry or mirror serves under this name.",
        )
    return Archive(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digits_file() -> Path:
    return installed.folder("sklearn", "scikit-learn") / "datasets" / "data" / "digits.csv.gz"


def _with_client(package: Package, folder: Path) -> Path:
    done = _run(_command(package), folder)
    if done.returncode:
        client = "npm" if package.registry == "npm" else "pip"
        raise UserError(
            f"{_named(package)} is to be fetched with {client}",
            f"{client} said: {terminal.without_secrets(_reason(done.stderr or done.stdout))}",
            f"Check the network and {client}'s registry settings ({client} config list), then try again.",
        )
    (path,) = folder.iterdir()
    return path


def _command(package: Package) -> list[str]:
    """Return the client's call that puts the archive into the working folder."""
    if package.registry == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise UserError(
                f"npm is needed to fetch {package.name}",
                "it is not on PATH",
                "Install Node.js (Debian: apt-get install npm; macOS: brew install node; or nodejs.org), or use the "
                "samples that need pip alone: hftransfer samples text",
            )
        retries = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]  # npm's own would be silent for a minute
        return [npm, "pack", f"{package.name}@{package.version}", "--ignore-scripts", *retries]
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"pip is needed to fetch {package.name}",
            f"{sys.prefix} has none, as in environments made by uv",
            "Run: python -m ensurepip (or: uv pip install pip)",
        )
    # only this package as an sdist: `:all:` would have pip build the build tools from source too
    form = "--no-binary" if package.registry == "PyPI sdist" else "--only-binary"
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--retries", "2"]
    return [*pip, form, package.name, "-d", ".", f"{package.name}=={package.version}"]


def _from_debian(package: Package, folder: Path) -> Path:
    """Return the package by apt-get, which has it on the same release of Debian alone, else from a mirror."""
    refused = []
    apt = shutil.which("apt-get")
    if apt is not None and not package.file:
        done = _run([apt, "download", f"{package.name}={package.version}"], folder)
        if done.returncode:
            refused.append(f"apt-get said: {_reason(done.stderr or done.stdout)}")
        else:
            (path,) = folder.iterdir()
            if _sha256(path) == package.sha256:
                return path
            path.unlink()  # another distribution's build of the same version
            refused.append("apt-get has another build")
    mirror = os.environ.get(MIRROR) or DEBIAN
    try:
        with urllib.request.urlopen(f"{mirror.rstrip('/')}/{_place(package)}", timeout=60) as answer:
            content = answer.read(package.size + MORE)  # whoever serves more serves something else
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(
            f"{_named(package)} is to be fetched with apt-get or from a mirror of Debian",
            terminal.without_secrets("; ".join([*refused, f"{mirror} said: {error}"])),
            f"Check the network, or set {MIRROR}=ADDRESS of another (https://archive.debian.org/debian has what the "
            "others have dropped).",
        ) from error
    path = folder / (package.file or f"{package.name}.deb")
    path.write_bytes(content)
    return path


def _place(package: Package) -> str:
    """Return where mirrors of Debian keep a package: by source package, without the version's epoch."""
    initial = package.source[: 4 if package.source.startswith("lib") else 1]
    version = package.version.rpartition(":")[2]
    file = package.file or f"{package.name}_{version}_all.deb"
    return f"pool/main/{initial}/{package.source}/{file}"


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )


def _named(package: Package) -> str:
    return f"{package.name} {package.version} ({package.size / 1e6:.1f} MB)"


def _reason(message: str) -> str:
    """Return the line that tells why: both clients end with something less helpful after a failed connection."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["nothing"]
    telling = [line for line in lines if re.search(r"failed|timed out|could not be found", line, re.IGNORECASE)]
    line = (telling or lines)[-1]
    return line if len(line) <= 200 else "..." + line[-200:]
