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
            share, where = found.truncated / (found.looked_at or count), task.cut_at(preparation.max_length)
            if found.looked_at is None:
                said.append(
                    f"{split}: {share:.1%} of rows ({found.truncated}) were cut at {where}; data.max_length sets the "
                    "limit"
                )
            else:
                said.append(
                    f"{split}: {share:.1%} of {found.looked_at:,} rows that were looked at are cut at {where}; "
                    "data.max_length sets the limit"
                )
        if found.too_long:
            many = f"{split}: {found.too_long / count:.1%} of rows ({found.too_long})"
            if not task.splits:
                told = f"{many} were cut: they lasted longer than {found.window:g} s"
            elif split == "train":
                told = f"{many} are not trained on: they last longer than {found.window:g} s"
            else:
                told = (
                    f"{many} are asked in parts: they last longer than {found.window:g} s; perplexity is measured "
                    "without them"
                )
            said.append(f"{told}; data.max_seconds sets the limit")
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
            targets = f"{split}: {found.cut_targets / count:.1%} of targets ({found.cut_targets})"
            if not preparation.answer.cuts_targets:
                done = " and are not trained on" if split == "train" else ": their perplexity is not measured"
                said.append(f"{targets} have more characters than their recordings give places{done}")
                continue
            dropped = split == "train" and preparation.config.long_targets == "drop"
            lost = "are not trained on: they are longer than" if dropped else "were cut at"
            said.append(
                f"{targets} {lost} {preparation.max_target_length} tokens; data.max_target_length sets the limit"
            )
    return said


def refuse_long_targets(
    config: RunConfig, prepared: Mapping[str, Prepared], preparation: Preparation, trains: bool
) -> None:
    """Raise UserError for training rows whose target the decoder cannot take, where they are to be refused.

    They are where the configuration says so, and where it says nothing, if they can only be wrong; `trains` tells
    whether the model is going to be trained.
    """
    found, longest = prepared["train"], preparation.max_target_length
    own = trains and preparation.answer.refuses_long and config.data.max_target_length is None
    refuses = (config.data.long_targets or ("refuse" if own else "cut")) == "refuse"
    if found.unmatched and found.target_lengths is not None and not found.target_lengths.any():
        raise UserError(
            "conversations are needed whose answers the chat template shows as it asks for them",
            f"of none of the {found.count:,} of train the answer begins where the template calls for one",
            "Use another model, or give prompt and completion as texts.",
        )  # fmt: skip
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
    if longest is not None and refuses and found.cut_targets:
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
