"""What a model that goes on from a text reads, which of its tokens are learned, and what it makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hftransfer.answers._decoder import IGNORED, sums_of
from hftransfer.errors import UserError

if TYPE_CHECKING:
    import torch

AT_ONCE = 2**28  # scores of tokens (items x places x vocabulary) that memory is asked to hold at once: 1 GB
SLICE = 2**25  # of them that are turned to probabilities at once while training


@dataclass
class Item:
    """The tokens of one item, which of them are learned, and those with which the model is asked to write.

    `prompt` is empty where nothing is written, and whole, however long: so does whoever asks elsewhere. `answer` is
    how many tokens at the end are the last answer.
    """

    ids: list[int]
    learned: list[bool]
    prompt: list[int] = field(default_factory=list)
    answer: int = 0
    cut: bool = False  # whether the beginning was lost
    cut_answer: bool = False
    unmatched: int = 0  # earlier answers that could not be told from what the template makes around them


class Reader:
    """A tokenizer as a model that goes on reads by it: what stands before a text, what ends it, and templates."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.head = head_of(tokenizer)
        self.end: int | None = tokenizer.eos_token_id
        first = self.end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        self.begin = [] if first is None else [int(first)]  # before an empty prompt, as `generate` begins
        marks = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.special = marks | {*tokenizer.all_special_ids}

    def ids(self, text: str) -> list[int]:
        """Return a text's tokens, and none beside them."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def text(self, prompt: str, rest: str | None, limit: int | None) -> list[Item]:
        """Return the windows of a running text, every token but the first learned once; `prompt` is its beginning."""
        asked = [*self.head, *self.ids(prompt.rstrip())]
        if rest is None:
            return [_asking(asked, limit, len(self.head))]
        ids = self._ended([*self.head, *self.ids(prompt + rest)])
        size = limit or len(ids)
        found = []
        for start in range(0, max(1, len(ids) - 1), max(1, size - 1)):  # the last token of one is the next one's first
            window = ids[start : start + size]
            found.append(Item(window, [False, *[True] * (len(window) - 1)]))
        found[0].prompt = asked
        return found

    def completion(self, prompt: str, completion: str | None, limit: int | None, longest: int | None) -> Item:
        """Return a prompt and what follows it: the answer alone is learned, with the blank before it and its end."""
        bare = prompt.rstrip()
        start = self.head or ([] if bare else self.begin)
        asked = [*start, *self.ids(bare)]
        if completion is None:
            return _asking(asked, limit, len(self.head))
        gap = prompt[len(bare) :] + completion[: len(completion) - len(completion.lstrip())] or "\n"
        answer = (gap if bare else "") + completion.strip()
        whole = [*start, *self.ids(bare + answer)]
        # what follows is learned from the very tokens that the model is asked with
        rest = whole[len(asked) :] if whole[: len(asked)] == asked else self.ids(answer)
        return _fitted(Item([*asked, *rest], [False] * len(asked), asked), self.end, limit, longest, len(self.head))

    def chat(
        self, turns: Sequence[dict[str, Any]], completion: str | None, limit: int | None, longest: int | None
    ) -> Item:
        """Return a conversation and its answer: every answer is learned, up to the token that ends it.

        Where an answer begins is found by the template itself: what it makes of the turns before, and of the words
        that call for an answer, must be how the whole begins. Templates need not mark what is generated.
        """
        asked_text = self.templated(turns, ask=True)
        asked = self.ids(asked_text)
        if completion is None:
            return _asking(asked, limit, 0)
        conversation = [*turns, {"role": "assistant", "content": completion}]
        whole_text = self.templated(conversation)
        if not whole_text.startswith(asked_text):
            # a template that shows an answer otherwise once it is given: nothing says which tokens are to be learned
            return replace(_asking(asked, limit, 0), unmatched=1)
        whole = self.ids(whole_text)
        if whole[: len(asked)] != asked:
            whole = [*asked, *self.ids(whole_text[len(asked_text) :])]
        whole = whole[: self._end_of_answer(whole, len(asked), len(whole))]
        learned = [False] * len(asked)
        unmatched = 0
        for place, turn in enumerate(turns):
            if turn["role"] != "assistant" or turn.get("weight") == 0:
                continue
            span = self._span(conversation, place, whole_text, whole)
            if span is None:
                unmatched += 1
            else:
                learned[span[0] : span[1]] = [True] * (span[1] - span[0])
        item = Item(whole, learned, asked, unmatched=unmatched)
        ended = len(whole) > len(asked) and whole[-1] in self.special
        return _fitted(item, None if ended else self.end, limit, longest, 0)

    def _span(
        self, conversation: Sequence[dict[str, Any]], place: int, whole_text: str, whole: list[int]
    ) -> tuple[int, int] | None:
        """Return where an earlier answer stands in the tokens of the whole; None where that cannot be told."""
        before = self.templated(conversation[:place], ask=True)
        through = self.templated(conversation[: place + 1])
        if not (whole_text.startswith(before) and whole_text.startswith(through)):
            return None
        first, last = self.ids(before), self.ids(through)
        if whole[: len(first)] != first or whole[: len(last)] != last:
            return None
        return len(first), self._end_of_answer(whole, len(first), len(last))

    def _end_of_answer(self, ids: list[int], first: int, last: int) -> int:
        """Return the place behind an answer's last token: blanks behind what ends it belong to the template."""
        while (
            last > first and ids[last - 1] not in self.special and not self.tokenizer.decode([ids[last - 1]]).strip()
        ):
            last -= 1
        return last

    def _ended(self, ids: list[int]) -> list[int]:
        return ids if self.end is None or ids[-1:] == [self.end] else [*ids, self.end]

    def templated(self, turns: Sequence[dict[str, Any]], ask: bool = False) -> str:
        """Return a conversation as the chat template writes it; UserError where there is none, or it refuses."""
        from jinja2 import TemplateError

        if not self.tokenizer.chat_template:
            raise UserError(
                "conversations need a model whose tokenizer has a chat template", "this one has none",
                "Use a model that was made to chat, or give prompt and completion as texts.",
            )  # fmt: skip
        try:
            found: str = self.tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=ask)
        except (TemplateError, TypeError) as error:
            first = f"{turns[0]['role']}: {str(turns[0]['content'])[:60]!r}" if turns else "no turn"
            raise UserError(
                "conversations that the model's chat template takes are needed",
                f"it says {' '.join(str(error).split())[:200]!r} of {len(turns)} turns that begin with {first}",
                "Mend or remove such rows.",
            ) from error  # fmt: skip
        return found


def head_of(tokenizer: Any) -> list[int]:
    """Return the tokens that a tokenizer puts before a text."""
    bare, whole = tokenizer("a", add_special_tokens=False)["input_ids"], tokenizer("a")["input_ids"]
    for place in range(len(whole) - len(bare) + 1):
        if whole[place : place + len(bare)] == bare:
            return list(whole[:place])
    return []


def _asking(asked: list[int], limit: int | None, head: int) -> Item:
    kept = _from_the_left(asked, limit, head)
    return Item(kept, [False] * len(kept), asked)


def _from_the_left(ids: list[int], limit: int | None, head: int) -> list[int]:
    """Return the last tokens, as many as there may be, behind those that stand before any text."""
    if limit is None or len(ids) <= limit:
        return ids
    head = min(head, limit - 1)
    return [*ids[:head], *ids[len(ids) - (limit - head) :]]


def _fitted(item: Item, end: int | None, limit: int | None, longest: int | None, head: int) -> Item:
    """Return an item with its answer's end, within limits: the answer's if it is too long, else the prompt is cut."""
    prompt = len(item.prompt)
    answer = [*item.ids[prompt:], *([] if end is None else [end])]
    most = min(n for n in (longest, None if limit is None else limit - 1, len(answer)) if n is not None)
    kept = answer[:most]
    room = None if limit is None else limit - len(kept)
    before = _from_the_left(item.ids[:prompt], room, head)
    learned = item.learned[:prompt]
    learned = learned if len(before) == prompt else [*learned[:head], *learned[prompt - (len(before) - head) :]]
    learned = [False, *learned[1:]]  # nothing comes before the first token that would tell it
    return Item(
        [*before, *kept], [*learned[: len(before)], *[True] * len(kept)], item.prompt,
        len(kept), len(before) < prompt, len(kept) < len(answer), item.unmatched,
    )  # fmt: skip


def fitting(prompts: Sequence[Sequence[int]], room: int | None, tokenizer: Any) -> list[list[int]]:
    """Return the ends of prompts that fit so many places, behind what stands before any text."""
    head = head_of(tokenizer)
    heads = [len(head) if [*prompt[: len(head)]] == head else 0 for prompt in prompts]
    return [_from_the_left([*prompt], room, size) for prompt, size in zip(prompts, heads, strict=True)]


def ends(tokenizer: Any) -> list[int]:
    """Return the tokens that end what is written: the tokenizer's own, and what its template ends a turn with."""
    found = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    if tokenizer.chat_template:
        reader = Reader(tokenizer)
        try:
            asked = reader.templated([{"role": "user", "content": "a"}], ask=True)
            whole = reader.templated([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
        except UserError:
            return found
        rest = reader.ids(whole[len(asked) :]) if whole.startswith(asked) else []
        found += [token for token in rest if token in reader.special][:1]
    return list(dict.fromkeys(found))


# --- a model's side ---


def places(settings: Any) -> int | None:
    """Return how many tokens a model has places for; None where it says none."""
    name = settings.attribute_map.get("max_position_embeddings", "max_position_embeddings")
    found = settings.to_dict().get(name)
    return None if found is None else int(found)


def rows_at_once(longest: int, vocabulary: int) -> int:
    """Return of how many items the scores of all tokens may be in memory at once."""
    return max(1, AT_ONCE // max(1, longest * vocabulary))


def left_padded(prompts: Sequence[Sequence[int]], pad: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return prompts (n, t) with what fills them up on their left, and where they are not filled (n, t)."""
    import torch

    width = max(map(len, prompts))
    ids = [[*[pad] * (width - len(prompt)), *prompt] for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def summed_loss(logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Return the summed cross entropy of labels (n, t) under logits (n, t, vocabulary), each for the place before.

    Of prompts nothing is computed, and probabilities stand in memory for a slice of the tokens at a time.
    """
    import torch
    from torch.nn import functional
    from torch.utils.checkpoint import checkpoint

    targets = functional.pad(labels[:, 1:], (0, 1), value=IGNORED).flatten()
    (places,) = (targets != IGNORED).nonzero(as_tuple=True)  # the one number here that a GPU is waited for
    chosen, aims = logits.flatten(0, 1).index_select(0, places), targets.index_select(0, places)

    def part(scores: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(scores.float(), wanted, reduction="sum", label_smoothing=smoothing)

    size = max(1, SLICE // logits.shape[-1])
    if len(aims) <= size:
        return part(chosen, aims)
    parts = zip(chosen.split(size), aims.split(size), strict=True)
    return torch.stack([checkpoint(part, *one, use_reentrant=False) for one in parts]).sum()


def shifted_sums(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return nll, tokens and right tokens of each row, (n, 3), of labels (n, t) each told by the place before."""
    return sums_of(logits[:, :-1], labels[:, 1:])
