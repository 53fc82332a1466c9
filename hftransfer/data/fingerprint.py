"""What a split holds, as one hash: the same rows give it whatever file, cache or format they came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import pyarrow as pa
from datasets import Dataset

from hftransfer.tasks.base import Role

BATCH = 1024


class ContentHash:
    """A sha256 for each role, fed with the canonical values batch by batch; where batches end makes no difference."""

    def __init__(self, roles: Sequence[Role]) -> None:
        self.roles = roles
        self.rows = 0
        self._hashes = {role.name: hashlib.sha256() for role in roles}

    def add(self, table: pa.Table) -> None:
        """Hash the rows of a canonical table; an image counts by its bytes."""
        self.rows += table.num_rows
        for role in self.roles:
            values = table[role.name].to_pylist()
            if role.takes is not None:
                values = role.takes.content(values)
            values = [hashlib.sha256(one).hexdigest() if isinstance(one, bytes) else one for one in values]
            self._hashes[role.name].update((json.dumps(values)[1:-1] + ", ").encode() if values else b"")

    def hexdigest(self, names: Sequence[str]) -> str:
        """Return the hash over all roles and the names of the labels."""
        parts = [self.rows, list(names), *([name, found.hexdigest()] for name, found in self._hashes.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def fingerprint(rows: Dataset, roles: Sequence[Role], names: Sequence[str]) -> str:
    """Return the sha256 of a split's content, without its row ids."""
    content = ContentHash(roles)
    for table in rows.with_format("arrow").iter(batch_size=BATCH):
        content.add(table)
    return content.hexdigest(names)


def combined(fingerprints: Mapping[str, str]) -> str:
    """Return one hash over the fingerprints of all splits."""
    return hashlib.sha256(json.dumps(sorted(fingerprints.items())).encode()).hexdigest()
