"""What the Hub tells about a repo: its info, its entry in a listing, the nodes of its file tree."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

from tests.hub_server.cards import metadata
from tests.hub_server.store import Commit, Entry, Repo, Store, pointer_text, stamp

ARCHITECTURES = {  # the end of an architecture's name -> the task that the Hub derives from it
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForMultipleChoice": "multiple-choice",
    "ForImageClassification": "image-classification",
    "ForObjectDetection": "object-detection",
    "ForSemanticSegmentation": "image-segmentation",
    "ForAudioClassification": "audio-classification",
    "ForSequenceClassificationAudio": "audio-classification",
    "ForSpeechSeq2Seq": "automatic-speech-recognition",
    "ForCTC": "automatic-speech-recognition",
    "ForConditionalGeneration": "text2text-generation",
}
IN_LISTS = ("_id", "id", "modelId", "private", "gated", "likes", "downloads", "trendingScore", "tags", "createdAt",
            "pipeline_tag", "library_name", "sdk")  # fmt: skip


class Infos:
    """Makes the JSON objects of the info, list, tree and paths-info routes."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._parameters: dict[str, dict[str, int]] = {}

    def full(self, repo: Repo, commit: Commit, blobs: bool = False) -> dict[str, Any]:
        """Everything that is known about a repo at one commit."""
        card = self.card(commit)
        config = self._json(commit, "config.json") if repo.kind == "model" else {}
        library = self._library(repo, commit, card, config)
        task = self._task(repo, commit, card, config)
        files = {
            "siblings": [{"rfilename": path, **(self._blob(entry) if blobs else {})} for path, entry in
                         sorted(commit.tree.items())]
        }  # fmt: skip
        found: dict[str, Any] = {
            "_id": repo.key,
            "id": repo.id,
            "author": repo.namespace,
            "sha": commit.oid,
            "lastModified": stamp(commit.date),
            "createdAt": stamp(repo.created),
            "private": repo.private,
            "gated": repo.gated,
            "disabled": False,
            "downloads": repo.downloads,
            "downloadsAllTime": repo.downloads,
            "likes": repo.likes,
            "trendingScore": repo.likes,
            "tags": self._tags(repo, commit, card, config, library, task),
            "usedStorage": sum(repo.objects.values()),
            **files,
        }
        if card is not None:
            found["cardData"] = _plain(card)
        if repo.kind == "model":
            found["modelId"] = repo.id
            found["model-index"] = _plain((card or {}).get("model-index"))
            if library:
                found["library_name"] = library
            if task:
                found["pipeline_tag"] = task
            if config:
                kept = ("architectures", "model_type", "quantization_config", "peft")
                found["config"] = {name: config[name] for name in kept if name in config}
            if library == "transformers":
                found["transformersInfo"] = {
                    "auto_model": _auto_model(config),
                    "pipeline_tag": task,
                    "processor": None,
                }
            base = (card or {}).get("base_model")
            if base:
                found["baseModels"] = {"relation": "finetune", "models": [{"id": one} for one in _several(base)]}
            parameters = self.parameters(commit)
            if parameters:
                found["safetensors"] = {"parameters": parameters, "total": sum(parameters.values())}
        if repo.kind == "space":
            found.update(sdk=repo.sdk, subdomain=repo.id.replace("/", "-"), host="", runtime={"stage": "RUNNING"})
            found["runtime"].update(hardware={"current": "cpu-basic", "requested": "cpu-basic"}, storage=None)
        return found

    def shown(self, repo: Repo, commit: Commit, expand: list[str], blobs: bool = False) -> dict[str, Any]:
        """The answer of an info call: everything, or `expand`'s fields alone."""
        found = self.full(repo, commit, blobs)
        if expand:
            return {name: found[name] for name in ("_id", "id", *expand) if name in found}
        return {name: value for name, value in found.items() if name not in ("baseModels", "downloadsAllTime")}

    def listed(self, repo: Repo, commit: Commit, expand: list[str], full: bool, flags: set[str]) -> dict[str, Any]:
        """An entry of a listing: few fields by default, as on the Hub."""
        found = self.full(repo, commit)
        if expand:
            return {name: found[name] for name in ("_id", "id", *expand) if name in found}
        names = set(IN_LISTS) | flags
        if full:
            names |= {"author", "sha", "lastModified", "disabled", "siblings", "cardData"}
        return {name: value for name, value in found.items() if name in names}

    def card(self, commit: Commit) -> dict[str, Any] | None:
        entry = commit.tree.get("README.md")
        return metadata(self.store.content(entry).decode(errors="replace")) if entry else None

    def parameters(self, commit: Commit) -> dict[str, int]:
        """Parameters by type, counted in the headers of the safetensors files at the root."""
        total: dict[str, int] = {}
        index = self._json(commit, "model.safetensors.index.json")
        names = sorted(set(index.get("weight_map", {}).values())) or ["model.safetensors", "adapter_model.safetensors"]
        for name in names:
            entry = commit.tree.get(name)
            for dtype, count in (self._counted(entry) if entry else {}).items():
                total[dtype] = total.get(dtype, 0) + count
        return total

    def node(self, repo: Repo, commit: Commit, path: str, expand: bool, xet_hash: str | None = None) -> dict[str, Any]:
        """A file or a folder of the tree."""
        entry = commit.tree.get(path)
        found: dict[str, Any] = (
            {"type": "file", "oid": entry.oid, "size": entry.size}
            if entry
            else {
                "type": "directory",
                "oid": _tree_oid({p: e for p, e in commit.tree.items() if p.startswith(f"{path}/")}),
                "size": 0,
            }
        )
        if entry and entry.sha256:
            size = len(pointer_text(entry.sha256, entry.size))
            found["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": size}
            if xet_hash:
                found["xetHash"] = xet_hash
        found["path"] = path
        if expand:
            last = self._last_change(repo, commit, path)
            found["lastCommit"] = {"id": last.oid, "title": last.title, "date": stamp(last.date)}
            if entry:
                scan = {"avScan": {"status": "safe"}, "pickleImportScan": None}
                found["securityFileStatus"] = {"status": "safe", **scan}
        return found

    def _last_change(self, repo: Repo, commit: Commit, path: str) -> Commit:
        def state(at: Commit) -> list[tuple[str, Entry]]:
            return sorted((p, e) for p, e in at.tree.items() if p == path or p.startswith(f"{path}/"))

        while commit.parent and state(repo.history[commit.parent]) == state(commit):
            commit = repo.history[commit.parent]
        return commit

    def _blob(self, entry: Entry) -> dict[str, Any]:
        found: dict[str, Any] = {"size": entry.size, "blobId": entry.oid}
        if entry.sha256:
            size = len(pointer_text(entry.sha256, entry.size))
            found["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": size}
        return found

    def _json(self, commit: Commit, path: str) -> dict[str, Any]:
        entry = commit.tree.get(path)
        try:
            found = json.loads(self.store.content(entry)) if entry else {}
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _counted(self, entry: Entry) -> dict[str, int]:
        if entry.oid not in self._parameters:
            self._parameters[entry.oid] = _count(self.store.path(entry))
        return self._parameters[entry.oid]

    def _library(self, repo: Repo, commit: Commit, card: dict[str, Any] | None, config: dict[str, Any]) -> str | None:
        if repo.kind != "model":
            return None
        if card and isinstance(card.get("library_name"), str):
            return str(card["library_name"])
        if "adapter_config.json" in commit.tree:
            return "peft"
        return "transformers" if "model_type" in config or "architectures" in config else None

    def _task(self, repo: Repo, commit: Commit, card: dict[str, Any] | None, config: dict[str, Any]) -> str | None:
        if repo.kind != "model":
            return None
        if card and isinstance(card.get("pipeline_tag"), str):
            return str(card["pipeline_tag"])
        for name in config.get("architectures") or []:
            for end, task in ARCHITECTURES.items():
                if name.endswith(end):
                    return task
        if not config.get("architectures"):
            return None
        return "image-feature-extraction" if "preprocessor_config.json" in commit.tree else "feature-extraction"

    def _tags(
        self,
        repo: Repo,
        commit: Commit,
        card: dict[str, Any] | None,
        config: dict[str, Any],
        library: str | None,
        task: str | None,
    ) -> list[str]:
        card = card or {}
        found = [library, "safetensors" if any(p.endswith(".safetensors") for p in commit.tree) else None]
        found += [config.get("model_type"), task, *_several(card.get("tags"))]
        found += ["model-index"] if card.get("model-index") else []
        plain = repo.kind == "model"
        found += [f"{'' if plain else 'language:'}{code}" for code in _several(card.get("language"))]
        found += [f"dataset:{name}" for name in _several(card.get("datasets"))]
        for name in _several(card.get("base_model")):
            relation = "adapter" if library == "peft" else card.get("base_model_relation", "finetune")
            found += [f"base_model:{name}", f"base_model:{relation}:{name}"]
        for field in ("task_categories", "task_ids", "size_categories"):
            found += [f"{field}:{value}" for value in _several(card.get(field))]
        found += [f"license:{value}" for value in _several(card.get("license"))]
        found += [repo.sdk] if repo.kind == "space" else []
        found.append("region:us")
        return list(dict.fromkeys(str(tag) for tag in found if tag))


def _count(path: Path) -> dict[str, int]:
    """Parameters by type in one safetensors file; nothing when it is not one."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length < 25_000_000 else {}
        found: dict[str, int] = {}
        for name, tensor in header.items():
            if name != "__metadata__":
                found[tensor["dtype"]] = found.get(tensor["dtype"], 0) + prod(tensor["shape"])
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return found


def folders(paths: Iterable[str]) -> set[str]:
    """Every folder that holds one of these paths."""
    return {path[:at] for path in paths for at, letter in enumerate(path) if letter == "/"}


def _tree_oid(inside: dict[str, Entry]) -> str:
    return hashlib.sha1(repr(sorted((p, e.oid) for p, e in inside.items())).encode()).hexdigest()


def _auto_model(config: dict[str, Any]) -> str:
    name = next(iter(config.get("architectures") or []), "")
    return next(
        (f"AutoModel{end}" for end in ARCHITECTURES if end.startswith("For") and name.endswith(end)), "AutoModel"
    )


def _several(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _plain(value: Any) -> Any:
    """YAML knows dates and NaN, JSON does not."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
