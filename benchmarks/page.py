"""docs/benchmarks.md, of which each part of the measurement writes its own section."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.measuring import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `python -m benchmarks.run --write` (`make bench`) on quiet machines, each section by the command that it
names; compare ratios within a section, not seconds between them."""

BUSY = 0.1  # of all cores, taken by others: seconds say too much then

Table = list[Sequence[object]]


def put(page: str, title: str, body: str) -> str:
    """Return the page with the section `title` written anew, the others as they were; a new one stands last."""
    head, *sections = re.split(r"^## ", page or HEAD, flags=re.MULTILINE)
    titles = [section.partition("\n")[0] for section in sections]
    fresh = f"{title}\n\n{body.strip()}"
    if title in titles:
        sections[titles.index(title)] = fresh
    else:
        sections.append(fresh)
    return "\n\n".join([head.strip(), *(f"## {section.strip()}" for section in sections)]) + "\n"


def write(title: str, body: str) -> None:
    """Put one section into the page on disk."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    PAGE.write_text(put(page, title, body), encoding="utf-8")


class Others:
    """How much of the machine other programs took since this was made."""

    def __init__(self) -> None:
        self.began = time.perf_counter(), self._seconds()

    def cores(self) -> float:
        """Return how many cores they kept busy on average; those of this process and its children are its own."""
        return max(0.0, self._seconds() - self.began[1]) / max(time.perf_counter() - self.began[0], 1e-9)

    @staticmethod
    def _seconds() -> float:
        spent = psutil.cpu_times()
        everything = sum(spent) - spent.idle - getattr(spent, "iowait", 0.0) - getattr(spent, "guest", 0.0)
        own = psutil.Process().cpu_times()
        return float(everything - own.user - own.system - own.children_user - own.children_system)


def stamp(words: str, versions: dict[str, str], others: Others) -> str:
    """Return a section's first line: the command, the day, the machine, the versions of `versions`, and the rest."""
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"`{words}`, {time.strftime('%Y-%m-%d')}. {processor()}, {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()}. {named}.{busy(others.cores())}"
    )


def busy(cores: float) -> str:
    """Return a sentence about other programs' work, where it took more than BUSY of the machine."""
    count = os.cpu_count() or 1
    if cores <= BUSY * count:
        return ""
    return f" The machine was busy (others took {cores:.1f} of {count} cores): seconds are too high."


def processor() -> str:
    """Return the processor's name and the instruction sets that matter here."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line), "processor")
    sets = [s for s in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {s}" in text]
    return f"{name} ({', '.join(sets)})"


def numbers(values: Sequence[float], digits: int = 1) -> str:
    """Return numbers as text."""
    return ", ".join(f"{value:.{digits}f}" for value in values)


def table(rows: Table) -> str:
    """Return rows as a Markdown table, the first as its head."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])
