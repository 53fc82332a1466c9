"""Where a run's model and data come from: the commit, the licence and the languages of each, fixed before training."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from hftransfer import samples
from hftransfer.artifact import public_name
from hftransfer.config import RunConfig
from hftransfer.errors import UserError
from hftransfer.hub import access
from hftransfer.hub.connection import is_offline, page
from hftransfer.hub.retrying import insist
from hftransfer.runs import Run, is_hub_id, read_json, write_text
from hftransfer.yaml_core import read_yaml

if TYPE_CHECKING:
    from huggingface_hub.hf_api import DatasetInfo, ModelInfo

FILE = "origins.json"
# as the licences of samples are written, and as the Hub calls them
LICENCES = re.compile(r"MIT|GPL-3\.0|Apache-2\.0|MPL-2\.0|BSD-[23]-Clause|CC-BY(?:-SA)?-\d\.\d")


@dataclass(frozen=True)
class Origin:
    """A model or a data set as others find it again; `revision` is a commit, never a branch."""

    name: str
    kind: Literal["hub", "sample", "local"]
    revision: str | None = None
    license: str | None = None
    languages: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether only the machine that used it has it."""
        return self.kind == "local"


@dataclass(frozen=True)
class Origins:
    """Both origins of a run."""

    model: Origin
    data: Origin

    def pin(self, config: RunConfig) -> RunConfig:
        """Return the configuration with the commits in place of branches."""
        revisions = {
            "model": self.model.revision or config.revision,
            "data": self.data.revision or config.data.revision,
        }
        data = config.data.model_copy(update={"revision": revisions["data"]})
        return config.model_copy(update={"revision": revisions["model"], "data": data})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as result.json holds them under `sources`."""
        found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return found


def of(run: Run, config: RunConfig) -> Origins:
    """Return the origins that an earlier process of this run noted, or find and note them.

    A branch that moves while a run is stopped thus changes nothing.
    """
    path = run.folder / FILE
    noted = read_json(path)
    if noted:
        return read(noted)
    found = find(config)
    write_text(path, json.dumps(found.to_dict(), indent=1))
    return found


def find(config: RunConfig) -> Origins:
    """Look both up: on the Hub, among the samples, in a model folder's card."""
    return Origins(
        _origin(config.model, "model", config.revision), _origin(config.data.source, "dataset", config.data.revision)
    )


def revision_of_data(config: RunConfig) -> str | None:
    """Return the commit of the data alone, for work that asks several models about the same rows."""
    return _origin(config.data.source, "dataset", config.data.revision).revision or config.data.revision


def read(tree: dict[str, Any]) -> Origins:
    """Return what `Origins.to_dict` wrote."""
    parts = {name: Origin(**{**tree[name], "languages": tuple(tree[name]["languages"])}) for name in ("model", "data")}
    return Origins(**parts)


def _origin(name: str, kind: Literal["model", "dataset"], revision: str | None) -> Origin:
    if name.startswith(samples.PREFIX):
        sample = samples.SAMPLES.get(name.removeprefix(samples.PREFIX))
        return Origin(name, "sample", None, _content_licence(sample.licence) if sample else None)
    if not is_hub_id(name):
        card = Path(name) / "README.md"
        found = _front_matter(card) if kind == "model" and card.is_file() else {}
        return Origin(public_name(name), "local", None, _text(found.get("license")), _texts(found.get("language")))
    if is_offline():
        return Origin(name, "hub", _cached_commit(name, revision) if kind == "model" else revision)
    info = _info(name, kind, revision)
    card_data: dict[str, Any] = vars(info.card_data) if info.card_data else {}
    return Origin(name, "hub", info.sha, _text(card_data.get("license")), _texts(card_data.get("language")))


def _info(name: str, kind: str, revision: str | None) -> ModelInfo | DatasetInfo:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    api = HfApi()
    with access.explained():
        try:
            if kind == "model":
                return insist(lambda: api.model_info(name, revision=revision))
            return insist(lambda: api.dataset_info(name, revision=revision))
        except RevisionNotFoundError as error:
            raise UserError(
                f"a branch, tag or commit of {name} is needed", f"it has no {revision!r}",
                f"See {page(name, kind)}/tree/main and set {'revision' if kind == 'model' else 'data.revision'}=...",
            ) from error  # fmt: skip
        except RepositoryNotFoundError:
            access.require_readable(api, name, kind)  # says which page to click
            raise


def _cached_commit(name: str, revision: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else revision


def _front_matter(card: Path) -> dict[str, Any]:
    match = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        found = read_yaml(match[1]) if match else {}
    except yaml.YAMLError:  # somebody else's card: nothing depends on it
        found = {}
    return found if isinstance(found, dict) else {}


def _content_licence(text: str) -> str | None:
    """Return the licence of what is in a sample's package, which is named last where it differs."""
    _, differs, content = text.replace(";", ",").partition(",")
    found = LICENCES.search(content if differs else text)
    return found[0].lower() if found else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else value[0] if isinstance(value, list) and value else None


def _texts(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(v for v in value or () if isinstance(v, str))
