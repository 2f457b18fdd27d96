"""Spend a budget: compute-optimal N and D, the price of leaving them, and what repeated data are worth.

Everything takes a fit of a joint law (:class:`FitResult`) or a published one (:class:`PublishedLaw`) and C
= 6 N D. The optimum is found on the line of constant C by a grid and golden sections; for E + A/N^alpha +
B/D^beta it agrees with the closed form N* = G (C/6)^(beta/(alpha+beta)), G = (alpha A / (beta B))^(1/(alpha
+ beta)) [Hoffmann et al. 2022, equation 4].

The interval of N* is a profile: the fit is repeated with the optimum held at another size, where the losses
a little to its left and to its right are then equal, until the objective objects as at a loss's interval.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.check import check_level, check_seed, positive_flops
from scaling_lib.fit.laws import DATA_CONSTRAINED
from scaling_lib.fit.optimum import optimum_interval, pooled_draws, pooled_optimum, search
from scaling_lib.fit.published import PublishedLaw
from scaling_lib.fit.result import FitResult, Verdict

Floats: TypeAlias = NDArray[np.float64]
Fit: TypeAlias = FitResult | PublishedLaw
_FAR = np.log(1e40)  # the largest count that the laws accept


@dataclass(frozen=True)
class Allocation:
    """How to spend ``flops``. Numbers are floats for a scalar budget, else arrays of its shape; NaN where the
    verdict refuses.

    Attributes
    ----------
    flops : FLOP. n_params, n_tokens : the optimum, with flops = flops_per n_params n_tokens.
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
    n_params, n_tokens, flops, loss : the model.
    optimal : the compute-optimal allocation that it is compared with.
    extra_loss : ``loss`` less the optimum's loss at the same FLOP.
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
    fit: Fit,
    flops: float | Floats,
    *,
    flops_per: float = 6.0,
    level: float = 0.9,
    draws: int = 2000,
    seed: int = 0,
    judge: bool = True,
) -> Allocation:
    """Return the N and D that minimise the loss at a budget of ``flops`` (float or array, FLOP).

    Parameters
    ----------
    fit : of a law in N and D.
    flops_per : FLOP per parameter and token: C = flops_per N D.
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
    return _allocate(fit, (), flops, None, flops_per, level, judge, draws, seed)


def data_constrained(
    fit: Fit,
    flops: float | Floats,
    unique_tokens: float,
    *,
    flops_per: float = 6.0,
    level: float = 0.9,
    draws: int = 2000,
    seed: int = 0,
) -> Allocation:
    """Return the N and D that minimise the loss when only ``unique_tokens`` distinct tokens exist.

    Repeats are worth less and less: D' = U (1 + R_D (1 - exp(-(D/U - 1)/R_D))), and N' likewise beyond the
    size that U tokens can feed [Muennighoff et al. 2023, equations 5 and 6].

    Parameters
    ----------
    fit : of the data-constrained law, or of Chinchilla's form: then R_N and R_D are Muennighoff's (C4),
        taken over.
    unique_tokens : U, tokens.

    Returns
    -------
    Allocation, with ``epochs`` = D / U (1 where the data suffice).
    """
    unique, tail = _scalar("unique_tokens", unique_tokens), tuple[float, ...]()
    if fit.law.name == "chinchilla":
        tail = tuple(published.laws["muennighoff"].params[name] for name in ("R_N", "R_D"))
    elif fit.law.name != DATA_CONSTRAINED.name:
        raise InputError(
            f"data_constrained: law {fit.law.name!r} is neither Chinchilla's nor the data-constrained form"
        )
    return _allocate(fit, tail, flops, unique, flops_per, level, False, draws, seed)


def overtraining_cost(fit: Fit, flops: float, tokens_per_param: float, *, flops_per: float = 6.0) -> Detour:
    """Return what it costs to train at ``tokens_per_param`` tokens per parameter, not at the optimum.

    The model has the same training FLOP: N = sqrt(C / (flops_per ratio)). See :class:`Detour`.

    Raises
    ------
    InputError : for a model or a text of less than one parameter or token, or one so poor that any budget is better.
    """
    fit = replace(fit, pooled=False) if isinstance(fit, FitResult) else fit  # two losses of one curve
    c, ratio = _scalar("flops", flops), _scalar("tokens_per_param", tokens_per_param)
    n = float(np.sqrt(c / (flops_per * ratio)))
    if min(n, ratio * n) < 1:
        raise InputError(
            f"{c:.3g} FLOP at {ratio:.3g} tokens per parameter are {n:.3g} parameters and {ratio * n:.3g} tokens"
        )
    return _detour(fit, n, c / (flops_per * n), compute_optimal(fit, c, flops_per=flops_per, judge=False), flops_per)


def same_loss_smaller_model(fit: Fit, flops: float, n_params: float, *, flops_per: float = 6.0) -> Detour:
    """Return the training that brings a model of ``n_params`` to the loss of the optimal model of ``flops``.

    The returned ``flops`` are what that takes, ``size_ratio`` what is saved on each token of inference.

    Raises
    ------
    InputError : where no amount of data suffices; it names the smallest size that can.
    """
    fit = replace(fit, pooled=False) if isinstance(fit, FitResult) else fit  # two losses of one curve
    best = compute_optimal(fit, _scalar("flops", flops), flops_per=flops_per, judge=False)
    n = _scalar("n_params", n_params)
    working = fit.law.to_working(fit.values)[None]

    def loss(u: float, v: float) -> float:
        return float(fit.law.core(working, (np.array([[u]]), np.array([[v]])))[0][0, 0])

    target = float(best.loss)
    if loss(np.log(n), _FAR) >= target:
        least = _root(lambda u: loss(u, _FAR) - target, np.log(n), _FAR)
        raise InputError(
            f"{n:.3g} parameters never reach the loss {target:.4g} of {flops:.3g} FLOP, whatever the data; "
            f"take more than {np.exp(least):.3g}"
        )
    d = float(np.exp(_root(lambda v: loss(np.log(n), v) - target, 0.0, _FAR)))
    return _detour(fit, n, d, best, flops_per)


def _detour(fit: Fit, n: float, d: float, best: Allocation, flops_per: float) -> Detour:
    c = flops_per * n * d
    loss = float(fit.predict(n, d))

    def short(ln_c: float) -> float:
        return float(compute_optimal(fit, float(np.exp(ln_c)), flops_per=flops_per, draws=0, judge=False).loss) - loss

    least = np.log(5 * flops_per)
    if short(least) <= 0:
        raise InputError(
            f"the smallest budget reaches the loss {loss:.4g} of {n:.3g} parameters and {d:.3g} tokens too"
        )
    equivalent = float(np.exp(_root(short, least, np.log(c) + 1e-6)))
    same = best.loss if np.isclose(c, best.flops, rtol=1e-12) else short(float(np.log(c))) + loss
    return Detour(n, d, c, loss, best, loss - float(same), equivalent, c / equivalent, n / float(best.n_params))


def _allocate(
    fit: Fit,
    tail: tuple[float, ...],
    flops: float | Floats,
    unique: float | None,
    flops_per: float,
    level: float,
    judge: bool,
    draws: int,
    seed: int,
) -> Allocation:
    """The optimum of a fit's law, or, with a ``tail`` of two parameters more, of the data-constrained form."""
    check_level(level)
    check_seed(seed)
    c = positive_flops(flops)
    if not np.all(c > 4 * flops_per):
        raise InputError(f"flops must exceed {4 * flops_per:g}: less trains nothing")
    budget, law = np.log(c.ravel() / flops_per), DATA_CONSTRAINED if tail else fit.law
    (u,), (loss,), (edge,) = search(law, np.append(fit.values, tail)[None], budget, unique)
    own = fit if isinstance(fit, FitResult) and not tail else None  # whose runs say how far the optimum may move
    mixed = own.pool if own is not None and own.pooled and unique is None else None
    if mixed is not None:
        u, edge = pooled_optimum(mixed, budget)
    n = np.exp(u)
    d = c.ravel() / (flops_per * n)
    if mixed is not None:
        loss = fit.predict(n, d)

    bounds: list[tuple[Floats, Floats] | None] = [None, None, None]
    tails = [0.5 - level / 2, 0.5 + level / 2]
    if own is not None and draws > 0 and (own.draws is not None or np.all(np.isfinite(own.cov))):
        if mixed is None:
            low, high = optimum_interval(own, u, edge, budget, unique, level)
        else:
            drawn = pooled_draws(mixed, budget, draws, seed)
            low, high = np.quantile(drawn, tails, axis=0, method="inverted_cdf")  # between infinities lies no number
        bounds = [(np.exp(low), np.exp(high)), (np.exp(budget - high), np.exp(budget - low))]
        bounds.append(own.interval(*((n, d) if unique is None else (n, d, np.full(n.size, unique))), level=level))
    elif own is None and (sample := _sample(fit, tail, draws, seed)) is not None:
        us, losses, _ = search(law, sample, budget, unique)
        bounds = [tuple(np.quantile(v, tails, axis=0)) for v in (np.exp(us), np.exp(budget - us), losses)]
    verdict = own.verdict(n, d) if own is not None and judge else None
    good = np.ones(n.size)
    if own is not None and verdict is not None and verdict.refused:  # the worst of several: which?
        good = np.array([np.nan if own.verdict(*at).refused else 1.0 for at in zip(n, d, strict=True)])

    def shaped(a: Floats) -> Any:
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


def _sample(fit: Fit, tail: tuple[float, ...], draws: int, seed: int) -> Floats | None:
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
        values, vectors = np.linalg.eigh(cov)
        normal = np.random.default_rng(seed).standard_normal((draws, len(cov)))
        working = law.to_working(fit.values) + normal @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
        low, high = np.array(law.bounds).T
        sample = np.clip(law.to_natural(working), low, np.where(np.isfinite(high), high, 1e290))
    return np.hstack([sample, np.broadcast_to(tail, (len(sample), len(tail)))])


def _root(f: Any, low: float, high: float) -> float:
    """Return the zero of ``f``, which falls from ``low`` to ``high``, by bisection to rounding."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) > 0 else (low, middle)
    return (low + high) / 2


def _scalar(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}={value!r} must be one number") from None
    if not 0 < number < np.inf:
        raise InputError(f"{name}={value!r} must be finite and above zero")
    return number
