"""The checklist of a fit, as text and as an HTML table [items after "(Mis)fitting scaling laws", 2025]."""

from __future__ import annotations

import html as markup
from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.fitted import Fitted
from scaling_lib.fit.forms import Array
from scaling_lib.fit.influence import leave_one_out
from scaling_lib.fit.intervals import parameter_interval
from scaling_lib.fit.pool import Pool
from scaling_lib.fit.verdict import Verdict

OBJECTIVE = {
    "log_mse": "half the sum of squared log residuals",
    "huber": "sum of Huber terms of the log residuals",
    "lad": "sum of absolute log residuals",
}
MOST_EXCLUDED = 300  # runs; beyond, leaving out each in turn takes longer than a reader of a summary waits


def parameter_text(fit: Fitted, name: str) -> str:
    """The value with its error and 90% interval, or its bound: a floor at 0 is never printed as an estimate."""
    value = fit.params[name]
    if name in fit.fixed:
        return f"{value:.6g} (held)"
    low, high = parameter_interval(fit, name)
    if name in fit.diagnostics["at_bound"]:
        where = "at its bound (0)" if name == "E" else f"at its bound ({value:.3g})"
        return where if not np.isfinite(high) else f"{where}; 90% interval up to {high:.3g}"
    if not np.isfinite(fit.stderr[name]):
        return f"{value:.6g} (not identified)"
    return f"{value:.6g} ± {fit.stderr[name]:.2g}; 90% interval {low:.4g} to {high:.4g}"


Answers = tuple[Array, tuple[Array, Array], tuple[Array, Array]]  # prediction, interval of the mean, of a new run


def rows(
    fit: Fitted, pool: Pool | None, verdict: Verdict, target: tuple[Any, ...] = (), answers: Answers | None = None
) -> list[tuple[str, str]]:
    """The checklist as (item, answer) pairs; ``answers`` at a target that is not refused."""
    certificate = fit.diagnostics["certificate"]
    delta = f", delta {fit.delta:g}" if fit.objective_name == "huber" else ""
    out = [("form", f"{fit.law.formula} ({fit.law.source})")]
    out += [(name, parameter_text(fit, name)) for name in fit.law.param_names]
    out.append(("runs", f"{fit.n_points}, at {fit.diagnostics['distinct']} distinct points; {_dof(fit)}"))
    for v, (low, high) in fit.fit_range.items():
        out.append((f"range of {v}", f"{low:.4g} to {high:.4g} ({np.log10(high / low):.1f} decades)"))
    out += [
        ("objective", f"{OBJECTIVE[fit.objective_name]}{delta} = {fit.objective:.6g}"),
        ("optimiser", "batched Levenberg-Marquardt, analytic gradients"),
        ("starts", f"{certificate['starts']}, and a grid of {certificate['grid']} exponents"),
        ("certificate", fit.message),
        ("conditioning", _conditioning(fit)),
        ("noise", _noise(fit)),
        ("intervals", _method(fit, pool)),
        ("exclusions", _exclusions(fit, *target)),
        ("conventions", "N, D and the loss as passed in; all runs passed in are used"),
    ]
    out += list(fit.notes.items())
    if target:
        out.append(("prediction", _prediction(answers)))
    out.append(("verdict", str(verdict)))
    out.append(("R-squared", f"{fit.r2:.4f}, for history: any smooth fall scores high; the verdict is {verdict.level}"))
    return out


def _dof(fit: Fitted) -> str:
    groups = f"; {fit.diagnostics['groups']} groups" if fit.diagnostics["groups"] else ""
    return f"{fit.dof} degrees of freedom{groups}"


def _conditioning(fit: Fitted) -> str:
    condition = fit.diagnostics["condition"]
    number = f"{condition:.3g}" if np.isfinite(condition) else "infinite"
    i = int(np.argmax(fit.diagnostics["leverage"]))
    return (
        f"Jacobian of rank {fit.diagnostics['rank']}, condition number {number}; "
        f"largest leverage {fit.diagnostics['leverage'][i]:.2f}, {fit.run_name(i)}"
    )


def _noise(fit: Fitted) -> str:
    if fit.dof <= 0:
        return "unknown: as many parameters as runs"
    text = f"{100 * fit.sigma:.2g}% of the loss from run to run"
    if fit.diagnostics["groups"]:
        both = fit.diagnostics["variance_within"] + fit.diagnostics["variance_between"]
        text += (
            f", {100 * fit.diagnostics['variance_between'] / max(both, 1e-300):.0f}% of its variance shared in groups"
        )
    return text


def _method(fit: Fitted, pool: Pool | None) -> str:
    if fit.pooled and pool is not None:
        each = ", ".join(
            f"{m.name} {m.weight:.0%}" + (f" ({100 * m.error:.2g}% off)" if m.cuts else "") for m in pool.members
        )
        return f"several forms pooled by how they predict the largest of these runs from the smaller ones: {each}"
    if fit.draws is None:
        return "profile likelihood with t quantiles"
    return f"{len(fit.draws)} {fit.bootstrap_kind} bootstrap draws, 9 starts in each"


def _exclusions(fit: Fitted, *target: Any) -> str:
    if fit.dof < 1 or fit.n_points > MOST_EXCLUDED:
        return "none tried"
    try:
        without = leave_one_out(fit, *target)
    except InputError:
        without = leave_one_out(fit)
    i = without.largest
    return (
        f"none; without {fit.run_name(i)}, the one that matters most, the prediction"
        f"{'' if target else ' at the largest run'} moves by {100 * without.change[i]:+.2g}%"
    )


def _prediction(answers: Answers | None) -> str:
    if answers is None:
        return "none: see the verdict"
    centre, mean, new = answers
    return "; ".join(
        f"{c:.4g}, 90% interval {a:.4g} to {b:.4g} (a new run: {p:.4g} to {q:.4g})"
        for c, a, b, p, q in zip(centre, *mean, *new, strict=True)
    )


def text(listed: list[tuple[str, str]]) -> str:
    """The checklist as lines of ``item: answer``."""
    return "\n".join(f"{item}: {answer}" for item, answer in listed)


def html(listed: list[tuple[str, str]]) -> str:
    """The checklist as an HTML table."""
    cell = "style='text-align:left'"
    body = "".join(f"<tr><th {cell}>{markup.escape(a)}</th><td {cell}>{markup.escape(b)}</td></tr>" for a, b in listed)
    return f"<table>{body}</table>"
