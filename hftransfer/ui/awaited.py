"""Answers that are awaited: what is said meanwhile comes first, and of several questions the last one counts."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from hftransfer.errors import UserError
from hftransfer.ui import markup

BROWSERS = 10_000  # whose last questions are known; older ones are forgotten, and what they wait for is shown
Meanwhile = tuple[Any, str | Callable[..., Any]]  # the component, and what it says: words, or of what is asked


def saying_first(do: Callable[..., Any], meanwhile: Meanwhile, outputs: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Return a handler that says something where `meanwhile` names, then answers; and the components it writes to.

    Where it cannot answer, why not stands there: the message beside the page goes after seconds.
    """
    where, words = meanwhile
    own = any(one is where for one in outputs)
    written = [*outputs] if own else [*outputs, where]

    def shown(told: Any) -> Any:
        found = [told if one is where else gr.skip() for one in written]
        return found if len(found) > 1 else found[0]

    def answers(visitor: Any, *values: Any) -> Iterator[Any]:
        yield shown(words(visitor, *values) if callable(words) else markup.looking(words))
        try:
            answer = do(visitor, *values)
        except UserError as error:
            yield shown(markup.note(str(error), "bad"))
            raise
        parts = list(answer) if len(outputs) > 1 else [answer] * len(outputs)
        parts += [] if own else [gr.skip()]
        yield parts if len(parts) > 1 else parts[0]

    return answers, written


@dataclass(frozen=True)
class Asked:
    """One question of a browser."""

    turns: Turns
    key: tuple[str, str]
    number: int

    @property
    def last(self) -> bool:
        """Tell whether nothing was asked since."""
        return self.turns.number(self.key) in (None, self.number)

    def of(self, answer: Any, outputs: int) -> Any:
        """Return an answer for so many components, or nothing new for them where another question came since."""
        if self.last:
            return answer
        return [gr.skip() for _ in range(outputs)] if outputs > 1 else gr.skip()

    def each(self, answers: Iterator[Any], outputs: int) -> Iterator[Any]:
        """Yield answers as they come, as `of` returns each."""
        for answer in answers:
            yield self.of(answer, outputs)


class Turns:
    """The number of the last question of each kind that each browser asked."""

    def __init__(self, browsers: int = BROWSERS) -> None:
        self._numbers: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._browsers, self._lock, self._count = browsers, threading.Lock(), 0

    def ask(self, browser: str, kind: str, outdates: str = "") -> Asked | None:
        """Begin a question of a kind, None without one; those that the browser asked before are out of date.

        So are those of the kind that it `outdates`.
        """
        if outdates:
            self.ask(browser, outdates)
        if not kind:
            return None
        key = (browser, kind)
        with self._lock:
            self._count += 1
            self._numbers[key] = self._count
            self._numbers.move_to_end(key)
            while len(self._numbers) > self._browsers:
                self._numbers.popitem(last=False)
            return Asked(self, key, self._count)

    def number(self, key: tuple[str, str]) -> int | None:
        """Return the number of the last question; None of a browser that was long quiet."""
        with self._lock:
            return self._numbers.get(key)
