"""From data to a solver's problem and back: scaling, bounds, starts, the objective's stages.

Variables and losses are divided by their geometric means before solving. A law's constants at the centre
of the data are nearly independent of its exponents; at N = 1 parameter, where the natural ``A`` lives,
they are almost collinear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law
from scaling_lib.fit.solver import Pin, Problem, Solution, merge, minimise

WIDE = 30.0  # bound of a scaled logarithm: e^30 either side of the data's centre
FIRST_DELTA = 0.05  # first Huber stage: all but gross outliers count by their square
LAST_DELTA = 1e-7  # least absolute deviation stops here: below, rounding costs more than the rounded corner


@dataclass(frozen=True)
class Setup:
    """Scaled data and settings of one fit; see `make`.

    log_x : tuple of (n,); y : (n,); log_x0, log_l0 : the scales taken out; free : (k,) bool;
    held : (k,) scaled working values of the parameters that are not free; lower, upper : (k,);
    delta : inf for least squares.
    """

    law: Law
    log_x: tuple[Array, ...]
    y: Array
    log_x0: tuple[float, ...]
    log_l0: float
    delta: float
    free: Array
    held: Array
    lower: Array
    upper: Array

    @property
    def n_free(self) -> int:
        """Number of free parameters."""
        return int(self.free.sum())

    def natural(self, theta: Array) -> Array:
        """Natural parameters (..., k) in the units of the data from scaled working ones."""
        return self.law.to_natural(self.law.to_units(theta, self.log_x0, self.log_l0))

    def scaled(self, params: Array) -> Array:
        """Inverse of `natural`."""
        return self.law.to_units(self.law.to_working(params), tuple(-v for v in self.log_x0), -self.log_l0)

    def scaled_log(self, x: tuple[Array, ...]) -> tuple[Array, ...]:
        """Scaled logarithms of points in the units of the data."""
        return tuple(np.log(v) - s for v, s in zip(x, self.log_x0, strict=True))

    def problem(
        self,
        y: Array | None = None,
        *,
        weight: Array | None = None,
        free: Array | None = None,
        pin: Pin | None = None,
        delta: float | None = None,
        log_x: tuple[Array, ...] | None = None,
        sharp: bool = True,
    ) -> Problem:
        """The solver's problem for these data or for other log losses ``y`` (B, n)."""
        return Problem(
            self.law,
            self.log_x if log_x is None else log_x,
            self.y[None, :] if y is None else y,
            self.delta if delta is None else delta,
            np.atleast_2d(self.free if free is None else free),
            self.lower,
            self.upper,
            weight,
            pin,
            sharp,
        )


def make(law: Law, x: tuple[Array, ...], loss: Array, delta: float, fixed: Mapping[str, float]) -> Setup:
    """Scale checked data. ``fixed`` holds floors, exponents and shape parameters at a natural value."""
    k = law.n_params
    logs = [np.log(v) for v in x]
    means = [float(v.mean()) for v in logs]
    if law.variables == ("N", "D", "U"):
        means[2] = means[1]  # the law measures D in units of U
    y = np.log(loss)
    log_l0 = float(y.mean())
    lower, upper = np.full(k, -WIDE), np.full(k, WIDE)
    free, held = np.ones(k, dtype=bool), np.zeros(k)
    for i, name in enumerate(law.param_names):
        low, high = law.bounds[i]
        if name == "E":
            lower[i], upper[i] = 0.0, 10.0 * np.exp(float(y.max()) - log_l0)
        elif not law.logged[i]:
            lower[i], upper[i] = low, high
        elif low > 0:
            lower[i], upper[i] = np.log(low), np.log(high)
        if name in fixed:
            free[i] = False
            held[i] = _held(law, i, float(fixed[name]), log_l0)
            lower[i] = upper[i] = held[i]
    for name in fixed:
        if name not in law.param_names:
            raise InputError(f"law {law.name!r} has no parameter {name!r}: it has {', '.join(law.param_names)}")
    return Setup(
        law,
        tuple(v - s for v, s in zip(logs, means, strict=True)),
        y - log_l0,
        tuple(means),
        log_l0,
        delta,
        free,
        held,
        lower,
        upper,
    )


def _held(law: Law, i: int, value: float, log_l0: float) -> float:
    name, (low, high) = law.param_names[i], law.bounds[i]
    if not np.isfinite(value) or not low <= value <= high:
        raise InputError(f"{name}={value:g} cannot be held: it must lie between {low:g} and {high:g}")
    if name == "E":
        return value * float(np.exp(-log_l0))
    if law.logged[i] and low <= 0:
        raise InputError(f"{name} cannot be held fixed: hold the floor E or an exponent instead")
    return float(np.log(value)) if law.logged[i] else value


def halton(n: int, k: int) -> Array:
    """The first ``n`` Halton points of the unit cube (n, k): evenly spread, and the same every time."""
    out = np.empty((n, k))
    index = np.arange(1, n + 1)
    for j, base in enumerate((2, 3, 5, 7, 11, 13, 17)[:k]):
        rest, factor, value = index.copy(), 1.0 / base, np.zeros(n)
        while rest.any():
            value += factor * (rest % base)
            rest //= base
            factor /= base
        out[:, j] = value
    return out


def seeds(setup: Setup, n: int) -> Array:
    """``n`` starting points (n, k) over the law's plausible box; held parameters stand at their values."""
    start = setup.law.seed_point(halton(n, setup.law.n_params), float(np.exp(setup.y.min())))
    start = np.where(setup.free, start, setup.held)
    return np.clip(start, setup.lower, setup.upper)


def hoffmann_grid() -> Array:
    """The 4,500 starts of Hoffmann et al. 2022 for Chinchilla's law, natural parameters (4500, 5).

    ln A and ln B from 0 to 25 in steps of 5, ln E from -1 to 1 in steps of .5, exponents from 0 to 2 in steps of .5.
    """
    five = np.arange(5)
    axes = (0.5 * five - 1.0, 5.0 * np.arange(6), 5.0 * np.arange(6), 0.5 * five, 0.5 * five)
    grid = np.stack([m.ravel() for m in np.meshgrid(*axes, indexing="ij")], axis=1)
    grid[:, :3] = np.exp(grid[:, :3])
    return grid


def stages(delta: float) -> list[float]:
    """Huber thresholds from loose to the wanted one; least squares has a first stage too, to see which starts meet."""
    if np.isinf(delta) or delta >= FIRST_DELTA:
        return [delta, delta]
    steps = max(1, int(np.ceil(np.log(FIRST_DELTA / delta) / np.log(10.0))))
    return [float(d) for d in np.geomspace(FIRST_DELTA, delta, steps + 1)]


def descend(
    setup: Setup,
    start: Array,
    y: Array,
    *,
    weight: Array | None = None,
    keep: int = 3,
    free: Array | None = None,
    log_x: tuple[Array, ...] | None = None,
) -> tuple[Array, Array, Array]:
    """Best end point of each of R problems from S starts each.

    Parameters
    ----------
    start : (S, k) shared by all problems, or (R, S, k). y : (R, n) log losses; weight : (R, n) or None.
    keep : starts that have met after the first stage are merged; so many distinct ones go on.

    Returns
    -------
    theta (R, k), objective (R,), converged (R,).
    """
    r, k = len(y), setup.law.n_params
    if start.ndim == 2:
        start = np.broadcast_to(start, (r, *start.shape))
    plan = stages(setup.delta)
    solution: Solution | None = None
    for i, delta in enumerate(plan):
        s = start.shape[1]
        last = i == len(plan) - 1
        rows = np.repeat(np.arange(r), s)
        problem = setup.problem(
            y[rows] if r > 1 else y,
            weight=None if weight is None else weight[rows],
            delta=delta,
            free=free,
            sharp=last or i > 0,
            log_x=None if log_x is None else tuple(v if v.ndim == 1 else v[rows] for v in log_x),
        )
        limit, tol = (200, 1e-11) if last else (40, 1e-4)
        solution = minimise(problem, start.reshape(r * s, k), max_iter=limit, tol=tol)
        cost, theta = solution.cost.reshape(r, s), solution.theta.reshape(r, s, k)
        if not last:
            start = merge(cost, theta, keep)[1]
    assert solution is not None
    best = np.argmin(cost, axis=1)
    pick = np.arange(r)
    return theta[pick, best], cost[pick, best], solution.converged.reshape(r, -1)[pick, best]
