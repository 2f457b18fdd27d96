"""The checklist of a fit, as text and as an HTML table [items after "(Mis)fitting scaling laws", 2025]."""

import html as markup
from typing import Any

import numpy as np

from scaling_lib.fit import check, intervals
from scaling_lib.fit import setup as setups
from scaling_lib.fit.fitted import Fitted
from scaling_lib.fit.forms import Array
from scaling_lib.fit.verdict import Verdict

OBJECTIVE = {
    "log_mse": "half the sum of squared log residuals",
    "huber": "sum of Huber terms of the log residuals",
    "lad": "sum of absolute log residuals",
}
MOST_EXCLUDED = 300  # runs; beyond, leaving out each in turn takes longer than a reader of a summary waits


def parameter_text(fit: Fitted, name: str, level: float = 0.9) -> str:
    """The value with its interval, or its bound: a floor at 0 is never printed as an estimate."""
    value = fit.params[name]
    if name in fit.fixed:
        return f"{value:.6g} (held)"
    low, high = intervals.parameter_interval(fit, name, level=level)
    if name in fit.at_bound:
        where = "at its bound (0)" if name == "E" else f"at its bound ({value:.3g})"
        return where if not np.isfinite(high) else f"{where}; {level:.0%} interval up to {high:.3g}"
    if not np.isfinite(fit.stderr[name]):
        return f"{value:.6g} (not identified)"
    return f"{value:.6g}, {level:.0%} interval [{low:.4g}, {high:.4g}], standard error {fit.stderr[name]:.2g}"


def rows(fit: Fitted, verdict: Verdict, target: tuple[Any, ...], level: float = 0.9) -> list[tuple[str, str]]:
    """The checklist as (item, answer) pairs, with the prediction at a target, or without one."""
    certificate, geometry, law = fit.certificate, fit.noise.geometry, fit.law
    delta = f", delta {fit.delta:g}" if fit.objective == "huber" else ""
    groups = f"; {fit.diagnostics['groups']} groups" if fit.groups is not None else ""
    condition = f"{geometry.condition:.3g}" if np.isfinite(geometry.condition) else "infinite"
    i = int(np.argmax(geometry.leverage))
    leverage = f"largest leverage {geometry.leverage[i]:.2f}, {fit.run_name(i)}"
    out = [
        ("form", f"{law.formula} ({law.source})"),
        *((name, parameter_text(fit, name, level)) for name in law.param_names),
        (
            "runs",
            f"{fit.n_points}, at {fit.diagnostics['distinct']} distinct points; {fit.dof} degrees of freedom{groups}",
        ),
        *(
            (f"range of {v}", f"{low:.4g} to {high:.4g} ({np.log10(high / low):.1f} decades)")
            for v, (low, high) in fit.fit_range.items()
        ),
        ("objective", f"{OBJECTIVE[fit.objective]}{delta} = {fit.cost:.6g}"),
        ("optimiser", "batched Levenberg-Marquardt, analytic gradients"),
        ("starts", f"{certificate['starts']}, and a grid of {certificate['grid']} exponents"),
        ("certificate", fit.message),
        ("conditioning", f"Jacobian of rank {geometry.rank}, condition number {condition}; {leverage}"),
        ("noise", _noise(fit)),
        ("intervals", _method(fit)),
        ("exclusions", _exclusions(fit, target)),
        ("conventions", "N, D and the loss as passed in; all runs passed in are used"),
        *fit.notes.items(),
    ]
    if target:
        out.append(("prediction", "none: see the verdict" if verdict.refused else _prediction(fit, target)))
    out.append(("verdict", str(verdict)))
    out.append(("R-squared", f"{fit.r2:.4f}, for history: any smooth fall scores high; the verdict is {verdict.level}"))
    return out


def _noise(fit: Fitted) -> str:
    if fit.dof <= 0:
        return "unknown: as many parameters as runs"
    text = f"{100 * fit.sigma:.2g}% of the loss from run to run"
    if fit.groups is None:
        return text
    share = fit.noise.between / max(fit.noise.within + fit.noise.between, 1e-300)
    return f"{text}, {100 * share:.0f}% of its variance shared in groups"


def _method(fit: Fitted) -> str:
    if fit.pooled and fit.pool is not None:
        forms = ", ".join(
            f"{m.name} {m.weight:.0%}" + (f" ({100 * m.error:.2g}% off)" if m.cuts else "") for m in fit.pool.members
        )
        return f"several forms pooled by how they predict the largest of these runs from the smaller ones: {forms}"
    if fit.draws is None:
        return "profile likelihood with t quantiles"
    return f"{len(fit.draws)} {fit.bootstrap_kind} bootstrap draws, 9 starts in each"


def _exclusions(fit: Fitted, target: tuple[Any, ...]) -> str:
    if fit.dof < 1 or fit.n_points > MOST_EXCLUDED:
        return "none tried"
    largest = [high for _, high in fit.fit_range.values()]
    points = check.targets(fit.law.variables, target or largest)[0]
    where = "" if target and points[0].size == 1 else " at the largest run"
    change = leave_one_out(fit, check.targets(fit.law.variables, largest)[0] if where else points)
    i = int(np.argmax(np.abs(change)))
    return (
        f"none; without {fit.run_name(i)}, the one that matters most, the prediction{where} moves by "
        f"{100 * change[i]:+.2g}%"
    )


def leave_one_out(fit: Fitted, point: tuple[Array, ...]) -> Array:
    """Relative change (n,) of the prediction at one point, arrays of one value, without each run."""
    work, n = fit.work, fit.n_points
    starts = np.concatenate([fit.theta[None, :], setups.seeds(work, 4)])
    theta, _, _ = setups.descend(work, starts, np.broadcast_to(work.y, (n, n)), weight=1.0 - np.eye(n), keep=2)
    return fit.law.value(work.natural(theta), *point)[:, 0] / fit.law.value(fit.values, *point) - 1.0


def _prediction(fit: Fitted, target: tuple[Any, ...]) -> str:
    x = check.targets(fit.law.variables, target)[0]
    ends = (intervals.interval(fit, x, 0.9, kind) for kind in ("mean", "new_run"))
    return "; ".join(
        f"{centre:.4g}, 90% interval [{a:.4g}, {b:.4g}] (a new run: [{p:.4g}, {q:.4g}])"
        for centre, (a, b), (p, q) in zip(intervals.predict(fit, x), *(zip(*e, strict=True) for e in ends), strict=True)
    )


def html(listed: list[tuple[str, str]]) -> str:
    """The checklist as an HTML table."""
    cell = "style='text-align:left'"
    body = "".join(f"<tr><th {cell}>{markup.escape(a)}</th><td {cell}>{markup.escape(b)}</td></tr>" for a, b in listed)
    return f"<table>{body}</table>"
