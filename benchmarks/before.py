"""What was asked, what stood on this page first, and what stands there now: read from the page and its history."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import page
from benchmarks.measuring import ROOT, Sizes

DATE = re.compile(r"\d{4}-\d\d-\d\d")
ABOUT = (
    "From the page and its history: the first figure that a section of it held, if on an earlier day, and the "
    "one that it holds now. The machines differ; ratios are of one run each."
)


@dataclass(frozen=True)
class Figure:
    """A figure of a section: what it is, where it stands there, what was asked."""

    section: str
    what: str
    pattern: str
    asked: str
    unit: str = ""

    def of(self, text: str) -> tuple[str, str] | None:
        """Return the figure and its day in a page; None where it is not there."""
        body = re.search(rf"^## {re.escape(self.section)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        found = re.search(self.pattern, body.group(1), re.DOTALL) if body else None
        day = DATE.search(body.group(1)) if body else None
        return (f"{found.group(1)}{self.unit}", day.group()) if found and day else None


FIGURES = (
    Figure("Throughput on text", "examples/s, times those of the example's defaults",
           r"ratio of the medians \| \*\*([\d.]+)\*\*", "10"),
    Figure("Throughput on text", "useful work, of the best matrix product", r"\*\*(\d+)%\*\* of the best", "60%", "%"),
    Figure("Against transformers' example", "seconds of training, times ours, over seeds",
           r"trains \*\*([\d.]+)\*\* times as long", "10"),
    Figure("The probe", "full fine-tuning's training, times the probe's",
           r"trains \*\*([\d.]+)\*\* times as long", "20"),
    Figure("Overhead", "more seconds than a loop", r"over loop \*\*([-+]?[\d.]+)%", "under 3%", "%"),
    Figure("Overhead", "more seconds than a bare Trainer", r"bare Trainer \*\*([-+]?[\d.]+)%", "under 2%", "%"),
    Figure("Processes", "two processes on two cores, by one with two threads", r"Ratio: \*\*([\d.]+)\*\*", "0.95"),
    Figure("Where the time goes", "seconds to the end of the first step",
           r"first step ended after \*\*([\d.]+) s", "under 10"),
    Figure("Where the time goes", "seconds of scores, intervals and plots, 10,000 rows",
           r"10,000 test rows.*?\| together \| ([\d.]+)", "under 1"),
    Figure("Where the time goes", "seconds of `hftransfer predict`, cold",
           r"`hftransfer predict` on one text.*?\| together \| ([\d.]+)", "under 2"),
    Figure("Where the time goes", "seconds of the same by transformers alone",
           r"by a script of transformers alone.*?\| together \| ([\d.]+)", ""),
    Figure("Images", "examples/s of MobileNetV2", r"([\d.]+) examples/s", ""),
    Figure("Images", "examples/s, times those of the example's defaults", r"medians \*\*([\d.]+)\*\*", ""),
    Figure("Photos", "training on copies, times as fast", r"Training is \*\*([\d.]+)\*\* times", ""),
    Figure("The rows of an embedding", "training the rows that are read, times as fast",
           r"\| 30,522 \|[^\n]*\*\*([\d.]+)\*\*", ""),
    Figure("Very many rows", "seconds to the end of the first step, 1,000,000 texts",
           r"\| 1,000,000 texts, CSV \| ([\d.]+)", "under 30"),
    Figure("Very many rows", "seconds to the end of the first step, 100,000 pictures",
           r"\| 100,000 pictures[^|]*\| ([\d.]+)", "under 30"),
)  # fmt: skip


def measure(folder: Path, sizes: Sizes) -> str:
    """Return the table of FIGURES; what the page does not hold is said to be not there."""
    texts = [*history(), page.PAGE.read_text(encoding="utf-8")]
    rows: page.Table = [("section", "figure", "asked", "first", "now")]
    for one in FIGURES:
        found = [figure for text in texts if (figure := one.of(text))]
        now = one.of(texts[-1])
        first = found[0] if found and (now is None or found[0][1] != now[1]) else None
        rows.append((one.section, one.what, one.asked, _told(first, "no earlier day"), _told(now, "not there")))
    return f"{ABOUT}\n\n{page.table(rows)}"


def history() -> Iterator[str]:
    """Yield the page at each commit that changed it, the oldest first; nothing outside of a clone."""
    place = page.PAGE.relative_to(ROOT).as_posix()
    for revision in _git("log", "--reverse", "--format=%H", "--", place).split():
        yield _git("show", f"{revision}:{place}")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    return done.stdout if done.returncode == 0 else ""


def _told(found: tuple[str, str] | None, none: str) -> str:
    return f"{found[0]} ({found[1]})" if found else none
