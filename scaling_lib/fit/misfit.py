"""Do the residuals of a fit bend? How much, and how surely.

What squares and products of the logarithms would still explain is compared with what is left: an F ratio. A bend
counts as doubt only where it is both clear (``chance`` small) and of a size that matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc

from scaling_lib.fit.forms import Array
from scaling_lib.fit.noise import Noise, replicates

CLEAR = 0.01  # chance in noise below which a bend is taken to be none of it
MATERIAL = 1e-3  # of the loss: a smaller bend is no doubt, however clear
ABSURD = 1e-20  # chance below which, with a size of ABSURD_SIZE or more, the form is simply wrong
ABSURD_SIZE = 0.005
PRIOR_WORTH = 4.0  # observations that speak against any misfit
CLIPPED = 3.0  # standard deviations beyond which a residual is an outlier and bends nothing


@dataclass(frozen=True)
class Misfit:
    """The bend of a fit's residuals.

    ratio : F, what the bend explains over what noise alone would. added : columns that bend, 0 where there are too few
    runs to tell. chance : of such a ratio in noise. size : root mean square of the bend, as a share of the loss.
    """

    ratio: float
    added: int
    chance: float
    size: float

    @property
    def clear(self) -> bool:
        """Whether the bend is no noise and of a size that matters."""
        return self.chance < CLEAR and self.size > MATERIAL

    @property
    def absurd(self) -> bool:
        """Whether no one would call these runs an instance of this form."""
        return self.chance < ABSURD and self.size > ABSURD_SIZE

    @property
    def inflation(self) -> float:
        """By how much the variance of the parameters exceeds what noise alone makes of it: 1 but for a clear bend.

        Parameters follow the few directions in which a bend shows; there the noise is ``ratio`` times what it is
        elsewhere. The mean of that and of a prior at 1, worth 4 observations.
        """
        return (PRIOR_WORTH + self.added * self.ratio) / (PRIOR_WORTH + self.added) if self.clear else 1.0


NONE = Misfit(1.0, 0, 1.0, 0.0)


def misfit(
    log_x: tuple[Array, ...],
    log_loss: Array,
    residuals: Array,
    jacobian: Array,
    noise: Noise,
    sigma: float,
    scatter: Array | float = 1.0,
    codes: Array | None = None,
) -> Misfit:
    """The bend of log residuals (n,) round a fit with ``jacobian`` (n, k).

    Parameters
    ----------
    noise : round the fit, in units of ``scatter`` (n,), the runs' relative noise. sigma : its standard deviation.
    codes : (n,) groups. Runs of a group share noise, which bends residuals from group to group: all is weighted by the
        estimated noise within and between groups, and only what bends within groups counts, as along a trunk's D.

    Where enough runs repeat an (N, D), their scatter alone is the measure of noise.
    """
    n = len(residuals)
    u = [v - v.mean() for v in log_x if np.ptp(v) > 1e-9]
    extra = [a * b for i, a in enumerate(u) for b in u[i:]]
    if codes is not None:
        extra = [e for e in extra if _varies_within(e, codes)]
    if not extra:
        return NONE
    unit = np.broadcast_to(np.asarray(scatter, dtype=float), (n,))
    limit = CLIPPED * sigma if sigma > 0 else np.inf
    r = np.clip(residuals / unit, -limit, limit)
    columns = np.column_stack([jacobian, *extra]) / unit[:, None]
    r, columns = noise.whitened(r, codes), noise.whitened(columns, codes)
    small, large = _basis(columns[:, : jacobian.shape[1]]), _basis(columns)
    added, left = large.shape[1] - small.shape[1], n - large.shape[1]
    if added < 1 or left < 3:
        return NONE
    explained = large @ (large.T @ r) - small @ (small.T @ r)
    bent, rest, dof = float(np.sum(explained**2)), float(np.sum((r - large @ (large.T @ r)) ** 2)), left
    size = float(np.sqrt(bent * np.mean(unit**2) / n))
    repeats = replicates(log_x, log_loss)
    if repeats.many and codes is None:
        pure = np.clip(repeats.deviation / unit, -limit, limit)[repeats.repeated]
        rest, dof = float(np.mean(pure**2)) * repeats.spare, repeats.spare
    if rest <= 1e-26:
        return Misfit(1.0, added, 1.0, size)
    ratio = bent / added / (rest / dof)
    return Misfit(ratio, added, float(fdtrc(added, dof, ratio)), size)


def _varies_within(column: Array, codes: Array) -> bool:
    mean = np.bincount(codes, column) / np.maximum(np.bincount(codes), 1)
    return bool(np.abs(column - mean[codes]).max() > 1e-9 * np.ptp(column))


def _basis(columns: Array) -> Array:
    """Orthonormal basis (n, r) of the columns."""
    scaled = columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-300)
    u, s, _ = np.linalg.svd(scaled, full_matrices=False)
    return u[:, s > 1e-8 * s[0]]
