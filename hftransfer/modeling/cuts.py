"""What was cut of rows that are too long for a model, and what must not be."""

from __future__ import annotations

from collections.abc import Mapping

from hftransfer.config import RunConfig
from hftransfer.errors import UserError
from hftransfer.modeling.prepared import Prepared
from hftransfer.tasks.base import Preparation, Task


def truncation(prepared: Mapping[str, Prepared], preparation: Preparation, task: Task) -> list[str]:
    """Return a sentence for each split that lost the ends of inputs, or of targets."""
    said = []
    for split, found in prepared.items():
        count = max(found.count, 1)
        if found.truncated:
            said.append(
                f"{split}: {found.truncated / count:.1%} of rows ({found.truncated}) were cut at "
                f"{task.cut_at(preparation.max_length)}; data.max_length sets the limit"
            )
        if found.too_long:
            many = f"{split}: {found.too_long / count:.1%} of rows ({found.too_long})"
            done = "are not trained on: they last" if split == "train" else "are asked in parts: they last"
            done = done if task.splits else "were cut: they lasted"
            said.append(f"{many} {done} longer than {found.window:g} s; data.max_seconds sets the limit")
        if found.unread:
            said.append(
                f"{split}: {found.unread:,} words (blanks, signs without a shape) are nothing to the tokenizer: each "
                "is read as one unknown word"
            )
        if found.unmatched:
            said.append(
                f"{split}: {found.unmatched:,} answers are not learned: the chat template shows them otherwise in the "
                "whole conversation than where it asks for them"
            )
        if found.cut_targets:
            many = f"{split}: {found.cut_targets / count:.1%} of targets ({found.cut_targets}) "
            if not preparation.answer.cuts_targets:
                done = " and are not trained on" if split == "train" else ""
                said.append(f"{many}have more characters than their recordings give places{done}")
                continue
            dropped = split == "train" and preparation.config.long_targets == "drop"
            said.append(
                many
                + ("are not trained on: they are longer than " if dropped else "were cut at ")
                + f"{preparation.max_target_length} tokens; data.max_target_length sets the limit"
            )
    return said


def refuse_long_targets(config: RunConfig, prepared: Mapping[str, Prepared], longest: int | None) -> None:
    """Raise UserError for training rows whose target the decoder cannot take, where the configuration refuses them."""
    found = prepared["train"]
    if found.too_long and not len(found) and not found.cut_targets:
        raise UserError(
            f"recordings of at most {found.window:g} s are needed", "every one of train lasts longer",
            "Part them, with what is said in each part.",
        )  # fmt: skip
    if longest is None and found.cut_targets and (config.data.long_targets == "refuse" or not len(found)):
        raise UserError(
            "transcripts that fit their recordings are needed",
            f"{found.cut_targets} of {found.count} of train have more characters than there are places",
            "Check that each is of its recording.",
        )  # fmt: skip
    if config.data.long_targets == "refuse" and found.cut_targets:
        raise UserError(
            f"targets of at most {longest} tokens are needed",
            f"{found.cut_targets} of {found.count} rows of train have longer ones",
            "Shorten them, or set data.long_targets=cut or drop.",
        )
    if not len(found):
        raise UserError(
            f"targets of at most {longest} tokens are needed", "every row of train has a longer one",
            "Set data.long_targets=cut.",
        )  # fmt: skip
