"""Any folder tree gives as many files as it holds, or says what was left out: python -m tests.folder_trips --trees N.

A tree is drawn, written, and read; what was read, dropped and said to be left out must add up to what was written.
"""

from __future__ import annotations

import argparse
import functools
import io
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from hftransfer.config import DataConfig
from hftransfer.data.loading import pick
from hftransfer.errors import UserError

NAMES = (
    "cats", "dogs", "train", "test", "val", "Train", "TEST", "training_set", "test_set", "seg_train", "extra",
    "images", "a b", "née", "2020", "train_cats", "test_cats", "unlabeled", "pred", ".hidden", "__old", "__MACOSX",
    ".ipynb_checkpoints", "plane", "x.y", "metadata",
)  # fmt: skip
SUFFIXES = (".png", ".png", ".png", ".PNG", ".jpg", ".jfif", ".webp", ".tif", ".bmp", ".heic", ".txt", "")
JUNK = ("Thumbs.db", ".DS_Store", "cats/._0.png", "README.md", "cats/LICENSE")
ODD = ("Thumbs.db", ".DS_Store", "._0.png", "README.md", "labels.csv", "x.json")
STEMS = ("cat.", "dog_", "")
KINDS = {".png": "PNG", ".jpg": "JPEG", ".jfif": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".bmp": "BMP"}
COUNTED = re.compile(r"not read: ([\d,]+) of ([\d,]+) files")
PASSED = re.compile(r"^([\d,]+) files? (?:of the system|about the data) passed over")


def draw(rng: random.Random) -> list[str]:
    """Return the paths of the files of a random tree."""
    folders = [""]
    for _ in range(rng.randint(1, 9)):
        folder = f"{rng.choice(folders)}{rng.choice(NAMES)}/"
        if folder.count("/") < 5:
            folders.append(folder)
    paths = []
    for folder in folders:
        paths += [f"{folder}{rng.choice(STEMS)}{i}{rng.choice(SUFFIXES)}" for i in range(rng.choice((0, 0, 1, 2, 5)))]
        if rng.random() < 0.2:
            paths.append(folder + rng.choice(ODD))
    return paths


def write(root: Path, paths: Iterable[str]) -> int:
    """Write files, pictures where their suffix says so; return how many."""
    count = 0
    for path in paths:
        place = root / path
        if any(parent.is_file() for parent in place.parents) or place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture(place.suffix.lower()) if place.name not in ODD else b"name,label\nnobody,1\n")
        count += 1
    return count


@functools.cache
def picture(suffix: str) -> bytes:
    """Return a picture as files of this suffix hold it; of others anything."""
    if suffix not in KINDS:
        return b"x"
    with io.BytesIO() as file:
        Image.new("RGB", (4, 4), (1, 2, 3)).save(file, KINDS[suffix])
        return file.getvalue()


def link(root: Path, rng: random.Random) -> int:
    """Put links to folders into a tree, loops among them; return how many."""
    folders = [root, *sorted(path for path in root.rglob("*") if path.is_dir())]
    count = 0
    for _ in range(rng.choice((0, 0, 1, 2))):
        place = rng.choice(folders) / f"link{rng.randint(0, 3)}"
        if not place.exists() and not place.is_symlink():
            place.symlink_to(rng.choice(folders))
            count += 1
    return count


def lost(root: Path, files: int, links: int) -> str | None:
    """Read a tree; return what is silently missing, None where everything is accounted for or refused in words."""
    try:
        picked = pick(DataConfig(source=str(root)))
    except UserError as error:
        return None if error.found and error.action else f"refused without words: {error}"
    read = sum(len(split.rows) for split in picked.splits.values())
    unused = 0
    for warning in picked.warnings:
        if warning.startswith("splits of the source that are not used"):
            unused += sum(int(n.replace(",", "")) for n in re.findall(r"\(([\d,]+) rows?\)", warning))
    left = sum(int(m[1].replace(",", "")) for warning in picked.warnings if (m := COUNTED.search(warning)))
    system = sum(int(m[1].replace(",", "")) for guess in picked.guesses if (m := PASSED.search(guess)))
    tables = sum(
        len(re.findall(r"[\w.]+\.(?:csv|json)\b", w))
        for w in picked.warnings
        if w.startswith(("not read b", "not read, b"))
    )
    tables += sum(len(g.split(": a table that")[0].split(", ")) for g in picked.guesses if ": a table that names" in g)
    total = read + unused + left + system + tables
    # where there are links, a link counts as left out, and hidden files are read as well as passed over
    if total < files or (total > files and not links):
        said = f"{read} read, {unused} unused, {left} left, {system} of the system, {tables} tables"
        return f"{files} files and {links} links: {said}"
    return None


def round_trips(trees: int, seed: int = 0) -> list[str]:
    """Draw so many trees; return a line for each that loses files without a word."""
    rng = random.Random(seed)
    found = []
    with tempfile.TemporaryDirectory() as place:
        for number in range(trees):
            root = Path(place) / "tree"
            root.mkdir()
            files = write(root, draw(rng))
            said = lost(root, files, link(root, rng))
            if said is not None:
                held = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
                found.append(f"tree {number}: {said}: {held}")
            shutil.rmtree(root)
    return found


def main() -> int:
    """Draw trees, print how many are read, refused and lose files, and every tree that loses some."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    found = round_trips(options.trees, options.seed)
    print(*found, sep="\n")
    print(f"{options.trees:,} trees, {len(found):,} silent differences")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
