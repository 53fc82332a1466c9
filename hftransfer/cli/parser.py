"""Every command with its arguments and what it calls."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hftransfer import __version__
from hftransfer.cli import asking, comparing, lists, printing, starting
from hftransfer.events import RANKED_BY


def make_parser(name: str = "hftransfer") -> argparse.ArgumentParser:
    """Return what reads the command line, which is called `name`."""
    parser = argparse.ArgumentParser(prog=name, description="Adapt a pretrained model to your own data.")
    parser.add_argument("--version", action="version", version=f"hftransfer {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    train = commands.add_parser("train", help="start a run and follow it")
    _add_config(train)
    _add_place(train, "local")
    train.add_argument(
        "--print", choices=printing.FORMS, help="print the file with which that tool runs it elsewhere; start nothing"
    )
    train.add_argument(
        "--estimate", action="store_true", help="measure first what it takes here, and say so beside what it took"
    )
    _add_following(train)
    train.set_defaults(command=starting.train)

    _add_question(commands, "check", "find out what can be known before training", asking.check)
    about = "find out which pretrained model to start from, without training"
    rank = _add_question(commands, "rank", about, asking.rank)
    rank.add_argument("--models", required=True, metavar="A,B,...", help="model folders, Hub ids or samples")
    rank.add_argument(
        "--by", choices=RANKED_BY, default=RANKED_BY[0],
        help="what they are in the order of: nearest neighbours, which agrees best with the order after fine-tuning, "
        "or the probe, for a model that stays frozen",
    )  # fmt: skip
    _add_question(commands, "curve", "find out whether more labels would help, without training", asking.curve)

    predict = commands.add_parser("predict", help="ask a trained model")
    predict.add_argument("where", metavar="WHERE", help="a run's name, a folder or a Hub id")
    predict.add_argument(
        "rest", metavar="INPUT", nargs="+", help="a text, a picture, a recording, or a csv, jsonl, parquet or txt file"
    )
    predict.add_argument("--top-k", type=int, metavar="N", help="give the N best labels, or items")
    predict.add_argument("--revision", metavar="R", help="branch, tag or commit of a Hub model")
    predict.add_argument("--files", metavar="FOLDER", help="write what is no text, such as masks, into a folder")
    predict.add_argument(
        "--bf16", action="store_true", help="compute in bfloat16: about half the time where the processor multiplies "
        "it; answers are then not quite those that were measured"
    )  # fmt: skip
    _add_json(predict, "print one JSON object a line")
    predict.set_defaults(command=asking.predict)

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
    publish.add_argument(
        "--replace-card", action="store_true", help="overwrite a card that was edited by hand (default: it stays)"
    )
    publish.add_argument(
        "--card", metavar="FILE", help="Markdown in place of the card's text; its metadata stay (default: as written)"
    )
    publish.add_argument(
        "--demo", action="store_true", help="also make a static Space where it answers in the visitor's browser"
    )
    publish.add_argument("--export", action="store_true", help="write the model as ONNX first, where it was not")
    publish.add_argument("--license", metavar="ID", help="licence as the Hub names it (default: the base model's)")
    _add_json(publish, "print events as JSON lines")
    publish.set_defaults(command=starting.publish)

    export = commands.add_parser("export", help="write a finished run's model in another form, checked against it")
    export.add_argument("run", metavar="RUN", help="a run's name or folder")
    export.add_argument("--to", choices=["onnx"], default="onnx", help="the form: ONNX, for onnxruntime and browsers")
    _add_json(export, "print what was found as JSON")
    export.set_defaults(command=asking.export)

    reproduce = commands.add_parser("reproduce", help="train a published model again and compare the figures")
    reproduce.add_argument("repo", metavar="REPO", help="user/name of a model that hftransfer published")
    reproduce.add_argument("rest", metavar="a.b=c", nargs="*", help="what is elsewhere here, such as data.source=...")
    reproduce.add_argument("--revision", metavar="R", help="branch, tag or commit of the repo")
    _add_following(reproduce)
    reproduce.set_defaults(command=starting.reproduce)

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
    _add_verbose(compare)
    compare.set_defaults(command=comparing.compare)

    fuse = commands.add_parser("fuse", help="make one model of several runs, or of a run and its base")
    fuse.add_argument("rest", metavar="RUN", nargs="+", help="runs by name or folder, and a.b=c to set values")
    fuse.add_argument("--with", dest="partner", choices=["base"], help="fuse with the pretrained model (one run)")
    fuse.add_argument("--how", metavar="HOW", help="see docs/ladder.md (default: interpolate, or greedy for several)")
    _add_following(fuse)
    fuse.set_defaults(command=comparing.fuse)

    runs = commands.add_parser("runs", help="list the runs, those of a comparison among them, newest first")
    _add_json(runs, "print one JSON object a line")
    runs.set_defaults(command=lists.runs)

    resume = commands.add_parser("resume", help="go on with a run from its last whole checkpoint")
    resume.add_argument("run", metavar="RUN", help="a run's name or folder, or user/name of a repo with checkpoints")
    resume.add_argument("rest", metavar="a.b=c", nargs="*", help="what is elsewhere here, for a run from the Hub")
    _add_place(resume, "where it began")
    _add_following(resume)
    resume.set_defaults(command=starting.resume)

    stop = commands.add_parser("stop", help="end a run; it saves a checkpoint first")
    stop.add_argument("run", metavar="RUN", help="a run's name or folder")
    stop.set_defaults(command=starting.stop)

    where = commands.add_parser("where", help="list the places where runs happen, with what each needs")
    where.add_argument("config", metavar="CONFIG", nargs="?", help="say what this would take and cost in each")
    where.add_argument("rest", metavar="a.b=c", nargs="*", help="values to set on top of the file's")
    _add_json(where, "print one JSON object a line")
    where.set_defaults(command=lists.where)

    app = commands.add_parser("app", help="open the app in the browser: from data to a published model")
    app.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default: 127.0.0.1)")
    app.add_argument("--port", type=int, metavar="N", help="port (default: the first free one from 7860)")
    app.add_argument("--root", type=Path, metavar="FOLDER", help="where runs/ and uploads/ lie (default: here)")
    app.set_defaults(command=lists.app)

    tasks = commands.add_parser("tasks", help="list the tasks and methods")
    _add_json(tasks, "print one JSON object a line")
    tasks.set_defaults(command=lists.tasks)

    samples = commands.add_parser("samples", help="list or fetch models and data that need no Hub")
    samples.add_argument("rest", metavar="NAME", nargs="*", help="a sample or a group; all are listed without")
    samples.set_defaults(command=lists.samples)
    return parser


def commands_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return the names of a parser's commands."""
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [*found[0].choices]


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML or JSON file")
    parser.add_argument("rest", metavar="a.b=c", nargs="*", help="values to set on top of the file's")


def _add_place(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--on", metavar="WHERE", help=f"where to run; `where` lists the places (default: {default})")
    parser.add_argument(
        "--place", action="append", default=[], metavar="NAME=VALUE", help="an option of that place; may be repeated"
    )


def _add_following(parser: argparse.ArgumentParser) -> None:
    words = "processes to train with (default: 1; a resume's: as many as before)"
    parser.add_argument("--processes", type=int, metavar="N", help=words)
    parser.add_argument(
        "--follow", action=argparse.BooleanOptionalAction, default=True, help="show progress until the run ends"
    )
    _add_json(parser, "print events as JSON lines")
    _add_verbose(parser)


def _add_json(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--json", action="store_true", help=help)


def _add_verbose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verbose", action="store_true", help="name rows in warnings")


def _add_question(
    commands: Any, name: str, about: str, answer: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """Add a command that asks about a configuration before anything is trained."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about)
    _add_config(parser)
    _add_json(parser, "print events as JSON lines")
    _add_verbose(parser)
    parser.set_defaults(command=answer)
    return parser
