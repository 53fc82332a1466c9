"""A run in odd surroundings: without a home, with another language, in another time, by an optimising Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hftransfer.runs import Run
from tests.launch.conftest import ROOT, SECONDS, write

HOME = str(Path.home())
NOWHERE = "/dev/null/home"  # which nobody can make
CASES: dict[str, dict[str, Any]] = {
    "no home": {"without": ("HOME", "HF_HOME", "HFTRANSFER_CACHE", "XDG_CACHE_HOME")},
    "a home that cannot be": {
        "env": {"HOME": NOWHERE},
        "without": ("HF_HOME", "HFTRANSFER_CACHE", "XDG_CACHE_HOME"),
        "refused": "Set HF_HOME to a folder that can be written",
    },
    "no folder for temporary files": {"env": {"TMPDIR": NOWHERE}},
    "files for nobody else": {"umask": 0o077},
    "a language of ASCII alone": {"env": {"LC_ALL": "C", "LANG": "C"}},
    "a language that is not there": {"env": {"LC_ALL": "xx_YY.ISO-8859-1"}},
    "a time zone that is none": {"env": {"TZ": ":Nowhere/At all"}},
    "a time zone far away": {"env": {"TZ": "Pacific/Kiritimati"}},
    "an optimising Python": {"python": ("-O",)},
    "no standard output": {"closed": True},
    "an install that nobody may write to": {"read_only": (str(ROOT / "hftransfer"),)},
    "no place for temporary files that may be written to": {
        "read_only": ("/tmp", "/var/tmp"), "without": ("TMPDIR", "TEMP", "TMP"),
        "env": {"HF_HOME": "caches", "HFTRANSFER_CACHE": "caches"},  # those of the tests lie in /tmp as well
    },
    "a home that may be read alone": {
        "env": {"HOME": HOME}, "without": ("HF_HOME", "HFTRANSFER_CACHE", "XDG_CACHE_HOME"), "read_only": (HOME,),
        "refused": "Set HF_HOME to a folder that can be written",
    },
    "a home that may be read alone, and caches elsewhere": {
        "env": {"HOME": HOME, "HF_HOME": "caches", "HFTRANSFER_CACHE": "caches"}, "read_only": (HOME,),
    },
}  # fmt: skip
# what is to be read-only becomes so in a mount namespace of the command's own; the folder of the test stays as it is
ALONE = """
place=$1; shift
mount --make-rprivate / && mount --bind "$place" "$place" || exit 77
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mount --rbind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 77; fi
  shift
done
shift; cd "$place" && exec "$@"
"""


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_a_run_is_done_and_listed_in_odd_surroundings(case: str, materials: Path, tmp_path: Path) -> None:
    given = CASES[case]
    place = tmp_path / "ein Ort, mit Läuten und 走る"
    place.mkdir()
    labels = ("gut 👍", "schlecht")
    rows = "".join(f"ein Film über {i},{labels[i % 2]}\n" for i in range(60))
    (place / "rows.csv").write_text("text,label\n" + rows, encoding="utf-8")
    path = write(materials, place, data={"source": "rows.csv"}, output="ein Lauf")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **given.get("env", {})}
    for name in given.get("without", ()):
        environment.pop(name, None)

    def begin() -> None:
        os.umask(given.get("umask", 0o022))
        if given.get("closed"):
            os.close(1)

    def call(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*alone, sys.executable, *given.get("python", ()), "-m", "hftransfer.cli", *map(str, words)],
            env=environment, cwd=place, capture_output=True, text=True, errors="replace", timeout=SECONDS,
            preexec_fn=begin, check=False,
        )  # fmt: skip

    alone = []
    if given.get("read_only"):
        alone = ["unshare", "--mount", "sh", "-c", ALONE, "sh", str(place), *given["read_only"], "--"]
        if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True).returncode:
            pytest.skip("this process may make nothing read-only")
    done = call("train", path)
    run = Run(place / "ein Lauf")
    if given.get("refused"):
        assert done.returncode == 2 and given["refused"] in done.stderr and "Traceback" not in done.stderr
        return
    assert done.returncode == 0 and run.status().state == "done", done.stderr
    assert "Traceback" not in done.stderr
    listed = call("runs", "--json")
    assert listed.returncode == 0 and "Traceback" not in listed.stderr
    asked = call("predict", "ein Lauf", "ein Film über Läuse")
    assert asked.returncode == 0 and "Traceback" not in asked.stderr, asked.stderr
    if given.get("umask"):
        assert not [path for path in run.folder.rglob("*") if path.stat().st_mode & 0o077]
