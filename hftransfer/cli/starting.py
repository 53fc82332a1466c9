"""Commands that start a run, follow it, stop it, and put its model on the Hub."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from hftransfer.cli import printing
from hftransfer.errors import UserError

if TYPE_CHECKING:
    from hftransfer.launchers.base import Launcher, Outcome
    from hftransfer.runs import Run


INTERRUPTED = 130


def train(options: argparse.Namespace) -> int:
    """Start a run and follow it."""
    from hftransfer import catalog
    from hftransfer.launchers import HERE, _estimate, launcher
    from hftransfer.runs import Run

    if options.print:
        print(printing.text(options.print, options.config, options.rest, options.processes))
        return 0
    place, found = launcher(options.on or HERE, options.place), None
    if place.estimates or options.estimate:
        place, found = _foreseen(place, options)
    config = catalog.read_config(options.config, options.rest)
    run = Run.create(config)
    if found is not None:
        _estimate.note(run, place.name, found)
    return start(place, run, options, resume=False)


def _foreseen(place: Launcher, options: argparse.Namespace) -> tuple[Launcher, dict[str, Any]]:
    """Measure here what a run will take, say time and cost before it starts, and tell the place."""
    for words in place.missing():
        raise UserError(f"{place.needs} is needed", words, "See: hftransfer where")
    seconds = measured(options)
    placed, said = place.foreseen(seconds)
    event = {"type": "notice", "time": round(time.time(), 3), "message": f"{said}, by a check on this machine"}
    print(json.dumps(event) if options.json else event["message"], flush=True)
    return placed, {"seconds": round(seconds, 1), "words": said}


def measured(options: argparse.Namespace) -> float:
    """Return the seconds that a run of a configuration takes on this machine, by a check of it."""
    from hftransfer import api
    from hftransfer.launchers import _estimate

    tree = api.tree_of(options.config, options.rest)
    began = time.monotonic()
    checked = api.ask(tree, ("--check",))[1]
    return _estimate.seconds_of(checked, tree, time.monotonic() - began)


def resume(options: argparse.Namespace) -> int:
    """Go on with a run from its last whole checkpoint."""
    from hftransfer.hub import checkpoints
    from hftransfer.launchers import HERE, launcher, of
    from hftransfer.runs import ROOT, find, is_hub_id

    here = any((folder / "config.yaml").is_file() for folder in (Path(options.run), ROOT / options.run))
    if not here and "/" in options.run and is_hub_id(options.run):
        run = checkpoints.fetch(options.run, options.rest)
        return start(launcher(options.on or HERE, options.place), run, options, resume=True)
    if options.rest:
        raise UserError(
            "a run of this machine goes on as it began", f"found {options.rest[0]}", "Start another: hftransfer train"
        )
    run = find(options.run)
    if run.status().state == "done":
        raise UserError("a run that is not done is needed", f"{run.name} is done", "Start another: hftransfer train")
    name = run.launch().get("launcher", HERE)
    told = options.on or options.place
    return start(launcher(options.on or name, options.place) if told else of(run), run, options, resume=True)


def start(place: Launcher, run: Run, options: argparse.Namespace, resume: bool) -> int:
    """Start a run where it is to run, and follow it unless that is not wanted."""
    from hftransfer.runs import called

    cursor = place.events(run)[1] if resume else 0  # the events before a resume were shown when they happened
    # another number would cut the epoch into other batches than those that the checkpoint counts
    usual = run.launch().get("processes", place.usual_processes)
    processes = usual if options.processes is None else options.processes
    place.start(run, resume=resume, processes=processes)
    if options.follow:
        return follow_run(place, run, cursor, options.json, options.verbose)
    if options.json:
        print(json.dumps({"run": called(run), "folder": str(run.folder)}))
    else:
        from hftransfer.launchers.local import shown

        print(f"$ {shown(run.launch()['command'])}\nrun: {called(run)}")
    return 0


def follow_run(place: Launcher, run: Run, cursor: int, as_json: bool, verbose: bool = False) -> int:
    """Show a run's events from a cursor on until it ends; return the exit code."""
    from hftransfer import follow
    from hftransfer.launchers import _estimate

    signal.signal(signal.SIGTERM, interrupt)
    try:
        follow.show(place.follow(run, cursor), follow.style_for(sys.stdout, as_json), verbose=verbose)
    except KeyboardInterrupt:
        stop_and_say(place, run)
        return INTERRUPTED
    outcome = place.outcome(run)
    if outcome.state == "done" and not as_json:
        beside = _estimate.beside(run)
        print("\n" + follow.result_text(run.result()) + (f"\n{beside}" if beside else ""))
        print("\n" + follow.next_steps(run, example(run)))
        if outcome.unpublished:
            print(f"hftransfer: trained and saved, but not published: {outcome.unpublished}", file=sys.stderr)
    elif outcome.state == "stopped":
        print(f"hftransfer: {going_on(run)}", file=sys.stderr)
    elif outcome.state != "done":
        explain(outcome, run)
    return outcome.exit_code


def explain(outcome: Outcome, run: Run) -> None:
    """Say why a run ended."""
    if not outcome.user_error:
        print(*(f"  {line}" for line in outcome.log), sep="\n", file=sys.stderr)
    print(f"hftransfer: {outcome.message}", file=sys.stderr)
    if not outcome.user_error:
        print(f"hftransfer: the whole log is {run.log_path}; {going_on(run)}", file=sys.stderr)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Take a signal for Ctrl-C."""
    raise KeyboardInterrupt


def stop_and_say(place: Launcher, run: Run, what_now: str | None = None) -> None:
    print("\nhftransfer: stopping; saving a checkpoint first. Ctrl-C again ends it at once.", file=sys.stderr)
    try:
        place.stop(run)
    except KeyboardInterrupt:
        place.stop(run, grace=0)
    print(f"hftransfer: {what_now or going_on(run)}", file=sys.stderr)


def going_on(run: Run) -> str:
    """Return how a run goes on."""
    from hftransfer.runs import called

    checkpoint = run.checkpoint()
    if checkpoint is None:
        return f"there is no checkpoint yet; start over with: hftransfer resume {called(run)}"
    return f"go on from {checkpoint.name} with: hftransfer resume {called(run)}"


def example(run: Run) -> str:
    """Return an input as `hftransfer predict` takes it."""
    from hftransfer import catalog

    task = catalog.task(run.config().task)
    if sum(role.required for role in task.shown) > 1:
        return "rows.csv"
    shown = task.shown[0].takes
    return "a sentence" if shown is not None and shown.widget == "textbox" else task.example.strip('"')


def stop(options: argparse.Namespace) -> int:
    """End a run."""
    from hftransfer.launchers import of
    from hftransfer.runs import find

    run = find(options.run)
    ending = of(run).stop(run)
    if ending == "gone":
        print(f"{run.name}: nothing to stop ({run.status().state})")
    else:
        print(f"{run.name}: {ending}; {going_on(run)}")
    return 0


def publish(options: argparse.Namespace) -> int:
    """Put a finished run's model on the Hub."""
    from hftransfer import artifact, follow
    from hftransfer.hub import demo, publishing
    from hftransfer.runs import find, verdict_of

    run = find(options.run)
    if options.export and not artifact.onnx_of(run.artifact):
        from hftransfer.export import onnx

        onnx.export(run)
    if options.demo:
        demo.require(run)
    repo = options.repo or run.config().hub.repo
    if repo is None:
        raise UserError(
            "a repo to publish to is needed", "the run names none", "Run: hftransfer publish RUN user/name"
        )
    style = follow.style_for(sys.stdout, options.json)
    screen = follow.Screen(style, sys.stdout)
    for sentence in verdict_of(run.result()).sentences:
        print(f"hftransfer: {sentence}", file=sys.stderr)

    def say(type: str, **fields: Any) -> None:
        run.event(type, **fields)
        screen.show({"type": type, "time": time.time(), **fields})

    try:
        with publishing.leaving_at_once(run, repo, say):
            done = publishing.publish(
                run, repo, options.private, options.create_pr, options.verify, options.license, say,
                replace_card=options.replace_card, card=Path(options.card) if options.card else None,
            )  # fmt: skip
        if options.demo:
            demo.publish(run, done.repo, say)
    except publishing.NotVerified as error:
        print(f"hftransfer: {error}", file=sys.stderr)
        return 1
    finally:
        screen.close_bar()
    return 0


def reproduce(options: argparse.Namespace) -> int:
    """Train a published model again and compare."""
    from hftransfer import follow
    from hftransfer.hub import reproduction
    from hftransfer.launchers import launcher
    from hftransfer.runs import read_json

    run, processes = reproduction.prepare(options.repo, options.revision, options.rest)
    options.processes = options.processes or processes
    code = start(launcher(), run, options, resume=False)
    if code or not options.follow:
        return code
    found = reproduction.compare(read_json(run.folder / reproduction.FILE), run.result())
    if options.json:
        print(json.dumps({"type": "compared", "agrees": found.agrees, **dataclasses.asdict(found)}))
    else:
        print("\n" + follow.reproduction_text(options.repo, found))
    return 0 if found.agrees else 1


def relative_to_here(path: str | Path) -> str:
    """Return a path as seen from the working folder."""
    from hftransfer.launchers.local import relative

    return relative(path)


def tell(why: tuple[str, str], as_json: bool) -> None:
    """Print why a comparison began as it did."""
    name, reason = why
    print(
        json.dumps({"type": "skipped", "name": name, "message": reason}) if as_json else f"{name}: skipped: {reason}"
    )
