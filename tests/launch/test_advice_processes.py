"""rank, curve and fuse with two processes: the answers of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hftransfer import train
from hftransfer.events import PREFIX, RANKED_BY
from hftransfer.methods import fuse
from hftransfer.runs import Run, read_json
from tests.chaos.zygote import Zygote
from tests.launch.conftest import call, ranks

pytestmark = pytest.mark.slow


def answers(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line.removeprefix(PREFIX)) for line in text.splitlines() if line.startswith(PREFIX)]
    return [one for one in found if one["type"] in ("ranked", "curve")]


def test_rank_and_curve(
    configuration: Callable[..., Path], materials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], zygote: Zygote,
) -> None:  # fmt: skip
    path, model = configuration(), str(materials / "model")
    for question in (["--rank", f"{model},./none"], ["--curve"]):
        caches = [str(tmp_path / f"{count}{question[0]}") for count in ("two", "one")]  # features are not found there
        (place := tmp_path / f"asked{question[0]}").mkdir()
        two = ranks(zygote, place, "--config", path, *question, HFTRANSFER_CACHE=caches[0])
        monkeypatch.setenv("HFTRANSFER_CACHE", caches[1])
        code = train.main(["--config", str(path), *question])
        (theirs,), (ours,) = answers(two.stdout), answers(capsys.readouterr().out)
        assert (two.returncode == 0) == (code == 0), two.stderr
        if question == ["--curve"]:
            assert (tmp_path / "run" / "curve.png").is_file()
            for one, other in zip(theirs["points"], ours["points"], strict=True):
                assert one == pytest.approx(other, abs=1e-6)
        else:
            assert code == 2 and [*theirs["failed"]] == [*ours["failed"]] == ["./none"]
            for figure in RANKED_BY:
                one, other = (found["models"][0][figure] for found in (theirs, ours))
                assert one.pop("behind") == other.pop("behind") and one == pytest.approx(other)


@pytest.mark.long
def test_fuse(configuration: Callable[..., Path], tmp_path: Path) -> None:
    path = configuration()
    assert train.main(["--config", str(path)]) == 0
    notes = []
    for count in (1, 2):
        done = call(
            "fuse", tmp_path / "run", "--with", "base", f"output={tmp_path / str(count)}", "--processes", str(count),
            "method.steps=2", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        notes.append(read_json(tmp_path / str(count) / fuse.FILE))
    for one, two in zip(notes[0]["tried"], notes[1]["tried"], strict=True):
        assert one == pytest.approx(two, abs=1e-5)
    assert notes[0]["chosen"] == notes[1]["chosen"]
    one, two = (Run(tmp_path / count).result()["test"]["metrics"] for count in ("1", "2"))
    assert one.keys() == two.keys()
    for name in one:  # sums of two processes have other last digits
        assert one[name] == pytest.approx(two[name], abs=1e-6), name
