"""Where a run happens: one file a launcher, found by its name."""

from __future__ import annotations

import importlib

from hftransfer import catalog
from hftransfer.errors import unknown
from hftransfer.launchers.base import Launcher


def launchers() -> dict[str, str]:
    """Return the launchers by name, each with the module that holds it."""
    return catalog.modules_of("hftransfer.launchers")


def launcher(name: str = "local") -> Launcher:
    """Return the launcher of that name; UserError with the nearest name when there is none."""
    if name not in launchers():
        raise unknown("launcher", name, launchers())
    found: Launcher = importlib.import_module(launchers()[name]).LAUNCHER
    return found
