"""A model of DICOM files, proven from outside by pictures that name nobody; nothing of a patient reaches the Hub."""

from __future__ import annotations

from pathlib import Path

from tests import tiny, tiny_dicom
from tests.engine.conftest import QUICK
from tests.hub.test_publishing import publish
from tests.hub.test_publishing_speech import finished
from tests.hub_server import HubServer


def test_a_model_of_scans_is_proven_and_names_nobody(tmp_path: Path, hub: HubServer) -> None:
    run = finished(tmp_path, {
        "task": "image-classification", "model": str(tiny.image_model(tmp_path / "model")),
        "data": {
            "source": str(tiny_dicom.folder(tmp_path / "scans", 32, different=True, Modality="MR")),
            "likely_copies": False, "label_issues": False,
        },
        "train": {**QUICK["train"], "num_train_epochs": 1},
    })  # fmt: skip
    assert run.result()["carried"]["window"] == "own"
    assert publish(hub, run, "alice/scans", verify=True)["verified"]
    secrets = (tiny_dicom.NAME, *tiny_dicom.NAME.split("^"), tiny_dicom.NUMBER, tiny_dicom.PRIVATE)
    for name, content in hub.files("alice/scans").items():
        assert not any(secret.encode() in content for secret in secrets), name
    card = hub.files("alice/scans")["README.md"].decode()
    assert "the window that the file names" in card and "## For a clinical report" in card
