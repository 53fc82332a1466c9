"""A stream gives the same canonical rows as a file, in memory that does not grow with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node

from hftransfer.config import DataConfig
from hftransfer.data import Data, load
from hftransfer.errors import UserError
from hftransfer.inputs.text import TEXT as STRING
from hftransfer.tasks.base import Role, truth
from tests.engine import toys

ROLES = (Role("text", STRING, "a string", ("text",)), truth("label", "a class", ("label",)))
TEXT = toys.of_text("text-classification", *ROLES)


def rows_of(count: int) -> list[dict[str, Any]]:
    return [{"text": f"sentence {i}", "label": ["no", "yes"][i % 3 == 0], "doc": f"d{i // 5}"} for i in range(count)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(source: Path, work_dir: Path, **options: Any) -> Data:
    return load(DataConfig(source=str(source), streaming=True, **options), TEXT, 11, work_dir)


def ids(rows: Any) -> list[str]:
    return [row["row_id"] for row in rows]


def test_a_stream_is_divided_like_a_file(tmp_path: Path) -> None:
    rows = rows_of(2500)
    rows[17]["text"], rows[18]["label"] = " ", None
    source = write(tmp_path / "rows.jsonl", rows)
    data = read(source, tmp_path / "work")
    assert data.sizes == {"train": 1748, "validation": 250, "test": 500}
    assert isinstance(data.splits["train"], IterableDataset)
    assert list(data.splits["train"].features) == ["row_id", "text", "label"]
    found = {use: ids(split) for use, split in data.splits.items()}
    everything = [row_id for part in found.values() for row_id in part]
    assert len(everything) == len(set(everything)) == 2498
    assert {use: len(part) for use, part in found.items()} == data.sizes
    for split in data.splits.values():
        for row in split:
            wanted = rows[int(row["row_id"].split(":")[1])]
            assert (row["text"], data.answer.names[row["label"]]) == (wanted["text"], wanted["label"])
    whole = load(DataConfig(source=str(source)), TEXT, 11)
    assert data.answer.names == whole.answer.names and sum(data.answer.counts) == 1748
    dropped = next(w for w in data.warnings if "dropped" in w)
    assert dropped.endswith("1 with no text; 1 with no label [rows: rows.jsonl:17, rows.jsonl:18]")
    again = read(source, tmp_path / "other")
    assert again.fingerprints == data.fingerprints and ids(again.splits["train"]) == found["train"]
    assert sorted(p.suffix for p in (tmp_path / "work" / "spooled").iterdir()) == [".arrow", ".arrow"]


def test_epochs_shuffle_and_processes_share(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / "rows" / f"part-{i}.jsonl", rows_of(400)[i * 100 : (i + 1) * 100])
    train = read(tmp_path / "rows", tmp_path / "work").splits["train"]
    assert train.num_shards == 4
    first = ids(train)
    assert first == ids(train) and first != sorted(first)
    train.set_epoch(1)
    second = ids(train)
    assert second != first and sorted(second) == sorted(first)
    shares = [ids(split_dataset_by_node(train, rank=rank, world_size=2)) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == sorted(first)


def test_groups_stay_whole_in_a_stream(tmp_path: Path) -> None:
    data = read(write(tmp_path / "rows.jsonl", rows_of(1500)), tmp_path / "work", group="doc")
    docs = [{int(row["text"].split()[1]) // 5 for row in split} for split in data.splits.values()]
    assert sum(map(len, docs)) == len(set.union(*docs)) == 300
    assert abs(data.sizes["test"] - 300) <= 5 and abs(data.sizes["validation"] - 150) <= 5


def test_given_splits_sizes_and_max_rows(tmp_path: Path) -> None:
    write(tmp_path / "rows" / "train.jsonl", rows_of(300))
    write(tmp_path / "rows" / "test.jsonl", rows_of(60))
    data = read(tmp_path / "rows", tmp_path / "work", validation_size=20)
    assert data.sizes == {"train": 280, "validation": 20, "test": 60}
    assert data.fingerprints["test"] == load(DataConfig(source=str(tmp_path / "rows")), TEXT, 1).fingerprints["test"]
    limited = read(tmp_path / "rows", tmp_path / "work", max_rows=90, validation_size=20)
    assert sum(limited.sizes.values()) == 90 and len(ids(limited.splits["train"])) == limited.sizes["train"]
    write(tmp_path / "rows" / "test.jsonl", [{**row, "label": None} for row in rows_of(60)])
    hidden = read(tmp_path / "rows", tmp_path / "work")
    assert hidden.sizes["test"] == 60 and any("labels of test are hidden" in w for w in hidden.warnings)


def test_wrong_streams(tmp_path: Path) -> None:
    def message(rows: list[dict[str, Any]], **options: Any) -> str:
        with pytest.raises(UserError) as caught:
            read(write(tmp_path / "rows.jsonl", rows), tmp_path / "work", **options)
        return str(caught.value)

    assert "every row of `label` is 'no'" in message([{**row, "label": "no"} for row in rows_of(50)])
    assert "30 with no text" in message([{**row, "text": ""} for row in rows_of(30)])
    assert "needs a text column" in message([{"label": row["label"]} for row in rows_of(30)])
    assert "rows for train are needed" in message(rows_of(50), test_size=60)
    assert "numbers with decimals" in message([{**row, "label": i / 3} for i, row in enumerate(rows_of(30))])
    assert "data.group must name a column" in message(rows_of(50), group="dox")
    assert "1 with no text" in message([*rows_of(50), {"text": "", "label": "no", "doc": ""}], bad_rows="refuse")
    write(tmp_path / "test.jsonl", [{"text": "a", "label": "maybe"}])
    assert "test also has maybe (rows test.jsonl:0)" in message(rows_of(50), test=str(tmp_path / "test.jsonl"))


MEASURE = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from tests.engine import test_data_streaming as t
from pathlib import Path
data = t.read(Path(sys.argv[2]), Path(sys.argv[3]), test_size=500, validation_size=500)
seen = sum(1 for row in data.splits["train"])
assert seen == data.sizes["train"]
print(seen, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    text = "a sentence of some length that is read again and again, " * 80  # rows that outgrow every fixed buffer
    peaks = []
    for count in (12_000, 36_000):
        source = tmp_path / f"{count}.jsonl"
        with open(source, "w") as file:
            file.writelines(f'{{"text": "{i} {text}", "label": "{"ab"[i % 2]}"}}\n' for i in range(count))
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(Path(__file__).parents[2]), str(source), str(tmp_path / "work")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        seen, peak = map(int, done.stdout.split())
        assert seen == count - 1000
        peaks.append(peak / 1024)
    grown = source.stat().st_size / 2**20 * 2 / 3  # MB of rows that the second stream has over the first
    assert grown > 100 and peaks[1] - peaks[0] < 0.3 * grown, peaks
