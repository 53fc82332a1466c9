"""Measure the figures of docs/benchmarks.md, all of them or by name: python -m benchmarks.run [--write] [NAME ...]

Needs the samples `text`, `recommendation`, `image`, `speech`, `chat`, `questions`, `captions`, `detection` and
`emoji-scenes` (hftransfer samples NAME ...), and a machine that does nothing else; `few_shot` and `retrieval` need a
package index too, where they install SetFit and sentence-transformers into an environment of their own; `browser`
needs Chromium, playwright and npm.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import (
    asking,
    before,
    boxes,
    browser,
    captions,
    chat,
    coverage,
    detection,
    embeddings,
    example,
    export,
    few_shot,
    first_answer,
    gpu,
    gpu_table,
    guard,
    machine,
    many_rows,
    page,
    photos,
    places,
    probe,
    ranking,
    recommendation,
    regret,
    retrieval,
    scenes,
    searching,
    shares,
    span,
    speech,
    traffic,
    tuning,
    ways,
)
from benchmarks.measuring import Sizes
from hftransfer import accounts

NAMED = ("hftransfer", "python", "torch", "transformers", "peft")  # versions that a section tells


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    title: str
    minutes: int  # about, on 2 cores
    measure: Callable[[Path, Sizes], str]


ENGINE = {
    "throughput": Part("Throughput on text", 8, machine.throughput),
    "overhead": Part("Overhead", 3, machine.overhead),
    "images": Part("Images", 4, machine.images),
    "photos": Part("Photos", 4, photos.measure),
    "processes": Part("Processes", 2, machine.processes),
    "embeddings": Part("The rows of an embedding", 3, embeddings.measure),
    "memory": Part("Memory", 2, machine.memory),
    "searching": Part("A million items", 2, searching.measure),
    "asking": Part("Memory of asking", 5, asking.measure),
    "speech": Part("Speech", 8, speech.measure),
    "spanish": Part("Speech in another language", 8, speech.spanish),
    "span": Part("Answers from a text", 8, span.measure),
    "scenes": Part("Masks of composed scenes", 12, scenes.measure),
    "boxes": Part("Boxes on composed scenes", 5, detection.measure),
    "matching": Part("Average precision and its resamples", 1, boxes.measure),
    "profile": Part("Where the time goes", 6, shares.measure),
    "start": Part("Start", 1, machine.start),
    "export": Part("Exported models", 3, export.measure),
    "browser": Part("A model in the browser", 4, browser.measure),
    "places": Part("Places", 8, places.measure),
    "hub": Part("The Hub", 1, machine.hub),
    "gradients": Part("The gradient of pictures and captions", 1, captions.gradients),
}
LADDER = {
    "probe": Part("The probe", 6, probe.measure),
    "few_shot": Part("A few labelled rows", 23, few_shot.measure),
    "example": Part("Against transformers' example", 20, example.measure),
    "tuning": Part("Tuning from a probe, and frozen layers", 27, tuning.measure),
    "rank": Part("Rank", 14, ranking.measure),
    "retrieval": Part("Search in another language", 20, retrieval.measure),
    "recommendation": Part("What comes next", 15, recommendation.measure),
    "captions": Part("Pictures with words", 3, captions.measure),
    "coverage": Part("Intervals over groups", 2, coverage.measure),
}
LONG = {
    "crowns": Part("Tree crowns", 25, detection.crowns),
    "regret": Part("The defaults", 1200, regret.measure),
    "chat": Part("A model that chats", 10, chat.measure),
    "clicks": Part("From a file to a first answer", 25, first_answer.measure),
    "pace": Part("The pace of a model that chats", 10, chat.speed),
    "guard": Part("Guard", 5, guard.measure),
    "before": Part("Before and now", 1, before.measure),
    "many_rows": Part("Very many rows", 14, many_rows.measure),
    "ways": Part("Other ways to compute", 3, ways.measure),
    "traffic": Part("What GPUs would send", 1, traffic.measure),
    "gpu": Part(gpu_table.TITLE, 9, gpu.section),
}  # by name alone
PARTS = {**ENGINE, **LADDER, **LONG}
GROUPS = {"engine": tuple(ENGINE), "ladder": tuple(LADDER)}


def main(words: Sequence[str] | None = None) -> None:
    """Measure the parts named, or all; print each section, or put it into the page."""
    options = parser().parse_args(words)
    if options.write and options.rows:
        parser().error("--rows proves that a benchmark runs; its figures are not for the page")
    sets = tuple(name for name in options.sets.split(",") if name)
    sizes = Sizes(
        options.rounds,
        options.seeds,
        options.rows,
        options.epochs,
        options.setfit_steps,
        options.rates,
        sets,
        options.against,
    )
    for name in chosen(options.names):
        part, began, others = PARTS[name], time.perf_counter(), page.Others()
        with tempfile.TemporaryDirectory() as folder:
            found = part.measure(Path(folder), sizes)
        body = f"{page.stamp(command(name, options), versions(), others)}\n\n{found}"
        if options.write:
            page.write(part.title, body)
        else:
            print(f"## {part.title}\n\n{body}\n", flush=True)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    known = "; ".join(f"{name} (about {part.minutes} min)" for name, part in PARTS.items())
    found = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measure docs/benchmarks.md.")
    found.add_argument("names", nargs="*", metavar="NAME", help=f"{known}; {' or '.join(GROUPS)} for several")
    found.add_argument("--write", action="store_true", help="put the sections into docs/benchmarks.md")
    found.add_argument("--rounds", type=int, default=2, help="pairs of the throughput comparison")
    found.add_argument("--seeds", type=int, default=5, help="of the ladder's comparisons")
    found.add_argument("--epochs", type=float, default=1, help="of the comparison with transformers' example")
    found.add_argument("--setfit-steps", type=int, default=200, help="most steps that SetFit takes; 0: no bound")
    found.add_argument("--rates", type=int, default=7, help="of the grid that auto is held against")
    found.add_argument("--sets", default="", help="samples that auto is tried on, with commas; none: all of them")
    found.add_argument("--against", default="", help="a Python with an earlier hftransfer, for `guard`")
    found.add_argument("--rows", type=int, help="of each data set; few prove that it runs, the figures say nothing")
    return found


def chosen(names: Sequence[str]) -> list[str]:
    """Return the names of parts, groups spelt out, in the page's order; SystemExit for an unknown one."""
    wanted = {part for name in names or GROUPS for part in GROUPS.get(name, (name,))}
    if unknown := sorted(wanted - PARTS.keys()):
        parser().error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join([*PARTS, *GROUPS])}")
    return [name for name in PARTS if name in wanted]


def command(name: str, options: argparse.Namespace) -> str:
    """Return the command that measures one part again."""
    given = {key: value for key, value in vars(options).items() if key not in ("names", "write")}
    usual = parser()
    words = [f"--{key.replace('_', '-')} {value}" for key, value in given.items() if value != usual.get_default(key)]
    return " ".join(["python -m benchmarks.run", name, *words])


def versions() -> dict[str, str]:
    """Return the versions that a section tells."""
    return {name: version for name, version in accounts.versions().items() if name in NAMED}


if __name__ == "__main__":
    main()
