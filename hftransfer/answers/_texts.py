"""What train teaches of texts to write: the most common one, how long they are, in which script."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from typing import TYPE_CHECKING

from hftransfer.answers import _written
from hftransfer.answers.base import Learner
from hftransfer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from hftransfer.answers._prose import Prose


MOST_TEXTS = 100_000  # distinct texts that are counted; beyond them those seen once are forgotten
SENTENCE = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s*")


class Texts(Learner):
    """Finds the most common text, the middle length, and the script, in bounded memory."""

    def __init__(self, answer: Prose) -> None:
        self.answer, self.rows = answer, 0
        self.texts: Counter[str] = Counter()
        self.lengths: Counter[int] = Counter()
        self.dense = self.letters = 0

    def add(self, truth: pa.Array) -> None:
        found = [text for text in truth.to_pylist() if text is not None]
        self.rows += len(found)
        self.texts.update(found)
        self.lengths.update(len(text.split()) for text in found)
        for text in found:
            letters = [char for char in text[:200] if char.isalpha()]
            self.letters += len(letters)
            self.dense += sum(map(_written.is_dense, letters))
        if len(self.texts) > MOST_TEXTS:
            self.texts = Counter({text: count for text, count in self.texts.items() if count > 1})

    def learn(self) -> Prose:
        if not self.rows:
            raise UserError("texts to learn are needed", "there is none", "Name another column in data.columns.")
        common = min(self.texts.items(), key=lambda pair: (-pair[1], pair[0]))[0] if self.texts else ""
        middle, seen = 1, 0
        for length, count in sorted(self.lengths.items()):
            middle, seen = length, seen + count
            if 2 * seen >= self.rows:
                break
        dense = 2 * self.dense > max(self.letters, 1)
        return dataclasses.replace(
            self.answer, most_common=common, lead=max(middle, 1), tokenize="char" if dense else "13a"
        )


def leading(text: str, words: int) -> str:
    """Return the first sentences of a text, as many as it takes to have so many words."""
    kept: list[str] = []
    for sentence in SENTENCE.split(text):
        kept.append(sentence)
        if len(" ".join(kept).split()) >= words:
            break
    return " ".join(kept).strip()
