"""The optimum of a law on a line of constant compute, and how far the runs let it move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from scaling_lib.fit.laws import Law
from scaling_lib.fit.pool import Pool
from scaling_lib.fit.profile import walk
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.solver import Pin, minimise

Floats = NDArray[np.float64]
ASIDE = 0.05  # in ln N: the optimum of a smooth loss lies halfway between two points of one loss
FURTHEST = 12.0  # in ln N: an optimum that moves by more than this without objection has no limit
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


def pooled_optimum(mixed: Pool, budget: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """ln N* (m,), the forms' own by their weights, and whether most of the weight has no optimum inside."""
    found = [search(m.fit.law, m.fit.work.natural(m.fit.theta)[None], budget, None) for m in mixed.members]
    inside = np.array([m.weight * ~edge[0] for m, (_, _, edge) in zip(mixed.members, found, strict=True)])
    none = inside.sum(axis=0) < 0.5
    share = np.where(none, np.array([[m.weight] for m in mixed.members]), inside)
    return np.sum(share * np.array([u[0] for u, _, _ in found]), axis=0) / share.sum(axis=0), none


def pooled_draws(mixed: Pool, budget: Floats, count: int, seed: int) -> Floats:
    """Draws of ln N* (R, m) by every form in the mixture; infinite where a draw has no optimum inside."""
    out = []
    for law, params in mixed.draws(count, seed):
        u, _, edge = search(law, params, budget, None)
        out.append(np.where(edge, np.where(u < budget / 2, -np.inf, np.inf), u))
    return np.concatenate(out)


def optimum_interval(
    fit: FitResult, u: Floats, edge: NDArray[np.bool_], budget: Floats, unique: float | None, level: float
) -> tuple[Floats, Floats]:
    """Low and high (m,) of ln N* at optima ``u`` (m,) of budgets ln(N D) (m,): by draws where there are some, else by
    a profile; infinite at an edge.
    """
    quantile = float(special.stdtrit(max(fit.dof, 1), 0.5 + level / 2.0))
    if fit.draws is not None:
        us = search(fit.law, np.asarray(fit.draws), budget, unique)[0] - u
        tail = float(special.ndtr(-quantile))  # further out, as a t quantile lies beyond a normal one
        down, up = np.quantile(us, [tail, 1.0 - tail], axis=0)
        down, up = np.maximum(-down, 0.0), np.maximum(up, 0.0)
    elif fit.dof <= 0:
        down = up = np.full(u.size, np.inf)
    else:
        down, up = _profile(fit, u, budget, unique, level)
    return u - np.where(edge, np.inf, down), u + np.where(edge, np.inf, up)


def _profile(fit: FitResult, u: Floats, budget: Floats, unique: float | None, level: float) -> tuple[Floats, Floats]:
    """How far down and up (m,) the optimum may move before the objective objects."""
    work, theta = fit.work, fit.theta
    base = minimise(work.problem(), theta[None, :])
    theta, floor = base.theta[0], float(base.cost[0])
    m = u.size
    sign, centre, total = np.repeat([-1.0, 1.0], m), np.tile(u, 2), np.tile(budget, 2)

    def pin(i: NDArray[np.intp], at: Floats, weight: Floats) -> Pin:
        """The loss a little above size ``at`` less that a little below, as logarithms, is to be 0."""

        def point(v: Floats) -> tuple[Floats, ...]:
            extra = () if unique is None else (np.full(v.size, np.log(unique)),)
            return tuple(x - x0 for x, x0 in zip((v, total[i] - v, *extra), work.log_x0, strict=True))

        return Pin(np.zeros(at.size), weight, log_x=point(at + ASIDE), less=point(at - ASIDE))

    def tilt(i: NDArray[np.intp], at: Floats, where: Floats) -> tuple[Floats, Floats, Floats]:
        """That difference, its slope in ln N, its gradient by the parameters."""
        one = np.ones(at.size)
        value, gradient = pin(i, at, one).measure(fit.law, where)
        ends = [pin(i, at + step, one).measure(fit.law, where)[0] for step in (ASIDE, -ASIDE)]
        return value, (ends[0] - ends[1]) / (2.0 * ASIDE), gradient

    every = np.arange(2 * m)
    where = np.repeat(theta[None, :], 2 * m, axis=0)
    _, slope, gradient = tilt(every, centre, where)
    variance, bend, dof = fit.unbounded_noise.contrast(gradient)
    if float(np.sum(fit.residuals**2)) <= 1e-24 * fit.n_points:  # rounding is all that is left of them
        return np.zeros(m), np.zeros(m)
    sharp = (slope > 0) & (bend > 1e-100)
    variance, scale = np.maximum(variance, 1e-300), np.where(sharp, variance / np.maximum(bend, 1e-300), 1.0)
    quantile = special.stdtrit(dof, 0.5 + level / 2.0)
    weight = np.minimum(100.0 * scale / variance, 1e40)

    def solve(i: NDArray[np.intp], distance: Floats) -> tuple[Floats, Floats]:
        at = centre[i] + sign[i] * distance
        held = pin(i, at, weight[i])
        solved = minimise(work.problem(work.y[None, :], pin=held), where[i], max_iter=60, tol=1e-7)
        where[i] = solved.theta
        off, steep, _ = tilt(i, at, solved.theta)
        reached = at - np.where(steep > 0, off / np.where(steep > 0, steep, 1.0), 0.0)
        plain = solved.cost - 0.5 * held.weight * off**2
        return np.sqrt(np.maximum(2.0 * (plain - floor) / scale[i], 0.0)), np.maximum(
            sign[i] * (reached - centre[i]), 0
        )

    first = quantile * np.clip(np.sqrt(variance) / np.where(sharp, slope, 1.0), 1e-6, 2.0)
    out = np.where(sharp, walk(solve, first, quantile, FURTHEST), np.inf)
    return out[:m], out[m:]


def search(law: Law, params: Floats, budget: Floats, unique: float | None) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return (ln N*, loss, at an edge), each (R, m): R rows of natural ``params``, m budgets ln(N D)."""
    working = law.to_working(params)
    extra = () if unique is None else (np.full((len(params), budget.size), np.log(unique)),)

    def loss(u: Floats) -> Floats:
        out: Floats = law.core(working, (u, budget - u, *extra))[0]
        return out

    # N from 1 parameter to all but 1 token, coarsely; then golden sections round the least.
    # least.
    steps = 65
    parts = np.linspace(0.0, 1.0, steps)
    best = np.full((len(params), budget.size), np.inf)
    where = np.zeros(best.shape, dtype=int)
    for i, part in enumerate(parts):
        value = loss(np.broadcast_to(part * budget, best.shape))
        better = value < best
        best, where = np.where(better, value, best), np.where(better, i, where)
    edge = (where == 0) | (where == steps - 1)
    low = parts[np.maximum(where - 1, 0)] * budget
    high = parts[np.minimum(where + 1, steps - 1)] * budget
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    fa, fb = loss(a), loss(b)
    for _ in range(45):  # the cell shrinks by 4e-10
        left = fa < fb
        low, high = np.where(left, low, a), np.where(left, b, high)
        new = np.where(left, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        value = loss(new)
        a, b = np.where(left, new, b), np.where(left, a, new)
        fa, fb = np.where(left, value, fb), np.where(left, fa, value)
    u = (low + high) / 2
    return u, loss(u), edge
