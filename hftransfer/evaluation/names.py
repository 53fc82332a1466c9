"""Which metrics there are: ours by kind of answer, and those of the Hub by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hftransfer import answers
from hftransfer.answers.base import Answer
from hftransfer.errors import UserError, unknown

# What `evaluate` itself keeps on the Hub and can be computed from answers and truth alone, less what is ours.
HUB_METRICS = frozenset(
    (
        *("bleu", "brier_score", "cer", "character", "charcut_mt", "chrf", "confusion_matrix"),
        *("exact_match", "google_bleu", "mape", "mase", "mean_iou", "meteor", "nist_mt"),
        *("poseval", "rouge", "sacrebleu", "seqeval", "smape", "ter", "wer"),
    )
)
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # no path to a file: only what the Hub serves


def check_names(names: Sequence[str], answer: Answer[Any] | None = None) -> None:
    """Raise UserError for the first name that is neither a metric of ours that fits these answers nor of the Hub.

    A name with a slash is taken for a metric of some user on the Hub, which only loading it can tell.
    """
    ours = answers.metrics()
    choices = list(ours if answer is None else answer.metrics)
    for name in names:
        if name in ours and name not in choices and not from_hub(name, answer):
            wanted = f"a metric that fits the labels ({', '.join(answers.kinds_of(name))} for {name})"
            found = f"these are {answer.called if answer else 'unknown'}"
            raise UserError(wanted, found, f"Choices: {', '.join(choices)}.")
        if name not in ours and not from_hub(name, answer):
            raise unknown("metric", name, choices)


def from_hub(name: str, answer: Answer[Any] | None = None) -> bool:
    """Tell whether a name that is none of ours is loaded from the Hub: evaluate's own, or `user/metric`."""
    ours = answers.metrics() if answer is None else answer.METRICS
    return name not in ours and (name in HUB_METRICS or HUB_NAME.fullmatch(name) is not None)


def metric_names(answer: Answer[Any], extra: Sequence[str] = ()) -> list[str]:
    """Return the default metrics and the extra ones, each once; UserError for a name unknown or unfit."""
    check_names(extra, answer)
    return list(dict.fromkeys([*answer.default_metrics, *extra]))


def greater_is_better(name: str) -> bool:
    """Tell whether a higher value of one of our metrics, or of the loss, is the better one."""
    if name == "loss":
        return False
    if name not in answers.metrics():
        raise unknown("metric to choose by", name, answers.metrics())
    return answers.metrics()[name].greater_is_better
