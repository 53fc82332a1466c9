"""Files that are hostile, or good ones that were damaged: looked at and loaded in a process with little memory."""

from __future__ import annotations

import json
import random
import resource
import shutil
from dataclasses import asdict
from pathlib import Path

from tests.app.test_uploads import GOOD, HOSTILE, LIMITS
from tests.chaos.report import Tries
from tests.chaos.zygote import Zygote

SECONDS = 120.0  # of one file
MEMORY = 3 * 2**30  # beyond what the libraries take
OUTCOMES = {0: "shown", 2: "refused in words", 3: "told as a failure"}


class Inputs:
    """The builders of the tests of uploads, and what damages what they build."""

    def __init__(self, folder: Path, zygote: Zygote) -> None:
        self.folder, self.zygote = folder, zygote
        folder.mkdir()

    def attempt(self, random: random.Random, tries: Tries) -> None:
        """Build a file, damage it, have it looked at."""
        place = self.folder / f"try {tries.count}"
        place.mkdir()
        kind = random.choice(["hostile", "damaged", "damaged"])
        if kind == "hostile":
            case = random.choice([*HOSTILE])
            name, build = HOSTILE[case][:2]
        else:
            case = random.choice([*GOOD])
            name, build = GOOD[case]
        path = place / name
        build(path)
        if kind == "damaged":
            path.write_bytes(damaged(random, path.read_bytes()))
        tries.add(f"inputs: {kind}")
        task = random.choice(["text-classification", "image-classification", "token-classification", "translation"])
        child = self.zygote.start("look", path, json.dumps(asdict(LIMITS)), task, cwd=place)
        try:
            size = int(Path(f"/proc/{child.pid}/statm").read_text().split()[0]) * resource.getpagesize()
            resource.prlimit(child.pid, resource.RLIMIT_AS, (size + MEMORY,) * 2)
            resource.prlimit(child.pid, resource.RLIMIT_CPU, (int(SECONDS),) * 2)
        except (OSError, ValueError, IndexError):
            pass  # it has ended
        code = child.wait(2 * SECONDS)
        tries.outcomes[OUTCOMES.get(code or 0, f"ended its process ({code})") if code is not None else "hung"] += 1
        evil = [found for found in self.folder.rglob("*evil*") if found.parent != place]
        if code in OUTCOMES and not evil:
            shutil.rmtree(place)
        else:
            tries.broke("inputs", f"{kind}, {case}, {task}: {code} {evil[:1]} {_said(place)}", place)


def _said(place: Path) -> str:
    path = place / "look.log"
    return path.read_text(errors="replace").strip()[-300:] if path.exists() else ""


def damaged(random: random.Random, data: bytes) -> bytes:
    """Change a file as a bad disk, a cut connection or somebody with an editor of bytes would."""
    content = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at, length = random.randrange(len(content) + 1), random.randint(1, 64)
        way = random.choice(["flip", "cut", "repeat", "zeros", "numbers", "words"])
        if way == "flip" and at < len(content):
            content[at] ^= 1 << random.randrange(8)
        elif way == "cut":
            del content[at : at + (length if random.random() < 0.7 else len(content))]
        elif way == "repeat":
            content[at:at] = content[at : at + length] * random.randint(1, 200)
        elif way == "zeros":
            content[at : at + length] = bytes(length)
        elif way == "numbers":
            content[at : at + 4] = random.choice([b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f"])
        else:
            words = ['"', "\r\n", "\x1b]0;x\x07", "\u202e", "=cmd()", ",,,,", "{", "[", "NaN", "1e999", "\ud7ff\x00"]
            content[at:at] = random.choice(words).encode()
        if not content:
            return b""
    return bytes(content)
