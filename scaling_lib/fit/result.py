"""What a fit returns: plain data that predicts, bounds its predictions, and says when it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from scaling_lib.fit import check, intervals, summary, verdict
from scaling_lib.fit.fitted import Fitted
from scaling_lib.fit.verdict import Verdict

__all__ = ["FitResult", "Verdict"]


@dataclass(frozen=True, repr=False, eq=False)
class FitResult(Fitted):
    """A fitted law. Made by `fit_power_law`, `fit_joint` or `fit_law`; its data are those of `Fitted`.

    Where ``pooled``, `predict` and `interval` are those of several forms (see `scaling_lib.fit.pool`); ``law``,
    ``params``, ``residuals`` and their errors are those of the one form that is named.
    """

    def __repr__(self) -> str:
        """One line: form, parameters, runs."""
        values = ", ".join(
            f"{k} = {'0 (at its bound)' if k == 'E' and not v else f'{v:.4g}'}" for k, v in self.params.items()
        )
        return f"<FitResult {self.law.name}{', pooled' if self.pooled else ''}: {values}; {self.n_points} runs>"

    def predict(self, *target: Any) -> Any:
        """Loss at N, at D, or at (N, D), in that order: a float for scalars, else an array of their shape."""
        flat, shape = check.targets(self.law.variables, target)
        out = intervals.predict(self, flat)
        return float(out[0]) if shape == () else out.reshape(shape)

    def interval(self, *target: Any, level: float = 0.9, kind: str = "mean", method: str = "auto") -> tuple[Any, Any]:
        """Interval of the prediction: (low, high), floats for scalars.

        Parameters
        ----------
        target : as for `predict`. level : confidence, between 0 and 1.
        kind : ``"mean"``: where the law itself may lie. ``"new_run"``: where one more run would land, noise included.
        method : ``"auto"``: of a pooled fit the mixture of its forms, else the draws where there are some, else the
            profile. ``"profile"`` (likelihood, with t quantiles), ``"delta"`` (linear, fast) and ``"bootstrap"`` (the
            draws) take the named form alone.

        An end may be 0 or inf: then the data set no limit there.

        Raises
        ------
        InputError
            A target that is no positive number, a level, kind or method that does not exist, or no draws to use.
        """
        check.choice("kind", kind, ("mean", "new_run"))
        check.choice("method", method, ("auto", "profile", "delta", "bootstrap"))
        check.check_level(level)
        flat, shape = check.targets(self.law.variables, target)
        low, high = intervals.interval(self, flat, level, kind, method)
        return (float(low[0]), float(high[0])) if shape == () else (low.reshape(shape), high.reshape(shape))

    def parameter_interval(self, name: str, *, level: float = 0.9) -> tuple[float, float]:
        """Interval (low, high) of a parameter: by profile likelihood, or by the draws where there are some."""
        check.check_level(level)
        return intervals.parameter_interval(self, name, level)

    @cached_property
    def standing(self) -> verdict.Standing:
        """What the verdict says wherever the fit is used."""
        return verdict.standing(self)

    def verdict(self, *target: Any) -> Verdict:
        """Whether a prediction at the target may be believed; without one, within the range of the data."""
        return verdict.judge(self, self.standing, target)

    def summary(self, *target: Any, level: float = 0.9) -> str:
        """The checklist of "(Mis)fitting" (2025) as text, intervals of parameters at ``level``.

        With a target, its prediction and verdict too.
        """
        return "\n".join(": ".join(row) for row in summary.rows(self, self.verdict(*target), target, level))

    def _repr_html_(self) -> str:
        return summary.html(summary.rows(self, self.verdict(), ()))
