"""The looks at rows by their features, for wrong labels and for likely copies: whether, when and what was found."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil
from accelerate import PartialState

from hftransfer.audit import label_issues, likely_copies
from hftransfer.audit.label_issues import LabelIssues
from hftransfer.audit.likely_copies import LikelyCopies
from hftransfer.data import Data
from hftransfer.fitting.base import Setup, phase
from hftransfer.fitting.processes import is_main_process
from hftransfer.modeling.loading import Loaded

FREE = 4  # times the bytes of a model that must be left for it to be loaded once more


@dataclass(frozen=True)
class Looks:
    """What looks at rows found, and why there was none; `waits`: they are made when the model has learned."""

    label_issues: LabelIssues | None = None
    likely_copies: LikelyCopies | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)  # by look: why it cannot be made
    waits: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be said of the rows."""
        copies = self.likely_copies.warnings if self.likely_copies else ()
        return (*copies, *(self.label_issues.warnings() if self.label_issues else ()))


def planned(setup: Setup, loaded: Loaded, may_wait: bool) -> Looks:
    """Return which looks cannot be made, and whether the others wait until the model has learned.

    They read the model as it came, which is then loaded once more: not where memory is short, nor on a GPU, where a
    look takes a moment.
    """
    reasons = {
        "label_issues": label_issues.why_not(setup, loaded),
        "likely_copies": likely_copies.why_not(setup, loaded),
    }
    told = {name: why for name, why in reasons.items() if why is not None}
    size = sum(value.nbytes for value in loaded.model.state_dict().values())
    roomy = PartialState().device.type == "cpu" and FREE * size < psutil.virtual_memory().available
    return Looks(reasons=told, waits=may_wait and roomy and len(told) < len(reasons))


def look(setup: Setup, loaded: Loaded, found: Data, plan: Looks, bounded: bool) -> Looks:
    """Look for label errors and likely copies by features where that can be, and tell of it.

    `loaded` holds the model as it came. Every process must call.
    """
    began, issues, copies = time.perf_counter(), None, None
    if "label_issues" not in plan.reasons:
        phase(setup, "labels")
        issues = label_issues.look(setup, loaded, bounded)
    if "likely_copies" not in plan.reasons:
        phase(setup, "copies")
        copies = likely_copies.look(setup, loaded, found.hygiene.copied, bounded)
    total = found.sizes["train"]
    looked = issues.looked if issues else copies.looked["train"] if copies else total
    looks = dataclasses.replace(plan, label_issues=issues, likely_copies=copies, waits=False)
    if is_main_process():
        if looked < total:
            many = f"{looked:,} of {total:,} rows of train, drawn with the seed: what a look can afford"
            setup.run.event("notice", message=f"labels and copies are looked for among {many}")
        setup.run.event("looked", seconds=round(time.perf_counter() - began, 2))
        for warning in looks.warnings:
            setup.run.event("warning", message=warning)
    return looks
