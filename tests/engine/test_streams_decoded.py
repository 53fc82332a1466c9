"""Recordings and pictures as a stream: decoded on the way, as many each epoch, and a resume that finds its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
from torch.utils.data import DataLoader

from hftransfer import catalog, config, data
from hftransfer.errors import UserError
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.modeling.streamed import Streamed
from hftransfer.runs import Run
from hftransfer.training import set_scene
from tests import tiny, tiny_captions, tiny_dicom, tiny_heard
from tests.engine.conftest import QUICK
from tests.engine.test_resume import image_tree, resume, same_weights, start, text_tree

CUT = {"streaming": True, "test_size": 8, "validation_size": 8}


def tree(model: Path, rows: Path, task: str = "audio-classification", **section: Any) -> dict[str, Any]:
    return {
        **QUICK, "task": task, "model": str(model), "data": {"source": str(rows), **CUT, **section},
        "train": {**QUICK["train"], "learning_rate": 1e-3, "per_device_train_batch_size": 8},
    }  # fmt: skip


def streamed(tmp_path: Path, tree: dict[str, Any]) -> tuple[Any, Streamed]:
    built = catalog.build_config(tree)
    with Interruption() as interruption:
        scene = set_scene(built, Run.create(built, tmp_path / "run"), interruption, resume=False)
    found = scene.setup.prepared["train"].dataset
    assert isinstance(found, Streamed)
    return scene, found


def stopped_and_whole(made: dict[str, Any], tmp_path: Path) -> None:
    """Assert that a run which is stopped in its second epoch ends with the weights of one that is not."""
    whole = start(made, tmp_path / "whole")
    with pytest.raises(Interrupted) as stop:
        start(made, tmp_path / "stopped", steps=4)
    assert 3 < stop.value.step < 6
    stopped = Run(tmp_path / "stopped")
    resume(stopped)
    same_weights(whole, stopped)
    steps = [event["epoch"] for event in stopped.events()[0] if event["type"] == "evaluation"]
    assert steps == [1.0, 2.0]


def test_recordings_resume_bit_for_bit_with_augmentation(tmp_path):
    rows = tiny_heard.class_folder(tmp_path / "rows", 40)
    made = tree(tiny_heard.heard_model(tmp_path / "model"), rows, augmentation={"gain": 6.0})
    made["train"]["dataloader_num_workers"] = 0
    stopped_and_whole(made, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["pictures", "texts"])
def test_others_resume_bit_for_bit(kind, tmp_path):
    made = image_tree(tmp_path, 1) if kind == "pictures" else text_tree(tmp_path)
    made["data"] |= CUT
    made["data"] |= {"max_rows": 40}
    stopped_and_whole({**made, "train": {**made["train"], "num_train_epochs": 2}}, tmp_path)


def test_the_same_rows_as_from_a_file_in_other_draws_each_epoch(tmp_path):
    rows = tiny_heard.class_folder(tmp_path / "rows", 40)
    _, found = streamed(tmp_path, tree(tiny_heard.heard_model(tmp_path / "m"), rows, augmentation={"noise": 0.5}))
    assert len(found) == 24

    def epoch(number: int) -> dict[str, Any]:
        found.set_epoch(number)
        items = list(found)
        assert len(items) == 24
        return {item.row["row_id"]: item.opened() for item in items}

    first, again, second = epoch(0), epoch(0), epoch(1)
    assert [*first] == [*again] and [*first] != [*second] and {*first} == {*second}
    values = {name: one["input_values"] for name, one in first.items()}
    assert all((again[name]["input_values"] == one).all() for name, one in values.items())
    assert not any((second[name]["input_values"] == one).all() for name, one in values.items())
    plain = data.load(config.DataConfig(source=str(rows)), catalog.task("audio-classification"), 1)
    assert len({*first}) == 24 and sum(map(len, plain.splits.values())) == 40


def test_worker_processes_take_turns(tmp_path):
    rows = tiny.image_folder(tmp_path / "rows", 40)
    model = tiny.image_model(tmp_path / "model", "resnet")
    scene, found = streamed(tmp_path, tree(model, rows, "image-classification"))
    batches = [[*DataLoader(found, 4, num_workers=workers, collate_fn=scene.setup.collator)] for workers in (0, 2)]
    one, two = ([round(float(row.sum()), 3) for batch in found for row in batch["pixel_values"]] for found in batches)
    assert len(one) == 24 and one != two and sorted(one) == sorted(two)


def test_parts_of_files_and_what_is_too_long_are_counted_before_training(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    lines = []
    for number in range(14):
        soundfile.write(folder / f"{number}.wav", tiny_heard.speech(["low", "high", "middle"] * 2, number), 16_000)
        for part, word in enumerate(("low", "high", "middle")):
            text = word * 20 if number == 1 else word  # more than its recording has places for
            row = {"audio_filepath": f"{number}.wav", "offset": 0.22 * part, "duration": 0.22, "text": text}
            lines.append(json.dumps(row | ({"duration": 1.3} if number == 0 else {})))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    made = tree(
        tiny_heard.heard_model(tmp_path / "model"), folder / "manifest.jsonl", "automatic-speech-recognition",
        max_seconds=1.0,
    )  # fmt: skip
    scene, found = streamed(tmp_path, made)
    train = scene.setup.prepared["train"]
    assert train.count == 26 and len(found) == len([*found]) == 26 - train.too_long - train.cut_targets
    assert 0 < train.too_long <= 3 and 0 < train.cut_targets <= 3
    parts = [item.opened()["input_values"].numel() for item in found if item.row["audio"]["seconds"] == 0.22]
    assert len(parts) > 20 and all(3500 < count < 3540 for count in parts)
    assert any("not trained on: they last longer than 1 s" in warning for warning in scene.warnings)


def test_captions_are_streamed(tmp_path, train):
    rows = tiny_captions.folder(tmp_path / "rows", 40)
    model = tiny_captions.model(tmp_path / "model", "CLIP")
    _, result = train(tree(model, rows, "zero-shot-image-classification"), "train.max_steps=2")
    assert result["data"]["splits"]["train"] == 24 and result["test"]["n"]


@pytest.mark.parametrize("section, message", [
    ({"tile": 64}, r"data\.tile: it needs rows on disk"),
    ({"augmentation": {"mosaic": 0.5}}, r"data\.augmentation\.mosaic: it needs rows on disk"),
    ({}, r"data\.streaming: object-detection needs rows on disk: which form boxes have"),
])  # fmt: skip
def test_what_needs_all_rows_is_refused(section, message):
    with pytest.raises(UserError, match=message):
        catalog.build_config({"task": "object-detection", "model": "m", "data": {"source": "s", **CUT, **section}})


def test_patients_are_told_apart_on_disk_alone(tmp_path):
    pytest.importorskip("pydicom")
    section = {"source": str(tiny_dicom.folder(tmp_path / "rows", 12)), "streaming": True}
    task = catalog.task("image-classification")
    with pytest.raises(UserError, match="rows of one patient and study stay together only where all are on disk"):
        data.load(config.DataConfig(**section), task, 1, tmp_path / "work")
    assert data.load(config.DataConfig(**section, group=False), task, 1, tmp_path / "work").sizes["train"]
    names = [path.relative_to(tmp_path / "rows") for path in sorted((tmp_path / "rows").rglob("*.dcm"))]
    (tmp_path / "rows" / "table.csv").write_text(
        "image,label\n" + "".join(f"{name},{name.parent}\n" for name in names)
    )
    section["source"] = str(tmp_path / "rows" / "table.csv")
    with pytest.raises(UserError, match="stay together only where all are on disk"):
        data.load(config.DataConfig(**section), task, 1, tmp_path / "work")
