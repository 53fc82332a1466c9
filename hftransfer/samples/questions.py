"""Questions about passages, made of sentences with tags: a word left out, to be found in the passage, or not."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer.samples import rows
from hftransfer.samples.sample import Sample
from hftransfer.samples.words import BROWN, tagged

if TYPE_CHECKING:
    from hftransfer.samples.archives import Archive

SENTENCES = 5  # of a passage
PASSAGES = 8  # of a document
ASKED = {"NOUN": "what", "NUM": "how many"}  # what stands for a word that was left out
AROUND = 7  # words of a question on either side of the gap
LEAST = 8  # words of a sentence that is asked about


def brown_cloze(folder: Path, archive: Archive) -> None:
    """Write title (the document), context, question, and answers as SQuAD has them; every fourth has none."""
    rng = random.Random(0)
    found: list[tuple[Any, ...]] = []
    documents: dict[str, list[tuple[Sequence[str], Sequence[str]]]] = {}
    for words, tags, doc, _ in tagged(archive):
        documents.setdefault(doc, []).append((words, tags))
    for doc, sentences in documents.items():
        passages = [sentences[i : i + SENTENCES] for i in range(0, len(sentences) - SENTENCES + 1, SENTENCES)]
        for number, passage in enumerate(passages[:PASSAGES]):
            context = " ".join(_joined(words) for words, _ in passage)
            questions = [one for sentence in passage if (one := _question(sentence, rng))]
            for question, answer, before in rng.sample(questions, min(3, len(questions))):
                starts = [
                    match.start(2) for match in re.finditer(f"({re.escape(before)})({re.escape(answer)})", context)
                ]
                if len(starts) == 1:
                    found.append((doc, context, question, {"text": [answer], "answer_start": starts}))
            other = passages[(number + 1) % min(len(passages), PASSAGES)]
            asked = next((one for sentence in other if (one := _question(sentence, rng))), None)
            if asked and other is not passage:  # about the next passage, not about this one
                found.append((doc, context, asked[0], {"text": [], "answer_start": []}))
    rows.write(folder, ("title", "context", "question", "answers"), found)


def _question(sentence: tuple[Sequence[str], Sequence[str]], rng: random.Random) -> tuple[str, str, str] | None:
    """Return a question, its answer, and the words right before the answer; None where it has none."""
    words, tags = sentence
    places = [i for i, tag in enumerate(tags) if tag in ASKED and i > 1 and re.fullmatch(r"[\w.,'-]*\w", words[i])]
    if len(words) < LEAST or not places:
        return None
    at = rng.choice(places)
    shown = [*words[max(0, at - AROUND) : at], ASKED[tags[at]], *words[at + 1 : at + 1 + AROUND]]
    return f"{_joined(shown).strip(' .,;:?!')} ?", words[at], _joined(words[:at])[-20:] + " "


def _joined(words: Sequence[str]) -> str:
    """Return words as a text, marks at their word."""
    text = " ".join(words).replace("``", '"').replace("''", '"')
    return re.sub(r" ([.,;:?!)])", r"\1", text)


SAMPLES = (
    Sample(
        "brown-cloze",
        "data",
        "question-answering",
        "Questions about passages of the Brown Corpus, in SQuAD 2's form: a sentence with a word left out, which the "
        "passage holds, or, in a quarter of the rows, does not.",
        "MIT package; corpus redistributable with its owner's permission (LICENSE)",
        (BROWN,),
        brown_cloze,
        group="title",
    ),
)
