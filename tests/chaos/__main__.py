"""Draw faults for so many minutes: python -m tests.chaos --minutes N [--seed S] [--only CLASS] [--write FILE]"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.chaos import report
from tests.chaos.report import WHAT, Tries

ROOT = Path(__file__).parents[2]
SHARE = {"engine": 5, "hub": 3, "inputs": 4, "app": 4}  # how often each is drawn


def main() -> int:
    """Return 0 when nothing broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, help="unless given, one that no run has had")
    parser.add_argument("--only", choices=[*WHAT], help="one class of faults")
    parser.add_argument("--write", type=Path, metavar="FILE", help="add this run to those before, and write the page")
    options = parser.parse_args()
    seed = report.free_seed(report.read()) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as place:
        tries = attack(Path(place), options.minutes, seed, options.only)
        found = report.entry(tries, options.minutes, seed, options.only)
        if options.write:
            report.keep(found, options.write)
        print(report.page({"tries": [found], "load": None}))
        if tries.breaks and sys.stdin.isatty():
            input(f"what broke lies in {place}; Enter deletes it ")
    return 1 if tries.breaks else 0


def attack(place: Path, minutes: float, seed: int, only: str | None = None, say: bool = True) -> Tries:
    """Attack for so many minutes in a folder, and return what was tried."""
    from tests.hub_server import HubServer

    tries, chance = Tries(say), random.Random(seed)
    (place / "received").mkdir()
    with HubServer(place / "hub-server") as server:
        wanted = {
            **server.env("alice"), "HF_HOME": str(place / "hf"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
            "GRADIO_TEMP_DIR": str(place / "received"), "HFTRANSFER_CACHE": str(place / "cache"),
        }  # fmt: skip
        os.environ.update(wanted)  # before the Hub's client is imported, which reads them once
        os.environ.pop("HF_TOKEN", None)
        environment = {**os.environ, **wanted}
        # one after another: each of them takes what the machine has
        from tests.chaos.app import App
        from tests.chaos.engine import Engine
        from tests.chaos.hub import Hub
        from tests.chaos.inputs import Inputs
        from tests.chaos.zygote import Zygote

        zygote = Zygote(environment, place)
        build: dict[str, Any] = {
            "engine": lambda: Engine(place / "engine", zygote), "hub": lambda: Hub(place / "hub", zygote, server),
            "inputs": lambda: Inputs(place / "inputs", zygote), "app": lambda: App(place / "app"),
        }  # fmt: skip
        made: dict[str, Any] = {}
        kinds = [only] if only else [kind for kind, share in SHARE.items() for _ in range(share)]
        end = time.monotonic() + minutes * 60
        try:
            while time.monotonic() < end:
                kind = chance.choice(kinds)
                if kind not in made:
                    made[kind] = build[kind]()
                made[kind].attempt(chance, tries)
        finally:
            if "app" in made:
                made["app"].settle(tries)
            zygote.close()
    return tries


if __name__ == "__main__":
    sys.exit(main())
