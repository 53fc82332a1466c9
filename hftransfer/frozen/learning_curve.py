"""Would more labels help? The probe on growing parts of train, and a power law through its errors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hftransfer import answers
from hftransfer.answers.base import Answer
from hftransfer.errors import UserError
from hftransfer.evaluation.names import greater_is_better
from hftransfer.evaluation.overviews import write_curve
from hftransfer.evaluation.scoring import measure_point, replicates
from hftransfer.fitting.base import Setup
from hftransfer.frozen import features, out_of_fold, probing
from hftransfer.frozen.features import Features
from hftransfer.modeling.loading import Loaded
from hftransfer.runs import write_text

SHARES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
REPEATS = 3  # orders in which rows are added, each with folds of its own
FEWEST, POINTS = 10, 4  # rows of the smallest part; parts that a curve needs
MOST_ROWS = 20_000
RESAMPLES = 500
ROUNDING = 1e-6
GRID = 60  # sizes at which the law and its band are told
EXPONENTS = np.linspace(0.05, 1.0, 39)
AROUND = (0.1**0.5, 1.0, 10**0.5)  # times the penalty that is right for all rows, per row


@dataclass(frozen=True)
class Curve:
    """Scores of the probe by rows, the power law `floor + size * rows ** -exponent` of its error, and its promise."""

    metric: str
    points: tuple[dict[str, float], ...]  # rows, value, low, high
    fit: tuple[dict[str, float], ...]  # the law from the fewest rows to twice those of train: rows, value, low, high
    floor: float
    size: float
    exponent: float
    rows: int  # of train
    now: float  # the score that the power law gives at `rows`
    doubled: dict[str, float]  # what twice as many add to it: value, low, high; above 0 is better
    confidence: float  # of all intervals

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, the verdict among them."""
        law = {"floor": self.floor, "size": self.size, "exponent": self.exponent}
        return {
            "metric": self.metric, "greater_is_better": greater_is_better(self.metric),
            "confidence": self.confidence, "points": list(self.points), "fit": list(self.fit), "law": law,
            "rows": self.rows, "now": self.now, "doubled": self.doubled, "verdict": self.verdict(),
        }  # fmt: skip

    def verdict(self) -> str:
        """Return the promise in words."""
        shares = answers.metrics()[self.metric].in_points
        scale, unit = (100, " points of") if shares else (1, " of")
        value, low, high = (self.doubled[name] * scale for name in ("value", "low", "high"))
        figure = "{:.1f}" if shares else "{:.3g}"
        span = f"{figure.format(low)} to {figure.format(high)}"
        verb = "add" if greater_is_better(self.metric) else "take away"
        said = (
            f"doubling your labels ({self.rows:,} to {2 * self.rows:,} rows) would {verb} about "
            f"{figure.format(value)}{unit} {self.metric} ({span})"
        )
        said += "; that it helps is not shown" if low <= 0 else ""
        last = self.points[-1]
        error = self.floor + self.size * last["rows"] ** -self.exponent
        there = 1 - error if greater_is_better(self.metric) else error
        misses = not last["low"] - ROUNDING <= there <= last["high"] + ROUNDING
        return said + ("; the power law misses the score of the most rows, so this says little" if misses else "")


def measure(setup: Setup, loaded: Loaded) -> Curve:
    """Fit probes to parts of train and score each on rows of train that it was not fitted on.

    In each of REPEATS x FOLDS rounds one fold is kept for scoring, and the parts, each holding the smaller ones, are
    taken from the others. Validation rows choose the penalty, test rows are not looked at. The interval is that of a
    bootstrap over scored rows and repeats. UserError where train is too small.
    """
    answer, seed = setup.answer, setup.config.seed
    some, _ = out_of_fold.with_some_rows(setup, MOST_ROWS)
    train = features.extract(some, loaded, "train")
    held_out = features.extract(some, loaded, "validation")
    rows = int(train.rows.max()) + 1
    inside = rows * (out_of_fold.FOLDS - 1) / out_of_fold.FOLDS
    shares = [share for share in SHARES if share * inside >= FEWEST]
    if len(shares) < POINTS:
        needed = round(FEWEST / SHARES[-POINTS] * out_of_fold.FOLDS / (out_of_fold.FOLDS - 1))
        raise UserError(
            f"a learning curve needs at least {needed} rows in train", f"there are {rows}", "Label more first."
        )
    whole = probing.fit(
        train.pooled,
        train.targets,
        out_of_fold.linear_of(answer),
        answer.outputs,
        validation=(held_out.pooled, held_out.targets),
    )
    train, held_out = (_only(part, whole.pooling) for part in (train, held_out))
    metric = answer.main_metric
    groups = some.groups.get("train")
    points = np.empty((REPEATS, len(shares)))
    draws = np.empty((REPEATS, len(shares), RESAMPLES))
    for repeat in range(REPEATS):
        logits = _round(train, held_out, answer, shares, whole.strength, seed + repeat, groups)
        for place, found in enumerate(logits):
            answered = out_of_fold.predictions(train, answer, found, groups)
            points[repeat, place] = measure_point(answered, [metric])[metric]
            draws[repeat, place] = replicates(answered, [metric], RESAMPLES, seed)[metric]
    sizes = np.array([share * inside for share in shares])
    total = len(setup.rows["train"])
    return extrapolate(sizes, points, draws, metric, total, setup.config.evaluation.confidence, seed)


def extrapolate(
    sizes: np.ndarray, points: np.ndarray, draws: np.ndarray, metric: str, rows: int, confidence: float, seed: int
) -> Curve:
    """Return the curve through scores at `sizes` (s,): from points (repeats, s) and draws (repeats, s, resamples).

    Draws of one number are of the same resample of the scored rows at every size; each also resamples the repeats.
    """
    better = greater_is_better(metric)
    errors = (lambda scores: 1 - scores) if better else (lambda scores: scores)
    floor, size, exponent = (float(part[0]) for part in power_law(sizes, errors(points.mean(axis=0))[None]))
    rng = np.random.default_rng(seed)
    repeats = rng.integers(len(points), size=(draws.shape[2], len(points)))
    resampled = np.stack([draws[chosen, :, b].mean(axis=0) for b, chosen in enumerate(repeats)])
    resampled = resampled[np.isfinite(resampled).all(axis=1)]
    floors, sized, curved = power_law(sizes, errors(resampled))
    gains = sized * rows**-curved * (1 - 2.0**-curved)
    gain = size * rows**-exponent * (1 - 2.0**-exponent)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = (float(end) for end in np.quantile(gains, tails))
    grid = np.unique(np.round(np.geomspace(sizes[0], 2 * rows, GRID)))
    band = errors(floors[:, None] + sized[:, None] * grid ** -curved[:, None])
    return Curve(
        metric=metric,
        points=_spans(sizes, points.mean(axis=0), np.quantile(resampled, tails, axis=0)),
        fit=_spans(grid, errors(floor + size * grid**-exponent), np.quantile(band, tails, axis=0)),
        floor=floor,
        size=size,
        exponent=exponent,
        rows=rows,
        now=float(errors(np.float64(floor + size * rows**-exponent))),
        doubled={"value": gain, "low": min(low, gain), "high": max(high, gain)},
        confidence=confidence,
    )


def _spans(sizes: np.ndarray, values: np.ndarray, ends: np.ndarray) -> tuple[dict[str, float], ...]:
    return tuple(
        {"rows": round(float(n)), "value": float(value), "low": float(low), "high": float(high)}
        for n, value, low, high in zip(sizes, values, *ends, strict=True)
    )


def write(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write a curve as plain values into curve.json and its chart into curve.png; return their paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "curve.json", json.dumps(report, indent=1))
    except OSError as error:
        raise UserError("a folder to write to is needed", f"{folder}: {error.strerror}", "Set output=...") from error
    return [folder / "curve.json", write_curve(report, folder)]


def power_law(sizes: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return floor, size and exponent (b,) of the least squares fit of each row of errors (b, s); none is below zero.

    The form is that of Hestness et al. 2017. Exponents are taken from EXPONENTS; the rest is solved in closed form.
    """
    best = np.full(len(errors), np.inf)
    floor, size, exponent = (np.zeros(len(errors)) for _ in range(3))
    for candidate in EXPONENTS:
        falls = sizes**-candidate
        centred = falls - falls.mean()
        sized = np.maximum((errors * centred).sum(axis=1) / (centred**2).sum(), 0)
        floored = errors.mean(axis=1) - sized * falls.mean()
        below = floored < 0
        sized[below] = np.maximum((errors[below] * falls).sum(axis=1) / (falls**2).sum(), 0)
        floored = np.maximum(floored, 0)
        loss = ((errors - floored[:, None] - sized[:, None] * falls) ** 2).sum(axis=1)
        lower = loss < best
        for kept, new in ((best, loss), (floor, floored), (size, sized), (exponent, np.full_like(loss, candidate))):
            kept[lower] = new[lower]
    return floor, size, exponent


def _round(
    train: Features,
    held_out: Features,
    answer: Answer[Any],
    shares: list[float],
    strength: float,
    seed: int,
    groups: Sequence[str] | None,
) -> list[np.ndarray]:
    """Return the logits (n, k) of every entry of train at each share, by probes that did not see its fold."""
    folds = out_of_fold.assign(train, answer, seed, groups)
    places = _places(train, answer, folds, seed)
    (values,), (aside,) = train.pooled.values(), held_out.pooled.values()
    found = [np.empty((len(train), answer.outputs)) for _ in shares]
    for fold in range(out_of_fold.FOLDS):
        scored = folds == fold
        for logits, share in zip(found, shares, strict=True):
            part = ~scored & (places < share)
            scale = strength * len(train) / part.sum()
            head = probing.fit(
                values[part], train.targets[part], out_of_fold.linear_of(answer), answer.outputs,
                validation=(aside, held_out.targets), strengths=[scale * factor for factor in AROUND],
            )  # fmt: skip
            logits[scored] = head.logits(values[scored])
    return found


def _places(train: Features, answer: Answer[Any], folds: np.ndarray, seed: int) -> np.ndarray:
    """Return a number in [0, 1) for each entry: those below a share are that share of each fold, and of each class."""
    rng = np.random.default_rng([seed, 1])
    if not out_of_fold.linear_of(answer).stratified:
        rows = int(train.rows.max()) + 1
        return np.asarray((rng.permutation(rows) / rows)[train.rows])
    found = np.empty(len(train))
    for fold in range(out_of_fold.FOLDS):
        for label in np.unique(train.targets):
            members = np.flatnonzero((folds == fold) & (train.targets == label))
            found[members] = (rng.permutation(len(members)) + rng.random()) / max(len(members), 1)
    return found


def _only(part: Features, pooling: str) -> Features:
    pooled: Mapping[str, np.ndarray] = {pooling: part.pooled[pooling]}
    return Features(pooled, part.targets, part.rows, part.seconds, part.cached)
