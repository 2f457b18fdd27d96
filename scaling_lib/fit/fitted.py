"""From an optimum to a fit: parameters with their covariance, residuals, and what the design can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from scaling_lib.fit import setup as setups
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law
from scaling_lib.fit.misfit import Misfit, misfit, straight
from scaling_lib.fit.noise import Noise, log_jacobian, measure

AT_BOUND = 1e-6  # a scaled working parameter this near its bound is at it


@dataclass(frozen=True, repr=False, eq=False)  # its arrays neither print nor compare in one piece
class Fitted:
    """The data of a fitted law; `FitResult` adds the questions one asks of it.

    Attributes
    ----------
    law : the form. params : natural parameters by name. fixed : those that were held.
    stderr : standard error of each (0 if held; inf if at its bound or not identified).
    cov : (k, k) covariance of the natural parameters, zero where held.
    residuals : (n,) log loss minus log prediction. n_points, dof : runs, and runs less free parameters.
    fit_range : {"N": (min, max), ...} of the data.
    objective : its value at the optimum; objective_name, delta : which it is (delta = inf for least squares).
    r2 : R-squared of the losses, for history only: it is high for any smooth fall.
    success : whether both routes reached one optimum. message : in words.
    sigma : standard deviation of the log loss from run to run.
    diagnostics : rank, condition, at_bound, leverage, certificate, counts and more.
    data : {"N": ..., "loss": ...}, each (n,). groups : (n,) cluster codes or None. labels : names of the
        runs.
    draws : (R, k) natural parameters of bootstrap draws, or None; bootstrap_kind : how they were made.
    notes : conventions and filters that the caller wants in the summary, by item.
    pooled : whether predictions pool several forms (`pool`) or are this law's alone.
    """

    law: Law
    params: dict[str, float]
    stderr: dict[str, float]
    cov: Array
    residuals: Array
    n_points: int
    dof: int
    fit_range: dict[str, tuple[float, float]]
    objective: float
    objective_name: str
    delta: float
    r2: float
    success: bool
    message: str
    sigma: float
    diagnostics: Mapping[str, Any]
    data: Mapping[str, Array] = field(repr=False)
    fixed: Mapping[str, float] = field(default_factory=dict)
    groups: Array | None = field(default=None, repr=False)
    labels: tuple[str, ...] | None = field(default=None, repr=False)
    draws: Array | None = field(default=None, repr=False)
    bootstrap_kind: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    pooled: bool = False

    @property
    def values(self) -> Array:
        """The natural parameters (k,) in the law's order."""
        return np.array([self.params[name] for name in self.law.param_names])

    @property
    def x(self) -> tuple[Array, ...]:
        """The law's variables, each (n,), in its order."""
        return tuple(self.data[v] for v in self.law.variables)

    @cached_property
    def work(self) -> setups.Setup:
        """The solver's view of these data."""
        return setups.make(self.law, self.x, self.data["loss"], self.delta, self.fixed)

    @cached_property
    def theta(self) -> Array:
        """The scaled working parameters (k,)."""
        return self.work.scaled(self.values)

    @cached_property
    def noise(self) -> Noise:
        """The noise round the fit; parameters at their bound do not move."""
        return self._measured(self.work.free & ~np.isin(self.law.param_names, self.diagnostics["at_bound"]))

    @cached_property
    def unbounded_noise(self) -> Noise:
        """The noise as if no parameter stood at its bound."""
        return self._measured(self.work.free) if self.diagnostics["at_bound"] else self.noise

    @cached_property
    def misfit(self) -> Misfit:
        """The bend of the residuals."""
        jac = log_jacobian(self.law, self.theta, self.work.log_x)[1] * self.work.free
        if self.dof < 4:
            return straight(jac.shape[1], len(self.x))
        sigma = self.sigma if np.isfinite(self.delta) else np.inf  # robust fits may have outliers
        return misfit(self.work.log_x, self.work.y, self.residuals, jac, self.noise, sigma, codes=self.groups)

    def _measured(self, moving: Array) -> Noise:
        jac = log_jacobian(self.law, self.theta, self.work.log_x)[1]
        return measure(jac, self.residuals, moving, self.dof, self.work.delta, self.groups)

    def run_name(self, i: int) -> str:
        """A run by its label, or by its place and size."""
        if self.labels is not None:
            return f"run {self.labels[i]}"
        at = ", ".join(f"{v} = {self.data[v][i]:.4g}" for v in self.law.variables)
        return f"row {i + 1} ({at})"


def assemble(
    work: setups.Setup,
    theta: Array,
    cost: float,
    certificate: Mapping[str, object],
    data: Mapping[str, Array],
    groups: Array | None,
    objective: str,
    fixed: Mapping[str, float],
    labels: Sequence[str] | None,
    notes: Mapping[str, str] | None,
    pooled: bool,
) -> dict[str, Any]:
    """The fields of `Fitted` for scaled working parameters ``theta`` (k,)."""
    law, n = work.law, len(work.y)
    log_m, jac = log_jacobian(law, theta, work.log_x)
    residuals = work.y - log_m
    at_bound = work.free & ((theta <= work.lower + AT_BOUND) | (theta >= work.upper - AT_BOUND))
    dof = n - work.n_free
    noise = measure(jac, residuals, work.free & ~at_bound, dof, work.delta, groups)
    to_natural = units_jacobian(work, theta)
    with np.errstate(over="ignore", invalid="ignore"):  # constants at N = 1 may be beyond all bounds
        cov = np.nan_to_num(to_natural @ noise.covariance() @ to_natural.T, nan=0.0, posinf=1e300, neginf=-1e300)
    stderr = np.where(dof > 0, np.sqrt(np.maximum(np.diag(cov), 0.0)), np.inf)
    stderr = np.where(at_bound | noise.geometry.blind | (stderr >= 1e149), np.inf, stderr)
    stderr = np.where(work.free, stderr, 0.0)
    loss = data["loss"]
    spread = float(np.sum((loss - loss.mean()) ** 2))
    r2 = 1.0 - float(np.sum((loss * -np.expm1(-residuals)) ** 2)) / spread if spread > 0 else 0.0
    names = law.param_names
    return {
        "law": law,
        "params": dict(zip(names, work.natural(theta).tolist(), strict=True)),
        "stderr": dict(zip(names, stderr.tolist(), strict=True)),
        "cov": cov,
        "residuals": residuals,
        "n_points": n,
        "dof": dof,
        "fit_range": {v: (float(data[v].min()), float(data[v].max())) for v in law.variables},
        "objective": cost if objective != "lad" else float(np.sum(np.abs(residuals))),
        "objective_name": objective,
        "delta": work.delta,
        "r2": r2,
        "success": bool(certificate["agree"]),
        "message": _message(certificate),
        "sigma": noise.sigma,
        "diagnostics": {
            "certificate": dict(certificate),
            "rank": noise.geometry.rank,
            "condition": noise.geometry.condition,
            "at_bound": tuple(v for v, b in zip(names, at_bound, strict=True) if b),
            "blind": tuple(v for v, b in zip(names, noise.geometry.blind, strict=True) if b),
            "leverage": noise.geometry.leverage,
            "distinct": len(np.unique(np.column_stack([data[v] for v in law.variables]), axis=0)),
            "groups": 0 if groups is None else int(groups.max()) + 1,
            "variance_within": noise.within,
            "variance_between": noise.between,
            "absorbed": noise.absorbed,
        },
        "data": dict(data),
        "fixed": dict(fixed),
        "groups": groups,
        "labels": None if labels is None else tuple(str(v) for v in labels),
        "notes": dict(notes or {}),
        "pooled": pooled,
    }


def _message(certificate: Mapping[str, object]) -> str:
    if certificate["agree"]:
        return "two routes that share no start reach one optimum"
    return (
        f"the two routes disagree: objective {certificate['multi_start']:.8g} from many starts, "
        f"{certificate['profile']:.8g} from the grid of exponents; the lower is reported"
    )


def units_jacobian(work: setups.Setup, theta: Array) -> Array:
    """d natural / d scaled working (k, k), by central differences of the exact change of units."""
    k = len(theta)
    out = np.empty((k, k))
    for j in range(k):
        step = np.zeros(k)
        step[j] = 1e-6 * max(1.0, abs(theta[j]))
        up = work.law.to_units(theta + step, work.log_x0, work.log_l0)
        down = work.law.to_units(theta - step, work.log_x0, work.log_l0)
        out[:, j] = (up - down) / (2.0 * step[j])
    return out * np.where(work.law.logged, work.natural(theta), 1.0)[:, None]
