"""`data.label_pattern`: how a file's path holds its class, such as `{label}.{number}.*` of cat.1.png."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from hftransfer.errors import UserError

PLACES = {"{label}": "(?P<label>[^/]+?)", "{split}": "(?P<split>[^/]+?)", "{number}": r"\d+", "**": ".*", "*": "[^/]*"}
TOKEN = re.compile("|".join(map(re.escape, PLACES)))
MOST = 8  # places of a pattern: each more multiplies the time that a long name can take
# how names of flat folders often hold their class; the first that fits is offered
USUAL = (
    "{label}.{number}.*", "{label}_{number}.*", "{label}-{number}.*", "{label} ({number}).*", "{label}{number}.*",
    "{number}.{label}.*", "{number}_{label}.*", "{number}-{label}.*", "{label}_{number}_*", "{label}-{number}-*",
)  # fmt: skip
ENOUGH = 0.95  # of the names that an offered pattern fits
NAMES = 1_000  # that are looked at for an offer


def compiled(pattern: str) -> re.Pattern[str]:
    """Return what finds a path's class; UserError where the pattern has none or says what nobody knows."""
    odd = set(re.findall(r"\{[^}]*\}", pattern)) - set(PLACES)
    if pattern.count("{label}") != 1 or pattern.count("{split}") > 1 or odd or len(TOKEN.findall(pattern)) > MOST:
        raise UserError(
            "data.label_pattern needs {label} once, where the class stands in a file's path",
            f"it is {pattern!r}",
            "{number} stands for digits, * for anything within a name, ** for folders too, {split} for a folder that "
            "is a split: {label}.{number}.* fits cat.1.png.",
        )
    body, at = "", 0
    for token in TOKEN.finditer(pattern):
        body += re.escape(pattern[at : token.start()]) + PLACES[token[0]]
        at = token.end()
    return re.compile(r"(?:.*?/)?" + body + re.escape(pattern[at:]), re.DOTALL | re.IGNORECASE)


def offer(names: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return a pattern by which names of files hold classes, and the classes, the largest first; None where none does.

    Several rows have each class, and there are at least two classes.
    """
    names = names[:: 1 + len(names) // NAMES]
    for pattern in USUAL:
        found = [match["label"] for name in names if (match := compiled(pattern).fullmatch(name))]
        classes = Counter(found)
        worded = all(any(character.isalpha() for character in label) for label in classes)
        if len(found) >= ENOUGH * len(names) and worded and 2 <= len(classes) <= len(names) / 3:
            return pattern, [label for label, _ in classes.most_common()]
    return None
