"""Parabolas of loss against log size, one a budget: their minima, and a test of whether they are parabolas at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from scaling_lib.errors import InputError

Floats = NDArray[np.float64]
LACK_P = 0.05  # curves that noise alone bends so rarely are taken to be no parabolas
LEAST_SIZES = 5  # in a window: a parabola's three, and two to test it by
OK, EDGE, OUTSIDE, FLAT, FEW = "ok", "edge", "outside", "flat", "too few sizes"
# Webb's six-point weights: mean 0, variance 1, and enough distinct draws with few clusters [Webb 2023].
_WEBB = np.sqrt(np.array([0.5, 1.0, 1.5, 0.5, 1.0, 1.5])) * np.array([1, 1, 1, -1, -1, -1])


@dataclass(frozen=True)
class Parabola:
    centre: float
    coefficients: Floats
    vertex: float
    loss: float
    stderr: float
    flag: str
    hat: Floats  # (3, n): coefficients of any losses at the same sizes
    fitted: Floats
    residuals: Floats  # widened to the noise's size, n / (n - 3)


def parabola(n: Floats, y: Floats) -> Parabola:
    """Fit loss ``y`` at log sizes ``n`` and judge the minimum."""
    centre = float(n.mean())
    u = n - centre
    if np.unique(n).size < 3:
        zero = np.zeros(y.size)
        return Parabola(
            centre,
            np.array([y.mean(), 0.0, 0.0]),
            centre,
            float(y.mean()),
            0.0,
            FEW,
            np.zeros((3, y.size)),
            zero,
            zero,
        )
    hat = np.linalg.pinv(np.stack([np.ones_like(u), u, u**2], axis=1))
    c = hat @ y
    fitted = c[0] + c[1] * u + c[2] * u**2
    spare = y.size - 3
    residuals = (y - fitted) * np.sqrt(y.size / spare) if spare else y - fitted
    variance = float(np.mean(residuals**2)) if spare else 0.0
    cov = variance * hat @ hat.T
    # Twice its standard error, and a trace above rounding: less curvature than that is no minimum.
    if c[2] <= max(2 * np.sqrt(cov[2, 2]), 1e-12 * float(np.abs(y).max())):
        return Parabola(centre, c, centre, float(y.mean()), 0.0, FLAT, hat, fitted, residuals)
    vertex = -c[1] / (2 * c[2])
    slope = np.array([0.0, -1 / (2 * c[2]), c[1] / (2 * c[2] ** 2)])
    lowest = n[np.argmin(y)]
    flag = EDGE if lowest in (n.min(), n.max()) else OK
    if not u.min() <= vertex <= u.max():
        flag = OUTSIDE
    stderr = float(np.sqrt(slope @ cov @ slope))
    loss = float(c[0] - c[1] ** 2 / (4 * c[2]))
    return Parabola(centre, c, centre + float(vertex), loss, stderr, flag, hat, fitted, residuals)


def of_one_noise(parabolas: list[Parabola], stderr: Floats) -> Floats:
    """The minima's standard errors (b,) with one noise for all budgets: one budget's few residuals say little."""
    own = np.array([np.sqrt(np.mean(p.residuals**2)) if p.stderr else 1.0 for p in parabolas])
    return stderr / np.maximum(own, 1e-300) * np.sqrt(np.mean(own[stderr > 0] ** 2)) if np.any(stderr > 0) else stderr


def choose_window(
    n: Floats, y: Floats, which: NDArray[np.intp], window: str | float, grouped: bool
) -> tuple[NDArray[np.bool_], float, tuple[float, float]]:
    """Which runs (n,) are fitted, the window's factor, and the chances of the lack of fit of all and of these."""
    everything = np.ones(n.size, dtype=bool)
    whole = _lack_of_fit(n, y, which, grouped)
    if window != "auto":
        if isinstance(window, str) or not window > 1:
            raise InputError(f"isoflop: window={window!r} must be 'auto' or a factor above 1")
        window = float(window)
    elif whole >= LACK_P:
        return everything, np.inf, (whole, whole)
    count = int(which.max()) + 1
    centre = np.array([_centre(n[which == i], y[which == i]) for i in range(count)])
    away = np.abs(n - centre[which])
    # The nearest few of each budget stay, whatever the window.
    least = np.array([np.sort(away[which == i])[:LEAST_SIZES][-1] for i in range(count)])[which] + 1e-9
    if window != "auto":
        kept = away <= np.maximum(np.log(window), least)
        return kept, float(window), (whole, _lack_of_fit(n[kept], y[kept], which[kept], grouped))
    widths = np.unique(np.round(away[away > least.min() - 1e-6], 6))[::-1]
    kept, width, chance = everything, np.inf, whole
    for width in widths[1 :: max(1, widths.size // 40)]:
        kept = away <= np.maximum(width + 1e-6, least)
        chance = _lack_of_fit(n[kept], y[kept], which[kept], grouped)
        if chance >= LACK_P:
            break
    return kept, float(np.exp(width)), (whole, chance)


def _centre(n: Floats, y: Floats) -> float:
    """The log size round which a budget's window lies: the quartic's minimum, else the lowest loss."""
    found = quartic_minimum(n, y)
    return float(n[np.argmin(y)]) if np.isnan(found) else found


def _lack_of_fit(n: Floats, y: Floats, which: NDArray[np.intp], grouped: bool) -> float:
    """Chance, in noise, of curves that a cubic and a quartic term improve as much: an F test over all budgets."""
    gain = left = 0.0
    added = spare = tested = 0
    for i in np.unique(which):
        u, loss = n[which == i] - n[which == i].mean(), y[which == i]
        sizes = np.unique(u).size
        if sizes < LEAST_SIZES:
            continue
        rest = [_rest(u, loss, degree) for degree in (2, min(4, sizes - 2))]
        gain, left = gain + rest[0] - rest[1], left + rest[1]
        added, spare, tested = added + min(2, sizes - 4), spare + loss.size - min(5, sizes - 1), tested + 1
    if not tested or gain <= 1e-24 * float(np.sum(y**2)):
        return 1.0
    # Runs that share a trunk bend every budget's curve alike: they count as one.
    share = tested if grouped else 1
    return float(special.fdtrc(added / share, spare / share, (gain / added) / max(left / spare, 1e-300)))


def _rest(u: Floats, y: Floats, degree: int) -> float:
    basis = np.linalg.qr(np.vander(u / np.abs(u).max(), degree + 1))[0]
    return float(np.sum((y - basis @ (basis.T @ y)) ** 2))


def quartic_minimum(n: Floats, y: Floats) -> float:
    """Log size of the lowest point of a quartic (of a cubic, for five sizes) inside the sizes; nan without one."""
    sizes = np.unique(n).size
    if sizes < LEAST_SIZES:
        return np.nan
    polynomial = np.polynomial.Polynomial.fit(n, y, min(4, sizes - 2))
    at = np.linspace(n.min(), n.max(), 2001)
    i = int(np.argmin(polynomial(at)))
    return np.nan if i in (0, at.size - 1) else float(at[i])


def bootstrap_lines(
    parabolas: list[Parabola],
    which: NDArray[np.intp],
    ln_c: Floats,
    ok: NDArray[np.bool_],
    groups: ArrayLike | None,
    draws: int,
    seed: int,
) -> Floats:
    """Return (2, draws) heights and slopes of the line, each from losses with re-signed residuals."""
    rng = np.random.default_rng(seed)
    if groups is None:
        cluster = np.arange(which.size)
    else:
        labels = np.asarray(groups)
        if labels.shape != which.shape:
            raise InputError(f"isoflop: groups has shape {labels.shape}; give one label per run, ({which.size},)")
        cluster = np.unique(labels, return_inverse=True)[1]
        if cluster.max() == 0:
            raise InputError("isoflop: groups holds one label only; a bootstrap by group needs two or more")
    weights = rng.choice(_WEBB, size=(draws, int(cluster.max()) + 1))[:, cluster]
    minima = []
    for i in np.flatnonzero(ok):
        p = parabolas[i]
        c = (p.fitted + p.residuals * weights[:, which == i]) @ p.hat.T  # (draws, 3)
        # A draw whose curve opens downwards has no minimum: it counts as far off as the curvature allows.
        minima.append(p.centre - c[:, 1] / (2 * np.maximum(c[:, 2], 0.05 * p.coefficients[2])))
    x = ln_c[ok] - ln_c[ok].mean()
    return np.linalg.pinv(np.stack([np.ones_like(x), x], axis=1)) @ np.array(minima)
