"""What a run knows of copies and wrong labels among its rows, in words: for `check`, card, summary and page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAIRS = (("test", "train"), ("test", "validation"), ("validation", "train"))


def facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names with what was found, from the block `data` of a result; what was not looked for says why."""
    copies = _copies(data)
    found = [*copies.items()] or ([("copies of rows", "none found")] if data.get("leakage") is not None else [])
    hygiene = data.get("hygiene") or {}
    if hygiene and hygiene.get("near") is None:
        found.append(("near copies", "not looked for: the rows are streamed, or too many"))
    why = data.get("not_looked_for") or {}
    if "likely_copies" in why:
        found.append(("likely copies", f"not looked for: {why['likely_copies']}"))
    if hygiene.get("contradicting"):
        found.append(("contradicting labels", f"{hygiene['contradicting']:,} train rows with the input of another"))
    issues = data.get("label_issues")
    if issues:
        wrong = f"{issues['found']:,} of {issues['looked']:,} train rows looked at"
        found.append(("likely wrong labels", f"{wrong} ({issues['file']})" if issues["found"] else wrong))
    elif "label_issues" in why:
        found.append(("likely wrong labels", f"not looked for: {why['label_issues']}"))
    return found


def _copies(data: Mapping[str, Any]) -> dict[str, str]:
    """Return, for each pair of splits that shares rows and each split that repeats some, how alike how many are."""
    hygiene, likely = data.get("hygiene") or {}, data.get("likely_copies") or {}
    within = {use: {use: count} for use, count in (hygiene.get("repeated") or {}).items()}
    kinds = {"the same": (data.get("leakage") or {}, within), "near": (hygiene.get("near") or {},)}
    kinds["likely"] = (likely.get("found") or {},)
    found = {}
    for use, other in (*PAIRS, *((split, split) for split in data.get("splits", ()))):
        counts = {kind: sum(part.get(use, {}).get(other, 0) for part in parts) for kind, parts in kinds.items()}
        told = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
        if told:
            where = f"within {use}" if use == other else f"of {use} rows in {other}"
            found[f"copies {where}"] = f"{told} ({likely['file']})" if counts["likely"] else told
    return found
