"""The optimum of a fit and its certificate: two routes that share no start have to reach it.

Near least absolute deviation the objective has a kink wherever a run's residual is zero, and with few runs several
minima beside each other, along the valley in which E, A and alpha trade off. So each route looks about it: the first by
descending once more from points spread over the valley that it found, the second by comparing the cells of a grid of
exponents in the final objective, not in the smooth one that guides the way there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import setup as setups
from scaling_lib.fit.forms import Array
from scaling_lib.fit.setup import Setup
from scaling_lib.fit.solver import Solution, evaluate

AGREE = 1e-6  # two routes agree when their objectives differ by no more than this fraction
EFFORTS = ((24, 12), (150, 60))  # points spread over the valley, cells freed: at first, and where the routes disagree
WIDTHS = 3.0  # standard errors that the spread points lie away

Found = tuple[Array, float, bool]  # theta (k,), objective, whether the solver came to rest


def certify(work: Setup, starts: int | Any) -> tuple[Array, float, dict[str, object]]:
    """The best parameters by two routes that share no start, and whether the routes agree.

    Route 1 descends from many points, then from points spread over the valley where it ended. Route 2 walks a dense
    grid of exponents, solves for the linear parameters there (closed form, then descent with the exponents held), and
    frees everything at the grid's best points. Where they disagree both try harder, once.
    """
    first, grid = _starts(work, starts), exponent_grid(work)
    # Below this sum of residuals the routes differ by rounding (and by the last delta of the LAD objective).
    slack = 1e-9 * len(work.y) * min(work.delta, 1e-7)
    theta, cost, done = setups.descend(work, first, work.y[None, :], keep=8)
    one: Found = theta[0], float(cost[0]), bool(done[0])
    two: Found | None = None
    cells = profile_cells(work, grid)
    agree = False
    for spread, polish in EFFORTS:
        one = spread_route(work, one, spread)
        two = profile_route(work, cells, two, polish)
        low = min(one[1], two[1])
        agree = abs(one[1] - two[1]) <= AGREE * low + slack and ((one[2] and two[2]) or low <= slack)
        if agree:
            break
    assert two is not None
    best = one if one[1] <= two[1] else two
    return (
        best[0],
        best[1],
        {
            "multi_start": one[1],
            "profile": two[1],
            "agree": bool(agree),
            "converged": one[2] and two[2],
            "starts": len(first),
            "grid": len(grid),
        },
    )


def _lowest(solution: Solution, before: Found | None = None) -> Found:
    """The lowest end point of a batch, or ``before`` where that is no higher."""
    i = int(np.argmin(solution.cost))
    found = solution.theta[i], float(solution.cost[i]), bool(solution.converged[i])
    return before if before is not None and before[1] <= found[1] else found


def spread_route(work: Setup, found: Found, count: int) -> Found:
    """Descend again from ``count`` points spread over the valley round ``found``."""
    theta = found[0]
    _, _, _, outer = evaluate(work.problem(delta=np.inf), theta[None, :])
    residuals = np.log(work.law.core(theta, work.log_x)[0]) - work.y
    noise = max(1.5 * float(np.median(np.abs(residuals))), 1e-6)
    values, vectors = np.linalg.eigh(outer[0][np.ix_(work.free, work.free)])
    widths = np.minimum(noise / np.sqrt(np.maximum(values, 1e-280)), 1.0)  # a parameter that is not seen: anywhere near
    cube = setups.halton(count, work.n_free)
    start = np.repeat(theta[None, :], count, axis=0)
    start[:, work.free] += WIDTHS * (2.0 * cube - 1.0) * widths @ vectors.T
    start = np.clip(start, work.lower, work.upper)
    return _lowest(setups.minimise(work.problem(), start, max_iter=200), found)


def _starts(work: Setup, starts: int | Any) -> Array:
    if isinstance(starts, int | np.integer):
        if starts < 1:
            raise InputError(f"starts={starts} must be 1 or more")
        return setups.seeds(work, int(starts))
    given = np.asarray(starts, dtype=float)
    k = work.law.n_params
    if given.ndim != 2 or given.shape[1] != k or not np.all(np.isfinite(given)):
        raise InputError(f"starts must be a number or an array (S, {k}) of natural parameters, got shape {given.shape}")
    return np.clip(np.where(work.free, work.scaled(given), work.held), work.lower, work.upper)


def exponent_grid(work: Setup) -> Array:
    """Grid of the law's exponents (G, k): other parameters stand at the seed box's centre."""
    law = work.law
    names = [n for n in law.nonlinear if work.free[law.param_names.index(n)]]
    centre = np.where(
        work.free, law.seed_point(np.full((1, law.n_params), 0.5), float(np.exp(work.y.min()))), work.held
    )
    if not names:
        return centre
    count = {1: 96, 2: 20}.get(len(names), 9)
    axes = []
    for name in names:
        i = law.param_names.index(name)
        low, high = max(work.lower[i], -1.0), min(work.upper[i], 2.0)
        axes.append(np.geomspace(0.01, high, count) if low > 0 else np.linspace(low, high, count))
    mesh = np.stack([m.ravel() for m in np.meshgrid(*axes, indexing="ij")], axis=1)
    out = np.repeat(centre, len(mesh), axis=0)
    for j, name in enumerate(names):
        out[:, law.param_names.index(name)] = mesh[:, j]
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
    known = np.ones(len(work.y)) - (0.0 if work.free[0] else work.held[0]) * np.exp(-work.y)
    normal = basis @ basis.transpose(0, 2, 1)
    scale = np.sqrt(np.maximum(np.einsum("gii->gi", normal), 1e-280))
    normal = normal / (scale[:, :, None] * scale[:, None, :])
    normal[:, np.arange(len(linear)), np.arange(len(linear))] += 1e-10
    value = np.linalg.solve(normal, ((basis @ known) / scale)[:, :, None])[:, :, 0] / scale
    out = grid.copy()
    for j, i in enumerate(linear):
        out[:, i] = np.maximum(value[:, j], 0.0) if i == 0 else np.log(np.maximum(value[:, j], 1e-3))
    return out


def profile_cells(work: Setup, grid: Array) -> Array:
    """The grid's points (G, k) with the other parameters solved for, best first by the final objective."""
    held = np.array([n in work.law.nonlinear for n in work.law.param_names])
    plan = setups.stages(work.delta)
    free = work.free & ~held
    partial = setups.minimise(work.problem(free=free, delta=plan[0]), grid, max_iter=15, tol=1e-3)
    if plan[0] > plan[-1]:
        best = np.argsort(partial.cost, kind="stable")[: max(EFFORTS[-1][1], len(grid) // 8)]
        problem = work.problem(free=free)
        partial = setups.minimise(problem, partial.theta[best], max_iter=20, tol=1e-3)
    return partial.theta[np.argsort(partial.cost, kind="stable")]


def profile_route(work: Setup, cells: Array, before: Found | None, polish: int) -> Found:
    """Free everything at the ``polish`` best cells: straight away, and by way of the smooth objectives."""
    found = _lowest(setups.minimise(work.problem(), cells[:polish], max_iter=200), before)
    if work.delta < setups.FIRST_DELTA and before is None:
        theta, cost, done = setups.descend(work, cells[:6], work.y[None, :], keep=6)
        if float(cost[0]) < found[1]:
            found = theta[0], float(cost[0]), bool(done[0])
    return found
