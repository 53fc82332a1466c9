"""text-generation: a prompt or a conversation to what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hftransfer.answers._causal import Item, Reader, places
from hftransfer.answers.continuation import Continuation
from hftransfer.config import DataConfig
from hftransfer.inputs import _dialogues
from hftransfer.inputs.conversation import CONVERSATION
from hftransfer.processors import require_tokenizer
from hftransfer.tasks.base import Arranged, Known, Preparation, Role, Task, truth


class TextGeneration(Task):
    """One stack of layers that goes on from what it reads: the truth is a part of the text."""

    name = "text-generation"
    by_length = False  # most of memory goes by length times vocabulary
    about = "a prompt or a conversation to what comes next"
    heeds = frozenset({"form"})
    roles = (
        Role(_dialogues.PROMPT, CONVERSATION, "a prompt, or the turns of a conversation", _dialogues.PROMPTS),
        truth(_dialogues.COMPLETION, "what comes next", _dialogues.COMPLETIONS),
    )
    answers = (Continuation(),)
    known_models = (
        Known("HuggingFaceTB/SmolLM2-135M-Instruct", "Small and quick; chats in English.", "135 M", "apache-2.0"),
        Known("HuggingFaceTB/SmolLM2-360M", "A base model; English.", "362 M", "apache-2.0"),
        Known("Qwen/Qwen3-0.6B", "A hundred languages; chats.", "596 M", "apache-2.0"),
        Known("Qwen/Qwen3-1.7B", "A hundred languages; chats.", "1.7 B", "apache-2.0"),
    )
    auto_model, auto_processor = "AutoModelForCausalLM", "AutoTokenizer"
    # what is trained on is padded there; what is to be written on, where it is asked, on the left
    processor_options: ClassVar[Mapping[str, Any]] = {"padding_side": "right"}
    pipeline = "text-generation"
    also = ("chat", "conversational", "causal-lm", "language-modeling", "instruction-tuning", "sft")
    carried = ("form",)

    def arranged(self, first: list[dict[str, Any]], features: Mapping[str, Any], config: DataConfig) -> Arranged:
        """Find out whether rows are conversations, instructions, prompts with completions, or running texts."""
        found = _dialogues.find(features, first, config.column_names, config.form)
        if found is None:
            return Arranged()
        row = found.row

        def both(*columns: list[Any]) -> dict[str, list[Any]]:
            assert row is not None
            pairs = [row(*values) for values in zip(*columns, strict=True)]
            return {_dialogues.PROMPT: [one for one, _ in pairs], _dialogues.COMPLETION: [one for _, one in pairs]}

        said = () if found.guess is None else (found.guess,)
        return Arranged({"form": found.form}, found.columns, both if row is not None else None, said)

    def inputs(self, rows: Mapping[str, list[Any]], processor: Any, preparation: Preparation) -> dict[str, Any]:
        """Tokenize what is asked with."""
        return self.items(rows, None, processor, preparation)

    def items(
        self, rows: Mapping[str, list[Any]], truth: list[Any] | None, processor: Any, preparation: Preparation
    ) -> dict[str, Any]:
        """Tokenize prompts with what follows them; labels are the tokens that are learned."""
        reader = Reader(require_tokenizer(processor))
        prompts = rows[_dialogues.PROMPT]
        found: list[tuple[int, Item]] = []
        for number, (prompt, rest) in enumerate(zip(prompts, truth or [None] * len(prompts), strict=True)):
            found += [(number, item) for item in _items(reader, prompt, rest, preparation)]
        items = [item for _, item in found]
        encoded: dict[str, Any] = {
            "input_ids": [item.ids for item in items],
            "attention_mask": [[1] * len(item.ids) for item in items],
            "_prompt": [item.prompt for item in items],
            "_row": [number for number, _ in found],
            "_length": [len(item.ids) for item in items],
            "_truncated": [item.cut for item in items],
        }
        if truth is None:
            return encoded
        return {
            **encoded,
            "labels": [
                [token if learned else -100 for token, learned in zip(item.ids, item.learned, strict=True)]
                for item in items
            ],
            "_cut_target": [item.cut_answer for item in items],
            "_target_length": [item.answer for item in items],
            "_unmatched": [item.unmatched for item in items],
        }

    def conditions(self, said: Mapping[str, Any]) -> list[str]:
        """Say how a prompt is given."""
        if said.get("form") == "chat":
            return ["It is given a list of turns, each with role and content: it was trained on conversations."]
        return ["Leave no blank at the end of a prompt: it was trained to write it."]

    def given(self, value: str, said: Mapping[str, Any]) -> str:
        """Give a prompt as a turn of the user where the model learned from conversations."""
        return f'[{{"role": "user", "content": {value}}}]' if said.get("form") == "chat" else value

    def ask_pipeline(self, pipeline: Any, row: dict[str, Any], max_length: int | None) -> dict[str, Any] | None:
        """Ask with turns or with a prompt, whatever was opened; nothing where it is more than the model reads."""
        asked, reader = row[_dialogues.PROMPT], Reader(pipeline.tokenizer)
        asked = asked.rstrip() if isinstance(asked, str) else asked
        ids = (
            [*reader.head, *reader.ids(asked)] if isinstance(asked, str) else reader.ids(reader.templated(asked, True))
        )
        most = places(pipeline.model.config)
        if most is not None and len(ids) + (pipeline.model.generation_config.max_new_tokens or 0) > most:
            return None
        answered = pipeline(asked, return_full_text=False)
        return {"text": answered[0]["generated_text"].strip()}


def _items(reader: Reader, prompt: str, rest: str | None, preparation: Preparation) -> list[Item]:
    config = preparation.config
    asked = CONVERSATION.opened(prompt, config)
    if config.form is None and isinstance(asked, str) and reader.tokenizer.chat_template:
        asked = [{"role": "user", "content": asked}]  # a model that is not ours, and was made to chat
    if isinstance(asked, list):
        return [reader.chat(asked, rest, preparation.max_length, config.max_target_length)]
    if config.form == "text":
        return reader.text(asked, rest, preparation.max_length)
    return [reader.completion(asked, rest, preparation.max_length, config.max_target_length)]


TASK = TextGeneration()
