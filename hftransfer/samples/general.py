"""English that is on every machine, to see what a model has forgotten: passages of Python's own language reference.

Its licence is the PSF's (https://docs.python.org/3/license.html). The text changes with Python's version.
"""

from __future__ import annotations

import importlib.util
import re

NAME = "the language reference of Python"
FEWEST, MOST = 25, 120  # words of a passage
PASSAGES = 96


def passages(count: int = PASSAGES) -> list[str]:
    """Return paragraphs of running text, spread over the whole; none where Python came without its reference."""
    if importlib.util.find_spec("pydoc_data") is None:  # some distributions leave it out
        return []
    from pydoc_data import topics

    found = []
    for _, text in sorted(topics.topics.items()):
        for paragraph in re.split(r"\n\s*\n", text):
            words = paragraph.split()
            running = (
                not paragraph.startswith((" ", "*", "+", "|")) and "::=" not in paragraph and ">>>" not in paragraph
            )
            if running and FEWEST <= len(words) <= MOST and words[-1].endswith("."):
                found.append(" ".join(words))
    found = list(dict.fromkeys(found))
    step = max(1, len(found) // count)
    return found[::step][:count]
