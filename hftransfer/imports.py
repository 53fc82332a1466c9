"""Importing torch, transformers and peft in a process of our own without what makes it slower than it need be."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Import here what is heavy: the garbage collector neither runs meanwhile nor ever looks at what was imported.

    While thousands of modules are imported it would walk all of them again and again, and once more when the process
    ends; none of it is ever garbage. Only for processes that are ours: what else is there is no longer looked at
    either. Does nothing when transformers is there already.
    """
    if "transformers" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
