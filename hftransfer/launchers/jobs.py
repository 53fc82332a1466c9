"""Runs on Hugging Face Jobs: the folder goes to a bucket, a job trains in it there, its log brings the events back."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import secrets
import shlex
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

import hftransfer
from hftransfer.config import RunConfig, Section, building
from hftransfer.errors import UserError
from hftransfer.events import PREFIX, Event
from hftransfer.launchers._buckets import Bucket
from hftransfer.launchers._elsewhere import Elsewhere, Standing
from hftransfer.launchers.base import GRACE, POLL, Ending, Outcome
from hftransfer.launchers.local import NEUTRAL, PROCESSES, launch_flags, neutral
from hftransfer.runs import MARK, Run, read_json, write_text

MOUNT = "/runs"  # where the bucket stands in a job
ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
SEEN = "jobs.json"  # in a run's folder: how much of the log was read, and whether the rest was brought back
OWN = ("config.yaml", "launch.json", "events.jsonl", "console.log", SEEN, "accelerate.yaml", ".writer.lock")
INPUTS = ("model", "data.source", "data.train", "data.validation", "data.test", "data.unlabelled")
NOT_NEEDED = re.compile(r"extra == .(ui|mcp|test|dev|onnx|quantized).")
DISTRIBUTION = "hftransfer-learning"


class JobsOptions(Section):
    """What a job is told."""

    flavor: Annotated[str, Field(description="machine, as `hf jobs hardware` lists them")] = "cpu-basic"
    minutes: Annotated[
        float | None, Field(gt=0, description="longest time; twice the estimate unless given, which takes a check")
    ] = None
    image: Annotated[str, Field(description="Docker image, with Python and bash")] = "python:3.12"
    setup: Annotated[
        str | None, Field(description="line of shell that installs; pip with this machine's versions unless given")
    ] = None
    namespace: Annotated[str | None, Field(description="who pays; you unless given")] = None
    bucket: Annotated[str | None, Field(description="bucket for runs; `NAMESPACE/hftransfer-runs` unless given")] = (
        None
    )


class JobsLauncher(Elsewhere):
    """Start a job that trains in a folder of a bucket; who follows it writes its events into the run's folder here."""

    name = "jobs"
    about = "Hugging Face Jobs: machines of the Hub, paid by the minute"
    needs = "a token that may write and start jobs (HF_TOKEN, or hf auth login), and credit; a bucket is made"
    Options = JobsOptions
    least, most = 2.0, 30.0

    def __init__(self, options: JobsOptions = JobsOptions()) -> None:  # noqa: B008
        super().__init__()
        self._options = options
        self.expected: str | None = None  # what was said of time and cost before the start
        self._followed: set[Path] = set()  # runs whose log is being read in this process

    @property
    def options(self) -> JobsOptions:
        """What a job is told."""
        return self._options

    def told(self, values: Mapping[str, Any]) -> JobsLauncher:
        """Return a launcher with these options."""
        return JobsLauncher(building.build_section(JobsOptions, values))

    @property
    def usual_processes(self) -> int:
        """One for each GPU, which the names of machines tell."""
        found = re.search(r"x(\d+)$", self.options.flavor)
        return int(found[1]) if found else 1

    @property
    def estimates(self) -> bool:
        """Whether the time of a run must be known before it starts."""
        return self.options.minutes is None

    def foreseen(self, seconds: float) -> tuple[JobsLauncher, str]:
        """Return a launcher that gives a run twice this time, and time and cost in words."""
        minutes = max(seconds / 60, 1.0)
        placed = self.told({**self.options.model_dump(), "minutes": max(2 * minutes, 10.0)})
        placed.expected = f"about {minutes:.0f} min, {self.price(minutes)}"
        return placed, f"{placed.expected} on {self.options.flavor}"

    def price(self, minutes: float) -> str:
        """Return what so many minutes cost, by the Hub's own list; UserError for a machine that is not on it."""
        found = {one.name: one for one in self._api().list_jobs_hardware()}
        if self.options.flavor not in found:
            from hftransfer.errors import unknown

            raise unknown("machine (--place flavor=...)", self.options.flavor, found)
        return f"{minutes * found[self.options.flavor].unit_cost_usd:.2f} USD"

    def missing(self) -> list[str]:
        """Return whether a token is missing."""
        from huggingface_hub import get_token

        return [] if get_token() else ["no token: set HF_TOKEN, or run hf auth login"]

    def check(self, run: Run, processes: int = 1) -> None:
        """Raise UserError without a token, without a longest time, and for a run that goes on."""
        for words in self.missing():
            raise UserError("a token is needed to start a job", words, "Then try again.")
        if self.options.minutes is None:
            raise UserError(
                "the longest time of the job is needed", "none was estimated", "Set --place minutes=...; it is paid "
                "for the minutes that it takes.",
            )  # fmt: skip
        self.require_idle(run)

    def start(
        self, run: Run, resume: bool = False, processes: int = 1, environment: Mapping[str, str] | None = None
    ) -> None:
        """Send the run's folder and what its configuration names, and start a job there."""
        from huggingface_hub import Volume

        self.check(run, processes)
        api, chosen = self._api(environment), self.options
        namespace = chosen.namespace or str(api.whoami()["name"])
        bucket = self._bucket(chosen.bucket or f"{namespace}/hftransfer-runs", str(api.token))
        label = run.launch().get("label") or f"{re.sub(r'[^A-Za-z0-9.-]+', '-', run.name)[:40]}-{secrets.token_hex(4)}"
        command = ["bash", "-c", self.job_script(label, processes, resume)]
        note = {
            "launcher": self.name, "options": chosen.model_dump(exclude_defaults=True), "processes": processes,
            "command": ["hf", "jobs", "run", "--flavor", chosen.flavor, chosen.image, "..."], "label": label,
            "namespace": namespace, "bucket": bucket.name,
            **({} if self.expected is None else {"foreseen": self.expected}),
        }  # fmt: skip
        write_text(neutral(run), NEUTRAL)
        bucket.make()
        self._send(run, bucket, label)
        # before the job is there: should this process die now, the job is found by its label
        write_text(run.launch_path, json.dumps({**note, "time": round(time.time(), 3)}, indent=1))
        (run.folder / SEEN).unlink(missing_ok=True)
        job = api.run_job(
            image=chosen.image, command=command, flavor=chosen.flavor, timeout=f"{int(60 * (chosen.minutes or 0))}s",
            env={MARK: f"{MOUNT}/{label}", PROCESSES: str(processes), "PYTHONUNBUFFERED": "1"},
            secrets={"HF_TOKEN": str(api.token)}, labels={"app": "hftransfer", "run": label}, namespace=namespace,
            volumes=[Volume(type="bucket", source=bucket.name, mount_path=MOUNT)],
        )  # fmt: skip
        write_text(run.launch_path, json.dumps({**note, "job": job.id, "time": round(time.time(), 3)}, indent=1))
        run.event("launched", command=note["command"], processes=processes)
        self.forget(run)

    def job_script(self, label: str, processes: int, resume: bool) -> str:
        """Return what the job runs: it installs, trains in the run's folder, and hands the end of the job on."""
        place = f"{MOUNT}/{label}"
        flags = shlex.join(launch_flags(processes, 1, Path(place) / "accelerate.yaml"))
        setup = self.options.setup or f"pip install -q {shlex.join(pins())}"
        # the group is told to end, not accelerate alone, which would leave its trainers behind
        return f"""{setup} || exit 1
export PYTHONPATH={place}.code
set -m
( trap "" TERM; export TORCHELASTIC_SIGNALS_TO_HANDLE=SIGHUP
  exec python -m accelerate.commands.launch {flags} --main_process_port 0 \\
  {place}.code/hftransfer/train.py --config {place}/config.yaml {"--resume" if resume else ""} ) &
child=$!
set +m
trap 'kill -TERM -- -$child' TERM
wait $child; code=$?
while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
exit $code"""

    def ask(self, run: Run) -> Standing | None:
        """Ask the Hub about the run's job; what one that ended has left is brought back, once."""
        note = run.launch()
        if note.get("launcher") != self.name:
            return Standing(False, False, "never started")
        try:
            job = self._job(note)
        except Exception:  # no connection, or a Hub that is busy: both pass
            return None
        if job is None:
            return Standing(False, False, "never started")
        stage, words = stage_of(job), job.status.message or ""
        if stage in ENDED and run.folder not in self._followed:
            with contextlib.suppress(Exception):  # it is tried again by whoever asks next
                self.collect(run)
        said = f"{stage} ({words})" if words else stage
        return Standing(stage not in ENDED, stage == "SCHEDULING", said)

    def follow(self, run: Run, cursor: int = 0) -> Iterator[Event]:
        """Yield the run's events as the job's log brings them, and what it waits for; a log that is cut is read on."""
        said, listener, due = "", None, 0.0
        self._followed.add(run.folder)
        try:
            while True:
                found = self.standing(run)
                if listener is None or (not listener.is_alive() and time.monotonic() > due):
                    listener = threading.Thread(target=self._listen, args=(run, True), daemon=True)
                    listener.start()
                    due = time.monotonic() + self.least
                if not found.alive:
                    listener.join(GRACE)
                    self.collect(run)
                events, cursor = self.events(run, cursor)
                if found.waits and found.words != said:
                    said = found.words
                    yield {"type": "notice", "time": round(time.time(), 3), "message": f"waiting: {said}"}
                yield from events
                if not found.alive:
                    return
                time.sleep(POLL)
        finally:
            self._followed.discard(run.folder)

    def stop(self, run: Run, grace: float = GRACE) -> Ending:
        """Cancel the job, which is told to end before it is killed, and bring back what it has left."""
        if not self.standing(run, now=True).alive:
            return "gone"
        note = run.launch()
        waited = self.standing(run).waits
        job = self._job(note)
        if job is None:
            return "gone"
        self._api().cancel_job(job_id=job.id, namespace=note["namespace"])
        end = time.monotonic() + grace
        while self.standing(run, now=True).alive and time.monotonic() < end:
            time.sleep(0.5)
        self.collect(run)
        self.forget(run)
        if run.status().state in ("running", "killed"):
            message = "taken out of the queue" if waited else "stopped before it could say more"
            run.event("stopped", message=message, step=run.status().step)
        return "stopped"

    def outcome(self, run: Run) -> Outcome:
        """Tell how a run ended; the Hub knows why when the run could not say it."""
        self.collect(run)
        found = super().outcome(run)
        if found.state != "killed":
            return found
        return Outcome(found.state, f"the job ended: {self.standing(run, now=True).words}", False, found.log)

    def collect(self, run: Run) -> None:
        """Bring back what an ended job has left: the rest of its log, and the files of the run's folder."""
        note = run.launch()
        if note.get("launcher") != self.name or self._seen(run).get("collected"):
            return
        job = self._job(note)
        if job is None or stage_of(job) not in ENDED:
            return
        self._listen(run, False)
        bucket = self._bucket(note["bucket"], str(self._api().token))
        bucket.bring(note["label"], run.folder, OWN)
        write_text(run.folder / SEEN, json.dumps({**self._seen(run), "collected": True}))
        if job.durations is not None and job.durations.running_secs:
            minutes = job.durations.running_secs / 60
            foreseen = f"; {note['foreseen']} was foreseen" if "foreseen" in note else ""
            with contextlib.suppress(Exception):
                run.event("notice", message=f"the job took {minutes:.1f} min, {self.price(minutes)}{foreseen}")

    def _listen(self, run: Run, follow: bool) -> None:
        """Write what the job's log has beyond what was read into the run's folder: events, and the other lines."""
        note = run.launch()
        known = int(self._seen(run).get("lines", 0))
        with contextlib.suppress(Exception):  # a stream that was cut: whoever follows, or asks next, reads on
            lines = self._api().fetch_job_logs(job_id=note["job"], namespace=note["namespace"], follow=follow)
            for number, line in enumerate(lines):
                if number < known:
                    continue
                event = line.startswith(PREFIX)
                _append(run.events_path if event else run.log_path, line.removeprefix(PREFIX))
                write_text(run.folder / SEEN, json.dumps({**self._seen(run), "lines": number + 1}))

    def _send(self, run: Run, bucket: Bucket, label: str) -> None:
        """Send the run's folder with its configuration as it is there, the inputs that it names, and this package."""
        tree = run.config().to_dict()
        tree["output"] = f"{MOUNT}/{label}"
        for name in INPUTS:
            section, _, key = name.rpartition(".")
            holder = tree[section] if section else tree
            value = holder[key]
            if isinstance(value, str) and not value.startswith("sample:") and Path(value).expanduser().exists():
                source = Path(value).expanduser().absolute()
                there = f"{label}.inputs/{name}"
                bucket.send(source, f"{there}/{source.name}" if source.is_dir() else there)
                holder[key] = f"{MOUNT}/{there}/{source.name}"
        bucket.send(Path(hftransfer.__file__).parent, f"{label}.code/hftransfer", ["*.pyc"])
        bucket.send(run.folder, label, ["config.yaml", "launch.json", SEEN, "console.log", ".writer.lock"])
        config = RunConfig.model_validate(tree)
        folder = run.folder / ".there"
        folder.mkdir(exist_ok=True)
        write_text(folder / "config.yaml", config.to_yaml())
        bucket.send(folder / "config.yaml", label)
        (folder / "config.yaml").unlink()
        folder.rmdir()

    def _job(self, note: Mapping[str, Any]) -> Any:
        """Return the run's job, by its number, or by its label where this machine has not noted that."""
        api = self._api()
        if note.get("job"):
            return api.inspect_job(job_id=note["job"], namespace=note["namespace"])
        labels = {"app": "hftransfer", "run": note["label"]}
        return next(iter(api.list_jobs(labels=labels, namespace=note["namespace"])), None)

    def _seen(self, run: Run) -> dict[str, Any]:
        return read_json(run.folder / SEEN)

    def _api(self, environment: Mapping[str, str] | None = None) -> Any:
        from huggingface_hub import HfApi, get_token

        return HfApi(token=(environment or {}).get("HF_TOKEN") or get_token())

    def _bucket(self, name: str, token: str) -> Bucket:
        return Bucket(name, token)


def stage_of(job: Any) -> str:
    """Return where a job stands: the Hub's own word."""
    return str(job.status.stage).rpartition(".")[2]


def pins() -> list[str]:
    """Return what a job installs: what this package needs, in the versions of this machine."""
    try:
        needed = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            "an installed hftransfer is needed, to tell what a job installs", "this one runs from a folder",
            "Run: pip install -e . in it; or say how: --place setup=...",
        ) from error  # fmt: skip
    found = []
    for requirement in needed:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            if not NOT_NEEDED.search(requirement) and name != DISTRIBUTION:
                found.append(f"{name}=={importlib.metadata.version(name).partition('+')[0]}")
    return sorted(set(found))


def _append(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, f"{line.rstrip()}\n".encode())
    finally:
        os.close(descriptor)


LAUNCHER = JobsLauncher()
