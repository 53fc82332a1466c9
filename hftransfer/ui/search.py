"""Models and data sets on the Hub, asked with the visitor's own token; without a Hub it says so, and what works."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hftransfer.hub import connection
from hftransfer.ui import markup
from hftransfer.ui.markup import Card
from hftransfer.ui.saying import say

FOUND = 12  # results of one search
REACH = 2.0  # seconds until the Hub counts as out of reach
OFFLINE = "The Hugging Face Hub cannot be reached from here. Samples and your own files work without it."
FITTING = {"token-classification": ("token-classification",), "text-classification": ("text-classification",),
           "image-classification": ("image-classification",)}  # tags of data sets by task  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What a search gave: cards, or words why there are none."""

    cards: tuple[Card, ...] = ()
    words: str = ""


def datasets(words: str, task: str | None, token: str | None) -> Found:
    """Search data sets by name; with `task`, only those that say they are for it."""
    return _search("datasets", words, FITTING.get(task or "", (task,) if task else ()), token)


def models(words: str, task: str | None, token: str | None) -> Found:
    """Search models by name; with `task`, only those made for it."""
    return _search("models", words, (task,) if task else (), token)


def shown(found: Found, chosen: str | None, label: str) -> str:
    """Return a search's answer as HTML."""
    return markup.cards(found.cards, chosen, label, wide=True) if found.cards else markup.note(found.words)


def _search(kind: str, words: str, tags: Sequence[Any], token: str | None) -> Found:
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if not connection.reachable(REACH):  # asked first: huggingface_hub would try for minutes
        return Found(words=OFFLINE)
    text = " ".join((words or "").split())[:100]
    api = HfApi(token=token or False)
    options: dict[str, Any] = {"search": text or None, "filter": list(tags) or None, "limit": FOUND}
    try:
        if kind == "models":
            options["expand"] = ["likes", "downloads", "gated", "safetensors", "tags", "pipeline_tag"]
            cards = [_model(one) for one in api.list_models(sort="downloads", **options)]
        else:
            options["expand"] = ["likes", "downloads", "gated", "tags", "description"]
            cards = [_dataset(one) for one in api.list_datasets(sort="downloads", **options)]
    except OfflineModeIsEnabled:
        return Found(words=OFFLINE)
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status is not None and status < 500:
            return Found(
                words=say("The Hub refused the search ({status}). Sign in again, or try other words.", status=status)
            )
        return Found(words=OFFLINE)
    except (HTTPError, OSError):
        return Found(words=OFFLINE)
    if not cards:
        return Found(words=say("Nothing found. Try fewer or other words, or search beyond the task."))
    return Found(tuple(cards))


def _model(one: Any) -> Card:
    parameters = one.safetensors.total if one.safetensors else None
    marks = [say("{n} parameters", n=markup.short_count(parameters)) if parameters else "", *_common(one)]
    return Card(one.id, one.id, one.pipeline_tag or "", _marks(marks, one))


def _dataset(one: Any) -> Card:
    sizes = [t.removeprefix("size_categories:") for t in one.tags or () if t.startswith("size_categories:")]
    about = " ".join((one.description or "").split())
    short = about if len(about) <= 140 else about[:139] + "…"
    return Card(one.id, one.id, short, _marks([say("{n} rows", n=sizes[0]) if sizes else "", *_common(one)], one))


def _common(one: Any) -> list[str]:
    licence = next((t.removeprefix("license:") for t in one.tags or () if t.startswith("license:")), "")
    likes = say("{n} likes", n=markup.short_count(one.likes)) if one.likes else ""
    return [licence, likes]


def _marks(words: Iterable[str], one: Any) -> tuple[tuple[str, Any], ...]:
    found: list[tuple[str, Any]] = [(word, "") for word in words if word]
    if one.gated:
        found.append((say("gated: ask its owner for access"), "warn"))
    return tuple(found)
