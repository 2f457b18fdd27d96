"""A power law through compute-optimal sizes: what both of ``fit.isoflops``'s approaches end in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # scipy.stats would add half a second to every command

from scaling_lib.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """ln N* = height + slope (ln C - centre), with the covariance of (height, slope)."""

    slope: float
    height: float
    centre: float
    cov: Floats  # (2, 2)
    dof: int  # of Student's t; 0 where cov does not come from the line's own scatter: then the normal serves

    def quantile(self, level: float) -> float:
        """Return the two-sided quantile for ``level``, such as 1.645 for 0.9 and many degrees of freedom."""
        p = 0.5 + level / 2
        return float(special.stdtrit(self.dof, p) if self.dof else special.ndtri(p))

    def at(self, ln_c: Floats) -> tuple[Floats, Floats]:
        """Return (ln N*, its standard error) at ``ln_c`` of any shape."""
        u = ln_c - self.centre
        variance = self.cov[0, 0] + 2 * u * self.cov[0, 1] + u**2 * self.cov[1, 1]
        return self.height + self.slope * u, np.sqrt(np.maximum(variance, 0.0))


@dataclass(frozen=True)
class Optimum:
    """What both approaches know: the line, and how to read it."""

    line: Line
    level: float
    flops_per: float

    @property
    def a(self) -> float:
        """Exponent of N* ~ C^a."""
        return self.line.slope

    @property
    def b(self) -> float:
        """Exponent of D* ~ C^b; a + b = 1 because C = 6 N D."""
        return 1.0 - self.line.slope

    @property
    def a_interval(self) -> tuple[float, float]:
        """Interval of ``a`` at ``level``."""
        half = self.line.quantile(self.level) * float(np.sqrt(self.line.cov[1, 1]))
        return self.a - half, self.a + half

    @property
    def b_interval(self) -> tuple[float, float]:
        """Interval of ``b`` at ``level``."""
        low, high = self.a_interval
        return 1.0 - high, 1.0 - low

    def optimal(self, flops: ArrayLike) -> tuple[Any, Any]:
        """Return (N*, D*) at a budget or an array of budgets in FLOP, floats or arrays of its shape."""
        c = positive_flops(flops)
        n = np.exp(self.line.at(np.log(c))[0])
        d = c / (self.flops_per * n)
        return (float(n), float(d)) if n.ndim == 0 else (n, d)

    def interval(self, flops: ArrayLike, level: float | None = None) -> tuple[Any, Any]:
        """Return (low, high) of N* at ``flops``; D*'s interval is C / (6 high), C / (6 low)."""
        mid, se = self.line.at(np.log(positive_flops(flops)))
        half = self.line.quantile(self.level if level is None else level) * se
        low, high = np.exp(mid - half), np.exp(mid + half)
        return (float(low), float(high)) if low.ndim == 0 else (low, high)


def exponent_lines(r: Optimum) -> list[str]:
    (a0, a1), (b0, b1) = r.a_interval, r.b_interval
    return [
        f"N* ~ C^{r.a:.3f} ({r.level:.0%}: {a0:.3f} to {a1:.3f})",
        f"D* ~ C^{r.b:.3f} ({r.level:.0%}: {b0:.3f} to {b1:.3f})",
    ]


def fit_line(ln_c: Floats, ln_n: Floats, stderr: Floats) -> Line:
    """Least-squares line; its covariance from the scatter, or from ``stderr`` where two points leave none."""
    centre = float(ln_c.mean())
    design = np.stack([np.ones_like(ln_c), ln_c - centre], axis=1)
    hat = np.linalg.pinv(design)
    height, slope = hat @ ln_n
    dof = ln_c.size - 2
    scatter = float(np.sum((ln_n - design @ [height, slope]) ** 2))
    variance = np.full(ln_c.size, scatter / dof) if dof > 0 else stderr**2
    return Line(float(slope), float(height), centre, (hat * variance) @ hat.T, max(dof, 0))


def positive_flops(flops: ArrayLike) -> Floats:
    c = np.asarray(flops, dtype=float)
    if c.size == 0:
        raise InputError("flops is empty: give a budget")
    if not np.all(np.isfinite(c) & (c > 0)):
        raise InputError("flops must be finite and above zero")
    return c
