"""A fitted law: its optimum, and what follows from it without a question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import ndtr

from scaling_lib.fit import pool as pools
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law
from scaling_lib.fit.misfit import STRAIGHT, Misfit, misfit
from scaling_lib.fit.noise import Noise, measure
from scaling_lib.fit.setup import Setup
from scaling_lib.fit.solver import Solution, minimise

AT_BOUND = 1e-6  # a scaled working parameter this near its bound is at it


@dataclass(frozen=True, repr=False, eq=False)  # its arrays neither print nor compare in one piece
class Fitted:
    """The data of a fitted law, for n runs and k parameters; `FitResult` adds the questions one asks of it.

    Attributes
    ----------
    work : the runs, scaled for the solver. data : {"N": ..., "loss": ...}, each (n,), as they came.
    values : (k,) the natural parameters in the law's order. fixed : those of them that were held.
    residuals : (n,) log loss minus log prediction.
    objective : "log_mse", "huber" or "lad". cost : its value at the optimum. certificate : see `certify`.
    groups : (n,) cluster codes or None. labels : names of the runs, or None.
    notes : conventions and filters that the caller wants in the summary, by item.
    pooled : whether predictions pool several forms (`pool`) or are this law's alone.
    draws : (R, k) natural parameters of bootstrap draws, or None; bootstrap_kind : how they were made.
    """

    work: Setup
    values: Array
    residuals: Array
    objective: str
    cost: float
    certificate: Mapping[str, Any]
    data: Mapping[str, Array]
    fixed: Mapping[str, float]
    groups: Array | None
    labels: tuple[str, ...] | None
    notes: Mapping[str, str]
    pooled: bool
    draws: Array | None = None
    bootstrap_kind: str = ""

    @property
    def law(self) -> Law:
        """The form."""
        return self.work.law

    @property
    def delta(self) -> float:
        """Huber's threshold; inf for least squares."""
        return self.work.delta

    @property
    def x(self) -> tuple[Array, ...]:
        """The law's variables, each (n,), in its order."""
        return tuple(self.data[v] for v in self.law.variables)

    @property
    def n_points(self) -> int:
        """Number of runs n."""
        return len(self.work.y)

    @property
    def dof(self) -> int:
        """Runs less free parameters."""
        return self.n_points - self.work.n_free

    @property
    def fit_range(self) -> dict[str, tuple[float, float]]:
        """{"N": (least, largest), ...} of the runs."""
        return {v: (float(self.data[v].min()), float(self.data[v].max())) for v in self.law.variables}

    def run_name(self, i: int) -> str:
        """A run by its label, or by its place and size."""
        if self.labels is not None:
            return f"run {self.labels[i]}"
        at = ", ".join(f"{v} = {self.data[v][i]:.4g}" for v in self.law.variables)
        return f"row {i + 1} ({at})"

    @cached_property
    def theta(self) -> Array:
        """The scaled working parameters (k,)."""
        return self.work.scaled(self.values)

    @cached_property
    def params(self) -> dict[str, float]:
        """The natural parameters by name."""
        return dict(zip(self.law.param_names, self.values.tolist(), strict=True))

    @cached_property
    def at_bound(self) -> tuple[str, ...]:
        """Names of the free parameters that stand at a bound."""
        work = self.work
        near = (self.theta <= work.lower + AT_BOUND) | (self.theta >= work.upper - AT_BOUND)
        return tuple(n for n, b in zip(self.law.param_names, work.free & near, strict=True) if b)

    @cached_property
    def rest(self) -> Solution:
        """The optimum as a batch of one, descended to once more: profiles start from it."""
        return minimise(self.work, self.theta[None, :])

    @property
    def success(self) -> bool:
        """Whether both routes reached one optimum."""
        return bool(self.certificate["agree"])

    @property
    def message(self) -> str:
        """The same in words."""
        if self.success:
            return "two routes that share no start reach one optimum"
        return (
            f"the two routes disagree: objective {self.certificate['multi_start']:.8g} from many starts, "
            f"{self.certificate['profile']:.8g} from the grid of exponents; the lower is reported"
        )

    @property
    def r2(self) -> float:
        """R-squared of the losses, for history only: it is high for any smooth fall."""
        loss = self.data["loss"]
        left, spread = np.sum((loss * np.expm1(-self.residuals)) ** 2), np.sum((loss - loss.mean()) ** 2)
        return float(1.0 - left / spread) if spread > 0 else 0.0

    @cached_property
    def noise(self) -> Noise:
        """The noise round the fit; parameters at their bound do not move."""
        return self._measure(self.work.free & ~np.isin(self.law.param_names, self.at_bound))

    @cached_property
    def unbounded_noise(self) -> Noise:
        """The noise as if no parameter stood at its bound."""
        return self._measure(self.work.free) if self.at_bound else self.noise

    def _measure(self, moving: Array) -> Noise:
        jac = self.work.log_law(self.theta)[1]
        return measure(jac, self.residuals, moving, self.dof, self.delta, self.groups)

    @property
    def sigma(self) -> float:
        """Standard deviation of the log loss from run to run."""
        return self.noise.sigma

    @cached_property
    def to_natural(self) -> Array:
        """d natural / d scaled working parameters (k, k), by central differences of the exact change of units."""
        work, k = self.work, len(self.theta)
        steps = np.diag(1e-6 * np.maximum(1.0, np.abs(self.theta)))
        up, down = (work.law.to_units(self.theta + s, work.log_x0, work.log_l0) for s in (steps, -steps))
        slopes = (up - down).T / (2.0 * steps[range(k), range(k)])
        return slopes * np.where(work.law.logged, self.values, 1.0)[:, None]

    @cached_property
    def cov(self) -> Array:
        """Covariance (k, k) of the natural parameters, zero where held."""
        with np.errstate(over="ignore", invalid="ignore"):  # constants at N = 1 may be beyond all bounds
            cov = self.to_natural @ self.noise.covariance() @ self.to_natural.T
        return np.nan_to_num(cov, nan=0.0, posinf=1e300, neginf=-1e300)

    @cached_property
    def stderr(self) -> dict[str, float]:
        """Standard error of each parameter: 0 if held; inf if at its bound or not identified.

        Of draws it is half the central 68% range, which a few wild draws of A cannot move.
        """
        names = self.law.param_names
        if self.draws is not None:
            low, high = np.quantile(self.draws, [ndtr(-1.0), ndtr(1.0)], axis=0)
            return dict(zip(names, ((high - low) / 2.0).tolist(), strict=True))
        error = np.sqrt(np.maximum(np.diag(self.cov), 0.0))
        lost = np.isin(names, self.at_bound) | self.noise.geometry.blind | (error >= 1e149) | (self.dof <= 0)
        error = np.where(self.work.free, np.where(lost, np.inf, error), 0.0)
        return dict(zip(names, error.tolist(), strict=True))

    @cached_property
    def misfit(self) -> Misfit:
        """The bend of the residuals."""
        if self.dof < 4:
            return STRAIGHT
        jac = self.work.log_law(self.theta)[1] * self.work.free
        sigma = self.sigma if np.isfinite(self.delta) else np.inf  # robust fits may have outliers
        return misfit(self.work.log_x, self.work.y, self.residuals, jac, self.noise, sigma, codes=self.groups)

    @cached_property
    def pool(self) -> pools.Pool | None:
        """Several forms on these runs, weighed by a rolling hold-out among them; None with no degree of freedom."""
        if self.dof <= 0:
            return None
        return pools.build(self.law, self.fixed, self.x, self.data["loss"], self.groups, self.theta)

    @cached_property
    def diagnostics(self) -> dict[str, Any]:
        """Certificate, rank, condition, at_bound, blind, leverage (n,), numbers of distinct points and of groups."""
        geometry = self.noise.geometry
        return {
            "certificate": dict(self.certificate),
            "rank": geometry.rank,
            "condition": geometry.condition,
            "at_bound": self.at_bound,
            "blind": tuple(n for n, b in zip(self.law.param_names, geometry.blind, strict=True) if b),
            "leverage": geometry.leverage,
            "distinct": len(np.unique(np.column_stack(self.x), axis=0)),
            "groups": 0 if self.groups is None else int(self.groups.max()) + 1,
        }
