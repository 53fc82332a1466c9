"""Runs on a cluster: sbatch starts `accelerate launch` on every node of the job, and SLURM may start it again."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from hftransfer.config import Count, Section, building
from hftransfer.errors import UserError
from hftransfer.launchers._elsewhere import Elsewhere, Standing, handed_on
from hftransfer.launchers.base import GRACE, Ending, Outcome
from hftransfer.launchers.local import NEUTRAL, PROCESSES, SCRIPT, launch_flags, neutral
from hftransfer.runs import MARK, Run, write_text

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "srun")
ASKING = 20.0  # seconds that a controller gets for an answer
GONE = "Invalid job id"  # what squeue says of a job that ended long ago
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED")
STOPPING = "slurm.stop"  # in a run's folder: its job was asked to end, and is not to be queued again


class SlurmOptions(Section):
    """What sbatch is told of a run."""

    partition: Annotated[str | None, Field(description="partition; the cluster's default unless given")] = None
    account: Annotated[str | None, Field(description="account that is charged")] = None
    qos: Annotated[str | None, Field(description="quality of service")] = None
    constraint: Annotated[str | None, Field(description="features that a node must have")] = None
    time: Annotated[str | None, Field(description="longest time, as sbatch reads it: `4:00:00`")] = None
    nodes: Annotated[Count, Field(description="machines")] = 1
    gpus: Annotated[int, Field(ge=0, description="GPUs of each machine")] = 0
    cpus: Annotated[Count | None, Field(description="cores of each machine")] = None
    memory: Annotated[str | None, Field(description="memory of each machine: `32G`")] = None
    ahead: Annotated[Count, Field(description="seconds before the time is over at which a checkpoint is made")] = 300
    requeue: Annotated[
        bool, Field(description="go on in a new turn when the time is over or the job is preempted")
    ] = True
    setup: Annotated[str | None, Field(description="line of shell that the job begins with: `module load cuda`")] = (
        None
    )
    python: Annotated[str | None, Field(description="Python of the nodes; this one unless given")] = None


class SlurmLauncher(Elsewhere):
    """Hand a run to SLURM; its folder lies where every node sees it, and so do model and data."""

    name = "slurm"
    about = "a cluster that SLURM manages; the run's folder is shared with its nodes"
    needs = "sbatch, squeue, scancel and scontrol on the path; one folder, and one Python, that all nodes see"
    Options = SlurmOptions

    def __init__(self, options: SlurmOptions = SlurmOptions(), script: Path = SCRIPT) -> None:  # noqa: B008
        self._options, self.script = options, script

    @property
    def options(self) -> SlurmOptions:
        """What sbatch is told."""
        return self._options

    @property
    def usual_processes(self) -> int:
        """One for each GPU, or for each machine without any."""
        return self.options.nodes * max(1, self.options.gpus)

    def told(self, values: Mapping[str, Any]) -> SlurmLauncher:
        """Return a launcher with these options."""
        return SlurmLauncher(building.build_section(SlurmOptions, values), self.script)

    def missing(self) -> list[str]:
        """Return which of SLURM's commands are not here."""
        absent = [name for name in COMMANDS if shutil.which(name) is None]
        return [f"not on the path: {', '.join(absent)}"] if absent else []

    def check(self, run: Run, processes: int = 1) -> None:
        """Raise UserError for commands that are missing, numbers that do not fit, and what only a token could do."""
        chosen = self.options
        for words in self.missing():
            raise UserError(
                "SLURM's commands are needed", words, "Run it on the cluster's login node, or leave --on out."
            )
        if processes < 1 or processes % chosen.nodes:
            raise UserError(
                f"a number of processes that {chosen.nodes} nodes share evenly is needed", f"found {processes}",
                f"Set --processes {self.usual_processes}.",
            )  # fmt: skip
        limit = seconds_of(chosen.time)
        if limit is not None and limit < 2 * chosen.ahead:
            raise UserError(
                f"a time of at least {2 * chosen.ahead} s is needed: a checkpoint is made {chosen.ahead} s early",
                f"found {chosen.time}", "Set --place time=... longer, or --place ahead=... shorter.",
            )  # fmt: skip
        hub = run.config().hub
        if (hub.push or hub.checkpoints) and not _stored_token():
            raise UserError(
                "a token that the nodes can read is needed to publish", "none is stored, and SLURM would write one of "
                "the environment to the controller's disk", "Run: hf auth login; or publish afterwards.",
            )  # fmt: skip
        self.require_idle(run)

    def start(
        self, run: Run, resume: bool = False, processes: int = 1, environment: Mapping[str, str] | None = None
    ) -> None:
        """Submit the run's job; SLURM says at once when it never could run."""
        self.check(run, processes)
        write_text(neutral(run), NEUTRAL)
        write_text(script_of(run), self.job_script(run, resume, processes))
        (run.folder / STOPPING).unlink(missing_ok=True)
        command = self.command(run)
        given = os.environ if environment is None else environment
        plain = handed_on(given) | {name: value for name, value in given.items() if name.startswith("SLURM_CONF")}
        done = subprocess.run(command, env=plain, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise UserError(
                "a job that SLURM accepts is needed", " ".join(done.stderr.split()), "Change --place NAME=VALUE; see: "
                "hftransfer where",
            )  # fmt: skip
        job = done.stdout.strip().partition(";")[0]
        options = self.options.model_dump(exclude_defaults=True)
        note = {"launcher": self.name, "options": options, "processes": processes, "command": command, "job": job}
        write_text(run.launch_path, json.dumps({**note, "time": round(time.time(), 3)}, indent=1))
        run.event("launched", command=command, processes=processes)
        self.forget(run)

    def command(self, run: Run) -> list[str]:
        """Return the command that submits the job."""
        chosen = self.options
        wanted = {
            "job-name": f"hftransfer-{run.name}", "output": str(run.log_path), "open-mode": "append",
            "nodes": chosen.nodes, "ntasks-per-node": 1, "partition": chosen.partition, "account": chosen.account,
            "qos": chosen.qos, "constraint": chosen.constraint, "time": chosen.time,
            "gpus-per-node": chosen.gpus or None, "cpus-per-task": chosen.cpus, "mem": chosen.memory,
            "signal": f"TERM@{chosen.ahead}",
        }  # fmt: skip
        flags = [f"--{name}={value}" for name, value in wanted.items() if value is not None]
        return ["sbatch", "--parsable", *flags, "--requeue" if chosen.requeue else "--no-requeue", str(script_of(run))]

    def job_script(self, run: Run, resume: bool, processes: int) -> str:
        """Return the job: an `accelerate launch` on each node, and another turn after one that ran out of time."""
        chosen = self.options
        python = chosen.python or sys.executable
        flags = shlex.join(launch_flags(processes, chosen.nodes, neutral(run)))
        cores = f" --cpus-per-task={chosen.cpus}" if chosen.cpus else ""  # srun does not take it from sbatch
        again = {"type": "launched", "time": 0, "command": ["scontrol", "requeue", "0"], "processes": processes}
        line = json.dumps(again).replace('"time": 0', '"time": %s').replace('"requeue", "0"', '"requeue", "%s"')
        return f"""#!/bin/bash
# written by hftransfer; SLURM runs it, and runs it again after a requeue: then the run goes on from its checkpoint
{chosen.setup or ":"}
export {MARK}={shlex.quote(os.path.realpath(run.folder))} {PROCESSES}={processes}
# SIGTERM is for the trainers alone: torch's launcher would end them after its own patience
export TORCHELASTIC_SIGNALS_TO_HANDLE=SIGHUP
resume={"--resume" if resume else ""}
[ "${{SLURM_RESTART_COUNT:-0}}" -gt 0 ] && resume=--resume
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(scontrol show node "$first" --oneliner | sed -n 's/.* NodeAddr=\\([^ ]*\\).*/\\1/p')
export HFTRANSFER_ADDRESS=${{address:-$first}} HFTRANSFER_PORT=$((20000 + SLURM_JOB_ID % 20000))
srun --export=ALL --ntasks={chosen.nodes} --ntasks-per-node=1 --kill-on-bad-exit=1{cores} bash -c '
trap "" TERM
exec "$0" -m accelerate.commands.launch --machine_rank "$SLURM_NODEID" --main_process_ip "$HFTRANSFER_ADDRESS" \\
  --main_process_port "$HFTRANSFER_PORT" "$@"' {shlex.quote(python)} {flags} \\
  {shlex.quote(str(self.script))} --config {shlex.quote(str(run.config_path))} $resume
code=$?
events={shlex.quote(str(run.events_path))}
if {"true" if chosen.requeue else "false"} && [ ! -e {shlex.quote(str(run.folder / STOPPING))} ] \\
  && tail -n 1 "$events" | grep -q '^{{"type": "stopped"'; then
  printf '{line}\\n' "$(date +%s)" "$SLURM_JOB_ID" >> "$events"
  scontrol requeue "$SLURM_JOB_ID" && sleep 60
fi
exit $code
"""

    def ask(self, run: Run) -> Standing | None:
        """Ask squeue about the run's job."""
        job = job_of(run)
        if job is None:
            return Standing(False, False, "never submitted")
        done = _asked("squeue", "--noheader", f"--jobs={job}", "--format=%T (%r)")
        if done is None:
            return None
        if done.returncode:
            return Standing(False, False, "ended") if GONE in done.stderr else None
        words = done.stdout.strip().partition("\n")[0]
        return Standing(bool(words), words.startswith(WAITING), words.replace(" (None)", "") or "ended")

    def stop(self, run: Run, grace: float = GRACE) -> Ending:
        """Ask for a checkpoint, end the job after `grace` seconds; one that waits is taken out at once."""
        job = job_of(run)
        if job is None or not self.standing(run, now=True).alive:
            return "gone"
        write_text(run.folder / STOPPING, "")
        listens, waited = _listens(run), self.standing(run).waits
        end = time.monotonic() + (grace if listens else 0)
        if listens and grace:
            _asked("scancel", "--signal=TERM", job)  # reaches the steps, not the script that waits for them
        while self.standing(run, now=True).alive and time.monotonic() < end:
            time.sleep(0.5)
        killed = self.standing(run).alive
        if killed:
            _asked("scancel", job)
            limit = time.monotonic() + GRACE
            while self.standing(run, now=True).alive and time.monotonic() < limit:
                time.sleep(0.5)
        if run.status().state in ("running", "killed"):
            late = f"killed: it did not end within {grace:.0f} s" if listens else "stopped before it could say more"
            run.event("stopped", message="taken out of the queue" if waited else late, step=run.status().step)
        return "killed" if killed and listens else "stopped"

    def outcome(self, run: Run) -> Outcome:
        """Tell how a run ended; SLURM knows why when the run could not say it."""
        found = super().outcome(run)
        if found.state != "killed":
            return found
        done = _asked("scontrol", "show", "job", job_of(run) or "", "--oneliner")
        said = re.search(r"JobState=(\S+) Reason=(\S+)", done.stdout) if done is not None else None
        if said is None or said[1] in ("COMPLETED", "FAILED"):
            return found
        reason = "" if said[2] == "None" else f" ({said[2]})"
        return Outcome(found.state, f"SLURM ended the job: {said[1]}{reason}", found.user_error, found.log)


def script_of(run: Run) -> Path:
    """Return the job's script in the run's folder."""
    return run.folder / "slurm.sh"


def job_of(run: Run) -> str | None:
    """Return the number of the run's job."""
    job: str | None = run.launch().get("job")
    return job if job and re.fullmatch(r"\d+", job) else None


def seconds_of(time: str | None) -> float | None:
    """Return a time as sbatch reads it (`90`, `1:30:00`, `1-12`) in seconds; None for another form."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time or "")
    if found is None:
        return None
    days, *rest = found.groups()
    parts = [int(part) for part in rest if part is not None]
    if days is None and len(parts) < 3:
        parts = [0, *parts, *([0] * (2 - len(parts)))]
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return 86400 * int(days or 0) + 3600 * hours + 60 * minutes + seconds


def _listens(run: Run) -> bool:
    """Tell whether a trainer of the present turn has said that it is there: only then a signal is a wish."""
    turns = [event["type"] for event in run.events()[0] if event["type"] in ("launched", "process")]
    return bool(turns) and turns[-1] == "process"


def _stored_token() -> bool:
    from huggingface_hub import constants

    return Path(constants.HF_TOKEN_PATH).is_file()


def _asked(*command: str) -> subprocess.CompletedProcess[str] | None:
    """Run one of SLURM's commands; None where it is missing or does not answer in time."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=ASKING, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None


LAUNCHER = SlurmLauncher()
