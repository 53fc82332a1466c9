"""Reproducing a published model: its recipe and data fingerprints read from the repo, trained again, compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hftransfer import artifact, samples
from hftransfer.config import RunConfig, as_now
from hftransfer.errors import UserError
from hftransfer.hub import access, origins, recipes
from hftransfer.hub.connection import page, require_online
from hftransfer.hub.retrying import insist
from hftransfer.runs import AUTO, Run, write_text
from hftransfer.safety import intact

FILE = "published_notes.json"  # in the run's folder: what it is to be compared with
ROUNDING = 1e-6  # figures closer than this are the same: JSON holds them to more digits than float32 sums agree in

Verdict = Literal["identical", "agrees", "differs"]


@dataclass(frozen=True)
class Line:
    """One figure, as published and as found here."""

    name: str
    published: float
    low: float | None
    high: float | None
    here: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """Whether a run gave what the repo says: the rows, the test figures, and what else differs."""

    same_data: bool
    data: str
    lines: tuple[Line, ...]
    versions: dict[str, tuple[str | None, str | None]]

    @property
    def agrees(self) -> bool:
        """True when the rows are the same and every figure lies in the interval that was published."""
        return self.same_data and all(line.verdict != "differs" for line in self.lines)


def prepare(repo: str, revision: str | None = None, overrides: Sequence[str] = ()) -> tuple[Run, int]:
    """Return a run that repeats the one behind a published model, not started yet, and the processes it needs.

    It uses the commits of model and data, the seed and the machine settings (precision, batch cuts) that the repo
    records, and publishes nothing. Raises UserError when hftransfer did not make the model, or when it was trained on
    files that only its author has and `overrides` do not name them.
    """
    require_online(f"reproducing {repo}", " and try again.")
    from huggingface_hub import HfApi, snapshot_download

    access.require_readable(HfApi(), repo, "model")
    names = [artifact.NOTES, artifact.RECIPE]
    folder = Path(insist(lambda: snapshot_download(repo, revision=revision, allow_patterns=names)))
    intact.require(folder, repo, samples.cache_folder() / intact.RECORD)
    notes = artifact.read_notes(folder)
    if not notes or "sources" not in notes:
        raise UserError(
            f"{repo} must tell how it was trained", f"it has no {artifact.NOTES} that does ({page(repo)}/tree/main)",
            "Only models that hftransfer published can be reproduced.",
        )  # fmt: skip
    with recipes.of_ours(repo):
        sources = origins.read(notes["sources"])
        tree = {**as_now(notes["config"]), "hub": {}, "output": None}
        config = sources.pin(recipes.configured(tree, sources, list(overrides), f"reproduce {repo}"))
        processes = recipes.processes(dict(notes.get("cost") or {}).get("processes", 1))
        tuned = recipes.settings(notes.get("speed"), config.speed.attention)
        plan = dict(notes["auto"])["plan"] if notes.get("auto") else None
    require_parts(config, repo)
    run = Run.create(config)
    write_text(run.folder / FILE, json.dumps({**notes, "repo": repo, "commit": folder.name}, indent=1))
    if tuned:
        run.event("tuned", **tuned)
    if notes.get("max_length"):
        run.event("lengths", tokens=notes["max_length"])
    if plan is not None:
        write_text(run.folder / AUTO, json.dumps({"plan": plan}))
    return run, processes


def require_parts(config: RunConfig, repo: str) -> None:
    """Raise UserError when a model was fused of runs that are not here."""
    named = config.method.options["runs"] if config.method.name == "fuse" else []
    if missing := [name for name in named if not (Path(name) / "config.yaml").is_file()]:
        raise UserError(
            "the runs that it was fused of are needed", f"not here: {', '.join(missing)}",
            f"Say where they are: hftransfer reproduce {repo} 'method.runs=[FOLDER, ...]'",
        )  # fmt: skip


def compare(notes: Mapping[str, Any], result: Mapping[str, Any]) -> Comparison:
    """Compare a finished run's result.json with the notes of the published model."""
    wanted, found = notes["data"], result["data"]
    same = wanted["split_fingerprints"] == found["split_fingerprints"]
    splits = [
        name for name, value in wanted["split_fingerprints"].items() if found["split_fingerprints"].get(name) != value
    ]
    data = "the same rows in every split" if same else f"other rows in {', '.join(splits)}"
    versions = {
        name: (notes["versions"].get(name), result["versions"].get(name))
        for name in sorted({*notes["versions"], *result["versions"]})
        if notes["versions"].get(name) != result["versions"].get(name)
    }
    lines = [
        _line(name, score, result["test"]["metrics"].get(name)) for name, score in notes["test"]["metrics"].items()
    ]
    return Comparison(same, data, tuple(lines), versions)


def _line(name: str, published: Mapping[str, Any], here: Mapping[str, Any] | None) -> Line:
    value, low, high = published["value"], published.get("low"), published.get("high")
    if here is None:
        return Line(name, value, low, high, None, "differs")
    apart = abs(here["value"] - value)
    within = low is not None and high is not None and low <= here["value"] <= high
    verdict: Verdict = "identical" if apart <= ROUNDING else "agrees" if within else "differs"
    return Line(name, value, low, high, here["value"], verdict)
