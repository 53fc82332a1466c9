"""compare, rank, fuse and curve from Python: what the commands of these names do, as plain values."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from hftransfer import catalog, launchers
from hftransfer import config as configuration
from hftransfer.config import RunConfig
from hftransfer.errors import UserError
from hftransfer.events import PREFIX, RANKED_BY, Event
from hftransfer.launchers import local
from hftransfer.launchers.base import Outcome, RefusedByTrainer, RunFailed
from hftransfer.runs import Run

Config = str | Path | Mapping[str, Any] | RunConfig
Follow = Callable[[Event], None]
ANSWERS = ("checked", "ranked", "curve")


def compare(
    *what: Config,
    methods: Sequence[str] | None = None,
    metric: str | None = None,
    output: str | Path | None = None,
    processes: int = 1,
    card: bool = False,
    follow: Follow | None = None,
) -> dict[str, Any]:
    """Say which way of adapting is worth its time; return what comparison.json holds.

    `what` is a configuration (a file, a tree or a RunConfig) and assignments as on the command line ("seed=3",
    "lora:train.learning_rate=2e-3"): then `methods` are run on it, one after the other. Or it is the names of finished
    runs, model folders and Hub ids: they are compared on the same test rows, and nothing is trained. Files are written
    into `output`, or a new folder below runs/, which is `folder` in what is returned. `card` puts the comparison into
    the cards of finished runs too; those of a configuration's runs have it in any case.

    Raises UserError for what the caller can mend, KeyboardInterrupt where a run was stopped: the same call goes on
    with what is missing.
    """
    from hftransfer.comparison import judging, ladder, writing

    trees = [one for one in what if isinstance(one, Mapping | RunConfig)]
    words = ladder.read_words([str(one) for one in what if not isinstance(one, Mapping | RunConfig)])
    if trees and (len(trees) > 1 or words.config or words.names):
        raise UserError(
            "one configuration is needed", f"found {len(what)} things to compare", "Compare one at a time."
        )
    if not trees and words.config is None:
        require_finished_only(methods, processes)
        folder = Path(output) if output else writing.output_of(words.overrides)
        return judging.of_finished(words.names, metric, folder, card)
    extra = [] if output is None else [f"output={output}"]
    tree = tree_of(trees[0] if trees else str(words.config), [*words.overrides, *extra])
    planned = ladder.plan(tree, words.own, list(methods) if methods else None)
    ladder.climb(planned, lambda run, resume: work(run, resume, processes, follow), lambda name, reason: None)
    return ladder.compare(planned, metric) | {"folder": str(planned.folder)}


def rank(
    config: Config, models: Sequence[str], *assignments: str, by: str = RANKED_BY[0], follow: Follow | None = None
) -> dict[str, Any]:
    """Say which pretrained model to start from, without training one; return what `rank --json` prints last.

    `models` holds them best first by `by` ("knn", or "probe" for a model that stays frozen), `failed` those that could
    not be scored, with the reason. Raises UserError when the rows cannot be had, or when no model could be scored and
    the user can mend it.
    """
    if by not in RANKED_BY:
        raise UserError(f"by must be one of {', '.join(RANKED_BY)}", f"it is {by!r}", "Choose one of them.")
    code, found = ask(tree_of(config, assignments), ["--rank", ",".join(models), "--by", by], follow)
    if not found["models"]:
        said = "; ".join(f"{model}: {one['message']}" for model, one in found["failed"].items())
        raise RefusedByTrainer(said) if code == UserError.exit_code else RunFailed(said)
    return found


def curve(config: Config, *assignments: str, follow: Follow | None = None) -> dict[str, Any]:
    """Say what more labels would add, without tuning a model; return what curve.json holds, and its `folder`."""
    return ask(tree_of(config, assignments), ["--curve"], follow)[1]


def fuse(
    *runs: str | Path,
    base: bool = False,
    how: str | None = None,
    assignments: Sequence[str] = (),
    processes: int = 1,
    follow: Follow | None = None,
) -> dict[str, Any]:
    """Make one model of finished runs, or with `base` of one run and its pretrained model; return its result.json.

    `folder` in it is that of the new run, an ordinary one. Raises UserError for models that cannot be mixed.
    """
    from hftransfer.comparison import fusion

    config = fusion.configure([str(run) for run in runs], how, "base" if base else None, assignments)
    if config.method.options["how"] == "ensemble":
        run = fusion.ensemble(config)
    else:
        run = Run.create(config)
        outcome = work(run, False, processes, follow)
        if outcome.state != "done":
            raise outcome.error()
    return run.result() | {"folder": str(run.folder)}


def work(run: Run, resume: bool, processes: int, follow: Follow | None) -> Outcome:
    """Work on a run in processes of their own until it ends; a run that goes on takes as many as it began with."""
    return launchers.of(run).finish(run, run.launch().get("processes", 1) if resume else processes, resume, follow)


def require_finished_only(methods: Sequence[str] | None, processes: int | None) -> None:
    """Raise UserError where finished runs are compared and something was said about how to train."""
    said = "methods" if methods else "processes" if processes not in (None, 1) else None
    if said is not None:
        raise UserError(
            f"a configuration is needed for {said}", "finished runs are compared without training",
            f"Leave {said} out, or name a file.",
        )  # fmt: skip


def tree_of(config: Config, assignments: Sequence[str] = ()) -> dict[str, Any]:
    """Return a configuration as plain values, checked; raises ConfigError with everything that is wrong in it."""
    given = config.to_dict() if isinstance(config, RunConfig) else config
    if isinstance(given, Mapping):
        tree = configuration.override(given, assignments)
    else:
        tree = configuration.read_tree(given, assignments)
    catalog.build_config(tree)
    return tree


def ask(tree: Mapping[str, Any], question: Sequence[str], follow: Follow | None = None) -> tuple[int, Event]:
    """Ask the engine, in a process of its own, a question about a configuration; return its code and its answer.

    Raises what the engine says where there is no answer: UserError for what the caller can mend, else RunFailed.
    """
    answer: Event | None = None
    with tempfile.TemporaryFile("w+") as errors:
        with asked(tree, question, errors) as child:
            for event in events_of(child):
                answer = event if event["type"] in ANSWERS else answer
                if follow is not None:
                    follow(event)
        errors.seek(0)
        said = errors.read().strip()
    if answer is None and child.returncode == UserError.exit_code:
        raise RefusedByTrainer(said.rpartition("hftransfer: ")[2])
    if answer is None:
        raise RunFailed(said)
    return child.returncode, answer


@contextmanager
def asked(
    tree: Mapping[str, Any], question: Sequence[str], errors: IO[str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run the engine's script with a question, its errors to a file; whatever is raised meanwhile ends it."""
    with tempfile.TemporaryDirectory(prefix="hftransfer-asked-") as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(tree), encoding="utf-8")
        command = [sys.executable, str(local.SCRIPT), "--config", str(path), *question]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as child:
            try:
                yield child
            except BaseException:
                child.terminate()
                raise


def events_of(child: subprocess.Popen[str]) -> Iterator[Event]:
    """Yield the events that a process prints."""
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith(PREFIX):
            event: Event = json.loads(line.removeprefix(PREFIX))
            yield event
