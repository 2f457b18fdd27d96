"""Profile likelihood: how far a prediction or a parameter may move before the objective objects.

For a quantity g the profile is the least objective among the parameters that give g = q. Its signed root
z(q) = +-sqrt(2 (profile(q) - minimum) / scale) is compared with a t quantile. Unlike the linear (delta) method this
follows the curvature of the law and respects bounds, the floor's above all [Bates and Watts 1988, section 6.1].

The constraint is a stiff quadratic ("pin"): the solution of a pinned problem lies on the profile curve at the g it
actually reaches, so the pin's stiffness costs no accuracy. All targets and both sides are solved as one batch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law
from scaling_lib.fit.setup import Setup
from scaling_lib.fit.solver import Pin, Solution, minimise

STEPS = 20
NEARER = 5  # times a target that was not reached is brought nearer before it counts as out of reach
STIFFEST = 1e40  # of a pin, so that its square times a steep law's does not overflow

Off = Callable[[Array, Array, Array], tuple[Array, Array]]


def log_at(law: Law, theta: Array, log_x: tuple[Array, ...]) -> tuple[Array, Array]:
    """Logarithm (b,) of the law of each row of ``theta`` (b, k) at its own point (b,), and its gradient (b, k)."""
    value, gradient = law.log_value(theta, tuple(v[:, None] for v in log_x))
    return value[:, 0], gradient[:, :, 0]


def limits(
    work: Setup,
    best: Solution,
    off: Off,
    centre: Array,
    error: Array,
    stiffness: Array,
    scale: Array,
    quantile: Array,
    furthest: float,
    rate: Callable[[Array, Array, Array], Array] | None = None,
) -> tuple[Array, Array]:
    """Distances (m,), (m,) >= 0 from the estimate to the lower and the upper end; inf where there is none.

    Parameters
    ----------
    best : the optimum, a batch of one.
    off : ``off(theta, cases, place)`` of (b, k), (b,) and (b,): how far the quantity of each of the m cases is from
        ``place``, and the gradient (b, k) of that by the parameters.
    centre : (m,) the quantities at the optimum. error : (m,) linear standard errors, the first guess.
    stiffness : (m,) weight of the pin that holds ``off`` at 0. scale : (m,) the profile's scale.
    quantile : (m,) of t. furthest : distance beyond which there is no end.
    rate : the slope (b,) of ``off`` in ``place``; -1 without.
    """
    m = len(centre)
    sign = np.repeat([-1.0, 1.0], m)
    cases = np.tile(np.arange(m), 2)
    centre, error, stiffness, scale, quantile = (v[cases] for v in (centre, error, stiffness, scale, quantile))
    stiffness = np.minimum(stiffness, STIFFEST)
    where = np.repeat(best.theta, 2 * m, axis=0)

    def solve(i: Array, distance: Array) -> tuple[Array, Array]:
        place = centre[i] + sign[i] * distance
        pin = Pin(lambda at, j: off(at, cases[i[j]], place[j]), np.zeros(len(i)), stiffness[i], np.arange(len(i)))
        solved = minimise(work.problem(pin=pin), where[i], max_iter=60, tol=1e-7)
        where[i] = solved.theta
        missed = pin.measure(solved.theta)[0]
        reached = place - missed / (-1.0 if rate is None else rate(solved.theta, cases[i], place))
        plain = solved.cost - 0.5 * pin.weight * missed**2
        z = np.sqrt(np.maximum(2.0 * (plain - best.cost[0]) / scale[i], 0.0))
        return z, np.maximum(sign[i] * (reached - centre[i]), 0.0)

    out = walk(solve, quantile * error, quantile, furthest)
    return out[:m], out[m:]


def walk(solve: Callable[[Array, Array], tuple[Array, Array]], step: Array, quantile: Array, furthest: float) -> Array:
    """Distances (m,) at which signed roots reach their quantiles (m,); inf where they never do within ``furthest``.

    ``solve(i, distance)`` aims members ``i`` at distances and returns the signed roots z and the distances that were
    reached. ``step`` (m,) is the first aim.
    """
    m, step = len(step), step.copy()
    last_z, last_d = np.zeros(m), np.zeros(m)
    best_z, best_d = np.zeros(m), np.zeros(m)  # nearest so far below the quantile
    over_z, over_d = np.full(m, np.inf), np.full(m, np.inf)  # nearest above
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
        lower = ~below & (d < over_d[i])
        over_z[i[lower]], over_d[i[lower]] = z[lower], d[lower]
        slope = (z - last_z[i]) / np.where(np.abs(d - last_d[i]) > 1e-15, d - last_d[i], np.inf)
        wanted = np.where(slope > 0, d + (quantile[i] - z) / np.where(slope > 0, slope, 1.0), 3.0 * step[i])
        # Inside a bracket stay inside it; outside, grow by at most a factor of three.
        inside = np.isfinite(over_d[i])
        span = np.where(inside, over_d[i] - best_d[i], 0.0)
        wanted = np.where(
            inside,
            np.clip(wanted, best_d[i] + 0.02 * span, best_d[i] + 0.98 * span),
            np.clip(wanted, 0.0, 3.0 * np.maximum(step[i], d)),
        )
        stuck = (step[i] > 1.5 * d + 1e-12) & below  # the law cannot go there, or ...
        nearer = stuck & (tries[i] < NEARER)  # ... the solver could not in one leap along a bent valley
        tries[i[nearer]] += 1
        close = np.abs(z - quantile[i]) < 0.005 * quantile[i]
        far = (best_d[i] > furthest) & below
        last_z[i], last_d[i] = z, d
        step[i] = np.where(nearer, d + 0.3 * (step[i] - d), np.where(stuck, 1.5 * step[i], wanted))
        open_[i[close | far | (step[i] > 4.0 * furthest)]] = False
    out = _cross(best_z, best_d, over_z, over_d, quantile)
    return np.where(best_d > furthest, np.inf, out)


def _cross(z0: Array, d0: Array, z1: Array, d1: Array, quantile: Array) -> Array:
    """Distance at which z reaches the quantile, between the nearest points below and above (or the last one below)."""
    both = np.isfinite(d1) & (z1 > z0)
    share = np.where(both, (quantile - z0) / np.where(both, z1 - z0, 1.0), 0.0)
    return d0 + np.clip(share, 0.0, 1.0) * np.where(both, d1 - d0, 0.0)
