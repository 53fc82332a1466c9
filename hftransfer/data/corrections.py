"""Labels that people mended: a table of rows and what they are, for the rows that are learned from."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.data.named_splits import SPLITS
from hftransfer.errors import UserError, hint, with_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from hftransfer.answers.base import Answer

COLUMNS = ("row_id", "given", "label")  # `given` may be missing: it guards against another data set
SETTING = "data.corrections"


@dataclass(frozen=True)
class Correction:
    """What one row is: its label in words (empty: the row is left out), and what it was when somebody looked."""

    label: str
    given: str | None = None


def read(path: str | Path) -> dict[str, Correction]:
    """Return corrections by row id from a CSV file; UserError where it is none, or says two things of a row."""
    place = Path(path).expanduser()
    try:
        with open(place, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{SETTING} names a CSV file", f"{place}: {error}", "Check the path.") from error
    found: dict[str, Correction] = {}
    for number, row in enumerate(rows, 2):
        if row.get("row_id") is None or row.get("label") is None:
            raise UserError(
                f"{place.name} needs the columns row_id and label", f"line {number} has {', '.join(map(str, row))}",
                "Name them; an empty label leaves its row out.",
            )  # fmt: skip
        one = Correction(row["label"].strip(), row.get("given"))
        if found.setdefault(row["row_id"], one) != one:
            raise UserError(
                f"{place.name} may say one thing of a row", f"{row['row_id']} stands there twice", "Keep one of them."
            )
    return found


def applied(
    corrections: Mapping[str, Correction],
    answer: Answer[Any],
    row_ids: Mapping[str, pa.Array],
    truth: Mapping[str, pa.Array],
    places: Mapping[str, np.ndarray],
    origin: Mapping[str, str],
) -> tuple[dict[str, pa.Array], dict[str, np.ndarray], list[str]]:
    """Return truth by table and places by split as corrected, with warnings.

    `row_ids` and encoded `truth` are those of each table, `places` of each split in the table that `origin` names.
    Test rows stay as they are: scores before and after are of the same rows. UserError for a label that train does not
    know, and where `given` is not what the data say.
    """
    truth, places = dict(truth), dict(places)
    left: dict[str, Correction] = dict(corrections)
    tested: list[str] = []
    dropped = changed = 0
    for use in SPLITS:
        ids = np.asarray(row_ids[origin[use]].to_pylist(), object)[places[use]]
        named = [place for place, name in enumerate(ids) if name in left]
        if use == "test":
            tested = [str(ids[place]) for place in named]
            for name in tested:
                del left[name]
            continue
        values = truth[origin[use]].to_pylist()
        keep = np.ones(len(ids), bool)
        for place in named:
            one = left.pop(str(ids[place]))
            at = int(places[use][place])
            _require_same(str(ids[place]), one, values[at], answer)
            if one.label:
                before, values[at] = values[at], _encoded(one.label, truth[origin[use]].type, answer, str(ids[place]))
                changed += values[at] != before
            else:
                keep[place] = False
                dropped += 1
        truth[origin[use]] = _array(values, truth[origin[use]].type)
        places[use] = places[use][keep]
    if len(left) == len(corrections):
        raise UserError(
            f"{SETTING} must be of rows that are learned from", f"none of its {len(corrections)} rows is one", "Check "
            "that it was made of the same data, split the same way.",
        )  # fmt: skip
    said = [f"corrections: {changed} rows have another label, {dropped} are left out"]
    if tested:
        said.append(with_rows(f"corrections: {len(tested)} are of test rows, which stay as they are", tested))
    if left:
        said.append(with_rows(f"corrections: {len(left)} are of rows that are not used", sorted(left)))
    return truth, places, said


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, kind)


def _require_same(row: str, one: Correction, value: Any, answer: Answer[Any]) -> None:
    found = answer.names[value] if answer.names and isinstance(value, int) else value
    if one.given not in (None, "") and str(found) != one.given:
        raise UserError(
            f"{SETTING} must be of this data set", f"{row} is {found!r} here and was {one.given!r} there",
            "Make the corrections anew: the data changed.",
        )  # fmt: skip


def _encoded(label: str, kind: pa.DataType, answer: Answer[Any], row: str) -> Any:
    import pyarrow as pa

    if pa.types.is_integer(kind) and answer.names:
        if label not in answer.names:
            raise UserError(f"{SETTING} needs labels of train", f"{row}: {label!r}", hint(label, answer.names))
        return answer.names.index(label)
    if pa.types.is_floating(kind):
        try:
            return float(label)
        except ValueError as error:
            raise UserError(f"{SETTING} needs numbers", f"{row}: {label!r}", "Mend it.") from error
    raise UserError(
        f"{SETTING} needs one label or one number a row", f"these are {answer.called}", "Mend the data themselves."
    )
