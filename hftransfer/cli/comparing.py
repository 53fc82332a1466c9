"""Commands about several runs: which way of adapting is worth its time, and one model of several."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hftransfer.comparison.ladder import Ladder, Words
    from hftransfer.launchers.base import Outcome
    from hftransfer.runs import Run
from hftransfer.cli.lists import score_of
from hftransfer.cli.starting import explain, interrupt, relative_to_here, start, stop_and_say, tell


def compare(options: argparse.Namespace) -> int:
    """Run or judge several ways of adapting."""
    from hftransfer import follow
    from hftransfer.comparison import ladder

    words = ladder.read_words(options.rest)
    code = 0
    if words.config is None:
        found = _compare_finished(words, options)
    else:
        planned = ladder.prepare(words, options.methods.split(",") if options.methods else None)
        if not options.json:
            print(f"ladder: {relative_to_here(planned.folder)}: {', '.join(planned.methods)}{_already(planned)}")
        seen: set[str] = set()
        ladder.climb(
            planned, lambda run, resume: _rung(run, resume, options, seen), lambda *why: tell(why, options.json)
        )
        found = ladder.compare(planned, options.metric) | {"folder": str(planned.folder)}
        code = int(bool(planned.failed()))
    if options.json:
        print(json.dumps({"type": "comparison", **found}))
    else:
        print("\n" + follow.comparison_text(found))
        print(f"\nfolder: {relative_to_here(found['folder'])} (comparison.md, .csv, .json, .png)")
    return code


def _compare_finished(words: Words, options: argparse.Namespace) -> dict[str, Any]:
    from hftransfer import api
    from hftransfer.comparison import judging, writing

    api.require_finished_only(options.methods, options.processes)
    folder = writing.output_of(words.overrides)
    return judging.of_finished(words.names, options.metric, folder, options.card)


def _already(planned: Ladder) -> str:
    done = planned.done()
    return f" (done: {', '.join(done)})" if done else ""


def _rung(run: Run, resume: bool, options: argparse.Namespace, seen: set[str]) -> Outcome:
    from hftransfer import follow
    from hftransfer.comparison import ladder
    from hftransfer.launchers import of

    place = of(run)
    cursor = place.events(run)[1] if resume else 0
    processes = run.launch().get("processes", 1) if options.processes is None else options.processes
    place.start(run, resume=resume, processes=processes)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        events = place.follow(run, cursor)
        follow.show(
            events if options.json else ladder.unseen(events, seen), follow.style_for(sys.stdout, options.json),
            verbose=options.verbose,
        )  # fmt: skip
    except KeyboardInterrupt:
        stop_and_say(place, run, "the finished runs stand; the same command goes on from here")
        raise
    outcome = place.outcome(run)
    if outcome.state == "done" and not options.json:
        print(f"{run.name}: {score_of(run.result())}\n")
    if outcome.state not in ("done", "stopped") and not outcome.user_error:
        explain(outcome, run)
    return outcome


def fuse(options: argparse.Namespace) -> int:
    """Make one model of several."""
    from hftransfer.comparison import fusion
    from hftransfer.launchers import launcher
    from hftransfer.runs import Run

    names, overrides = fusion.read_words(options.rest)
    config = fusion.configure(names, options.how, options.partner, overrides)
    if config.method.options["how"] == "ensemble":
        run = fusion.ensemble(config)
        print(json.dumps({"run": run.name, "folder": str(run.folder)}) if options.json else _ensemble_text(run))
        return 0
    return start(launcher(), Run.create(config), options, resume=False)


def _ensemble_text(run: Run) -> str:
    from hftransfer import follow
    from hftransfer.comparison import fusion

    return f"{follow.result_text(run.result())}\n\nfolder: {relative_to_here(run.folder)}\nno model: {fusion.NO_MODEL}"
