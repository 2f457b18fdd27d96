"""Do the residuals of a fit bend? How much, how surely, and by how much is the form off elsewhere?

What squares and products of the logarithms would still explain is compared with what is left: an F ratio. A bend
counts as doubt only where it is both clear (``chance`` small) and of a size that matters. The same columns, taken to a
target, say how far a form that misses this bend errs there.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc

from scaling_lib.fit.forms import Array
from scaling_lib.fit.noise import Noise, replicates

CLEAR = 0.01  # chance in noise below which a bend is taken to be none of it
MATERIAL = 1e-3  # of the loss: a smaller bend is no doubt, however clear
ABSURD = 1e-20  # chance below which, with a size of ABSURD_SIZE or more, the form is simply wrong
ABSURD_SIZE = 0.005
CLIPPED = 3.0  # standard deviations beyond which a residual is an outlier and bends nothing


@dataclass(frozen=True)
class Misfit:
    """The bend of a fit's residuals.

    ratio : F, what the bend explains over what noise alone would. chance : of such a ratio in noise. size : root mean
    square of the bend, as a share of the loss. centre : (v,) mean logarithms of the runs. coefficients : (q,) of the
    squares and products that bend, empty where there are too few runs to tell. absorbed : (k, q), how the law's
    parameters follow each of them.
    """

    ratio: float
    chance: float
    size: float
    centre: Array
    coefficients: Array
    absorbed: Array

    @property
    def clear(self) -> bool:
        """Whether the bend is no noise and of a size that matters."""
        return self.chance < CLEAR and self.size > MATERIAL

    @property
    def absurd(self) -> bool:
        """Whether no one would call these runs an instance of this form."""
        return self.chance < ABSURD and self.size > ABSURD_SIZE

    def variance_at(self, log_x: tuple[Array, ...], gradient: Array) -> Array:
        """Variance (m,) of the log prediction at ``log_x`` for the bend: it may go on there as it began, or die out.

        So the error lies anywhere between 0 and the bend's continuation, of either sign: a third of its square. The
        share 1 / F of the bend is noise.

        gradient : (m, k), of the log prediction by the parameters that ``absorbed`` means.
        """
        if len(self.coefficients) == 0:
            return np.zeros(len(gradient))
        bend = _products(log_x, self.centre) - gradient @ self.absorbed
        return (max(0.0, 1.0 - 1.0 / max(self.ratio, 1.0)) * (bend @ self.coefficients)) ** 2 / 3.0


STRAIGHT = Misfit(1.0, 1.0, 0.0, np.zeros(0), np.zeros(0), np.zeros((0, 0)))  # no bend, or too few runs to tell


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
    n = len(jacobian)
    centre = np.array([v.mean() for v in log_x])
    bending = _products(log_x, centre)
    usable = np.array([_varies(column, codes) for column in bending.T], dtype=bool)
    unit = np.broadcast_to(np.asarray(scatter, dtype=float), (n,))
    limit = CLIPPED * sigma if sigma > 0 else np.inf
    r = noise.whitened(np.clip(residuals / unit, -limit, limit), codes)
    design = noise.whitened(jacobian / unit[:, None], codes)
    bends = noise.whitened(bending / unit[:, None], codes) * usable
    absorbed = np.linalg.pinv(design, rcond=1e-8) @ bends
    beyond = bends - design @ absorbed
    usable &= np.linalg.norm(beyond, axis=0) > 1e-6 * np.maximum(np.linalg.norm(bends, axis=0), 1e-300)
    added = int(usable.sum())
    dof = n - int(np.linalg.matrix_rank(design)) - added
    if added < 1 or dof < 3:
        return STRAIGHT
    coefficients = np.zeros(len(usable))
    coefficients[usable] = np.linalg.lstsq(beyond[:, usable], r, rcond=None)[0]
    bent = beyond @ coefficients
    explained = float(np.sum(bent**2))
    rest = float(np.sum((r - bent) ** 2) - np.sum((design @ (np.linalg.pinv(design) @ r)) ** 2))
    repeats = replicates(log_x, log_loss)
    if repeats.many and codes is None:
        pure = np.clip(repeats.deviation / unit, -limit, limit)[repeats.repeated]
        rest, dof = float(np.mean(pure**2)) * repeats.spare, repeats.spare
    if rest <= 1e-26:
        return STRAIGHT
    ratio = explained / added / (rest / dof)
    size = float(np.sqrt(explained * np.mean(unit**2) / n))
    return Misfit(ratio, float(fdtrc(added, dof, ratio)), size, centre, coefficients, absorbed)


def _products(log_x: tuple[Array, ...], centre: Array) -> Array:
    """Squares and products (n, q) of the centred logarithms."""
    u = [v - c for v, c in zip(log_x, centre, strict=True)]
    return np.stack([a * b for i, a in enumerate(u) for b in u[i:]], axis=1)


def _varies(column: Array, codes: Array | None) -> bool:
    """Whether a column varies, within groups where there are some."""
    spread = np.ptp(column)
    if codes is None:
        return bool(spread > 1e-9)
    mean = np.bincount(codes, column) / np.maximum(np.bincount(codes), 1)
    return bool(np.abs(column - mean[codes]).max() > 1e-9 * spread)
