"""From data to a solver's problem, and to its optimum by two routes that share no start.

Variables and losses are divided by their geometric means before solving. A law's constants at the centre of the data
are nearly independent of its exponents; at N = 1 parameter, where the natural ``A`` lives, they are almost collinear.

Near least absolute deviation the objective has a kink wherever a run's residual is zero, and with few runs several
minima beside each other, along the valley in which E, A and alpha trade off. So each route looks about it: the first by
descending once more from points spread over the valley that it found, the second by comparing the cells of a grid of
exponents in the final objective, not in the smooth one that guides the way there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law
from scaling_lib.fit.solver import Problem, evaluate, merge, minimise

WIDE = 30.0  # bound of a scaled logarithm: e^30 either side of the data's centre
FIRST_DELTA = 0.05  # first Huber stage: all but gross outliers count by their square
LAST_DELTA = 1e-7  # least absolute deviation stops here: below, rounding costs more than the rounded corner
AGREE = 1e-6  # two routes agree when their objectives differ by no more than this fraction
EFFORTS = ((24, 12), (150, 60))  # points spread over the valley, cells freed: at first, and where the routes disagree
WIDTHS = 3.0  # standard errors that the spread points lie away

Found = tuple[Array, float, bool]  # theta (k,), objective, whether the solver came to rest


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


def certify(work: Setup, starts: int | Any) -> tuple[Array, float, dict[str, Any]]:
    """The best scaled working parameters (k,), the objective there, and whether two routes agree on it.

    Route 1 descends from ``starts`` (a number, or (S, k) natural parameters), then from points spread over the valley
    where it ended. Route 2 walks a dense grid of exponents, solves for the linear parameters there (closed form, then
    descent with the exponents held), and frees everything at the grid's best points. Where they disagree both try
    harder, once. The dict has ``multi_start`` and ``profile`` (the routes' objectives), ``agree``, ``converged``,
    ``starts`` and ``grid`` (numbers of starting points).
    """
    first, grid = _starts(work, starts), exponent_grid(work)
    # Below this sum of residuals the routes differ by rounding (and by the last delta of the LAD objective).
    slack = 1e-9 * len(work.y) * min(work.delta, 1e-7)
    one = _lowest(*descend(work, first, work.y[None, :], keep=8))
    two: Found | None = None
    cells = profile_cells(work, grid)
    for spread, polish in EFFORTS:
        one = spread_route(work, one, spread)
        two = profile_route(work, cells, two, polish)
        low = min(one[1], two[1])
        agree = abs(one[1] - two[1]) <= AGREE * low + slack and ((one[2] and two[2]) or low <= slack)
        if agree:
            break
    assert two is not None
    theta, cost, _ = one if one[1] <= two[1] else two
    routes = {"multi_start": one[1], "profile": two[1], "agree": agree, "converged": one[2] and two[2]}
    return theta, cost, routes | {"starts": len(first), "grid": len(grid)}


def _lowest(theta: Array, cost: Array, converged: Array, before: Found | None = None) -> Found:
    """The lowest end point of a batch, or ``before`` where that is no higher."""
    i = int(np.argmin(cost))
    found = theta[i], float(cost[i]), bool(converged[i])
    return before if before is not None and before[1] <= found[1] else found


def _starts(work: Setup, starts: int | Any) -> Array:
    if isinstance(starts, int | np.integer):
        if starts < 1:
            raise InputError(f"starts={starts} must be 1 or more")
        return seeds(work, int(starts))
    given = np.asarray(starts, dtype=float)
    k = work.law.n_params
    if given.ndim != 2 or given.shape[1] != k or not np.all(np.isfinite(given)):
        raise InputError(f"starts must be a number or an array (S, {k}) of natural parameters, got shape {given.shape}")
    return np.clip(np.where(work.free, work.scaled(given), work.held), work.lower, work.upper)


def spread_route(work: Setup, found: Found, count: int) -> Found:
    """Descend again from ``count`` points spread over the valley round ``found``."""
    theta = found[0]
    outer = evaluate(replace(work, delta=np.inf), theta[None, :])[3][0]
    noise = max(1.5 * float(np.median(np.abs(work.log_law(theta)[0] - work.y))), 1e-6)
    values, vectors = np.linalg.eigh(outer[np.ix_(work.free, work.free)])
    widths = np.minimum(noise / np.sqrt(np.maximum(values, 1e-280)), 1.0)  # a parameter that is not seen: anywhere near
    start = np.repeat(theta[None, :], count, axis=0)
    start[:, work.free] += WIDTHS * (2.0 * halton(count, work.n_free) - 1.0) * widths @ vectors.T
    ends = minimise(work, np.clip(start, work.lower, work.upper), max_iter=200)
    return _lowest(ends.theta, ends.cost, ends.converged, found)


def exponent_grid(work: Setup) -> Array:
    """Grid of the law's exponents (G, k), the linear parameters solved for where the law is linear in some."""
    law = work.law
    centre = law.seed_point(np.full((1, law.n_params), 0.5), float(np.exp(work.y.min())))
    centre = np.where(work.free, centre, work.held)
    moved = [i for i, name in enumerate(law.param_names) if name in law.nonlinear and work.free[i]]
    if not moved:
        return centre
    count = {1: 96, 2: 20}.get(len(moved), 9)
    axes = []
    for i in moved:
        low, high = max(work.lower[i], -1.0), min(work.upper[i], 2.0)
        axes.append(np.geomspace(0.01, high, count) if low > 0 else np.linspace(low, high, count))
    out = np.repeat(centre, count ** len(moved), axis=0)
    out[:, moved] = np.stack([m.ravel() for m in np.meshgrid(*axes, indexing="ij")], axis=1)
    return np.clip(_linear_start(work, out), work.lower, work.upper)


def _linear_start(work: Setup, grid: Array) -> Array:
    """Floor and amplitudes of an additive law at held exponents, by relative least squares: no start."""
    law = work.law
    amplitudes = [i for i, n in enumerate(law.param_names) if n in ("A", "B", "a", "b")]
    if law.name in ("kaplan", "power_mean", "data_constrained"):
        return grid
    unit = grid.copy()
    unit[:, amplitudes] = 0.0
    linear = [i for i in (0, *amplitudes) if work.free[i]]
    basis = law.core(unit, work.log_x)[1][:, linear, :] * np.exp(-work.y)  # (G, m, n)
    known = 1.0 - (0.0 if work.free[0] else work.held[0]) * np.exp(-work.y)
    normal = basis @ basis.transpose(0, 2, 1)
    scale = np.sqrt(np.maximum(np.einsum("gii->gi", normal), 1e-280))
    normal = normal / (scale[:, :, None] * scale[:, None, :]) + 1e-10 * np.eye(len(linear))
    value = np.linalg.solve(normal, ((basis @ known) / scale)[:, :, None])[:, :, 0] / scale
    out = grid.copy()
    for j, i in enumerate(linear):
        out[:, i] = np.maximum(value[:, j], 0.0) if i == 0 else np.log(np.maximum(value[:, j], 1e-3))
    return out


def profile_cells(work: Setup, grid: Array) -> Array:
    """The grid's points (G, k) with the other parameters solved for, best first by the final objective."""
    free = work.free & ~np.isin(work.law.param_names, work.law.nonlinear)
    plan = stages(work.delta)
    cells = minimise(replace(work, free=free, delta=plan[0]), grid, max_iter=15, tol=1e-3)
    if plan[0] > plan[-1]:
        best = np.argsort(cells.cost, kind="stable")[: max(EFFORTS[-1][1], len(grid) // 8)]
        cells = minimise(replace(work, free=free), cells.theta[best], max_iter=20, tol=1e-3)
    return cells.theta[np.argsort(cells.cost, kind="stable")]


def profile_route(work: Setup, cells: Array, before: Found | None, polish: int) -> Found:
    """Free everything at the ``polish`` best cells: straight away, and by way of the smooth objectives."""
    ends = minimise(work, cells[:polish], max_iter=200)
    found = _lowest(ends.theta, ends.cost, ends.converged, before)
    if work.delta < FIRST_DELTA and before is None:
        return _lowest(*descend(work, cells[:6], work.y[None, :], keep=6), found)
    return found
