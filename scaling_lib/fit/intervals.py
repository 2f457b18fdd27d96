"""Intervals of one form's predictions and of its parameters; bootstrap draws. `pool` has those of several forms."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from scaling_lib.errors import InputError
from scaling_lib.fit import bootstrap, check, profile
from scaling_lib.fit.fitted import Fitted, units_jacobian
from scaling_lib.fit.forms import Array
from scaling_lib.fit.noise import log_jacobian

TOP = 690.0  # exp of it is the largest number an interval states; beyond, it states inf
AnyFit = TypeVar("AnyFit", bound=Fitted)


def _exact(fit: Fitted) -> bool:
    """Whether rounding is all that is left of the residuals: there is then no noise and no profile."""
    return float(np.sum(fit.residuals**2)) <= 1e-24 * fit.n_points


def add_draws(fit: AnyFit, count: int, kind: str, seed: int, *, starts: int = 8) -> AnyFit:
    """The same fit with ``count`` bootstrap draws, each from ``starts`` starts spread anew and the estimate.

    The standard errors become those of the draws (half the central 68% range, which a few wild draws of A cannot move).
    """
    kind = check.choice("bootstrap_kind", kind, bootstrap.KINDS)
    if not isinstance(count, int | np.integer) or not 1 <= count <= bootstrap.MOST_DRAWS:
        raise InputError(f"bootstrap={count!r} must be a whole number of draws from 1 to {bootstrap.MOST_DRAWS:,}")
    work = fit.work
    kind = bootstrap.choose(kind, fit.n_points, fit.dof, np.isinf(fit.delta), fit.groups is not None)
    draws = work.natural(bootstrap.draw(work, fit.theta, fit.noise, fit.residuals, kind, int(count), seed, starts))
    low, high = np.quantile(draws, [ndtr(-1.0), ndtr(1.0)], axis=0)
    stderr = dict(zip(fit.law.param_names, ((high - low) / 2.0).tolist(), strict=True))
    return replace(fit, draws=draws, bootstrap_kind=kind, stderr=stderr)


def prediction_interval(fit: Fitted, x: tuple[Array, ...], level: float, kind: str, method: str) -> tuple[Array, Array]:
    """Low and high (m,) of the prediction at flat targets ``x``; see `FitResult.interval`."""
    check.check_level(level)
    m = len(x[0])
    if m == 0:
        return np.empty(0), np.empty(0)
    if method == "auto":
        method = "profile" if fit.draws is None else "bootstrap"
    if method == "bootstrap" and fit.draws is None:
        raise InputError("method='bootstrap' needs draws: fit again with bootstrap=1000")
    if fit.dof <= 0:
        return np.zeros(m), np.full(m, np.inf)
    at = fit.work.scaled_log(x)
    centre, gradient = log_jacobian(fit.law, fit.theta, at)
    if method == "bootstrap":
        down, up, quantile = _from_draws(fit, x, level)
    else:
        down, up, quantile = _from_noise(fit, gradient, at, level, method)
    if fit.misfit.clear:  # the form is off by what its residuals show, carried on to the target
        off = quantile**2 * fit.misfit.variance_at(at, gradient)
        down, up = np.sqrt(down**2 + off), np.sqrt(up**2 + off)
    if kind == "new_run":
        spread = quantile * new_run_sigma(fit, level)
        down, up = np.sqrt(down**2 + spread**2), np.sqrt(up**2 + spread**2)
    centre = centre + fit.work.log_l0
    low = np.where(np.isinf(down), 0.0, np.exp(centre - np.minimum(down, TOP)))
    top = centre + np.minimum(up, 2.0 * TOP)
    return low, np.where(top > TOP, np.inf, np.exp(np.minimum(top, TOP)))


def _from_noise(
    fit: Fitted,
    gradient: Array,
    at: tuple[Array, ...],
    level: float,
    method: str,
) -> tuple[Array, Array, Array]:
    """Distances down and up in the log prediction, and the t quantile, by the linear method or the profile."""
    noise = fit.noise
    variance, bend, dof = fit.unbounded_noise.contrast(gradient)
    quantile = stdtrit(dof, 0.5 + level / 2.0)
    error = np.sqrt(variance)
    blind = np.abs(gradient[:, noise.geometry.blind]).max(axis=1, initial=0.0) > 1e-9
    if method == "delta":
        half = np.where(blind, np.inf, quantile * error)
        return half, half, quantile
    if _exact(fit):
        return quantile * error, quantile * error, quantile
    # 2 (objective - minimum) rises as (g - g_hat)^2 / bend: the scale makes of it a squared t statistic.
    seen = bend > 1e-100  # else nothing that is free moves the prediction
    scale = np.where(seen, variance / np.where(seen, bend, 1.0), noise.within)
    scale = np.maximum(scale, 1e-3 * float(np.max(scale)) + 1e-300)
    down, up = profile.limits(fit.work, fit.theta, error, scale, quantile, log_x=at)
    return down, up, quantile


def _from_draws(fit: Fitted, x: tuple[Array, ...], level: float) -> tuple[Array, Array, Array]:
    """Distances by the percentiles of the draws, taken further out as a t quantile lies beyond a normal one."""
    assert fit.draws is not None
    quantile = float(stdtrit(fit.dof, 0.5 + level / 2.0))
    tail = float(ndtr(-quantile))
    logs = np.log(np.maximum(fit.law.value(fit.draws, *x), 1e-300)) - np.log(fit.law.value(fit.values, *x))
    low, high = np.quantile(logs, [tail, 1.0 - tail], axis=0)
    return np.maximum(-low, 0.0), np.maximum(high, 0.0), np.full(len(low), quantile)


def new_run_sigma(fit: Fitted, level: float) -> float:
    """Standard deviation of a new run's noise; for robust objectives by the residuals' own quantile at that level."""
    if np.isinf(fit.delta):
        return fit.sigma
    n = fit.n_points
    share = max(0.5, min(level, 1.0 - 4.0 / n))
    size = float(np.quantile(np.abs(fit.residuals), share)) / float(ndtri(0.5 + share / 2.0))
    size *= fit.diagnostics["absorbed"] * float(np.sqrt(n / max(fit.dof, 1)))
    return max(size, fit.sigma)


def parameter_interval(fit: Fitted, name: str, level: float = 0.9) -> tuple[float, float]:
    """Profile interval (low, high) of a natural parameter; an end may be the parameter's bound."""
    check.check_level(level)
    names = fit.law.param_names
    if name not in names:
        raise InputError(f"law {fit.law.name!r} has no parameter {name!r}: it has {', '.join(names)}")
    j = names.index(name)
    value = fit.params[name]
    bounds = fit.law.bounds[j]
    if name in fit.fixed:
        return value, value
    if fit.dof <= 0:
        return bounds
    # The natural working parameter is linear in the scaled ones at fixed exponents; its gradient serves as the pin.
    up = units_jacobian(fit.work, fit.theta)[j] / (value if fit.law.logged[j] else 1.0)
    variance, bend, dof = fit.unbounded_noise.contrast(up[None, :])
    if fit.draws is not None:
        tail = float(ndtr(-stdtrit(fit.dof, 0.5 + level / 2.0)))
        low, high = np.quantile(fit.draws[:, j], [tail, 1.0 - tail])
        return float(low), float(high)
    if bend[0] <= 1e-100 or _exact(fit):
        return value, value
    scale = variance / bend
    quantile = stdtrit(dof, 0.5 + level / 2.0)
    down, far = profile.limits(
        fit.work, fit.theta, np.sqrt(variance), scale, quantile, vector=up[None, :], furthest=60.0
    )
    if fit.law.logged[j]:
        log = float(np.log(value))
        ends = np.exp(max(log - down[0], -TOP)), np.exp(min(log + far[0], TOP))
    else:
        ends = value - down[0], value + far[0]
    return max(float(ends[0]), bounds[0]), min(float(ends[1]), bounds[1])
