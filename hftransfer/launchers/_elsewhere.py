"""What places other than this machine share: somebody else knows whether a run goes on, and is asked now and then."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hftransfer.errors import UserError
from hftransfer.events import Event
from hftransfer.launchers.base import POLL, Launcher
from hftransfer.runs import Run, called

LAST = ("done", "failed", "stopped")  # events behind which a run is about to be gone
SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE", re.IGNORECASE)
# what a trainer elsewhere may need of the caller's environment; all else stays here
HANDED_ON = re.compile(
    r"(PATH|HOME|USER|LANG|LC_\w+|LD_LIBRARY_PATH|PYTHON\w+|VIRTUAL_ENV|CONDA_\w+|HF_\w+|HFTRANSFER_\w+|TRANSFORMERS_\w+"
    r"|TOKENIZERS_\w+|TORCH\w*|CUDA_\w+|NCCL_\w+|GLOO_\w+|OMP_\w+|MKL_\w+|GOMP_\w+|WANDB_MODE|TRACKIO_DIR)"
)


@dataclass(frozen=True)
class Standing:
    """What a place says of a run: whether it still holds it, whether it waits there, and in which words."""

    alive: bool
    waits: bool
    words: str


@dataclass
class _Asked:
    at: float
    pause: float
    found: Standing


def free(run: Run, wanted: float) -> float:
    """Return the bytes that are free where a run's folder lies, whatever is wanted."""
    return float(shutil.disk_usage(run.folder).free)


class Elsewhere(Launcher):
    """A place that is asked about a run; between two questions it is left alone for longer and longer."""

    _room: ClassVar[tuple[Callable[[Run, float], float]]] = (free,)
    least: ClassVar[float] = 1.0  # seconds between two questions
    most: ClassVar[float] = 15.0
    # by the run's folder, of all launchers of this process: who shows a run and who follows it ask once for both
    _asked: ClassVar[dict[Path, _Asked]] = {}

    @staticmethod
    def keep_to(room: Callable[[Run, float], float]) -> None:
        """Bring no more bytes into the folder of a run than this allows, by how many are wanted.

        That is a visitor's share of the disk, on a Space.
        """
        Elsewhere._room = (room,)

    def room(self, run: Run, wanted: float) -> float:
        """Return how many bytes may be brought into a run's folder, where so many are wanted."""
        return self._room[0](run, wanted)

    @abstractmethod
    def ask(self, run: Run) -> Standing | None:
        """Ask the place about a run; None where nobody answered, which says nothing about the run."""

    def standing(self, run: Run, now: bool = False) -> Standing:
        """Return what the place last said of a run; it is asked again when that is old, or `now`."""
        known, moment = self._asked.get(run.folder), time.monotonic()
        if known is not None and not now and moment < known.at + known.pause:
            return known.found
        found = self.ask(run)
        if found is None:  # a controller that restarts: the run goes on meanwhile
            found = known.found if known is not None else Standing(True, False, f"{self.name} does not answer")
        changed = known is None or known.found != found
        pause = self.least if changed or known is None else min(self.most, known.pause * 1.5)
        self._asked[run.folder] = _Asked(moment, pause, found)
        return found

    def forget(self, run: Run) -> None:
        """Ask anew about a run: something was done to it."""
        self._asked.pop(run.folder, None)

    def is_alive(self, run: Run) -> bool:
        """Tell whether the place still holds the run, waiting or at work."""
        return self.standing(run).alive

    def require_idle(self, run: Run) -> None:
        """Raise UserError for a run that is at work there."""
        if self.standing(run, now=True).alive:
            raise UserError(
                "a run that nobody works on is needed", f"{run.name} is running", f"Run: hftransfer stop {called(run)}"
            )

    def follow(self, run: Run, cursor: int = 0) -> Iterator[Event]:
        """Yield the run's events as they come, and what it waits for when that changes."""
        said = ""
        with self.listening(run) as look:
            while True:
                found = self.standing(run)
                look(found)
                events, cursor = self.events(run, cursor)
                if found.waits and found.words != said:
                    said = found.words
                    yield {"type": "notice", "time": round(time.time(), 3), "message": f"waiting: {said}"}
                yield from events
                if not found.alive:
                    return
                if any(event["type"] in LAST for event in events):  # it is about to end: say so soon
                    self.forget(run)
                time.sleep(POLL)

    @contextlib.contextmanager
    def listening(self, run: Run) -> Iterator[Callable[[Standing], None]]:
        """Give what is called with every standing while a run is followed: where its folder is not shared, it brings
        the events here."""
        yield lambda found: None


def handed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment a run elsewhere is given: settings of the libraries, and nothing secret."""
    return {
        name: value
        for name, value in environment.items()
        if HANDED_ON.fullmatch(name)
        and (name == "HF_TOKEN_PATH" or not SECRET.search(name))
        and not value.startswith("hf_")
    }
