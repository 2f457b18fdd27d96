"""Compute-optimal sizes straight from training curves: their lower envelope (approach 1), and the line N* ~ C^a.

N*(C) ~ C^a and D*(C) = C / (6 N*) ~ C^b without a law for L(N, D) [Hoffmann et al. 2022, section 3].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # scipy.stats would add half a second to every command

from scaling_lib.errors import InputError
from scaling_lib.fit.check import check_level, positive_flops
from scaling_lib.fit.table import table_from_arrays

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """What both approaches find: ln N* = height + a (ln C - middle), with the covariance (2, 2) of (height, a).

    a : exponent of N* ~ C^a. level : of the intervals.
    dof : of Student's t; 0 where ``cov`` does not come from the line's own scatter: then the normal serves.
    """

    a: float
    height: float
    middle: float
    cov: Floats
    dof: int
    level: float

    @property
    def b(self) -> float:
        """Exponent of D* ~ C^b; a + b = 1 because C = 6 N D."""
        return 1.0 - self.a

    @property
    def a_interval(self) -> tuple[float, float]:
        """Interval of ``a`` at ``level``."""
        half = self._quantile(self.level) * float(np.sqrt(self.cov[1, 1]))
        return self.a - half, self.a + half

    @property
    def b_interval(self) -> tuple[float, float]:
        """Interval of ``b`` at ``level``."""
        low, high = self.a_interval
        return 1.0 - high, 1.0 - low

    def optimal(self, flops: ArrayLike) -> tuple[Any, Any]:
        """Return (N*, D*) at a budget or an array of budgets in FLOP, floats or arrays of its shape."""
        c = positive_flops(flops)
        n = np.exp(self.height + self.a * (np.log(c) - self.middle))
        d = c / (6.0 * n)
        return (float(n), float(d)) if n.ndim == 0 else (n, d)

    def interval(self, flops: ArrayLike, level: float | None = None) -> tuple[Any, Any]:
        """Return (low, high) of N* at ``flops``; D*'s interval is C / (6 high), C / (6 low)."""
        u = np.log(positive_flops(flops)) - self.middle
        variance = self.cov[0, 0] + 2 * u * self.cov[0, 1] + u**2 * self.cov[1, 1]
        half = self._quantile(self.level if level is None else level) * np.sqrt(np.maximum(variance, 0.0))
        low, high = (np.exp(self.height + self.a * u + side) for side in (-half, half))
        return (float(low), float(high)) if low.ndim == 0 else (low, high)

    def _quantile(self, level: float) -> float:
        """The two-sided quantile, such as 1.645 for 0.9 and many degrees of freedom."""
        p = 0.5 + level / 2
        return float(special.stdtrit(self.dof, p) if self.dof else special.ndtri(p))

    def exponents(self) -> list[str]:
        """Return a line of text for each exponent."""
        (a0, a1), (b0, b1) = self.a_interval, self.b_interval
        return [
            f"N* ~ C^{self.a:.3f} ({self.level:.0%}: {a0:.3f} to {a1:.3f})",
            f"D* ~ C^{self.b:.3f} ({self.level:.0%}: {b0:.3f} to {b1:.3f})",
        ]


def fit_line(ln_c: Floats, ln_n: Floats, stderr: Floats, level: float) -> Line:
    """Least-squares line; its covariance from the scatter, shared out as ``stderr`` (b,) are, or from these alone where
    two points leave none. Zeros share it out evenly.
    """
    middle = float(ln_c.mean())
    design = np.stack([np.ones_like(ln_c), ln_c - middle], axis=1)
    hat = np.linalg.pinv(design)
    height, slope = hat @ ln_n
    dof, variance = ln_c.size - 2, stderr**2
    if dof > 0:
        share = variance if np.all(stderr > 0) else np.ones(ln_c.size)
        scatter = float(np.sum((ln_n - design @ [height, slope]) ** 2))
        variance = scatter * share / np.sum(share * (1.0 - np.einsum("bi,ib->b", design, hat)))
    return Line(float(slope), float(height), middle, (hat * variance) @ hat.T, max(dof, 0), level)


@dataclass(frozen=True)
class EnvelopeResult(Line):
    """Approach 1: for each FLOP the size whose training curve is lowest.

    Attributes
    ----------
    flops, n_best, loss_best : (m,) the envelope on a grid of FLOP.
    sizes : (s,) the sizes that win somewhere strictly inside: each, with the geometric middle of the stretch where it
        wins, is a point of the line.
    edge_sizes : the smallest and largest winners, left out because nothing bounds their stretch on one side.
    """

    flops: Floats
    n_best: Floats
    loss_best: Floats
    sizes: Floats
    edge_sizes: tuple[float, ...]

    def summary(self) -> str:
        """Return a text of the exponents and of what was left out."""
        left_out = ", ".join(f"{n:.3g}" for n in self.edge_sizes)
        return "\n".join([f"{self.sizes.size} sizes on the envelope; at its ends: {left_out}", *self.exponents()])


def envelope(
    n_params: ArrayLike, flops: ArrayLike, loss: ArrayLike, *, level: float = 0.9, points: int = 1500
) -> EnvelopeResult:
    """Fit N*(C) to the lower envelope of training curves (Chinchilla's approach 1).

    Points along a curve whose learning rate has not yet decayed lie too high; where that matters give only annealed
    end points, two or more of each size. Curves are straight lines in (ln C, ln loss) between them, and end there.

    Parameters
    ----------
    n_params, flops, loss : (n,) points of training curves; points of one size form one curve.
    points : number of FLOP values at which the curves are compared; the paper's 1,500.

    Raises
    ------
    InputError : for bad arrays, or fewer than two sizes that win strictly inside the envelope.
    """
    table = table_from_arrays(loss, n_params=n_params, flops=flops, source="envelope")
    check_level(level)
    n, c, y = np.log(table.get("N")), np.log(table.get("C")), np.log(table.loss)
    sizes, grid = np.unique(n), np.linspace(c.min(), c.max(), points)
    curves = np.full((sizes.size, points), np.inf)
    for curve, size in zip(curves, sizes, strict=True):
        order = np.flatnonzero(n == size)[np.argsort(c[n == size])]
        inside = (grid >= c[order[0]]) & (grid <= c[order[-1]])
        curve[inside] = np.interp(grid[inside], c[order], y[order])
    covered = np.isfinite(curves).any(axis=0)
    grid, curves = grid[covered], curves[:, covered]
    best = curves.argmin(axis=0)
    winners = np.unique(best)
    inner = np.setdiff1d(winners, best[[0, -1]])
    if inner.size < 2:
        raise InputError(
            f"envelope: {inner.size} sizes are best strictly inside the range of FLOP, 2 are needed; "
            "give more sizes, or curves that overlap in FLOP"
        )
    centres = np.array([(grid[best == i].min() + grid[best == i].max()) / 2 for i in inner])
    return EnvelopeResult(
        **vars(fit_line(centres, sizes[inner], np.zeros(inner.size), level)),
        flops=np.exp(grid),
        n_best=np.exp(sizes[best]),
        loss_best=np.exp(curves.min(axis=0)),
        sizes=np.exp(sizes[inner]),
        edge_sizes=tuple(np.exp(sizes[np.setdiff1d(winners, inner)]).tolist()),
    )
