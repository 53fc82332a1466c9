"""Errors that a user can mend: what was wanted, what was found, what to do; they end a command with exit code 2."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class UserError(Exception):
    """Say what was wanted, what was found and what to do about it."""

    exit_code = 2

    def __init__(self, wanted: str, found: str, action: str) -> None:
        super().__init__(wanted, found, action)
        self.wanted, self.found, self.action = wanted, found, action

    def __str__(self) -> str:
        return f"{self.wanted}; {self.found}. {self.action}".rstrip()

    def amended(self, found: str, action: str) -> UserError:
        """Return the same error, which says more of what was found and what to do."""
        self.found, self.action, self.args = found, action, (self.wanted, found, action)
        return self


class UnclearColumn(UserError):
    """Which column plays a role must be said: `role`, and the columns that could (`offered`), likely ones first."""

    def __init__(self, wanted: str, found: str, action: str, role: str, offered: Sequence[str]) -> None:
        super().__init__(wanted, found, action)
        self.role, self.offered = role, tuple(offered)

    def __reduce__(self) -> tuple[type[UnclearColumn], tuple[str, str, str, str, tuple[str, ...]]]:
        return UnclearColumn, (self.wanted, self.found, self.action, self.role, self.offered)


class Damaged(UserError):
    """A file of a run that cannot be read: it costs that run, and no other."""

    def __init__(self, path: object, error: Exception) -> None:
        words = " ".join(str(error).split())[:200] or type(error).__name__
        name = str(path).rpartition("/")[2]
        super().__init__(f"{name} must be readable", words, f"Bring it back, or delete it: {path}")

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str, str]]:
        return UserError, (self.wanted, self.found, self.action)


@dataclass(frozen=True)
class Problem:
    """One wrong entry of a configuration: its dotted path and the message."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(UserError):
    """Report every problem of one configuration at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("a valid configuration is needed", f"this one has {count}", "Mend what is listed.")

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        return f"{len(self.problems)} problems in the configuration:\n" + "\n".join(f"  {p}" for p in self.problems)

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        return ConfigError, (self.problems,)


LISTABLE = 20  # more choices than this are noise in a message; the nearest match is named instead


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice most like `name`, or None when nothing is close."""
    by_fold = {choice.lower().replace("-", "_"): choice for choice in choices}
    found = difflib.get_close_matches(name.lower().replace("-", "_"), by_fold, n=1, cutoff=0.6)
    return by_fold[found[0]] if found else None


def hint(name: str, choices: Iterable[str]) -> str:
    """Return the sentence that helps after an unknown name: the nearest match, then the choices when they are few."""
    choices = sorted(choices)
    match = nearest(name, choices)
    parts = [f"Did you mean {match!r}?"] if match else []
    if 0 < len(choices) <= LISTABLE:
        parts.append("Choices: " + ", ".join(choices) + ".")
    elif not match:
        parts.append(f"There are {len(choices)} choices, none of them close.")
    return " ".join(parts)


def unknown(kind: str, name: str, choices: Iterable[str]) -> UserError:
    """Build the error for a name that is in no closed set."""
    return UserError(f"a known {kind} is needed", f"found {name!r}", hint(name, choices))


# --- warnings about rows: a sentence, and at its end the first rows that it is about ---

NAMED_ROWS = 3  # rows that a warning names
ROWS = re.compile(r" \[rows: (?P<rows>.*)\]$", re.DOTALL)


def with_rows(sentence: str, rows: Sequence[str], more: bool = False) -> str:
    """Return a sentence with the first rows that it is about."""
    named = ", ".join(rows[:NAMED_ROWS]) + (", ..." if more or len(rows) > NAMED_ROWS else "")
    return f"{sentence} [rows: {named}]" if named else sentence


def brief(warning: str) -> str:
    """Return a warning without the names of rows."""
    return ROWS.sub("", warning)


def rows_in(warning: str) -> str:
    """Return the rows that a warning names, as it names them; empty without any."""
    found = ROWS.search(warning)
    return found["rows"] if found else ""
