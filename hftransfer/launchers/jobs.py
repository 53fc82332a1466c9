"""Runs on Hugging Face Jobs: the folder goes to a bucket, a job trains in it there, its log brings the events back."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from hftransfer.config import Count, Section, building
from hftransfer.errors import UserError, unknown
from hftransfer.events import PREFIX
from hftransfer.launchers._buckets import Bucket
from hftransfer.launchers._elsewhere import Elsewhere, Standing
from hftransfer.launchers._job_files import OWN, SEEN, append, network_of, pins, send, use_of
from hftransfer.launchers.base import GRACE, Ending, Outcome, in_words
from hftransfer.launchers.local import NEUTRAL, PROCESSES, launch_flags, neutral
from hftransfer.runs import MARK, SAVE_MINUTES, Run, read_json, write_text
from hftransfer.safety.identity import note_process

MOUNT = "/runs"  # where the bucket stands in a job
ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
BROKEN = ("CANCELED", "ERROR", "DELETED")
FIRST = "machine-0"  # the first of several machines, by this name in their network
USE = 10.0  # seconds between two words on how busy the machine is


class JobsOptions(Section):
    """What a job is told."""

    flavor: Annotated[str, Field(description="machine, as `hf jobs hardware` lists them")] = "cpu-basic"
    minutes: Annotated[
        float | None, Field(gt=0, description="longest time; twice the estimate unless given, which takes a check")
    ] = None
    nodes: Annotated[Count, Field(description="machines of that kind, in a network of their own")] = 1
    save_minutes: Annotated[
        float, Field(ge=0, description="minutes between two checkpoints, unless train.save_minutes says; 0: none")
    ] = 10
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
    _tokens: ClassVar[dict[Path, str]] = {}  # by the run's folder: whose token started it, or asked about it here
    _followed: ClassVar[set[Path]] = set()  # runs whose log is being read in this process

    def __init__(self, options: JobsOptions = JobsOptions(), token: str | None = None) -> None:  # noqa: B008
        self._options, self._token = options, token
        self.expected: str | None = None  # what was said of time and cost before the start

    @property
    def options(self) -> JobsOptions:
        """What a job is told."""
        return self._options

    def told(self, values: Mapping[str, Any]) -> JobsLauncher:
        """Return a launcher with these options."""
        return JobsLauncher(building.build_section(JobsOptions, values), self._token)

    def acting_as(self, token: str | None) -> JobsLauncher:
        """Return a launcher that starts and asks by this token."""
        return JobsLauncher(self.options, token)

    @property
    def usual_processes(self) -> int:
        """One for each GPU, which the names of machines tell, of every machine."""
        found = re.search(r"x(\d+)$", self.options.flavor)
        return self.options.nodes * (int(found[1]) if found else 1)

    @property
    def estimates(self) -> bool:
        """Whether the time of a run must be known before it starts."""
        return self.options.minutes is None

    def foreseen(self, seconds: float) -> tuple[JobsLauncher, str]:
        """Return a launcher that gives a run twice this time, and time and cost in words."""
        minutes = max(seconds / 60, 1.0)
        placed = self.told({**self.options.model_dump(), "minutes": max(2 * minutes, 10.0)})
        placed.expected = f"{in_words(seconds)}, {self.price(minutes)}"
        machines = f"{self.options.nodes} x " if self.options.nodes > 1 else ""
        return placed, f"{placed.expected} on {machines}{self.options.flavor}"

    def offers(self, seconds: float) -> list[str]:
        """Return what so much time costs on each machine of the Hub's list, the cheapest first."""
        found = sorted(self._api().list_jobs_hardware(), key=lambda one: one.unit_cost_usd)
        minutes = max(seconds / 60, 1.0)
        return [f"{in_words(seconds)}, {minutes * one.unit_cost_usd:.2f} USD on {one.name}" for one in found]

    def price(self, minutes: float, run: Run | None = None) -> str:
        """Return what so many minutes cost, by the Hub's own list; UserError for a machine that is not on it."""
        found = {one.name: one for one in self._api(run).list_jobs_hardware()}
        if self.options.flavor not in found:
            raise unknown("machine (--place flavor=...)", self.options.flavor, found)
        return f"{self.options.nodes * minutes * found[self.options.flavor].unit_cost_usd:.2f} USD"

    def missing(self) -> list[str]:
        """Return whether a token is missing."""
        from huggingface_hub import get_token

        return [] if self._token or get_token() else ["no token: set HF_TOKEN, or run hf auth login"]

    def check(self, run: Run, processes: int = 1) -> None:
        """Raise UserError without a token, without a longest time, and for a run that goes on."""
        for words in self.missing():
            raise UserError("a token is needed to start a job", words, "Then try again.")
        if self.options.minutes is None:
            raise UserError(
                "the longest time of the job is needed", "none was estimated", "Set --place minutes=...; it is paid "
                "for the minutes that it takes.",
            )  # fmt: skip
        if processes < 1 or processes % self.options.nodes:
            raise UserError(
                f"a number of processes that {self.options.nodes} machines share evenly is needed",
                f"found {processes}", f"Set --processes {self.usual_processes}.",
            )  # fmt: skip
        self.require_idle(run)

    def start(
        self, run: Run, resume: bool = False, processes: int = 1, environment: Mapping[str, str] | None = None
    ) -> None:
        """Send the run's folder and what its configuration names, and start a job there, or one for each machine."""
        self._tokens.pop(run.folder, None)
        if environment and environment.get("HF_TOKEN"):
            self._tokens[run.folder] = environment["HF_TOKEN"]
        self.check(run, processes)
        api, chosen = self._api(run), self.options
        namespace = chosen.namespace or str(api.whoami()["name"])
        bucket = self._bucket(chosen.bucket or f"{namespace}/hftransfer-runs", str(api.token))
        label = run.launch().get("label") or f"{re.sub(r'[^A-Za-z0-9.-]+', '-', run.name)[:40]}-{secrets.token_hex(4)}"
        note: dict[str, Any] = {
            "launcher": self.name, "options": chosen.model_dump(exclude_defaults=True), "processes": processes,
            "command": ["hf", "jobs", "run", "--flavor", chosen.flavor, chosen.image, "..."], "label": label,
            "namespace": namespace, "bucket": bucket.name,
            **({} if self.expected is None else {"foreseen": self.expected}),
        }  # fmt: skip
        write_text(neutral(run), NEUTRAL)
        # before the job is there: should this process die now, the job is found by its label; while it sends, it
        # stands for the job
        began = {**note, "time": round(time.time(), 3)}
        write_text(run.launch_path, json.dumps(began | note_process(), indent=1))
        run.event("launched", command=note["command"], processes=processes)
        (run.folder / SEEN).unlink(missing_ok=True)
        jobs: list[str] = []
        try:
            bucket.make()
            send(run, bucket, MOUNT, label)
            for machine in range(chosen.nodes):
                script = self.job_script(label, processes, resume, machine)
                jobs.append(self._submit(api, bucket, label, script, machine, namespace, processes))
        except BaseException as error:
            self._cancel(api, jobs, namespace)  # of several machines all work, or none is paid
            write_text(run.launch_path, json.dumps(began, indent=1))
            run.event("failed", message=str(error) or type(error).__name__, user_error=isinstance(error, UserError))
            raise
        note |= {"job": jobs[0], "others": jobs[1:], "time": round(time.time(), 3)}
        write_text(run.launch_path, json.dumps(note, indent=1))
        self.forget(run)

    def _submit(
        self, api: Any, bucket: Bucket, label: str, script: str, machine: int, namespace: str, processes: int
    ) -> str:
        from huggingface_hub import Volume

        chosen = self.options
        network = {}
        if chosen.nodes > 1:
            network = {"network_group": network_of(label), "network_aliases": [f"machine-{machine}"]}
        job = api.run_job(
            image=chosen.image, command=["bash", "-c", script], flavor=chosen.flavor,
            timeout=f"{int(60 * (chosen.minutes or 0))}s",
            env={
                MARK: f"{MOUNT}/{label}", PROCESSES: str(processes), "PYTHONUNBUFFERED": "1",
                **({SAVE_MINUTES: str(chosen.save_minutes)} if chosen.save_minutes else {}),
            },
            secrets={"HF_TOKEN": str(api.token)}, namespace=namespace,
            labels={"app": "hftransfer", "run": label, "machine": str(machine)},
            volumes=[Volume(type="bucket", source=bucket.name, mount_path=MOUNT)], **network,
        )  # fmt: skip
        return str(job.id)

    def _cancel(self, api: Any, jobs: Sequence[str], namespace: str) -> None:
        for job in jobs:
            with contextlib.suppress(Exception):  # one that has ended, or a Hub that is busy: their time ends them
                api.cancel_job(job_id=job, namespace=namespace)

    def job_script(self, label: str, processes: int, resume: bool, machine: int = 0) -> str:
        """Return what the job runs: it installs, trains in the run's folder, and hands the end of the job on."""
        place, nodes = f"{MOUNT}/{label}", self.options.nodes
        flags = shlex.join(launch_flags(processes, nodes, Path(place) / "accelerate.yaml"))
        meeting = "port=0\n"
        if nodes > 1:  # they start at about the same time, and find one another once all have
            port = 20000 + sum(map(ord, label)) % 20000
            meeting = f"""port={port}
until address=$(getent ahosts "$HF_NETWORK_GROUP_PREFIX{FIRST}" | sed -n '1s/ .*//p'); [ -n "$address" ]; do
  sleep 2
done
"""
            flags += f' --machine_rank {machine} --main_process_ip "$address"'
        setup = self.options.setup or f"pip install -q {shlex.join(pins())}"
        # the group is told to end, not accelerate alone, which would leave its trainers behind
        return f"""trap 'if [ -n "$!" ]; then kill -TERM -- -$!; else exit 143; fi' TERM
{setup} || exit 1
{meeting}export PYTHONPATH={place}.code
set -m
( trap "" TERM; export TORCHELASTIC_SIGNALS_TO_HANDLE=SIGHUP
  exec python -m accelerate.commands.launch {flags} --main_process_port $port \\
  {place}.code/hftransfer/train.py --config {place}/config.yaml {"--resume" if resume else ""} ) &
child=$!
set +m
wait $child; code=$?
while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
exit $code"""

    def ask(self, run: Run) -> Standing | None:
        """Ask the Hub about the run's job; what one that ended has left is brought back, once."""
        note = run.launch()
        if note.get("launcher") != self.name:
            return Standing(False, False, "never started")
        try:
            job = self._job(note, run)
            others = {one: stage_of(self._inspect(note, one, run)) for one in note.get("others", ())}
        except Exception:  # no connection, or a Hub that is busy: both pass
            return None
        if job is None:
            return Standing(False, False, "never started")
        stage, words = stage_of(job), job.status.message or ""
        goes_on = [one for one, at in others.items() if at not in ENDED]
        if stage in ENDED:
            self._cancel(self._api(run), goes_on, note["namespace"])
        elif broken := [at for at in others.values() if at in BROKEN]:
            # the first may wait for it for as long as its network library does, and is paid meanwhile
            self._cancel(self._api(run), [job.id, *goes_on], note["namespace"])
            words = f"another machine of it ended: {broken[0]}"
        if stage in ENDED and run.folder not in self._followed:
            with contextlib.suppress(Exception):  # it is tried again by whoever asks next
                self.collect(run)
        said = f"{stage} ({words})" if words else stage
        return Standing(stage not in ENDED, stage == "SCHEDULING", said)

    @contextlib.contextmanager
    def listening(self, run: Run) -> Iterator[Callable[[Standing], None]]:
        """Bring events, log and the machine's use here while somebody follows; a log that is cut is read on."""
        threads: dict[str, threading.Thread] = {}
        due = 0.0
        self._followed.add(run.folder)

        def begin(name: str, work: Callable[..., None], *words: Any) -> None:
            threads[name] = threading.Thread(target=work, args=(run, *words), daemon=True)
            threads[name].start()

        def look(found: Standing) -> None:
            nonlocal due
            if time.monotonic() >= due:
                due = time.monotonic() + self.least
                if "log" not in threads or not threads["log"].is_alive():
                    begin("log", self._listen, True)
                if found.alive and not found.waits and ("use" not in threads or not threads["use"].is_alive()):
                    begin("use", self._watch)
            if not found.alive:
                threads["log"].join(GRACE)
                self.collect(run)

        try:
            yield look
        finally:
            self._followed.discard(run.folder)

    def stop(self, run: Run, grace: float = GRACE) -> Ending:
        """Cancel the job, which is told to end before it is killed, and bring back what it has left."""
        if not self.standing(run, now=True).alive:
            return "gone"
        note = run.launch()
        waited = self.standing(run).waits
        job = self._job(note, run)
        if job is None:
            return "gone"
        api = self._api(run)
        api.cancel_job(job_id=job.id, namespace=note["namespace"])
        if waited:  # else the others end with the first: its checkpoint takes all of them
            self._cancel(api, note.get("others", ()), note["namespace"])
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
        job = self._job(note, run)
        if job is None or stage_of(job) not in ENDED:
            return
        self._listen(run, False)
        bucket = self._bucket(note["bucket"], str(self._api(run).token))
        size = bucket.size(note["label"], OWN)
        room = self.room(run, size)
        if size > room:
            if not self._seen(run).get("too_large"):
                found = f"{size / 1e6:,.0f} MB lie in {note['bucket']}/{note['label']}, and there is room for"
                run.event("warning", message=f"not brought back: {found} {max(0.0, room) / 1e6:,.0f} MB; make some")
                write_text(run.folder / SEEN, json.dumps({**self._seen(run), "too_large": True}))
            return
        bucket.bring(note["label"], run.folder, OWN)
        write_text(run.folder / SEEN, json.dumps({**self._seen(run), "collected": True}))
        if job.durations is not None and job.durations.running_secs:
            minutes = job.durations.running_secs / 60
            foreseen = f"; {note['foreseen']} was foreseen" if "foreseen" in note else ""
            with contextlib.suppress(Exception):
                run.event("notice", message=f"the job took {minutes:.1f} min, {self.price(minutes, run)}{foreseen}")

    def _listen(self, run: Run, follow: bool) -> None:
        """Write what the job's log has beyond what was read into the run's folder: events, and the other lines."""
        note = run.launch()
        known = int(self._seen(run).get("lines", 0))
        with contextlib.suppress(Exception):  # a stream that was cut: whoever follows, or asks next, reads on
            lines = self._api(run).fetch_job_logs(job_id=note["job"], namespace=note["namespace"], follow=follow)
            for number, line in enumerate(lines):
                if number < known:
                    continue
                event = line.startswith(PREFIX)
                append(run.events_path if event else run.log_path, line.removeprefix(PREFIX))
                write_text(run.folder / SEEN, json.dumps({**self._seen(run), "lines": number + 1}))

    def _watch(self, run: Run) -> None:
        """Write how busy the job's machine is into the run's events, now and then, as long as the job runs."""
        note, due = run.launch(), 0.0
        job = {"job_id": note["job"], "namespace": note["namespace"]}
        with contextlib.suppress(Exception):  # what is not known is not shown
            for found in self._api(run).fetch_job_metrics(**job, follow=True):
                if time.monotonic() >= due:
                    due = time.monotonic() + USE
                    run.event("machine", **use_of(found))

    def _job(self, note: Mapping[str, Any], run: Run) -> Any:
        """Return the run's first job, by its number, or by its label where this machine has not noted that."""
        if note.get("job"):
            return self._inspect(note, note["job"], run)
        labels = {"app": "hftransfer", "run": note["label"], "machine": "0"}
        return next(iter(self._api(run).list_jobs(labels=labels, namespace=note["namespace"])), None)

    def _inspect(self, note: Mapping[str, Any], job: str, run: Run) -> Any:
        return self._api(run).inspect_job(job_id=job, namespace=note["namespace"])

    def _seen(self, run: Run) -> dict[str, Any]:
        return read_json(run.folder / SEEN)

    def _api(self, run: Run | None = None) -> Any:
        from huggingface_hub import HfApi, get_token

        if run is not None and self._token:
            self._tokens[run.folder] = self._token
        return HfApi(token=(self._tokens.get(run.folder) if run else self._token) or get_token())

    def _bucket(self, name: str, token: str) -> Bucket:
        return Bucket(name, token)


def stage_of(job: Any) -> str:
    """Return where a job stands: the Hub's own word."""
    return str(job.status.stage).rpartition(".")[2]


LAUNCHER = JobsLauncher()
