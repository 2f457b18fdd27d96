"""Batched Levenberg-Marquardt: many small fits of one law at once, in NumPy.

Minimises, for every member b of a batch, the sum over data points of ``w_i rho(log m_i(theta_b) - y_i)``
plus an optional quadratic "pin". ``rho`` is Huber's function: r^2/2 within delta, delta |r| - delta^2/2
outside; delta = inf is least squares. Least absolute deviation is reached by lowering delta (Madsen and
Nielsen 1993): see `estimate`.

The step solves ``(H + lambda (S + diag S)) step = -g``. S is the normal matrix with the weights of
iteratively reweighted least squares, which majorises the objective, H the one with the true second
derivative of rho (0 or 1). With a small lambda the step is a Newton step, which converges quadratically
even where most residuals lie outside delta; with a large one it is a damped reweighted step, which always
descends. Members that have converged leave the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law

CHUNK = 200_000  # residuals evaluated at once: about 30 MB of temporaries for five parameters
LEAP = 5.0  # longest step of a scaled working parameter
PATIENCE = 30  # iterations before a member that creeps along a bent valley gets the law's own curvature
LOOSE = 1e-9  # a wider tolerance than this is a stage on the way: it may stop where a damped step promises little
TINY = 1e-120  # least scaled loss a law is taken to give: its inverse can be squared and weighted without overflow


@dataclass(frozen=True)
class Pin:
    """A quadratic that holds one linear function of the working parameters, or predictions.

    Adds ``weight/2 (f(theta) - value)^2`` where f is ``vector . theta`` or, with ``log_x``, the logarithm of the law
    there, less that at ``less`` if given. Each array has one entry per member of the batch.
    """

    value: Array  # (B,)
    weight: Array  # (B,)
    vector: Array | None = None  # (B, k)
    log_x: tuple[Array, ...] | None = None  # each (B,)
    less: tuple[Array, ...] | None = None  # each (B,)

    def at(self, i: Array) -> Pin:
        """The pins of members ``i``."""
        vector = None if self.vector is None else self.vector[i]
        log_x = None if self.log_x is None else tuple(v[i] for v in self.log_x)
        less = None if self.less is None else tuple(v[i] for v in self.less)
        return Pin(self.value[i], self.weight[i], vector, log_x, less)

    def measure(self, law: Law, theta: Array) -> tuple[Array, Array]:
        """f (B,) and its gradient (B, k)."""
        if self.vector is not None:
            return np.sum(self.vector * theta, axis=1), self.vector
        assert self.log_x is not None
        value, slope = _log_at(law, theta, self.log_x)
        if self.less is None:
            return value, slope
        other, slope_there = _log_at(law, theta, self.less)
        return value - other, slope - slope_there


def _log_at(law: Law, theta: Array, log_x: tuple[Array, ...]) -> tuple[Array, Array]:
    """Logarithm of the law (B,) at one point for each member, and its gradient (B, k)."""
    m, grad = law.core(theta, tuple(v[:, None] for v in log_x))
    m = np.maximum(m[:, 0], TINY)
    return np.log(m), grad[:, :, 0] / m[:, None]


@dataclass(frozen=True)
class Problem:
    """Data and settings of a batch: one row per member, or one row that all share.

    log_x : one (n,) or (B, n) array per variable. y : log losses, (1, n) or (B, n). weight : the same, or
        None for 1.
    free : (1, k) or (B, k) of bool. lower, upper : (k,) bounds of the working parameters.
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
    sharp: bool = True  # False: H = S, enough for a first, loose stage and cheaper

    def at(self, i: Array) -> Problem:
        """The problem of members ``i`` only."""

        def take(v: Array) -> Array:
            return v if v.ndim == 1 or len(v) == 1 else v[i]

        return Problem(
            self.law,
            tuple(take(v) for v in self.log_x),
            take(self.y),
            self.delta,
            take(self.free),
            self.lower,
            self.upper,
            None if self.weight is None else take(self.weight),
            None if self.pin is None else self.pin.at(i),
            self.sharp,
        )


@dataclass(frozen=True)
class Solution:
    """End points: theta (B, k), objective (B,) with the pin, converged (B,) bool, iterations used."""

    theta: Array
    cost: Array
    converged: Array
    iterations: int


def evaluate(problem: Problem, theta: Array) -> tuple[Array, Array, Array, Array]:
    """Objective (B,), gradient (B, k), and the matrices H and S (B, k, k) of the module's docstring."""
    m, jac = problem.law.core(theta, problem.log_x)
    np.maximum(m, TINY, out=m)
    jac /= m[:, None, :]
    r = np.log(m, out=m)
    r -= problem.y
    w = problem.weight
    back = jac.transpose(0, 2, 1)
    if np.isinf(problem.delta):
        wr = r if w is None else r * w
        cost = 0.5 * np.einsum("bn,bn->b", wr, r)
        grad = (jac @ wr[:, :, None])[:, :, 0]
        inner = outer = (jac if w is None else jac * w[:, None, :]) @ back
    else:
        size = np.abs(r)
        psi = np.clip(r, -problem.delta, problem.delta)
        cost = np.einsum("bn,bn->b", psi if w is None else psi * w, r - 0.5 * psi)
        pull = problem.delta / np.maximum(size, problem.delta)
        newton = (size <= problem.delta).astype(float)
        if w is not None:
            psi, pull, newton = psi * w, pull * w, newton * w
        grad = (jac @ psi[:, :, None])[:, :, 0]
        inner = outer = (jac * pull[:, None, :]) @ back
        if problem.sharp:
            inner = (jac * newton[:, None, :]) @ back
    if problem.pin is not None:
        f, slope = problem.pin.measure(problem.law, theta)
        off = f - problem.pin.value
        cost = cost + 0.5 * problem.pin.weight * off**2
        grad = grad + (problem.pin.weight * off)[:, None] * slope
        more = problem.pin.weight[:, None, None] * slope[:, :, None] * slope[:, None, :]
        inner, outer = inner + more, outer + more
    return cost, grad, inner, outer


def bending(problem: Problem, theta: Array) -> Array:
    """What `evaluate`'s matrix H leaves out of the second derivative (B, k, k): the law's own curvature.

    The sum of ``w_i rho'_i`` times the Hessian of ``log m_i``, by central differences of the law's gradient.
    """
    law, k = problem.law, theta.shape[1]

    def slopes(at: Array) -> tuple[Array, Array]:
        m, jac = law.core(at, problem.log_x)
        m = np.maximum(m, TINY)
        return np.log(m) - problem.y, jac / m[:, None, :]

    psi = np.clip(slopes(theta)[0], -problem.delta, problem.delta)
    if problem.weight is not None:
        psi = psi * problem.weight
    force = np.zeros(len(theta))
    if problem.pin is not None:
        force = problem.pin.weight * (problem.pin.measure(law, theta)[0] - problem.pin.value)
    out = np.empty((len(theta), k, k))
    for j in range(k):
        step = np.zeros(k)
        step[j] = 1e-5
        ends = [theta + step, theta - step]
        up, down = (np.einsum("bkn,bn->bk", slopes(at)[1], psi) for at in ends)
        if problem.pin is not None:
            up, down = (
                total + force[:, None] * problem.pin.measure(law, at)[1]
                for total, at in zip((up, down), ends, strict=True)
            )
        out[:, j] = (up - down) / 2e-5
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
    k = theta.shape[1]
    held = ~problem.free | ((theta <= problem.lower) & (grad > 0)) | ((theta >= problem.upper) & (grad < 0))
    grad = np.where(held, 0.0, grad)
    diag = np.einsum("bii->bi", outer)
    scale = np.where(held, 1.0, 1.0 / np.sqrt(np.maximum(diag, 1e-280)))
    keep = np.where(held, 0.0, scale)
    both = keep[:, :, None] * keep[:, None, :]
    system = inner * both + lam[:, None, None] * (outer * both)
    i = np.arange(k)
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

    ``tol``: a member has converged when an undamped step promises to lower its objective by less than this
    fraction.
    """
    size = max(1, CHUNK // max(1, problem.log_x[0].shape[-1]))
    parts = [
        _minimise(problem.at(np.arange(i, min(i + size, len(start)))), start[i : i + size], max_iter, tol)
        for i in range(0, len(start), size)
    ]
    if len(parts) == 1:
        return parts[0]
    return Solution(
        np.concatenate([p.theta for p in parts]),
        np.concatenate([p.cost for p in parts]),
        np.concatenate([p.converged for p in parts]),
        max(p.iterations for p in parts),
    )


def _minimise(problem: Problem, start: Array, max_iter: int, tol: float) -> Solution:
    theta = np.clip(start, problem.lower, problem.upper)
    cost, grad, inner, outer = evaluate(problem, theta)
    out_theta, out_cost = theta.copy(), cost.copy()
    done = np.zeros(len(theta), dtype=bool)
    live = np.arange(len(theta))
    lam = np.full(len(theta), 1e-2)
    floor = 1e-28 * problem.log_x[0].shape[-1]  # an exact fit: rounding is all that is left
    same = np.isinf(problem.delta) or not problem.sharp
    used = 0
    for used in range(1, max_iter + 1):
        exact = problem.sharp and used > PATIENCE
        trial, slope = _step(
            theta, grad, _convex(inner, bending(problem, theta), outer) if exact else inner, outer, lam, problem
        )
        new_cost, new_grad, new_inner, new_outer = evaluate(problem, trial)
        better = (new_cost <= cost) & (slope >= 0.0)
        rest = (slope >= 0.0) & (slope <= tol * cost) & (lam <= 1.0)
        # A damped step that promises little proves nothing: what counts is the promise of the undamped one.
        near = np.flatnonzero(rest & (lam > 1e-6) | (lam > 1e13)) if tol < LOOSE else np.empty(0, dtype=int)
        if len(near):
            undamped = np.full(len(near), 1e-9)
            whole = _step(theta[near], grad[near], inner[near], outer[near], undamped, problem.at(near))[1]
            rest[near] = (whole >= 0.0) & (whole <= np.where(lam[near] > 1e13, 1e-7, 10.0 * tol) * cost[near])
        rest |= cost <= floor
        take = better[:, None]
        theta = np.where(take, trial, theta)
        grad = np.where(take, new_grad, grad)
        inner = np.where(take[:, :, None], new_inner, inner)
        outer = inner if same else np.where(take[:, :, None], new_outer, outer)
        cost = np.where(better, new_cost, cost)
        finished = rest | (lam > 1e13)
        lam = np.where(better, np.maximum(lam * 0.1, 1e-9), lam * 8.0)
        if finished.any():
            out_theta[live[finished]], out_cost[live[finished]] = theta[finished], cost[finished]
            done[live[finished]] = rest[finished]
            stay = np.flatnonzero(~finished)
            if len(stay) == 0:
                return Solution(out_theta, out_cost, done, used)
            theta, cost, grad, inner, outer = theta[stay], cost[stay], grad[stay], inner[stay], outer[stay]
            lam, live, problem = lam[stay], live[stay], problem.at(stay)
    out_theta[live], out_cost[live] = theta, cost
    return Solution(out_theta, out_cost, done, used)


def merge(cost: Array, theta: Array, keep: int) -> tuple[Array, Array]:
    """The ``keep`` best end points that differ: costs (R, S), points (R, S, k) -> (R, keep), (R, keep, k).

    Two end points are one when their objectives agree to 1e-6; the best stands in for a missing one.
    """
    order = np.argsort(cost, axis=1, kind="stable")
    cost = np.take_along_axis(cost, order, axis=1)
    theta = np.take_along_axis(theta, order[:, :, None], axis=1)
    new = np.ones(cost.shape, dtype=bool)
    new[:, 1:] = np.diff(cost, axis=1) > 1e-6 * cost[:, :-1]
    rank = np.argsort(~new, axis=1, kind="stable")[:, :keep]
    rank = np.where(np.take_along_axis(new, rank, axis=1), rank, 0)
    return np.take_along_axis(cost, rank, axis=1), np.take_along_axis(theta, rank[:, :, None], axis=1)
