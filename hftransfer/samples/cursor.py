"""A place in binary content that moves on with every read."""

from __future__ import annotations

import struct
from typing import Any


class Cursor:
    """Reads little-endian numbers and runs of bytes one after another."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def number(self, form: str) -> Any:
        """Return the next number, whose type is a letter of `struct`."""
        (value,) = struct.unpack_from(f"<{form}", self.content, self.at)
        self.at += struct.calcsize(f"<{form}")
        return value

    def take(self, size: int) -> bytes:
        """Return the next bytes; EOFError when there are fewer."""
        if self.at + size > len(self.content):
            raise EOFError(f"{size} bytes at {self.at} of {len(self.content)}")
        self.at += size
        return self.content[self.at - size : self.at]
