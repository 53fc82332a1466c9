"""Cutting the splits that a source does not have out of train: seeded, stratified, whole groups."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from hftransfer.errors import UserError

DENSE_CELLS = 20_000_000  # groups x classes above which groups are balanced by their size alone


def cut(
    rows: int,
    sizes: Mapping[str, int | float],
    seed: int,
    strata: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Return the rows (ascending) of each split in `sizes` and of what is left as "train".

    A size is a share of `rows` or a number of rows. `strata` (rows,) holds class numbers whose shares every split
    keeps; `groups` (rows,) holds group numbers that are never divided. The same arguments give the same rows.
    """
    numbers = {split: _number(size, rows) for split, size in sizes.items()}
    if sum(numbers.values()) >= rows or rows < 1 + len(numbers):
        raise too_few(rows, numbers)
    strata = np.zeros(rows, dtype=np.int64) if strata is None else strata
    left = np.arange(rows)
    found = {}
    for place, (split, number) in enumerate(numbers.items()):
        generator = np.random.default_rng([seed, place])
        reserve = len(numbers) - place  # splits that still want a row of each class, train included
        if groups is None:
            chosen = _stratified(strata[left], number, reserve, generator)
        else:
            chosen = _whole_groups(strata[left], groups[left], number, reserve, generator)
        found[split] = left[chosen]
        left = np.delete(left, chosen)
    return found | {"train": left}


def _number(size: int | float, rows: int) -> int:
    return size if isinstance(size, int) else max(1, round(size * rows))


def too_few(rows: int, numbers: Mapping[str, int]) -> UserError:
    """Build the error for a source that is too small for the splits asked of it."""
    sizes = " and ".join(f"data.{split}_size" for split, number in numbers.items() if number > 1)
    asked = " and ".join(f"{number} for {split}" for split, number in numbers.items())
    return UserError(
        f"rows for train are needed beside {asked}",
        f"there {'is' if rows == 1 else 'are'} {rows} in all",
        "Add rows" + (f", or lower {sizes}." if rows > len(numbers) and any(n > 1 for n in numbers.values()) else "."),
    )


def _stratified(strata: np.ndarray, number: int, reserve: int, generator: np.random.Generator) -> np.ndarray:
    _, strata, counts = np.unique(strata, return_inverse=True, return_counts=True)
    quota = _quotas(counts, number, reserve)
    order = np.lexsort((generator.random(len(strata)), strata))  # by class, in a random order within it
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rank = np.empty(len(strata), dtype=np.int64)
    rank[order] = np.arange(len(strata)) - np.repeat(starts, counts)
    return np.asarray(np.flatnonzero(rank < quota[strata]))


def _quotas(counts: np.ndarray, number: int, reserve: int) -> np.ndarray:
    """Share `number` rows out by largest remainder; a class gets a row where it can spare one for each other split."""
    exact = counts * (number / counts.sum())
    quota = np.floor(exact).astype(np.int64)
    least = (counts > reserve).astype(np.int64)
    if least.sum() <= number:
        quota = np.maximum(quota, least)
    most = np.maximum(counts - reserve, 0) if (counts - reserve).clip(0).sum() >= number else counts
    quota = np.minimum(quota, most)
    while quota.sum() != number:
        short = quota.sum() < number
        free = quota < most if short else quota > least
        gap = np.where(free, exact - quota if short else quota - exact, -np.inf)
        if not free.any():
            break
        quota[int(np.argmax(gap))] += 1 if short else -1
    return np.asarray(quota)


def _whole_groups(
    strata: np.ndarray, groups: np.ndarray, number: int, reserve: int, generator: np.random.Generator
) -> np.ndarray:
    """Take groups in a random order, each that brings the split's class counts nearer to their target."""
    names, group = np.unique(groups, return_inverse=True)
    _, classes = np.unique(strata, return_inverse=True)
    if len(names) <= reserve:
        raise UserError(
            f"at least {reserve + 1} groups are needed to cut splits",
            f"data.group has {len(names)}",
            "Name another column, or give the splits in data.validation and data.test.",
        )
    kinds = int(classes.max()) + 1
    if len(names) * kinds > DENSE_CELLS:
        kinds, classes = 1, np.zeros_like(classes)
    table = np.bincount(group * kinds + classes, minlength=len(names) * kinds).reshape(len(names), kinds)
    order = generator.permutation(len(names))
    chosen: list[int] = []
    # by class first; where no group can bring the classes nearer (each holds one class), by size alone
    for counts in (table.astype(np.float64), table.sum(axis=1, keepdims=True).astype(np.float64)):
        missing = counts.sum(axis=0) * (number / len(strata)) - counts[chosen].sum(axis=0)
        for place in order[~np.isin(order, chosen)]:
            nearer = np.sum((missing - counts[place]) ** 2) < np.sum(missing**2)
            if nearer and len(chosen) < len(names) - reserve:
                chosen.append(int(place))
                missing -= counts[place]
    if not chosen:
        chosen = [int(table.sum(axis=1).argmin())]  # every group is far larger than what was asked
    return np.flatnonzero(np.isin(group, chosen))


def sample(counts: Mapping[str, int], most: int | None, seed: int) -> dict[str, np.ndarray]:
    """Return the rows (ascending) to keep of each split so that all have `most` rows together, in proportion."""
    total = sum(counts.values())
    if most is None or total <= most:
        return {split: np.arange(count) for split, count in counts.items()}
    shares = np.array(list(counts.values())) * (most / total)
    numbers = np.floor(shares).astype(np.int64)
    numbers[np.argsort(numbers - shares, kind="stable")[: most - numbers.sum()]] += 1
    return {
        split: np.sort(np.random.default_rng([seed, place]).choice(count, size=int(number), replace=False))
        for place, ((split, count), number) in enumerate(zip(counts.items(), numbers, strict=True))
    }


def hashes(numbers: np.ndarray, *key: object) -> np.ndarray:
    """Return a uint64 for each number, evenly spread and fixed by the key (splitmix64, Steele et al. 2014)."""
    digest = hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=8).digest()
    with np.errstate(over="ignore"):
        z = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.frombuffer(digest, "<u8")
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


class Lowest:
    """Keeps the smallest `count` of the numbers it is shown, in bounded memory."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.limit = np.uint64(2**64 - 1)  # nothing above it can still be among the smallest
        self._seen = np.empty(0, np.uint64)

    def add(self, numbers: np.ndarray) -> None:
        """Look at a batch of numbers (n,) of type uint64."""
        self._seen = np.concatenate([self._seen, numbers[numbers <= self.limit]])
        if len(self._seen) >= 2 * self.count:
            self._seen = np.partition(self._seen, self.count - 1)[: self.count]
            self.limit = self._seen.max()

    def values(self) -> np.ndarray:
        """Return the smallest numbers, ascending."""
        return np.sort(self._seen)[: self.count]
