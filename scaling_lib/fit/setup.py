"""From data to a solver's problem and back: scaling, bounds, starts, the objective's stages.

Variables and losses are divided by their geometric means before solving. A law's constants at the centre of the data
are nearly independent of its exponents; at N = 1 parameter, where the natural ``A`` lives, they are almost collinear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law
from scaling_lib.fit.solver import Problem, merge, minimise

WIDE = 30.0  # bound of a scaled logarithm: e^30 either side of the data's centre
FIRST_DELTA = 0.05  # first Huber stage: all but gross outliers count by their square
LAST_DELTA = 1e-7  # least absolute deviation stops here: below, rounding costs more than the rounded corner


@dataclass(frozen=True, kw_only=True)
class Setup(Problem):
    """Scaled data and settings of one fit, whose parameters (k,) are called scaled working ones; see `make`.

    log_x0, log_l0 : the scales taken out of ``log_x`` and ``y`` (n,). held : (k,) values of what is not free.
    """

    log_x0: tuple[float, ...]
    log_l0: float
    held: Array

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

    def log_law(self, theta: Array, log_x: tuple[Array, ...] | None = None) -> tuple[Array, Array]:
        """Scaled log prediction (m,) of parameters (k,) and its derivatives (m, k): at the runs, or at scaled logs."""
        value, gradient = self.law.log_value(theta, self.log_x if log_x is None else log_x)
        return value, gradient.T


def make(law: Law, x: tuple[Array, ...], loss: Array, delta: float, fixed: Mapping[str, float]) -> Setup:
    """Scale checked data. ``fixed`` holds floors, exponents and shape parameters at a natural value."""
    for name, value in fixed.items():
        if not isinstance(value, Real):
            raise InputError(f"fixed: {name}={value!r} is no number")
        if name not in law.param_names:
            raise InputError(f"law {law.name!r} has no parameter {name!r}: it has {', '.join(law.param_names)}")
    logs = [np.log(v) for v in x]
    means = [float(v.mean()) for v in logs]
    if law.variables == ("N", "D", "U"):
        means[2] = means[1]  # the law measures D in units of U
    y = np.log(loss)
    log_l0 = float(y.mean())
    k = law.n_params
    lower, upper, held = np.full(k, -WIDE), np.full(k, WIDE), np.zeros(k)
    for i, name in enumerate(law.param_names):
        low, high = law.bounds[i]
        if name == "E":
            lower[i], upper[i] = 0.0, 10.0 * np.exp(float(y.max()) - log_l0)
        elif not law.logged[i]:
            lower[i], upper[i] = low, high
        elif low > 0:
            lower[i], upper[i] = np.log(low), np.log(high)
        if name in fixed:
            lower[i] = upper[i] = held[i] = _held(law, i, float(fixed[name]), log_l0)
    return Setup(
        law=law,
        log_x=tuple(v - s for v, s in zip(logs, means, strict=True)),
        y=y - log_l0,
        delta=delta,
        free=~np.isin(law.param_names, list(fixed)),
        lower=lower,
        upper=upper,
        log_x0=tuple(means),
        log_l0=log_l0,
        held=held,
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
    out = np.zeros((n, k))
    for j, base in enumerate((2, 3, 5, 7, 11, 13, 17)[:k]):
        rest, factor = np.arange(1, n + 1), 1.0 / base
        while rest.any():
            out[:, j] += factor * (rest % base)
            rest //= base
            factor /= base
    return out


def seeds(setup: Setup, n: int) -> Array:
    """``n`` starting points (n, k) over the law's plausible box; held parameters stand at their values."""
    start = setup.law.seed_point(halton(n, setup.law.n_params), float(np.exp(setup.y.min())))
    return np.clip(np.where(setup.free, start, setup.held), setup.lower, setup.upper)


def stages(delta: float) -> list[float]:
    """Huber thresholds from loose to the wanted one; least squares has a first stage too, to see which starts meet."""
    if np.isinf(delta) or delta >= FIRST_DELTA:
        return [delta, delta]
    steps = max(1, int(np.ceil(np.log(FIRST_DELTA / delta) / np.log(10.0))))
    return [float(d) for d in np.geomspace(FIRST_DELTA, delta, steps + 1)]


def descend(
    setup: Setup, start: Array, y: Array, *, weight: Array | None = None, keep: int
) -> tuple[Array, Array, Array]:
    """Best end point of each of R problems: theta (R, k), objective (R,), converged (R,).

    start : (S, k) shared by all problems. y : (R, n) log losses; weight : (R, n) or None.
    keep : starts that have met after a stage are merged; so many distinct ones go on.
    """
    r, k = len(y), setup.law.n_params
    plan = stages(setup.delta)
    start = np.broadcast_to(start, (r, *start.shape))
    for i, delta in enumerate(plan):
        last = i == len(plan) - 1
        rows = np.repeat(np.arange(r), start.shape[1])
        weights = None if weight is None else weight[rows]
        problem = replace(setup, y=y[rows] if r > 1 else y[0], weight=weights, delta=delta, sharp=i > 0)
        limit, tol = (200, 1e-11) if last else (40, 1e-4)
        found = minimise(problem, start.reshape(-1, k), max_iter=limit, tol=tol)
        cost, theta = found.cost.reshape(r, -1), found.theta.reshape(r, -1, k)
        if not last:
            start = merge(cost, theta, keep)
    best = np.argmin(cost, axis=1)
    pick = np.arange(r)
    return theta[pick, best], cost[pick, best], found.converged.reshape(r, -1)[pick, best]
