"""What an operator may set: environment variables HFTRANSFER_*, with one default for a laptop and one for a Space."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hftransfer.errors import UserError
from hftransfer.safety import machine
from hftransfer.ui.saying import say

PREFIX = "HFTRANSFER_"
LAPTOP = Path(".")  # its runs lie in ./runs, where the command line looks for them
SPACE = Path("/data/hftransfer")  # where a Space's bucket is mounted, once one is attached
UNATTACHED = Path("/tmp/hftransfer")  # a Space without one: gone with its next restart


def _option(about: str, laptop: Any, space: Any, unit: str = "") -> dict[str, Any]:
    return {"about": about, "laptop": laptop, "space": space, "unit": unit}


@dataclass(frozen=True)
class Settings:
    """Where the app keeps things and how much of them one visitor may use; 0 means no limit."""

    space: bool  # SPACE_ID is set: strangers come, sign-in is asked for
    root: Path = field(metadata=_option("folder of runs, uploads and caches", LAPTOP, SPACE))
    runs_at_once: int = field(metadata=_option("runs that train at the same time, of all visitors", 1, 1))
    runs_per_user: int = field(metadata=_option("runs of one visitor that train at the same time", 1, 1))
    elsewhere_per_user: int = field(metadata=_option("runs of one visitor that go on elsewhere (Jobs)", 0, 2))
    queued_per_user: int = field(metadata=_option("runs of one visitor that wait", 20, 3))
    queued: int = field(metadata=_option("runs that wait, of all visitors", 100, 30))
    processes_per_run: int = field(metadata=_option("processes of one run", 0, 1))
    run_seconds: int = field(metadata=_option("time one run may take; it is stopped with a checkpoint", 0, 3600, "s"))
    run_memory_mb: int = field(metadata=_option("memory of one run; it is ended above", 0, 8_000, "MB"))
    rows: int = field(metadata=_option("rows of a data set that are used", 0, 100_000))
    disk_mb: int = field(metadata=_option("disk of one visitor: runs, uploads, cache", 0, 10_000, "MB"))
    upload_mb: int = field(metadata=_option("size of one uploaded file", 20_000, 200, "MB"))
    received_mb: int = field(metadata=_option("files on their way in, of all visitors", 0, 4_000, "MB"))
    unpacked_mb: int = field(metadata=_option("what an uploaded archive or table may unpack to", 100_000, 2_000, "MB"))
    picture_megapixels: int = field(metadata=_option("size of one picture", 170, 40, "megapixels"))
    columns: int = field(metadata=_option("columns of an uploaded table", 2_000, 500))
    model_mb: int = field(metadata=_option("weights of a model from the Hub", 0, 2_000, "MB"))
    predictions_per_minute: int = field(
        metadata=_option("predictions of one visitor (all anonymous ones count as one)", 0, 60)
    )
    workers: int = field(metadata=_option("prediction processes at work at the same time, of all visitors", 4, 2))
    worker_memory_mb: int = field(metadata=_option("memory of one prediction process", 0, 3_500, "MB"))
    worker_idle_seconds: int = field(
        metadata=_option("time after which an unused prediction process is ended", 600, 300, "s")
    )
    pushes: int = field(metadata=_option("pushes to the Hub at the same time, of all visitors; of each one", 0, 2))
    worker_seconds: int = field(metadata=_option("time one preview, estimate or prediction may take", 600, 120, "s"))

    @property
    def later(self) -> int:
        """How far what answers and looks at uploads gives way: where strangers ask, whoever trains is first."""
        return machine.LAST if self.space else machine.LATER

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the environment; UserError for a value that is no number."""
        found = os.environ if environment is None else environment
        space = bool(found.get("SPACE_ID"))
        values: dict[str, Any] = {}
        for option in fields(cls)[1:]:
            text = found.get(name_of(option.name))
            default = option.metadata["space" if space else "laptop"]
            if option.name == "root":
                values["root"] = Path(text).expanduser() if text else _root(space)
            else:
                values[option.name] = default if not text else _number(name_of(option.name), text)
        return cls(space=space, **values)


def remarks(settings: Settings, environment: Mapping[str, str] | None = None) -> list[str]:
    """Return what visitors of a Space should know about the machine under it; nothing on a laptop."""
    found = os.environ if environment is None else environment
    if not settings.space:
        return []
    said = []
    if found.get("SPACES_ZERO_GPU", "").lower() in ("1", "true"):
        said.append(
            say(
                "This Space has ZeroGPU, which lends its GPU to single calls of the app and never to a training "
                "process: runs train on the CPU here. Small models and few rows work; for more, duplicate this "
                "Space with a GPU."
            )
        )
    if not settings.root.is_relative_to(SPACE.parent):
        said.append(
            say(
                "This Space has no storage of its own: a restart deletes runs and uploads. Publish what you want to "
                "keep, or set hub.checkpoints=true with hub.repo, so that a run can go on from its last checkpoint."
            )
        )
    return said


SIGN_IN = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")


def require_sign_in(settings: Settings, environment: Mapping[str, str] | None = None) -> None:
    """Raise UserError for a Space that cannot tell who signs in: gradio would take everybody's word for it."""
    found = os.environ if environment is None else environment
    if not settings.space:
        return
    missing = [name for name in SIGN_IN if not found.get(name)]
    if found.get("SYSTEM") != "spaces":  # without it gradio signs in whoever clicks, as the machine's owner
        missing.append("SYSTEM=spaces")
    if missing:
        raise UserError(
            "SPACE_ID is set, and a Space needs its sign-in", f"{', '.join(missing)} is not set",
            "On the Hub, write hf_oauth: true into the README.md of the Space. Elsewhere, leave SPACE_ID unset.",
        )  # fmt: skip


def name_of(option: str) -> str:
    """Return the environment variable of an option."""
    return PREFIX + option.upper()


def table() -> list[tuple[str, str, str, str]]:
    """Return (variable, on a laptop, on a Space, what it is) of every option, for the docs."""
    return [
        (
            name_of(option.name),
            _shown(option.metadata["laptop"], option.metadata["unit"]),
            _shown(option.metadata["space"], option.metadata["unit"]),
            option.metadata["about"],
        )
        for option in fields(Settings)[1:]
    ]


def _shown(value: Any, unit: str) -> str:
    if isinstance(value, Path):
        return f"`{value}`"
    return f"{value:,} {unit}".strip() if value else "no limit"


def _root(space: bool) -> Path:
    if not space:
        return LAPTOP
    return SPACE if os.access(SPACE.parent, os.W_OK) else UNATTACHED


def _number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise UserError(f"{name} must be a whole number, 0 for no limit", f"found {text[:40]!r}", "Mend it.")
    return int(text)
