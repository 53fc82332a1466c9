"""What came from the Hub has the bytes that the Hub has, or it is told: lengths say nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hftransfer.errors import UserError
from hftransfer.safety import intact

LARGE, SMALL, MIRRORED = b"weights" * 1000, b'{"a": 1}', b"by a mirror's own name"


def git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """Lay a cache out as huggingface_hub does."""
    place = tmp_path / "models--a--b"
    folder = place / "snapshots" / "c0ffee"
    (place / "blobs").mkdir(parents=True)
    (folder / "sub").mkdir(parents=True)
    named = {
        "model.safetensors": (LARGE, hashlib.sha256(LARGE).hexdigest()),
        "sub/config.json": (SMALL, git(SMALL)),
        "mirrored.txt": (MIRRORED, hashlib.sha1(MIRRORED, usedforsecurity=False).hexdigest()),
        "unknown.txt": (b"anything", "W-another-etag"),
    }
    for name, (content, etag) in named.items():
        (place / "blobs" / etag).write_bytes(content)
        (folder / name).symlink_to(Path("../" * (name.count("/") + 2)) / "blobs" / etag)
    (folder / "own.txt").write_text("no link")
    return folder


def test_what_is_as_the_hub_has_it_passes_and_is_read_once(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intact.require(snapshot, "a/b", tmp_path / "record")
    assert len([*(tmp_path / "record").iterdir()]) == 3
    monkeypatch.setattr(intact, "_hashes", lambda *_: pytest.fail("read again"))
    intact.require(snapshot, "a/b", tmp_path / "record")
    intact.require(tmp_path / "nowhere", "a/b", tmp_path / "record")


@pytest.mark.parametrize("name", ["model.safetensors", "sub/config.json", "mirrored.txt"])
def test_wrong_bytes_of_the_right_length_are_told_and_fetched_again(snapshot: Path, tmp_path: Path, name: str) -> None:
    intact.require(snapshot, "a/b", tmp_path / "record")
    blob = (snapshot / name).resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # a file that was good, and changed on the disk
    with pytest.raises(UserError, match=f"{name} came with other bytes.*try again"):
        intact.require(snapshot, "a/b", tmp_path / "record")
    assert not blob.exists() and not (snapshot / name).is_symlink(), "the next try would take it from the cache"
    assert (snapshot / "unknown.txt").is_file()
    intact.require(snapshot, "a/b", tmp_path / "record")


def test_without_a_place_to_remember_it_is_looked_at_each_time(snapshot: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    intact.require(snapshot, "a/b", tmp_path / "file" / "record")


def test_a_revision_leads_nowhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "models--a--b" / "refs").mkdir(parents=True)
    (tmp_path / "models--a--b" / "refs" / "main").write_text("c0ffee")
    (tmp_path / "elsewhere").write_text("/")
    assert intact.snapshot("a/b", "model", None) == tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    assert intact.snapshot("a/b", "model", "1234").name == "1234"
    for revision in ("../../elsewhere", str(tmp_path / "elsewhere")):
        assert intact.snapshot("a/b", "model", revision).name == "none"
    for name in ("./none", "/nowhere/at/all", "a b", "a/b/c", ""):  # no repo's: those who ask are told so elsewhere
        assert not intact.snapshot(name, "model", None).exists()
