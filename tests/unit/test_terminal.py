"""What comes from data or the Hub reaches a terminal as text alone."""

from __future__ import annotations

import io
import sys

import pytest

from hftransfer import cli, follow
from hftransfer.safety import terminal

EVIL = "\x1b]0;title\x07\x1b[2J\x1b]52;c;cHduZWQ=\x07\x9b31m\u202egnp.exe\x00"


def harmless(text: str) -> bool:
    return not terminal.OBEYED.search(text)


def test_signs_that_a_terminal_obeys_are_written_out() -> None:
    assert harmless(terminal.clean(EVIL))
    assert terminal.clean("\x1b[2J") == "\\x1b[2J" and terminal.clean("\u202e") == "\\u202e"
    assert terminal.clean("a\tb\nä €") == "a\tb\nä €"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "warning", "message": EVIL},
        {"type": "notice", "message": EVIL},
        {"type": "phase", "name": "features", "detail": EVIL},
        {"type": "columns", "choices": [{"role": "text", "column": EVIL, "reason": EVIL}]},
    ],
)
def test_events_are_shown_clean(event: dict[str, object]) -> None:
    out = io.StringIO()
    follow.show([{"time": 0.0, **event}], "plain", out)
    assert harmless(out.getvalue()) and out.getvalue().strip()


def test_errors_and_what_commands_print_are_clean(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text('task: text-classification\nmodel: m\ndata: {source: x.csv}\n"\\e]0;t\\a": 1\n')
    assert cli.main(["train", str(path)]) == 2
    shown = capsys.readouterr()
    assert harmless(shown.out) and harmless(shown.err) and "\\x1b]0;t" in shown.err
    with terminal.cleaned():
        print(EVIL)
        print(EVIL, file=sys.stderr)
        assert terminal.raw(sys.stdout) is not sys.stdout
    shown = capsys.readouterr()
    assert harmless(shown.out) and harmless(shown.err)


def test_a_configuration_that_nests_without_end_is_refused_in_words(tmp_path, capsys) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text("task: " + "[" * 5000)
    assert cli.main(["train", str(path)]) == 2
    assert "it nests too deeply" in capsys.readouterr().err
