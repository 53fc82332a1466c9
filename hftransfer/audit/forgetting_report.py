"""What a model forgot, in words: for summary, card and page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def facts(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence on what was forgotten, from a result; none where it was not measured."""
    found = result.get("forgotten")
    return [said(found)] if found else []


def said(found: Mapping[str, Any]) -> str:
    """Return what was found in one sentence."""
    before, after, apart = found["before"], found["after"], found["difference"]
    told = f"its {found['metric']} of {found['text']} ({found['n']} passages, {found['tokens']:,} tokens)"
    moved = f"was {before['value']:.4g} before training and is {after['value']:.4g} after it"
    more = f"{apart['value']:+.3g} ({apart['low']:+.3g} to {apart['high']:+.3g})"
    sure = (
        "it has forgotten some of what it knew"
        if apart["low"] > 0
        else "it reads such text better than before"
        if apart["high"] < 0
        else "that it has forgotten anything is not shown"
    )
    return f"{told[0].upper()}{told[1:]} {moved}, a difference of {more}: {sure}."
