"""The command line: starts runs, follows them and reads their folders; it never imports the engine.

Run: hftransfer --help
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from hftransfer import __version__, fence
from hftransfer.errors import UserError
from hftransfer.events import RANKED_BY

if TYPE_CHECKING:
    from hftransfer.ladder import Ladder, Words
    from hftransfer.launchers.base import Launcher, Outcome
    from hftransfer.runs import Run

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 done, 1 failed, 2 the user's to mend, 130 interrupted."""
    fence.close()  # the app on a Space publishes through this command
    options = _parse(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        code = command(options)
        sys.stdout.flush()
    except UserError as error:
        print(f"hftransfer: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # the reader left (`| head`); without this Python complains once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    stray = [word for word in rest if word.startswith("-") or "rest" not in options]
    if stray:
        parser.error(f"unrecognized arguments: {' '.join(stray)}")
    if rest:
        options.rest += rest  # argparse gives up on `CONFIG a.b=c --json d.e=f` after the first group
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hftransfer", description="Adapt a pretrained model to your own data.")
    parser.add_argument("--version", action="version", version=f"hftransfer {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    train = commands.add_parser("train", help="start a run and follow it")
    _add_config(train)
    train.add_argument("--on", default="local", metavar="WHERE", help="where to run (default: local)")
    _add_following(train)
    train.set_defaults(command=_train)

    check = commands.add_parser("check", help="find out what can be known before training")
    _add_config(check)
    _add_json(check, "print events as JSON lines")
    check.set_defaults(command=_check)

    rank = commands.add_parser("rank", help="find out which pretrained model to start from, without training")
    _add_config(rank)
    rank.add_argument("--models", required=True, metavar="A,B,...", help="model folders, Hub ids or samples")
    rank.add_argument(
        "--by", choices=RANKED_BY, default=RANKED_BY[0],
        help="what they are in the order of: nearest neighbours, which agrees best with the order after fine-tuning, "
        "or the probe, for a model that stays frozen",
    )  # fmt: skip
    _add_json(rank, "print events as JSON lines")
    rank.set_defaults(command=_rank)

    curve = commands.add_parser("curve", help="find out whether more labels would help, without training")
    _add_config(curve)
    _add_json(curve, "print events as JSON lines")
    curve.set_defaults(command=_curve)

    predict = commands.add_parser("predict", help="ask a trained model")
    predict.add_argument("where", metavar="WHERE", help="a run's name, a folder or a Hub id")
    predict.add_argument("rest", metavar="INPUT", nargs="+", help="a text, an image, or a csv, jsonl or parquet file")
    predict.add_argument("--top-k", type=int, metavar="N", help="give the N best labels")
    predict.add_argument("--revision", metavar="R", help="branch, tag or commit of a Hub model")
    _add_json(predict, "print one JSON object a line")
    predict.set_defaults(command=_predict)

    publish = commands.add_parser(
        "publish", help="put a finished run's model on the Hub and prove that it works there"
    )
    publish.add_argument("run", metavar="RUN", help="a run's name or folder")
    publish.add_argument("repo", metavar="REPO", nargs="?", help="user/name (default: the run's hub.repo)")
    publish.add_argument(
        "--private",
        action=argparse.BooleanOptionalAction,
        help="who may see a new repo (default: hub.private where the run names hub.repo, else everybody)",
    )
    publish.add_argument("--create-pr", action="store_true", help="propose it as a pull request to an existing repo")
    publish.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="pull it into an empty cache and compare its answers with the run's (default: yes)",
    )
    publish.add_argument("--license", metavar="ID", help="licence as the Hub names it (default: the base model's)")
    _add_json(publish, "print events as JSON lines")
    publish.set_defaults(command=_publish)

    reproduce = commands.add_parser("reproduce", help="train a published model again and compare the figures")
    reproduce.add_argument("repo", metavar="REPO", help="user/name of a model that hftransfer published")
    reproduce.add_argument("rest", metavar="a.b=c", nargs="*", help="what is elsewhere here, such as data.source=...")
    reproduce.add_argument("--revision", metavar="R", help="branch, tag or commit of the repo")
    _add_following(reproduce)
    reproduce.set_defaults(command=_reproduce)

    compare = commands.add_parser(
        "compare", help="say which way of adapting is worth its time: run several, or judge finished runs"
    )
    compare.add_argument(
        "rest",
        metavar="WHAT",
        nargs="+",
        help="a YAML or JSON file, on which methods are run one after the other, and a.b=c for all of them or "
        "METHOD:a.b=c for one; or finished runs, model folders and Hub ids, a run first",
    )
    compare.add_argument(
        "--methods", metavar="A,B,...", help="methods to run (default: zero_shot,probe,lora,full,fused)"
    )
    compare.add_argument("--metric", metavar="NAME", help="metric to judge by (default: the task's main one)")
    compare.add_argument("--processes", type=int, metavar="N", help="processes to train with (default: 1)")
    compare.add_argument("--card", action="store_true", help="put it into the cards of finished runs too")
    _add_json(compare, "print events and the comparison as JSON lines")
    compare.set_defaults(command=_compare)

    fuse = commands.add_parser("fuse", help="make one model of several runs, or of a run and its base")
    fuse.add_argument("rest", metavar="RUN", nargs="+", help="runs by name or folder, and a.b=c to set values")
    fuse.add_argument("--with", dest="partner", choices=["base"], help="fuse with the pretrained model (one run)")
    fuse.add_argument("--how", metavar="HOW", help="see docs/ladder.md (default: interpolate, or greedy for several)")
    _add_following(fuse)
    fuse.set_defaults(command=_fuse)

    runs = commands.add_parser("runs", help="list the runs, those of a comparison among them, newest first")
    _add_json(runs, "print one JSON object a line")
    runs.set_defaults(command=_runs)

    resume = commands.add_parser("resume", help="go on with a run from its last whole checkpoint")
    resume.add_argument("run", metavar="RUN", help="a run's name or folder, or user/name of a repo with checkpoints")
    resume.add_argument("rest", metavar="a.b=c", nargs="*", help="what is elsewhere here, for a run from the Hub")
    _add_following(resume)
    resume.set_defaults(command=_resume)

    stop = commands.add_parser("stop", help="end a run; it saves a checkpoint first")
    stop.add_argument("run", metavar="RUN", help="a run's name or folder")
    stop.set_defaults(command=_stop)

    app = commands.add_parser("app", help="open the app in the browser: from data to a published model")
    app.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default: 127.0.0.1)")
    app.add_argument("--port", type=int, metavar="N", help="port (default: the first free one from 7860)")
    app.add_argument("--root", type=Path, metavar="FOLDER", help="where runs/ and uploads/ lie (default: here)")
    app.set_defaults(command=_app)

    tasks = commands.add_parser("tasks", help="list the tasks and methods")
    _add_json(tasks, "print one JSON object a line")
    tasks.set_defaults(command=_tasks)

    samples = commands.add_parser("samples", help="list or fetch models and data that need no Hub")
    samples.add_argument("rest", metavar="NAME", nargs="*", help="a sample, or a group: text, image, tokens")
    samples.set_defaults(command=_samples)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML or JSON file")
    parser.add_argument("rest", metavar="a.b=c", nargs="*", help="values to set on top of the file's")


def _add_following(parser: argparse.ArgumentParser) -> None:
    words = "processes to train with (default: 1; a resume's: as many as before)"
    parser.add_argument("--processes", type=int, metavar="N", help=words)
    parser.add_argument(
        "--follow", action=argparse.BooleanOptionalAction, default=True, help="show progress until the run ends"
    )
    _add_json(parser, "print events as JSON lines")


def _add_json(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--json", action="store_true", help=help)


# --- train, resume, stop ---


def _train(options: argparse.Namespace) -> int:
    from hftransfer import catalog
    from hftransfer.launchers import launcher
    from hftransfer.runs import Run

    config, place = catalog.read_config(options.config, options.rest), launcher(options.on)
    return _start(place, Run.create(config), options, resume=False)


def _resume(options: argparse.Namespace) -> int:
    from hftransfer.hub import checkpoints
    from hftransfer.launchers import launcher
    from hftransfer.runs import ROOT, find, is_hub_id

    here = any((folder / "config.yaml").is_file() for folder in (Path(options.run), ROOT / options.run))
    if not here and "/" in options.run and is_hub_id(options.run):
        run = checkpoints.fetch(options.run, options.rest)
        return _start(launcher(), run, options, resume=True)
    if options.rest:
        raise UserError(
            "a run of this machine goes on as it began", f"found {options.rest[0]}", "Start another: hftransfer train"
        )
    run = find(options.run)
    if run.status().state == "done":
        raise UserError("a run that is not done is needed", f"{run.name} is done", "Start another: hftransfer train")
    return _start(launcher(run.launch().get("launcher", "local")), run, options, resume=True)


def _start(place: Launcher, run: Run, options: argparse.Namespace, resume: bool) -> int:
    from hftransfer.runs import called

    cursor = place.events(run)[1] if resume else 0  # the events before a resume were shown when they happened
    # another number would cut the epoch into other batches than those that the checkpoint counts
    processes = run.launch().get("processes", 1) if options.processes is None else options.processes
    place.start(run, resume=resume, processes=processes)
    if options.follow:
        return _follow(place, run, cursor, options.json)
    if options.json:
        print(json.dumps({"run": called(run), "folder": str(run.folder)}))
    else:
        from hftransfer.launchers.local import shown

        print(f"$ {shown(run.launch()['command'])}\nrun: {called(run)}")
    return 0


def _follow(place: Launcher, run: Run, cursor: int, as_json: bool) -> int:
    from hftransfer import follow

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        follow.show(place.follow(run, cursor), follow.style_for(sys.stdout, as_json))
    except KeyboardInterrupt:
        _stop_and_say(place, run)
        return INTERRUPTED
    outcome = place.outcome(run)
    if outcome.state == "done" and not as_json:
        print("\n" + follow.result_text(run.result()) + "\n\n" + follow.next_steps(run, _example(run)))
        if outcome.unpublished:
            print(f"hftransfer: trained and saved, but not published: {outcome.unpublished}", file=sys.stderr)
    elif outcome.state == "stopped":
        print(f"hftransfer: {_going_on(run)}", file=sys.stderr)
    elif outcome.state != "done":
        _explain(outcome, run)
    return outcome.exit_code


def _explain(outcome: Outcome, run: Run) -> None:
    if not outcome.user_error:
        print(*(f"  {line}" for line in outcome.log), sep="\n", file=sys.stderr)
    print(f"hftransfer: {outcome.message}", file=sys.stderr)
    if not outcome.user_error:
        print(f"hftransfer: the whole log is {run.log_path}; {_going_on(run)}", file=sys.stderr)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _stop_and_say(place: Launcher, run: Run, what_now: str | None = None) -> None:
    print("\nhftransfer: stopping; saving a checkpoint first. Ctrl-C again ends it at once.", file=sys.stderr)
    try:
        place.stop(run)
    except KeyboardInterrupt:
        place.stop(run, grace=0)
    print(f"hftransfer: {what_now or _going_on(run)}", file=sys.stderr)


def _going_on(run: Run) -> str:
    from hftransfer.runs import called

    checkpoint = run.checkpoint()
    if checkpoint is None:
        return f"there is no checkpoint yet; start over with: hftransfer resume {called(run)}"
    return f"go on from {checkpoint.name} with: hftransfer resume {called(run)}"


def _example(run: Run) -> str:
    from hftransfer import catalog

    return {"text": "a sentence", "image": "photo.jpg"}[catalog.task(run.config().task).input_widget]


def _stop(options: argparse.Namespace) -> int:
    from hftransfer.launchers import launcher
    from hftransfer.runs import find

    run = find(options.run)
    ending = launcher(run.launch().get("launcher", "local")).stop(run)
    if ending == "gone":
        print(f"{run.name}: nothing to stop ({run.status().state})")
    else:
        print(f"{run.name}: {ending}; {_going_on(run)}")
    return 0


# --- publish, reproduce ---


def _publish(options: argparse.Namespace) -> int:
    from hftransfer import follow
    from hftransfer.hub import publishing
    from hftransfer.runs import find

    run = find(options.run)
    repo = options.repo or run.config().hub.repo
    if repo is None:
        raise UserError(
            "a repo to publish to is needed", "the run names none", "Run: hftransfer publish RUN user/name"
        )
    style = follow.style_for(sys.stdout, options.json)
    screen = follow.Screen(style, sys.stdout)

    def say(type: str, **fields: Any) -> None:
        run.event(type, **fields)
        screen.show({"type": type, "time": time.time(), **fields})

    try:
        with publishing.leaving_at_once(run, repo, say):
            publishing.publish(run, repo, options.private, options.create_pr, options.verify, options.license, say)
    except publishing.NotVerified as error:
        print(f"hftransfer: {error}", file=sys.stderr)
        return 1
    finally:
        screen.close_bar()
    return 0


def _reproduce(options: argparse.Namespace) -> int:
    from hftransfer import follow
    from hftransfer.hub import reproduction
    from hftransfer.launchers import launcher
    from hftransfer.runs import read_json

    run, processes = reproduction.prepare(options.repo, options.revision, options.rest)
    options.processes = options.processes or processes
    code = _start(launcher(), run, options, resume=False)
    if code or not options.follow:
        return code
    found = reproduction.compare(read_json(run.folder / reproduction.FILE), run.result())
    if options.json:
        print(json.dumps({"type": "compared", "agrees": found.agrees, **dataclasses.asdict(found)}))
    else:
        print("\n" + follow.reproduction_text(options.repo, found))
    return 0 if found.agrees else 1


# --- compare, fuse ---


def _compare(options: argparse.Namespace) -> int:
    from hftransfer import follow, ladder

    words = ladder.read_words(options.rest)
    code = 0
    if words.config is None:
        found = _compare_finished(words, options)
    else:
        methods = options.methods.split(",") if options.methods else ladder.METHODS
        planned = ladder.prepare(words, methods)
        if not options.json:
            print(f"ladder: {relative_to_here(planned.folder)}: {', '.join(planned.methods)}{_already(planned)}")
        seen: set[str] = set()
        ladder.climb(
            planned, lambda run, resume: _rung(run, resume, options, seen), lambda *why: _tell(why, options.json)
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
    from hftransfer import comparison, functions

    functions.require_finished_only(options.methods, options.processes)
    folder = comparison.output_of(words.overrides)
    return comparison.of_finished(words.names, options.metric, folder, options.card)


def _already(planned: Ladder) -> str:
    done = planned.done()
    return f" (done: {', '.join(done)})" if done else ""


def relative_to_here(path: str | Path) -> str:
    """Return a path as seen from the working folder."""
    from hftransfer.launchers.local import relative

    return relative(path)


def _tell(why: tuple[str, str], as_json: bool) -> None:
    name, reason = why
    print(
        json.dumps({"type": "skipped", "name": name, "message": reason}) if as_json else f"{name}: skipped: {reason}"
    )


def _rung(run: Run, resume: bool, options: argparse.Namespace, seen: set[str]) -> Outcome:
    from hftransfer import follow, ladder
    from hftransfer.launchers import launcher

    place = launcher(run.launch().get("launcher", "local"))
    cursor = place.events(run)[1] if resume else 0
    processes = run.launch().get("processes", 1) if options.processes is None else options.processes
    place.start(run, resume=resume, processes=processes)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        events = place.follow(run, cursor)
        follow.show(
            events if options.json else ladder.unseen(events, seen), follow.style_for(sys.stdout, options.json)
        )
    except KeyboardInterrupt:
        _stop_and_say(place, run, "the finished runs stand; the same command goes on from here")
        raise
    outcome = place.outcome(run)
    if outcome.state == "done" and not options.json:
        print(f"{run.name}: {_score(run.result())}\n")
    if outcome.state not in ("done", "stopped") and not outcome.user_error:
        _explain(outcome, run)
    return outcome


def _fuse(options: argparse.Namespace) -> int:
    from hftransfer import fusion
    from hftransfer.launchers import launcher
    from hftransfer.runs import Run

    names, overrides = fusion.read_words(options.rest)
    config = fusion.configure(names, options.how, options.partner, overrides)
    if config.method.options["how"] == "ensemble":
        run = fusion.ensemble(config)
        print(json.dumps({"run": run.name, "folder": str(run.folder)}) if options.json else _ensemble_text(run))
        return 0
    return _start(launcher(), Run.create(config), options, resume=False)


def _ensemble_text(run: Run) -> str:
    from hftransfer import follow, fusion

    return f"{follow.result_text(run.result())}\n\nfolder: {relative_to_here(run.folder)}\nno model: {fusion.NO_MODEL}"


# --- check, rank, curve ---


def _check(options: argparse.Namespace) -> int:
    return _ask_engine(options, "--check")


def _rank(options: argparse.Namespace) -> int:
    return _ask_engine(options, "--rank", options.models, "--by", options.by)


def _curve(options: argparse.Namespace) -> int:
    return _ask_engine(options, "--curve")


def _ask_engine(options: argparse.Namespace, *question: str) -> int:
    """Run the engine's script in a process of its own, and show what it finds out."""
    from hftransfer import follow, functions

    tree = functions.tree_of(options.config, options.rest)  # what is known without the engine is said first
    with functions.asked(tree, question) as child:
        follow.show(functions.events_of(child), follow.style_for(sys.stdout, options.json))
    return child.returncode if child.returncode in (0, 1, UserError.exit_code, INTERRUPTED) else 1


# --- predict ---


def _predict(options: argparse.Namespace) -> int:
    from hftransfer import follow, imports
    from hftransfer.hub import connection
    from hftransfer.runs import is_local

    where = _model(options.where)
    if not is_local(where):
        connection.go_offline_if_unreachable()
    with imports.uncollected():
        from hftransfer.predictor import Predictor

    answers = Predictor(where, options.revision).answer(options.rest, top_k=options.top_k)
    if options.json:
        print(*map(json.dumps, answers), sep="\n")
    else:
        rows = [(_short(str(answer["input"])), _answer(answer, options.top_k or 1)) for answer in answers]
        print(*follow.table(rows), sep="\n")
    return 0


def _model(where: str) -> str:
    """Return the artifact of a run, and any other folder or Hub id as it is."""
    from hftransfer.runs import ROOT, find, require_artifact

    if not any((folder / "config.yaml").is_file() for folder in (Path(where), ROOT / where)):
        return where
    run = find(where)
    return str(require_artifact(run))


def _answer(answer: dict[str, Any], top_k: int) -> str:
    if "tags" in answer:
        return " ".join(f"{word}/{tag}" for word, tag in zip(answer["words"], answer["tags"], strict=True))
    if "scores" not in answer:
        return f"{answer['score']:.4g}"
    scores: dict[str, float] = answer["scores"]  # most likely first
    names = answer["labels"] if "labels" in answer else [*scores][:top_k]
    return ", ".join(f"{name} {scores[name]:.3f}" for name in names if name in scores) or "no label"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


# --- app ---


def _app(options: argparse.Namespace) -> int:
    import importlib.util

    if importlib.util.find_spec("gradio") is None:
        action = "Run: pip install 'gradio[oauth]>=6.31'"
        raise UserError("the package gradio is needed for the app", "it is not installed", action)
    print("starting the app; it takes some seconds", flush=True)
    from hftransfer.ui import app
    from hftransfer.ui.settings import Settings

    settings = Settings.read()
    if options.root is not None:
        settings = dataclasses.replace(settings, root=options.root)
    app.launch(settings, options.host, options.port)
    return 0


# --- runs, tasks, samples ---


def _runs(options: argparse.Namespace) -> int:
    from hftransfer import follow
    from hftransfer.runs import called, everywhere

    rows = [("RUN", "STATE", "PROGRESS", "TEST SCORE")]
    for run in everywhere():
        status, result = run.status(), run.result()
        if options.json:
            metrics = result.get("test", {}).get("metrics", {})
            print(json.dumps({"run": called(run), "folder": str(run.folder), **vars(status), "test": metrics}))
        progress = f"{status.phase or ''} {status.step}/{status.max_steps}" if status.max_steps else status.phase or ""
        if status.state == "done":
            progress = (
                f"not published: {_short(status.unpublished)}" if status.unpublished else status.publication or ""
            )
        rows.append((called(run), status.state, progress, _score(result)))
    if not options.json:
        print(
            *(follow.table(rows) if len(rows) > 1 else ["no runs here; start one: hftransfer train CONFIG"]), sep="\n"
        )
    return 0


def _score(result: dict[str, Any]) -> str:
    from hftransfer import follow

    for name, score in result.get("test", {}).get("metrics", {}).items():
        return f"{name} {follow.number(score['value'])} ({follow.interval(score)})"
    return ""


def _tasks(options: argparse.Namespace) -> int:
    from hftransfer import catalog

    for name in catalog.tasks():
        task = catalog.task(name)
        if options.json:
            roles = [{"name": r.name, "takes": r.about, "required": r.required} for r in task.roles]
            methods = [*catalog.adapting_methods()]
            print(json.dumps({"task": name, "about": task.about, "roles": roles, "methods": methods}))
            continue
        print(f"{name}: {task.about}")
        for role in task.roles:
            print(f"  {role.name}{'' if role.required else ' (optional)'}: {role.about}")
    if not options.json:
        print(f"\nmethods: {', '.join(catalog.adapting_methods())}")
    return 0


def _samples(options: argparse.Namespace) -> int:
    from hftransfer import follow, samples

    for name in options.rest:
        samples.materialise(name)
    if not options.rest:
        rows = [("SAMPLE", "KIND", "TASK", "MB", "LICENCE", "")]
        for sample in samples.listing():
            place = "present" if sample.present else ""
            size = f"{sample.package.size / 1e6:.1f}"
            rows.append((sample.name, sample.kind, sample.task, size, sample.licence, place))
        print(*follow.table(rows), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
