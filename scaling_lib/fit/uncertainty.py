"""Covariances, intervals and bootstrap draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from scaling_lib.errors import InputError
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.setup import Setup


def log_jacobian(law: Law, working: Array, log_x: tuple[Array, ...]) -> tuple[Array, Array]:
    """Logarithm of the value (n,) and its derivatives (n, k) by the working parameters (k,)."""
    m, grad = law.core(working, log_x)
    m = np.maximum(m, 1e-300)
    return np.log(m), (grad / m).T


def assemble(
    work: Setup,
    theta: Array,
    cost: float,
    certificate: Mapping[str, object],
    data: Mapping[str, Array],
    groups: Array | None,
    objective: str,
    fixed: Mapping[str, float],
    labels: Sequence[str] | None,
) -> FitResult:
    """The `FitResult` of scaled working parameters ``theta`` (k,)."""
    law, n = work.law, len(work.y)
    log_m, jac = log_jacobian(law, theta, work.log_x)
    residuals = work.y - log_m
    margin = 1e-7
    at_bound = work.free & ((theta <= work.lower + margin) | (theta >= work.upper - margin))
    moving = work.free & ~at_bound
    dof = n - work.n_free
    cov_work, rank, condition, leverage = _curvature(jac[:, moving])
    scale = float(np.sum(residuals**2) / dof) if dof > 0 else 0.0
    natural = work.natural(theta)
    # Scaled working -> natural working is linear in theta given theta: its Jacobian by differences of an
    # exact map.
    to_nat = _units_jacobian(work, theta)
    full = np.zeros((law.n_params, law.n_params))
    full[np.ix_(moving, moving)] = cov_work * scale
    cov = to_nat @ full @ to_nat.T
    stderr = np.sqrt(np.maximum(np.diag(cov), 0.0))
    stderr = np.where(at_bound, np.inf, stderr)
    loss = data["loss"]
    fitted = loss * np.exp(-residuals)
    spread = float(np.sum((loss - loss.mean()) ** 2))
    r2 = 1.0 - float(np.sum((loss - fitted) ** 2)) / spread if spread > 0 else 0.0
    names = law.param_names
    agree = bool(certificate["agree"])
    message = (
        "two routes that share no start reach one optimum"
        if agree
        else f"the routes disagree: objective {certificate['multi_start']:.8g} from many starts, "
        f"{certificate['profile']:.8g} from the grid of exponents; the lower is reported"
    )
    return FitResult(
        law=law,
        params=dict(zip(names, natural.tolist(), strict=True)),
        stderr=dict(zip(names, stderr.tolist(), strict=True)),
        cov=cov,
        residuals=residuals,
        n_points=n,
        dof=dof,
        fit_range={v: (float(data[v].min()), float(data[v].max())) for v in law.variables},
        objective=cost,
        objective_name=objective,
        delta=work.delta,
        r2=r2,
        success=agree,
        message=message,
        sigma=float(np.sqrt(scale)),
        scale=scale,
        diagnostics={
            "certificate": dict(certificate),
            "rank": rank,
            "condition": condition,
            "at_bound": tuple(n for n, b in zip(names, at_bound, strict=True) if b),
            "leverage": leverage,
        },
        data=dict(data),
        fixed=dict(fixed),
        groups=groups,
        labels=None if labels is None else tuple(labels),
    )


def _curvature(jac: Array) -> tuple[Array, int, float, Array]:
    """Inverse normal matrix (k, k), rank, condition number (columns scaled to length 1) and leverages (n,)."""
    norms = np.maximum(np.sqrt(np.sum(jac**2, axis=0)), 1e-300)
    if jac.shape[1] == 0:
        return np.zeros((0, 0)), 0, 1.0, np.zeros(len(jac))
    u, s, vt = np.linalg.svd(jac / norms, full_matrices=False)
    good = s > 1e-9 * s[0]
    inverse = np.where(good, 1.0 / np.where(good, s, 1.0), 0.0)
    half = (vt.T * inverse) / norms[:, None]
    condition = float(s[0] / s[-1]) if s[-1] > 0 else float("inf")
    return half @ half.T, int(good.sum()), condition, np.sum(u[:, good] ** 2, axis=1)


def _units_jacobian(work: Setup, theta: Array) -> Array:
    """d natural / d scaled working (k, k)."""
    k = len(theta)
    out = np.empty((k, k))
    natural = work.natural(theta)
    logged = np.array(work.law.logged)
    for j in range(k):
        step = np.zeros(k)
        step[j] = 1e-6 * max(1.0, abs(theta[j]))
        up = work.law.to_units(theta + step, work.log_x0, work.log_l0)
        down = work.law.to_units(theta - step, work.log_x0, work.log_l0)
        out[:, j] = (up - down) / (2.0 * step[j])
    return out * np.where(logged, natural, 1.0)[:, None]


def add_draws(fit: FitResult, count: int, kind: str, seed: int) -> FitResult:
    """The same fit with bootstrap draws."""
    raise InputError("bootstrap is not built yet")


def prediction_interval(
    fit: FitResult, x: tuple[Array, ...], level: float, kind: str, method: str
) -> tuple[Array, Array]:
    """Low and high (m,) of the prediction at flat targets ``x``; see `FitResult.interval`."""
    check_level(level)
    if fit.dof <= 0:
        return np.zeros(len(x[0])), np.full(len(x[0]), np.inf)
    work = fit.setup()
    theta = work.scaled(fit.values)
    log_m, jac = log_jacobian(fit.law, theta, work.scaled_log(x))
    inverse = np.linalg.pinv(_units_jacobian(work, theta))
    var = np.einsum("mi,ij,mj->m", jac, inverse @ fit.cov @ inverse.T, jac)
    if kind == "new_run":
        var = var + fit.sigma**2
    half = stats.t.ppf(0.5 + level / 2.0, fit.dof) * np.sqrt(np.maximum(var, 0.0))
    centre = log_m + work.log_l0
    return np.exp(centre - half), np.exp(np.minimum(centre + half, 690.0))


def check_level(level: Any) -> None:
    """Raises `InputError` unless 0 < level < 1."""
    if not (isinstance(level, int | float) and 0.0 < level < 1.0):
        raise InputError(f"level={level!r} must lie between 0 and 1, for example 0.9")
