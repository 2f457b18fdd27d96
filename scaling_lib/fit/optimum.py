"""The optimum of a law on a line of constant compute, and how far the runs let it move."""

from __future__ import annotations

import numpy as np

from scaling_lib.fit.fitted import Fitted
from scaling_lib.fit.forms import Array
from scaling_lib.fit.intervals import is_exact, limits, log_at, outer_tail
from scaling_lib.fit.laws import Law
from scaling_lib.fit.pool import Pool

ASIDE = 0.05  # in ln N: the optimum of a smooth loss lies halfway between two points of one loss
FURTHEST = 12.0  # in ln N: an optimum that moves by more than this without objection has no limit
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


def pooled_optimum(mixed: Pool, budget: Array) -> tuple[Array, Array]:
    """ln N* (m,), the forms' own by their weights, and whether most of the weight has no optimum inside."""
    found = [search(m.fit.law, m.fit.work.natural(m.fit.theta)[None], budget, None) for m in mixed.members]
    weight = np.array([[m.weight] for m in mixed.members])
    inside = weight * np.array([~edge[0] for _, _, edge in found])
    none = inside.sum(axis=0) < 0.5
    share = np.where(none, weight, inside)
    return np.sum(share * np.array([u[0] for u, _, _ in found]), axis=0) / share.sum(axis=0), none


def pooled_draws(mixed: Pool, budget: Array, count: int, seed: int) -> Array:
    """Draws of ln N* (R, m) by every form in the mixture; infinite where a draw has no optimum inside."""
    out = []
    for law, params in mixed.draws(count, seed):
        u, _, edge = search(law, params, budget, None)
        out.append(np.where(edge, np.where(u < budget / 2, -np.inf, np.inf), u))
    return np.concatenate(out)


def optimum_interval(
    fit: Fitted, u: Array, edge: Array, budget: Array, unique: float | None, level: float
) -> tuple[Array, Array]:
    """Low and high (m,) of ln N* at optima ``u`` (m,) of budgets ln(N D) (m,): by draws where there are some, else by
    a profile; infinite at an edge.
    """
    if fit.draws is not None:
        us = search(fit.law, fit.draws, budget, unique)[0] - u
        tail = outer_tail(fit, level)
        down, up = np.quantile(us, [tail, 1.0 - tail], axis=0)
        down, up = np.maximum(-down, 0.0), np.maximum(up, 0.0)
    elif fit.dof <= 0:
        down = up = np.full(u.size, np.inf)
    else:
        down, up = _profile(fit, u, budget, unique, level)
    return u - np.where(edge, np.inf, down), u + np.where(edge, np.inf, up)


def _profile(fit: Fitted, u: Array, budget: Array, unique: float | None, level: float) -> tuple[Array, Array]:
    """How far down and up (m,) the optimum may move before the objective objects."""
    if is_exact(fit):
        return np.zeros(u.size), np.zeros(u.size)

    def off(theta: Array, cases: Array, place: Array) -> tuple[Array, Array]:
        """The loss a little above size ``place`` less that a little below, as logarithms: 0 at the optimum."""

        def at(v: Array) -> tuple[Array, Array]:
            extra = () if unique is None else (np.full(v.size, np.log(unique)),)
            x = (v, budget[cases] - v, *extra)
            return log_at(fit.law, theta, tuple(a - b for a, b in zip(x, fit.work.log_x0, strict=True)))

        above, below = at(place + ASIDE), at(place - ASIDE)
        return above[0] - below[0], above[1] - below[1]

    def rate(theta: Array, cases: Array, place: Array) -> Array:
        """Its slope in ln N; infinite where the loss has no minimum there."""
        above, below = (off(theta, cases, place + step)[0] for step in (ASIDE, -ASIDE))
        return np.where(above > below, (above - below) / (2.0 * ASIDE), np.inf)

    theta, cases = np.repeat(fit.rest.theta, u.size, axis=0), np.arange(u.size)
    gradient = off(theta, cases, u)[1]
    sharp = np.isfinite(rate(theta, cases, u)) & (fit.unbounded_noise.contrast(gradient)[1] > 1e-100)
    down, up = (np.where(sharp, end, np.inf) for end in limits(fit, off, u, gradient, level, FURTHEST, rate))
    return down, up


def search(law: Law, params: Array, budget: Array, unique: float | None) -> tuple[Array, Array, Array]:
    """Return (ln N*, loss, at an edge), each (R, m): R rows of natural ``params``, m budgets ln(N D)."""
    working = law.to_working(params)
    extra = () if unique is None else (np.full((len(params), budget.size), np.log(unique)),)

    def loss(u: Array) -> Array:
        return law.core(working, (u, budget - u, *extra))[0]

    # N from 1 parameter to all but 1 token, coarsely; then golden sections round the least.
    parts = np.linspace(0.0, 1.0, 65)
    best = np.full((len(params), budget.size), np.inf)
    where = np.zeros(best.shape, dtype=int)
    for i, part in enumerate(parts):
        value = loss(np.broadcast_to(part * budget, best.shape))
        best, where = np.minimum(best, value), np.where(value < best, i, where)
    edge = (where == 0) | (where == len(parts) - 1)
    low, high = (parts[np.clip(where + step, 0, len(parts) - 1)] * budget for step in (-1, 1))
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
