"""How noisy the runs are, and what that makes of the law's parameters.

Every objective here has the form sum rho(r) with psi = rho'. Near its optimum the estimate moves like least squares on
the *pseudo-residuals* psi(r) / m, where m is the mean of psi' [Huber 1964]: r itself for least squares, and for
near-LAD objectives the sign of r times 1 / (2 f(0)), f the density of the noise. All formulas below are those of least
squares on the pseudo-residuals.

Noise need not be equal: with many ungrouped runs each run's own squared residual enters, the "sandwich" [White 1980],
and `by_size` asks how the scatter changes with N and D.

Runs that share a trunk share part of their noise. With groups the noise is a random effect: variance ``within`` for
each run plus variance ``between`` for each group, both estimated from quadratic forms of the residuals whose
expectation is exact for a linear law, so that few groups do not bias them. The degrees of freedom of a variance built
from the two are Satterthwaite's [Satterthwaite 1946; Bell and McCaffrey 2002 for clusters].
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import ndtri

from scaling_lib.fit.forms import Array

MANY = 60  # degrees of freedom from which each run's own residual says how noisy it is
WINDOW = 0.6  # half-width, in robust standard deviations, of the window that measures the density at 0
PEAK = 2.0 * WINDOW * 0.3989423 / 0.4514938  # a normal density's height at 0 times the window, over its share inside
MOST_GROUPS = 1500  # matrices of groups by groups up to here; with more the groups' own number is enough
REPLICATES = 8  # spare runs of repeated (N, D) from which their scatter alone says how the noise changes with size


@dataclass(frozen=True)
class Geometry:
    """What the design alone says, with k parameters of which some move.

    inverse : (k, k) inverse normal matrix over the moving parameters, zero elsewhere.
    influence : (n, k), what each run's pseudo-residual does to the parameters.
    basis : (n, r), orthonormal basis of the Jacobian's columns. leverage : (n,).
    rank, condition : of the Jacobian with columns scaled to length 1. blind : (k,) bool, parameters no run informs.
    """

    inverse: Array
    influence: Array
    basis: Array
    leverage: Array
    rank: int
    condition: float
    blind: Array


@dataclass(frozen=True)
class Noise:
    """Noise of the log losses round a fit.

    dof : runs less free parameters. codes : (n,) groups 0, 1, ... or None.
    within, between : variances of the pseudo-residuals of a run, and of what its group shares (0 without groups).
    squares : with many ungrouped runs the squared pseudo-residual of each (n,), widened for leverage; else None.
    sigma : standard deviation of the log loss of a new run, group effect included.
    slope : m, the mean of psi'. slope_variance : what its uncertainty adds to 1 / (degrees of freedom).
    absorbed : how much wider the noise is than the residuals, beyond sqrt(n / dof): robust fits of groups.
    moments : inverse moment matrix and covariance of the two forms, from which degrees of freedom are computed.
    """

    geometry: Geometry
    dof: int
    codes: Array | None
    within: float
    between: float
    squares: Array | None
    sigma: float
    slope: float
    slope_variance: float
    absorbed: float
    moments: tuple[Array, Array] | None

    def covariance(self) -> Array:
        """Covariance (k, k) of the scaled working parameters."""
        influence = self.geometry.influence
        if self.squares is not None:
            return (influence.T * self.squares) @ influence
        cov = self.within * (influence.T @ influence)
        if self.codes is not None and self.between > 0:
            total = one_hot(self.codes).T @ influence
            cov = cov + self.between * (total.T @ total)
        return cov

    def contrast(self, gradient: Array) -> tuple[Array, Array, Array]:
        """Variance (m,) of linear functions with gradients (m, k), g' H^-1 g of the same, degrees of freedom (m,).

        H is the objective's second derivative: moving a function by e costs e^2 / (2 g' H^-1 g).
        """
        bend = _quadratic(gradient, self.geometry.inverse / self.slope)
        if self.codes is None:
            variance, dof = _quadratic(gradient, self.covariance()), np.full(len(bend), max(float(self.dof), 1.0))
            return variance, bend, 1.0 / (1.0 / dof + self.slope_variance)
        influence = self.geometry.influence
        total = one_hot(self.codes).T @ influence
        own, shared = _quadratic(gradient, influence.T @ influence), _quadratic(gradient, total.T @ total)
        variance, dof = self.within * own + self.between * shared, np.full(len(own), max(1.0, len(total) - 1.0))
        if self.moments is not None:
            inverse, covariance = self.moments
            q = np.stack([own, shared], axis=1) @ inverse  # variance = q . (within form, between form)
            spread = np.maximum(_quadratic(q, covariance), 1e-300)
            dof = np.clip(2.0 * variance**2 / spread, 1.0, float(max(self.dof, 1)))
        return variance, bend, 1.0 / (1.0 / dof + self.slope_variance)

    def whitened(self, values: Array, codes: Array | None) -> Array:
        """``values`` (n, ...) of runs in groups ``codes`` so that noise shared in a group counts once.

        Multiplies by within^1/2 times the inverse root of the groups' covariance: what is left has variance ``within``.
        """
        if codes is None or self.between <= 0 or self.within <= 0:
            return values
        member = one_hot(codes)
        count = member.sum(axis=0)
        kept = np.sqrt(self.within / (self.within + count * self.between))
        flat = values.reshape(len(values), -1)
        return (flat - ((1.0 - kept) / count)[codes, None] * (member.T @ flat)[codes]).reshape(values.shape)


def _quadratic(rows: Array, matrix: Array) -> Array:
    """row . matrix . row (m,) of each of (m, k) rows."""
    return np.asarray(np.sum((rows @ matrix) * rows, axis=1))


def one_hot(codes: Array) -> Array:
    """Membership (n, G) of integer codes 0..G-1."""
    return (codes[:, None] == np.arange(int(codes.max()) + 1)).astype(float)


def measure(jac: Array, residuals: Array, moving: Array, dof: int, delta: float, codes: Array | None) -> Noise:
    """The noise round a fit with log residuals (n,), Jacobian (n, k), free parameters ``moving`` (k,) bool.

    ``dof`` is runs less free parameters; with 0 the noise is unknown and given as 0.
    """
    pseudo, slope, near = pseudo_residuals(residuals, dof, delta)
    many = codes is None and dof >= MANY
    # With many runs, each run's own density at 0 weighs its row [Powell 1991]; with few, their mean serves for all.
    geometry = _geometry(jac, moving, near if many else None)
    within = float(np.sum(pseudo**2) / dof) if dof > 0 else 0.0
    between, moments, squares, absorbed = 0.0, None, None, 1.0
    if many:
        widened = pseudo**2 / np.clip(1.0 - geometry.leverage, 0.05, 1.0)
        squares = widened * (len(pseudo) / dof if np.isfinite(delta) else 1.0)
    elif codes is not None and dof > 0:
        pooled = within
        within, between, moments = _components(pseudo, geometry.basis, codes, pooled)
        if np.isfinite(delta):
            # A fit absorbs far more of what few groups share than n / dof allows for. The residuals are that much
            # narrower than the noise, and the density at 0, from which m is read, that much too high.
            absorbed = max(1.0, float(np.sqrt((within + between) / max(pooled, 1e-300))))
            slope, within, between = slope / absorbed, within * absorbed**2, between * absorbed**2
            moments = None if moments is None else (moments[0], moments[1] * absorbed**4)
    sigma = float(np.sqrt(within + between)) if np.isinf(delta) else absorbed * robust_sigma(residuals, dof)
    # A variance with 1/m^2 in it varies by 4 (1 - p)/(dof p), relative squared, where m counts a share p of the runs.
    # A chi-square on nu degrees of freedom varies by 2/nu: the sum of both is 2 over the degrees of freedom of all.
    share = float(np.mean(near > 0))
    doubt = 2.0 * (1.0 - share) / (share * dof) if 0.0 < share < 1.0 and dof > 0 else 0.0
    return Noise(geometry, dof, codes, within, between, squares, sigma, slope, doubt, absorbed, moments)


def _geometry(jac: Array, moving: Array, weight: Array | None) -> Geometry:
    """Of a Jacobian (n, k) whose rows count by ``weight`` (n,), or alike."""
    n, k = jac.shape
    rows = jac[:, moving] if weight is None else jac[:, moving] * np.sqrt(weight)[:, None]
    blind = np.zeros(k, dtype=bool)
    if not moving.any():
        return Geometry(np.zeros((k, k)), np.zeros((n, k)), np.zeros((n, 0)), np.zeros(n), 0, 1.0, blind)
    norms = np.sqrt(np.sum(rows**2, axis=0))
    dead = norms < 1e-12 * max(float(norms.max()), 1e-300)
    norms = np.where(dead, 1.0, norms)
    u, s, vt = np.linalg.svd(np.where(dead, 0.0, rows) / norms, full_matrices=False)
    good = s > 1e-9 * max(float(s[0]), 1e-300)
    half = np.zeros((k, int(good.sum())))
    half[moving] = (vt[good].T / s[good]) / norms[:, None]
    blind[moving] = np.sum(vt[good] ** 2, axis=0) < 1.0 - 1e-6
    smallest = float(s[-1]) if len(s) == len(norms) and not dead.any() else 0.0
    condition = float(s[0]) / smallest if smallest > 0 else float("inf")
    inverse = half @ half.T
    influence = jac @ inverse
    leverage = np.sum(u[:, good] ** 2, axis=1) if weight is None else np.einsum("ni,ni->n", influence, jac) * weight
    return Geometry(inverse, influence, jac @ half, leverage, int(good.sum()), condition, blind)


def pseudo_residuals(residuals: Array, dof: int, delta: float) -> tuple[Array, float, Array]:
    """psi(r) / m (n,), m (the mean of psi'), and psi' / m of each run (n,), smoothed.

    For Huber's psi, m is delta times twice the density at 0 once delta is small. It is estimated over a window as wide
    as delta or 0.6 robust standard deviations, whichever is more: within delta alone lie the few residuals that a
    near-LAD fit has made zero.
    """
    n = len(residuals)
    if np.isinf(delta) or dof <= 0:
        return residuals, 1.0, np.ones(n)
    psi = np.clip(residuals, -delta, delta)
    window = max(delta, WINDOW * robust_sigma(residuals, dof))
    taken = (n - dof) * (1.0 - min(1.0, delta / window))  # a near-LAD fit passes through as many runs as parameters
    inside = np.abs(residuals) <= window
    share = max(int(inside.sum()) - taken, 1.0) / (n - taken)
    if window > delta:
        share *= PEAK  # the density falls off inside the window; what is wanted is its height at 0
    slope = min(1.0, min(share, 1.0) * delta / window)
    return psi / slope, slope, inside * (n / max(int(inside.sum()), 1))


def robust_sigma(residuals: Array, dof: int, share: float = 0.75) -> float:
    """Standard deviation of the noise by a quantile of the absolute residuals, corrected for the parameters."""
    n = len(residuals)
    size = np.interp(share * (n - 1), np.arange(n), np.sort(np.abs(residuals)))  # np.quantile takes ten times as long
    return float(size / ndtri(0.5 + share / 2.0) * np.sqrt(n / max(dof, 1)))


def tail_sigma(residuals: Array, dof: int, level: float) -> float:
    """As `robust_sigma`, by the quantile at ``level``; but the four largest residuals may be outliers."""
    return robust_sigma(residuals, dof, max(0.5, min(level, 1.0 - 4.0 / len(residuals))))


def _components(r: Array, basis: Array, codes: Array, pooled: float) -> tuple[float, float, tuple[Array, Array] | None]:
    """Variances within and between groups, and (inverse of the moment matrix, covariance of the two forms).

    ``basis`` (n, p) is an orthonormal basis of the Jacobian's columns; M = I - basis basis' makes residuals. The forms
    are r'P r with P = Q Q' the projection on group means, and r'(I - P) r. With V = M Q and H = V'V, M P M = V V', and
    every trace below is one of matrices of groups by groups.
    """
    n, p = basis.shape
    member = one_hot(codes)
    size = member.sum(axis=0)
    count = len(size)
    mean_form = float(np.sum((member.T @ r) ** 2 / size))
    rest_form = float(np.sum(r**2)) - mean_form
    if count > MOST_GROUPS:
        within = rest_form / max(n - count - p, 1)
        between = max((mean_form - count * within) / max(float(size.mean()) * (count - 1), 1.0), 0.0)
        return within, between, None
    inner = basis.T @ (member / np.sqrt(size))
    h = np.eye(count) - inner.T @ inner
    sh = size[:, None] * h
    trace_h, trace_sh, trace_hsh = float(np.trace(h)), float(np.trace(sh)), float(np.sum(h * sh))
    moment = np.array([[n - p - trace_h, trace_sh - trace_hsh], [trace_h, trace_hsh]])
    if abs(np.linalg.det(moment)) < 1e-9 * abs(moment).max() ** 2:
        return pooled, 0.0, None  # every run its own group, or nothing left within one: the two cannot be told apart
    inverse = np.linalg.inv(moment)
    within, between = inverse @ np.array([rest_form, mean_form])
    within, between = max(float(within), 1e-3 * pooled), max(float(between), 0.0)
    if between == 0.0:
        within = pooled
    # Omega = within I + between Z Z', Z Z' = Q S Q'. The covariance of two forms is twice a trace with Omega in it.
    x = within * np.eye(count) + between * sh
    both = float(np.sum((h @ x) * (h @ x).T))
    half = float(np.sum(x * (h @ x)))
    whole = within**2 * (n - p) + 2.0 * within * between * trace_sh + between**2 * float(np.sum(sh * sh.T))
    return within, between, (inverse, 2.0 * np.array([[whole - 2.0 * half + both, half - both], [half - both, both]]))


Scatter = Callable[[tuple[Array, ...]], Array]  # of ln x, each (n,): noise relative to the runs' root mean square (n,)


def by_size(log_x: tuple[Array, ...], log_loss: Array, residuals: Array, leverage: Array) -> Scatter:
    """Scatter of the log losses as a function of size: exp(slopes . ln x); outside the runs it stays as at their edge.

    It is read from runs of one (N, D) where enough repeat, else from a fit's residuals (n,). The logarithm of each
    run's own deviation is regressed on ln x. A slope is multiplied by 1 - 2 (error / slope)^2, and is 0 where that is
    negative: noise that changes with size must be seen before it is believed.
    """
    x = np.stack(log_x, axis=1)
    deviation, rows, spare = residuals / np.sqrt(np.clip(1.0 - leverage, 0.05, 1.0)), x, len(x)
    repeats = replicates(log_x, log_loss)
    if repeats.many:
        deviation, rows, spare = repeats.deviation[repeats.repeated], x[repeats.repeated], repeats.spare
    design = np.column_stack([np.ones(len(rows)), rows - rows.mean(axis=0)])
    slopes = np.zeros(x.shape[1])
    free = spare - design.shape[1]
    typical = np.median(np.abs(deviation))
    if free >= 4 and typical > 0 and np.linalg.matrix_rank(design, tol=1e-6) == design.shape[1]:
        size = np.log(np.maximum(np.abs(deviation), 0.15 * typical))
        found, *_ = np.linalg.lstsq(design, size, rcond=None)
        rest = float(np.sum((size - design @ found) ** 2)) / free
        error = np.diag(np.linalg.inv(design.T @ design))[1:] * rest
        seen = found[1:] != 0
        slopes[seen] = found[1:][seen] * np.maximum(0.0, 1.0 - 2.0 * error[seen] / found[1:][seen] ** 2)
    exponent = (x - x.mean(axis=0)) @ slopes
    top = exponent.max()
    offset = top + 0.5 * np.log(np.mean(np.exp(2.0 * (exponent - top))))  # ln of the root mean square
    norm = float(slopes @ slopes)
    centre = x.mean(axis=0) + (slopes * offset / norm if norm > 0 else 0.0)
    return partial(_scatter, slopes, centre, x.min(axis=0), x.max(axis=0))  # a fit with it can be pickled


def _scatter(slopes: Array, centre: Array, low: Array, high: Array, log_x: tuple[Array, ...]) -> Array:
    return np.exp((np.clip(np.stack(log_x, axis=1), low, high) - centre) @ slopes)


@dataclass(frozen=True)
class Replicates:
    """Runs that repeat an (N, D).

    repeated : (n,) bool. deviation : (n,) from the mean of the m runs there, times sqrt(m / (m - 1)); 0 for others.
    cell : (n,) which (N, D), 0, 1, ... spare : runs less distinct (N, D): degrees of freedom of the variance.
    """

    repeated: Array
    deviation: Array
    cell: Array
    spare: int

    @property
    def many(self) -> bool:
        """Whether there are enough to measure the noise by them alone."""
        return self.spare >= REPLICATES


def replicates(log_x: tuple[Array, ...], log_loss: Array) -> Replicates:
    """Which runs repeat an (N, D), to 9 digits of the logarithms, and by how much their log losses (n,) differ."""
    _, cell = np.unique(np.round(np.stack(log_x, axis=1), 9), axis=0, return_inverse=True)
    cell = cell.ravel()
    size = np.bincount(cell)[cell]
    mean = (np.bincount(cell, log_loss) / np.bincount(cell))[cell]
    deviation = np.where(size > 1, log_loss - mean, 0.0) * np.sqrt(size / np.maximum(size - 1.0, 1.0))
    return Replicates(size > 1, deviation, cell, len(cell) - int(cell.max()) - 1)
