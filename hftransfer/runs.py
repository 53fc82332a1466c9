"""Run folders: created before any process starts, listed, and their status read from their files alone.

runs/<time>-<task>-<model>-<method>/
    config.yaml  launch.json  events.jsonl  console.log  checkpoints/  predictions/  artifact/  result.json
"""

from __future__ import annotations

import importlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from hftransfer import config as configuration
from hftransfer.config import RunConfig
from hftransfer.errors import Damaged, UserError, hint
from hftransfer.events import Event, EventWriter, latest_events, read_events
from hftransfer.safety import intact, machine
from hftransfer.safety.identity import works

ROOT = Path("runs")
# of result.json: 1 named labels, and left the kind of answer and the main metric to guess; 2 was never written
RESULT_SCHEMA = 3
LADDER = "ladder.json"  # in a folder whose folders are the runs of one comparison
MARK = "HFTRANSFER_RUN"  # environment variable that every process of a run carries
SAVE_MINUTES = "HFTRANSFER_SAVE_MINUTES"  # environment variable: train.save_minutes where a run does not say
MOST_JSON = 2**24  # characters of a file of JSON in a run's folder
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
FILES = {
    ".csv",
    ".tsv",
    ".json",
    ".jsonl",
    ".ndjson",
    ".parquet",
    ".arrow",
    ".zip",
    ".yaml",
    ".yml",
}  # of data, configs
State = Literal["created", "running", "done", "failed", "stopped", "killed", "damaged"]


@dataclass(frozen=True)
class Status:
    """What the files of a run say about it."""

    state: State
    phase: str | None = None
    message: str | None = None
    step: int = 0
    max_steps: int = 0
    publication: Literal["publishing", "published", "unpublished"] | None = None
    unpublished: str | None = None  # why not

    @property
    def finished(self) -> bool:
        return self.state in ("done", "failed", "stopped", "killed", "damaged")


@dataclass(frozen=True)
class Run:
    """A folder; nothing about a run lives only in memory."""

    folder: Path
    mirror: TextIO | None = field(
        default=None, compare=False
    )  # where events are repeated, for launchers with logs alone

    @property
    def name(self) -> str:
        return self.folder.name

    config_path = property(lambda self: self.folder / "config.yaml")
    launch_path = property(lambda self: self.folder / "launch.json")
    events_path = property(lambda self: self.folder / "events.jsonl")
    log_path = property(lambda self: self.folder / "console.log")
    checkpoints = property(lambda self: self.folder / "checkpoints")
    predictions = property(lambda self: self.folder / "predictions")
    artifact = property(lambda self: self.folder / "artifact")
    result_path = property(lambda self: self.folder / "result.json")
    title_path = property(lambda self: self.folder / "title.json")

    @classmethod
    def create(cls, config: RunConfig, folder: Path | None = None) -> Run:
        """Make the run's folder with its config and first event; UserError when another run lives there."""
        folder = Path(folder or config.output or ROOT / default_name(config)).absolute()
        if (folder / "config.yaml").exists():
            raise _taken(cls(folder))
        if folder.exists() and (not folder.is_dir() or any(not _begun(entry) for entry in folder.iterdir())):
            raise UserError(
                "an empty or new output folder is needed",
                f"{folder} holds something else",
                "Set output=another/folder.",
            )
        try:
            for part in (folder, folder / "checkpoints", folder / "predictions"):
                part.mkdir(parents=True, exist_ok=True)
            run = cls(folder)
            write_text(run.config_path, config.model_copy(update={"output": str(folder)}).to_yaml())
            run.event("created", task=config.task, model=config.model, method=config.method.name)
        except OSError as error:
            raise UserError(
                "a folder to write to is needed", f"{folder}: {error.strerror}", "Set output=..."
            ) from error
        return run

    def config(self) -> RunConfig:
        """Read the run's configuration."""
        return configuration.build(configuration.as_now(configuration.read_tree(self.config_path)))

    def noted(self) -> dict[str, Any]:
        """Return what people wrote of the run: `name`, `note`, `favourite`, and `follows`, the run it goes on from."""
        try:
            return read_json(self.title_path)
        except Damaged:
            return {}

    def title(self) -> tuple[str, str]:
        """Return what people call the run and what they noted of it; both empty where nobody did."""
        found = self.noted()
        return str(found.get("name") or ""), str(found.get("note") or "")

    def entitle(self, name: str, note: str, **more: Any) -> None:
        """Write down what people call the run and what they note of it; `more` are fields of `noted`."""
        write_text(self.title_path, json.dumps({**self.noted(), "name": name.strip(), "note": note.strip(), **more}))

    def event(self, type: str, **fields: Any) -> None:
        """Append one event."""
        EventWriter(self.events_path, self.mirror).write(type, **fields)

    def events(self, offset: int = 0) -> tuple[list[Event], int]:
        """Return the events behind `offset` (bytes) and the next offset."""
        return read_events(self.events_path, offset)

    def launch(self) -> dict[str, Any]:
        """Return what the launcher noted, or nothing for a run that was never launched."""
        return read_json(self.launch_path)

    def result(self) -> dict[str, Any]:
        """Return result.json, or nothing before the run is done."""
        return read_json(self.result_path)

    def status(self) -> Status:
        """Derive the state from the events and from whether the noted process lives; `damaged`: they tell none."""
        try:
            events = latest_events(self.events_path)
            return status_of(events, alive=self._is_alive(events))
        except Damaged as error:
            return Status("damaged", message=str(error))

    def is_alive(self) -> bool:
        """Tell whether the process that works on this run (launcher or trainer) is still there."""
        return self._is_alive(latest_events(self.events_path))

    def _is_alive(self, events: list[Event]) -> bool:
        started = [event for event in events if event["type"] == "process"]
        note = self.launch()
        return any(works(one) for one in (note, *started[-1:])) or works_elsewhere(self, note)

    def checkpoint(self) -> Path | None:
        """Return the newest whole checkpoint."""
        found = [p for p in self.checkpoints.glob("checkpoint-*") if is_whole(p)]
        return max(found, key=lambda p: int(p.name.rpartition("-")[2]), default=None)


# who tells whether a run is worked on that no process of this machine works on, by launcher; launchers/ fills it
ELSEWHERE: dict[str, Callable[[Run], bool]] = {}


def works_elsewhere(run: Run, note: Mapping[str, Any]) -> bool:
    """Tell, by a run's launch.json, whether a place other than this machine works on it."""
    if (place := note.get("launcher", "local")) != "local":
        importlib.import_module("hftransfer.launchers")  # above this layer: it enters itself into ELSEWHERE
    elsewhere = ELSEWHERE.get(place)
    return elsewhere is not None and elsewhere(run)


def is_whole(checkpoint: Path) -> bool:
    """Tell whether a checkpoint was written to its end: its manifest stands and every listed file has its size."""
    if not re.fullmatch(r"checkpoint-\d+", checkpoint.name):
        return False
    try:
        files = read_json(checkpoint / MANIFEST).get("files", {})
    except Damaged:
        return False
    return bool(files) and all(
        (checkpoint / name).is_file() and (checkpoint / name).stat().st_size == size for name, size in files.items()
    )


ESTIMATE = "estimate.json"  # in the folder of a run of which somebody measured, before it started, what it takes
AUTO = "auto.json"  # in the folder of a run with method.name=auto: what it decided, and measured
MANIFEST = "manifest.json"  # written last, after every other file of a checkpoint is on the disk
UNPLANNED = "unplanned.json"  # in a checkpoint of a stop or of the clock, which counts in no choice


def seal(checkpoint: Path) -> None:
    """Write a checkpoint's manifest once all its files are on the disk, so that power loss cannot fake a whole one."""
    files = {}
    for path in sorted(p for p in checkpoint.rglob("*") if p.is_file() and p.name != MANIFEST):
        machine.sync(path)
        files[path.relative_to(checkpoint).as_posix()] = path.stat().st_size
    note = {"files": files, "sums": intact.sums(checkpoint, files)}
    write_text(checkpoint / MANIFEST, json.dumps(note, indent=1))


def status_of(events: list[Event], alive: bool) -> Status:
    """Fold events into a status; `alive` decides between running and killed when no last word was written."""
    state: State = "created"
    phase = message = None
    step = max_steps = 0
    publication = unpublished = None
    for event in events:
        kind = event["type"]
        if kind in ("launched", "process"):
            state, message = "running", None
        elif kind == "phase":
            state, phase = "running", event.get("name")
        elif kind in ("step", "log"):
            step, max_steps = event.get("step", step), event.get("max_steps", max_steps)
        elif kind in ("done", "failed", "stopped"):
            state, message = kind, event.get("message")
        elif kind in ("publishing", "published", "unpublished"):
            publication, unpublished = kind, event.get("message") if kind == "unpublished" else None
    if publication == "publishing" and not alive:
        publication, unpublished = "unpublished", "the process ended before everything was published"
    if state == "running" and not alive:
        state, message = "killed", message or f"the process ended without a word in phase {phase or 'start'}"
    return Status(state, phase, message, step, max_steps, publication, unpublished)


def default_name(config: RunConfig, moment: float | None = None, what: str | None = None) -> str:
    """Return <time>-<task>-<model>-<method>, or `what` for the method, fit for a folder on any system."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(moment))
    model = re.split(r"[\\/:]", config.model.rstrip("/\\"))[-1]
    return "-".join(
        [
            stamp,
            *(re.sub(r"[^\w.]+", "-", part).strip("-") for part in (config.task, model, what or config.method.name)),
        ]
    )


def find(name: str | Path, root: Path | None = None) -> Run:
    """Return the run of that name or folder; UserError with the nearest name when there is none."""
    root = root or ROOT
    for folder in (Path(name), root / name):
        if (folder / "config.yaml").is_file():
            return Run(folder.absolute())
    names = [called(run, root) for run in everywhere(root)]
    action = hint(str(name), names) if names else "Start one with: hftransfer train CONFIG"
    raise UserError("the name or folder of a run is needed", f"{str(name)!r} is neither", action)


def require_artifact(run: Run) -> Path:
    """Return the artifact of a run; UserError that says why there is none."""
    folder: Path = run.artifact
    if folder.is_dir():
        return folder
    result = run.result()
    if result and result.get("artifact") is None:
        raise UserError(
            "a run with a model that from_pretrained loads is needed",
            f"{run.name} ({result['method']}) has scores and predictions, and no model that can be loaded as one",
            "Use a run of another method: hftransfer runs",
        )
    action = f"Wait for it: hftransfer runs; or go on with it: hftransfer resume {called(run)}"
    raise UserError("a run with a trained model is needed", f"{run.name} is {run.status().state} and has none", action)


def listing(root: Path | None = None) -> list[Run]:
    """Return the runs below `root`, newest first."""
    folders = [p.parent for p in (root or ROOT).glob("*/config.yaml") if (p.parent / "events.jsonl").exists()]
    return _newest_first(folders)


def everywhere(root: Path | None = None) -> list[Run]:
    """Return the runs below `root` and those inside the ladders there, newest first."""
    inside = [p.parent for p in (root or ROOT).glob("*/*/config.yaml") if (p.parent.parent / LADDER).is_file()]
    folders = [folder for folder in inside if (folder / "events.jsonl").exists()]
    return _newest_first([*(run.folder for run in listing(root)), *folders])


def ladder_began(run: Run) -> float:
    """Return when the ladder around a run was begun, in seconds since the epoch; 0 for a run that stands alone."""
    return float(read_json(run.folder.parent / LADDER).get("time", 0))


def called(run: Run, root: Path | None = None) -> str:
    """Return what `find` takes for a run: its name below `root`, LADDER/NAME inside a ladder, else its folder."""
    folder = run.folder.absolute()
    for base in ((root or ROOT).absolute(), Path.cwd()):
        if folder.is_relative_to(base):
            return folder.relative_to(base).as_posix()
    return str(folder)


def _newest_first(folders: Iterable[Path]) -> list[Run]:
    return [Run(p.absolute()) for p in sorted(folders, key=_changed, reverse=True)]


def _changed(folder: Path) -> float:
    try:
        return folder.stat().st_ctime
    except OSError:  # deleted just now
        return 0.0


def refuse_taken(run: Run) -> None:
    """Raise the UserError for starting where another run lives."""
    raise _taken(run)


def is_local(name: str) -> bool:
    """Tell whether a model or a data source is a path or a sample: neither needs the Hub."""
    try:
        return name.startswith(("sample:", "/", ".", "~")) or Path(name).exists()
    except (OSError, ValueError):  # too long for a path, or not one at all
        return False


def is_hub_id(name: str) -> bool:
    """Tell whether a name that is no path and no sample has the form of a Hub id, and not that of a file."""
    return not is_local(name) and bool(HUB_ID.fullmatch(name)) and Path(name).suffix.lower() not in FILES


def _begun(entry: Path) -> bool:
    """Tell whether this is what a run leaves that was ended while its folder was made."""
    if entry.name in ("checkpoints", "predictions"):
        return entry.is_dir() and not any(entry.iterdir())
    return entry.name.startswith(".config.yaml.")  # see write_text


def _taken(run: Run) -> UserError:
    state = run.status().state
    action = {
        "done": "Set output=another/folder, or delete it.",
        "running": f"Follow it with: hftransfer runs; or stop it: hftransfer stop {run.folder}",
        "created": f"Start it with: hftransfer resume {run.folder}; or set output=another/folder.",
    }.get(state, f"Go on with: hftransfer resume {run.folder}; or set output=another/folder.")
    return UserError("a new output folder is needed", f"{run.folder} holds a run ({state})", action)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or an empty one when the file is not there; Damaged when it is no JSON.

    Also for one that is larger than any of ours: read, it takes many times its size, and a job's comes from elsewhere.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MOST_JSON + 1)
        if len(text) > MOST_JSON:
            raise ValueError(f"it is larger than {MOST_JSON >> 20} MB")
        value = json.loads(text)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(path, error) from error
    return value if isinstance(value, dict) else {}


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: a reader never sees half of it, nor does the next start after power loss."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)  # less the umask
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class Verdict:
    """Whether a run's model is of use, in sentences that must be said wherever it is shown, and what to try next."""

    useless: bool
    sentences: tuple[str, ...]
    advice: tuple[str, ...]


def verdict_of(result: Mapping[str, Any]) -> Verdict:
    """Return what result.json says of a model's use; older ones told when a score was below the baseline."""
    found = result.get("verdict")
    if found is None:
        below = result.get("baseline", {}).get("below")
        return Verdict(bool(below), (below,) if below else (), ())
    return Verdict(found["useless"], tuple(found["sentences"]), tuple(found.get("advice", ())))
