"""Workers: one process a visitor for what needs torch or datasets; nothing that happens there ends the app."""

from __future__ import annotations

from typing import Any

from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor


class Workers:
    """The workers of all visitors; each starts on first use and ends when idle, too large or too slow."""

    def __init__(self, settings: Settings) -> None:
        raise NotImplementedError

    def call(self, visitor: Visitor, function: str, timeout: float | None = None, **arguments: Any) -> Any:
        """Run one function of hftransfer.ui.worker there and return its answer (plain JSON); UserError otherwise.

        preview(tree)                      data section and task: {columns: [{name, type}], choices: [{role, column,
                                           reason}], rows: [{column: {kind, value}}], balance: [{label, count}],
                                           splits: {name: n}, labels, warnings: [..]}; kind is text, number, image
                                           (value: a data: URL of a small PNG) or empty
        model(model, revision, task)       {architecture, parameters, size_mb, license, labels, longest, task}
        estimate(tree)                     {seconds, memory_mb, step_seconds, steps, warnings}, from real steps
        predict(where, inputs, top_k)      a list of the Predictor's answers; a picture is {"image": path}
        examples(run, n)                   [{row_id, input: {role: {kind, value}}}] of the test rows
        errors(run, n)                     [{row_id, label, prediction, score, input: {...}}], worst first
        explain(where, input)              {kind: "tokens", parts: [{text, weight}]} or {kind: "pixels", image,
                                           weights: [[..]]}, weight > 0 where it spoke for the answer
        """
        raise NotImplementedError

    def close(self) -> None:
        """End every worker."""
        raise NotImplementedError
