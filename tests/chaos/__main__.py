"""Draw faults for so many minutes: python -m tests.chaos --minutes N [--seed S] [--only CLASS] [--write FILE]"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos import report
from tests.chaos.report import Tries

ROOT = Path(__file__).parents[2]
SHARE = {"engine": 5, "wholly": 1, "hub": 2, "pulls": 2, "inputs": 4, "app": 4}  # how often each is drawn
NOTE = 120.0  # seconds after which what was tried so far is kept


def main() -> int:
    """Return 0 when nothing broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, help="unless given, one that no run has had")
    parser.add_argument("--only", choices=[*SHARE], help="one kind of tries")
    parser.add_argument("--write", type=Path, metavar="FILE", help="add this run to those before, and write the page")
    options = parser.parse_args()
    seed = report.free_seed(report.read()) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as place:
        began = time.monotonic()

        def note(tries: Tries) -> dict[str, Any]:
            minutes = round(min(options.minutes, (time.monotonic() - began) / 60), 1)
            found = report.entry(tries, minutes, seed, options.only)
            if options.write and tries.count:
                report.keep(found, options.write)
            return found

        tries = attack(Path(place), options.minutes, seed, options.only, note=note)
        found = note(tries)
        print(report.page({"tries": [found], "load": None}))
        if tries.breaks and sys.stdin.isatty():
            input(f"what broke lies in {place}; Enter deletes it ")
    return 1 if tries.breaks else 0


def attack(
    place: Path, minutes: float, seed: int, only: str | None = None, say: bool = True,
    note: Callable[[Tries], object] = lambda tries: None,
) -> Tries:  # fmt: skip
    """Attack for so many minutes in a folder, and return what was tried; `note` it now and then."""
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
        from tests.chaos.pulls import Pulls
        from tests.chaos.wholly import Wholly
        from tests.chaos.zygote import Zygote

        build: dict[str, Any] = {
            "zygote": lambda: Zygote(environment, place), "engine": lambda: Engine(place / "engine", get("zygote")),
            "wholly": lambda: Wholly(place / "wholly", get("engine")),
            "hub": lambda: Hub(place / "hub", get("zygote"), server),
            "pulls": lambda: Pulls(place / "pulls", get("zygote"), server, place / "hf"),
            "inputs": lambda: Inputs(place / "inputs", get("zygote")), "app": lambda: App(place / "app", server),
        }  # fmt: skip
        made: dict[str, Any] = {}

        def get(kind: str) -> Any:
            if kind not in made:
                made[kind] = build[kind]()
            return made[kind]

        kinds = [only] if only else [kind for kind, share in SHARE.items() for _ in range(share)]
        end, noted = time.monotonic() + minutes * 60, time.monotonic()
        try:
            while time.monotonic() < end:
                if time.monotonic() > noted + NOTE:  # a run that is ended itself has counted all the same
                    noted = time.monotonic()
                    note(tries)
                get(chance.choice(kinds)).attempt(chance, tries)
        finally:
            if "app" in made:
                made["app"].settle(tries)
            if "zygote" in made:
                made["zygote"].close()
    return tries


if __name__ == "__main__":
    sys.exit(main())
