"""Batched Levenberg-Marquardt: many small fits of one law at once, in NumPy.

Minimises, for every member b of a batch, the sum over data points of ``w_i rho(log m_i(theta_b) - y_i)`` plus an
optional quadratic "pin". ``rho`` is Huber's function: r^2/2 within delta, delta |r| - delta^2/2 outside; delta = inf is
least squares. Least absolute deviation is reached by lowering delta (Madsen and Nielsen 1993): see `setup.stages`.

The step solves ``(H + lambda (S + diag S)) step = -g``. S is the normal matrix with the weights of iteratively
reweighted least squares, which majorises the objective, H the one with the true second derivative of rho (0 or 1). With
a small lambda the step is a Newton step, which converges quadratically even where most residuals lie outside delta;
with a large one it is a damped reweighted step, which always descends. Members that have converged leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law

CHUNK = 200_000  # residuals evaluated at once: about 30 MB of temporaries for five parameters
LEAP = 5.0  # longest step of a scaled working parameter
PATIENCE = 30  # iterations before a member that creeps along a bent valley gets the law's own curvature
LOOSE = 1e-9  # a wider tolerance than this is a stage on the way: it may stop where a damped step promises little


@dataclass(frozen=True)
class Pin:
    """A quadratic that holds one function of the parameters at 0: it adds ``weight/2 f(theta)^2``.

    function : ``function(theta, cases) -> (f, gradient)``: of (b, k) and (b,), returns (b,) and (b, k).
    weight : (B,), of each member of the batch. cases : (B,) int, which of its cases the function takes for it.
    """

    function: Callable[[Array, Array], tuple[Array, Array]]
    weight: Array
    cases: Array

    def at(self, i: Array) -> Pin:
        """The pins of members ``i``."""
        return Pin(self.function, self.weight[i], self.cases[i])

    def measure(self, theta: Array) -> tuple[Array, Array]:
        """f (B,) and its gradient (B, k)."""
        return self.function(theta, self.cases)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Data and settings of a batch: one row per member, or one row that all share.

    log_x : one array (n,) per variable. y : (n,) or (B, n) log losses; weight : likewise, or None for 1.
    free : (k,) of bool. lower, upper : (k,) bounds of the working parameters.
    sharp : False: H = S, enough for a first, loose stage and cheaper.
    """

    law: Law
    log_x: tuple[Array, ...]
    y: Array
    delta: float
    free: Array
    lower: Array
    upper: Array
    weight: Array | None = None
    pin: Pin | None = None
    sharp: bool = True

    def at(self, i: Array) -> Self:
        """The problem of members ``i`` only."""
        y, weight, pin = self.y, self.weight, self.pin
        return replace(
            self,
            y=y if y.ndim == 1 else y[i],
            weight=weight if weight is None or weight.ndim == 1 else weight[i],
            pin=None if pin is None else pin.at(i),
        )


@dataclass(frozen=True)
class Solution:
    """End points: theta (B, k), objective (B,) with the pin, converged (B,) bool."""

    theta: Array
    cost: Array
    converged: Array


def evaluate(problem: Problem, theta: Array) -> tuple[Array, Array, Array, Array]:
    """Objective (B,), gradient (B, k), and the matrices H and S (B, k, k) of the module's docstring."""
    r, jac = problem.law.log_value(theta, problem.log_x)
    r -= problem.y
    w, delta, back = problem.weight, problem.delta, jac.transpose(0, 2, 1)

    def normal(factor: Array | None) -> Array:
        factor = factor if w is None else w if factor is None else factor * w
        return (jac if factor is None else jac * factor[..., None, :]) @ back

    psi = r if np.isinf(delta) else np.clip(r, -delta, delta)
    pull = psi if w is None else psi * w
    cost = np.einsum("bn,bn->b", pull, r - 0.5 * psi)
    grad = (jac @ pull[:, :, None])[:, :, 0]
    if np.isinf(delta):
        inner = outer = normal(None)
    else:
        size = np.abs(r)
        inner = outer = normal(delta / np.maximum(size, delta))
        if problem.sharp:
            inner = normal((size <= delta).astype(float))
    if problem.pin is not None:
        off, slope = problem.pin.measure(theta)
        cost = cost + 0.5 * problem.pin.weight * off**2
        grad = grad + (problem.pin.weight * off)[:, None] * slope
        more = problem.pin.weight[:, None, None] * slope[:, :, None] * slope[:, None, :]
        inner, outer = inner + more, outer + more
    return cost, grad, inner, outer


def bending(problem: Problem, theta: Array) -> Array:
    """What `evaluate`'s matrix H leaves out of the second derivative (B, k, k): the law's own curvature.

    The sum of ``w_i rho'_i`` times the Hessian of ``log m_i``, by central differences of the law's gradient.
    """
    law, pin = problem.law, problem.pin
    psi = np.clip(law.log_value(theta, problem.log_x)[0] - problem.y, -problem.delta, problem.delta)
    if problem.weight is not None:
        psi = psi * problem.weight
    force = np.zeros(len(theta)) if pin is None else pin.weight * pin.measure(theta)[0]

    def slope(at: Array) -> Array:
        total = np.einsum("bkn,bn->bk", law.log_value(at, problem.log_x)[1], psi)
        return total if pin is None else total + force[:, None] * pin.measure(at)[1]

    steps = 1e-5 * np.eye(theta.shape[1])
    out = np.stack([(slope(theta + step) - slope(theta - step)) / 2e-5 for step in steps], axis=1)
    return 0.5 * (out + out.transpose(0, 2, 1))


def _convex(inner: Array, bend: Array, outer: Array) -> Array:
    """``inner + bend`` (B, k, k) with its eigenvalues, in the scale of ``outer``, made positive: a way off a saddle.

    Where ``bend`` is larger than any smooth law's, its differences span a kink or an overflow, and are left out.
    """
    scale = np.sqrt(np.maximum(np.einsum("bii->bi", outer), 1e-280))
    both = scale[:, :, None] * scale[:, None, :]
    smooth = (1e-8 * np.abs(bend) < both).all(axis=(1, 2))
    values, vectors = np.linalg.eigh((inner + np.where(smooth[:, None, None], bend, 0.0)) / both)
    return (vectors * np.abs(values)[:, None, :]) @ vectors.transpose(0, 2, 1) * both


def _solve(system: Array, right: Array) -> Array:
    """Solutions (B, k) of symmetric systems (B, k, k); the shortest ones where a member's is singular."""
    try:
        return np.asarray(np.linalg.solve(system, right[:, :, None])[:, :, 0])
    except np.linalg.LinAlgError:
        return np.asarray((np.linalg.pinv(system, hermitian=True) @ right[:, :, None])[:, :, 0])


def _step(theta: Array, grad: Array, inner: Array, outer: Array, lam: Array, problem: Problem) -> tuple[Array, Array]:
    """Trial point (B, k) inside the bounds, and the decrease of the objective its slope promises (B,).

    A step that the bounds cut may promise a rise: a negative decrease.
    """
    held = ~problem.free | ((theta <= problem.lower) & (grad > 0)) | ((theta >= problem.upper) & (grad < 0))
    grad = np.where(held, 0.0, grad)
    scale = np.where(held, 1.0, 1.0 / np.sqrt(np.maximum(np.einsum("bii->bi", outer), 1e-280)))
    keep = np.where(held, 0.0, scale)
    both = keep[:, :, None] * keep[:, None, :]
    system = inner * both + lam[:, None, None] * (outer * both)
    i = np.arange(theta.shape[1])
    system[:, i, i] += lam[:, None] + 1e-14 + held
    move = -scale * _solve(system, grad * keep)
    goal = theta + np.where(held, 0.0, move)
    cut = (goal < problem.lower) | (goal > problem.upper)
    if cut.any():  # what meets a bound goes to it, and the others take their best step given that
        b = np.flatnonzero(cut.any(axis=1))
        there = np.where(cut[b], np.clip(goal[b], problem.lower, problem.upper) - theta[b], 0.0) / scale[b]
        push = (grad * keep)[b] + (system[b] @ there[:, :, None])[:, :, 0]
        rest = np.where(cut[b], 0.0, 1.0)
        small = system[b] * rest[:, :, None] * rest[:, None, :]
        small[:, i, i] += 1.0 - rest
        move[b] = scale[b] * (there - _solve(small, push * rest))
    move *= np.minimum(1.0, LEAP / np.maximum(np.abs(move).max(axis=1), 1e-300))[:, None]
    trial = np.clip(theta + np.where(held, 0.0, move), problem.lower, problem.upper)
    return trial, -np.sum(grad * (trial - theta), axis=1)


def minimise(problem: Problem, start: Array, *, max_iter: int = 120, tol: float = 1e-11) -> Solution:
    """Minimise from each row of ``start`` (B, k); see the module's docstring.

    ``tol``: a member has converged when an undamped step promises to lower its objective by less than this fraction.
    """
    size = max(1, CHUNK // problem.log_x[0].size)
    parts = [
        _minimise(problem.at(np.arange(i, min(i + size, len(start)))), start[i : i + size], max_iter, tol)
        for i in range(0, len(start), size)
    ]
    return Solution(*(np.concatenate(found) for found in zip(*parts, strict=True)))


def _minimise(problem: Problem, start: Array, max_iter: int, tol: float) -> tuple[Array, Array, Array]:
    theta = np.clip(start, problem.lower, problem.upper)
    cost, grad, inner, outer = evaluate(problem, theta)
    out_theta, out_cost = theta.copy(), cost.copy()
    done = np.zeros(len(theta), dtype=bool)
    live = np.arange(len(theta))
    lam = np.full(len(theta), 1e-2)
    floor = 1e-28 * problem.log_x[0].size  # an exact fit: rounding is all that is left
    for used in range(1, max_iter + 1):
        exact = problem.sharp and used > PATIENCE
        curved = _convex(inner, bending(problem, theta), outer) if exact else inner
        trial, slope = _step(theta, grad, curved, outer, lam, problem)
        new = evaluate(problem, trial)
        better = (new[0] <= cost) & (slope >= 0.0)
        rest = (slope >= 0.0) & (slope <= tol * cost) & (lam <= 1.0)
        # A damped step that promises little proves nothing: what counts is the promise of the undamped one.
        near = np.flatnonzero(rest & (lam > 1e-6) | (lam > 1e13)) if tol < LOOSE else np.empty(0, dtype=int)
        if len(near):
            undamped = np.full(len(near), 1e-9)
            whole = _step(theta[near], grad[near], inner[near], outer[near], undamped, problem.at(near))[1]
            rest[near] = (whole >= 0.0) & (whole <= np.where(lam[near] > 1e13, 1e-7, 10.0 * tol) * cost[near])
        rest |= cost <= floor
        theta = np.where(better[:, None], trial, theta)
        cost = np.where(better, new[0], cost)
        grad = np.where(better[:, None], new[1], grad)
        inner, outer = (np.where(better[:, None, None], a, b) for a, b in zip(new[2:], (inner, outer), strict=True))
        finished = rest | (lam > 1e13)
        lam = np.where(better, np.maximum(lam * 0.1, 1e-9), lam * 8.0)
        if finished.any():
            out_theta[live[finished]], out_cost[live[finished]] = theta[finished], cost[finished]
            done[live[finished]] = rest[finished]
            stay = np.flatnonzero(~finished)
            theta, cost, grad, inner, outer = theta[stay], cost[stay], grad[stay], inner[stay], outer[stay]
            lam, live, problem = lam[stay], live[stay], problem.at(stay)
            if len(stay) == 0:
                break
    out_theta[live], out_cost[live] = theta, cost
    return out_theta, out_cost, done


def merge(cost: Array, theta: Array, keep: int) -> Array:
    """The ``keep`` best end points that differ (R, keep, k), of costs (R, S) and points (R, S, k).

    Two end points are one when their objectives agree to 1e-6; the best stands in for a missing one.
    """
    order = np.argsort(cost, axis=1, kind="stable")
    cost = np.take_along_axis(cost, order, axis=1)
    new = np.ones(cost.shape, dtype=bool)
    new[:, 1:] = np.diff(cost, axis=1) > 1e-6 * cost[:, :-1]
    rank = np.argsort(~new, axis=1, kind="stable")[:, :keep]
    rank = np.where(np.take_along_axis(new, rank, axis=1), rank, 0)
    return np.take_along_axis(theta, np.take_along_axis(order, rank, axis=1)[:, :, None], axis=1)
