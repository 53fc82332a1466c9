"""Linear heads solved to convergence on frozen features: logistic for labels, ridge for numbers.

The features are standardised and turned into their principal axes, scaled so that the loss is nearly round there:
L-BFGS then needs tens of steps. All of it is folded into the weights at the end. The search for pooling and strength
is float32 and stops early; what is returned is solved in float64 to convergence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
import threadpoolctl

from hftransfer.answers._linear import LinearTarget, Objective
from hftransfer.errors import UserError

STRENGTHS = tuple(float(10.0**power) for power in np.arange(0.5, -5.1, -0.5))
WIDEST = 2048  # features with more rows and more columns are not turned: the axes would take longer than they save
CONVERGED = {"gtol": 1e-6, "ftol": 1e-10}  # of L-BFGS
SEARCH = {"gtol": 1e-4, "ftol": 1e-6}
GIVE_UP = 2  # weaker penalties are not tried after so many in a row that validate worse


@dataclass(frozen=True)
class Head:
    """A linear head: logits = features @ weight.T + bias.

    `weight` (k, d), `bias` (k,); k is 1 for regression. `strength` is the penalty: half of it times the squared
    weights of standardised features is added to the mean loss. `loss` is the validation loss (mean negative log
    likelihood in nats a decision, or mean squared error), nan without validation; `tried` has it for every
    (pooling, strength) that was looked at.
    """

    weight: np.ndarray
    bias: np.ndarray
    strength: float
    pooling: str
    loss: float
    tried: Mapping[tuple[str, float], float]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return logits (n, k) of features (n, d) of the head's pooling."""
        return np.asarray(features, np.float64) @ self.weight.T + self.bias


def fit(
    features: Mapping[str, np.ndarray] | np.ndarray,
    targets: np.ndarray,
    target: LinearTarget,
    outputs: int,
    validation: tuple[Mapping[str, np.ndarray] | np.ndarray, np.ndarray] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    class_weights: Sequence[float] | None = None,
    intercept: bool = True,
) -> Head:
    """Fit a head for each pooling and strength, and return the one with the lowest loss on `validation`.

    `features` are arrays (n, d), by pooling or one alone (its name is then ""); `targets` (n,) labels or numbers or
    (n, k) of 0 and 1; `outputs` is k, 1 for regression. Without `validation` exactly one pooling and one strength
    must be given. `class_weights` (k,) multiply the loss of a label's rows (several labels: of its positives). With
    `intercept=False` the bias is 0, and the features are scaled but not centred. UserError for features that are not
    finite. A strong penalty wins over a weaker one that validates no better.
    """
    pooled = features if isinstance(features, Mapping) else {"": features}
    held_out = None
    if validation is not None:
        held_out = validation[0] if isinstance(validation[0], Mapping) else {"": validation[0]}
    elif len(pooled) != 1 or len(strengths) != 1:
        raise ValueError("choosing among poolings or strengths needs validation rows")
    objective = target.objective(targets, outputs, class_weights)
    tried: dict[tuple[str, float], float] = {}
    best: tuple[float, _Scaled, str, float, np.ndarray] | None = None

    def loss_of(name: str, weight: np.ndarray, bias: np.ndarray) -> float:
        if validation is None or held_out is None:
            return float("nan")
        return target.loss(np.asarray(held_out[name], np.float64) @ weight.T + bias, validation[1])

    for name, values in pooled.items():
        space = _Space(values, intercept)
        start, worse, lowest = space.zeros(outputs), 0, np.inf
        for strength in sorted(strengths, reverse=True):
            turned = space.scaled(strength, target)
            start = _solve(turned, objective, target, targets, strength, start, SEARCH)
            loss = tried[name, strength] = loss_of(name, *turned.unfolded(start))
            start = turned.plain(start)
            if best is None or loss < best[0]:
                best = loss, turned, name, strength, start
            worse = worse + 1 if loss >= lowest else 0
            lowest = min(lowest, loss)
            if worse == GIVE_UP:
                break
    assert best is not None
    _, turned, name, strength, start = best
    weight, bias = turned.unfolded(_solve(turned, objective, target, targets, strength, start, CONVERGED))
    tried[name, strength] = loss_of(name, weight, bias)
    return Head(weight, bias, strength, name, tried[name, strength], tried)


class _Space:
    """Features standardised, and turned into their principal axes where these are cheap."""

    def __init__(self, values: np.ndarray, intercept: bool) -> None:
        values = np.asarray(values, np.float64)
        if not np.isfinite(values).all():
            raise UserError(
                "finite features are needed", "the model's outputs hold NaN or infinite values", "Use another model."
            )
        self.intercept = intercept
        self.center = values.mean(axis=0) if intercept else np.zeros(values.shape[1])
        spread = np.sqrt(np.mean((values - self.center) ** 2, axis=0))
        # a feature that hardly varies says nothing, and its rounding would be blown up
        self.spread = np.where(spread > 1e-6 * max(spread.max(), 1e-30), spread, np.inf)
        self.values = (values - self.center) / self.spread
        self.axes: np.ndarray | None = None
        self.power = np.ones(values.shape[1])
        rows, width = values.shape
        if min(rows, width) <= WIDEST:
            self.power, self.axes = _axes(self.values)
            self.values = self.values @ self.axes
        self.rough = self.values.astype(np.float32)

    def zeros(self, outputs: int) -> np.ndarray:
        return np.zeros((self.values.shape[1] + 1, outputs))

    def scaled(self, strength: float, target: LinearTarget) -> _Scaled:
        # the curvature of the loss along each axis, at probabilities of one half
        curvature = target.curvature * self.power + strength
        return _Scaled(self, 1 / np.sqrt(curvature))


def _axes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean square along each principal axis (m,), and the axes (d, m); the best head lies within them."""
    rows, width = values.shape
    if width <= rows:
        power, axes = np.linalg.eigh(values.T @ values / rows)
        return np.maximum(power, 0.0), axes
    power, turned = np.linalg.eigh(values @ values.T / rows)
    kept = power > 1e-12 * max(power[-1], 1e-30)
    return power[kept], values.T @ turned[:, kept] / np.sqrt(rows * power[kept])


@dataclass(frozen=True)
class _Scaled:
    """A space in which the loss is nearly round; unknowns (d + 1, k), the last row is the bias."""

    space: _Space
    scale: np.ndarray

    def logits(self, unknowns: np.ndarray, values: np.ndarray) -> np.ndarray:
        weight = (self.scale[:, None] * unknowns[:-1]).astype(values.dtype)
        return (values @ weight).astype(np.float64) + self.space.intercept * unknowns[-1]

    def gradient(self, errors: np.ndarray, values: np.ndarray) -> np.ndarray:
        inner = self.scale[:, None] * (values.T @ errors.astype(values.dtype)).astype(np.float64)
        return np.vstack([inner, self.space.intercept * errors.sum(axis=0)])

    def plain(self, unknowns: np.ndarray) -> np.ndarray:
        """Return the unknowns without the scale: another strength has another."""
        return np.vstack([self.scale[:, None] * unknowns[:-1], unknowns[-1:]])

    def from_plain(self, unknowns: np.ndarray) -> np.ndarray:
        return np.vstack([unknowns[:-1] / self.scale[:, None], unknowns[-1:]])

    def unfolded(self, unknowns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weight (k, d) and bias (k,) for features as they came."""
        weight = self.scale[:, None] * unknowns[:-1]
        if self.space.axes is not None:
            weight = self.space.axes @ weight
        weight = weight / self.space.spread[:, None]
        bias = self.space.intercept * unknowns[-1] - self.space.center @ weight
        return weight.T.copy(), bias


def _solve(
    turned: _Scaled,
    objective: Objective,
    target: LinearTarget,
    targets: np.ndarray,
    strength: float,
    start: np.ndarray,
    until: Mapping[str, float],
) -> np.ndarray:
    """Return the unknowns at the optimum, from where the last strength's ended."""
    if target.numeric:
        return _ridge(turned, np.asarray(targets, np.float64).reshape(-1, 1), strength)
    shape = start.shape
    penalty = strength * turned.scale[:, None] ** 2
    values = turned.space.values if until is CONVERGED else turned.space.rough

    def both(flat: np.ndarray) -> tuple[float, np.ndarray]:
        unknowns = flat.reshape(shape)
        loss, errors = objective(turned.logits(unknowns, values))
        gradient = turned.gradient(errors, values)
        gradient[:-1] += penalty * unknowns[:-1]
        return loss + 0.5 * float((penalty * unknowns[:-1] ** 2).sum()), gradient.ravel()

    with one_thread_of_scipy():
        found = scipy.optimize.minimize(
            both, turned.from_plain(start).ravel(), jac=True, method="L-BFGS-B",
            options={"maxiter": 1000, "maxfun": 2000, "maxcor": 20, **until},
        )  # fmt: skip
    return np.asarray(found.x).reshape(shape)


def one_thread_of_scipy() -> Any:
    """Return a context in which scipy's own BLAS has one thread.

    The wheels of numpy and scipy each bring a BLAS: L-BFGS's short vectors wake the threads of one while those of the
    other, which multiplies the features, still spin; a fit then takes five times as long.
    """
    return _blas_of_scipy().limit(limits=1)


@cache
def _blas_of_scipy() -> Any:
    """Return the controller of scipy's own BLAS: finding it looks at every library of the process, 20 ms each time."""
    pools = threadpoolctl.ThreadpoolController()
    own = [pool.filepath for pool in pools.lib_controllers if Path(pool.filepath).parent.name.startswith("scipy")]
    return pools.select(filepath=own)


def _ridge(turned: _Scaled, targets: np.ndarray, strength: float) -> np.ndarray:
    """Return the least squares solution with half the penalty of `strength` a squared weight, half a squared error."""
    values, intercept = turned.space.values, turned.space.intercept
    middle = targets.mean(axis=0) if intercept else np.zeros(1)  # the features have a mean of zero
    moment = values.T @ (targets - middle) / len(targets)
    if turned.space.axes is not None:
        weight = moment / (turned.space.power + strength)[:, None]
    else:
        gram = values.T @ values / len(targets)
        weight = np.linalg.solve(gram + strength * np.eye(len(gram)), moment)
    return turned.from_plain(np.vstack([weight, middle[None]]))
