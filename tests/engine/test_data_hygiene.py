"""Near copies are found within and across splits, and rows that merely resemble one another are not."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from hftransfer import catalog
from hftransfer.config import DataConfig
from hftransfer.data import Data, hygiene, load
from hftransfer.inputs import _near_pictures, _near_texts, image
from hftransfer.inputs.text import TEXT
from tests import tiny

WORDS = [f"word{i}" for i in range(400)]


def text(rng: np.random.Generator, length: int = 16) -> list[str]:
    return [str(word) for word in rng.choice(WORDS, length, replace=False)]


def read(folder: Path, **splits: list[dict[str, Any]]) -> Data:
    folder.mkdir()
    for use, rows in splits.items():
        (folder / f"{use}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load(DataConfig(source=str(folder)), catalog.task("text-classification"), 3)


def mask(data: Data, use: str) -> np.ndarray:
    leaked = data.hygiene.copied.get((use, "train"))
    assert leaked is not None
    return leaked


def rows_of(count: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [{"text": " ".join(text(rng)), "label": ["no", "yes"][i % 2]} for i in range(count)]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("A fine film, and a long one!", "a fine film - and a long one", True),
        ("the cast was very good and the story too", "the cast was very good and the story too :)", True),
        ("we saw it in the old house on a corner last night", "we saw it in the old house on a corner tonight", True),
        ("the cast was very good", "the story was very dull", False),
        ("sentence 1", "sentence 12", False),
        ("很好的电影我们都喜欢看", "很好的电影我们都喜欢看!", True),
        ("很好的电影我们都喜欢看", "很坏的故事他们都讨厌听", False),
        (":-)", ":-(", False),
    ],
)  # fmt: skip
def test_what_counts_as_nearly_the_same_text(one: str, other: str, alike: bool) -> None:
    found = _near_texts.near_texts([one, "something else entirely", other], np.array([0, 0, 1]))
    assert found.tolist() == ([[0, 2]] if alike else [])


def test_signatures_find_what_comparing_all_pairs_finds() -> None:
    """Copies with one to three of 16 words changed, among rows that share none."""
    rng = np.random.default_rng(0)
    texts = [text(rng) for _ in range(300)]
    for original in texts[:60]:
        copy = list(original)
        for place in rng.choice(16, rng.integers(1, 4), replace=False):
            copy[place] = str(rng.choice(WORDS))
        texts.append(copy)
    joined = [" ".join(words) for words in texts]
    shingles, starts = _near_texts._shingles(joined)
    wanted = {
        (i, j)
        for i in range(len(joined))
        for j in range(i + 1, len(joined))
        if _near_texts._jaccard(shingles, starts, i, j) >= _near_texts.ALIKE
    }
    found = set(map(tuple, _near_texts.near_texts(joined, np.repeat([0, 1], [300, 60])).tolist()))
    assert 15 < len(wanted) < 60 and found <= wanted and len(wanted - found) <= 1


def test_boilerplate_does_not_hide_a_copy_in_another_split() -> None:
    """A bucket of 500 alike rows of train, and one row of test that belongs to it."""
    texts = [f"your order has been sent and will come to you within the next days thank you {i}" for i in range(500)]
    rows = {"train": texts, "validation": ["nothing alike"], "test": [texts[0] + "0", "another"]}
    found = hygiene.near(rows, {use: pa.array([0] * len(some)) for use, some in rows.items()}, TEXT)
    assert found is not None and found["test", "train"].tolist() == [True, False]
    assert found["train", "train"].all() and not found["validation", "train"].any()


def test_near_copies_are_said_by_split_and_exact_ones_not_twice(tmp_path: Path) -> None:
    train = rows_of(40, 1)
    changed = [{**row, "text": row["text"] + " indeed"} for row in train[:3]]
    data = read(
        tmp_path / "rows",
        train=[*train, train[5]],
        validation=rows_of(8, 2),
        test=[*rows_of(8, 3), *changed, train[9]],
    )
    assert data.leakage == {"test": {"train": 1}}
    assert data.hygiene.to_dict() == {"repeated": {"train": 2}, "near": {"test": {"train": 3}}, "contradicting": 0}
    assert mask(data, "test").tolist() == [False] * 8 + [True] * 4
    assert not mask(data, "validation").any()
    assert [warning for warning in data.warnings if "nearly" in warning] == [
        "leakage: 4 of 12 test rows (33.3%) look like rows of train (1 with the same text, 3 with nearly the same "
        "text); scores on them measure memory [rows: test.jsonl:8, test.jsonl:9, test.jsonl:10, ...]"
    ]


def test_contradicting_rows_are_counted(tmp_path: Path) -> None:
    train = rows_of(20, 1)
    data = read(
        tmp_path / "rows", train=[*train, {**train[0], "label": "yes"}], validation=rows_of(4, 2), test=rows_of(4, 3)
    )
    assert data.hygiene.contradicting == 2


def test_too_many_rows_are_not_called_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_near_texts, "MOST", 20)
    data = read(tmp_path / "rows", train=rows_of(20, 1), validation=rows_of(4, 2), test=rows_of(4, 3))
    assert data.hygiene.near is None and any("were not looked for" in warning for warning in data.warnings)


def scene(seed: int) -> Image.Image:
    """A picture with large shapes, as photographs have."""
    coarse = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)


def scenes_of(folder: Path, classes: str) -> None:
    """Write other scenes for each split: 24 of two classes to train on, one of each in validation and test."""
    for number in range(24):
        path = folder / "train" / classes[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(number).save(path)
    for use, start in (("validation", 30), ("test", 40)):
        for number, name in enumerate(classes):
            (folder / use / name).mkdir(parents=True)
            scene(start + number).save(folder / use / name / "other.png")


def test_a_compressed_a_smaller_and_a_brighter_picture_are_near_copies(tmp_path: Path) -> None:
    scenes_of(tmp_path / "pictures", "ab")
    test = tmp_path / "pictures/test/a"
    compressed = io.BytesIO()
    scene(0).save(compressed, "JPEG", quality=40)
    (test / "compressed.jpg").write_bytes(compressed.getvalue())
    scene(1).resize((48, 48)).save(test / "smaller.png")
    scene(2).point(lambda value: min(255, value + 4)).save(test / "brighter.png")
    scene(3).save(test / "same.png")
    data = load(DataConfig(source=str(tmp_path / "pictures")), catalog.task("image-classification"), 3)
    assert data.leakage == {"test": {"train": 1}} and data.hygiene.near == {"test": {"train": 3}}
    assert int(mask(data, "test").sum()) == 4


def small(picture: Image.Image) -> np.ndarray:
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    reason, _, thumb, _ = image._decoded({"bytes": encoded.getvalue(), "path": None})
    assert reason is None
    return thumb


def compressed(picture: Image.Image, quality: int = 60) -> Image.Image:
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=quality)
    return Image.open(encoded)


@pytest.mark.parametrize("orientation", list(Image.Transpose))
def test_turned_and_mirrored_pictures_are_found(orientation: Image.Transpose) -> None:
    """As they are, and compressed at another size, among pictures none of which is a copy."""
    others = [small(scene(seed)) for seed in range(60)]
    turned = scene(7).transpose(orientation), compressed(scene(8).transpose(orientation).resize((67, 67)))
    thumbs = np.stack([*others, *map(small, turned)])
    assert _near_pictures.turned_pictures(thumbs).tolist() == [[7, 60], [8, 61]]
    assert _near_pictures.near_pictures(thumbs).shape == (0, 2)


@pytest.mark.parametrize("side", [8, 11, 28])
def test_small_pictures_are_turned_as_exactly(side: int) -> None:
    pictures = [scene(seed).resize((side, side)) for seed in range(20)]
    turned = [picture.transpose(way) for picture, way in zip(pictures, Image.Transpose, strict=False)]
    found = _near_pictures.turned_pictures(np.stack([*map(small, pictures), *map(small, turned)]))
    assert found.tolist() == [[n, 20 + n] for n in range(7)]


def test_candidates_for_turned_pictures_leave_none_out() -> None:
    """The mean over the orientations is never further apart than the pictures are in any of them."""
    values = np.random.default_rng(0).integers(0, 255, (30, 2 * 432)).astype(np.float32)
    means = _near_pictures._means(values)
    whole = _near_pictures._turned(values).mean(axis=0)
    assert means.shape == (30, 2 * 63) and np.allclose(means @ means.T, whole @ whole.T, rtol=1e-4)
    for turned in _near_pictures._turned(values):
        assert np.allclose(_near_pictures._means(turned), means, atol=1e-2)


def test_symmetric_and_blurred_pictures_are_no_turned_copies() -> None:
    """Pictures that are the same when mirrored differ mirrored as they do upright; grey blurs resemble all blurs."""
    scenes = np.stack([small(scene(seed)) for seed in range(60)]).astype(np.float32)
    halves = scenes.reshape(60, 12, 12, 3)
    symmetric = (halves + halves[:, :, ::-1]) / 2
    blurred = 128 + (scenes - 128) / 20
    assert _near_pictures.turned_pictures(symmetric.reshape(60, -1).astype(np.uint8)).shape == (0, 2)
    assert blurred.std(axis=1).min() > _near_pictures.FLAT
    assert _near_pictures.turned_pictures(np.concatenate([scenes, blurred]).astype(np.uint8)).shape == (0, 2)


def test_where_all_pictures_are_alike_copies_are_closer() -> None:
    """One scene with a little of another, as in scans of one organ: each is within APART of some, a copy of none."""
    scenes = np.stack([small(scene(seed)) for seed in range(60)]).astype(np.float32)
    alike = (scenes[:1] + 0.09 * (scenes - scenes[:1])).round().astype(np.uint8)
    apart = np.sqrt(_near_pictures._squared(alike.astype(np.float32), alike.astype(np.float32)) / 432)
    assert np.sum(np.triu(apart, 1) > _near_pictures.APART) > 0 and np.sum(apart <= _near_pictures.APART) > 60
    assert _near_pictures.near_pictures(alike).shape == (0, 2)
    assert _near_pictures.near_pictures(np.concatenate([alike, alike[:1]])).tolist() == [[0, 60]]


def test_a_turned_copy_has_the_same_label_and_contradicts_nothing(tmp_path: Path) -> None:
    """Where a 6 is a turned 9, being turned says nothing; and nobody calls the labels wrong."""
    scenes_of(tmp_path / "pictures", "69")
    scene(4).transpose(Image.Transpose.ROTATE_180).save(tmp_path / "pictures/test/6/turned.png")
    scene(6).transpose(Image.Transpose.ROTATE_180).save(tmp_path / "pictures/test/9/turned.png")
    scene(8).transpose(Image.Transpose.ROTATE_180).save(tmp_path / "pictures/train/9/turned.png")
    data = load(DataConfig(source=str(tmp_path / "pictures")), catalog.task("image-classification"), 3)
    assert data.hygiene.to_dict() == {"repeated": {}, "near": {"test": {"train": 1}}, "contradicting": 0}
    assert "has a near copy in train (nearly the same pixels, perhaps turned or mirrored)" in "".join(data.warnings)
    assert mask(data, "test").tolist() == [False, True, False, False]


def test_noise_and_blank_pictures_are_no_copies(tmp_path: Path) -> None:
    blank = np.full((4, 432), 255, np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, (40, 432), dtype=np.uint8)
    assert _near_pictures.near_pictures(np.concatenate([blank, noise])).shape == (0, 2)
    assert _near_pictures.near_pictures(np.concatenate([noise, noise[:1]])).tolist() == [[0, 40]]


def test_a_stream_says_nothing_of_near_copies(tmp_path: Path) -> None:
    source = tiny.text_csv(tmp_path / "rows.csv", 120)
    data = load(DataConfig(source=str(source), streaming=True), catalog.task("text-classification"), 3, tmp_path / "w")
    assert data.hygiene.near is None
