"""Linear maps under which what belongs together is near: solved, by correlation of both or for one side alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

STRENGTHS = (0.01, 0.1, 0.3, 1.0)  # of what is added to each variance, as a share of their mean


def both(one: np.ndarray, other: np.ndarray, width: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield maps (width, d) of both sides (n, d), by regularised canonical correlation (Vinod 1976).

    Directions weigh as much as the sides correlate along them. Nothing is subtracted, because the layers that take the
    maps have nothing to add: the first direction is what all rows have in common, and is left out.
    """
    parts = [_spectrum(side) for side in (one, other)]
    cross = one.T.astype(np.float64) @ other.astype(np.float64) / len(one)
    for first in STRENGTHS:
        for second in STRENGTHS:
            left, right = (_root(*part, strength) for part, strength in zip(parts, (first, second), strict=True))
            u, correlations, v = np.linalg.svd(left @ cross @ right, full_matrices=False)
            kept = slice(1, width + 1)
            one_map, other_map = (
                _padded((root @ vectors[:, kept] * correlations[kept]).T, width)
                for root, vectors in ((left, u), (right, v.T))
            )
            yield f"strengths {first:g} and {second:g}", one_map, other_map


def one_side(asked: np.ndarray, aims: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield a map (w, d) with what is added to it (w,), that takes rows (n, d) nearest to their aims (n, w): ridge."""
    mean, middle = asked.mean(axis=0, dtype=np.float64), aims.mean(axis=0, dtype=np.float64)
    centred, wanted = asked - mean, aims - middle
    square = centred.T @ centred / len(asked)
    for strength in STRENGTHS:
        ridge = square + strength * np.trace(square) / len(square) * np.eye(len(square))
        found = np.linalg.solve(ridge, centred.T @ wanted / len(asked)).T
        yield f"strength {strength:g}", found, middle - found @ mean


def _spectrum(side: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the eigenvalues and eigenvectors of the second moments, and the mean variance."""
    values = side.astype(np.float64)
    found, vectors = np.linalg.eigh(values.T @ values / len(values))
    return found.clip(min=0.0), vectors, float(values.var(axis=0).mean())


def _root(values: np.ndarray, vectors: np.ndarray, variance: float, strength: float) -> np.ndarray:
    """Return the inverse square root of second moments with a strength added."""
    return np.asarray(vectors / np.sqrt(values + strength * variance + 1e-12) @ vectors.T)


def _padded(found: np.ndarray, width: int) -> np.ndarray:
    return np.pad(found, ((0, width - len(found)), (0, 0)))
