"""What mattered for an answer: words left out, squares covered."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hftransfer.errors import UserError

if TYPE_CHECKING:
    from hftransfer.predictor import Predictor
from hftransfer.ui.asking import by_role, loaded
from hftransfer.ui.cells import LARGER, data_url

WORDS = 60  # of a text whose weights are measured
GRID = 6  # squares a side of a picture's heat map


def explain(where: str, input: Mapping[str, Any]) -> dict[str, Any]:
    """Measure which words or parts of a picture an answer rests on: cover each once (Zeiler and Fergus 2014)."""
    asked = loaded(where)
    target = asked.answered.linear
    if target is None:
        raise UserError("an answer with a score is needed", f"this model answers with {asked.answered.called}", "")
    if target.by_part:
        raise UserError("one answer for the whole input is needed", "this model gives one a word", "")
    input = by_role(input, asked.task)
    role = asked.task.shown[0]
    if role.takes is not None and role.takes.lazy:
        return of_picture(asked, input[role.name])
    return of_text(asked, input, role.name)


def of_text(asked: Predictor, input: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Weigh words by how much the answer's score falls without each."""
    text = str(input[role])
    parts = re.findall(r"\s*\S+", text)
    if len(parts) > WORDS:  # neighbours are covered together, so that the number of passes stays the same
        size = -(-len(parts) // WORDS)
        parts = ["".join(parts[i : i + size]) for i in range(0, len(parts), size)]
    covered = ["".join([*parts[:i], *parts[i + 1 :]]).strip() or " " for i in range(len(parts))]
    scores = _scores(asked, [{**input, role: words} for words in (text, *covered)])
    weights = [scores[0][1] - score for _, score in scores[1:]]
    return {
        "form": "tokens",
        "label": scores[0][0],
        "parts": [{"text": part, "weight": round(weight, 5)} for part, weight in zip(parts, weights, strict=True)],
    }


def of_picture(asked: Predictor, path: str) -> dict[str, Any]:
    """Weigh squares of a picture by how much the answer's score falls when each is grey."""
    from PIL import Image, ImageOps, ImageStat

    with Image.open(path) as opened:
        role = asked.task.shown[0].name
        picture = asked.opened({role: ImageOps.exif_transpose(opened)})[role]
    picture.thumbnail((2 * LARGER, 2 * LARGER))
    grey = tuple(round(value) for value in ImageStat.Stat(picture).mean)
    covered = []
    for row in range(GRID):
        for column in range(GRID):
            part = picture.copy()
            left, right = (edge * part.width // GRID for edge in (column, column + 1))
            top, bottom = (edge * part.height // GRID for edge in (row, row + 1))
            part.paste(grey, (left, top, right, bottom))
            covered.append(part)
    scores = _scores(asked, [picture, *covered])
    weights = [round(scores[0][1] - score, 5) for _, score in scores[1:]]
    return {
        "form": "pixels",
        "label": scores[0][0],
        "image": data_url(picture, LARGER),
        "weights": [weights[i : i + GRID] for i in range(0, len(weights), GRID)],
    }


def _scores(asked: Predictor, inputs: Sequence[Any]) -> list[tuple[str | None, float]]:
    """Return the first input's best label, and each input's score for it."""
    answered = asked.answer(inputs)
    if "scores" not in answered[0]:
        return [(None, float(answer["score"])) for answer in answered]
    best = next(iter(answered[0]["scores"]))
    return [(best, float(answer["scores"][best])) for answer in answered]
