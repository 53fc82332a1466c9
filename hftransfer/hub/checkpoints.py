"""Checkpoints on the Hub: pushed to a branch while a run trains, and taken up again on another machine."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hftransfer import samples
from hftransfer.artifact import NOTES as PUBLISHED
from hftransfer.artifact import name_base, public_config, require_schema
from hftransfer.config import RunConfig, without_defaults
from hftransfer.errors import UserError
from hftransfer.hub import access, origins, recipes
from hftransfer.hub.connection import page, require_online
from hftransfer.hub.retrying import in_words, insist
from hftransfer.runs import MANIFEST, UNPLANNED, Run, is_whole, read_json, seal, write_text
from hftransfer.safety import intact
from hftransfer.yaml_core import dump_yaml, read_yaml

BRANCH = "checkpoints"  # beside `main`, which holds the published model: nobody who pulls that one pulls these
SCHEMA = 1
NOTES = "checkpoints.json"
RECIPE = "run.yaml"
STATE = "trainer_state.json"
INITIAL = "initial_adapter"  # of methods that change the base: without it the adapters mean nothing
UNSENT = ("training_args.bin", "README.md", MANIFEST)  # a pickle of settings with local paths; peft's empty form
LAST_PUSH = 45.0  # seconds that the end of a run waits for a push; a launcher that stops a run waits 60


@contextmanager
def pushing(run: Run, config: RunConfig) -> Iterator[Callable[[Path], None] | None]:
    """Give the function that pushes a whole checkpoint beside the training, or None when none was asked for."""
    if not config.hub.checkpoints or os.environ.get("RANK", "0") != "0":
        yield None
        return
    pusher = Pusher(run, config)
    try:
        yield pusher.push
    finally:
        pusher.close()


class Pusher:
    """A thread that pushes the newest checkpoint; one that comes while it works replaces the one that waits.

    What fails is said in the event `checkpoint_not_pushed`, never raised: the training goes on.
    """

    def __init__(self, run: Run, config: RunConfig) -> None:
        self.run, self.config = run, config
        self._waiting: Path | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def push(self, checkpoint: Path) -> None:
        """Take a copy of a checkpoint, of the best one and of what they need, and push it when the line is free."""
        staged = self.run.folder / ".pushing" / checkpoint.name
        try:
            stage(self.run, self.config, checkpoint, staged)
        except OSError as error:
            self._failed(checkpoint.name, error)
            return
        with self._lock:
            passed, self._waiting = self._waiting, staged
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
        if passed is not None:
            shutil.rmtree(passed, ignore_errors=True)
            self.run.event("notice", message=f"{passed.name} was not pushed: a newer checkpoint overtook it")

    def close(self) -> None:
        """Wait for the last push, but not longer than a stopped run may take."""
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(LAST_PUSH)
            if thread.is_alive():
                self._failed("the last checkpoint", TimeoutError(f"not done {LAST_PUSH:.0f} s after training ended"))
                return  # a daemon thread: it ends with the process
        shutil.rmtree(self.run.folder / ".pushing", ignore_errors=True)

    def _work(self) -> None:
        while True:
            with self._lock:
                staged, self._waiting = self._waiting, None
                if staged is None:
                    self._thread = None
                    return
            began = time.perf_counter()
            try:
                commit, size = self._send(staged)
            except Exception as error:
                self._failed(staged.name, error)
            else:
                seconds = round(time.perf_counter() - began, 2)
                self.run.event(
                    "checkpoint_pushed", **_name_and_step(staged.name), commit=commit, seconds=seconds, bytes=size
                )
            shutil.rmtree(staged, ignore_errors=True)

    def _send(self, staged: Path) -> tuple[str, int]:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        api = HfApi()
        repo = str(self.config.hub.repo)
        if "/" not in repo:
            repo = f"{access.identify(api).name}/{repo}"
        insist(lambda: api.create_repo(repo, private=self.config.hub.private, exist_ok=True))
        insist(lambda: api.create_branch(repo, branch=BRANCH, exist_ok=True))
        files = {path.relative_to(staged).as_posix(): path for path in sorted(staged.rglob("*")) if path.is_file()}
        there = insist(lambda: api.list_repo_files(repo, revision=BRANCH))
        # one commit, so that whoever pulls the branch never finds half a checkpoint (upload_folder may make several)
        operations: list[Any] = [CommitOperationDelete(n) for n in there if n not in files and n != ".gitattributes"]
        operations += [CommitOperationAdd(name, str(path)) for name, path in files.items()]
        message = f"{staged.name} of {self.run.name}"
        commit = insist(lambda: api.create_commit(repo, operations, revision=BRANCH, commit_message=message))
        return str(commit.oid), sum(path.stat().st_size for path in files.values())

    def _failed(self, name: str, error: Exception) -> None:
        self.run.event("checkpoint_not_pushed", **_name_and_step(name), message=in_words(error))


def stage(run: Run, config: RunConfig, checkpoint: Path, target: Path) -> None:
    """Lay out in `target` what the branch is to hold: checkpoints as links to the files, everything else anew.

    Nothing in it names a path of this machine.
    """
    shutil.rmtree(target, ignore_errors=True)
    state = read_json(checkpoint / STATE)
    best = Path(state["best_model_checkpoint"]).name if state.get("best_model_checkpoint") else None
    planned = [one.name for one in run.checkpoints.glob("checkpoint-*") if not (one / UNPLANNED).exists()]
    # what an unplanned one came between is chosen from at the end; else the newest and the best go on to the same
    others = {best, *(planned if (checkpoint / UNPLANNED).exists() else ())} - {None, checkpoint.name}
    names = [checkpoint.name, *sorted(others, key=str)]
    for name in [*names, *([INITIAL] if (run.checkpoints / INITIAL).is_dir() else [])]:
        source = run.checkpoints / str(name)
        if source.is_dir() and (name == INITIAL or is_whole(source)):
            _copy(source, target / "checkpoints" / str(name), config)
    events = run.events()[0]
    noted = {kind: [e for e in events if e["type"] == kind][-1:] for kind in ("tuned", "data", "lengths")}
    notes = {
        "schema": SCHEMA,
        "run": run.name,
        "checkpoint": checkpoint.name,
        "best": best,
        "processes": next((e["world_size"] for e in reversed(events) if e["type"] == "process"), 1),
        "tuned": {k: v for e in noted["tuned"] for k, v in e.items() if k not in ("type", "time")},
        "data": {k: v for e in noted["data"] for k, v in e.items() if k not in ("type", "time")},
        "lengths": {k: v for e in noted["lengths"] for k, v in e.items() if k not in ("type", "time")},
        "sources": read_json(run.folder / origins.FILE),
    }
    write_text(target / NOTES, json.dumps(notes, indent=1))
    write_text(target / RECIPE, dump_yaml(without_defaults(public_config(config))))


def fetch(repo: str, overrides: list[str] | None = None, folder: Path | None = None) -> Run:
    """Make a run of the checkpoints that another machine pushed to `repo`, to be resumed here.

    `overrides` name what this machine has elsewhere (data.source=...). Raises UserError when there are none, when this
    token may not read them, or when the data or the model were files of the other machine and are not named.
    """
    require_online(f"resuming {repo}", ", or resume a run of this machine: hftransfer runs")
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RevisionNotFoundError

    access.require_readable(HfApi(), repo, "model")
    try:
        pulled = Path(insist(lambda: snapshot_download(repo, revision=BRANCH)))
    except RevisionNotFoundError as error:
        raise _nothing_to_resume(repo) from error
    intact.require(pulled, repo, samples.cache_folder() / intact.RECORD)
    notes = read_json(pulled / NOTES)
    if not notes:
        raise _nothing_to_resume(repo)
    _refuse_done(repo, notes)
    with recipes.of_ours(repo):
        require_schema(f"{NOTES} of {repo}", notes.get("schema"), SCHEMA)
        sources, processes = origins.read(notes["sources"]), recipes.processes(notes["processes"])
        tree = dict(read_yaml((pulled / RECIPE).read_text(encoding="utf-8")))
        tree["hub"] = {**tree.get("hub", {}), "repo": repo}  # whatever it says: it writes where it came from
        config = recipes.configured(tree, sources, overrides or [], f"resume {repo}")
        kept = {kind: recipes.fields(notes.get(kind)) for kind in ("data", "lengths")}
        kept["tuned"] = recipes.settings(notes.get("tuned"), config.speed.attention)
        places = [path for path in sorted((pulled / "checkpoints").iterdir()) if path.is_dir()]
    run = Run.create(config, folder)
    for source in places:
        shutil.copytree(source, run.checkpoints / source.name)
        _relocate(run, run.checkpoints / source.name)
    write_text(run.folder / origins.FILE, json.dumps(sources.to_dict(), indent=1))
    write_text(run.launch_path, json.dumps({"launcher": "local", "processes": processes}))
    for kind, fields in kept.items():
        if fields or kind == "data":
            run.event(kind, **fields)
    run.event("notice", message=f"goes on from {notes.get('checkpoint')} of {repo} ({pulled.name[:12]})")
    return run


def _copy(source: Path, target: Path, config: RunConfig) -> None:
    target.mkdir(parents=True)
    for path in sorted(p for p in source.rglob("*") if p.is_file() and p.name not in UNSENT):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.name == STATE:
            state = read_json(path)
            best = state.get("best_model_checkpoint")
            state["best_model_checkpoint"] = Path(best).name if best else None
            write_text(place, json.dumps(state, indent=2))
        elif path.name == "config.json":
            settings = read_json(path)
            settings.pop("_name_or_path", None)
            write_text(place, json.dumps(settings, indent=2))
        else:
            try:
                os.link(path, place)  # at once, and it outlives the rotation of old checkpoints
            except OSError:
                shutil.copyfile(path, place)
    if (target / "adapter_config.json").is_file():
        (target / "adapter_config.json").unlink()
        shutil.copyfile(source / "adapter_config.json", target / "adapter_config.json")
        name_base(target, config)


def _relocate(run: Run, checkpoint: Path) -> None:
    """Write this machine's place of the best checkpoint into the trainer's state, and seal the checkpoint."""
    path = checkpoint / STATE
    if path.is_file():
        state = read_json(path)
        best = state.get("best_model_checkpoint")
        state["best_model_checkpoint"] = str(run.checkpoints / Path(best).name) if best else None
        write_text(path, json.dumps(state, indent=2))
        seal(checkpoint)


def _refuse_done(repo: str, notes: Mapping[str, Any]) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        published = read_json(Path(hf_hub_download(repo, PUBLISHED)))
    except EntryNotFoundError:
        return
    if published.get("run") == notes.get("run"):
        raise UserError(
            "a run that is not done is needed", f"{repo} is done, and its model is published",
            f"Use it: hftransfer predict {repo} INPUT; or train it again: hftransfer reproduce {repo}",
        )  # fmt: skip


def _nothing_to_resume(repo: str) -> UserError:
    return UserError(
        f"{repo} must hold checkpoints in its branch {BRANCH!r}", f"there are none ({page(repo)}/tree/main)",
        "Train with hub.checkpoints=true to push them.",
    )  # fmt: skip


def _name_and_step(name: str) -> dict[str, Any]:
    number = name.rpartition("-")[2]
    return {"name": name, "step": int(number) if number.isdigit() else None}
