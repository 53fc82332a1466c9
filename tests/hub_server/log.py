"""The request log: one record for each request that reached one of the two listeners."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Record:
    """One request; `path` is as it was sent, quoted, and `status` is 0 while nothing has been answered."""

    method: str
    path: str
    query: str
    server: str  # api or cdn
    authorized: bool
    user: str | None = None
    status: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    blob_bytes: int = 0  # content of files among bytes_in, decoded
    route: str = ""
    time: float = field(default_factory=time.time)
