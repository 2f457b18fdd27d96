"""What a fit returns: plain data that predicts, bounds its predictions, and says when it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scaling_lib.fit import check
from scaling_lib.fit import setup as setups
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law

INTERVALS = ("mean", "new_run")
METHODS = ("auto", "profile", "delta", "bootstrap")


@dataclass(frozen=True)
class Verdict:
    """May this fit be believed at the target?

    level : ``"supported"``, ``"weak"``, ``"not identifiable"`` or ``"no trend"``. reasons : plain
        sentences with numbers.
    """

    level: str
    reasons: tuple[str, ...]

    @property
    def refused(self) -> bool:
        """True where no prediction should be quoted."""
        return self.level in ("not identifiable", "no trend")

    def __str__(self) -> str:
        return self.level + (": " + "; ".join(self.reasons) if self.reasons else "")


@dataclass(frozen=True, repr=False, eq=False)  # its arrays neither print nor compare in one piece
class FitResult:
    """A fitted law. Made by `fit_power_law`, `fit_joint` or `fit_law`.

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

    @property
    def values(self) -> Array:
        """The natural parameters (k,) in the law's order."""
        return np.array([self.params[name] for name in self.law.param_names])

    def __repr__(self) -> str:
        """One line: form, parameters, runs."""
        values = ", ".join(
            f"{k} = {'0 (at its bound)' if k == 'E' and not v else f'{v:.4g}'}" for k, v in self.params.items()
        )
        return f"<FitResult {self.law.name}: {values}; {self.n_points} runs>"

    def setup(self) -> setups.Setup:
        """The solver's view of these data, made anew."""
        x = tuple(self.data[v] for v in self.law.variables)
        return setups.make(self.law, x, self.data["loss"], self.delta, self.fixed)

    def predict(self, *target: Any) -> Any:
        """Loss at N, at D, or at (N, D), in that order: a float for scalars, else an array of their shape."""
        flat, shape = check.targets(self.law.variables, target)
        out = self.law.value(self.values, *flat)
        return float(out[0]) if shape == () else out.reshape(shape)

    def interval(self, *target: Any, level: float = 0.9, kind: str = "mean", method: str = "auto") -> tuple[Any, Any]:
        """Interval of the prediction: (low, high), floats for scalars.

        Parameters
        ----------
        target : as for `predict`.
        level : confidence, between 0 and 1.
        kind : ``"mean"``: where the law itself may lie. ``"new_run"``: where one more run would land,
            noise included.
        method : ``"profile"`` (likelihood, with t quantiles), ``"delta"`` (linear, fast), ``"bootstrap"``
            (the draws); ``"auto"`` takes the draws where there are some, else the profile.

        An end may be 0 or inf: then the data set no limit there.
        """
        from scaling_lib.fit import uncertainty

        kind = check.choice("kind", kind, INTERVALS)
        method = check.choice("method", method, METHODS)
        flat, shape = check.targets(self.law.variables, target)
        low, high = uncertainty.prediction_interval(self, flat, level, kind, method)
        if shape == ():
            return float(low[0]), float(high[0])
        return low.reshape(shape), high.reshape(shape)

    def parameter_interval(self, name: str, *, level: float = 0.9) -> tuple[float, float]:
        """Interval (low, high) of a parameter: by profile likelihood, or by the draws where there are some."""
        from scaling_lib.fit import uncertainty

        return uncertainty.parameter_interval(self, name, level)

    def verdict(self, *target: Any) -> Verdict:
        """Whether a prediction at the target may be believed; without one, within the range of the data."""
        from scaling_lib.fit import verdict

        return verdict.judge(self, *target)

    def summary(self, *target: Any) -> str:
        """The checklist of "(Mis)fitting" (2025) as text; with a target, its prediction and verdict too."""
        from scaling_lib.fit import summary

        return summary.text(self, *target)

    def _repr_html_(self) -> str:
        from scaling_lib.fit import summary

        return summary.html(self)
