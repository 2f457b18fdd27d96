"""Predictions, their intervals and those of parameters, by the profile, the linear method or bootstrap draws."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, stdtrit

from scaling_lib.errors import InputError
from scaling_lib.fit import profile
from scaling_lib.fit.fitted import Fitted
from scaling_lib.fit.forms import Array
from scaling_lib.fit.noise import tail_sigma

TOP = 690.0  # exp of it is the largest number an interval states; beyond, it states inf
FURTHEST = 5.0, 60.0  # a prediction that moves by e^5, or a parameter by 60, without objection is unbounded


def predict(fit: Fitted, x: tuple[Array, ...]) -> Array:
    """Loss (m,) at flat targets ``x``: of the pool where the fit pools several forms."""
    return fit.pool.predict(x) if fit.pooled and fit.pool is not None else fit.law.value(fit.values, *x)


def interval(
    fit: Fitted, x: tuple[Array, ...], level: float, kind: str = "mean", method: str = "auto"
) -> tuple[Array, Array]:
    """Low and high (m,) of the prediction at flat targets ``x``; see `FitResult.interval`."""
    if fit.pooled and fit.pool is not None and method == "auto":
        return fit.pool.interval(x, level, kind)
    m = len(x[0])
    if method == "auto":
        method = "profile" if fit.draws is None else "bootstrap"
    if method == "bootstrap" and fit.draws is None:
        raise InputError("method='bootstrap' needs draws: fit again with bootstrap=1000")
    if fit.dof <= 0 or m == 0:
        return np.zeros(m), np.full(m, np.inf)
    at = fit.work.scaled_log(x)
    centre, gradient = fit.work.log_law(fit.theta, at)
    if method == "bootstrap":
        down, up, quantile = _from_draws(fit, x, level)
    else:
        down, up, quantile = _from_noise(fit, at, level, method)
    more = np.zeros(m)
    if fit.misfit.clear:  # the form is off by what its residuals show, carried on to the target
        more = fit.misfit.variance_at(at, gradient)
    if kind == "new_run":
        more = more + new_run_sigma(fit, level) ** 2
    down, up = (np.sqrt(side**2 + quantile**2 * more) for side in (down, up))
    centre = centre + fit.work.log_l0
    low = np.where(np.isinf(down), 0.0, np.exp(centre - np.minimum(down, TOP)))
    top = centre + np.minimum(up, 2.0 * TOP)
    return low, np.where(top > TOP, np.inf, np.exp(np.minimum(top, TOP)))


def _from_noise(fit: Fitted, at: tuple[Array, ...], level: float, method: str) -> tuple[Array, Array, Array]:
    """Distances down and up in the log prediction, and the t quantile, by the linear method or the profile."""
    gradient = fit.work.log_law(fit.theta, at)[1]
    variance, bend, dof = fit.unbounded_noise.contrast(gradient)
    quantile, error = stdtrit(dof, 0.5 + level / 2.0), np.sqrt(variance)
    if method == "delta":
        blind = np.abs(gradient[:, fit.noise.geometry.blind]).max(axis=1, initial=0.0) > 1e-9
        half = np.where(blind, np.inf, quantile * error)
        return half, half, quantile
    if is_exact(fit):
        return quantile * error, quantile * error, quantile

    def off(theta: Array, cases: Array, place: Array) -> tuple[Array, Array]:
        value, slope = profile.log_at(fit.law, theta, tuple(v[cases] for v in at))
        return value - place, slope

    # 2 (objective - minimum) rises as (g - g_hat)^2 / bend: the scale makes of it a squared t statistic.
    seen = bend > 1e-100  # else nothing that is free moves the prediction
    scale = np.where(seen, variance / np.where(seen, bend, 1.0), fit.noise.within)
    scale = np.maximum(scale, 1e-3 * float(np.max(scale)) + 1e-300)
    centre = fit.work.log_law(fit.rest.theta[0], at)[0]
    return *_profile(fit, off, centre, error, scale, quantile, FURTHEST[0]), quantile


def _profile(
    fit: Fitted, off: profile.Off, centre: Array, error: Array, scale: Array, quantile: Array, furthest: float
) -> tuple[Array, Array]:
    error = np.clip(error, 1e-12, 0.3 * furthest)
    stiffness = 100.0 * scale / error**2
    return profile.limits(fit.work, fit.rest, off, centre, error, stiffness, scale, quantile, furthest)


def is_exact(fit: Fitted) -> bool:
    """Whether rounding is all that is left of the residuals: there is then no noise and no profile."""
    return float(np.sum(fit.residuals**2)) <= 1e-24 * fit.n_points


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
    return max(fit.noise.absorbed * tail_sigma(fit.residuals, fit.dof, level), fit.sigma)


def parameter_interval(fit: Fitted, name: str, level: float = 0.9) -> tuple[float, float]:
    """Profile interval (low, high) of a natural parameter; an end may be the parameter's bound.

    Raises
    ------
    InputError
        The law has no such parameter.
    """
    names = fit.law.param_names
    if name not in names:
        raise InputError(f"law {fit.law.name!r} has no parameter {name!r}: it has {', '.join(names)}")
    j = names.index(name)
    value, bounds, logged = fit.params[name], fit.law.bounds[j], fit.law.logged[j]
    if name in fit.fixed:
        return value, value
    if fit.dof <= 0:
        return bounds
    if fit.draws is not None:
        tail = float(ndtr(-stdtrit(fit.dof, 0.5 + level / 2.0)))
        low, high = np.quantile(fit.draws[:, j], [tail, 1.0 - tail])
        return float(low), float(high)
    # The natural working parameter is linear in the scaled ones at fixed exponents.
    vector = fit.to_natural[j] / (value if logged else 1.0)
    variance, bend, dof = fit.unbounded_noise.contrast(vector[None, :])
    if bend[0] <= 1e-100 or is_exact(fit):
        return value, value

    def off(theta: Array, cases: Array, place: Array) -> tuple[Array, Array]:
        return np.sum(theta * vector, axis=1) - place, np.broadcast_to(vector, theta.shape)

    quantile, centre = stdtrit(dof, 0.5 + level / 2.0), np.sum(fit.rest.theta * vector, axis=1)
    ends = _profile(fit, off, centre, np.sqrt(variance), variance / bend, quantile, FURTHEST[1])
    down, up = float(ends[0][0]), float(ends[1][0])
    if logged:
        log = float(np.log(value))
        low, high = float(np.exp(max(log - down, -TOP))), float(np.exp(min(log + up, TOP)))
    else:
        low, high = value - down, value + up
    return max(low, bounds[0]), min(high, bounds[1])
