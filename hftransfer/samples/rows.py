"""The table of a data set, as one Parquet file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hftransfer.samples.sample import ROWS

# what `datasets` reads beside the types: sound stays encoded, as decoding it would need torchcodec
IMAGE = {"_type": "Image"}
AUDIO = {"_type": "Audio", "decode": False}


def write(folder: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], **features: dict[str, Any]) -> None:
    """Write rows under the names of their columns; a feature says what a column's bytes are."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, folder / ROWS)
