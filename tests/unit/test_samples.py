"""The samples: their table, their place, fetching through the clients, and the conversions, all without a network."""

import hashlib
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hftransfer import samples
from hftransfer.errors import UserError
from hftransfer.samples import Package, Sample, fetching, table
from hftransfer.samples.table import SAMPLES
from tests import packages

TASKS = {
    "text-classification", "image-classification", "token-classification", "translation", "text-generation",
    "automatic-speech-recognition", "audio-classification", "zero-shot-image-classification", "object-detection",
    "question-answering", "recommendation",
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HFTRANSFER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put_table(monkeypatch, *found):
    monkeypatch.setattr(table, "SAMPLES", {sample.name: sample for sample in found})


def write_answer(folder, archive):
    (folder / "answer.txt").write_text("42")


def tiny(archive, build=write_answer, name="tiny", registry="installed", kind="data"):
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    package = Package(registry, "scikit-learn", "", sha256, archive.stat().st_size)
    return Sample(name, kind, "text-classification", "A tiny one.", "MIT", (package,), build)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    path = packages.tar(tmp_path / "tiny.tgz", {"package/README": b"hello"})
    monkeypatch.setattr(fetching, "_digits_file", lambda: path)
    return path


# --- the table ---


def test_table_is_complete():
    for name, sample in SAMPLES.items():
        assert name == sample.name and re.fullmatch(r"[a-z0-9-]+", name)
        assert sample.task in TASKS and sample.licence and sample.about.endswith(".")
        for package in sample.packages:
            assert re.fullmatch(r"[0-9a-f]{64}", package.sha256) and package.size > 1000
            assert bool(package.version) == (package.registry != "installed")
            assert bool(package.source) == (package.registry == "Debian")
    assert {sample.task for sample in SAMPLES.values()} == TASKS
    assert samples.listing() == list(SAMPLES.values()) and {sample.is_model for sample in SAMPLES.values()} == {
        True,
        False,
    }
    assert sorted(s.name for s in [*samples.models(), *samples.data_sets()]) == sorted(SAMPLES)
    assert all(sample.is_model for sample in samples.models())


def test_the_hub_is_told_the_licence_of_the_content():
    from hftransfer.hub import origins

    found = {name: origins._content_licence(sample.licence) for name, sample in SAMPLES.items()}
    assert [name for name, licence in found.items() if licence is None] == ["brown", "brown-cloze"]
    assert found["emoji"] == "apache-2.0" and found["telephone-prompts"] == "cc-by-sa-3.0"
    assert found["resnet50-thin"] == "bsd-2-clause" and found["libreoffice-en-fr"] == "mpl-2.0"
    assert found["emacs-changes"] == "gpl-3.0"


def test_groups_name_samples_and_text_needs_pypi_alone():
    groups = {
        "captions",
        "detection",
        "text",
        "image",
        "tokens",
        "questions",
        "recommendation",
        "translation",
        "chat",
        "speech",
        "vision",
    }
    assert set(samples.GROUPS) == groups and not groups & set(SAMPLES)
    for group, names in samples.GROUPS.items():
        kinds = {SAMPLES[name].is_model for name in names}
        assert kinds == ({False} if group == "translation" else {True, False})  # no pretrained translator is served
    assert {SAMPLES[name].registry for name in samples.GROUPS["text"]} == {"PyPI wheel", "PyPI sdist"}


# --- places ---


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    assert samples.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("HFTRANSFER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert samples.cache_folder() == tmp_path / "xdg" / "hftransfer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert samples.cache_folder() == tmp_path / "home" / ".cache" / "hftransfer"


def test_folders_by_kind(cache):
    assert SAMPLES["mobilenet-v2"].folder == cache / "samples" / "models" / "mobilenet-v2"
    assert SAMPLES["digits"].folder == cache / "samples" / "data" / "digits"
    assert not any(sample.present for sample in samples.listing())


def test_resolve_leaves_other_text_alone_and_asks_for_what_is_missing():
    assert samples.resolve("bert-base-uncased") == "bert-base-uncased"
    with pytest.raises(UserError, match="Run: hftransfer samples digits"):
        samples.resolve("sample:digits")
    with pytest.raises(UserError, match="Did you mean 'vader-tweets'"):
        samples.resolve("sample:vader-tweet")
    with pytest.raises(UserError, match="known sample model"):
        samples.resolve_model("digits")
    with pytest.raises(UserError, match="known sample data set"):
        samples.resolve_data("mobilenet-v2")


def test_resolve_gives_the_rows_of_a_table_and_the_folder_of_images(archive, monkeypatch):
    def rows(folder, _):
        (folder / samples.ROWS).write_bytes(b"")

    model = tiny(archive, name="weights", kind="model")
    put_table(monkeypatch, tiny(archive, rows, "table"), tiny(archive, name="images"), model)
    folders = [samples.materialise(name, lambda _: None)[0] for name in ("table", "images", "weights")]
    assert samples.resolve("sample:table") == str(folders[0] / samples.ROWS)
    assert samples.resolve_data("images") == folders[1] / samples.IMAGES
    assert samples.resolve("sample:weights") == str(folders[2]) == str(samples.resolve_model("weights"))


# --- building ---


def test_unknown_name():
    with pytest.raises(UserError, match=r"known sample is needed; found 'digit'\. Did you mean 'digits'"):
        samples.materialise("digit")


def test_materialise_writes_notes_and_then_is_instant(archive, cache, monkeypatch):
    sample = tiny(archive)
    (package,) = sample.packages
    sample = replace(sample, packages=(replace(package, notice="package/README"),))
    put_table(monkeypatch, sample)
    lines = []
    (folder,) = samples.materialise("tiny", lines.append)
    assert folder == cache / "samples" / "data" / "tiny"
    assert (folder / "answer.txt").read_text() == "42" and (folder / "LICENSE").read_text() == "hello"
    assert "MIT" in (folder / "README.md").read_text() and any("MIT" in line for line in lines)
    note = json.loads((folder / "SAMPLE.json").read_text())
    (source,) = note["packages"]
    assert source["sha256"] == package.sha256 and source["package"] == "scikit-learn" and source["version"]
    assert (note["licence"], note["kind"]) == ("MIT", "data")
    assert list((cache / "samples").iterdir()) == [cache / "samples" / "data"]  # nothing half-made is left

    monkeypatch.setattr(fetching, "fetch", None)  # calling it again would fail
    assert samples.materialise("tiny", lines.append) == [folder]


def test_one_download_makes_all_of_an_archive(archive, monkeypatch):
    put_table(monkeypatch, tiny(archive), tiny(archive, name="sibling"))
    samples.materialise("tiny", lambda _: None)
    assert table.SAMPLES["sibling"].present


def test_several_packages_come_in_their_order_each_fetched_once(tmp_path, monkeypatch):
    found = {name: packages.tar(tmp_path / name, {name: b""}) for name in ("one.tgz", "two.tgz")}
    pins = [
        Package("npm", name, "1", hashlib.sha256(path.read_bytes()).hexdigest(), 1) for name, path in found.items()
    ]
    asked = []
    monkeypatch.setattr(fetching, "_with_client", lambda package, _: asked.append(package.name) or found[package.name])

    def order(folder, *archives):
        (folder / "order.txt").write_text(" ".join(archive.path.name for archive in archives))

    both = Sample("both", "data", "t", "Both.", "MIT", (pins[1], pins[0]), order)
    put_table(monkeypatch, both, replace(both, name="second", packages=(pins[0],)))
    monkeypatch.setattr(table, "GROUPS", {"all": ("both", "second")})
    folders = samples.materialise("all", lambda _: None)
    assert (folders[0] / "order.txt").read_text() == "two.tgz one.tgz" and asked == ["two.tgz", "one.tgz"]
    assert both.size == 2 and len(json.loads((folders[0] / "SAMPLE.json").read_text())["packages"]) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError])
def test_an_interrupted_build_leaves_nothing(archive, cache, monkeypatch, error):
    def half(folder, _):
        (folder / "half.txt").write_text("")
        raise error

    put_table(monkeypatch, tiny(archive, half))
    with pytest.raises(error):
        samples.materialise("tiny", lambda _: None)
    assert not table.SAMPLES["tiny"].present and not [path for path in cache.rglob("*") if path.is_file()]


def test_a_killed_build_does_not_count_as_whole(archive, tmp_path, cache):
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal, sys\nfrom pathlib import Path\n"
        "here = Path(sys.argv[1])\nsys.path[:0] = [str(here), str(here.parents[1])]\nimport test_samples as t\n"
        "from hftransfer.samples import fetching, materialise, table\n"
        "def killed(folder, archive):\n"
        "    (folder / 'half.txt').write_text('')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "archive = Path(sys.argv[2])\nfetching._digits_file = lambda: archive\n"
        "table.SAMPLES = {'tiny': t.tiny(archive, killed)}\nmaterialise('tiny')\n"
    )
    code = os.spawnv(
        os.P_WAIT, sys.executable, [sys.executable, str(script), str(Path(__file__).parent), str(archive)]
    )
    assert code == -9
    assert list(cache.rglob("half.txt")) and not tiny(archive).folder.exists()


def test_the_same_content_from_another_process_is_taken(archive, monkeypatch):
    def raced(folder, _):
        other = table.SAMPLES["tiny"].folder
        other.mkdir(parents=True)
        (other / samples.NOTE).write_text("{}")

    put_table(monkeypatch, tiny(archive, raced))
    assert samples.materialise("tiny", lambda _: None) == [table.SAMPLES["tiny"].folder]


def test_a_full_disk_says_where(archive, cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    put_table(monkeypatch, tiny(archive, full))
    with pytest.raises(UserError, match=r"No space left on device.*HFTRANSFER_CACHE"):
        samples.materialise("tiny", lambda _: None)


def test_another_archive_than_the_pinned_one_is_refused(archive, monkeypatch):
    sample = tiny(archive)
    put_table(monkeypatch, replace(sample, packages=(replace(sample.packages[0], sha256="0" * 64),)))
    with pytest.raises(UserError, match=r"tiny.tgz with sha256 0000000000000000... is needed") as caught:
        samples.materialise("tiny", lambda _: None)
    assert "do not use" in caught.value.action and not table.SAMPLES["tiny"].present
