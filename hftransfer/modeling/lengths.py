"""How long an input is read by default: no row is cut below 512 tokens, and above that the rows' own lengths decide.

Most models read 512 tokens and no more. Of one that reads more, 99 % of the rows are read whole, and the price is
told; the longest 1 % would make every batch that one of them is in several times as dear.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hftransfer.answers.base import Answer
from hftransfer.config import RunConfig
from hftransfer.modeling.loading import longest_input, most_tokens
from hftransfer.processors import tokenizer_of
from hftransfer.runs import Run
from hftransfer.tasks.base import Preparation, Task

EVENT = "lengths"
SHARE = 0.99  # of the rows that are read whole
STEP = 64  # tokens that the longest input is rounded up to
LOOKED_AT = 2000  # rows


def settle(
    run: Run,
    resume: bool,
    config: RunConfig,
    task: Task,
    rows: Any,
    answer: Answer[Any],
    processor: Any,
    settings: Any,
) -> tuple[int | None, dict[str, dict[str, Any]]]:
    """Return at how many tokens an input is cut, None where none is, and the events that tell of a choice.

    A resume, and a run that repeats another, cut as it did.
    """
    if task.lazy:
        return None, {}
    earlier = None if config.data.max_length is not None else of_earlier(run)
    if earlier is not None or resume:  # without its word an older version began it, which went by the model alone
        return earlier or longest_input(config, processor, settings), {}
    longest, reason = choose(config, task, rows, answer, processor, settings)
    told: dict[str, dict[str, Any]] = {} if longest is None else {EVENT: {"tokens": longest}}
    return longest, told | ({} if reason is None else {"notice": {"message": reason}})


def choose(
    config: RunConfig, task: Task, rows: Any, answer: Answer[Any], processor: Any, settings: Any
) -> tuple[int | None, str | None]:
    """Return at how many tokens an input is cut, and why in words where the rows' own lengths say so.

    `rows` are those of train, on disk or streamed; of a stream the first are looked at.
    """
    usual, tokenizer = longest_input(config, processor, settings), tokenizer_of(processor)
    most = None if tokenizer is None else most_tokens(tokenizer, settings)
    if usual is None or most is None or config.data.max_length is not None or most <= usual or not task.by_length:
        return usual, None
    found = lengths_of(task, rows, processor, Preparation(config.data, answer, config.seed, most))
    wanted = int(np.quantile(found, SHARE, method="higher"))
    if wanted <= usual:
        return usual, None
    chosen = min(most, math.ceil(wanted / STEP) * STEP)
    times = np.minimum(found, chosen).sum() / np.minimum(found, usual).sum()
    which = (
        f"the first {len(found):,} rows of the stream" if config.data.streaming else f"{len(found):,} rows of train"
    )
    whole = (found <= chosen).mean()
    return chosen, (
        f"inputs are read up to {chosen:,} tokens, of {most:,} that the model can: so {whole:.1%} of {which} are read "
        f"whole; that is {times:.1f} times the tokens of a cut at {usual}, and more than that in time: set "
        f"data.max_length={usual} to save it"
    )


def lengths_of(task: Task, rows: Any, processor: Any, preparation: Preparation) -> np.ndarray:
    """Return the tokens (n,) of the first rows of a stream, or of rows from all over a data set on disk."""
    roles = [role.name for role in task.shown]
    if preparation.config.streaming:
        batch = list(rows.take(LOOKED_AT))
        shown = {name: [row[name] for row in batch] for name in roles if name in batch[0]}
    else:
        places = np.linspace(0, len(rows) - 1, min(LOOKED_AT, len(rows))).round().astype(int)
        kept = rows.select_columns([name for name in roles if name in rows.column_names]).select(places)
        shown = dict(kept[:])
    return np.asarray([len(ids) for ids in task.inputs(shown, processor, preparation)["input_ids"]])


def of_earlier(run: Run) -> int | None:
    """Return what an earlier process of this run chose, or the run that this one repeats; None where none did."""
    found = [event for event in run.events()[0] if event["type"] == EVENT]
    return int(found[-1]["tokens"]) if found else None
