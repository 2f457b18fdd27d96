"""The arithmetic of the laws: for each form its value and gradient, its change of units, and its seed points.

Every ``core`` function takes working parameters (..., k) (logarithms of amplitudes) and a tuple of
logarithms of the variables, each (n,) or (..., n), and returns the value (..., n) and its gradient (...,
k, n). See `laws` for the meaning.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
TOP = 300.0  # exp(300) is far beyond any loss and far from overflow, also when two such numbers are multiplied


def _exp(z: Array) -> Array:
    return np.exp(np.minimum(z, TOP, out=z))


def _columns(p: Array) -> list[Array]:
    """The parameters as (..., 1) arrays, ready to meet (n,) data."""
    return [p[..., i, None] for i in range(p.shape[-1])]


def power(p: Array, x: tuple[Array, ...]) -> tuple[Array, Array]:
    """E + exp(a - alpha u)."""
    floor, a, alpha = _columns(p)
    (u,) = x
    term = _exp(a - alpha * u)
    grad = np.empty((*term.shape[:-1], 3, term.shape[-1]))
    grad[..., 0, :] = 1.0
    grad[..., 1, :] = term
    grad[..., 2, :] = -u * term
    return floor + term, grad


def power_units(p: Array, log_x0: tuple[float, ...], log_l0: float) -> Array:
    """See `Law.to_units`."""
    out = np.array(p, dtype=float)
    out[..., 0] *= np.exp(log_l0)
    out[..., 1] += log_l0 + p[..., 2] * log_x0[0]
    return out


def power_seed(cube: Array, low: float) -> Array:
    """Floor 0 to 95% of the least loss; the rest is the term at the centre; exponents .03 to 1.2."""
    floor = 0.95 * low * cube[..., 0]
    out = np.empty_like(cube)
    out[..., 0] = floor
    out[..., 1] = np.log(np.maximum(1.0 - floor, 0.02)) + (cube[..., 1] - 0.5)
    out[..., 2] = _exponent(cube[..., 2])
    return out


def _exponent(c: Array) -> Array:
    return 0.03 * 40.0**c


def chinchilla(p: Array, x: tuple[Array, ...]) -> tuple[Array, Array]:
    """E + exp(a - alpha u) + exp(b - beta v)."""
    floor, a, b, alpha, beta = _columns(p)
    u, v = x
    in_n = _exp(a - alpha * u)
    in_d = _exp(b - beta * v)
    grad = np.empty((*in_n.shape[:-1], 5, in_n.shape[-1]))
    grad[..., 0, :] = 1.0
    grad[..., 1, :] = in_n
    grad[..., 2, :] = in_d
    np.multiply(-u, in_n, out=grad[..., 3, :])
    np.multiply(-v, in_d, out=grad[..., 4, :])
    return floor + in_n + in_d, grad


def chinchilla_units(p: Array, log_x0: tuple[float, ...], log_l0: float) -> Array:
    """See `Law.to_units`."""
    out = np.array(p, dtype=float)
    out[..., 0] *= np.exp(log_l0)
    out[..., 1] += log_l0 + p[..., 3] * log_x0[0]
    out[..., 2] += log_l0 + p[..., 4] * log_x0[1]
    return out


def chinchilla_seed(cube: Array, low: float) -> Array:
    """As `power_seed`; the part above the floor is shared between the two terms, from 5:95 to 95:5."""
    out = np.empty_like(cube)
    floor = 0.95 * low * cube[..., 0]
    rest = np.maximum(1.0 - floor, 0.02) * np.exp(cube[..., 1] - 0.5)
    share = 0.05 + 0.9 * cube[..., 2]
    out[..., 0] = floor
    out[..., 1] = np.log(rest * share)
    out[..., 2] = np.log(rest * (1.0 - share))
    out[..., 3] = _exponent(cube[..., 3])
    out[..., 4] = _exponent(cube[..., 4])
    return out


def line(p: Array, x: tuple[Array, ...]) -> tuple[Array, Array]:
    """exp(a - alpha u - beta v): a straight line (with D a plane) in the logarithms, for the loss's own logarithm."""
    a, *slopes = _columns(p)
    value = _exp(a - sum(s * u for s, u in zip(slopes, x, strict=True)))
    return value, np.stack([value, *[-u * value for u in x]], axis=-2)


def line_units(p: Array, log_x0: tuple[float, ...], log_l0: float) -> Array:
    """See `Law.to_units`."""
    out = np.array(p, dtype=float)
    out[..., 0] += log_l0 + p[..., 1:] @ np.array(log_x0)
    return out


def line_seed(cube: Array, low: float) -> Array:
    """Value 1 at the centre, slopes 0 to 0.5: the least-squares problem has one optimum."""
    return np.concatenate([np.zeros_like(cube[..., :1]), 0.5 * cube[..., 1:]], axis=-1)


def kaplan(p: Array, x: tuple[Array, ...]) -> tuple[Array, Array]:
    """(exp(r (n_c - u)) + exp(d_c - v))^alpha_D with r = alpha_N / alpha_D, in logarithms throughout."""
    n_c, d_c, a_n, a_d = _columns(p)
    u, v = x
    ratio = a_n / a_d
    z1 = ratio * (n_c - u)
    z2 = d_c - v + 0.0 * z1
    log_sum = np.logaddexp(z1, z2)
    value = _exp(a_d * log_sum)
    share = np.exp(z1 - log_sum)  # of the term in N
    grad = np.empty((*value.shape[:-1], 4, value.shape[-1]))
    grad[..., 0, :] = value * share * a_n
    grad[..., 1, :] = value * (1.0 - share) * a_d
    grad[..., 2, :] = value * share * (n_c - u)
    grad[..., 3, :] = value * (log_sum - share * z1)
    return value, grad


def kaplan_units(p: Array, log_x0: tuple[float, ...], log_l0: float) -> Array:
    """A factor of the loss moves both scales: c = (c^(1/alpha_N))^alpha_N."""
    out = np.array(p, dtype=float)
    out[..., 0] += log_x0[0] + log_l0 / p[..., 2]
    out[..., 1] += log_x0[1] + log_l0 / p[..., 3]
    return out


def kaplan_seed(cube: Array, low: float) -> Array:
    """Value near 1 at the centre, shared between the two terms; exponents .03 to 1.2."""
    out = np.empty_like(cube)
    share = 0.05 + 0.9 * cube[..., 0]
    a_n, a_d = _exponent(cube[..., 2]), _exponent(cube[..., 3])
    out[..., 0] = np.log(share) * a_d / a_n
    out[..., 1] = np.log(1.0 - share) + (cube[..., 1] - 0.5)
    out[..., 2] = a_n
    out[..., 3] = a_d
    return out


def power_mean(p: Array, x: tuple[Array, ...]) -> tuple[Array, Array]:
    """E + (t1^q + t2^q)^(1/q) with t1 = exp(a - alpha u), t2 = exp(b - beta v); q = exp(last parameter)."""
    floor, a, b, alpha, beta, log_q = _columns(p)
    u, v = x
    q = np.exp(log_q)
    t1 = a - alpha * u
    t2 = b - beta * v
    log_sum = np.logaddexp(q * t1, q * t2)
    total = _exp(log_sum / q)
    share = np.exp(q * t1 - log_sum)
    grad = np.empty((*total.shape[:-1], 6, total.shape[-1]))
    grad[..., 0, :] = 1.0
    grad[..., 1, :] = total * share
    grad[..., 2, :] = total * (1.0 - share)
    grad[..., 3, :] = -u * grad[..., 1, :]
    grad[..., 4, :] = -v * grad[..., 2, :]
    grad[..., 5, :] = total * (share * t1 + (1.0 - share) * t2 - log_sum / q)
    return floor + total, grad


def power_mean_units(p: Array, log_x0: tuple[float, ...], log_l0: float) -> Array:
    """See `Law.to_units`; q has no unit."""
    return chinchilla_units(p, log_x0, log_l0)


def power_mean_seed(cube: Array, low: float) -> Array:
    """As `chinchilla_seed`, with q from 1/3 to 3."""
    out = np.empty_like(cube)
    out[..., :5] = chinchilla_seed(np.ascontiguousarray(cube[..., :5]), low)
    out[..., 5] = np.log(3.0) * (2.0 * cube[..., 5] - 1.0)
    return out


def _worth(log_x: Array, log_unique: Array, log_r: Array) -> tuple[Array, Array, Array]:
    """Log of the effective amount when ``x`` is used and ``unique`` is distinct, and its two derivatives.

    worth = unique (1 + R (1 - exp(-(x/unique - 1)/R))) where x > unique, else x [Muennighoff et al. 2023,
    equation 5]. Derivatives of ln worth: by ln unique, and by ln R.
    """
    r = np.exp(log_r)
    excess = np.expm1(np.clip(log_x - log_unique, 0.0, 50.0))
    fade = np.exp(-excess / r)
    gain = 1.0 + r * (1.0 - fade)
    repeats = excess > 0
    log_worth = np.where(repeats, log_unique + np.log(gain), log_x)
    by_unique = np.where(repeats, 1.0 - fade * (excess + 1.0) / gain, 0.0)
    by_r = np.where(repeats, r * (1.0 - fade * (1.0 + excess / r)) / gain, 0.0)
    return log_worth, by_unique, by_r


def data_constrained(p: Array, x: tuple[Array, ...]) -> tuple[Array, Array]:
    """Chinchilla's law of effective N' and D'; U_N is the compute-optimal N for U unique tokens.

    The optimum of E + A/N^alpha + B/D^beta on a line of constant N D has alpha A / N^alpha = beta B / D^beta.
    """
    floor, a, b, alpha, beta, log_rn, log_rd = _columns(p)
    u, v, w = x
    seen = np.minimum(v, w)
    log_un = (np.log(alpha / beta) + a - b + beta * seen) / alpha
    # Slopes of log_un; they count only where N exceeds U_N, which `_worth` has already put into by_un.
    worth_n, by_un, by_rn = _worth(u + 0.0 * log_un, log_un, log_rn)
    worth_d, _, by_rd = _worth(v + 0.0 * log_un, seen + 0.0 * log_un, log_rd)
    in_n = _exp(a - alpha * worth_n)
    in_d = _exp(b - beta * worth_d)
    slope = -in_n * by_un  # of in_n by alpha * log_un
    grad = np.empty((*in_n.shape[:-1], 7, in_n.shape[-1]))
    grad[..., 0, :] = 1.0
    grad[..., 1, :] = in_n + slope
    grad[..., 2, :] = in_d - slope
    grad[..., 3, :] = -in_n * worth_n + slope * (1.0 / alpha - log_un)
    grad[..., 4, :] = -in_d * worth_d + slope * (seen - 1.0 / beta)
    grad[..., 5, :] = -in_n * alpha * by_rn
    grad[..., 6, :] = -in_d * beta * by_rd
    return floor + in_n + in_d, grad


def data_constrained_units(p: Array, log_x0: tuple[float, ...], log_l0: float) -> Array:
    """See `Law.to_units`; U is counted in the unit of D, which must therefore be scaled alike."""
    return chinchilla_units(p, log_x0, log_l0)


def data_constrained_seed(cube: Array, low: float) -> Array:
    """As `chinchilla_seed`, with both decay constants from 1 to 50."""
    out = np.empty_like(cube)
    out[..., :5] = chinchilla_seed(np.ascontiguousarray(cube[..., :5]), low)
    out[..., 5:] = np.log(50.0) * cube[..., 5:]
    return out


def over_training(p: Array, x: tuple[Array, ...]) -> tuple[Array, Array]:
    """E + (a M^eta + b M^-eta) C^-eta = E + 6^-eta (a N^(-2 eta) + b D^(-2 eta)): one exponent for both."""
    floor, a, b, eta = _columns(p)
    u, v = x
    log6 = np.log(6.0)
    in_n = _exp(a - eta * (log6 + 2.0 * u))
    in_d = _exp(b - eta * (log6 + 2.0 * v))
    grad = np.empty((*in_n.shape[:-1], 4, in_n.shape[-1]))
    grad[..., 0, :] = 1.0
    grad[..., 1, :] = in_n
    grad[..., 2, :] = in_d
    grad[..., 3, :] = -in_n * (log6 + 2.0 * u) - in_d * (log6 + 2.0 * v)
    return floor + in_n + in_d, grad


def over_training_units(p: Array, log_x0: tuple[float, ...], log_l0: float) -> Array:
    """See `Law.to_units`."""
    out = np.array(p, dtype=float)
    out[..., 0] *= np.exp(log_l0)
    out[..., 1] += log_l0 + 2.0 * p[..., 3] * log_x0[0]
    out[..., 2] += log_l0 + 2.0 * p[..., 3] * log_x0[1]
    return out


def over_training_seed(cube: Array, low: float) -> Array:
    """As `chinchilla_seed` with equal exponents 2 eta."""
    five = np.concatenate([cube, cube[..., 3:4]], axis=-1)
    full = chinchilla_seed(five, low)
    eta = full[..., 3] / 2.0
    shift = eta * np.log(6.0)
    return np.stack([full[..., 0], full[..., 1] + shift, full[..., 2] + shift, eta], axis=-1)


def broken(p: Array, x: tuple[Array, ...]) -> tuple[Array, Array]:
    """E + exp(a - slope u - change w ln(1 + exp((u - u_break)/w))), w = exp(last parameter)."""
    floor, a, slope, change, u_break, log_w = _columns(p)
    (u,) = x
    w = np.exp(log_w)
    z = (u - u_break) / w
    soft = np.logaddexp(0.0, z)
    step = np.exp(z - soft)  # the logistic function of z
    term = _exp(a - slope * u - change * w * soft)
    grad = np.empty((*term.shape[:-1], 6, term.shape[-1]))
    grad[..., 0, :] = 1.0
    grad[..., 1, :] = term
    grad[..., 2, :] = -u * term
    grad[..., 3, :] = -w * soft * term
    grad[..., 4, :] = change * step * term
    grad[..., 5, :] = -change * w * (soft - step * z) * term
    return floor + term, grad


def broken_units(p: Array, log_x0: tuple[float, ...], log_l0: float) -> Array:
    """See `Law.to_units`; x/x_break has no unit."""
    out = np.array(p, dtype=float)
    out[..., 0] *= np.exp(log_l0)
    out[..., 1] += log_l0 + p[..., 2] * log_x0[0]
    out[..., 4] += log_x0[0]
    return out


def broken_seed(cube: Array, low: float) -> Array:
    """As `power_seed`, with a break within e^2 of the centre and a change of slope from -.3 to .3."""
    out = np.empty_like(cube)
    out[..., :3] = power_seed(np.ascontiguousarray(cube[..., :3]), low)
    out[..., 3] = 0.6 * cube[..., 3] - 0.3
    out[..., 4] = 4.0 * cube[..., 4] - 2.0
    out[..., 5] = np.log(0.2) + np.log(10.0) * cube[..., 5]
    return out
