"""From an optimum to a result with its covariance; intervals of predictions and of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from scaling_lib.errors import InputError
from scaling_lib.fit import bootstrap, check, profile
from scaling_lib.fit.check import check_level
from scaling_lib.fit.forms import Array
from scaling_lib.fit.noise import Noise, log_jacobian, measure
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.setup import Setup

AT_BOUND = 1e-6  # a scaled working parameter this near its bound is at it
TOP = 690.0  # exp of it is the largest number an interval states; beyond, it states inf


def assemble(
    work: Setup,
    theta: Array,
    cost: float,
    certificate: Mapping[str, object],
    data: Mapping[str, Array],
    groups: Array | None,
    objective: str,
    fixed: Mapping[str, float],
    labels: Sequence[str] | None,
    notes: Mapping[str, str] | None = None,
) -> FitResult:
    """The `FitResult` of scaled working parameters ``theta`` (k,)."""
    law, n = work.law, len(work.y)
    log_m, jac = log_jacobian(law, theta, work.log_x)
    residuals = work.y - log_m
    at_bound = work.free & ((theta <= work.lower + AT_BOUND) | (theta >= work.upper - AT_BOUND))
    dof = n - work.n_free
    noise = measure(jac, residuals, work.free & ~at_bound, dof, work.delta, groups)
    natural = work.natural(theta)
    to_natural = _units_jacobian(work, theta)
    with np.errstate(over="ignore", invalid="ignore"):  # constants at N = 1 may be beyond all bounds
        cov = np.nan_to_num(to_natural @ noise.covariance() @ to_natural.T, nan=0.0, posinf=1e300, neginf=-1e300)
    known = dof > 0
    stderr = np.where(known, np.sqrt(np.maximum(np.diag(cov), 0.0)), np.inf)
    stderr = np.where(at_bound | noise.blind | (stderr >= 1e149), np.inf, stderr)
    stderr = np.where(work.free, stderr, 0.0)
    loss = data["loss"]
    spread = float(np.sum((loss - loss.mean()) ** 2))
    r2 = 1.0 - float(np.sum((loss * -np.expm1(-residuals)) ** 2)) / spread if spread > 0 else 0.0
    names = law.param_names
    return FitResult(
        law=law,
        params=dict(zip(names, natural.tolist(), strict=True)),
        stderr=dict(zip(names, stderr.tolist(), strict=True)),
        cov=cov,
        residuals=residuals,
        n_points=n,
        dof=dof,
        fit_range={v: (float(data[v].min()), float(data[v].max())) for v in law.variables},
        objective=cost if objective != "lad" else float(np.sum(np.abs(residuals))),
        objective_name=objective,
        delta=work.delta,
        r2=r2,
        success=bool(certificate["agree"]),
        message=_message(certificate),
        sigma=noise.sigma,
        diagnostics={
            "certificate": dict(certificate),
            "rank": noise.rank,
            "condition": noise.condition,
            "at_bound": tuple(v for v, b in zip(names, at_bound, strict=True) if b),
            "blind": tuple(v for v, b in zip(names, noise.blind, strict=True) if b),
            "leverage": noise.leverage,
            "distinct": len(np.unique(np.column_stack([data[v] for v in law.variables]), axis=0)),
            "groups": 0 if groups is None else int(groups.max()) + 1,
            "variance_within": noise.within,
            "variance_between": noise.between,
            "shrunk": noise.shrunk,
        },
        data=dict(data),
        fixed=dict(fixed),
        groups=groups,
        labels=None if labels is None else tuple(str(v) for v in labels),
        notes=dict(notes or {}),
    )


def _message(certificate: Mapping[str, object]) -> str:
    if certificate["agree"]:
        return "two routes that share no start reach one optimum"
    return (
        f"the two routes disagree: objective {certificate['multi_start']:.8g} from many starts, "
        f"{certificate['profile']:.8g} from the grid of exponents; the lower is reported"
    )


def _units_jacobian(work: Setup, theta: Array) -> Array:
    """d natural / d scaled working (k, k), by central differences of the exact change of units."""
    k = len(theta)
    out = np.empty((k, k))
    for j in range(k):
        step = np.zeros(k)
        step[j] = 1e-6 * max(1.0, abs(theta[j]))
        up = work.law.to_units(theta + step, work.log_x0, work.log_l0)
        down = work.law.to_units(theta - step, work.log_x0, work.log_l0)
        out[:, j] = (up - down) / (2.0 * step[j])
    natural = work.natural(theta)
    return out * np.where(work.law.logged, natural, 1.0)[:, None]


@lru_cache(maxsize=64)  # a slider asks for many intervals of one fit; a fit does not change
def noise_of(fit: FitResult, *, bounded: bool = True) -> Noise:
    """The noise round a fit; with ``bounded=False`` as if no parameter stood at its bound."""
    work = fit.setup()
    theta = work.scaled(fit.values)
    jac = log_jacobian(fit.law, theta, work.log_x)[1]
    moving = work.free.copy()
    if bounded:
        moving &= ~np.isin(fit.law.param_names, fit.diagnostics["at_bound"])
    return measure(jac, fit.residuals, moving, fit.dof, work.delta, fit.groups)


def _exact(fit: FitResult) -> bool:
    """Whether rounding is all that is left of the residuals: there is then no noise and no profile."""
    return float(np.sum(fit.residuals**2)) <= 1e-24 * fit.n_points


def add_draws(fit: FitResult, count: int, kind: str, seed: int, *, starts: int = 8) -> FitResult:
    """The same fit with ``count`` bootstrap draws, each from ``starts`` starts spread anew and the estimate.

    The standard errors become those of the draws (half the central 68% range, which a few wild draws of A cannot move).
    """
    kind = check.choice("bootstrap_kind", kind, bootstrap.KINDS)
    if not isinstance(count, int | np.integer) or not 1 <= count <= bootstrap.MOST_DRAWS:
        raise InputError(f"bootstrap={count!r} must be a whole number of draws from 1 to {bootstrap.MOST_DRAWS:,}")
    work = fit.setup()
    theta = work.scaled(fit.values)
    noise = noise_of(fit)
    kind = bootstrap.choose(kind, fit.n_points, fit.dof, np.isinf(fit.delta), fit.groups is not None)
    draws = work.natural(bootstrap.draw(work, theta, noise, fit.residuals, kind, int(count), seed, starts))
    low, high = np.quantile(draws, [ndtr(-1.0), ndtr(1.0)], axis=0)
    stderr = dict(zip(fit.law.param_names, ((high - low) / 2.0).tolist(), strict=True))
    return replace(fit, draws=draws, bootstrap_kind=kind, stderr=stderr)


def prediction_interval(
    fit: FitResult, x: tuple[Array, ...], level: float, kind: str, method: str
) -> tuple[Array, Array]:
    """Low and high (m,) of the prediction at flat targets ``x``; see `FitResult.interval`."""
    check_level(level)
    m = len(x[0])
    if m == 0:
        return np.empty(0), np.empty(0)
    if method == "auto":
        method = "profile" if fit.draws is None else "bootstrap"
    if method == "bootstrap" and fit.draws is None:
        raise InputError("method='bootstrap' needs draws: fit again with bootstrap=1000")
    if fit.dof <= 0:
        return np.zeros(m), np.full(m, np.inf)
    work = fit.setup()
    theta = work.scaled(fit.values)
    at = work.scaled_log(x)
    centre, gradient = log_jacobian(fit.law, theta, at)
    noise = noise_of(fit)
    if method == "bootstrap":
        down, up, quantile = _from_draws(fit, x, level)
    else:
        down, up, quantile = _from_noise(fit, work, theta, noise, gradient, at, level, method)
    if kind == "new_run":
        spread = quantile * new_run_sigma(fit, level)
        down, up = np.sqrt(down**2 + spread**2), np.sqrt(up**2 + spread**2)
    centre = centre + work.log_l0
    low = np.where(np.isinf(down), 0.0, np.exp(centre - np.minimum(down, TOP)))
    top = centre + np.minimum(up, 2.0 * TOP)
    return low, np.where(top > TOP, np.inf, np.exp(np.minimum(top, TOP)))


def _from_noise(
    fit: FitResult,
    work: Setup,
    theta: Array,
    noise: Noise,
    gradient: Array,
    at: tuple[Array, ...],
    level: float,
    method: str,
) -> tuple[Array, Array, Array]:
    """Distances down and up in the log prediction, and the t quantile, by the linear method or the profile."""
    linear = noise_of(fit, bounded=False) if fit.diagnostics["at_bound"] else noise
    variance, bend, dof = linear.contrast(gradient)
    quantile = stdtrit(dof, 0.5 + level / 2.0)
    error = np.sqrt(variance)
    blind = np.abs(gradient[:, noise.blind]).max(axis=1, initial=0.0) > 1e-9
    if method == "delta":
        half = np.where(blind, np.inf, quantile * error)
        return half, half, quantile
    if _exact(fit):
        return quantile * error, quantile * error, quantile
    # 2 (objective - minimum) rises as (g - g_hat)^2 / bend: the scale makes of it a squared t statistic.
    seen = bend > 1e-100  # else nothing that is free moves the prediction
    scale = np.where(seen, variance / np.where(seen, bend, 1.0), noise.within)
    scale = np.maximum(scale, 1e-3 * float(np.max(scale)) + 1e-300)
    down, up = profile.limits(work, theta, error, scale, quantile, log_x=at)
    return down, up, quantile


def _from_draws(fit: FitResult, x: tuple[Array, ...], level: float) -> tuple[Array, Array, Array]:
    """Distances by the percentiles of the draws, taken further out as a t quantile lies beyond a normal one."""
    assert fit.draws is not None
    quantile = float(stdtrit(fit.dof, 0.5 + level / 2.0))
    tail = float(ndtr(-quantile))
    logs = np.log(np.maximum(fit.law.value(fit.draws, *x), 1e-300)) - np.log(fit.law.value(fit.values, *x))
    low, high = np.quantile(logs, [tail, 1.0 - tail], axis=0)
    return np.maximum(-low, 0.0), np.maximum(high, 0.0), np.full(len(low), quantile)


def new_run_sigma(fit: FitResult, level: float) -> float:
    """Standard deviation of a new run's noise; for robust objectives by the residuals' own quantile at that level."""
    if np.isinf(fit.delta):
        return fit.sigma
    n = fit.n_points
    share = max(0.5, min(level, 1.0 - 4.0 / n))
    size = float(np.quantile(np.abs(fit.residuals), share)) / float(ndtri(0.5 + share / 2.0))
    size *= fit.diagnostics["shrunk"] * float(np.sqrt(n / max(fit.dof, 1)))
    return max(size, fit.sigma)


def parameter_interval(fit: FitResult, name: str, level: float = 0.9) -> tuple[float, float]:
    """Profile interval (low, high) of a natural parameter; an end may be the parameter's bound."""
    check_level(level)
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
    work = fit.setup()
    theta = work.scaled(fit.values)
    # The natural working parameter is linear in the scaled ones at fixed exponents; its gradient serves as the pin.
    up = _units_jacobian(work, theta)[j] / (value if fit.law.logged[j] else 1.0)
    noise = noise_of(fit, bounded=False)
    variance, bend, dof = noise.contrast(up[None, :])
    if fit.draws is not None:
        tail = float(ndtr(-stdtrit(fit.dof, 0.5 + level / 2.0)))
        low, high = np.quantile(fit.draws[:, j], [tail, 1.0 - tail])
        return float(low), float(high)
    if bend[0] <= 1e-100 or _exact(fit):
        return value, value
    scale = variance / bend
    quantile = stdtrit(dof, 0.5 + level / 2.0)
    down, far = profile.limits(work, theta, np.sqrt(variance), scale, quantile, vector=up[None, :], furthest=60.0)
    if fit.law.logged[j]:
        log = float(np.log(value))
        ends = np.exp(max(log - down[0], -TOP)), np.exp(min(log + far[0], TOP))
    else:
        ends = value - down[0], value + far[0]
    return max(float(ends[0]), bounds[0]), min(float(ends[1]), bounds[1])
