"""Events: whole lines only, from any offset, whatever a killed writer left."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from hftransfer.events import PREFIX, EventWriter, read_events


def test_what_is_written_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    writer.write("phase", name="data")
    first, offset = read_events(path)
    assert [(e["type"], e["name"]) for e in first] == [("phase", "data")]
    assert first[0]["time"] > 0
    writer.write("done", seconds=1.5)
    second, offset = read_events(path, offset)
    assert [e["type"] for e in second] == ["done"]
    assert offset == path.stat().st_size
    assert read_events(path, offset) == ([], offset)


def test_no_file_is_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none", 7) == ([], 7)


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    whole = '{"type": "a", "time": 1}\n'
    path.write_text(whole + '{"type": "b", "ti')
    events, offset = read_events(path)
    assert [e["type"] for e in events] == ["a"] and offset == len(whole)
    path.write_text(whole + '{"type": "b", "time": 2}\n')
    events, offset = read_events(path, offset)
    assert [e["type"] for e in events] == ["b"]


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_torn_line_costs_itself_alone(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"type": "a", "time": 1}\n' + '{"type": "b", "time": 2}'[:cut])
    EventWriter(path).write("c")
    assert [e["type"] for e in read_events(path)[0]] == ["a", "c"]


def test_bytes_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'\x00\xff\x00\n[1]\n{"no": "type"}\n{"type": "a"}\n')
    assert read_events(path)[0] == [{"type": "a", "time": 0.0}]


def test_an_offset_counts_bytes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventWriter(path).write("notice", message="é" * 10 + "→")
    offset = read_events(path)[1]
    EventWriter(path).write("done")
    assert [e["type"] for e in read_events(path, offset)[0]] == ["done"]


def test_the_mirror_carries_a_prefix(tmp_path: Path) -> None:
    stream = io.StringIO()
    EventWriter(tmp_path / "e", stream).write("phase", name="x")
    assert stream.getvalue().startswith(PREFIX)
    assert json.loads(stream.getvalue().removeprefix(PREFIX))["name"] == "x"


def test_only_rank_0_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    EventWriter(tmp_path / "e").write("phase")
    assert not (tmp_path / "e").exists()
