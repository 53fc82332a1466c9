"""A model that answers with masks, proven from outside: transformers' pipeline gives the same to every pixel."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import tiny_masks
from tests.engine.conftest import QUICK
from tests.hub.conftest import python
from tests.hub.finished import call
from tests.hub.test_publishing import publish
from tests.hub.test_publishing_speech import finished
from tests.hub_server import HubServer

ASKING = """
import numpy as np
from PIL import Image
from transformers import pipeline

found = pipeline("image-segmentation", {repo!r})({path!r}, subtask="semantic")
classes = np.zeros(np.asarray(found[0]["mask"]).shape, np.uint8)
for part in found:
    classes[np.asarray(part["mask"]) > 0] = {names!r}.index(part["label"])
Image.fromarray(classes).save({out!r})
"""


@pytest.mark.parametrize("architecture", [pytest.param("dpt", marks=pytest.mark.long), "mask2former"])
def test_masks_are_proven_and_asked_by_strangers(architecture: str, tmp_path: Path, hub: HubServer) -> None:
    rows = tiny_masks.folder(tmp_path / "rows", 14)
    names = ["ground", *tiny_masks.SHAPES]
    run = finished(tmp_path, {
        "task": "image-segmentation", "model": str(tiny_masks.model(tmp_path / "model", architecture)),
        "data": {"source": str(rows), "label_names": names, "test_size": 4, "validation_size": 3},
        "train": {**QUICK["train"], "learning_rate": 1e-7, "num_train_epochs": 1},
    })  # fmt: skip
    assert publish(hub, run, "alice/shapes", verify=True)["verified"]
    card = hub.files("alice/shapes")["README.md"].decode()
    assert "pipeline_tag: image-segmentation" in card and "`mean_iou`" in card
    assert 'answer("photo.jpg", subtask="semantic")' in card
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (50, 49, 3)).astype(np.uint8)).save(path)
    lines = ASKING.format(repo="alice/shapes", path=str(path), names=names, out=str(tmp_path / "theirs.png"))
    python(lines, hub, "bob", tmp_path / "stranger", HF_HUB_DISABLE_TELEMETRY="1")
    out = tmp_path / "ours"
    ours = call(hub, "bob", tmp_path / "home", "predict", "alice/shapes", str(path), "--files", str(out), "--json")
    assert ours.returncode == 0, ours.stderr
    assert {one["label"] for one in json.loads(ours.stdout)["segments"]} <= set(names)
    left, right = (np.asarray(Image.open(one)) for one in (out / "noise.classes.png", tmp_path / "theirs.png"))
    assert (left == right).mean() > 0.999 and len(np.unique(left)) > 1


TOLD = """
import json
import numpy as np

print(json.dumps([
    {"label": one["label"], "score": one["score"], "pixels": int((np.asarray(one["mask"]) > 0).sum())}
    for one in found
]))
"""


def test_masks_of_single_objects_are_proven_and_asked_by_the_lines_of_the_card(tmp_path: Path, hub: HubServer) -> None:
    tiny_masks.objects(tmp_path / "rows", 14)
    run = finished(tmp_path, {
        "task": "image-segmentation", "model": str(tiny_masks.model(tmp_path / "model", "mask2former")),
        "data": {"source": str(tmp_path / "rows"), "problem_type": "instances", "test_size": 4, "validation_size": 3},
        "train": {**QUICK["train"], "learning_rate": 1e-7, "num_train_epochs": 1},
    })  # fmt: skip
    assert publish(hub, run, "alice/things", verify=True)["verified"]
    card = hub.files("alice/things")["README.md"].decode()
    assert "pipeline_tag: image-segmentation" in card and "`mask_map`" in card
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (50, 49, 3)).astype(np.uint8)).save(path)
    (lines,) = [part for part in re.findall(r"```python\n(.*?)```", card, re.S) if "import pipeline" in part]
    asked = lines.replace('"photo.jpg"', repr(str(path))).replace("print(", "found = (")
    done = python(asked + TOLD, hub, "bob", tmp_path / "stranger", HF_HUB_DISABLE_TELEMETRY="1")
    theirs = json.loads(done.stdout.strip().splitlines()[-1])
    ours = call(hub, "bob", tmp_path / "home", "predict", "alice/things", str(path), "--json")
    assert ours.returncode == 0, ours.stderr
    found = json.loads(ours.stdout)["objects"]
    assert len(found) == len(theirs)
    for one, other in zip(found, sorted(theirs, key=lambda one: -one["score"]), strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-2)
        assert sum(one["mask"]["counts"][1::2]) >= other["pixels"]
