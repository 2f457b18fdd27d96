"""Fit a law to runs: `fit_power_law`, `fit_joint` and what both are cases of, `fit_law`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import bootstrap as draws
from scaling_lib.fit import check
from scaling_lib.fit import setup as setups
from scaling_lib.fit.laws import CHINCHILLA, POWER_D, POWER_N, Law, get_law
from scaling_lib.fit.result import FitResult

OBJECTIVES = ("log_mse", "huber", "lad")


def fit_power_law(
    x: Any, loss: Any, *, variable: str = "N", law: str = "pool", floor: str | float | None = "free", **options: Any
) -> FitResult:
    """Fit L(x) = E + A / x^alpha (``variable="N"``) or E + B / x^beta (``"D"``), by default by least squares.

    Parameters
    ----------
    x, loss : (n,) model sizes (parameters) or training tokens, and final losses (nats per token, or any one unit).
    law : ``"pool"``: parameters of the power law, predictions pooled with those of a straight line in the logarithms.
        ``"power"``: the power law alone.
    floor : ``"free"`` estimates E >= 0; a number holds it there (a known entropy); None or 0 leaves it out. With a
        floor that is not free there is one form, and nothing to pool.
    options : as `fit_law` takes them.

    Examples
    --------
    >>> fit = fit_power_law([1e6, 3e6, 1e7, 3e7, 1e8, 3e8], [5.2, 4.6, 4.1, 3.7, 3.4, 3.1])
    >>> fit.verdict(1e9).refused
    False
    """
    form = POWER_N if check.choice("variable", variable, ("N", "D")) == "N" else POWER_D
    pooled = check.choice("law", law, ("pool", "power")) == "pool"
    if floor == "free":
        return fit_law(form, (x,), loss, pool=pooled, **options)
    try:
        held = float(0.0 if floor is None else floor)
    except (TypeError, ValueError):
        raise InputError(f"floor={floor!r} is unknown: use 'free', None or a number") from None
    if not 0.0 <= held < np.inf:
        raise InputError(f"floor={held:g} must be a loss of 0 or more")
    return fit_law(form, (x,), loss, fixed={"E": held}, **options)


def fit_joint(
    n_params: Any,
    n_tokens: Any,
    loss: Any,
    *,
    law: str | Law = "pool",
    unique_tokens: Any = None,
    objective: str = "huber",
    **options: Any,
) -> FitResult:
    """Fit a law in model size and tokens; by default Chinchilla's, by its own objective, with pooled predictions.

    Parameters
    ----------
    n_params, n_tokens, loss : (n,) parameters, training tokens, final losses.
    law : ``"pool"``: parameters of Chinchilla's law, predictions and intervals pooled from several forms. A form alone:
        ``"chinchilla"``, ``"kaplan"``, ``"power_mean"``, ``"line"``, ``"over_training"``, ``"data_constrained"`` (which
        also needs ``unique_tokens``), or a `Law`.
    objective, options : as `fit_law` takes them.

    Raises
    ------
    InputError
        As `fit_law`; a law of one variable.
    """
    pooled = isinstance(law, str) and law == "pool"
    chosen = CHINCHILLA if pooled else get_law(law)
    if len(chosen.variables) == 1:
        raise InputError(f"law {chosen.name!r} has one variable: use fit_power_law or fit_law")
    if "U" in chosen.variables and unique_tokens is None:
        raise InputError(f"law {chosen.name!r} needs unique_tokens, the number of distinct tokens of each run")
    x = (n_params, n_tokens, unique_tokens)[: len(chosen.variables)]
    return fit_law(chosen, x, loss, objective=objective, pool=pooled, **options)


def fit_law(
    law: str | Law,
    x: Sequence[Any],
    loss: Any,
    *,
    pool: bool = False,
    objective: str = "log_mse",
    delta: float = 1e-3,
    fixed: Mapping[str, float] | None = None,
    groups: Any = None,
    bootstrap: int = 0,
    bootstrap_kind: str = "auto",
    labels: Sequence[str] | None = None,
    seed: int = 0,
    notes: Mapping[str, str] | None = None,
    starts: int | Any = 48,
) -> FitResult:
    """Fit any law by two routes that share no start.

    Parameters
    ----------
    law : a form by name, or a `Law`.
    x : one array (n,) for each variable of the law: parameters, tokens.
    loss : (n,) final losses, in any one unit.
    pool : whether predictions and intervals pool other forms with this one (`scaling_lib.fit.pool`); the parameters
        are this form's in either case.
    objective : ``"log_mse"`` (half the sum of squared log residuals), ``"huber"`` (sum of Huber terms with
        ``delta``) or ``"lad"`` (sum of absolute log residuals): for the parameters. The pool's forms are fitted by
        Huber's weights at 1.345 standard deviations.
    delta : Huber's threshold, a log residual; Chinchilla's by default.
    fixed : parameters held at a natural value: the floor, an exponent, q.
    groups : (n,) labels of runs that share a trunk, a seed or a budget, and with it part of their noise.
    bootstrap, seed : number of draws of the parameters, 0 for none.
    bootstrap_kind : ``"auto"``, ``"parametric"``, ``"residual"``, ``"case"`` or ``"wild"`` (least squares only).
    labels : (n,) names of the runs, for messages. notes : lines for the summary, such as {"N": "non-embedding"}.
    starts : number of starting points of the first route, or an array (S, k) of natural parameters.

    Returns
    -------
    FitResult
        Its ``verdict(target)`` says whether the data can bear a prediction there.

    Raises
    ------
    InputError
        Arrays that are not positive finite numbers of one length; fewer runs than free parameters; an unknown option.
    """
    law = get_law(law)
    data = check.columns((*law.variables, "loss"), (*x, loss))
    objective = check.choice("objective", objective, OBJECTIVES)
    threshold = _threshold(objective, delta)
    check.check_seed(seed)
    fixed = dict(fixed or {})
    n = len(data["loss"])
    work = setups.make(law, tuple(data[v] for v in law.variables), data["loss"], threshold, fixed)
    if n < work.n_free:
        raise InputError(f"{n} runs cannot determine the {work.n_free} parameters of {law.formula}: add runs or hold E")
    if labels is not None and len(labels) != n:
        raise InputError(f"labels has {len(labels)} entries for {n} runs: pass one name per run")
    names = None if labels is None else tuple(str(v) for v in labels)
    codes = check.group_codes(groups, n)
    theta, cost, certificate = setups.certify(work, starts)
    values, residuals = work.natural(theta), work.y - work.log_law(theta)[0]
    if objective == "lad":
        cost = float(np.sum(np.abs(residuals)))
    notes = dict(notes or {})
    fit = FitResult(work, values, residuals, objective, cost, certificate, data, fixed, codes, names, notes, pool)
    if not bootstrap:
        return fit
    kind = draws.choose(fit, bootstrap_kind)
    return replace(fit, draws=draws.draw(fit, kind, bootstrap, seed), bootstrap_kind=kind)


def _threshold(objective: str, delta: float) -> float:
    if objective == "log_mse":
        return np.inf
    if objective == "lad":
        return setups.LAST_DELTA
    if not (isinstance(delta, Real) and setups.LAST_DELTA <= delta < np.inf):
        raise InputError(f"delta={delta!r} must be a number of at least {setups.LAST_DELTA:g} (or use objective='lad')")
    return float(delta)
