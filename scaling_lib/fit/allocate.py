"""Spend a budget: compute-optimal N and D, the price of leaving them, and what repeated data are worth.

Everything takes a fit of a joint law (:class:`FitResult`) or a published one (:class:`PublishedLaw`) and C = 6 N D;
where runs cost k N D, give 6 C / k. The optimum is found on the line of constant C by a grid and golden sections; for
E + A/N^alpha + B/D^beta it agrees with the closed form N* = G (C/6)^(beta/(alpha+beta)), G = (alpha A / (beta
B))^(1/(alpha + beta)) [Hoffmann et al. 2022, equation 4].

The interval of N* is a profile: the fit is repeated with the optimum held at another size, where the losses a little to
its left and to its right are then equal, until the objective objects as at a loss's interval.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.check import check_level, check_seed, positive_flops
from scaling_lib.fit.fitted import Fitted
from scaling_lib.fit.forms import Array
from scaling_lib.fit.intervals import is_exact, limits, log_at, outer_tail
from scaling_lib.fit.laws import DATA_CONSTRAINED, Law
from scaling_lib.fit.pool import Pool, root
from scaling_lib.fit.published import PublishedLaw
from scaling_lib.fit.result import FitResult, Verdict

Fit: TypeAlias = FitResult | PublishedLaw
ASIDE = 0.05  # in ln N: the optimum of a smooth loss lies halfway between two points of one loss
FURTHEST = 12.0  # in ln N: an optimum that moves by more than this without objection has no limit
GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True)
class Allocation:
    """How to spend ``flops``. Numbers are floats for a scalar budget, else arrays of its shape; NaN where the
    verdict refuses.

    Attributes
    ----------
    flops : FLOP. n_params, n_tokens : the optimum, with flops = 6 n_params n_tokens.
    loss : predicted there, in the unit of the fit. tokens_per_param : n_tokens / n_params.
    n_interval, d_interval, loss_interval : (low, high) of the optimum and of the law's mean there, at
        ``level``; None where the law has neither data nor draws nor a covariance. An end of N or D may be 0 or inf:
        then the data set no limit there.
    epochs : passes over the data; 1 where data are not limited. unique_tokens : their number, or None.
    verdict : the fit's verdict at the optimum (the worst of several), None for a published law.
    at_edge : whether the optimum ran into the end of what was searched (1 parameter, or 1 token): no true
        optimum.
    """

    flops: Any
    n_params: Any
    n_tokens: Any
    loss: Any
    tokens_per_param: Any
    level: float
    n_interval: tuple[Any, Any] | None = None
    d_interval: tuple[Any, Any] | None = None
    loss_interval: tuple[Any, Any] | None = None
    epochs: Any = 1.0
    unique_tokens: float | None = None
    verdict: Verdict | None = None
    at_edge: bool = False


@dataclass(frozen=True)
class Detour:
    """A model away from the optimum, and what it costs.

    Attributes
    ----------
    n_params, n_tokens, flops, loss : the model. optimal : the compute-optimal allocation of the same FLOP.
    extra_loss : ``loss`` less the optimum's.
    flops_equivalent : FLOP at which an optimal model reaches ``loss``.
    flops_ratio : ``flops / flops_equivalent``: how many times too much training costs for this loss.
    size_ratio : ``n_params`` over the optimal model's: what each token of inference costs in comparison.
    """

    n_params: float
    n_tokens: float
    flops: float
    loss: float
    optimal: Allocation
    extra_loss: float
    flops_equivalent: float
    flops_ratio: float
    size_ratio: float


def compute_optimal(
    fit: Fit, flops: float | Array, *, level: float = 0.9, draws: int = 2000, seed: int = 0, judge: bool = True
) -> Allocation:
    """Return the N and D that minimise the loss at a budget of ``flops`` (float or array, FLOP).

    Parameters
    ----------
    fit : of a law in N and D.
    level : of the intervals. Of a pooled fit they come from ``draws`` draws of its forms; of one form from its
        bootstrap draws if it has some, else from profiles; of a published law from normal draws of its working
        parameters by the covariance. ``draws=0``: no intervals.
    judge : whether to ask the fit for its verdict at the optimum, and to give no numbers where it refuses.

    Raises
    ------
    InputError : for a law of one variable, or of unique tokens (use :func:`data_constrained`), or a bad
        budget.
    """
    if fit.law.variables != ("N", "D"):
        wanted = "data_constrained" if "U" in fit.law.variables else "a law of N and D, such as fit_joint gives"
        raise InputError(f"compute_optimal: law {fit.law.name!r} has {', '.join(fit.law.variables)}; use {wanted}")
    return _allocate(fit, (), flops, None, level, judge, draws, seed)


def data_constrained(
    fit: Fit, flops: float | Array, unique_tokens: float, *, level: float = 0.9, draws: int = 2000, seed: int = 0
) -> Allocation:
    """Return the N and D that minimise the loss when only ``unique_tokens`` distinct tokens exist.

    Repeats are worth less and less: D' = U (1 + R_D (1 - exp(-(D/U - 1)/R_D))), and N' likewise beyond the
    size that U tokens can feed [Muennighoff et al. 2023, equations 5 and 6].

    Parameters
    ----------
    fit : of the data-constrained law, or of Chinchilla's form: then R_N and R_D are Muennighoff's (C4), taken over.
    unique_tokens : U, tokens. Other arguments, and what is returned, as `compute_optimal`.
    """
    unique, tail = _scalar("unique_tokens", unique_tokens), tuple[float, ...]()
    if fit.law.name == "chinchilla":
        tail = tuple(published.laws["muennighoff"].params[name] for name in ("R_N", "R_D"))
    elif fit.law.name != DATA_CONSTRAINED.name:
        raise InputError(
            f"data_constrained: law {fit.law.name!r} is neither Chinchilla's nor the data-constrained form"
        )
    return _allocate(fit, tail, flops, unique, level, False, draws, seed)


def overtraining_cost(fit: Fit, flops: float, tokens_per_param: float) -> Detour:
    """Return what it costs to train at ``tokens_per_param`` tokens per parameter, not at the optimum.

    The model has the same training FLOP: N = sqrt(C / (6 ratio)).

    Raises
    ------
    InputError : for a model or a text of less than one parameter or token, or one so poor that any budget is better.
    """
    fit = replace(fit, pooled=False) if isinstance(fit, FitResult) else fit  # two losses of one curve
    c, ratio = _scalar("flops", flops), _scalar("tokens_per_param", tokens_per_param)
    n = float(np.sqrt(c / (6.0 * ratio)))
    d = c / (6.0 * n)
    if min(n, d) < 1:
        raise InputError(f"{c:.3g} FLOP at {ratio:.3g} tokens per parameter are {n:.3g} parameters and {d:.3g} tokens")
    best, loss = compute_optimal(fit, c, judge=False), float(fit.predict(n, d))

    def reached(ln_c: float) -> bool:
        return bool(compute_optimal(fit, float(np.exp(ln_c)), draws=0, judge=False).loss <= loss)

    low, high = np.log(30.0), np.log(c) + 1e-6
    if reached(low):
        raise InputError(
            f"the smallest budget reaches the loss {loss:.4g} of {n:.3g} parameters and {d:.3g} tokens too"
        )
    for _ in range(80):  # bisection to rounding
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    same = float(np.exp((low + high) / 2))
    return Detour(n, d, c, loss, best, loss - float(best.loss), same, c / same, n / float(best.n_params))


def _allocate(
    fit: Fit,
    tail: tuple[float, ...],
    flops: float | Array,
    unique: float | None,
    level: float,
    judge: bool,
    draws: int,
    seed: int,
) -> Allocation:
    """The optimum of a fit's law, or, with a ``tail`` of two parameters more, of the data-constrained form."""
    check_level(level)
    check_seed(seed)
    c = positive_flops(flops)
    if not np.all(c > 24.0):
        raise InputError("flops must exceed 24: less trains nothing")
    budget, law = np.log(c.ravel() / 6.0), DATA_CONSTRAINED if tail else fit.law
    own = fit if isinstance(fit, FitResult) and not tail else None  # whose runs say how far the optimum may move
    mixed = own.pool if own is not None and own.pooled and unique is None else None
    (u,), (loss,), (edge,) = _search(law, np.append(fit.values, tail)[None], budget, unique)
    if mixed is not None:
        u, edge = _pooled_optimum(mixed, budget)
    n = np.exp(u)
    d = c.ravel() / (6.0 * n)
    loss = loss if mixed is None else fit.predict(n, d)
    bounds: list[tuple[Array, Array] | None] = [None, None, None]
    tails = [0.5 - level / 2, 0.5 + level / 2]
    if own is not None and draws > 0 and (own.draws is not None or np.all(np.isfinite(own.cov))):
        if mixed is None:
            low, high = _interval(own, u, edge, budget, unique, level)
        else:
            drawn = _pooled_draws(mixed, budget, draws, seed)
            low, high = np.quantile(drawn, tails, axis=0, method="inverted_cdf")  # between infinities lies no number
        bounds = [(np.exp(low), np.exp(high)), (np.exp(budget - high), np.exp(budget - low))]
        bounds.append(own.interval(*((n, d) if unique is None else (n, d, np.full(n.size, unique))), level=level))
    elif own is None and (sample := _sample(fit, tail, draws, seed)) is not None:
        us, losses, _ = _search(law, sample, budget, unique)
        bounds = [tuple(np.quantile(v, tails, axis=0)) for v in (np.exp(us), np.exp(budget - us), losses)]
    verdict = own.verdict(n, d) if own is not None and judge else None
    good = np.ones(n.size)
    if own is not None and verdict is not None and verdict.refused:  # the worst of several: which?
        good = np.array([np.nan if own.verdict(*at).refused else 1.0 for at in zip(n, d, strict=True)])

    def shaped(a: Array) -> Any:
        return float(a[0]) if c.ndim == 0 else a.reshape(c.shape)

    intervals = [None if ends is None else (shaped(ends[0] * good), shaped(ends[1] * good)) for ends in bounds]
    return Allocation(
        flops=shaped(c.ravel()),
        n_params=shaped(n * good),
        n_tokens=shaped(d * good),
        loss=shaped(loss * good),
        tokens_per_param=shaped(d / n * good),
        level=level,
        n_interval=intervals[0],
        d_interval=intervals[1],
        loss_interval=intervals[2],
        epochs=1.0 if unique is None else shaped(np.maximum(d / unique, 1.0)),
        unique_tokens=unique,
        verdict=verdict,
        at_edge=bool(edge.any()),
    )


def _pooled_optimum(mixed: Pool, budget: Array) -> tuple[Array, Array]:
    """ln N* (m,), the forms' own by their weights, and whether most of the weight has no optimum inside."""
    found = [_search(m.law, m.work.natural(m.theta)[None], budget, None) for m in mixed.members]
    weight = np.array([[m.weight] for m in mixed.members])
    inside = weight * np.array([~edge[0] for _, _, edge in found])
    none = inside.sum(axis=0) < 0.5
    share = np.where(none, weight, inside)
    return np.sum(share * np.array([u[0] for u, _, _ in found]), axis=0) / share.sum(axis=0), none


def _pooled_draws(mixed: Pool, budget: Array, count: int, seed: int) -> Array:
    """Draws of ln N* (R, m) by every form in the mixture; infinite where a draw has no optimum inside."""
    out = []
    for law, params in mixed.draws(count, seed):
        u, _, edge = _search(law, params, budget, None)
        out.append(np.where(edge, np.where(u < budget / 2, -np.inf, np.inf), u))
    return np.concatenate(out)


def _interval(
    fit: Fitted, u: Array, edge: Array, budget: Array, unique: float | None, level: float
) -> tuple[Array, Array]:
    """Low and high (m,) of ln N* at optima ``u`` (m,) of budgets ln(N D) (m,): by draws where there are some, else by
    a profile; infinite at an edge.
    """
    if fit.draws is not None:
        us = _search(fit.law, fit.draws, budget, unique)[0] - u
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


def _search(law: Law, params: Array, budget: Array, unique: float | None) -> tuple[Array, Array, Array]:
    """(ln N*, loss, at an edge), each (R, m): R rows of natural ``params``, m budgets ln(N D)."""
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
    a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    fa, fb = loss(a), loss(b)
    for _ in range(45):  # the cell shrinks by 4e-10
        left = fa < fb
        low, high = np.where(left, low, a), np.where(left, b, high)
        new = np.where(left, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        value = loss(new)
        a, b = np.where(left, new, b), np.where(left, a, new)
        fa, fb = np.where(left, value, fb), np.where(left, fa, value)
    u = (low + high) / 2
    return u, loss(u), edge


def _sample(fit: Fit, tail: tuple[float, ...], draws: int, seed: int) -> Array | None:
    """(R, k) natural parameters that stand for the law's uncertainty, each with ``tail``; None where it has none."""
    law, sample = fit.law, fit.draws if isinstance(fit, FitResult) else None
    if draws < 1:
        return None
    if sample is None:
        cov = fit.cov
        if isinstance(fit, FitResult):
            scale = np.where(law.logged, np.maximum(fit.values, 1e-300), 1.0)
            cov = fit.cov / np.outer(scale, scale)
        if cov is None or not np.all(np.isfinite(cov)):
            return None
        normal = np.random.default_rng(seed).standard_normal((draws, len(cov)))
        working = law.to_working(fit.values) + normal @ root(cov).T
        low, high = np.array(law.bounds).T
        sample = np.clip(law.to_natural(working), low, np.where(np.isfinite(high), high, 1e290))
    return np.hstack([sample, np.broadcast_to(tail, (len(sample), len(tail)))])


def _scalar(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}={value!r} must be one number") from None
    if not 0 < number < np.inf:
        raise InputError(f"{name}={value!r} must be finite and above zero")
    return number
