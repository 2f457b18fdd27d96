"""The checklist of a fit, as text and as an HTML table."""

from __future__ import annotations

import html as escape
from typing import Any

import numpy as np

from scaling_lib.fit.result import FitResult

OBJECTIVE = {
    "log_mse": "half the sum of squared log residuals",
    "huber": "sum of Huber terms of the log residuals",
    "lad": "sum of absolute log residuals",
}


def parameter_text(fit: FitResult, name: str) -> str:
    """``value +- error``, or where the parameter stands if it has none: a floor at 0 is never printed as an estimate."""
    value = fit.params[name]
    if name in fit.fixed:
        return f"{value:.6g} (held)"
    if name in fit.diagnostics["at_bound"]:
        return "at its bound (0)" if name == "E" else f"at its bound ({value:.3g})"
    return f"{value:.6g} ± {fit.stderr[name]:.2g}"


def rows(fit: FitResult, *target: Any) -> list[tuple[str, str]]:
    """The checklist as (item, answer) pairs."""
    certificate = fit.diagnostics["certificate"]
    delta = f", delta {fit.delta:g}" if fit.objective_name == "huber" else ""
    out = [
        ("form", f"{fit.law.formula} ({fit.law.source})"),
        ("runs", f"{fit.n_points}, {fit.dof} degrees of freedom"),
    ]
    out += [(f"range of {v}", f"{low:.4g} to {high:.4g}") for v, (low, high) in fit.fit_range.items()]
    out += [(name, parameter_text(fit, name)) for name in fit.law.param_names]
    verdict = fit.verdict(*target)
    out += [
        ("objective", f"{OBJECTIVE[fit.objective_name]}{delta}: {fit.objective:.6g}"),
        ("optimiser", "batched Levenberg-Marquardt, analytic gradients"),
        ("certificate", f"{fit.message} ({certificate['starts']} starts; grid of {certificate['grid']})"),
        ("noise", f"{100 * fit.sigma:.2g}% of the loss from run to run"),
    ]
    if target:
        low, high = fit.interval(*target)
        centre = fit.predict(*target)
        if np.ndim(centre) == 0 and not verdict.refused:
            out.append(("prediction", f"{centre:.4g}, 90% interval {low:.4g} to {high:.4g}"))
    out.append(("verdict", str(verdict)))
    out.append(
        ("R-squared", f"{fit.r2:.4f} (says little: any smooth fall scores high; verdict: {verdict.level})")
    )
    return out


def text(fit: FitResult, *target: Any) -> str:
    """The checklist as lines of ``item: answer``."""
    return "\n".join(f"{item}: {answer}" for item, answer in rows(fit, *target))


def html(fit: FitResult) -> str:
    """The checklist as an HTML table."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape.escape(a)}</th><td style='text-align:left'>{escape.escape(b)}</td></tr>"
        for a, b in rows(fit)
    )
    return f"<table>{cells}</table>"
