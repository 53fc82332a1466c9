"""Real signals at random moments of real runs: the command that counts them, at a small number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_killed_runs_end_as_the_quiet_one() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", "--n", "3", "--seed", "5"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("3 kills of "), done.stdout
