"""SLURM by stand-ins for its commands: what sbatch is told, how a job waits, ends, is stopped and starts again."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hftransfer.config import build
from hftransfer.errors import ConfigError, UserError
from hftransfer.launchers import _elsewhere, launcher, of, slurm
from hftransfer.launchers.slurm import SlurmLauncher, seconds_of
from hftransfer.runs import Run

SECRET = "hf_" + "x" * 34

# one job at a time: its state is in files of a folder, its script runs as a process
STANDINS = {
    "sbatch": """#!/bin/bash
printf '%s\\n' "$@" > "$CLUSTER/words"; env > "$CLUSTER/environment"
[ -e "$CLUSTER/refuse" ] && { echo "sbatch: error: invalid partition specified: moon" >&2; exit 1; }
for log in "$@"; do case $log in --output=*) out=${log#--output=};; esac; done
echo PENDING > "$CLUSTER/state"; echo 7
(
while [ -e "$CLUSTER/full" ]; do sleep 0.05; [ -e "$CLUSTER/state" ] || exit; done
restarts=0
while :; do
  rm -f "$CLUSTER/again"; echo RUNNING > "$CLUSTER/state"
  SLURM_JOB_ID=7 SLURM_NODEID=0 SLURM_JOB_NODELIST=n1 SLURM_RESTART_COUNT=$restarts bash "${@: -1}" >> "$out" 2>&1
  [ -e "$CLUSTER/again" ] || break
  restarts=$((restarts + 1))
done
rm -f "$CLUSTER/state"
) > /dev/null 2>&1 &
""",
    "squeue": """#!/bin/bash
[ -e "$CLUSTER/down" ] && { echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }
[ -e "$CLUSTER/state" ] || { echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; }
[ "$(cat "$CLUSTER/state")" = PENDING ] && echo "PENDING (Resources)" || echo "$(cat "$CLUSTER/state") (None)"
""",
    "scancel": """#!/bin/bash
case $1 in --signal=TERM) kill -TERM "$(cat "$CLUSTER/trainer")";; *) rm -f "$CLUSTER/state";; esac
""",
    "scontrol": """#!/bin/bash
case $1 in hostnames|show) [ "$2" = hostnames ] && echo n1; [ "$2" = node ] && echo "NodeName=n1 NodeAddr=10.0.0.1 x";
[ "$2" = job ] && echo "JobId=7 JobState=TIMEOUT Reason=TimeLimit x";; requeue) touch "$CLUSTER/again"; exit 1;; esac
exit 0
""",
    "srun": """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
"$@"
""",
}
# what stands for `python -m accelerate.commands.launch ... train.py --config PATH [--resume]`
TRAINER = """#!{python}
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from hftransfer.runs import Run
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
cluster = Path(os.environ["CLUSTER"])
(cluster / "trainer").write_text(str(os.getpid()))
words = sys.argv
(cluster / "launch").write_text("\\n".join(words))
run = Run(Path(words[words.index("--config") + 1]).parent)
print("a line of the log", flush=True)
run.event("process", world_size=1)
if (cluster / "dies").exists():
    os.kill(os.getpid(), signal.SIGKILL)
for step in range(1, 3 if "--resume" in words else 2000):
    run.event("step", step=step, max_steps=2000)
    time.sleep(0.02)
    if asked:
        run.event("stopped", message="asked to", step=step)
        sys.exit(1)
run.event("done", seconds=1.0)
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put stand-ins for SLURM's commands on the path."""
    folder = tmp_path / "cluster"
    (folder / "bin").mkdir(parents=True)
    root = str(Path(slurm.__file__).parents[2])
    for name, text in {**STANDINS, "trainer.py": TRAINER.format(python=sys.executable, root=root)}.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("HFTRANSFER_CLUSTER", str(folder))
    for name in STANDINS:  # handed on are names that begin with HFTRANSFER_ alone
        path = folder / "bin" / name
        path.write_text(path.read_text().replace("#!/bin/bash\n", f"#!/bin/bash\nexport CLUSTER={folder}\n"))
    monkeypatch.setattr(SlurmLauncher, "least", 0.05)
    yield folder
    (folder / "state").unlink(missing_ok=True)  # what waits sees it and ends
    with_pid = folder / "trainer"
    if with_pid.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(with_pid.read_text()), signal.SIGKILL)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(build({"task": "t", "model": "m", "data": {"source": "x"}}), tmp_path / "runs" / "a run")


@pytest.fixture
def place(cluster: Path) -> SlurmLauncher:
    found = launcher("slurm", [f"python={cluster / 'bin' / 'trainer.py'}", "partition=gpu"])
    assert isinstance(found, SlurmLauncher)
    return found


def until(run: Run, type: str) -> None:
    end = time.monotonic() + 20
    while not any(event["type"] == type for event in run.events()[0]):
        assert time.monotonic() < end, run.events()[0]
        time.sleep(0.02)


def test_options_are_the_places_own_and_checked() -> None:
    found = launcher("slurm", ["nodes=2", "gpus=4", "time=1:30:00"])
    assert found.usual_processes == 8 and found.options.model_dump(exclude_defaults=True) == {
        "nodes": 2, "gpus": 4, "time": "1:30:00",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="partition"):
        launcher("slurm", ["partitoin=gpu"])
    with pytest.raises(ConfigError, match="greater than or equal to 1"):
        launcher("slurm", {"nodes": 0})
    with pytest.raises(ConfigError, match="no such option"):
        launcher("local", ["nodes=2"])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30", 90), ("1:30:00", 5400), ("2-0", 172800), ("1-2:30", 95400), ("x", None), (None, None)],
)
def test_times_are_read_as_sbatch_reads_them(text: str | None, seconds: int | None) -> None:
    assert seconds_of(text) == seconds


def test_what_cannot_work_is_said_before(cluster: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"2 nodes share evenly is needed; found 3. Set --processes 2"):
        launcher("slurm", ["nodes=2"]).check(run, 3)
    with pytest.raises(UserError, match="600 s is needed"):
        launcher("slurm", ["time=8"]).check(run)
    tree = {"task": "t", "model": "m", "data": {"source": "x"}, "hub": {"repo": "me/it", "push": True}}
    with pytest.raises(UserError, match="hf auth login"):
        launcher("slurm").check(Run.create(build(tree), run.folder.parent / "pushed"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert "sbatch" in launcher("slurm").missing()[0]
    with pytest.raises(UserError, match="SLURM's commands are needed"):
        launcher("slurm").check(run)


def test_a_run_goes_through_the_queue(
    place: SlurmLauncher, cluster: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("HF_HUB_CACHE", "/elsewhere/cache")
    (cluster / "full").touch()
    place.start(run, resume=True)
    words = (cluster / "words").read_text()
    assert "--partition=gpu" in words and "--signal=TERM@300" in words and "--requeue" in words
    given = (cluster / "environment").read_text()
    assert "HF_HUB_CACHE=/elsewhere/cache" in given and SECRET not in given
    assert run.launch()["job"] == "7" and run.status().state == "running" and of(run).options == place.options
    with pytest.raises(UserError, match="is running"):
        place.start(run)
    seen = []
    for event in place.follow(run):
        seen.append(event)
        if event.get("message") == "waiting: PENDING (Resources)":
            (cluster / "full").unlink()
    kinds = [event["type"] for event in seen]
    assert kinds.index("launched") < kinds.index("done") and "notice" in kinds
    assert place.outcome(run).exit_code == 0 and place.log_tail(run) == ["a line of the log"]
    launched = (cluster / "launch").read_text().split("\n")
    assert launched[1:7] == [
        "-m", "accelerate.commands.launch", "--machine_rank", "0", "--main_process_ip", "10.0.0.1",
    ]  # fmt: skip
    assert not any(SECRET in file.read_text() for file in run.folder.rglob("*") if file.is_file())


def test_a_turn_that_ends_is_followed_by_another(place: SlurmLauncher, cluster: Path, run: Run) -> None:
    place.start(run)
    until(run, "step")
    subprocess.run(["scancel", "--signal=TERM", "7"], check=True)  # as SLURM does when the time is nearly over
    kinds = [event["type"] for event in place.follow(run)]
    assert kinds.count("process") == 2 and kinds.count("launched") == 2
    assert (cluster / "launch").read_text().endswith("--resume")
    assert run.status().state == "done"


def test_a_run_that_is_stopped_is_not_queued_again(place: SlurmLauncher, cluster: Path, run: Run) -> None:
    place.start(run)
    until(run, "step")
    assert place.stop(run) == "stopped" and run.status().message == "asked to"
    assert not place.is_alive(run) and place.stop(run) == "gone"


def test_a_run_that_waits_is_taken_out(place: SlurmLauncher, cluster: Path, run: Run) -> None:
    (cluster / "full").touch()
    place.start(run)
    assert place.stop(run) == "stopped" and run.status().message == "taken out of the queue"


def test_a_refused_job_is_the_users_to_mend(place: SlurmLauncher, cluster: Path, run: Run) -> None:
    (cluster / "refuse").touch()
    with pytest.raises(UserError, match="invalid partition specified: moon"):
        place.start(run)
    assert run.status().state == "created" and not run.launch()


def test_slurm_says_why_a_job_ended_without_a_word(place: SlurmLauncher, cluster: Path, run: Run) -> None:
    (cluster / "dies").touch()
    place.start(run)
    [*place.follow(run)]
    found = place.outcome(run)
    assert found.state == "killed" and found.message == "SLURM ended the job: TIMEOUT (TimeLimit)"


def test_a_controller_that_does_not_answer_ends_no_run(place: SlurmLauncher, cluster: Path, run: Run) -> None:
    (cluster / "full").touch()
    place.start(run)
    assert place.is_alive(run)
    (cluster / "down").touch()
    assert place.standing(run, now=True).alive and SlurmLauncher().is_alive(run)


def test_questions_become_rarer_while_nothing_changes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = [0.0], []
    monkeypatch.setattr(_elsewhere.time, "monotonic", lambda: clock[0])

    class Counted(SlurmLauncher):
        def ask(self, run: Run) -> _elsewhere.Standing:
            asked.append(clock[0])
            return _elsewhere.Standing(True, False, "RUNNING")

    place = Counted()
    for _ in range(1000):
        assert place.is_alive(run)
        clock[0] += 0.2
    pauses = [right - left for left, right in itertools.pairwise(asked)]
    assert pauses[0] == pytest.approx(1, abs=0.21) and pauses[-1] == pytest.approx(15, abs=0.21)
    assert all(right > left - 0.21 for left, right in itertools.pairwise(pauses))


def test_where_lists_places_with_what_each_needs(capsys: pytest.CaptureFixture[str]) -> None:
    from hftransfer import cli

    assert cli.main(["where"]) == 0
    assert "--place partition=..." in capsys.readouterr().out
    assert cli.main(["where", "--json"]) == 0
    found = {one["place"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found["local"]["missing"] == [] and found["slurm"]["options"]["ahead"]["default"] == 300
