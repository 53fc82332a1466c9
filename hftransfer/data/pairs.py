"""Pictures beside pictures of the same names that say which class each pixel is of: in folders, or side by side."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from hftransfer.data.named_splits import SPLITS, split_word
from hftransfer.data.tree import Parts, Tree

# what folders are called whole that hold such pictures, without case and punctuation
FOLDERS = frozenset({
    "mask", "masks", "label", "labels", "labelmap", "labelmaps", "annotation", "annotations", "annot", "annots", "ann",
    "gt", "gts", "groundtruth", "groundtruths", "segmentation", "segmentations", "segmentationmask", "seg", "segs",
    "segmentationmasks", "segmentationclass", "segmentationclassaug", "target", "targets", "semantic", "gtfine",
    "gtcoarse", "trainmasks", "testmasks", "valmasks", "trainlabels", "testlabels", "vallabels", "trainannot",
    "testannot", "valannot", "maskimages", "manual", "1stmanual",
})  # fmt: skip
OTHERS = frozenset({"segmentationobject"})  # numbers of single objects, beside those of classes
PICTURES = frozenset({
    "image", "images", "img", "imgs", "jpegimages", "picture", "pictures", "photo", "photos", "input", "inputs",
    "leftimg8bit", "rgb", "train", "test", "val", "validation", "data",
})  # fmt: skip
# what a mask's name has beside its picture's: photo_mask.png, mask_photo.png, frankfurt_000_gtFine_labelIds.png
BEHIND = re.compile(
    r"[ _.-]*(mask|masks|label|labels|l|seg|segmentation|gt|annotation|annotated|"
    r"labelids|labeltrainids|gtfine_labelids|gtfine_labeltrainids|manual1?|groundtruth)$", re.IGNORECASE
)  # fmt: skip
NO_CLASSES = re.compile(r"(instanceids|_color|_polygons)$", re.IGNORECASE)
BEFORE = re.compile(r"^(mask|label|seg|gt)[ _.-]+", re.IGNORECASE)
PHOTO = re.compile(r"_leftimg8bit$", re.IGNORECASE)
LEAST = 0.5  # share of the masks that must have their picture
NAMES = ("classes", "labels", "class_names", "classnames", "label_names", "labelnames", "names", "categories")
COLOURS = (
    "class_dict",
    "label_colors",
    "labelcolors",
    "labelmap",
    "colormap",
    "color_map",
    "label_colours",
    "palette",
)


@dataclass
class Paired:
    """The mask of each picture; the splits that lists name; what the classes are called, as settings of `data`."""

    mask_of: dict[Parts, Parts] = field(default_factory=dict)
    left: list[tuple[Parts, str]] = field(default_factory=list)  # what is not read, and why
    split_of: dict[Parts, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    guesses: list[str] = field(default_factory=list)


def pair(tree: Tree, pictures: Sequence[Parts], looks_like_masks: Callable[[Sequence[Path]], bool]) -> Paired | None:
    """Return which picture has which mask, where a folder is laid out so; None where it is not.

    `looks_like_masks` tells whether files hold few values: two folders of photographs may have the same names.
    """
    found = Paired()
    masks, photos = [], []
    outer = _shared(pictures)  # of an archive called masks.zip, say: its name is that of all files alike
    for parts in pictures:
        stem = Path(parts[-1]).stem
        folders = [_plain(part) for part in parts[outer:-1]]
        if any(name in OTHERS for name in folders) or NO_CLASSES.search(stem):
            found.left.append((parts, "no classes"))
        elif any(name in FOLDERS for name in folders):
            masks.append(parts)
        else:
            photos.append(parts)
    if not masks:  # side by side: photo.jpg, photo_mask.png
        stems = {(parts[:-1], Path(parts[-1]).stem.lower()) for parts in photos}
        beside = {parts for parts in photos if _names_another(parts, stems)}
        masks = [parts for parts in photos if parts in beside]
        photos = [parts for parts in photos if parts not in beside]
    if not masks or not photos:
        return None
    index: dict[str, list[Parts]] = {}
    for parts in photos:
        index.setdefault(_key(parts, PHOTO), []).append(parts)
    lost, taken = [], set()
    for parts in masks:
        best = _nearest(parts, index.get(_key(parts), []) or index.get(_key(parts, BEHIND, BEFORE), []))
        if best is None:
            lost.append(parts)
        elif best in taken:
            found.left.append((parts, "another mask of its picture"))
        else:
            found.mask_of[best] = parts
            taken.add(best)
    if len(found.mask_of) < LEAST * len(masks):
        return None
    named = any(_plain(part) in PICTURES for parts in found.mask_of for part in parts[outer:-1])
    some = [tree.path(found.mask_of[parts]) for parts in sorted(found.mask_of)[:5]]
    if not named and not looks_like_masks(some):
        return None
    found.left += [(parts, "a mask without a picture") for parts in lost]
    found.split_of = _listed(tree, found.mask_of)
    found.settings, said = _names(tree)
    where = _where(found.mask_of.values())
    found.guesses = [f"the masks are the pictures in {where} with the names of others", *said]
    return found


def _shared(pictures: Sequence[Parts]) -> int:
    """Return how many folders, from the outermost, hold all files."""
    together = zip(*(parts[:-1] for parts in pictures), strict=False)
    return sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, together))


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _key(parts: Parts, *affixes: re.Pattern[str]) -> str:
    stem = Path(parts[-1]).stem
    for one in affixes:
        stem = one.sub("", stem)
    return stem.casefold()


def _names_another(parts: Parts, stems: Collection[tuple[Parts, str]]) -> bool:
    """Tell whether a file is called after another one beside it, as its mask."""
    short = _key(parts, BEHIND, BEFORE)
    return short != Path(parts[-1]).stem.casefold() and (parts[:-1], short) in stems


def _nearest(mask: Parts, candidates: Sequence[Parts]) -> Parts | None:
    """Return the picture whose folders are most like a mask's; None where several are."""
    if not candidates:
        return None
    own = {part.casefold() for part in mask[:-1]}
    scores = [sum(part.casefold() in own or _near(part, own) for part in one[:-1]) for one in candidates]
    best = max(scores)
    return candidates[scores.index(best)] if scores.count(best) == 1 else None


def _near(folder: str, own: Collection[str]) -> bool:
    """Tell whether a split's folder is called like one of the mask's: train, train_labels."""
    word = split_word(folder.casefold())
    return word is not None and any(other.startswith(folder.casefold()) and _plain(other) in FOLDERS for other in own)


def _where(masks: Collection[Parts]) -> str:
    folders = sorted({"/".join(parts[:-1]) or "the folder itself" for parts in masks})
    return ", ".join(folders[:3]) + (f" and {len(folders) - 3} more" if len(folders) > 3 else "")


def _listed(tree: Tree, mask_of: Mapping[Parts, Parts]) -> dict[Parts, str]:
    """Return the split of each picture that a list names, as ImageSets/Segmentation/train.txt does."""
    by_stem = {Path(parts[-1]).stem: parts for parts in mask_of}
    found: dict[Parts, str] = {}
    lists = [
        parts for parts in tree.files
        if parts[-1].lower().endswith(".txt") and "/".join(parts[-3:-1]).lower() == "imagesets/segmentation"
    ]  # fmt: skip
    for parts in lists:
        use = split_word(Path(parts[-1]).stem.lower())
        if use is None or Path(parts[-1]).stem.lower() not in SPLITS[use]:
            continue
        for line in tree.path(parts).read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip() in by_stem:
                found[by_stem[line.strip()]] = use
    return found


# --- what classes are called ---


def _names(tree: Tree) -> tuple[dict[str, Any], list[str]]:
    """Return names of classes, and colours, that a file beside the pictures tells, as settings of `data`."""
    top = sorted((parts for parts in tree.files if len(parts) <= 3), key=lambda parts: (len(parts), parts))
    for parts in top:
        stem, suffix = os.path.splitext(parts[-1].lower())
        if suffix not in (".txt", ".csv", ".names"):
            continue
        lines = tree.path(parts).read_text(encoding="utf-8-sig", errors="replace").splitlines()[:1000]
        if stem in COLOURS and (known := _coloured(lines, suffix)):
            names, colours = zip(*known, strict=True)
            said = f"{'/'.join(parts)} names {len(names)} classes and their colours (data.label_names)"
            return {"label_names": tuple(names), "label_colors": tuple(colours)}, [said]
        if stem in NAMES and suffix != ".csv":
            listed = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
            if 2 <= len(listed) == len(set(listed)) <= 255:
                said = f"{'/'.join(parts)} names {len(listed)} classes, the first for 0 (data.label_names)"
                return {"label_names": tuple(listed)}, [said]
    return {}, []


def _coloured(lines: Sequence[str], suffix: str) -> list[tuple[str, str]]:
    """Return (name, "r,g,b") of the lines of CVAT's labelmap.txt, CamVid's label_colors.txt or a class_dict.csv."""
    found = []
    if suffix == ".csv":
        for row in csv.reader(lines):
            cells = [cell.strip() for cell in row]
            if len(cells) >= 4 and all(cell.isdigit() for cell in cells[1:4]):
                found.append((cells[0], ",".join(cells[1:4])))
        return found
    for line in lines:
        if line.startswith("#") or not line.strip():
            continue
        cvat = re.fullmatch(r"\s*([^:]+):\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*:.*", line)
        camvid = re.fullmatch(r"\s*(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\S.*?)\s*", line)
        behind = re.fullmatch(r"\s*(\S.*?)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\d+)\s*", line)
        if cvat or behind:
            name, *parts = (cvat or behind).groups()  # type: ignore[union-attr]
        elif camvid:
            *parts, name = camvid.groups()
        else:
            return []
        found.append((name.strip(), ",".join(parts)))
    return found
