"""Data sets of the Hub that hold recordings: in tables with the feature Audio, and as files beside a table."""

from __future__ import annotations

import io
import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from tests import tiny_heard
from tests.hub.conftest import python
from tests.hub_server import HubServer

SPOKEN, CLASSES = "automatic-speech-recognition", "audio-classification"
LOADING = """
    import json
    from pathlib import Path
    from hftransfer import catalog
    from hftransfer.config import DataConfig
    from hftransfer.data import load
    from hftransfer.errors import UserError
    from hftransfer.inputs.audio import AUDIO

    for source, task, streaming in {asked!r}:
        section = DataConfig(source=source, streaming=streaming, test_size=4, validation_size=4)
        try:
            found = load(section, catalog.task(task), 1, Path("work"))
        except UserError as error:
            print(json.dumps([error.exit_code, str(error)]))
            continue
        row = next(iter(found.splits["train"]))
        print(json.dumps([sum(found.sizes.values()), AUDIO.opened(row["audio"], section).rate]))
"""


def table(folder: Path) -> bytes:
    """Return recordings and transcripts as a Parquet file that the Hub made of a data set with the feature Audio."""
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    sounds = [{"bytes": (folder / row["file_name"]).read_bytes(), "path": row["file_name"]} for row in rows]
    features = datasets.Features({"audio": datasets.Audio(), "sentence": datasets.Value("string")})
    told = {"huggingface": json.dumps({"info": {"features": features.to_dict()}})}
    buffer = io.BytesIO()
    found = pa.table({"audio": pa.array(sounds), "sentence": [row["text"] for row in rows]})
    pq.write_table(found.replace_schema_metadata(told), buffer)
    return buffer.getvalue()


def test_recordings_are_read_from_tables_and_as_files(tmp_path: Path, hub: HubServer) -> None:
    spoken, classes = tiny_heard.spoken_folder(tmp_path / "spoken", 20), tiny_heard.class_folder(tmp_path / "c", 18)
    hub.create_repo("alice/table", "dataset", files={"data/train-00000-of-00001.parquet": table(spoken)})
    hub.create_repo("alice/files", "dataset", files={path.name: path.read_bytes() for path in spoken.iterdir()})
    hub.create_repo(
        "alice/classes", "dataset",
        files={str(path.relative_to(classes)): path.read_bytes() for path in classes.rglob("*.wav")},
    )  # fmt: skip
    asked = [
        ("alice/table", SPOKEN, False), ("alice/table", SPOKEN, True), ("alice/files", SPOKEN, False),
        ("alice/classes", CLASSES, False), ("alice/files", SPOKEN, True),
    ]  # fmt: skip
    lines = python(LOADING.format(asked=asked), hub, "bob", tmp_path / "home").stdout.splitlines()
    *read, refused = [json.loads(line) for line in lines if line.startswith("[")]
    assert read == [[20, 16_000], [20, 16_000], [20, 16_000], [18, 16_000]]
    assert refused[0] == 2 and "they lie there as files. Set data.streaming=false." in refused[1]


def test_a_process_that_follows_no_link_reads_them_too(tmp_path: Path, hub: HubServer) -> None:
    spoken = tiny_heard.spoken_folder(tmp_path / "spoken", 20)
    hub.create_repo("alice/files", "dataset", files={path.name: path.read_bytes() for path in spoken.iterdir()})
    code = LOADING.format(asked=[("alice/files", SPOKEN, False)])
    told = python(code, hub, "bob", tmp_path / "home", HFTRANSFER_FENCE="{}").stdout
    assert [20, 16_000] in [json.loads(line) for line in told.splitlines() if line.startswith("[")]
