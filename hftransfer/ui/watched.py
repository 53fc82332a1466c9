"""A few validation rows with the model's answers as they change while it learns."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hftransfer.errors import UserError
from hftransfer.ui import markup
from hftransfer.ui.monitor import View
from hftransfer.ui.page import Page
from hftransfer.ui.rows_shown import cell
from hftransfer.ui.saying import say
from hftransfer.ui.visitors import Visitor

KEPT = 100  # runs whose rows are kept in memory


class Inputs:
    """What the watched rows of runs hold, asked of a worker once and outside of any look at a run."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, dict[str, dict[str, Any]] | None] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, page: Page, visitor: Visitor, view: View) -> dict[str, dict[str, Any]]:
        """Return entries by role by row; nothing while they are being fetched."""
        if not view.watched:
            return {}
        with self._lock:
            if view.folder in self._known:
                return self._known[view.folder] or {}
            self._known[view.folder] = None
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        threading.Thread(target=self._fetch, args=(page, visitor, view.folder), daemon=True).start()
        return {}

    def _fetch(self, page: Page, visitor: Visitor, folder: Path) -> None:
        try:
            rows = page.workers.call(visitor, "watched", run=folder.name)
        except UserError:
            with self._lock:
                self._known.pop(folder, None)  # a worker may be free at the next look
            return
        self._known[folder] = {str(row["row_id"]): row["input"] for row in rows}


INPUTS = Inputs()


def shown(view: View, inputs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the rows with what was answered first and what is answered now; empty before the first evaluation."""
    if not view.watched:
        return ""
    first, last = view.watched[0], view.watched[-1]
    began = {one["row_id"]: one for one in first["answers"]}
    rows = []
    for one in last["answers"]:
        parts = inputs.get(str(one["row_id"]), {})
        held = "<br>".join(cell(entry) for entry in parts.values()) or markup.text(
            say("row {name}", name=one["row_id"])
        )
        before = began.get(one["row_id"], one)
        changed = last is not first and before["said"] != one["said"]
        told = say("at step {step}: {answer}", step=first["step"], answer=before["said"])
        then = f'<span class="quiet small">{markup.text(told, 140)}</span>'
        rows.append([held, markup.text(one["is"], 120), _answer(one) + (f"<br>{then}" if changed else "")])
    right = sum(not one["wrong"] for one in last["answers"])
    counts = {"right": right, "n": len(rows), "step": last["step"]}
    told = say("{right} of {n} right at step {step}; no model is chosen by these", **counts)
    return markup.title("Some validation rows", told) + markup.table([say("row"), say("is"), say("answered")], rows)


def _answer(one: Mapping[str, Any]) -> str:
    known = one.get("sure")
    sure = "" if known is None else f' <span class="quiet">{say("{share:.0%} sure", share=known)}</span>'
    sign = markup.mark(say("wrong"), "bad") if one["wrong"] else markup.mark(say("right"), "good")
    return f"{markup.text(one['said'], 160) or say('(nothing)')} {sign}{sure}"
