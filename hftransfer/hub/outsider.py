"""The process that asks a published model as a stranger would: python -m hftransfer.hub.outsider REPO COMMIT ROWS"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hftransfer import imports

with imports.uncollected():
    import pyarrow.parquet as pq
    import transformers

    from hftransfer.hub.verification import TOLERANCE
    from hftransfer.predictor import Predictor
    from hftransfer.tasks.base import Task

# pipeline() resizes pictures with torchvision where that is installed; it rounds pixels otherwise than PIL does.
TORCHVISION_TOLERANCE = 5e-2


def main(arguments: Sequence[str]) -> int:
    """Answer the rows of a Parquet file with Predictor and with transformers alone; print JSON."""
    repo, revision, examples = arguments
    predictor = Predictor(repo, revision)
    task, answer = predictor.task, predictor.answered
    row_ids, raw = _rows(Path(examples), task)
    rows = [task.row(row) for row in raw]
    ours = [answer.plainly(row, output) for row, output in zip(rows, predictor.ask(rows), strict=True)]
    theirs, names = strangers(predictor, repo, revision, rows)
    pictures = task.lazy and importlib.util.find_spec("torchvision") is not None
    stranger = "the card's code" if task.pipeline is None else "pipeline()"
    report = {
        "row_ids": row_ids,
        "labels": {"Predictor": list(answer.names), stranger: names},
        "answers": {"Predictor": ours, stranger: theirs},
        "tolerance": {"Predictor": TOLERANCE, stranger: TORCHVISION_TOLERANCE if pictures else TOLERANCE},
    }
    print(json.dumps(report))
    return 0


def strangers(
    predictor: Predictor, repo: str, revision: str, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[Any] | None, list[str] | None]:
    """Return what transformers alone answers, by its pipeline or by the card's lines, and the names that it knows.

    None for rows that its pipeline does not take, and for names where an answer has none.
    """
    task, notes = predictor.task, predictor.notes
    if task.pipeline is None:
        return [by_the_card(predictor, repo, revision, row) for row in rows], None
    if not all(map(predictor.is_whole, rows)):
        return None, None
    make: Any = transformers.pipeline  # by a name that only the repo knows, which its overloads do not foresee
    pipeline = make(task.pipeline, repo, revision=revision, trust_remote_code=False)
    answered = [task.ask_pipeline(pipeline, predictor.opened(row), notes.get("max_length")) for row in rows]
    names = [str(name) for _, name in sorted(pipeline.model.config.id2label.items())]
    return None if None in answered else answered, names if predictor.answered.names else None


def by_the_card(predictor: Predictor, repo: str, revision: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Run the lines that the card shows, on one row, and return their answer in our form."""
    opened = predictor.opened(row)
    known: dict[str, Any] = {f"given_{name}": value for name, value in opened.items()}
    values = {name: f"given_{name}" for name in opened}
    # the lines are ours, from the task's own file; what the repo says stands in them as quoted literals
    exec(predictor.task.snippet(repr(repo), values, predictor.notes, repr(revision)), known)
    return predictor.answered.as_json(known["answer"])


def _rows(path: Path, task: Task) -> tuple[list[str], list[dict[str, Any]]]:
    table = pq.read_table(path).to_pylist()
    row_ids = [row.pop("row_id") for row in table]
    taken = {role.name: role.takes for role in task.shown if role.takes is not None}
    return row_ids, [{role: taken[role].stored(value) for role, value in row.items()} for row in table]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
