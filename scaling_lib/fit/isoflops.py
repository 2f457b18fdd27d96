"""Compute-optimal sizes by IsoFLOP parabolas (approach 2): for each budget the minimum of loss against ln N.

A parabola is only the loss's local shape: where alpha and beta differ, wide or off-centre grids of
sizes bias D* by percents to tens of percents at 1e24 FLOP [arXiv 2603.22339]. So a test of lack of fit (do
a cubic and a quartic term say more than noise would?) chooses how far from the minimum sizes may lie; where
it rejects even the narrowest window, or rejected all sizes, the interval holds the difference to the minima
of the quartics as well. `report.compare_with_joint` sets a joint law beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # scipy.stats would add half a second to every command

from scaling_lib.errors import InputError
from scaling_lib.fit.check import check_level, check_seed, group_codes
from scaling_lib.fit.envelopes import Floats, Line, fit_line
from scaling_lib.fit.table import table_from_arrays
from scaling_lib.words import aligned

LACK_P = 0.05  # curves that noise alone bends so rarely are taken to be no parabolas
LEAST_SIZES = 5  # in a window: a parabola's three, and two to test it by
OK, EDGE, OUTSIDE, FLAT, FEW = "ok", "edge", "outside", "flat", "too few sizes"
# Webb's six-point weights: mean 0, variance 1, and enough distinct draws with few clusters [Webb 2023].
_WEBB = np.sqrt(np.array([0.5, 1.0, 1.5, 0.5, 1.0, 1.5])) * np.array([1, 1, 1, -1, -1, -1])


@dataclass(frozen=True)
class IsoFlopResult(Line):
    """Approach 2: one parabola in ln N for each budget.

    Attributes
    ----------
    budgets : (b,) FLOP, the geometric mean of each group, rising.
    n_opt, loss_opt : (b,) the parabola's minimum; NaN where there is none.
    coefficients : (b, 3) of loss = c0 + c1 u + c2 u^2 with u = ln N - ``centre`` (b,), for drawing.
    n_range : (b, 2) smallest and largest size tried. n_fitted : number of runs that each parabola is fitted to.
    flags : (b,) "ok"; "edge" (the lowest measured loss is at the smallest or largest size); "outside" (the
        minimum lies beyond the sizes tried); "flat" (no curvature beyond the noise); "too few sizes" (fewer
        than three).
    used : (b,) bool, the budgets whose minima enter the exponent.
    window : sizes from N* / window to window N* are fitted; inf where all are.
    lack_of_fit : chances, in noise alone, of curves that bend away from parabolas as these do: over all sizes, and
        over those fitted; 1.0 where there are too few sizes to tell.
    """

    budgets: Floats
    n_opt: Floats
    loss_opt: Floats
    coefficients: Floats
    centre: Floats
    n_range: Floats
    n_fitted: tuple[int, ...]
    flags: tuple[str, ...]
    used: NDArray[np.bool_]
    window: float
    lack_of_fit: tuple[float, float]

    @property
    def d_opt(self) -> Floats:
        """(b,) tokens at each minimum."""
        return self.budgets / (6.0 * self.n_opt)

    def summary(self) -> str:
        """Return a text of a line per budget and the exponents."""
        rows = [("C, FLOP", "N*", "D*", "loss", "minimum")]
        for c, n, d, loss, flag in zip(self.budgets, self.n_opt, self.d_opt, self.loss_opt, self.flags, strict=True):
            rows.append((f"{c:.3g}", *((f"{n:.3g}", f"{d:.3g}", f"{loss:.4f}") if n > 0 else ("", "", "")), flag))
        whole, left = self.lack_of_fit
        told = f"lack of fit of the parabolas: p = {whole:.2g} over all sizes"
        if np.isfinite(self.window):
            told += f", {left:.2g} over those within {self.window:.3g}x of N*, which are fitted"
        if whole < LACK_P:
            told += "; the intervals hold the difference to the minima of quartics"
        return "\n".join([aligned(rows, 0), told, *self.exponents()])


class _Parabola(NamedTuple):
    """A budget's curve: its minimum at ln N = ``vertex``, and ``c`` (3,), the coefficients about ``centre``.

    stderr : of ``vertex``; 0 without a minimum or a spare run. hat : (3, n), gives ``c`` of any losses at these sizes.
    residuals : (n,), widened by the root of n / (n - 3).
    """

    flag: str
    vertex: float
    loss: float
    stderr: float
    c: Floats
    centre: float
    hat: Floats
    residuals: Floats


def isoflop(
    n_params: ArrayLike,
    flops: ArrayLike,
    loss: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    rtol: float = 0.15,
    use_edges: bool = False,
    window: str | float = "auto",
    level: float = 0.9,
    bootstrap: int = 0,
    seed: int = 0,
) -> IsoFlopResult:
    """Fit a parabola in ln N to each budget's losses and a power law to the minima (approach 2).

    Parameters
    ----------
    n_params, flops, loss : (n,) one entry per run.
    rtol : runs belong to one budget while neighbours in FLOP differ by less than the factor 1 + ``rtol``.
    groups : (n,) labels of runs whose errors go together (one trunk, one seed). Used by the bootstrap.
    use_edges : whether minima flagged "edge" enter the exponent.
    window : sizes from N*/window to window N* are fitted. ``"auto"`` takes the widest window whose curves a test of
        lack of fit does not tell from parabolas (at 5%; at least five sizes a budget); inf takes all sizes.
    level : of the intervals, 0 < level < 1.
    bootstrap : draws of a wild bootstrap of the parabolas' residuals (by group where ``groups`` is given).
        With 0 the interval comes from the minima's scatter about the line, by Student's t with b - 2
        degrees of freedom.

    Raises
    ------
    InputError : for bad arrays, budgets that run into each other, or fewer than two budgets with a minimum.
    """
    table = table_from_arrays(loss, n_params=n_params, flops=flops, source="isoflop")
    check_level(level)
    check_seed(seed)
    n, c, y = np.log(table.get("N")), np.log(table.get("C")), table.loss
    which = _budgets(c, rtol)
    kept, factor, lack = _window(n, y, which, window, groups is not None)
    every = [which == i for i in range(int(which.max()) + 1)]
    ln_c = np.array([c[own].mean() for own in every])
    found = [_parabola(n[own & kept], y[own & kept]) for own in every]
    flags = tuple(p.flag for p in found)
    ok = np.isin(flags, (OK, EDGE) if use_edges else OK)
    if ok.sum() < 2:
        told = "; ".join(f"{np.exp(x):.3g} FLOP {flag}" for x, flag in zip(ln_c, flags, strict=True))
        raise InputError(
            f"isoflop: {ok.sum()} of {len(every)} budgets have a usable minimum, 2 are needed ({told}); "
            "widen the range of sizes"
        )
    used, ln_n = np.flatnonzero(ok), np.array([p.vertex for p in found])
    line = fit_line(ln_c[ok], ln_n[ok], _of_one_noise(found)[ok], level)
    if bootstrap:
        cluster, dof = np.arange(n.size), sum(int((every[i] & kept).sum()) - 3 for i in used)
        if groups is not None:
            group_codes(groups, n.size)  # which refuses what is no list of labels
            cluster, dof = np.unique(np.asarray(groups), return_inverse=True)[1], np.unique(np.asarray(groups)).size - 1
        codes = np.unique(cluster[kept], return_inverse=True)[1]
        weights = np.random.default_rng(seed).choice(_WEBB, size=(bootstrap, int(codes.max()) + 1))[:, codes]
        cov = _bootstrapped([found[i] for i in used], [weights[:, every[i][kept]] for i in used], ln_c[ok])
        line = replace(line, cov=cov, dof=max(1, dof))
    if lack[0] < LACK_P and window == "auto":
        line = _with_bias(line, ln_c[ok], np.array([_quartic_minimum(n[every[i]], y[every[i]]) for i in used]))
    there = ~np.isin(flags, (FLAT, FEW))
    return IsoFlopResult(
        **vars(line),
        budgets=np.exp(ln_c),
        n_opt=np.where(there, np.exp(np.clip(ln_n, -50, 150)), np.nan),
        loss_opt=np.where(there, [p.loss for p in found], np.nan),
        coefficients=np.array([p.c for p in found]),
        centre=np.array([p.centre for p in found]),
        n_range=np.exp([[n[own].min(), n[own].max()] for own in every]),
        n_fitted=tuple(int((own & kept).sum()) for own in every),
        flags=flags,
        used=ok,
        window=factor,
        lack_of_fit=lack,
    )


def _budgets(c: Floats, rtol: float) -> NDArray[np.intp]:
    """Return (n,) the number of each run's budget, rising in FLOP."""
    order = np.argsort(c)
    which = np.empty(c.size, dtype=np.intp)
    which[order] = np.concatenate([[0], np.cumsum(np.diff(c[order]) > np.log1p(rtol))])
    for i in range(int(which.max()) + 1):
        own = c[which == i]
        if np.ptp(own) > 3 * np.log1p(rtol):
            raise InputError(
                f"isoflop: budgets run into each other between {np.exp(own.min()):.3g} and {np.exp(own.max()):.3g} "
                "FLOP; give the runs of a budget one FLOP, or lower rtol"
            )
    return which


def _parabola(n: Floats, y: Floats) -> _Parabola:
    """Fit loss ``y`` at log sizes ``n`` and judge the minimum."""
    centre, few = float(n.mean()), np.unique(n).size < 3
    u = n - centre
    hat = np.linalg.pinv(np.stack([np.ones_like(u), u, u**2], axis=1))
    c, spare = hat @ y, y.size - 3
    residuals = (y - (c[0] + c[1] * u + c[2] * u**2)) * (np.sqrt(y.size / spare) if spare > 0 else 1.0)
    cov = (float(np.mean(residuals**2)) if spare > 0 else 0.0) * hat @ hat.T
    # Twice its standard error, and a trace above rounding: less curvature than that is no minimum.
    if few or c[2] <= max(2 * np.sqrt(cov[2, 2]), 1e-12 * float(np.abs(y).max())):
        c = np.array([y.mean(), 0.0, 0.0]) if few else c
        return _Parabola(FEW if few else FLAT, centre, float(y.mean()), 0.0, c, centre, hat, residuals)
    vertex, slope = float(-c[1] / (2 * c[2])), np.array([0.0, -1 / (2 * c[2]), c[1] / (2 * c[2] ** 2)])
    flag = EDGE if n[np.argmin(y)] in (n.min(), n.max()) else OK
    flag = flag if u.min() <= vertex <= u.max() else OUTSIDE
    loss, stderr = float(c[0] - c[1] ** 2 / (4 * c[2])), float(np.sqrt(slope @ cov @ slope))
    return _Parabola(flag, centre + vertex, loss, stderr, c, centre, hat, residuals)


def _of_one_noise(found: Sequence[_Parabola]) -> Floats:
    """The minima's standard errors (b,) with one noise for all budgets: one budget's few residuals say little."""
    own = np.array([np.sqrt(np.mean(p.residuals**2)) if p.stderr else 1.0 for p in found])
    stderr = np.array([p.stderr for p in found])
    noise = np.sqrt(np.mean(own[stderr > 0] ** 2)) if np.any(stderr > 0) else 1.0
    return np.asarray(stderr / np.maximum(own, 1e-300) * noise)


def _bootstrapped(found: Sequence[_Parabola], weights: Sequence[Floats], ln_c: Floats) -> Floats:
    """Covariance (2, 2) of lines through minima, from losses whose residuals are multiplied by weights (draws, n)."""
    minima = []
    for p, own in zip(found, weights, strict=True):
        c = p.c + (p.residuals * own) @ p.hat.T  # (draws, 3)
        # A draw whose curve opens downwards has no minimum: it counts as far off as the curvature allows.
        minima.append(p.centre - c[:, 1] / (2 * np.maximum(c[:, 2], 0.05 * p.c[2])))
    x = ln_c - ln_c.mean()
    return np.cov(np.linalg.pinv(np.stack([np.ones_like(x), x], axis=1)) @ np.array(minima))


def _with_bias(line: Line, ln_c: Floats, minima: Floats) -> Line:
    """The line with what it differs from the line of the quartics' ``minima`` added to its covariance."""
    there = np.isfinite(minima)
    if there.sum() < 2:
        return line
    other = fit_line(ln_c[there], minima[there], np.zeros(int(there.sum())), line.level)
    bias = np.array([other.height + other.a * (line.middle - other.middle) - line.height, other.a - line.a])
    return replace(line, cov=line.cov + np.outer(bias, bias))


def _window(
    n: Floats, y: Floats, which: NDArray[np.intp], window: str | float, grouped: bool
) -> tuple[NDArray[np.bool_], float, tuple[float, float]]:
    """Which runs (n,) are fitted, the window's factor, and the chances of the lack of fit of all and of these."""
    whole = _lack_of_fit(n, y, which, grouped)
    if window != "auto" and (isinstance(window, str) or not window > 1):
        raise InputError(f"isoflop: window={window!r} must be 'auto' or a factor above 1")
    away, least = np.empty(n.size), np.empty(n.size)  # the nearest few of each budget stay, whatever the window
    for i in range(int(which.max()) + 1):
        own = which == i
        middle = _quartic_minimum(n[own], y[own])
        away[own] = np.abs(n[own] - (n[own][np.argmin(y[own])] if np.isnan(middle) else middle))
        least[own] = np.sort(away[own])[:LEAST_SIZES][-1] + 1e-9
    kept, width, chance = np.ones(n.size, dtype=bool), np.inf, whole
    widths = np.unique(np.round(away[away > least.min() - 1e-6], 6))[::-1]
    tried = [np.log(float(window))] if window != "auto" else widths[1 :: max(1, widths.size // 40)] + 1e-6
    for width in tried if window != "auto" or whole < LACK_P else ():
        kept = away <= np.maximum(width, least)
        chance = _lack_of_fit(n[kept], y[kept], which[kept], grouped)
        if chance >= LACK_P:
            break
    return kept, float(window) if window != "auto" else float(np.exp(width - 1e-6)), (whole, chance)


def _lack_of_fit(n: Floats, y: Floats, which: NDArray[np.intp], grouped: bool) -> float:
    """Chance, in noise, of curves that a cubic and a quartic term improve as much: an F test over all budgets."""
    gain = left = 0.0
    added = spare = tested = 0
    for i in np.unique(which):
        u, loss = n[which == i] - n[which == i].mean(), y[which == i]
        sizes = np.unique(u).size
        if sizes < LEAST_SIZES:
            continue
        plain, bent = (_left_by(u, loss, degree) for degree in (2, min(4, sizes - 2)))
        gain, left = gain + plain - bent, left + bent
        added, spare, tested = added + min(2, sizes - 4), spare + loss.size - min(5, sizes - 1), tested + 1
    if not tested or gain <= 1e-24 * float(np.sum(y**2)):
        return 1.0
    # Runs that share a trunk bend every budget's curve alike: they count as one.
    share = tested if grouped else 1
    return float(special.fdtrc(added / share, spare / share, (gain / added) / max(left / spare, 1e-300)))


def _left_by(u: Floats, y: Floats, degree: int) -> float:
    """Sum of the squares that a polynomial leaves."""
    basis = np.linalg.qr(np.vander(u / np.abs(u).max(), degree + 1))[0]
    return float(np.sum((y - basis @ (basis.T @ y)) ** 2))


def _quartic_minimum(n: Floats, y: Floats) -> float:
    """Log size of the lowest point of a quartic (of a cubic, for five sizes) inside the sizes; nan without one."""
    sizes = np.unique(n).size
    if sizes < LEAST_SIZES:
        return np.nan
    at = np.linspace(n.min(), n.max(), 2001)
    i = int(np.argmin(np.polynomial.Polynomial.fit(n, y, min(4, sizes - 2))(at)))
    return np.nan if i in (0, at.size - 1) else float(at[i])
