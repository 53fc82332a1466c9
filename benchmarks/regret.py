"""What `auto` costs against hindsight: its test score less that of the best rate of a grid, and of the probe.

    python -m benchmarks.run regret                                  one run after the other, here
    python -m benchmarks.regret --workers 14 --out FILE              many at a time, a line of FILE each
    python -m benchmarks.regret --table FILE [--write]               the section of such a file

Runs that FILE holds are not made again: hours of it can be spread over days, and `benchmarks/regret.jsonl` holds those
that the section tells. Runs are ordered so that a stop leaves whole blocks (a data set, a number of rows, a seed), all
data sets at one seed before any at the next.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import multiprocessing
import os
import queue
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import page, regret_table
from benchmarks.measuring import MODEL, Sizes
from benchmarks.regret_table import Outcome, Settings
from hftransfer import samples

PICTURES = "sample:mobilenet-v2"
SETS = {  # each with what a model is needed for; its columns are found by name
    "vader-tweets": MODEL, "emoji": PICTURES, "vader-movie": MODEL, "mnist": PICTURES, "vader-amazon": MODEL,
    "digits": PICTURES,
}  # fmt: skip
ROWS = (500, 200, 2000)  # in the order of trying
RATES = {  # seven for each way, a factor of the square root of ten apart
    "full": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "lora": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
}
RUNS = Path(__file__).parent / "regret.jsonl"
TEST = 600  # rows that are kept apart
PIXELS = 96  # a side of what MobileNetV2 is shown, not its 224: the pictures have 8 to 64, and a run takes a fifth


@dataclass(frozen=True)
class Cell:
    """One run: a data set, rows of train and validation together, a seed, and how it is trained."""

    name: str
    rows: int
    seed: int
    way: str
    sections: dict[str, Any] = field(hash=False)

    @property
    def block(self) -> tuple[str, int, int]:
        """What contenders have in common: the same rows."""
        return self.name, self.rows, self.seed


def measure(folder: Path, sizes: Sizes) -> str:
    """Return the regret of `auto` over data sets, numbers of rows and seeds, as a table and in a sentence."""
    rows = [sizes.rows] if sizes.rows else ROWS
    found = []
    for cell in cells(sizes.names or SETS, rows, range(sizes.seeds), sizes.rates):
        found.append(tried(folder, cell))
        print(f"regret: {told(found[-1])}", file=sys.stderr, flush=True)
    return regret_table.told(found, Settings.here())


def cells(
    names: Iterable[str], rows: Iterable[int], seeds: Iterable[int], rates: int, steps: int | None = None
) -> Iterator[Cell]:
    """Yield every run, block by block, the heaviest first; `steps`: of each fit, instead of the rule's."""
    for seed, count, name in itertools.product(seeds, rows, names):
        for way, sections in ways(name, rates):
            limit = {"max_steps": steps} if steps else {}
            yield Cell(name, count, seed, way, {**sections, "train": {**limit, **sections.get("train", {})}})


def ways(name: str, rates: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each way with its sections of the configuration."""
    yield "auto", {"method": {"name": "auto"}}
    yield "probe", {"method": {"name": "probe"}}
    for method, all_rates in RATES.items():
        if method == "lora" and SETS[name] == PICTURES:
            continue  # its layers are convolutions: peft has nothing to wrap there
        step = max(1, len(all_rates) // rates)
        for rate in all_rates[::step]:
            yield f"{method} {rate:g}", {"method": {"name": method}, "train": {"learning_rate": rate}}


def tried(folder: Path, cell: Cell, threads: int | None = None) -> Outcome:
    """Run one cell; an error is its outcome too."""
    began = time.perf_counter()
    where = {"name": cell.name, "rows": cell.rows, "seed": cell.seed, "way": cell.way}
    try:
        return Outcome(**where, **run(folder, cell, threads), wall=time.perf_counter() - began)
    except Exception as error:  # one of hundreds of runs: the others go on, and the table says how many failed
        traceback.print_exc(limit=-4)
        return Outcome(**where, error=f"{type(error).__name__}: {error}"[:500], wall=time.perf_counter() - began)


def run(folder: Path, cell: Cell, threads: int | None) -> dict[str, Any]:
    """Train one configuration as the engine does; without the card, the plots and the copy of the model."""
    from hftransfer import catalog, training
    from hftransfer.evaluation.scoring import measure_point
    from hftransfer.fitting.answering import answers_of
    from hftransfer.fitting.interruption import Interruption
    from hftransfer.fitting.precision import quick_bf16
    from hftransfer.runs import Run

    pictures = SETS[cell.name] == PICTURES
    train: dict[str, Any] = {"dataloader_num_workers": 0} if threads else {}  # as many processes as cores already
    if pictures:
        train["bf16"] = quick_bf16()  # so that timing decides the layout in memory alone, not what is computed
    tree = {
        "task": "image-classification" if pictures else "text-classification",
        "model": str(smaller(folder)) if pictures else SETS[cell.name],
        "seed": cell.seed, "speed": {"tune": pictures, "threads": threads},
        "data": {"source": cell.name if "/" in cell.name else f"sample:{cell.name}",
                 "max_rows": cell.rows + TEST, "test_size": TEST,
                 "validation_size": round(cell.rows * max(0.1, min(0.3, 100 / cell.rows))),
                 "label_issues": False, "likely_copies": False},
        **cell.sections, "train": {**train, **cell.sections["train"]},
    }  # fmt: skip
    settings = catalog.build_config(tree)
    place = folder / "run"
    shutil.rmtree(place, ignore_errors=True)
    with Interruption() as interruption:
        scene = training.set_scene(settings, Run.create(settings, place), interruption, resume=False)
        fitted = scene.method.fit(scene.setup, scene.loaded)
        fitted.model.float()
        validation, test = answers_of(scene.setup, scene.method, fitted)
    shutil.rmtree(place, ignore_errors=True)
    main = test.answer.main_metric
    return {
        "metric": main, "test": measure_point(test), "validation": measure_point(validation),
        "seconds": fitted.train_seconds, "splits": dict(scene.data.sizes), "auto": fitted.auto,
    }  # fmt: skip


def smaller(folder: Path) -> Path:
    """Return a copy of the model of pictures that is shown PIXELS a side, made once."""
    copy = folder / f"mobilenet-v2-{PIXELS}"
    if not copy.is_dir():
        shutil.copytree(samples.resolve(PICTURES), copy)
        path = copy / "preprocessor_config.json"
        shown = json.loads(path.read_text(encoding="utf-8"))
        shown["size"] = shown["crop_size"] = {"height": PIXELS, "width": PIXELS}
        path.write_text(json.dumps(shown), encoding="utf-8")
    return copy


def told(outcome: Outcome) -> str:
    """Return one outcome, in words."""
    found = outcome.error or f"{outcome.score:.3f}"
    return f"{outcome.name}, {outcome.rows} rows, seed {outcome.seed}: {outcome.way} {found}, {outcome.wall:.1f} s"


def crowd(todo: list[Cell], workers: int, minutes: float, path: Path, folder: Path) -> None:
    """Run cells in processes of one thread each, which load the libraries once; append each outcome to `path`.

    No new cell starts after `minutes`.
    """
    spawn = multiprocessing.get_context("spawn")
    waiting: Any = spawn.Queue()
    for cell in todo:
        waiting.put(cell)
    done: Any = spawn.Queue()
    began = time.time()
    arguments = (waiting, done, began + 60 * minutes, folder)
    crew = [spawn.Process(target=work, args=(number, *arguments), daemon=True) for number in range(workers)]
    os.environ["OMP_NUM_THREADS"] = "1"

    def end(*_: object) -> None:
        for one in crew:
            one.kill()  # a run takes a signal for a wish to stop in good order, and the next would begin
        sys.exit(143)

    signal.signal(signal.SIGTERM, end)  # whoever ends this one ends its workers
    for one in crew:
        one.start()
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"settings": asdict(Settings.here(workers, minutes))}) + "\n")
        count = 0
        while any(one.is_alive() for one in crew) or not done.empty():
            try:
                outcome = done.get(timeout=0.5)
            except queue.Empty:
                continue
            count += 1
            lines.write(json.dumps(asdict(outcome)) + "\n")
            lines.flush()
            print(f"{time.time() - began:6.1f} s, {count}/{len(todo)}: {told(outcome)}", flush=True)
    waiting.cancel_join_thread()


def work(number: int, waiting: Any, done: Any, until: float, folder: Path) -> None:
    """Take one cell after the other, until none is left or the time is over."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    place = folder / f"worker-{number}"
    place.mkdir(parents=True, exist_ok=True)
    sys.stdout = (place / "log").open("w", encoding="utf-8")  # the events of a run
    while time.time() < until:
        try:
            cell = waiting.get(timeout=1)
        except queue.Empty:
            return
        done.put(tried(place, cell, threads=1))


def main() -> None:
    """Run the grid in several processes, or tell what such a run found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regret", description="The regret of `auto`.")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each; they share the GPU")
    parser.add_argument("--minutes", type=float, default=1e6, help="after which no new run starts")
    parser.add_argument("--out", type=Path, default=RUNS, help="to which each outcome is appended")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=int, default=7, help="of the grid, for each of its methods")
    parser.add_argument("--sets", default=",".join(SETS), help="samples, with commas")
    parser.add_argument("--rows", default=",".join(map(str, ROWS)), help="of train and validation, with commas")
    parser.add_argument("--steps", type=int, help="of each fit, not the rule's: few prove that it runs")
    parser.add_argument("--ways", default="", help="these alone, with commas: auto, probe, full 0.001 ...")
    parser.add_argument("--table", type=Path, nargs="*", metavar="FILE", help="tell what these files hold")
    parser.add_argument("--write", action="store_true", help="put that into docs/benchmarks.md")
    options = parser.parse_args()
    if options.table is not None:
        body = regret_table.section(options.table or [RUNS])
        if options.write:
            page.write(regret_table.TITLE, body)
        else:
            print(body)
        return
    sizes = [int(count) for count in options.rows.split(",")]
    todo = list(cells(options.sets.split(","), sizes, range(options.seeds), options.rates, options.steps))
    made = regret_table.made(options.out)
    kept = [
        cell for cell in todo
        if (*cell.block, cell.way) not in made and (not options.ways or cell.way in options.ways.split(","))
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        crowd(kept, options.workers, options.minutes, options.out.absolute(), Path(folder))


if __name__ == "__main__":
    main()
