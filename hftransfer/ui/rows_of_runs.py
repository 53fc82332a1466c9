"""Rows of a run to look at: to try, and where it errs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.runs import Run
from hftransfer.safety.pictures import SUFFIXES

if TYPE_CHECKING:
    from hftransfer.data.named_splits import Split
from hftransfer.ui.cells import TEXT, entry

ASKED = 20_000  # characters of an example: it is not only shown but asked, and half of a text is another one


def examples(run: str, n: int = 12) -> list[dict[str, Any]]:
    """Return test rows to try, texts as they are asked."""
    found = Run(Path(run))
    if kept := _kept(found, "examples.parquet", n, ASKED):
        return kept
    ids = [row["row_id"] for row in answers_of(found)[:n]]
    return [{"row_id": row_id, "input": values} for row_id, values in inputs_of(found, ids, ASKED).items()]


def watched(run: str) -> list[dict[str, Any]]:
    """Return the validation rows that are asked again while a model learns."""
    return _kept(Run(Path(run)), "watched.parquet", 100)


def _kept(run: Run, file: str, n: int, longest: int = TEXT) -> list[dict[str, Any]]:
    """Return the first rows of those that a run keeps in a file; none where there is no file."""
    path = run.predictions / file
    if not path.is_file():
        return []
    import pyarrow.parquet as pq

    rows = pq.read_table(path).slice(0, n).to_pylist()
    takes, titles = _takes(run), titles_of(run)
    return [
        {
            "row_id": row.pop("row_id"),
            "input": {r: _shown(takes, r, v, None, longest, titles) for r, v in row.items()},
        }
        for row in rows
    ]


def titles_of(run: Run) -> dict[str, str]:
    """Return what the entries that a run's model chooses from are called, by their ids; of other runs nothing."""
    from hftransfer.answers._catalogue import FILE

    path = next((path for path in (run.artifact / FILE, run.folder / FILE) if path.is_file()), None)
    if path is None:
        return {}
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["id", "title"])
    return {
        name: title for name, title in zip(*(table[one].to_pylist() for one in ("id", "title")), strict=True) if title
    }


def called(value: Any, titles: Mapping[str, str]) -> Any:
    """Return ids of entries by what people call these; any other value as it is."""
    if isinstance(value, list):
        return [called(one, titles) for one in value]
    return titles.get(value, value) if isinstance(value, str) else value


def _shown(
    takes: Mapping[str, Any], role: str, value: Any, folder: Path | None, longest: int, titles: Mapping[str, str]
) -> dict[str, Any]:
    """Return a value as the page can show it; of ids it has in `called` what people call them."""
    found = entry(_told(takes, role, value), folder, longest)
    named = called(value, titles) if isinstance(value, list) else value
    return found if named == value else {**found, "called": _told(takes, role, named)}


def _takes(run: Run) -> dict[str, Any]:
    """Return the kinds of input that a run's model is asked with, by role."""
    return {role.name: role.takes for role in catalog.task(run.config().task).shown if role.takes is not None}


def _told(takes: Mapping[str, Any], role: str, value: Any) -> Any:
    """Return a list of texts as one text that means it when it is asked; any other value as it is."""
    texts = isinstance(value, list) and all(isinstance(part, str) for part in value)
    return takes[role].shown(value) if texts and role in takes else value


def errors(run: str, n: int = 12) -> list[dict[str, Any]]:
    """Return the test rows that were answered worst, with their inputs, the worst first."""
    from hftransfer.comparison import contenders
    from hftransfer.evaluation.predictions import Predictions

    found = Run(Path(run))
    answers_of(found)  # refuses a run without answers
    answer = contenders.answer_of(found)
    stored = Predictions.read_parquet(found.predictions / "test.parquet", answer)
    scored = list(zip(map(answer.badness, stored.truth, stored.outputs), range(len(stored)), strict=True))
    worst = [place for bad, place in sorted(scored, key=lambda pair: (-pair[0], pair[1])) if bad > 0][:n]
    columns = answer.columns([stored.truth[i] for i in worst], [stored.outputs[i] for i in worst]) if worst else {}
    titles = titles_of(found)
    near = near_of(found, [stored.row_ids[place] for place in worst])
    asked = [*(stored.row_ids[place] for place in worst), *(row for rows in near.values() for row, _ in rows)]
    inputs, truths = inputs_of(found, asked), truths_of(found, [row for rows in near.values() for row, _ in rows])
    return [
        {
            "row_id": stored.row_ids[place],
            "label": said(called(answer.in_words(columns["label"][at].as_py()), titles)),
            "prediction": said(called(answer.in_words(columns["prediction"][at].as_py()), titles)),
            "score": None if (sure := answer.sureness(stored.outputs[place])) is None else round(sure, 4),
            "input": inputs.get(stored.row_ids[place], {}),
            "near": [
                {"row_id": row, "cosine": cosine, "label": truths.get(row), "input": inputs[row]}
                for row, cosine in near.get(stored.row_ids[place], ())
                if row in inputs
            ],
        }
        for at, place in enumerate(worst)
    ]


def near_of(run: Run, row_ids: Sequence[str]) -> dict[str, list[tuple[str, float]]]:
    """Return the training rows nearest to test rows, with their cosines, where the run looked for them."""
    path = run.predictions / "nearest.parquet"
    if not path.is_file():
        return {}
    import pyarrow.parquet as pq

    wanted = set(row_ids)
    rows = pq.read_table(path).to_pylist()
    return {row["row_id"]: [*zip(row["near"], row["cosine"], strict=True)] for row in rows if row["row_id"] in wanted}


def said(value: Any) -> Any:
    """Return a stored label or prediction as the page shows it: names in a row, a long text cut."""
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return value if not isinstance(value, str) or len(value) <= TEXT else f"{value[: TEXT - 1]}…"


def verdict(run: str, others: Sequence[str]) -> dict[str, Any]:
    """Return what finished runs on the same test rows say of one another: verdict, notes, and the table's cells."""
    from hftransfer.comparison import contenders, judging, writing

    found = judging.judge([run], contenders.gather([run, *others]))
    return {"verdict": found["verdict"], "notes": found["notes"], "table": writing.table(found)}


def answers_of(run: Run) -> list[dict[str, Any]]:
    """Return the stored predictions on the test rows."""
    import pyarrow.parquet as pq

    path = run.predictions / "test.parquet"
    if not path.is_file():
        raise UserError("a run that was evaluated is needed", f"{run.name} is {run.status().state}", "Wait for it.")
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def inputs_of(run: Run, row_ids: Sequence[str], longest: int = TEXT) -> dict[str, dict[str, Any]]:
    """Return the inputs of rows by role, read from the run's source again; nothing where it is gone."""
    takes, titles = _takes(run), titles_of(run)
    return {
        row_id: {
            role: _shown(takes, role, _beside(row.get(column)), split.folder, longest, titles)
            for role, column in columns.items()
        }
        for row_id, row, split, columns in _rows(run, row_ids, {*takes})
    }


def truths_of(run: Run, row_ids: Sequence[str]) -> dict[str, str]:
    """Return what rows of the source are, in words as it has them."""
    import datasets

    truth = catalog.task(run.config().task).truth.name
    found = {}
    for row_id, row, split, columns in _rows(run, row_ids, {truth}):
        value, column = row.get(columns.get(truth, "")), columns.get(truth, "")
        feature = (split.rows.features or {}).get(column)
        if isinstance(feature, datasets.ClassLabel) and isinstance(value, int) and value >= 0:
            value = feature.int2str(value)
        found[row_id] = str(said(value))
    return found


def _rows(
    run: Run, row_ids: Sequence[str], roles: Collection[str]
) -> Iterator[tuple[str, dict[str, Any], Split, dict[str, str]]]:
    """Yield rows of a run's source with their split and the columns of roles; nothing where the source is gone."""
    from hftransfer.data.loading import pick

    config = run.config()
    choices = [event for event in run.events()[0] if event["type"] == "columns"]
    columns = {c["role"]: c["column"] for c in choices[-1]["choices"] if c["role"] in roles} if choices else {}
    if not row_ids:
        return
    with tempfile.TemporaryDirectory(prefix="inputs-") as place, contextlib.suppress(UserError):
        picked = pick(config.data, Path(place), catalog.task(config.task)).splits
        for row_id, split, number in places(row_ids, picked):
            yield row_id, undecoded(split, number), split, columns


def _beside(value: Any) -> Any:
    """Return the name of a picture as an undecoded picture."""
    suffix = Path(value).suffix.lower() if isinstance(value, str) and len(value) < 300 else ""
    return {"bytes": None, "path": value} if suffix in SUFFIXES else value


def places(row_ids: Iterable[str], picked: Mapping[str, Split]) -> Iterator[tuple[str, Split, int]]:
    """Find rows by their id, `split:number`."""
    splits = {split.name: split for split in picked.values()}
    for row_id in row_ids:
        name, _, number = row_id.rpartition(":")
        if name in splits and number.isdigit() and int(number) < len(splits[name].rows):
            yield row_id, splits[name], int(number)


def undecoded(split: Split, number: int) -> dict[str, Any]:
    """Return one row of a split."""
    import datasets

    rows = split.rows
    for name, feature in (rows.features or {}).items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    found: dict[str, Any] = rows[number]
    return found
