"""The ladder: one method after the other on the same rows, each a run of its own in one folder, then all compared."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer import catalog
from hftransfer import config as configuration
from hftransfer.card.choices import adapted_by
from hftransfer.errors import UserError, unknown
from hftransfer.runs import LADDER as NOTE
from hftransfer.runs import ROOT, Run, default_name, read_json, write_text

if TYPE_CHECKING:
    from hftransfer.events import Event
    from hftransfer.launchers.base import Outcome

FROZEN = ("zero_shot", "probe", "few_shot")  # no weights of theirs lie between the base's and a tuned model's
METHODS = ("zero_shot", "probe", "lora", "full", "fused")
FUSED = "fused"  # weights between the base and the better of the tuned models before it
SCHEMA = 1


@dataclass(frozen=True)
class Words:
    """What was named on the command line of `compare`."""

    config: str | None
    names: tuple[str, ...]  # finished runs, model folders, Hub ids
    overrides: tuple[str, ...]  # a.b=c, of every run
    own: Mapping[str, tuple[str, ...]]  # METHOD:a.b=c, of the run of one method


@dataclass(frozen=True)
class Ladder:
    """A folder of runs, one a method."""

    folder: Path
    tree: Mapping[str, Any]  # the configuration, without output and method
    method: Mapping[str, Any]  # the configuration's own method section
    methods: tuple[str, ...]
    own: Mapping[str, tuple[str, ...]]

    def run(self, name: str) -> Run:
        """Return the run of a method, which may not have begun."""
        return Run(self.folder / name)

    def began(self, name: str) -> bool:
        """Tell whether the run of a method has a folder."""
        return self.run(name).config_path.is_file()

    def missing(self) -> list[str]:
        """Return the methods without a result whose run was not refused: what broke once may work another time."""
        broken = self.failed()
        return [
            name for name in self.methods if not self.began(name) or self.reason(name) == UNFINISHED or name in broken
        ]

    def done(self) -> list[str]:
        """Return the methods that have a result."""
        return [name for name in self.methods if self.reason(name) is None]

    def reason(self, name: str) -> str | None:
        """Return why a method has no result, None when it has one."""
        if not self.began(name):
            return read_json(self.folder / NOTE).get("skipped", {}).get(name, UNFINISHED)
        run = self.run(name)
        status = run.status()
        if status.state == "done" and run.result():
            return None
        return status.message or "it failed" if status.state == "failed" else UNFINISHED

    def failed(self) -> list[str]:
        """Return the methods that broke, which is not the user's to mend."""
        return [
            name
            for name in self.methods
            if self.began(name) and self.run(name).status().state == "failed" and not _is_refused(self.run(name))
        ]


UNFINISHED = "it is not done"


def read_words(words: Sequence[str]) -> Words:
    """Sort what was named: a configuration file, finished runs and models, values to set."""
    config: str | None = None
    names: list[str] = []
    overrides: list[str] = []
    own: dict[str, list[str]] = {}
    for word in words:
        assigned = re.fullmatch(r"(?:([\w-]+):)?([\w-]+(?:\.[\w-]+)*=.*)", word, re.DOTALL)
        if assigned and assigned[1]:
            own.setdefault(assigned[1], []).append(assigned[2])
        elif assigned:
            overrides.append(word)
        elif Path(word).suffix.lower() in (".yaml", ".yml", ".json"):
            if config is not None:
                raise UserError("one configuration is needed", f"found {config} and {word}", "Compare one at a time.")
            config = word
        else:
            names.append(word)
    if config is not None and names:
        raise UserError(
            "a configuration, or finished runs and models", f"found {config} and {names[0]}",
            "Run the configuration first; then: hftransfer compare runs/A runs/B",
        )  # fmt: skip
    return Words(config, tuple(names), tuple(overrides), {name: tuple(found) for name, found in own.items()})


def prepare(words: Words, methods: Sequence[str] | None = None) -> Ladder:
    """Return the ladder of a configuration: one that was stopped before, when there is one, else a new folder.

    Without `methods`, they are those of METHODS that give answers of the task. Raises ConfigError for the first method
    whose configuration is wrong, before anything runs.
    """
    assert words.config is not None
    return plan(configuration.read_tree(words.config, words.overrides), words.own, methods)


def plan(tree: Mapping[str, Any], own: Mapping[str, tuple[str, ...]], methods: Sequence[str] | None) -> Ladder:
    """Return the ladder of a configuration as plain values; `own` holds METHOD's assignments. See `prepare`."""
    if methods is None:
        task = tree.get("task")
        methods = [n for n in METHODS if n == FUSED or task not in catalog.tasks() or catalog.fits(task, n)]
    for name in (*methods, *own):
        if name != FUSED and name not in catalog.methods():
            raise unknown("method", name, [FUSED, *catalog.methods()])
    for name in own:
        if name not in methods:
            raise UserError(
                f"{name}:... sets a value of one of the methods", f"they are {', '.join(methods)}",
                f"Add {name} to --methods.",
            )  # fmt: skip
    tree = dict(tree)
    output = tree.pop("output", None)
    method = tree.pop("method", {"name": "full"})
    tree.pop("hub", None)  # a ladder publishes nothing
    found = Ladder(Path(), tree, method, tuple(methods), own)
    for name in methods:
        if name != FUSED:
            catalog.build_config(_tree(found, name))
    note = {
        "tree": tree,
        "method": method,
        "methods": list(methods),
        "own": {k: list(v) for k, v in own.items()},
    }
    known = [name for name in methods if name != FUSED]
    if not known:
        raise UserError("a method to fuse with the base is needed", "there is none", "Set --methods full,fused.")
    folder = Path(output).absolute() if output else _begun(note) or _new(catalog.build_config(_tree(found, known[0])))
    ladder = Ladder(folder, tree, method, tuple(methods), own)
    _take(ladder, json.loads(json.dumps(note)))
    return ladder


def climb(ladder: Ladder, work: Callable[[Run, bool], Outcome], tell: Callable[[str, str], None]) -> None:
    """Run what is missing, in order, each by `work(run, resume)`; what cannot be is skipped and `tell(name, why)`.

    Raises KeyboardInterrupt when a run was stopped: the next climb goes on with it.
    """
    for name in ladder.missing():
        if name == FUSED and not _tuned(ladder):
            _skip(ladder, name, "no tuned model before it has a result")
        elif not ladder.began(name):
            config = catalog.build_config({**_tree(ladder, name), "output": str(ladder.folder / name)})
            outcome = work(Run.create(config), False)
        else:
            outcome = work(ladder.run(name), True)
        reason = ladder.reason(name)
        if reason == UNFINISHED and outcome.state in ("stopped", "killed"):
            raise KeyboardInterrupt
        if reason is not None:
            tell(name, reason)


def compare(ladder: Ladder, metric: str | None = None) -> dict[str, Any]:
    """Compare the runs that are done, write the comparison beside them, and put it into their results and cards."""
    from hftransfer.comparison import contenders, judging, writing

    found: list[contenders.Contender] = []
    skipped: list[contenders.Skipped] = []
    for name in ladder.methods:
        reason = ladder.reason(name)
        if reason is None:
            found.append(contenders.of_run(ladder.run(name), name))
        else:
            skipped.append(contenders.Skipped(name, reason))
    done = ladder.done()
    settings = ladder.run(done[0]).config() if done else None
    options = (
        {} if settings is None else {
            "confidence": settings.evaluation.confidence, "resamples": settings.evaluation.resamples,
            "seed": settings.seed, "baseline": ladder.run(done[0]).result()["baseline"],
        }
    )  # fmt: skip
    compared = judging.compare(found, metric, skipped=skipped, **options)
    writing.write(compared, ladder.folder)
    for name in done:
        writing.record(ladder.run(name), name, compared, ladder.folder)
    return compared


def unseen(events: Iterable[Event], seen: set[str]) -> Iterator[Event]:
    """Yield events without the remarks on the data that an earlier run of the ladder made: all have the same rows."""
    for event in events:
        if event["type"] in ("warning", "notice", "columns"):
            said = json.dumps({name: value for name, value in event.items() if name != "time"}, sort_keys=True)
            if said in seen:
                continue
            seen.add(said)
        yield event


def _tree(ladder: Ladder, name: str) -> dict[str, Any]:
    """Return the configuration of one method as plain values.

    The configuration's own method keeps its options and learning rate; the others have their own defaults, because a
    learning rate that suits all weights is ten times too small for LoRA.
    """
    tree = json.loads(json.dumps({**ladder.tree}))
    if name == FUSED:
        tree["method"] = {"name": "fuse", "runs": [str(_tuned(ladder)[0].folder)], "how": "interpolate"}
    elif name == ladder.method.get("name", "full"):
        tree["method"] = dict(ladder.method)
    else:
        tree["method"] = {"name": name}
        if isinstance(tree.get("train"), dict):  # it may be the word `auto`
            tree["train"].pop("learning_rate", None)
    return configuration.override(tree, ladder.own.get(name, ()))


def _tuned(ladder: Ladder) -> list[Run]:
    """Return the runs whose weights moved away from the base's, the best on validation first."""
    from hftransfer import answers

    found: list[tuple[float, int, Run]] = []
    for name in ladder.methods:
        if name in (FUSED, *FROZEN) or ladder.reason(name) is not None:
            continue
        result = ladder.run(name).result()
        if adapted_by(result, name) in FROZEN:
            continue
        answer = answers.of_result(result)
        value = result["validation"]["metrics"][answer.judged_by]["value"]
        higher = answer.metrics[answer.judged_by].greater_is_better
        found.append((-value if higher else value, len(found), ladder.run(name)))
    return [run for *_, run in sorted(found, key=lambda entry: entry[:2])]


def _is_refused(run: Run) -> bool:
    return any(event.get("user_error") for event in run.events()[0] if event["type"] == "failed")


def _new(config: configuration.RunConfig) -> Path:
    date, hour, *rest = default_name(config).removesuffix(f"-{config.method.name}").split("-")
    return (ROOT / "-".join([date, hour, "ladder", *rest])).absolute()


def _begun(note: Mapping[str, Any]) -> Path | None:
    """Return the newest folder in which the same ladder was begun and not brought to its end."""
    from hftransfer.comparison.writing import FILE

    found = [path for path in ROOT.glob(f"*-ladder-*/{NOTE}") if not (path.parent / FILE).is_file()]
    for path in sorted(found, reverse=True):
        held = read_json(path)
        if all(held.get(key) == json.loads(json.dumps(value)) for key, value in note.items()):
            return path.parent.absolute()
    return None


def _take(ladder: Ladder, note: Mapping[str, Any]) -> None:
    path = ladder.folder / NOTE
    held = read_json(path)
    there = {found.name for found in ladder.folder.iterdir()} if ladder.folder.is_dir() else set()
    if not held and there - {name for name in ladder.methods if ladder.began(name)}:
        raise UserError(
            "an empty or new folder is needed", f"{ladder.folder} holds something else", "Set output=another/folder."
        )
    if held and any(held.get(key) != note[key] for key in ("tree", "method", "own")):
        raise UserError(
            "the configuration that the ladder began with is needed to go on",
            f"{ladder.folder} holds one of another configuration",
            "Set output=another/folder.",
        )
    for name in ladder.methods:
        if name != FUSED and ladder.began(name):
            _require_own(ladder, name)
    ladder.folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"schema": SCHEMA, "time": time.time(), "skipped": {}, **held, **note}, indent=1))


def _require_own(ladder: Ladder, name: str) -> None:
    """Raise UserError when a run that is there already is not the one that this ladder would make."""
    run = ladder.run(name)
    wanted = catalog.build_config({**_tree(ladder, name), "output": str(run.folder)}).to_dict()
    found = run.config().to_dict() | {"output": wanted["output"], "hub": wanted["hub"]}
    differing = [key for key in wanted if wanted[key] != found[key]]
    if differing:
        raise UserError(
            f"the run of {name} in {ladder.folder} must be of this configuration", f"{', '.join(differing)} differ",
            "Set output=another/folder.",
        )  # fmt: skip


def _skip(ladder: Ladder, name: str, reason: str) -> None:
    note = read_json(ladder.folder / NOTE)
    note["skipped"][name] = reason
    write_text(ladder.folder / NOTE, json.dumps(note, indent=1))
