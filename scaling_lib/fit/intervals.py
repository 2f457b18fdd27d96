"""Predictions, their intervals and those of parameters: by profile, the linear method or bootstrap draws.

For a quantity g the profile is the least objective among the parameters that give g = q. Its signed root
z(q) = +-sqrt(2 (profile(q) - minimum) / scale) is compared with a t quantile. Unlike the linear (delta) method this
follows the curvature of the law and respects bounds, the floor's above all [Bates and Watts 1988, section 6.1].

The constraint is a stiff quadratic ("pin"): the solution of a pinned problem lies on the profile curve at the g it
actually reaches, so the pin's stiffness costs no accuracy. All targets and both sides are solved as one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.special import ndtr, stdtrit

from scaling_lib.errors import InputError
from scaling_lib.fit.fitted import Fitted
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law
from scaling_lib.fit.noise import tail_sigma
from scaling_lib.fit.pool import to_loss
from scaling_lib.fit.solver import Pin, minimise

TOP = 690.0  # exp of it is the largest number that the interval of an amplitude states
FURTHEST = 5.0, 60.0  # a prediction that moves by e^5, or a parameter by 60, without objection is unbounded
STEPS = 20
CLOSE = 1e-3  # of a distance: a secant's step shorter than this is the last, and is taken; its error is its square
STUCK = 1.5  # times the distance that was reached: an aim beyond was not reached at all
NEARER = 5  # times a target that was not reached is brought nearer before it counts as out of reach
STIFFER = 100.0  # times a pin is stiffer than the profile it is to hold: it then yields by a hundredth
STIFFEST = 1e40  # of a pin, so that its square times a steep law's does not overflow

Off = Callable[[Array, Array, Array], tuple[Array, Array]]


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

    def off(theta: Array, cases: Array, place: Array) -> tuple[Array, Array]:
        value, slope = log_at(fit.law, theta, tuple(v[cases] for v in at))
        return value - place, slope

    if method == "bootstrap":
        down, up, quantile = _from_draws(fit, x, level)
    else:
        down, up, quantile = _from_noise(fit, off, gradient, level, method, FURTHEST[0])
    more = np.zeros(m)
    if fit.misfit.clear:  # the form is off by what its residuals show, carried on to the target
        more = fit.misfit.variance_at(at, gradient)
    if kind == "new_run":  # robust fits may have outliers: the residuals' own quantile at that level
        wide = 0.0 if np.isinf(fit.delta) else fit.noise.absorbed * tail_sigma(fit.residuals, fit.dof, level)
        more = more + max(wide, fit.sigma) ** 2
    down, up = (np.sqrt(side**2 + quantile**2 * more) for side in (down, up))
    centre = centre + fit.work.log_l0
    return to_loss(centre - down), to_loss(centre + up)


def _from_noise(
    fit: Fitted, off: Off, gradient: Array, level: float, method: str, furthest: float
) -> tuple[Array, Array, Array]:
    """Distances down and up of quantities with gradients (m, k), and the t quantile, each (m,); see `limits`."""
    variance, _, dof = fit.unbounded_noise.contrast(gradient)
    quantile, error = stdtrit(dof, 0.5 + level / 2.0), np.sqrt(variance)
    if method == "delta":
        blind = np.abs(gradient[:, fit.noise.geometry.blind]).max(axis=1, initial=0.0) > 1e-9
        error = np.where(blind, np.inf, error)
    if method == "delta" or is_exact(fit):
        return quantile * error, quantile * error, quantile
    nothing = np.zeros(len(gradient))
    centre = off(np.repeat(fit.rest.theta, len(nothing), axis=0), np.arange(len(nothing)), nothing)[0]
    return *limits(fit, off, centre, gradient, level, furthest), quantile


def is_exact(fit: Fitted) -> bool:
    """Whether rounding is all that is left of the residuals: there is then no noise and no profile."""
    return float(np.sum(fit.residuals**2)) <= 1e-24 * fit.n_points


def parameter_interval(fit: Fitted, name: str, level: float = 0.9) -> tuple[float, float]:
    """Profile interval (low, high) of a natural parameter; an end may be the parameter's bound."""
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
        tail = outer_tail(fit, level)
        low, high = np.quantile(fit.draws[:, j], [tail, 1.0 - tail])
        return float(low), float(high)
    # The natural working parameter is linear in the scaled ones at fixed exponents.
    vector = fit.to_natural[j] / (value if logged else 1.0)

    def off(theta: Array, cases: Array, place: Array) -> tuple[Array, Array]:
        return np.sum(theta * vector, axis=1) - place, np.broadcast_to(vector, theta.shape)

    ends = _from_noise(fit, off, vector[None, :], level, "profile", FURTHEST[1])
    low, high = (np.log(value) if logged else value) + np.array([-ends[0][0], ends[1][0]])
    if logged:
        low, high = np.exp(np.clip([low, high], -TOP, TOP))
    return max(float(low), bounds[0]), min(float(high), bounds[1])


def _from_draws(fit: Fitted, x: tuple[Array, ...], level: float) -> tuple[Array, Array, Array]:
    """Distances by the percentiles of the draws, and the t quantile, each (m,)."""
    assert fit.draws is not None
    tail = outer_tail(fit, level)
    logs = np.log(np.maximum(fit.law.value(fit.draws, *x), 1e-300)) - np.log(fit.law.value(fit.values, *x))
    low, high = np.quantile(logs, [tail, 1.0 - tail], axis=0)
    quantile = np.full(len(low), stdtrit(fit.dof, 0.5 + level / 2.0))
    return np.maximum(-low, 0.0), np.maximum(high, 0.0), quantile


def outer_tail(fit: Fitted, level: float) -> float:
    """The share of draws beyond either end: taken further out as a t quantile lies beyond a normal one."""
    return float(ndtr(-stdtrit(max(fit.dof, 1), 0.5 + level / 2.0)))


def log_at(law: Law, theta: Array, log_x: tuple[Array, ...]) -> tuple[Array, Array]:
    """Logarithm (b,) of the law of each row of ``theta`` (b, k) at its own point (b,), and its gradient (b, k)."""
    value, gradient = law.log_value(theta, tuple(v[:, None] for v in log_x))
    return value[:, 0], gradient[:, :, 0]


def limits(
    fit: Fitted,
    off: Off,
    centre: Array,
    gradient: Array,
    level: float,
    furthest: float,
    rate: Callable[[Array, Array, Array], Array] | None = None,
) -> tuple[Array, Array]:
    """Distances (m,), (m,) >= 0 from the estimate to the lower and the upper end; inf where there is none.

    off : ``off(theta, cases, place)`` of (b, k), (b,) and (b,): how far the quantity of each of the m cases is from
        ``place``, and the gradient (b, k) of that by the parameters.
    centre : (m,) the quantities at the optimum. gradient : (m, k) of ``off`` there.
    furthest : distance beyond which there is no end.
    rate : the slope (b,) of ``off`` in ``place``; -1 without.
    """
    m = len(centre)
    sign = np.repeat([-1.0, 1.0], m)
    cases = np.tile(np.arange(m), 2)
    variance, bend, dof = fit.unbounded_noise.contrast(gradient)
    # 2 (objective - minimum) rises as (g - g_hat)^2 / bend: the scale makes of it a squared t statistic.
    seen = bend > 1e-100  # else nothing that is free moves the quantity
    scale = np.where(seen, variance / np.where(seen, bend, 1.0), fit.noise.within)
    scale = np.maximum(scale, 1e-3 * float(np.max(scale)) + 1e-300)[cases]
    quantile = stdtrit(dof, 0.5 + level / 2.0)[cases]
    where = np.repeat(fit.rest.theta, 2 * m, axis=0)
    slope = -np.ones(m) if rate is None else rate(where[:m], cases[:m], centre)
    error = np.clip(np.sqrt(variance) / np.abs(slope), 1e-12, 0.3 * furthest)
    stiffness = np.minimum(STIFFER * scale / (error * slope)[cases] ** 2, STIFFEST)
    centre, error = centre[cases], error[cases]

    def solve(i: Array, distance: Array) -> tuple[Array, Array]:
        place = centre[i] + sign[i] * distance
        pin = Pin(lambda at, j: off(at, cases[i[j]], place[j]), stiffness[i], np.arange(len(i)))
        solved = minimise(replace(fit.work, pin=pin), where[i], max_iter=200)
        missed = pin.measure(solved.theta)[0]
        slope = -1.0 if rate is None else rate(solved.theta, cases[i], place)
        plain = solved.cost - 0.5 * pin.weight * missed**2
        z = np.sqrt(np.maximum(2.0 * (plain - fit.rest.cost[0]) / scale[i], 0.0))
        reached = np.maximum(sign[i] * (place - missed / slope - centre[i]), 0.0)
        # Where the profile rises faster than its linear guess the pin yields more: the next one is as much stiffer.
        yielded = np.abs(distance - reached) * STIFFER / np.maximum(reached, 1e-12)
        stiffness[i] = np.minimum(stiffness[i] * np.clip(yielded, 1.0, STIFFER), STIFFEST)
        # The next descent starts from the last point that is surely on the profile: a leap may end in a false valley.
        sure = (z <= quantile[i]) & (distance <= STUCK * reached + 1e-12)
        where[i[sure]] = solved.theta[sure]
        return z, reached

    out = walk(solve, quantile * error, quantile, furthest)
    return out[:m], out[m:]


def walk(solve: Callable[[Array, Array], tuple[Array, Array]], step: Array, quantile: Array, furthest: float) -> Array:
    """Distances (m,) at which signed roots reach their quantiles (m,); inf where they never do within ``furthest``.

    ``solve(i, distance)`` aims members ``i`` at distances and returns the signed roots z and the distances that were
    reached. ``step`` (m,) is the first aim. The root is sought by secants through the points that were reached.
    """
    m, step = len(step), step.copy()
    last_z, last_d = np.zeros(m), np.zeros(m)
    best_z, best_d = np.zeros(m), np.zeros(m)  # nearest so far below the quantile
    over_z, over_d = np.full(m, np.inf), np.full(m, np.inf)  # nearest above
    end = np.full(m, np.nan)
    open_ = np.ones(m, dtype=bool)
    tries = np.zeros(m, dtype=int)
    for _ in range(STEPS):
        i = np.flatnonzero(open_)
        if len(i) == 0:
            break
        z, d = solve(i, step[i])
        below = z <= quantile[i]
        gain = below & (d > best_d[i])
        best_z[i[gain]], best_d[i[gain]] = z[gain], d[gain]
        missed = step[i] > STUCK * d + 1e-12  # the law cannot go there, or ...
        nearer = missed & (tries[i] < NEARER)  # ... the solver could not in one leap along a bent valley
        tries[i[nearer]] += 1
        lower = ~below & ~nearer & (d < over_d[i])
        over_z[i[lower]], over_d[i[lower]] = z[lower], d[lower]
        slope = (z - last_z[i]) / np.where(np.abs(d - last_d[i]) > 1e-15, d - last_d[i], np.inf)
        rises = slope > 0
        root = np.where(rises, d + (quantile[i] - z) / np.where(rises, slope, 1.0), 3.0 * step[i])
        close = rises & ~missed & (np.abs(root - d) < CLOSE * d)
        end[i[close]] = np.clip(root, best_d[i], over_d[i])[close]
        # Inside a bracket stay inside it; outside, grow by at most a factor of three.
        inside = np.isfinite(over_d[i])
        span = np.where(inside, over_d[i] - best_d[i], 0.0)
        wanted = np.where(
            inside,
            np.clip(root, best_d[i] + 0.02 * span, best_d[i] + 0.98 * span),
            np.clip(root, 0.0, 3.0 * np.maximum(step[i], d)),
        )
        short = np.clip(step[i] - d, 0.0, 0.1 * step[i])  # a pin yields: aim beyond by what the last one fell short
        last_z[i], last_d[i] = z, d
        step[i] = np.where(nearer, d + 0.3 * (step[i] - d), np.where(missed & below, 1.5 * step[i], wanted + short))
        far = (best_d[i] > furthest) & below
        open_[i[close | far | (step[i] > 4.0 * furthest)]] = False
    # What never closed ends between the nearest points below and above, or at the last one below.
    both = np.isfinite(over_d) & (over_z > best_z)
    share = np.where(both, (quantile - best_z) / np.where(both, over_z - best_z, 1.0), 0.0)
    rest = best_d + np.clip(share, 0.0, 1.0) * np.where(both, over_d - best_d, 0.0)
    return np.where(best_d > furthest, np.inf, np.where(np.isnan(end), rest, end))
