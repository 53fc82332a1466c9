"""question-answering: a question and a text to the part of the text that answers it, or to none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hftransfer.answers.base import Answer
from hftransfer.answers.span import Span
from hftransfer.errors import UserError
from hftransfer.inputs.text import TEXT
from hftransfer.tasks.base import Known, Preparation, Role, Task, truth


class QuestionAnswering(Task):
    """Question and text beside one another; a text that does not fit is read in windows that overlap."""

    name = "question-answering"
    by_length = False  # rows are read in windows
    about = "a question and a text to the part that answers it"
    roles = (
        Role("question", TEXT, "a question", ("question", "query")),
        Role("context", TEXT, "a text that may hold the answer", ("context", "passage", "paragraph", "document",
             "text"), shared=True),
        truth("answers", "the parts of the text that answer, none where there is no answer", ("answers", "answer")),
    )  # fmt: skip
    answers = (Span(within="context"),)
    known_models = (
        Known("distilbert/distilbert-base-cased", "Small and quick; English.", "66 M", "apache-2.0"),
        Known("deepset/roberta-base-squad2", "Knows how to answer, and when not to; English.", "124 M", "cc-by-4.0"),
        Known("FacebookAI/xlm-roberta-base", "A hundred languages.", "278 M", "mit"),
    )
    auto_model = "AutoModelForQuestionAnswering"
    browser = "question-answering"
    browser_takes_all = True
    auto_processor = "AutoTokenizer"
    processor_options: ClassVar = {"padding_side": "right"}  # the places of answers are counted from the left
    also = ("extractive-question-answering", "squad", "qa")
    lacks = dict.fromkeys(
        ("visual-question-answering", "document-question-answering", "table-question-answering", "vqa"),
        "answers come from a text here, not from pictures or tables",
    )
    carried = ("stride",)

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Tokenize questions and texts; what does not fit one window goes on in the next, which repeats its end.

        Of each window, `_text` is the part of the text that it shows, from character `_at` on; `_places` are the
        first and last character of each of its tokens, one after the other, the first of them token `_first`; `_none`
        is the token that stands for no answer.
        """
        if not processor.is_fast:
            raise UserError(
                "a fast tokenizer is needed, which tells the place of each token",
                f"found {type(processor).__name__}", "Use a model that has a tokenizer.json.",
            )  # fmt: skip
        size = int(preparation.max_length or 0)
        most = question_tokens(size, processor)
        questions, cut = [], []
        for question in rows["question"]:
            questions.append(shortened(question, processor, most))
            cut.append(questions[-1] != question)
        stride = shared_tokens(preparation.config.stride, size, processor)
        encoded = processor(
            questions, rows["context"], truncation="only_second", max_length=size, stride=stride,
            return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        sources, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
        found: dict[str, list[Any]] = {name: [] for name in ("_text", "_at", "_places", "_first", "_none")}
        for window, (source, places) in enumerate(zip(sources, offsets, strict=True)):
            inside = [i for i, part in enumerate(encoded.sequence_ids(window)) if part == 1]
            shown = np.array([places[i] for i in inside], np.int32).reshape(-1, 2)
            at, end = (int(shown[:, 0].min()), int(shown[:, 1].max())) if len(shown) else (0, 0)
            ids = encoded["input_ids"][window]
            known = processor.cls_token_id in ids
            values = (rows["context"][source][at:end], at, (shown - at).ravel(), inside[0] if inside else 0,
                      ids.index(processor.cls_token_id) if known else 0)  # fmt: skip
            for name, value in zip(found, values, strict=True):
                found[name].append(value)
        begins = [not i or sources[i - 1] != source for i, source in enumerate(sources)]
        told = [first and cut[source] for first, source in zip(begins, sources, strict=True)]
        return {**encoded, **found, "_row": sources, "_truncated": told}

    def cut_at(self, max_length: int | None) -> str:
        """Say how long a question may be; texts are not cut."""
        return f"half of {max_length} tokens, which is what a question may take"

    def asked_in_javascript(self, answer: Answer[Any]) -> str:
        """Give the question, then the text."""
        return '"a question", "a text with its answer"'

    def snippet(
        self, place: str, row: Mapping[str, str], notes: Mapping[str, Any], revision: str | None = None
    ) -> str:
        """Score every span of every window, and compare the best with no answer where the model may give none."""
        answer, size = notes["answer"], int(notes.get("max_length") or 512)
        at = "" if revision is None else f", revision={revision}"
        stride = notes.get("carried", {}).get("stride") or f"{size} // 4"
        silent = (
            f'if none - best > {answer["threshold"]!r}:\n    answer = {{"answer": "", "start": 0, "end": 0}}'
            if answer["unanswerable"]
            else ""
        )
        return f"""import torch
from transformers import {self.auto_model}, {self.auto_processor}

tokenizer = {self.auto_processor}.from_pretrained({place}{at})
model = {self.auto_model}.from_pretrained({place}{at})
question, context = {row["question"]}, {row["context"]}
most = ({size} - tokenizer.num_special_tokens_to_add(pair=True)) // 2
words = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
question = question[: words[:most][-1][1]]
cut = {{"truncation": "only_second", "max_length": {size}, "stride": {stride}, "return_overflowing_tokens": True}}
windows = tokenizer(question, context, **cut, return_offsets_mapping=True, padding=True, return_tensors="pt")
places, _ = windows.pop("offset_mapping"), windows.pop("overflow_to_sample_mapping")
with torch.no_grad():
    scores = model(**windows)
best, none = float("-inf"), float("inf")
for i, (starts, ends) in enumerate(zip(scores.start_logits, scores.end_logits)):
    inside = torch.tensor([part == 1 for part in windows.sequence_ids(i)])
    spans = (inside[:, None] & inside).triu().tril({answer["longest"] - 1})
    both = (starts[:, None] + ends).masked_fill(~spans, float("-inf"))
    first, last = divmod(both.argmax().item(), len(ends))
    if both[first, last] > best:
        best, start, end = both[first, last].item(), places[i, first, 0].item(), places[i, last, 1].item()
    ids = windows["input_ids"][i].tolist()
    at = ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0
    none = min(none, (starts[at] + ends[at]).item())
answer = {{"answer": context[start:end].strip(), "start": start, "end": end}}
{silent}""".rstrip()


def question_tokens(size: int, processor: Any) -> int:
    """Return how many tokens of a window of `size` a question may take: half of them."""
    return max((size - int(processor.num_special_tokens_to_add(pair=True))) // 2, 1)


def shortened(question: str, processor: Any, most: int) -> str:
    """Return the beginning of a question that has at most so many tokens."""
    while len(places := _places(question, processor)) > most:
        question = question[: min(places[most - 1][1], len(question) - 1)]
    return question


def _places(question: str, processor: Any) -> Any:
    return processor(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]


def shared_tokens(asked: int | None, size: int, processor: Any) -> int:
    """Return how many tokens two windows of `size` share; UserError where that would leave none to go on by."""
    most = size - int(processor.num_special_tokens_to_add(pair=True)) - question_tokens(size, processor) - 1
    if asked is not None and asked > most:
        raise UserError(
            f"data.stride must be at most {most} for windows of {size} tokens, of which a question may take half",
            f"it is {asked}", f"Set data.stride={most} or less, or data.max_length higher.",
        )  # fmt: skip
    return min(size // 4, most) if asked is None else asked


TASK = QuestionAnswering()
