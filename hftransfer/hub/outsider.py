"""The process that asks a published model as a stranger would: python -m hftransfer.hub.outsider REPO COMMIT ROWS"""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hftransfer import imports

with imports.uncollected():
    import PIL.Image
    import pyarrow.parquet as pq
    import transformers

    from hftransfer import objectives
    from hftransfer.hub.verification import TOLERANCE
    from hftransfer.predictor import Predictor

# pipeline() resizes pictures with torchvision where that is installed; it rounds pixels otherwise than PIL does.
TORCHVISION_TOLERANCE = 5e-2


def main(arguments: Sequence[str]) -> int:
    """Answer the rows of a Parquet file with Predictor and with transformers' own pipeline; print JSON."""
    repo, revision, examples = arguments
    predictor = Predictor(repo, revision)
    task, kind = predictor.task, predictor.labels.kind
    row_ids, raw = _rows(Path(examples), {role.name: role.kind for role in task.roles})
    rows = [task.row(row) for row in raw]
    scores = [objectives.probabilities(kind, logits[None], 1.0)[0] for logits in predictor.logits(rows)]
    make: Any = transformers.pipeline  # by a name that only the repo knows, which its overloads do not foresee
    pipeline = make(task.name, repo, revision=revision, trust_remote_code=False)
    settings = pipeline.model.config
    names = [settings.id2label[i] for i in sorted(settings.id2label)]
    asked = [task.ask_pipeline(pipeline, row, predictor.notes.get("max_length")) for row in rows]
    piped = None if None in asked else [
        [answer[name] for name in names] if kind != "regression" else next(iter(answer.values()))
        for answer in asked if answer is not None
    ]  # fmt: skip
    pictures = task.input_widget == "image" and importlib.util.find_spec("torchvision") is not None
    report = {
        "row_ids": row_ids,
        "labels": {"Predictor": list(predictor.labels.names), "pipeline()": None if kind == "regression" else names},
        "scores": {"Predictor": [score.tolist() for score in scores], "pipeline()": piped},
        "pipeline_tolerance": TORCHVISION_TOLERANCE if pictures else TOLERANCE,
    }
    print(json.dumps(report))
    return 0


def _rows(path: Path, kinds: Mapping[str, str]) -> tuple[list[str], list[dict[str, Any]]]:
    table = pq.read_table(path).to_pylist()
    row_ids = [row.pop("row_id") for row in table]
    for row in table:
        for role, value in row.items():
            if kinds[role] == "image":
                row[role] = PIL.Image.open(io.BytesIO(value["bytes"]))
    return row_ids, table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
