"""Models of pictures and words: published as their users load them, and proven by the lines on their cards."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hftransfer import catalog
from hftransfer.fitting.interruption import Interruption
from hftransfer.runs import Run
from tests import tiny_captions
from tests.engine.conftest import QUICK
from tests.hub.conftest import python
from tests.hub.test_publishing import publish
from tests.hub_server import HubServer

LABELS = ["a good film with a bad cast", "the great story and fine food"]


def trained(folder: Path, family: str) -> Run:
    from hftransfer import training

    data = {"source": str(tiny_captions.folder(folder / "rows", 60))}
    model = tiny_captions.model(folder / "model", family)
    tree = {**QUICK, "task": "zero-shot-image-classification", "model": str(model), "data": data}
    built = catalog.build_config({**tree, "train": {**QUICK["train"], "max_steps": 3, "learning_rate": 1e-3}})
    run = Run.create(built, folder / "runs" / family.lower())
    with Interruption() as interruption:
        result = training.run(built, run, interruption)
    run.event("result", metrics=result["test"]["metrics"], n=result["test"]["n"])
    run.event("done", seconds=1.0)
    return run


@pytest.mark.parametrize("family", [pytest.param("Siglip", marks=pytest.mark.long), "dual-vit"])
def test_it_is_proven_and_asked_by_strangers(family: str, tmp_path: Path, hub: HubServer) -> None:
    repo = f"alice/{family.lower()}"
    assert publish(hub, trained(tmp_path, family), repo, verify=True)["verified"]
    card = hub.files(repo)["README.md"].decode()
    assert "pipeline_tag: zero-shot-image-classification" in card and "library_name: transformers" in card
    block = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    assert ("AutoModel.from_pretrained" in block) is (family == "dual-vit"), "each as its users load it"
    picture = tmp_path / "rows" / "000.png"
    lines = block.replace('["a cat", "a dog"]', repr(LABELS)).replace('"photo.jpg"', repr(str(picture)))
    told = python(lines + "\nimport json\nprint(json.dumps(answer))", hub, "bob", tmp_path / "stranger")
    theirs = json.loads(told.stdout.splitlines()[-1])
    asked = (
        "import json, sys\nfrom hftransfer import Predictor\n"
        f"print(json.dumps(Predictor({repo!r})({{'image': {str(picture)!r}, 'labels': {LABELS!r}}})['scores']))"
    )
    ours = json.loads(python(asked, hub, "bob", tmp_path / "home").stdout.splitlines()[-1])
    assert ours == pytest.approx(theirs, abs=1e-5) and set(ours) == set(LABELS)
