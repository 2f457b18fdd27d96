"""How noisy the runs are, and what that makes of the law's parameters.

Every objective here has the form sum rho(r) with psi = rho'. Near its optimum the estimate moves like least
squares on the *pseudo-residuals* psi(r) / m, where m is the mean of psi' [Huber 1964]: r itself for least
squares, and for near-LAD objectives the sign of r times 1 / (2 f(0)), f the density of the noise. All formulas
below are those of least squares on the pseudo-residuals.

Noise need not be equal: with many ungrouped runs each run's own squared residual enters, the "sandwich" [White 1980].

Runs that share a trunk share part of their noise. With ``groups`` the noise is a random effect: variance
``within`` for each run plus variance ``between`` for each group, both estimated from quadratic forms of the
residuals whose expectation is exact for a linear law, so that few groups do not bias them. The degrees of freedom
of a variance built from the two are Satterthwaite's [Satterthwaite 1946; Bell and McCaffrey 2002 for clusters].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law

MANY = 60  # degrees of freedom from which each run's own residual says how noisy it is
WINDOW = 0.6  # half-width, in robust standard deviations, of the window that measures the density at 0
PEAK = 2.0 * WINDOW * 0.3989423 / 0.4514938  # a normal density's height at 0 times the window, over its share inside
EXACT_ROWS = 1500  # n x n matrices up to here; with more runs the groups' own number is enough


@dataclass(frozen=True)
class Noise:
    """Noise of the log losses round a fit.

    within, between : variances of the pseudo-residuals of a run, and of what its group shares (0 without groups).
    each : with many ungrouped runs the squared pseudo-residual of each (n,), widened for leverage; else None.
    sigma : standard deviation of the log loss of a new run, group effect included.
    doubt : what the uncertainty of m adds to 1 / (degrees of freedom); 0 for least squares.
    shrunk : how much wider the noise is than the residuals, beyond sqrt(n / dof): robust fits of groups.
    inverse : (k, k) inverse of the objective's second derivative over the free parameters, zero elsewhere.
    rank, condition : of the Jacobian with columns scaled to length 1.
    blind : (k,) bool, parameters that no run informs. leverage : (n,).
    spread : (n, k): what each run's pseudo-residual does to the parameters.
    basis : (n, r), orthonormal basis of the Jacobian's columns.
    codes : (n,) clusters or None. dof : runs less free parameters.
    moments : what the degrees of freedom with groups are computed from.
    """

    within: float
    between: float
    each: Array | None
    sigma: float
    doubt: float
    shrunk: float
    inverse: Array
    rank: int
    condition: float
    blind: Array
    leverage: Array
    spread: Array
    basis: Array
    codes: Array | None
    dof: int
    moments: tuple[Array, Array] | None

    def contrast(self, gradient: Array) -> tuple[Array, Array, Array]:
        """Variance (m,) of linear functions with gradients (m, k), g' H^-1 g of the same, degrees of freedom (m,).

        H is the objective's second derivative: moving a function by e costs e^2 / (2 g' H^-1 g).
        """
        bend = np.einsum("mi,ij,mj->m", gradient, self.inverse, gradient)
        weight = gradient @ self.spread.T  # (m, n): what each run's pseudo-residual contributes
        if self.each is not None:
            variance, dof = weight**2 @ self.each, np.full(len(bend), float(self.dof))
        elif self.codes is None:
            variance, dof = self.within * np.sum(weight**2, axis=1), np.full(len(bend), float(self.dof))
        else:
            variance, dof = self._grouped(weight)
        return variance, bend, 1.0 / (1.0 / np.maximum(dof, 1.0) + self.doubt)

    def _grouped(self, weight: Array) -> tuple[Array, Array]:
        """Variance and degrees of freedom of combinations (m, n) of the runs' noise with its shared part."""
        assert self.codes is not None
        groups = np.zeros((len(weight), int(self.codes.max()) + 1))
        for g in range(groups.shape[1]):
            groups[:, g] = weight[:, self.codes == g].sum(axis=1)
        own, shared = np.sum(weight**2, axis=1), np.sum(groups**2, axis=1)
        variance = self.within * own + self.between * shared
        if self.moments is None:
            return variance, np.full(len(own), max(1.0, groups.shape[1] - 1.0))
        inverse, wobble = self.moments
        q = np.stack([own, shared], axis=1) @ inverse  # variance = q . (within form, between form)
        noise = np.maximum(np.einsum("mi,ij,mj->m", q, wobble, q), 1e-300)
        return variance, np.clip(2.0 * variance**2 / noise, 1.0, float(max(self.dof, 1)))

    def cluster_widened(self, residuals: Array) -> Array:
        """Residuals (n,) of each group, undone for the pull its own runs had on the fit: (I - H_gg)^-1/2 r_g."""
        out = residuals.copy()
        for g in range(int(self.codes.max()) + 1 if self.codes is not None else 0):
            rows = self.codes == g
            hat = self.basis[rows] @ self.basis[rows].T
            values, vectors = np.linalg.eigh(np.eye(len(hat)) - hat)
            out[rows] = vectors @ ((vectors.T @ residuals[rows]) / np.sqrt(np.maximum(values, 0.05)))
        return out

    def covariance(self) -> Array:
        """Covariance (k, k) of the scaled working parameters."""
        if self.each is not None:
            return (self.spread.T * self.each) @ self.spread
        cov = self.within * (self.spread.T @ self.spread)
        if self.codes is not None and self.between > 0:
            for g in range(int(self.codes.max()) + 1):
                total = self.spread[self.codes == g].sum(axis=0)
                cov = cov + self.between * np.outer(total, total)
        return cov


def log_jacobian(law: Law, working: Array, log_x: tuple[Array, ...]) -> tuple[Array, Array]:
    """Logarithm of the value (n,) and its derivatives (n, k) by the working parameters (k,)."""
    m, grad = law.core(working, log_x)
    m = np.maximum(m, 1e-300)
    return np.log(m), (grad / m).T


def measure(jac: Array, residuals: Array, moving: Array, dof: int, delta: float, codes: Array | None) -> Noise:
    """The noise round a fit with log residuals (n,), Jacobian (n, k), free parameters ``moving`` (k,) bool.

    ``dof`` is runs less free parameters; with 0 the noise is unknown and given as 0.
    """
    k = jac.shape[1]
    pseudo, slope, near = pseudo_residuals(residuals, dof, delta)
    many = codes is None and dof >= MANY
    # With many runs, each run's own density at 0 weighs its row [Powell 1991]; with few, their mean serves for all.
    rows = jac[:, moving] * np.sqrt(near)[:, None] if many else jac[:, moving]
    half, rank, condition, blind, leverage = _inverse(rows)
    full_half = np.zeros((k, half.shape[1]))
    full_half[moving] = half
    unit = full_half @ full_half.T
    everywhere = np.zeros(k, dtype=bool)
    everywhere[moving] = blind
    pooled = float(np.sum(pseudo**2) / dof) if dof > 0 else 0.0
    within, between, moments, each, shrunk = pooled, 0.0, None, None, 1.0
    if many:
        pull = np.einsum("ni,ni->n", jac @ unit, jac)
        each = pseudo**2 / np.clip(1.0 - pull * near, 0.05, 1.0) * (len(pseudo) / dof if np.isfinite(delta) else 1.0)
        leverage = pull * near
    elif codes is not None and dof > 0:
        within, between, moments = _components(pseudo, jac @ full_half, codes, pooled)
        if np.isfinite(delta):
            # A fit absorbs far more of what few groups share than n / dof allows for. The residuals are that much
            # narrower than the noise, and the density at 0, from which m is read, that much too high.
            shrunk = max(1.0, float(np.sqrt((within + between) / max(pooled, 1e-300))))
            slope = slope / shrunk
            within, between = within * shrunk**2, between * shrunk**2
            if moments is not None:
                moments = moments[0], moments[1] * shrunk**4
    return Noise(
        within=within,
        between=between,
        each=each,
        sigma=float(np.sqrt(within + between)) if np.isinf(delta) else shrunk * robust_sigma(residuals, dof),
        doubt=_slope_doubt(near, dof),
        shrunk=shrunk,
        inverse=unit / slope,
        rank=rank,
        condition=condition,
        blind=everywhere,
        leverage=leverage,
        spread=jac @ unit,
        basis=jac @ full_half,
        codes=codes,
        dof=dof,
        moments=moments,
    )


def _inverse(jac: Array) -> tuple[Array, int, float, Array, Array]:
    """Half of the inverse normal matrix (k, r), rank, condition, blind parameters (k,), leverages (n,)."""
    n, k = jac.shape
    if k == 0:
        return np.zeros((0, 0)), 0, 1.0, np.zeros(0, dtype=bool), np.zeros(n)
    norms = np.sqrt(np.sum(jac**2, axis=0))
    dead = norms < 1e-12 * max(float(norms.max()), 1e-300)
    norms = np.where(dead, 1.0, norms)
    u, s, vt = np.linalg.svd(np.where(dead, 0.0, jac) / norms, full_matrices=False)
    good = s > 1e-9 * max(float(s[0]), 1e-300)
    half = (vt[good].T / s[good]) / norms[:, None]
    lost = np.sum(vt[good] ** 2, axis=0) < 1.0 - 1e-6
    smallest = float(s[-1]) if len(s) == k and not dead.any() else 0.0
    condition = float(s[0]) / smallest if smallest > 0 else float("inf")
    return half, int(good.sum()), condition, lost, np.sum(u[:, good] ** 2, axis=1)


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
    taken = n - dof  # a near-LAD fit passes through as many runs as it has parameters
    inside = np.abs(residuals) <= window
    share = max(int(inside.sum()) - taken * (1.0 - min(1.0, delta / window)), 1.0) / dof
    if window > delta:
        share *= PEAK  # the density falls off inside the window; what is wanted is its height at 0
    slope = min(1.0, min(share, 1.0) * delta / window)
    return psi / slope, slope, inside * (n / max(int(inside.sum()), 1))


def _slope_doubt(near: Array, dof: int) -> float:
    """A variance with 1/m^2 in it varies by 4 (1 - p)/(dof p), relative squared, where m counts a share p of the runs.

    A chi-square on nu degrees of freedom varies by 2/nu: the sum of both is 2 over the degrees of freedom of the whole.
    """
    share = float(np.mean(near > 0))
    return 2.0 * (1.0 - share) / (share * dof) if 0.0 < share < 1.0 and dof > 0 else 0.0


def robust_sigma(residuals: Array, dof: int) -> float:
    """Standard deviation of the noise by the 75% quantile of the absolute residuals, corrected for the parameters."""
    n = len(residuals)
    size = np.quantile(np.abs(residuals), 0.75) / ndtri(0.875)
    return float(size * np.sqrt(n / max(dof, 1)))


def _components(r: Array, basis: Array, codes: Array, pooled: float) -> tuple[float, float, tuple[Array, Array] | None]:
    """Variances within and between groups, and (inverse of the moment matrix, covariance of the two forms).

    ``basis`` (n, r) is an orthonormal basis of the Jacobian's columns; M = I - basis basis' makes residuals. The forms
    are r'P r with P the projection on group means, and r'(I - P) r.
    """
    n, count = len(r), int(codes.max()) + 1
    onehot = (codes[:, None] == np.arange(count)).astype(float)
    size = onehot.sum(axis=0)
    mean_form = float(np.sum((onehot.T @ r) ** 2 / size))
    rest_form = float(np.sum(r**2)) - mean_form
    if n > EXACT_ROWS:
        within = rest_form / max(n - count - basis.shape[1], 1)
        between = max((mean_form - count * within) / max(float(size.mean()) * (count - 1), 1.0), 0.0)
        return within, between, None
    maker = np.eye(n) - basis @ basis.T
    project = (onehot / size) @ onehot.T
    group = onehot @ onehot.T
    forms = (np.eye(n) - project, project)
    made = [maker @ f @ maker for f in forms]
    moment = np.array([[np.trace(m), np.sum(m * group)] for m in made])
    if abs(np.linalg.det(moment)) < 1e-9 * abs(moment).max() ** 2:
        return pooled, 0.0, None  # every run its own group, or nothing left within one: the two cannot be told apart
    inverse = np.linalg.inv(moment)
    within, between = inverse @ np.array([rest_form, mean_form])
    within, between = max(float(within), 1e-3 * pooled), max(float(between), 0.0)
    if between == 0.0:
        within = pooled
    omega = within * np.eye(n) + between * group
    rolled = [m @ omega for m in made]
    wobble = np.array([[2.0 * np.sum(a * b.T) for b in rolled] for a in rolled])
    return within, between, (inverse, wobble)
