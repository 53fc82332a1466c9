"""Transfer learning on the Hugging Face stack: adapt a pretrained model to your data, and say how good it is."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from hftransfer.api import compare, curve, fuse, rank
    from hftransfer.config import RunConfig
    from hftransfer.events import Event
    from hftransfer.hub.publishing import publish
    from hftransfer.launchers.base import RunFailed
    from hftransfer.predictor import Predictor

__version__ = "0.1.0"
__all__ = [
    "Predictor", "RunConfig", "RunFailed", "__version__", "compare", "curve", "fuse", "publish", "rank", "run",
]  # fmt: skip

_LAZY = {
    "Predictor": "hftransfer.predictor",
    "RunConfig": "hftransfer.config",
    "RunFailed": "hftransfer.launchers.base",
    "compare": "hftransfer.api",
    "curve": "hftransfer.api",
    "fuse": "hftransfer.api",
    "publish": "hftransfer.hub.publishing",
    "rank": "hftransfer.api",
}


def run(
    config: str | Path | Mapping[str, Any] | RunConfig,
    processes: int = 1,
    follow: Callable[[Event], None] | None = None,
    on: str = "local",
    place: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Start a run in a process of its own, wait for it, and return its result.json.

    `config` is a file, a tree of plain values or a RunConfig; `follow` is called with every event. `on` is where it
    runs, and `place` what that place is told (`hftransfer where` lists both). Raises UserError for what the caller can
    mend and RunFailed for the rest; KeyboardInterrupt stops the run. A run that is done but could not be published
    (hub.push) warns.
    """
    from hftransfer import catalog
    from hftransfer.config import RunConfig
    from hftransfer.launchers import launcher
    from hftransfer.runs import Run

    if isinstance(config, RunConfig):
        config = catalog.checked(config)
    else:
        config = catalog.build_config(config) if isinstance(config, Mapping) else catalog.read_config(config)
    there = launcher(on, place or {})
    folder = Run.create(config)
    outcome = there.finish(folder, processes, follow=follow)
    if outcome.state != "done":
        raise outcome.error()
    if outcome.unpublished:
        warnings.warn(f"trained and saved, but not published: {outcome.unpublished}", stacklevel=2)
    return folder.result()


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
