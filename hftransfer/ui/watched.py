"""A few validation rows with the model's answers as they change while it learns."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hftransfer.errors import UserError
from hftransfer.ui import markup
from hftransfer.ui.data_step import cell
from hftransfer.ui.monitor import View
from hftransfer.ui.page import Page
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
        held = "<br>".join(cell(entry) for entry in parts.values()) or markup.text(f"row {one['row_id']}")
        before = began.get(one["row_id"], one)
        changed = last is not first and before["said"] != one["said"]
        then = f'<span class="quiet small">at step {first["step"]}: {markup.text(before["said"], 120)}</span>'
        rows.append([held, markup.text(one["is"], 120), _answer(one) + (f"<br>{then}" if changed else "")])
    right = sum(not one["wrong"] for one in last["answers"])
    told = f"{right} of {len(rows)} right at step {last['step']}; no model is chosen by these"
    return markup.title("Some validation rows", told) + markup.table(["row", "is", "answered"], rows)


def _answer(one: Mapping[str, Any]) -> str:
    sure = "" if one.get("sure") is None else f' <span class="quiet">{one["sure"]:.0%} sure</span>'
    sign = markup.mark("wrong", "bad") if one["wrong"] else markup.mark("right", "good")
    return f"{markup.text(one['said'], 160) or '(nothing)'} {sign}{sure}"
