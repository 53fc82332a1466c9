"""A process that has imported everything and forks: a trainer or a command then starts in no time, and can be killed.

Started by tests.chaos: a line of JSON on stdin, {id, do, arguments, log, cwd, umask, environment, modules}, forks a
child and gives {id, pid}; when the child has ended, {id, status}. A child that is told `modules` writes what it had
imported at its end there; {imports: FILE} has this process import the same, so that the children after it find it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DPI = 40  # of plots: every run that ends draws some


def train(arguments: Sequence[str]) -> int:
    from hftransfer import train as script

    return script.main(arguments)


def pull(arguments: Sequence[str]) -> int:
    _hurry()
    return train(arguments)


def command(arguments: Sequence[str]) -> int:
    from hftransfer import cli

    _hurry()
    return cli.main(arguments)


def _hurry() -> None:
    """Try again after a tenth of a second, where it would be after seconds."""
    import types

    from huggingface_hub.utils import _http

    from hftransfer.hub import retrying

    retrying.PAUSES = (0.05, 0.1)  # type: ignore[assignment]
    # the client's own pauses between its tries would take minutes
    quick = {**vars(time), "sleep": lambda seconds: time.sleep(min(seconds, 0.05))}
    _http.time = types.SimpleNamespace(**quick)  # type: ignore[attr-defined]


def look(arguments: Sequence[str]) -> int:
    """Inspect an upload and, when it is let in, load it as a preview does: 0 shown, 2 refused, 3 told as a failure."""
    from hftransfer.errors import UserError
    from hftransfer.ui import inspection, worker

    path = Path(arguments[0])
    try:
        inspection.inspect(path, path.suffix, inspection.Limits(**json.loads(arguments[1])))
    except UserError as error:
        print("refused:", error)
        return 2
    except (MemoryError, RecursionError):
        return 2  # as inspection.main says it
    tree = {"task": arguments[2], "model": "none-yet", "data": {"source": str(path)}}
    *_, answer = worker.respond("preview", {"tree": tree})
    print(json.dumps(answer, default=str)[:2000])
    return 3 if "failed" in answer else 0 if "answer" in answer else 2


DO = {"train": train, "pull": pull, "command": command, "look": look}


def main() -> None:
    """Fork what is asked for until stdin ends."""
    import datasets
    import peft  # noqa: F401
    import torch
    import transformers

    from hftransfer import cli, training  # noqa: F401
    from hftransfer import train as script  # noqa: F401
    from hftransfer.evaluation import drawing

    # loaded on first use, which would be in every child
    _ = (transformers.Trainer, transformers.BertForSequenceClassification, transformers.PreTrainedTokenizerFast)
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    drawing.DPI = DPI
    gc.freeze()  # children need not go through what nobody will ever free
    print(json.dumps({"ready": True}), flush=True)
    children: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([0], [], [], 0.01 if children else 1.0)
        if ready:
            line = sys.stdin.buffer.readline()
            if not line:
                return
            asked = json.loads(line)
            if "imports" in asked:
                _import(Path(asked["imports"]))
                continue
            if not (pid := os.fork()):
                _be(asked)
            children[pid] = asked["id"]
            print(json.dumps({"id": asked["id"], "pid": pid}), flush=True)
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                print(json.dumps({"id": children.pop(pid), "status": os.waitstatus_to_exitcode(status)}), flush=True)


def _be(asked: dict[str, Any]) -> None:
    code = 70
    try:
        os.setsid()
        for number in (0, 1, 2):
            opened = os.open(os.devnull if not number else asked["log"], os.O_RDWR | os.O_CREAT | os.O_APPEND)
            os.dup2(opened, number)
        os.chdir(asked["cwd"])
        os.umask(asked.get("umask", 0o022))
        os.environ.update(asked["environment"])
        code = DO[asked["do"]](asked["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if asked["modules"]:
            Path(asked["modules"]).write_text("\n".join(sys.modules))
        os._exit(code)


def _import(names: Path) -> None:
    for name in names.read_text().split("\n"):
        if name not in sys.modules:
            with contextlib.suppress(Exception):  # some names are no modules that can be found
                importlib.import_module(name)
    gc.freeze()


class Child:
    """A forked process, as whoever asked for it sees it."""

    def __init__(self, zygote: Zygote, number: int, pid: int) -> None:
        self.zygote, self.number, self.pid = zygote, number, pid

    def wait(self, seconds: float) -> int | None:
        """Return its exit code, or minus the signal that ended it; None when it is still there after the time."""
        end = time.monotonic() + seconds
        while self.number not in self.zygote.ended:
            if not self.zygote.read(max(0.0, end - time.monotonic())):
                return None
        return self.zygote.ended[self.number]

    def signal(self, number: int) -> bool:
        """Send a signal; False when it has ended."""
        if self.wait(0) is not None:
            return False
        os.kill(self.pid, number)
        return True


class Zygote:
    """The process that forks."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.folder, self.ended, self._pids, self._number = folder, {}, {}, 0  # type: ignore[var-annotated]
        self._log = open(folder / "zygote.log", "ab")  # noqa: SIM115  # as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.zygote"], env=environment, cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
        )  # fmt: skip
        self._rest = b""
        assert self.read(300), (folder / "zygote.log").read_text()

    def start(
        self, do: str, *arguments: str | Path, cwd: Path, umask: int = 0o022, modules: Path | None = None,
        **environment: str,
    ) -> Child:  # fmt: skip
        """Fork a child that does this."""
        self._number += 1
        self._ask({
            "id": self._number, "do": do, "arguments": [*map(str, arguments)], "cwd": str(cwd), "umask": umask,
            "log": str(cwd / f"{do}.log"), "environment": environment, "modules": str(modules) if modules else None,
        })  # fmt: skip
        while self._number not in self._pids:
            assert self.read(60), "the zygote says nothing"
        return Child(self, self._number, self._pids[self._number])

    def imports(self, modules: Path) -> None:
        """Have imported, before the next fork, what a child wrote at its end that it had imported."""
        self._ask({"imports": str(modules)})

    def _ask(self, asked: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()

    def read(self, seconds: float) -> bool:
        """Take what the zygote says within the time; False when it says nothing."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return False
        self._rest += os.read(self._process.stdout.fileno(), 65536)
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "pid" in said:
                self._pids[said["id"]] = said["pid"]
            elif "status" in said:
                self.ended[said["id"]] = said["status"]
        return True

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._log.close()


if __name__ == "__main__":
    main()
