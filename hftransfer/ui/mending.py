"""Labels that may be wrong, and what somebody decided of each: a file among their uploads."""

from __future__ import annotations

import csv
import io
import threading
from dataclasses import dataclass
from pathlib import Path

from hftransfer.errors import UserError
from hftransfer.runs import Run, write_text
from hftransfer.ui import visitors
from hftransfer.ui.visitors import Visitor

ISSUES = "label_issues.csv"  # of a run, as the engine writes it
HEADER = ("row_id", "given", "label")  # of corrections: an empty label leaves its row out
MOST = 500  # rows that are offered
ONE_AT_A_TIME = threading.Lock()  # what people decide is read, added to and written: two pages at once lose nothing


@dataclass(frozen=True)
class Issue:
    """A row whose label may be wrong: what it is known by, its label, and the one that a probe suggests."""

    row_id: str
    shown: str
    given: str
    suggested: str


def issues_of(folder: Path) -> list[Issue]:
    """Return the rows of a run that may be labelled wrongly, likeliest first; none of kinds with several labels.

    UserError for a file of them that is damaged.
    """
    try:
        with open(folder / ISSUES, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[:MOST]
        return [
            Issue(row["row_id"], row["text_or_file"], row["given"], row["suggested"])
            for row in rows
            if not row.get("about")
        ]
    except FileNotFoundError:
        return []
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise UserError(f"{ISSUES} must be readable", " ".join(str(error).split())[:200], "Train again.") from error


def place_of(visitor: Visitor, run: Run) -> Path:
    """Return where the corrections that this visitor makes of a run's rows lie: among their uploads."""
    return Path(visitor.uploads) / f"corrections-{run.name}.csv"


def decided(path: Path) -> dict[str, tuple[str, str]]:
    """Return (given, label) by row of what was decided so far; UserError for a file that is damaged.

    To take it for an empty one would be to write the next decision over all that were made.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return {row["row_id"]: (row["given"], row["label"]) for row in csv.DictReader(file)}
    except FileNotFoundError:
        return {}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(f"{path.name} must be readable", words, "Mend it, or delete it under Uploads.") from error


def learnt(visitor: Visitor, run: Run) -> dict[str, tuple[str, str]]:
    """Return the decisions that a run was itself trained with, by row; those of somebody else are not read."""
    before = run.config().data.corrections
    return decided(Path(before)) if before and (visitor.local or visitor.owns(before)) else {}


def so_far(visitor: Visitor, run: Run) -> dict[str, tuple[str, str]]:
    """Return what was decided of a run's rows: before it was trained, and since."""
    return learnt(visitor, run) | decided(place_of(visitor, run))


def decide(visitor: Visitor, run: Run, row_id: str, label: str) -> None:
    """Write down what a row is: its own label, another one, or none (empty), which leaves it out."""
    visitors.require(visitor)
    issue = next((one for one in issues_of(run.folder) if one.row_id == row_id), None)
    if issue is None:
        raise UserError("a row that may be labelled wrongly is needed", "this is none", "Reload the page.")
    path = place_of(visitor, run)
    with ONE_AT_A_TIME:
        found = so_far(visitor, run)
        given, _ = found.get(row_id, (issue.given, ""))  # what the data say, where a run before it mended the row
        found[row_id] = (given, label)
        out = io.StringIO()
        csv.writer(out).writerows([HEADER, *((row, *both) for row, both in found.items())])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, out.getvalue())
