"""The script of a run: accelerate launch hftransfer/train.py --config CONFIG [a.b=c ...] [--resume | --check]"""

from __future__ import annotations

if __package__ in (None, ""):  # run as a file: its folder comes first on the path and would shadow other packages
    import os
    import sys

    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != here]
    sys.path.insert(0, os.path.dirname(here))
    __package__ = "hftransfer"

import argparse
import dataclasses
import errno
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import psutil

from hftransfer import catalog, imports, runs
from hftransfer.config import RunConfig, as_now, read_tree
from hftransfer.errors import UserError
from hftransfer.events import PREFIX, RANKED_BY, EventWriter
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.hub import access, checkpoints, connection, publishing
from hftransfer.launchers.base import DISK_FULL, PEER_ENDED, is_full
from hftransfer.runs import Run
from hftransfer.safety import fence, identity, intact, terminal

INTERRUPTED = 130
HEARING = 5.0  # seconds for which a rank waits for rank 0 to say why the run ends
# what safetensors raises has no errno, only its words; torch's zip writer (torch.save) does not even have those
FULL = (*map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)), "unexpected pos")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or check one configuration; return the exit code: 0 done, 1 failed, 2 the user's to mend, 130 stopped."""
    fence.close()  # on a Space; first, because threads that are there already would stay outside
    options = parse(arguments)
    try:
        config = read(Path(options.config), options.overrides)
        if config.speed.threads:
            os.environ["OMP_NUM_THREADS"] = str(config.speed.threads)  # read by torch when it is imported
        # OpenMP's threads spin long while they wait: as soon as anything else wants a core, a step takes several times
        # as long. This many turns lose nothing on a quiet machine (GNU's OpenMP, which torch's Linux wheels bring)
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
        require_processes()
        keep_to_one_gpu()
        with Interruption() as interruption:
            if options.check:
                return check(config, interruption)
            if options.rank or options.curve:
                return advise(config, options.rank, options.by, interruption)
            return train(config, Path(options.config), options.resume, interruption)
    except UserError as error:
        say_last(f"hftransfer: {error}")
        return error.exit_code
    except (KeyboardInterrupt, Interrupted):
        return INTERRUPTED


def read(path: Path, overrides: Sequence[str]) -> RunConfig:
    """Read a configuration: of a run's folder as the version that wrote it meant it."""
    tree = read_tree(path, overrides)
    return catalog.build_config(as_now(tree) if lies_in_run(path) else tree)


def lies_in_run(path: Path) -> bool:
    """Tell whether a configuration is that of a run's folder, which a launcher made."""
    return path.name == "config.yaml" and (path.absolute().parent / "events.jsonl").exists()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="hftransfer/train.py", description=__doc__)
    parser.add_argument("--config", required=True, help="a YAML file; see configs/")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="values that replace the file's")
    parser.add_argument("--resume", action="store_true", help="go on from the run's last whole checkpoint")
    parser.add_argument("--check", action="store_true", help="find out what can be known before training")
    parser.add_argument("--rank", metavar="A,B,...", help="score these models on frozen features; train nothing")
    parser.add_argument("--by", choices=RANKED_BY, default=RANKED_BY[0], help="the figure that --rank goes by")
    parser.add_argument("--curve", action="store_true", help="find out whether more labels would help; train nothing")
    return parser.parse_intermixed_args(arguments)


def train(config: RunConfig, path: Path, resume: bool, interruption: Interruption) -> int:
    """Train in the run's folder and write its last word whatever happens."""
    run = dataclasses.replace(open_run(config, path, resume), mirror=sys.stdout)
    try:
        return work(config, run, resume, interruption)
    except UserError as error:
        last_word(run, "failed", message=str(error), user_error=True)
        raise
    except Interrupted as stop:
        last_word(run, "stopped", message=str(stop), step=stop.step)
        raise
    except BaseException as error:
        if interruption.raised:  # whatever a library made of it
            if world_rank() == 0:
                last_word(run, "stopped", message="stopped before or after training", step=0)
            return INTERRUPTED
        print(terminal.clean(terminal.without_secrets(traceback.format_exc())), file=sys.stderr)
        last_word(run, "failed", message=explain(error, run), user_error=False)
        return 1


def work(config: RunConfig, run: Run, resume: bool, interruption: Interruption) -> int:
    """Train, tell in events how it goes, and publish what came of it where that was asked for."""
    began = time.perf_counter()
    run.event("process", **identity.note_process(), world_size=world_size())
    if resume:
        discard_torn(run)
    go_offline(config, run)
    if needs_hub(config) and world_rank() == 0:  # first of all: what fails here would fail after hours of training
        run.event("phase", name="hub")
        access.require(config)
    run.event("phase", name="imports")
    with imports.uncollected():
        from hftransfer import training

    with checkpoints.pushing(run, config) as push:
        result = training.run(config, run, interruption, resume, push)
    if result:
        run.event("result", metrics=result["test"]["metrics"], n=result["test"]["n"])
    run.event("done", seconds=round(time.perf_counter() - began, 2))
    if config.hub.push and world_rank() == 0:
        return publish(run, config)
    return 0


def publish(run: Run, config: RunConfig) -> int:
    """Publish a finished run; a failure is said in an event and an exit code, and changes nothing about the run."""
    repo = str(config.hub.repo)
    for sentence in runs.verdict_of(run.result()).sentences:  # as `hftransfer publish` does: nobody is asked first
        run.event("warning", message=sentence)
    try:
        with publishing.leaving_at_once(run, repo):
            publishing.publish(run, repo)
    except UserError as error:
        say_last(f"hftransfer: {error}")
        return error.exit_code
    except Exception:
        print(terminal.clean(terminal.without_secrets(traceback.format_exc())), file=sys.stderr)
        return 1
    return 0


def check(config: RunConfig, interruption: Interruption) -> int:
    """Check a configuration and print what was found as an event."""
    go_offline(config, None)
    found = access.require(config)  # before anything is loaded: the answer takes a second
    with imports.uncollected():
        from hftransfer import questions

    report = {**questions.check(config, interruption), "hub": dataclasses.asdict(found)}
    if world_rank() == 0:
        print(PREFIX + json.dumps({"type": "checked", "time": round(time.time(), 3), **report}), flush=True)
    return 0


def advise(config: RunConfig, models: str | None, by: str, interruption: Interruption) -> int:
    """Rank models by a figure, or without any measure the learning curve, and print what was found as an event.

    Models that failed are in the event; with any, the code is 2 when the user can mend them all, else 1.
    """
    code = 0
    names = [name.strip() for name in (models or config.model).split(",") if name.strip()]
    if not all(runs.is_local(name) for name in (*names, config.data.source)):
        connection.go_offline_if_unreachable()
    with imports.uncollected():
        from hftransfer import questions

    if models:
        report = {"type": "ranked", **questions.rank(config, names, by, interruption)}
        reasons = [one["user_error"] for one in report["failed"].values()]
        code = 0 if not reasons else UserError.exit_code if all(reasons) else 1
    else:
        report = {"type": "curve", **questions.curve(config, interruption)}
    if world_rank() == 0:
        print(PREFIX + json.dumps({**report, "time": round(time.time(), 3)}), flush=True)
    return code


def open_run(config: RunConfig, path: Path, resume: bool) -> Run:
    """Return the folder that the config lies in when a launcher made it, else a new one, the same on all ranks."""
    folder = path.absolute().parent
    if lies_in_run(path):
        run = Run(folder)
        started = any(event["type"] == "process" for event in run.events()[0])
        if started and not resume and world_rank() == 0:
            runs.refuse_taken(run)
        return held(run)
    if resume:
        raise UserError("--resume goes on in a run's folder", f"{path} lies in none", "Give RUN/config.yaml.")
    if config.output is None and world_size() > local_world_size():
        raise UserError("several machines need one folder", "output is not set", "Set output=a/shared/folder.")
    # ranks of one launch share a parent: its start is a moment that they all agree on
    moment = psutil.Process(os.getppid()).create_time() if world_size() > 1 else None
    target = Path(config.output) if config.output else runs.ROOT / runs.default_name(config, moment)
    return held(Run.create(config, target)) if world_rank() == 0 else Run(target.absolute())


def held(run: Run) -> Run:
    """Return a run whose one writer this process is; UserError, and not a word in its folder, while another one is."""
    if world_rank() == 0:
        identity.hold(run.folder)
    return run


def discard_torn(run: Run) -> None:
    """Delete checkpoints that were not written to their end, and put those aside whose bytes changed since.

    Of the latter only the newest ones are read, until one is as it was written: a resume goes on from there.
    """
    if world_rank() == 0:
        for folder in run.checkpoints.glob("checkpoint-*"):
            if not runs.is_whole(folder):
                shutil.rmtree(folder)
                run.event("notice", message=f"{folder.name} was cut off while it was written: discarded")
        while (newest := run.checkpoint()) is not None:
            sums = runs.read_json(newest / runs.MANIFEST).get("sums", {})  # none of before there were any
            others = [name for name, known in sums.items() if intact.sums(newest, [name])[name] != known]
            if not others:
                break
            aside = newest.with_name(f"damaged-{newest.name}-{time.time_ns()}")
            newest.rename(aside)
            message = f"{newest.name} is not as it was written ({', '.join(others[:3])}): put aside as {aside.name}"
            run.event("warning", message=message)


def go_offline(config: RunConfig, run: Run | None) -> None:
    """Use the cache alone, at once, when the Hub is needed and cannot be reached: its clients would retry for long."""
    if needs_hub(config) and connection.go_offline_if_unreachable() and run is not None:
        run.event("warning", message="the Hub cannot be reached: only what is in the cache can be used")


def needs_hub(config: RunConfig) -> bool:
    """Tell whether a run reads from the Hub or writes to it."""
    local = [runs.is_local(name) for name in (config.model, config.data.source)]
    return not all(local) or config.hub.push or config.hub.checkpoints


def keep_to_one_gpu() -> None:
    """Show a process that is alone its first GPU and no other: Trainer would put a copy of the model on each of them,
    and take a batch for each.
    """
    if world_size() == 1:  # before anything asks CUDA what there is
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]


def require_processes() -> None:
    """Raise when more processes were asked for than were started (`accelerate launch --cpu` starts one, silently)."""
    asked = asked_processes()
    if asked and asked > world_size():
        raise UserError(
            f"{asked} processes were asked for", f"{world_size()} started",
            "On CPU use: hftransfer train CONFIG --processes N; or accelerate launch --multi_gpu ...",
        )  # fmt: skip


def asked_processes() -> int | None:
    """Return the number of processes that the launcher's environment or command line names."""
    if "HFTRANSFER_PROCESSES" in os.environ:
        return int(os.environ["HFTRANSFER_PROCESSES"])
    try:
        words = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return None
    if not any("accelerate" in word for word in words[:4]):
        return None
    given: dict[str, str] = {}
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.startswith("--") and (equals or at + 1 < len(words)):
            given.setdefault(name.replace("-", "_"), value if equals else words[at + 1])
    if "__num_processes" in given:  # the flag has the last word, wherever the file stands
        return int(given["__num_processes"])
    if "__config_file" in given:
        from hftransfer.yaml_core import read_yaml

        tree = read_yaml(Path(given["__config_file"]).read_text(encoding="utf-8"))
        return int(tree["num_processes"]) if "num_processes" in tree else None
    return None


def explain(error: BaseException, run: Run) -> str:
    """Return a failure in words, with what to try when memory or disk ran out."""
    name, text = type(error).__name__, terminal.without_secrets(" ".join(str(error).split())[:500])
    if "OutOfMemory" in name or isinstance(error, MemoryError) or "out of memory" in text:
        return f"out of memory: set train.per_device_train_batch_size lower or data.max_length for texts ({text})"
    if is_full(run.folder) or any(words in text for words in FULL):
        return f"{DISK_FULL} ({text})"
    if "gloo/transport" in text or "ncclRemoteError" in text:
        return f"{PEER_ENDED} ({text})"
    return f"{name}: {text}"


def last_word(run: Run, type: str, **fields: object) -> None:
    """Write the event that ends a run, once; a full disk must not hide why it ended.

    Rank 0 has the word. Another rank that fails waits for it: with the first rank that goes the launcher ends all, and
    rank 0 may be about to say the same. When it says nothing, because it waits for this rank, this one speaks.
    """
    writer = EventWriter(run.events_path, run.mirror)
    try:
        if writer.silent:
            end = time.monotonic() + HEARING
            while not has_last_word(run) and time.monotonic() < end:
                time.sleep(0.05)
            writer.silent = False
        if not has_last_word(run):
            writer.write(type, **fields)
    except OSError as error:
        print(f"{type}: {fields.get('message')} (and the event could not be written: {error})", file=sys.stderr)


def has_last_word(run: Run) -> bool:
    """Tell whether this launch of the run has said how it ended."""
    said = False
    for event in run.events()[0]:
        if event["type"] in ("launched", "process", "done", "failed", "stopped"):
            said = event["type"] not in ("launched", "process")
    return said


def say_last(text: str) -> None:
    """Print to stderr from the first rank alone."""
    if world_rank() == 0:
        print(terminal.clean(text), file=sys.stderr, flush=True)


def world_rank() -> int:
    """Return this process's rank, from the environment: torch is not imported yet."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes of the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """Return the number of the run's processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))


if __name__ == "__main__":
    sys.exit(main())
