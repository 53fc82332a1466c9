"""What a card says of a run's settings: given, chosen by rule or measured, and how often one looked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hftransfer.card.markup import bullets, code, figure, prose, table


def adapted_by(result: Mapping[str, Any], method: str) -> str:
    """Return the method that a model came of in the end: `auto` chooses one."""
    return str(((result.get("auto") or {}).get("final") or {}).get("method") or method)


def choices(result: Mapping[str, Any]) -> list[str]:
    """Return the settings of an `auto` run, what it tried, and how often validation rows were looked at."""
    found = result.get("auto")
    if not found:
        return []
    final, soup = found["final"], found["soup"]
    rows = [(code(one["name"]), code(_value(one["value"])), one["origin"], prose(one["reason"]))
            for one in found["plan"]["settings"]]  # fmt: skip
    said = []
    if "other" in final:
        said.append(
            f"Kept: {code(final['method'])}, whose {prose(final['judged_by'])} on validation rows is "
            f"{figure(final['loss'])}; that of {code(final['instead_of'])} is {figure(final['other'])}."
        )
    if "decided_by" in final:
        said.append(
            f"These are too near to tell apart: {code(final['decided_by'])} on validation rows decided, "
            f"{figure(final['score'])} against {figure(final['other_score'])}."
        )
    if found["again"]:
        said.append(prose(found["again"]["message"]))
    if soup.get("steps"):
        steps = ", ".join(map(str, soup["steps"]))
        said.append(f"The weights are the mean of the checkpoints of steps {steps}: validation gained.")
    if found["looks"]:
        said.append(f"Validation rows were looked at {found['looks']:,} times to choose; test rows once, at the end.")
    tried = [
        (
            code(one["name"]),
            figure(one["learning_rate"]),
            figure(one["loss"]) if "loss" in one else "diverged",
            "went on" if one["name"] == found.get("goes_on") else "",
        )
        for one in found["trials"]
    ]
    parts = [
        "The settings, who chose them (`given`: the user) and why:",
        table(("setting", "value", "origin", "why"), rows),
    ]
    if tried:
        by = prose(found["trials"][0]["judged_by"])
        parts += ["Tried for the learning rate:", table(("trial", "learning rate", f"validation {by}", ""), tried)]
    return [*parts, bullets(said)] if said else parts


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
