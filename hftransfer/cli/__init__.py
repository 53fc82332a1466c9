"""The command line: starts runs, follows them and reads their folders; it never imports the engine.

Run: hftransfer --help
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence

from hftransfer.cli.parser import commands_of, make_parser
from hftransfer.cli.starting import INTERRUPTED
from hftransfer.errors import UserError
from hftransfer.safety import fence, terminal

NAME = "hftransfer"


def main(arguments: Sequence[str] | None = None, name: str = NAME) -> int:
    """Run one command; return 0 done, 1 failed, 2 the user's to mend, 130 interrupted.

    `name` is what the command line is called: help and hints say it.
    """
    terminal.open_streams()
    fence.close()  # the app on a Space publishes through this command
    parser = make_parser(name)
    options = _parse(parser, arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    said = _renaming(parser, name) if name != NAME and not vars(options).get("json") else str
    try:
        with terminal.cleaned(said):
            code = command(options)
        sys.stdout.flush()
    except UserError as error:
        print(said(f"{NAME}: {terminal.clean(str(error))}"), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # the reader left (`| head`); without this Python complains once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def finetune() -> int:
    """Run one command as the extension of `hf`: its client hands `hf finetune ...` over to a script of this name."""
    return main(name="hf finetune")


def _renaming(parser: argparse.ArgumentParser, name: str) -> Callable[[str], str]:
    """Return what puts another name in place of ours where a text calls one of our commands, or begins with us."""
    commands = "|".join(map(re.escape, commands_of(parser)))
    called = re.compile(rf"(?<![\w./-]){NAME}(?= (?:{commands})\b)|^{NAME}(?=: )", re.MULTILINE)
    return lambda text: called.sub(name, text)


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    options, rest = parser.parse_known_args(arguments)
    stray = [word for word in rest if word.startswith("-") or "rest" not in options]
    if stray:
        parser.error(f"unrecognized arguments: {' '.join(stray)}")
    if rest:
        options.rest += rest  # argparse gives up on `CONFIG a.b=c --json d.e=f` after the first group
    return options
