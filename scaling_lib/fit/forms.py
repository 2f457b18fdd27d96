"""The arithmetic of the laws: for each form its value and gradient, its change of units, and its seed points.

A form takes working parameters (..., k) (logarithms of amplitudes) and a tuple of logarithms of the variables, each
(n,) or (..., n). It returns the value (..., n) and its gradient (..., k, n). `Law` says what the other functions do.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
TOP = 300.0  # exp(300) is far beyond any loss and far from overflow, also when two such numbers are multiplied
LOG_6 = np.log(6.0)  # of C = 6 N D


def _exp(z: Array) -> Array:
    return np.exp(np.minimum(z, TOP, out=z))


def _columns(p: Array) -> list[Array]:
    """The parameters as (..., 1) arrays, ready to meet (n,) data."""
    return [p[..., i, None] for i in range(p.shape[-1])]


def _rows(*rows: Array | float) -> Array:
    """A gradient (..., k, n) from its k rows, of which the second has the full shape (..., n)."""
    shape = np.shape(rows[1])
    out = np.empty((*shape[:-1], len(rows), shape[-1]))
    for i, row in enumerate(rows):
        out[..., i, :] = row
    return out


def additive(p: Array, x: tuple[Array, ...]) -> tuple[Array, Array]:
    """E + exp(a - alpha u) [+ exp(b - beta v)]; parameters E, amplitudes, exponents."""
    value, *rest = _columns(p)
    amplitudes, exponents = rest[: len(x)], rest[len(x) :]
    grad = np.empty((*np.broadcast_shapes(value.shape, x[0].shape)[:-1], p.shape[-1], x[0].shape[-1]))
    grad[..., 0, :] = 1.0
    for i, (a, power, u) in enumerate(zip(amplitudes, exponents, x, strict=True)):  # in place: most of a fit's time
        z = a - power * u
        term = np.exp(np.minimum(z, TOP, out=z), out=grad[..., 1 + i, :])
        np.multiply(-u, term, out=grad[..., 1 + len(x) + i, :])
        value = value + term
    return value, grad


def additive_units(p: Array, log_x0: tuple[float, ...], log_l0: float) -> Array:
    """See `Law.to_units`; parameters after the last exponent have no unit."""
    out = np.array(p, dtype=float)
    terms = min(len(log_x0), 2)  # U is counted in the unit of D, which must therefore be scaled alike
    out[..., 0] *= np.exp(log_l0)
    for i in range(terms):
        out[..., 1 + i] += log_l0 + p[..., 1 + terms + i] * log_x0[i]
    return out


def additive_seed(cube: Array, low: float) -> Array:
    """Floor 0 to 95% of the least loss; the rest at the centre, shared from 5:95 to 95:5; exponents .03 to 1.2."""
    terms = cube.shape[-1] // 2
    floor = 0.95 * low * cube[..., 0]
    rest = np.maximum(1.0 - floor, 0.02)
    if terms == 1:
        parts = [np.log(rest) + (cube[..., 1] - 0.5)]
    else:
        rest, share = rest * np.exp(cube[..., 1] - 0.5), 0.05 + 0.9 * cube[..., 2]
        parts = [np.log(rest * share), np.log(rest * (1.0 - share))]
    exponents = (_exponent(cube[..., i]) for i in range(1 + terms, 1 + 2 * terms))
    return np.stack([floor, *parts, *exponents], axis=-1)


def _exponent(c: Array) -> Array:
    return 0.03 * 40.0**c


def over_training(p: Array, x: tuple[Array, ...]) -> tuple[Array, Array]:
    """E + (a M^eta + b M^-eta) C^-eta = E + 6^-eta (a N^(-2 eta) + b D^(-2 eta)): one exponent for both."""
    floor, a, b, eta = _columns(p)
    z_n, z_d = (LOG_6 + 2.0 * u for u in x)
    in_n, in_d = _exp(a - eta * z_n), _exp(b - eta * z_d)
    return floor + in_n + in_d, _rows(1.0, in_n, in_d, -in_n * z_n - in_d * z_d)


def over_training_units(p: Array, log_x0: tuple[float, ...], log_l0: float) -> Array:
    """See `Law.to_units`."""
    out = np.array(p, dtype=float)
    out[..., 0] *= np.exp(log_l0)
    out[..., 1:3] += log_l0 + 2.0 * p[..., 3:] * np.array(log_x0)
    return out


def over_training_seed(cube: Array, low: float) -> Array:
    """As `additive_seed` with equal exponents 2 eta."""
    out = additive_seed(np.concatenate([cube, cube[..., 3:]], axis=-1), low)[..., :4]
    out[..., 3] /= 2.0
    out[..., 1:3] += LOG_6 * out[..., 3:]
    return out


def power_mean(p: Array, x: tuple[Array, ...]) -> tuple[Array, Array]:
    """E + (t1^q + t2^q)^(1/q) with t1 = exp(a - alpha u), t2 = exp(b - beta v); q = exp(last parameter)."""
    floor, a, b, alpha, beta, log_q = _columns(p)
    u, v = x
    q = np.exp(log_q)
    t1, t2 = a - alpha * u, b - beta * v
    log_sum = np.logaddexp(q * t1, q * t2)
    total = _exp(log_sum / q)
    share = np.exp(q * t1 - log_sum)
    first, second = total * share, total * (1.0 - share)
    by_q = total * (share * t1 + (1.0 - share) * t2 - log_sum / q)
    return floor + total, _rows(1.0, first, second, -u * first, -v * second, by_q)


def power_mean_seed(cube: Array, low: float) -> Array:
    """As `additive_seed`, with q from 1/3 to 3."""
    return np.concatenate([additive_seed(cube[..., :5], low), np.log(3.0) * (2.0 * cube[..., 5:] - 1.0)], axis=-1)


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
    in_n, in_d = _exp(a - alpha * worth_n), _exp(b - beta * worth_d)
    slope = -in_n * by_un  # of in_n by alpha * log_un
    by_alpha = -in_n * worth_n + slope * (1.0 / alpha - log_un)
    by_beta = -in_d * worth_d + slope * (seen - 1.0 / beta)
    by_r = -in_n * alpha * by_rn, -in_d * beta * by_rd
    return floor + in_n + in_d, _rows(1.0, in_n + slope, in_d - slope, by_alpha, by_beta, *by_r)


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


def data_constrained_seed(cube: Array, low: float) -> Array:
    """As `additive_seed`, with both decay constants from 1 to 50."""
    return np.concatenate([additive_seed(cube[..., :5], low), np.log(50.0) * cube[..., 5:]], axis=-1)


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
    z1 = a_n / a_d * (n_c - u)
    log_sum = np.logaddexp(z1, d_c - v)
    value = _exp(a_d * log_sum)
    share = np.exp(z1 - log_sum)  # of the term in N
    in_n, in_d = value * share, value * (1.0 - share)
    return value, _rows(in_n * a_n, in_d * a_d, in_n * (n_c - u), value * (log_sum - share * z1))


def kaplan_units(p: Array, log_x0: tuple[float, ...], log_l0: float) -> Array:
    """A factor of the loss moves both scales: c = (c^(1/alpha_N))^alpha_N."""
    out = np.array(p, dtype=float)
    out[..., :2] += np.array(log_x0) + log_l0 / p[..., 2:]
    return out


def kaplan_seed(cube: Array, low: float) -> Array:
    """Value near 1 at the centre, shared between the two terms; exponents .03 to 1.2."""
    share = 0.05 + 0.9 * cube[..., 0]
    a_n, a_d = _exponent(cube[..., 2]), _exponent(cube[..., 3])
    return np.stack([np.log(share) * a_d / a_n, np.log(1.0 - share) + (cube[..., 1] - 0.5), a_n, a_d], axis=-1)
