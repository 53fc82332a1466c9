"""Conversations in whatever form they are kept, and texts, instructions and conversations as prompt and completion."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hftransfer.column_types import STRINGS, element, is_list, is_value

Turns = list[dict[str, Any]]  # role and content of each turn, None for one that is no text; see `WEIGHT`
Form = Literal["text", "completion", "chat"]
PROMPT, COMPLETION = "prompt", "completion"  # the columns that every form becomes
SPEAKERS = {
    "human": "user", "prompter": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant", "ai": "assistant", "observation": "tool", "function": "tool",
}  # fmt: skip
WEIGHT = "weight"  # 0 in an answer that is not to be learned (OpenAI's)
CALLS = ("tool_calls", "function_call")  # in a turn that calls a tool: its content says nothing of that
SYSTEMS = ("system", "system_prompt", "system_message")
KEYS = (("role", "content"), ("from", "value"))  # OpenAI's and transformers', ShareGPT's
CHATS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns", "chosen")
INSTRUCTIONS, CONTEXTS = ("instruction", "instructions"), ("input", "context")
COMPLETIONS = ("completion", "response", "output", "answer", "reply", "target", "solution")
PROMPTS = ("prompt", "instruction", "question", "query", "source", "input")
TEXTS = ("text", "content", "document", "story", "article", "body", "sentence", "code")
LOOKED_AT = 20  # rows by which a form is told


def turns(value: Any) -> Turns | None:
    """Return the turns of a conversation, roles under transformers' names; None for what is none.

    It may be a list of turns, {"role": [...], "content": [...]}, or either as JSON or as Python writes it.
    """
    if isinstance(value, str):
        value = _read(value)
    for speaker, said in KEYS:
        if isinstance(value, Mapping) and all(isinstance(value.get(key), list) for key in (speaker, said)):
            value = [{speaker: who, said: what} for who, what in zip(value[speaker], value[said], strict=False)]
        if isinstance(value, list) and value and all(isinstance(turn, Mapping) and speaker in turn for turn in value):
            return [_turn(turn, speaker, said) for turn in value]
    return None


def _turn(turn: Mapping[str, Any], speaker: str, said: str) -> dict[str, Any]:
    content = None if any(turn.get(name) for name in CALLS) else _text(turn.get(said))
    found = {"role": _role(turn[speaker]), "content": content}
    return found | {WEIGHT: 0} if turn.get(WEIGHT) == 0 and found["role"] == "assistant" else found


def _read(text: str) -> Any:
    if not text.lstrip().startswith(("[{", "{", "[ {")):
        return None
    try:
        return json.loads(text)
    except ValueError:
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None


def _role(name: Any) -> str:
    known = str(name).strip().lower()
    return SPEAKERS.get(known, known)


def _text(content: Any) -> str | None:
    """Return a turn's text; of a list of parts the joined texts, None where one is a picture or the like."""
    if isinstance(content, str) or content is None:
        return content
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        return "".join(str(part.get("text") or "") for part in content)
    return None


def written(conversation: Turns) -> str:
    """Return turns as a row holds them: one string, that `turns` reads."""
    return json.dumps(conversation, ensure_ascii=False)


# --- forms ---


@dataclass(frozen=True)
class Found:
    """The form of a data set: the columns that are read, how a row becomes (prompt, completion), and what is said.

    `row` is None where prompts and completions stand in columns of their own already.
    """

    form: Form
    columns: tuple[str, ...] = ()
    row: Callable[..., tuple[str | None, str | None]] | None = None
    guess: str | None = None


def find(
    features: Mapping[str, Any], first: Sequence[Mapping[str, Any]], named: Mapping[str, str], asked: Form | None
) -> Found | None:
    """Return the form by the user's word, else by the columns' names and first values; None where none is certain."""
    chats = [name for name in features if _is_chat([row.get(name) for row in first])]
    if named:
        chats = [name for name in chats if name in named.values()]
    strings = [name for name, feature in features.items() if is_value(feature, *STRINGS) and name not in chats]
    system = next((name for name in strings if name in SYSTEMS), None)
    tools = "; `tools` is not read: a template that shows them is not told of them" if "tools" in features else ""
    if PROMPT in chats and COMPLETION in chats:
        told = f"`{PROMPT}` and `{COMPLETION}` hold the turns of one conversation; every answer in it is learned"
        return Found("chat", (PROMPT, COMPLETION), _of_two, told)
    if chats:
        chosen = min(chats, key=lambda name: CHATS.index(name) if name in CHATS else len(CHATS))
        form = "in ShareGPT's form " if _is_sharegpt(first, chosen) else ""
        every = (
            f"`{chosen}` holds conversations {form}(data.columns.{COMPLETION}): every answer in them is learned, the "
            "last one is what is asked for"
        )
        if system is not None:
            return Found("chat", (chosen, system), _of_chat_behind, f"{every}; `{system}` begins them{tools}")
        return Found("chat", (chosen,), _of_chat, f"{every}{tools}")
    instructions = [name for name in strings if name in INSTRUCTIONS]
    contexts = [name for name in strings if name in CONTEXTS]
    asking = [name for name in PROMPTS if name in strings]
    answers = [name for name in COMPLETIONS if name in strings and name not in asking[:1]]
    before = [] if system is None else [system]
    said = f"`{system}` stands before it; " if before else ""
    if instructions and contexts and not named and answers:
        columns = (*before, instructions[0], contexts[0], answers[0])
        row = _of_system if before and asked == "chat" else _of_instruction
        return Found(
            asked or "completion", columns, row,
            f"a prompt is `{instructions[0]}`, and behind an empty line `{contexts[0]}` where it holds something; "
            f"{said}`{answers[0]}` is learned",
        )  # fmt: skip
    if before and asking and answers and not named and asked != "text":
        columns = (*before, asking[0], answers[0])
        joined = "" if asked else f"; {_told(asked)}"
        row = _of_system if asked == "chat" else _of_instruction
        return Found(
            asked or "completion", columns, row,
            f"a prompt is `{asking[0]}`; `{system}` stands before it; `{answers[0]}` is learned{joined}",
        )  # fmt: skip
    if PROMPT in named or (not named and any(name in strings for name in COMPLETIONS) and len(strings) > 1):
        unread = f"`{system}` is not read" if before and system not in named.values() else None
        return Found(asked or "completion", guess="; ".join(filter(None, [_told(asked), unread])) or None)
    alone = [named[COMPLETION]] if COMPLETION in named else [name for name in TEXTS if name in strings] or strings
    others = [name for name in strings if name in PROMPTS and name not in alone[:1]]
    if asked == "text" or (alone and not others and (len(alone) == 1 or alone[0] in TEXTS)):
        if not alone:
            return None
        running = (
            f"`{alone[0]}` holds running texts: every token is learned; they are asked for with their first half "
            "(data.form=completion: with a prompt of its own)"
        )
        return Found("text", tuple(alone[:1]), _of_text, running)
    return Found(asked or "completion", guess=_told(asked))


def _told(asked: Form | None) -> str | None:
    if asked:
        return None
    return "prompts and completions are joined as they stand; data.form=chat puts them into the model's chat template"


def _is_chat(values: Sequence[Any]) -> bool:
    known = [value for value in values if value]
    return bool(known) and sum(turns(value) is not None for value in known) > len(known) / 2


def _is_sharegpt(first: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any("'from'" in str(row.get(name)) or '"from"' in str(row.get(name)) for row in first)


def _of_chat(value: Any) -> tuple[str | None, str | None]:
    found = turns(value)
    if not found or (len(found) == 1 and found[0]["role"] == "assistant"):
        return None, None
    while len(found) > 1 and found[-1].get(WEIGHT) == 0:  # nothing of it, nor of what leads to it, is learned
        found = found[:-1]
        while len(found) > 1 and found[-1]["role"] != "assistant":
            found = found[:-1]
    last = found[-1]
    if last["role"] != "assistant":
        return written(found), None
    return written(found[:-1]), last["content"]


def _of_chat_behind(value: Any, system: Any) -> tuple[str | None, str | None]:
    found = turns(value)
    if found and system and str(system).strip() and found[0]["role"] != "system":
        return _of_chat([{"role": "system", "content": str(system).strip()}, *found])
    return _of_chat(value)


def _of_two(asked: Any, answered: Any) -> tuple[str | None, str | None]:
    return _of_chat([*(turns(asked) or []), *(turns(answered) or [])])


def _of_instruction(*values: Any) -> tuple[str | None, str | None]:
    *asked, answer = values
    return "\n\n".join(_said(asked)) or None, answer


def _of_system(system: Any, *values: Any) -> tuple[str | None, str | None]:
    """Return what a system is told, and what it is asked, as turns."""
    *asked, answer = values
    if not _said(asked):
        return None, answer
    head = [{"role": "system", "content": text} for text in _said([system])]
    return written([*head, {"role": "user", "content": "\n\n".join(_said(asked))}]), answer


def _said(values: Sequence[Any]) -> list[str]:
    return [text for value in values if value is not None and (text := str(value).strip())]


def _of_text(text: Any) -> tuple[str | None, str | None]:
    """Cut a text where its second half begins, at a blank if there is one."""
    if not text or not text.strip():
        return "", None
    middle = len(text) // 2
    at = text.rfind(" ", 0, middle + 1)
    at = middle if at < 0 else at
    return text[:at], text[at:]


def is_conversation(feature: Any) -> bool:
    """Tell whether a column's type is that of conversations: a list of turns."""
    fields = element(feature) if is_list(feature) else None
    return isinstance(fields, Mapping) and any(speaker in fields and said in fields for speaker, said in KEYS)
