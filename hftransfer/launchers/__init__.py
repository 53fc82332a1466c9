"""Where a run happens: one file a launcher, found by its name."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from hftransfer import catalog, runs
from hftransfer import config as configuration
from hftransfer.errors import unknown
from hftransfer.launchers.base import Launcher
from hftransfer.runs import Run

HERE = "local"


def launchers() -> dict[str, str]:
    """Return the launchers by name, each with the module that holds it."""
    return catalog.modules_of("hftransfer.launchers")


def launcher(name: str = HERE, options: Mapping[str, Any] | Sequence[str] = ()) -> Launcher:
    """Return the launcher of that name, told its `options`: plain values, or NAME=VALUE as on the command line.

    Raises UserError with the nearest name when there is none, ConfigError for options that it does not know.
    """
    if name not in launchers():
        raise unknown("launcher", name, launchers())
    found: Launcher = importlib.import_module(launchers()[name]).LAUNCHER
    values = options if isinstance(options, Mapping) else configuration.override({}, options)
    return found.told(values) if values else found


def of(run: Run) -> Launcher:
    """Return the launcher that started a run, told what it was told then; this machine's for one never started."""
    note = run.launch()
    return launcher(note.get("launcher", HERE), note.get("options", {}))


def _works_elsewhere(name: str, run: Run) -> bool:
    return launcher(name).is_alive(run)


# a run's files cannot say whether a cluster still works on it: who reads its status asks the launcher that started it
runs.ELSEWHERE.update({name: functools.partial(_works_elsewhere, name) for name in launchers() if name != HERE})
